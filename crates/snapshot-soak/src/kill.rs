//! The real program, killed (SIGKILL) at each of its state-changing system calls, and in its recovery too.

use nexo_memory_snapshot::local_fs::RecoveryOutcome;
use snapshot_testkit::Random;

use crate::Outcome;
use crate::judge::word;
use crate::part::Slice;
use crate::stage::Stage;
use crate::strace::{Call, Fault, Strace};
use crate::tally::{NOT_REACHED, Tally};

/// Cases of the part "kill-pairs".
const PAIRS: u64 = 1_200;

/// The part "kill": a death at each state-changing call of each deed.
///
/// # Errors
/// If a case could not be run.
pub fn single(slice: &Slice) -> Outcome<Tally> {
    if let Some(why) = Strace::unavailable() {
        return Ok(Tally::not_run(why));
    }
    let stage = Stage::set(slice)?;
    Ok(slice.run(stage.points(), |n, tally| kill(&stage, n, tally))?.refuse_misses())
}

/// The part "kill-pairs": a death in a deed, and another in the recovery from it.
///
/// # Errors
/// If a case could not be run.
pub fn pairs(slice: &Slice) -> Outcome<Tally> {
    if let Some(why) = Strace::unavailable() {
        return Ok(Tally::not_run(why));
    }
    let stage = Stage::set(slice)?;
    let idle = stage.recovery_calls(&stage.begin()?)?;
    slice.run(PAIRS, |n, tally| kill_twice(&stage, &idle, &mut slice.random(n), n, tally))
}

fn kill(stage: &Stage, n: u64, tally: &mut Tally) -> Outcome<()> {
    let ((deed, call), scene) = (stage.point(n)?, stage.begin()?);
    let ended = stage.perform(&scene, deed, (Fault::Kill, call))?;
    if !ended.was_killed() && !ended.status.success() {
        tally.wrong(n, format!("{deed}, {call:?}: {ended}"));
    }
    tally.count(match ended.was_killed() {
        true => format!("killed at {}", call.0),
        false => NOT_REACHED.to_owned(),
    });
    match stage.judge(&scene, deed, ended.status.success())? {
        Ok(side) => tally.count(word(side, &RecoveryOutcome::Nothing)),
        Err(why) => tally.wrong(n, format!("{deed} killed at {call:?}: {why}")),
    }
    Ok(())
}

/// A deed that is killed so that there is something to recover, and its recovery. `idle` are the calls of a recovery
/// that finds nothing to do.
fn kill_twice(
    stage: &Stage,
    idle: &[Call],
    random: &mut Random,
    n: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    loop {
        let point = random.next_u64() % stage.points();
        let ((deed, call), scene) = (stage.point(point)?, stage.begin()?);
        if !stage.perform(&scene, deed, (Fault::Kill, call))?.was_killed() {
            continue;
        }
        stage.save(&scene)?;
        let calls = stage.recovery_calls(&scene)?;
        if calls == idle {
            continue;
        }
        let scene = stage.saved()?;
        let second = &calls[random.below(calls.len())];
        let ended = stage.recover(&scene, Some((Fault::Kill, second)))?;
        let at = format!("{deed} killed at {call:?}, its recovery at {second:?}");
        if !ended.was_killed() && !ended.status.success() {
            tally.wrong(n, format!("{at}: {ended}"));
        }
        tally.count(if ended.was_killed() { "killed twice" } else { "recovered before" });
        match stage.judge(&scene, deed, false)? {
            Ok(side) => tally.count(word(side, &RecoveryOutcome::Nothing)),
            Err(why) => tally.wrong(n, format!("{at}: {why}")),
        }
        return Ok(());
    }
}
