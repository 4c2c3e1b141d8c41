//! Secrets planted in every place of a memory, and a judge that looks for them in a bundle.
//!
//! Invariants: what is planted is a function of the seed; the judge ([`leaks`], [`checks`]) knows no rules,
//! only the planted values, and reads bundles by `zstd`, `tar`, plain SQL and stock git alone.
//!
//! ```no_run
//! use snapshot_testkit::canary;
//!
//! let tmp = tempfile::tempdir()?;
//! let planted = canary::plant(tmp.path(), 7, 1000)?;
//! // A redacted snapshot of `planted.agent` with the label `planted.label`, then:
//! let bundle = tmp.path().join("vault/some.tar.zst");
//! assert_eq!(canary::leaks(&bundle, &planted.canaries)?, []);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod encode;
mod files;
mod history;
mod place;
mod scan;
mod state;
mod stores;
mod token;

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use snapshot_core::{AgentId, MemoryLayout, StoreName, Tenant};

pub use place::Place;
pub use scan::{Form, Leak, Seen, checks, leaks};
pub use token::Kind;

use crate::error::KitError;
use crate::random::{Random, Vocabulary};
use crate::seed::{Agent, Scale, Seed};

/// Stores beside the classic ones.
const MORE_STORES: [&str; 2] = ["fts", "utf16"];

/// How many secrets a label has room for.
const LABELLED: usize = 2;

/// A planted secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Its number among those planted with it.
    pub id: usize,
    /// The secret itself.
    pub value: String,
    /// With what stands around it: by this alone a scanner must know it.
    pub text: String,
    /// Its shape.
    pub kind: Kind,
    /// Where it was planted.
    pub place: Place,
    /// The part of the value that no other secret has.
    random: Range<usize>,
}

/// What is to be planted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planting {
    /// Of all that is random.
    pub seed: u64,
    /// How many secrets.
    pub count: usize,
    /// Size of the large memory file.
    pub large_bytes: usize,
    /// How much ordinary memory there is beside them.
    pub scale: Scale,
    /// Where none is planted, but in [`Place::Text`] instead.
    pub without: &'static [Place],
}

/// A memory with secrets in it.
#[derive(Debug)]
pub struct Planted {
    /// Whose memory.
    pub agent: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// Where it lies.
    pub layout: MemoryLayout,
    /// A label that the test gives to the snapshot, with the canaries of [`Place::Label`].
    pub label: String,
    /// What was planted.
    pub canaries: Vec<Canary>,
    /// Connections that keep a write-ahead log from being checkpointed.
    pub guards: Vec<Connection>,
}

/// What the planters share.
struct Planter<'a> {
    agent: &'a Agent,
    canaries: &'a [Canary],
    large_bytes: usize,
    random: Random,
    words: Vocabulary,
}

impl Canary {
    fn new(id: usize, place: Place, kind: Kind, random: &mut Random) -> Self {
        let secret = kind.secret(random);
        let text = kind.in_context(&secret.value, random);
        Self { id, value: secret.value, text, kind, place, random: secret.random }
    }

    /// As an object: a value that needs a telling name is its member of that name.
    fn json(&self) -> Value {
        match self.kind {
            Kind::Assignment => json!({"api_key": self.value}),
            _ => json!({"said": self.text}),
        }
    }

    /// How many lie in its place before it: what varies within a place goes by this.
    fn turn(&self) -> usize {
        self.id / Place::ALL.len()
    }

    /// The lines of its random part.
    fn lines(&self) -> impl Iterator<Item = &str> {
        self.value[self.random.clone()].lines()
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, kind, place, .. } = self;
        write!(f, "canary {id} ({kind:?} at {place:?})")
    }
}

impl Planting {
    /// As the proof wants it: `count` secrets, a file of 20 MB, some MB of ordinary memory.
    #[must_use]
    pub const fn full(seed: u64, count: usize) -> Self {
        Self { seed, count, large_bytes: 20_000_000, scale: Scale(0.004), without: &[] }
    }

    /// Small enough for every run of the tests: two secrets a place.
    #[must_use]
    pub const fn quick(seed: u64) -> Self {
        let count = 2 * Place::ALL.len();
        Self { seed, count, large_bytes: 700_000, scale: Scale(0.0003), without: &[] }
    }
}

/// Makes a memory below `home` with `count` secrets, as many in each place; a label has room for two.
///
/// # Errors
/// If a memory lies there already, or a file, database or repository cannot be made.
pub fn plant(home: &Path, seed: u64, count: usize) -> Result<Planted, KitError> {
    plant_as(home, &Planting::full(seed, count))
}

/// Makes a memory below `home` as it is told.
///
/// # Errors
/// If a memory lies there already, or a file, database or repository cannot be made.
pub fn plant_as(home: &Path, planting: &Planting) -> Result<Planted, KitError> {
    let id = AgentId::from_static("ana");
    let seed = Seed { scale: planting.scale, ..Seed::tiny(planting.seed) };
    let agent = Agent::create(home, id.clone(), &seed)?;
    let mut random = Random::new(!planting.seed);
    let canaries = canaries(planting, &mut random);
    let words = Vocabulary::new(&mut random);
    let large_bytes = planting.large_bytes;
    let mut planter = Planter { agent: &agent, canaries: &canaries, large_bytes, random, words };
    // The stash and a reset come before the files that no commit holds.
    history::plant(&mut planter)?;
    files::plant(&mut planter)?;
    state::plant(&mut planter)?;
    let guards = stores::plant(&mut planter)?;
    let label = planter.label();
    let mut layout = agent.layout();
    for name in MORE_STORES {
        layout.stores.insert(StoreName::from_static(name), agent.store(name));
    }
    Ok(Planted { agent: id, tenant: Tenant::default(), layout, label, canaries, guards })
}

/// Every place in turn, and in each every kind that it takes in turn.
fn canaries(planting: &Planting, random: &mut Random) -> Vec<Canary> {
    let places = Place::ALL.len();
    let one = |id: usize| {
        let place = match Place::ALL[id % places] {
            Place::Label if id / places >= LABELLED => Place::Text,
            place if planting.without.contains(&place) => Place::Text,
            place => place,
        };
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| place.takes(*kind)).collect();
        Canary::new(id, place, kinds[(id % places + id / places) % kinds.len()], random)
    };
    (0..planting.count).map(one).collect()
}

impl<'a> Planter<'a> {
    fn at(&self, place: Place) -> impl Iterator<Item = &'a Canary> + use<'a> {
        self.canaries.iter().filter(move |canary| canary.place == place)
    }

    /// Ordinary text of about so many bytes, on one line.
    fn prose(&mut self, bytes: usize) -> String {
        self.words.text(&mut self.random, bytes).replace('\n', " ")
    }

    /// A secret in the midst of prose.
    fn sentence(&mut self, canary: &Canary) -> String {
        format!("{}{} {}\n", self.prose(200), canary.text, self.prose(200))
    }

    /// Writes a memory file.
    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<(), KitError> {
        let path = self.agent.memdir().join(path);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(KitError::io("make the folder", parent))?;
        fs::write(&path, content).map_err(KitError::io("write", &path))
    }

    fn label(&self) -> String {
        let texts: Vec<&str> = self.at(Place::Label).map(|canary| canary.text.as_str()).collect();
        format!("before the move {}", texts.join(" "))
    }
}
