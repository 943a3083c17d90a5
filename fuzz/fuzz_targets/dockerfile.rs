//! A Dockerfile.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| umiak_dockerfile::fuzzing::dockerfile(input));
