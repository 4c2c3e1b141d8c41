//! Listing, planning and ticking a vault of many agents (`docs/performance.md`): how long, and
//! whether the memory grows with their number.

use std::path::Path;
use std::process::Command;

use crate::measure::Table;
use crate::soak;
use crate::tools::{Outcome, root, run};

/// How many agents; each has [`EACH`] snapshots.
const AGENTS: [&str; 2] = ["100", "1000"];
/// Snapshots of an agent.
const EACH: &str = "30";
/// Runs of what changes nothing.
const RUNS: usize = 3;

/// What is measured: its name, the script, and how often it can be run on one vault.
///
/// The scripts see `$VAULT`, `$OURS` (the command line) and `$MANY` (the facade's own program).
const WORK: [(&str, &str, usize); 5] = [
    ("list, command line", r#""$OURS" --json list --root "$VAULT" > /dev/null"#, RUNS),
    (
        "plan, command line",
        r#""$OURS" --json --no-progress prune --dry-run --root "$VAULT" > /dev/null"#,
        RUNS,
    ),
    ("plan, library", r#""$MANY" plan "$VAULT" 30 > /dev/null"#, RUNS),
    ("tick, nothing to delete", r#""$MANY" tick "$VAULT" 30 > /dev/null"#, RUNS),
    ("tick, 3 to delete of each", r#""$MANY" tick "$VAULT" 27 > /dev/null"#, 1),
];

/// Measures, prints the table, and puts it into the documentation where `docs` says so.
pub(crate) fn bench(docs: bool) -> Outcome {
    let (programs, examples) = (soak::build()?, soak::build_examples()?);
    let many = examples.join("many_agents");
    let mut table = Table::new("agents", "work");
    for agents in AGENTS {
        let vault = soak::scratch(root().join("target/bench/retention").join(agents))?;
        println!("making {agents} agents with {EACH} snapshots each");
        run(Command::new(&many).arg("seed").arg(&vault).args([agents, EACH]))?;
        let shown = |path: &Path| path.display().to_string();
        let env = [
            ("VAULT", shown(&vault)),
            ("OURS", shown(&programs.join("nexo-memory"))),
            ("MANY", shown(&many)),
        ];
        for (work, script, runs) in WORK {
            table.row((agents, work), None, script, runs, (&env, &root().join("target/bench")))?;
        }
    }
    let before = format!("Medians of {RUNS} runs; what deletes, once.");
    table.finish(&before, docs.then_some("retention"))
}
