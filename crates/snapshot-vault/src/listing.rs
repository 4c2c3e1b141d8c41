//! What an agent's snapshots folder holds, by its sidecars alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use snapshot_core::mutants::holds;
use snapshot_core::{
    ErrorKind, ListProblem, Listing, ProblemKind, SnapshotId, SnapshotMeta, error_chain,
};
use snapshot_fs::{Dir, FileType};

use crate::agent::AgentVault;
use crate::error::VaultError;
use crate::layout::{self, Form, Name};

/// Length of the checksum file of a 0.1.x bundle: bare hexadecimal digits, perhaps a newline.
const V1_SUM_BYTES: u64 = 65;

/// The names in a snapshots folder, by what they are.
#[derive(Default)]
pub(crate) struct Scan {
    sidecars: BTreeSet<SnapshotId>,
    deleting: BTreeSet<SnapshotId>,
    bundles: BTreeSet<(SnapshotId, Form)>,
    sums: BTreeSet<(SnapshotId, Form)>,
    other: Vec<(std::ffi::OsString, ProblemKind)>,
}

/// A listing being made.
struct Reading<'a> {
    agent: &'a AgentVault,
    dir: &'a Dir,
    listing: Listing,
}

/// Reads a folder. Sidecars decide; what they name is looked at afterwards, so that a publish or
/// delete under way is seen as done or as not begun.
pub(crate) fn read(agent: &AgentVault, dir: &Dir) -> Result<Listing, VaultError> {
    let scan = Scan::of(dir)?;
    let mut reading = Reading { agent, dir, listing: Listing::default() };
    for &id in &scan.sidecars {
        reading.add(id)?;
    }
    reading.add_leftovers(&scan)?;
    let mut listing = reading.listing;
    // Of a snapshot and its redacted copy, which are of one instant, the whole one is the later.
    listing
        .snapshots
        .sort_by_key(|m| std::cmp::Reverse((m.created_at_ms, !m.redactions_applied, m.id)));
    listing.problems.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

/// Whether there are problems that another process's work in progress would explain.
pub(crate) fn has_leftovers(listing: &Listing) -> bool {
    listing.problems.iter().any(|p| may_be_work_in_progress(p.kind))
}

pub(crate) fn forget_leftovers(listing: &mut Listing) {
    listing.problems.retain(|p| !may_be_work_in_progress(p.kind));
}

impl Reading<'_> {
    /// Adds the snapshot of a sidecar, or the reason why it is none.
    fn add(&mut self, id: SnapshotId) -> Result<(), VaultError> {
        let dir = self.dir;
        match checked_meta(self.agent, dir, id) {
            Ok(meta) => {
                let mut sum = meta.bundle_path.file_name().unwrap_or_default().to_owned();
                sum.push(layout::SUM);
                if dir.stat(&sum)?.is_none() {
                    let why = "the checksum file is missing".to_owned();
                    self.problem(dir.path().join(sum), Some(id), ProblemKind::Sum, why);
                }
                self.listing.snapshots.push(meta);
            }
            // Deleted since its name was read.
            Err(_) if dir.stat(layout::sidecar_name(id))?.is_none() => {}
            Err(e) => {
                let (path, kind) = match &e {
                    VaultError::BundleMissing { path } | VaultError::BundleSize { path, .. } => {
                        (path.clone(), ProblemKind::Bundle)
                    }
                    e => {
                        let too_new = e.kind() == ErrorKind::SchemaTooNew;
                        let kind = if too_new { ProblemKind::TooNew } else { ProblemKind::Sidecar };
                        (dir.path().join(layout::sidecar_name(id)), kind)
                    }
                };
                self.problem(path, Some(id), kind, error_chain(&e));
            }
        }
        Ok(())
    }

    /// Adds what no sidecar speaks for.
    fn add_leftovers(&mut self, scan: &Scan) -> Result<(), VaultError> {
        let dir = self.dir;
        let at = |name: String| dir.path().join(name);
        for &id in &scan.deleting {
            let why = "a delete died half-way; the snapshot is gone".to_owned();
            self.problem(at(layout::deleting_name(id)), Some(id), ProblemKind::HalfDeleted, why);
        }
        let spoken_for = |id: &SnapshotId| scan.sidecars.contains(id) || scan.deleting.contains(id);
        for &(id, form) in scan.bundles.iter().filter(|(id, _)| !spoken_for(id)) {
            let name = layout::bundle_name(id, form);
            let (kind, why) = if has_v1_sum(dir, &name)? {
                (ProblemKind::V1, "a bundle of 0.1.x: `import --all` takes it in")
            } else {
                (ProblemKind::Orphan, "a bundle without its summary: its publish died half-way")
            };
            self.problem(at(name), Some(id), kind, why.to_owned());
        }
        for &(id, form) in scan.sums.iter().filter(|(id, _)| !spoken_for(id)) {
            if scan.bundles.contains(&(id, form)) {
                continue;
            }
            let name = layout::sum_name(&layout::bundle_name(id, form));
            let why = "a checksum file without a bundle".to_owned();
            self.problem(at(name), Some(id), ProblemKind::Leftover, why);
        }
        let counting = |id| {
            checked_meta(self.agent, dir, id).ok()?;
            self.agent.read_sidecar(dir, id).ok().map(|sidecar| Form::of(&sidecar))
        };
        for name in scan.superseded(counting) {
            let why = "what an encryption anew left beside the bundle that counts".to_owned();
            self.problem(at(name), None, ProblemKind::Leftover, why);
        }
        for (name, kind) in &scan.other {
            let why = match kind {
                ProblemKind::Leftover => "a temporary file of a process that died",
                _ if layout::is_v1_leftover(name) => {
                    "left by a 0.1.x that died at its work: remove it, for it may hold memory in the clear"
                }
                _ => "not part of any snapshot",
            };
            self.problem(dir.path().join(name), None, *kind, why.to_owned());
        }
        Ok(())
    }

    fn problem(&mut self, path: PathBuf, id: Option<SnapshotId>, kind: ProblemKind, why: String) {
        self.listing.problems.push(ListProblem { path, id, kind, why });
    }
}

impl Scan {
    pub(crate) fn of(dir: &Dir) -> Result<Self, VaultError> {
        let mut scan = Self::default();
        for entry in dir.entries()? {
            match Name::parse(&entry.name) {
                Name::Sidecar { id } => _ = scan.sidecars.insert(id),
                Name::Deleting { id } => _ = scan.deleting.insert(id),
                Name::Bundle { id, form } => _ = scan.bundles.insert((id, form)),
                Name::Sum { id, form } => _ = scan.sums.insert((id, form)),
                // What was set aside is no snapshot and no problem.
                Name::Quarantine => {}
                Name::Temp => scan.other.push((entry.name, ProblemKind::Leftover)),
                Name::Unknown => scan.other.push((entry.name, ProblemKind::Unknown)),
            }
        }
        Ok(scan)
    }
}

impl Scan {
    /// Bundles and checksum files of another form than the one that counts, which `counting` tells. Where that
    /// one is not there or not whole, the other may be all that there is.
    pub(crate) fn superseded(&self, counting: impl Fn(SnapshotId) -> Option<Form>) -> Vec<String> {
        let mut names = Vec::new();
        for &id in &self.sidecars {
            let there = |form: &Form| {
                self.bundles.contains(&(id, *form)) || self.sums.contains(&(id, *form))
            };
            let forms: Vec<Form> = Form::ALL.into_iter().filter(there).collect();
            if forms.len() < 2 {
                continue;
            }
            let Some(counts) = counting(id) else { continue };
            for form in forms.into_iter().filter(|form| *form != counts) {
                let bundle = layout::bundle_name(id, form);
                let sum = layout::sum_name(&bundle);
                names.extend(self.sums.contains(&(id, form)).then_some(sum));
                names.extend(self.bundles.contains(&(id, form)).then_some(bundle));
            }
        }
        names
    }
}

/// Whether a publish or a delete that is still running looks like this.
const fn may_be_work_in_progress(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::Orphan | ProblemKind::HalfDeleted | ProblemKind::Leftover)
}

/// The meta of a snapshot whose sidecar is its own and whose bundle has the right size.
fn checked_meta(agent: &AgentVault, dir: &Dir, id: SnapshotId) -> Result<SnapshotMeta, VaultError> {
    let sidecar = agent.read_sidecar(dir, id)?;
    let name = layout::bundle_name(id, Form::of(&sidecar));
    let path = dir.path().join(&name);
    match dir.stat(&name)? {
        Some(stat) if stat.file_type != FileType::File => Err(VaultError::BundleMissing { path }),
        Some(stat) if !holds(stat.size == sidecar.bundle_size_bytes) => {
            Err(VaultError::BundleSize {
                path,
                expected: sidecar.bundle_size_bytes,
                found: stat.size,
            })
        }
        Some(_) => Ok(sidecar.to_meta(path)),
        None => Err(VaultError::BundleMissing { path }),
    }
}

/// Whether the checksum file beside a bundle is one of 0.1.x: bare hexadecimal digits.
fn has_v1_sum(dir: &Dir, bundle: &str) -> Result<bool, VaultError> {
    let sum = layout::sum_name(bundle);
    let small = dir
        .stat(&sum)?
        .is_some_and(|s| s.file_type == FileType::File && (64..=V1_SUM_BYTES).contains(&s.size));
    Ok(small
        && dir.read(&sum, V1_SUM_BYTES).is_ok_and(|bytes| {
            bytes.trim_ascii().len() == 64 && bytes.trim_ascii().iter().all(u8::is_ascii_hexdigit)
        }))
}
