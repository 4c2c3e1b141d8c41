//! Records what a deed does to its folder, change by change, as a hook of the layer.
//!
//! Before each operation of the layer the real folder is looked at, and what is other than at the look before goes
//! into the log: what our layer did and what other libraries did is seen alike. Only syncs are taken from what is
//! announced, for they leave no trace.
//!
//! The databases of the agent are SQLite's, which syncs them itself before it calls a transaction done: what changes
//! in them, their logs and journals between two looks counts as durable and atomic. That SQLite keeps this promise
//! and that we use it rightly is for the real cuts to show. So it is with the content of refs that libgit2 writes: it
//! is told to sync them. Their names, and all else that it writes, count as any other file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use snapshot_fs::{Hook, Op, OpKind};

use super::disk::{Body, Change, Disk, Entry, Event, Inode, Item, Node, ROOT, Stamp};
use crate::Outcome;

/// What libgit2 is announced to do, and to sync.
const REFS: OpKind = OpKind::External("set the refs");

/// What a deed did.
#[derive(Debug)]
pub(super) struct Log {
    /// Before it; inodes that came later have no name here.
    pub(super) base: Disk,
    pub(super) events: Vec<Event>,
    /// Moments at which the power may go: right before each operation, and after the last. Each is the number
    /// of events until then.
    pub(super) moments: Vec<usize>,
    /// Numbers of the syncs, with what is synced.
    pub(super) syncs: Vec<(usize, String)>,
}

impl Log {
    /// Nothing yet.
    fn of(base: Disk) -> Self {
        Self { base, events: Vec::new(), moments: Vec::new(), syncs: Vec::new() }
    }
}

/// The hook.
pub(super) struct Recorder {
    root: PathBuf,
    seen: Mutex<Seen>,
}

/// What was seen so far.
struct Seen {
    log: Log,
    /// With all changes.
    now: Disk,
    names: Names,
    /// Of each file at the last look, by what the real file system calls it.
    known: HashMap<u64, Known>,
    /// What was announced last.
    last: Option<OpKind>,
}

/// Every name, by folder, with what it leads to and its path.
type Names = BTreeMap<(Inode, OsString), (Inode, PathBuf)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    inode: Inode,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// One look.
#[derive(Default)]
struct Look {
    names: Names,
    known: HashMap<u64, Known>,
    stamps: BTreeMap<Inode, Stamp>,
    /// Files that may have another content.
    touched: Vec<(Inode, PathBuf)>,
}

impl Recorder {
    /// Of what happens below `root` from now on.
    pub(super) fn new(root: &Path) -> Outcome<Self> {
        let mut disk = Disk::default();
        let top = fs::symlink_metadata(root)?;
        disk.add(Node { body: Body::Folder(BTreeMap::new()), stamp: stamp(&top) });
        let log = Log::of(disk.clone());
        let mut seen =
            Seen { log, now: disk, names: Names::new(), known: HashMap::new(), last: None };
        seen.look(root)?;
        // What is there already is durable.
        seen.log.base = seen.now.clone();
        seen.log.events.clear();
        Ok(Self { root: root.to_owned(), seen: Mutex::new(seen) })
    }

    /// The log, at the end.
    pub(super) fn log(&self) -> Outcome<Log> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(&self.root)?;
        let events = seen.log.events.len();
        seen.log.moments.push(events);
        let empty = Log::of(Disk::default());
        Ok(std::mem::replace(&mut seen.log, empty))
    }
}

impl Hook for Recorder {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(&self.root)?;
        let events = seen.log.events.len();
        seen.log.moments.push(events);
        let inode = op.path.strip_prefix(&self.root).ok().and_then(|path| seen.now.find(path));
        let sync = match (op.kind, inode) {
            (OpKind::SyncFs, _) => Some(Event::SyncAll),
            (OpKind::SyncFile, Some(inode)) => Some(Event::SyncFile(inode)),
            (OpKind::SyncDir, Some(inode)) => Some(Event::SyncFolder(inode)),
            // A sync by a path that leads nowhere any more is believed to do nothing.
            _ => None,
        };
        if let Some(sync) = sync {
            seen.log.syncs.push((events, format!("{:?} {}", op.kind, op.path.display())));
            seen.log.events.push(sync);
        }
        seen.last = Some(op.kind);
        Ok(())
    }
}

impl Seen {
    /// Notes what is other than at the last look.
    fn look(&mut self, root: &Path) -> io::Result<()> {
        let mut look = Look::default();
        let top = fs::symlink_metadata(root)?;
        look.stamps.insert(ROOT, stamp(&top));
        self.walk(root, ROOT, &mut look)?;
        for (inode, path) in std::mem::take(&mut look.touched) {
            self.note_data(inode, &path, look.stamps[&inode])?;
        }
        self.note_names(&look);
        self.note_stamps(&look);
        (self.names, self.known) = (look.names, look.known);
        Ok(())
    }

    fn walk(&mut self, dir: &Path, folder: Inode, look: &mut Look) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let meta = match fs::symlink_metadata(&path) {
                // Another thread is at work.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            };
            if is_store(&path) && path.to_string_lossy().ends_with("-shm") {
                continue;
            }
            let last = self.known.get(&meta.ino()).copied();
            let inode = match last.or(look.known.get(&meta.ino()).copied()) {
                Some(known) => known.inode,
                None => self.add(&path, &meta)?,
            };
            let known = Known {
                inode,
                size: meta.len(),
                mtime: (meta.mtime(), meta.mtime_nsec()),
                ctime: (meta.ctime(), meta.ctime_nsec()),
            };
            if meta.is_file() && last != Some(known) {
                look.touched.push((inode, path.clone()));
            }
            look.known.insert(meta.ino(), known);
            look.stamps.insert(inode, stamp(&meta));
            let name = path.file_name().unwrap_or_default().to_owned();
            look.names.insert((folder, name), (inode, path.clone()));
            if meta.is_dir() {
                self.walk(&path, inode, look)?;
            }
        }
        Ok(())
    }

    /// An inode that was not there at the last look: empty, without a name.
    fn add(&mut self, path: &Path, meta: &Metadata) -> io::Result<Inode> {
        let body = match meta.file_type() {
            kind if kind.is_dir() => Body::Folder(BTreeMap::new()),
            kind if kind.is_symlink() => Body::Link(fs::read_link(path)?),
            _ => Body::File(std::sync::Arc::default()),
        };
        let node = Node { body, stamp: stamp(meta) };
        self.log.base.add(node.clone());
        Ok(self.now.add(node))
    }

    fn note_data(&mut self, inode: Inode, path: &Path, stamp: Stamp) -> io::Result<()> {
        let Body::File(old) = &self.now.node(inode).body else { return Ok(()) };
        let new = read(path)?;
        if **old == new {
            return Ok(());
        }
        let at = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let bytes = std::sync::Arc::new(new[at..].to_vec());
        let what = format!("{} bytes at {at} of {}", bytes.len(), path.display());
        let change = Change::Data { inode, at, bytes };
        let kept = is_store(path) || (self.last == Some(REFS) && is_ref(path));
        self.note(Item { change, stamps: vec![(inode, stamp)], kept, what });
        Ok(())
    }

    fn note_names(&mut self, look: &Look) {
        let old = std::mem::take(&mut self.names);
        let mut gone: Vec<_> =
            old.iter().filter(|(key, _)| !look.names.contains_key(*key)).collect();
        let came = |(key, (inode, _)): &(&(Inode, OsString), &(Inode, PathBuf))| {
            old.get(*key).is_none_or(|(was, _)| was != inode)
        };
        for (key, (inode, path)) in look.names.iter().filter(came) {
            let source = gone.iter().position(|(_, (was, _))| was == inode);
            let from = source.map(|n| gone.remove(n));
            let what = match from {
                Some((_, (_, from))) => format!("{} renamed to {}", from.display(), path.display()),
                None => format!("the name {}", path.display()),
            };
            let removed = from.map(|(key, _)| entry(key, None));
            let entries = removed.into_iter().chain([entry(key, Some(*inode))]).collect();
            self.note_entries(entries, look, is_store(path), what);
        }
        for (key, (_, path)) in gone {
            let what = format!("no more {}", path.display());
            self.note_entries(vec![entry(key, None)], look, is_store(path), what);
        }
    }

    fn note_entries(&mut self, entries: Vec<Entry>, look: &Look, kept: bool, what: String) {
        let dirs: HashSet<Inode> = entries.iter().map(|entry| entry.dir).collect();
        let stamps = dirs.iter().filter_map(|dir| Some((*dir, *look.stamps.get(dir)?))).collect();
        self.note(Item { change: Change::Names(entries), stamps, kept, what });
    }

    /// Attributes that did not change with something else.
    fn note_stamps(&mut self, look: &Look) {
        for (inode, stamp) in &look.stamps {
            if self.now.node(*inode).stamp != *stamp {
                let path = look.names.values().find(|(named, _)| named == inode);
                let path = path.map(|(_, path)| path.display().to_string()).unwrap_or_default();
                let (change, what) = (Change::Stamp(*inode), format!("attributes of {path}"));
                self.note(Item { change, stamps: vec![(*inode, *stamp)], kept: false, what });
            }
        }
    }

    fn note(&mut self, item: Item) {
        self.now.apply(&item, None);
        self.log.events.push(Event::Change(item));
    }
}

fn entry(key: &(Inode, OsString), is: Option<Inode>) -> Entry {
    Entry { dir: key.0, name: key.1.clone(), is }
}

/// A database of the agent, or what SQLite keeps beside it.
fn is_store(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains(".sqlite") && path.iter().any(|part| part == "sqlite")
}

/// A ref of a repository, HEAD, or the log of one.
fn is_ref(path: &Path) -> bool {
    let mut inside = path.iter().skip_while(|part| *part != ".git").skip(1);
    let part = inside.next().unwrap_or_default().to_string_lossy();
    ["refs", "logs", "HEAD", "packed-refs"].contains(&&*part)
}

/// A file's content. Of a live database by another process: closing it here would drop this one's locks on it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let read = match is_store(path) {
        true => Command::new("cat").arg(path).output().map(|done| done.stdout),
        false => fs::read(path),
    };
    match read {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn stamp(meta: &Metadata) -> Stamp {
    Stamp { mode: meta.permissions().mode() & 0o7777, mtime: (meta.mtime(), meta.mtime_nsec()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use snapshot_fs::DurableFs;

    use super::*;
    use crate::power::disk::{Fate, after, unsynced};

    /// Would catch: a log that misses a change, and one that believes in syncs that were not made.
    #[test]
    fn the_log_tells_what_was_done_and_what_is_durable() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("f"), "old").unwrap();
        fs::create_dir(tmp.path().join("d")).unwrap();
        let recorder = Arc::new(Recorder::new(tmp.path()).unwrap());
        let dir = DurableFs::with_hook(recorder.clone()).open_dir(tmp.path()).unwrap();
        dir.write_atomic("f", b"new", 0o600).unwrap();
        // Not ours, and seen all the same.
        fs::write(tmp.path().join("d/other"), "x").unwrap();
        dir.symlink("f".as_ref(), "link").unwrap();
        dir.rename("d", &dir, "e").unwrap();
        let log = recorder.log().unwrap();
        let open = unsynced(&log.events);
        let of = |fate| {
            let disk = after(&log.base, &log.events, &open.iter().map(|n| (*n, fate)).collect());
            let out = tempfile::tempdir().unwrap();
            disk.lay(&out.path().join("x")).unwrap();
            let dir = out.path().join("x");
            let text = fs::read_to_string(dir.join("f")).unwrap();
            (text, dir.join("link").exists(), dir.join("d").exists(), dir.join("e/other").exists())
        };
        assert_eq!(of(Fate::Lost), ("new".to_owned(), false, true, false));
        assert_eq!(of(Fate::There), ("new".to_owned(), true, false, true));
        // Create, write, attributes, sync, rename, sync; link; rename; the end.
        assert_eq!(log.moments.len(), 9, "{:#?}", log.events);
    }
}
