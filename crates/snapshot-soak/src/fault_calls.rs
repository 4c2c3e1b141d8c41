//! The real program with a system call that fails: once, or from then on. SQLite's and libgit2's own calls are
//! among them, which no hook of ours sees.

use crate::Outcome;
use crate::part::Slice;
use crate::scene::{Scene, ana};
use crate::stage::Stage;
use crate::strace::{Ended, Fault, Strace};
use crate::tally::Tally;

/// What a call fails with.
const ERRORS: [&str; 3] = ["ENOSPC", "EIO", "EDQUOT"];
/// What an opening fails with, too.
const OPENING: &str = "EMFILE";
/// What the dynamic loader exits with where it cannot open a library: the program did not begin.
const NOT_BEGUN: i32 = 127;

/// The part "fault-calls": each state-changing call of each deed fails, once, and with all later ones of its name; with
/// which error is the seed's choice.
///
/// # Errors
/// If a case could not be run.
pub fn run(slice: &Slice) -> Outcome<Tally> {
    if let Some(why) = Strace::unavailable() {
        return Ok(Tally::not_run(why));
    }
    let stage = Stage::set(slice)?;
    slice.run(2 * stage.points(), |n, tally| {
        let (_, (name, _)) = stage.point(n / 2)?;
        let errors = if name == "openat" { [ERRORS[0], ERRORS[1], OPENING] } else { ERRORS };
        let error = errors[slice.random(n).below(errors.len())];
        fail(&stage, n, error, tally)
    })
}

fn fail(stage: &Stage, n: u64, error: &'static str, tally: &mut Tally) -> Outcome<()> {
    let ((deed, call), scene) = (stage.point(n / 2)?, stage.begin()?);
    let once = n.is_multiple_of(2);
    let fault = if once { Fault::Once(error) } else { Fault::From(error) };
    let ended = stage.perform(&scene, deed, (fault, call))?;
    let what = format!("{deed}, {call:?}, {fault:?}");
    let told = ended.status.success();
    for why in badly_ended(&ended).into_iter().chain(falsely_done(&ended, &scene)) {
        tally.wrong(n, format!("{what}: {why}"));
    }
    tally.count(match (ended.was_hit(), ended.status.code()) {
        (false, _) => "not reached",
        (_, Some(0)) => "done all the same",
        (_, Some(NOT_BEGUN)) => "not begun",
        (_, _) => "an error",
    });
    if let Err(why) = stage.judge(&scene, deed, told)? {
        tally.wrong(n, format!("{what}, exit {:?}: {why}", ended.status.code()));
    }
    Ok(())
}

/// What is wrong about the end of a run: an error must be told in a line that names a place, where it can be told.
fn badly_ended(ended: &Ended) -> Option<String> {
    let Ended { status, stderr, .. } = ended;
    let why = match status.code() {
        Some(0 | NOT_BEGUN) => return None,
        None | Some(101) => "it died",
        Some(_) if stderr.contains("panicked") => "it panicked",
        Some(_) if ended.was_silenced() => return None,
        Some(_) => {
            let mut errors = stderr.lines().filter(|line| line.starts_with("error: "));
            match errors.next() {
                None => "no error is told",
                Some(first) if !first.contains('/') => "the error names no place",
                Some(_) => return None,
            }
        }
    };
    Some(format!("{why}: {status}: {stderr}"))
}

/// A sync of ours that failed in a run that says that it is done. SQLite may let one go: of its journal's folder, and of
/// what it copies from the log into a store when it closes it, for the log still has it.
fn falsely_done(ended: &Ended, scene: &Scene) -> Option<String> {
    let stores = scene.agent().sqlite_root().join(ana().as_str());
    let (folder, file) = (format!("<{}>", stores.display()), format!("<{}/", stores.display()));
    let sqlites =
        |call: &str| call.contains(&folder) || call.contains(&file) && call.contains(".sqlite");
    let failed = ended.hit.iter().find(|call| match call.split('(').next() {
        Some("fsync" | "fdatasync") => !sqlites(call),
        Some("syncfs") => true,
        _ => false,
    });
    failed
        .filter(|_| ended.status.success())
        .map(|call| format!("done, though this failed: {call}"))
}
