//! A bundle from elsewhere becomes a snapshot of the vault, and so does one that lies in the vault
//! without its summary.
//!
//! Invariant: what is published is what was verified: the copy in the vault, never the file that it was
//! copied from.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use snapshot_bundle::{AnyBundle, BundleV1, VerifiedBundle};
use snapshot_core::mutants::holds;
use snapshot_core::{
    AgentId, Control, Encryption, ManifestV1, Sha256Digest, Sidecar, SnapshotMeta, Step, Tenant,
};
use snapshot_fs::{Dir, FsError};
use snapshot_stores::room;
use snapshot_vault::{AgentLock, ProblemKind};

use super::beside::check_said;
use super::copy::{Watch, copy_file};
use super::open::locked_or_damaged;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;
use crate::keys::Recipients;

/// What the files beside a bundle say of it.
struct Beside {
    summary: Option<Sidecar>,
    sum: Option<Sha256Digest>,
}

/// A bundle that was taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The snapshot that it is now.
    pub meta: SnapshotMeta,
    /// Of a bundle of 0.1.x that lay in the vault: the folder that keeps it as it was.
    pub original: Option<PathBuf>,
}

/// Whose bundles are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// Bundles of this tenant.
    pub tenant: Tenant,
    /// And of this agent, where one is named.
    pub agent: Option<AgentId>,
    /// Or of any tenant: each goes to its own.
    pub foreign: bool,
    /// For whom those that come in the clear are encrypted.
    pub encrypt: Encryption,
}

impl Engine {
    /// Takes the bundle at `path` into the vault: copied, read whole and checked, its summary made
    /// anew, published. A bundle that lies in the vault without its summary stays where it is and gets
    /// one. A summary or checksum file beside it must agree.
    ///
    /// A bundle of 0.1.x is rewritten under its own id, with its provenance; an encrypted one without anything
    /// asked for or configured is encrypted for the recipient whose identity opened it. Where it lay in the
    /// vault its original is kept in the quarantine, unless that is in the clear and what takes its place is
    /// not.
    ///
    /// # Errors
    /// `Refused` where a snapshot of its id is there, it is of another tenant or agent, or a signature is
    /// required that it lacks; `Encryption` where it cannot be opened; `Integrity` for damage. Nothing of what
    /// was refused stays.
    pub fn import(
        &self,
        req: &ImportRequest,
        path: &Path,
        ctl: &Control,
    ) -> Result<Imported, SnapshotError> {
        let path = self.canonical(path)?;
        let mut source = self.locate_outside(&path)?;
        let beside = Beside { summary: source.sidecar.take(), sum: self.sum_beside(&path)? };
        // Looked at first, so that a stranger's bundle is refused before it is copied.
        let again = source.file.try_clone().map_err(FsError::io("open", &path))?;
        let opened = self.open_any(again, &path).map_err(|e| {
            locked_or_damaged(e, &source.file, (&path, None), beside.summary.as_ref())
        })?;
        let bundle = match opened {
            AnyBundle::V2(bundle) => bundle,
            AnyBundle::V1(old) => {
                if beside.summary.is_some() {
                    return Err(SnapshotError::Unusable {
                        path,
                        id: Some(old.manifest().snapshot_id),
                        why: "it is a bundle of 0.1.x, and the summary beside it is of another"
                            .to_owned(),
                    });
                }
                return self.import_v1(req, (&old, &source.file, &path), beside.sum, ctl);
            }
        };
        let manifest = bundle.manifest();
        check_owner(req, (&manifest.tenant, &manifest.agent_id), &path)?;
        let (id, tenant, agent_id) =
            (manifest.snapshot_id, manifest.tenant.clone(), manifest.agent_id.clone());
        let plain = bundle.encryption().is_none();
        // The copy is opened next, and two manifests at the limit are more than one needs.
        drop(bundle);
        let agent = self.parts.vault.agent(&tenant, &agent_id);
        let lock = agent.lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        if let Ok(there) = agent.meta(id) {
            return Err(SnapshotError::Exists { path: there.bundle_path });
        }
        let own = agent.snapshots_path().canonicalize().ok();
        let recipients = match plain || matches!(req.encrypt, Encryption::For(_)) {
            true => self.recipients(&tenant, &agent_id, &req.encrypt)?,
            false => None,
        };
        let meta = match own.is_some() && own.as_deref() == path.parent() {
            true => self.adopt(&lock, &mut source.file, &path, &beside, ctl)?,
            false => {
                let source = (&mut source.file, path.as_path());
                self.take_in(&lock, source, &beside, recipients.as_ref(), ctl)?
            }
        };
        drop(lock);
        self.note_check(&meta, None);
        Ok(Imported { meta, original: None })
    }

    /// Rewrites a bundle of 0.1.x, and publishes that.
    fn import_v1(
        &self,
        req: &ImportRequest,
        (old, file, path): (&BundleV1, &File, &Path),
        sum: Option<Sha256Digest>,
        ctl: &Control,
    ) -> Result<Imported, SnapshotError> {
        let ManifestV1 { tenant, agent_id, snapshot_id, .. } = old.manifest();
        check_owner(req, (tenant, agent_id), path)?;
        self.refuse_unsigned(path)?;
        let agent = self.parts.vault.agent(tenant, agent_id);
        let lock = agent.lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        if let Ok(there) = agent.meta(*snapshot_id) {
            return Err(SnapshotError::Exists { path: there.bundle_path });
        }
        let recipients = self.recipients(tenant, agent_id, &req.encrypt)?;
        let recipients = match (recipients, old.encryption()) {
            // What was encrypted is never in the clear afterwards.
            (None, Some(opened)) => self.known_identities(file, path)?.recipient_of(opened),
            (recipients, _) => recipients,
        };
        let bundle = self.rewritten(&lock, (old, path), sum, true, ctl)?;
        let staging = lock.staging()?;
        let out = (staging.dir(), staging.create_bundle()?);
        let (file, sidecar) = self.reseal(&bundle, None, recipients.as_ref(), out, ctl)?;
        drop(bundle);
        let own = agent.snapshots_path().canonicalize().ok();
        let here = path.file_name().filter(|_| own.is_some() && own.as_deref() == path.parent());
        // In the clear it would lie beside what is not any more.
        let keep = old.encryption().is_some() || recipients.is_none();
        let mut original = None;
        let meta = self.publish_imported(&lock, &sidecar, || match here {
            Some(name) if lock.is_bundle_of(name, *snapshot_id) => {
                let until = ctl.wait_until(LOCK_TIMEOUT);
                let old = (name, keep);
                let done = lock.supersede(staging, file, &sidecar, old, (until, ctl))?;
                original = done.1;
                Ok(done.0)
            }
            _ => Ok(lock.publish(staging, file, &sidecar)?),
        })?;
        drop(lock);
        self.note_check(&meta, None);
        Ok(Imported { meta, original })
    }

    /// The bundles that lie in the vault without a summary, those of 0.1.x too, of an agent or of all of the
    /// tenant.
    ///
    /// # Errors
    /// If a folder of the vault cannot be read.
    pub fn orphans(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let problems = self.list(tenant, agent)?.problems.into_iter();
        let is_orphan = |kind| matches!(kind, ProblemKind::Orphan | ProblemKind::V1);
        let orphans = problems.filter(|problem| is_orphan(problem.kind));
        Ok(orphans.map(|problem| problem.path).collect())
    }

    /// Copies a bundle in; where it is encrypted on the way, what is published is a copy of the verified copy.
    fn take_in(
        &self,
        lock: &AgentLock,
        (source, path): (&mut File, &Path),
        beside: &Beside,
        recipients: Option<&Recipients>,
        ctl: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let staging = lock.staging()?;
        let mut copy = staging.create_bundle()?;
        let (staged, total) = (copy.path().to_owned(), length(source, path)?);
        // One copy, and one more where it is encrypted on the way; age adds less than a sixteenth.
        let sealed = recipients.map_or(0, |_| total.saturating_add(total / 16));
        room(staging.dir(), total.saturating_add(sealed))?;
        let watch = Watch { step: Step::Stage, before: 0, total, control: ctl };
        let found = copy_file(source, path, watch, |bytes| {
            Ok(copy.write_all(bytes).map_err(FsError::io("write", &staged))?)
        })?;
        beside.check_sum(path, found)?;
        let name = staged.file_name().unwrap_or_default();
        let said = beside.summary.as_ref();
        // Of the copy, and told of by the name that was given.
        let copied = staging.dir().open_file(name)?;
        let (bundle, sidecar) = self.summary(copied, path, (found, said), ctl)?;
        beside.check_summary(path, &sidecar)?;
        let (staging, copy, sidecar) = match recipients {
            None => (staging, copy, sidecar),
            Some(recipients) => {
                let sealing = lock.staging()?;
                let out = (sealing.dir(), sealing.create_bundle()?);
                let (file, sidecar) =
                    self.reseal(bundle.bundle(), None, Some(recipients), out, ctl)?;
                (sealing, file, sidecar)
            }
        };
        self.publish_imported(lock, &sidecar, || Ok(lock.publish(staging, copy, &sidecar)?))
    }

    /// Gives a bundle of the vault its summary.
    fn adopt(
        &self,
        lock: &AgentLock,
        source: &mut File,
        path: &Path,
        beside: &Beside,
        ctl: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let total = length(source, path)?;
        let watch = Watch { step: Step::Verify, before: 0, total, control: ctl };
        let found = copy_file(source, path, watch, |_| Ok(()))?;
        beside.check_sum(path, found)?;
        let again = source.try_clone().map_err(FsError::io("open", path))?;
        let (_, sidecar) = self.summary(again, path, (found, beside.summary.as_ref()), ctl)?;
        beside.check_summary(path, &sidecar)?;
        self.publish_imported(lock, &sidecar, || Ok(lock.adopt(&sidecar)?))
    }

    /// The bundle, read whole and good, and the summary that it must have; `said` is the one beside it.
    fn summary(
        &self,
        file: File,
        path: &Path,
        (sha256, said): (Sha256Digest, Option<&Sidecar>),
        ctl: &Control,
    ) -> Result<(VerifiedBundle, Sidecar), SnapshotError> {
        let bundle = self.open_file(file, path)?;
        let sidecar = bundle.sidecar(sha256, said);
        let verified = bundle.into_verified(&self.verification(Some(&sidecar)), ctl)?;
        Ok((verified, sidecar))
    }

    pub(super) fn publish_imported(
        &self,
        lock: &AgentLock,
        sidecar: &Sidecar,
        publish: impl FnOnce() -> Result<SnapshotMeta, SnapshotError>,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let announced = self.announce_created(lock, &lock.agent().meta_of(sidecar));
        let meta = publish()?;
        announced.happened();
        Ok(meta)
    }
}

impl Beside {
    /// That the file is the one that they were written for.
    fn check_sum(&self, path: &Path, found: Sha256Digest) -> Result<(), SnapshotError> {
        let summary = self.summary.as_ref().map(|summary| summary.bundle_sha256);
        check_said("summary", summary, found, (path, None))?;
        check_said("checksum file", self.sum, found, (path, None))
    }

    /// That the summary says what `true_one` does, which was made of the bundle.
    fn check_summary(&self, path: &Path, true_one: &Sidecar) -> Result<(), SnapshotError> {
        match holds(self.summary.as_ref().is_none_or(|said| said == true_one)) {
            true => Ok(()),
            false => Err(SnapshotError::Unusable {
                path: path.to_owned(),
                id: None,
                why: "the summary beside it is not what the bundle says of itself".to_owned(),
            }),
        }
    }
}

fn check_owner(
    req: &ImportRequest,
    (tenant, owner): (&Tenant, &AgentId),
    path: &Path,
) -> Result<(), SnapshotError> {
    let agent_fits = req.agent.as_ref().is_none_or(|agent| agent == owner);
    if holds(agent_fits && (req.foreign || req.tenant == *tenant)) {
        return Ok(());
    }
    let agent = req.agent.as_ref().map_or("any agent", AgentId::as_str);
    Err(SnapshotError::Foreign {
        path: path.to_owned(),
        found: format!("{tenant}/{owner}"),
        expected: format!("{}/{agent}", req.tenant),
    })
}

fn length(file: &File, path: &Path) -> Result<u64, SnapshotError> {
    Ok(Dir::stat_file(file, path)?.size)
}
