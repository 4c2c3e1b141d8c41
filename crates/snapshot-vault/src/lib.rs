//! Where bundles live: layout, atomic publish, listing, locks between processes.
//!
//! ```text
//! <root>/locks/target-<sha256>.lock                         what is written, by identity
//! <root>/outbox/                                            events that wait for their delivery
//! <root>/tenants/<tenant>/locks/<agent>.{agent,vault}.lock
//! <root>/tenants/<tenant>/snapshots/<agent>/<id>.tar.zst, .tar.zst.sha256, .manifest.json
//!                                                            encrypted: .tar.zst.age or .rekeyed.tar.zst.age
//! <root>/tenants/<tenant>/snapshots/<agent>/.quarantine/<id>/   what was set aside: no snapshot any more
//! <root>/tenants/<tenant>/staging/<agent>/<unique>/         work in progress
//! <root>/hold.json                                          why nothing of the vault may go
//! <root>/tenants/<tenant>/notes/<agent>.json                pins, hold, checks
//! <root>/tenants/<tenant>/restore/<agent>/                  the journal of a restore
//! ```
//!
//! Invariants: a snapshot exists from the rename of its sidecar (`<id>.manifest.json`) to the rename
//! of it to `<id>.deleting`, and between the two every one of its bytes is durable; only the holder
//! of an [`AgentLock`] changes an agent's folders; no link below the root is followed; folders are
//! 0700 and files 0600 whatever the umask. What is inside a bundle is not known here.
//!
//! ```
//! use std::io::Write;
//! use std::time::Instant;
//! use snapshot_core::{AgentId, Control, Tenant};
//! use snapshot_fs::DurableFs;
//! use snapshot_vault::Vault;
//!
//! let tmp = tempfile::tempdir()?;
//! let vault = Vault::open(DurableFs::default(), tmp.path())?;
//! let agent = vault.agent(&Tenant::default(), &AgentId::from_static("ana"));
//! let lock = agent.lock(Instant::now(), &Control::default())?;
//! // One process at a time works on an agent.
//! assert!(agent.lock(Instant::now(), &Control::default()).is_err());
//! let staging = lock.staging()?;
//! staging.create_bundle()?.write_all(b"...")?;
//! drop(staging);
//! // What was not published never was.
//! assert!(agent.list()?.snapshots.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agent;
mod erase;
mod error;
mod git_map;
mod guard;
mod layout;
mod listing;
mod notes;
mod privacy;
mod publish;
mod quarantine;
mod rekey;
mod remove;
mod staging;
mod strays;
mod supersede;
mod targets;
mod vault;

pub use agent::{AgentVault, Idle, OpenBundle};
pub use error::VaultError;
pub use guard::AgentLock;
pub use notes::{Check, Note, Notes};
pub use privacy::Exposed;
pub use remove::Swept;
pub use staging::Staging;
pub use targets::TargetLocks;
pub use vault::Vault;

pub use snapshot_core::{ListProblem, Listing, ProblemKind};

/// What follows the snapshot id in the name of a bundle that was encrypted anew.
pub const REKEYED_EXTENSION: &str = layout::REKEYED;

/// What a vault makes below its root; nothing of an agent may lie in or around these.
pub const FOLDERS: [&str; 3] = [layout::TENANTS, layout::LOCKS, layout::OUTBOX];
