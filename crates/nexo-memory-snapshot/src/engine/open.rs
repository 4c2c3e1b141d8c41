//! Opening a bundle, in the vault or outside of it, with the summary beside it.

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use snapshot_bundle::{
    AnyBundle, BUNDLE_EXTENSION, Bundle, BundleError, ENCRYPTED_EXTENSION, SIDECAR_EXTENSION,
};
use snapshot_core::mutants::holds;
use snapshot_core::{
    AgentId, Control, ErrorKind, Manifest, ManifestV1, Sha256Digest, Sidecar, SignatureStatus,
    SnapshotId, SnapshotMeta, Step, Tenant,
};
use snapshot_fs::{Dir, FileLock, FsError, LockMode};
use snapshot_vault::{AgentLock, AgentVault, REKEYED_EXTENSION, VaultError};

use super::copy::{Watch, copy_file};
use super::{Engine, LOCK_TIMEOUT, v1};
use crate::error::SnapshotError;

/// A bundle open for reading. While it lives no delete takes it out of the vault.
pub(super) struct Opened {
    pub(super) bundle: Bundle,
    pub(super) sidecar: Option<Sidecar>,
    _reading: Option<FileLock>,
}

/// A bundle's file, before anything in it was looked at.
pub(super) struct Located {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) sidecar: Option<Sidecar>,
    reading: Option<FileLock>,
}

/// One that lies in no vault.
impl From<Bundle> for Opened {
    fn from(bundle: Bundle) -> Self {
        Self { bundle, sidecar: None, _reading: None }
    }
}

impl Engine {
    /// Opens the bundle of `meta`, which must be the one that it speaks of; one of 0.1.x is rewritten for that.
    /// Where the summary cannot say which contents that are, for they are encrypted, and no trusted key does, the
    /// file is read once.
    pub(super) fn open(&self, meta: &SnapshotMeta, ctl: &Control) -> Result<Opened, SnapshotError> {
        self.open_under(None, meta, ctl)
    }

    /// The same for somebody who has the agent's lock.
    pub(super) fn open_under(
        &self,
        lock: Option<&AgentLock>,
        meta: &SnapshotMeta,
        ctl: &Control,
    ) -> Result<Opened, SnapshotError> {
        let (opened, file) = self.open_part(lock, meta, ctl)?;
        let Some(said) = opened.sidecar.as_ref().filter(|said| said.root_digest.is_none()) else {
            return Ok(opened);
        };
        let signed = opened.bundle.check_signature(self.trust())?;
        if signed.is_some_and(|report| report.status == SignatureStatus::Trusted) {
            return Ok(opened);
        }
        let found = digest_of(file, &meta.bundle_path, said.bundle_size_bytes, ctl)?;
        match holds(found == said.bundle_sha256) {
            true => Ok(opened),
            false => Err(other_than_said(&meta.bundle_path, meta)),
        }
    }

    /// The same for whoever verifies it whole before anything of it is used.
    pub(super) fn open_to_verify(
        &self,
        meta: &SnapshotMeta,
        ctl: &Control,
    ) -> Result<Opened, SnapshotError> {
        Ok(self.open_part(None, meta, ctl)?.0)
    }

    /// Opens the bundle, and gives its file too.
    fn open_part(
        &self,
        lock: Option<&AgentLock>,
        meta: &SnapshotMeta,
        ctl: &Control,
    ) -> Result<(Opened, File), SnapshotError> {
        let located = self.locate(meta, ctl)?;
        let again = located.file.try_clone().map_err(FsError::io("open", &located.path))?;
        let said = located.sidecar.as_ref();
        let opened = self
            .open_any(located.file, &located.path)
            .map_err(|e| locked_or_damaged(e, &again, (&located.path, Some(meta.id)), said))?;
        let found = match &opened {
            AnyBundle::V2(bundle) => {
                let Manifest { tenant, agent_id, snapshot_id, .. } = bundle.manifest();
                place(tenant, agent_id, *snapshot_id)
            }
            AnyBundle::V1(bundle) => {
                let ManifestV1 { tenant, agent_id, snapshot_id, .. } = bundle.manifest();
                place(tenant, agent_id, *snapshot_id)
            }
        };
        let expected = place(&meta.tenant, &meta.agent_id, meta.id);
        if !holds(found == expected) {
            let why = format!("it holds {found}, not {expected}");
            let id = Some(meta.id);
            return Err(SnapshotError::Unusable { path: located.path, id, why });
        }
        let bundle = match opened {
            AnyBundle::V2(bundle) => bundle,
            // One of 0.1.x never had a summary: this one was written for another file.
            AnyBundle::V1(_) if located.sidecar.is_some() => {
                return Err(other_than_said(&located.path, meta));
            }
            AnyBundle::V1(old) => {
                let sum = self.sum_beside(&located.path)?;
                let agent = self.parts.vault.agent(&meta.tenant, &meta.agent_id);
                let rewrite =
                    |lock: &AgentLock| self.rewritten(lock, (&old, &located.path), sum, false, ctl);
                let bundle = match lock {
                    Some(lock) => rewrite(lock),
                    None => rewrite(&agent.lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?),
                };
                return Ok((bundle?.into(), again));
            }
        };
        // Through its manifest the digest covers every byte that will be read.
        let recorded = located.sidecar.as_ref().and_then(|sidecar| sidecar.root_digest);
        if !holds(recorded.is_none_or(|recorded| recorded == bundle.root_digest())) {
            return Err(other_than_said(&located.path, meta));
        }
        let opened = Opened { bundle, sidecar: located.sidecar, _reading: located.reading };
        Ok((opened, again))
    }

    /// Finds the file of `meta`, and the summary beside it.
    pub(super) fn locate(
        &self,
        meta: &SnapshotMeta,
        ctl: &Control,
    ) -> Result<Located, SnapshotError> {
        ctl.check()?;
        let Some(agent) = self.vault_of(meta) else {
            return self.locate_outside(&meta.bundle_path);
        };
        let reading = match agent.vault_lock(LockMode::Shared, ctl.wait_until(LOCK_TIMEOUT), ctl) {
            Ok(lock) => Some(lock),
            // A vault that we may only read: an open file stays readable whatever happens to it.
            Err(e) if e.kind() == ErrorKind::Io => None,
            Err(e) => return Err(e.into()),
        };
        let open = match agent.open_bundle(meta.id) {
            // A bundle that lies in the vault without its summary, and was named by its path.
            Err(unknown @ VaultError::UnknownSnapshot { .. }) => {
                return self.locate_outside(&meta.bundle_path).map_err(|_| unknown.into());
            }
            open => open?,
        };
        Ok(Located { file: open.file, path: open.path, sidecar: Some(open.sidecar), reading })
    }

    /// The agent's part of the vault, where the bundle of `meta` lies in it.
    pub(super) fn vault_of(&self, meta: &SnapshotMeta) -> Option<AgentVault> {
        let agent = self.parts.vault.agent(&meta.tenant, &meta.agent_id);
        (meta.bundle_path.parent() == Some(&agent.snapshots_path())).then_some(agent)
    }

    /// The meta of the bundle at `path`, by its own manifest. What a summary beside it says must be what is
    /// expected, before the bundle is looked at.
    pub(super) fn meta_of_path(
        &self,
        path: &Path,
        expect: impl Fn(SnapshotMeta) -> Result<SnapshotMeta, SnapshotError>,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let path = self.canonical(path)?;
        let mut located = self.locate_outside(&path)?;
        if let Some(said) = &located.sidecar {
            expect(said.to_meta(path.clone()))?;
        }
        let stat = Dir::stat_file(&located.file, &path)?;
        let meta = match located.sidecar.take() {
            // Without its identity its summary is all there is; whoever opens it compares the two.
            Some(said) if said.encryption.is_some() => said.to_meta(path),
            said => {
                let control = &Control::default();
                let watch = Watch { step: Step::Verify, before: 0, total: stat.size, control };
                let sha256 = match &said {
                    Some(said) => said.bundle_sha256,
                    None => copy_file(&mut located.file, &path, watch, |_| Ok(()))?,
                };
                match (self.open_any(located.file, &path)?, said) {
                    (AnyBundle::V2(bundle), said) => {
                        bundle.sidecar(sha256, said.as_ref()).to_meta(path)
                    }
                    // Whoever opens it sees that it is not the one that its summary was written for.
                    (AnyBundle::V1(_), Some(said)) => said.to_meta(path),
                    (AnyBundle::V1(bundle), None) => v1::meta_of(&bundle, &path, sha256),
                }
            }
        };
        // A path into the vault by another name (a link above it) is that snapshot.
        let own = self.parts.vault.agent(&meta.tenant, &meta.agent_id).snapshots_path();
        let parent = meta.bundle_path.parent().map(Path::to_owned);
        match (own.canonicalize().ok() == parent, meta.bundle_path.file_name()) {
            (true, Some(name)) => Ok(SnapshotMeta { bundle_path: own.join(name), ..meta }),
            _ => Ok(meta),
        }
    }

    /// The bundle of 0.1.x that lies at this path of the vault, as its name says, without reading it whole; none
    /// where it is another. Of one that nothing here opens, `by_its_sum` says whether it is one.
    pub(super) fn v1_meta(
        &self,
        path: &Path,
        id: SnapshotId,
        by_its_sum: bool,
    ) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let located = self.locate_outside(path)?;
        let stat = Dir::stat_file(&located.file, path)?;
        // Whoever reads it whole compares the two.
        let Some(sum) = self.sum_beside(path)? else { return Ok(None) };
        let Some((tenant, agent)) = self.parts.vault.owner(path) else { return Ok(None) };
        let identities = self.known_identities(&located.file, path)?;
        let meta = match AnyBundle::open_with(located.file, path, &identities) {
            Ok(AnyBundle::V1(bundle)) => v1::meta_of(&bundle, path, sum),
            Ok(AnyBundle::V2(_)) => return Ok(None),
            Err(e) if by_its_sum && e.kind() == ErrorKind::Encryption => {
                v1::sealed_meta((&tenant, &agent, id), path, (stat.size, stat.mtime_ns), sum)
            }
            Err(e) => return Err(e.into()),
        };
        let own = (&meta.tenant, &meta.agent_id, meta.id) == (&tenant, &agent, id);
        Ok(own.then_some(meta))
    }

    /// The bundle's one path, whatever links lead to it.
    pub(super) fn canonical(&self, path: &Path) -> Result<PathBuf, SnapshotError> {
        path.canonicalize().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SnapshotError::UnknownSnapshot {
                wanted: path.display().to_string(),
                whose: "any agent".to_owned(),
                root: self.root().to_owned(),
            },
            _ => FsError::Io { op: "look at", path: path.to_owned(), source }.into(),
        })
    }

    /// A bundle that is not in the vault; its summary is optional.
    pub(super) fn locate_outside(&self, path: &Path) -> Result<Located, SnapshotError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SnapshotError::Path { path: path.to_owned(), why: "it is no file" });
        };
        let dir = self.parts.fs.open_dir(parent)?;
        let file = dir.open_file(name)?;
        let sidecar = match name.to_str().and_then(sidecar_name) {
            Some(name) => read_sidecar(&dir, &name)?,
            None => None,
        };
        Ok(Located { file, path: path.to_owned(), sidecar, reading: None })
    }
}

/// The name of the summary of a bundle of this name.
pub(super) fn sidecar_name(bundle: &str) -> Option<String> {
    let suffixes = [REKEYED_EXTENSION, ENCRYPTED_EXTENSION, BUNDLE_EXTENSION];
    let stem = suffixes.iter().find_map(|suffix| bundle.strip_suffix(suffix))?;
    Some(format!("{stem}{SIDECAR_EXTENSION}"))
}

fn read_sidecar(dir: &Dir, name: &str) -> Result<Option<Sidecar>, SnapshotError> {
    let path = dir.path().join(name);
    match dir.read(name, Sidecar::MAX_BYTES as u64) {
        Ok(bytes) => {
            Ok(Some(Sidecar::parse(&bytes).map_err(|source| VaultError::Sidecar { path, source })?))
        }
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A snapshot's place, as people read it.
pub(super) fn place(tenant: &Tenant, agent: &AgentId, id: SnapshotId) -> String {
    format!("{tenant}/{agent}/{id}")
}

fn other_than_said(path: &Path, meta: &SnapshotMeta) -> SnapshotError {
    let why = "it is another bundle than its summary says".to_owned();
    SnapshotError::Unusable { path: path.to_owned(), id: Some(meta.id), why }
}

/// The digest of a whole file.
fn digest_of(
    mut file: File,
    path: &Path,
    total: u64,
    control: &Control,
) -> Result<Sha256Digest, SnapshotError> {
    file.rewind().map_err(FsError::io("read", path))?;
    copy_file(&mut file, path, Watch { step: Step::Verify, before: 0, total, control }, |_| Ok(()))
}

/// Whether no identity that was given opens the bundle.
pub(super) const fn is_locked(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Bundle(BundleError::WrongIdentity { .. }))
}

/// What nobody can open for a damaged header must not look like a missing key.
pub(super) fn locked_or_damaged(
    error: SnapshotError,
    file: &File,
    (path, id): (&Path, Option<SnapshotId>),
    said: Option<&Sidecar>,
) -> SnapshotError {
    if !is_locked(&error) || !differs(file, said) {
        return error;
    }
    let why = "it is not the file that its summary was written for, and no identity here opens it"
        .to_owned();
    SnapshotError::Unusable { path: path.to_owned(), id, why }
}

/// Whether a file is known not to be its summary's.
pub(super) fn differs(mut file: &File, said: Option<&Sidecar>) -> bool {
    let found = file.rewind().and_then(|()| Sha256Digest::of_reader(file));
    said.is_some_and(|said| found.is_ok_and(|found| !holds(found == said.bundle_sha256)))
}
