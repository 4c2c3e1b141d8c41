//! Planning for a thousand agents of thirty snapshots each.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use snapshot_core::{CreatedBy, SnapshotId};
use snapshot_retention::{Calendar, Candidate, Health, Policy, plan};

const NOW_MS: i64 = 1_800_000_000_000;

fn plans(c: &mut Criterion) {
    let candidates: Vec<Candidate> = (0..30_u8)
        .map(|n| Candidate {
            id: SnapshotId::from_random_bytes([n; 16]),
            created_at_ms: NOW_MS - i64::from(n) * 7_200_000,
            size_bytes: 1 << 20,
            label: None,
            created_by: CreatedBy::from_static("scheduled"),
            redacted: false,
            health: Health::Good { checked_at_ms: NOW_MS },
            pin: None,
            needed: None,
        })
        .collect();
    let calendar = Calendar { hourly: 24, daily: 7, weekly: 4, monthly: 12, yearly: 2 };
    let policy = Policy { keep_count: Some(10), calendar, ..Policy::default() };
    c.bench_function("plan 1,000 agents x 30 snapshots", |b| {
        b.iter(|| {
            for _ in 0..1000 {
                black_box(plan(black_box(&candidates), &policy, None, NOW_MS));
            }
        });
    });
}

criterion_group!(benches, plans);
criterion_main!(benches);
