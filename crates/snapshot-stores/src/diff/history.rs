//! Two staged repositories, compared: the commits that only one has, the files between the two HEADs.

use std::path::Path;

use git2::{Delta, Diff, DiffFindOptions, DiffOptions as LineOptions, Oid, Patch, Repository};
use snapshot_core::{
    Change, CommitDifference, Difference, GitFileDifference, GitInfo, GitOid, GitSummary,
};

use super::report::Sink;
use crate::error::StoresError;
use crate::git::open_objects;

/// Counts commits, files and lines between the HEADs of two staged repositories, and tells them; gives
/// a note where the histories do not meet.
pub(super) fn compare(
    (old_path, old): (&Path, &GitInfo),
    (new_path, new): (&Path, &GitInfo),
    sink: &mut Sink<'_>,
) -> Result<(GitSummary, Option<String>), StoresError> {
    let fail = |op| move |source| StoresError::Git { op, path: new_path.to_owned(), source };
    let odb = open_objects(&[old_path, new_path]).map_err(fail("join the histories of"))?;
    let repo = Repository::from_odb(odb).map_err(fail("open"))?;
    let oid =
        |info: &GitInfo| info.head_oid.as_ref().map(|oid| Oid::from_str(oid.as_str())).transpose();
    let (old, new) = (oid(old).map_err(fail("read"))?, oid(new).map_err(fail("read"))?);
    let mut summary = GitSummary::default();
    let note = commits(&repo, (old, new), &mut summary, sink).map_err(fail("walk the commits"))?;
    files(&repo, (old, new), &mut summary, sink).map_err(fail("compare"))?;
    Ok((summary, note))
}

/// Commits that one HEAD reaches and the other does not. None are counted where the histories do not
/// meet: they would be all.
fn commits(
    repo: &Repository,
    (old, new): (Option<Oid>, Option<Oid>),
    summary: &mut GitSummary,
    sink: &mut Sink<'_>,
) -> Result<Option<String>, git2::Error> {
    if let (Some(old), Some(new)) = (old, new) {
        match repo.merge_base(old, new) {
            Err(e) if e.code() == git2::ErrorCode::NotFound => {
                return Ok(Some("the two histories do not meet".to_owned()));
            }
            base => base?,
        };
    }
    for (from, but, change) in [(new, old, Change::Added), (old, new, Change::Removed)] {
        let Some(from) = from else { continue };
        let mut walk = repo.revwalk()?;
        walk.push(from)?;
        if let Some(but) = but {
            walk.hide(but)?;
        }
        for oid in walk {
            let oid = oid?;
            summary.commits_between += 1;
            if let Some(sink) = sink {
                let commit = repo.find_commit(oid)?;
                let author = commit.author();
                let (name, mail) = (author.name_bytes(), author.email_bytes());
                let text = |bytes| String::from_utf8_lossy(bytes);
                sink(Difference::Commit(CommitDifference {
                    change,
                    oid: git_oid(oid)?,
                    subject: text(commit.summary_bytes().unwrap_or_default()).into_owned(),
                    author: format!("{} <{}>", text(name), text(mail)),
                    ts_ms: commit.time().seconds().saturating_mul(1000),
                }));
            }
        }
    }
    Ok(None)
}

/// Files between the two HEADs; one that was renamed is one file.
fn files(
    repo: &Repository,
    (old, new): (Option<Oid>, Option<Oid>),
    summary: &mut GitSummary,
    sink: &mut Sink<'_>,
) -> Result<(), git2::Error> {
    let tree = |oid: Option<Oid>| oid.map(|oid| repo.find_commit(oid)?.tree()).transpose();
    let mut options = LineOptions::new();
    let mut diff =
        repo.diff_tree_to_tree(tree(old)?.as_ref(), tree(new)?.as_ref(), Some(&mut options))?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true)))?;
    for number in 0..diff.deltas().len() {
        let Some(file) = file(&diff, number)? else { continue };
        summary.files_changed += 1;
        summary.insertions += file.insertions;
        summary.deletions += file.deletions;
        if let Some(sink) = sink {
            sink(Difference::GitFile(file));
        }
    }
    Ok(())
}

fn file(diff: &Diff<'_>, number: usize) -> Result<Option<GitFileDifference>, git2::Error> {
    let Some(delta) = diff.get_delta(number) else { return Ok(None) };
    let change = match delta.status() {
        Delta::Added => Change::Added,
        Delta::Deleted => Change::Removed,
        Delta::Renamed => Change::Renamed,
        _ => Change::Changed,
    };
    let path = |file: git2::DiffFile<'_>| {
        String::from_utf8_lossy(file.path_bytes().unwrap_or_default()).into_owned()
    };
    let (_, insertions, deletions) = match Patch::from_diff(diff, number)? {
        Some(patch) => patch.line_stats()?,
        None => (0, 0, 0),
    };
    Ok(Some(GitFileDifference {
        path: path(if change == Change::Removed { delta.old_file() } else { delta.new_file() }),
        old_path: (change == Change::Renamed).then(|| path(delta.old_file())),
        change,
        insertions: insertions as u64,
        deletions: deletions as u64,
    }))
}

fn git_oid(oid: Oid) -> Result<GitOid, git2::Error> {
    oid.to_string().parse().map_err(|e| git2::Error::from_str(&format!("{e}")))
}
