//! What a restore makes an index of, tried before anything live changes: libgit2 must be able to read
//! it, and a few crafted trees can stand for more files than any disk holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use git2::{Index, ObjectType, Oid, Repository};
use snapshot_core::{GitInfo, GitOid};

use super::info::{bundle_refs, oid};
use super::walk::{Walk, tree};
use crate::StoresError;

/// Most files that HEAD may track: as many as a bundle may hold.
const MAX_TRACKED: u64 = 1_000_000;
/// Deepest folder: a path of more has no room in a name of 4096 bytes.
const MAX_DEPTH: u64 = 2048;

/// How large a tree is once it is laid out.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    files: u64,
    depth: u64,
}

/// Checks HEAD's tree and the stash of `info`, whose objects `walk` has found to be all there.
pub(super) fn check(walk: &Walk<'_>, repo: &Repository, info: &GitInfo) -> Result<(), StoresError> {
    for entry in &info.stash {
        let stash = oid(&entry.oid)?;
        repo.find_commit(stash).map_err(|e| unusable(walk, stash, "a stash", &e))?;
    }
    for (name, id) in heads(info) {
        let head = oid(&id)?;
        let odd = |e: git2::Error| unusable(walk, head, &name, &e);
        let tree = repo.find_commit(head).and_then(|commit| commit.tree()).map_err(odd)?;
        let extent = measure(walk, tree.id())?;
        if extent.files > MAX_TRACKED || extent.depth > MAX_DEPTH {
            let why = format!(
                "the files of {name} are {} in folders {} deep; {MAX_TRACKED} and {MAX_DEPTH} are the most",
                extent.files, extent.depth
            );
            return Err(walk.bad(tree.id(), why));
        }
        Index::new().and_then(|mut index| index.read_tree(&tree)).map_err(odd)?;
    }
    Ok(())
}

/// What HEAD may be after a restore: where the manifest does not say, the live one stays on its branch.
fn heads(info: &GitInfo) -> BTreeMap<String, GitOid> {
    let mut refs = bundle_refs(info);
    let is_told = info.head_oid.is_some() || info.head_ref.is_some();
    refs.retain(|name, _| match is_told {
        true => name == "HEAD",
        false => name.starts_with("refs/heads/"),
    });
    refs
}

/// Each tree once, however often it is named; those below a tree before it.
fn measure(walk: &Walk<'_>, root: Oid) -> Result<Extent, StoresError> {
    let mut known: HashMap<Oid, Extent> = HashMap::new();
    let mut stack = vec![root];
    while let Some(&next) = stack.last() {
        walk.control.check().map_err(StoresError::stopped("looking at HEAD's files"))?;
        if known.contains_key(&next) {
            stack.pop();
            continue;
        }
        let object = walk.read(next)?;
        let mut extent = Extent::default();
        let mut missing = BTreeSet::new();
        for entry in tree(object.data()) {
            let entry = entry.map_err(|why| walk.bad(next, why.to_owned()))?;
            match entry.kind {
                Some(ObjectType::Tree) => match known.get(&entry.oid) {
                    Some(below) => {
                        extent.files = extent.files.saturating_add(below.files);
                        extent.depth = extent.depth.max(below.depth + 1);
                    }
                    None => _ = missing.insert(entry.oid),
                },
                _ => extent.files = extent.files.saturating_add(1),
            }
        }
        if missing.is_empty() {
            stack.pop();
            known.insert(next, extent);
        }
        stack.extend(missing);
    }
    Ok(known.get(&root).copied().unwrap_or_default())
}

fn unusable(walk: &Walk<'_>, oid: Oid, what: &str, e: &git2::Error) -> StoresError {
    walk.bad(oid, format!("git's library makes no use of it as {what}: {}", e.message()))
}
