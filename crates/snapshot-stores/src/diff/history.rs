//! Two staged repositories, compared: the commits that only one has, the files between the two HEADs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git2::{
    Commit, Delta, Diff, DiffFindOptions, DiffOptions as LineOptions, Oid, Patch, Repository,
};
use snapshot_core::{
    Change, CommitDifference, Difference, GitFileDifference, GitInfo, GitOid, GitRef, GitSummary,
    to_text,
};

use super::files::{MAX_TEXT_BYTES, is_text};
use super::report::Sink;
use crate::error::StoresError;
use crate::git::open_objects;

/// Most refs that are told of one by one.
const MAX_REFS: usize = 20;
/// What is said of histories of which one was redacted.
const REWRITTEN: &str = "git: a redaction wrote the history of a side anew: the files of the two HEADs are compared, \
    not commits and refs";
/// Characters of an object id that people read.
const OID: usize = 8;

/// Counts commits, files and lines between the HEADs of two staged repositories, and tells them; gives
/// a note where the histories do not meet, or cannot for one was `rewritten`: then files alone are compared.
pub(super) fn compare(
    (old_path, old): (&Path, &GitInfo),
    (new_path, new): (&Path, &GitInfo),
    rewritten: bool,
    sink: &mut Sink<'_>,
) -> Result<(GitSummary, Option<String>), StoresError> {
    let fail = |op| move |source| StoresError::Git { op, path: new_path.to_owned(), source };
    let odb = open_objects(&[old_path, new_path]).map_err(fail("join the histories of"))?;
    let repo = Repository::from_odb(odb).map_err(fail("open"))?;
    let oid =
        |info: &GitInfo| info.head_oid.as_ref().map(|oid| Oid::from_str(oid.as_str())).transpose();
    let is_shallow = !old.shallow.is_empty() || !new.shallow.is_empty();
    let (old, new) = (oid(old).map_err(fail("read"))?, oid(new).map_err(fail("read"))?);
    let mut summary = GitSummary::default();
    let note = match rewritten {
        true => Some(REWRITTEN.to_owned()),
        false => commits(&repo, (old, new), is_shallow, &mut summary, sink)
            .map_err(fail("walk the commits"))?,
    };
    files(&repo, (old, new), &mut summary, sink).map_err(fail("compare"))?;
    Ok((summary, note))
}

/// Refs beside the one that HEAD is on which moved, came or went: their commits are not counted.
pub(super) fn other_refs(old: &GitInfo, new: &GitInfo) -> Vec<String> {
    let mut notes = Vec::new();
    if old.head_ref != new.head_ref {
        let name = |info: &GitInfo| info.head_ref.clone().unwrap_or_else(|| "no branch".to_owned());
        notes.push(format!("git: HEAD was on {}, now on {}", name(old), name(new)));
    }
    let heads = [&old.head_ref, &new.head_ref];
    let others = |info: &GitInfo| -> BTreeMap<String, String> {
        let refs = info.refs.iter().filter(|r| !heads.contains(&&Some(r.name.clone())));
        refs.filter_map(|r| Some((r.name.clone(), target(r)?))).collect()
    };
    let (before, after) = (others(old), others(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let moved = names.into_iter().filter_map(|name| match (before.get(name), after.get(name)) {
        (Some(old), Some(new)) => (old != new).then(|| format!("{name} {old} -> {new}")),
        (None, Some(new)) => Some(format!("{name} is new, at {new}")),
        (Some(old), None) => Some(format!("{name} is gone, was at {old}")),
        (None, None) => None,
    });
    let mut moved: Vec<String> = moved.map(|line| format!("git, not counted: {line}")).collect();
    if moved.len() > MAX_REFS {
        let more = moved.len() - MAX_REFS;
        moved.truncate(MAX_REFS);
        moved.push(format!("git, not counted: {more} more refs differ"));
    }
    notes.extend(moved);
    if old.stash != new.stash {
        let (old, new) = (old.stash.len(), new.stash.len());
        notes.push(format!("git, not counted: stash entries {old} -> {new}"));
    }
    notes
}

/// Where a ref points, in short.
fn target(r: &GitRef) -> Option<String> {
    let oid = r.oid.as_ref().map(|oid| oid.as_str().chars().take(OID).collect());
    oid.or_else(|| r.target.clone())
}

/// Commits that one HEAD reaches and the other does not. None are counted where the histories do not
/// meet: they would be all.
fn commits(
    repo: &Repository,
    (old, new): (Option<Oid>, Option<Oid>),
    is_shallow: bool,
    summary: &mut GitSummary,
    sink: &mut Sink<'_>,
) -> Result<Option<String>, git2::Error> {
    let between = if is_shallow { cut_short(repo, old, new)? } else { meeting(repo, old, new)? };
    let Some(between) = between else {
        let why = match is_shallow {
            true => {
                "git: the history is shallow: what lies before its cut is not known, nor whether the two meet \
                there; their commits are not counted"
            }
            false => {
                "git: the two histories do not meet (amended from the root, or another repository), and their \
                commits are not counted"
            }
        };
        return Ok(Some(why.to_owned()));
    };
    for (change, oid) in between {
        summary.commits_between += 1;
        if let Some(sink) = sink {
            sink(Difference::Commit(told(&repo.find_commit(oid)?, change)?));
        }
    }
    let why = "git: the history is shallow: what lies before its cut is not known";
    Ok(is_shallow.then(|| why.to_owned()))
}

/// Commits of one side only; none where the histories do not meet.
type Between = Option<Vec<(Change, Oid)>>;

fn meeting(repo: &Repository, old: Option<Oid>, new: Option<Oid>) -> Result<Between, git2::Error> {
    if let (Some(old), Some(new)) = (old, new) {
        match repo.merge_base(old, new) {
            Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(None),
            base => base?,
        };
    }
    let mut between = Vec::new();
    for (from, but, change) in [(new, old, Change::Added), (old, new, Change::Removed)] {
        let Some(from) = from else { continue };
        let mut walk = repo.revwalk()?;
        walk.push(from)?;
        if let Some(but) = but {
            walk.hide(but)?;
        }
        for oid in walk {
            between.push((change, oid?));
        }
    }
    Ok(Some(between))
}

/// The same where parents are missing, on which libgit2's walk fails.
fn cut_short(
    repo: &Repository,
    old: Option<Oid>,
    new: Option<Oid>,
) -> Result<Between, git2::Error> {
    let (before, after) = (reached(repo, old)?, reached(repo, new)?);
    let meet = before.is_empty() || after.is_empty() || !before.is_disjoint(&after);
    let only = |of: &BTreeSet<(i64, Oid)>, but: &BTreeSet<(i64, Oid)>, change| {
        let own = of.iter().rev().filter(|commit| !but.contains(commit));
        own.map(|(_, oid)| (change, *oid)).collect::<Vec<_>>()
    };
    let mut between = only(&after, &before, Change::Added);
    between.extend(only(&before, &after, Change::Removed));
    Ok(meet.then_some(between))
}

/// Every commit that `from` reaches and that is there, with its time.
fn reached(repo: &Repository, from: Option<Oid>) -> Result<BTreeSet<(i64, Oid)>, git2::Error> {
    let odb = repo.odb()?;
    let mut found = BTreeSet::new();
    let mut next: Vec<Oid> = from.into_iter().collect();
    while let Some(oid) = next.pop() {
        let commit = repo.find_commit(oid)?;
        if found.insert((commit.time().seconds(), oid)) {
            next.extend(commit.parent_ids().filter(|parent| odb.exists(*parent)));
        }
    }
    Ok(found)
}

fn told(commit: &Commit<'_>, change: Change) -> Result<CommitDifference, git2::Error> {
    let author = commit.author();
    let (name, mail) = (author.name_bytes(), author.email_bytes());
    let text = |bytes| String::from_utf8_lossy(bytes);
    Ok(CommitDifference {
        change,
        oid: git_oid(commit.id())?,
        subject: text(commit.summary_bytes().unwrap_or_default()).into_owned(),
        author: format!("{} <{}>", text(name), text(mail)),
        ts_ms: commit.time().seconds().saturating_mul(1000),
    })
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
    // A larger one is compared as bytes.
    options.max_size(i64::try_from(MAX_TEXT_BYTES).unwrap_or(i64::MAX));
    let mut diff =
        repo.diff_tree_to_tree(tree(old)?.as_ref(), tree(new)?.as_ref(), Some(&mut options))?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true)))?;
    for number in 0..diff.deltas().len() {
        let Some(file) = file(repo, &diff, number)? else { continue };
        summary.files_changed += 1;
        summary.insertions += file.insertions;
        summary.deletions += file.deletions;
        if let Some(sink) = sink {
            sink(Difference::GitFile(file));
        }
    }
    Ok(())
}

fn file(
    repo: &Repository,
    diff: &Diff<'_>,
    number: usize,
) -> Result<Option<GitFileDifference>, git2::Error> {
    let Some(delta) = diff.get_delta(number) else { return Ok(None) };
    let change = match delta.status() {
        Delta::Added => Change::Added,
        Delta::Deleted => Change::Removed,
        Delta::Renamed => Change::Renamed,
        _ => Change::Changed,
    };
    let path = |file: git2::DiffFile<'_>| to_text(file.path_bytes().unwrap_or_default());
    let has_lines =
        has_lines(repo, delta.old_file().id())? && has_lines(repo, delta.new_file().id())?;
    let patch = has_lines.then(|| Patch::from_diff(diff, number)).transpose()?.flatten();
    let (_, insertions, deletions) = match patch {
        Some(patch) => patch.line_stats()?,
        None => (0, 0, 0),
    };
    let removed = change == Change::Removed;
    let (name, path_b64) = path(if removed { delta.old_file() } else { delta.new_file() });
    let old = (change == Change::Renamed).then(|| path(delta.old_file()));
    let (old_path, old_path_b64) = old.unzip();
    Ok(Some(GitFileDifference {
        path: name,
        path_b64,
        old_path,
        old_path_b64: old_path_b64.flatten(),
        change,
        insertions: insertions as u64,
        deletions: deletions as u64,
    }))
}

/// Whether a side is compared by line, as a memory file is; one that is missing has none to add.
fn has_lines(repo: &Repository, blob: Oid) -> Result<bool, git2::Error> {
    let odb = repo.odb()?;
    // A submodule's commit lies elsewhere.
    if blob.is_zero() || !odb.exists(blob) {
        return Ok(true);
    }
    let (size, _) = odb.read_header(blob)?;
    Ok(size as u64 <= MAX_TEXT_BYTES && is_text(repo.find_blob(blob)?.content()))
}

fn git_oid(oid: Oid) -> Result<GitOid, git2::Error> {
    oid.to_string().parse().map_err(|e| git2::Error::from_str(&format!("{e}")))
}
