//! What a [`GitInfo`] says about refs: checked, resolved, and as a git bundle's header lists them.

use std::collections::BTreeMap;

use git2::{Oid, Reference};
use snapshot_core::{GitInfo, GitOid, GitRef};

use crate::StoresError;

/// Refs of ours; never part of a snapshot.
pub(super) const OWN_REFS: &str = "refs/nexo/";
/// Where the HEAD that a restore replaced is kept.
pub(crate) const PRE_RESTORE_REFS: &str = "refs/nexo/pre-restore/";
/// The stash's ref.
pub(crate) const STASH_REF: &str = "refs/stash";
/// Where a bundle carries stash entries.
pub(super) const STASH_ENTRY_REFS: &str = "refs/nexo/stash/";
/// Longest name of a ref; libgit2 has no room for one of 1024.
const MAX_REF_BYTES: usize = 1000;
/// Longest name of a file on Linux.
const MAX_FILE_NAME_BYTES: usize = 255;
/// What git puts behind the name of a ref that it is about to change.
const LOCK_ENDING: &str = ".lock";
/// How many symbolic refs in a row are followed.
const MAX_HOPS: usize = 5;

/// What a ref is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RefValue {
    Direct(GitOid),
    Symbolic(String),
}

/// Whether a snapshot with this repository holds a git bundle: git has none without a ref.
#[must_use]
pub fn has_bundle(info: &GitInfo) -> bool {
    !bundle_refs(info).is_empty()
}

/// The refs that the bundle's header lists, with their objects: HEAD, every ref that leads to an
/// object, the stash entries.
pub(super) fn bundle_refs(info: &GitInfo) -> BTreeMap<String, GitOid> {
    let refs = ref_map(info);
    let mut listed: BTreeMap<String, GitOid> =
        refs.keys().filter_map(|name| Some(((*name).to_owned(), resolve(&refs, name)?))).collect();
    let stash = info.stash.iter().enumerate();
    listed.extend(stash.map(|(n, entry)| (format!("{STASH_ENTRY_REFS}{n}"), entry.oid.clone())));
    listed.extend(info.head_oid.iter().map(|oid| ("HEAD".to_owned(), oid.clone())));
    listed
}

/// The refs by name.
pub(super) fn ref_map(info: &GitInfo) -> BTreeMap<&str, RefValue> {
    let value = |r: &GitRef| match (&r.oid, &r.target) {
        (Some(oid), _) => Some(RefValue::Direct(oid.clone())),
        (None, Some(target)) => Some(RefValue::Symbolic(target.clone())),
        (None, None) => None,
    };
    info.refs.iter().filter_map(|r| Some((r.name.as_str(), value(r)?))).collect()
}

/// The object that the ref `name` leads to.
pub(super) fn resolve(refs: &BTreeMap<&str, RefValue>, name: &str) -> Option<GitOid> {
    let mut name = name;
    for _ in 0..=MAX_HOPS {
        match refs.get(name)? {
            RefValue::Direct(oid) => return Some(oid.clone()),
            RefValue::Symbolic(target) => name = target,
        }
    }
    None
}

/// Whether following the ref `name` comes to an end, with an object or not.
fn ends(refs: &BTreeMap<&str, RefValue>, name: &str) -> bool {
    let next = |name: &str| match refs.get(name) {
        Some(RefValue::Symbolic(target)) => Some(target.clone()),
        _ => None,
    };
    let hops = std::iter::successors(Some(name.to_owned()), |name| next(name));
    hops.take(MAX_HOPS + 2).count() <= MAX_HOPS + 1
}

/// Checks what came from a manifest before any of it names a file in a repository.
pub(super) fn check(info: &GitInfo) -> Result<(), StoresError> {
    let bad = |why: String| Err(StoresError::GitBundle { why });
    let mut names: Vec<&str> = Vec::with_capacity(info.refs.len());
    for GitRef { name, oid, target } in &info.refs {
        if !is_ref_name(name) || is_reserved(name) {
            return bad(format!("the manifest names a ref {name:?}"));
        }
        if oid.is_some() == target.is_some() {
            return bad(format!("the manifest's ref {name:?} has not one of object and target"));
        }
        if target.as_deref().is_some_and(|target| !is_ref_name(target)) {
            return bad(format!("the manifest's ref {name:?} leads to no ref"));
        }
        names.push(name);
    }
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return bad(format!("the manifest names {:?} twice", pair[0]));
    }
    let is_below = |name: &&&str| folders(name).any(|folder| names.binary_search(&folder).is_ok());
    if let Some(name) = names.iter().find(is_below) {
        return bad(format!("the manifest's ref {name:?} lies below another ref"));
    }
    if info.head_ref.as_deref().is_some_and(|name| !is_ref_name(name) || is_reserved(name)) {
        return bad("the manifest's HEAD names no branch".to_owned());
    }
    if info.head_ref.as_ref().is_some_and(|name| !ends(&ref_map(info), name)) {
        return bad("the manifest's HEAD leads in a circle".to_owned());
    }
    if let Some(name) = &info.head_ref
        && resolve(&ref_map(info), name) != info.head_oid
    {
        return bad("the manifest's HEAD is not where its branch is".to_owned());
    }
    Ok(())
}

/// A name that git and libgit2 take for a ref's, and for which there is room in a file's name, its lock's
/// too.
pub(super) fn is_ref_name(name: &str) -> bool {
    let fits = name.len() <= MAX_REF_BYTES
        && name.split('/').all(|part| part.len() + LOCK_ENDING.len() <= MAX_FILE_NAME_BYTES);
    fits && name.starts_with("refs/") && Reference::is_valid_name(name)
}

/// Names that are ours, or the stash's, or leave no room for those.
pub(super) fn is_reserved(name: &str) -> bool {
    name == STASH_REF || name.starts_with(OWN_REFS) || leaves_no_room(name)
}

/// Whether a ref of this name and the stash, or one of ours, cannot both be there: a restore that is to set the one
/// over the other would stop half-way.
pub(super) fn leaves_no_room(name: &str) -> bool {
    folders(OWN_REFS).any(|folder| folder == name)
        || folders(name).any(|folder| folder == STASH_REF)
}

/// Every folder that the ref `name` lies in.
pub(super) fn folders(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

/// libgit2's form of an id.
pub(super) fn oid(id: &GitOid) -> Result<Oid, StoresError> {
    Oid::from_str(id.as_str())
        .map_err(|_| StoresError::GitBundle { why: format!("{id} is no object id") })
}

/// Core's form of an id.
pub(super) fn git_oid(id: Oid) -> Result<GitOid, StoresError> {
    Ok(id.to_string().parse()?)
}
