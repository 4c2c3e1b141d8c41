//! Three small agents of two tenants, with one vault and a configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nexo_memory_snapshot::error::error_chain;
use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use nexo_memory_snapshot::layout::MemoryLayout;
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder};
use nexo_memory_snapshot::ports::{Control, DefaultPathResolver};
use nexo_memory_snapshot::request::SnapshotRequest;
use rusqlite::Connection;
use snapshot_testkit::SeqIds;
use snapshot_testkit::compare::Memory;

use crate::Outcome;

/// An agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) tenant: &'static str,
    pub(super) id: &'static str,
    /// The journal mode of its store.
    journal: &'static str,
}

/// Every agent.
pub(super) const AGENTS: [Who; 3] = [
    Who { tenant: "default", id: "ana", journal: "wal" },
    Who { tenant: "default", id: "bob", journal: "delete" },
    Who { tenant: "acme", id: "cleo", journal: "wal" },
];

/// The states in which an agent has ever been: of the first two there is a snapshot, the last is live.
pub(super) const STATES: usize = 3;

/// How many snapshots of an agent a prune keeps at least.
pub(super) const KEPT: usize = 2;

/// The agents and their vault.
#[derive(Debug)]
pub(super) struct World {
    dir: PathBuf,
    /// What each agent was in each state.
    states: Arc<Vec<Vec<Memory>>>,
}

/// The id of an agent's snapshot of one of the first two states.
pub(super) fn old_snapshot(agent: usize, state: usize) -> SnapshotId {
    SeqIds::nth((agent * 2 + state) as u64)
}

impl Who {
    pub(super) fn agent(&self) -> AgentId {
        AgentId::from_static(self.id)
    }

    pub(super) fn tenant(&self) -> Tenant {
        Tenant::from_static(self.tenant)
    }
}

impl World {
    /// Makes one below `dir`.
    pub(super) fn create(dir: &Path) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("memory.yaml"), configuration())?;
        let world = Self { dir: dir.to_owned(), states: Arc::default() };
        let engine = world.builder().ids(Arc::new(SeqIds::starting_at(0))).build()?;
        let mut states = Vec::new();
        for who in AGENTS {
            let mut of_agent = Vec::new();
            for state in 0..STATES {
                world.set(who, state)?;
                of_agent.push(Memory::read(&world.layout(who))?);
                if state + 1 < STATES {
                    let request = SnapshotRequest::cli(who.agent(), who.tenant());
                    engine.snapshot(&request, &Control::default()).map_err(|e| error_chain(&e))?;
                }
            }
            states.push(of_agent);
        }
        Ok(Self { states: Arc::new(states), ..world })
    }

    /// A copy below `dir`.
    pub(super) fn copy_to(&self, dir: &Path) -> Outcome<Self> {
        let copied = Command::new("cp").arg("-a").args([self.dir.as_path(), dir]).status()?;
        match copied.success() {
            true => Ok(Self { dir: dir.to_owned(), states: Arc::clone(&self.states) }),
            false => Err(format!("cannot copy {}", self.dir.display()).into()),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn vault(&self) -> PathBuf {
        self.dir.join("vault")
    }

    /// Where the memories are.
    pub(super) fn memories(&self) -> [PathBuf; 2] {
        [self.dir.join("memdirs"), self.dir.join("stores")]
    }

    pub(super) fn layout(&self, who: Who) -> MemoryLayout {
        let [memdirs, stores] = self.memories();
        MemoryLayout::classic_roots(&memdirs, &stores, &who.agent())
    }

    pub(super) fn store(&self, who: Who) -> PathBuf {
        self.dir.join("stores").join(who.id).join("long_term.sqlite")
    }

    /// An engine as the program makes it from the configuration.
    pub(super) fn engine(&self) -> Outcome<Engine> {
        Ok(self.builder().build()?)
    }

    fn builder(&self) -> EngineBuilder {
        let [memdir_root, sqlite_root] = self.memories();
        Engine::builder()
            .root(self.vault())
            .layouts(Arc::new(DefaultPathResolver { memdir_root, sqlite_root }))
            .threads(1)
    }

    /// In which of the states this memory of an agent is.
    pub(super) fn state_of(&self, agent: usize, memory: &Memory) -> Result<usize, String> {
        let states = &self.states[agent];
        let is = |state: &Memory| state.differences_after_restore(memory).is_empty();
        states.iter().position(is).ok_or_else(|| {
            let differ = states.iter().map(|state| state.differences_after_restore(memory));
            format!("it is in no state that ever was: {:?}", differ.collect::<Vec<_>>())
        })
    }

    /// Brings an agent into a state: every part of its memory tells which.
    fn set(&self, who: Who, state: usize) -> Outcome<()> {
        let (memdir, store) = (self.dir.join("memdirs").join(who.id), self.store(who));
        let sqlite_dir = self.dir.join("stores").join(who.id);
        fs::create_dir_all(memdir.join("notes"))?;
        fs::create_dir_all(&sqlite_dir)?;
        let line = format!("{} in state {state}\n", who.id);
        fs::write(memdir.join("MEMORY.md"), &line)?;
        fs::write(memdir.join("notes/day.md"), line.repeat(100 * (state + 1)))?;
        fs::write(memdir.join(format!("only-{state}.md")), &line)?;
        if let Some(before) = state.checked_sub(1) {
            fs::remove_file(memdir.join(format!("only-{before}.md")))?;
        }
        fs::write(sqlite_dir.join("extract_cursor.json"), format!("{{\"state\":{state}}}"))?;
        let conn = Connection::open(store)?;
        conn.query_row(&format!("PRAGMA journal_mode={}", who.journal), [], |_| Ok(()))?;
        conn.execute_batch(&format!(
            "BEGIN; CREATE TABLE IF NOT EXISTS fact(id INTEGER PRIMARY KEY, word TEXT); DELETE FROM fact;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
             INSERT INTO fact SELECT i, 'state {state} ' || hex(zeroblob(50)) FROM n; COMMIT",
            40 * (state + 1)
        ))?;
        Ok(())
    }
}

fn configuration() -> String {
    format!(
        "memory:\n  snapshot:\n    root: vault\n    memdir_root: memdirs\n    sqlite_root: stores\n    \
         retention: {{ keep_count: {KEPT} }}\n"
    )
}
