//! Restores over an agent whose databases are open: every connection sees the new state, no acknowledged write is
//! lost, and who will not yield is waited for in vain and nothing has changed.
//!
//! A case is a place in the product of what the connections do, page sizes, journal modes with their states, and
//! processes. The peers that hold the connections speak in lines, and only these order events.

mod case;
mod line;
mod peer;
mod play;

use std::path::Path;

pub use case::{Activity, Case, Place};
pub use peer::peer;

use crate::Outcome;
use crate::part::Slice;
use crate::tally::Tally;

/// Cases of the full run.
const TOTAL: u64 = 1_000;

/// The part `live`, by the program that runs.
///
/// # Errors
/// If this program is not found.
pub fn run(slice: &Slice) -> Outcome<Tally> {
    let this = std::env::current_exe()?;
    slice.run(TOTAL, |n, tally| {
        play(slice, &this, n, tally);
        Ok(())
    })
}

/// The cases `numbers` alone; `program` is this crate's own, for peers in other processes.
#[must_use]
pub fn run_these(slice: &Slice, program: &Path, numbers: &[u64]) -> Tally {
    let mut tally = Tally::of(TOTAL);
    for &n in numbers {
        play(slice, program, n, &mut tally);
        tally.done += 1;
    }
    tally
}

fn play(slice: &Slice, program: &Path, n: u64, tally: &mut Tally) {
    let case = Case::nth(n);
    tally.count(format!("{:?}", case.activity).to_lowercase());
    // What the engine or a peer cannot do is what is to be found out.
    let wrong = play::play(slice, program, n, case, tally);
    for wrong in wrong.unwrap_or_else(|e| vec![e.to_string()]) {
        tally.wrong(n, format!("{case:?}: {wrong}"));
    }
}
