//! Ours beside what people use today, on the same data, in one run (`docs/performance.md`).
//!
//! Each workload is a bash script, so that what was compared can be read here and pasted. Runs
//! alternate; the table shows medians. Nothing is asserted but that every result restores.

pub(crate) mod diff;
pub(crate) mod retention;
pub(crate) mod seal;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::measure::{Cost, machine, measured};
use crate::soak;
use crate::tools::{Outcome, find, output, root, run};

/// What is measured: a group, who, the program it needs beyond the prerequisites, what makes ready
/// (not measured), the script, and what checks the result (not measured).
///
/// The scripts see `$AGENT` (the seeded agent), `$OUT` (an empty folder of their own), `$VAULT`
/// and `$BUNDLE` (one snapshot of ours), `$OURS` and `$KIT` (our programs).
struct Workload {
    group: &'static str,
    who: &'static str,
    needs: Option<&'static str>,
    before: &'static str,
    script: &'static str,
    check: &'static str,
}

/// The databases in `$OUT/sqlite/ana` or `$OUT/sqlite` hold what the agent's hold.
const SAME_STORES: &str = r#"
    for store in long_term vector concepts compactions; do
        found=$(find "$OUT" -name "$store.sqlite" -type f | head -n 1)
        "$KIT" same "$AGENT/sqlite/ana/$store.sqlite" "$found"
    done"#;

const WORKLOADS: [Workload; 16] = [
    Workload {
        group: "first snapshot",
        who: "ours",
        needs: None,
        before: "",
        script: r#""$OURS" --json --no-progress snapshot --agent ana --root "$OUT/vault" \
            --memdir-root "$AGENT/memdir" --sqlite-root "$AGENT/sqlite" > "$OUT/meta.json""#,
        check: r#"tar --zstd -xf "$OUT"/vault/tenants/default/snapshots/ana/*.tar.zst -C "$OUT""#,
    },
    Workload {
        group: "first snapshot",
        who: "tar | zstd -3 -T2 (no guarantees)",
        needs: None,
        before: "",
        script: r#"tar -C "$AGENT" -cf - memdir sqlite | zstd -q -3 -T2 -o "$OUT/a.tar.zst""#,
        check: r#"tar --zstd -xf "$OUT/a.tar.zst" -C "$OUT""#,
    },
    Workload {
        group: "first snapshot",
        who: ".backup + tar | zstd -3 -T2",
        needs: None,
        before: r#"mkdir "$OUT/sqlite""#,
        script: r#"for store in long_term vector concepts compactions; do
                sqlite3 "$AGENT/sqlite/ana/$store.sqlite" ".backup '$OUT/sqlite/$store.sqlite'"
            done
            tar -cf - -C "$AGENT" memdir -C "$OUT" sqlite | zstd -q -3 -T2 -o "$OUT/a.tar.zst"
            rm -r "$OUT/sqlite""#,
        check: r#"tar --zstd -xf "$OUT/a.tar.zst" -C "$OUT""#,
    },
    Workload {
        group: "first snapshot",
        who: "restic",
        needs: Some("restic"),
        before: r#"export RESTIC_PASSWORD=x; restic -q --no-cache -r "$OUT/repo" init"#,
        script: r#"cd "$AGENT"; RESTIC_PASSWORD=x restic -q --no-cache -r "$OUT/repo" backup memdir sqlite"#,
        check: r#"RESTIC_PASSWORD=x restic -q --no-cache -r "$OUT/repo" restore latest --target "$OUT""#,
    },
    Workload {
        group: "first snapshot",
        who: "borg (zstd,3)",
        needs: Some("borg"),
        before: r#"export BORG_BASE_DIR="$OUT/base"; borg init -e none "$OUT/repo""#,
        script: r#"export BORG_BASE_DIR="$OUT/base"; cd "$AGENT"
            borg create -C zstd,3 "$OUT/repo::a" memdir sqlite"#,
        check: r#"export BORG_BASE_DIR="$OUT/base"; cd "$OUT"; borg extract "$OUT/repo::a""#,
    },
    Workload {
        group: "verify",
        who: "ours",
        needs: None,
        before: "",
        script: r#""$OURS" -q --no-progress verify latest --agent ana --root "$VAULT""#,
        check: "",
    },
    Workload {
        group: "verify",
        who: "decode and hash, all cores",
        needs: None,
        before: "",
        script: r#""$KIT" hash-floor "$BUNDLE""#,
        check: "",
    },
    Workload {
        group: "verify",
        who: "zstd -d | sha256sum, and sha256sum of the file",
        needs: None,
        before: "",
        script: r#"zstd -qdc "$BUNDLE" | sha256sum > /dev/null & sha256sum "$BUNDLE" > /dev/null; wait $!"#,
        check: "",
    },
    Workload {
        group: "one 50 MB store",
        who: "ours",
        needs: None,
        before: "",
        script: r#""$OURS" -q --no-progress cat latest sqlite/concepts.sqlite --agent ana --root "$VAULT" \
            > "$OUT/concepts.sqlite""#,
        check: r#""$KIT" same "$AGENT/sqlite/ana/concepts.sqlite" "$OUT/concepts.sqlite""#,
    },
    Workload {
        group: "one 50 MB store",
        who: "tar --zstd -x of it",
        needs: None,
        before: "",
        script: r#"tar --zstd -xf "$BUNDLE" -C "$OUT" sqlite/concepts.sqlite"#,
        check: r#""$KIT" same "$AGENT/sqlite/ana/concepts.sqlite" "$OUT/sqlite/concepts.sqlite""#,
    },
    Workload {
        group: "restore into a folder",
        who: "ours",
        needs: None,
        before: "",
        script: r#""$OURS" -q --no-progress restore latest --agent ana --yes --to "$OUT/agent" --root "$VAULT" > "$OUT/said""#,
        check: SAME_STORES,
    },
    Workload {
        group: "restore into a folder",
        who: "decode, write, sync, all cores",
        needs: None,
        before: "",
        script: r#""$KIT" write-floor "$BUNDLE" "$OUT/stream""#,
        check: "",
    },
    Workload {
        group: "restore into a folder",
        who: "tar --zstd -x, git clone, sync",
        needs: None,
        before: "",
        script: r#"tar --zstd -xf "$BUNDLE" -C "$OUT"; git -c advice.defaultBranchName=false \
            clone -q "$OUT/git/memory.bundle" "$OUT/memdir"
            sync -f "$OUT""#,
        check: SAME_STORES,
    },
    Workload {
        group: "restore over the live agent",
        who: "ours",
        needs: None,
        before: r#"cp -a "$AGENT/." "$OUT"
            sqlite3 "$OUT/sqlite/ana/long_term.sqlite" "DELETE FROM memories WHERE rowid % 2""#,
        script: r#""$OURS" -q --no-progress restore latest --agent ana --yes --no-auto-pre-snapshot \
            --root "$VAULT" --memdir-root "$OUT/memdir" --sqlite-root "$OUT/sqlite" --whole-store > "$OUT/said""#,
        check: SAME_STORES,
    },
    Workload {
        group: "restore over the live agent",
        who: "tar --zstd -x, sqlite3 .restore, sync",
        needs: None,
        before: r#"cp -a "$AGENT/." "$OUT"
            sqlite3 "$OUT/sqlite/ana/long_term.sqlite" "DELETE FROM memories WHERE rowid % 2""#,
        script: r#"mkdir "$OUT/.stage"; tar --zstd -xf "$BUNDLE" -C "$OUT/.stage"
            for store in long_term vector concepts compactions; do
                sqlite3 "$OUT/sqlite/ana/$store.sqlite" ".restore '$OUT/.stage/sqlite/$store.sqlite'"
            done
            cp -a "$OUT/.stage/memory_files/." "$OUT/memdir/ana"; rm -r "$OUT/.stage"; sync -f "$OUT""#,
        check: SAME_STORES,
    },
    Workload {
        group: "list",
        who: "ours",
        needs: None,
        before: "",
        script: r#""$OURS" --json list --agent ana --root "$VAULT" > /dev/null"#,
        check: "",
    },
];

/// The measured runs of one workload.
#[derive(Default)]
struct Measured {
    runs: Vec<Cost>,
    bytes: u64,
    failed: Option<String>,
}

struct Options {
    scale: String,
    runs: usize,
    cuts: String,
    dir: PathBuf,
    docs: bool,
}

/// Parses the flags and runs.
pub(crate) fn run_flags(flags: &[&str]) -> Outcome {
    let mut options = Options {
        scale: "1".to_owned(),
        runs: 3,
        cuts: "500".to_owned(),
        dir: root().join("target/bench"),
        docs: false,
    };
    let mut flags = flags.iter();
    while let Some(&flag) = flags.next() {
        let mut value = || flags.next().ok_or(format!("{flag} needs a value"));
        match flag {
            "--scale" => options.scale = (*value()?).to_owned(),
            "--runs" => {
                options.runs = value()?.parse().map_err(|_| "--runs takes a number".to_owned())?;
            }
            "--cuts" => options.cuts = (*value()?).to_owned(),
            "--dir" => options.dir = PathBuf::from(value()?),
            "--docs" => options.docs = true,
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    run_all(&options)
}

/// Everything, and the table.
fn run_all(options: &Options) -> Outcome {
    let programs = soak::build()?;
    let bench = Bench::prepare(&options.dir, &programs, &options.scale)?;
    let mut results: BTreeMap<usize, Measured> = BTreeMap::new();
    for round in 0..options.runs {
        for (index, workload) in WORKLOADS.iter().enumerate() {
            let result = results.entry(index).or_default();
            if result.failed.is_some() {
                continue;
            }
            println!("run {} of {}: {}, {}", round + 1, options.runs, workload.group, workload.who);
            match bench.measure(workload, round == 0) {
                Ok((cost, bytes)) => {
                    result.runs.push(cost);
                    result.bytes = bytes;
                }
                Err(why) => result.failed = Some(why),
            }
        }
    }
    let cuts = soak::run_cuts(&options.cuts).map_or_else(
        |why| json!({"failed": why}),
        |cuts| {
            let held: Vec<u64> = cuts.times_us.into_values().flatten().collect();
            json!({"cuts": cuts.done, "torn": cuts.wrong.len(), "held": soak::quantiles(&held)})
        },
    );
    report(options, &results, &cuts)
}

/// What the scripts find.
struct Bench {
    dir: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl Bench {
    /// Seeds the agent where this scale is not there yet, and takes the snapshot that is read.
    fn prepare(dir: &Path, programs: &Path, scale: &str) -> Result<Self, String> {
        let agent = seeded(dir, programs, scale)?;
        let shown = |path: &Path| path.display().to_string();
        let (ours, kit) = (programs.join("nexo-memory"), programs.join("nexo-testkit"));
        let vault = soak::scratch(dir.join("vault"))?;
        let mut bench = Self {
            dir: dir.to_owned(),
            env: vec![
                ("AGENT", shown(&agent)),
                ("VAULT", shown(&vault)),
                ("OURS", shown(&ours)),
                ("KIT", shown(&kit)),
                ("LC_ALL", "C".to_owned()),
            ],
        };
        bench.shell(
            r#""$OURS" -q --no-progress snapshot --agent ana --root "$VAULT" \
                --memdir-root "$AGENT/memdir" --sqlite-root "$AGENT/sqlite""#,
        )?;
        let bundles = vault.join("tenants/default/snapshots/ana");
        let mut names =
            fs::read_dir(&bundles).map_err(|e| format!("no {}: {e}", shown(&bundles)))?;
        let bundle = names
            .find_map(|name| name.ok().map(|n| n.path()).filter(|p| shown(p).ends_with(".tar.zst")))
            .ok_or("the snapshot left no bundle")?;
        bench.env.push(("BUNDLE", shown(&bundle)));
        Ok(bench)
    }

    /// The cost, and the bytes that lay in `$OUT` right after. The first round is checked.
    fn measure(&self, workload: &Workload, check: bool) -> Result<(Cost, u64), String> {
        if let Some(program) = workload.needs.filter(|program| find(program).is_none()) {
            return Err(format!("{program} is not installed"));
        }
        let out = soak::scratch(self.dir.join("out"))?;
        let mut env = self.env.clone();
        env.push(("OUT", out.display().to_string()));
        let bench = Self { dir: self.dir.clone(), env };
        bench.shell(workload.before)?;
        let cost = measured(workload.script, &bench.env, &self.dir)?;
        let bytes = output(Command::new("du").arg("-sb").arg(&out))?;
        let bytes = bytes.split_whitespace().next().and_then(|n| n.parse().ok());
        if check {
            bench.shell(workload.check)?;
            if workload.group == "first snapshot" {
                bench.shell(SAME_STORES)?;
            }
        }
        soak::scratch(out)?;
        Ok((cost, bytes.unwrap_or_default()))
    }

    fn shell(&self, script: &str) -> Outcome {
        match script {
            "" => Ok(()),
            _ => shell(script, &self.env),
        }
    }
}

/// The standard agent at a scale, seeded where it is not there yet.
fn seeded(dir: &Path, programs: &Path, scale: &str) -> Result<PathBuf, String> {
    let agent = dir.join(format!("agent-{scale}"));
    if !agent.join("done").exists() {
        println!("seeding the standard agent at scale {scale}");
        soak::scratch(agent.clone())?;
        run(Command::new(programs.join("nexo-testkit")).arg("seed").arg(&agent).arg(scale))?;
        run(Command::new("touch").arg(agent.join("done")))?;
    }
    Ok(agent)
}

/// Runs a bash script, strictly, unmeasured.
fn shell(script: &str, env: &[(&str, String)]) -> Outcome {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    run(&mut command)
}

/// Writes the table as Markdown and JSON.
fn report(options: &Options, results: &BTreeMap<usize, Measured>, cuts: &Value) -> Outcome {
    let machine = machine();
    let text = markdown(&options.scale, options.runs, &machine, results, cuts);
    let rows: Vec<Value> = results
        .iter()
        .map(|(index, result)| {
            let (workload, cost) = (&WORKLOADS[*index], Cost::medians(&result.runs));
            json!({
                "work": workload.group, "who": workload.who, "runs": result.runs.len(),
                "wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "rss_mib": cost.rss_mib,
                "bytes": result.bytes, "failed": result.failed,
            })
        })
        .collect();
    let json = json!({"machine": machine, "scale": options.scale, "results": rows, "cuts": cuts});
    crate::fixtures::put(&options.dir.join("report.md"), text.as_bytes())?;
    crate::fixtures::put(&options.dir.join("report.json"), format!("{json:#}\n").as_bytes())?;
    println!("{text}\nwritten to {}", options.dir.join("report.{md,json}").display());
    if options.docs {
        crate::fixtures::fill_block(&root().join("docs/performance.md"), "bench", &text)?;
    }
    Ok(())
}

fn markdown(
    scale: &str,
    runs: usize,
    machine: &[String],
    results: &BTreeMap<usize, Measured>,
    cuts: &Value,
) -> String {
    let mut text =
        format!("Scale {scale}, medians of {runs} alternating runs. {}.\n\n", machine.join("; "));
    text.push_str(
        "| work | who | CPU s | wall s | peak MiB | MB left | CPU, wall of ours / its |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|\n");
    for (index, result) in results {
        let workload = &WORKLOADS[*index];
        if let Some(why) = &result.failed {
            let why = why.lines().next().unwrap_or_default().replace('|', "\\|");
            let _ = writeln!(
                text,
                "| {} | {} | not measured: {why} | | | | |",
                workload.group,
                escaped(workload.who)
            );
            continue;
        }
        let cost = Cost::medians(&result.runs);
        let ours = WORKLOADS
            .iter()
            .position(|w| w.group == workload.group && w.who == "ours" && workload.who != "ours")
            .and_then(|index| results.get(&index))
            .filter(|ours| !ours.runs.is_empty())
            .map(|ours| Cost::medians(&ours.runs));
        let ratio = ours.map_or(String::new(), |ours| {
            format!("{:.2}, {:.2}", ours.cpu_s / cost.cpu_s, ours.wall_s / cost.wall_s)
        });
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let megabytes = result.bytes as f64 / 1e6;
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {:.0} | {megabytes:.1} | {ratio} |",
            workload.group,
            escaped(workload.who),
            cost.cpu_s,
            cost.wall_s,
            cost.rss_mib
        );
    }
    let _ = write!(
        text,
        "\nWriters held, over {} cuts under four writing processes (write-ahead log, small agent): {}; \
         torn: {}.\n",
        cuts["cuts"],
        cuts["held"].as_str().unwrap_or_default(),
        cuts["torn"]
    );
    text
}

fn escaped(who: &str) -> String {
    who.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a peer that is missing or failed and silently vanishes, or a ratio upside down.
    #[test]
    fn the_table_shows_ratios_and_what_was_not_measured() {
        let cost = |x| Cost { wall_s: x, cpu_s: x, rss_mib: 10.0 };
        let measured = |x| Measured { runs: vec![cost(x)], bytes: 1_000_000, failed: None };
        let missing =
            Measured { failed: Some("restic is not installed".to_owned()), ..Measured::default() };
        let results = BTreeMap::from([(0, measured(2.0)), (1, measured(4.0)), (3, missing)]);
        let cuts = json!({"cuts": 5, "torn": 0, "held": "p50 0.08"});
        let text = markdown("1", 1, &["a machine".to_owned()], &results, &cuts);
        assert!(text.contains("| first snapshot | ours | 2.00 | 2.00 | 10 | 1.0 |  |"), "{text}");
        assert!(text.contains("| 4.00 | 4.00 | 10 | 1.0 | 0.50, 0.50 |"), "{text}");
        assert!(text.contains("not measured: restic is not installed"), "{text}");
        assert!(text.contains("over 5 cuts under four writing processes (write-ahead log, small agent): p50 0.08; torn: 0."), "{text}");
    }
}
