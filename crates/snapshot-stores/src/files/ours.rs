//! Names in a memdir that are ours, letter for letter: who begins a name of his own alike keeps it.

use std::ffi::OsStr;

use snapshot_core::SnapshotId;
use snapshot_fs::{Dir, TEMP_PREFIX};

use crate::StoresError;

/// End of the name of a repository that a restore makes beside its place.
const GIT: &str = "-git";

/// Name of the folder in the memdir that holds the staged content of restore `id`.
pub(crate) fn staging_name(id: SnapshotId) -> String {
    format!("{TEMP_PREFIX}{id}")
}

/// Name of the folder in the memdir in which restore `id` makes a repository where there is none.
pub(crate) fn git_name(id: SnapshotId) -> String {
    format!("{}{GIT}", staging_name(id))
}

/// Whether a name is one of those that a restore gives, whichever restore.
pub(crate) fn is_staging(name: &OsStr) -> bool {
    let id = name.to_str().and_then(|name| name.strip_prefix(TEMP_PREFIX));
    let id = id.map(|id| id.strip_suffix(GIT).unwrap_or(id));
    id.is_some_and(|id| id.parse().is_ok_and(|parsed: SnapshotId| parsed.to_string() == id))
}

/// Removes what restore `id` staged in the memdir. Only while nothing needs it.
///
/// # Errors
/// If something cannot be removed.
pub fn unstage(memdir: &Dir, id: SnapshotId) -> Result<(), StoresError> {
    memdir.remove_tree(staging_name(id))?;
    Ok(memdir.remove_tree(git_name(id))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: an agent's own file taken for a restore's.
    #[test]
    fn only_whole_names_are_a_restores() {
        let id: SnapshotId = "57a44b52-9d6e-4d2f-8a1b-4c5d0f3a1b4c".parse().unwrap();
        for name in [staging_name(id), git_name(id)] {
            assert!(is_staging(OsStr::new(&name)), "{name}");
            for other in [format!("{name}.md"), format!("x{name}"), name.to_uppercase()] {
                assert!(!is_staging(OsStr::new(&other)), "{other}");
            }
        }
        assert!(!is_staging(OsStr::new(".nexo-tmp-notes")));
    }
}
