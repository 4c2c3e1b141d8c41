//! The doctor and the bundles: a quick look at each, and what becomes of those that something is
//! wrong with.
//!
//! The judgement is always made anew, under the agent's lock and by reading the bundle whole: a note
//! of damage, or what the quick look saw, may come from a disk that failed for a moment.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

use snapshot_bundle::{Bundle, BundleError, is_encrypted, verify_file};
use snapshot_core::mutants::holds;
use snapshot_core::{Control, ErrorKind, Inside, Manifest, Sidecar, SnapshotId, Step, error_chain};
use snapshot_fs::{Dir, FsError};
use snapshot_vault::{AgentLock, AgentVault, Check, Notes, OpenBundle, ProblemKind, VaultError};

use super::super::beside::sum_path;
use super::super::copy::{Watch, copy_file};
use super::super::open::{differs, is_locked, place};
use super::super::{Engine, LOCK_TIMEOUT};
use super::{Finding, Round};
use crate::error::SnapshotError;
use crate::keys::Identities;

/// What a quick look saw.
struct Fault {
    kind: ProblemKind,
    path: PathBuf,
    why: String,
    /// Whether reading the bundle can decide it.
    decidable: bool,
}

/// What became of a bundle.
enum Judged {
    /// All is well with it, or is again.
    Mended(String),
    /// It is no snapshot, and lies here now.
    Aside(PathBuf, String),
    /// It stays as it is.
    Left(String),
}

/// A bundle that was read whole.
struct Whole {
    /// Whose it is and the summary that it must have, where it is sound; else what is wrong.
    inside: Result<(String, Sidecar), String>,
}

impl Round<'_> {
    /// Every bundle of the agent, with and without a sidecar.
    pub(super) fn bundles(&mut self, vault: &AgentVault) -> Result<(), SnapshotError> {
        let listing = vault.list()?;
        // What cannot be read says nothing of damage; it is a finding of its own.
        let notes = vault.notes().unwrap_or_default();
        let mut ids: Vec<SnapshotId> = listing.snapshots.iter().map(|meta| meta.id).collect();
        let beside =
            |kind| matches!(kind, ProblemKind::Sidecar | ProblemKind::TooNew | ProblemKind::Bundle);
        ids.extend(listing.problems.iter().filter(|p| beside(p.kind)).filter_map(|p| p.id));
        ids.sort_unstable();
        let mut sealed = 0;
        for &id in &ids {
            self.ctl.check()?;
            let is_sealed = self.engine.is_sealed(vault, id)?;
            sealed += u64::from(is_sealed);
            let Some(fault) = self.engine.look(vault, id, &notes)? else { continue };
            // A delete takes the summary first: what was deleted meanwhile is nothing wrong.
            if let Err(VaultError::UnknownSnapshot { .. }) = vault.meta(id) {
                continue;
            }
            let decidable = fault.decidable && !is_sealed;
            self.settle(vault, id, Fault { decidable, ..fault })?;
        }
        // Bundles without a summary, and checksum files without a bundle.
        let lone = |kind| matches!(kind, ProblemKind::Orphan | ProblemKind::Leftover);
        for problem in listing.problems.into_iter().filter(|p| lone(p.kind)) {
            let Some(id) = problem.id else { continue };
            let decidable = !self.engine.is_sealed(vault, id)?;
            let fault = Fault::of(problem.kind, &problem.path, problem.why, decidable);
            self.settle(vault, id, fault)?;
        }
        self.tell_bundles(vault, ids.len(), sealed)
    }

    fn tell_bundles(
        &mut self,
        vault: &AgentVault,
        looked_at: usize,
        sealed: u64,
    ) -> Result<(), SnapshotError> {
        let mut line = format!(
            "agent {}: {looked_at} snapshots in {}, their summaries, checksum files and indexes (contents: verify)",
            vault.agent(),
            vault.snapshots_path().display()
        );
        let aside = vault.quarantined()?.len();
        if aside > 0 {
            line += &format!("; {aside} set aside in its .quarantine, which count for nothing");
        }
        self.check(line);
        if sealed > 0 {
            self.not_checked(format!(
                "agent {}: what is in {sealed} encrypted bundles, which nothing here opens",
                vault.agent()
            ));
        }
        Ok(())
    }

    /// Tells of a fault, and mends it where that is asked for and possible.
    fn settle(
        &mut self,
        vault: &AgentVault,
        id: SnapshotId,
        fault: Fault,
    ) -> Result<(), SnapshotError> {
        let Fault { kind, path, mut why, decidable } = fault;
        let (mut fixed, mut moved_to) = (false, None);
        if self.fix && decidable {
            match self.engine.judge(vault, id, self.ctl)? {
                Judged::Mended(how) => (fixed, why) = (true, format!("{why}; {how}")),
                Judged::Aside(to, how) => {
                    why = format!(
                        "{how}; it counts for nothing any more and lies in {}",
                        to.display()
                    );
                    (fixed, moved_to) = (true, Some(to));
                }
                Judged::Left(how) => why = format!("{why}; left as it is: {how}"),
            }
        } else {
            why = format!("{why}; {}", advice(kind, decidable));
        }
        let kind = kind.into();
        self.report.findings.push(Finding { kind, path, why, fixed, moved_to });
        Ok(())
    }
}

impl Engine {
    /// Whether a bundle is encrypted and nothing that we have without asking opens it.
    fn is_sealed(&self, vault: &AgentVault, id: SnapshotId) -> Result<bool, SnapshotError> {
        // What cannot be opened is told by whoever looks at it.
        let Ok(Some((file, path))) = vault.open_lone_bundle(id) else { return Ok(false) };
        if !is_encrypted(&file).map_err(FsError::io("read", &path))? {
            return Ok(false);
        }
        let identities = self.known_identities(&file, &path).unwrap_or_default();
        // Without one, not even a header that looks damaged is ours to judge.
        let nobody = identities.is_empty();
        let opened = Bundle::open_with(file, &path, &identities);
        Ok(nobody || opened.is_err_and(|e| e.kind() == ErrorKind::Encryption))
    }

    /// A look at one snapshot that reads what is small: summary, checksum file, index and manifest. It
    /// takes no lock, which would make a file.
    fn look(
        &self,
        vault: &AgentVault,
        id: SnapshotId,
        notes: &Notes,
    ) -> Result<Option<Fault>, SnapshotError> {
        let path = vault.snapshots_path().join(id.to_string());
        let open = match vault.open_bundle(id) {
            Ok(open) => open,
            // Deleted since it was listed.
            Err(VaultError::UnknownSnapshot { .. }) => return Ok(None),
            Err(VaultError::BundleMissing { path }) => {
                let why = "the bundle is missing".to_owned();
                return Ok(Some(Fault::of(ProblemKind::Bundle, &path, why, true)));
            }
            Err(e) => {
                let (kind, decidable) = match e.kind() {
                    ErrorKind::SchemaTooNew => (ProblemKind::TooNew, false),
                    ErrorKind::Integrity => (ProblemKind::Sidecar, true),
                    _ => (ProblemKind::Unreadable, false),
                };
                let path = match &e {
                    VaultError::Sidecar { path, .. } | VaultError::Foreign { path, .. } => path,
                    _ => &path,
                };
                return Ok(Some(Fault::of(kind, path, error_chain(&e), decidable)));
            }
        };
        if let Some(Check { damage: Some(damage), .. }) = notes.checks.get(&id) {
            let why = format!("was read and found damaged: {damage}");
            return Ok(Some(Fault::of(ProblemKind::Bundle, &open.path, why, true)));
        }
        let fault = self.look_beside(&open.sidecar, &open.path);
        let OpenBundle { file, path, sidecar, .. } = open;
        Ok(fault.or_else(|| {
            let identities = self.known_identities(&file, &path).unwrap_or_default();
            look_inside(file, &path, &sidecar, &identities)
        }))
    }

    /// Whether the checksum file says what the sidecar says.
    fn look_beside(&self, sidecar: &Sidecar, bundle: &Path) -> Option<Fault> {
        let (why, decidable) = match self.sum_fault(sidecar, bundle) {
            Ok(None) => return None,
            Ok(Some(why)) => (why, true),
            Err(e) => (error_chain(&e), is_damage(&e)),
        };
        Some(Fault::of(ProblemKind::Sum, &sum_path(bundle), why, decidable))
    }

    /// Reads the bundle whole and does what follows. Whoever is at work on the agent is waited for.
    fn judge(
        &self,
        vault: &AgentVault,
        id: SnapshotId,
        ctl: &Control,
    ) -> Result<Judged, SnapshotError> {
        let lock = vault.lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        match self.judge_locked(&lock, id, ctl) {
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::Concurrent) => Err(e),
            // A disk that fails, rights that we lack: it may be good, and may be read tomorrow.
            Err(e) => Ok(Judged::Left(error_chain(&e))),
            judged => judged,
        }
    }

    fn judge_locked(
        &self,
        lock: &AgentLock,
        id: SnapshotId,
        ctl: &Control,
    ) -> Result<Judged, SnapshotError> {
        let vault = lock.agent();
        let Some((file, path)) = vault.open_lone_bundle(id)? else {
            return self.set_aside(lock, id, "the bundle is missing".to_owned(), ctl);
        };
        let said = unless_damaged(vault.sidecar(id).map_err(Into::into))?;
        let again = file.try_clone().map_err(FsError::io("open", &path))?;
        let whole = match self.read_whole(file, &path, said.as_ref(), ctl) {
            Err(e) if is_locked(&e) && differs(&again, said.as_ref()) => {
                let why = "no identity here opens it, and it is not the file that its summary was written \
                           for: its header is damaged, or it was exchanged";
                return Ok(Judged::Left(why.to_owned()));
            }
            Err(e) if e.kind() == ErrorKind::Encryption => {
                return Ok(Judged::Left(format!("it is encrypted: {}", error_chain(&e))));
            }
            whole => whole?,
        };
        let (found, sidecar) = match &whole.inside {
            Err(damage) => {
                let why = format!("read whole and found damaged: {damage}");
                return self.set_aside(lock, id, why, ctl);
            }
            Ok(inside) => inside,
        };
        if *found != place(vault.tenant(), vault.agent(), id) {
            return Ok(Judged::Left(format!(
                "it is a whole bundle of {found}, in the wrong place: `import` it by its path, then remove it"
            )));
        }
        self.reconcile(lock, sidecar, &path, ctl)
    }

    /// The bundle is whole and of this place; `true_one` is what its summary must say.
    fn reconcile(
        &self,
        lock: &AgentLock,
        true_one: &Sidecar,
        path: &Path,
        ctl: &Control,
    ) -> Result<Judged, SnapshotError> {
        let id = true_one.snapshot_id;
        let there = unless_damaged(lock.agent().open_bundle(id).map_err(Into::into))?;
        let there = there.map(|open| open.sidecar);
        let sum = unless_damaged(self.sum_beside(path))?.flatten();
        let sum_agrees = holds(sum == Some(true_one.bundle_sha256));
        let agrees = |said: &Sidecar| {
            let root = said.root_digest.is_some() && said.root_digest == true_one.root_digest;
            holds(said.bundle_sha256 == true_one.bundle_sha256 || root)
        };
        let witness = sum_agrees || there.as_ref().is_some_and(agrees);
        if !witness && (there.is_some() || sum.is_some()) {
            // Whole, but another one: whoever can write here must not exchange a memory unnoticed.
            let why =
                "whole, but not the bundle that the files beside it were written for (to trust it, `import` it \
                 from there without them)".to_owned();
            return self.set_aside(lock, id, why, ctl);
        }
        let sum_whole = unless_damaged(self.sum_fault(true_one, path))? == Some(None);
        let how = match there {
            Some(said) if said == *true_one && sum_whole => {
                "read whole now, and it is good".to_owned()
            }
            Some(said) if said == *true_one => {
                lock.rewrite_sum(id)?;
                "the bundle is good, and its checksum file is written anew".to_owned()
            }
            _ => self.give_sidecar(lock, true_one, ctl)?,
        };
        let check = Check { at_ms: self.parts.clock.now_ms(), damage: None };
        lock.change_notes(|notes| _ = notes.checks.insert(id, check))?;
        Ok(Judged::Mended(how))
    }

    /// Writes a new summary for a whole bundle; one that lies there is kept in the quarantine.
    fn give_sidecar(
        &self,
        lock: &AgentLock,
        sidecar: &Sidecar,
        ctl: &Control,
    ) -> Result<String, SnapshotError> {
        let until = ctl.wait_until(LOCK_TIMEOUT);
        match lock.quarantine_sidecar(sidecar.snapshot_id, until, ctl) {
            // There is none, so nobody was told of this snapshot yet.
            Err(VaultError::UnknownSnapshot { .. }) => {
                self.publish_imported(lock, sidecar, || Ok(lock.adopt(sidecar)?))?;
                Ok("it is whole, and a snapshot again".to_owned())
            }
            kept => {
                let kept = kept?;
                lock.adopt(sidecar)?;
                Ok(format!(
                    "the bundle is good and has a new summary; the old one lies in {}",
                    kept.display()
                ))
            }
        }
    }

    /// Moves a snapshot that is none aside, unless somebody said that it stays.
    fn set_aside(
        &self,
        lock: &AgentLock,
        id: SnapshotId,
        why: String,
        ctl: &Control,
    ) -> Result<Judged, SnapshotError> {
        if let Some(kept) = self.kept_by(lock, id)? {
            return Ok(Judged::Left(format!("{why}, and {kept}")));
        }
        let to = lock.quarantine(id, ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        Ok(Judged::Aside(to, why))
    }

    /// Reads a bundle from end to end; twice where it seems damaged, and then once more plainly: what a
    /// second reading does not find again was the disk's or the memory's, and a disk that fails, which a
    /// verification calls damage, ends this with its error.
    fn read_whole(
        &self,
        mut file: File,
        path: &Path,
        said: Option<&Sidecar>,
        ctl: &Control,
    ) -> Result<Whole, SnapshotError> {
        let identities = self.known_identities(&file, path)?;
        if identities.is_empty() && is_encrypted(&file).map_err(FsError::io("read", path))? {
            return Err(BundleError::NoIdentity { path: path.to_owned() }.into());
        }
        let read = || -> Result<_, SnapshotError> {
            let again = file.try_clone().map_err(FsError::io("open", path))?;
            let options = self.verification(None);
            let report = verify_file(again, path, &identities, &options, ctl)?;
            let good = report.inside == Inside::Good && report.damage.is_empty();
            Ok((!good).then(|| super::super::verify::damage(&report)))
        };
        let damage = if read()?.is_some() { read()? } else { None };
        let size = Dir::stat_file(&file, path)?.size;
        let watch = Watch { step: Step::Verify, before: 0, total: size, control: ctl };
        file.rewind().map_err(FsError::io("read", path))?;
        let sha256 = copy_file(&mut file, path, watch, |_| Ok(()))?;
        let inside = match damage {
            Some(damage) => Err(damage),
            None => {
                let bundle = Bundle::open_with(file, path, &identities)?;
                let Manifest { tenant, agent_id, snapshot_id, .. } = bundle.manifest();
                let found = place(tenant, agent_id, *snapshot_id);
                Ok((found, bundle.sidecar(sha256, said)))
            }
        };
        Ok(Whole { inside })
    }
}

impl Fault {
    fn of(kind: ProblemKind, path: &Path, why: String, decidable: bool) -> Self {
        Self { kind, path: path.to_owned(), why, decidable }
    }
}

/// Whether the bundle opens, and is the one that its summary speaks of.
fn look_inside(file: File, path: &Path, said: &Sidecar, identities: &Identities) -> Option<Fault> {
    let fault = |kind, why, decidable| Some(Fault::of(kind, path, why, decidable));
    let size = match Dir::stat_file(&file, path) {
        Ok(stat) => stat.size,
        Err(e) => return fault(ProblemKind::Unreadable, error_chain(&e), false),
    };
    let other_size = || format!("has {size} bytes, its summary says {}", said.bundle_size_bytes);
    let bundle = match Bundle::open_with(file, path, identities) {
        Ok(bundle) => bundle,
        // What is in it is not looked at, and that is said.
        Err(e) if e.kind() == ErrorKind::Encryption && said.encryption.is_some() => {
            let differs = !holds(size == said.bundle_size_bytes);
            return differs.then(|| Fault::of(ProblemKind::Bundle, path, other_size(), false));
        }
        Err(e) => {
            let why = error_chain(&e);
            return match e.kind() {
                ErrorKind::Integrity => fault(ProblemKind::Bundle, why, true),
                ErrorKind::SchemaTooNew => fault(ProblemKind::TooNew, why, false),
                _ => fault(ProblemKind::Unreadable, why, false),
            };
        }
    };
    let is = bundle.sidecar(said.bundle_sha256, Some(said));
    let why = match holds(is == *said) {
        true => return None,
        false if size != said.bundle_size_bytes => other_size(),
        false => "the bundle is not what its summary says".to_owned(),
    };
    fault(ProblemKind::Sidecar, why, true)
}

/// What to do about a fault that was only looked at.
const fn advice(kind: ProblemKind, decidable: bool) -> &'static str {
    match (decidable, kind) {
        (true, _) => {
            "`doctor --fix` reads the bundle whole, and mends this or sets aside what is no snapshot"
        }
        (false, ProblemKind::TooNew) => "left as it is: use the program that wrote it",
        (false, ProblemKind::Unreadable) => {
            "left as it is: see to its rights and its disk, and look again"
        }
        (false, ProblemKind::Sum) => {
            "left as it is: see to its rights and its disk, give the identity that opens it, and look again"
        }
        (false, _) => "left as it is: it is encrypted, and needs the identity that opens it",
    }
}

/// None where the file that was read is damaged or of another place; an error where it cannot be read,
/// or is of a newer program.
fn unless_damaged<T>(read: Result<T, SnapshotError>) -> Result<Option<T>, SnapshotError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if is_damage(&e) || e.kind() == ErrorKind::UnknownSnapshot => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether an error says that bytes are wrong, rather than that they cannot be had.
fn is_damage(error: &SnapshotError) -> bool {
    match error {
        SnapshotError::Parse(_) => true,
        error => error.kind() == ErrorKind::Integrity,
    }
}
