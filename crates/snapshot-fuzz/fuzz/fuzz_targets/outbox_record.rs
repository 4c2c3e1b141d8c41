//! The target `outbox_record`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| snapshot_fuzz::run("outbox_record", data));
