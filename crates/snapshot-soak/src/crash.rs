//! Death at every change of every deed, and in the recovery from it, and what the next command makes of it.

use std::sync::Arc;

use nexo_memory_snapshot::local_fs::RecoveryOutcome;
use nexo_memory_snapshot::ports::DurableFs;
use snapshot_testkit::{FaultHook, Recorder};

use crate::Outcome;
use crate::ground::{Ground, Known};
use crate::judge::{Side, word};
use crate::part::{Slice, random};
use crate::scene::Scene;
use crate::tally::Tally;

/// Cases of the part "crash pairs".
const PAIRS: u64 = 1200;
/// Of so many recoveries that die, one is followed by another that is to die.
const ONE_IN: usize = 4;

/// The part "crash index": a death at each change.
///
/// # Errors
/// If a case could not be run.
pub fn index(slice: &Slice) -> Outcome<Tally> {
    let ground = Ground::lay(&slice.dir)?;
    slice.run(ground.points(), |case, tally| index_case(&ground, case, tally))
}

/// The part "crash pairs": a death at a change, and another in the recovery.
///
/// # Errors
/// If a case could not be run.
pub fn pairs(slice: &Slice) -> Outcome<Tally> {
    let ground = Ground::lay(&slice.dir)?;
    slice.run(PAIRS, |case, tally| pair_case(&ground, slice.seed, case, tally))
}

/// Dies at the `case`th change of all.
///
/// # Errors
/// If it could not be run.
pub fn index_case(ground: &Ground, case: u64, tally: &mut Tally) -> Outcome<()> {
    let ((known, n), scene) = (ground.point(case), ground.copy()?);
    let told = known.die_at(&scene, n)?;
    match known.sides.recovered(&scene, told) {
        Ok((side, outcome)) => tally.count(word(side, &outcome)),
        Err(wrong) => tally.wrong(case, format!("{} dies at {n}: {wrong:?}", known.deed)),
    }
    Ok(())
}

/// Dies at some change whose recovery changes something, and in that recovery.
///
/// # Errors
/// If it could not be run.
pub fn pair_case(ground: &Ground, seed: u64, case: u64, tally: &mut Tally) -> Outcome<()> {
    let mut random = random(seed, case);
    loop {
        let (known, n) = ground.point(random.next_u64());
        let changes = recovery_changes(known, &ground.copy()?, n)?;
        if changes == 0 {
            continue;
        }
        let scene = ground.copy()?;
        let told = known.die_at(&scene, n)?;
        let mut deaths = vec![random.below(changes)];
        if random.below(ONE_IN) == 0 {
            deaths.push(random.below(changes));
        }
        match recovered_after(known, &scene, told, &deaths) {
            Ok((side, outcome, died)) => {
                tally.count(word(side, &outcome));
                tally.count(["one death", "two deaths", "three deaths"][died]);
            }
            Err(wrong) => {
                let at = format!("{} dies at {n}, its recovery at {deaths:?}", known.deed);
                tally.wrong(case, format!("{at}: {wrong:?}"));
            }
        }
        return Ok(());
    }
}

/// How much a recovery from death at `n` changes. Of a scene of its own: a journal names its places whole, and a
/// recovery in a copy would go over what was copied.
fn recovery_changes(known: &Known, scene: &Scene, n: u64) -> Outcome<usize> {
    let recorder = Arc::new(Recorder::default());
    known.die_at(scene, n)?;
    scene.recover_with(DurableFs::with_hook(recorder.clone()))?;
    Ok(recorder.changes().len())
}

/// Recoveries that die at these changes, and one that does not; how many died. The second one has less to do, and
/// also the first where staging threads shared their work otherwise than when it was counted: one that does not come
/// to its death must succeed.
fn recovered_after(
    known: &Known,
    scene: &Scene,
    told: bool,
    deaths: &[usize],
) -> Result<(Side, RecoveryOutcome, usize), Vec<String>> {
    let mut died = 0;
    for death in deaths {
        let hook = Arc::new(FaultHook::dying_at(*death as u64));
        let recovered = scene.recover_with(DurableFs::with_hook(hook.clone()));
        match recovered {
            Ok(pending @ RecoveryOutcome::Pending { .. }) => {
                return Err(vec![format!("nobody has worked since, and {pending:?}")]);
            }
            Err(e) if !hook.fired() => return Err(vec![format!("nothing failed, and {e}")]),
            Ok(_) | Err(_) => {}
        }
        died += usize::from(hook.fired());
        scene.bury().map_err(|e| vec![e.to_string()])?;
    }
    let (side, outcome) = known.sides.recovered(scene, told)?;
    Ok((side, outcome, died))
}
