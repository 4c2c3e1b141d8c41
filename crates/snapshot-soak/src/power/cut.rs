//! Part "power cut": a deed on a file system of its own, whose power is really cut: before a change of the deed, or
//! after it said that it was done. Then the file system is mounted again, the next command recovers, and content
//! is judged.
//!
//! Before a change means also: after another library wrote, and before we synced what it did.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nexo_memory_snapshot::ports::DurableFs;
use snapshot_fs::{Hook, Op, OpKind};
use snapshot_testkit::{Random, Recorder};

pub use super::image::unavailable;
use super::image::{Cut, Image, Mount, Options};
use super::judge;
use crate::Outcome;
use crate::deed::Deed;
use crate::judge::Sides;
use crate::part::{Slice, random};
use crate::scene::Scene;
use crate::tally::Tally;

/// Cases of the full run.
pub const TOTAL: u64 = 1_000;
/// The scene's folder on its file system.
const SCENE: &str = "scene";
/// What a change that comes too late fails with.
const EIO: i32 = 5;

/// What is cut.
struct Bench {
    seed: u64,
    dir: PathBuf,
    image: Image,
    sides: BTreeMap<Deed, Sides>,
    changes: BTreeMap<Deed, Changes>,
}

/// What changes in a deed.
struct Changes {
    count: u64,
    /// Those before or after which another library works.
    outside: Vec<u64>,
    /// The one after libgit2 set the refs.
    refs_set: Option<u64>,
}

/// When the power goes.
#[derive(Debug, Clone, Copy)]
struct Case {
    deed: Deed,
    /// Before this change, or after the deed.
    at: u64,
    options: Options,
    cut: Cut,
}

/// Cuts the power at the nth change, and lets nothing through from there on.
struct CutAt {
    mount: PathBuf,
    at: u64,
    cut: Cut,
    seen: AtomicU64,
    /// Why the power did not go.
    failed: Mutex<Option<String>>,
}

/// Runs a slice; where no power can be cut, that is all that it counts.
///
/// # Errors
/// If the cases could not be run.
pub fn run(slice: &Slice) -> Outcome<Tally> {
    if let Some(why) = unavailable(&slice.dir) {
        return Ok(Tally::not_run(&why));
    }
    let bench = Bench::new(&slice.dir, slice.seed)?;
    slice.run(TOTAL, |n, tally| bench.case(n, tally))
}

impl Bench {
    fn new(dir: &Path, seed: u64) -> Outcome<Self> {
        let dir = dir.canonicalize()?;
        let image = Image::create(&dir.join("base.img"))?;
        let place = dir.join("mount");
        let mount = image.mount(&place, Options::Default)?;
        let base = Scene::create(&place.join(SCENE))?;
        let (mut sides, mut changes) = (BTreeMap::new(), BTreeMap::new());
        for deed in Deed::ALL {
            sides.insert(deed, base.sides(deed)?);
            changes.insert(deed, census(&base, deed)?);
        }
        mount.unmount()?;
        Ok(Self { seed, dir, image, sides, changes })
    }

    /// Half of the cases are restores; a quarter is cut after the deed, a quarter where other libraries work. The
    /// last case is one that once left an empty branch.
    fn choose(&self, n: u64) -> Case {
        let (deed, options, cut) = (Deed::Restore, Options::NoAutoAlloc, Cut::Flushed);
        if let (true, Some(at)) = (n == TOTAL - 1, self.changes[&deed].refs_set) {
            return Case { deed, at, options, cut };
        }
        let mut random = random(self.seed, n);
        let deed = match random.below(2) {
            0 => Deed::Restore,
            _ => Deed::ALL[random.below(Deed::ALL.len())],
        };
        let Changes { count, outside, .. } = &self.changes[&deed];
        let below = |random: &mut Random| random.next_u64() % count;
        let at = match random.below(4) {
            0 => *count,
            1 if !outside.is_empty() => outside[random.below(outside.len())],
            _ => below(&mut random),
        };
        let options = [Options::Default, Options::NoAutoAlloc, Options::Writeback];
        let options = options[random.below(options.len())];
        let cut = [Cut::Plain, Cut::Flushed][random.below(2)];
        Case { deed, at, options, cut }
    }

    fn case(&self, n: u64, tally: &mut Tally) -> Outcome<()> {
        let case = self.choose(n);
        let (file, place) = (self.dir.join("case.img"), self.dir.join("mount"));
        let image = self.image.copy(&file)?;
        let mount = image.mount(&place, case.options)?;
        let told = case.cut_the_power(&place)?;
        mount.unmount()?;
        let mount = image.mount(&place, Options::Default)?;
        let scene = Scene::at(&place.join(SCENE));
        scene.bury()?;
        let judged = judge(&scene, &self.sides[&case.deed], told);
        mount.unmount()?;
        fs::remove_file(file)?;
        let when = if told { "done" } else { "cut short" };
        match judged {
            Ok(what) => tally.count(format!("{}, {when}: {what}", case.deed)),
            Err(why) => tally.wrong(n, format!("{case:?}, {when}: {why}")),
        }
        Ok(())
    }
}

impl Case {
    /// Does the deed and cuts the power; whether it said that it was done.
    fn cut_the_power(self, place: &Path) -> Outcome<bool> {
        let Self { deed, at, cut, .. } = self;
        let scene = Scene::at(&place.join(SCENE));
        let (mount, seen, failed) = (place.to_owned(), AtomicU64::new(0), Mutex::default());
        let hook = Arc::new(CutAt { mount, at, cut, seen, failed });
        let engine = scene.engine(DurableFs::with_hook(hook.clone()))?;
        let done = deed.perform(&scene, &engine);
        if let Some(why) = hook.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(why.into());
        }
        if hook.seen.load(Ordering::SeqCst) <= at {
            done.map_err(|e| format!("{deed}: {e}"))?;
            Mount::cut(place, cut)?;
            return Ok(true);
        }
        Ok(done.is_ok())
    }
}

impl Hook for CutAt {
    fn before(&self, _: &Op<'_>) -> io::Result<()> {
        let n = self.seen.fetch_add(1, Ordering::SeqCst);
        if n == self.at
            && let Err(e) = Mount::cut(&self.mount, self.cut)
        {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.to_string());
        }
        if n >= self.at { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }
}

/// What changes in a deed: it is done once.
fn census(base: &Scene, deed: Deed) -> Outcome<Changes> {
    let (scene, recorder) = (base.copy()?, Arc::new(Recorder::default()));
    let engine = scene.engine(DurableFs::with_hook(recorder.clone()))?;
    deed.perform(&scene, &engine).map_err(|e| format!("{deed}: {e}"))?;
    let (mut outside, mut refs_set) = (Vec::new(), None);
    for (n, change) in (0..).zip(recorder.changes()) {
        if let OpKind::External(what) = change.kind {
            outside.extend([n, n + 1]);
            // Refs that are in the way of others go before.
            refs_set = (what == "set the refs").then_some(n + 1).or(refs_set);
        }
    }
    Ok(Changes { count: recorder.changes().len() as u64, outside, refs_set })
}
