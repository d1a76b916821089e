//! The record of a WAT.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| fuzz::collect("metadata", json));
