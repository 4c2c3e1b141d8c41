//! What every verb works with: the sink, the settings, the control handle, and the engine made from
//! them.

use std::cell::RefCell;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use nexo_memory_snapshot::ShellQuiesce;
use nexo_memory_snapshot::error::{ErrorKind, Match, SnapshotError, error_chain};
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::local_fs::Engine;
#[cfg(feature = "nats")]
use nexo_memory_snapshot::local_fs::EngineBuilder;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Clock, Control, PathResolver, SystemClock};
use nexo_memory_snapshot::request::SnapshotRef;
use serde_json::Value;

use crate::exit::Failure;
use crate::human;
use crate::output::{Output, can_ask};
use crate::progress::Bar;
use crate::secrets::{IDENTITY, PASSPHRASE};
use crate::settings::{Settings, quoted};

/// Most candidates for a name that are shown.
const CANDIDATES: usize = 10;
/// How long a command waits at its end for its events to arrive.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How often a question looks whether Ctrl-C was pressed.
const GLANCE: Duration = Duration::from_millis(50);

/// What every verb works with.
pub(crate) struct Context {
    pub(crate) out: Output,
    pub(crate) settings: Settings,
    pub(crate) control: Control,
    pub(crate) strict: bool,
    bar: Option<Arc<Bar>>,
    hooks: Option<Arc<ShellQuiesce>>,
    zone: TimeZone,
    /// The key that signs, whatever the configuration says.
    signing_key: Option<PathBuf>,
    /// Whether the verb changes something, and events are to be delivered.
    delivers: bool,
    /// Those that deliver.
    engines: RefCell<Vec<Engine>>,
}

impl Context {
    pub(crate) fn new(
        out: Output,
        settings: Settings,
        control: Control,
        bar: Option<Arc<Bar>>,
        strict: bool,
    ) -> Self {
        Self {
            hooks: settings.config.hooks(&control),
            out,
            settings,
            control,
            strict,
            bar,
            zone: TimeZone::system(),
            signing_key: None,
            delivers: false,
            engines: RefCell::default(),
        }
    }

    /// From now on events are delivered: the verb changes something.
    pub(crate) fn deliver(&mut self) {
        self.delivers = true;
    }

    /// From now on this key signs.
    pub(crate) fn sign_with(&mut self, key: PathBuf) {
        self.signing_key = Some(key);
    }

    /// The engine over the root; `agent` is the one that the layout flags speak of.
    pub(crate) fn engine(&self, agent: Option<&AgentId>) -> Result<Engine, Failure> {
        let settings = &self.settings;
        let (tenant, root) = (settings.tenant.clone(), &settings.root.value);
        let builder = settings.config.engine(tenant, root, self.hooks.clone());
        let builder = builder.layouts(Arc::new(settings.layouts(agent)?));
        let builder = builder.ask_passphrase(settings.secrets.ask());
        let builder = match settings.secrets.identity()? {
            Some(identity) => builder.identity(identity),
            None => builder,
        };
        let builder = match &self.signing_key {
            Some(key) => builder.signing_key_file(key),
            None => builder,
        };
        #[cfg(feature = "nats")]
        let builder = self.delivering(builder)?;
        let engine = builder.build().map_err(|e| self.explain(e, agent))?;
        if self.delivers {
            self.engines.borrow_mut().push(engine.clone());
        }
        Ok(engine)
    }

    /// With the configured server, where the verb changes something.
    #[cfg(feature = "nats")]
    fn delivering(&self, builder: EngineBuilder) -> Result<EngineBuilder, Failure> {
        if !self.delivers {
            return Ok(builder);
        }
        let transport = self.settings.config.transport();
        let transport = transport.map_err(|e| Failure::from_error(e.kind(), &e))?;
        Ok(match transport {
            Some(transport) => builder.deliver(transport),
            None => builder,
        })
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.settings.tenant
    }

    pub(crate) fn root(&self) -> &Path {
        &self.settings.root.value
    }

    /// The root and the word that decided it, for every answer that found nothing.
    pub(crate) fn root_and_origin(&self) -> String {
        let root = &self.settings.root;
        format!("{} ({})", root.value.display(), root.origin)
    }

    /// The snapshot that was named, with its agent: a flag tells it, or its id or path, or the only
    /// agent of the configuration, or the vault where it holds only one. With it comes a name that
    /// means the same one later, which `latest` may not.
    pub(crate) fn resolve(
        &self,
        engine: &Engine,
        agent: Option<&AgentId>,
        snapshot: &SnapshotRef,
    ) -> Result<(SnapshotMeta, SnapshotRef), Failure> {
        let agent = match snapshot {
            SnapshotRef::Id(_) | SnapshotRef::Prefix(_) | SnapshotRef::Path(_) => agent,
            SnapshotRef::Latest(_) | SnapshotRef::Label(_) => {
                agent.or_else(|| self.settings.only_agent())
            }
        };
        let meta =
            engine.resolve(self.tenant(), agent, snapshot).map_err(|e| self.explain(e, agent))?;
        let lasting = match snapshot {
            SnapshotRef::Path(_) => snapshot.clone(),
            _ => SnapshotRef::Id(meta.id),
        };
        Ok((meta, lasting))
    }

    /// An error of the engine, with where it looked and the command to try.
    pub(crate) fn explain(&self, error: SnapshotError, agent: Option<&AgentId>) -> Failure {
        let name = agent.map_or("A", AgentId::as_str);
        let command = |rest: &str| self.settings.command(rest);
        let kind = error.kind();
        let failure = match error {
            // These know more than their kind.
            SnapshotError::WhichAgent { .. } | SnapshotError::NoSuchAgent { .. } => error.into(),
            SnapshotError::Ambiguous { wanted, candidates, .. } => {
                self.ambiguous(&wanted, &candidates)
            }
            // Where it looked is told in lines of its own.
            _ if kind == ErrorKind::UnknownAgent => {
                Failure::new(kind, format!("nothing found for agent \"{name}\"")).try_this(format!(
                    "nexo-memory snapshot --agent {name} --memdir DIR --store long_term=FILE, or \
                     set memory.snapshot.agents.{name}"
                ))
            }
            _ => Failure::from_error(kind, &error).try_maybe(match kind {
                ErrorKind::UnknownSnapshot => Some(command(&list_command(agent))),
                ErrorKind::RecoveryPending => Some(format!(
                    "{}, or --recover abandon",
                    command(&format!("doctor --agent {name} --recover forward"))
                )),
                ErrorKind::Encryption if matches!(error, SnapshotError::Bundle(_) | SnapshotError::SealedLabels { .. }) => {
                    Some(format!(
                        "--decrypt-identity FILE, {IDENTITY}, or memory.snapshot.encryption.identity_path; \
                         for a passphrase, {PASSPHRASE}"
                    ))
                }
                _ => error.hint(),
            }),
        };
        match kind {
            ErrorKind::UnknownAgent => failure
                .detail("looked", agent.map(|agent| self.looked_at(agent)).unwrap_or_default())
                .detail("root", self.root_and_origin()),
            ErrorKind::UnknownSnapshot => failure.detail("root", self.root_and_origin()),
            _ => failure,
        }
    }

    /// What a name may mean, a line each.
    fn ambiguous(&self, wanted: &str, candidates: &[Match]) -> Failure {
        let many = candidates.len();
        let failure = Failure::new(
            ErrorKind::UnknownSnapshot,
            format!("\"{wanted}\" begins the ids of {many} snapshots"),
        );
        let line = |candidate: &Match| {
            let agent = candidate.agent.as_ref().map_or("?", AgentId::as_str);
            let time = candidate.created_at_ms.map(|ms| self.time(ms));
            let time = time.unwrap_or_else(|| "not readable".to_owned());
            let label = candidate.label.as_ref().map(|label| format!("  \"{label}\""));
            format!("{}  {agent}  {time}{}", candidate.id, label.unwrap_or_default())
        };
        let shown = candidates.iter().take(CANDIDATES);
        let failure = shown.fold(failure, |f, candidate| f.detail("may be", line(candidate)));
        let failure = match many.saturating_sub(CANDIDATES) {
            0 => failure,
            more => failure.detail("may be", format!("{more} more")),
        };
        failure.try_this("give more of the id")
    }

    /// An error about a path in a snapshot, with the command that shows which paths there are.
    pub(crate) fn explain_inside(&self, error: SnapshotError, meta: &SnapshotMeta) -> Failure {
        let kind = error.kind();
        if !matches!(kind, ErrorKind::UnknownSnapshot | ErrorKind::Usage) {
            return self.explain(error, Some(&meta.agent_id));
        }
        let named = match meta.bundle_path.starts_with(self.root()) {
            true => meta.id.to_string(),
            false => quoted(&meta.bundle_path.to_string_lossy()),
        };
        let command = self.settings.command(&format!("ls {named}"));
        Failure::from_error(kind, &error).try_this(command)
    }

    /// One of several that failed: told at once to people, who see the others too, and the document that
    /// says so for programs; `which` names it.
    pub(crate) fn one_failed(&mut self, failure: &Failure, (key, which): (&str, Value)) -> Value {
        if !self.out.is_json() {
            self.out.failure(failure);
        }
        let mut document = failure.to_json();
        document[key] = which;
        document
    }

    /// Warns of a snapshot that could not be restored here, for nobody trusted signed it.
    pub(crate) fn warn_untrusted(&mut self, meta: &SnapshotMeta) {
        let trust = &self.settings.config.signing.trust;
        if trust.required && !trust.attests(meta) {
            self.out.warn(&format!(
                "{} is not signed by a key of trusted_keys: with require_signature it cannot be restored",
                meta.id.short()
            ));
        }
    }

    /// Asks, unless `yes`. Without a terminal there is nobody to ask, so the answer is no.
    pub(crate) fn confirm(&mut self, yes: bool, question: &str) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        self.may_ask(yes)?;
        self.out.ask(&format!("{question} [y/N]"));
        match self.answer()?.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(ErrorKind::Refused, "not confirmed; nothing was changed")),
        }
    }

    /// Asks for a name to be typed.
    pub(crate) fn confirm_by_name(&mut self, question: &str, name: &str) -> Result<(), Failure> {
        self.out.ask(question);
        match self.answer()?.trim() {
            typed if typed == name => Ok(()),
            _ => Err(Failure::new(ErrorKind::Refused, "not confirmed; nothing was changed")),
        }
    }

    /// Refuses before any work where a question will be needed and cannot be asked.
    pub(crate) fn may_ask(&self, yes: bool) -> Result<(), Failure> {
        if yes || can_ask() {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Refused,
            "this needs a yes, and there is no terminal to ask on",
        )
        .try_this("add --yes, if you are sure"))
    }

    /// Refuses `--json` where the result is something else.
    pub(crate) fn no_json(&self, what: &str) -> Result<(), Failure> {
        match self.out.is_json() {
            true => Err(Failure::usage(format!("{what} is what is printed, not a JSON document"))
                .try_this("leave out --json")),
            false => Ok(()),
        }
    }

    /// A time for people.
    pub(crate) fn time(&self, ms: i64) -> String {
        human::time(ms, SystemClock.now_ms(), &self.zone)
    }

    /// Takes the progress bar away before something is printed.
    pub(crate) fn still(&self) {
        if let Some(bar) = &self.bar {
            bar.clear();
        }
    }

    /// The hooks, to ask them whether an agent is paused.
    pub(crate) fn hooks(&self) -> Option<Arc<ShellQuiesce>> {
        self.hooks.clone()
    }

    /// Says what must not be missed after the verb, an agent that a hook could not resume; the kind of
    /// that failure.
    pub(crate) fn epilogue(&mut self) -> Option<ErrorKind> {
        self.still();
        let failures = self.hooks.as_ref().map(|h| h.take_resume_failures()).unwrap_or_default();
        let kind = failures.first().map(|failure| failure.kind);
        for failure in failures {
            self.out.warn(&format!("the agent may still be paused: {}", error_chain(&failure)));
        }
        let until = Instant::now() + HAND_OVER;
        for engine in self.engines.take() {
            self.hand_over(&engine, until);
        }
        kind
    }

    /// Gives what was told a moment to arrive. What does not waits in the vault, for the next command
    /// or a daemon.
    fn hand_over(&mut self, engine: &Engine, until: Instant) {
        for why in engine.take_event_failures() {
            self.out.warn(&format!("an event could not be kept for delivery: {why}"));
        }
        let Some(flushed) = engine.flush_events(until) else { return };
        if flushed.left > 0 {
            let waiting = human::count(flushed.left, "event");
            let why = flushed.error.unwrap_or_else(|| "another process is at it".to_owned());
            self.out.warn(&format!("{waiting} kept for later delivery: {why}"));
        }
    }

    /// Every place that the agent's layout names.
    fn looked_at(&self, agent: &AgentId) -> String {
        let layout = self.settings.layouts(Some(agent)).ok();
        let layout = layout.and_then(|layouts| layouts.layout(self.tenant(), agent));
        let paths = layout.iter().flat_map(|l| l.paths()).map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join(", ")
    }

    /// One line from the terminal, or an end by Ctrl-C.
    fn answer(&self) -> Result<String, Failure> {
        let (tell, hear) = mpsc::channel();
        // Left behind in its read where Ctrl-C comes first: the process is about to end.
        thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            let _ = tell.send(read.map(|_| line));
        });
        loop {
            match hear.recv_timeout(GLANCE) {
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(e)) => return Err(Failure::from_error(ErrorKind::Io, &e)),
                Err(RecvTimeoutError::Disconnected) => return Ok(String::new()),
                Err(RecvTimeoutError::Timeout) => self.control.check().map_err(|e| {
                    Failure::new(e.kind(), "interrupted at the question; nothing was changed")
                })?,
            }
        }
    }
}

fn list_command(agent: Option<&AgentId>) -> String {
    agent.map_or_else(|| "list".to_owned(), |agent| format!("list --agent {agent}"))
}
