//! The engine as users meet it: real databases, real git, real processes.
//!
//! One binary, so that it links once.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make the disorder by hand, and a panic is how they fail"
)]

#[cfg(feature = "tokio")]
mod r#async;
mod attack;
mod canaries;
mod crash;
mod cut;
mod diff;
mod inside;
mod other_agent;
mod predecessor;
mod progress;
mod property;
mod redact;
mod restore;
mod sealed;
mod space;
mod state;
mod stock;
mod support;
mod v1;
