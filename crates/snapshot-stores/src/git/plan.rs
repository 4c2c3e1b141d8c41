//! What a restore changes in the repository, and how far an interrupted one got.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use snapshot_core::{GitInfo, GitOid, GitPlan, GitStash};

use super::info::{RefValue, STASH_REF, ref_map};
use super::open::open;
use super::pin::PinnedGit;
use crate::StoresError;

/// HEAD's branch in a repository that a restore makes and that has none in the snapshot.
pub(super) const DEFAULT_BRANCH: &str = "refs/heads/main";

/// Before and after, for the restore's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitTargets {
    /// None where there was no repository.
    pub before: Option<GitInfo>,
    /// What the snapshot holds.
    pub after: GitInfo,
}

/// How far an interrupted restore of the repository got. Only HEAD, refs and stash are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitProgress {
    /// Untouched.
    Before,
    /// Done.
    After,
    /// Some as before, the others as after.
    Between,
    /// Somebody worked on it since.
    Other,
}

/// Compares the repository as pinned now, if there is one, with a snapshot's.
#[must_use]
pub fn plan(now: Option<&PinnedGit>, after: &GitInfo) -> (GitPlan, GitTargets) {
    let before = now.map(|pinned| pinned.info.clone());
    let empty = GitInfo::default();
    let is = State::of(before.as_ref().unwrap_or(&empty));
    let will_be = State::of(after);
    let mut plan = GitPlan {
        head_now: before.as_ref().and_then(|info| info.head_oid.clone()),
        head_then: after.head_oid.clone(),
        refs_set: will_be.not_in(&is).map(str::to_owned).collect(),
        refs_deleted: is
            .refs
            .keys()
            .filter(|name| !will_be.refs.contains_key(*name))
            .map(|name| (*name).to_owned())
            .collect(),
    };
    match (is.stash == will_be.stash, will_be.stash.is_empty()) {
        (true, _) => {}
        (false, true) => plan.refs_deleted.push(STASH_REF.to_owned()),
        (false, false) => plan.refs_set.push(STASH_REF.to_owned()),
    }
    (plan, GitTargets { before, after: after.clone() })
}

/// How far an interrupted restore got.
///
/// # Errors
/// If the repository cannot be opened or read.
pub fn progress(memdir: &Path, targets: &GitTargets) -> Result<GitProgress, StoresError> {
    let Some(repo) = open(memdir)? else {
        return Ok(match &targets.before {
            None => GitProgress::Before,
            Some(_) => GitProgress::Other,
        });
    };
    let now = repo.pin()?.info;
    let fresh = GitInfo { head_ref: first_branch(&targets.after), ..GitInfo::default() };
    let (is, was, will_be) = (
        State::of(&now),
        State::of(targets.before.as_ref().unwrap_or(&fresh)),
        State::of(&targets.after),
    );
    let names: BTreeSet<&str> =
        [&is, &was, &will_be].into_iter().flat_map(|state| state.refs.keys().copied()).collect();
    let mut parts: Vec<(bool, bool)> = names
        .into_iter()
        .map(|name| {
            let ref_now = is.refs.get(name);
            (ref_now == was.refs.get(name), ref_now == will_be.refs.get(name))
        })
        .collect();
    parts.push((is.head == was.head, will_be.head.is_none() || is.head == will_be.head));
    let is_before = is.stash == was.stash || is_half_dropped(&is, &was, &will_be);
    parts.push((is_before, is.stash == will_be.stash));
    Ok(if parts.iter().all(|(_, after)| *after) {
        GitProgress::After
    } else if parts.iter().all(|(before, _)| *before) {
        GitProgress::Before
    } else if parts.iter().all(|(before, after)| *before || *after) {
        GitProgress::Between
    } else {
        GitProgress::Other
    })
}

/// libgit2 removes a stash's log before its ref: a death in between leaves its newest entry, without a message.
fn is_half_dropped(is: &State<'_>, was: &State<'_>, will_be: &State<'_>) -> bool {
    let newest = was.stash.first().map(|(oid, _)| (*oid, String::new()));
    will_be.stash.is_empty() && is.stash.iter().eq(newest.iter())
}

/// HEAD's branch in a repository that a restore makes.
pub(super) fn first_branch(after: &GitInfo) -> Option<String> {
    Some(after.head_ref.clone().unwrap_or_else(|| DEFAULT_BRANCH.to_owned()))
}

/// What is compared of a repository.
pub(super) struct State<'a> {
    pub(super) refs: BTreeMap<&'a str, RefValue>,
    /// None where it is not known.
    pub(super) head: Option<RefValue>,
    /// As git can store it: one line a message.
    pub(super) stash: Vec<(&'a GitOid, String)>,
}

impl<'a> State<'a> {
    pub(super) fn of(info: &'a GitInfo) -> Self {
        let head = match (&info.head_ref, &info.head_oid) {
            (Some(name), _) => Some(RefValue::Symbolic(name.clone())),
            (None, Some(oid)) => Some(RefValue::Direct(oid.clone())),
            (None, None) => None,
        };
        let stash = info.stash.iter().map(|e| (&e.oid, stash_line(e))).collect();
        Self { refs: ref_map(info), head, stash }
    }

    /// Names of refs that are other or missing in `other`.
    pub(super) fn not_in<'s>(&'s self, other: &'s State<'_>) -> impl Iterator<Item = &'a str> + 's {
        self.refs
            .iter()
            .filter(|(name, value)| other.refs.get(*name) != Some(value))
            .map(|(name, _)| *name)
    }
}

/// A message as one line of a reflog.
pub(super) fn stash_line(entry: &GitStash) -> String {
    entry.message.replace(['\n', '\r', '\0'], " ").trim().to_owned()
}
