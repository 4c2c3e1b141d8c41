//! A copy of a bundle outside the vault, checked on the way.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use snapshot_bundle::{BUNDLE_EXTENSION, Bundle, DIGEST_EXTENSION, ENCRYPTED_EXTENSION};
use snapshot_core::mutants::holds;
use snapshot_core::{
    Control, Encryption, ExportForm, ExportRequest, Manifest, RedactionOptions, Sidecar,
    SnapshotId, SnapshotMeta, Step,
};
use snapshot_fs::{Dir, FsError};
use snapshot_stores::room;

use super::copy::{Watch, copy_file};
use super::extract::taken;
use super::open::{Located, Opened, sidecar_name};
use super::redact::{Redacted, RedactedAs};
use super::seal::git_map;
use super::v1::refuse_v1;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;
use crate::keys::Recipients;

/// Mode of what is written: a copy is as private as its source.
const FILE_MODE: u32 = 0o600;

/// Names of the files written, in the order of writing.
struct Names {
    bundle: String,
    sum: String,
    sidecar: String,
}

impl Engine {
    /// Copies a bundle, its checksum file and its summary to a folder, or under another name, encrypted for
    /// others or in the clear where that is asked for; returns their paths. Nothing that is there is
    /// replaced. Redacted, it is another bundle with an id of its own, in the clear unless it is encrypted for
    /// others; the ids of the git objects that it has in place of others stay in the vault.
    ///
    /// # Errors
    /// As [`Engine::resolve`]; `Refused` where something lies there; `Integrity` where the bundle
    /// is not what its summary says, and then nothing is written; `Encryption` where it must be opened and
    /// cannot be.
    pub fn export(
        &self,
        req: &ExportRequest,
        ctl: &Control,
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let meta = self.resolve(&req.tenant, Some(&req.agent_id), &req.from)?;
        refuse_v1(&meta)?;
        let recipients = match &req.form {
            ExportForm::For(key) => {
                let key = Encryption::For(key.clone());
                self.recipients(&req.tenant, &req.agent_id, &key)?
            }
            ExportForm::AsIs | ExportForm::Clear => None,
        };
        let (as_is, encrypted) = match (&req.form, &req.redact) {
            (ExportForm::AsIs, None) => (true, meta.encrypted),
            (ExportForm::For(_), _) => (false, true),
            (ExportForm::AsIs | ExportForm::Clear, _) => (false, false),
        };
        // For a copy of what is encrypted its contents need not be looked at, and may be nobody's here to read.
        let opened = (!as_is || !encrypted).then(|| self.open(&meta, ctl)).transpose()?;
        let source = self.locate(&meta, ctl)?;
        let id = if req.redact.is_some() { self.parts.ids.next_id() } else { meta.id };
        let (dir, names) = self.destination(&req.to, id, encrypted)?;
        for name in names.all() {
            if dir.stat(name)?.is_some() {
                return Err(SnapshotError::Exists { path: dir.path().join(name) });
            }
        }
        room(&dir, meta.bundle_size_bytes)?;
        let sidecar = match (&opened, &req.redact) {
            (Some(opened), Some(options)) => {
                let named = RedactedAs::copy_of(opened.bundle.manifest(), id, recipients);
                self.redact_out(&opened.bundle, options, named, (&dir, &names.bundle), ctl)?
            }
            (Some(opened), None) if !as_is => {
                self.reseal_out(&opened.bundle, recipients.as_ref(), &dir, &names.bundle, ctl)?
            }
            (opened, _) => copy_out(source, opened.as_ref(), &meta, (&dir, &names.bundle), ctl)?,
        };
        write_beside(&dir, &names, &sidecar).inspect_err(|_| {
            if req.redact.is_some() {
                self.drop_git_map(&meta, id, ctl);
            }
        })?;
        Ok(names.all().iter().map(|name| dir.path().join(name)).collect())
    }

    /// Writes the bundle into another envelope; returns its summary.
    fn reseal_out(
        &self,
        bundle: &Bundle,
        recipients: Option<&Recipients>,
        dir: &Dir,
        name: &str,
        ctl: &Control,
    ) -> Result<Sidecar, SnapshotError> {
        let (temp, file) = dir.create_temp(FILE_MODE)?;
        let written =
            self.reseal(bundle, None, recipients, (dir, file), ctl).and_then(|(file, sidecar)| {
                file.sync()?;
                dir.rename_new(&temp, name).map_err(taken)?;
                Ok(sidecar)
            });
        if written.is_err() {
            // The error that led here is the one to report.
            let _ = dir.unlink(&temp);
        }
        written
    }

    /// Writes the bundle without its secrets; returns its summary.
    fn redact_out(
        &self,
        whole: &Bundle,
        options: &RedactionOptions,
        named: RedactedAs,
        (dir, name): (&Dir, &str),
        ctl: &Control,
    ) -> Result<Sidecar, SnapshotError> {
        let Manifest { tenant, agent_id, .. } = whole.manifest();
        let id = named.id;
        let lock =
            self.parts.vault.agent(tenant, agent_id).lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        let spool = lock.staging()?;
        let (temp, file) = dir.create_temp(FILE_MODE)?;
        let redacted = self.redact(whole, options, named, (spool.dir(), file), ctl);
        let written = redacted.and_then(|Redacted { out, manifest, file, ids }| {
            if !ids.is_empty() {
                lock.keep_git_map(id, &git_map(&ids))?;
            }
            out.sync()?;
            dir.rename_new(&temp, name).map_err(taken)?;
            Ok(Sidecar::new(&manifest, file))
        });
        if written.is_err() {
            // The error that led here is the one to report.
            let _ = dir.unlink(&temp);
            let _ = lock.drop_git_map(id);
        }
        written
    }

    /// Of a copy that did not come about no map is to be kept. The error that led here is the one to report.
    fn drop_git_map(&self, of: &SnapshotMeta, id: SnapshotId, ctl: &Control) {
        let agent = self.parts.vault.agent(&of.tenant, &of.agent_id);
        let lock = agent.lock(ctl.wait_until(LOCK_TIMEOUT), ctl);
        let _ = lock.and_then(|lock| lock.drop_git_map(id));
    }

    /// The folder to write to, made where it is missing, and the names in it. What a killed export left there
    /// goes, for it is somebody's memory.
    fn destination(
        &self,
        to: &Path,
        id: SnapshotId,
        encrypted: bool,
    ) -> Result<(Dir, Names), SnapshotError> {
        let bad = |why| SnapshotError::Path { path: to.to_owned(), why };
        let text = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let extension = if encrypted { ENCRYPTED_EXTENSION } else { BUNDLE_EXTENSION };
        let is_name = |name: &String| {
            [ENCRYPTED_EXTENSION, BUNDLE_EXTENSION].iter().any(|end| name.ends_with(end))
        };
        let (folder, bundle) = match text(to).filter(|name| is_name(name) && !to.is_dir()) {
            Some(name) if !name.ends_with(extension) => {
                return Err(bad(match encrypted {
                    true => "the name of an encrypted bundle ends in .tar.zst.age",
                    false => "the name of a bundle in the clear ends in .tar.zst",
                }));
            }
            Some(name) => (to.parent().unwrap_or(Path::new("")), name),
            None => (to, format!("{id}{extension}")),
        };
        let folder = if folder == Path::new("") { Path::new(".") } else { folder };
        let sidecar = sidecar_name(&bundle).filter(|name| !name.starts_with('.'));
        let sidecar = sidecar.ok_or_else(|| bad("a bundle's name ends in .tar.zst"))?;
        let dir = self.folder_outside(folder)?;
        for killed in dir.dead_temps()? {
            dir.unlink(killed)?;
        }
        Ok((dir, Names { sum: format!("{bundle}{DIGEST_EXTENSION}"), sidecar, bundle }))
    }
}

impl Names {
    fn all(&self) -> [&str; 3] {
        [&self.bundle, &self.sum, &self.sidecar]
    }
}

/// Copies the bundle as it lies there; returns its summary.
fn copy_out(
    mut source: Located,
    opened: Option<&Opened>,
    meta: &SnapshotMeta,
    (dir, name): (&Dir, &str),
    ctl: &Control,
) -> Result<Sidecar, SnapshotError> {
    let said = source.sidecar.take();
    let made = || opened.map(|opened| opened.bundle.sidecar(meta.bundle_sha256, None));
    // One that was found without opening it was found by its summary.
    let said = said.or_else(made).ok_or_else(|| SnapshotError::Unusable {
        path: source.path.clone(),
        id: Some(meta.id),
        why: "its summary is gone".to_owned(),
    })?;
    let sidecar = Sidecar { rekeyed: false, ..said };
    copy_bundle(&mut source.file, &source.path, &sidecar, dir, name, ctl)?;
    Ok(sidecar)
}

/// Writes what lies beside a bundle; where that fails, nothing of the export stays.
fn write_beside(dir: &Dir, names: &Names, sidecar: &Sidecar) -> Result<(), SnapshotError> {
    let sum = format!("{}  {}\n", sidecar.bundle_sha256, names.bundle);
    let beside = sidecar.to_bytes().map_err(SnapshotError::from).and_then(|bytes| {
        dir.write_atomic(&names.sum, sum.as_bytes(), FILE_MODE)?;
        Ok(dir.write_atomic(&names.sidecar, &bytes, FILE_MODE)?)
    });
    if beside.is_err() {
        for name in names.all() {
            // The error that led here is the one to report.
            let _ = dir.unlink(name);
        }
    }
    beside
}

/// Copies the bundle to `name` in `dir`, where it appears once it is durable and has the summary's
/// digest.
fn copy_bundle(
    source: &mut File,
    path: &Path,
    sidecar: &Sidecar,
    dir: &Dir,
    name: &str,
    ctl: &Control,
) -> Result<(), SnapshotError> {
    let (temp, mut file) = dir.create_temp(FILE_MODE)?;
    let watch =
        Watch { step: Step::Seal, before: 0, total: sidecar.bundle_size_bytes, control: ctl };
    let out = file.path().to_owned();
    let copied = copy_file(source, path, watch, |bytes| {
        Ok(file.write_all(bytes).map_err(FsError::io("write", &out))?)
    })
    .and_then(|sha256| match holds(sha256 == sidecar.bundle_sha256) {
        true => Ok(()),
        false => Err(SnapshotError::Unusable {
            id: Some(sidecar.snapshot_id),
            path: path.to_owned(),
            why: format!("its SHA-256 is {sha256}, its summary says {}", sidecar.bundle_sha256),
        }),
    })
    .and_then(|()| Ok(file.sync()?))
    .and_then(|()| dir.rename_new(&temp, name).map_err(taken));
    if copied.is_err() {
        // The error that led here is the one to report.
        let _ = dir.unlink(&temp);
    }
    copied
}
