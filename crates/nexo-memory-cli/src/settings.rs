//! What is in force, and where each value came from: flags, then the environment, then the
//! configuration, then defaults.
//!
//! Invariant: nothing here looks at the working directory, but for a relative path that was typed as
//! a flag.

use std::fmt;
use std::path::{Path, PathBuf};

use nexo_memory_snapshot::config::{
    ConfiguredLayouts, DEFAULT_MAX_GIT_OBJECT_BYTES, MemorySnapshotConfig,
};
use nexo_memory_snapshot::id::{AgentId, StoreName, Tenant};
use nexo_memory_snapshot::layout::{MemoryLayout, StateLayout};
use nexo_memory_snapshot::ports::PathResolver;

use crate::args::Global;
use crate::exit::Failure;
use crate::secrets::Secrets;

/// Names the vault; wins over the configuration.
pub(crate) const ROOT: &str = "NEXO_MEMORY_ROOT";
/// Names the NATS server; wins over the configuration.
pub(crate) const NATS_URL: &str = "NEXO_MEMORY_NATS_URL";
const CONFIG: &str = "NEXO_MEMORY_CONFIG";
const HOME: &str = "NEXO_HOME";
const SYSTEM_CONFIG: &str = "/etc/nexo-memory.yaml";

/// The variables of the process, or of a test.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct From<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    Configuration,
    Default,
}

/// What is in force.
pub(crate) struct Settings {
    pub(crate) root: From<PathBuf>,
    pub(crate) tenant: Tenant,
    pub(crate) config_file: Option<From<PathBuf>>,
    pub(crate) memdir_root: From<PathBuf>,
    pub(crate) sqlite_root: From<PathBuf>,
    pub(crate) max_git_object_bytes: From<u64>,
    pub(crate) config: MemorySnapshotConfig,
    pub(crate) secrets: Secrets,
    nats_origin: Origin,
    global: Global,
}

impl Settings {
    /// Reads the configuration and settles what is in force.
    pub(crate) fn new(global: &Global, env: Env<'_>) -> Result<Self, Failure> {
        let config_file = config_file(global, env)?;
        let mut config = match &config_file {
            Some(file) => MemorySnapshotConfig::load(&file.value, env)?,
            None => MemorySnapshotConfig::default(),
        };
        let nats_origin = nats_url(&mut config, env)?;
        let identity = global.decrypt_identity.as_deref();
        let identity = identity.filter(|path| *path != Path::new("-")).map(typed).transpose()?;
        let identity = identity.as_deref().or(global.decrypt_identity.as_deref());
        let secrets = Secrets::new(identity, env);
        if secrets.overrides() {
            forget_identities(&mut config);
        }
        let root = root(global, &config, env)?;
        let or_root = |flag: &Option<PathBuf>, name, configured: &Option<PathBuf>| {
            let flag = flag.as_deref().map(typed).transpose()?;
            Ok::<_, Failure>(pick(flag, name, configured.clone(), root.value.clone()))
        };
        let memdir_root = or_root(&global.memdir_root, "--memdir-root", &config.memdir_root)?;
        let sqlite_root = or_root(&global.sqlite_root, "--sqlite-root", &config.sqlite_root)?;
        config.memdir_root = Some(memdir_root.value.clone());
        config.sqlite_root = Some(sqlite_root.value.clone());
        Ok(Self {
            tenant: global.tenant.clone(),
            config_file,
            memdir_root,
            sqlite_root,
            max_git_object_bytes: configured(
                config.max_git_object_bytes,
                DEFAULT_MAX_GIT_OBJECT_BYTES,
            ),
            root,
            config,
            secrets,
            nats_origin,
            global: global.clone(),
        })
    }

    /// Where memories lie. `agent` is the one that `--memdir`, `--store` and `--state-json-root`
    /// speak of, where it is known.
    pub(crate) fn layouts(&self, agent: Option<&AgentId>) -> Result<ConfiguredLayouts, Failure> {
        let layouts = ConfiguredLayouts::new(&self.config, self.tenant.clone(), &self.root.value);
        match agent {
            Some(agent) if self.points_at_one_agent() => {
                let layout = self.spelled_out(agent, layouts.layout(&self.tenant, agent))?;
                Ok(layouts.with_agent(agent.clone(), layout))
            }
            _ => Ok(layouts),
        }
    }

    /// Whether flags say where one agent's memory lies.
    pub(crate) fn points_at_one_agent(&self) -> bool {
        let Global { memdir, state_json_root, .. } = &self.global;
        memdir.is_some() || state_json_root.is_some() || self.global.stores().next().is_some()
    }

    /// The one store that a diff is about; no other verb takes a store without its file.
    pub(crate) fn only_store(&self, is_diff: bool) -> Result<Option<&StoreName>, Failure> {
        let mut only = self.global.only_stores();
        match (only.next(), only.next()) {
            (Some(name), _) if !is_diff => {
                Err(Failure::usage(format!("--store {name} names no file"))
                    .try_this(format!("--store {name}=FILE; a name alone is for diff")))
            }
            (Some(_), Some(_)) => Err(Failure::usage("a diff is of one store or of all")
                .try_this("--store NAME once, or not at all")),
            (only, _) => Ok(only),
        }
    }

    /// The one agent of the configuration, where there is just one.
    pub(crate) fn only_agent(&self) -> Option<&AgentId> {
        let mut agents = self.config.agents.keys();
        agents.next().filter(|_| agents.next().is_none())
    }

    /// The NATS server, without secrets.
    pub(crate) fn nats(&self) -> Option<From<String>> {
        #[cfg(feature = "nats")]
        let url = self.config.events.server().map(|nats| nats.options().shown_url());
        #[cfg(not(feature = "nats"))]
        let url = None;
        url.map(|url| from(url, self.nats_origin))
    }

    /// The command line that does `rest` with the same places, ready to paste anywhere.
    pub(crate) fn command(&self, rest: &str) -> String {
        let mut command = format!("nexo-memory {rest}");
        let mut flag = |name: &str, value: &str| {
            command = format!("{command} {name} {}", quoted(value));
        };
        let absolute = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.to_string_lossy().into_owned()
        };
        let Global { root, config, memdir_root, sqlite_root, memdir, state_json_root, .. } =
            &self.global;
        let stdin = Path::new("-");
        let decrypt_identity = self.global.decrypt_identity.clone().filter(|path| path != stdin);
        let decrypt_identity = &decrypt_identity;
        if self.tenant != Tenant::default() {
            flag("--tenant", self.tenant.as_str());
        }
        for (name, path) in [
            ("--root", root),
            ("--config", config),
            ("--memdir-root", memdir_root),
            ("--sqlite-root", sqlite_root),
            ("--memdir", memdir),
            ("--state-json-root", state_json_root),
            ("--decrypt-identity", decrypt_identity),
        ] {
            if let Some(path) = path {
                flag(name, &absolute(path));
            }
        }
        for store in self.global.stores() {
            flag("--store", &format!("{}={}", store.name, absolute(&store.file)));
        }
        command
    }

    /// With a memdir or a store the flags are the whole layout; a state folder alone changes the
    /// state of the layout there is.
    fn spelled_out(
        &self,
        agent: &AgentId,
        base: Option<MemoryLayout>,
    ) -> Result<MemoryLayout, Failure> {
        let Global { memdir, state_json_root, .. } = &self.global;
        let mut layout = if memdir.is_some() || self.global.stores().next().is_some() {
            MemoryLayout::default()
        } else {
            base.unwrap_or_default()
        };
        if let Some(memdir) = memdir {
            layout.memdir = Some(typed(memdir)?);
        }
        for named in self.global.stores() {
            if layout.stores.insert(named.name.clone(), typed(&named.file)?).is_some() {
                let twice = format!("--store names {} twice, or a store as its own", named.name);
                return Err(Failure::usage(twice).try_this("give each store a name of its own"));
            }
        }
        if let Some(root) = state_json_root {
            layout.state = StateLayout::json_dir(&typed(root)?.join(agent.as_str()));
        }
        Ok(layout)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Configuration => f.write_str("configuration"),
            Self::Default => f.write_str("default"),
        }
    }
}

fn from<T>(value: T, origin: Origin) -> From<T> {
    From { value, origin }
}

pub(crate) fn configured<T>(value: Option<T>, default: T) -> From<T> {
    match value {
        Some(value) => from(value, Origin::Configuration),
        None => from(default, Origin::Default),
    }
}

fn pick<T>(flag: Option<T>, name: &'static str, config: Option<T>, default: T) -> From<T> {
    match flag {
        Some(value) => from(value, Origin::Flag(name)),
        None => configured(config, default),
    }
}

fn config_file(global: &Global, env: Env<'_>) -> Result<Option<From<PathBuf>>, Failure> {
    if let Some(path) = &global.config {
        return Ok(Some(from(typed(path)?, Origin::Flag("--config"))));
    }
    if let Some(path) = variable(CONFIG, env)? {
        return Ok(Some(from(path, Origin::Variable(CONFIG))));
    }
    let home = variable(HOME, env)?.map(|home| home.join("config/memory.yaml"));
    if let Some(path) = home.filter(|path| path.exists()) {
        return Ok(Some(from(path, Origin::Variable(HOME))));
    }
    let system = Path::new(SYSTEM_CONFIG);
    Ok(system.exists().then(|| from(system.to_owned(), Origin::Default)))
}

/// Flags and the environment win over the configuration's identities.
fn forget_identities(config: &mut MemorySnapshotConfig) {
    let own = config.agents.values_mut().map(|agent| &mut agent.options.encryption);
    for section in own.chain([&mut config.options.encryption]) {
        section.identity_path = None;
    }
}

/// Puts the address of the environment into the configuration; a build that cannot reach it says so.
fn nats_url(config: &mut MemorySnapshotConfig, env: Env<'_>) -> Result<Origin, Failure> {
    let Some(url) = env(NATS_URL).filter(|url| !url.is_empty()) else {
        return Ok(Origin::Configuration);
    };
    if !cfg!(feature = "nats") {
        return Err(Failure::usage(format!(
            "${NATS_URL} is set, and this program was built without NATS"
        ))
        .try_this(format!("unset {NATS_URL}, or build with the feature nats")));
    }
    #[cfg(feature = "nats")]
    if let Some(why) = nexo_memory_snapshot::events::nats::NatsOptions::refusal(&url) {
        return Err(Failure::usage(format!("${NATS_URL}: {why}")));
    }
    config.events.nats.get_or_insert_default().url = url;
    Ok(Origin::Variable(NATS_URL))
}

fn root(
    global: &Global,
    config: &MemorySnapshotConfig,
    env: Env<'_>,
) -> Result<From<PathBuf>, Failure> {
    if let Some(path) = &global.root {
        return Ok(from(typed(path)?, Origin::Flag("--root")));
    }
    if let Some(path) = variable(ROOT, env)? {
        return Ok(from(path, Origin::Variable(ROOT)));
    }
    if let Some(path) = &config.root {
        return Ok(from(path.clone(), Origin::Configuration));
    }
    if let Some(home) = variable(HOME, env)? {
        return Ok(from(home.join("state"), Origin::Variable(HOME)));
    }
    match variable("HOME", env)? {
        Some(home) => Ok(from(home.join(".nexo/state"), Origin::Default)),
        None => Err(Failure::usage("cannot tell where bundles are kept: $HOME is not set")
            .try_this(format!("--root DIR, or set {ROOT}"))),
    }
}

/// A path that someone typed: relative to where they are.
fn typed(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::usage(format!("cannot make {} absolute: {e}", path.display())))
}

/// A path in the environment, which nobody typed here: it must be absolute. Empty is not set.
fn variable(name: &'static str, env: Env<'_>) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = env(name).filter(|text| !text.is_empty()).map(PathBuf::from) else {
        return Ok(None);
    };
    if path.is_relative() {
        let message = format!("${name} is {}, which is not absolute", path.display());
        return Err(Failure::usage(message).try_this(format!("set {name} to an absolute path")));
    }
    Ok(Some(path))
}

/// An argument as a shell reads it back.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=~@:+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('~') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the configurations read are written plainly")]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn settings(args: &[&str], vars: &[(&str, &str)]) -> Result<Settings, Failure> {
        let cli = Cli::try_parse_from([&["nexo-memory", "list"], args].concat()).unwrap();
        let env = |name: &str| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::new(&cli.global, &env)
    }

    #[test]
    fn the_root_is_the_first_that_speaks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.yaml");
        std::fs::write(&file, "memory: { snapshot: { root: /configured } }").unwrap();
        let file = file.to_str().unwrap();
        let home = ("HOME", "/home/ana");
        let nexo = ("NEXO_HOME", "/opt/nexo");
        let config = (CONFIG, file);
        for (args, vars, root, origin) in [
            (vec!["--root", "/f"], vec![(ROOT, "/v"), config], "/f", "--root"),
            (vec!["--state-root", "/f"], vec![], "/f", "--root"),
            (vec![], vec![(ROOT, "/v"), config], "/v", "$NEXO_MEMORY_ROOT"),
            (vec![], vec![config, nexo], "/configured", "configuration"),
            (vec![], vec![nexo, home], "/opt/nexo/state", "$NEXO_HOME"),
            (vec![], vec![(ROOT, ""), home], "/home/ana/.nexo/state", "default"),
        ] {
            let root_of = settings(&args, &vars).unwrap().root;
            assert_eq!(root_of.value, Path::new(root));
            assert_eq!(root_of.origin.to_string(), origin);
        }
    }

    #[test]
    fn the_working_directory_is_never_a_root() {
        assert!(settings(&[], &[]).is_err());
        assert!(settings(&[], &[(ROOT, "state")]).is_err());
        assert!(settings(&[], &[("HOME", ".")]).is_err());
        // What was typed is where the person is.
        let typed = settings(&["--root", "state"], &[]).unwrap().root.value;
        assert_eq!(typed, std::env::current_dir().unwrap().join("state"));
    }

    #[test]
    fn a_configuration_that_was_named_must_exist() {
        assert!(settings(&["--config", "/does/not/exist"], &[("HOME", "/h")]).is_err());
        assert!(settings(&[], &[(CONFIG, "/does/not/exist"), ("HOME", "/h")]).is_err());
        assert!(settings(&[], &[("NEXO_HOME", "/does/not/exist")]).is_ok());
    }

    #[test]
    fn flags_spell_out_one_agent() {
        let ana = AgentId::from_static("ana");
        let layout = |args: &[&str]| {
            let settings = settings(args, &[("HOME", "/h")]).unwrap();
            settings.layouts(Some(&ana)).map(|l| l.layout(&settings.tenant, &ana).unwrap())
        };
        let spelled = layout(&["--memdir", "/m", "--store", "facts=/f.db"]).unwrap();
        assert_eq!(spelled.paths(), [Path::new("/m"), Path::new("/f.db")]);
        assert!(!spelled.parts_optional);
        let state = layout(&["--state-json-root", "/s"]).unwrap();
        assert_eq!(state.stores.len(), 4, "the classic stores stay");
        assert_eq!(state.state, StateLayout::json_dir(Path::new("/s/ana")));
        assert!(layout(&["--store", "a=/x", "--store", "a=/y"]).is_err());
        let bob = AgentId::from_static("bob");
        let settings = settings(&["--memdir", "/m"], &[("HOME", "/h")]).unwrap();
        let others = settings.layouts(Some(&ana)).unwrap().layout(&settings.tenant, &bob);
        assert_eq!(others.unwrap().stores.len(), 4, "another agent's layout is untouched");
    }

    #[test]
    fn commands_can_be_pasted() {
        let settings = settings(&["--root", "/my vault", "--tenant", "t"], &[]).unwrap();
        let command = settings.command("list");
        assert_eq!(command, "nexo-memory list --tenant t --root '/my vault'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
