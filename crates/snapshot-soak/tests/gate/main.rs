//! The small runs of the proofs, for the gate.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests: it plays the world around the product, and a failed step fails the test"
)]

mod bits;
mod crash;
mod doctor;
mod faults;
mod live;
mod power;
mod refused;
mod scene;
mod synced;
