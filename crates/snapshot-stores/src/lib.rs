//! An AI agent's memory: the cut across SQLite, git, files and runtime state, and putting it back.
//!
//! Invariants: all gates are held together or not at all; no live database is ever opened as a plain
//! file; before the restore journal exists nothing live has changed, and after it a recovery finishes.
//! This crate knows neither the bundle's bytes nor where bundles are kept.
//!
//! ```
//! use std::time::Duration;
//! use snapshot_core::{AgentId, Control, MemoryLayout, StoreName, SystemClock};
//! use snapshot_fs::DurableFs;
//! use snapshot_stores::{CaptureOptions, cut};
//!
//! let tmp = tempfile::tempdir()?;
//! let facts = tmp.path().join("facts.db");
//! let agent = rusqlite::Connection::open(&facts)?;
//! agent.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE facts (text)")?;
//!
//! let mut layout = MemoryLayout::default();
//! layout.stores.insert(StoreName::from_static("facts"), facts);
//! let (ana, fs, control) = (AgentId::from_static("ana"), DurableFs::default(), Control::default());
//! let spool = fs.ensure_dir(&tmp.path().join("spool"), 0o700)?;
//! let mut pinned = cut(&layout, &CaptureOptions {
//!     agent: &ana,
//!     fs: &fs,
//!     spool: &spool,
//!     clock: &SystemClock,
//!     state: None,
//!     timeout: Duration::from_secs(10),
//!     control: &control,
//!     max_git_object_bytes: 1 << 28,
//!     check_integrity: true,
//! })?;
//! // The agent goes on at once; what is written out is still the instant of the cut.
//! agent.execute_batch("DROP TABLE facts")?;
//! let mut bundle = snapshot_testkit::MemoryBundle::new();
//! let captured = pinned.write_to(&mut bundle)?;
//! assert_eq!(captured.capture.stores[0].integrity, "ok");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cut;
mod diff;
mod error;
pub mod files;
mod folders;
pub mod git;
pub mod health;
mod pinned;
pub mod redact;
mod restore;
mod sources;
mod space;
mod sqlite;
mod state;

pub use cut::{CaptureOptions, cut};
pub use diff::{DiffOptions, diff};
pub use error::StoresError;
pub use pinned::{Captured, Pinned};
pub use restore::{
    Applied, BeforeCommit, Decision, Done, Keep, OtherAgent, Recovered, RestoreOptions, needed,
    pending, plan, recover, restore, sweep,
};
pub use sources::{left_out, not_usable};
pub use space::room;
pub use sqlite::{Holder, Holders, Library, limit_heap};
pub use state::MAX_STATE_BYTES;

/// Versions of the libraries that read and write an agent's memory, for the manifest.
pub fn tool_versions() -> [(&'static str, String); 2] {
    let (major, minor, patch) = git2::Version::get().libgit2_version();
    [("sqlite", rusqlite::version().to_owned()), ("libgit2", format!("{major}.{minor}.{patch}"))]
}
