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
    /// Who signed it; absent where it is not signed, or nobody looked inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureReport>,
    /// Why a restore would refuse it although it is whole: a signature is required, and it has none that
    /// counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What is wrong.
    #[serde(default)]
    pub damage: Vec<Damage>,
}

/// A bundle's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureReport {
    /// The key that it names, as minisign does: 16 upper-case hexadecimal digits.
    pub key_id: String,
    /// What it is worth.
    pub status: SignatureStatus,
}

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureStatus {
    /// Made with a trusted key, over this manifest.
    Trusted,
    /// It names a key that is not among the trusted ones: it may be anybody's.
    UnknownKey,
    /// It names a trusted key, and was not made with it over this manifest.
    Forged,
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

impl RestoreReport {
    /// What may be told of the restore of an encrypted bundle: that it was, and how long it took.
    #[must_use]
    pub fn without_contents(self) -> Self {
        Self {
            git_reset_oid: None,
            sqlite_restored_dbs: Vec::new(),
            state_files_restored: Vec::new(),
            memory_files: None,
            notes: Vec::new(),
            ..self
        }
    }
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
            && self.refused.is_none()
    }

    /// Whether nothing that was read is wrong, and the file is the one of its summary: all that can be
    /// known of an encrypted bundle without its identity.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let sealed = self.inside == Inside::NotChecked && self.bundle_sha256_ok;
        self.is_good() || sealed && self.damage.is_empty() && self.refused.is_none()
    }

    /// The kind of error that this report is for those who wanted a good one.
    #[must_use]
    pub fn error_kind(&self) -> Option<ErrorKind> {
        // A digest of the file that is not the summary's is damage: without damage there was no summary.
        let sound = self.damage.is_empty();
        let whole = self.manifest_ok && self.per_artifact_ok;
        match self.inside {
            _ if self.is_good() => None,
            Inside::Good | Inside::NotChecked if sound && self.refused.is_some() => {
                Some(ErrorKind::Refused)
            }
            Inside::NotChecked if sound => Some(ErrorKind::NotChecked),
            Inside::Good if sound && whole => Some(ErrorKind::NotChecked),
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
            manifest_ok: good,
            bundle_sha256_ok: true,
            per_artifact_ok: good,
            schema_versions: None,
            age_protected: false,
            inside,
            signature: None,
            refused: None,
            damage: Vec::new(),
        }
    }

    /// Would catch: a bundle that nobody looked into, without its summary or a signature that is required,
    /// that passes for good.
    #[test]
    fn not_checked_is_an_outcome_of_its_own_and_never_good() {
        let damage =
            vec![Damage { artifact: "sidecar".to_owned(), frame: None, why: "lies".to_owned() }];
        assert_eq!(report(Inside::Good).error_kind(), None);
        let sealed = report(Inside::NotChecked);
        assert_eq!(sealed.error_kind(), Some(ErrorKind::NotChecked));
        assert!(sealed.is_sound() && !sealed.is_good());
        assert_eq!(report(Inside::Bad).error_kind(), Some(ErrorKind::Integrity));
        let forged = VerifyReport { bundle_sha256_ok: false, damage, ..sealed.clone() };
        assert_eq!(forged.error_kind(), Some(ErrorKind::Integrity));
        assert!(!forged.is_sound());
        for lone in [report(Inside::Good), sealed] {
            let lone = VerifyReport { bundle_sha256_ok: false, ..lone };
            assert_eq!(lone.error_kind(), Some(ErrorKind::NotChecked));
            assert!(!lone.is_sound());
        }
        let odd = VerifyReport { manifest_ok: false, ..report(Inside::Good) };
        assert_eq!(odd.error_kind(), Some(ErrorKind::Integrity));
        let refused = Some("it is not signed".to_owned());
        let unsigned = VerifyReport { refused, ..report(Inside::Good) };
        assert_eq!(unsigned.error_kind(), Some(ErrorKind::Refused));
        assert!(!unsigned.is_sound());
    }
}
