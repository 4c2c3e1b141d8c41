//! The cut of a small agent: what its writers wait for, and all that the call does.

#![expect(clippy::unwrap_used, reason = "a bench that fails measures nothing")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use snapshot_core::{AgentId, Control, SystemClock};
use snapshot_fs::DurableFs;
use snapshot_stores::{CaptureOptions, cut};
use snapshot_testkit::{Agent, Journal, MemoryBundle, Seed};

fn cuts(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for journal in [Journal::Wal, Journal::Delete] {
        let tmp = tempfile::tempdir().unwrap();
        let seed = Seed::tiny(1).with_journal(journal);
        let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &seed).unwrap();
        // The agent is connected, as it is when it runs: the last one to leave folds up the log.
        let _agent_runs = ["long_term", "vector", "concepts", "compactions"]
            .map(|store| agent.connect(store).unwrap());
        let fs = DurableFs::default();
        let spool = fs.ensure_dir(&tmp.path().join("spool"), 0o700).unwrap();
        let control = Control::default();
        let layout = agent.layout();
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
        let mode = journal.as_str();
        group.bench_function(format!("discover, hold, pin ({mode})"), |b| {
            b.iter(|| cut(&layout, &options).unwrap());
        });
        group.bench_function(format!("hold alone ({mode})"), |b| {
            b.iter_custom(|count| {
                // Nothing is copied: in rollback-journal mode writers would wait for that too.
                (0..count).map(|_| cut(&layout, &options).unwrap().held()).sum()
            });
        });
        group.bench_function(format!("and capture into memory ({mode})"), |b| {
            b.iter(|| {
                let mut bundle = MemoryBundle::new();
                cut(&layout, &options).unwrap().write_to(&mut bundle).unwrap();
                bundle
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cuts);
criterion_main!(benches);
