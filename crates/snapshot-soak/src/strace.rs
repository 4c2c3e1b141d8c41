//! The real program under strace, which counts its system calls, kills it at one of them, or lets one fail.
//!
//! It runs on one core: on more, which thread makes how many calls is chance, and no number names a call for long.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::{fmt, fs};

use crate::Outcome;

/// Calls that may change what is on a disk. Of `openat` only those that create or cut something off do.
const CALLS: &str = "openat,write,pwrite64,writev,pwritev,pwritev2,copy_file_range,ftruncate,truncate,\
    fallocate,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat,symlink,symlinkat,\
    mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,chown,fchown,fchownat,utimensat,flock";

/// One way to run a program.
#[derive(Debug)]
pub struct Strace {
    /// Where strace writes.
    pub log: PathBuf,
    /// The program.
    pub program: PathBuf,
}

/// What is done at a call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The program is killed before it.
    Kill,
    /// It fails with this error.
    Once(&'static str),
    /// It and all later ones of its name fail with this error.
    From(&'static str),
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// What it said on standard output.
    pub stdout: String,
    /// What it said on standard error.
    pub stderr: String,
    /// What strace tells of all state-changing calls, a line each that begins with its thread.
    pub log: String,
    /// The calls that were made to fail, each with the paths of its descriptors: `fsync(5</vault/a>`.
    pub hit: Vec<String>,
}

/// A call that changes something, by its name and which of its thread's calls of that name it is, from 1: as strace
/// counts.
pub type Call = (String, u64);

impl Strace {
    /// Why nothing can be run, if so.
    #[must_use]
    pub fn unavailable() -> Option<&'static str> {
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", "0-4095", "strace", "-V"]).stdout(Stdio::null()).stderr(Stdio::null());
        let runs = pinned.status().is_ok_and(|status| status.success());
        (!runs).then_some("strace or taskset is missing")
    }

    /// Every state-changing call of a run that must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn census(&self, args: &[OsString]) -> Outcome<BTreeSet<Call>> {
        let ended = self.run(args, None)?;
        if !ended.status.success() {
            return Err(format!("{args:?}: {ended}").into());
        }
        Ok(state_changing(&fs::read_to_string(&self.log)?))
    }

    /// Runs the program, with a fault at a call: the first thread that comes there has it.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, args: &[OsString], fault: Option<(Fault, &Call)>) -> Outcome<Ended> {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(one_core()?.to_string());
        command.args(["strace", "-f", "-y", "-qq", "-e", "signal=none", "-o"]).arg(&self.log);
        command.arg("-e").arg(format!("trace={CALLS}"));
        if let Some((fault, (name, n))) = fault {
            let what = match fault {
                Fault::Kill => format!("signal=KILL:when={n}"),
                Fault::Once(error) => format!("error={error}:when={n}"),
                Fault::From(error) => format!("error={error}:when={n}+"),
            };
            command.arg("-e").arg(format!("inject={name}:{what}"));
        }
        let done = command.arg(&self.program).args(args).stdin(Stdio::null()).output()?;
        let [stdout, stderr] =
            [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        let log = fs::read_to_string(&self.log)?;
        Ok(Ended { status: done.status, stdout, stderr, hit: hit(&log), log })
    }
}

impl Ended {
    /// The call was reached that was to fail.
    #[must_use]
    pub const fn was_hit(&self) -> bool {
        !self.hit.is_empty()
    }

    /// The fault hit what it would have said.
    #[must_use]
    pub fn was_silenced(&self) -> bool {
        self.hit.iter().any(|call| call.starts_with("write(1<") || call.starts_with("write(2<"))
    }

    /// Killed by the fault.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.status, self.stdout, self.stderr)
    }
}

/// One of the cores that we may use. Another process of ours takes another, where it can.
fn one_core() -> Outcome<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cores = cores(list.unwrap_or("0").trim())?;
    Ok(cores[std::process::id() as usize % cores.len()])
}

/// The cores of a list as Linux writes it: `0-2,7`.
fn cores(list: &str) -> Outcome<Vec<u32>> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cores.extend(first.parse::<u32>()?..=last.parse()?);
    }
    Ok(cores)
}

/// The calls that strace made to fail. Of one that another thread's came between, the second line tells that, and the
/// first what it was.
fn hit(log: &str) -> Vec<String> {
    let (mut begun, mut hit) = (BTreeMap::new(), Vec::new());
    for (thread, call) in log.lines().filter_map(|line| line.split_once(char::is_whitespace)) {
        let call = call.trim_start();
        let resumed = call.starts_with("<...");
        if !resumed {
            begun.insert(thread, call);
        }
        if call.contains("(INJECTED)") {
            hit.extend(begun.get(thread).map(|&call| call.to_owned()));
        }
    }
    hit
}

/// What a log of `strace -f -y` tells of calls that change something; each line begins with its thread.
fn state_changing(log: &str) -> BTreeSet<Call> {
    let (mut counts, mut calls) = (BTreeMap::<(&str, &str), u64>::new(), BTreeSet::new());
    for line in log.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { continue };
        let Some((name, args)) = call.trim_start().split_once('(') else { continue };
        // The second line of a call that another thread's came between.
        if name.starts_with("<...") {
            continue;
        }
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        let opens = name == "openat" && !args.contains("O_CREAT") && !args.contains("O_TRUNC");
        let speaks = name == "write" && (args.starts_with("1<") || args.starts_with("2<"));
        if !opens && !speaks {
            calls.insert((name.to_owned(), *count));
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a call that counts for another thread's, another name's, or twice.
    #[test]
    fn calls_are_counted_by_thread_and_name() {
        let log = "11 openat(3</d>, \"a\", O_RDONLY) = 4</d/a>\n\
            11 write(4</d/a>, \"x\", 1 <unfinished ...>\n\
            12 fsync(5</d/b>) = 0\n\
            11 <... write resumed>) = -1 EIO (INJECTED)\n\
            11 write(2</dev/null>, \"hello\", 5) = 5\n\
            11 write(4</d/a>, \"y\", 1) = 1\n\
            11 openat(3</d>, \"b\", O_RDWR|O_CREAT, 0600) = 5</d/b>\n";
        let found: Vec<_> = state_changing(log).into_iter().collect();
        let call = |name: &str, n| (name.to_owned(), n);
        let expected = [call("fsync", 1), call("openat", 2), call("write", 1), call("write", 3)];
        assert_eq!(found, expected);
        assert_eq!(hit(log), ["write(4</d/a>, \"x\", 1 <unfinished ...>"]);
    }

    /// Would catch: a core that is not ours.
    #[test]
    fn the_list_of_cores_is_read() {
        assert_eq!(cores("0-2,7").unwrap(), [0, 1, 2, 7]);
        assert_eq!(cores("5").unwrap(), [5]);
        assert!(cores("").is_err());
    }

    /// Would catch: a count that differs from strace's own, so that a fault hits another call or none.
    #[test]
    fn a_fault_hits_the_call_that_was_counted() {
        if let Some(why) = Strace::unavailable() {
            println!("NOT RUN: {why}");
            return;
        }
        let tmp = tempfile::tempdir().unwrap();
        let strace = Strace { log: tmp.path().join("log"), program: "sh".into() };
        let path = |name: &str| tmp.path().join(name).display().to_string();
        let script = "mkdir $0 $1; ln -s x $2; mkdir $3";
        let mut args: Vec<OsString> = vec!["-c".into(), script.into()];
        args.extend(["a", "b", "c", "d"].map(|name| OsString::from(path(name))));
        let second = ("mkdir".to_owned(), 2);
        assert!(strace.census(&args).unwrap().contains(&second));
        for name in ["a", "b", "c", "d"] {
            let _ = fs::remove_dir(path(name)).or_else(|_| fs::remove_file(path(name)));
        }
        let ended = strace.run(&args, Some((Fault::Once("ENOSPC"), &second))).unwrap();
        assert!(ended.was_hit() && ended.stderr.contains("No space left"), "{ended:?}");
        let there = ["a", "b", "c", "d"].map(|name| fs::symlink_metadata(path(name)).is_ok());
        assert_eq!(there, [true, false, true, true]);
    }
}
