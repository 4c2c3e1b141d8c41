//! The cut under writers: every capture is a state that existed, and held nobody for long.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::time::Duration;

use snapshot_core::{AgentId, Control, SystemClock};
use snapshot_fs::DurableFs;
use snapshot_stores::{CaptureOptions, Captured, StoresError, cut};
use snapshot_testkit::oracle::{self, Values};
use snapshot_testkit::{Agent, Journal, MemoryBundle, Seed, Torture};

/// Cuts in each journal mode and each kind of writers.
const CUTS: usize = 50;

/// One capture, into memory.
fn capture(agent: &Agent) -> (MemoryBundle, Captured) {
    let fs = DurableFs::default();
    let spool = fs.ensure_dir(&agent.root().join("spool"), 0o700).unwrap();
    let control = Control::default();
    let options = CaptureOptions {
        agent: agent.id(),
        fs: &fs,
        spool: &spool,
        clock: &SystemClock,
        state: None,
        timeout: Duration::from_secs(60),
        control: &control,
        max_git_object_bytes: 1 << 20,
        check_integrity: true,
    };
    loop {
        let mut bundle = MemoryBundle::new();
        match cut(&agent.layout(), &options).unwrap().write_to(&mut bundle) {
            // As documented: the repository changed under the capture, cut again.
            Err(e) if StoresError::is_git_vanished(&e) => {}
            captured => return (bundle, captured.unwrap()),
        }
    }
}

/// Why this capture never existed; none if it may have.
fn torn(bundle: &MemoryBundle, captured: &Captured) -> Option<String> {
    let opened = tempfile::tempdir().unwrap();
    bundle.extract("sqlite", opened.path()).unwrap();
    let git = captured.git.as_ref().unwrap();
    let state = bundle.content("state/extract_cursor.json").unwrap();
    let subject = git.head_subject.as_deref().unwrap_or_default();
    let values = Values::read(&opened.path().join("sqlite"), subject, state).unwrap();
    let main = git.refs.iter().find(|r| r.name == "refs/heads/main").unwrap();
    if main.oid != git.head_oid {
        return Some(format!("HEAD {:?} is not its branch {:?}", git.head_oid, main.oid));
    }
    values.torn()
}

fn agent(journal: Journal) -> (tempfile::TempDir, Agent) {
    let tmp = tempfile::tempdir().unwrap();
    let seed = Seed::tiny(1).with_journal(journal);
    let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &seed).unwrap();
    (tmp, agent)
}

fn no_cut_is_torn(agent: &Agent, writers: &Torture) {
    let mut counters = Vec::new();
    for n in 0..CUTS {
        let (bundle, captured) = capture(agent);
        assert_eq!(torn(&bundle, &captured), None, "cut {n}");
        let state = bundle.content("state/extract_cursor.json").unwrap();
        counters.push(oracle::counter_of_state(state));
        writers.wait_for_steps(1).unwrap();
    }
    // The writers were at work between the cuts: a test under resting writers proves nothing.
    assert!(counters.windows(2).filter(|pair| pair[0] < pair[1]).count() > CUTS / 2);
}

/// The body of the writing processes below.
#[test]
fn writer() {
    Torture::child().unwrap();
}

/// Would catch: databases, refs and state read at different moments.
#[test]
fn no_cut_is_torn_under_threads() {
    for journal in [Journal::Wal, Journal::Delete] {
        let (_tmp, agent) = agent(journal);
        let writers = Torture::start(&agent, 4).unwrap();
        no_cut_is_torn(&agent, &writers);
        writers.stop().unwrap();
    }
}

/// Would catch: a gate that only holds writers of its own process.
#[test]
fn no_cut_is_torn_under_processes() {
    for journal in [Journal::Wal, Journal::Delete] {
        let (_tmp, agent) = agent(journal);
        let command = Torture::this_test("writer").unwrap();
        let writers = Torture::processes(&agent, 4, command).unwrap();
        no_cut_is_torn(&agent, &writers);
        writers.stop().unwrap();
    }
}

/// Would catch: a capture that pins, and so loses, what was acknowledged before it began.
#[test]
fn what_was_acknowledged_before_a_cut_is_in_it() {
    let (_tmp, agent) = agent(Journal::Wal);
    let writers = Torture::start(&agent, 2).unwrap();
    for _ in 0..10 {
        let acknowledged = writers.acknowledged("vector");
        let (bundle, _) = capture(&agent);
        let opened = tempfile::tempdir().unwrap();
        bundle.extract("sqlite", opened.path()).unwrap();
        let store = opened.path().join("sqlite/vector.sqlite");
        assert!(oracle::noise_of_store(&store).unwrap() >= acknowledged);
        writers.wait_for_steps(1).unwrap();
    }
    writers.stop().unwrap();
}
