//! The cut: one instant across every store, the repository and the runtime state.
//!
//! Invariant: the gates of all databases are held together or not at all, and nothing whose cost
//! grows with the memory happens while they are.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use snapshot_core::{
    AgentId, Clock, Control, MemoryLayout, StateKind, StateProvider, Step, UnstableFile,
};
use snapshot_fs::{Dir, DurableFs};

use crate::error::StoresError;
use crate::git::{GitRepo, PinnedGit};
use crate::pinned::{Pinned, PinnedStore};
use crate::sources::Sources;
use crate::sqlite::{Backoff, Gates, Live};
use crate::state::{self, StatePiece};

/// Tries to read a JSON state file that is caught half-written.
const MAX_TORN_READS: u32 = 5;

/// Tries to read refs and state twice alike.
const MAX_READINGS: u32 = 16;

/// How a capture runs.
#[derive(Clone, Copy)]
pub struct CaptureOptions<'a> {
    /// Whose memory.
    pub agent: &'a AgentId,
    /// The durable file system.
    pub fs: &'a DurableFs,
    /// A private folder for what must be spooled (the git bundle, large files).
    pub spool: &'a Dir,
    /// The clock that dates the instant.
    pub clock: &'a dyn Clock,
    /// Runtime state kept by the host, instead of the layout's.
    pub state: Option<&'a dyn StateProvider>,
    /// How long to wait for busy databases.
    pub timeout: Duration,
    /// Cancel, deadline, progress.
    pub control: &'a Control,
    /// Largest git object carried, in bytes.
    pub max_git_object_bytes: u64,
    /// Whether `integrity_check` runs over what is captured.
    pub check_integrity: bool,
}

/// What was read while the writers were held.
#[derive(PartialEq)]
pub(crate) struct Instant0 {
    pub(crate) at_ms: i64,
    pub(crate) git: Option<PinnedGit>,
    pub(crate) state: Vec<StatePiece>,
    pub(crate) torn_state: Vec<UnstableFile>,
}

/// Takes the cut. What it returns is still on the agent's disk, but held still: reader transactions
/// pin the databases, and everything small was read.
///
/// # Errors
/// [`StoresError::UnknownAgent`] where the layout finds nothing, [`StoresError::Busy`] where a
/// database stays locked past the timeout; others name the part that cannot be captured.
pub fn cut<'a>(
    layout: &MemoryLayout,
    opts: &CaptureOptions<'a>,
) -> Result<Pinned<'a>, StoresError> {
    opts.control.check().map_err(StoresError::stopped("taking the cut"))?;
    let sources = Sources::discover(opts.fs, opts.agent, layout, opts.control)?;
    let lives: Vec<Live> = sources.databases.iter().map(|d| d.live.clone()).collect();
    let mut backoff = Backoff::new(opts.timeout, opts.control);
    let (gates, readers) = loop {
        match open_all(&lives) {
            Ok(opened) => break opened,
            Err(e) => backoff.pause_after(e)?,
        }
    };
    let mut torn_reads = 0;
    loop {
        opts.control.advance(Step::Cut, 0, 0);
        let mut started = Instant::now();
        // Mostly nothing changes until the gates are shut: then one reading under them is enough.
        let tried = read_once(&sources, opts).and_then(|before| {
            started = Instant::now();
            gates.shut()?;
            pin(&lives, &readers)?;
            read_instant(&sources, opts, Some(before))
        });
        let instant = match tried {
            Ok(instant) => instant,
            Err(e) => {
                unpin(&lives, &readers)?;
                gates.open_all()?;
                backoff.pause_after(e)?;
                continue;
            }
        };
        if !instant.torn_state.is_empty() && torn_reads < MAX_TORN_READS {
            torn_reads += 1;
            unpin(&lives, &readers)?;
            gates.open_all()?;
            continue;
        }
        let mut stores = Vec::new();
        for (at, (database, reader)) in sources.databases.iter().zip(readers).enumerate() {
            let store = PinnedStore::new(database, reader)?;
            if store.shape().is_wal() {
                gates.open_one(at)?;
            }
            stores.push(store);
        }
        let held = started.elapsed();
        return Pinned::new(*opts, sources, stores, Some(gates), instant, started, held);
    }
}

/// Opens a gate and a reader to each database; in rollback-journal mode even that can be busy.
fn open_all(lives: &[Live]) -> Result<(Gates, Vec<Connection>), StoresError> {
    let readers = lives.iter().map(open_reader).collect::<Result<_, _>>()?;
    Ok((Gates::open(lives)?, readers))
}

/// Opens a reader and lets it parse the schema, so that nothing of that happens under the gates.
pub(crate) fn open_reader(live: &Live) -> Result<Connection, StoresError> {
    let conn = live.open_impatient()?;
    // Busy here is no fault: the pin reads again under the gate.
    let _ = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    Ok(conn)
}

/// Begins a read transaction and reads: BEGIN alone pins nothing.
pub(crate) fn pin_one(live: &Live, conn: &Connection) -> Result<(), StoresError> {
    conn.execute_batch("BEGIN").map_err(StoresError::sqlite("pin", live.path()))?;
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(StoresError::sqlite("pin", live.path()))
}

fn pin(lives: &[Live], readers: &[Connection]) -> Result<(), StoresError> {
    lives.iter().zip(readers).try_for_each(|(live, conn)| pin_one(live, conn))
}

fn unpin(lives: &[Live], readers: &[Connection]) -> Result<(), StoresError> {
    for (live, conn) in lives.iter().zip(readers).filter(|(_, conn)| !conn.is_autocommit()) {
        conn.execute_batch("ROLLBACK").map_err(StoresError::sqlite("unpin", live.path()))?;
    }
    Ok(())
}

/// Everything small that must be of the instant; writers of the databases are held, those of refs
/// and state files are not. So it is read until two readings agree: then nothing changed between
/// them, and all of it was there together when the later one began, which is under the hold even
/// where the earlier one, `before`, is not.
pub(crate) fn read_instant(
    sources: &Sources,
    opts: &CaptureOptions<'_>,
    before: Option<Instant0>,
) -> Result<Instant0, StoresError> {
    let mut last = match before {
        Some(before) => before,
        None => read_once(sources, opts)?,
    };
    for _ in 1..MAX_READINGS {
        let again = read_once(sources, opts)?;
        last.at_ms = again.at_ms;
        if again == last {
            return Ok(again);
        }
        last = again;
    }
    let why = "refs and state kept changing while they were read".to_owned();
    last.torn_state.push(UnstableFile { path: "state".to_owned(), why });
    Ok(last)
}

fn read_once(sources: &Sources, opts: &CaptureOptions<'_>) -> Result<Instant0, StoresError> {
    opts.control.check().map_err(StoresError::stopped("taking the cut"))?;
    let repo = sources.memdir.as_ref().and_then(|memdir| memdir.repo.as_ref());
    let git = repo.map(GitRepo::read_refs).transpose()?;
    let mut state = Vec::new();
    let mut torn_state = Vec::new();
    if let Some(provider) = opts.state {
        for kind in StateKind::ALL {
            state.push(StatePiece { kind, json: provider.capture(kind)? });
        }
    } else {
        for (kind, path) in &sources.json_state {
            let json = state::read_json(opts.fs, path)?;
            if json.as_deref().is_some_and(|json| !state::is_json(json)) {
                let why =
                    "it is not JSON, or was being written each time we looked; carried as it was"
                        .to_owned();
                torn_state.push(UnstableFile { path: path.display().to_string(), why });
            }
            state.push(StatePiece { kind: *kind, json });
        }
    }
    Ok(Instant0 { at_ms: opts.clock.now_ms(), git, state, torn_state })
}
