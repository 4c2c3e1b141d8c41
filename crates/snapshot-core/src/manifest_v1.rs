//! `manifest.json` as 0.1.x wrote it: the first entry of its bundles.
//!
//! Invariant: a [`ManifestV1`] is of version 1, lies within the limits of version 2, names each path once, and has
//! every artifact where its kind belongs. Nothing in it is covered by its own seal but the artifacts' digests.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use crate::digest::Sha256Digest;
use crate::error::{ParseError, excerpt};
use crate::id::{AgentId, SnapshotId, StoreName, Tenant};
use crate::manifest::{
    ArtifactKind, BUNDLE_FORMAT_V1, EncryptionInfo, MAX_ARTIFACTS, MAX_MANIFEST_BYTES,
    RedactionReport, Versions, at_most, few_versions, not_json, parents, path_in_bundle, too_new,
};
use crate::meta::SchemaVersions;
use crate::path::BundlePath;

/// Manifest version of 0.1.x.
const VERSION: u32 = 1;
/// Folder of the files of `.git`, as they lay on disk.
const GIT: &str = "git";

/// What a bundle of 0.1.x says that it holds; see the module docs for the invariant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ManifestV1 {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// A name given by people: any text, of any length.
    #[serde(default)]
    pub label: Option<String>,
    /// When it was made, milliseconds since the epoch, UTC.
    pub created_at_ms: i64,
    /// What asked for it: any text.
    pub created_by: String,
    /// Schema versions of the stores and of this document.
    pub schema_versions: SchemaVersions,
    /// Everything carried, in the order of the entries.
    #[serde(deserialize_with = "at_most::<_, _, MAX_ARTIFACTS>")]
    pub artifacts: Vec<ArtifactV1>,
    /// Present where redaction was asked for, whether it found anything or not. It looked at the two state files
    /// alone.
    #[serde(default)]
    pub redactions: Option<RedactionReport>,
    /// For whom it is encrypted: of each recipient the last 8 characters.
    #[serde(default)]
    pub encryption: Option<EncryptionInfo>,
    /// Versions of what wrote it.
    #[serde(default, deserialize_with = "few_versions")]
    pub tool_versions: BTreeMap<String, String>,
    /// The seal: SHA-256 over the artifacts' digests, as hexadecimal text, one after the other.
    #[serde(rename = "bundle_sha256")]
    pub seal: Sha256Digest,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ArtifactV1 {
    /// Where it lies.
    #[serde(rename = "path_in_bundle", deserialize_with = "path")]
    pub path: BundlePath,
    /// What it is; [`ArtifactKind::GitBundle`] for each file of `.git`.
    pub kind: ArtifactKind,
    /// Content length in bytes.
    pub size_bytes: u64,
    /// Digest of the content.
    pub sha256: Sha256Digest,
}

impl ManifestV1 {
    /// Parses and checks a manifest of 0.1.x.
    ///
    /// # Errors
    /// [`ParseError::TooNew`] for a newer major than this program knows, before anything else is believed;
    /// [`ParseError::Manifest`] for every other fault.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ParseError::Manifest(format!("larger than {MAX_MANIFEST_BYTES} bytes")));
        }
        let versions: Versions = serde_json::from_slice(bytes).map_err(not_json)?;
        too_new(versions.manifest_version, &versions.bundle_format)?;
        if versions.manifest_version != VERSION || versions.bundle_format != BUNDLE_FORMAT_V1 {
            return Err(ParseError::Manifest(format!(
                "{} with manifest version {} is not {BUNDLE_FORMAT_V1}",
                excerpt(&versions.bundle_format),
                versions.manifest_version
            )));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(not_json)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The seal that belongs to the artifacts.
    #[must_use]
    pub fn seal_of_artifacts(&self) -> Sha256Digest {
        let digests: String = self.artifacts.iter().map(|a| a.sha256.to_string()).collect();
        Sha256Digest::of(digests.as_bytes())
    }

    /// Sum of the artifacts' sizes, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.artifacts.iter().fold(0, |sum, a| sum.saturating_add(a.size_bytes))
    }

    fn validate(&self) -> Result<(), ParseError> {
        let bad = |text: String| Err(ParseError::Manifest(text));
        if self.artifacts.len() > MAX_ARTIFACTS {
            return bad(format!("more than {MAX_ARTIFACTS} artifacts"));
        }
        let mut paths = HashSet::with_capacity(self.artifacts.len());
        for artifact in &self.artifacts {
            if !artifact.lies_well() {
                return bad(format!("{:?} does not lie where its kind belongs", artifact.path));
            }
            if !paths.insert(artifact.path.as_bytes()) {
                return bad(format!("{:?} is listed twice", artifact.path));
            }
        }
        for artifact in &self.artifacts {
            if parents(artifact.path.as_bytes()).any(|parent| paths.contains(parent)) {
                return bad(format!("{:?} lies below something that is no folder", artifact.path));
            }
        }
        Ok(())
    }
}

impl ArtifactV1 {
    /// The store that it is.
    #[must_use]
    pub fn store(&self) -> Option<StoreName> {
        let name = match self.kind {
            ArtifactKind::SqliteLongTerm => "long_term",
            ArtifactKind::SqliteVector => "vector",
            ArtifactKind::SqliteConcepts => "concepts",
            ArtifactKind::SqliteCompactions => "compactions",
            _ => return None,
        };
        Some(StoreName::from_static(name))
    }

    /// Its path in `.git`, where it is a file of that.
    #[must_use]
    pub fn in_git(&self) -> Option<BundlePath> {
        (self.kind == ArtifactKind::GitBundle).then(|| self.path.strip_prefix(GIT)).flatten()
    }

    fn lies_well(&self) -> bool {
        let at = |text: &str| self.path.as_str() == Some(text);
        match self.kind {
            ArtifactKind::GitBundle => self.in_git().is_some(),
            ArtifactKind::StateExtractCursor => at(path_in_bundle::EXTRACT_CURSOR),
            ArtifactKind::StateDreamRun => at(path_in_bundle::DREAM_RUN),
            ArtifactKind::MemoryFile => {
                self.path.strip_prefix(path_in_bundle::MEMORY_FILES).is_some()
            }
            // Kinds that 0.1.x did not have are no store here.
            _ => self.store().is_some_and(|store| store.bundle_path() == self.path),
        }
    }
}

fn path<'de, D: serde::Deserializer<'de>>(d: D) -> Result<BundlePath, D::Error> {
    BundlePath::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
}
