//! `manifest.json`: what a bundle holds. The field names of v1 are kept (`docs/wire.md`).
//!
//! Invariant: a [`Manifest`] that came through [`Manifest::parse`] is of a version we read, names
//! each path once, lies within the limits, and has every artifact where its kind belongs.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Sha256Digest;
use crate::error::ParseError;
use crate::id::{AgentId, CreatedBy, GitOid, SnapshotId, StoreName, Tenant};
use crate::meta::SchemaVersions;
use crate::mutants::holds;
use crate::path::BundlePath;
use crate::redaction::GitHistory;

/// Format name of bundles written by this program.
pub const BUNDLE_FORMAT: &str = "nexo-memory-snapshot-v2";
/// Format name of the predecessor's bundles.
pub const BUNDLE_FORMAT_V1: &str = "nexo-memory-snapshot-v1";
/// Manifest version written by this program. 1: 0.1.x. 2: manifest last, frames, root digest.
pub const MANIFEST_VERSION: u32 = 2;
/// Largest manifest read or written, in bytes. A comparison holds two, parsed and as they are, and a restore what it
/// makes of one and of the live memory: all that must stay below 256 MiB.
pub const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Most artifacts in one bundle.
pub const MAX_ARTIFACTS: usize = 65_536;
/// Most items in every other list of a manifest: a short item takes many times its text once it is parsed.
pub const MAX_LISTED: usize = 16_384;

/// Well-known places in a bundle.
pub mod path_in_bundle {
    /// The manifest, last entry but for its signature.
    pub const MANIFEST: &str = "manifest.json";
    /// The manifest's signature, the last entry where there is one.
    pub const SIGNATURE: &str = "manifest.json.minisig";
    /// Folder of the SQLite stores.
    pub const SQLITE: &str = "sqlite";
    /// The git history, a git bundle.
    pub const GIT_BUNDLE: &str = "git/memory.bundle";
    /// Folder of the memory files.
    pub const MEMORY_FILES: &str = "memory_files";
    /// The extractor's cursor.
    pub const EXTRACT_CURSOR: &str = "state/extract_cursor.json";
    /// The last dream run.
    pub const DREAM_RUN: &str = "state/dream_run.json";
}

/// What a bundle holds; see the module docs for the invariant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub manifest_version: u32,
    /// [`BUNDLE_FORMAT`].
    pub bundle_format: String,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// A name given by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether the label may be told although the bundle is encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public_label: bool,
    /// The instant of the cut, milliseconds since the epoch, UTC.
    pub created_at_ms: i64,
    /// What asked for it.
    pub created_by: CreatedBy,
    /// Schema versions of the stores and of this document.
    pub schema_versions: SchemaVersions,
    /// The memdir's repository, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitInfo>,
    /// Everything carried, in the order of the entries.
    #[serde(deserialize_with = "at_most::<_, _, MAX_ARTIFACTS>")]
    pub artifacts: Vec<Artifact>,
    /// Present where redaction ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redactions: Option<RedactionReport>,
    /// Written by 0.1.x, whose manifests said how their bundles were encrypted. What we write says it in
    /// the sidecar: for other readers a bundle is encrypted anew, and its content stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionInfo>,
    /// Present where the bundle is signed: what its summary shows of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// Present where it was rewritten from a bundle of another format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten_from: Option<Provenance>,
    /// Versions of what wrote it.
    #[serde(default, deserialize_with = "few_versions")]
    pub tool_versions: BTreeMap<String, String>,
    /// What the capture could not carry or hold still.
    #[serde(default)]
    pub capture: ManifestCapture,
}

/// One entry of the bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Where it lies. In JSON: `path_in_bundle`, and `path_b64` where it is not UTF-8.
    pub path: BundlePath,
    /// What it is.
    pub kind: ArtifactKind,
    /// Content length in bytes; 0 for folders and links.
    pub size_bytes: u64,
    /// Digest of the content; of the target for links, of nothing for folders.
    pub sha256: Sha256Digest,
    /// Permission bits (`0o7777`) on disk, for what came from a file.
    pub mode: Option<u32>,
    /// Modification time, nanoseconds since the epoch, for what came from a file.
    pub mtime_ns: Option<i64>,
    /// A link's target, raw. In JSON: `link`, and `link_b64` where it is not UTF-8.
    pub link: Option<Vec<u8>>,
    /// For SQLite stores: what was seen at the capture.
    pub sqlite: Option<SqliteInfo>,
}

/// What an artifact is. Those of v1 keep their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// The git history as a git bundle.
    GitBundle,
    /// The store `long_term`.
    SqliteLongTerm,
    /// The store `vector`.
    SqliteVector,
    /// The store `concepts`.
    SqliteConcepts,
    /// The store `compactions`.
    SqliteCompactions,
    /// Any other store; its name is in `sqlite.store`.
    Sqlite,
    /// The extractor's cursor.
    StateExtractCursor,
    /// The last dream run.
    StateDreamRun,
    /// A regular file of the memdir.
    MemoryFile,
    /// A folder of the memdir.
    MemoryDir,
    /// A symbolic link of the memdir.
    MemorySymlink,
}

/// A SQLite store as captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteInfo {
    /// Its name in the layout.
    pub store: StoreName,
    /// Page size in bytes.
    pub page_size: u32,
    /// Pages.
    pub page_count: u32,
    /// Journal mode of the live file: `wal`, `delete`, `truncate`, `persist`.
    pub journal_mode: String,
    /// `ok`, `not_checked`, or the first findings of `integrity_check` at the capture.
    pub integrity: String,
}

/// The memdir's repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitInfo {
    /// The commit that HEAD names; absent while its branch is unborn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_oid: Option<GitOid>,
    /// First line of that commit's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_subject: Option<String>,
    /// Its author, `name <mail>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_author: Option<String>,
    /// Its time, milliseconds since the epoch, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_ts_ms: Option<i64>,
    /// HEAD's branch (`refs/heads/main`); absent when detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_ref: Option<String>,
    /// Every ref but HEAD and the stash.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_LISTED>")]
    pub refs: Vec<GitRef>,
    /// Stash entries, newest first; entry n travels as `refs/nexo/stash/<n>`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MAX_LISTED>"
    )]
    pub stash: Vec<GitStash>,
    /// Commits whose parents are cut off, for a shallow repository.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MAX_LISTED>"
    )]
    pub shallow: Vec<GitOid>,
}

/// A ref: an object, or another ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitRef {
    /// Full name.
    pub name: String,
    /// The object, for a direct ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<GitOid>,
    /// The other ref's name, for a symbolic one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// One stash entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitStash {
    /// Its commit.
    pub oid: GitOid,
    /// Its message in the stash's reflog.
    pub message: String,
}

/// What a redaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactionReport {
    /// Policy name.
    pub policy: String,
    /// Rules that matched.
    #[serde(deserialize_with = "at_most::<_, _, MAX_LISTED>")]
    pub rules_applied: Vec<String>,
    /// Matches replaced.
    pub matches_redacted: u64,
    /// Paths of the artifacts changed.
    #[serde(deserialize_with = "at_most::<_, _, MAX_LISTED>")]
    pub artifacts_touched: Vec<String>,
    /// Matches replaced in each of them, in the same order.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MAX_LISTED>"
    )]
    pub matches_per_artifact: Vec<u64>,
    /// The whole snapshot that this is a redacted copy of, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<SnapshotId>,
    /// What became of the git history.
    #[serde(default)]
    pub git_history: GitHistory,
    /// Signatures of commits and tags that their new content made void, and that were left out.
    #[serde(default)]
    pub signatures_dropped: u64,
    /// Vectors of redacted texts that were deleted.
    #[serde(default)]
    pub vectors_deleted: u64,
    /// What else is not as it was: an index that a restored agent must build anew.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MAX_LISTED>"
    )]
    pub notes: Vec<String>,
    /// That what was written was read back and searched; 0.1.x did not, and has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<RedactionReceipt>,
}

/// What was searched once it was written, and came out clean: a bundle that does not is never finished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactionReceipt {
    /// Whether the search found nothing.
    pub clean: bool,
    /// Bytes of content that were searched, decompressed.
    pub bytes_searched: u64,
    /// Rules that it was searched by.
    pub rules: u64,
    /// Different secrets that were taken out and looked for again.
    pub secrets: u64,
}

/// How a bundle is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionInfo {
    /// `age-x25519` or `age-scrypt`.
    pub scheme: String,
    /// Fingerprints of the recipients.
    #[serde(deserialize_with = "at_most::<_, _, MAX_LISTED>")]
    pub recipients_fingerprint: Vec<String>,
}

/// That the holder of a key signed a snapshot of this id, agent, tenant and time. It says nothing of what
/// the snapshot holds, so it may stand beside an encrypted bundle; what is inside is signed by
/// `manifest.json.minisig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The key, as minisign names it: 16 upper-case hexadecimal digits.
    pub key_id: String,
    /// An Ed25519 signature, base64. What it is over is in `docs/format.md`.
    pub signature: String,
}

/// The bundle that another was rewritten from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Its format: [`BUNDLE_FORMAT_V1`].
    pub bundle_format: String,
    /// SHA-256 of its file.
    pub bundle_sha256: Sha256Digest,
    /// Its seal, over the digests of what it held.
    pub seal: Sha256Digest,
    /// What asked for it, in its words.
    pub created_by: String,
    /// Its label, where that could not be taken over as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Versions of what wrote it.
    #[serde(default, deserialize_with = "few_versions")]
    pub tool_versions: BTreeMap<String, String>,
}

/// What the capture could not carry or hold still.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestCapture {
    /// Left out, with the reason.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_LISTED>")]
    pub not_carried: Vec<NotCarried>,
    /// Memory files that changed around the cut; each is whole, but not of that instant.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_LISTED>")]
    pub unstable: Vec<UnstableFile>,
}

/// Something that the bundle does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCarried {
    /// Path in the memdir, or another name for it.
    pub path: String,
    /// The reason.
    pub why: String,
}

/// A memory file that changed around the cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnstableFile {
    /// Path in the memdir.
    pub path: String,
    /// What was seen.
    pub why: String,
}

/// The version fields alone: they are believed before anything else is.
#[derive(Deserialize)]
pub(crate) struct Versions {
    pub(crate) manifest_version: u32,
    pub(crate) bundle_format: String,
}

impl Manifest {
    /// Parses and checks a v2 manifest.
    ///
    /// # Errors
    /// [`ParseError::TooNew`] for a newer major, before anything else is believed;
    /// [`ParseError::Manifest`] for every other fault.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ParseError::Manifest(format!("larger than {MAX_MANIFEST_BYTES} bytes")));
        }
        let versions: Versions = serde_json::from_slice(bytes).map_err(not_json)?;
        check_versions(versions.manifest_version, &versions.bundle_format)?;
        let manifest: Self = serde_json::from_slice(bytes).map_err(not_json)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The exact bytes of `manifest.json`: indented JSON with a final newline.
    ///
    /// # Errors
    /// [`ParseError::Manifest`] where the value breaks the invariant; nothing that could not be
    /// read again is ever written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ParseError> {
        self.validate()?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(not_json)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ParseError::Manifest(format!("larger than {MAX_MANIFEST_BYTES} bytes")));
        }
        Ok(bytes)
    }

    /// The artifact at `path`.
    #[must_use]
    pub fn artifact(&self, path: &BundlePath) -> Option<&Artifact> {
        self.artifacts.iter().find(|a| a.path == *path)
    }

    /// The SQLite stores.
    pub fn stores(&self) -> impl Iterator<Item = (&SqliteInfo, &Artifact)> {
        self.artifacts.iter().filter_map(|a| a.sqlite.as_ref().map(|info| (info, a)))
    }

    /// The memory files, folders and links, with their paths relative to the memdir.
    pub fn memory_entries(&self) -> impl Iterator<Item = (BundlePath, &Artifact)> {
        self.artifacts
            .iter()
            .filter_map(|a| Some((a.path.strip_prefix(path_in_bundle::MEMORY_FILES)?, a)))
    }

    /// Sum of the artifacts' sizes, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.artifacts.iter().fold(0, |sum, a| sum.saturating_add(a.size_bytes))
    }

    /// Every list but that of the artifacts, with its length.
    fn lists(&self) -> Vec<(&'static str, usize)> {
        let git = self.git.iter().flat_map(|git| {
            [("refs", git.refs.len()), ("stash", git.stash.len()), ("shallow", git.shallow.len())]
        });
        let redactions = self.redactions.iter().flat_map(|done| {
            [
                ("rules_applied", done.rules_applied.len()),
                ("artifacts_touched", done.artifacts_touched.len()),
                ("matches_per_artifact", done.matches_per_artifact.len()),
                ("notes", done.notes.len()),
            ]
        });
        let encryption = self.encryption.iter();
        let encryption =
            encryption.map(|info| ("recipients_fingerprint", info.recipients_fingerprint.len()));
        let rest = [
            ("tool_versions", self.tool_versions.len()),
            ("not_carried", self.capture.not_carried.len()),
            ("unstable", self.capture.unstable.len()),
        ];
        let origin = self.rewritten_from.iter();
        let origin = origin.map(|from| ("rewritten_from.tool_versions", from.tool_versions.len()));
        git.chain(redactions).chain(encryption).chain(origin).chain(rest).collect()
    }

    fn validate(&self) -> Result<(), ParseError> {
        let bad = |text: String| Err(ParseError::Manifest(text));
        if self.artifacts.len() > MAX_ARTIFACTS {
            return bad(format!("more than {MAX_ARTIFACTS} artifacts"));
        }
        if let Some((what, _)) = self.lists().into_iter().find(|(_, items)| *items > MAX_LISTED) {
            return bad(format!("more than {MAX_LISTED} items in {what}"));
        }
        let mut paths = HashSet::with_capacity(self.artifacts.len());
        let mut links_and_files = HashSet::new();
        for artifact in &self.artifacts {
            artifact.validate()?;
            if !paths.insert(artifact.path.as_bytes()) {
                return bad(format!("{:?} is listed twice", artifact.path));
            }
            if artifact.kind != ArtifactKind::MemoryDir {
                links_and_files.insert(artifact.path.as_bytes());
            }
        }
        for artifact in &self.artifacts {
            if parents(artifact.path.as_bytes()).any(|p| links_and_files.contains(p)) {
                return bad(format!("{:?} lies below something that is no folder", artifact.path));
            }
        }
        Ok(())
    }
}

impl Artifact {
    /// A folder of the memdir.
    #[must_use]
    pub fn dir(path: BundlePath, mode: u32, mtime_ns: i64) -> Self {
        Self {
            path,
            kind: ArtifactKind::MemoryDir,
            size_bytes: 0,
            sha256: Sha256Digest::of(b""),
            mode: Some(mode),
            mtime_ns: Some(mtime_ns),
            link: None,
            sqlite: None,
        }
    }

    /// A symbolic link of the memdir.
    #[must_use]
    pub fn symlink(path: BundlePath, target: Vec<u8>, mtime_ns: i64) -> Self {
        Self {
            path,
            kind: ArtifactKind::MemorySymlink,
            size_bytes: 0,
            sha256: Sha256Digest::of(&target),
            mode: None,
            mtime_ns: Some(mtime_ns),
            link: Some(target),
            sqlite: None,
        }
    }

    fn validate(&self) -> Result<(), ParseError> {
        let bad = |why: &str| Err(ParseError::Manifest(format!("{:?} {why}", self.path)));
        if !self.kind.admits(&self.path, self.sqlite.as_ref()) {
            return bad("does not lie where its kind belongs");
        }
        if self.link.is_some() != (self.kind == ArtifactKind::MemorySymlink) {
            return bad("is a link without a target, or has one and is none");
        }
        if let Some(target) = &self.link {
            if target.is_empty()
                || target.len() > crate::path::MAX_PATH_BYTES
                || target.contains(&0)
            {
                return bad("has a link target of no or over 4096 bytes, or with NUL");
            }
            if !holds(Sha256Digest::of(target) == self.sha256) {
                return bad("has a link target that is not the one of its digest");
            }
        }
        let contentless =
            matches!(self.kind, ArtifactKind::MemoryDir | ArtifactKind::MemorySymlink);
        if contentless && self.size_bytes != 0 {
            return bad("is no file but has a size");
        }
        if self.kind == ArtifactKind::MemoryDir && !holds(self.sha256 == Sha256Digest::of(b"")) {
            return bad("is a folder but has a digest");
        }
        if self.mode.is_some_and(|m| m > 0o7777) {
            return bad("has more than permission bits in its mode");
        }
        match &self.sqlite {
            Some(info)
                if info.page_size < 512
                    || info.page_size > 65536
                    || !info.page_size.is_power_of_two() =>
            {
                bad("has an impossible page size")
            }
            Some(info)
                if u64::from(info.page_size) * u64::from(info.page_count) != self.size_bytes =>
            {
                bad("has pages that are not its size")
            }
            _ => Ok(()),
        }
    }
}

impl ArtifactKind {
    /// The kind under which `store` travels.
    #[must_use]
    pub fn of_store(store: &StoreName) -> Self {
        match store.as_str() {
            "long_term" => Self::SqliteLongTerm,
            "vector" => Self::SqliteVector,
            "concepts" => Self::SqliteConcepts,
            "compactions" => Self::SqliteCompactions,
            _ => Self::Sqlite,
        }
    }

    /// Whether there are bytes to read: a folder has none, and a link's target is in the manifest.
    #[must_use]
    pub const fn has_content(self) -> bool {
        !matches!(self, Self::MemoryDir | Self::MemorySymlink)
    }

    fn admits(self, path: &BundlePath, sqlite: Option<&SqliteInfo>) -> bool {
        let at = |text: &str| sqlite.is_none() && path.as_str() == Some(text);
        match self {
            Self::GitBundle => at(path_in_bundle::GIT_BUNDLE),
            Self::StateExtractCursor => at(path_in_bundle::EXTRACT_CURSOR),
            Self::StateDreamRun => at(path_in_bundle::DREAM_RUN),
            Self::MemoryFile | Self::MemoryDir | Self::MemorySymlink => {
                sqlite.is_none() && path.strip_prefix(path_in_bundle::MEMORY_FILES).is_some()
            }
            Self::SqliteLongTerm
            | Self::SqliteVector
            | Self::SqliteConcepts
            | Self::SqliteCompactions
            | Self::Sqlite => sqlite.is_some_and(|info| {
                Self::of_store(&info.store) == self && info.store.bundle_path() == *path
            }),
        }
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::GitBundle => "git_bundle",
            Self::SqliteLongTerm => "sqlite_long_term",
            Self::SqliteVector => "sqlite_vector",
            Self::SqliteConcepts => "sqlite_concepts",
            Self::SqliteCompactions => "sqlite_compactions",
            Self::Sqlite => "sqlite",
            Self::StateExtractCursor => "state_extract_cursor",
            Self::StateDreamRun => "state_dream_run",
            Self::MemoryFile => "memory_file",
            Self::MemoryDir => "memory_dir",
            Self::MemorySymlink => "memory_symlink",
        };
        f.pad(name)
    }
}

/// JSON form of [`Artifact`].
#[derive(Serialize, Deserialize)]
struct ArtifactJson {
    path_in_bundle: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    kind: ArtifactKind,
    size_bytes: u64,
    sha256: Sha256Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sqlite: Option<SqliteInfo>,
}

impl Serialize for Artifact {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (path_in_bundle, path_b64) = to_text(self.path.as_bytes());
        let (link, link_b64) = self.link.as_deref().map(to_text).unzip();
        ArtifactJson {
            path_in_bundle,
            path_b64,
            kind: self.kind,
            size_bytes: self.size_bytes,
            sha256: self.sha256,
            mode: self.mode,
            mtime_ns: self.mtime_ns,
            link,
            link_b64: link_b64.flatten(),
            sqlite: self.sqlite.clone(),
        }
        .serialize(s)
    }
}

impl<'de> Deserialize<'de> for Artifact {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let json = ArtifactJson::deserialize(d)?;
        let path = from_text(json.path_in_bundle, json.path_b64).map_err(D::Error::custom)?;
        let link = match (json.link, json.link_b64) {
            (None, None) => None,
            (None, Some(_)) => return Err(D::Error::custom("link_b64 without link")),
            (Some(link), b64) => Some(from_text(link, b64).map_err(D::Error::custom)?),
        };
        Ok(Self {
            path: BundlePath::from_bytes(&path).map_err(D::Error::custom)?,
            kind: json.kind,
            size_bytes: json.size_bytes,
            sha256: json.sha256,
            mode: json.mode,
            mtime_ns: json.mtime_ns,
            link,
            sqlite: json.sqlite,
        })
    }
}

/// A list of at most `MAX` items; of a longer one no more is kept.
pub(crate) fn at_most<'de, D, T, const MAX: usize>(d: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    d.deserialize_seq(AtMost::<T, MAX>(PhantomData))
}

/// Counts items while they are read.
struct AtMost<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}

/// The same of names with values.
pub(crate) fn few_versions<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    d.deserialize_map(FewVersions)
}

struct FewVersions;

impl<'de> Visitor<'de> for FewVersions {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_LISTED} versions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, version)) = items.next_entry()? {
            map.insert(name, version);
            if map.len() > MAX_LISTED {
                return Err(A::Error::invalid_length(map.len(), &self));
            }
        }
        Ok(map)
    }
}

/// Refuses newer majors, and formats that are not ours.
fn check_versions(version: u32, format: &str) -> Result<(), ParseError> {
    too_new(version, format)?;
    match version == MANIFEST_VERSION && format == BUNDLE_FORMAT {
        true => Ok(()),
        false => Err(ParseError::Manifest(format!(
            "{} with manifest version {version} is not {BUNDLE_FORMAT}",
            crate::error::excerpt(format)
        ))),
    }
}

/// Refuses newer majors, naming both versions, and what is of nobody's format.
pub(crate) fn too_new(version: u32, format: &str) -> Result<(), ParseError> {
    let major = format.strip_prefix("nexo-memory-snapshot-v").and_then(|v| v.parse::<u32>().ok());
    match major {
        None => Err(ParseError::Manifest("it is not a nexo-memory-snapshot manifest".into())),
        Some(major) if major > MANIFEST_VERSION || version > MANIFEST_VERSION => {
            Err(ParseError::TooNew {
                found: format!("{} with manifest version {version}", crate::error::excerpt(format)),
                supported: format!("{BUNDLE_FORMAT} with manifest version {MANIFEST_VERSION}"),
            })
        }
        Some(_) => Ok(()),
    }
}

pub(crate) fn not_json(e: serde_json::Error) -> ParseError {
    ParseError::Manifest(format!("not as documented: {e}"))
}

/// Text of raw bytes, and the bytes in base64 where the text does not say them.
#[must_use]
pub fn to_text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(BASE64.encode(bytes))),
    }
}

/// The inverse of [`to_text`]; the two may not disagree.
fn from_text(text: String, b64: Option<String>) -> Result<Vec<u8>, &'static str> {
    let Some(b64) = b64 else { return Ok(text.into_bytes()) };
    let bytes = BASE64.decode(b64).map_err(|_| "not base64")?;
    if to_text(&bytes).0 != text || std::str::from_utf8(&bytes).is_ok() {
        return Err("text and base64 form disagree");
    }
    Ok(bytes)
}

/// Every proper parent of `path`, longest first.
pub(crate) fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().rev().filter(|&(_, &b)| b == b'/').map(|(at, _)| &path[..at])
}
