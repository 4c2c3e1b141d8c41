//! Everything that refs lead to: each object once, parsed by our own rules.
//!
//! Own parsing, because libgit2's commits hide parents behind a shallow list, and because names in
//! trees are judged here.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use git2::{ObjectType, Odb, Oid};
use snapshot_core::Control;

use super::names::is_dot_git;
use crate::StoresError;

/// Bytes of a raw object id in a tree.
const RAW_OID_BYTES: usize = 20;
/// Most complaints kept; one is enough to refuse.
const MAX_FINDINGS: usize = 20;

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
    /// How many objects.
    pub(super) objects: usize,
    /// Trees with names that a checkout must not write, as (object, what is wrong).
    pub(super) escaping: Vec<(Oid, String)>,
}

/// An object to be visited.
struct Next {
    oid: Oid,
    /// None for what a ref names: that may be anything.
    kind: Option<ObjectType>,
    name: Option<String>,
}

impl Walk<'_> {
    /// Calls `visit` for each object that `tips` lead to, once, with the name that a tree gives it.
    pub(super) fn run(
        &self,
        tips: impl IntoIterator<Item = Oid>,
        mut visit: impl FnMut(Oid, Option<&str>) -> Result<(), StoresError>,
    ) -> Result<Walked, StoresError> {
        let mut walked = Walked::default();
        let mut seen: HashMap<Oid, ObjectType> = HashMap::new();
        let mut stack: Vec<Next> =
            tips.into_iter().map(|oid| Next { oid, kind: None, name: None }).collect();
        while let Some(next) = stack.pop() {
            self.control.check().map_err(StoresError::stopped("reading the git history"))?;
            let known = seen.get(&next.oid).copied();
            let kind = match known {
                Some(kind) => kind,
                None => self.header(next.oid)?,
            };
            if next.kind.is_some_and(|expected| expected != kind) {
                return Err(self.bad(next.oid, format!("it is a {kind} where another is named")));
            }
            if known.is_some() {
                continue;
            }
            seen.insert(next.oid, kind);
            visit(next.oid, next.name.as_deref())?;
            self.children(next.oid, kind, &mut stack, &mut walked)?;
        }
        walked.objects = seen.len();
        Ok(walked)
    }

    fn header(&self, oid: Oid) -> Result<ObjectType, StoresError> {
        let (size, kind) = self.odb.read_header(oid).map_err(|e| self.unread(oid, e))?;
        let (size, limit) = (size as u64, self.max_object_bytes);
        if size > limit {
            return Err(StoresError::GitObjectTooLarge { oid: oid.to_string(), size, limit });
        }
        Ok(kind)
    }

    fn children(
        &self,
        oid: Oid,
        kind: ObjectType,
        stack: &mut Vec<Next>,
        walked: &mut Walked,
    ) -> Result<(), StoresError> {
        if kind == ObjectType::Blob {
            return Ok(());
        }
        let object = self.odb.read(oid).map_err(|e| self.unread(oid, e))?;
        let malformed = |why: &str| self.bad(oid, why.to_owned());
        match kind {
            ObjectType::Commit => {
                let commit = commit(object.data()).map_err(malformed)?;
                stack.push(Next { oid: commit.tree, kind: Some(ObjectType::Tree), name: None });
                if !self.shallow.contains(&oid) {
                    let kind = Some(ObjectType::Commit);
                    let parents = commit.parents.into_iter();
                    stack.extend(parents.map(|oid| Next { oid, kind, name: None }));
                }
            }
            ObjectType::Tag => {
                let (target, kind) = tag(object.data()).map_err(malformed)?;
                stack.push(Next { oid: target, kind: Some(kind), name: None });
            }
            ObjectType::Tree => {
                let mut names = HashSet::new();
                for entry in tree(object.data()) {
                    let entry = entry.map_err(malformed)?;
                    if let Some(why) = escape(&entry, &mut names)
                        && walked.escaping.len() < MAX_FINDINGS
                    {
                        walked.escaping.push((oid, why));
                    }
                    if let Some(kind) = entry.kind {
                        let name = std::str::from_utf8(entry.name).ok().map(str::to_owned);
                        stack.push(Next { oid: entry.oid, kind: Some(kind), name });
                    }
                }
            }
            _ => return Err(malformed("it is of no known type")),
        }
        Ok(())
    }

    fn bad(&self, oid: Oid, why: String) -> StoresError {
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

struct CommitLinks {
    tree: Oid,
    parents: Vec<Oid>,
}

struct TreeEntry<'a> {
    name: &'a [u8],
    oid: Oid,
    /// None for a submodule's commit, which lies elsewhere.
    kind: Option<ObjectType>,
}

fn commit(data: &[u8]) -> Result<CommitLinks, &'static str> {
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

fn tag(data: &[u8]) -> Result<(Oid, ObjectType), &'static str> {
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

fn tree(mut data: &[u8]) -> impl Iterator<Item = Result<TreeEntry<'_>, &'static str>> {
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
    let mode = std::str::from_utf8(&data[..space]).map_err(|_| bad)?;
    let mode = u32::from_str_radix(mode, 8).map_err(|_| bad)?;
    let rest = &data[space + 1..];
    let end = rest.iter().position(|&b| b == 0).ok_or(bad)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    let (oid, rest) = rest.split_at_checked(RAW_OID_BYTES).ok_or(bad)?;
    let oid = Oid::from_bytes(oid).map_err(|_| bad)?;
    let kind = match mode & 0o170_000 {
        0o040_000 => Some(ObjectType::Tree),
        0o100_000 | 0o120_000 => Some(ObjectType::Blob),
        0o160_000 => None,
        _ => return Err("a tree entry is of no known type"),
    };
    Ok((TreeEntry { name, oid, kind }, rest))
}

/// Why a checkout of this entry could write where it should not.
fn escape<'n>(entry: &TreeEntry<'n>, names: &mut HashSet<&'n [u8]>) -> Option<String> {
    let name = entry.name;
    let why = match name {
        b"" | b"." | b".." => "which is no file's name",
        _ if name.contains(&b'/') => "which has a / in it",
        _ if is_dot_git(name) => "which some file system takes for .git",
        _ if !names.insert(name) => "twice",
        _ => return None,
    };
    Some(format!("it holds {:?}, {why}", String::from_utf8_lossy(name)))
}

fn id_line(line: &[u8], label: &[u8]) -> Option<Oid> {
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

    #[test]
    fn names_that_leave_a_checkout_are_seen() {
        let entry = |name: &'static [u8]| TreeEntry { name, oid: Oid::ZERO_SHA1, kind: None };
        for bad in [&b""[..], b".", b"..", b"a/b", b".git", b".GIT", b"git~1"] {
            assert!(escape(&entry(bad), &mut HashSet::new()).is_some(), "{bad:?}");
        }
        let mut names = HashSet::new();
        assert!(escape(&entry(b"a"), &mut names).is_none());
        assert!(escape(&entry(b"a"), &mut names).is_some());
    }
}
