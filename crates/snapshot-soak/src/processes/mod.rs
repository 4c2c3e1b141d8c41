//! Races of the real program: up to sixteen processes at work on one vault with three agents of two tenants, some of
//! them killed or stopped on the way. Afterwards nothing is lost, torn, half done or left over.
//!
//! A round's plan is a function of seed and number; what the race makes of it is not, and every outcome is judged.

mod judge;
mod plan;
mod race;
mod world;

use std::fs;

use crate::Outcome;
use crate::part::Slice;
use crate::tally::Tally;
use judge::judge;
use plan::plan;
use race::race;
use world::World;

/// Rounds of the full run.
const TOTAL: u64 = 5_000;

/// The part `processes`: rounds of the program of the slice.
///
/// # Errors
/// If a round could not be run.
pub fn run(slice: &Slice) -> Outcome<Tally> {
    let template = World::create(&slice.dir.join("template"))?;
    slice.run(TOTAL, |n, tally| {
        let world = template.copy_to(&slice.dir.join(format!("round-{n}")))?;
        let acts = plan(slice.seed, n);
        let ended = race(&slice.program, &world, acts)?;
        let wrong = judge(&slice.program, &world, &ended, tally);
        for wrong in wrong.unwrap_or_else(|e| vec![e.to_string()]) {
            let acts: Vec<String> = ended.iter().map(ToString::to_string).collect();
            tally.wrong(n, format!("{wrong} ({})", acts.join("; ")));
        }
        Ok(fs::remove_dir_all(world.dir())?)
    })
}
