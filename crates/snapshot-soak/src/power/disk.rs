//! What a disk may hold after the power went.
//!
//! A disk is a table of inodes; folders map names to them. A deed is a list of changes to it, with syncs between.
//! What a sync covers is there afterwards. Each of the other changes is there or not, whatever came of its
//! neighbours: file systems promise no more. Written bytes may also be there in part, or as zeros of their length
//! (the size was written, the blocks were not). A rename is atomic; one that was not synced is not there where its
//! source is not.
//!
//! A sync of a file covers its content, size and attributes, not its names. A sync of a folder covers the names in
//! it, not those that lead to it; of a rename between two, the folder of the new name counts.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};

use crate::Outcome;
use crate::scene::buried;

/// The folder that everything lies in.
pub(super) const ROOT: Inode = 0;

/// A file, folder or link, whatever its names.
pub(super) type Inode = usize;

/// All inodes. Those that no name leads to do not count.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    nodes: Vec<Node>,
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) body: Body,
    pub(super) stamp: Stamp,
}

/// What it is, with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Body {
    Folder(BTreeMap<OsString, Inode>),
    File(Arc<Vec<u8>>),
    Link(PathBuf),
}

/// Its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) mode: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
}

/// One change that a disk makes as a whole, or not; but for [`Change::Data`].
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) change: Change,
    /// Attributes that change with it.
    pub(super) stamps: Vec<(Inode, Stamp)>,
    /// Durable at once: somebody else syncs it.
    pub(super) kept: bool,
    /// For people.
    pub(super) what: String,
}

/// What changes.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A file has these bytes from `at` on, and ends after them.
    Data { inode: Inode, at: usize, bytes: Arc<Vec<u8>> },
    /// Names come, go or lead elsewhere, at once: of a rename the old one, then the new one.
    Names(Vec<Entry>),
    /// Nothing but attributes.
    Stamp(Inode),
}

/// What a name in a folder leads to from now on.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) dir: Inode,
    pub(super) name: OsString,
    pub(super) is: Option<Inode>,
}

/// What happens to a disk.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Change(Item),
    SyncFile(Inode),
    SyncFolder(Inode),
    SyncAll,
    /// A sync that was taken out, to see whether that is noticed.
    Nothing,
}

/// What became of a change that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    There,
    Lost,
    /// Of bytes: so many 256ths of them.
    Part(u8),
    /// Of bytes: their length.
    Zeros,
}

impl Disk {
    /// One more inode, with no name yet.
    pub(super) fn add(&mut self, node: Node) -> Inode {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub(super) fn node(&self, inode: Inode) -> &Node {
        &self.nodes[inode]
    }

    /// What a relative path leads to.
    pub(super) fn find(&self, path: &Path) -> Option<Inode> {
        path.iter().try_fold(ROOT, |dir, name| match &self.nodes[dir].body {
            Body::Folder(names) => names.get(name).copied(),
            _ => None,
        })
    }

    /// Lets a change happen: what was synced (no fate) as it is, others as far as their fate says.
    pub(super) fn apply(&mut self, item: &Item, fate: Option<Fate>) {
        if fate == Some(Fate::Lost) {
            return;
        }
        match &item.change {
            Change::Data { inode, at, bytes } => self.write(*inode, *at, bytes, fate),
            Change::Names(entries) if fate.is_some() && !self.has_source(entries) => return,
            Change::Names(entries) => entries.iter().for_each(|entry| self.set(entry)),
            Change::Stamp(_) => {}
        }
        for (inode, stamp) in &item.stamps {
            self.nodes[*inode].stamp = *stamp;
        }
    }

    /// Tells states apart.
    pub(super) fn digest(&self) -> u64 {
        let (mut hasher, mut todo) = (DefaultHasher::new(), vec![ROOT]);
        while let Some(inode) = todo.pop() {
            inode.hash(&mut hasher);
            self.nodes[inode].hash(&mut hasher);
            if let Body::Folder(names) = &self.nodes[inode].body {
                todo.extend(names.values());
            }
        }
        hasher.finish()
    }

    /// Lays it out as a real folder, which is not there yet.
    pub(super) fn lay(&self, dir: &Path) -> Outcome<()> {
        self.lay_node(ROOT, dir, &mut HashMap::new())
    }

    fn lay_node(
        &self,
        inode: Inode,
        path: &Path,
        laid: &mut HashMap<Inode, PathBuf>,
    ) -> Outcome<()> {
        let Node { body, stamp } = &self.nodes[inode];
        let first = laid.insert(inode, path.to_owned());
        match (body, first) {
            (Body::Folder(_), Some(_)) => return Ok(()),
            (_, Some(first)) => return Ok(fs::hard_link(first, path)?),
            (Body::Folder(names), None) => {
                fs::create_dir(path)?;
                for (name, child) in names {
                    self.lay_node(*child, &path.join(buried(name)), laid)?;
                }
            }
            (Body::File(content), None) => fs::write(path, &**content)?,
            (Body::Link(target), None) => symlink(target, path)?,
        }
        if !matches!(body, Body::Link(_)) {
            fs::set_permissions(path, fs::Permissions::from_mode(stamp.mode))?;
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: stamp.mtime.0, tv_nsec: stamp.mtime.1 },
        };
        Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn write(&mut self, inode: Inode, at: usize, bytes: &[u8], fate: Option<Fate>) {
        let Body::File(content) = &mut self.nodes[inode].body else { return };
        let content = Arc::make_mut(content);
        // A hole where an earlier write was lost.
        content.resize(at, 0);
        match fate {
            Some(Fate::Part(share)) => {
                content.extend(&bytes[..bytes.len() * usize::from(share) / 256])
            }
            Some(Fate::Zeros) => content.resize(at + bytes.len(), 0),
            _ => content.extend(bytes),
        }
    }

    /// Whether the old name of a rename is there; others have none.
    fn has_source(&self, entries: &[Entry]) -> bool {
        let [from, to] = entries else { return true };
        self.names(from.dir).get(&from.name).copied() == to.is
    }

    fn set(&mut self, entry: &Entry) {
        if let Body::Folder(names) = &mut self.nodes[entry.dir].body {
            match entry.is {
                Some(inode) => names.insert(entry.name.clone(), inode),
                None => names.remove(&entry.name),
            };
        }
    }

    fn names(&self, dir: Inode) -> &BTreeMap<OsString, Inode> {
        static NONE: BTreeMap<OsString, Inode> = BTreeMap::new();
        match &self.nodes[dir].body {
            Body::Folder(names) => names,
            _ => &NONE,
        }
    }
}

/// Numbers of the changes among `events` that no sync covers.
pub(super) fn unsynced(events: &[Event]) -> Vec<usize> {
    let mut open: Vec<(usize, &Item)> = Vec::new();
    for (n, event) in events.iter().enumerate() {
        match event {
            Event::Nothing => {}
            Event::Change(item) if item.kept => {}
            Event::Change(item) => open.push((n, item)),
            Event::SyncAll => open.clear(),
            Event::SyncFile(inode) => open.retain(|(_, item)| !item.is_in(*inode)),
            Event::SyncFolder(dir) => open.retain(|(_, item)| !item.is_in(*dir)),
        }
    }
    open.into_iter().map(|(n, _)| n).collect()
}

/// What `base` is after `events`; a change without a fate was synced.
pub(super) fn after(base: &Disk, events: &[Event], fates: &BTreeMap<usize, Fate>) -> Disk {
    let mut disk = base.clone();
    for (n, event) in events.iter().enumerate() {
        if let Event::Change(item) = event {
            disk.apply(item, fates.get(&n).copied());
        }
    }
    disk
}

impl Item {
    /// Whether a sync of this inode covers it.
    fn is_in(&self, inode: Inode) -> bool {
        match &self.change {
            Change::Data { inode: of, .. } | Change::Stamp(of) => *of == inode,
            Change::Names(entries) => entries.last().is_some_and(|entry| entry.dir == inode),
        }
    }

    /// Whether bytes are written, which need not be there whole.
    pub(super) fn is_data(&self) -> bool {
        matches!(self.change, Change::Data { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const STAMP: Stamp = Stamp { mode: 0o644, mtime: (1, 0) };

    /// A folder with a file `f` that says "old", and a file without a name.
    fn disk() -> (Disk, Inode) {
        let mut disk = Disk::default();
        disk.add(Node { body: Body::Folder(BTreeMap::new()), stamp: STAMP });
        let old = Arc::new(b"old".to_vec());
        let old = disk.add(Node { body: Body::File(old), stamp: STAMP });
        disk.set(&Entry { dir: ROOT, name: "f".into(), is: Some(old) });
        let new = disk.add(Node { body: Body::File(Arc::default()), stamp: STAMP });
        (disk, new)
    }

    fn item(change: Change) -> Event {
        Event::Change(Item { change, stamps: Vec::new(), kept: false, what: String::new() })
    }

    fn named(name: &str, is: Option<Inode>) -> Entry {
        Entry { dir: ROOT, name: name.into(), is }
    }

    /// The steps of a file that replaces `f`.
    fn steps(new: Inode) -> [Event; 3] {
        let bytes = Arc::new(b"new".to_vec());
        [
            item(Change::Names(vec![named("t", Some(new))])),
            item(Change::Data { inode: new, at: 0, bytes }),
            item(Change::Names(vec![named("t", None), named("f", Some(new))])),
        ]
    }

    /// Everything that `f` may say after `events`, by every fate of what is not synced.
    fn contents(base: &Disk, events: &[Event]) -> HashSet<Option<Vec<u8>>> {
        let open = unsynced(events);
        let fates = [Fate::There, Fate::Lost, Fate::Part(128), Fate::Zeros];
        let count = fates.len().pow(u32::try_from(open.len()).unwrap());
        let of = |mut case: usize| {
            let mut next = || {
                let fate = fates[case % fates.len()];
                case /= fates.len();
                fate
            };
            let fates = open.iter().map(|n| (*n, next())).collect();
            let disk = after(base, events, &fates);
            disk.find(Path::new("f")).map(|inode| match &disk.node(inode).body {
                Body::File(content) => content.to_vec(),
                _ => unreachable!(),
            })
        };
        (0..count).map(of).collect()
    }

    fn some(texts: &[&[u8]]) -> HashSet<Option<Vec<u8>>> {
        texts.iter().map(|text| Some(text.to_vec())).collect()
    }

    /// Would catch: a model in which a rename brings content along that was never synced.
    #[test]
    fn a_rename_without_syncs_may_leave_anything() {
        let (base, new) = disk();
        let found = contents(&base, &steps(new));
        assert_eq!(found, some(&[b"old", b"new", b"", b"n", b"\0\0\0"]));
    }

    /// Would catch: a model in which a sync of the file covers nothing, or its name too.
    #[test]
    fn a_synced_file_is_old_or_new() {
        let (base, new) = disk();
        let [create, write, rename] = steps(new);
        let events = [create, write, Event::SyncFile(new), rename];
        assert_eq!(contents(&base, &events), some(&[b"old", b"new"]));
    }

    /// Would catch: a model in which a sync of the folder covers nothing, or content too.
    #[test]
    fn a_synced_folder_has_its_names() {
        let (base, new) = disk();
        let [create, write, rename] = steps(new);
        let sync = Event::SyncFolder(ROOT);
        let events =
            [create.clone(), write.clone(), Event::SyncFile(new), rename.clone(), sync.clone()];
        assert_eq!(contents(&base, &events), some(&[b"new"]));
        let events = [create.clone(), write.clone(), rename.clone(), sync];
        assert_eq!(contents(&base, &events), some(&[b"new", b"", b"n", b"\0\0\0"]));
        let events = [create, write, rename, Event::SyncAll];
        assert_eq!(contents(&base, &events), some(&[b"new"]));
    }

    /// Would catch: changes after a sync taken for covered by it.
    #[test]
    fn what_comes_after_a_sync_is_not_covered() {
        let (base, new) = disk();
        let [create, write, rename] = steps(new);
        let events = [create, Event::SyncAll, write, rename, Event::SyncFolder(ROOT)];
        assert_eq!(contents(&base, &events), some(&[b"new", b"", b"n", b"\0\0\0"]));
        let gone = item(Change::Names(vec![named("f", None)]));
        let found = contents(&base, &[Event::SyncAll, gone.clone()]);
        assert_eq!(found, HashSet::from([None, Some(b"old".to_vec())]));
        let found = contents(&base, &[gone, Event::SyncFolder(ROOT)]);
        assert_eq!(found, HashSet::from([None]));
    }
}
