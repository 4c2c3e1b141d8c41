//! README's transcript: what `nexo-memory demo` prints, checked against a fresh run.
//!
//! Invariant: two runs of one program compare equal, for what differs from run to run (ids, times,
//! sizes, counts, notes on what a writer did meanwhile) is masked; anything else is a difference.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixtures::{block, fill_block};
use crate::tools::{Outcome, cargo, output, root, run, target};

/// The block of README that holds the transcript.
const BLOCK: &str = "demo";
/// Where the transcript says that the agent lives.
const SHOWN_DIR: &str = "/tmp/ana";
/// How lines start that a run has or has not, by what the writers did.
const NOTE: &str = "  note: ";
/// Stands for what was masked.
const MASK: &str = "#";

/// Puts a fresh transcript into README, unless the one there says the same.
pub(crate) fn write() -> Outcome {
    let fresh = transcript()?;
    if difference(&block(&readme(), BLOCK)?, &fresh).is_none() {
        println!("README.md's transcript stays");
        return Ok(());
    }
    println!("README.md's transcript is new");
    fill_block(&readme(), BLOCK, &fresh)
}

/// What [`write()`] would change, if anything.
pub(crate) fn stale() -> Result<Option<String>, String> {
    let difference = difference(&block(&readme(), BLOCK)?, &transcript()?);
    Ok(difference.map(|why| format!("README.md, the demo's transcript: {why}")))
}

fn readme() -> PathBuf {
    root().join("README.md")
}

/// Runs the demo; gives what it printed, fenced.
fn transcript() -> Result<String, String> {
    let program = program()?;
    let scratch = std::env::temp_dir().join(format!("nexo-memory-xtask-{}", std::process::id()));
    let dir = scratch.join("ana");
    let shown = play(&program, &dir);
    remove(&scratch)?;
    let shown = shown?.replace(&dir.display().to_string(), SHOWN_DIR);
    Ok(format!("```console\n{}\n```", shown.trim_end()))
}

/// The command line, built.
pub(crate) fn program() -> Result<PathBuf, String> {
    run(&mut cargo(&["build", "--quiet", "--locked", "--package", "nexo-memory-cli"]))?;
    Ok(target().join("debug/nexo-memory"))
}

fn play(program: &Path, dir: &Path) -> Result<String, String> {
    crate::soak::scratch(dir.parent().unwrap_or(dir).to_owned())?;
    let mut demo = std::process::Command::new(program);
    demo.args(["demo", "--plain", "--dir"]).arg(dir);
    // Times and messages as everywhere; the demo's vault and no other.
    demo.env("TZ", "UTC").env("LC_ALL", "C.UTF-8").env_remove("NEXO_MEMORY_ROOT");
    output(&mut demo)
}

#[expect(clippy::disallowed_methods, reason = "a scratch folder of ours, not an agent's memory")]
fn remove(dir: &Path) -> Outcome {
    fs::remove_dir_all(dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))
}

/// The first line that says something else.
fn difference(old: &str, new: &str) -> Option<String> {
    let lines = |text: &str| -> Vec<String> {
        text.trim().lines().filter(|line| !line.starts_with(NOTE)).map(str::to_owned).collect()
    };
    let (old, new) = (lines(old), lines(new));
    let at = |lines: &[String], n: usize| lines.get(n).map_or("(the end)", |l| l).to_owned();
    (0..old.len().max(new.len()))
        .find(|&n| masked(&at(&old, n)) != masked(&at(&new, n)))
        .map(|n| format!("has {:?}, a fresh run prints {:?}", at(&old, n), at(&new, n)))
}

/// A line without what differs from run to run.
fn masked(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let after_number = words.last().is_some_and(|before| before.ends_with(MASK));
        let word = without_values(word);
        words.push(if after_number { without_unit(&word) } else { word });
    }
    words.join(" ").replace("(# <time> ago)", "(just now)")
}

/// Numbers, ids and their first characters become [`MASK`].
fn without_values(word: &str) -> String {
    let mut masked = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let in_run = |c: char| c.is_ascii_alphanumeric() || (c == '-' && is_id(rest));
        let run = rest.split(|c| !in_run(c)).next().unwrap_or_default();
        if run.is_empty() {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let oid = run.len() >= 8 && run.bytes().all(|b| b.is_ascii_hexdigit());
        let variable = first.is_ascii_digit() || oid || is_id(rest);
        masked.push_str(if variable { MASK } else { run });
        rest = &rest[run.len()..];
    }
    masked.replace("#.#", MASK)
}

/// Whether a UUID begins here.
fn is_id(text: &str) -> bool {
    text.as_bytes().get(..36).is_some_and(|id| {
        id.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

/// `2 files` may be `1 file`, and `0.9 s` may be `120.0 ms`.
fn without_unit(word: &str) -> String {
    let name = word.trim_end_matches(|c: char| c.is_ascii_punctuation());
    let end = &word[name.len()..];
    match name {
        "ms" | "s" | "min" => format!("<time>{end}"),
        "B" | "KiB" | "MiB" | "GiB" | "TiB" => format!("<size>{end}"),
        _ => format!("{}{end}", name.strip_suffix('s').unwrap_or(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a gate that fails by the clock or by what a writer happened to do.
    #[test]
    fn two_runs_of_one_program_are_the_same() {
        let one = "ana -> ac80c4c8  2026-11-22 23:16 UTC (just now)  2.1 MiB\n  \
                   git  4 commits, 2 files\n  note: a writer\n/snapshots/\
                   ac80c4c8-354e-47e7-abcd-53bfdd811111.tar.zst: OK\n+30 ~33 -0\ndone in 0.90 s";
        let two = "ana -> 01234567  2027-01-02 03:04 UTC (2 s ago)  964.0 KiB\n  \
                   git  1 commit, 1 file\n/snapshots/\
                   01234567-354e-47e7-babe-53bfdd811111.tar.zst: OK\n+3 ~0 -10\ndone in 120.3 ms";
        assert_eq!(difference(one, two), None);
    }

    /// Would catch: a mask so wide that README may say anything.
    #[test]
    fn another_word_line_or_end_is_a_difference() {
        for (old, new) in [
            ("(nothing)", "the supplier"),
            ("a\nb", "a"),
            ("a", "a\nb"),
            ("sha: OK", "sha: FAILED"),
            ("writers held 0.1 ms", "writers waited 0.1 ms"),
            ("1.0 MiB", "1.0 ms"),
        ] {
            assert!(difference(old, new).is_some(), "{old:?} {new:?}");
        }
        let why = difference("same 1\nold", "same 2\nnew").unwrap();
        assert_eq!(why, "has \"old\", a fresh run prints \"new\"");
    }
}
