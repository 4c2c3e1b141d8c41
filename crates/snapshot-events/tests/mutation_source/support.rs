//! A host: a database file, a connection with a source, and what was told.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use snapshot_core::{AgentId, Clock, Tenant};
use snapshot_events::{
    MutationEvent, MutationOp, MutationScope, MutationSource, MutationSourceOptions,
    RecordingPublisher,
};
use tempfile::TempDir;

use crate::oracle::{self, Rows, Table};

/// Always the same time.
pub(crate) struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        12
    }
}

pub(crate) struct Host {
    pub(crate) dir: TempDir,
    pub(crate) conn: Connection,
    pub(crate) source: MutationSource,
    pub(crate) recording: Arc<RecordingPublisher>,
    /// What somebody knows who only heard of it.
    heard: Rows,
}

impl Host {
    /// With tables made before the source is attached.
    pub(crate) fn new(schema: &str) -> Self {
        Self::with(schema, |_| {})
    }

    pub(crate) fn with(schema: &str, adjust: impl FnOnce(&mut MutationSourceOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conn = open(&dir);
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;").unwrap();
        conn.execute_batch(schema).unwrap();
        let recording = Arc::new(RecordingPublisher::default());
        let mut options = options(&recording);
        adjust(&mut options);
        let source = MutationSource::attach(&conn, options).unwrap();
        Self { dir, conn, source, recording, heard: Rows::new() }
    }

    pub(crate) fn run(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap();
    }

    pub(crate) fn fails(&self, sql: &str) -> String {
        self.conn.execute_batch(sql).unwrap_err().to_string()
    }

    /// Another connection to the same file.
    pub(crate) fn other(&self) -> Connection {
        open(&self.dir)
    }

    /// The events since the last look.
    pub(crate) fn events(&self) -> Vec<MutationEvent> {
        self.recording.mutation.lock().drain(..).map(|envelope| envelope.event).collect()
    }

    /// The same, as `+key`, `~key` and `-key`.
    pub(crate) fn told(&self) -> Vec<String> {
        let mark = |op| match op {
            MutationOp::Insert => '+',
            MutationOp::Update => '~',
            MutationOp::Delete => '-',
        };
        let told = |event: MutationEvent| format!("{}{}", mark(event.op), event.key);
        self.events().into_iter().map(told).collect()
    }

    /// Whoever heard of all changes knows what the database holds.
    pub(crate) fn agrees(&mut self, tables: &[Table]) {
        for event in self.events() {
            let MutationEvent { op, key, old_hash, new_hash, .. } = event;
            let before = match &new_hash {
                Some(new) => self.heard.insert(key.clone(), new.clone()),
                None => self.heard.remove(&key),
            };
            assert_eq!(before, old_hash, "{op:?} of {key}");
            let op_fits = match op {
                MutationOp::Insert => before.is_none() && new_hash.is_some(),
                MutationOp::Update => before.is_some() && new_hash.is_some() && before != new_hash,
                MutationOp::Delete => before.is_some() && new_hash.is_none(),
            };
            assert!(op_fits, "{op:?} of {key}");
        }
        assert_eq!(self.heard, oracle::rows(&self.other(), tables));
        assert_eq!(self.source.stats().dropped, 0);
    }
}

pub(crate) fn options(recording: &Arc<RecordingPublisher>) -> MutationSourceOptions {
    let (ana, scope) = (AgentId::from_static("ana"), MutationScope::SqliteLongTerm);
    let options = MutationSourceOptions::new(ana, Tenant::default(), scope, recording.clone());
    MutationSourceOptions { clock: Arc::new(Noon), ..options }
}

fn open(dir: &TempDir) -> Connection {
    let path: PathBuf = dir.path().join("memory.sqlite");
    Connection::open(path).unwrap()
}
