//! The section `memory.snapshot` of a YAML configuration.
//!
//! Invariants: a key that is accepted acts; a key that nobody knows is an error. Paths are absolute once
//! read. Other sections of the file are not looked at.

mod agents;
mod compose;
mod encryption;
mod events;
mod keys;
mod layouts;
mod redaction;
mod retention;
mod schema;
mod section;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use snapshot_core::{AgentId, ErrorKind};

use self::section::Section;

pub use self::agents::{AgentOptions, AgentSection, AgentSettings};
pub use self::encryption::{EncryptionSection, SigningSection};
pub use self::events::{EventsSection, NatsSection};
pub use self::layouts::ConfiguredLayouts;
pub use self::redaction::RedactionSection;
pub use self::retention::{OriginSection, RetentionSection};

/// Largest configuration file read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// How long to wait for locks where nothing else is said.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest git object captured where nothing else is said, in bytes.
pub const DEFAULT_MAX_GIT_OBJECT_BYTES: u64 = 256 << 20;

/// How a path of ours begins that somebody wrote as one key, at the top and below `memory`.
const PATHS: [&str; 2] = ["memory.snapshot", "snapshot."];

/// Longest table or column name, in bytes.
const MAX_SQL_NAME: usize = 128;

/// The section as written; what is absent there is absent here.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct MemorySnapshotConfig {
    /// Whether anything happens by itself: automatic snapshots, retention. Commands work either way.
    pub enabled: Option<bool>,
    /// The vault.
    pub root: Option<PathBuf>,
    /// The classic layout's memdirs, `<memdir_root>/<agent>`.
    pub memdir_root: Option<PathBuf>,
    /// The classic layout's databases, `<sqlite_root>/<agent>/<store>.sqlite`.
    pub sqlite_root: Option<PathBuf>,
    /// Largest git object captured, in bytes.
    pub max_git_object_bytes: Option<u64>,
    /// What holds for every agent that says nothing else.
    pub options: AgentOptions,
    /// Who signs, and whose signatures count.
    pub signing: SigningSection,
    /// What counts as a secret; where it is absent, what the rules that come along say.
    pub redaction: Option<RedactionSection>,
    /// What is to be kept.
    pub retention: RetentionSection,
    /// Who is told, and where.
    pub events: EventsSection,
    /// The named agents.
    pub agents: BTreeMap<AgentId, AgentSection>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`MAX_CONFIG_BYTES`].
    #[error("the configuration {} is larger than {MAX_CONFIG_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not one well-formed YAML document.
    #[error("the configuration {} is not readable YAML", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// A key that nobody knows.
    #[error("the configuration {} has an unknown key {key}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, from the top of the file.
        key: String,
        /// The known key of that place that is nearest to it.
        nearest: String,
    },
    /// A value that is not what its key takes.
    #[error("{key} in the configuration {}: {why}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, from the top of the file.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// `${VAR}` names a variable that is not set.
    #[error("{key} in the configuration {}: ${{{variable}}} is not set", path.display())]
    Variable {
        /// The file.
        path: PathBuf,
        /// The key, from the top of the file.
        key: String,
        /// The variable.
        variable: String,
    },
}

/// The file, as far as it is ours.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    memory: Option<MemorySection>,
    #[serde(flatten)]
    _others: NoPath<0>,
}

/// The section `memory`, as far as it is ours.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MemorySection {
    snapshot: Option<Map<String, Value>>,
    #[serde(flatten)]
    _others: NoPath<1>,
}

/// Keys that are not ours and not looked at, but for one that spells a path of ours, which would act nowhere.
#[derive(Default)]
struct NoPath<const DEPTH: usize>;

impl MemorySnapshotConfig {
    /// Reads the file at `path`; `env` gives the variables that `${VAR}` and `~/` stand for.
    /// Relative paths in it are taken from its folder. A file without the section is an empty
    /// configuration.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the key.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(read)?;
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text))
            .map_err(read)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text, &absolute, env)
    }

    /// Reads `text`, the content of the file at the absolute `path`.
    ///
    /// # Errors
    /// As [`MemorySnapshotConfig::load`].
    pub fn parse(
        text: &str,
        path: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        // No source excerpts in errors: a configuration may hold secrets of other programs.
        let options = serde_saphyr::options! { with_snippet: false };
        let document: Option<Document> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|e| ConfigError::Yaml { path: path.to_owned(), source: Box::new(e) })?;
        let snapshot = document.and_then(|d| d.memory).and_then(|m| m.snapshot);
        snapshot.map_or_else(
            || Ok(Self::default()),
            |map| {
                Section::new("memory.snapshot", &keys::SNAPSHOT, map, path, env)
                    .and_then(read_snapshot)
            },
        )
    }
}

impl<'de, const DEPTH: usize> Deserialize<'de> for NoPath<DEPTH> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de, const DEPTH: usize> Visitor<'de> for NoPath<DEPTH> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while let Some((key, _)) = map.next_entry::<Value, IgnoredAny>()? {
            let path = key.as_str().filter(|key| key.starts_with(PATHS[DEPTH]));
            if let Some(path) = path {
                let why = format!("`{path}` is one key with dots in it: nest the mappings instead");
                return Err(de::Error::custom(why));
            }
        }
        Ok(self)
    }
}

impl ConfigError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                ErrorKind::Usage
            }
            Self::Read { .. } => ErrorKind::Io,
            Self::TooLarge { .. }
            | Self::Yaml { .. }
            | Self::UnknownKey { .. }
            | Self::Value { .. }
            | Self::Variable { .. } => ErrorKind::Usage,
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { nearest, .. } => Some(format!("{nearest}, the nearest known key")),
            Self::Variable { variable, .. } => {
                Some(format!("set {variable}, or write the value itself"))
            }
            Self::Read { .. } | Self::TooLarge { .. } | Self::Yaml { .. } | Self::Value { .. } => {
                None
            }
        }
    }
}

fn read_snapshot(mut section: Section<'_>) -> Result<MemorySnapshotConfig, ConfigError> {
    let config = MemorySnapshotConfig {
        enabled: section.boolean("enabled")?,
        root: section.path("root")?,
        memdir_root: section.path("memdir_root")?,
        sqlite_root: section.path("sqlite_root")?,
        max_git_object_bytes: section.section("git")?.map(read_git).transpose()?.flatten(),
        options: agents::read_options(&mut section)?,
        signing: encryption::read_signing(&mut section)?,
        redaction: section.section("redaction")?.map(redaction::read).transpose()?,
        retention: section
            .section("retention")?
            .map(retention::read)
            .transpose()?
            .unwrap_or_default(),
        events: section.section("events")?.map(events::read).transpose()?.unwrap_or_default(),
        agents: section.section("agents")?.map(agents::read).transpose()?.unwrap_or_default(),
    };
    config.check_encryption(section.file())?;
    section.finish();
    Ok(config)
}

fn read_git(mut git: Section<'_>) -> Result<Option<u64>, ConfigError> {
    let max = git.number("max_object_bytes", 1..=u64::MAX)?;
    git.finish();
    Ok(max)
}
