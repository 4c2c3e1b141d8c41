//! Memory files: every working file of the memdir, tracked by git or not.
//!
//! Capture: [`list`] before the gates close, [`list`] again right after they open, then
//! [`write_files`] with both. Restore: [`live_state`], [`plan`], [`stage`], [`apply`]; recovery asks
//! [`progress`]. Extended attributes and ACLs are not carried.

mod apply;
mod capture;
mod walk;

pub use apply::{
    FileFingerprint, FileKind, FileTarget, FilesApplied, FilesPlan, FilesProgress, FilesState,
    apply, live_state, plan, progress, stage, sweep,
};
pub use capture::{FilesCaptured, write_files};
pub use walk::{AutoStore, EntryKind, ListOptions, ListedEntry, Listing, list};
