//! What must be true after a deed was interrupted and the next command recovered: everything is as before the deed or
//! as after it.

use std::error::Error;

use nexo_memory_snapshot::error::error_chain;
use nexo_memory_snapshot::local_fs::RecoveryOutcome;

use crate::scene::{Scene, Seen};

/// Before a deed and after it, as they are where nothing goes wrong.
#[derive(Debug, Clone)]
pub struct Sides {
    /// Before.
    pub before: Seen,
    /// After.
    pub after: Seen,
}

/// Which of the two a memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// As before the deed.
    Before,
    /// As after it.
    After,
}

impl Sides {
    /// What is wrong with what was found after a deed that was interrupted, and after the recovery: the memory is
    /// one of the two sides and so is each snapshot; what was said to be done (`told`) is there; what was put over
    /// is in a snapshot. Which side the memory is comes back where nothing is.
    ///
    /// # Errors
    /// What is wrong, a sentence each.
    pub fn judge(&self, now: &Seen, told: bool) -> Result<Side, Vec<String>> {
        let mut wrong = Vec::new();
        let after = self.after.memory.differences_after_restore(&now.memory);
        let before = self.before.memory.differences_after_restore(&now.memory);
        // Where the two are the same memory, only the snapshots tell the sides apart.
        let side = match (before.is_empty(), after.is_empty()) {
            (_, true) if told => Side::After,
            (true, _) => Side::Before,
            (false, true) => Side::After,
            (false, false) => {
                wrong.push(format!("the memory is neither old ({before:?}) nor new ({after:?})"));
                Side::Before
            }
        };
        for (id, kept) in &now.snapshots {
            if ![&self.before, &self.after].iter().any(|s| s.snapshots.get(id) == Some(kept)) {
                wrong
                    .push(format!("snapshot {id} {kept:?} is of neither side, or not its content"));
            }
        }
        for id in self.before.snapshots.keys() {
            if self.after.snapshots.contains_key(id) && !now.snapshots.contains_key(id) {
                wrong.push(format!("snapshot {id} is lost"));
            }
        }
        if told && now.snapshots != self.after.snapshots {
            let (now, after) = (&now.snapshots, &self.after.snapshots);
            wrong.push(format!("said to be done, and is not: {now:?} instead of {after:?}"));
        }
        if told && !after.is_empty() {
            wrong.push(format!("said to be done, and the memory is not: {after:?}"));
        }
        // A memory that was put over another is kept first.
        if side == Side::After && !before.is_empty() {
            let is_old = |memory| self.before.memory.differences_after_restore(memory).is_empty();
            if !now.snapshots.values().any(|kept| is_old(&kept.memory)) {
                wrong.push("the memory is new, and what it was is in no snapshot".to_owned());
            }
        }
        if wrong.is_empty() { Ok(side) } else { Err(wrong) }
    }

    /// Recovers `scene` and says which side it is on, and how the recovery went: all is well, nobody has to decide,
    /// and a second recovery finds nothing. Or what is wrong, a line each.
    ///
    /// # Errors
    /// What is wrong.
    pub fn recovered(
        &self,
        scene: &Scene,
        told: bool,
    ) -> Result<(Side, RecoveryOutcome), Vec<String>> {
        let one =
            |what, e: Box<dyn Error + Send + Sync>| vec![format!("{what}: {}", error_chain(&*e))];
        let outcome = scene.recover().map_err(|e| one("the recovery", e))?;
        let now = scene.look().map_err(|e| one("after the recovery", e))?;
        let side = self.judge(&now, told)?;
        let new = self.after.memory.differences_after_restore(&now.memory).is_empty();
        match &outcome {
            RecoveryOutcome::Nothing => {}
            RecoveryOutcome::RolledForward { .. } if new => {}
            RecoveryOutcome::RolledForward { .. } => {
                return Err(vec!["rolled forward, and not new".to_owned()]);
            }
            other => return Err(vec![format!("nobody has worked since, and {other:?}")]),
        }
        match scene.recover().map_err(|e| one("a second recovery", e))? {
            RecoveryOutcome::Nothing => Ok((side, outcome)),
            again => Err(vec![format!("a second recovery finds {again:?}")]),
        }
    }
}

/// A word for how it went, to be counted.
#[must_use]
pub const fn word(side: Side, outcome: &RecoveryOutcome) -> &'static str {
    match (side, outcome) {
        (_, RecoveryOutcome::RolledForward { .. }) => "rolled forward",
        (Side::Before, _) => "old",
        (Side::After, _) => "new",
    }
}
