//! The target `git_bundle`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| snapshot_fuzz::run("git_bundle", data));
