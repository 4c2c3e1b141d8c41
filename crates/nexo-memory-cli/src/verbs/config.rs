//! `config`: what is in force and where each value came from, what is wrong with it, what it may hold.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use nexo_memory_snapshot::config::{AgentSection, DEFAULT_LOCK_TIMEOUT, MemorySnapshotConfig};
use nexo_memory_snapshot::error::{ErrorKind, error_chain};
use nexo_memory_snapshot::events::{LIFECYCLE_SUBJECT_PREFIX, MUTATION_SUBJECT_PREFIX};
use nexo_memory_snapshot::id::AgentId;
use nexo_memory_snapshot::keys::{Identities, Recipients, Secret, SigningKey, read_secret_file};
use nexo_memory_snapshot::layout::{MemoryLayout, StateSource};
use nexo_memory_snapshot::redaction::{RedactionPolicy as _, Rules};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::exit::Ended;
use crate::human;
use crate::settings::{From, Origin, configured};
use crate::table::Column;

/// One value in force.
struct Row {
    name: String,
    value: Value,
    shown: String,
    origin: Option<Origin>,
}

pub(super) fn show(context: &mut Context) -> Ended {
    let rows = rows(context);
    let config = &context.settings.config;
    if context.out.is_json() {
        let named = |row: Row| {
            let origin = row.origin.map(|origin| origin.to_string());
            (row.name, json!({ "value": row.value, "from": origin }))
        };
        let mut document: Map<String, Value> = rows.into_iter().map(named).collect();
        let agents = config.agents.iter().map(|(id, own)| (id.to_string(), agent(config, id, own)));
        document.insert("agents".to_owned(), agents.collect());
        context.out.json(&document);
        return Ok(None);
    }
    let lines = config.agents.iter().map(|(id, own)| agent_line(id, own));
    let lines: Vec<String> = lines.collect();
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let origin = row.origin.map(|origin| origin.to_string()).unwrap_or_default();
            vec![row.name, row.shown, origin]
        })
        .collect();
    context.out.table(&["NAME", "VALUE", "FROM"].map(Column::Kept), &cells);
    for line in lines {
        context.out.line(&line);
    }
    Ok(None)
}

/// What reading it did not find: places that are not there, and what is likely not meant.
pub(super) fn check(context: &mut Context) -> Ended {
    let config = &context.settings.config;
    let mut findings = config.warnings();
    for (id, own) in &config.agents {
        let paths = own.layout.iter().flat_map(MemoryLayout::paths);
        let absent = paths.filter(|path| path.symlink_metadata().is_err());
        findings.extend(absent.map(|path| format!("agent {id}: {} is not there", path.display())));
    }
    findings.extend(key_findings(config));
    let file = context.settings.config_file.as_ref();
    let file = file.map(|file| file.value.display().to_string());
    if context.out.is_json() {
        context.out.json(&json!({ "configuration": file, "findings": findings }));
        return Ok((!findings.is_empty()).then_some(ErrorKind::CheckFailed));
    }
    let agents = human::count(config.agents.len() as u64, "agent");
    let what = match (&file, findings.len()) {
        (None, _) => "there is no configuration; defaults are in force".to_owned(),
        (Some(file), 0) => format!("{file}: good, {agents}"),
        (Some(file), n) => format!("{file}: {}, {agents}", human::count(n as u64, "finding")),
    };
    context.out.line(&what);
    for finding in &findings {
        context.out.line(&format!("  {finding}"));
    }
    Ok((!findings.is_empty()).then_some(ErrorKind::CheckFailed))
}

/// Keys that cannot be used, and those that do not fit together.
fn key_findings(config: &MemorySnapshotConfig) -> Vec<String> {
    let mut findings = Vec::new();
    let mut read =
        |path: &Path| read_secret_file(path).inspect_err(|e| findings.push(error_chain(e))).ok();
    let texts: Vec<Secret> = config.identity_paths().iter().filter_map(|path| read(path)).collect();
    let signer = config.signing.key_path.as_deref().map(|path| (path, read(path)));
    let mut opens = BTreeSet::new();
    for text in &texts {
        match Identities::parse(text.expose()) {
            Ok(identities) => opens.extend(identities.fingerprints()),
            Err(e) => findings.push(format!("an identity file: {e}")),
        }
    }
    let agents = config.agents.keys().map(|id| (format!("agent {id}: "), config.encryption_of(id)));
    let whose = agents.filter(|_| !opens.is_empty());
    for (whose, key) in whose {
        let recipients = key.and_then(|key| Recipients::of(&key).ok());
        let of = |recipients: Recipients| recipients.info().recipients_fingerprint;
        if recipients.is_some_and(|all| !of(all).iter().any(|one| opens.contains(one))) {
            findings.push(format!("{whose}no identity here opens what is encrypted for it"));
        }
    }
    if let Some((path, Some(text))) = signer {
        match SigningKey::parse(text.expose()) {
            Ok(key) if config.signing.trust.keys.contains(&key.public()) => {}
            Ok(key) if config.signing.trust.required => findings.push(format!(
                "{} is not among the trusted_keys ({}): what it signs could not be restored",
                path.display(),
                key.public()
            )),
            Ok(_) => {}
            Err(e) => findings.push(format!("{}: {e}", path.display())),
        }
    }
    findings
}

pub(super) fn schema(context: &mut Context) -> Ended {
    let schema = MemorySnapshotConfig::json_schema();
    match context.out.is_json() {
        true => context.out.json(&schema),
        false => context.out.block(&format!("{schema:#}\n")),
    }
    Ok(None)
}

fn rows(context: &Context) -> Vec<Row> {
    let settings = &context.settings;
    let config = &settings.config;
    let mut rows = vec![
        row("root", &settings.root),
        match &settings.config_file {
            Some(file) => row("configuration", file),
            None => none("configuration"),
        },
        row("memdir_root", &settings.memdir_root),
        row("sqlite_root", &settings.sqlite_root),
        row("enabled", &configured(config.enabled, true)),
    ];
    rows.extend(option_rows(config));
    let max = &settings.max_git_object_bytes;
    rows.push(Row { shown: human::bytes(max.value), ..row("git.max_object_bytes", max) });
    rows.extend(key_rows(context));
    rows.extend(retention_rows(config));
    rows.extend(event_rows(context));
    rows
}

fn option_rows(config: &MemorySnapshotConfig) -> Vec<Row> {
    let options = &config.options;
    let timeout = configured(options.lock_timeout, DEFAULT_LOCK_TIMEOUT);
    let timeout = From { value: timeout.value.as_secs(), origin: timeout.origin };
    let switch = |name, value, default| row(name, &configured(value, default));
    let (policy, origin) = match &config.redaction {
        Some(redaction) => (Arc::clone(&redaction.policy), Origin::Configuration),
        None => (Rules::builtin(), Origin::Default),
    };
    vec![
        row("lock_timeout_secs", &timeout),
        switch("auto_pre_dream", options.auto_pre_dream, false),
        switch("auto_pre_restore", options.auto_pre_restore, true),
        switch("auto_pre_mutating_tool", options.auto_pre_mutating_tool, false),
        switch("redact_secrets_default", options.redact_secrets_default, false),
        Row {
            name: "redaction".to_owned(),
            shown: policy.id().to_owned(),
            value: json!({ "policy": policy.id(), "rules": policy.rules() }),
            origin: Some(origin),
        },
        match &options.hooks {
            None => none("hooks"),
            Some(hooks) => Row {
                name: "hooks".to_owned(),
                shown: format!("{} / {}", hooks.quiesce, hooks.resume),
                value: json!({
                    "quiesce": hooks.quiesce,
                    "resume": hooks.resume,
                    "deadline_secs": hooks.deadline.as_secs(),
                }),
                origin: Some(Origin::Configuration),
            },
        },
    ]
}

/// The limits, and what else is written.
fn retention_rows(config: &MemorySnapshotConfig) -> Vec<Row> {
    let (written, policy) = (&config.retention, config.retention.policy());
    let limit = |name, written: Option<u32>, value: Option<u32>| Row {
        shown: value.map_or_else(|| "no limit".to_owned(), |n| n.to_string()),
        ..row(name, &From { value, origin: configured(written, 0).origin })
    };
    let mut rows = vec![
        limit("retention.keep_count", written.keep_count, policy.keep_count),
        limit("retention.max_age_days", written.max_age_days, policy.max_age_days),
    ];
    let all = serde_json::to_value(written).unwrap_or_default();
    let rest = all.as_object().into_iter().flatten().filter(|(name, value)| {
        !matches!(name.as_str(), "keep_count" | "max_age_days")
            && !value.is_null()
            && value.as_object().is_none_or(|map| !map.is_empty())
    });
    rows.extend(rest.map(|(name, value)| {
        row(&format!("retention.{name}"), &From { value, origin: Origin::Configuration })
    }));
    rows
}

/// For whom, and with which keys; no secret is among them.
fn key_rows(context: &Context) -> Vec<Row> {
    let config = &context.settings.config;
    let (encryption, signing) = (&config.options.encryption, &config.signing);
    let path = |name, path: &Option<std::path::PathBuf>| match path {
        Some(path) => row(name, &configured(Some(path.clone()), path.clone())),
        None => none(name),
    };
    let given = |name, given: bool, value: Value| Row {
        origin: given.then_some(Origin::Configuration),
        ..row(name, &From { value, origin: Origin::Default })
    };
    let recipients = encryption.recipients.as_deref();
    let keys: Vec<String> = signing.trust.keys.iter().map(ToString::to_string).collect();
    let identity = match context.settings.secrets.origin() {
        Some(origin) => {
            Row { shown: format!("given by {origin}"), ..none("encryption.identity_path") }
        }
        None => path("encryption.identity_path", &encryption.identity_path),
    };
    vec![
        row("encryption.enabled", &configured(encryption.enabled, false)),
        given("encryption.recipients", recipients.is_some(), json!(recipients.unwrap_or_default())),
        identity,
        row("require_signature", &configured(signing.trust.required.then_some(true), false)),
        given("trusted_keys", !keys.is_empty(), json!(keys)),
        path("signing_key_path", &signing.key_path),
    ]
}

fn event_rows(context: &Context) -> Vec<Row> {
    let events = &context.settings.config.events;
    let prefix = |name, written: &Option<String>, default: &str| {
        row(name, &configured(written.clone(), default.to_owned()))
    };
    let (lifecycle, mutation) = (&events.lifecycle_subject_prefix, &events.mutation_subject_prefix);
    vec![
        prefix("events.lifecycle_subject_prefix", lifecycle, LIFECYCLE_SUBJECT_PREFIX),
        prefix("events.mutation_subject_prefix", mutation, MUTATION_SUBJECT_PREFIX),
        row("events.mutation_publish_enabled", &configured(events.mutation_publish_enabled, true)),
        match context.settings.nats() {
            Some(url) => row("events.nats.url", &url),
            None => none("events.nats.url"),
        },
    ]
}

fn row(name: &str, from: &From<impl serde::Serialize>) -> Row {
    let value = serde_json::to_value(&from.value).unwrap_or_default();
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Row { name: name.to_owned(), value, shown, origin: Some(from.origin) }
}

fn none(name: &str) -> Row {
    Row { name: name.to_owned(), value: Value::Null, shown: "none".to_owned(), origin: None }
}

/// What is in force for one agent.
fn agent(config: &MemorySnapshotConfig, id: &AgentId, own: &AgentSection) -> Value {
    json!({
        "layout": own.layout,
        "settings": config.settings_of(id),
        "retention": own.retention,
        "hooks": own.options.hooks.is_some() || config.options.hooks.is_some(),
    })
}

/// Where it keeps its memory, and whether something differs for it.
fn agent_line(id: &AgentId, own: &AgentSection) -> String {
    let places = own.layout.as_ref().map_or_else(|| "the classic layout".to_owned(), places);
    let differs = *own != AgentSection { layout: own.layout.clone(), ..AgentSection::default() };
    let differs = if differs { " (with settings of its own: --json)" } else { "" };
    format!("agent {id}: {places}{differs}")
}

fn places(layout: &MemoryLayout) -> String {
    let memdir = layout.memdir.iter().map(|path| format!("memdir {}", path.display()));
    let stores = layout.stores.iter().map(|(name, path)| format!("{name} {}", path.display()));
    let state =
        [("extract_cursor", &layout.state.extract_cursor), ("dream_run", &layout.state.dream_run)];
    let state = state.into_iter().filter_map(|(name, source)| {
        let source = source.as_ref()?;
        Some(match source {
            StateSource::Json { json } => format!("{name} {}", json.display()),
            StateSource::Sqlite { sqlite, table, .. } => {
                format!("{name} {table} in {}", sqlite.display())
            }
        })
    });
    memdir.chain(stores).chain(state).collect::<Vec<_>>().join(", ")
}
