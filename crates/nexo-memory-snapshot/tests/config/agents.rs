//! What is said for all agents, and again for one.

use std::path::Path;
use std::time::Duration;

use nexo_memory_snapshot::config::ConfiguredLayouts;
use nexo_memory_snapshot::ports::{Control, Quiesce};
use snapshot_core::{AgentId, CreatedBy, PathResolver, Tenant};

use crate::section;

fn ana() -> AgentId {
    AgentId::from_static("ana")
}

fn bob() -> AgentId {
    AgentId::from_static("bob")
}

/// Would catch: an override that is not heard, or that is heard for another agent too.
#[test]
fn an_agent_says_for_itself_what_differs() {
    let config = section(
        r#"lock_timeout_secs: 5
auto_pre_dream: true
retention: { keep_count: 7, keep_daily: 3, origins: { nightly: { keep_count: 4 } } }
hooks: { quiesce: "true", resume: "true", deadline_secs: 3 }
agents:
  ana:
    lock_timeout_secs: 9
    auto_pre_dream: false
    auto_pre_mutating_tool: true
    auto_pre_restore: false
    retention: { keep_count: 2, origins: { nightly: { max_age_days: 1 } } }
    hooks: { quiesce: "false", resume: "true" }"#,
    );
    let mut config = config.unwrap_or_else(|e| panic!("{e}"));
    // The helper's own line says it for all.
    assert_eq!(config.options.auto_pre_restore, Some(true));
    let (hers, his) = (config.settings_of(&ana()), config.settings_of(&bob()));
    assert_eq!((hers.lock_timeout, his.lock_timeout), secs(9, 5));
    assert_eq!((hers.auto_pre_dream, his.auto_pre_dream), (false, true));
    assert_eq!((hers.auto_pre_mutating_tool, his.auto_pre_mutating_tool), (true, false));
    assert_eq!((hers.auto_pre_restore, his.auto_pre_restore), (false, true));

    let (of_ana, of_bob) = (config.policy_of(&ana()), config.policy_of(&bob()));
    assert_eq!((of_ana.keep_count, of_bob.keep_count), (Some(2), Some(7)));
    assert_eq!(of_ana.calendar.daily, 3, "what it does not say is said for all");
    let nightly = of_ana.origins[&CreatedBy::from_static("nightly")];
    assert_eq!((nightly.keep_count, nightly.max_age_days), (Some(4), Some(1)));

    let hooks = config.hooks(&Control::default()).unwrap();
    assert_eq!(hooks.deadline(), Duration::from_secs(30), "the longest of all");
    assert!(hooks.pause(&ana(), hooks.deadline()).is_err(), "its own command fails");
    assert!(hooks.pause(&bob(), hooks.deadline()).is_ok());

    config.enabled = Some(false);
    let off = config.settings_of(&ana());
    assert!(!off.auto_pre_mutating_tool && config.retention_worker().is_none());
    assert_eq!(off.lock_timeout, Duration::from_secs(9));
}

/// Would catch: an agent without hooks that counts as paused because another has some.
#[test]
fn hooks_of_one_agent_are_not_anothers() {
    let config =
        section("agents: { ana: { hooks: { quiesce: 'true', resume: 'true' } } }").unwrap();
    let hooks = config.hooks(&Control::default()).unwrap();
    assert_eq!((hooks.knows(&ana()), hooks.knows(&bob())), (true, false));
    assert!(section("").unwrap().hooks(&Control::default()).is_none());
}

/// Would catch: an agent with settings alone that is lost from `--all`, or loses its place.
#[test]
fn an_agent_that_says_no_place_is_in_the_classic_layout() {
    let config = section("memdir_root: /mem\nagents: { ana: { auto_pre_dream: true }, bob: {} }");
    let (tenant, config) = (Tenant::default(), config.unwrap());
    let layouts = ConfiguredLayouts::new(&config, tenant.clone(), Path::new("/vault"));
    let layout = layouts.layout(&tenant, &ana()).unwrap();
    assert_eq!(layout.memdir.as_deref(), Some(Path::new("/mem/ana")));
    assert_eq!(layouts.agents().len(), 2);
}

/// Would catch: a configuration of 0.1 with its old default spelled out that no verb can read, or
/// redaction that is dropped in silence.
#[test]
fn redaction_is_remembered_and_warned_of() {
    let config = section("redact_secrets_default: true\nagents: { bob: {} }").unwrap();
    assert!(config.settings_of(&ana()).redact_secrets_default);
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("memory.snapshot.redact_secrets_default"), "{warnings:?}");
    let config = section("agents: { bob: { redact_secrets_default: true } }").unwrap();
    assert!(config.warnings()[0].contains("agents.bob.redact_secrets_default"));
    assert!(!section("").unwrap().settings_of(&ana()).redact_secrets_default, "0.2: off");
}

fn secs(a: u64, b: u64) -> (Duration, Duration) {
    (Duration::from_secs(a), Duration::from_secs(b))
}
