//! The judge of damages: puts a damaged snapshot to the five verbs, and says of each whether it was
//! stopped, did what it does with the whole one, or did something else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::{Engine, ImportRequest};
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::{
    DiffRequest, DiffScope, DiffSide, Encryption, RestoreRequest, RestoreTarget, SnapshotRef,
};
use snapshot_testkit::damage::{Archive, Beside, Damage, File};

use super::bench::{Bench, HOME, OUTSIDE, TAKING, VAULT, put, tree};
use crate::Outcome;
use crate::scene::ana;

/// Where restores go.
const RESTORED: &str = "restored";

/// How a verb ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With an error of this kind, and nothing of the damage was used.
    Stopped(ErrorKind),
    /// As with the whole bundle.
    Right,
    /// Otherwise.
    Wrong(String),
}

/// How a verb must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Stop,
    StopOrBeRight,
    /// The bundle is another one, and whole.
    Anything,
}

/// What came of one damage.
pub(super) struct Verdict {
    /// In the order of [`VERBS`].
    pub(super) ends: [End; 5],
    /// What is wrong about it.
    pub(super) wrong: Vec<String>,
}

/// What the judge judges.
pub(super) const VERBS: [&str; 5] = ["verify", "restore", "import", "cat", "diff"];

/// A bench, its engines, and what is right.
pub(super) struct Judge {
    bench: Bench,
    engine: Engine,
    taking: Engine,
    contents: Vec<(BundlePath, Vec<u8>)>,
    /// What a diff with the sibling tells, from it and to it.
    diffs: [Told; 2],
    restored: BTreeMap<PathBuf, Vec<u8>>,
    control: Control,
    /// Whether the vault holds a damaged snapshot.
    dirty: bool,
}

/// Counts, and the differences in no order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    counts: String,
    differences: BTreeSet<String>,
}

impl Judge {
    pub(super) fn new(bench: Bench) -> Outcome<Self> {
        let (engine, taking) = (bench.engine(VAULT)?, bench.engine(TAKING)?);
        for folder in [OUTSIDE, TAKING] {
            fs::create_dir_all(bench.dir.join(folder))?;
        }
        let mut judge = Self {
            bench,
            engine,
            taking,
            contents: Vec::new(),
            diffs: Default::default(),
            restored: BTreeMap::new(),
            control: Control::default(),
            dirty: false,
        };
        judge.learn()?;
        Ok(judge)
    }

    /// What the verbs do with the whole snapshot; all is well with it.
    fn learn(&mut self) -> Outcome<()> {
        let whole = SnapshotRef::Id(self.bench.id);
        let report = self.engine.verify(&self.resolve(&whole)?, &self.control)?;
        if !report.is_good() {
            return Err(format!("the specimen is not good: {report:?}").into());
        }
        self.contents = contents(&self.bench)?;
        let mut diffs = self.diffs.clone();
        for (back, told) in diffs.iter_mut().enumerate() {
            told.counts = self.diff_into(&whole, back == 1, &mut told.differences)?;
        }
        if diffs.iter().any(|told| told.differences.len() < 3) {
            return Err(format!("the sibling hardly differs: {diffs:?}").into());
        }
        self.diffs = diffs;
        self.restore_into_folder(&whole)?;
        self.restored = self.take_restored()?;
        Ok(())
    }

    /// Does the damage and puts it to every verb; `n` varies what cannot be done to all.
    pub(super) fn judge(&mut self, n: usize, damage: &Damage, beside: Beside) -> Outcome<Verdict> {
        let files = self.bench.specimen.damaged(damage, beside)?;
        let outside = self.bench.names(&self.bench.dir.join(OUTSIDE));
        put(&outside, &files)?;
        let inside = self.bench.names(&self.bench.snapshots());
        let at = match beside {
            Beside::Nothing => {
                if std::mem::take(&mut self.dirty) {
                    put(&inside, &self.bench.specimen.files)?;
                }
                SnapshotRef::Path(outside[0].clone())
            }
            Beside::Kept | Beside::Told => {
                self.dirty = true;
                put(&inside, &files)?;
                SnapshotRef::Id(self.bench.id)
            }
        };
        let before = self.fingerprint()?;
        let ends = [
            self.verify(&at),
            self.restore(&at)?,
            self.import(&outside[0])?,
            self.cat(&at),
            self.diff(&at, n % 2 == 1),
        ];
        let mut wrong = Vec::new();
        for ((verb, end), must) in VERBS.iter().zip(&ends).zip(self.musts(damage, beside)) {
            if let Some(why) = complaint(end, must, self.bench.is_sealed()) {
                wrong.push(format!("{verb}: {why}"));
            }
        }
        if self.fingerprint()? != before {
            wrong.push("the agent or the vault is another than before".to_owned());
        }
        Ok(Verdict { ends, wrong })
    }

    /// How each verb must end.
    fn musts(&self, damage: &Damage, beside: Beside) -> [Must; 5] {
        use Must::{Anything, Stop, StopOrBeRight};
        let another = damage.may_make_another(&self.bench.specimen);
        let told_by_root = beside == Beside::Told && !self.bench.is_sealed();
        let summary = self.bench.specimen.files.get(File::Sidecar).map_or(0, Vec::len);
        match (damage, beside) {
            // Its last newline says nothing: what is left is the same summary.
            (Damage::Cut(File::Sidecar, length), _) if length + 1 == summary => [StopOrBeRight; 5],
            // Nothing that a restore, cat or diff reads; a bundle without it is taken in by its own digests.
            (
                Damage::Flip(File::Sum, ..)
                | Damage::Cut(File::Sum, _)
                | Damage::Append(File::Sum, _)
                | Damage::Remove(File::Sum)
                | Damage::Exchange(File::Sum),
                _,
            ) => [Stop, StopOrBeRight, StopOrBeRight, StopOrBeRight, StopOrBeRight],
            (Damage::Remove(File::Sidecar), _) => {
                [Stop, Stop, StopOrBeRight, StopOrBeRight, StopOrBeRight]
            }
            // Outside of a vault that is the other snapshot, whole, under a name that says nothing.
            (Damage::ExchangeAll, _) => [Stop, Stop, Anything, StopOrBeRight, StopOrBeRight],
            // Without a summary nothing passes for good.
            (_, Beside::Nothing) if another => [Stop, Anything, Anything, Anything, Anything],
            (_, Beside::Nothing) => {
                [Stop, StopOrBeRight, StopOrBeRight, StopOrBeRight, StopOrBeRight]
            }
            // Whoever may write the summary too makes a snapshot of his own, unless it has a root digest.
            (_, Beside::Told) if another && !told_by_root => [Anything; 5],
            _ => [Stop, Stop, Stop, StopOrBeRight, StopOrBeRight],
        }
    }

    fn resolve(&self, at: &SnapshotRef) -> Result<SnapshotMeta, SnapshotError> {
        self.engine.resolve(&Tenant::default(), Some(&ana()), at)
    }

    fn verify(&self, at: &SnapshotRef) -> End {
        let report = self.resolve(at).and_then(|meta| self.engine.verify(&meta, &self.control));
        match report.map(|report| report.error_kind()) {
            Ok(None) => End::Right,
            Ok(Some(kind)) => End::Stopped(kind),
            Err(e) => End::Stopped(e.kind()),
        }
    }

    fn restore(&self, at: &SnapshotRef) -> Outcome<End> {
        let ended = self.restore_into_folder(at);
        let found = self.take_restored()?;
        Ok(match ended {
            Err(_) if !found.is_empty() => End::Wrong(format!("it left {:?}", found.keys())),
            Err(e) => End::Stopped(e.kind()),
            Ok(()) if found == self.restored => End::Right,
            Ok(()) => End::Wrong("another memory".to_owned()),
        })
    }

    fn restore_into_folder(&self, at: &SnapshotRef) -> Result<(), SnapshotError> {
        let mut request = RestoreRequest::new(ana(), Tenant::default(), at.clone());
        request.target = RestoreTarget::Dir(self.bench.dir.join(RESTORED));
        self.engine.plan_restore(&request, &self.control)?.apply(&self.control).map(|_| ())
    }

    /// What was restored, by content; the folder is gone then.
    fn take_restored(&self) -> Outcome<BTreeMap<PathBuf, Vec<u8>>> {
        let dir = self.bench.dir.join(RESTORED);
        // A repository's files say when they were made.
        let found = tree(&dir, &|path| path.ends_with(".git"))?;
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        Ok(found)
    }

    fn import(&self, path: &Path) -> Outcome<End> {
        let request = ImportRequest {
            tenant: Tenant::default(),
            agent: None,
            foreign: false,
            encrypt: Encryption::Never,
        };
        let taken = self.taking.import(&request, path, &self.control);
        let end = match &taken {
            Err(e) => End::Stopped(e.kind()),
            Ok(imported) => self.contents_of(&self.taking, &imported.meta),
        };
        let vault = self.bench.dir.join(TAKING);
        let left = tree(&vault, &is_bookkeeping)?;
        if !left.is_empty() || taken.is_ok() {
            fs::remove_dir_all(&vault)?;
            fs::create_dir_all(&vault)?;
        }
        match (taken, left.is_empty()) {
            (Err(_), false) => Ok(End::Wrong(format!("it left {:?}", left.keys()))),
            _ => Ok(end),
        }
    }

    fn cat(&self, at: &SnapshotRef) -> End {
        match self.resolve(at) {
            Err(e) => End::Stopped(e.kind()),
            Ok(meta) => self.contents_of(&self.engine, &meta),
        }
    }

    /// Every artifact: right, or stopped before a wrong byte was given out. One that is stopped stops all.
    fn contents_of(&self, engine: &Engine, meta: &SnapshotMeta) -> End {
        let mut end = End::Right;
        for (path, right) in &self.contents {
            let mut out = Vec::new();
            match engine.read_artifact(meta, path, &mut out, &self.control) {
                Ok(_) if out == *right => {}
                Err(e) if right.starts_with(&out) => end = End::Stopped(e.kind()),
                Ok(_) => return End::Wrong(format!("other bytes of {path}")),
                Err(e) => return End::Wrong(format!("wrong bytes of {path} before: {e}")),
            }
        }
        end
    }

    fn diff(&self, at: &SnapshotRef, back: bool) -> End {
        let (mut told, right) = (BTreeSet::new(), &self.diffs[usize::from(back)]);
        let ended = self.diff_into(at, back, &mut told);
        match ended {
            Err(e) if told.is_subset(&right.differences) => End::Stopped(e.kind()),
            Err(e) => End::Wrong(format!("what is not so was told before: {e}")),
            Ok(counts) if counts == right.counts && told == right.differences => End::Right,
            Ok(_) => End::Wrong("other differences".to_owned()),
        }
    }

    fn diff_into(
        &self,
        at: &SnapshotRef,
        back: bool,
        told: &mut BTreeSet<String>,
    ) -> Result<String, SnapshotError> {
        let sibling = DiffSide::Snapshot(SnapshotRef::Id(self.bench.sibling));
        let (a, b) = match back {
            false => (DiffSide::Snapshot(at.clone()), sibling),
            true => (sibling, DiffSide::Snapshot(at.clone())),
        };
        let request = DiffRequest { agent_id: ana(), tenant: Tenant::default(), a, b };
        let mut tell = |difference| _ = told.insert(format!("{difference:?}"));
        let scope = DiffScope::default();
        let diff = self.engine.diff_with(&request, &scope, Some(&mut tell), &self.control)?;
        Ok(format!("{diff:?}"))
    }

    /// What must stay as it was.
    fn fingerprint(&self) -> Outcome<BTreeMap<PathBuf, Vec<u8>>> {
        let mut all = tree(&self.bench.dir.join(HOME), &|path| path.ends_with(".git"))?;
        all.extend(tree(&self.bench.dir.join(VAULT), &is_bookkeeping)?);
        Ok(all)
    }
}

/// What is wrong about an end.
fn complaint(end: &End, must: Must, sealed: bool) -> Option<String> {
    match (end, must) {
        (_, Must::Anything) => None,
        (End::Wrong(how), _) => Some(how.clone()),
        (End::Right, Must::Stop) => Some("not noticed".to_owned()),
        (End::Right, Must::StopOrBeRight) => None,
        (End::Stopped(kind), _) => {
            let typed = match kind {
                ErrorKind::Integrity
                | ErrorKind::SchemaTooNew
                | ErrorKind::UnknownSnapshot
                | ErrorKind::NotChecked
                | ErrorKind::Refused => true,
                ErrorKind::Encryption => sealed,
                _ => false,
            };
            (!typed).then(|| format!("stopped by an error of the kind {kind}"))
        }
    }
}

/// Locks, and notes of what a verification found.
fn is_bookkeeping(path: &Path) -> bool {
    let within = |name: &str| path.components().any(|part| part.as_os_str() == name);
    within("locks") || within("notes") || path.extension().is_some_and(|e| e == "lock")
}

/// Path and content of every artifact that has any, by the archive.
fn contents(bench: &Bench) -> Outcome<Vec<(BundlePath, Vec<u8>)>> {
    let archive = Archive::of(&bench.specimen.plain)?;
    let manifest = archive.manifest()?;
    let mut contents = Vec::new();
    for (entry, listed) in
        archive.artifacts.iter().zip(manifest["artifacts"].as_array().into_iter().flatten())
    {
        let path = listed["path_in_bundle"].as_str().unwrap_or_default();
        if listed["link"].is_null() && !listed["kind"].as_str().unwrap_or_default().contains("dir")
        {
            contents.push((BundlePath::parse(path)?, entry.content.clone()));
        }
    }
    Ok(contents)
}
