//! Secrets in the history that a git bundle carries: found, and taken out.
//!
//! Invariants: a bundle is checked as for a restore before anything of it counts; what redaction takes
//! out and what a search finds are cut into the same pieces; no recursion, for histories are long.

mod history;
mod ids;
mod notes;
mod objects;
mod refs;
mod rewrite;
mod scan;
mod trees;

use snapshot_fs::Dir;

pub use history::{RedactedHistory, redact_history};
pub use scan::scan_history;

use crate::StoresError;

/// Runs `with` on a folder of its own in `spool`, which is gone afterwards.
fn in_scratch<T>(
    spool: &Dir,
    name: &str,
    with: impl FnOnce(&Dir) -> Result<T, StoresError>,
) -> Result<T, StoresError> {
    spool.remove_tree(name)?;
    let done = spool.make_path(name, 0o700).map_err(StoresError::from).and_then(|dir| with(&dir));
    let removed = spool.remove_tree(name);
    let done = done?;
    removed?;
    Ok(done)
}

fn unredactable(what: &str, why: &str) -> StoresError {
    let why = format!("{why}; its history can be left out, or all but HEAD");
    StoresError::Unredactable { what: what.to_owned(), why }
}
