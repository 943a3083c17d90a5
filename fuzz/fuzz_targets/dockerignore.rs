//! Patterns of a context, and paths to ask them about.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| umiak_dockerfile::fuzzing::dockerignore(input));
