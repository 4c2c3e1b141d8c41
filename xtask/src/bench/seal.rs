//! What encryption costs (`docs/performance.md`): the same work on a plain and on an encrypted bundle of one
//! agent, alternating, and what people use today.

use std::path::{Path, PathBuf};

use crate::measure::Table;
use crate::soak;
use crate::tools::{Outcome, root};

/// The standard agent's scale: 1 GB.
const SCALE: &str = "1";
/// Runs of each script; the two sides of a pair alternate.
const RUNS: usize = 5;

/// Makes the keys, and one snapshot of each kind to read; `$ENCRYPT` and `$DECRYPT` are the flags.
const PREPARE: &str = r#"
    "$OURS" -q keygen --age --to "$OUT/key"
    sed -n 's/# public key: //p' "$OUT/key" > "$OUT/recipients"
    take() {
        "$OURS" -q --no-progress snapshot --agent ana --root "$OUT/$1" \
            --memdir-root "$AGENT/memdir" --sqlite-root "$AGENT/sqlite" ${2:+--recipients-file "$2"}
    }
    take plain
    take sealed "$OUT/recipients"
    cp "$OUT"/sealed/tenants/default/snapshots/ana/*.tar.zst.age "$OUT/sealed.age""#;

/// What is measured: the work, who, the program it needs beyond the prerequisites, the script.
const WORK: [(&str, &str, Option<&str>, &str); 9] = [
    (
        "first snapshot",
        "ours, plain",
        None,
        r#"rm -rf "$OUT/fresh"; "$OURS" -q --no-progress snapshot --agent ana --root "$OUT/fresh" \
            --memdir-root "$AGENT/memdir" --sqlite-root "$AGENT/sqlite""#,
    ),
    (
        "first snapshot",
        "ours, encrypted",
        None,
        r#"rm -rf "$OUT/fresh"; "$OURS" -q --no-progress snapshot --agent ana --root "$OUT/fresh" \
            --memdir-root "$AGENT/memdir" --sqlite-root "$AGENT/sqlite" --recipients-file "$OUT/recipients""#,
    ),
    (
        "first snapshot",
        "tar, zstd -3 -T2, age (no guarantees)",
        Some("age"),
        r#"tar -C "$AGENT" -cf - memdir sqlite | zstd -q -3 -T2 | age -R "$OUT/recipients" -o "$OUT/peer.age""#,
    ),
    (
        "verify",
        "ours, plain",
        None,
        r#""$OURS" -q --no-progress verify latest --agent ana --root "$OUT/plain""#,
    ),
    (
        "verify",
        "ours, encrypted",
        None,
        r#""$OURS" -q --no-progress verify latest --agent ana --root "$OUT/sealed" --decrypt-identity "$OUT/key""#,
    ),
    (
        "verify",
        "age -d, zstd -d, sha256sum, and sha256sum of the file",
        Some("age"),
        r#"age -d -i "$OUT/key" "$OUT/sealed.age" | zstd -qd | sha256sum > /dev/null &
            sha256sum "$OUT/sealed.age" > /dev/null; wait $!"#,
    ),
    (
        "one 50 MB store",
        "ours, plain",
        None,
        r#""$OURS" -q --no-progress cat latest sqlite/concepts.sqlite --agent ana --root "$OUT/plain" > "$OUT/store""#,
    ),
    (
        "one 50 MB store",
        "ours, encrypted",
        None,
        r#""$OURS" -q --no-progress cat latest sqlite/concepts.sqlite --agent ana --root "$OUT/sealed" \
            --decrypt-identity "$OUT/key" > "$OUT/store""#,
    ),
    (
        "one 50 MB store",
        "age -d, tar --zstd -x of it",
        Some("age"),
        r#"mkdir -p "$OUT/x"; age -d -i "$OUT/key" "$OUT/sealed.age" | tar --zstd -xC "$OUT/x" sqlite/concepts.sqlite"#,
    ),
];

/// Measures, prints the table, and puts it into the documentation where `docs` says so.
pub(crate) fn bench(docs: bool) -> Outcome {
    let programs = soak::build()?;
    let dir = root().join("target/bench");
    let agent = super::seeded(&dir, &programs, SCALE)?;
    let out = soak::scratch(dir.join("seal"))?;
    let env = env(&programs, &agent, &out);
    super::shell(PREPARE, &env)?;
    let mut table = Table::new("work", "who");
    table.alternating(&WORK, RUNS, (&env, &dir))?;
    soak::scratch(out)?;
    let before = format!("The standard agent of 1 GB, medians of {RUNS} alternating runs.");
    table.finish(&before, docs.then_some("seal"))
}

fn env(programs: &Path, agent: &Path, out: &Path) -> Vec<(&'static str, String)> {
    let shown = |path: PathBuf| path.display().to_string();
    vec![
        ("OUT", shown(out.to_owned())),
        ("AGENT", shown(agent.to_owned())),
        ("OURS", shown(programs.join("nexo-memory"))),
        ("LC_ALL", "C".to_owned()),
    ]
}
