//! A repository as stock git shows it: every object inflated, every ref.

use std::process::Command;

use super::needles::Needles;
use super::{DEPTH, Found, Seen};
use crate::error::KitError;
use crate::git::Git;

pub(super) fn look(git: &Git, needles: &Needles, found: &mut Found) -> Result<(), KitError> {
    let mut all = git.command();
    all.args(["cat-file", "--batch-all-objects", "--batch"]);
    let out = output(git, &mut all)?;
    if out.is_empty() {
        return Err(KitError::broken("the objects", git.dir(), "there are none"));
    }
    let mut rest = &out[..];
    while let Some((head, more)) = split_line(rest) {
        let head = String::from_utf8_lossy(head).into_owned();
        let mut words = head.split(' ').map(str::to_owned);
        let (Some(oid), Some(kind), Some(size)) = (words.next(), words.next(), words.next()) else {
            return Err(KitError::broken("an object", git.dir(), head));
        };
        let size = size.parse().unwrap_or(usize::MAX);
        let Some((content, after)) = more.split_at_checked(size) else {
            return Err(KitError::broken("an object", git.dir(), head));
        };
        let seen = Seen::Object { kind, oid };
        found.look_into_json(needles, content, &seen, DEPTH);
        found.look(needles, content, seen);
        rest = after.strip_prefix(b"\n").unwrap_or(after);
    }
    for name in git.run(&["for-each-ref", "--format=%(refname)"])?.lines() {
        found.look(needles, name.as_bytes(), Seen::Ref(name.to_owned()));
    }
    Ok(())
}

/// What git finds wrong with it.
pub(super) fn complaints(git: &Git) -> Vec<String> {
    let checked = git.command().args(["fsck", "--strict", "--full", "--no-progress"]).output();
    let Ok(checked) = checked else { return vec!["git fsck does not run".to_owned()] };
    let said = [checked.stdout, checked.stderr].concat();
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&said).lines().map(|line| format!("git: {line}")).collect();
    if lines.is_empty() && !checked.status.success() {
        lines.push(format!("git fsck: {}", checked.status));
    }
    lines
}

fn output(git: &Git, command: &mut Command) -> Result<Vec<u8>, KitError> {
    let out = command.output().map_err(KitError::io("run git in", git.dir()))?;
    match out.status.success() {
        true => Ok(out.stdout),
        false => Err(KitError::Command {
            command: "git cat-file".to_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
        }),
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
