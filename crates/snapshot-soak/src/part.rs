//! The parts of the soak, and the slice of one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use snapshot_testkit::Random;

use crate::Outcome;
use crate::tally::Tally;
use crate::{bits, crash, cuts, fault_calls, faults, kill, live, power, processes, work};

/// Which cases of a part, and with what.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Makes all cases others.
    pub seed: u64,
    /// The first case.
    pub from: u64,
    /// So many cases at most.
    pub count: u64,
    /// No case begins after so long.
    pub time: Duration,
    /// An empty folder to work in.
    pub dir: PathBuf,
    /// The command line `nexo-memory`.
    pub program: PathBuf,
}

/// A part's name, and what runs a slice of it.
pub type Part = (&'static str, fn(&Slice) -> Outcome<Tally>);

/// Every part.
pub const PARTS: &[Part] = &[
    ("bits-plain", bits::plain),
    ("bits-encrypted", bits::encrypted),
    ("crash-index", crash::index),
    ("crash-pairs", crash::pairs),
    ("crash-work", work::work),
    ("cuts-wal", cuts::wal),
    ("cuts-rollback", cuts::rollback),
    ("faults", faults::faults),
    ("fault-calls", fault_calls::run),
    ("kill", kill::single),
    ("kill-pairs", kill::pairs),
    ("live", live::run),
    ("power-model", power::model::run),
    ("power-cut", power::cut::run),
    ("processes", processes::run),
];

impl Slice {
    /// What chance there is in case `n`.
    #[must_use]
    pub fn random(&self, n: u64) -> Random {
        random(self.seed, n)
    }

    /// Runs cases from the first on, until there are enough or the time is over; `case` notes what is
    /// wrong with its number.
    ///
    /// # Errors
    /// If a case could not be run.
    pub fn run(
        &self,
        total: u64,
        mut case: impl FnMut(u64, &mut Tally) -> Outcome<()>,
    ) -> Outcome<Tally> {
        let (mut tally, began) = (Tally::of(total), Instant::now());
        for n in (self.from..total).take_while(|n| n - self.from < self.count) {
            if n > self.from && began.elapsed() >= self.time {
                break;
            }
            if let Err(e) = case(n, &mut tally) {
                tally.wrong(n, format!("it could not be run: {e}"));
            }
            tally.done += 1;
        }
        Ok(tally)
    }
}

/// What chance there is in case `n` of a seed.
pub(crate) fn random(seed: u64, n: u64) -> Random {
    // Numbers side by side must not give sequences alike.
    Random::new(Random::new(seed).next_u64() ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
