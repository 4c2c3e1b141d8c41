//! The soak of what reads untrusted bytes: cargo-fuzz over every target, from the seeds of `fixtures/fuzz`.
//!
//! Invariant: only a working corpus below `target/` grows; what is checked in changes by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::ci::memory_disk;
use crate::fixtures::put;
use crate::soak::{clear, scratch};
use crate::tools::{Outcome, has_cargo, output, root, run, target};

/// The fuzzer's package, a workspace of its own.
const PACKAGE: &str = "crates/snapshot-fuzz/fuzz";
/// The seeds, a folder for each target.
const SEEDS: &str = "fixtures/fuzz";
/// Minutes for all targets together, unless told.
const MINUTES: u64 = 60;
/// What counts as a finding beside a panic: so many MiB, so many seconds for one input.
const MAX_RSS_MIB: u32 = 1024;
const MAX_SECONDS: u32 = 20;
/// Longest input, in bytes.
const MAX_LEN: u32 = 65536;

/// What is to be done.
#[derive(Debug, PartialEq)]
struct Plan {
    minutes: u64,
    target: Option<String>,
}

/// What one target did.
#[derive(Debug, Default, PartialEq)]
struct Row {
    target: String,
    seconds: u64,
    executions: u64,
    new_paths: u64,
    coverage: u64,
    peak_mib: u64,
    /// Where the input lies that it ended at.
    crash: Option<String>,
}

/// Runs every target, or the one that `flags` name, for its share of the minutes. Fails where one ended before
/// its time.
pub(crate) fn soak(flags: &[&str]) -> Outcome {
    let plan = plan(flags)?;
    let mut targets = targets()?;
    if let Some(only) = &plan.target {
        targets.retain(|name| name == only);
        if targets.is_empty() {
            return Err(format!("no target {only}; {PACKAGE}/fuzz_targets has them"));
        }
    }
    let programs = build()?;
    let seconds = (plan.minutes * 60 / targets.len() as u64).max(1);
    let mut rows = Vec::new();
    for name in &targets {
        println!("{name}: {seconds} s");
        rows.push(fuzz(&programs, name, seconds)?);
    }
    print!("{}", table(&rows));
    let crashes: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{}: {}", row.target, row.crash.as_ref()?)))
        .collect();
    if crashes.is_empty() { Ok(()) } else { Err(format!("found:\n  {}", crashes.join("\n  "))) }
}

fn plan(flags: &[&str]) -> Result<Plan, String> {
    let mut plan = Plan { minutes: MINUTES, target: None };
    let mut flags = flags;
    while let [flag, value, rest @ ..] = flags {
        match *flag {
            "--minutes" => {
                plan.minutes =
                    value.parse().map_err(|_| format!("{value} is no number of minutes"))?;
            }
            "--target" => plan.target = Some((*value).to_owned()),
            _ => break,
        }
        flags = rest;
    }
    if flags.is_empty() { Ok(plan) } else { Err(format!("what is {}?", flags.join(" "))) }
}

/// The names of the targets, each a program.
fn targets() -> Result<Vec<String>, String> {
    let dir = root().join(PACKAGE).join("fuzz_targets");
    let fail = |e| format!("cannot read {}: {e}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds the targets, instrumented; gives the folder that they lie in.
fn build() -> Result<PathBuf, String> {
    if !has_cargo("fuzz") {
        return Err("cargo-fuzz is missing: cargo install cargo-fuzz".to_owned());
    }
    let version = output(Command::new("rustc").args(["+nightly", "-vV"]).current_dir(root()));
    let version = version.map_err(|why| {
        format!("{why}; fuzzing needs a nightly compiler: rustup toolchain install nightly")
    })?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say for which machine it is")?;
    let dir = target().join("fuzz");
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz", "build", "--fuzz-dir", PACKAGE, "--target-dir"]).arg(&dir);
    run(command.current_dir(root()))?;
    Ok(dir.join(host).join("release"))
}

/// One target, for so many seconds.
fn fuzz(programs: &Path, name: &str, seconds: u64) -> Result<Row, String> {
    let place = target().join("soak/fuzz").join(name);
    let corpus = place.join("corpus");
    make_dir(&corpus)?;
    // What a target that is killed leaves goes with this folder.
    let tmp = memory_disk(Path::new("/dev/shm")).map_or_else(|| place.clone(), Path::to_owned);
    let tmp = scratch(tmp.join(format!("fuzz-{name}-{}", std::process::id())))?;
    let mut command = Command::new(programs.join(name));
    command
        .arg(&corpus)
        .arg(root().join(SEEDS).join(name))
        .args([
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MAX_RSS_MIB}"),
            format!("-timeout={MAX_SECONDS}"),
            format!("-max_len={MAX_LEN}"),
            format!("-artifact_prefix={}/", place.display()),
            "-print_final_stats=1".to_owned(),
        ])
        .env("TMPDIR", &tmp)
        .stdout(Stdio::null());
    let started = Instant::now();
    let ended = command.output().map_err(|e| format!("cannot run the target {name}: {e}"))?;
    let took = started.elapsed().as_secs();
    clear(&tmp)?;
    put(&place.join("log"), &ended.stderr)?;
    let mut row = parse(name, &String::from_utf8_lossy(&ended.stderr));
    row.seconds = took;
    if !ended.status.success() && row.crash.is_none() {
        row.crash = Some(format!("{}, see {}", ended.status, place.join("log").display()));
    }
    Ok(row)
}

/// What libFuzzer said.
fn parse(name: &str, log: &str) -> Row {
    let stat = |key: &str| {
        let mut values = log.lines().filter_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        values.next_back().unwrap_or_default()
    };
    let mut coverage = log.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:");
        words.nth(1)?.parse().ok()
    });
    let written = |line: &str| Some(line.split_once("Test unit written to ")?.1.trim().to_owned());
    Row {
        target: name.to_owned(),
        seconds: 0,
        executions: stat("stat::number_of_executed_units:"),
        new_paths: stat("stat::new_units_added:"),
        coverage: coverage.next_back().unwrap_or_default(),
        peak_mib: stat("stat::peak_rss_mb:"),
        crash: log.lines().find_map(written),
    }
}

fn table(rows: &[Row]) -> String {
    let mut text =
        "| target | executions | minutes | new paths | edges covered | peak MiB | crashes |\n\
        |---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let Row { target, seconds, executions, new_paths, coverage, peak_mib, crash } = row;
        let (minutes, crashes) = (seconds / 60, u8::from(crash.is_some()));
        let tenths = seconds % 60 / 6;
        text.push_str(&format!(
            "| {target} | {executions} | {minutes}.{tenths} | {new_paths} | {coverage} | {peak_mib} | {crashes} |\n"
        ));
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "a folder below target/")]
fn make_dir(dir: &Path) -> Outcome {
    fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a number of another line, a crash that goes unsaid.
    #[test]
    fn what_the_fuzzer_says_becomes_a_row() {
        let log = "INFO: seed corpus: files: 4\n\
            #5\tINITED cov: 10 ft: 11 corp: 4/99b exec/s: 0 rss: 40Mb\n\
            #70\tNEW    cov: 23 ft: 40 corp: 5/99b lim: 4 exec/s: 0 rss: 41Mb L: 4/40\n\
            thread panicked\n\
            artifact_prefix='/x/'; Test unit written to /x/crash-1\n\
            stat::number_of_executed_units: 71\n\
            stat::average_exec_per_sec:     0\n\
            stat::new_units_added:          1\n\
            stat::slowest_unit_time_sec:    0\n\
            stat::peak_rss_mb:              43\n";
        let row = parse("names", log);
        assert_eq!((row.executions, row.new_paths, row.coverage, row.peak_mib), (71, 1, 23, 43));
        assert_eq!(row.crash.as_deref(), Some("/x/crash-1"));
        assert_eq!(parse("names", ""), Row { target: "names".to_owned(), ..Row::default() });
        let text = table(&[Row { seconds: 90, ..row }]);
        assert!(text.ends_with("| names | 71 | 1.5 | 1 | 23 | 43 | 1 |\n"), "{text}");
    }

    /// Would catch: a flag that is taken for another or for nothing.
    #[test]
    fn flags_are_what_they_say() {
        let both = Plan { minutes: 5, target: Some("bundle".to_owned()) };
        assert_eq!(plan(&["--minutes", "5", "--target", "bundle"]), Ok(both));
        assert_eq!(plan(&[]), Ok(Plan { minutes: MINUTES, target: None }));
        for wrong in [&["--minutes"][..], &["--minutes", "x"], &["--hours", "1"]] {
            assert!(plan(wrong).is_err(), "{wrong:?}");
        }
    }

    /// Would catch: a look into the wrong folder, which finds nothing to fuzz.
    #[test]
    fn there_are_targets_and_each_has_seeds() {
        let targets = targets().unwrap();
        assert!(targets.iter().any(|name| name == "bundle"), "{targets:?}");
        for name in targets {
            assert!(root().join(SEEDS).join(&name).is_dir(), "{name} has no seeds");
        }
    }
}
