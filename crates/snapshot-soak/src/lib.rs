//! The proofs that nothing is ever half done. Each part has numbered cases, and a case is a function of
//! its number and a seed: the gate runs some of them (`tests/`), `cargo xtask soak` all, in slices.
//!
//! Invariants: what happened is judged from outside, by content, with the testkit's comparison, never by what
//! the product says of itself alone; a case that could not be run is an error, not a pass.
#![expect(
    clippy::disallowed_methods,
    reason = "it plays the world around the product: disks, other processes, the agent"
)]

pub mod bits;
pub mod crash;
pub mod cuts;
pub mod deed;
mod drift;
pub mod fault_calls;
pub mod faults;
pub mod ground;
pub mod judge;
pub mod kill;
pub mod live;
pub mod part;
pub mod power;
pub mod processes;
pub mod scene;
pub mod stage;
pub mod strace;
pub mod tally;
pub mod work;

use std::error::Error;

/// What a proof gives where it could be run at all.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
