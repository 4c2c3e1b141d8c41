//! Deeds by the real program: the command lines, what they do where nothing goes wrong, and the judge of what is
//! there after a fault and the program's own recovery.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::deed::Deed;
use crate::judge::{Side, Sides};
use crate::part::Slice;
use crate::scene::{Scene, Seen, ana};
use crate::strace::{Call, Ended, Fault, Strace};

/// A scene, and its deeds by the program. Everything that is done is done in one folder, for journals name whole
/// paths.
#[derive(Debug)]
pub struct Stage {
    base: Scene,
    place: PathBuf,
    saved: PathBuf,
    strace: Strace,
    deeds: Vec<Known>,
}

/// A deed where nothing goes wrong.
#[derive(Debug)]
struct Known {
    deed: Deed,
    sides: Sides,
    /// Its state-changing calls.
    calls: Vec<Call>,
}

impl Stage {
    /// Sets the stage in the folder of the slice: does every deed once.
    ///
    /// # Errors
    /// If one goes wrong.
    pub fn set(slice: &Slice) -> Outcome<Self> {
        let log = slice.dir.join("strace");
        let mut stage = Self {
            base: Scene::create(&slice.dir.join("base"))?,
            place: slice.dir.join("scene"),
            saved: slice.dir.join("saved"),
            strace: Strace { log, program: slice.program.clone() },
            deeds: Vec::new(),
        };
        for deed in Deed::ALL {
            let scene = stage.begin()?;
            let calls = stage.strace.census(&said(deed, &scene)?)?.into_iter().collect();
            let sides = stage.base.sides(deed)?;
            stage.deeds.push(Known { deed, sides, calls });
        }
        Ok(stage)
    }

    /// How many state-changing calls all deeds make.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.deeds.iter().map(|known| known.calls.len() as u64).sum()
    }

    /// The deed that makes the `n`th of all state-changing calls, and the call.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn point(&self, n: u64) -> Outcome<(Deed, &Call)> {
        let mut calls = self
            .deeds
            .iter()
            .flat_map(|known| known.calls.iter().map(move |call| (known.deed, call)));
        calls.nth(usize::try_from(n)?).ok_or_else(|| "there is no such call".into())
    }

    /// A fresh copy of the scene, in the one place.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn begin(&self) -> Outcome<Scene> {
        replace(&self.base, &self.place)
    }

    /// Keeps the scene as it is now.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn save(&self, scene: &Scene) -> Outcome<()> {
        replace(scene, &self.saved).map(|_| ())
    }

    /// The scene as it was saved, in the one place.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn saved(&self) -> Outcome<Scene> {
        replace(&Scene::at(&self.saved), &self.place)
    }

    /// Does a deed, with a fault at a call.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn perform(&self, scene: &Scene, deed: Deed, fault: (Fault, &Call)) -> Outcome<Ended> {
        self.strace.run(&said(deed, scene)?, Some(fault))
    }

    /// The state-changing calls of the recovery, which is done.
    ///
    /// # Errors
    /// If it fails.
    pub fn recovery_calls(&self, scene: &Scene) -> Outcome<Vec<Call>> {
        Ok(self.strace.census(&recovery(scene))?.into_iter().collect())
    }

    /// The recovery, with a fault at a call where one is named.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn recover(&self, scene: &Scene, fault: Option<(Fault, &Call)>) -> Outcome<Ended> {
        self.strace.run(&recovery(scene), fault)
    }

    /// Recovers, and says which side the scene is on then; or what is wrong.
    ///
    /// # Errors
    /// If the recovery cannot be run.
    pub fn judge(&self, scene: &Scene, deed: Deed, told: bool) -> Outcome<Result<Side, String>> {
        let ended = self.recover(scene, None)?;
        if !ended.status.success() {
            return Ok(Err(format!("the recovery: {ended}")));
        }
        let again = self.strace.run(&[words(&["doctor"]), flags(scene)].concat(), None)?;
        if !again.status.success() {
            return Ok(Err(format!("after the recovery the doctor finds more: {again}")));
        }
        let known = self.deeds.iter().find(|known| known.deed == deed);
        let sides = &known.ok_or("an unknown deed")?.sides;
        let now = match scene.look() {
            Ok(now) => renamed(now, sides),
            Err(e) => return Ok(Err(format!("after the recovery: {e}"))),
        };
        Ok(sides.judge(&now, told).map_err(|wrong| wrong.join("; ")))
    }
}

/// The program's ids are random: its one new snapshot is the one that the deed makes.
fn renamed(mut now: Seen, sides: &Sides) -> Seen {
    let missing = |ids: &Seen, all: &Seen| -> Vec<_> {
        let new = all.snapshots.keys().filter(|id| !ids.snapshots.contains_key(id));
        new.copied().collect()
    };
    let (expected, found) = (missing(&sides.before, &sides.after), missing(&sides.before, &now));
    if let ([expected], [found]) = (expected.as_slice(), found.as_slice())
        && let Some(kept) = now.snapshots.remove(found)
    {
        now.snapshots.insert(*expected, kept);
    }
    now
}

/// A deed on the command line.
fn said(deed: Deed, scene: &Scene) -> Outcome<Vec<OsString>> {
    let (oldest, sealed) = (Scene::oldest().to_string(), Scene::sealed().to_string());
    let words: Vec<OsString> = match deed {
        Deed::Snapshot => words(&["snapshot"]),
        Deed::Restore => words(&["restore", &oldest, "--yes"]),
        Deed::Delete => words(&["delete", &oldest, "--yes"]),
        Deed::Prune => {
            let config = scene.dir().join("prune.yaml");
            fs::write(&config, "memory: { snapshot: { retention: { keep_count: 1 } } }\n")?;
            [words(&["prune", "--config"]), vec![config.into()]].concat()
        }
        Deed::Import => [words(&["import"]), vec![scene.outside().into()]].concat(),
        Deed::Rekey => words(&["rekey", &sealed, "--encrypt", Scene::next_reader(), "--yes"]),
    };
    Ok([words, flags(scene)].concat())
}

fn recovery(scene: &Scene) -> Vec<OsString> {
    [words(&["doctor", "--fix"]), flags(scene)].concat()
}

fn flags(scene: &Scene) -> Vec<OsString> {
    let agent = scene.agent();
    let places = [
        ("--root", scene.vault()),
        ("--memdir-root", agent.memdir_root()),
        ("--sqlite-root", agent.sqlite_root()),
        ("--decrypt-identity", scene.identities()),
    ];
    let places = places.into_iter().flat_map(|(flag, path)| [flag.into(), path.into_os_string()]);
    let rest = words(&["--json", "--agent", ana().as_str()]);
    rest.into_iter().chain(places).collect()
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn replace(from: &Scene, to: &Path) -> Outcome<Scene> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    from.copy_to(to)
}
