//! Bounds, and hosts whose publisher or clock misbehaves.

use std::sync::Arc;

use snapshot_core::Clock;
use snapshot_events::{
    Envelope, EventPublisher, LifecycleEvent, MutationEvent, MutationSource, MutationSourceStats,
};

use crate::support::{Host, options};

struct Panics;

impl EventPublisher for Panics {
    fn publish_lifecycle(&self, _: &Envelope<LifecycleEvent>) {}

    fn publish_mutation(&self, _: &Envelope<MutationEvent>) {
        panic!("a publisher of the host's");
    }
}

impl Clock for Panics {
    fn now_ms(&self) -> i64 {
        panic!("a clock of the host's");
    }
}

/// Would catch: memory that grows with a transaction, a bound that is off by one, a write that fails
/// because of it, or drops counted that never came to be.
#[test]
fn a_transaction_is_told_as_far_as_there_is_room() {
    let host = Host::with("CREATE TABLE t (id INTEGER PRIMARY KEY)", |options| {
        options.max_pending = 100;
    });
    let rows = |from, to| {
        format!(
            "WITH RECURSIVE n (i) AS (VALUES ({from}) UNION ALL SELECT i + 1 FROM n WHERE i < {to})
             INSERT INTO t SELECT i FROM n;"
        )
    };
    host.run(&rows(1, 100));
    assert_eq!((host.told().len(), host.source.stats().dropped), (100, 0));
    host.run(&rows(101, 201));
    assert_eq!((host.told().len(), host.source.stats().dropped), (100, 1));
    host.run(&format!("BEGIN; {} ROLLBACK;", rows(1001, 2000)));
    host.run(&format!(
        "BEGIN; SAVEPOINT s; {} ROLLBACK TO s; {} COMMIT;",
        rows(1001, 2000),
        rows(301, 400)
    ));
    assert_eq!((host.told().len(), host.source.stats().dropped), (100, 1));
    let count: i64 = host.conn.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(count, 301);
}

/// Would catch: keys whose length no bound sees.
#[test]
fn a_transaction_is_bounded_in_bytes_too() {
    let host = Host::with("CREATE TABLE t (k PRIMARY KEY) WITHOUT ROWID", |options| {
        options.max_pending_bytes = 20_000;
    });
    host.run("BEGIN");
    for n in 0..50 {
        host.conn.execute("INSERT INTO t VALUES (?1)", [format!("{n:01000}")]).unwrap();
    }
    host.run("COMMIT");
    let told = host.told().len();
    assert!((10..20).contains(&told), "{told}");
    assert_eq!(host.source.stats().dropped, 50 - told as u64);
}

/// Would catch: a panic that unwinds into C, a commit that fails because of it, or a loss uncounted.
#[test]
fn a_publisher_or_a_clock_that_panics_costs_events_only() {
    for clock in [false, true] {
        let host = Host::with("CREATE TABLE t (id INTEGER PRIMARY KEY)", |options| {
            if clock {
                options.clock = Arc::new(Panics);
            } else {
                options.publisher = Arc::new(Panics);
            }
        });
        host.run("BEGIN; INSERT INTO t VALUES (1), (2); COMMIT; INSERT INTO t VALUES (3);");
        assert_eq!(host.source.stats(), MutationSourceStats { published: 0, dropped: 3 });
        host.source.detach(&host.conn).unwrap();
        let source = MutationSource::attach(&host.conn, options(&host.recording)).unwrap();
        host.run("INSERT INTO t VALUES (4)");
        assert_eq!(
            (host.told().as_slice(), source.stats().published),
            (&["+t:4".to_owned()][..], 1)
        );
    }
}
