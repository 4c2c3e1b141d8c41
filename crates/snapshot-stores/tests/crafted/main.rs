//! Bundles whose every byte somebody chose, through the whole restore: what cannot be taken is refused
//! with a type before anything changes, and what is taken is data.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests set the scene with plain calls, and fail by panicking"
)]

mod git;
mod sqlite;
mod support;
mod twins;
