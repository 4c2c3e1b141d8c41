//! The power goes: in a model of what a disk may hold then, and in truth, on a file system of our own.

pub mod cut;
mod disk;
mod image;
mod log;
pub mod model;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use nexo_memory_snapshot::error::error_chain;
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::RecoveryOutcome;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use snapshot_fs::TEMP_PREFIX;

use crate::Outcome;
use crate::scene::{Scene, Side, Sides, ana};

/// A process that no machine has: more than the kernel's highest number.
const NOBODY: u32 = 999_999_999;

/// What the next command makes of a scene after a power cut: a word for what happened, or what is wrong.
fn judge(scene: &Scene, sides: &Sides, told: bool) -> Result<String, String> {
    if told {
        promised(scene, sides).map_err(|e| format!("before any recovery: {e}"))?;
    }
    let recovered = scene.recover().map_err(|e| format!("not recovered: {e}"))?;
    if let RecoveryOutcome::Pending { why, .. } = &recovered {
        return Err(format!("asks what to do although nobody worked since: {why}"));
    }
    let now = scene.look().map_err(|e| format!("after the recovery: {e}"))?;
    let side = sides.judge(&now, told).map_err(|wrong| wrong.join("; "))?;
    Ok(match (recovered, side) {
        (RecoveryOutcome::RolledForward { .. }, _) => "rolled forward".to_owned(),
        (_, Side::Before) => "as before".to_owned(),
        (_, Side::After) => "as after".to_owned(),
    })
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

/// A name as it is after the power came back: whoever made a temporary file is gone, though here it is us.
fn buried(name: &OsStr) -> OsString {
    let ours = format!("{TEMP_PREFIX}{}-", std::process::id());
    match name.to_str().and_then(|name| name.strip_prefix(&ours)) {
        Some(rest) => format!("{TEMP_PREFIX}{NOBODY}-{rest}").into(),
        None => name.to_owned(),
    }
}

/// Buries every temporary file below `dir`.
fn bury(dir: &Path) -> Outcome<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bury(&entry.path())?;
        }
        let name = buried(&entry.file_name());
        if name != entry.file_name() {
            fs::rename(entry.path(), dir.join(name))?;
        }
    }
    Ok(())
}
