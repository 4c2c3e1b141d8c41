//! The target `age_envelope`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| snapshot_fuzz::run("age_envelope", data));
