//! The archive of a layer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| umiak_images::fuzzing::layer(input));
