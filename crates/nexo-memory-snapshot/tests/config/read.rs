//! The configuration: what is accepted acts, what cannot be honoured is refused, nothing panics.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nexo_memory_snapshot::config::{
    ConfigError, ConfiguredLayouts, MAX_CONFIG_BYTES, MemorySnapshotConfig,
};
use proptest::prelude::*;
use snapshot_core::{
    AgentId, CreatedBy, EncryptionKey, ErrorKind, PathResolver, StateSource, Tenant,
};

use crate::{env, parse, refused, section};

#[test]
fn every_key_that_acts_is_read() {
    let config = section(
        r#"root: ${NEXO_HOME}/state
memdir_root: ~/mem
sqlite_root: db
lock_timeout_secs: 5
git: { max_object_bytes: 1024 }
hooks: { quiesce: "systemctl stop ${UNIT}@{agent}", resume: "true", deadline_secs: 7 }
agents:
  ana:
    memdir: /srv/ana/mem
    stores: { long_term: /srv/ana/memory.db, compactions: /srv/ana/compactions.db }
    state:
      extract_cursor: { json: /srv/ana/cursor.json }
      dream_run: { sqlite: /srv/dream_runs.db, table: dream_runs, order_by: started_at }"#,
    )
    .unwrap();
    assert_eq!(config.root.as_deref(), Some(Path::new("/opt/nexo/state")));
    assert_eq!(config.memdir_root.as_deref(), Some(Path::new("/home/ana/mem")));
    // Never the working directory: a relative path starts at the file's folder.
    assert_eq!(config.sqlite_root.as_deref(), Some(Path::new("/etc/nexo/db")));
    assert_eq!(config.options.lock_timeout, Some(Duration::from_secs(5)));
    assert_eq!(config.options.auto_pre_restore, Some(true));
    assert_eq!(config.max_git_object_bytes, Some(1024));
    let hooks = config.options.hooks.clone().unwrap();
    // The shell expands it: a value put in here could change what the command means.
    assert_eq!(hooks.quiesce, "systemctl stop ${UNIT}@{agent}");
    assert_eq!(hooks.deadline, Duration::from_secs(7));
    let ana = config.agents[&AgentId::from_static("ana")].layout.clone().unwrap();
    assert_eq!(ana.memdir.as_deref(), Some(Path::new("/srv/ana/mem")));
    assert_eq!(ana.stores.len(), 2);
    assert!(!ana.parts_optional, "a layout that was spelled out reports what is missing");
    let sqlite = StateSource::Sqlite {
        sqlite: PathBuf::from("/srv/dream_runs.db"),
        table: "dream_runs".into(),
        order_by: "started_at".into(),
    };
    assert_eq!(ana.state.dream_run, Some(sqlite));
}

#[test]
fn a_configuration_of_0_1_reads_where_it_asks_for_nothing_that_is_missing() {
    let config = parse(
        r#"
llm: { provider: x, 1: [a, b] }
memory:
  short_term: { max_history_turns: 10 }
  snapshot:
    enabled: true
    root: ""
    auto_pre_dream: false
    auto_pre_restore: true
    auto_pre_mutating_tool: false
    lock_timeout_secs: 60
    redact_secrets_default: false
    require_signature: false
    trusted_keys: []
    encryption: { enabled: false, recipients: [age1x], identity_path: "${NOT_SET}/id.txt" }
    retention: { keep_count: 30, max_age_days: 90, gc_interval_secs: 3600 }
    events:
      mutation_subject_prefix: "nexo.memory.mutated"
      lifecycle_subject_prefix: "nexo.memory.snapshot"
      mutation_publish_enabled: true
"#,
    )
    .unwrap();
    assert_eq!(config.root, None);
}

/// Would catch: keys that are taken and encrypt for nobody, or trust nobody.
#[test]
fn keys_that_could_not_work_are_refused_by_name() {
    const AGE: &str = "age1q5h2t3v5zwwz4k9yxvkqfqrt3dvj0e06p0jdqy9sz2uq7f0q6yqsqd4g9x";
    let mistyped = format!("encryption: {{ enabled: true, recipients: [{AGE}] }}");
    let (_, good) = nexo_memory_snapshot::keys::generate_identity();
    let off_for_ana = format!(
        "encryption: {{ recipients: [{good}] }}\nagents: {{ ana: {{ encryption: {{ enabled: true }} }} }}"
    );
    let nobody_for_ana = format!(
        "encryption: {{ enabled: true, recipients: [{good}] }}\nagents: {{ ana: {{ encryption: {{ recipients: [] }} }} }}"
    );
    for (lines, key) in [
        ("encryption: { enabled: true }", "encryption.recipients"),
        (&nobody_for_ana, "agents.ana.encryption.recipients"),
        (&mistyped, "encryption.recipients"),
        ("agents: { ana: { encryption: { enabled: true } } }", "agents.ana.encryption.recipients"),
        ("require_signature: true", "trusted_keys"),
        ("trusted_keys: [k]", "trusted_keys"),
    ] {
        let error = section(lines).expect_err(lines);
        assert!(matches!(error, ConfigError::Value { .. }), "{lines}: {error}");
        assert!(error.to_string().starts_with(&format!("memory.snapshot.{key} ")), "{error}");
    }
    let config = section(&off_for_ana).unwrap();
    let of = |name| config.encryption_of(&AgentId::from_static(name));
    assert_eq!(of("ana"), Some(EncryptionKey::AgePublicKeys(vec![good])));
    assert_eq!(of("bob"), None, "what is said for all is off");
}

/// Would catch: a limit or rule that is read and does nothing, or a default that is not that of 0.1.
#[test]
fn retention_becomes_a_policy() {
    let policy = |lines: &str| section(lines).unwrap().retention.policy();
    let default = policy("");
    assert_eq!((default.keep_count, default.max_age_days), (Some(30), Some(90)));
    let none = policy("retention: { keep_count: 0, max_age_days: 0 }");
    assert_eq!((none.keep_count, none.max_age_days), (None, None));
    let all = policy(
        r#"retention:
  keep_count: 5
  max_total_bytes: 1000
  keep_last: 1
  keep_hourly: 2
  keep_daily: 3
  keep_weekly: 4
  keep_monthly: 5
  keep_yearly: 6
  keep_within_days: 7
  keep_labels: [release*, v1]
  time_zone: Europe/Berlin
  origins: { auto-pre-dream: { keep_count: 2 }, nightly: { max_age_days: 0 } }"#,
    );
    let calendar = all.calendar;
    assert_eq!((calendar.hourly, calendar.daily, calendar.weekly), (2, 3, 4));
    assert_eq!((calendar.monthly, calendar.yearly, all.keep_last), (5, 6, 1));
    assert_eq!((all.keep_count, all.max_total_bytes), (Some(5), Some(1000)));
    assert_eq!(all.keep_within_days, Some(7));
    assert_eq!(all.keep_labels, ["release*", "v1"]);
    assert_eq!(all.time_zone.iana_name(), Some("Europe/Berlin"));
    let budget = |name: &'static str| all.origins[&CreatedBy::from_static(name)];
    assert_eq!(budget("auto-pre-dream").keep_count, Some(2));
    assert_eq!(budget("auto-pre-restore").keep_count, Some(10));
    assert_eq!(budget("nightly").max_age_days, None);
    for (lines, says) in [
        ("retention: { time_zone: Mars/Olympus }", "retention.time_zone"),
        ("retention: { keep_labels: x }", "retention.keep_labels"),
        ("retention: { keep_count: -1 }", "retention.keep_count"),
        ("retention: { origins: { 'A B': {} } }", "origins.A B"),
    ] {
        let text = refused(lines);
        assert!(text.contains(says), "{lines}: {text}");
    }
}

/// Would catch: a subject that a broker takes for a wildcard, a secret in a log, or half an identity.
#[test]
fn events_are_read_and_no_secret_is_shown() {
    let events = section(
        r#"events:
  lifecycle_subject_prefix: my.memory
  nats: { url: "nats://u:s3cret@host", token: "${NEXO_HOME}", jetstream: true, stream: S, tls: { ca: ca.pem } }"#,
    )
    .unwrap()
    .events;
    assert_eq!(events.lifecycle_subject_prefix.as_deref(), Some("my.memory"));
    let nats = events.nats.clone().unwrap();
    assert_eq!((nats.token.as_deref(), nats.jetstream), (Some("/opt/nexo"), true));
    assert_eq!(nats.tls_ca.as_deref(), Some(Path::new("/etc/nexo/ca.pem")));
    assert!(!format!("{events:?}").contains("s3cret"));
    for (lines, says) in [
        ("events: { lifecycle_subject_prefix: 'a.*' }", "lifecycle_subject_prefix"),
        ("events: { mutation_subject_prefix: 'a..b' }", "mutation_subject_prefix"),
        ("events: { mutation_subject_prefix: 'a b' }", "mutation_subject_prefix"),
        ("events: { nats: { url: x, stream: S } }", "events.nats.stream"),
        ("events: { nats: { url: x, tls: { cert: c } } }", "belong together"),
    ] {
        let text = refused(lines);
        assert!(text.contains(says), "{lines}: {text}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (lines, unknown, nearest) in [
        ("rooot: /x", "rooot", "root"),
        ("lock_timeout: 5", "lock_timeout", "lock_timeout_secs"),
        ("git: { max_object: 5 }", "git.max_object", "git.max_object_bytes"),
        ("agents: { ana: { memdir: /m, store: {} } }", "agents.ana.store", "agents.ana.stores"),
        ("encryption: { enable: true }", "encryption.enable", "encryption.enabled"),
    ] {
        let error = section(lines).expect_err(lines);
        assert!(error.to_string().ends_with(&format!("unknown key memory.snapshot.{unknown}")));
        let hint = format!("memory.snapshot.{nearest}, the nearest known key");
        assert_eq!(error.hint(), Some(hint));
    }
}

#[test]
fn wrong_values_name_their_key() {
    for (lines, says) in [
        ("lock_timeout_secs: soon", "memory.snapshot.lock_timeout_secs"),
        ("lock_timeout_secs: 86401", "from 0 to 86400"),
        ("root: [a]", "text is expected"),
        ("root: ${NOT_SET}/x", "${NOT_SET} is not set"),
        ("root: ${EMPTY}/x", "${EMPTY} is not set"),
        ("root: ${}", "starts no ${VARIABLE}"),
        ("root: ${A", "starts no ${VARIABLE}"),
        ("hooks: { quiesce: x }", "hooks.resume"),
        ("hooks: { resume: x }", "hooks.quiesce"),
        ("agents: { ../ana: { memdir: /m } }", "agent id"),
        ("agents: { ana: { state: { dream_run: { json: /x } } } }", "neither a memdir nor a store"),
        ("agents: { ana: { retention: { gc_interval_secs: 5 } } }", "gc_interval_secs"),
        ("agents: { ana: }", "it is empty"),
        ("agents: { ana: { stores: { auto:x: /m } } }", "auto:"),
        ("agents: { ana: { stores: { a b: /m } } }", "store name"),
        ("agents: { ana: { memdir: /m, state: { dream_run: { sqlite: /x } } } }", "either json"),
        ("root: /a\nroot: /b", "root"),
    ] {
        let text = refused(lines);
        assert!(text.contains(says), "{lines}: {text}");
    }
}

#[test]
fn a_variable_is_text_and_never_yaml() {
    assert_eq!(
        section("root: ${EVIL}").unwrap().root.unwrap(),
        Path::new("/etc/nexo/x\n    root: /etc")
    );
    assert_eq!(section("root: /a/$${HOME}").unwrap().root.unwrap(), Path::new("/a/${HOME}"));
}

#[test]
fn files_without_the_section_are_empty_and_bad_files_are_errors() {
    let empty = MemorySnapshotConfig::default();
    for text in ["", "# nothing\n", "other: 1\n", "memory:\n", "memory: { snapshot: }\n"] {
        assert_eq!(parse(text).unwrap(), empty, "{text:?}");
    }
    for text in ["memory: [", "memory: 5", "a: 1\n---\nb: 2\n", "memory: { snapshot: 5 }"] {
        assert!(matches!(parse(text), Err(ConfigError::Yaml { .. })), "{text:?}");
    }
    // 2^40 nodes if expanded.
    let mut bomb = "x0: &x0 [a]\n".to_owned();
    for n in 1..=40 {
        bomb += &format!("x{n}: &x{n} [*x{0}, *x{0}]\n", n - 1);
    }
    bomb += "memory: { snapshot: { trusted_keys: *x40 } }\n";
    assert!(parse(&bomb).is_err());
}

#[test]
fn a_file_is_read_up_to_the_limit_and_not_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.yaml");
    let limit = usize::try_from(MAX_CONFIG_BYTES).unwrap();
    std::fs::write(&path, "#".repeat(limit)).unwrap();
    assert_eq!(MemorySnapshotConfig::load(&path, &env).unwrap(), MemorySnapshotConfig::default());
    std::fs::write(&path, "#".repeat(limit + 1)).unwrap();
    let error = MemorySnapshotConfig::load(&path, &env).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
    let error = MemorySnapshotConfig::load(&dir.path().join("absent"), &env).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn layouts_come_from_the_section_then_from_the_roots_and_for_one_tenant_only() {
    let config = section("sqlite_root: /db\nagents: { ana: { memdir: /srv/ana } }").unwrap();
    let (ana, bob) = (AgentId::from_static("ana"), AgentId::from_static("bob"));
    let tenant = Tenant::default();
    let layouts = ConfiguredLayouts::new(&config, tenant.clone(), Path::new("/vault"));
    assert_eq!(layouts.layout(&tenant, &ana).unwrap().paths(), [Path::new("/srv/ana")]);
    let classic = layouts.layout(&tenant, &bob).unwrap();
    assert_eq!(classic.memdir.as_deref(), Some(Path::new("/vault/bob")));
    assert!(classic.stores.values().any(|path| path == Path::new("/db/bob/long_term.sqlite")));
    assert_eq!(layouts.agents(), [(tenant, ana.clone())]);
    assert_eq!(layouts.layout(&Tenant::from_static("other"), &ana), None);
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text);
        let _ = section(&text);
    }

    #[test]
    fn no_value_of_a_known_key_panics_and_no_path_is_relative(
        key in prop_oneof![Just("root"), Just("memdir_root"), Just("hooks"), Just("agents"),
            Just("lock_timeout_secs"), Just("git"), Just("retention"), Just("events")],
        value in "[-a-z0-9$~{}\\[\\]:, ./\"']{0,60}",
    ) {
        if let Ok(config) = section(&format!("{key}: {value}")) {
            prop_assert!(config.root.is_none_or(|root| root.is_absolute()));
        }
    }
}
