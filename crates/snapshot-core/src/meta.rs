//! What is known about a snapshot without opening its bundle.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::error::ParseError;
use crate::id::{AgentId, CreatedBy, GitOid, SnapshotId, StoreName, Tenant};
use crate::manifest::{
    Attestation, BUNDLE_FORMAT, EncryptionInfo, MANIFEST_VERSION, Manifest, NotCarried,
    UnstableFile,
};

/// Schema versions: of the four classic stores, and of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaVersions {
    /// Of `long_term`.
    pub long_term: u32,
    /// Of `vector`.
    pub vector: u32,
    /// Of `concepts`.
    pub concepts: u32,
    /// Of `compactions`.
    pub compactions: u32,
    /// Of the manifest.
    pub manifest: u32,
}

/// A snapshot as lists, reports and events show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Its id.
    pub id: SnapshotId,
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// A name given by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The instant of the cut, milliseconds since the epoch, UTC.
    pub created_at_ms: i64,
    /// The bundle's file.
    pub bundle_path: PathBuf,
    /// Its size.
    pub bundle_size_bytes: u64,
    /// SHA-256 of the bundle file as it lies on disk.
    pub bundle_sha256: Sha256Digest,
    /// HEAD's commit; absent where there is none or the bundle is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_oid: Option<GitOid>,
    /// Schema versions.
    pub schema_versions: SchemaVersions,
    /// Whether the bundle is encrypted.
    pub encrypted: bool,
    /// How, and for whom: the fingerprints of its recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionInfo>,
    /// Whether redaction ran.
    pub redactions_applied: bool,
    /// Whether nothing was left out and nothing was unstable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<bool>,
    /// Who says to have signed it; to be checked by whoever has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// What asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<CreatedBy>,
    /// How the capture went; present right after it, and without any name where the bundle is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureInfo>,
}

/// How a capture went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureInfo {
    /// The instant, milliseconds since the epoch, UTC.
    pub instant_ms: i64,
    /// How long writers of the stores were held, in microseconds.
    pub writers_held_us: u64,
    /// The stores captured.
    #[serde(default)]
    pub stores: Vec<StoreCapture>,
    /// What the bundle does not hold.
    #[serde(default)]
    pub not_carried: Vec<NotCarried>,
    /// Memory files that changed around the cut.
    #[serde(default)]
    pub unstable: Vec<UnstableFile>,
}

/// One store of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCapture {
    /// Its name.
    pub store: StoreName,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its journal mode.
    pub journal_mode: String,
    /// Whether its writers were held through the whole copy (rollback-journal stores).
    pub held_through_copy: bool,
    /// `ok`, `not_checked`, or the first findings of `integrity_check`.
    pub integrity: String,
}

/// The summary beside every bundle, `<id>.manifest.json`; its rename is the commit point of a
/// publish. At most [`Sidecar::MAX_BYTES`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// [`MANIFEST_VERSION`] of the bundle.
    pub manifest_version: u32,
    /// [`BUNDLE_FORMAT`] of the bundle.
    pub bundle_format: String,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// The instant of the cut, milliseconds since the epoch, UTC.
    pub created_at_ms: i64,
    /// What asked for it.
    pub created_by: CreatedBy,
    /// Schema versions.
    pub schema_versions: SchemaVersions,
    /// Present where the bundle is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionInfo>,
    /// Whether redaction ran.
    pub redacted: bool,
    /// Whether nothing was left out and nothing was unstable.
    pub whole: bool,
    /// Size of the bundle file in bytes.
    pub bundle_size_bytes: u64,
    /// SHA-256 of the bundle file.
    pub bundle_sha256: Sha256Digest,
    /// Whether the bundle is the one of the other name, `<id>.rekeyed.tar.zst.age`: encrypting anew writes
    /// beside what is there, and this field changes the two over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rekeyed: bool,
    /// Present where the bundle is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// The label; of an encrypted bundle only where it was to be public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Plain bundles only: HEAD's commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_oid: Option<GitOid>,
    /// Plain bundles only: the root digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_digest: Option<Sha256Digest>,
}

/// A bundle's file, as whoever wrote or read it whole knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256Digest,
    /// The root digest of what is inside.
    pub root_digest: Sha256Digest,
    /// How it is encrypted, where it is.
    pub encryption: Option<EncryptionInfo>,
}

impl SnapshotMeta {
    /// Whether it is a bundle of 0.1.x, which becomes a snapshot by its import.
    #[must_use]
    pub const fn is_v1(&self) -> bool {
        self.schema_versions.manifest < MANIFEST_VERSION
    }
}

impl SchemaVersions {
    /// What this program writes.
    pub const CURRENT: Self =
        Self { long_term: 1, vector: 1, concepts: 1, compactions: 1, manifest: MANIFEST_VERSION };

    /// Refuses what a newer program wrote.
    ///
    /// # Errors
    /// [`ParseError::TooNew`] naming both versions.
    pub fn check(&self) -> Result<(), ParseError> {
        if self.is_supported_by(&Self::CURRENT) {
            return Ok(());
        }
        Err(ParseError::TooNew { found: self.text(), supported: Self::CURRENT.text() })
    }

    fn text(&self) -> String {
        let Self { long_term, vector, concepts, compactions, manifest } = self;
        format!(
            "schema versions long_term {long_term}, vector {vector}, concepts {concepts}, \
             compactions {compactions}, manifest {manifest}"
        )
    }

    /// Whether every field is at most the runtime's.
    #[must_use]
    pub const fn is_supported_by(&self, runtime: &Self) -> bool {
        self.long_term <= runtime.long_term
            && self.vector <= runtime.vector
            && self.concepts <= runtime.concepts
            && self.compactions <= runtime.compactions
            && self.manifest <= runtime.manifest
    }
}

impl CaptureInfo {
    /// What may be told of the capture of an encrypted bundle: its times.
    #[must_use]
    pub fn times_only(&self) -> Self {
        let Self { instant_ms, writers_held_us, .. } = *self;
        Self { instant_ms, writers_held_us, ..Self::default() }
    }
}

/// All that is believed of a sidecar before its version is ours.
#[derive(Deserialize)]
struct Version {
    manifest_version: u32,
}

impl Sidecar {
    /// Largest sidecar read or written.
    pub const MAX_BYTES: usize = 4096;

    /// The summary of a plain bundle.
    #[must_use]
    pub fn of_plain(
        manifest: &Manifest,
        root_digest: Sha256Digest,
        size_bytes: u64,
        sha256: Sha256Digest,
    ) -> Self {
        let file = BundleFile { size_bytes, sha256, root_digest, encryption: None };
        Self::new(manifest, file)
    }

    /// The summary of a bundle. Of an encrypted one it holds nothing that only its readers may know, and
    /// the label only where the manifest says that it is public.
    #[must_use]
    pub fn new(manifest: &Manifest, file: BundleFile) -> Self {
        let open = file.encryption.is_none();
        let head = manifest.git.as_ref().and_then(|git| git.head_oid.clone());
        Self {
            manifest_version: manifest.manifest_version,
            bundle_format: manifest.bundle_format.clone(),
            snapshot_id: manifest.snapshot_id,
            agent_id: manifest.agent_id.clone(),
            tenant: manifest.tenant.clone(),
            created_at_ms: manifest.created_at_ms,
            created_by: manifest.created_by.clone(),
            schema_versions: manifest.schema_versions,
            encryption: file.encryption,
            redacted: manifest.redactions.is_some(),
            whole: manifest.capture.not_carried.is_empty() && manifest.capture.unstable.is_empty(),
            bundle_size_bytes: file.size_bytes,
            bundle_sha256: file.sha256,
            rekeyed: false,
            attestation: manifest.attestation.clone(),
            label: manifest.label.clone().filter(|_| open || manifest.public_label),
            git_oid: head.filter(|_| open),
            root_digest: open.then_some(file.root_digest),
        }
    }

    /// Parses and checks a sidecar.
    ///
    /// # Errors
    /// [`ParseError::TooNew`] for a newer major, [`ParseError::Manifest`] for every other fault.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let bad = |why: String| ParseError::Manifest(format!("sidecar {why}"));
        if bytes.len() > Self::MAX_BYTES {
            return Err(bad(format!("is larger than {} bytes", Self::MAX_BYTES)));
        }
        let not_json = |e| bad(format!("is not as documented: {e}"));
        // The version first: a newer summary may have another shape.
        let Version { manifest_version } = serde_json::from_slice(bytes).map_err(not_json)?;
        if manifest_version > MANIFEST_VERSION {
            return Err(ParseError::TooNew {
                found: format!("manifest version {manifest_version}"),
                supported: format!("manifest version {MANIFEST_VERSION}"),
            });
        }
        let sidecar: Self = serde_json::from_slice(bytes).map_err(not_json)?;
        if sidecar.bundle_format != BUNDLE_FORMAT {
            return Err(bad("names another format".into()));
        }
        Ok(sidecar)
    }

    /// The bytes of the sidecar file.
    ///
    /// # Errors
    /// [`ParseError::Manifest`] where they would exceed [`Sidecar::MAX_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ParseError> {
        let bad = |why: String| ParseError::Manifest(format!("sidecar {why}"));
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| bad(e.to_string()))?;
        bytes.push(b'\n');
        if bytes.len() > Self::MAX_BYTES {
            return Err(bad(format!(
                "would be larger than {} bytes; use a shorter label",
                Self::MAX_BYTES
            )));
        }
        Ok(bytes)
    }

    /// The meta of this snapshot, whose bundle lies at `bundle_path`.
    #[must_use]
    pub fn to_meta(&self, bundle_path: PathBuf) -> SnapshotMeta {
        SnapshotMeta {
            id: self.snapshot_id,
            agent_id: self.agent_id.clone(),
            tenant: self.tenant.clone(),
            label: self.label.clone(),
            created_at_ms: self.created_at_ms,
            bundle_path,
            bundle_size_bytes: self.bundle_size_bytes,
            bundle_sha256: self.bundle_sha256,
            git_oid: self.git_oid.clone(),
            schema_versions: self.schema_versions,
            encrypted: self.encryption.is_some(),
            encryption: self.encryption.clone(),
            redactions_applied: self.redacted,
            whole: Some(self.whole),
            attestation: self.attestation.clone(),
            created_by: Some(self.created_by.clone()),
            capture: None,
        }
    }
}
