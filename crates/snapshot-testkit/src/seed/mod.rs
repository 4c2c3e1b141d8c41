//! A realistic agent in a folder: four databases, a git memdir with history, runtime state.
//!
//! Invariant: the content is a function of the [`Seed`]. The layout is the classic one:
//! `<root>/memdir/<agent>` and `<root>/sqlite/<agent>/{<store>.sqlite,*.json}`.

mod memdir;
mod stores;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use snapshot_core::{AgentId, CLASSIC_STORES, MemoryLayout};

use crate::error::KitError;
use crate::git::Git;
use crate::random::{Random, Vocabulary};

/// The moment at which seeded histories end, seconds since the epoch, UTC.
pub(crate) const SEEDED_AT_S: i64 = 1_790_000_000;

/// How long an agent's connections wait for each other, and for us.
const BUSY: Duration = Duration::from_secs(60);

/// An agent in a folder.
#[derive(Debug, Clone)]
pub struct Agent {
    root: PathBuf,
    id: AgentId,
}

/// What the seeded agent is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seed {
    /// Of the random content.
    pub seed: u64,
    /// How much of it.
    pub scale: Scale,
    /// Journal mode of the databases.
    pub journal: Journal,
    /// Page size of the databases in bytes.
    pub page_size: u32,
}

/// How large: 1 is the standard agent of `docs/performance.md`, about 1 GB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale(pub f64);

/// Journal modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Journal {
    /// Write-ahead log.
    Wal,
    /// Rollback journals, which are deleted.
    Delete,
    /// Rollback journals, which are cut.
    Truncate,
    /// Rollback journals whose header is overwritten.
    Persist,
}

impl Seed {
    /// A small agent, some 300 KB, made in a fraction of a second.
    #[must_use]
    pub const fn tiny(seed: u64) -> Self {
        Self { seed, scale: Scale(0.0003), journal: Journal::Wal, page_size: 4096 }
    }

    /// The standard agent at this scale.
    #[must_use]
    pub const fn standard(scale: Scale) -> Self {
        Self { seed: 42, scale, journal: Journal::Wal, page_size: 4096 }
    }

    /// With this journal mode.
    #[must_use]
    pub const fn with_journal(mut self, journal: Journal) -> Self {
        self.journal = journal;
        self
    }
}

impl Scale {
    /// This share of `bytes`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "sizes are approximate; a negative or huge scale saturates"
    )]
    pub(crate) fn of(self, bytes: u64) -> u64 {
        (bytes as f64 * self.0) as u64
    }
}

impl Journal {
    /// As in `PRAGMA journal_mode`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Persist => "persist",
        }
    }
}

impl Agent {
    /// Makes the agent below `root`.
    ///
    /// # Errors
    /// If it is there already, or a file, database or repository cannot be made.
    pub fn create(root: &Path, id: AgentId, seed: &Seed) -> Result<Self, KitError> {
        let agent = Self::at(root, id);
        let mut random = Random::new(seed.seed);
        let words = Vocabulary::new(&mut random);
        for dir in [agent.memdir(), agent.sqlite_dir()] {
            fs::create_dir_all(&dir).map_err(KitError::io("make the folder", &dir))?;
        }
        for store in CLASSIC_STORES {
            stores::create(&agent.store(store), store, seed, &mut random, &words)?;
        }
        memdir::create(&agent.memdir(), seed.scale, &mut random, &words)?;
        agent.write_state("extract_cursor", &json!({"session": random.uuid(), "counter": 0}))?;
        let dream = json!({"id": random.uuid(), "status": "done", "started_at": SEEDED_AT_S});
        agent.write_state("dream_run", &dream)?;
        Ok(agent)
    }

    /// The agent that was made below `root`.
    #[must_use]
    pub fn at(root: &Path, id: AgentId) -> Self {
        Self { root: root.to_owned(), id }
    }

    /// The folder that it was made in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &AgentId {
        &self.id
    }

    /// What `--memdir-root` takes.
    #[must_use]
    pub fn memdir_root(&self) -> PathBuf {
        self.root.join("memdir")
    }

    /// What `--sqlite-root` takes.
    #[must_use]
    pub fn sqlite_root(&self) -> PathBuf {
        self.root.join("sqlite")
    }

    /// Its memdir, a git repository.
    #[must_use]
    pub fn memdir(&self) -> PathBuf {
        self.memdir_root().join(self.id.as_str())
    }

    /// The folder of its databases and state.
    #[must_use]
    pub fn sqlite_dir(&self) -> PathBuf {
        self.sqlite_root().join(self.id.as_str())
    }

    /// The file of a classic store.
    #[must_use]
    pub fn store(&self, name: &str) -> PathBuf {
        self.sqlite_dir().join(format!("{name}.sqlite"))
    }

    /// A piece of state: `extract_cursor` or `dream_run`.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.sqlite_dir().join(format!("{name}.json"))
    }

    /// Its layout.
    #[must_use]
    pub fn layout(&self) -> MemoryLayout {
        MemoryLayout::classic_roots(&self.memdir_root(), &self.sqlite_root(), &self.id)
    }

    /// Git in its memdir.
    #[must_use]
    pub fn git(&self) -> Git {
        Git::at(self.memdir())
    }

    /// A connection as the agent's own: it waits for others, and creates nothing.
    ///
    /// # Errors
    /// If the database cannot be opened.
    pub fn connect(&self, store: &str) -> Result<Connection, KitError> {
        let path = self.store(store);
        let open = || {
            let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(BUSY)?;
            // No test pulls the plug on a writer; a kill loses nothing without syncs.
            connection.pragma_update(None, "synchronous", "OFF")?;
            Ok(connection)
        };
        open().map_err(KitError::sql("open", &path))
    }

    /// Learns something: a row that the full-text search finds, a note, a commit. It takes a turn
    /// of the torture writers, for git commits to a branch that moves meanwhile fail.
    ///
    /// # Errors
    /// If a database or the repository refuses.
    pub fn remember(&self, title: &str, content: &str) -> Result<(), KitError> {
        let turn = self.turn()?;
        turn.lock().map_err(KitError::io("lock a turn of", &self.root))?;
        let path = self.store("long_term");
        let seed = title.bytes().fold(7u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        let id = Random::new(seed).uuid();
        self.connect("long_term")?
            .execute(
                "INSERT INTO memories (id, title, content, metadata, created_at) \
                 VALUES (?1, ?2, ?3, '{\"source\":\"chat\"}', ?4)",
                params![id, title, content, SEEDED_AT_S * 1000],
            )
            .map_err(KitError::sql("insert into", &path))?;
        let note = self.memdir().join("notes").join(format!("{}.md", &id[..8]));
        fs::write(&note, format!("# {title}\n\n{content}\n"))
            .map_err(KitError::io("write", &note))?;
        self.git().run(&["add", "notes"])?;
        self.git().run(&["commit", "--quiet", "--message", title])?;
        Ok(())
    }

    /// Titles of the memories that the full-text search finds.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn recall(&self, query: &str) -> Result<Vec<String>, KitError> {
        let path = self.store("long_term");
        let connection = self.connect("long_term")?;
        let find = || -> rusqlite::Result<Vec<String>> {
            connection
                .prepare(
                    "SELECT title FROM memories_fts WHERE memories_fts MATCH ?1 ORDER BY rowid",
                )?
                .query_map([query], |row| row.get(0))?
                .collect()
        };
        find().map_err(KitError::sql("search", &path))
    }

    /// The lock of the writers that take turns, not yet held.
    pub(crate) fn turn(&self) -> Result<File, KitError> {
        let path = self.root.join("turn.lock");
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(KitError::io("open", &path))
    }

    /// Replaces a piece of state so that readers see the old or the new one.
    pub(crate) fn write_state(
        &self,
        name: &str,
        value: &serde_json::Value,
    ) -> Result<(), KitError> {
        let (path, temp) = (self.state(name), self.sqlite_dir().join(format!(".{name}.new")));
        fs::write(&temp, format!("{value}\n")).map_err(KitError::io("write", &temp))?;
        fs::rename(&temp, &path).map_err(KitError::io("rename to", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Memory;

    fn make(seed: Seed) -> (tempfile::TempDir, Agent) {
        let tmp = tempfile::tempdir().unwrap();
        let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &seed).unwrap();
        (tmp, agent)
    }

    /// Would catch: content that depends on the time, the machine or a hash map's order.
    #[test]
    fn a_seed_says_everything() {
        let (_a, a) = make(Seed::tiny(1));
        let (_b, b) = make(Seed::tiny(1));
        let (_c, c) = make(Seed::tiny(2));
        let read = |agent: &Agent| Memory::read(&agent.layout()).unwrap();
        assert_eq!(read(&a).differences(&read(&b)), Vec::<String>::new());
        assert!(read(&a).differences(&read(&c)).len() > 4, "every store and the files differ");
        for store in CLASSIC_STORES {
            assert_eq!(fs::read(a.store(store)).unwrap(), fs::read(b.store(store)).unwrap());
        }
    }

    /// Would catch: an agent too plain to prove anything.
    #[test]
    fn it_has_what_real_agents_have() {
        let (_tmp, agent) = make(Seed::tiny(1));
        let memory = Memory::read(&agent.layout()).unwrap();
        assert_eq!(memory.stores.len(), 4);
        assert!(memory.stores["long_term"].tables.contains_key("memories_fts"));
        assert!(memory.refs.len() >= 5, "{:?}", memory.refs);
        let kinds = |k: &str| memory.files.values().filter(|node| node.kind == k).count();
        assert!(kinds("file") > 20 && kinds("symlink") >= 1 && kinds("folder") >= 3);
        assert!(memory.files.values().any(|node| node.mode == 0o755 && node.kind == "file"));
        assert_eq!(memory.state.len(), 2);
        agent.git().run(&["fsck", "--full", "--strict"]).unwrap();
        let commits = agent.git().run(&["rev-list", "--all", "--count"]).unwrap();
        assert!(commits.parse::<u32>().unwrap() >= 24, "{commits}");
    }

    /// Would catch: a scale that does not scale, or a standard agent of another size.
    #[test]
    fn stores_have_about_the_size_asked_for() {
        let (_tmp, agent) = make(Seed::standard(Scale(0.005)));
        for (store, megabytes) in [("long_term", 3.0), ("vector", 1.5), ("concepts", 0.25)] {
            let size = fs::metadata(agent.store(store)).unwrap().len() as f64 / 1e6;
            assert!((0.9..1.5).contains(&(size / megabytes)), "{store}: {size} MB");
        }
    }

    #[test]
    fn what_it_learns_it_recalls() {
        let (_tmp, agent) = make(Seed::tiny(1).with_journal(Journal::Delete));
        assert!(agent.recall("zebra").unwrap().is_empty());
        agent.remember("The zebra pays no tax", "Said by an email.").unwrap();
        assert_eq!(agent.recall("zebra").unwrap(), ["The zebra pays no tax"]);
        assert_eq!(
            agent.git().run(&["log", "-1", "--format=%s"]).unwrap(),
            "The zebra pays no tax"
        );
    }
}
