//! Snapshots by the real program under writers in other processes, opened with stock tools only and put to the
//! oracle: no cut mixes two moments, in either journal mode, with files and history moving too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

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
    let bench = Bench { slice, agent, writers, moved: AtomicU64::new(0) };
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
            self.writers.wait_for_steps(1)?;
        }
        Ok(())
    }

    /// Takes one snapshot and judges it.
    fn cut(&self, n: u64, tally: &mut Tally) -> Outcome<()> {
        let vault = self.slice.dir.join("vault");
        let moved = self.moved.load(Ordering::SeqCst);
        let meta = self.snapshot(&vault)?;
        let bundle = meta["bundle_path"].as_str().ok_or("the meta names no bundle")?;
        let held = meta["capture"]["writers_held_us"].as_u64().ok_or("the meta says no hold")?;
        tally.time("writers held", held);
        if let Some(torn) = self.torn(Path::new(bundle), moved)? {
            tally.wrong(n, torn);
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

    /// Why the bundle holds what never was, if it does; the moving file had the number `moved` before.
    fn torn(&self, bundle: &Path, moved: u64) -> Outcome<Option<String>> {
        let opened = self.slice.dir.join("opened");
        if opened.exists() {
            fs::remove_dir_all(&opened)?;
        }
        fs::create_dir_all(&opened)?;
        output(Command::new("tar").arg("--zstd").arg("-xf").arg(bundle).arg("-C").arg(&opened))?;
        let manifest: Value = serde_json::from_slice(&fs::read(opened.join("manifest.json"))?)?;
        let subject = manifest["git"]["head_subject"].as_str().unwrap_or_default();
        let state = fs::read(opened.join("state/extract_cursor.json"))?;
        let values = Values::read(&opened.join("sqlite"), subject, &state)?;
        let file = opened.join("memory_files").join(MOVING);
        Ok(values
            .torn()
            .or_else(|| head_is_missing(&opened, &manifest))
            .or_else(|| file_is_torn(&file, moved)))
    }
}

/// HEAD's commit must be in the git bundle that travels with it.
fn head_is_missing(opened: &Path, manifest: &Value) -> Option<String> {
    let head = manifest["git"]["head_oid"].as_str()?;
    let mut list = Command::new("git");
    list.args(["bundle", "list-heads"]).arg(opened.join("git/memory.bundle"));
    match output(&mut list) {
        Ok(heads) if heads.contains(head) => None,
        Ok(heads) => Some(format!("HEAD {head} is not among the shipped {heads}")),
        Err(e) => Some(format!("the git bundle cannot be read: {e}")),
    }
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
