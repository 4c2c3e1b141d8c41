//! The real program under strace, which counts its system calls, kills it at one of them, or lets one fail.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

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

/// What is done at the nth call of a thread, from 1.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The program is killed before it.
    Kill,
    /// It fails with this error.
    Once(&'static str),
    /// It and all later ones fail with this error.
    From(&'static str),
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// What it said on standard error.
    pub stderr: String,
    /// The fault hit what it would have said.
    pub was_silenced: bool,
}

/// A call that changes something: which of its thread's calls it is, and its name.
pub type Call = (u64, String);

impl Strace {
    /// Why nothing can be run, if so.
    #[must_use]
    pub fn is_missing() -> bool {
        let run = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
        !run.is_ok_and(|status| status.success())
    }

    /// Every state-changing call of a run that must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn census(&self, args: &[OsString]) -> Outcome<BTreeSet<Call>> {
        let ended = self.run(args, None)?;
        if !ended.status.success() {
            return Err(format!("{args:?}: {}: {}", ended.status, ended.stderr).into());
        }
        Ok(state_changing(&fs::read_to_string(&self.log)?))
    }

    /// Runs the program, with a fault at the nth call of each thread.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, args: &[OsString], fault: Option<(Fault, u64)>) -> Outcome<Ended> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(&self.log);
        command.arg("-e").arg(format!("trace={CALLS}"));
        if let Some((fault, n)) = fault {
            let what = match fault {
                Fault::Kill => format!("signal=KILL:when={n}"),
                Fault::Once(error) => format!("error={error}:when={n}"),
                Fault::From(error) => format!("error={error}:when={n}+"),
            };
            command.arg("-e").arg(format!("inject={CALLS}:{what}"));
        }
        let done = command.arg(&self.program).args(args).stdin(Stdio::null()).output()?;
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        let log = fs::read_to_string(&self.log)?;
        let silenced = |line: &str| line.contains(" write(2, ") && line.contains("(INJECTED)");
        Ok(Ended { status: done.status, stderr, was_silenced: log.lines().any(silenced) })
    }
}

impl Ended {
    /// Killed by the fault.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

/// What a log of `strace -f` tells of calls that change something; each line begins with its thread.
fn state_changing(log: &str) -> BTreeSet<Call> {
    let (mut counts, mut calls) = (BTreeMap::<&str, u64>::new(), BTreeSet::new());
    for line in log.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { continue };
        let Some((name, args)) = call.trim_start().split_once('(') else { continue };
        // The second line of a call that another thread's came between.
        if name.starts_with("<...") {
            continue;
        }
        let count = counts.entry(thread).or_default();
        *count += 1;
        let opens = name == "openat" && !args.contains("O_CREAT") && !args.contains("O_TRUNC");
        let speaks = name == "write" && (args.starts_with("1,") || args.starts_with("2,"));
        if !opens && !speaks {
            calls.insert((*count, name.to_owned()));
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a count that differs from strace's own, so that faults hit other calls.
    #[test]
    fn calls_are_counted_by_thread_as_strace_does() {
        let log = "11 openat(3, \"a\", O_RDONLY) = 4\n\
            11 write(4, \"x\", 1 <unfinished ...>\n\
            12 fsync(5) = 0\n\
            11 <... write resumed>) = 1\n\
            11 write(2, \"hello\", 5) = 5\n\
            11 openat(3, \"b\", O_RDWR|O_CREAT, 0600) = 5\n";
        let found: Vec<_> = state_changing(log).into_iter().collect();
        let call = |n, name: &str| (n, name.to_owned());
        assert_eq!(found, [call(1, "fsync"), call(2, "write"), call(4, "openat")]);
    }
}
