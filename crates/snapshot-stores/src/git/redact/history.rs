//! The redaction of a bundle's history, from bundle to bundle.

use std::collections::BTreeMap;
use std::io::Read;

use git2::{ObjectType, Oid, Repository};
use snapshot_core::{Control, GitHistory, GitInfo, GitOid, Redactor};
use snapshot_fs::Dir;

use super::super::apply::make_empty;
use super::super::bundle::{GitBundle, write_bundle};
use super::super::open::GitRepo;
use super::super::pin::PinnedGit;
use super::super::plan::DEFAULT_BRANCH;
use super::super::stage::{open_objects, unpack};
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
    /// Every object whose id changed, old to new. An old id is a digest of a secret: it must not ship.
    /// With [`GitHistory::HeadOnly`] some may not be in the bundle: those that its files mention.
    pub ids: BTreeMap<GitOid, GitOid>,
    /// Signatures that their object's change made void.
    pub signatures_dropped: u64,
    /// Objects written anew.
    pub objects_rewritten: u64,
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
    if mode == GitHistory::Drop {
        let what = "the git history".to_owned();
        let why = "nothing of it is to be kept, so the caller leaves it out".to_owned();
        return Err(StoresError::Unredactable { what, why });
    }
    in_scratch(spool, SCRATCH, |dir| {
        let old_dir = dir.ensure_sub(OLD, 0o700)?;
        let mut commits = Vec::new();
        unpack(bundle, info, &old_dir, max_object_bytes, control, &mut |_, seen| {
            if seen.kind == ObjectType::Commit {
                commits.push(seen.oid);
            }
            Ok(())
        })?;
        commits.sort_unstable();
        let repo = GitRepo { repo: new_repository(dir, &old_dir)? };
        let made = make_anew(info, mode, redactor, (&old_dir, commits), &repo, control)?;
        let pinned = PinnedGit { info: made.info, not_carried: Vec::new() };
        let bundle = write_bundle(&repo, &pinned, dir, max_object_bytes, control)?;
        let (ids, signatures_dropped) = (made.ids, made.signatures_dropped);
        let objects_rewritten = ids.len() as u64;
        Ok(RedactedHistory { bundle, ids, signatures_dropped, objects_rewritten })
    })
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
