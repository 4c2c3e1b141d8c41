//! Part "power model": the power goes at a moment of a deed, and of what was not synced by then a disk keeps what it
//! likes (the method of ALICE: Pillai et al., OSDI 2014).
//!
//! A case is a deed, a moment, and a choice: nothing that was not synced, all of it, the last of it only, all but
//! the last, all but one change, or any of it. Each disk that comes of it is laid out as a folder; then the next
//! command recovers, and content is judged. After the last moment the deed was said to be done.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexo_memory_snapshot::ports::DurableFs;
use snapshot_testkit::Random;

use super::disk::{Disk, Event, Fate, after, unsynced};
use super::judge;
use super::log::{Log, Recorder};
use crate::Outcome;
use crate::deed::Deed;
use crate::judge::Sides;
use crate::part::{Slice, random};
use crate::scene::Scene;
use crate::tally::Tally;

/// Choices at each moment.
pub const CHOICES: u64 = 16;
/// Wrong cases whose cause is searched for: it takes many tries.
const SEARCHED: usize = 3;

/// The deeds, each done once and recorded.
pub struct Model {
    seed: u64,
    /// Where they were done, and where what is left of them is laid out: journals name absolute paths.
    place: PathBuf,
    stories: Vec<Story>,
    /// Disks that were judged already, with what was told.
    judged: HashSet<(usize, bool, u64)>,
}

/// A sync that was taken out of a deed.
pub struct Forgotten {
    number: usize,
    sync: usize,
    event: Event,
}

struct Story {
    deed: Deed,
    sides: Sides,
    log: Log,
}

/// Runs a slice.
///
/// # Errors
/// If the cases could not be run.
pub fn run(slice: &Slice) -> Outcome<Tally> {
    let mut model = Model::new(&slice.dir, slice.seed)?;
    slice.run(model.total(), |n, tally| model.case(n, tally))
}

impl Model {
    /// Does and records all deeds in the empty folder `dir`.
    ///
    /// # Errors
    /// If one fails.
    pub fn new(dir: &Path, seed: u64) -> Outcome<Self> {
        let dir = dir.canonicalize()?;
        let (base, place) = (Scene::create(&dir.join("base"))?, dir.join("scene"));
        let record = |deed: Deed| -> Outcome<Story> {
            let sides = base.sides(deed)?;
            remove(&place)?;
            let scene = base.copy_to(&place)?;
            let recorder = Arc::new(Recorder::new(&place)?);
            let engine = scene.engine(DurableFs::with_hook(recorder.clone()))?;
            deed.perform(&scene, &engine).map_err(|e| format!("{deed}: {e}"))?;
            drop(engine);
            Ok(Story { deed, sides, log: recorder.log()? })
        };
        let stories = Deed::ALL.into_iter().map(record).collect::<Outcome<Vec<_>>>()?;
        Ok(Self { seed, place, stories, judged: HashSet::new() })
    }

    /// How many cases there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stories.iter().map(Story::cases).sum()
    }

    /// The numbers of the cases in which a deed had been said to be done.
    #[must_use]
    pub fn told(&self, deed: Deed) -> Range<u64> {
        let upto = self.stories.iter().position(|story| story.deed == deed).unwrap_or_default();
        let end = self.stories[..=upto].iter().map(Story::cases).sum();
        end - CHOICES..end
    }

    /// The syncs of a deed: a number, and what is synced.
    #[must_use]
    pub fn syncs(&self, deed: Deed) -> Vec<(usize, String)> {
        let of = |story: &Story| (story.deed == deed).then(|| story.log.syncs.clone());
        self.stories.iter().find_map(of).unwrap_or_default()
    }

    /// From now on, the deed without this one of its syncs.
    pub fn forget(&mut self, deed: Deed, sync: usize) -> Forgotten {
        let number = self.stories.iter().position(|story| story.deed == deed).unwrap_or_default();
        let event = &mut self.stories[number].log.events[sync];
        Forgotten { number, sync, event: std::mem::replace(event, Event::Nothing) }
    }

    /// The deed is again as it was.
    pub fn remember(&mut self, forgotten: Forgotten) {
        self.stories[forgotten.number].log.events[forgotten.sync] = forgotten.event;
    }

    /// Runs one case.
    ///
    /// # Errors
    /// If it could not be run.
    pub fn case(&mut self, n: u64, tally: &mut Tally) -> Outcome<()> {
        let (mut number, mut rest) = (0, n);
        while let Some(story) = self.stories.get(number).filter(|story| rest >= story.cases()) {
            rest -= story.cases();
            number += 1;
        }
        let story = self.stories.get(number).ok_or("there is no such case")?;
        let (moment, choice) = (usize::try_from(rest / CHOICES)?, rest % CHOICES);
        let events = &story.log.events[..story.log.moments[moment]];
        let told = moment + 1 == story.log.moments.len();
        let mut random = random(self.seed, n);
        let fates = choose(events, choice, &mut random);
        let disk = after(&story.log.base, events, &fates);
        if !self.judged.insert((number, told, disk.digest())) {
            tally.count("the same disk as before");
            return Ok(());
        }
        match self.judged(story, &disk, told)? {
            Ok(what) => tally.count(format!("{}: {what}", story.deed)),
            Err(why) => {
                let lost = match tally.wrong.len() < SEARCHED {
                    true => self.needed(story, events, fates, told)?,
                    false => fates,
                };
                let lost = described(events, &lost);
                let of = story.log.moments.len() - 1;
                tally.wrong(n, format!("{}, moment {moment} of {of}: {why}; {lost}", story.deed));
            }
        }
        Ok(())
    }

    fn judged(
        &self,
        story: &Story,
        disk: &Disk,
        told: bool,
    ) -> Outcome<Result<&'static str, String>> {
        remove(&self.place)?;
        disk.lay(&self.place)?;
        Ok(judge(&Scene::at(&self.place), &story.sides, told))
    }

    /// The fates without those that change nothing about its being wrong.
    fn needed(
        &self,
        story: &Story,
        events: &[Event],
        mut fates: BTreeMap<usize, Fate>,
        told: bool,
    ) -> Outcome<BTreeMap<usize, Fate>> {
        let lost: Vec<usize> = fates.keys().copied().collect();
        for n in lost {
            let Some(fate) = fates.insert(n, Fate::There).filter(|fate| *fate != Fate::There)
            else {
                continue;
            };
            let disk = after(&story.log.base, events, &fates);
            if self.judged(story, &disk, told)?.is_ok() {
                fates.insert(n, fate);
            }
        }
        Ok(fates)
    }
}

impl Story {
    fn cases(&self) -> u64 {
        self.log.moments.len() as u64 * CHOICES
    }
}

/// What becomes of everything that is not synced.
fn choose(events: &[Event], choice: u64, random: &mut Random) -> BTreeMap<usize, Fate> {
    let open = unsynced(events);
    let some = random.below(open.len());
    let there = |yes: bool| if yes { Fate::There } else { Fate::Lost };
    let share = 1 + random.below(3);
    let mut fate = |n: usize| match choice {
        0 => Fate::Lost,
        1 => Fate::There,
        2 => there(n >= some),
        3 => there(n < some),
        4..=7 if n != some => Fate::There,
        4 => Fate::Lost,
        5..=7 => torn(&events[open[n]], random),
        _ if random.below(4) < share => Fate::There,
        _ => torn(&events[open[n]], random),
    };
    (0..open.len()).map(|n| (open[n], fate(n))).collect()
}

/// Lost, or of what was written a part.
fn torn(event: &Event, random: &mut Random) -> Fate {
    match event {
        Event::Change(item) if item.is_data() => match random.below(3) {
            0 => Fate::Lost,
            1 => Fate::Zeros,
            _ => Fate::Part(u8::try_from(random.below(256)).unwrap_or(u8::MAX)),
        },
        _ => Fate::Lost,
    }
}

/// What is not there, for people.
fn described(events: &[Event], fates: &BTreeMap<usize, Fate>) -> String {
    let of = |(n, fate): (&usize, &Fate)| match &events[*n] {
        Event::Change(item) if *fate != Fate::There => Some(format!("{fate:?} {}", item.what)),
        _ => None,
    };
    let lost: Vec<String> = fates.iter().filter_map(of).collect();
    match lost.is_empty() {
        true => "nothing lost".to_owned(),
        false => lost.join(", "),
    }
}

fn remove(dir: &Path) -> Outcome<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}
