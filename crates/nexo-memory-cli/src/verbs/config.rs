//! `config show`: what is in force, and where each value came from.

use nexo_memory_snapshot::layout::{MemoryLayout, StateSource};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Ended;
use crate::human;
use crate::settings::Origin;

/// One value in force.
struct Row {
    name: &'static str,
    value: Value,
    shown: String,
    origin: Option<Origin>,
}

pub(super) fn show(context: &mut Context) -> Ended {
    let rows = rows(context);
    let agents = &context.settings.config.agents;
    if context.out.is_json() {
        let mut document: serde_json::Map<String, Value> = rows
            .into_iter()
            .map(|row| {
                let origin = row.origin.map(|origin| origin.to_string());
                (row.name.to_owned(), json!({ "value": row.value, "from": origin }))
            })
            .collect();
        document.insert("agents".to_owned(), json!(agents));
        context.out.json(&document);
        return Ok(None);
    }
    let layouts: Vec<String> =
        agents.iter().map(|(id, layout)| format!("agent {id}: {}", places(layout))).collect();
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let origin = row.origin.map(|origin| origin.to_string()).unwrap_or_default();
            vec![row.name.to_owned(), row.shown, origin]
        })
        .collect();
    context.out.table(&["NAME", "VALUE", "FROM"], &cells);
    for layout in layouts {
        context.out.line(&layout);
    }
    Ok(None)
}

fn rows(context: &Context) -> Vec<Row> {
    let settings = &context.settings;
    let row = |name, value: Value, origin| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Row { name, value, shown, origin: Some(origin) }
    };
    let none = |name| Row { name, value: Value::Null, shown: "none".to_owned(), origin: None };
    let mut rows = vec![
        row("root", json!(settings.root.value), settings.root.origin),
        match &settings.config_file {
            Some(file) => row("configuration", json!(file.value), file.origin),
            None => none("configuration"),
        },
        row("memdir_root", json!(settings.memdir_root.value), settings.memdir_root.origin),
        row("sqlite_root", json!(settings.sqlite_root.value), settings.sqlite_root.origin),
        row(
            "lock_timeout_secs",
            json!(settings.lock_timeout.value.as_secs()),
            settings.lock_timeout.origin,
        ),
        row(
            "auto_pre_restore",
            json!(settings.auto_pre_restore.value),
            settings.auto_pre_restore.origin,
        ),
    ];
    let max = &settings.max_git_object_bytes;
    rows.push(Row {
        shown: human::bytes(max.value),
        ..row("git.max_object_bytes", json!(max.value), max.origin)
    });
    rows.push(match &settings.config.hooks {
        None => none("hooks"),
        Some(hooks) => Row {
            shown: format!("{} / {}", hooks.quiesce, hooks.resume),
            ..row(
                "hooks",
                json!({
                    "quiesce": hooks.quiesce,
                    "resume": hooks.resume,
                    "deadline_secs": hooks.deadline.as_secs(),
                }),
                Origin::Configuration,
            )
        },
    });
    rows
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
