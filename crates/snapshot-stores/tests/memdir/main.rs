//! Memory files and git, captured and put back on a real file system, judged by the real `git`.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set the scene with plain calls, and fail by panicking"
)]

mod files;
mod git;
mod hostile;
mod redact;
mod support;
