//! A peer: who holds connections to the agent's databases while it is restored, in a thread or as a process.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use snapshot_testkit::Journal;

use crate::Outcome;
use crate::live::case::Activity;

/// How long a connection waits for others: for ever, as far as a case goes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ids of the rows that a peer writes begin at a multiple of it.
const OWN_IDS: i64 = 1_000_000;
/// Stands among the rows for the table that only the newer state has.
const LATER: i64 = -1;

/// Who a peer is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    /// From 1 on.
    pub(super) number: i64,
    /// What it does once told so.
    pub(super) activity: Activity,
    /// How its connections keep their journal.
    pub(super) journal: Journal,
    /// The databases.
    pub(super) stores: Vec<PathBuf>,
}

/// What a peer is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Order {
    /// To make this the content of every store, by connections that stay open, and to bring it into the file or
    /// leave it in the log.
    Change { state: State, checkpoint: bool },
    /// To read all once.
    Warm,
    /// To begin with what it does.
    Begin,
    /// To answer; what it does next it does after that.
    Mark,
    /// To end what it does.
    End,
    /// To tell what each connection sees; of one that is in a transaction, it alone.
    Look,
    /// To write one more row to each store.
    Add,
    /// To bring everything into the file, and to examine it.
    Check,
}

/// What a peer says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Said {
    /// A row was written and acknowledged, in the store of this number.
    Wrote { store: usize, id: i64 },
    /// A transaction saw something else than the one before.
    Saw { store: usize, rows: Rows },
    /// One round of what it does is over.
    Turn,
    /// An order is carried out.
    Done,
    /// What connections see: numbers of stores, and their rows.
    Rows(Vec<(usize, Rows)>),
    /// What became of each store.
    Health(Vec<Health>),
    /// It is at its end.
    Failed(String),
}

/// A store as somebody sees it who looks closely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Health {
    /// By `PRAGMA integrity_check`.
    pub(super) integrity: String,
    /// Bytes in a page.
    pub(super) page_size: u32,
    /// Whether it is in write-ahead-log mode.
    pub(super) wal: bool,
    /// Before everything was brought into the file, and after.
    pub(super) rows: [Rows; 2],
}

/// What a store holds: of each row the word and the length of its padding.
pub(super) type Rows = BTreeMap<i64, String>;

/// The content of every store at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Whether it is the newer one, which has a table more.
    pub(super) newer: bool,
    /// Rows.
    pub(super) rows: i64,
    /// The longest padding.
    pub(super) padding: usize,
}

struct Peer {
    setup: Setup,
    /// What the activity uses, one to each store.
    watch: Vec<Connection>,
    /// What changed the state, once it did.
    changers: Vec<Connection>,
    active: bool,
    /// Rows written, over all stores.
    written: i64,
    /// What was last seen of each store.
    seen: Vec<Option<Rows>>,
}

/// The program `peer`: orders come on standard input, a line each, and what it says goes to `out`.
///
/// # Errors
/// If it cannot read its setup or speak.
pub fn peer(setup: &str, out: &mut dyn std::io::Write) -> Outcome<()> {
    let setup = serde_json::from_str(setup)?;
    let (send, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { break };
            if send.send(order).is_err() {
                break;
            }
        }
    });
    work(setup, &orders, &mut |said| {
        writeln!(out, "{}", serde_json::to_string(&said)?)?;
        Ok(out.flush()?)
    })
}

/// Carries out orders until there are no more.
pub(super) fn work(
    setup: Setup,
    orders: &Receiver<Order>,
    say: &mut dyn FnMut(Said) -> Outcome<()>,
) -> Outcome<()> {
    match Peer::open(setup).and_then(|mut peer| peer.obey_all(orders, say)) {
        Ok(()) => Ok(()),
        Err(e) => say(Said::Failed(e.to_string())),
    }
}

impl Peer {
    fn open(setup: Setup) -> Outcome<Self> {
        let open = || setup.stores.iter().map(open).collect::<Outcome<Vec<_>>>();
        let (watch, seen) = (open()?, vec![None; setup.stores.len()]);
        Ok(Self { setup, watch, changers: Vec::new(), active: false, written: 0, seen })
    }

    fn obey_all(
        &mut self,
        orders: &Receiver<Order>,
        say: &mut dyn FnMut(Said) -> Outcome<()>,
    ) -> Outcome<()> {
        loop {
            let order = match self.active && self.loops() {
                true => orders.try_recv(),
                false => orders.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match order {
                Ok(order) => self.obey(order, say)?,
                Err(TryRecvError::Empty) => self.turn(say)?,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    const fn loops(&self) -> bool {
        matches!(self.setup.activity, Activity::Reading | Activity::Writing)
    }

    fn obey(&mut self, order: Order, say: &mut dyn FnMut(Said) -> Outcome<()>) -> Outcome<()> {
        let answer = match order {
            Order::Change { state, checkpoint } => {
                self.change(state, checkpoint)?;
                Said::Done
            }
            Order::Warm => {
                self.prepare()?;
                self.look()?;
                Said::Done
            }
            Order::Begin => {
                self.begin()?;
                Said::Done
            }
            Order::Mark => Said::Done,
            Order::End => {
                self.active = false;
                let mut open = self.watch.iter().filter(|conn| !conn.is_autocommit());
                open.try_for_each(|conn| conn.execute_batch("ROLLBACK"))?;
                Said::Done
            }
            Order::Look => Said::Rows(self.look()?),
            Order::Add => {
                for _ in 0..self.watch.len() {
                    self.write(say)?;
                }
                Said::Done
            }
            Order::Check => Said::Health(self.watch.iter().map(check).collect::<Outcome<_>>()?),
        };
        say(answer)
    }

    fn prepare(&self) -> Outcome<()> {
        // Of the log the file itself knows.
        if self.setup.journal != Journal::Wal {
            for conn in self.watch.iter().chain(&self.changers) {
                set_journal(conn, self.setup.journal)?;
            }
        }
        Ok(())
    }

    fn change(&mut self, state: State, checkpoint: bool) -> Outcome<()> {
        self.changers = self.setup.stores.iter().map(open).collect::<Outcome<_>>()?;
        self.prepare()?;
        for conn in &self.changers {
            fill(conn, state)?;
            if checkpoint {
                bring_in(conn)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Outcome<()> {
        self.active = true;
        match self.setup.activity {
            Activity::Idle => return Ok(()),
            Activity::Reading | Activity::Writing => {}
            Activity::Pinned => {
                for conn in &self.watch {
                    conn.execute_batch("BEGIN; SELECT count(*) FROM fact")?;
                    rows(conn)?;
                }
            }
            Activity::Stubborn => {
                let last = &self.watch[self.watch.len() - 1];
                let begin = if self.setup.number % 2 == 0 { "EXCLUSIVE" } else { "IMMEDIATE" };
                last.execute_batch(&format!("BEGIN {begin}"))?;
                insert(last, "fact", self.setup.number * OWN_IDS, "never committed", 100)?;
            }
        }
        self.prepare()
    }

    /// One round of what it does.
    fn turn(&mut self, say: &mut dyn FnMut(Said) -> Outcome<()>) -> Outcome<()> {
        if self.setup.activity == Activity::Writing {
            self.write(say)?;
            return say(Said::Turn);
        }
        for store in 0..self.watch.len() {
            let now = rows(&self.watch[store])?;
            if self.seen[store].as_ref() != Some(&now) {
                self.seen[store] = Some(now.clone());
                say(Said::Saw { store, rows: now })?;
            }
        }
        say(Said::Turn)
    }

    /// One row, to the stores in turn.
    fn write(&mut self, say: &mut dyn FnMut(Said) -> Outcome<()>) -> Outcome<()> {
        self.written += 1;
        let store = usize::try_from(self.written)? % self.watch.len();
        let id = self.setup.number * OWN_IDS + self.written;
        let padding = usize::try_from(self.written * 37 % 900)?;
        insert(&self.watch[store], "fact", id, &format!("written {id}"), padding)?;
        say(Said::Wrote { store, id })
    }

    fn look(&self) -> Outcome<Vec<(usize, Rows)>> {
        let watch = self.watch.iter().enumerate();
        let all = watch.chain(self.changers.iter().enumerate());
        // Others may be kept out by a transaction of ours.
        let held = self.watch.iter().any(|conn| !conn.is_autocommit());
        let ours = all.filter(|(_, conn)| !held || !conn.is_autocommit());
        ours.map(|(store, conn)| Ok((store, rows(conn)?))).collect()
    }
}

impl State {
    /// What connections see of it.
    pub(super) fn rows(self) -> Rows {
        let later = self.newer.then(|| (LATER, "later".to_owned()));
        (1..=self.rows)
            .map(|id| (id, shown(&self.word(id), self.padding_of(id))))
            .chain(later)
            .collect()
    }

    fn word(self, id: i64) -> String {
        format!("{} {id}", if self.newer { "new" } else { "old" })
    }

    fn padding_of(self, id: i64) -> usize {
        usize::try_from(id * 7919).unwrap_or_default() % (self.padding + 1)
    }
}

/// Makes a store with this content.
pub(super) fn create(
    path: &PathBuf,
    page_size: u32,
    journal: Journal,
    state: State,
) -> Outcome<()> {
    let conn = open(path)?;
    conn.pragma_update(None, "page_size", page_size)?;
    set_journal(&conn, journal)?;
    conn.execute_batch("CREATE TABLE fact(id INTEGER PRIMARY KEY, word TEXT, pad BLOB)")?;
    conn.execute_batch("CREATE INDEX by_word ON fact(word)")?;
    fill(&conn, state)
}

/// All of a store, in one transaction; every byte of the padding must fit its row.
pub(super) fn rows(conn: &Connection) -> Outcome<Rows> {
    let alone = conn.is_autocommit();
    if alone {
        conn.execute_batch("BEGIN")?;
    }
    let mut found = Rows::new();
    let mut select = conn.prepare_cached("SELECT id, word, pad FROM fact")?;
    let mut all = select.query([])?;
    while let Some(row) = all.next()? {
        let (id, word, pad): (i64, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if pad != padding(&word, pad.len()) {
            return Err(format!("the padding of row {id}, {word:?}, is another's").into());
        }
        found.insert(id, shown(&word, pad.len()));
    }
    drop(all);
    let later = "SELECT count(*) FROM sqlite_schema WHERE name = 'later'";
    let later: u32 = conn.prepare_cached(later)?.query_row([], |row| row.get(0))?;
    if later > 0 {
        found.insert(LATER, "later".to_owned());
    }
    if alone {
        conn.execute_batch("COMMIT")?;
    }
    Ok(found)
}

fn open(path: &PathBuf) -> Outcome<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(PATIENCE)?;
    // Nothing happens behind a case's back.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(conn)
}

fn set_journal(conn: &Connection, journal: Journal) -> Outcome<()> {
    let set: String =
        conn.query_row(&format!("PRAGMA journal_mode={}", journal.as_str()), [], |r| r.get(0))?;
    if set == journal.as_str() { Ok(()) } else { Err(format!("the journal mode is {set}").into()) }
}

fn fill(conn: &Connection, state: State) -> Outcome<()> {
    conn.execute_batch("BEGIN IMMEDIATE; DELETE FROM fact; DROP TABLE IF EXISTS later")?;
    for id in 1..=state.rows {
        insert(conn, "fact", id, &state.word(id), state.padding_of(id))?;
    }
    if state.newer {
        conn.execute_batch("CREATE TABLE later(id INTEGER PRIMARY KEY, word TEXT, pad BLOB)")?;
        insert(conn, "later", 1, "later", 2_000)?;
    }
    Ok(conn.execute_batch("COMMIT")?)
}

fn insert(conn: &Connection, table: &str, id: i64, word: &str, length: usize) -> Outcome<()> {
    let mut insert = conn.prepare_cached(&format!("INSERT INTO {table} VALUES (?1, ?2, ?3)"))?;
    insert.execute(params![id, word, padding(word, length)])?;
    Ok(())
}

fn check(conn: &Connection) -> Outcome<Health> {
    let before = rows(conn)?;
    bring_in(conn)?;
    let after = rows(conn)?;
    let mode: String = conn.pragma_query_value(None, "journal_mode", |r| r.get(0))?;
    Ok(Health {
        integrity: conn.query_row("PRAGMA integrity_check", [], |r| r.get(0))?,
        page_size: conn.pragma_query_value(None, "page_size", |r| r.get(0))?,
        wal: mode == "wal",
        rows: [before, after],
    })
}

/// Brings the log into the file, where there is one.
fn bring_in(conn: &Connection) -> Outcome<()> {
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))?;
    if busy == 0 { Ok(()) } else { Err("a checkpoint is kept out".into()) }
}

fn padding(word: &str, length: usize) -> Vec<u8> {
    word.bytes().cycle().take(length).collect()
}

fn shown(word: &str, padding: usize) -> String {
    format!("{word}, {padding}")
}
