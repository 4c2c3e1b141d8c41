//! The soak's parts in slices: in turn, on time, with books.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::books::{Account, Books, Tally};
use super::table::table;
use super::{build, clear, scratch};
use crate::ci::{MEMORY_DISK, memory_disk};
use crate::tools::{Outcome, output, target};

/// The seed of all cases, unless told.
const SEED: u64 = 1;
/// Seconds of a slice: what a soak that is killed loses at most, and a last case.
const SLICE: u64 = 30;
/// Parts that work on the disk: how long its syncs take is what they measure. The others prove orders and
/// contents, which a file system in memory has too.
const ON_DISK: [&str; 2] = ["cuts-wal", "cuts-rollback"];
/// What dies: parts of `soak crash`.
const DEATHS: [&str; 5] = ["crash-index", "crash-pairs", "crash-work", "kill", "kill-pairs"];
/// The part that mounts. It has mounts of its own, which go with it where it is stopped on the way.
const MOUNTS: &str = "power-cut";
/// The programs of a soak.
const PROGRAMS: [&str; 2] = ["nexo-soak", "nexo-memory"];

/// What is to be run.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// For so long, or until all is done.
    minutes: Option<u64>,
    seed: u64,
    /// These parts, or all.
    only: Vec<String>,
    /// Forgets what was run of them before.
    fresh: bool,
    /// One case of one part, and no books.
    case: Option<u64>,
}

/// Which cases.
struct Which {
    seed: u64,
    from: u64,
    count: u64,
    seconds: u64,
}

/// What the workers share.
struct Run<'r> {
    is_late: &'r (dyn Fn() -> bool + Sync),
    programs: &'r Path,
    path: &'r Path,
    seed: u64,
    open: Mutex<Open>,
}

/// The books, and the parts that nobody is at.
struct Open {
    books: Books,
    waiting: Vec<String>,
}

/// Runs the deaths alone: in the process and by SIGKILL.
pub(crate) fn crash(flags: &[&str]) -> Outcome {
    let only = DEATHS.iter().flat_map(|part| ["--only", part]);
    soak(&only.chain(flags.iter().copied()).collect::<Vec<_>>())
}

/// Runs every part in slices, in turn, until the time is over or all is done; prints the one table. Fails where
/// anything is wrong.
pub(crate) fn soak(flags: &[&str]) -> Outcome {
    let plan = Plan::parse(flags)?;
    let built = build()?;
    let parts = plan.parts(&built)?;
    let _alone = alone()?;
    let programs = keep(&built)?;
    if let Some(case) = plan.case {
        return run_case(&programs, &parts, case, plan.seed);
    }
    let (path, build) = (target().join("soak/books.json"), digest(&programs)?);
    let forget_all = plan.fresh && plan.only.is_empty();
    let mut books = Books::open(&path, plan.seed, forget_all)?;
    for part in &parts {
        books.begin(part, &build, plan.fresh)?;
    }
    let began = Instant::now();
    let run = Run {
        is_late: &|| plan.minutes.is_some_and(|minutes| began.elapsed().as_secs() / 60 >= minutes),
        programs: &programs,
        path: &path,
        seed: plan.seed,
        open: Mutex::new(Open { books, waiting: parts.clone() }),
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| run.work())).collect();
        let ended = |worker: thread::ScopedJoinHandle<'_, Outcome>| {
            worker.join().unwrap_or_else(|_| Err("a worker died".to_owned()))
        };
        workers.into_iter().try_for_each(ended)
    })?;
    let books = run.open.into_inner().unwrap_or_else(PoisonError::into_inner).books;
    print!("{}", table(&books));
    if books.is_clean(&parts) { Ok(()) } else { Err("something is wrong".to_owned()) }
}

/// The first `count` cuts in write-ahead-log mode.
pub(crate) fn run_cuts(count: &str) -> Result<Account, String> {
    let count = count.parse().map_err(|_| format!("{count} is no number of cuts"))?;
    let mut account = Account::default();
    let which = Which { seed: SEED, from: 0, count, seconds: u64::MAX };
    account.add(slice(&build()?, "cuts-wal", &which)?, Duration::ZERO);
    Ok(account)
}

impl Run<'_> {
    /// Runs slices until the time is over or there is nothing left to do, always of the part that had the least
    /// time so far. What cannot go on is told at the end, for other parts can.
    fn work(&self) -> Outcome {
        while let Some((part, from)) = self.take().filter(|_| !(self.is_late)()) {
            let began = Instant::now();
            let which = Which { seed: self.seed, from, count: u64::MAX, seconds: SLICE };
            let ran = slice(self.programs, &part, &which);
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let account = open.books.parts.entry(part.clone()).or_default();
            match ran {
                Ok(tally) => account.add(tally, began.elapsed()),
                Err(why) => account.stopped = Some(why),
            }
            eprintln!("{part}: {}", progress(account));
            if !account.is_over() {
                open.waiting.push(part);
            }
            open.books.save(self.path)?;
        }
        Ok(())
    }

    /// A part that nobody is at, and its first case that was not run.
    fn take(&self) -> Option<(String, u64)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { books, waiting } = &mut *open;
        waiting.retain(|part| !books.parts[part].is_over());
        waiting.sort_by_key(|part| books.parts[part].spent_ms);
        let part = (!waiting.is_empty()).then(|| waiting.remove(0))?;
        let from = books.parts[&part].done;
        Some((part, from))
    }
}

impl Plan {
    fn parse(flags: &[&str]) -> Result<Self, String> {
        let mut plan = Self { seed: SEED, ..Self::default() };
        let mut flags = flags.iter();
        while let Some(&flag) = flags.next() {
            let mut value = || flags.next().ok_or(format!("{flag} needs a value"));
            let number = |text: &str| text.parse().map_err(|_| format!("{flag} takes a number"));
            match flag {
                "--minutes" => plan.minutes = Some(number(value()?)?),
                "--seed" => plan.seed = number(value()?)?,
                "--case" => plan.case = Some(number(value()?)?),
                "--only" => plan.only.push((*value()?).to_owned()),
                "--fresh" => plan.fresh = true,
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        if plan.minutes == Some(0) {
            return Err("--minutes takes at least 1".to_owned());
        }
        match (plan.case, plan.only.len()) {
            (None, _) | (_, 1) => Ok(plan),
            _ => Err("--case is of one part: --only PART".to_owned()),
        }
    }

    /// The parts that are meant, of those that there are.
    fn parts(&self, programs: &Path) -> Result<Vec<String>, String> {
        let known = output(Command::new(programs.join(PROGRAMS[0])).arg("parts"))?;
        let known: Vec<&str> = known.lines().collect();
        if let Some(unknown) = self.only.iter().find(|only| !known.contains(&only.as_str())) {
            return Err(format!("no part {unknown}; there are {}", known.join(", ")));
        }
        let meant = |part: &&str| self.only.is_empty() || self.only.iter().any(|only| only == part);
        Ok(known.into_iter().filter(meant).map(str::to_owned).collect())
    }
}

fn progress(account: &Account) -> String {
    let of = account.total.map_or_else(String::new, |total| format!(" of {total}"));
    let wrong = account.wrong.len();
    let wrong = if wrong > 0 { format!(", {wrong} WRONG") } else { String::new() };
    let stopped = account.stopped.as_ref().map_or("", |_| ", stopped early");
    format!("{}{of}{wrong}{stopped}", account.done)
}

/// One case alone, as a wrong one is looked at.
fn run_case(programs: &Path, parts: &[String], case: u64, seed: u64) -> Outcome {
    let which = Which { seed, from: case, count: 1, seconds: u64::MAX };
    let mut books = Books::default();
    for part in parts {
        let tally = slice(programs, part, &which)?;
        if tally.is_beyond() {
            return Err(format!("{part} has no case {case}"));
        }
        books.parts.entry(part.clone()).or_default().add(tally, Duration::ZERO);
    }
    print!("{}", table(&books));
    if books.is_clean(parts) {
        Ok(())
    } else {
        Err("it is wrong, or cannot be run here".to_owned())
    }
}

/// A lock for as long as it lives: scratch folders have one name on this machine, and books one place.
fn alone() -> Result<File, String> {
    let path = std::env::temp_dir().join("nexo-memory-soak.lock");
    let fail = |e: &dyn std::fmt::Display| format!("cannot lock {}: {e}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| fail(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err("another soak runs on this machine".to_owned()),
        Err(e) => Err(fail(&e)),
    }
}

/// Runs cases of a part in a scratch folder.
fn slice(programs: &Path, part: &str, which: &Which) -> Result<Tally, String> {
    let disk = memory_disk(Path::new(MEMORY_DISK)).filter(|_| !ON_DISK.contains(&part));
    let dir = disk.map_or_else(|| target().join("soak"), |disk| disk.join("nexo-memory-soak"));
    let dir = scratch(dir.join(part))?;
    let numbers = [which.seed, which.from, which.count, which.seconds].map(|n| n.to_string());
    let mut command = runner(part, &programs.join(PROGRAMS[0]));
    command.arg(part).args(numbers).arg(&dir).arg(programs.join(PROGRAMS[1]));
    // Scratch folders of its own lie where the slice works.
    let done = output(command.env("TMPDIR", &dir));
    let cleared = clear(&dir);
    let done = done?;
    cleared?;
    serde_json::from_str(&done).map_err(|e| format!("{part} printed no tally: {e}"))
}

/// The program of all parts.
fn runner(part: &str, program: &Path) -> Command {
    let apart = || Command::new("unshare").args(["--mount", "true"]).output();
    if part != MOUNTS || !apart().is_ok_and(|tried| tried.status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(program);
    command
}

/// Copies of the programs, which no later build changes under the soak.
#[expect(
    clippy::disallowed_methods,
    reason = "copies below target/ that nobody needs after a crash"
)]
fn keep(built: &Path) -> Result<PathBuf, String> {
    let kept = scratch(target().join("soak/programs"))?;
    for program in PROGRAMS {
        let from = built.join(program);
        fs::copy(&from, kept.join(program))
            .map_err(|e| format!("cannot copy {}: {e}", from.display()))?;
    }
    Ok(kept)
}

/// What was built: cases of another build are no proof of this one.
fn digest(programs: &Path) -> Result<String, String> {
    let files = PROGRAMS.map(|name| programs.join(name));
    let sums = output(Command::new("sha256sum").args(files))?;
    let digests = sums.lines().filter_map(|line| line.get(..16));
    Ok(digests.collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a flag that is taken for another or for nothing.
    #[test]
    fn flags_are_what_they_say() {
        let flags = ["--minutes", "5", "--only", "live", "--seed", "3", "--fresh", "--case", "9"];
        let plan = Plan {
            minutes: Some(5),
            seed: 3,
            only: vec!["live".to_owned()],
            fresh: true,
            case: Some(9),
        };
        assert_eq!(Plan::parse(&flags), Ok(plan));
        assert_eq!(Plan::parse(&[]), Ok(Plan { seed: SEED, ..Plan::default() }));
        for wrong in [
            &["--minutes"][..],
            &["--minutes", "x"],
            &["--minutes", "0"],
            &["--hours", "1"],
            &["--case", "1"],
        ] {
            assert!(Plan::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
