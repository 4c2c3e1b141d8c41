//! Snapshots by the real program under writers in other processes, opened with stock tools only and put to the
//! oracle: no cut mixes two moments, in either journal mode, with files and history moving too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value;
use snapshot_testkit::oracle::Values;
use snapshot_testkit::{Agent, Journal, Seed, Torture};

use crate::Outcome;
use crate::part::Slice;
use crate::scene::ana;
use crate::tally::Tally;

/// Cuts of the full run, in each journal mode.
const CUTS: u64 = 10_000;
/// Processes that write; each has a writer for each store beside the one that takes its turn in all of them.
const WRITERS: usize = 4;
/// A memory file that is replaced all the time, below the memdir.
const MOVING: &str = "notes/moving.md";
/// Lines of it, all the same.
const LINES: usize = 400;

/// What a cut is taken of.
struct Bench<'s> {
    slice: &'s Slice,
    agent: Agent,
    writers: Torture,
    /// The number in the newest moving file.
    moved: AtomicU64,
    /// The longest that the writers took for a step since the last cut, in microseconds.
    longest_step_us: AtomicU64,
}

/// In write-ahead-log mode.
///
/// # Errors
/// If a snapshot fails, or the writers do.
pub fn wal(slice: &Slice) -> Outcome<Tally> {
    cuts(slice, Journal::Wal)
}

/// In rollback-journal mode.
///
/// # Errors
/// As [`wal`].
pub fn rollback(slice: &Slice) -> Outcome<Tally> {
    cuts(slice, Journal::Delete)
}

fn cuts(slice: &Slice, journal: Journal) -> Outcome<Tally> {
    let seed = Seed::tiny(slice.seed).with_journal(journal);
    let agent = Agent::create(&slice.dir.join("agent"), ana(), &seed)?;
    let this = std::env::current_exe()?;
    let writers = Torture::processes(&agent, WRITERS, || {
        let mut command = Command::new(&this);
        command.arg("writer");
        command
    })?;
    let bench = Bench {
        slice,
        agent,
        writers,
        moved: AtomicU64::new(0),
        longest_step_us: AtomicU64::new(0),
    };
    let ended = AtomicU64::new(0);
    let tally = std::thread::scope(|scope| {
        let mover = scope.spawn(|| bench.move_files(&ended));
        let tally = slice.run(CUTS, |n, tally| bench.cut(n, tally));
        ended.store(1, Ordering::SeqCst);
        mover.join().map_err(|_| "the writer of files died")??;
        tally
    });
    let mut tally = tally?;
    tally.add("steps of the writers", bench.writers.steps());
    tally.add("files replaced", bench.moved.load(Ordering::SeqCst));
    bench.writers.stop()?;
    Ok(tally)
}

impl Bench<'_> {
    /// Replaces the moving file after each step of the writers, until told.
    fn move_files(&self, ended: &AtomicU64) -> Outcome<()> {
        let path = self.agent.memdir().join(MOVING);
        let temp = self.agent.root().join("moving.new");
        while ended.load(Ordering::SeqCst) == 0 {
            let n = self.moved.load(Ordering::SeqCst) + 1;
            fs::write(&temp, format!("{n}\n").repeat(LINES))?;
            fs::rename(&temp, &path)?;
            self.moved.store(n, Ordering::SeqCst);
            let began = Instant::now();
            self.writers.wait_for_steps(1)?;
            let us = u64::try_from(began.elapsed().as_micros())?;
            self.longest_step_us.fetch_max(us, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Takes one snapshot and judges it.
    fn cut(&self, n: u64, tally: &mut Tally) -> Outcome<()> {
        let vault = self.slice.dir.join("vault");
        let moved = self.moved.load(Ordering::SeqCst);
        let before = Values::of_agent(&self.agent)?;
        self.longest_step_us.store(0, Ordering::SeqCst);
        let meta = self.snapshot(&vault)?;
        let bundle = meta["bundle_path"].as_str().ok_or("the meta names no bundle")?;
        let held = meta["capture"]["writers_held_us"].as_u64().ok_or("the meta says no hold")?;
        tally.time("writers held", held);
        tally.time("longest step of the writers", self.longest_step_us.load(Ordering::SeqCst));
        if let Some(wrong) = self.wrong(Path::new(bundle), &before, moved)? {
            tally.wrong(n, wrong);
        }
        Ok(fs::remove_dir_all(vault)?)
    }

    fn snapshot(&self, vault: &Path) -> Outcome<Value> {
        let mut snapshot = Command::new(&self.slice.program);
        snapshot.args(["--json", "--no-progress", "snapshot", "--agent", self.agent.id().as_str()]);
        snapshot.arg("--root").arg(vault);
        snapshot.arg("--memdir-root").arg(self.agent.memdir_root());
        snapshot.arg("--sqlite-root").arg(self.agent.sqlite_root());
        Ok(serde_json::from_str(&output(&mut snapshot)?)?)
    }

    /// Why the bundle holds what never was, or what was no more, if it does; `before` are the counters and `moved` the
    /// number of the moving file before the snapshot began.
    fn wrong(&self, bundle: &Path, before: &Values, moved: u64) -> Outcome<Option<String>> {
        let opened = self.slice.dir.join("opened");
        if opened.exists() {
            fs::remove_dir_all(&opened)?;
        }
        fs::create_dir_all(&opened)?;
        output(Command::new("tar").arg("--zstd").arg("-xf").arg(bundle).arg("-C").arg(&opened))?;
        let manifest: Value = serde_json::from_slice(&fs::read(opened.join("manifest.json"))?)?;
        let subject = match shipped_subject(&opened, &manifest)? {
            Ok(subject) => subject,
            Err(why) => return Ok(Some(why)),
        };
        let state = fs::read(opened.join("state/extract_cursor.json"))?;
        let values = Values::read(&opened.join("sqlite"), &subject, &state)?;
        let file = opened.join("memory_files").join(MOVING);
        Ok(values.torn().or_else(|| stale(&values, before)).or_else(|| file_is_torn(&file, moved)))
    }
}

/// The subject of HEAD's commit, out of the git bundle that travels with it; or why that is not to be had. What the
/// manifest says of the subject may be older than its commit.
fn shipped_subject(opened: &Path, manifest: &Value) -> Outcome<Result<String, String>> {
    let Some(head) = manifest["git"]["head_oid"].as_str() else {
        return Ok(Err("the manifest names no commit of HEAD".to_owned()));
    };
    let bare = opened.join("shipped.git");
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(&bare).args(args);
        git
    };
    output(Command::new("git").args(["init", "--quiet", "--bare"]).arg(&bare))?;
    let mut fetch = git(&["fetch", "--quiet"]);
    let fetched = output(fetch.arg(opened.join("git/memory.bundle")).arg("+refs/*:refs/*"));
    let tips =
        fetched.and_then(|_| output(&mut git(&["log", "--no-walk", "--all", "--format=%H %s"])));
    Ok(match tips {
        Err(e) => Err(format!("the git bundle cannot be read: {e}")),
        Ok(tips) => {
            let subject = tips.lines().find_map(|tip| tip.strip_prefix(head));
            subject.map(str::to_owned).ok_or(format!("HEAD {head} is not among the shipped {tips}"))
        }
    })
}

/// What was there before the snapshot began must be in it.
fn stale(values: &Values, before: &Values) -> Option<String> {
    let all = |values: &Values| values.stores.into_iter().chain([values.git, values.json]);
    let older = all(values).zip(all(before)).any(|(now, before)| now < before);
    older.then(|| format!("stale: {values:?}, after {before:?}"))
}

/// A memory file may be younger than the instant, but never older or half of two.
fn file_is_torn(path: &PathBuf, at_least: u64) -> Option<String> {
    let Ok(text) = fs::read_to_string(path) else {
        return (at_least > 0).then(|| format!("{MOVING} is missing"));
    };
    let first = text.lines().next().unwrap_or_default();
    let whole = text.lines().count() == LINES && text.lines().all(|line| line == first);
    let n: u64 = first.parse().unwrap_or_default();
    (!whole || n < at_least)
        .then(|| format!("{MOVING} says {n} (whole: {whole}), after {at_least}"))
}

fn output(command: &mut Command) -> Outcome<String> {
    let out = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() { Ok(text) } else { Err(format!("{command:?}: {text}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a judge that passes a cut of which one part is older than it was when the snapshot began.
    #[test]
    fn a_stale_cut_is_told() {
        let values = |stores, git, json| Values { stores, git, json };
        let before = values([6, 6, 5, 5], 5, 5);
        assert_eq!(stale(&before, &before), None);
        assert_eq!(stale(&values([7; 4], 7, 6), &before), None);
        for old in [values([6, 5, 5, 5], 5, 5), values([6, 6, 6, 6], 4, 5), values([6; 4], 6, 4)] {
            assert!(stale(&old, &before).is_some(), "{old:?}");
        }
    }

    /// Would catch: a judge of files that passes half of two, an older one, or none.
    #[test]
    fn a_torn_or_older_file_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("moving.md");
        assert_eq!(file_is_torn(&path, 0), None);
        assert!(file_is_torn(&path, 1).is_some());
        fs::write(&path, "7\n".repeat(LINES)).unwrap();
        assert_eq!(file_is_torn(&path, 7), None);
        assert!(file_is_torn(&path, 8).is_some());
        fs::write(&path, "7\n".repeat(LINES - 1) + "8\n").unwrap();
        assert!(file_is_torn(&path, 7).is_some());
        fs::write(&path, "7\n".repeat(LINES - 1)).unwrap();
        assert!(file_is_torn(&path, 7).is_some());
    }
}
