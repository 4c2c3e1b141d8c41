//! The target `snapshot_names`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| snapshot_fuzz::run("snapshot_names", data));
