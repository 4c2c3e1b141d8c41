//! Refs and HEAD set by one libgit2 transaction.

use git2::{ErrorCode, Repository, Signature};
use snapshot_core::{GitInfo, NotCarried};
use snapshot_fs::{Dir, FileType};

use super::info::{PRE_RESTORE_REFS, RefValue, folders, leaves_no_room, oid};
use super::open::GitRepo;
use super::plan::{GitTargets, State};
use crate::StoresError;

/// What reflogs say.
const REFLOG_MESSAGE: &str = "nexo-memory: restore";
/// What errors and the hook of the layer say is being done.
const WHAT: &str = "set the refs";

/// Sets every ref and HEAD to what the snapshot has, removes the others, and keeps the old HEAD's
/// commit under a ref of its own. Only what differs is touched. `common` is git's common folder.
pub(super) fn set(
    repo: &GitRepo,
    common: &Dir,
    targets: &GitTargets,
    id: &str,
) -> Result<(), StoresError> {
    let now = repo.pin()?.info;
    let (is, will_be) = (State::of(&now), State::of(&targets.after));
    let removed: Vec<&str> =
        is.refs.keys().copied().filter(|name| !will_be.refs.contains_key(name)).collect();
    let mut changes: Vec<(String, RefValue)> = will_be
        .not_in(&is)
        .filter_map(|name| Some((name.to_owned(), will_be.refs.get(name)?.clone())))
        .collect();
    changes.extend(keep_old_head(repo, targets.before.as_ref(), id)?);
    if let Some(head) = &will_be.head
        && is.head != will_be.head
    {
        changes.push(("HEAD".to_owned(), head.clone()));
    }
    let (first, removed): (Vec<_>, Vec<_>) =
        removed.into_iter().partition(|name| is_in_the_way(name, &changes));
    let fs = common.durable_fs();
    if !first.is_empty() {
        fs.external(WHAT, common.path())?;
        remove_first(&repo.repo, first).map_err(refused(repo, WHAT))?;
        // After a power cut what comes in their place may be there and they too: neither could be set any more.
        common.sync_fs()?;
    }
    changes.iter().try_for_each(|(name, _)| make_room_for_log(common, name))?;
    fs.external(WHAT, common.path())?;
    commit(&repo.repo, &changes, &removed).map_err(refused(repo, WHAT))
}

/// A ref of the agent's that leaves no room for those that a restore sets.
pub(super) fn refuse_in_the_way(repo: &GitRepo) -> Result<(), StoresError> {
    let found = repo.pin()?.not_carried.into_iter().find(|left| leaves_no_room(&left.path));
    found.map_or(Ok(()), |NotCarried { path, .. }| {
        let why = format!(
            "its ref {path:?} leaves no room for the stash or for refs of a restore; rename it"
        );
        Err(StoresError::GitUnsupported { path: repo.path(), why })
    })
}

/// `refs/heads/a` makes no room for `refs/heads/a/b` within a transaction, nor the reverse.
fn is_in_the_way(name: &str, changes: &[(String, RefValue)]) -> bool {
    changes.iter().any(|(new, _)| {
        folders(new).any(|folder| folder == name) || folders(name).any(|folder| folder == new)
    })
}

fn keep_old_head(
    repo: &GitRepo,
    before: Option<&GitInfo>,
    id: &str,
) -> Result<Option<(String, RefValue)>, StoresError> {
    let name = format!("{PRE_RESTORE_REFS}{id}");
    let kept = match repo.repo.refname_to_id(&name) {
        Err(e) if e.code() == ErrorCode::NotFound => None,
        kept => Some(kept.map_err(repo.fail("read a ref"))?),
    };
    let Some(head) = before.and_then(|info| info.head_oid.clone()) else { return Ok(None) };
    Ok((kept != Some(oid(&head)?)).then_some((name, RefValue::Direct(head))))
}

/// Their reflogs go too, as git does it: they would be in the way of the new refs' logs.
fn remove_first(repo: &Repository, names: Vec<&str>) -> Result<(), git2::Error> {
    names.into_iter().try_for_each(|name| repo.find_reference(name)?.delete())
}

/// Removes logs in the way of that of the ref `name`: a power cut may leave the log of a ref that is gone.
fn make_room_for_log(common: &Dir, name: &str) -> Result<(), StoresError> {
    let mut dir = common.clone();
    let mut parts = ["logs"].into_iter().chain(name.split('/')).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match dir.stat(part)?.map(|stat| stat.file_type) {
            Some(FileType::Dir) if is_last => dir.remove_tree(part)?,
            Some(FileType::Dir) => dir = dir.sub(part)?,
            Some(FileType::File) if !is_last => return Ok(dir.unlink(part)?),
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn commit(
    repo: &Repository,
    changes: &[(String, RefValue)],
    removed: &[&str],
) -> Result<(), git2::Error> {
    let who = Signature::now("nexo-memory", "nexo-memory@localhost")?;
    let mut transaction = repo.transaction()?;
    for name in changes.iter().map(|(name, _)| name.as_str()).chain(removed.iter().copied()) {
        transaction.lock_ref(name)?;
    }
    for (name, value) in changes {
        match value {
            RefValue::Direct(id) => {
                let id = git2::Oid::from_str(id.as_str())?;
                transaction.set_target(name, id, Some(&who), REFLOG_MESSAGE)?;
            }
            RefValue::Symbolic(target) => {
                transaction.set_symbolic_target(name, target, Some(&who), REFLOG_MESSAGE)?;
            }
        }
    }
    for name in removed {
        transaction.remove(name)?;
    }
    transaction.commit()
}

/// What libgit2 says of a change of refs, where somebody may hold a lock.
pub(super) fn refused(
    repo: &GitRepo,
    what: &'static str,
) -> impl FnOnce(git2::Error) -> StoresError {
    move |e| match e.code() {
        ErrorCode::Locked => StoresError::GitLocked { path: repo.path() },
        _ => repo.fail(what)(e),
    }
}
