//! Two staged repositories, compared.

use std::path::Path;

use git2::{Odb, Oid, Repository};
use snapshot_core::{GitInfo, GitSummary};

use crate::error::StoresError;

/// Commits, files and lines between the HEADs of two staged repositories, and a note where the
/// histories do not meet.
pub(crate) fn compare(
    (old_path, old): (&Path, &GitInfo),
    (new_path, new): (&Path, &GitInfo),
) -> Result<(GitSummary, Option<String>), StoresError> {
    let fail = |op| move |source| StoresError::Git { op, path: new_path.to_owned(), source };
    let odb = Odb::new().map_err(fail("join the histories of"))?;
    for path in [old_path, new_path] {
        let objects = path.join("objects");
        let objects = objects
            .to_str()
            .ok_or_else(|| StoresError::refused(path, "the vault's path is not UTF-8"))?;
        odb.add_disk_alternate(objects).map_err(fail("join the histories of"))?;
    }
    let repo = Repository::from_odb(odb).map_err(fail("open"))?;
    let oid =
        |info: &GitInfo| info.head_oid.as_ref().map(|oid| Oid::from_str(oid.as_str())).transpose();
    let (old, new) = (oid(old).map_err(fail("read"))?, oid(new).map_err(fail("read"))?);
    let tree =
        |oid: Option<Oid>| oid.map(|oid| repo.find_commit(oid).and_then(|c| c.tree())).transpose();
    let (old_tree, new_tree) = (tree(old).map_err(fail("read"))?, tree(new).map_err(fail("read"))?);
    let stats = repo
        .diff_tree_to_tree(old_tree.as_ref(), new_tree.as_ref(), None)
        .and_then(|diff| diff.stats())
        .map_err(fail("compare"))?;
    let (commits_between, note) = commits(&repo, old, new).map_err(fail("count the commits"))?;
    let summary = GitSummary {
        commits_between,
        files_changed: stats.files_changed() as u64,
        insertions: stats.insertions() as u64,
        deletions: stats.deletions() as u64,
    };
    Ok((summary, note))
}

fn commits(
    repo: &Repository,
    old: Option<Oid>,
    new: Option<Oid>,
) -> Result<(u64, Option<String>), git2::Error> {
    let (Some(old), Some(new)) = (old, new) else {
        let Some(one) = old.or(new) else { return Ok((0, None)) };
        let mut walk = repo.revwalk()?;
        walk.push(one)?;
        return Ok((walk.count() as u64, None));
    };
    match repo.merge_base(old, new) {
        Ok(_) => {
            let (ahead, behind) = repo.graph_ahead_behind(new, old)?;
            Ok(((ahead + behind) as u64, None))
        }
        Err(e) if e.code() == git2::ErrorCode::NotFound => {
            Ok((0, Some("the two histories do not meet".to_owned())))
        }
        Err(e) => Err(e),
    }
}
