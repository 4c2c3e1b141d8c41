//! Secrets taken out of SQLite databases, judged by the bytes that are left and by SQLite itself.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set the scene with plain calls, and fail by panicking"
)]

mod full_text;
mod hostile;
mod rows;
mod shapes;
mod support;
mod vectors;
