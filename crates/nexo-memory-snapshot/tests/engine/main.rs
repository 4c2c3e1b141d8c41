//! One binary for the engine's tests: real vaults, real databases, nothing mocked below the ports.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests make the disorder by hand, a panic is how they fail, and what is not run is said"
)]

#[cfg(feature = "tokio")]
mod adapters;
mod damaged;
mod delete;
mod doctor;
mod events;
mod export;
mod extract;
mod metrics;
mod naming;
#[cfg(feature = "nats")]
mod nats;
mod quiesce;
mod retention;
mod snapshot;
#[cfg(feature = "tokio")]
mod snapshotter;
mod spans;
mod support;
