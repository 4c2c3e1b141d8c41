//! A small agent with a vault: what deeds are done to, and what is judged afterwards.
//!
//! The vault holds three snapshots, the oldest of a memory of which the agent has changed each part since, the second
//! encrypted; beside it lies a bundle of another vault. Ids and times are the same in every run.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, fs};

use nexo_memory_snapshot::error::error_chain;
use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use nexo_memory_snapshot::layout::{MemoryLayout, StateLayout};
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder, RecoveryOutcome};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, DefaultPathResolver, DurableFs};
use nexo_memory_snapshot::request::{
    DecryptionIdentity, Encryption, EncryptionKey, RestoreRequest, RestoreTarget, Secret,
    SnapshotRef, SnapshotRequest,
};
use snapshot_fs::TEMP_PREFIX;
use snapshot_testkit::compare::Memory;
use snapshot_testkit::{Agent, FixedClock, Seed, SeqIds};
use tempfile::TempDir;

use crate::Outcome;
use crate::deed::Deed;
use crate::drift;
use crate::judge::Sides;

/// The moment of every operation, milliseconds since the epoch, UTC: after all that the seed made.
const NOW_MS: i64 = 1_795_302_600_000;
/// Ids of snapshots that a deed takes begin here.
const NEXT_ID: u64 = 100;
/// A process that there never is: Linux counts to 4194304.
const NOBODY: u32 = 99_999_999;
/// The id of the bundle of another vault.
const FOREIGN_ID: u64 = 50;
/// Ends of the names of what a snapshot is.
const ENDINGS: [&str; 7] = [
    ".tar.zst",
    ".tar.zst.sha256",
    ".tar.zst.age",
    ".tar.zst.age.sha256",
    ".rekeyed.tar.zst.age",
    ".rekeyed.tar.zst.age.sha256",
    ".manifest.json",
];
/// Names below a scene's folder.
const AGENT: &str = "agent";
const VAULT: &str = "vault";
const ELSEWHERE: &str = "another-vault";
const IDENTITIES: &str = "identities";
/// Who reads the encrypted snapshot, and who shall once it is encrypted anew: identities for tests alone.
const READER: [&str; 2] = [
    "age1twalvvlv6kcm6apwwgjkh94p8g54jtt3j62vkul0q3dt24dmu3nsghd7gk",
    "AGE-SECRET-KEY-1WMY47UVQR7DLVAU8FYH80VUG74ARASNK6YXKF9QCEMPNLGU3WE3S5QAGYM",
];
const NEXT_READER: [&str; 2] = [
    "age1s2tmsxlfx8t76cc4vaanwhy3rtz2y9r4k3ryt565gaem2s200p7q0kfnzl",
    "AGE-SECRET-KEY-1LMUKUWTKYZJPGTXJEPUSWP5FDL2QJVDT6G5PRWG0ALFMWYD86RYQ67KUXN",
];

/// An agent and a vault in a folder of their own.
#[derive(Debug)]
pub struct Scene {
    dir: PathBuf,
    /// What snapshots hold that were read whole and found good, by all the bytes of their files: one that is in many
    /// copies of a scene is read once.
    good: Arc<Mutex<BTreeMap<u64, Arc<Memory>>>>,
    /// Removed with the scene.
    _scratch: Option<TempDir>,
}

/// What there is at one moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The agent's memory.
    pub memory: Memory,
    /// The snapshots that are listed, whole all of them.
    pub snapshots: BTreeMap<SnapshotId, Kept>,
}

/// A snapshot.
#[derive(Clone)]
pub struct Kept {
    /// Who can read it, where it is encrypted.
    pub readers: Vec<String>,
    /// What it brings back.
    pub memory: Arc<Memory>,
}

impl Scene {
    /// Makes one below `dir`, which is not there yet or empty.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(dir: &Path) -> Outcome<Self> {
        let scene = Self::at(dir);
        let agent = Agent::create(&scene.dir.join(AGENT), ana(), &Seed::tiny(7))?;
        fs::write(scene.identities(), identities())?;
        fs::set_permissions(scene.identities(), fs::Permissions::from_mode(0o600))?;
        drift::prepare(&agent)?;
        scene.take_whole(&agent)?;
        drift::change(&agent)?;
        agent.remember("A fact", "learned after the oldest snapshot")?;
        let sealed = EncryptionKey::AgePublicKey(READER[0].to_owned());
        scene.take(VAULT, 1, Encryption::For(sealed))?;
        let foreign = scene.take(ELSEWHERE, FOREIGN_ID, Encryption::Never)?;
        fs::rename(foreign.bundle_path, scene.outside())?;
        fs::remove_dir_all(scene.dir.join(ELSEWHERE))?;
        agent.remember("Another fact", "learned after the encrypted one")?;
        scene.take(VAULT, 2, Encryption::Never)?;
        agent.remember("Poison", "one fact too many")?;
        Ok(scene)
    }

    /// One in a scratch folder, which goes with it.
    ///
    /// # Errors
    /// As [`Scene::create`].
    pub fn scratch() -> Outcome<Self> {
        let scratch = TempDir::new()?;
        let scene = Self::create(scratch.path())?;
        Ok(Self { _scratch: Some(scratch), ..scene })
    }

    /// The one that was made below `dir`, or a copy of it.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), good: Arc::default(), _scratch: None }
    }

    /// A copy in a scratch folder, which goes with it.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn copy(&self) -> Outcome<Self> {
        self.copy_in(&std::env::temp_dir())
    }

    /// A copy in a scratch folder below `dir`, which goes with it.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn copy_in(&self, dir: &Path) -> Outcome<Self> {
        let scratch = TempDir::new_in(dir)?;
        let scene = self.copy_to(scratch.path())?;
        Ok(Self { _scratch: Some(scratch), ..scene })
    }

    /// A copy below `dir`.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn copy_to(&self, dir: &Path) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        let copied = Command::new("cp").arg("-a").args([&self.dir.join("."), dir]).status()?;
        match copied.success() {
            true => Ok(Self { good: self.good.clone(), ..Self::at(dir) }),
            false => Err(format!("cannot copy {}", self.dir.display()).into()),
        }
    }

    /// The id of the oldest snapshot, in the clear.
    #[must_use]
    pub fn oldest() -> SnapshotId {
        SeqIds::nth(0)
    }

    /// The id of the encrypted snapshot.
    #[must_use]
    pub fn sealed() -> SnapshotId {
        SeqIds::nth(1)
    }

    /// The id of the newest snapshot, in the clear.
    #[must_use]
    pub fn newest() -> SnapshotId {
        SeqIds::nth(2)
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> Agent {
        Agent::at(&self.dir.join(AGENT), ana())
    }

    /// The vault's folder.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.dir.join(VAULT)
    }

    /// A bundle that is in no vault.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.dir.join("outside.tar.zst")
    }

    /// The file of the identities that open the encrypted snapshot, before [`Deed::Rekey`] and after.
    #[must_use]
    pub fn identities(&self) -> PathBuf {
        self.dir.join(IDENTITIES)
    }

    /// Whom [`Deed::Rekey`] encrypts for.
    #[must_use]
    pub const fn next_reader() -> &'static str {
        NEXT_READER[0]
    }

    /// An engine over the vault, whose changes go through `fs`.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn engine(&self, fs: DurableFs) -> Outcome<Engine> {
        Ok(self.builder(VAULT, fs, NEXT_ID).build()?)
    }

    /// Another engine, whose snapshots get ids from the `first_id`th on.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn later_engine(&self, first_id: u64) -> Outcome<Engine> {
        Ok(self.builder(VAULT, DurableFs::default(), first_id).build()?)
    }

    /// Finishes what was interrupted, as the next command after a crash does, and clears away what it left.
    /// What became of an interrupted restore comes back.
    ///
    /// # Errors
    /// If something does not let itself be finished, or the doctor finds what it does not mend. A restore that
    /// waits for a decision is no error.
    pub fn recover(&self) -> Outcome<RecoveryOutcome> {
        self.recover_with(DurableFs::default())
    }

    /// As [`Scene::recover`], its changes through `fs`.
    ///
    /// # Errors
    /// As [`Scene::recover`].
    pub fn recover_with(&self, fs: DurableFs) -> Outcome<RecoveryOutcome> {
        let (engine, control) = (self.engine(fs)?, Control::default());
        let recovered = engine.recover_all(&control)?.pop().map(|recovery| recovery.outcome);
        let outcome = recovered.unwrap_or(RecoveryOutcome::Nothing);
        if matches!(outcome, RecoveryOutcome::Pending { .. }) {
            return Ok(outcome);
        }
        let report = engine.doctor(&Tenant::default(), Some(&ana()), true, &control)?;
        match report.findings.iter().find(|finding| !finding.fixed) {
            Some(left) => {
                Err(format!("the doctor leaves {}: {}", left.path.display(), left.why).into())
            }
            None => Ok(outcome),
        }
    }

    /// What this process left half written is a dead one's from now on: names of temporary files tell the
    /// process that makes them, and what a living one makes is spared.
    ///
    /// # Errors
    /// If a file cannot be renamed.
    pub fn bury(&self) -> Outcome<()> {
        for path in files_below(&self.dir)? {
            let name = path.file_name().unwrap_or_default();
            let buried = buried(name);
            if buried != name {
                fs::rename(&path, path.with_file_name(buried))?;
            }
        }
        Ok(())
    }

    /// What there is now. Nobody writes meanwhile.
    ///
    /// # Errors
    /// If the memory cannot be read, a snapshot is not whole, or the vault holds what belongs to none.
    pub fn look(&self) -> Outcome<Seen> {
        let memory = Memory::read(&self.agent().layout())?;
        let engine = self.engine(DurableFs::default())?;
        let listing = engine.list(&Tenant::default(), Some(&ana()))?;
        if let Some(problem) = listing.problems.first() {
            return Err(format!("{}: {problem:?}", problem.path.display()).into());
        }
        let mut snapshots = BTreeMap::new();
        for meta in &listing.snapshots {
            let memory = self.content(&engine, meta)?;
            let readers = meta.encryption.as_ref().map(|e| e.recipients_fingerprint.clone());
            snapshots.insert(meta.id, Kept { readers: readers.unwrap_or_default(), memory });
        }
        self.refuse_strays(&listing.snapshots)?;
        Ok(Seen { memory, snapshots })
    }

    /// Before the deed, and after it where nothing goes wrong.
    ///
    /// # Errors
    /// If something goes wrong, or the deed changes nothing.
    pub fn sides(&self, deed: Deed) -> Outcome<Sides> {
        self.sides_by(deed, DurableFs::default(), &std::env::temp_dir())
    }

    /// As [`Scene::sides`], of a copy below `dir`, the deed's changes through `fs`.
    ///
    /// # Errors
    /// As [`Scene::sides`].
    pub fn sides_by(&self, deed: Deed, fs: DurableFs, dir: &Path) -> Outcome<Sides> {
        let scene = self.copy_in(dir)?;
        let before = scene.look()?;
        let engine = scene.engine(fs)?;
        deed.perform(&scene, &engine).map_err(|e| format!("{deed}: {e}"))?;
        let after = scene.look()?;
        if before.snapshots == after.snapshots {
            return Err(format!("{deed} changes no snapshot").into());
        }
        if let (Deed::Restore, Some(oldest)) = (deed, before.snapshots.get(&Self::oldest())) {
            same(&oldest.memory, &after.memory)?;
        }
        Ok(Sides { before, after })
    }

    /// Takes the oldest snapshot, which has to bring back what the agent has in its memory.
    fn take_whole(&self, agent: &Agent) -> Outcome<()> {
        let live = Memory::read(&agent.layout())?;
        let meta = self.take(VAULT, 0, Encryption::Never)?;
        same(&live, &*self.content(&self.engine(DurableFs::default())?, &meta)?)
    }

    fn take(&self, vault: &str, id: u64, encrypt: Encryption) -> Outcome<SnapshotMeta> {
        let engine = self.builder(vault, DurableFs::default(), id).build()?;
        let mut req = SnapshotRequest::cli(ana(), Tenant::default());
        req.encrypt = encrypt;
        Ok(engine.snapshot(&req, &Control::default())?)
    }

    fn builder(&self, vault: &str, fs: DurableFs, first_id: u64) -> EngineBuilder {
        let agent = self.agent();
        let (memdir_root, sqlite_root) = (agent.memdir_root(), agent.sqlite_root());
        Engine::builder()
            .root(self.dir.join(vault))
            .layouts(Arc::new(DefaultPathResolver { memdir_root, sqlite_root }))
            .clock(Arc::new(FixedClock::at(NOW_MS)))
            .ids(Arc::new(SeqIds::starting_at(first_id)))
            .fs(fs)
            .identity(DecryptionIdentity::AgeIdentities(Secret::new(identities())))
            .threads(1)
    }

    /// What a snapshot holds, which is whole.
    pub(crate) fn content(&self, engine: &Engine, meta: &SnapshotMeta) -> Outcome<Arc<Memory>> {
        let (id, mut hasher) = (meta.id.to_string(), DefaultHasher::new());
        for path in files_below(&self.vault())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(&id) {
                (name, fs::read(&path)?).hash(&mut hasher);
            }
        }
        let files = hasher.finish();
        let good = || self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = good().get(&files) {
            return Ok(known.clone());
        }
        let report = engine.verify(meta, &Control::default());
        let report = report.map_err(|e| format!("{id}: {}", error_chain(&e)))?;
        if !report.is_good() {
            return Err(format!("{id} is not good: {report:?}").into());
        }
        let memory = Arc::new(put_aside(engine, meta, TempDir::new()?.path())?);
        good().insert(files, memory.clone());
        Ok(memory)
    }

    fn refuse_strays(&self, snapshots: &[SnapshotMeta]) -> Outcome<()> {
        let ids: Vec<SnapshotId> = snapshots.iter().map(|meta| meta.id).collect();
        refuse_strays(&self.vault(), &self.dir.join(AGENT), &ids)
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        // Most often it is the same bundle, which was read once.
        let same = Arc::ptr_eq(&self.memory, &other.memory)
            || self.memory.differences_after_restore(&other.memory).is_empty();
        same && self.readers == other.readers
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "for {:?}", self.readers)
    }
}

/// That a restore brought back all of a memory: both sides of a deed are the product's own work, and what it always
/// leaves out would be missing on both.
fn same(held: &Memory, restored: &Memory) -> Outcome<()> {
    match held.differences_after_restore(restored) {
        differences if differences.is_empty() => Ok(()),
        differences => {
            Err(format!("what is restored is not what was held: {differences:?}").into())
        }
    }
}

/// What a snapshot brings back, put into an empty folder.
pub(crate) fn put_aside(engine: &Engine, meta: &SnapshotMeta, dir: &Path) -> Outcome<Memory> {
    let (agent, tenant) = (meta.agent_id.clone(), meta.tenant.clone());
    let mut request = RestoreRequest::new(agent, tenant, SnapshotRef::Id(meta.id));
    request.target = RestoreTarget::Dir(dir.to_owned());
    let control = Control::default();
    let planned = engine.plan_restore(&request, &control);
    planned.and_then(|planned| planned.apply(&control)).map_err(|e| error_chain(&e))?;
    let layout = MemoryLayout {
        memdir: Some(dir.join("memory_files")),
        state: StateLayout::json_dir(&dir.join("state")),
        ..MemoryLayout::classic(dir.to_owned(), &dir.join("sqlite"), dir)
    };
    Ok(Memory::read(&layout)?)
}

/// The agent of every scene.
#[must_use]
pub fn ana() -> AgentId {
    AgentId::from_static("ana")
}

/// A name as it is once this process is gone, where it is one of a temporary file of ours.
pub(crate) fn buried(name: &OsStr) -> OsString {
    let ours = format!("{TEMP_PREFIX}{}-", std::process::id());
    match name.to_str().and_then(|name| name.strip_prefix(&ours)) {
        Some(rest) => format!("{TEMP_PREFIX}{NOBODY}-{rest}").into(),
        None => name.to_owned(),
    }
}

/// As a file of identities holds them.
fn identities() -> String {
    format!("{}\n{}\n", READER[1], NEXT_READER[1])
}

/// That nothing lies in a vault but what belongs to `snapshots`, and locks and notes, nor anything of ours in the
/// memory below `agents`.
pub(crate) fn refuse_strays(vault: &Path, agents: &Path, snapshots: &[SnapshotId]) -> Outcome<()> {
    let ids: Vec<String> = snapshots.iter().map(ToString::to_string).collect();
    let belongs = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lies_there = path.iter().rev().nth(2).is_some_and(|folder| folder == "snapshots");
        let ending = ids.iter().find_map(|id| name.strip_prefix(id.as_str()));
        lies_there && ending.is_some_and(|ending| ENDINGS.contains(&ending)) || is_furniture(path)
    };
    for path in files_below(vault)? {
        if !belongs(&path) {
            return Err(format!("left over: {}", path.display()).into());
        }
    }
    match files_below(agents)?.into_iter().find(|path| is_left(path)) {
        Some(path) => Err(format!("left over: {}", path.display()).into()),
        None => Ok(()),
    }
}

/// Every file below a folder that may not be there.
fn files_below(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Files of a vault that belong to no snapshot and stay: locks, notes of agents, and what tells a runtime that
/// its memory was put back.
fn is_furniture(path: &Path) -> bool {
    let within = |name: &str| path.iter().any(|part| part == name);
    let on_its_way = within("staging") || within("staged");
    !on_its_way && (path.extension().is_some_and(|ending| ending == "lock") || within("notes"))
        || (within("restore") && path.ends_with("epoch"))
}

/// Names of ours among an agent's files, and locks of git, which nobody holds when all is quiet.
fn is_left(path: &Path) -> bool {
    let in_git = path.iter().any(|part| part == ".git");
    let is_lock = path.extension().is_some_and(|ending| ending == "lock");
    path.to_string_lossy().contains(TEMP_PREFIX)
        || path.ends_with("nexo-memory-refs")
        || (in_git && is_lock)
}
