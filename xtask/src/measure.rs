//! What one command costs: wall time, CPU and peak memory, of it and everything that it waits for.
//!
//! The kernel's account of finished children is kept per process, so each command runs under a fresh
//! process of ours (`xtask measure`) that has no other children.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

use crate::fixtures::fill_block;
use crate::tools::{Outcome, find, output, root, run};

/// What one run cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) rss_mib: f64,
}

impl Cost {
    /// The medians, each on its own.
    pub(crate) fn medians(runs: &[Self]) -> Self {
        let median = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            match values.len() {
                0 => f64::NAN,
                n if n % 2 == 1 => values[n / 2],
                n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
            }
        };
        Self {
            wall_s: median(|c| c.wall_s),
            cpu_s: median(|c| c.cpu_s),
            rss_mib: median(|c| c.rss_mib),
        }
    }
}

/// A table of what scripts cost, for `docs/performance.md`.
pub(crate) struct Table {
    text: String,
}

impl Table {
    /// One whose first two columns are called so.
    pub(crate) fn new(first: &str, second: &str) -> Self {
        let head =
            format!("| {first} | {second} | CPU s | wall s | peak MiB |\n|---|---|---|---|---|\n");
        Self { text: head }
    }

    /// Runs the script `runs` times and adds the medians; says so where the program that it `needs` is
    /// not installed.
    pub(crate) fn row(
        &mut self,
        (first, work): (&str, &str),
        needs: Option<&str>,
        script: &str,
        runs: usize,
        place: (&[(&str, String)], &Path),
    ) -> Outcome {
        self.alternating(&[(first, work, needs, script)], runs, place)
    }

    /// The same of several, in rounds: what disturbs the machine for a while disturbs them all.
    pub(crate) fn alternating(
        &mut self,
        rows: &[(&str, &str, Option<&str>, &str)],
        runs: usize,
        (env, scratch): (&[(&str, String)], &Path),
    ) -> Outcome {
        let missing = |needs: Option<&str>| needs.is_some_and(|program| find(program).is_none());
        let mut costs = vec![Vec::with_capacity(runs); rows.len()];
        for _ in 0..runs {
            for ((first, work, needs, script), costs) in rows.iter().zip(&mut costs) {
                if !missing(*needs) {
                    println!("{first}, {work}");
                    costs.push(measured(script, env, scratch)?);
                }
            }
        }
        for ((first, work, needs, _), costs) in rows.iter().zip(&costs) {
            let row = match needs.filter(|_| missing(*needs)) {
                Some(program) => format!("not measured: {program} is not installed | | |"),
                None => {
                    let Cost { cpu_s, wall_s, rss_mib } = Cost::medians(costs);
                    format!("{cpu_s:.2} | {wall_s:.2} | {rss_mib:.0} |")
                }
            };
            self.text.push_str(&format!("| {first} | {work} | {row}\n"));
        }
        Ok(())
    }

    /// Prints it after `before` and the machine, and puts it into the documentation's block of a name.
    pub(crate) fn finish(self, before: &str, block: Option<&str>) -> Outcome {
        let machine = machine();
        let machine = machine.first().map(String::as_str).unwrap_or_default();
        let text = format!("{before} {machine}.\n\n{}", self.text);
        println!("{text}");
        let Some(block) = block else { return Ok(()) };
        fill_block(&root().join("docs/performance.md"), block, &text)
    }
}

/// Machine and versions, one line each.
pub(crate) fn machine() -> Vec<String> {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut lines =
        vec![format!("{}, {cores} cores", model.map_or("unknown processor", |(_, m)| m))];
    for program in ["rustc", "zstd", "tar", "sqlite3", "restic", "borg"] {
        let version = find(program).and_then(|_| {
            let flag = if program == "restic" { "version" } else { "--version" };
            output(Command::new(program).arg(flag)).ok()
        });
        if let Some(line) = version.as_deref().and_then(|text| text.lines().next()) {
            lines.push(format!("{program}: {}", line.trim()));
        }
    }
    lines
}

/// Runs the script (bash, strict) under a measuring process.
pub(crate) fn measured(
    script: &str,
    env: &[(&str, String)],
    scratch: &Path,
) -> Result<Cost, String> {
    let report = scratch.join("cost.json");
    let this = std::env::current_exe().map_err(|e| format!("cannot find ourselves: {e}"))?;
    let mut command = Command::new(this);
    command.arg("measure").arg(&report).args(["bash", "-euo", "pipefail", "-c", script]);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    run(&mut command).map_err(|why| format!("{why}\n  script: {script}"))?;
    let text = fs::read_to_string(&report).map_err(|e| format!("no {}: {e}", report.display()))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| format!("bad cost: {e}"))?;
    let number = |name: &str| json[name].as_f64().ok_or(format!("no {name} in {text}"));
    Ok(Cost { wall_s: number("wall_s")?, cpu_s: number("cpu_s")?, rss_mib: number("rss_mib")? })
}

/// The measuring process.
#[expect(clippy::disallowed_methods, reason = "a report between two of our processes")]
pub(crate) fn child(report: &str, command: &[&str]) -> Outcome {
    let Some((program, args)) = command.split_first() else {
        return Err("nothing to measure".to_owned());
    };
    let started = Instant::now();
    run(Command::new(program).args(args))?;
    let wall_s = started.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| format!("no usage: {e}"))?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    // Kilobytes on Linux, bytes on macOS.
    let per_mib = if cfg!(target_os = "macos") { 1 << 20 } else { 1 << 10 };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let (cpu_s, rss_mib) = (micros as f64 / 1e6, usage.max_rss() as f64 / f64::from(per_mib));
    let json = json!({"wall_s": wall_s, "cpu_s": cpu_s, "rss_mib": rss_mib});
    fs::write(report, json.to_string()).map_err(|e| format!("cannot write {report}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a mean in a median's place, which one disturbed run would move.
    #[test]
    fn one_disturbed_run_does_not_move_the_median() {
        let cost = |x| Cost { wall_s: x, cpu_s: x, rss_mib: x };
        assert_eq!(Cost::medians(&[cost(1.0), cost(900.0), cost(2.0)]), cost(2.0));
        assert_eq!(Cost::medians(&[cost(1.0), cost(3.0)]), cost(2.0));
        assert!(Cost::medians(&[]).cpu_s.is_nan());
    }
}
