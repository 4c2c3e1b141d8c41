//! Putting a staged repository into place: idempotent, so that a recovery can repeat it from any
//! point. Nothing is checked out: working files are memory files.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::{self, Write as _};

use git2::{ConfigLevel, Index, Odb, Oid};
use snapshot_core::{Control, SnapshotId};
use snapshot_fs::{Dir, FileType, Meta, is_temp_name};

use super::info::oid;
use super::lock::{self, git_folder};
use super::open::{GitRepo, open};
use super::plan::{DEFAULT_BRANCH, GitTargets};
use super::stage::{PACKS, open_objects};
use super::{ref_locks, refs, stash, walk};
use crate::StoresError;
use crate::files::git_name;

/// Mode of packs, which never change.
const PACK_MODE: u32 = 0o444;
/// Mode of git's other files.
const FILE_MODE: u32 = 0o644;
/// Name of the new index in the staging folder.
const STAGED_INDEX: &str = "index";
/// Its lock, which libgit2 takes.
const STAGED_INDEX_LOCK: &str = "index.lock";
/// Name, in the staging folder, of the configuration that libgit2 gets from us for as long as it works here.
const STAGED_CONFIG: &str = "config";
/// Without it libgit2 renames a ref into place before its content is durable: a power cut leaves an empty one.
const DURABLE: &[u8] = b"[core]\n\tfsyncObjectFiles = true\n";
/// The configuration that `git init` writes.
const CONFIG: &[u8] = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
                        \tlogallrefupdates = true\n";
/// Largest index, in bytes.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// Brings the memdir's repository to what `targets` say, from the objects that [`super::stage()`]
/// put into `staged`: objects, shallow list, refs and HEAD, stash, index. The memory files must be
/// in place. Configuration, hooks and other reflogs stay; the old HEAD is kept as
/// `refs/nexo/pre-restore/<id>`. Holds the index lock of restore `id`, and releases it at the end;
/// after an error it stays, for the call can be repeated ([`super::unlock`] gives it up).
///
/// # Errors
/// [`StoresError::GitLocked`] where a git process holds a lock, and what libgit2 or the file system
/// refuse.
pub fn apply(
    memdir: &Dir,
    staged: &Dir,
    targets: &GitTargets,
    id: SnapshotId,
    control: &Control,
) -> Result<(), StoresError> {
    make_missing(memdir, targets, id)?;
    let repo = open(memdir.path())?.ok_or_else(|| StoresError::GitUnsupported {
        path: memdir.path().to_owned(),
        why: "it was removed during the restore".to_owned(),
    })?;
    sync_refs(&repo, staged)?;
    let fs = memdir.durable_fs();
    let git = git_folder(memdir, &repo)?;
    let common = fs.open_dir(repo.repo.commondir())?;
    lock::take(&git, id)?;
    ref_locks::break_dead(&git, &common, id)?;
    sweep(&git, &common)?;
    bring_packs(staged, &common, control)?;
    set_shallow(&repo, &common, staged, targets)?;
    // What was made so far, names and contents: refs must not come before what they lead to.
    common.sync_fs()?;
    ref_locks::announced(&git, id, || {
        refs::set(&repo, &common, targets, &id.to_string())
            .and_then(|()| stash::set(&repo, &common, &targets.after))
            .map_err(|e| locked(e, &git, &common))
    })?;
    set_index(&repo, &git, staged)?;
    fs.external("clean up after unfinished git operations", git.path())?;
    repo.repo.cleanup_state().map_err(repo.fail("clean up"))?;
    give_to_owner(&git, &common)?;
    common.sync_fs()?;
    // Those of a worktree may be apart.
    if git.stat_self()?.dev != common.stat_self()?.dev {
        git.sync_fs()?;
    }
    lock::unlock(memdir, id)
}

/// An error with the lock that somebody holds, where one is to be seen.
fn locked(error: StoresError, git: &Dir, common: &Dir) -> StoresError {
    match error {
        StoresError::GitLocked { path } => {
            let first = ref_locks::first(git, common).ok().flatten();
            StoresError::GitLocked { path: first.unwrap_or(path) }
        }
        other => other,
    }
}

/// Has libgit2 sync what it writes through `repo`. Before its first look at a ref: it asks once.
fn sync_refs(repo: &GitRepo, staged: &Dir) -> Result<(), StoresError> {
    staged.remove_tree(STAGED_CONFIG)?;
    put(staged, STAGED_CONFIG, DURABLE, 0o600)?;
    let config = repo.repo.config();
    config
        .and_then(|mut c| c.add_file(&staged.path().join(STAGED_CONFIG), ConfigLevel::App, true))
        .map_err(repo.fail("have the refs synced"))
}

/// Makes an empty repository where there is none: beside its place, then in one step.
fn make_missing(memdir: &Dir, targets: &GitTargets, id: SnapshotId) -> Result<(), StoresError> {
    if memdir.stat(".git")?.is_some() {
        return Ok(());
    }
    let name = git_name(id);
    memdir.remove_tree(&name)?;
    let owner = memdir.stat_self()?;
    let mode = owner.mode & 0o777;
    let branch = targets.after.head_ref.as_deref().unwrap_or(DEFAULT_BRANCH);
    let git = make_empty(memdir, &name, mode, branch)?;
    give_all(memdir, (owner.uid, owner.gid), &name)?;
    // Its name must not come before it: what is half a repository no recovery opens.
    git.sync_fs()?;
    Ok(memdir.rename(&name, memdir, ".git")?)
}

/// An empty repository, as `git init` lays it out. Nothing of it is synced.
pub(super) fn make_empty(
    within: &Dir,
    name: impl AsRef<OsStr>,
    mode: u32,
    branch: &str,
) -> Result<Dir, StoresError> {
    within.create_dir(name.as_ref(), mode)?;
    let git = within.sub(name.as_ref())?;
    for folder in ["objects/info", PACKS, "refs/heads", "refs/tags"] {
        git.make_path(folder, mode)?;
    }
    put(&git, "HEAD", format!("ref: {branch}\n").as_bytes(), FILE_MODE)?;
    put(&git, "config", CONFIG, FILE_MODE)?;
    Ok(git)
}

/// Writes a new file, and does not sync it.
fn put(dir: &Dir, name: &str, bytes: &[u8], mode: u32) -> Result<(), StoresError> {
    let mut file = dir.create_new(name, mode)?;
    file.write_all(bytes).map_err(StoresError::io("write", file.path()))
}

/// Temporary files of ours that an interrupted restore left where git looks.
pub(super) fn sweep(git: &Dir, common: &Dir) -> Result<(), StoresError> {
    let folders = ["refs", "logs/refs", PACKS].map(|path| common.sub(path));
    let folders = folders.into_iter().filter_map(Result::ok);
    for dir in [git.clone(), common.clone()].into_iter().chain(folders) {
        for entry in dir.entries()? {
            let stat = dir.stat(&entry.name)?;
            if is_temp_name(&entry.name) && stat.is_some_and(|s| s.file_type == FileType::File) {
                dir.unlink(&entry.name)?;
            }
        }
    }
    Ok(())
}

/// Copies the staged pack into the repository, its index last: git sees a pack by its index. Whatever else lies
/// beside it, libgit2 made it and could not remove it.
fn bring_packs(staged: &Dir, common: &Dir, control: &Control) -> Result<(), StoresError> {
    let from = match staged.sub(PACKS) {
        Err(e) if e.is_not_found() => return Ok(()),
        opened => opened?,
    };
    let to = common.make_path(PACKS, 0o755)?;
    let names = from.entries()?.into_iter().map(|entry| entry.name);
    let mut names: Vec<_> = names.filter(|name| is_pack(name)).collect();
    names.sort_by_key(|name| name.as_encoded_bytes().ends_with(b".idx"));
    for name in names {
        control.check().map_err(StoresError::stopped("bringing in the git history"))?;
        if to.stat(&name)?.is_some() {
            continue;
        }
        let (temp, mut file) = to.create_temp(PACK_MODE)?;
        let at = file.path().to_owned();
        io::copy(&mut from.open_file(&name)?, &mut file).map_err(StoresError::io("write", at))?;
        let owner = to.stat_self()?;
        if to.stat(&temp)?.is_some_and(|made| (made.uid, made.gid) != (owner.uid, owner.gid)) {
            file.set_meta(Meta { owner: Some((owner.uid, owner.gid)), ..Meta::default() })?;
        }
        file.sync()?;
        to.rename(&temp, &to, &name)?;
    }
    Ok(())
}

/// Whether git calls a pack or its index so.
fn is_pack(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"pack-") && (name.ends_with(b".pack") || name.ends_with(b".idx"))
}

/// The snapshot's list, and of the present one what is still cut off: the old HEAD is kept. Of the
/// snapshot's, only commits that its bundle holds and whose history is not here: history that a
/// repository has is never hidden, for git would soon remove it.
fn set_shallow(
    repo: &GitRepo,
    common: &Dir,
    staged: &Dir,
    targets: &GitTargets,
) -> Result<(), StoresError> {
    let now = repo.pin()?.info.shallow;
    let odb = repo.repo.odb().map_err(repo.fail("open the objects"))?;
    let brought = open_objects(&[staged.path()]).map_err(repo.fail("open the staged objects"))?;
    let boundary = now.iter().map(oid).collect::<Result<HashSet<_>, _>>()?;
    let mut list = BTreeSet::new();
    for commit in &targets.after.shallow {
        let id = oid(commit)?;
        if brought.exists(id) && !is_complete(&odb, id, &boundary) {
            list.insert(commit.clone());
        }
    }
    for commit in &now {
        let is_cut = parents(&odb, oid(commit)?).into_iter().any(|parent| !odb.exists(parent));
        if is_cut {
            list.insert(commit.clone());
        }
    }
    if list.iter().eq(&now) {
        return Ok(());
    }
    if list.is_empty() {
        // Durable with the packs.
        return Ok(common.unlink("shallow")?);
    }
    let text: String = list.iter().map(|commit| format!("{commit}\n")).collect();
    Ok(common.write_atomic("shallow", text.as_bytes(), FILE_MODE)?)
}

/// Whether all of a commit's history is here, down to what is cut off already. One that is itself cut off
/// is not.
fn is_complete(odb: &Odb<'_>, commit: Oid, boundary: &HashSet<Oid>) -> bool {
    let mut seen = HashSet::new();
    let mut stack = vec![commit];
    while let Some(next) = stack.pop() {
        if !odb.exists(next) || boundary.contains(&commit) {
            return false;
        }
        if seen.insert(next) && !boundary.contains(&next) {
            stack.extend(parents(odb, next));
        }
    }
    true
}

/// The parents that a commit names; none of what is no commit that can be read.
fn parents(odb: &Odb<'_>, commit: Oid) -> Vec<Oid> {
    let read = odb.read(commit).ok();
    read.and_then(|object| walk::commit(object.data()).ok()).map_or(Vec::new(), |c| c.parents)
}

/// An index that says what HEAD's tree says. It knows no file's times: git's next look fills them in.
fn set_index(repo: &GitRepo, git: &Dir, staged: &Dir) -> Result<(), StoresError> {
    let fail = || repo.fail("build the index");
    staged.remove_tree(STAGED_INDEX)?;
    // A run that was killed while it wrote one left its lock.
    staged.remove_tree(STAGED_INDEX_LOCK)?;
    let path = staged.path().join(STAGED_INDEX);
    staged.durable_fs().external("build the index", &path)?;
    let mut index = Index::open(&path).map_err(fail())?;
    match repo.repo.head() {
        Ok(head) => {
            let tree = head.peel_to_tree().map_err(fail())?;
            index.read_tree(&tree).map_err(fail())?;
        }
        Err(e) if e.code() == git2::ErrorCode::UnbornBranch => {}
        Err(e) => return Err(fail()(e)),
    }
    index.write().map_err(fail())?;
    let mode = git.stat("index")?.map_or(FILE_MODE, |stat| stat.mode);
    Ok(git.write_atomic("index", &staged.read(STAGED_INDEX, MAX_INDEX_BYTES)?, mode)?)
}

/// What root just made in another user's repository becomes that user's.
fn give_to_owner(git: &Dir, common: &Dir) -> Result<(), StoresError> {
    if rustix::process::geteuid().as_raw() != 0 {
        return Ok(());
    }
    for dir in [git, common] {
        let owner = dir.stat_self()?;
        if owner.uid == 0 {
            continue;
        }
        for entry in dir.entries()? {
            // Objects are handed over one by one as they come; there may be very many.
            if entry.name != "objects" {
                give_all(dir, (owner.uid, owner.gid), &entry.name)?;
            }
        }
    }
    Ok(())
}

/// Hands over `name`, and everything below it, as far as it is our user's.
fn give_all(dir: &Dir, owner: (u32, u32), name: impl AsRef<OsStr>) -> Result<(), StoresError> {
    let name = name.as_ref();
    let Some(stat) = dir.stat(name)? else { return Ok(()) };
    if stat.file_type == FileType::Dir {
        let sub = dir.sub(name)?;
        for entry in sub.entries()? {
            give_all(&sub, owner, &entry.name)?;
        }
    }
    if (stat.uid, stat.gid) != owner && stat.uid == rustix::process::geteuid().as_raw() {
        dir.set_meta(name, Meta { owner: Some(owner), ..Meta::default() })?;
    }
    Ok(())
}
