//! What a mutation source costs the writer of a WAL database: the same inserts without and with it,
//! as one transaction of many rows and as one of each row. No fsync, which would hide it.
#![expect(clippy::expect_used, reason = "a bench has nobody to give an error to")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::Connection;
use snapshot_core::{AgentId, Tenant};
use snapshot_events::{
    Message, MutationScope, MutationSource, MutationSourceOptions, QueueOptions, QueuedPublisher,
    Transport, TransportError,
};

const ROWS: u32 = 1000;
const TEXT: &str = "water is wet, and what an agent remembers of it is about as long as this is";

struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        black_box(message);
        Ok(())
    }
}

fn insert(conn: &Connection) {
    let sql = "INSERT INTO facts (text, weight, seen_ms) VALUES (?1, 0.5, 1700000000000)";
    let insert = conn.prepare_cached(sql).and_then(|mut insert| insert.execute([TEXT]));
    black_box(insert.expect("insert"));
}

fn batch(conn: &Connection, sql: &str) {
    conn.execute_batch(sql).expect(sql);
}

fn writes(c: &mut Criterion, name: &str, conn: &Connection) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.bench_function("a transaction each", |b| b.iter(|| insert(conn)));
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    group.bench_function("1000 in a transaction", |b| {
        b.iter(|| {
            batch(conn, "BEGIN");
            (0..ROWS).for_each(|_| insert(conn));
            batch(conn, "COMMIT");
        });
    });
    group.finish();
}

fn source(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let conn = Connection::open(dir.path().join("memory.sqlite")).expect("a database");
    let schema = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         CREATE TABLE facts (id INTEGER PRIMARY KEY, text TEXT, weight REAL, seen_ms INTEGER);";
    batch(&conn, schema);
    writes(c, "insert, no source", &conn);
    let queue = QueuedPublisher::new(Arc::new(Nowhere), QueueOptions::default()).expect("a thread");
    let options = MutationSourceOptions::new(
        AgentId::from_static("ana"),
        Tenant::default(),
        MutationScope::SqliteLongTerm,
        Arc::new(queue),
    );
    batch(&conn, "DELETE FROM facts");
    let source = MutationSource::attach(&conn, options).expect("attach");
    writes(c, "insert, with a source", &conn);
    assert_eq!(source.stats().dropped, 0);
}

criterion_group!(benches, source);
criterion_main!(benches);
