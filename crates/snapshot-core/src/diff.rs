//! What changed, counted; JSON names are fixed by `docs/wire.md`. One by one: [`crate::Difference`].

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::difference::Change;
use crate::id::{SnapshotId, StoreName};

/// What changed between two snapshots, or one and the live memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDiff {
    /// The older side; the nil id for the live memory.
    pub a: SnapshotId,
    /// The newer side; the nil id for the live memory.
    pub b: SnapshotId,
    /// Whether a side is the live memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// Git, counted.
    pub git_summary: GitSummary,
    /// The classic stores, counted; an updated row counts once added and once removed.
    pub sqlite_summary: SqliteSummary,
    /// Runtime state.
    pub state_summary: StateSummary,
    /// Every store's rows.
    #[serde(default)]
    pub stores: BTreeMap<StoreName, RowCounts>,
    /// The tables of each store in which something changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<StoreName, BTreeMap<String, RowCounts>>,
    /// Memory files; one that was renamed counts once added and once removed.
    #[serde(default)]
    pub memory_files: RowCounts,
    /// What could not be compared: of these the counts know nothing, or not all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<NotCompared>,
    /// What is worth knowing beside the counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A store, or a table of it, that could not be compared, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCompared {
    /// The store.
    pub store: StoreName,
    /// Its table; none where it is the whole store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Why not.
    pub why: String,
}

/// Git, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSummary {
    /// Commits on one side and not on the other.
    pub commits_between: u64,
    /// Files changed between the two HEADs.
    pub files_changed: u64,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

/// The classic stores, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteSummary {
    /// Rows added to `long_term`.
    pub long_term_rows_added: u64,
    /// Rows removed from `long_term`.
    pub long_term_rows_removed: u64,
    /// Rows added to `vector`.
    pub vector_rows_added: u64,
    /// Rows removed from `vector`.
    pub vector_rows_removed: u64,
    /// Rows added to `concepts`.
    pub concepts_rows_added: u64,
    /// Rows removed from `concepts`.
    pub concepts_rows_removed: u64,
    /// Rows added to `compactions`.
    pub compactions_added: u64,
}

/// Runtime state, compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSummary {
    /// Whether the extractor's cursor differs.
    pub extract_cursor_changed: bool,
    /// Whether the last dream run differs.
    pub last_dream_run_changed: bool,
}

/// Rows, files or other things, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Only on the newer side.
    pub added: u64,
    /// On both, differing.
    pub changed: u64,
    /// Only on the older side.
    pub removed: u64,
}

impl SnapshotDiff {
    /// Of two sides in which nothing is known to differ.
    #[must_use]
    pub fn between(a: SnapshotId, b: SnapshotId) -> Self {
        Self {
            a,
            b,
            live: a == SnapshotId::nil() || b == SnapshotId::nil(),
            git_summary: GitSummary::default(),
            sqlite_summary: SqliteSummary::default(),
            state_summary: StateSummary::default(),
            stores: BTreeMap::new(),
            tables: BTreeMap::new(),
            memory_files: RowCounts::default(),
            not_compared: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl RowCounts {
    /// Counts one change.
    pub fn count(&mut self, change: Change) {
        match change {
            Change::Added => self.added += 1,
            Change::Changed => self.changed += 1,
            Change::Removed => self.removed += 1,
            Change::Renamed => {
                self.added += 1;
                self.removed += 1;
            }
        }
    }

    /// Whether nothing changed.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.added == 0 && self.changed == 0 && self.removed == 0
    }
}

impl AddAssign for RowCounts {
    fn add_assign(&mut self, more: Self) {
        self.added += more.added;
        self.changed += more.changed;
        self.removed += more.removed;
    }
}

impl SqliteSummary {
    /// Takes over the counts of a classic store; other names are ignored.
    pub fn record(&mut self, store: &StoreName, counts: RowCounts) {
        let (added, removed) = (counts.added + counts.changed, counts.removed + counts.changed);
        match store.as_str() {
            "long_term" => {
                (self.long_term_rows_added, self.long_term_rows_removed) = (added, removed)
            }
            "vector" => (self.vector_rows_added, self.vector_rows_removed) = (added, removed),
            "concepts" => (self.concepts_rows_added, self.concepts_rows_removed) = (added, removed),
            "compactions" => self.compactions_added = added,
            _ => {}
        }
    }
}
