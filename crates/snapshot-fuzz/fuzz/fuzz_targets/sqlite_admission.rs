//! The target `sqlite_admission`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| snapshot_fuzz::run("sqlite_admission", data));
