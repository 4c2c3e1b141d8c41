//! A real NATS server: what arrives, as what, and what becomes of it when the server or the way to
//! it fails.
#![cfg(feature = "nats")]
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make the disorder by hand, a panic is how they fail, and what is not run is said"
)]

mod conformance;
mod courier;
mod support;
mod transport;
