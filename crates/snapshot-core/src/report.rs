//! What operations report; JSON names are fixed by `docs/wire.md`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::diff::RowCounts;
use crate::error::ErrorKind;
use crate::id::{AgentId, GitOid, SnapshotId, Tenant};
use crate::meta::SchemaVersions;

/// What a restore did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// The snapshot restored.
    pub from: SnapshotId,
    /// The snapshot of what was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_snapshot: Option<SnapshotId>,
    /// The commit that HEAD names now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_reset_oid: Option<GitOid>,
    /// Stores written, by name.
    pub sqlite_restored_dbs: Vec<String>,
    /// Pieces of runtime state written.
    pub state_files_restored: Vec<String>,
    /// Whether a quiesced agent was resumed.
    pub workers_restarted: bool,
    /// Whether nothing was changed because a plan was asked for.
    pub dry_run: bool,
    /// How long writers of the stores were held, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers_held_us: Option<u64>,
    /// How long readers were held (rollback-journal stores only), in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readers_held_us: Option<u64>,
    /// Memory files written and removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_files: Option<RowCounts>,
    /// What is worth knowing: a store that a writer changed before it could be read back, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a retention run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionTickReport {
    /// Bundles deleted.
    pub bundles_deleted: u64,
    /// Dead staging folders removed.
    pub orphan_staging_dirs_removed: u64,
    /// Agents visited.
    pub agents_visited: u64,
    /// How much failed.
    pub errors: u64,
    /// What failed first, one line each; at most [`RetentionTickReport::MAX_FAILURES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// How a bundle stands up to a full reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The bundle's file.
    pub bundle: PathBuf,
    /// The manifest is well-formed, of a version we read, and agrees with the sidecar.
    pub manifest_ok: bool,
    /// The file's SHA-256 is the one recorded beside it.
    pub bundle_sha256_ok: bool,
    /// Every artifact was read and has the manifest's digest.
    pub per_artifact_ok: bool,
    /// Schema versions, where the manifest could be read.
    pub schema_versions: Option<SchemaVersions>,
    /// Whether the bundle is encrypted.
    pub age_protected: bool,
    /// What is known of the contents.
    pub inside: Inside,
    /// What is wrong.
    #[serde(default)]
    pub damage: Vec<Damage>,
}

/// What is known of a bundle's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inside {
    /// Read and right.
    Good,
    /// Read and wrong.
    Bad,
    /// Not read.
    NotChecked,
}

/// One thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The artifact (its path), or `bundle`, `manifest.json`, `sidecar`, ...
    pub artifact: String,
    /// Number of the damaged zstd frame, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}

impl RetentionTickReport {
    /// Most lines of [`RetentionTickReport::failures`]: an event carries the report.
    pub const MAX_FAILURES: usize = 100;

    /// Counts a failure.
    pub fn failed(&mut self, why: String) {
        self.errors += 1;
        if self.failures.len() < Self::MAX_FAILURES {
            self.failures.push(why);
        }
    }
}

impl VerifyReport {
    /// Whether everything was read and is right.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.manifest_ok
            && self.bundle_sha256_ok
            && self.per_artifact_ok
            && self.inside == Inside::Good
            && self.damage.is_empty()
    }

    /// The kind of error that this report is for those who wanted a good one.
    #[must_use]
    pub fn error_kind(&self) -> Option<ErrorKind> {
        let sound = self.manifest_ok && self.damage.is_empty();
        match self.inside {
            _ if self.is_good() => None,
            Inside::NotChecked if sound && self.bundle_sha256_ok => Some(ErrorKind::NotChecked),
            // A digest of the file that is not the summary's is damage: here there was no summary.
            Inside::Good if sound && self.per_artifact_ok => Some(ErrorKind::NotChecked),
            _ => Some(ErrorKind::Integrity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(inside: Inside) -> VerifyReport {
        let good = inside == Inside::Good;
        VerifyReport {
            bundle: "/b".into(),
            manifest_ok: true,
            bundle_sha256_ok: true,
            per_artifact_ok: good,
            schema_versions: None,
            age_protected: false,
            inside,
            damage: Vec::new(),
        }
    }

    /// Would catch: a bundle that nobody looked into, or without its summary, that passes for good.
    #[test]
    fn not_checked_is_an_outcome_of_its_own_and_never_good() {
        assert_eq!(report(Inside::Good).error_kind(), None);
        assert_eq!(report(Inside::NotChecked).error_kind(), Some(ErrorKind::NotChecked));
        assert_eq!(report(Inside::Bad).error_kind(), Some(ErrorKind::Integrity));
        let forged = VerifyReport { bundle_sha256_ok: false, ..report(Inside::NotChecked) };
        assert_eq!(forged.error_kind(), Some(ErrorKind::Integrity));
        let alone = VerifyReport { bundle_sha256_ok: false, ..report(Inside::Good) };
        assert_eq!(alone.error_kind(), Some(ErrorKind::NotChecked));
        let odd = VerifyReport { manifest_ok: false, ..alone };
        assert_eq!(odd.error_kind(), Some(ErrorKind::Integrity));
    }
}
