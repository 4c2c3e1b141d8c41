//! The stash: git keeps all entries but the newest in one ref's reflog alone, so both are rebuilt.

use std::fmt::Write as _;

use git2::{ErrorCode, Oid};
use snapshot_core::GitStash;
use snapshot_fs::Dir;

use super::info::{STASH_REF, oid};
use super::open::GitRepo;
use super::plan::{State, stash_line};
use super::refs::refused;
use crate::StoresError;

/// Folder of the logs of refs.
const LOGS: &str = "logs/refs";
/// Name of the stash, and of its log.
const NAME: &str = "stash";
/// Mode of git's own files of this kind.
const FILE_MODE: u32 = 0o644;
/// Mode of folders that are missing.
const FOLDER_MODE: u32 = 0o755;

/// Makes `git stash list` say what `after` has, newest first. Writes nothing where it does.
pub(super) fn set(
    repo: &GitRepo,
    common: &Dir,
    after: &snapshot_core::GitInfo,
) -> Result<(), StoresError> {
    let Some(newest) = after.stash.first() else { return drop_all(repo, common) };
    let now = repo.pin()?.info;
    // A death may leave the one without the other.
    let top = repo.repo.refname_to_id(STASH_REF).ok();
    if top == Some(oid(&newest.oid)?) && State::of(&now).stash == State::of(after).stash {
        return Ok(());
    }
    let log = log_text(repo, &after.stash)?;
    let logs = common.make_path(LOGS, FOLDER_MODE)?;
    // The log first: without the ref it is no stash, and its entries are what a recovery compares. The index lock
    // keeps `git stash` away.
    logs.write_atomic(NAME, log.as_bytes(), FILE_MODE)?;
    let refs = common.make_path("refs", FOLDER_MODE)?;
    Ok(refs.write_atomic(NAME, format!("{}\n", newest.oid).as_bytes(), FILE_MODE)?)
}

/// Leaves no entry, and no log either: the next `git stash` would bring back what is in it.
fn drop_all(repo: &GitRepo, common: &Dir) -> Result<(), StoresError> {
    match repo.repo.find_reference(STASH_REF) {
        Err(e) if e.code() == ErrorCode::NotFound => {}
        found => {
            common.durable_fs().external("drop the stash", common.path())?;
            found.and_then(|mut stash| stash.delete()).map_err(refused(repo, "drop the stash"))?;
        }
    }
    match common.sub(LOGS).and_then(|logs| logs.unlink(NAME)) {
        Err(e) if e.is_not_found() => Ok(()),
        gone => Ok(gone?),
    }
}

/// A reflog, oldest entry first: old id, new id, who, when, tab, message.
fn log_text(repo: &GitRepo, stash: &[GitStash]) -> Result<String, StoresError> {
    let mut text = String::new();
    let mut old = Oid::ZERO_SHA1.to_string();
    for entry in stash.iter().rev() {
        let commit =
            repo.repo.find_commit(oid(&entry.oid)?).map_err(repo.fail("read a stash entry"))?;
        let who = commit.committer();
        let word = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(['<', '>', '\n', '\r', '\0', '\t'], " ")
        };
        let (name, mail) = (word(who.name_bytes()), word(who.email_bytes()));
        let when = who.when();
        let minutes = when.offset_minutes();
        let zone = format!(
            "{}{:02}{:02}",
            if minutes < 0 { '-' } else { '+' },
            minutes.abs() / 60 % 100,
            minutes.abs() % 60
        );
        let (new, seconds, line) = (&entry.oid, when.seconds(), stash_line(entry));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{old} {new} {name} <{mail}> {seconds} {zone}\t{line}");
        old = new.to_string();
    }
    Ok(text)
}
