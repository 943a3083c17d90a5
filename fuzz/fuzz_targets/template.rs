//! The variables of one text.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| umiak_compose::fuzzing::template(input));
