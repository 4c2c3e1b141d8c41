//! The redaction of a bundle's history, from bundle to bundle.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use git2::{ObjectType, Oid, Repository};
use snapshot_core::{Control, GitHistory, GitInfo, GitOid, Redactor};
use snapshot_fs::Dir;

use super::super::apply::make_empty;
use super::super::bundle::{GitBundle, write_bundle};
use super::super::info::{bundle_refs, git_oid, oid};
use super::super::open::GitRepo;
use super::super::pin::PinnedGit;
use super::super::plan::DEFAULT_BRANCH;
use super::super::stage::{open_objects, unpack};
use super::super::walk::Walk;
use super::rewrite::Rewrite;
use super::{in_scratch, notes};
use crate::StoresError;

/// Names in the spool.
const SCRATCH: &str = "git-redact";
const OLD: &str = "old";
const NEW: &str = "new";

/// What [`redact_history`] made.
#[derive(Debug)]
pub struct RedactedHistory {
    /// The new bundle, with the manifest's part.
    pub bundle: GitBundle,
    /// Every object whose id changed, old to new. An old id is a digest of a secret: it must not ship, so what is
    /// left out altogether is here too, and becomes zeros. With [`GitHistory::HeadOnly`] some new ones may not be
    /// in the bundle: those that its files mention.
    pub ids: BTreeMap<GitOid, GitOid>,
    /// Signatures that their object's change made void.
    pub signatures_dropped: u64,
}

/// Takes the secrets out of a git bundle, which is none where [`super::super::has_bundle`] says so, and
/// out of the manifest's part. What holds no secret and leads to none keeps its id. Nothing stays in
/// `spool`. The same input gives the same bytes.
///
/// Memory: one object at a time, and some 60 bytes for each object of the history, 250 more for each
/// whose id changes.
///
/// # Errors
/// [`StoresError::Unredactable`] where two names become one, or a message mentions a commit that comes
/// after it; else as [`super::super::stage()`] and [`write_bundle`].
pub fn redact_history(
    bundle: Option<&mut dyn Read>,
    info: &GitInfo,
    mode: GitHistory,
    redactor: &dyn Redactor,
    spool: &Dir,
    max_object_bytes: u64,
    control: &Control,
) -> Result<RedactedHistory, StoresError> {
    in_scratch(spool, SCRATCH, |dir| {
        let old_dir = dir.make_path(OLD, 0o700)?;
        let (mut commits, mut all) = (Vec::new(), Vec::new());
        unpack(bundle, info, &old_dir, max_object_bytes, control, &mut |_, seen| {
            if seen.kind == ObjectType::Commit {
                commits.push(seen.oid);
            }
            if mode != GitHistory::Rewrite {
                all.push(seen.oid);
            }
            Ok(())
        })?;
        commits.sort_unstable();
        if mode == GitHistory::Drop {
            return nothing(all);
        }
        let repo = GitRepo { repo: new_repository(dir, &old_dir)? };
        let made = make_anew(info, mode, redactor, (&old_dir, commits), &repo, control)?;
        let pinned = PinnedGit { info: made.info, not_carried: Vec::new() };
        let bundle = write_bundle(&repo, &pinned, dir, max_object_bytes, control)?;
        let (mut ids, signatures_dropped) = (made.ids, made.signatures_dropped);
        if mode == GitHistory::HeadOnly {
            let kept = reached(&repo, &bundle.info, max_object_bytes, control)?;
            all.retain(|oid| !kept.contains(oid));
            leave_out(all, &mut ids)?;
        }
        Ok(RedactedHistory { bundle, ids, signatures_dropped })
    })
}

/// What is left of a history that is dropped: that its objects have no names any more.
fn nothing(all: Vec<Oid>) -> Result<RedactedHistory, StoresError> {
    let mut ids = BTreeMap::new();
    leave_out(all, &mut ids)?;
    let bundle = GitBundle { info: GitInfo::default(), file: None, not_carried: Vec::new() };
    Ok(RedactedHistory { bundle, ids, signatures_dropped: 0 })
}

/// Lets zeros stand for objects that nothing else stands for.
fn leave_out(all: Vec<Oid>, ids: &mut BTreeMap<GitOid, GitOid>) -> Result<(), StoresError> {
    let none = git_oid(Oid::ZERO_SHA1)?;
    for oid in all {
        ids.entry(git_oid(oid)?).or_insert_with(|| none.clone());
    }
    Ok(())
}

/// Every object of the new history.
fn reached(
    repo: &GitRepo,
    info: &GitInfo,
    max_object_bytes: u64,
    control: &Control,
) -> Result<HashSet<Oid>, StoresError> {
    let odb = repo.repo.odb().map_err(repo.fail("open the objects"))?;
    let (path, shallow) = (repo.path(), HashSet::new());
    let walk = Walk { odb: &odb, path: &path, shallow: &shallow, max_object_bytes, control };
    let tips = bundle_refs(info).values().map(oid).collect::<Result<Vec<_>, _>>()?;
    let mut reached = HashSet::new();
    walk.run(tips, |seen| {
        reached.insert(seen.oid);
        Ok(())
    })?;
    Ok(reached)
}

/// What [`make_anew`] made, beside objects.
struct Made {
    info: GitInfo,
    ids: BTreeMap<GitOid, GitOid>,
    signatures_dropped: u64,
}

/// Writes the new objects. What it remembers of the old ones is gone before they are packed.
fn make_anew(
    info: &GitInfo,
    mode: GitHistory,
    redactor: &dyn Redactor,
    (old_dir, commits): (&Dir, Vec<Oid>),
    repo: &GitRepo,
    control: &Control,
) -> Result<Made, StoresError> {
    let path = old_dir.path();
    let old = open_objects(&[path]).map_err(StoresError::git("read the unpacked bundle", path))?;
    let new = repo.repo.odb().map_err(repo.fail("open the objects"))?;
    let notes = notes::roots(&old, info, path)?;
    let mut rewrite = Rewrite::new(&old, &new, redactor, (commits, notes), path, control);
    let info = match mode {
        GitHistory::HeadOnly => rewrite.head_only(info)?,
        _ => rewrite.all(info)?,
    };
    let (ids, signatures_dropped) = rewrite.changed()?;
    Ok(Made { info, ids, signatures_dropped })
}

/// A bare repository that reads the old objects too and keeps the new ones.
fn new_repository(dir: &Dir, old: &Dir) -> Result<Repository, StoresError> {
    let new = make_empty(dir, NEW, 0o700, DEFAULT_BRANCH)?;
    let fail = || StoresError::git("open", new.path());
    let repo = Repository::open_bare(new.path()).map_err(fail())?;
    let objects = old.path().join("objects");
    let objects = objects.to_str().ok_or_else(|| {
        StoresError::refused(old.path(), "the spool's path is not UTF-8: libgit2 cannot use it")
    })?;
    repo.odb().and_then(|odb| odb.add_disk_alternate(objects)).map_err(fail())?;
    Ok(repo)
}
