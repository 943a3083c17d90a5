//! An environment file, in both formats.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| umiak_compose::fuzzing::dotenv(input));
