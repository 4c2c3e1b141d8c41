//! Names of refs, and what else the manifest says of a history.

use std::collections::HashSet;

use git2::Oid;
use snapshot_core::{GitInfo, GitOid, GitRef, GitStash};

use super::super::info::{check, git_oid, oid};
use super::ids;
use super::rewrite::Rewrite;
use super::unredactable;
use crate::StoresError;

/// The manifest's part of the whole history; HEAD's subject, author and time are left out.
pub(super) fn redacted(rewrite: &mut Rewrite<'_>, info: &GitInfo) -> Result<GitInfo, StoresError> {
    let mut new = GitInfo {
        head_oid: info.head_oid.as_ref().map(|id| new_id(rewrite, id)).transpose()?,
        head_ref: info.head_ref.as_ref().map(|name| new_name(rewrite, name)).transpose()?,
        ..GitInfo::default()
    };
    for GitRef { name, oid, target } in &info.refs {
        new.refs.push(GitRef {
            name: new_name(rewrite, name)?,
            oid: oid.as_ref().map(|id| new_id(rewrite, id)).transpose()?,
            target: target.as_ref().map(|name| new_name(rewrite, name)).transpose()?,
        });
    }
    new.refs.sort_by(|a, b| a.name.cmp(&b.name));
    for GitStash { oid, message } in &info.stash {
        let message = match rewrite.text(message.as_bytes(), ids::SHORTEST) {
            Some(text) => String::from_utf8_lossy(&text).into_owned(),
            None => message.clone(),
        };
        new.stash.push(GitStash { oid: new_id(rewrite, oid)?, message });
    }
    for id in &info.shallow {
        new.shallow.push(new_id(rewrite, id)?);
    }
    new.shallow.sort();
    sound(new)
}

/// The manifest's part of HEAD and its branch alone.
pub(super) fn head_only(
    rewrite: &mut Rewrite<'_>,
    info: &GitInfo,
    head: Option<Oid>,
) -> Result<GitInfo, StoresError> {
    let head_oid = head.map(git_oid).transpose()?;
    let head_ref = info.head_ref.as_ref().map(|name| new_name(rewrite, name)).transpose()?;
    let branch = head_ref.clone().filter(|_| head_oid.is_some());
    let branch = branch.map(|name| GitRef { name, oid: head_oid.clone(), target: None });
    let refs = branch.into_iter().collect();
    sound(GitInfo { head_oid, head_ref, refs, ..GitInfo::default() })
}

fn sound(info: GitInfo) -> Result<GitInfo, StoresError> {
    let mut names = HashSet::new();
    if let Some(twice) = info.refs.iter().find(|r| !names.insert(&r.name)) {
        let what = format!("git ref {}", twice.name);
        return Err(unredactable(&what, "two refs have this name without their secrets"));
    }
    match check(&info) {
        Err(StoresError::GitBundle { why }) => {
            Err(unredactable("the git refs", &format!("redacted, {why}")))
        }
        Err(e) => Err(e),
        Ok(()) => Ok(info),
    }
}

fn new_id(rewrite: &mut Rewrite<'_>, id: &GitOid) -> Result<GitOid, StoresError> {
    git_oid(rewrite.id(oid(id)?))
}

fn new_name(rewrite: &mut Rewrite<'_>, name: &str) -> Result<String, StoresError> {
    let Some(new) = rewrite.ref_name(name.as_bytes()) else { return Ok(name.to_owned()) };
    String::from_utf8(new).map_err(|e| {
        let name = String::from_utf8_lossy(e.as_bytes()).into_owned();
        unredactable(&format!("git ref {name}"), "redacted, its name is not UTF-8")
    })
}
