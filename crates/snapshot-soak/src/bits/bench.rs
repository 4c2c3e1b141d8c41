//! A small agent with two snapshots in a vault, plain or encrypted, of which the older is damaged again
//! and again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexo_memory_snapshot::id::{SnapshotId, Tenant};
use nexo_memory_snapshot::keys::generate_identity;
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, DefaultPathResolver};
use nexo_memory_snapshot::request::{DecryptionIdentity, Secret, SnapshotRequest};
use snapshot_bundle::{Bundle, Identities};
use snapshot_core::Sha256Digest;
use snapshot_testkit::damage::{Archive, Files, Seal, Specimen};
use snapshot_testkit::{FixedClock, Git, SeqIds};

use crate::Outcome;
use crate::scene::ana;

/// Most content of a frame of the damaged bundles, in bytes: artifacts share frames, and lie in several.
const CUT: usize = 1500;

/// Names below a bench's folder.
pub(super) const VAULT: &str = "vault";
pub(super) const OUTSIDE: &str = "outside";
pub(super) const TAKING: &str = "taking";
pub(super) const HOME: &str = "home";

/// What every worker damages: an agent, a vault with two snapshots, and what they are made of.
pub(super) struct Bench {
    pub(super) dir: PathBuf,
    pub(super) id: SnapshotId,
    pub(super) sibling: SnapshotId,
    pub(super) specimen: Arc<Specimen>,
    pub(super) identity: Option<Secret>,
}

impl Bench {
    /// Makes one below `dir`.
    pub(super) fn create(dir: &Path, sealed: bool) -> Outcome<Self> {
        let home = dir.join(HOME);
        let git = agent(&home)?;
        let (identity, recipient) = generate_identity();
        let mut bench = Self {
            dir: dir.to_owned(),
            id: SeqIds::nth(0),
            sibling: SeqIds::nth(1),
            specimen: Arc::new(empty()),
            identity: sealed.then_some(identity),
        };
        let engine = bench.engine(VAULT)?;
        let older = bench.take(&engine)?;
        change(&home, &git)?;
        let newer = bench.take(&engine)?;
        let seal = || sealed.then(|| seal_for(recipient.clone()));
        let (plain, files) = bench.republish(&older, seal())?;
        let (_, sibling) = bench.republish(&newer, seal())?;
        bench.specimen = Arc::new(Specimen { files, plain, cut: CUT, sibling, seal: seal() });
        (bench.id, bench.sibling) = (older.id, newer.id);
        Ok(bench)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.identity.is_some()
    }

    /// An engine over the vault of this name.
    pub(super) fn engine(&self, vault: &str) -> Outcome<Engine> {
        let (memdir_root, sqlite_root) = roots(&self.dir.join(HOME));
        let builder = Engine::builder()
            .root(self.dir.join(vault))
            .layouts(Arc::new(DefaultPathResolver { memdir_root, sqlite_root }))
            .clock(Arc::new(FixedClock::at(1_795_302_600_000)))
            .ids(Arc::new(SeqIds::default()))
            .threads(1);
        let identity = self.identity.clone().map(DecryptionIdentity::AgeIdentities);
        Ok(identity.into_iter().fold(builder, |builder, one| builder.identity(one)).build()?)
    }

    /// The folder of the snapshots in the vault.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.dir.join(VAULT).join("tenants/default/snapshots/ana")
    }

    /// The files of the damaged snapshot in a folder, in the order bundle, summary, checksum file.
    pub(super) fn names(&self, dir: &Path) -> [PathBuf; 3] {
        self.names_of(self.id, dir)
    }

    fn names_of(&self, id: SnapshotId, dir: &Path) -> [PathBuf; 3] {
        let age = if self.is_sealed() { ".age" } else { "" };
        let names = [
            format!("{id}.tar.zst{age}"),
            format!("{id}.manifest.json"),
            format!("{id}.tar.zst{age}.sha256"),
        ];
        names.map(|name| dir.join(name))
    }

    fn take(&self, engine: &Engine) -> Outcome<SnapshotMeta> {
        Ok(engine.snapshot(&SnapshotRequest::cli(ana(), Tenant::default()), &Control::default())?)
    }

    /// Puts a snapshot into small frames, encrypts it, and into the vault again; gives it in the clear, and
    /// its files.
    fn republish(&self, meta: &SnapshotMeta, seal: Option<Box<Seal>>) -> Outcome<(Vec<u8>, Files)> {
        let plain = Archive::of(&fs::read(&meta.bundle_path)?)?.to_bundle(CUT)?;
        for suffix in ["", ".sha256"] {
            fs::remove_file(format!("{}{suffix}", meta.bundle_path.display()))?;
        }
        let bytes = seal.map(|seal| seal(&plain)).transpose()?.unwrap_or_else(|| plain.clone());
        let paths = self.names_of(meta.id, &self.snapshots());
        fs::write(&paths[0], &bytes)?;
        let identities = match &self.identity {
            Some(identity) => Identities::parse(identity.expose())?,
            None => Identities::default(),
        };
        let bundle = Bundle::open_with(fs::File::open(&paths[0])?, &paths[0], &identities)?;
        let digest = Sha256Digest::of(&bytes);
        let sidecar = bundle.sidecar(digest, None).to_bytes()?;
        let name = paths[0].file_name().unwrap_or_default().to_string_lossy();
        let sum = format!("{digest}  {name}\n").into_bytes();
        let files = Files { bundle: Some(bytes), sidecar: Some(sidecar), sum: Some(sum) };
        put(&paths, &files)?;
        Ok((plain, files))
    }
}

/// Writes the files that there are, and removes the others.
pub(super) fn put(paths: &[PathBuf; 3], files: &Files) -> io::Result<()> {
    for (path, bytes) in paths.iter().zip([&files.bundle, &files.sidecar, &files.sum]) {
        match bytes {
            Some(bytes) => fs::write(path, bytes)?,
            None if path.exists() => fs::remove_file(path)?,
            None => {}
        }
    }
    Ok(())
}

/// Every file below a folder whose name does not make `ignored` true.
pub(super) fn tree(
    root: &Path,
    ignored: &dyn Fn(&Path) -> bool,
) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            match () {
                () if ignored(&path) => {}
                () if kind.is_dir() => folders.push(path),
                () if kind.is_symlink() => {
                    let target = fs::read_link(&path)?;
                    found.insert(path, target.into_os_string().into_encoded_bytes());
                }
                () => {
                    let bytes = fs::read(&path)?;
                    found.insert(path, bytes);
                }
            }
        }
    }
    Ok(found)
}

fn roots(home: &Path) -> (PathBuf, PathBuf) {
    (home.join("memory"), home.join("sqlite"))
}

/// An agent with something of every kind.
fn agent(home: &Path) -> Outcome<Git> {
    let (memory, sqlite) = roots(home);
    let (memdir, sqlite) = (memory.join("ana"), sqlite.join("ana"));
    fs::create_dir_all(&memdir)?;
    fs::create_dir_all(&sqlite)?;
    let store = rusqlite::Connection::open(sqlite.join("long_term.sqlite"))?;
    store.execute_batch(
        "PRAGMA page_size = 512; CREATE TABLE facts (text); INSERT INTO facts VALUES ('water is wet')",
    )?;
    fs::write(sqlite.join("extract_cursor.json"), r#"{"cursor": 7}"#)?;
    fs::write(
        memdir.join("MEMORY.md"),
        "# What I know\n\nLittle, and every word of it matters.\n",
    )?;
    fs::write(memdir.join("empty"), "")?;
    std::os::unix::fs::symlink("MEMORY.md", memdir.join("link"))?;
    let git = Git::at(&memdir);
    git.run(&["init", "-q", "-b", "main"])?;
    git.run(&["add", "MEMORY.md"])?;
    git.run(&["commit", "-q", "-m", "first"])?;
    Ok(git)
}

/// What differs in the sibling.
fn change(home: &Path, git: &Git) -> Outcome<()> {
    let (memory, sqlite) = roots(home);
    let store = rusqlite::Connection::open(sqlite.join("ana/long_term.sqlite"))?;
    store.execute_batch("UPDATE facts SET text = 'ice is cold'")?;
    let mut file = fs::OpenOptions::new().append(true).open(memory.join("ana/MEMORY.md"))?;
    file.write_all(b"More than yesterday.\n")?;
    git.run(&["commit", "-q", "-a", "-m", "second"])?;
    Ok(())
}

/// Encryption by the age crate alone.
fn seal_for(recipient: String) -> Box<Seal> {
    Box::new(move |plain| {
        let recipient: age::x25519::Recipient = recipient.parse().map_err(io::Error::other)?;
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let mut out = Vec::new();
        let mut writer = encryptor.wrap_output(&mut out)?;
        writer.write_all(plain)?;
        writer.finish()?;
        Ok(out)
    })
}

fn empty() -> Specimen {
    let nothing = Files { bundle: None, sidecar: None, sum: None };
    Specimen { files: nothing.clone(), plain: Vec::new(), cut: CUT, sibling: nothing, seal: None }
}
