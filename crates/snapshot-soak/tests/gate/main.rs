//! The small runs of the proofs, for the gate.
#![expect(clippy::disallowed_methods, reason = "it plays the world around the product")]

mod crash;
mod faults;
mod scene;
