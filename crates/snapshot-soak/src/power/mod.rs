//! The power goes: in a model of what a disk may hold then, and in truth, on a file system of our own.

pub mod cut;
mod disk;
mod image;
mod log;
pub mod model;

use nexo_memory_snapshot::error::error_chain;
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::ports::{Control, DurableFs};

use crate::Outcome;
use crate::judge::{Sides, word};
use crate::scene::{Scene, ana};

/// What the next command makes of a scene after a power cut: a word for what happened, or what is wrong.
fn judge(scene: &Scene, sides: &Sides, told: bool) -> Result<&'static str, String> {
    if told {
        promised(scene, sides).map_err(|e| format!("before any recovery: {e}"))?;
    }
    let (side, outcome) = sides.recovered(scene, told).map_err(|wrong| wrong.join("; "))?;
    Ok(word(side, &outcome))
}

/// That the snapshots are those which there are after the deed, and whole, before anybody mends anything.
fn promised(scene: &Scene, sides: &Sides) -> Outcome<()> {
    let engine = scene.engine(DurableFs::default())?;
    let listed = engine.list(&Tenant::default(), Some(&ana()))?.snapshots;
    for meta in &listed {
        let report = engine.verify(meta, &Control::default());
        if !report.map_err(|e| format!("{}: {}", meta.id, error_chain(&e)))?.is_good() {
            return Err(format!("{} is not good", meta.id).into());
        }
    }
    let mut ids: Vec<_> = listed.iter().map(|meta| meta.id).collect();
    ids.sort();
    match ids.iter().eq(sides.after.snapshots.keys()) {
        true => Ok(()),
        false => Err(format!("what was said to be done is not: there are {ids:?}").into()),
    }
}
