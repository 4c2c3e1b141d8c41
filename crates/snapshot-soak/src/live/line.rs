//! The line to a peer, whether it is a thread or a process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Outcome;
use crate::live::case::Place;
use crate::live::peer::{Order, Rows, Said, Setup, work};

/// A peer that says nothing for so long has hung.
const PATIENCE: Duration = Duration::from_secs(180);

/// The line to one peer.
pub(super) struct Line {
    to: To,
    said: Receiver<Said>,
    /// Passes on what the peer says, until it has ended.
    thread: JoinHandle<()>,
    /// Rows acknowledged: the store, and the id.
    pub(super) wrote: Vec<(usize, i64)>,
    /// What its transactions saw, one after another: the store, and its rows.
    pub(super) saw: Vec<(usize, Rows)>,
}

enum To {
    Thread(Sender<Order>),
    Process(Child, ChildStdin),
}

impl Line {
    /// Starts a peer; `program` is this crate's own.
    pub(super) fn open(setup: Setup, place: Place, program: &Path) -> Outcome<Self> {
        let (say, said) = mpsc::channel();
        let (to, thread) = match place {
            Place::Here => {
                let (to, orders) = mpsc::channel();
                let thread = std::thread::spawn(move || {
                    // Who does not listen any more has failed by itself.
                    let _ = work(setup, &orders, &mut |said| Ok(say.send(said)?));
                });
                (To::Thread(to), thread)
            }
            Place::Elsewhere => {
                let mut child = Command::new(program)
                    .args(["peer", &serde_json::to_string(&setup)?])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?;
                let (to, out) = child.stdin.take().zip(child.stdout.take()).ok_or("no pipes")?;
                let thread = std::thread::spawn(move || {
                    for line in BufReader::new(out).lines().map_while(Result::ok) {
                        let said = serde_json::from_str(&line);
                        let said = said.unwrap_or_else(|e| Said::Failed(format!("{line}: {e}")));
                        let _ = say.send(said);
                    }
                });
                (To::Process(child, to), thread)
            }
        };
        Ok(Self { to, said, thread, wrote: Vec::new(), saw: Vec::new() })
    }

    /// Gives an order and waits for its answer.
    pub(super) fn ask(&mut self, order: Order) -> Outcome<Said> {
        match &mut self.to {
            To::Thread(to) => to.send(order)?,
            To::Process(_, to) => writeln!(to, "{}", serde_json::to_string(&order)?)?,
        }
        loop {
            let said = self.hear()?;
            if !matches!(said, Said::Turn | Said::Wrote { .. } | Said::Saw { .. }) {
                return Ok(said);
            }
        }
    }

    /// What every connection of the peer sees.
    pub(super) fn look(&mut self) -> Outcome<Vec<(usize, Rows)>> {
        match self.ask(Order::Look)? {
            Said::Rows(rows) => Ok(rows),
            other => Err(format!("a peer looks, and says {other:?}").into()),
        }
    }

    /// Waits for rounds that begin after this.
    pub(super) fn turns(&mut self, count: usize) -> Outcome<()> {
        self.ask(Order::Mark)?;
        let mut left = count;
        while left > 0 {
            left -= usize::from(matches!(self.hear()?, Said::Turn));
        }
        Ok(())
    }

    /// Ends the peer and all its connections.
    pub(super) fn close(self) -> Outcome<()> {
        match self.to {
            To::Thread(to) => drop(to),
            To::Process(mut child, to) => {
                drop(to);
                let ended = child.wait()?;
                if !ended.success() {
                    return Err(format!("a peer ended with {ended}").into());
                }
            }
        }
        self.thread.join().map_err(|_| "a peer panicked".into())
    }

    fn hear(&mut self) -> Outcome<Said> {
        let said = self.said.recv_timeout(PATIENCE).map_err(|e| format!("a peer is mute: {e}"))?;
        match &said {
            Said::Failed(why) => return Err(format!("a peer failed: {why}").into()),
            Said::Wrote { store, id } => self.wrote.push((*store, *id)),
            Said::Saw { store, rows } => self.saw.push((*store, rows.clone())),
            _ => {}
        }
        Ok(said)
    }
}
