//! The target `seek_table`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| snapshot_fuzz::run("seek_table", data));
