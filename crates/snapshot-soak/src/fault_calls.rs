//! The real program with a system call that fails: once, or from then on. SQLite's and libgit2's own calls are
//! among them, which no hook of ours sees.

use std::path::Path;

use serde_json::Value;

use crate::Outcome;
use crate::deed::Deed;
use crate::part::Slice;
use crate::scene::Scene;
use crate::stage::Stage;
use crate::strace::{Ended, Fault, Strace};
use crate::tally::{NOT_REACHED, Tally};

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
    let tally = slice.run(2 * stage.points(), |n, tally| {
        let (_, (name, _)) = stage.point(n / 2)?;
        let errors = if name == "openat" { [ERRORS[0], ERRORS[1], OPENING] } else { ERRORS };
        let error = errors[slice.random(n).below(errors.len())];
        fail(&stage, n, error, tally)
    })?;
    Ok(tally.refuse_misses())
}

fn fail(stage: &Stage, n: u64, error: &'static str, tally: &mut Tally) -> Outcome<()> {
    let ((deed, call), scene) = (stage.point(n / 2)?, stage.begin()?);
    let once = n.is_multiple_of(2);
    let fault = if once { Fault::Once(error) } else { Fault::From(error) };
    let ended = stage.perform(&scene, deed, (fault, call))?;
    let what = format!("{deed}, {call:?}, {fault:?}");
    let told = ended.status.success();
    for why in badly_ended(&ended, deed).into_iter().chain(falsely_done(&ended, &scene)) {
        tally.wrong(n, format!("{what}: {why}"));
    }
    tally.count(match (ended.was_hit(), ended.status.code()) {
        (false, _) => NOT_REACHED,
        (_, Some(0)) => "done all the same",
        (_, Some(NOT_BEGUN)) => "not begun",
        (_, _) => "an error",
    });
    if let Err(why) = stage.judge(&scene, deed, told)? {
        tally.wrong(n, format!("{what}, exit {:?}: {why}", ended.status.code()));
    }
    Ok(())
}

/// What is wrong about the end of a run: an error must be told where it can be told.
fn badly_ended(ended: &Ended, deed: Deed) -> Option<String> {
    let why = match ended.status.code() {
        Some(0 | NOT_BEGUN) => return None,
        None | Some(101) => "it died".to_owned(),
        Some(_) if ended.stderr.contains("panicked") => "it panicked".to_owned(),
        Some(_) if ended.was_silenced() => return None,
        Some(_) => untold(ended, deed)?,
    };
    Some(format!("{why}: {ended} at {:?}", ended.hit))
}

/// What the error does not tell: that the system refused something, and where.
fn untold(ended: &Ended, deed: Deed) -> Option<String> {
    let document: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    // A prune tells of each agent.
    let mut errors = [&document, &document["agents"][0]].map(|it| &it["error"]).into_iter();
    let Some(error) = errors.find(|error| error.is_object()) else {
        return Some("no error is told".to_owned());
    };
    let is_typed = match error["kind"].as_str() {
        Some("io") => true,
        Some("recovery_pending") => deed == Deed::Restore,
        _ => false,
    };
    let said = error["message"].as_str().unwrap_or_default();
    let is_placed = ended.hit.iter().flat_map(|call| places(call)).any(|at| said.contains(&at));
    (!is_typed || !is_placed).then(|| format!("typed: {is_typed}, placed: {is_placed}"))
}

/// Where a call failed, from how strace tells it: by its names, each in the folder before it, or by its descriptors.
fn places(call: &str) -> Vec<String> {
    let (name, args) = call.split_once('(').unwrap_or_default();
    let (mut folder, mut named, mut open) = ("", Vec::new(), Vec::new());
    // Behind the descriptor of a write comes what is written.
    let count = if name.contains("write") { 1 } else { usize::MAX };
    for arg in args.split(", ").take(count) {
        if let Some(path) = descriptor(arg) {
            folder = path;
            open.push(whose(path));
        } else if let Some(name) = arg.strip_prefix('"').and_then(|name| name.split('"').next()) {
            named.push(whose(&Path::new(folder).join(name).display().to_string()));
        }
    }
    if named.is_empty() { open } else { named }
}

/// As an error calls it: SQLite tells of a database, libgit2 of a repository, whichever of its files it was. What is not
/// ASCII strace writes in its own way.
fn whose(path: &str) -> String {
    let path = path.split('\\').next().unwrap_or_default();
    let path =
        ["-wal", "-shm", "-journal"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
    path.split_once("/.git/").map_or(path, |(repository, _)| repository).to_owned()
}

/// A sync that failed in a run that says that it is done. SQLite lets go that of the stores' folder, and two when it
/// closes a store: of the log, which was synced at the commit, and of what it copies from there, for the log stays then.
fn falsely_done(ended: &Ended, scene: &Scene) -> Option<String> {
    let stores = scene.agent().sqlite_dir();
    let is_sqlites = |path: &Path| {
        let log = format!("{}-wal", path.display());
        let is_store =
            path.starts_with(&stores) && path.extension().is_some_and(|it| it == "sqlite");
        path == stores || (is_store && Path::new(&log).exists())
    };
    let failed = ended.hit.iter().find(|call| match call.split('(').next() {
        Some("fsync" | "fdatasync") => {
            let of_sqlite = descriptor(call).map(Path::new).is_some_and(is_sqlites);
            !of_sqlite && !is_synced_log(&ended.log, call)
        }
        Some("syncfs") => true,
        _ => false,
    });
    failed
        .filter(|_| ended.status.success())
        .map(|call| format!("done, though this failed: {call}"))
}

/// Whether a call syncs a log to which nothing was written since it was synced.
fn is_synced_log(told: &str, call: &str) -> bool {
    let Some(log) = descriptor(call).filter(|path| path.ends_with(".sqlite-wal")) else {
        return false;
    };
    let log = format!("<{log}>");
    let before = told.lines().take_while(|line| !line.ends_with(call));
    let last = before.filter(|line| line.contains(&log)).last();
    last.is_some_and(|line| line.contains("sync(") && !line.contains("INJECTED"))
}

/// The path of the first descriptor in what strace tells.
fn descriptor(told: &str) -> Option<&str> {
    told.split_once('<').and_then(|(_, path)| path.split('>').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a failed sync of a commit that is taken for the one at the close after it.
    #[test]
    fn only_a_log_that_was_synced_is_synced() {
        let (file, failed) =
            ("3</d/a.sqlite-wal>", "fsync(3</d/a.sqlite-wal>) = -1 EIO (INJECTED)");
        let write = format!("1 pwrite64({file}, \"x\", 1, 0) = 1\n");
        let sync = format!("1 fsync({file}) = 0\n");
        let told =
            |lines: &[&str]| is_synced_log(&format!("{}1 {failed}\n", lines.concat()), failed);
        assert!(told(&[&write, &sync]));
        assert!(!told(&[&write]) && !told(&[&sync, &write]) && !told(&[]));
    }
}
