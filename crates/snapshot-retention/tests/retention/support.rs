//! Snapshots to decide about.

use snapshot_core::{CreatedBy, SnapshotId};
use snapshot_retention::{Candidate, Health, Plan, Policy};

/// 2027-01-15 08:00 UTC, a Friday.
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// A good snapshot, number `n`, so old.
pub(crate) fn aged(n: u8, age_ms: i64) -> Candidate {
    Candidate {
        id: id(n),
        created_at_ms: NOW_MS - age_ms,
        size_bytes: 100,
        label: None,
        created_by: CreatedBy::from_static("scheduled"),
        redacted: false,
        health: Health::Good { checked_at_ms: NOW_MS },
        pin: None,
        needed: None,
    }
}

/// One a day, the newest from today, numbered from it.
pub(crate) fn daily(count: u8) -> Vec<Candidate> {
    (0..count).map(|n| aged(n, i64::from(n) * DAY_MS)).collect()
}

pub(crate) fn id(n: u8) -> SnapshotId {
    SnapshotId::from_random_bytes([n; 16])
}

/// No limits and no rules.
pub(crate) fn nothing() -> Policy {
    let (keep_count, max_age_days) = (None, None);
    Policy { keep_count, max_age_days, origins: [].into(), ..Policy::default() }
}

pub(crate) fn keeping(count: u32) -> Policy {
    Policy { keep_count: Some(count), ..nothing() }
}

/// Those that stay, newest first.
pub(crate) fn kept(plan: &Plan) -> Vec<SnapshotId> {
    plan.entries.iter().filter(|e| e.keep).map(|e| e.id).collect()
}

pub(crate) fn ids(numbers: impl IntoIterator<Item = u8>) -> Vec<SnapshotId> {
    numbers.into_iter().map(id).collect()
}
