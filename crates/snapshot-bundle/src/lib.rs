//! The bundle file: frames, tar, digests, reading untrusted bytes.
