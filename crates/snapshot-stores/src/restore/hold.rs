//! The one continuous hold: the write locks of every store, from the look at the present state to
//! the commit.
//!
//! WAL: a backup into the live database whose `step(0)` takes its write lock; readers go on.
//! Rollback journal: an exclusive lock on the target connection; readers wait too.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use snapshot_core::Sha256Digest;
use snapshot_core::mutants::{holds, off};
use snapshot_fs::{Dir, DurableFs};

use crate::error::StoresError;
use crate::restore::target::{Action, StoreTarget, new_file_meta};
use crate::sqlite::{Live, open_staged, page_digest};

/// Every existing target, locked against writers.
pub(crate) struct Held<'h> {
    wal: Vec<HeldWal<'h>>,
    rollback: &'h mut Vec<Target>,
}

/// A locked target in WAL mode: a backup whose first step took the write lock.
struct HeldWal<'h> {
    index: usize,
    backup: Backup<'h, 'h>,
}

/// Connections to one target.
struct Target {
    index: usize,
    live: Live,
    conn: Connection,
    staged: Connection,
    data_version: i64,
}

/// Why a hold did not come about, or what came of it.
pub(crate) enum Attempt {
    /// Somebody else holds a store; nothing happened.
    Busy(StoresError),
    /// Everything else.
    Failed(StoresError),
}

/// What was found when a committed store was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadBack {
    /// The snapshot's content.
    Same,
    /// A writer came first; what it wrote stands on the snapshot's content.
    Overtaken,
}

/// What runs under the hold: gives a value, and the indexes of the targets that it committed.
type Body<'b, T> = &'b mut dyn FnMut(&mut Held<'_>) -> Result<(T, Vec<usize>), StoresError>;

/// Takes the write locks of all `targets` that exist, or none, and runs `body` under them; then
/// reads back what `body` says it committed (indexes into `targets`).
pub(crate) fn hold_once<T>(
    targets: &[StoreTarget],
    staging: &Dir,
    body: Body<'_, T>,
) -> Result<(T, Vec<(usize, ReadBack)>), Attempt> {
    let (mut wal, mut rollback) = open_targets(targets, staging).map_err(attempt)?;
    for target in &rollback {
        lock_rollback(target).map_err(attempt)?;
    }
    let mut held_wal = Vec::new();
    for Target { index, live, conn, staged, .. } in &mut wal {
        let backup = Backup::new(staged, conn)
            .map_err(StoresError::sqlite("begin writing to", live.path()))
            .map_err(attempt)?;
        match lock_wal(&backup, live).map_err(attempt)? {
            StepResult::More => held_wal.push(HeldWal { index: *index, backup }),
            // `Done` cannot be: a staged copy has at least one page.
            _ => {
                return Err(Attempt::Busy(StoresError::Busy {
                    path: live.path().to_owned(),
                    waited_ms: 0,
                }));
            }
        }
    }
    let mut held = Held { wal: held_wal, rollback: &mut rollback };
    let (value, committed) = body(&mut held).map_err(Attempt::Failed)?;
    drop(held);
    let mut seen = Vec::new();
    for target in wal.iter().chain(&rollback).filter(|t| committed.contains(&t.index)) {
        let read =
            read_back(target, targets[target.index].after, staging).map_err(Attempt::Failed)?;
        seen.push((target.index, read));
    }
    Ok((value, seen))
}

impl Held<'_> {
    /// The connections of rollback-journal targets, by path: nobody else can read those now.
    pub(crate) fn exclusive(&self) -> impl Iterator<Item = (&Path, &Connection)> {
        self.rollback.iter().map(|t| (t.live.path(), &t.conn))
    }

    /// The write lock of the target at `path` is ours.
    pub(crate) fn holds(&self, path: &Path, targets: &[StoreTarget]) -> bool {
        let wal = self.wal.iter().map(|h| h.index);
        wal.chain(self.rollback.iter().map(|t| t.index)).any(|i| targets[i].path == path)
    }

    /// Writes the `wanted` targets, each to one page short of its end, then runs `ready`, then
    /// commits them back to back. Until `ready` returns, the live content is the old one.
    pub(crate) fn commit(
        &mut self,
        fs: &DurableFs,
        targets: &[StoreTarget],
        wanted: &[usize],
        ready: &mut dyn FnMut() -> Result<(), StoresError>,
    ) -> Result<Vec<usize>, StoresError> {
        let mut backups: Vec<(usize, &Backup<'_, '_>)> = self
            .wal
            .iter()
            .filter(|h| wanted.contains(&h.index))
            .map(|h| (h.index, &h.backup))
            .collect();
        let mut exclusive = Vec::new();
        for Target { index, live, conn, staged, .. } in self.rollback.iter_mut() {
            if wanted.contains(index) {
                let backup = Backup::new(staged, conn)
                    .map_err(StoresError::sqlite("begin writing to", live.path()))?;
                exclusive.push((*index, backup));
            }
        }
        backups.extend(exclusive.iter().map(|(index, backup)| (*index, backup)));
        for (index, backup) in &backups {
            let target = &targets[*index];
            let all_but_one = i32::try_from(target.pages).unwrap_or(i32::MAX) - 1;
            fs.external("write the store", &target.path)?;
            if all_but_one > 0 {
                step(backup, all_but_one, &target.path)?;
            }
        }
        ready()?;
        sync_targets(fs, targets, wanted)?;
        let mut committed = Vec::new();
        for (index, backup) in &backups {
            let target = &targets[*index];
            fs.external("commit the store", &target.path)?;
            if step(backup, -1, &target.path)? != StepResult::Done {
                return Err(StoresError::integrity(
                    target.path.display(),
                    "its staged copy grew while it was written",
                ));
            }
            committed.push(*index);
        }
        Ok(committed)
    }
}

/// Creates the store at `target`, whose folder is there, with the staged content.
pub(crate) fn create(
    fs: &DurableFs,
    target: &StoreTarget,
    staging: &Dir,
) -> Result<(), StoresError> {
    let path = &target.path;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StoresError::refused(path, "not the path of a file"));
    };
    let dir = fs.open_dir(parent)?;
    if dir.stat(name)?.is_none() {
        // Made by us first, so that SQLite gives its `-wal` and journal the right owner and mode; and
        // under another name, so that it has them from its first moment.
        let (temp, file) = dir.create_temp(0o600)?;
        file.set_meta(new_file_meta(fs, parent, target.mode)?)?;
        dir.rename_new(&temp, name)?;
        dir.sync()?;
    }
    fs.external("create the store", path)?;
    let staged = open_staged(&staging.path().join(&target.staged))?;
    let mut conn = Live::new(path).open()?;
    let fail = |op| StoresError::sqlite(op, path);
    {
        let backup = Backup::new(&staged, &mut conn).map_err(fail("begin writing to"))?;
        step(&backup, -1, path)?;
    }
    set_journal_mode(fs, target, &conn)?;
    match holds(page_digest(&conn, path, staging)? == target.after) {
        true => Ok(()),
        false => Err(StoresError::integrity(
            path.display(),
            "reads back with another content than was written",
        )),
    }
}

/// Gives a store that was created its journal mode. May be repeated.
pub(crate) fn set_journal_mode(
    fs: &DurableFs,
    target: &StoreTarget,
    conn: &Connection,
) -> Result<(), StoresError> {
    if target.journal_mode != "wal" {
        return Ok(());
    }
    fs.external("set the journal mode of the store", &target.path)?;
    conn.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))
        .map_err(StoresError::sqlite("set the journal mode of", &target.path))
}

/// The page digest of a live file; none where it is absent or has no page.
pub(crate) fn digest_now(
    fs: &DurableFs,
    path: &Path,
    staging: &Dir,
) -> Result<Option<Sha256Digest>, StoresError> {
    if crate::sources::stat_file(fs, path)?.is_none() {
        return Ok(None);
    }
    let live = Live::new(path);
    let conn = live.open()?;
    match live.shape(&conn)?.page_count {
        0 => Ok(None),
        _ => page_digest(&conn, path, staging).map(Some),
    }
}

type Targets = (Vec<Target>, Vec<Target>);

fn open_targets(targets: &[StoreTarget], staging: &Dir) -> Result<Targets, StoresError> {
    let (mut wal, mut rollback) = (Vec::new(), Vec::new());
    for (index, target) in targets.iter().enumerate().filter(|(_, t)| t.action != Action::Create) {
        let live = Live::new(&target.path);
        let conn = live.open_impatient()?;
        let is_wal = live.shape(&conn)?.is_wal();
        let staged = open_staged(&staging.path().join(&target.staged))?;
        let data_version = data_version(&conn, live.path())?;
        let list = if is_wal { &mut wal } else { &mut rollback };
        list.push(Target { index, live, conn, staged, data_version });
    }
    Ok((wal, rollback))
}

/// Takes the write lock of a target in WAL mode, and writes nothing yet.
fn lock_wal(backup: &Backup<'_, '_>, live: &Live) -> Result<StepResult, StoresError> {
    if off() {
        return Ok(StepResult::More);
    }
    backup.step(0).map_err(StoresError::sqlite("hold the writers of", live.path()))
}

fn lock_rollback(target: &Target) -> Result<(), StoresError> {
    if off() {
        return Ok(());
    }
    // Rolled back, for a commit would write the first page of a database that has none; the lock
    // stays either way.
    target
        .conn
        .execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK")
        .map_err(StoresError::sqlite("hold the users of", target.live.path()))
}

fn step(backup: &Backup<'_, '_>, pages: i32, path: &Path) -> Result<StepResult, StoresError> {
    let result = backup.step(pages).map_err(StoresError::sqlite("write to", path))?;
    match result {
        StepResult::More | StepResult::Done => Ok(result),
        _ => Err(StoresError::Busy { path: path.to_owned(), waited_ms: 0 }),
    }
}

fn sync_targets(
    fs: &DurableFs,
    targets: &[StoreTarget],
    wanted: &[usize],
) -> Result<(), StoresError> {
    let mut devices = std::collections::HashSet::new();
    for parent in wanted.iter().filter_map(|&i| targets[i].path.parent()) {
        let dir = fs.open_dir(parent)?;
        if devices.insert(dir.stat_self()?.dev) {
            dir.sync_fs()?;
        }
    }
    Ok(())
}

fn read_back(target: &Target, after: Sha256Digest, staging: &Dir) -> Result<ReadBack, StoresError> {
    let path = target.live.path();
    let fail = || StoresError::sqlite("read back", path);
    target.conn.execute_batch("BEGIN").map_err(fail())?;
    let digest = page_digest(&target.conn, path, staging)?;
    target.conn.execute_batch("ROLLBACK").map_err(fail())?;
    if holds(digest == after) {
        return Ok(ReadBack::Same);
    }
    match holds(data_version(&target.conn, path)? != target.data_version) {
        false => Err(StoresError::integrity(
            path.display(),
            "reads back with another content than was written",
        )),
        true => Ok(ReadBack::Overtaken),
    }
}

fn data_version(conn: &Connection, path: &Path) -> Result<i64, StoresError> {
    conn.pragma_query_value(None, "data_version", |r| r.get(0))
        .map_err(StoresError::sqlite("look at", path))
}

fn attempt(error: StoresError) -> Attempt {
    if error.is_busy() { Attempt::Busy(error) } else { Attempt::Failed(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A live store in this journal mode, and what is to be put there.
    fn target(dir: &Dir, journal: &str) -> (Connection, StoreTarget) {
        let (path, staged) = (dir.path().join("live.sqlite"), dir.path().join("staged.sqlite"));
        let live = Connection::open(&path).unwrap();
        live.execute_batch(&format!("PRAGMA journal_mode={journal}; CREATE TABLE t (x)")).unwrap();
        let copy = Connection::open(&staged).unwrap();
        copy.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let target = StoreTarget {
            store: snapshot_core::StoreName::from_static("long_term"),
            path,
            action: Action::Replace,
            staged: "staged.sqlite".to_owned(),
            pages: 2,
            journal_mode: journal.to_owned(),
            mode: 0o600,
            before: None,
            after: page_digest(&copy, &staged, dir).unwrap(),
        };
        (live, target)
    }

    /// Would catch: a hold that holds nobody, and in which a writer's work is lost.
    #[test]
    fn nobody_writes_under_the_hold() {
        for journal in ["wal", "delete"] {
            let tmp = tempfile::tempdir().unwrap();
            let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
            let (live, target) = target(&dir, journal);
            live.busy_timeout(std::time::Duration::ZERO).unwrap();
            let mut body = |_: &mut Held<'_>| Ok((live.execute_batch("BEGIN IMMEDIATE"), vec![]));
            let Ok((written, _)) = hold_once(&[target], &dir, &mut body) else {
                panic!("{journal}: not held")
            };
            let refused = written.unwrap_err().sqlite_error_code();
            assert_eq!(refused, Some(rusqlite::ErrorCode::DatabaseBusy), "{journal}");
            live.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        }
    }

    /// Would catch: a store that was made with another content than was staged, and is said to be restored.
    #[test]
    fn what_is_created_is_what_was_staged() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        let (live, mut target) = target(&dir, "wal");
        drop(live);
        target.path = tmp.path().join("new.sqlite");
        create(&DurableFs::default(), &target, &dir).unwrap();
        target.after = Sha256Digest::of(b"other");
        let wrong = create(&DurableFs::default(), &target, &dir).unwrap_err();
        assert_eq!(wrong.kind(), snapshot_core::ErrorKind::Integrity, "{wrong}");
    }

    /// Would catch: a store that reads back as something else although nobody wrote to it, taken for the work of a
    /// writer; and a writer that came first taken for damage.
    #[test]
    fn what_reads_back_otherwise_is_a_writers_or_wrong() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        let path = tmp.path().join("live.sqlite");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x)").unwrap();
        let live = Live::new(&path);
        let conn = live.open().unwrap();
        let staged = Connection::open_in_memory().unwrap();
        let data_version = data_version(&conn, &path).unwrap();
        let written = page_digest(&conn, &path, &dir).unwrap();
        let target = Target { index: 0, live, conn, staged, data_version };
        assert_eq!(read_back(&target, written, &dir).unwrap(), ReadBack::Same);
        let other = Sha256Digest::of(b"other");
        let wrong = read_back(&target, other, &dir).unwrap_err();
        assert_eq!(wrong.kind(), snapshot_core::ErrorKind::Integrity, "{wrong}");
        writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(read_back(&target, written, &dir).unwrap(), ReadBack::Overtaken);
    }
}
