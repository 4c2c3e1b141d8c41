//! An AI agent's memory: the cut across SQLite, git, files and runtime state, and putting it back.
//!
//! Invariants: all gates are held together or not at all; no live database is ever opened as a plain
//! file; before the restore journal exists nothing live has changed, and after it a recovery finishes.
//! This crate knows neither the bundle's bytes nor where bundles are kept.

mod cut;
mod diff;
mod error;
pub mod files;
pub mod git;
mod pinned;
mod restore;
mod sources;
mod sqlite;
mod state;

pub use cut::{CaptureOptions, cut};
pub use diff::diff;
pub use error::StoresError;
pub use pinned::{Captured, Pinned};
pub use restore::{
    Applied, BeforeCommit, Decision, Keep, OtherAgent, Recovered, RestoreOptions, pending, plan,
    recover, restore, sweep,
};

/// Versions of the libraries that read and write an agent's memory, for the manifest.
pub fn tool_versions() -> [(&'static str, String); 2] {
    let (major, minor, patch) = git2::Version::get().libgit2_version();
    [("sqlite", rusqlite::version().to_owned()), ("libgit2", format!("{major}.{minor}.{patch}"))]
}
