//! Processes and users, as far as files are theirs: who we are, and whether the maker of a temporary
//! file still lives.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::dir::TEMP_PREFIX;

/// The user whose rights we have.
#[must_use]
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether we may write to what lies at `path`, or why not. Asks the operating system; opens nothing.
///
/// # Errors
/// What the operating system said.
pub fn may_write(path: &Path) -> Result<(), std::io::Error> {
    Ok(rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

/// Whether a name is one that an atomic write of ours gives (`.nexo-tmp-<process>-<time>-<number>`), letter
/// for letter: who begins a name of his own alike keeps it.
#[must_use]
pub fn is_temp_name(name: &OsStr) -> bool {
    maker(name).is_some()
}

/// Whether a temporary name of an atomic write ([`is_temp_name`]) is of a process that is gone. Other names,
/// those of a restore's staging among them, never are.
///
/// A process of another container has a number of its own: what it writes at this moment may look
/// dead. Where the agent's lock says who is at work, ask that first.
#[must_use]
pub fn is_dead_temp(name: &OsStr) -> bool {
    maker(name).is_some_and(|process| !is_alive(process))
}

/// The process that made a temporary file of this name.
fn maker(name: &OsStr) -> Option<u32> {
    let mut parts = name.to_str()?.strip_prefix(TEMP_PREFIX)?.split('-');
    let (process, time, number) = (parts.next()?, parts.next()?, parts.next()?);
    let all = |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.as_bytes().iter().all(is);
    let is_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let exact =
        all(process, u8::is_ascii_digit) && all(time, is_hex) && all(number, u8::is_ascii_digit);
    (exact && parts.next().is_none()).then(|| process.parse().ok())?
}

fn is_alive(process: u32) -> bool {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return false };
    // Not allowed to signal it: it is there.
    rustix::process::test_kill_process(pid) != Err(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a restore's staging taken for a file of process 12345678, or our own file for a
    /// dead one's.
    #[test]
    fn only_names_of_dead_processes_are_dead() {
        let own = format!("{TEMP_PREFIX}{}-1f-0", std::process::id());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(is_dead_temp(OsStr::new(&format!("{TEMP_PREFIX}{pid}-1f-0"))));
        for name in [
            own.as_str(),
            ".nexo-tmp-12345678-57a4-4b52-9d6e-0d2f3a1b4c5d",
            ".nexo-tmp-12345678-57a4-4b52-9d6e-0d2f3a1b4c5d-git",
            ".nexo-tmp-store-0.sqlite",
            ".nexo-tmp-1-2",
            ".nexo-tmp-+99999999-1f-0",
            ".nexo-tmp-99999999-1F-0",
            ".nexo-tmp-99999999-1f-a",
            ".nexo-tmp-99999999-1f-0.md",
            ".nexo-tmp-99999999-x-1",
            "99999999-1f-0",
        ] {
            assert!(!is_dead_temp(OsStr::new(name)), "{name}");
        }
    }
}
