//! Everything that refs lead to: each object once, parsed by our own rules.
//!
//! Own parsing, because libgit2's commits hide parents behind a shallow list, and because names in
//! trees are judged here.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use git2::{ObjectType, Odb, OdbObject, Oid};
use snapshot_core::Control;
use snapshot_core::mutants::holds;

use super::modules;
use super::names::{is_dot_git, is_gitmodules};
use super::pack::MAX_OBJECTS;
use crate::StoresError;

/// Bytes of a raw object id in a tree.
pub(super) const RAW_OID_BYTES: usize = 20;
/// Folders that a path tells of: crafted trees nest without end.
const MAX_FOLDERS: usize = 32;
/// Mode of a symbolic link.
const LINK_MODE: &[u8] = b"120000";
/// Most complaints kept; one is enough to refuse.
const MAX_FINDINGS: usize = 20;
/// Largest commit, tag or tree, in bytes: each is parsed whole. A tree has some 400,000 entries then.
pub(super) const MAX_PARSED_BYTES: u64 = 16 << 20;
/// Largest `.gitmodules`, in bytes: it is read as text, several times over.
const MAX_MODULES_BYTES: usize = 1 << 20;
/// Most objects that wait with a name: names only help people and packing, and crafted ones are long.
const MAX_NAMES_WAITING: usize = 1 << 16;
/// Longest name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Most parents that all commits have together: whoever walks them keeps each.
const MAX_PARENTS: usize = 2 * MAX_OBJECTS as usize;

/// What to walk, and what to hold against it.
pub(super) struct Walk<'a> {
    pub(super) odb: &'a Odb<'a>,
    /// For errors.
    pub(super) path: &'a Path,
    /// Commits whose parents are cut off.
    pub(super) shallow: &'a HashSet<Oid>,
    pub(super) max_object_bytes: u64,
    pub(super) control: &'a Control,
}

/// What a walk saw.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The objects.
    pub(super) objects: HashMap<Oid, ObjectType>,
    /// How many parents the commits have together.
    parents: usize,
    /// Trees and commits that git must not be given to use, as (object, what is wrong).
    pub(super) escaping: Vec<(Oid, String)>,
    /// Files that say what submodules there are, looked at.
    modules: HashSet<Oid>,
}

impl Walked {
    fn note(&mut self, oid: Oid, why: Option<String>) {
        let room = self.escaping.len() < MAX_FINDINGS;
        self.escaping.extend(why.filter(|_| room).map(|why| (oid, why)));
    }
}

/// An object that is visited.
pub(super) struct Seen<'v> {
    pub(super) oid: Oid,
    pub(super) kind: ObjectType,
    /// What a tree calls it.
    pub(super) name: Option<&'v [u8]>,
    folder: Option<&'v Folder>,
    /// Its content; a blob's is left to the visitor, by [`Walk::read`].
    pub(super) content: Option<&'v [u8]>,
}

/// An object to be visited.
struct Next {
    oid: Oid,
    /// None for what a ref names: that may be anything.
    kind: Option<ObjectType>,
    name: Option<Vec<u8>>,
    folder: Option<Rc<Folder>>,
}

/// What is still to be visited, and the kind of everything that was or will be.
struct Waiting {
    stack: Vec<Next>,
    seen: HashMap<Oid, ObjectType>,
}

impl Waiting {
    fn of(tips: impl IntoIterator<Item = Oid>) -> Self {
        let stack = tips.into_iter().map(|oid| Next::of(oid, None)).collect();
        Self { stack, seen: HashMap::new() }
    }

    /// Whether a name is kept for what waits next.
    fn keeps(&self, name: &[u8]) -> bool {
        name.len() <= MAX_NAME_BYTES && self.stack.len() < MAX_NAMES_WAITING
    }
}

/// A folder that leads to an object.
struct Folder {
    name: Vec<u8>,
    parent: Option<Rc<Folder>>,
    depth: usize,
}

impl Seen<'_> {
    /// A path that leads to it, where a tree does.
    pub(super) fn path(&self) -> Option<Vec<u8>> {
        let mut names = vec![self.name?];
        let mut folder = self.folder;
        while let Some(found) = folder {
            names.push(&found.name);
            folder = found.parent.as_deref();
        }
        names.reverse();
        Some(names.join(&b'/'))
    }
}

impl Next {
    fn of(oid: Oid, kind: Option<ObjectType>) -> Self {
        Self { oid, kind, name: None, folder: None }
    }

    /// What the names in this tree lie in; none for a commit's own tree.
    fn as_folder(&self) -> Option<Rc<Folder>> {
        let mut name = self.name.clone()?;
        let mut parent = self.folder.clone();
        if parent.as_ref().is_some_and(|parent| parent.depth >= MAX_FOLDERS) {
            name.splice(..0, *b".../");
            parent = None;
        }
        let depth = parent.as_ref().map_or(1, |parent| parent.depth + 1);
        Some(Rc::new(Folder { name, parent, depth }))
    }
}

impl Walk<'_> {
    /// Calls `visit` for each object that `tips` lead to, once.
    pub(super) fn run(
        &self,
        tips: impl IntoIterator<Item = Oid>,
        mut visit: impl FnMut(&Seen<'_>) -> Result<(), StoresError>,
    ) -> Result<Walked, StoresError> {
        let mut walked = Walked::default();
        let mut waiting = Waiting::of(tips);
        while let Some(next) = waiting.stack.pop() {
            self.control.check().map_err(StoresError::stopped("reading the git history"))?;
            if next.kind.is_none() && waiting.seen.contains_key(&next.oid) {
                continue;
            }
            let kind = self.header(next.oid)?;
            if !holds(next.kind.is_none_or(|expected| expected == kind)) {
                return Err(self.another(next.oid, kind));
            }
            waiting.seen.insert(next.oid, kind);
            let object = if kind == ObjectType::Blob { None } else { Some(self.read(next.oid)?) };
            let content = object.as_ref().map(OdbObject::data);
            let (name, folder) = (next.name.as_deref(), next.folder.as_deref());
            visit(&Seen { oid: next.oid, kind, name, folder, content })?;
            if let Some(content) = content {
                self.children(&next, (kind, content), &mut waiting, &mut walked)?;
            }
        }
        walked.objects = waiting.seen;
        Ok(walked)
    }

    fn header(&self, oid: Oid) -> Result<ObjectType, StoresError> {
        let (size, kind) = self.odb.read_header(oid).map_err(|e| self.unread(oid, e))?;
        let size = size as u64;
        let limit = match kind {
            ObjectType::Blob => self.max_object_bytes,
            _ => self.max_object_bytes.min(MAX_PARSED_BYTES),
        };
        if size > limit {
            return Err(StoresError::GitObjectTooLarge { oid: oid.to_string(), size, limit });
        }
        Ok(kind)
    }

    /// The content of an object.
    pub(super) fn read(&self, oid: Oid) -> Result<OdbObject<'_>, StoresError> {
        self.odb.read(oid).map_err(|e| self.unread(oid, e))
    }

    fn children(
        &self,
        of: &Next,
        (kind, content): (ObjectType, &[u8]),
        waiting: &mut Waiting,
        walked: &mut Walked,
    ) -> Result<(), StoresError> {
        let oid = of.oid;
        let malformed = |why: &str| self.bad(oid, why.to_owned());
        match kind {
            ObjectType::Commit => {
                let commit = commit(content).map_err(malformed)?;
                let header = content.split(|&b| b == b'\n').take_while(|line| !line.is_empty());
                let odd = header.into_iter().any(|line| line.contains(&0));
                walked.note(
                    oid,
                    odd.then(|| "its header holds a NUL, where git stops reading".to_owned()),
                );
                walked.parents += commit.parents.len();
                if walked.parents > MAX_PARENTS {
                    return Err(malformed("with it the commits have over a million parents"));
                }
                self.expect(waiting, Next::of(commit.tree, Some(ObjectType::Tree)))?;
                let is_cut = self.shallow.contains(&oid);
                for parent in commit.parents.into_iter().filter(|_| !is_cut) {
                    self.expect(waiting, Next::of(parent, Some(ObjectType::Commit)))?;
                }
            }
            ObjectType::Tag => {
                let (target, kind) = tag(content).map_err(malformed)?;
                self.expect(waiting, Next::of(target, Some(kind)))?;
            }
            ObjectType::Tree => {
                let (mut names, folder) = (HashSet::new(), of.as_folder());
                let mut before: Option<TreeEntry<'_>> = None;
                for entry in tree(content) {
                    let entry = entry.map_err(malformed)?;
                    let unsorted =
                        before.is_some_and(|before| before.sorts_as().gt(entry.sorts_as()));
                    let why = escape(entry.name, &mut names)
                        .or_else(|| unsorted.then(|| "its entries are in no order".to_owned()));
                    let odd = self.odd_modules(&entry, walked)?;
                    walked.note(oid, why.or(odd));
                    before = Some(entry.clone());
                    if entry.kind.is_some() {
                        let name = waiting.keeps(entry.name).then(|| entry.name.to_vec());
                        let folder = folder.clone().filter(|_| name.is_some());
                        self.expect(
                            waiting,
                            Next { oid: entry.oid, kind: entry.kind, name, folder },
                        )?;
                    }
                }
            }
            _ => return Err(malformed("it is of no known type")),
        }
        Ok(())
    }

    /// Why git must not be given this entry as a `.gitmodules`, if it is one.
    fn odd_modules(
        &self,
        entry: &TreeEntry<'_>,
        walked: &mut Walked,
    ) -> Result<Option<String>, StoresError> {
        if !is_gitmodules(entry.name) {
            return Ok(None);
        }
        let name = String::from_utf8_lossy(entry.name).into_owned();
        if entry.kind != Some(ObjectType::Blob) || entry.mode == LINK_MODE {
            return Ok(Some(format!("it holds {name:?}, which is no file")));
        }
        if !walked.modules.insert(entry.oid) || self.header(entry.oid)? != ObjectType::Blob {
            return Ok(None);
        }
        let (bytes, _) = self.odb.read_header(entry.oid).map_err(|e| self.unread(entry.oid, e))?;
        if bytes > MAX_MODULES_BYTES {
            return Ok(Some(format!("it holds {name:?}, which is too large to be looked at")));
        }
        let why = modules::refused(self.read(entry.oid)?.data());
        Ok(why.map(|why| format!("it holds {name:?}: {why}")))
    }

    /// Lets an object wait for its visit, once however often it is named: then no more wait than there are.
    fn expect(&self, waiting: &mut Waiting, next: Next) -> Result<(), StoresError> {
        match (next.kind, waiting.seen.get(&next.oid)) {
            (Some(kind), None) => {
                waiting.seen.insert(next.oid, kind);
                waiting.stack.push(next);
                Ok(())
            }
            (Some(kind), Some(known)) if kind != *known => Err(self.another(next.oid, *known)),
            _ => Ok(()),
        }
    }

    fn another(&self, oid: Oid, kind: ObjectType) -> StoresError {
        self.bad(oid, format!("it is a {kind} where another is named"))
    }

    pub(super) fn bad(&self, oid: Oid, why: String) -> StoresError {
        StoresError::GitObject { path: self.path.to_owned(), oid: oid.to_string(), why }
    }

    /// A missing object is told from one that cannot be read: a gc may have moved it.
    fn unread(&self, oid: Oid, e: git2::Error) -> StoresError {
        // libgit2 looks into new packs before it says no.
        match self.odb.exists(oid) {
            true => StoresError::git("read an object", self.path)(e),
            false => StoresError::GitVanished { path: self.path.to_owned(), oid: oid.to_string() },
        }
    }
}

/// What a commit leads to.
pub(super) struct CommitLinks {
    pub(super) tree: Oid,
    pub(super) parents: Vec<Oid>,
}

/// An entry of a tree.
#[derive(Clone)]
pub(super) struct TreeEntry<'a> {
    /// As it is written.
    pub(super) mode: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) oid: Oid,
    /// None for a submodule's commit, which lies elsewhere.
    pub(super) kind: Option<ObjectType>,
}

impl TreeEntry<'_> {
    /// What git sorts it by: a folder as if its name ended in a slash.
    fn sorts_as(&self) -> impl Iterator<Item = &u8> {
        let end: &[u8] = if self.kind == Some(ObjectType::Tree) { b"/" } else { b"" };
        self.name.iter().chain(end)
    }
}

pub(super) fn commit(data: &[u8]) -> Result<CommitLinks, &'static str> {
    let mut lines = data.split(|&b| b == b'\n').peekable();
    let tree = lines.next().and_then(|line| id_line(line, b"tree ")).ok_or("it names no tree")?;
    let mut parents = Vec::new();
    while let Some(line) = lines.next_if(|line| line.starts_with(b"parent ")) {
        parents.push(id_line(line, b"parent ").ok_or("it has a malformed parent")?);
    }
    for (label, why) in [(&b"author "[..], "it has no author"), (b"committer ", "no committer")] {
        if !lines.next().is_some_and(|line| line.starts_with(label)) {
            return Err(why);
        }
    }
    Ok(CommitLinks { tree, parents })
}

pub(super) fn tag(data: &[u8]) -> Result<(Oid, ObjectType), &'static str> {
    let mut lines = data.split(|&b| b == b'\n');
    let target = lines.next().and_then(|line| id_line(line, b"object "));
    let kind = match lines.next() {
        Some(b"type commit") => ObjectType::Commit,
        Some(b"type tree") => ObjectType::Tree,
        Some(b"type blob") => ObjectType::Blob,
        Some(b"type tag") => ObjectType::Tag,
        _ => return Err("it says no type"),
    };
    Ok((target.ok_or("it names no object")?, kind))
}

pub(super) fn tree(mut data: &[u8]) -> impl Iterator<Item = Result<TreeEntry<'_>, &'static str>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let parsed = tree_entry(data);
        data = parsed.as_ref().map_or(&[][..], |(_, rest)| *rest);
        Some(parsed.map(|(entry, _)| entry))
    })
}

fn tree_entry(data: &[u8]) -> Result<(TreeEntry<'_>, &[u8]), &'static str> {
    let bad = "a tree entry is malformed";
    let space = data.iter().take(8).position(|&b| b == b' ').ok_or(bad)?;
    let mode = &data[..space];
    let bits = std::str::from_utf8(mode).map_err(|_| bad)?;
    let bits = u32::from_str_radix(bits, 8).map_err(|_| bad)?;
    let rest = &data[space + 1..];
    let end = rest.iter().position(|&b| b == 0).ok_or(bad)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    let (oid, rest) = rest.split_at_checked(RAW_OID_BYTES).ok_or(bad)?;
    let oid = Oid::from_bytes(oid).map_err(|_| bad)?;
    let kind = match bits & 0o170_000 {
        0o040_000 => Some(ObjectType::Tree),
        0o100_000 | 0o120_000 => Some(ObjectType::Blob),
        0o160_000 => None,
        _ => return Err("a tree entry is of no known type"),
    };
    Ok((TreeEntry { mode, name, oid, kind }, rest))
}

/// Why a checkout of this entry could write where it should not.
pub(super) fn escape<'n>(name: &'n [u8], names: &mut HashSet<&'n [u8]>) -> Option<String> {
    let why = match name {
        b"" | b"." | b".." => "which is no file's name",
        _ if name.contains(&b'/') => "which has a / in it",
        _ if is_dot_git(name) => "which some file system takes for .git",
        _ if !names.insert(name) => "twice",
        _ => return None,
    };
    Some(format!("it holds {:?}, {why}", String::from_utf8_lossy(name)))
}

/// The id in a line `<label><id>`.
pub(super) fn id_line(line: &[u8], label: &[u8]) -> Option<Oid> {
    let hex = std::str::from_utf8(line.strip_prefix(label)?).ok()?;
    (hex.len() == 2 * RAW_OID_BYTES).then(|| Oid::from_str(hex).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_object_makes_the_parsers_panic(data in proptest::collection::vec(prop_oneof![
            Just(0u8), Just(b' '), Just(b'\n'), Just(b'4'), Just(b'0'), any::<u8>()], 0..120)) {
            let _ = commit(&data);
            let _ = tag(&data);
            prop_assert!(tree(&data).count() <= data.len());
        }
    }

    fn walked(repo: &git2::Repository, tip: Oid) -> Result<Walked, StoresError> {
        let odb = repo.odb().unwrap();
        let (shallow, control, path) = (HashSet::new(), Control::default(), Path::new("r"));
        let (shallow, control) = (&shallow, &control);
        let walk = Walk { odb: &odb, path, shallow, max_object_bytes: 64 << 20, control };
        walk.run([tip], |_| Ok(()))
    }

    /// Writes a commit of the empty tree with these parents, filled up to `bytes`.
    fn commit_of(repo: &git2::Repository, parents: &[Oid], bytes: usize) -> Oid {
        let odb = repo.odb().unwrap();
        let tree = odb.write(ObjectType::Tree, b"").unwrap();
        let mut text = format!("tree {tree}\n");
        text.extend(parents.iter().map(|parent| format!("parent {parent}\n")));
        text.push_str("author a <a> 0 +0000\ncommitter a <a> 0 +0000\n\n");
        let fill = bytes.saturating_sub(text.len());
        text.push_str(&"x".repeat(fill));
        odb.write(ObjectType::Commit, text.as_bytes()).unwrap()
    }

    /// Would catch: a `.gitmodules` of any size read as text, which takes many times its length.
    #[test]
    fn modules_are_as_large_as_their_limit_and_no_larger() {
        let tmp = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(tmp.path()).unwrap();
        let odb = repo.odb().unwrap();
        for (bytes, complaints) in [(MAX_MODULES_BYTES, 0), (MAX_MODULES_BYTES + 1, 1)] {
            let blob = odb.write(ObjectType::Blob, &vec![b'\n'; bytes]).unwrap();
            let entry = [b"100644 .gitmodules\0", blob.as_bytes()].concat();
            let tree = odb.write(ObjectType::Tree, &entry).unwrap();
            let found = walked(&repo, tree).unwrap().escaping;
            assert_eq!(found.len(), complaints, "{found:?}");
        }
    }

    /// Would catch: a commit of any size parsed, of which a delta of a few bytes can make one.
    #[test]
    fn what_is_parsed_is_as_large_as_its_limit_and_no_larger() {
        let tmp = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(tmp.path()).unwrap();
        let limit = usize::try_from(MAX_PARSED_BYTES).unwrap();
        assert_eq!(walked(&repo, commit_of(&repo, &[], limit)).unwrap().objects.len(), 2);
        let past = walked(&repo, commit_of(&repo, &[], limit + 1));
        assert!(matches!(
            past,
            Err(StoresError::GitObjectTooLarge { limit: MAX_PARSED_BYTES, .. })
        ));
    }

    /// Would catch: small commits that name more parents than memory holds.
    #[test]
    fn parents_hold_at_their_limit_and_not_past_it() {
        let tmp = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(tmp.path()).unwrap();
        let root = commit_of(&repo, &[], 0);
        let quarter = vec![root; MAX_PARENTS / 4 - 1];
        let (mut tip, mut parents) = (root, 0);
        while parents < MAX_PARENTS {
            let named: Vec<Oid> = quarter.iter().copied().chain([tip]).collect();
            parents += named.len();
            tip = commit_of(&repo, &named, 0);
        }
        assert_eq!(walked(&repo, tip).unwrap().parents, MAX_PARENTS);
        assert!(walked(&repo, commit_of(&repo, &[tip], 0)).is_err());
    }

    #[test]
    fn names_that_leave_a_checkout_are_seen() {
        for bad in [&b""[..], b".", b"..", b"a/b", b".git", b".GIT", b"git~1"] {
            assert!(escape(bad, &mut HashSet::new()).is_some(), "{bad:?}");
        }
        let mut names = HashSet::new();
        assert!(escape(b"a", &mut names).is_none());
        assert!(escape(b"a", &mut names).is_some());
    }
}
