//! What tests, the demo and the benchmarks share: realistic agents, writers that never rest, an
//! oracle that says whether a snapshot is torn, faults in the file-system layer, comparisons
//! that use no code of the product, (feature `conformance`) the rules of the traits that others
//! implement, (feature `canary`) secrets planted in every place of a memory with a judge that looks
//! for them in a bundle, and (feature `damage`) everything that can be done to a bundle and the files
//! beside it.
//!
//! Invariants: everything made here is a function of its seed; nothing sleeps to order events;
//! nothing reads the user's git configuration. This crate plays the *agent*, so it writes files
//! directly and not through `snapshot-fs`.
//!
//! ```
//! use snapshot_core::AgentId;
//! use snapshot_testkit::{Agent, Seed, Torture, oracle};
//!
//! let tmp = tempfile::tempdir()?;
//! let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &Seed::tiny(1))?;
//! let writers = Torture::start(&agent, 2)?;
//! writers.wait_for_steps(5)?;
//! writers.stop()?;
//! let values = oracle::Values::of_agent(&agent)?;
//! assert_eq!(values.torn(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "it plays the agent, whose files are not ours to make durable"
)]

mod broker;
mod bundle;
#[cfg(feature = "canary")]
pub mod canary;
pub mod compare;
#[cfg(feature = "conformance")]
pub mod conformance;
mod crafted;
#[cfg(feature = "damage")]
pub mod damage;
mod error;
mod fault;
mod fixed;
pub mod floor;
mod git;
mod host_state;
pub mod old_bundle;
pub mod oracle;
mod random;
mod seed;
#[cfg(feature = "nats")]
mod stored;
pub mod tool;
mod torture;

pub use broker::{Broker, Proxy};
pub use bundle::MemoryBundle;
pub use crafted::Crafted;
pub use error::KitError;
pub use fault::{FaultHook, KillBefore, Recorded, Recorder};
pub use fixed::{FixedClock, SeqIds};
pub use git::Git;
pub use host_state::HostState;
pub use old_bundle::{OldBundle, OldEntry};
pub use random::Random;
pub use seed::{Agent, Journal, Scale, Seed};
#[cfg(feature = "nats")]
pub use stored::{Stored, StoredMessage};
pub use torture::Torture;
