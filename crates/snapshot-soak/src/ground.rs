//! What proofs that interrupt a deed begin with: a scene, and what each deed does to it where nothing
//! goes wrong. The changes of all deeds, one after another, are the points at which they are interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexo_memory_snapshot::ports::DurableFs;
use snapshot_testkit::{FaultHook, Recorded, Recorder};

use crate::Outcome;
use crate::deed::Deed;
use crate::judge::Sides;
use crate::scene::Scene;

/// A scene and its deeds.
#[derive(Debug)]
pub struct Ground {
    dir: PathBuf,
    scene: Scene,
    deeds: Vec<Known>,
}

/// A deed where nothing goes wrong.
#[derive(Debug)]
pub struct Known {
    /// Which.
    pub deed: Deed,
    /// Before it and after it.
    pub sides: Sides,
    /// Its changes, in order.
    pub changes: Vec<Recorded>,
}

impl Ground {
    /// Makes one in `dir`, which is empty; copies of the scene are made there too.
    ///
    /// # Errors
    /// If a deed goes wrong though nothing interrupts it.
    pub fn lay(dir: &Path) -> Outcome<Self> {
        let scene = Scene::create(&dir.join("ground"))?;
        let known = |deed: Deed| -> Outcome<Known> {
            let recorder = Arc::new(Recorder::default());
            let sides = scene.sides_by(deed, DurableFs::with_hook(recorder.clone()), dir)?;
            Ok(Known { deed, sides, changes: recorder.changes() })
        };
        let deeds = Deed::ALL.into_iter().map(known).collect::<Outcome<_>>()?;
        Ok(Self { dir: dir.to_owned(), scene, deeds })
    }

    /// The deeds, in the order of [`Deed::ALL`].
    #[must_use]
    pub fn deeds(&self) -> &[Known] {
        &self.deeds
    }

    /// How many changes all deeds make.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.deeds.iter().map(Known::len).sum()
    }

    /// The deed that makes the `point`th change of all, and which of its own that is; both in turns.
    #[must_use]
    pub fn point(&self, point: u64) -> (&Known, u64) {
        let mut left = point % self.points();
        for known in &self.deeds {
            if left < known.len() {
                return (known, left);
            }
            left -= known.len();
        }
        unreachable!("a point below their number is in one of them")
    }

    /// A copy of the scene, which goes with its value.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn copy(&self) -> Outcome<Scene> {
        self.scene.copy_in(&self.dir)
    }
}

impl Known {
    /// How many changes it makes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.changes.len() as u64
    }

    /// Whether it changes nothing, which no deed does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Does it to `scene` until death at its `n`th change; whether it was said to be done all the same.
    ///
    /// # Errors
    /// If it did not come so far.
    pub fn die_at(&self, scene: &Scene, n: u64) -> Outcome<bool> {
        let hook = Arc::new(FaultHook::dying_at(n));
        let engine = scene.engine(DurableFs::with_hook(hook.clone()))?;
        let told = self.deed.perform(scene, &engine).is_ok();
        drop(engine);
        scene.bury()?;
        match hook.fired() {
            true => Ok(told),
            false => Err(format!("{} has no change {n} here", self.deed).into()),
        }
    }
}
