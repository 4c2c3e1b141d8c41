//! The artifacts of a bundle, written again without their secrets.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind, Read};

use serde::de::IgnoredAny;
use snapshot_bundle::Bundle;
use snapshot_bundle::redact::{Replacer, redact_reader};
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink, ArtifactSource, BundlePath, Control, FileSpec,
    GitHistory, GitInfo, GitOid, NameOf, NotCarried, RedactionOptions, RedactionReport, Redactor,
    Step, path_in_bundle,
};
use snapshot_fs::{Dir, FsError};
use snapshot_stores::StoresError;
use snapshot_stores::redact::RedactedRows;

use super::search::{Watched, unread};
use super::store::Store;
use crate::error::SnapshotError;

/// Largest content that is redacted in memory, in bytes; what is larger goes through a file.
const IN_MEMORY_BYTES: u64 = 1 << 20;
/// Name of a content on its way, in the spool.
const CONTENT: &str = "redacted-content";
/// What is left to do about what cannot be redacted.
const CHOICES: &str =
    "rename it, or say in the policy (memory.snapshot.redaction.allow) that it is no secret";

/// Writes a bundle's artifacts without their secrets.
pub(super) struct Writing<'a, 'k> {
    pub(super) bundle: &'a Bundle,
    pub(super) replacer: &'a mut Replacer<'k>,
    pub(super) options: &'a RedactionOptions,
    /// A private folder.
    pub(super) spool: &'a Dir,
    pub(super) max_git_object_bytes: u64,
    pub(super) control: &'a Control,
}

/// What was written.
pub(super) struct Written {
    pub(super) artifacts: Vec<Artifact>,
    pub(super) git: Option<GitInfo>,
    /// Old git objects, and what stands in their places.
    pub(super) ids: BTreeMap<GitOid, GitOid>,
    /// What was left out on request.
    pub(super) left_out: Vec<NotCarried>,
    /// Without its receipt.
    pub(super) report: RedactionReport,
    /// Bytes of the whole bundle that are done with.
    done: u64,
}

impl<'a, 'k> Writing<'a, 'k> {
    /// Writes everything that is shipped into `sink`; gives back what takes secrets out, that knows the new ids.
    ///
    /// The history comes first, for what names its old objects must name the new ones. The rows of all stores, and
    /// then the files, come before the end of any store, for a vector may lie in another place than its text.
    pub(super) fn run(
        mut self,
        sink: &mut dyn ArtifactSink,
    ) -> Result<(Written, &'a Replacer<'k>), SnapshotError> {
        let mut written = Written {
            artifacts: Vec::new(),
            git: None,
            ids: BTreeMap::new(),
            left_out: self.left_out(),
            report: RedactionReport {
                git_history: self.options.git_history,
                ..RedactionReport::default()
            },
            done: 0,
        };
        self.put_history(&mut written, sink)?;
        let (mut rows, mut taken) = (RedactedRows::new(), HashSet::new());
        let stores = self.redact_stores(&mut rows, &mut written)?;
        let others = self.bundle.manifest().artifacts.iter();
        let others = others.filter(|a| a.kind != ArtifactKind::GitBundle && a.sqlite.is_none());
        for artifact in others {
            self.control.check()?;
            let path = self.path(artifact)?;
            if !taken.insert(path.clone()) {
                return Err(unredactable("the names of two memory files", "they would become one"));
            }
            let put = match artifact.kind {
                ArtifactKind::MemoryDir | ArtifactKind::MemorySymlink => {
                    self.put_entry(artifact, path, sink)?
                }
                _ => self.put_file(artifact, path, sink)?,
            };
            let matches = self.taken(&mut written.report);
            let own = artifact.path.strip_prefix(path_in_bundle::MEMORY_FILES);
            if let Some(path) = own.filter(|_| matches > 0) {
                rows.note_outside(&path.to_string());
            }
            self.note(&mut written, artifact, put, matches);
        }
        for store in stores {
            self.control.check()?;
            let (artifact, matches) = (store.artifact, store.matches);
            let put = store.put(&self, &rows, &mut written.report, sink)?;
            self.note(&mut written, artifact, put, matches);
        }
        Ok((written, self.replacer))
    }

    /// That an artifact was written, and how much of it was replaced.
    fn note(&self, written: &mut Written, artifact: &Artifact, put: Artifact, matches: u64) {
        if matches > 0 {
            written.report.artifacts_touched.push(put.path.to_string());
            written.report.matches_per_artifact.push(matches);
            written.report.matches_redacted += matches;
        }
        written.artifacts.push(put);
        written.done += artifact.size_bytes;
        self.control.advance(Step::Redact, written.done, self.bundle.manifest().total_bytes());
    }

    /// How much was replaced since this was last asked.
    pub(super) fn taken(&self, report: &mut RedactionReport) -> u64 {
        let counts = self.replacer.take_counts();
        for rule in counts.keys().map(ToString::to_string) {
            if let Err(at) = report.rules_applied.binary_search(&rule) {
                report.rules_applied.insert(at, rule);
            }
        }
        counts.values().sum()
    }

    fn left_out(&self) -> Vec<NotCarried> {
        let manifest = self.bundle.manifest();
        let dropped = self.options.drop_stores.iter();
        let mut left_out: Vec<_> = dropped
            .map(|store| snapshot_stores::left_out(&format!("store {store}"), "--drop-store"))
            .collect();
        let history = match self.options.git_history {
            _ if manifest.git.is_none() => None,
            GitHistory::Rewrite => None,
            GitHistory::HeadOnly => Some("git history before HEAD"),
            GitHistory::Drop => Some("git history"),
        };
        left_out.extend(history.map(|what| snapshot_stores::left_out(what, "--git-history")));
        left_out
    }

    /// Rewrites the history, writes it, and lets everything else know the new ids.
    fn put_history(
        &mut self,
        written: &mut Written,
        sink: &mut dyn ArtifactSink,
    ) -> Result<(), SnapshotError> {
        let manifest = self.bundle.manifest();
        let Some(info) = &manifest.git else { return Ok(()) };
        // A repository without a ref has no bundle.
        let git = manifest.artifacts.iter().find(|a| a.kind == ArtifactKind::GitBundle);
        let mut content = git.map(|artifact| self.bundle.open(&artifact.path)).transpose()?;
        let history = snapshot_stores::git::redact_history(
            content.as_mut().map(|content| content as &mut dyn Read),
            info,
            self.options.git_history,
            self.replacer,
            self.spool,
            self.max_git_object_bytes,
            self.control,
        )?;
        written.report.signatures_dropped = history.signatures_dropped;
        let text = |(old, new): (&GitOid, &GitOid)| (old.to_string(), new.to_string());
        self.replacer.set_ids(history.ids.iter().map(text).collect());
        written.ids = history.ids;
        let dropped = self.options.git_history == GitHistory::Drop;
        written.git = Some(history.bundle.info).filter(|_| !dropped);
        let matches = self.taken(&mut written.report);
        if let (Some(artifact), Some((mut file, size_bytes))) = (git, history.bundle.file) {
            let put = sink.put_file(FileSpec { size_bytes, ..spec(artifact) }, &mut file)?;
            self.note(written, artifact, put, matches);
        }
        Ok(())
    }

    /// Redacts the rows of every store that is shipped.
    fn redact_stores(
        &self,
        rows: &mut RedactedRows,
        written: &mut Written,
    ) -> Result<Vec<Store<'_>>, SnapshotError> {
        let shipped = self.bundle.manifest().stores();
        let shipped = shipped.filter(|(info, _)| !self.options.drop_stores.contains(&info.store));
        let stores = shipped.enumerate();
        stores
            .map(|(number, (info, artifact))| {
                Store::redact(self, number, (info, artifact), rows, &mut written.report)
            })
            .collect()
    }

    fn put_entry(
        &self,
        artifact: &Artifact,
        path: BundlePath,
        sink: &mut dyn ArtifactSink,
    ) -> Result<Artifact, SnapshotError> {
        let mtime_ns = artifact.mtime_ns.unwrap_or_default();
        let entry = match &artifact.link {
            Some(target) => {
                let target = redact_path(self.replacer, target).unwrap_or_else(|| target.clone());
                Artifact::symlink(path, target, mtime_ns)
            }
            None => Artifact::dir(path, artifact.mode.unwrap_or(0o700), mtime_ns),
        };
        sink.put_entry(&entry)?;
        Ok(entry)
    }

    fn put_file(
        &self,
        artifact: &Artifact,
        path: BundlePath,
        sink: &mut dyn ArtifactSink,
    ) -> Result<Artifact, SnapshotError> {
        let fail = |e| unread(&artifact.path.to_string(), e);
        let mut content = self.bundle.open(&artifact.path)?;
        // State is small, and must be seen whole to stay JSON.
        if artifact.size_bytes <= IN_MEMORY_BYTES || is_state(artifact) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(fail)?;
            if let Some(redacted) = self.replacer.redact(&bytes) {
                check_json(artifact, &bytes, &redacted)?;
                bytes = redacted;
            }
            let spec = FileSpec { path, size_bytes: bytes.len() as u64, ..spec(artifact) };
            return Ok(sink.put_file(spec, &mut bytes.as_slice())?);
        }
        self.spool.remove_tree(CONTENT)?;
        let mut file = self.spool.create_new(CONTENT, 0o600)?;
        let content = Watched { inner: &mut content, control: self.control };
        let full = |e: io::Error| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                FsError::io("write", &self.spool.path().join(CONTENT))(e).into()
            }
            _ => fail(e),
        };
        redact_reader(content, &mut file, self.replacer).map_err(full)?;
        let size_bytes = file.size()?;
        let mut file = file.into_reader()?;
        let spec = FileSpec { path, size_bytes, ..spec(artifact) };
        let put = sink.put_file(spec, &mut file)?;
        self.spool.unlink(CONTENT)?;
        Ok(put)
    }

    /// Where an artifact of the memdir lies in the redacted bundle.
    fn path(&self, artifact: &Artifact) -> Result<BundlePath, SnapshotError> {
        match artifact.kind {
            ArtifactKind::MemoryFile | ArtifactKind::MemoryDir | ArtifactKind::MemorySymlink => {
                match redact_path(self.replacer, artifact.path.as_bytes()) {
                    Some(path) => Ok(BundlePath::from_bytes(&path)?),
                    None => Ok(artifact.path.clone()),
                }
            }
            _ => self.same_path(artifact),
        }
    }

    /// The path of an artifact that has one place only.
    pub(super) fn same_path(&self, artifact: &Artifact) -> Result<BundlePath, SnapshotError> {
        match redact_path(self.replacer, artifact.path.as_bytes()) {
            None => Ok(artifact.path.clone()),
            Some(_) => {
                let what = format!("a {} of the bundle", kind_name(artifact));
                Err(unredactable(&what, "its name is a secret"))
            }
        }
    }
}

pub(super) fn spec(artifact: &Artifact) -> FileSpec {
    FileSpec {
        path: artifact.path.clone(),
        kind: artifact.kind,
        size_bytes: artifact.size_bytes,
        mode: artifact.mode,
        mtime_ns: artifact.mtime_ns,
    }
}

/// A path without its secrets, part by part; none where there are none.
fn redact_path(replacer: &Replacer<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let mut changed = false;
    let part = |part: &[u8]| match replacer.redact_name(part, NameOf::File) {
        Some(redacted) => {
            changed = true;
            redacted
        }
        None => part.to_vec(),
    };
    let parts: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').map(part).collect();
    changed.then(|| parts.join(&b'/'))
}

/// What was JSON must be JSON still: a host that reads its state back depends on it.
fn check_json(artifact: &Artifact, before: &[u8], after: &[u8]) -> Result<(), SnapshotError> {
    let is_json = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    if is_state(artifact) && is_json(before) && !is_json(after) {
        let why = "a secret in it is no part of a text, and without it this is no JSON any more";
        let what = artifact.path.to_string();
        return Err(StoresError::Unredactable { what, why: why.to_owned() }.into());
    }
    Ok(())
}

fn unredactable(what: &str, why: &str) -> SnapshotError {
    StoresError::Unredactable { what: what.to_owned(), why: format!("{why}; {CHOICES}") }.into()
}

fn is_state(artifact: &Artifact) -> bool {
    matches!(artifact.kind, ArtifactKind::StateExtractCursor | ArtifactKind::StateDreamRun)
}

fn kind_name(artifact: &Artifact) -> &'static str {
    if artifact.sqlite.is_some() { "store" } else { "part" }
}
