//! An index of a registry, and the list of names of a store.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| umiak_images::fuzzing::index(input));
