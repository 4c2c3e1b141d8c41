//! What is read at a scrape, and the text.
//!
//! Invariants: no bundle is opened; what cannot be read raises an alarm instead of ending the scrape,
//! which may carry the metrics of a whole host.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;

use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use snapshot_core::{AgentId, Tenant};
use snapshot_events::{QueueStats, QueuedPublisher};

use super::series::{Series, Values};
use super::{MAX_AGENTS, Metrics};
use crate::engine::{AgentStatus, StatusFinding};

/// Tenant and agent of the series of all that have none by name; no id can be that.
const REST: &str = "*";
/// The finding that the vault's agents, or its outbox, cannot be listed.
const UNREADABLE: &str = "unreadable";

/// One of the numbers that a queue tells.
type Count = fn(&QueueStats) -> u64;

/// What was read of one vault.
#[derive(Default)]
pub(crate) struct Facts {
    /// How every agent stands; none where that cannot be told.
    pub(crate) agents: Option<Vec<AgentStatus>>,
    /// Events that wait for their delivery, and that were put aside; none where that cannot be told.
    pub(crate) outbox: Option<(u64, u64)>,
}

/// Everything, as text.
pub(super) fn render(metrics: &Metrics, facts: &[Facts]) -> String {
    let mut read = Registry::default();
    add_agents(&mut read, metrics, facts);
    add_findings(&mut read, facts);
    add_outbox(&mut read, facts);
    add_queues(&mut read, metrics);
    let mut text = String::new();
    let done = encode(&mut text, &metrics.inner.registry).and_then(|()| encode(&mut text, &read));
    if done.is_err() {
        // A string takes everything, and none of our metrics refuses.
        tracing::error!("the metrics could not be written out");
    }
    text
}

/// The age of each agent's last good snapshot; none at all is older than any.
fn add_agents(registry: &mut Registry, metrics: &Metrics, facts: &[Facts]) {
    let mut ages: BTreeMap<Values<2>, f64> = BTreeMap::new();
    let mut named = metrics.inner.named.lock();
    for status in facts.iter().flat_map(|facts| facts.agents.iter().flatten()) {
        let age = status.last_good_age_ms.map_or(f64::INFINITY, |ms| ms as f64 / 1000.0);
        let age_there = ages.entry(series_of(&mut named, status)).or_insert(age);
        *age_there = age_there.max(age);
    }
    if facts.iter().any(|facts| facts.agents.is_none()) {
        // Nobody knows what there is to restore.
        ages.insert([REST.into(), REST.into()], f64::INFINITY);
    }
    registry.register(
        "nexo_memory_snapshot_last_good_age_seconds",
        "Age of the newest good snapshot, +Inf where there is none",
        Series::new(
            ["tenant", "agent"],
            ages.into_iter().map(|(agent, age)| (agent, ConstGauge::new(age))),
        ),
    );
    let agents: usize = facts.iter().flat_map(|facts| &facts.agents).map(Vec::len).sum();
    registry.register(
        "nexo_memory_snapshot_agents",
        "Agents that have snapshots, or are known to the host",
        ConstGauge::new(agents as u64),
    );
}

/// The agent's own series, or that of the rest where too many have one.
fn series_of(named: &mut BTreeSet<(Tenant, AgentId)>, status: &AgentStatus) -> Values<2> {
    let name = (status.tenant.clone(), status.agent_id.clone());
    if !named.contains(&name) {
        if named.len() >= MAX_AGENTS {
            return [REST.into(), REST.into()];
        }
        named.insert(name);
    }
    [Cow::Owned(status.tenant.to_string()), Cow::Owned(status.agent_id.to_string())]
}

/// What `nexo-memory status` would point at, counted; how old is too old is for an alert to say.
fn add_findings(registry: &mut Registry, facts: &[Facts]) {
    let unreadable = |facts: &Facts| {
        u64::from(facts.agents.is_none()).saturating_add(u64::from(facts.outbox.is_none()))
    };
    let mut found: BTreeMap<&'static str, u64> = StatusFinding::WORDS.map(|word| (word, 0)).into();
    found.insert(UNREADABLE, facts.iter().map(unreadable).sum());
    for finding in
        facts.iter().flat_map(|facts| facts.agents.iter().flatten()).flat_map(|s| s.findings(None))
    {
        *found.entry(finding.as_str()).or_default() += 1;
    }
    registry.register(
        "nexo_memory_snapshot_findings",
        "What somebody has to look at: see nexo-memory status",
        Series::new(
            ["finding"],
            found.into_iter().map(|(word, n)| ([Cow::Borrowed(word)], ConstGauge::new(n))),
        ),
    );
}

fn add_outbox(registry: &mut Registry, facts: &[Facts]) {
    let known = facts.iter().filter_map(|facts| facts.outbox);
    let (waiting, put_aside): (Vec<u64>, Vec<u64>) = known.unzip();
    registry.register(
        "nexo_memory_snapshot_outbox_waiting",
        "Lifecycle events that wait in the vault for their delivery",
        ConstGauge::new(waiting.iter().sum::<u64>()),
    );
    registry.register(
        "nexo_memory_snapshot_outbox_put_aside",
        "Lifecycle events that the other side refused for good",
        ConstGauge::new(put_aside.iter().sum::<u64>()),
    );
}

fn add_queues(registry: &mut Registry, metrics: &Metrics) {
    let mut queues = metrics.inner.queues.lock();
    queues.retain(|_, queue| queue.strong_count() > 0);
    let alive = queues.iter().filter_map(|(name, queue)| Some((*name, Weak::upgrade(queue)?)));
    let stats: Vec<(&'static str, QueueStats)> =
        alive.map(|(name, queue)| (name, QueuedPublisher::stats(&queue))).collect();
    let of = |field: Count| {
        stats.iter().map(move |(name, stats)| ([Cow::Borrowed(*name)], field(stats)))
    };
    let waiting = of(|stats| stats.waiting).map(|(name, n)| (name, ConstGauge::new(n)));
    registry.register(
        "nexo_memory_snapshot_queue_waiting",
        "Events that wait in a queue",
        Series::new(["queue"], waiting),
    );
    let counters: [(&str, &str, Count); 3] = [
        ("nexo_memory_snapshot_queue_sent", "Events that a queue delivered", |s| s.sent),
        ("nexo_memory_snapshot_queue_dropped", "Events that found no room", |s| s.dropped),
        ("nexo_memory_snapshot_queue_failed", "Events that were not taken", |s| s.failed),
    ];
    for (name, help, field) in counters {
        let counted = of(field).map(|(name, n)| (name, ConstCounter::new(n)));
        registry.register(name, help, Series::new(["queue"], counted));
    }
}
