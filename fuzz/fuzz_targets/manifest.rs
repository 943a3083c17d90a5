//! A manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| umiak_images::fuzzing::manifest(input));
