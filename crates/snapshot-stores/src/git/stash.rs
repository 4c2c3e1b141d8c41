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
    let now = repo.pin()?.info;
    if State::of(&now).stash == State::of(after).stash {
        return Ok(());
    }
    let Some(newest) = after.stash.first() else {
        let path = common.path();
        common.durable_fs().external("drop the stash", path)?;
        return match repo.repo.find_reference(STASH_REF).and_then(|mut r| r.delete()) {
            Err(e) if e.code() == ErrorCode::NotFound => Ok(()),
            done => done.map_err(refused(repo, "drop the stash")),
        };
    };
    let log = log_text(repo, &after.stash)?;
    let logs = common.ensure_sub("logs", FOLDER_MODE)?.ensure_sub("refs", FOLDER_MODE)?;
    // The log first: it is what a recovery compares. The index lock keeps `git stash` away.
    logs.write_atomic("stash", log.as_bytes(), FILE_MODE)?;
    let refs = common.ensure_sub("refs", FOLDER_MODE)?;
    Ok(refs.write_atomic("stash", format!("{}\n", newest.oid).as_bytes(), FILE_MODE)?)
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
