//! Memory files: every working file of the memdir, tracked by git or not.
//!
//! Capture: [`list`] before the gates close, [`list`] again right after they open, then
//! [`write_files`] with both. Restore: [`live_state`], [`plan()`], [`stage()`], [`apply()`]; a recovery
//! asks [`progress`]. Extended attributes, ACLs and owners are not carried; a hard link becomes a
//! file of its own.

mod apply;
mod capture;
mod ours;
mod plan;
mod stage;
mod state;
mod twins;
mod walk;

pub use apply::{FilesApplied, apply, irretrievable};
pub use capture::{FilesCaptured, write_files};
pub use ours::unstage;
pub(crate) use ours::{git_name, is_staging, staging_name};
pub(crate) use plan::check_names;
pub use plan::{FilesPlan, plan};
pub use stage::stage;
pub use state::{
    FileFingerprint, FileKind, FileTarget, FilesProgress, FilesState, live_state, progress,
};
pub use twins::refuse_ref_twins;
pub use walk::{AutoStore, EntryKind, ListOptions, ListedEntry, Listing, list};
