//! The parts of the soak, and the slice of one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::tally::Tally;
use crate::{Outcome, crash, faults, work};

/// Which cases of a part, and with what.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Makes all cases others.
    pub seed: u64,
    /// The first case.
    pub from: u64,
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
    ("crash index", crash::index),
    ("crash pairs", crash::pairs),
    ("crash work", work::work),
    ("faults", faults::faults),
];

impl Slice {
    /// Runs cases from the first on, until there are `total` or the time is over: `case` says what is wrong with
    /// its number.
    ///
    /// # Errors
    /// If a case could not be run.
    pub fn run(
        &self,
        total: u64,
        mut case: impl FnMut(u64, &mut Tally) -> Outcome<()>,
    ) -> Outcome<Tally> {
        let (mut tally, began) = (Tally::of(total), Instant::now());
        for n in self.from..total {
            if n > self.from && began.elapsed() >= self.time {
                break;
            }
            case(n, &mut tally).map_err(|e| format!("case {n}: {e}"))?;
            tally.done += 1;
        }
        Ok(tally)
    }
}
