//! What the processes of a round are to do, and what befalls them.

use std::time::Duration;

use snapshot_testkit::Random;

use crate::part::random;
use crate::processes::world::{AGENTS, old_snapshot};

/// What one process does, and what befalls it.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// What it does.
    pub(super) verb: Verb,
    /// The index of the agent.
    pub(super) agent: usize,
    /// The snapshot, where one is named.
    pub(super) snapshot: String,
    /// When it begins.
    pub(super) begins: Duration,
    /// Whether it gives up soon where it has to wait for a lock.
    pub(super) hurries: bool,
    /// What befalls it.
    pub(super) fate: Fate,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// A snapshot of the agent.
    Snapshot,
    /// A restore over it.
    Restore,
    /// A snapshot deleted.
    Delete,
    /// The policy carried out for all agents of the tenant.
    Prune,
    /// The doctor, who sweeps, for all agents of the tenant.
    Doctor,
    /// All of the tenant's snapshots read.
    Verify,
    /// A snapshot copied out of the vault.
    Export,
    /// The tenant's snapshots listed.
    List,
}

/// What befalls a process, so long after it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Lives,
    /// It is killed.
    Killed(Duration),
    /// It is stopped, and goes on after so long.
    Stopped(Duration, Duration),
}

/// The longest time that a verb waits for a lock by itself.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Verbs, as often as they are to come.
const VERBS: [Verb; 16] = [
    Verb::Snapshot,
    Verb::Snapshot,
    Verb::Snapshot,
    Verb::Snapshot,
    Verb::Restore,
    Verb::Restore,
    Verb::Restore,
    Verb::Restore,
    Verb::Delete,
    Verb::Delete,
    Verb::Prune,
    Verb::Doctor,
    Verb::Doctor,
    Verb::Verify,
    Verb::Export,
    Verb::List,
];

/// The acts of round `n`.
pub(super) fn plan(seed: u64, n: u64) -> Vec<Act> {
    let mut random = random(seed, n);
    let count = 2 + random.below(15);
    // In some rounds all work on one agent.
    let agents = if random.below(3) == 0 { 1 } else { AGENTS.len() };
    let first = random.below(AGENTS.len());
    (0..count).map(|_| act(&mut random, first, agents)).collect()
}

fn act(random: &mut Random, first: usize, agents: usize) -> Act {
    let agent = (first + random.below(agents)) % AGENTS.len();
    let named = [old_snapshot(agent, 0), old_snapshot(agent, 1)].map(|id| id.to_string());
    let [older, newer] = named;
    let names = [older, newer, "latest".to_owned(), "latest~1".to_owned()];
    let snapshot = names[random.below(4)].clone();
    let verb = VERBS[random.below(VERBS.len())];
    let begins = ms(random, 40);
    let fate = match random.below(4) {
        0 => Fate::Killed(ms(random, 120)),
        1 => Fate::Stopped(ms(random, 100), ms(random, 300)),
        _ => Fate::Lives,
    };
    Act { verb, agent, snapshot, begins, hurries: random.below(3) == 0, fate }
}

fn ms(random: &mut Random, below: usize) -> Duration {
    Duration::from_millis(random.below(below) as u64)
}

impl Verb {
    /// As on the command line.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::Delete => "delete",
            Self::Prune => "prune",
            Self::Doctor => "doctor",
            Self::Verify => "verify",
            Self::Export => "export",
            Self::List => "list",
        }
    }
}

impl Act {
    /// How long it waits for a lock where it is told so.
    const fn lock_timeout(&self) -> Duration {
        Duration::from_millis(if self.hurries { 20 } else { 5_000 })
    }

    /// How long it waits for locks at most.
    pub(super) fn waits(&self) -> Duration {
        match self.verb {
            Verb::Snapshot | Verb::Restore => self.lock_timeout(),
            Verb::Delete | Verb::Export => LOCK_TIMEOUT,
            // One agent of the tenant after the other.
            Verb::Prune | Verb::Doctor => {
                let tenant = AGENTS[self.agent].tenant;
                AGENTS.iter().filter(|who| who.tenant == tenant).map(|_| LOCK_TIMEOUT).sum()
            }
            Verb::Verify | Verb::List => Duration::ZERO,
        }
    }

    /// The arguments behind those that are the same for all.
    pub(super) fn args(&self, number: usize) -> Vec<String> {
        let (agent, snapshot) = (AGENTS[self.agent].id, self.snapshot.as_str());
        let wait = format!("--lock-timeout={}", self.lock_timeout().as_secs_f32());
        let wait = wait.as_str();
        let to = format!("--to=export-{number}");
        let args: Vec<&str> = match self.verb {
            Verb::Snapshot => vec!["--agent", agent, wait],
            Verb::Restore => vec![snapshot, "--agent", agent, "--yes", wait],
            Verb::Delete => vec![snapshot, "--agent", agent, "--yes"],
            Verb::Prune | Verb::List => vec![],
            Verb::Doctor => vec!["--fix"],
            Verb::Verify => vec!["--all"],
            Verb::Export => vec![snapshot, "--agent", agent, "--whole", &to],
        };
        [self.verb.as_str()].iter().chain(&args).map(|&arg| arg.to_owned()).collect()
    }
}
