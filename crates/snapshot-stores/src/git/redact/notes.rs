//! Trees of notes: their files are named by the objects that they are about, whole or fanned out into
//! folders of two digits.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use git2::{ObjectType, Odb, Oid};
use snapshot_core::GitInfo;

use super::super::info::{bundle_refs, oid};
use super::super::walk::{commit, tag, tree};
use super::ids::WHOLE;
use super::rewrite::Rewrite;
use super::trees::{NewEntry, tree_content};
use super::unredactable;
use crate::StoresError;

/// Where notes live.
const NOTES_REFS: &str = "refs/notes/";
/// Digits of a folder's name.
const FAN_OUT: usize = 2;
/// How git writes a folder's mode.
const FOLDER_MODE: &[u8] = b"40000";

/// Names from a root on, and what lies there: mode and id.
type Paths = BTreeMap<Vec<Vec<u8>>, (Vec<u8>, Oid)>;

/// The root of every tree of notes, of every commit that a ref of notes leads to.
pub(super) fn roots(
    objects: &Odb<'_>,
    info: &GitInfo,
    path: &Path,
) -> Result<HashSet<Oid>, StoresError> {
    let refs = bundle_refs(info);
    let tips = refs.iter().filter(|(name, _)| name.starts_with(NOTES_REFS));
    let mut stack = tips.map(|(_, id)| oid(id)).collect::<Result<Vec<_>, _>>()?;
    let (mut roots, mut seen) = (HashSet::new(), HashSet::new());
    while let Some(next) = stack.pop() {
        if !seen.insert(next) || !objects.exists(next) {
            continue;
        }
        let bad = |why: &str| StoresError::GitObject {
            path: path.to_owned(),
            oid: next.to_string(),
            why: why.to_owned(),
        };
        let object = objects.read(next).map_err(StoresError::git("read an object", path))?;
        match object.kind() {
            ObjectType::Commit => {
                let commit = commit(object.data()).map_err(bad)?;
                roots.insert(commit.tree);
                stack.extend(commit.parents);
            }
            ObjectType::Tag => stack.push(tag(object.data()).map_err(bad)?.0),
            ObjectType::Tree => {
                roots.insert(next);
            }
            _ => {}
        }
    }
    Ok(roots)
}

/// A tree of notes with new names, fanned out as it was, or none where it stays or ids are missing.
pub(super) fn redacted(
    rewrite: &mut Rewrite<'_>,
    root: Oid,
) -> Result<Option<Vec<u8>>, StoresError> {
    let mut stack = vec![(Vec::new(), root)];
    let (mut new, mut is_changed) = (Paths::new(), false);
    while let Some((at, oid)) = stack.pop() {
        let object = rewrite.old.read(oid).map_err(rewrite.fail("read a tree of notes"))?;
        for entry in tree(object.data()) {
            let entry = entry.map_err(|why| rewrite.bad(oid, why))?;
            let mut path: Vec<Vec<u8>> = at.clone();
            path.push(entry.name.to_vec());
            if entry.kind == Some(ObjectType::Tree) && is_fan_out(&path) {
                stack.push((path, entry.oid));
                continue;
            }
            let new_path = match about(&path) {
                Some(about) => fanned_out(&path, rewrite.id(about)),
                None => rewrite.file_name(entry.name).map_or_else(
                    || path.clone(),
                    |name| at.iter().cloned().chain([name]).collect(),
                ),
            };
            let id = rewrite.id(entry.oid);
            is_changed |= new_path != path || id != entry.oid;
            if new.insert(new_path, (entry.mode.to_vec(), id)).is_some() {
                let what = format!("git tree {oid}");
                return Err(unredactable(&what, "two notes have one name without their secrets"));
            }
        }
    }
    if !is_changed || rewrite.is_waiting() {
        return Ok(None);
    }
    content(rewrite, root, new).map(Some)
}

/// The root's content, after its folders are written, deepest first.
fn content(rewrite: &Rewrite<'_>, root: Oid, mut paths: Paths) -> Result<Vec<u8>, StoresError> {
    let deepest = paths.keys().map(Vec::len).max().unwrap_or(0);
    for depth in (2..=deepest).rev() {
        let mut folders: BTreeMap<Vec<Vec<u8>>, Vec<NewEntry>> = BTreeMap::new();
        let (deep, others): (Paths, Paths) =
            paths.into_iter().partition(|(path, _)| path.len() == depth);
        paths = others;
        for (mut path, (mode, oid)) in deep {
            let name = path.pop().unwrap_or_default();
            folders.entry(path).or_default().push(NewEntry { mode, name, oid });
        }
        for (path, entries) in folders {
            let folder = rewrite.write(ObjectType::Tree, &tree_content(root, entries)?)?;
            if paths.insert(path, (FOLDER_MODE.to_vec(), folder)).is_some() {
                let what = format!("git tree {root}");
                return Err(unredactable(&what, "a note's folder takes the name of another file"));
            }
        }
    }
    let entry = |(mut path, (mode, oid)): (Vec<Vec<u8>>, _)| {
        let name = path.pop().unwrap_or_default();
        NewEntry { mode, name, oid }
    };
    tree_content(root, paths.into_iter().map(entry).collect())
}

/// Whether such a folder holds notes by the rest of their names.
fn is_fan_out(path: &[Vec<u8>]) -> bool {
    path.len() * FAN_OUT < WHOLE && path.iter().all(|name| name.len() == FAN_OUT && is_hex(name))
}

/// The object that a note is about.
fn about(path: &[Vec<u8>]) -> Option<Oid> {
    let digits = path.concat();
    if digits.len() != WHOLE || !is_hex(&digits) {
        return None;
    }
    Oid::from_str(std::str::from_utf8(&digits).ok()?).ok()
}

/// An id cut where the names of `like` are.
fn fanned_out(like: &[Vec<u8>], id: Oid) -> Vec<Vec<u8>> {
    let digits = id.to_string().into_bytes();
    let mut rest = &digits[..];
    let cut = |name: &Vec<u8>| {
        let (part, behind) = rest.split_at(name.len().min(rest.len()));
        rest = behind;
        part.to_vec()
    };
    like.iter().map(cut).collect()
}

fn is_hex(name: &[u8]) -> bool {
    name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
