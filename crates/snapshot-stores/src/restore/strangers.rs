//! What a store of the bundle would do by itself in the agent's hands, and the live one would not: told,
//! because it may be somebody's trick, and carried, because it may be the agent's own.

use std::path::Path;

use snapshot_fs::Dir;

use crate::error::StoresError;
use crate::restore::target::{Action, StoreTarget};
use crate::sqlite::{Acting, Live, acting, open_staged, without};

/// Most triggers and views of a store that are named.
const MAX_NAMED: usize = 8;
/// Most of a name that is told, in characters.
const MAX_NAME: usize = 80;

/// A line for each store with triggers or views that the live one has not, word for word; for a store
/// that is created, with any.
pub(crate) fn strangers(
    targets: &[StoreTarget],
    staging: &Dir,
) -> Result<Vec<String>, StoresError> {
    let mut notes = Vec::new();
    for target in targets.iter().filter(|target| target.action != Action::Empty) {
        let path = staging.path().join(&target.staged);
        let mut found = read(&open_staged(&path)?, &path)?;
        let is_new = target.action == Action::Create;
        if !is_new && !found.is_empty() {
            let live = Live::new(&target.path);
            found = without(found, &read(&live.open()?, live.path())?);
        }
        if !found.is_empty() {
            notes.push(told(target.store.as_str(), &found, is_new));
        }
    }
    Ok(notes)
}

fn read(conn: &rusqlite::Connection, path: &Path) -> Result<Vec<Acting>, StoresError> {
    acting(conn).map_err(StoresError::sqlite("read the schema of", path))
}

fn told(store: &str, found: &[Acting], is_new: bool) -> String {
    let name = |acting: &Acting| {
        let name: String = acting.name.chars().take(MAX_NAME).collect();
        format!("{} {name}", acting.kind)
    };
    let mut names: Vec<String> = found.iter().take(MAX_NAMED).map(name).collect();
    if found.len() > MAX_NAMED {
        names.push(format!("{} more", found.len() - MAX_NAMED));
    }
    let names = names.join(", ");
    match (is_new, found.len()) {
        (true, _) => format!("store {store} comes with {names}"),
        (false, 1) => format!("store {store}: {names} is not in the live store"),
        (false, _) => format!("store {store}: {names} are not in the live store"),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Would catch: a crafted schema that floods the report, by number or by length of its names.
    #[test]
    fn what_is_told_is_bounded() {
        let conn = Connection::open_in_memory().unwrap();
        let views: String = (100..200)
            .map(|n| format!("CREATE VIEW v{n}{} AS SELECT 1;", "x".repeat(1000)))
            .collect();
        conn.execute_batch(&views).unwrap();
        let note = told("notes", &acting(&conn).unwrap(), false);
        assert!(note.starts_with("store notes: view v100x") && note.len() < 800, "{note}");
        assert!(note.ends_with(", 92 more are not in the live store"), "{note}");
    }
}
