//! What a vault holds, as `list` tells it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::id::SnapshotId;
use crate::meta::SnapshotMeta;

/// The snapshots of an agent and what is wrong beside them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The snapshots, newest first (by time, then by id).
    pub snapshots: Vec<SnapshotMeta>,
    /// What is wrong; a file named here is in no snapshot of the list, except where only its
    /// checksum file is missing.
    pub problems: Vec<ListProblem>,
}

/// Something wrong in a snapshots folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListProblem {
    /// Where.
    pub path: PathBuf,
    /// The snapshot it belongs to, where its name says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SnapshotId>,
    /// What sort of problem.
    pub kind: ProblemKind,
    /// What is wrong, for people. It may quote what lies on disk: escape it for a terminal.
    pub why: String,
}

/// Sorts of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A sidecar that cannot be read, or is of another snapshot, agent or tenant.
    Sidecar,
    /// A sidecar that a newer program wrote.
    TooNew,
    /// A sidecar whose bundle is missing, no file, or of another size.
    Bundle,
    /// A snapshot whose checksum file is missing.
    Sum,
    /// A bundle without a sidecar.
    Orphan,
    /// A bundle of 0.1.x: it never had a sidecar.
    V1,
    /// A delete that died half-way.
    HalfDeleted,
    /// A temporary file, or a checksum file without a bundle.
    Leftover,
    /// Nothing of ours.
    Unknown,
    /// A folder that cannot be read.
    Unreadable,
}
impl ProblemKind {
    /// Its word; stable, and the same as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::TooNew => "too_new",
            Self::Bundle => "bundle",
            Self::Sum => "sum",
            Self::Orphan => "orphan",
            Self::V1 => "v1",
            Self::HalfDeleted => "half_deleted",
            Self::Leftover => "leftover",
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Serialize for ProblemKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a word that is written and not understood when it is read.
    #[test]
    fn every_problem_is_read_as_it_was_written() {
        let kinds = [
            ProblemKind::Sidecar,
            ProblemKind::TooNew,
            ProblemKind::Bundle,
            ProblemKind::Sum,
            ProblemKind::Orphan,
            ProblemKind::V1,
            ProblemKind::HalfDeleted,
            ProblemKind::Leftover,
            ProblemKind::Unknown,
            ProblemKind::Unreadable,
        ];
        for kind in kinds {
            let written = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<ProblemKind>(&written).unwrap(), kind);
        }
    }
}
