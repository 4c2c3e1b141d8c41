//! The restore's intent journal: written and synced before the first live byte changes, removed
//! after the last. Whoever finds it finishes the restore, or asks somebody.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use snapshot_core::mutants::{holds, off};
use snapshot_core::{
    AgentId, ParseError, Sha256Digest, SnapshotId, StateKind, StateLayout, Tenant,
};
use snapshot_fs::Dir;

use crate::error::StoresError;
use crate::files::FileTarget;
use crate::git::GitTargets;
use crate::restore::target::StoreTarget;
use crate::state::StatePiece;

/// The journal's name in the work folder.
const JOURNAL: &str = "journal.json";
/// The staging folder's name in the work folder.
const STAGED: &str = "staged";
/// Names, in the staging folder, the restore that stages: what lies in the memory under its id is its own.
const STAGED_BY: &str = "restore-id";
/// Names the last restore that finished, so that an agent can notice it.
const EPOCH: &str = "epoch";
/// Format of the journal; another one is never guessed at.
const VERSION: u32 = 1;
/// Bytes of an id, as text.
const MAX_ID_BYTES: u64 = 36;
/// Largest journal, in bytes: twice the files that a bundle may have, and the runtime state.
const MAX_JOURNAL_BYTES: u64 = 128 << 20;

/// What a restore is about to do, and how to tell what it has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    version: u32,
    pub(crate) restore_id: SnapshotId,
    pub(crate) agent: AgentId,
    pub(crate) tenant: Tenant,
    pub(crate) from: SnapshotId,
    pub(crate) pre_snapshot: Option<SnapshotId>,
    /// The snapshot taken when a recovery found that somebody had worked since.
    pub(crate) pre_recovery: Option<SnapshotId>,
    pub(crate) stores: Vec<StoreTarget>,
    pub(crate) memdir: Option<PathBuf>,
    pub(crate) files: Vec<FileTarget>,
    pub(crate) git: Option<GitTargets>,
    pub(crate) state_layout: StateLayout,
    pub(crate) state: Vec<StateTarget>,
}

/// One piece of runtime state, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateTarget {
    pub(crate) cursor: bool,
    pub(crate) before: Option<Sha256Digest>,
    /// The JSON text to put back, none to remove the piece.
    pub(crate) after: Option<Vec<u8>>,
}

/// All that is believed of a journal before its version is ours.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The folder of one agent's restores: journal, staging, epoch.
#[derive(Debug, Clone)]
pub(crate) struct Work<'a> {
    dir: &'a Dir,
}

impl Journal {
    pub(crate) fn new(
        restore_id: SnapshotId,
        agent: AgentId,
        tenant: Tenant,
        from: SnapshotId,
    ) -> Self {
        Self {
            version: VERSION,
            restore_id,
            agent,
            tenant,
            from,
            pre_snapshot: None,
            pre_recovery: None,
            stores: Vec::new(),
            memdir: None,
            files: Vec::new(),
            git: None,
            state_layout: StateLayout::default(),
            state: Vec::new(),
        }
    }
}

impl StateTarget {
    pub(crate) fn new(kind: StateKind, before: Option<&[u8]>, after: Option<&[u8]>) -> Self {
        Self {
            cursor: kind == StateKind::ExtractCursor,
            before: before.map(Sha256Digest::of),
            after: after.map(<[u8]>::to_vec),
        }
    }

    pub(crate) fn kind(&self) -> StateKind {
        if self.cursor { StateKind::ExtractCursor } else { StateKind::DreamRun }
    }

    pub(crate) fn piece(&self) -> StatePiece {
        StatePiece { kind: self.kind(), json: self.after.clone() }
    }

    /// Whether `now` is the content before or after.
    pub(crate) fn knows(&self, now: Option<&[u8]>) -> bool {
        now.map(Sha256Digest::of) == self.before || now == self.after.as_deref()
    }
}

impl<'a> Work<'a> {
    pub(crate) fn new(dir: &'a Dir) -> Self {
        Self { dir }
    }

    /// The staging folder, emptied, of restore `id`: it says so before anything is staged elsewhere.
    pub(crate) fn fresh_staging(&self, id: SnapshotId) -> Result<Dir, StoresError> {
        self.dir.remove_tree(STAGED)?;
        let staging = self.dir.ensure_sub(STAGED, 0o700)?;
        if !off() {
            staging.write_atomic(STAGED_BY, id.to_string().as_bytes(), 0o600)?;
        }
        Ok(staging)
    }

    /// The restore that staged last and has not cleared it.
    pub(crate) fn staged_by(&self) -> Result<Option<SnapshotId>, StoresError> {
        let path = Path::new(STAGED).join(STAGED_BY);
        let (dir, name) = match self.dir.sub(STAGED) {
            Err(e) if e.is_not_found() => return Ok(None),
            sub => (sub?, STAGED_BY),
        };
        match dir.read(name, MAX_ID_BYTES) {
            // It died before it staged anything.
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
            Ok(bytes) => {
                String::from_utf8_lossy(&bytes).parse().map(Some).map_err(|e: ParseError| {
                    StoresError::Journal { path: self.dir.path().join(path), why: e.to_string() }
                })
            }
        }
    }

    /// Where the staging folder lies, if it is there.
    pub(crate) fn staged(&self) -> Result<Option<PathBuf>, StoresError> {
        Ok(self.dir.stat(STAGED)?.map(|_| self.dir.path().join(STAGED)))
    }

    /// The staging folder as an interrupted restore left it.
    pub(crate) fn staging(&self) -> Result<Dir, StoresError> {
        Ok(self.dir.sub(STAGED)?)
    }

    pub(crate) fn read(&self) -> Result<Option<Journal>, StoresError> {
        let bytes = match self.dir.read(JOURNAL, MAX_JOURNAL_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let bad = |why| StoresError::Journal { path: self.dir.path().join(JOURNAL), why };
        // The version first: a newer journal may have another shape.
        let Version { version } = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if !holds(version <= VERSION) {
            let (found, supported) =
                (format!("journal version {version}"), format!("journal version {VERSION}"));
            return Err(ParseError::TooNew { found, supported }.into());
        }
        if !holds(version == VERSION) {
            return Err(bad(format!("version {version}, and this program knows {VERSION}")));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|e| bad(e.to_string()))
    }

    pub(crate) fn write(&self, journal: &Journal) -> Result<(), StoresError> {
        let bad = |e: serde_json::Error| StoresError::Journal {
            path: self.dir.path().join(JOURNAL),
            why: e.to_string(),
        };
        let bytes = serde_json::to_vec(journal).map_err(bad)?;
        if bytes.len() as u64 > MAX_JOURNAL_BYTES {
            let why = format!("it would have over {MAX_JOURNAL_BYTES} bytes");
            return Err(StoresError::Journal { path: self.dir.path().join(JOURNAL), why });
        }
        Ok(self.dir.write_atomic(JOURNAL, &bytes, 0o600)?)
    }

    /// Everything is done: the epoch names it, then the journal and the staging go.
    pub(crate) fn finish(&self, journal: &Journal) -> Result<(), StoresError> {
        if !off() {
            let epoch = format!("{}\n", journal.restore_id);
            self.dir.write_atomic(EPOCH, epoch.as_bytes(), 0o600)?;
        }
        self.drop_journal()?;
        self.clear_staging()
    }

    /// The journal goes; what is live and what is staged stay.
    pub(crate) fn drop_journal(&self) -> Result<(), StoresError> {
        match self.dir.unlink(JOURNAL) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(self.dir.sync()?),
        }
    }

    /// Removes staging that belongs to no journal.
    pub(crate) fn clear_staging(&self) -> Result<(), StoresError> {
        Ok(self.dir.remove_tree(STAGED)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use snapshot_fs::DurableFs;

    use super::*;

    /// Would catch: a journal that is read, or written, past what a reader takes.
    #[test]
    fn a_journal_is_as_long_as_its_limit_and_no_longer() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        let work = Work::new(&dir);
        let (id, ana) = (SnapshotId::from_random_bytes([7; 16]), AgentId::from_static("ana"));
        let mut journal = Journal::new(id, ana, Tenant::default(), id);
        work.write(&journal).unwrap();
        let written = std::fs::metadata(tmp.path().join(JOURNAL)).unwrap().len();
        let pad = |bytes: u64| {
            let mut file = std::fs::File::options().append(true).open(tmp.path().join(JOURNAL));
            let blanks = vec![b' '; usize::try_from(bytes).unwrap()];
            file.as_mut().unwrap().write_all(&blanks).unwrap();
        };
        pad(MAX_JOURNAL_BYTES - written);
        assert!(work.read().unwrap().is_some());
        pad(1);
        assert!(work.read().is_err());
        let long = "x".repeat(usize::try_from(MAX_JOURNAL_BYTES).unwrap());
        journal.memdir = Some(long.into());
        assert!(work.write(&journal).is_err());
    }
}
