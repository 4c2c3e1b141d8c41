//! One binary for the crate's integration tests.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make the disorder by hand, and a panic is how they fail"
)]

mod crash;
mod hostile;
mod locks;
mod rekey;
mod round_trip;
mod support;
