//! A project of one or more files.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| umiak_compose::fuzzing::project(input));
