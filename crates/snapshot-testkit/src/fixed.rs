//! A clock that stands still until told, and ids in sequence.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use snapshot_core::{Clock, IdSource, SnapshotId};

/// A clock that stands still until told.
#[derive(Debug)]
pub struct FixedClock(AtomicI64);

/// Ids in sequence: the same ones in every run.
#[derive(Debug, Default)]
pub struct SeqIds(AtomicU64);

impl FixedClock {
    /// Milliseconds since the epoch, UTC.
    #[must_use]
    pub const fn at(now_ms: i64) -> Self {
        Self(AtomicI64::new(now_ms))
    }

    /// Moves on (or back) by `ms`.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl SeqIds {
    /// The same sequence from its `n`th on.
    #[must_use]
    pub const fn starting_at(n: u64) -> Self {
        Self(AtomicU64::new(n))
    }

    /// The id that is given `n`th, from 0.
    #[must_use]
    pub fn nth(n: u64) -> SnapshotId {
        let mut bytes = [0; 16];
        // In front, so that the short form shown to people differs too.
        bytes[..8].copy_from_slice(&(n + 1).rotate_right(32).to_be_bytes());
        SnapshotId::from_random_bytes(bytes)
    }
}

impl IdSource for SeqIds {
    fn next_id(&self) -> SnapshotId {
        Self::nth(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: two snapshots with one id, or with the same first characters.
    #[test]
    fn ids_differ_in_their_short_form() {
        let ids = SeqIds::default();
        let (a, b) = (ids.next_id(), ids.next_id());
        assert_eq!((a, b), (SeqIds::nth(0), SeqIds::nth(1)));
        assert_ne!(a.short(), b.short());
    }

    #[test]
    fn the_clock_moves_only_when_told() {
        let clock = FixedClock::at(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        clock.advance(-1);
        assert_eq!(clock.now_ms(), 999);
    }
}
