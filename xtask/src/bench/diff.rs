//! Two snapshots of one large store, a hundredth of its rows changed in between, compared
//! (`docs/performance.md`): beside reading both once, and whether the memory grows with the store.

use std::path::{Path, PathBuf};

use crate::measure::Table;
use crate::soak;
use crate::tools::{Outcome, root};

/// Scales of the standard agent, whose store `long_term` is compared: 150 and 600 MB.
const SCALES: [&str; 2] = ["0.25", "1"];
/// Runs of each script.
const RUNS: usize = 3;

/// Takes both snapshots, of `$STORE` and of a copy in which every hundredth row was changed; leaves the
/// number of changed rows in `$OUT/changed`.
const PREPARE: &str = r#"
    sqlite3 "$STORE" ".backup '$OUT/old.sqlite'"
    snapshot() {
        "$OURS" -q --no-progress snapshot --agent ana --root "$OUT/vault" --label "$1" \
            --memdir "$OUT/memdir" --store "long_term=$OUT/$1.sqlite"
        cp -u "$OUT"/vault/tenants/default/snapshots/ana/*.tar.zst "$OUT/bundles"
    }
    mkdir "$OUT/memdir" "$OUT/bundles"
    snapshot old
    cp "$OUT/old.sqlite" "$OUT/new.sqlite"
    sqlite3 "$OUT/new.sqlite" "UPDATE memories SET content = content || ' or not' WHERE rowid % 100 = 0;
        SELECT changes()" > "$OUT/changed"
    snapshot new"#;

/// Ours counts what was changed, and nothing else.
const CHECK: &str = r#"
    "$OURS" --json diff @old @new --agent ana --root "$OUT/vault" --stat > "$OUT/diff.json"
    found=$(sqlite3 :memory: "SELECT json_extract(CAST(readfile('$OUT/diff.json') AS TEXT), '$.stores.long_term')")
    expected="{\"added\":0,\"changed\":$(cat "$OUT/changed"),\"removed\":0}"
    [ "$found" = "$expected" ] || { echo "ours counted $found, not $expected" >&2; exit 1; }"#;

/// What is measured: its name, the program it needs beyond the prerequisites, the script.
const WORK: [(&str, Option<&str>, &str); 6] = [
    (
        "ours, counts",
        None,
        r#""$OURS" -q --no-progress diff @old @new --agent ana --root "$OUT/vault" --stat > /dev/null"#,
    ),
    (
        "ours, every row as JSON",
        None,
        r#""$OURS" --json --no-progress diff @old @new --agent ana --root "$OUT/vault" > /dev/null"#,
    ),
    (
        "decode and hash both bundles, all cores",
        None,
        r#"for bundle in "$OUT"/bundles/*; do "$KIT" hash-floor "$bundle"; done"#,
    ),
    (
        "zstd -d, sha256sum, one bundle a core",
        None,
        r#"for bundle in "$OUT"/bundles/*; do zstd -qdc "$bundle" | sha256sum > /dev/null & done; wait"#,
    ),
    (
        "zstd -d to two files, both read by cat",
        None,
        r#"for bundle in "$OUT"/bundles/*; do zstd -qdc "$bundle" > "$OUT/$(basename "$bundle").tar" & done; wait
            for tar in "$OUT"/*.tar; do cat "$tar" > /dev/null & done; wait; rm "$OUT"/*.tar"#,
    ),
    (
        "sqldiff of both stores, unpacked already",
        Some("sqldiff"),
        r#"sqldiff "$OUT/old.sqlite" "$OUT/new.sqlite" > /dev/null"#,
    ),
];

/// Measures, prints the table, and puts it into the documentation where `docs` says so.
pub(crate) fn bench(docs: bool) -> Outcome {
    let programs = soak::build()?;
    let dir = root().join("target/bench");
    let mut table = Table::new("scale", "work");
    for scale in SCALES {
        let agent = super::seeded(&dir, &programs, scale)?;
        let out = soak::scratch(dir.join("diff"))?;
        let env = env(&programs, &agent, &out);
        for script in [PREPARE, CHECK] {
            super::shell(script, &env)?;
        }
        for (work, needs, script) in WORK {
            table.row((scale, work), needs, script, RUNS, (&env, &dir))?;
        }
        soak::scratch(out)?;
    }
    let before = format!("Medians of {RUNS} runs, every hundredth row of the store changed.");
    table.finish(&before, docs.then_some("diff"))
}

fn env(programs: &Path, agent: &Path, out: &Path) -> Vec<(&'static str, String)> {
    let shown = |path: PathBuf| path.display().to_string();
    vec![
        ("OUT", shown(out.to_owned())),
        ("STORE", shown(agent.join("sqlite/ana/long_term.sqlite"))),
        ("OURS", shown(programs.join("nexo-memory"))),
        ("KIT", shown(programs.join("nexo-testkit"))),
        ("LC_ALL", "C".to_owned()),
    ]
}
