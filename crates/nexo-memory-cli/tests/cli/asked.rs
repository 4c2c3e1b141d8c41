//! What a person is asked on a terminal, and types there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::Child;
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::sealed::sealed;
use super::*;

const PASSPHRASE: &str = "correct horse battery";

/// The other end of a program's terminal.
struct Terminal {
    end: File,
    /// All that was shown on it.
    shown: String,
}

impl Terminal {
    /// Runs the program with a terminal for all but its stdout.
    fn run(home: &Home, args: &[&str]) -> (Self, Child) {
        let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&end).unwrap();
        unlockpt(&end).unwrap();
        let name = ptsname(&end, Vec::new()).unwrap().into_string().unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let mut command = home.command(args);
        command.stdin(open()).stderr(open()).stdout(Stdio::piped());
        (Self { end: end.into(), shown: String::new() }, command.spawn().unwrap())
    }

    /// Waits until `question` is shown and what is typed is not, then types.
    fn answer(&mut self, question: &str, answer: &str) {
        while !self.shown.ends_with(question) {
            assert!(self.read(), "not asked: {:?}", self.shown);
        }
        while tcgetattr(&self.end).unwrap().local_modes.contains(LocalModes::ECHO) {
            thread::yield_now();
        }
        self.end.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    /// Reads to the end of the program; gives its stdout and its exit code.
    fn end(mut self, child: Child) -> (Said, String) {
        while self.read() {}
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let code = output.status.code().unwrap();
        (Said { out, err: String::new(), code }, self.shown)
    }

    /// Reads what is shown next; false where the program has ended.
    fn read(&mut self) -> bool {
        let mut some = [0; 1024];
        let read = self.end.read(&mut some).unwrap_or_default();
        self.shown.push_str(&String::from_utf8_lossy(&some[..read]));
        read > 0
    }
}

/// Would catch: a passphrase that is shown, that is taken although it was mistyped once, or that opens nothing
/// later; one that is asked for where another key opens it.
#[test]
fn a_passphrase_is_asked_for_twice_to_seal_and_once_to_open() {
    let (home, _) = sealed();
    let take = ["snapshot", "--agent", "ana", "--passphrase", "--quiet"];
    for (second, code) in [("correct horse batterx", 2), (PASSPHRASE, 0)] {
        let (mut terminal, child) = Terminal::run(&home, &take);
        terminal.answer("Passphrase to encrypt with: ", PASSPHRASE);
        terminal.answer("Once more: ", second);
        let (said, shown) = terminal.end(child);
        assert_eq!(said.code, code, "{said:?} {shown}");
        assert!(!shown.contains("correct"), "{shown}");
    }
    for (typed, code) in [(PASSPHRASE, 0), ("wrong", 8)] {
        let (mut terminal, child) = Terminal::run(&home, &["verify", "latest", "--agent", "ana"]);
        terminal.answer(": ", typed);
        let (said, shown) = terminal.end(child);
        assert_eq!(said.code, code, "{said:?} {shown}");
        assert!(!shown.contains(PASSPHRASE), "{shown}");
    }
}
