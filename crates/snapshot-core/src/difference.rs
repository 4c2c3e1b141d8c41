//! What changed, one by one: rows, files, commits, state. `nexo-memory diff --json` prints them; the
//! shapes are in `docs/cli.md`.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::digest::Sha256Digest;
use crate::id::{GitOid, StoreName};
use crate::manifest::ArtifactKind;

/// One thing that differs between the older and the newer side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Difference {
    /// A row of a store.
    Row(RowDifference),
    /// A file or link of the memdir.
    File(FileDifference),
    /// A commit that only one side has.
    Commit(CommitDifference),
    /// A file that differs between the two HEADs.
    GitFile(GitFileDifference),
    /// A place in a piece of runtime state.
    State(StateDifference),
}

/// Which way something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the newer side has it.
    Added,
    /// Both have it, and it differs.
    Changed,
    /// Only the older side has it.
    Removed,
    /// Both have it, under two names. Files only.
    Renamed,
}

/// A row of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowDifference {
    /// The store.
    pub store: StoreName,
    /// The table.
    pub table: String,
    /// Which way it differs. Rows of a table without a primary key are only added and removed.
    pub change: Change,
    /// The columns of its primary key, or its rowid where it has none.
    pub key: Vec<CellDifference>,
    /// The other columns: all of an added or removed row, those that differ of a changed one.
    pub cells: Vec<CellDifference>,
}

/// One column of a row. A key has one side only: that which both have, or the one there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellDifference {
    /// Its column.
    pub column: String,
    /// Its value on the older side, where that has the row.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub old: Option<Cell>,
    /// Its value on the newer side, where that has the row.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub new: Option<Cell>,
    /// Cosine of the angle between two embeddings, -1 to 1, where both values look like one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
}

/// A value of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A finite real; an infinite one is the text `inf` or `-inf`, for JSON has none.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes, or text that is not UTF-8: not shown, but told apart.
    Blob {
        /// How many.
        blob_bytes: u64,
        /// Their digest.
        sha256: Sha256Digest,
    },
}

/// A file or link of the memdir.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileDifference {
    /// Its path in the memdir, in lossy UTF-8.
    pub path: String,
    /// The path's bytes in base64, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    /// Its path on the older side, where it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// That path's bytes, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path_b64: Option<String>,
    /// Which way it differs.
    pub change: Change,
    /// What the older side has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<FileSide>,
    /// What the newer side has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<FileSide>,
    /// Lines added; 0 for what is no text or is too long to be compared by line.
    pub insertions: u64,
    /// Lines removed; likewise.
    pub deletions: u64,
    /// The lines that differ, with three of context; none for what is no text or too long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hunks: Vec<Hunk>,
}

/// One side of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSide {
    /// A file or a link.
    pub kind: ArtifactKind,
    /// Length in bytes; 0 for links.
    pub size_bytes: u64,
    /// Digest of the content, or of a link's target.
    pub sha256: Sha256Digest,
    /// Permission bits, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// Lines that differ, as in a unified diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunk {
    /// First line on the older side, from 1; 0 where that has none.
    pub old_start: u32,
    /// Lines of the older side.
    pub old_lines: u32,
    /// First line on the newer side, from 1; 0 where that has none.
    pub new_start: u32,
    /// Lines of the newer side.
    pub new_lines: u32,
    /// The lines without their ends, after a blank (both sides), `-` (older) or `+` (newer).
    pub lines: Vec<String>,
}

/// A commit that only one side has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitDifference {
    /// Whether the newer side has it (`added`) or the older (`removed`).
    pub change: Change,
    /// The commit.
    pub oid: GitOid,
    /// First line of its message.
    pub subject: String,
    /// Its author, `name <mail>`.
    pub author: String,
    /// Its time, milliseconds since the epoch, UTC.
    pub ts_ms: i64,
}

/// A file that differs between the two HEADs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitFileDifference {
    /// Its path, in lossy UTF-8.
    pub path: String,
    /// The path's bytes in base64, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    /// Its path on the older side, where it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// That path's bytes, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path_b64: Option<String>,
    /// Which way it differs.
    pub change: Change,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

/// A place in a piece of runtime state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateDifference {
    /// `extract_cursor` or `dream_run`.
    pub state: String,
    /// The place, as a JSON pointer (RFC 6901); empty for the whole document.
    pub path: String,
    /// Which way it differs.
    pub change: Change,
    /// What the older side has there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub old: Option<Value>,
    /// What the newer side has there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub new: Option<Value>,
}

/// A field that is there, whatever it holds: `null` is a value, and no field is none.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a NULL that reads back as a missing side, an integer that reads back as a real.
    #[test]
    fn cells_keep_their_types_and_null_is_a_value() {
        let cell = |old, new| CellDifference { column: "c".to_owned(), old, new, cosine: None };
        let blob = Cell::Blob { blob_bytes: 3, sha256: Sha256Digest::of(b"abc") };
        for (cell, json) in [
            (cell(None, Some(Cell::Null)), r#"{"column":"c","new":null}"#),
            (
                cell(Some(Cell::Real(1.0)), Some(Cell::Integer(1))),
                r#"{"column":"c","old":1.0,"new":1}"#,
            ),
            (cell(Some(Cell::Text("1".into())), None), r#"{"column":"c","old":"1"}"#),
        ] {
            assert_eq!(serde_json::to_string(&cell).unwrap(), json);
            assert_eq!(serde_json::from_str::<CellDifference>(json).unwrap(), cell);
        }
        let cell = cell(Some(blob), None);
        let json = serde_json::to_string(&cell).unwrap();
        assert_eq!(serde_json::from_str::<CellDifference>(&json).unwrap(), cell);
    }
}
