//! Bundles of 0.1.x: unpacked into a private folder as if an agent lived there, and captured from it as any
//! memory is.
//!
//! Invariants: what one of them brings about is a bundle of ours, so everything that is done with one has one
//! way through the code; nothing of it is used before the whole of it was read and right; of its repository
//! objects and refs are taken, and nothing that git obeys.

use std::collections::BTreeSet;
use std::io::{Read, Write as _};
use std::path::Path;

use snapshot_bundle::{Bundle, BundleError, BundleV1, BundleWriter, WriteOptions};
use snapshot_core::{
    AgentId, Artifact, ArtifactKind, ArtifactSink, ArtifactV1, BUNDLE_FORMAT_V1, BundlePath, Clock,
    Control, CreatedBy, FileSpec, MANIFEST_VERSION, MAX_ARTIFACTS, Manifest, ManifestV1,
    MemoryLayout, NotCarried, PortError, Provenance, SchemaVersions, Sha256Digest, SnapshotId,
    SnapshotMeta, StateLayout, Step, Tenant, path_in_bundle,
};
use snapshot_fs::{Dir, FsError};
use snapshot_stores::git::RawRepo;
use snapshot_stores::{CaptureOptions, Captured, MAX_STATE_BYTES, StoresError, cut, room};
use snapshot_vault::AgentLock;

use super::beside::check_said;
use super::copy::{CopyError, Watch, copy};
use super::extract::place;
use super::seal::{About, manifest};
use super::snapshot::{MAX_LABEL_BYTES, refusal};
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

/// What made a snapshot whose maker's name is none of ours.
const UNNAMED: &str = "imported";
/// What stands for a label's control characters.
const CONTROL: char = '\u{fffd}';
/// Mode of the folders in the private one.
const MODE: u32 = 0o700;
/// Names in the private folder.
const MEMDIR: &str = "memdir";
const HISTORY: &str = "history";
/// What is written while a bundle is rewritten, in multiples of what it holds: itself unpacked, a pack's index or a
/// database's log, the pack of its history, and the bundle that comes of it.
const SPACE: u64 = 4;
/// What SQLite obeys beside a database: a journal may name a file that is then removed. A log holds rows, and
/// is read.
const OBEYED: [&str; 2] = ["-journal", "-shm"];
/// What lies beside a database that is open.
const BESIDE_A_DATABASE: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// The time of the capture: when the bundle was made.
struct At(i64);

/// A memory that is laid out.
struct Unpacked<'a> {
    bundle: &'a BundleV1,
    path: &'a Path,
    root: Dir,
    memdir: Option<Dir>,
    repo: Option<RawRepo<'a>>,
    /// Stores that the bundle holds a consistent copy of.
    stores: BTreeSet<String>,
    /// Its memory files, by their paths in the memdir.
    files: BTreeSet<BundlePath>,
    not_carried: Vec<NotCarried>,
}

/// A bundle in which memory files have no mode and no time: 0.1.x did not keep them, and a restore leaves
/// those of the live ones.
struct Unstamped<S>(S);

impl Engine {
    /// A bundle of 0.1.x, rewritten: private, in the clear, unsigned, its open file without a name. `sum` is
    /// what the checksum file beside it says.
    pub(super) fn rewritten(
        &self,
        lock: &AgentLock,
        (bundle, path): (&BundleV1, &Path),
        sum: Option<Sha256Digest>,
        check_integrity: bool,
        ctl: &Control,
    ) -> Result<Bundle, SnapshotError> {
        check_entries(bundle.manifest(), path)?;
        let (folder, spool, out) = (lock.staging()?, lock.staging()?, lock.staging()?);
        room(folder.dir(), bundle.manifest().total_bytes().saturating_mul(SPACE))?;
        let mut unpacked = Unpacked::begin(self, (bundle, path), folder.dir(), ctl)?;
        let sha256 =
            bundle.unpack(ctl, &mut |artifact, content| unpacked.put(artifact, content))?;
        check_said("checksum file", sum, sha256, (path, Some(bundle.manifest().snapshot_id)))?;
        let old = bundle.manifest();
        let capture = CaptureOptions {
            agent: &old.agent_id,
            fs: &self.parts.fs,
            spool: spool.dir(),
            clock: &At(old.created_at_ms),
            state: None,
            timeout: LOCK_TIMEOUT,
            control: ctl,
            max_git_object_bytes: self.parts.max_git_object_bytes,
            check_integrity,
        };
        let write = |unpacked: &Unpacked<'_>, name: &str| {
            let threads = self.parts.threads;
            let opts = WriteOptions { threads, ..WriteOptions::new(old.created_at_ms) };
            let file = out.dir().create_new(name, 0o600)?;
            let mut writer = Unstamped(BundleWriter::new(file, &opts, ctl.clone())?);
            let captured = unpacked.capture(&capture, &mut writer)?;
            let manifest = rewritten_manifest(lock, old, sha256, captured);
            let written = writer.0.finish(&manifest)?.out;
            let path = written.path().to_owned();
            let bundle = Bundle::open(written.into_reader()?, &path)?;
            self.check_history(&bundle, spool.dir(), ctl)?;
            Ok::<_, SnapshotError>(bundle)
        };
        match write(&unpacked, "first") {
            // Its history is none that a restore would take: 0.1.x read it while git wrote, or nobody ever looked at
            // it. All else is there.
            Err(e) if unpacked.repo.is_some() && is_about_history(&e) => {
                unpacked.leave_out_history(&e)?;
                write(&unpacked, "second")
            }
            written => written,
        }
    }

    /// That a restore takes the history of `bundle`.
    fn check_history(
        &self,
        bundle: &Bundle,
        spool: &Dir,
        ctl: &Control,
    ) -> Result<(), SnapshotError> {
        let manifest = bundle.manifest();
        let Some(info) = &manifest.git else { return Ok(()) };
        let git = manifest.artifacts.iter().find(|a| a.kind == ArtifactKind::GitBundle);
        spool.remove_tree(HISTORY)?;
        spool.create_dir(HISTORY, MODE)?;
        let into = spool.sub(HISTORY)?;
        room(&into, git.map_or(0, |git| snapshot_stores::git::unpacked_bytes(git.size_bytes)))?;
        let mut content = git.map(|git| bundle.read(&git.path)).transpose()?;
        let content = content.as_mut().map(|content| content as &mut dyn Read);
        let limit = self.parts.max_git_object_bytes;
        snapshot_stores::git::stage(content, info, &into, limit, ctl)?;
        Ok(spool.remove_tree(HISTORY)?)
    }
}

/// What is told of a bundle of 0.1.x by its own manifest, which nothing vouches for.
pub(super) fn meta_of(bundle: &BundleV1, path: &Path, sha256: Sha256Digest) -> SnapshotMeta {
    let old = bundle.manifest();
    SnapshotMeta {
        id: old.snapshot_id,
        agent_id: old.agent_id.clone(),
        tenant: old.tenant.clone(),
        label: label(old),
        created_at_ms: old.created_at_ms,
        bundle_path: path.to_owned(),
        bundle_size_bytes: bundle.file_bytes(),
        bundle_sha256: sha256,
        git_oid: None,
        schema_versions: old.schema_versions,
        encrypted: bundle.encryption().is_some(),
        encryption: bundle.encryption().cloned(),
        redactions_applied: is_redacted(old),
        whole: None,
        attestation: None,
        created_by: Some(created_by(old)),
        capture: None,
    }
}

/// What is known of one that nothing here opens: its name, and the time of its file.
pub(super) fn sealed_meta(
    (tenant, agent, id): (&Tenant, &AgentId, SnapshotId),
    path: &Path,
    (size, mtime_ns): (u64, i64),
    sha256: Sha256Digest,
) -> SnapshotMeta {
    SnapshotMeta {
        id,
        agent_id: agent.clone(),
        tenant: tenant.clone(),
        label: None,
        created_at_ms: mtime_ns.div_euclid(1_000_000),
        bundle_path: path.to_owned(),
        bundle_size_bytes: size,
        bundle_sha256: sha256,
        git_oid: None,
        schema_versions: SchemaVersions { manifest: 1, ..SchemaVersions::CURRENT },
        encrypted: true,
        encryption: None,
        redactions_applied: false,
        whole: None,
        attestation: None,
        created_by: None,
        capture: None,
    }
}

/// Refuses what is only done with a bundle of ours.
pub(super) fn refuse_v1(meta: &SnapshotMeta) -> Result<(), SnapshotError> {
    match meta.is_v1() {
        true => Err(SnapshotError::Predecessor { path: meta.bundle_path.clone() }),
        false => Ok(()),
    }
}

impl<'a> Unpacked<'a> {
    fn begin(
        engine: &'a Engine,
        (bundle, path): (&'a BundleV1, &'a Path),
        root: &Dir,
        control: &'a Control,
    ) -> Result<Self, SnapshotError> {
        let stores = bundle.manifest().artifacts.iter().filter_map(ArtifactV1::store);
        let files = bundle.manifest().artifacts.iter();
        let files = files.filter_map(|a| a.path.strip_prefix(path_in_bundle::MEMORY_FILES));
        let mut unpacked = Self {
            bundle,
            path,
            root: root.clone(),
            memdir: None,
            repo: None,
            stores: stores.map(|store| store.to_string()).collect(),
            files: files.collect(),
            not_carried: Vec::new(),
        };
        let kinds = || bundle.manifest().artifacts.iter().map(|artifact| artifact.kind);
        if kinds().any(|kind| kind == ArtifactKind::GitBundle) {
            let memdir = unpacked.memdir()?;
            unpacked.repo =
                Some(RawRepo::begin(&memdir, engine.parts.max_git_object_bytes, control)?);
        } else if kinds().any(|kind| kind == ArtifactKind::MemoryFile) {
            unpacked.memdir()?;
        }
        Ok(unpacked)
    }

    fn memdir(&mut self) -> Result<Dir, SnapshotError> {
        if let Some(memdir) = &self.memdir {
            return Ok(memdir.clone());
        }
        self.root.create_dir(MEMDIR, MODE)?;
        let memdir = self.root.sub(MEMDIR)?;
        Ok(self.memdir.insert(memdir).clone())
    }

    /// Puts one artifact where an agent would have it.
    fn put(&mut self, artifact: &ArtifactV1, content: &mut dyn Read) -> Result<(), SnapshotError> {
        if let Some(path) = artifact.in_git() {
            let Some(repo) = &self.repo else { return Ok(()) };
            return match repo.put(&path, artifact.size_bytes, content) {
                Ok(_) => Ok(()),
                // What fails to be read is the bundle's fault, and no history's.
                Err(StoresError::Io { source, .. }) if is_bundles(&source) => {
                    Err(self.unread(artifact, source))
                }
                Err(e) if e.is_about_git() => self.leave_out_history(&e),
                Err(e) => Err(e.into()),
            };
        }
        let is_state =
            matches!(artifact.kind, ArtifactKind::StateExtractCursor | ArtifactKind::StateDreamRun);
        if is_state && artifact.size_bytes > MAX_STATE_BYTES {
            let why = format!("a piece of runtime state of over {MAX_STATE_BYTES} bytes");
            self.not_carried.push(NotCarried { path: artifact.path.to_string(), why });
            return Ok(());
        }
        let memory = artifact.path.strip_prefix(path_in_bundle::MEMORY_FILES);
        match memory {
            None => self.write(&self.root.clone(), &artifact.path, artifact, content),
            Some(path) => match self.why_not(&path) {
                Some(why) => {
                    self.not_carried.push(NotCarried { path: path.to_string(), why });
                    Ok(())
                }
                None => {
                    let memdir = self.memdir()?;
                    self.write(&memdir, &path, artifact, content)
                }
            },
        }
    }

    /// Why a memory file is not taken: it would be a part of the repository, SQLite would obey it, or it is a raw
    /// file of a database whose copy is there.
    fn why_not(&self, path: &BundlePath) -> Option<String> {
        let first = path.as_bytes().split(|&byte| byte == b'/').next().unwrap_or_default();
        if snapshot_stores::git::is_dot_git(first) {
            return Some("a memory file that would lie in the repository".to_owned());
        }
        let is_raw = |store: &&String| {
            let names = BESIDE_A_DATABASE.map(|end| format!("{store}.sqlite{end}"));
            path.as_str().is_some_and(|path| names.iter().any(|name| name == path))
        };
        if let Some(store) = self.stores.iter().find(is_raw) {
            let why = "of which the bundle holds a consistent copy";
            return Some(format!("a raw file of store {store}, {why}"));
        }
        let base = OBEYED.iter().find_map(|end| path.as_bytes().strip_suffix(end.as_bytes()))?;
        let base = BundlePath::from_bytes(base).ok()?;
        let beside = self.files.contains(&base);
        beside.then(|| format!("SQLite would take it for the journal of {base}"))
    }

    fn write(
        &self,
        below: &Dir,
        path: &BundlePath,
        artifact: &ArtifactV1,
        content: &mut dyn Read,
    ) -> Result<(), SnapshotError> {
        let (dir, name) = place(below, path, MODE)?;
        let mut file = dir.create_new(name, 0o600)?;
        let at = file.path().to_owned();
        // Its own progress is told by whoever unpacks.
        let quiet = Control::default();
        let watch = Watch { step: Step::Stage, before: 0, total: 0, control: &quiet };
        let copied = copy(content, watch, |bytes| {
            Ok(file.write_all(bytes).map_err(FsError::io("write", &at))?)
        });
        copied.map(drop).map_err(|e| match e {
            CopyError::Read(source) => self.unread(artifact, source),
            CopyError::Other(e) => e,
        })
    }

    fn unread(&self, artifact: &ArtifactV1, source: std::io::Error) -> SnapshotError {
        CopyError::Read(source).of_artifact(&artifact.path, self.path)
    }

    /// A repository that cannot be used is left out, and a restore will empty no other for it.
    fn leave_out_history(
        &mut self,
        why: &(dyn std::error::Error + 'static),
    ) -> Result<(), SnapshotError> {
        self.repo = None;
        if let Some(memdir) = &self.memdir {
            memdir.remove_tree(".git")?;
        }
        // Where it was laid out is nobody's business, and gone.
        let place = format!("{}/", self.root.path().join(MEMDIR).display());
        let why = snapshot_core::error_chain(why).replace(&place, "");
        self.not_carried.push(snapshot_stores::not_usable("git history", &why));
        Ok(())
    }

    /// Captures what was laid out.
    fn capture(
        &self,
        opts: &CaptureOptions<'_>,
        sink: &mut dyn ArtifactSink,
    ) -> Result<Captured, SnapshotError> {
        let stores = self.bundle.manifest().artifacts.iter();
        let stores = stores.filter_map(|artifact| {
            Some((artifact.store()?, self.root.path().join(artifact.path.as_path())))
        });
        let state = self.root.path().join("state");
        let layout = MemoryLayout {
            memdir: self.memdir.as_ref().map(|memdir| memdir.path().to_owned()),
            stores: stores.collect(),
            state: StateLayout::json_dir(&state),
            parts_optional: true,
        };
        if self.memdir.is_none() && layout.stores.is_empty() && !state.exists() {
            // 0.1.x made a snapshot of nothing.
            return Ok(Captured::default());
        }
        let mut pinned = cut(&layout, opts)?;
        let (found, declared) = (pinned.stores_bytes(), self.bundle.manifest().total_bytes());
        if found > declared {
            let why = format!(
                "its databases say that they have {found} bytes, and all of it has {declared}"
            );
            let id = Some(self.bundle.manifest().snapshot_id);
            return Err(SnapshotError::Unusable { path: self.path.to_owned(), id, why });
        }
        let mut captured = pinned.write_to(sink)?;
        captured.artifacts.iter_mut().for_each(unstamp);
        captured.capture.not_carried.extend(self.not_carried.iter().cloned());
        Ok(captured)
    }
}

impl Clock for At {
    fn now_ms(&self) -> i64 {
        self.0
    }
}

impl<S: ArtifactSink> ArtifactSink for Unstamped<S> {
    fn put_file(&mut self, spec: FileSpec, content: &mut dyn Read) -> Result<Artifact, PortError> {
        self.0.put_file(FileSpec { mode: None, mtime_ns: None, ..spec }, content)
    }

    fn put_entry(&mut self, artifact: &Artifact) -> Result<(), PortError> {
        let mut artifact = artifact.clone();
        unstamp(&mut artifact);
        self.0.put_entry(&artifact)
    }
}

fn unstamp(artifact: &mut Artifact) {
    (artifact.mode, artifact.mtime_ns) = (None, None);
}

/// Whether it is a history that cannot be taken over; a manifest refuses more refs than it may have.
fn is_about_history(error: &SnapshotError) -> bool {
    match error {
        SnapshotError::Stores(e) => e.is_about_git(),
        SnapshotError::Bundle(e) => matches!(e, BundleError::ManifestRefused { .. }),
        _ => false,
    }
}

/// Whether reading the bundle failed, and not writing what was read.
fn is_bundles(error: &std::io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.is::<BundleError>())
}

/// That a bundle of ours has room for what it holds: there folders count, too.
fn check_entries(old: &ManifestV1, path: &Path) -> Result<(), SnapshotError> {
    let mut folders = BTreeSet::new();
    let memory = old.artifacts.iter().filter(|a| a.kind == ArtifactKind::MemoryFile);
    let mut files = 0;
    for artifact in memory {
        files += 1;
        folders.extend(artifact.path.as_path().ancestors().skip(1));
    }
    let entries = files + folders.len();
    if entries <= MAX_ARTIFACTS {
        return Ok(());
    }
    let why = format!("it has {entries} memory files and folders; {MAX_ARTIFACTS} are the most");
    Err(SnapshotError::Unusable { path: path.to_owned(), id: Some(old.snapshot_id), why })
}

fn rewritten_manifest(
    lock: &AgentLock,
    old: &ManifestV1,
    sha256: Sha256Digest,
    captured: Captured,
) -> Manifest {
    let about = About { label: label(old), ..About::unnamed(created_by(old)) };
    let (manifest, _) = manifest(lock, &about, old.snapshot_id, old.created_at_ms, captured);
    let provenance = Provenance {
        bundle_format: BUNDLE_FORMAT_V1.to_owned(),
        bundle_sha256: sha256,
        seal: old.seal,
        created_by: old.created_by.clone(),
        label: old.label.clone().filter(|_| old.label != manifest.label),
        tool_versions: old.tool_versions.clone(),
    };
    Manifest {
        schema_versions: SchemaVersions { manifest: MANIFEST_VERSION, ..old.schema_versions },
        redactions: old.redactions.clone().filter(|_| is_redacted(old)),
        rewritten_from: Some(provenance),
        ..manifest
    }
}

/// Where it was asked for and found nothing, nothing is missing.
fn is_redacted(old: &ManifestV1) -> bool {
    old.redactions.as_ref().is_some_and(|report| report.matches_redacted > 0)
}

fn created_by(old: &ManifestV1) -> CreatedBy {
    old.created_by.parse().unwrap_or(CreatedBy::from_static(UNNAMED))
}

/// The label, as far as ours can be like it.
fn label(old: &ManifestV1) -> Option<String> {
    let label = old.label.as_ref()?;
    if refusal(label).is_none() {
        return Some(label.clone());
    }
    let mut label = label.replace(char::is_control, CONTROL.encode_utf8(&mut [0; 4]));
    label.truncate(label.floor_char_boundary(MAX_LABEL_BYTES));
    Some(label).filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a label of 0.1.x that makes its bundle unreadable, or reaches a terminal raw.
    #[test]
    fn any_label_becomes_one_of_ours_or_none() {
        let manifest = |label: &str| -> ManifestV1 {
            let json = serde_json::json!({
                "snapshot_id": "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d", "agent_id": "ana",
                "tenant": "default", "created_at_ms": 1, "created_by": "Admin UI: ops",
                "label": label, "schema_versions": SchemaVersions::CURRENT, "artifacts": [],
                "bundle_sha256": Sha256Digest::of(b"") });
            serde_json::from_value(json).unwrap()
        };
        assert_eq!(label(&manifest("")), None);
        assert_eq!(label(&manifest("before \"dream\"")).as_deref(), Some("before \"dream\""));
        assert_eq!(label(&manifest("a\n\u{1b}[31mb")).as_deref(), Some("a\u{fffd}\u{fffd}[31mb"));
        let long = label(&manifest(&"ä".repeat(200))).unwrap();
        assert_eq!(long, "ä".repeat(128));
        assert_eq!(refusal(&label(&manifest(&"\n".repeat(300))).unwrap()), None);
        assert_eq!(created_by(&manifest("")).as_str(), UNNAMED);
    }
}
