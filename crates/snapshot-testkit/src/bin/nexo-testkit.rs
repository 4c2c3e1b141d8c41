//! The testkit as a program, for `cargo xtask bench` and `cargo xtask soak`: it seeds agents, compares
//! databases, and takes cuts with the real command line under writers in other processes.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool of developers, whose files are its own"
)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};
use snapshot_core::AgentId;
use snapshot_testkit::compare::Database;
use snapshot_testkit::floor;
use snapshot_testkit::oracle::Values;
use snapshot_testkit::{Agent, Journal, Scale, Seed, Torture, tool};

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage:
  nexo-testkit seed DIR SCALE                    the standard agent `ana` below DIR
  nexo-testkit same DATABASE DATABASE            fails where a row, the schema or the header differs
  nexo-testkit hash-floor BUNDLE                 decodes and hashes it on all cores, checks nothing
  nexo-testkit write-floor BUNDLE OUT            decodes it on all cores into one file, and syncs it
  nexo-testkit cuts PROGRAM DIR COUNT wal|delete COUNT cuts by PROGRAM under four writing processes";

fn main() -> ExitCode {
    tool::run(|args| match args {
        ["seed", dir, scale] => seed(Path::new(dir), scale),
        ["same", a, b] => same(Path::new(a), Path::new(b)),
        ["hash-floor", bundle] => floor::decode_and_hash(Path::new(bundle)).map_err(Into::into),
        ["write-floor", bundle, out] => {
            floor::decode_and_write(Path::new(bundle), Path::new(out)).map_err(Into::into)
        }
        ["cuts", program, dir, count, journal] => cuts(program, Path::new(dir), count, journal),
        ["writer"] => Torture::child().map_err(Into::into),
        _ => Err(USAGE.into()),
    })
}

fn seed(dir: &Path, scale: &str) -> Outcome<()> {
    Agent::create(dir, ana(), &Seed::standard(Scale(scale.parse()?)))?;
    Ok(())
}

fn same(a: &Path, b: &Path) -> Outcome<()> {
    let differences = Database::read(a)?.differences(&Database::read(b)?);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ").into()) }
}

/// One cut's verdict.
struct Cut {
    held_us: u64,
    torn: Option<String>,
}

/// Prints one JSON document; fails if a cut is torn.
fn cuts(program: &str, dir: &Path, count: &str, journal: &str) -> Outcome<()> {
    let journal = match journal {
        "wal" => Journal::Wal,
        "delete" => Journal::Delete,
        _ => return Err(USAGE.into()),
    };
    let count: u64 = count.parse()?;
    let agent = Agent::create(&dir.join("agent"), ana(), &Seed::tiny(1).with_journal(journal))?;
    let this = std::env::current_exe()?;
    let writers = Torture::processes(&agent, 4, || {
        let mut command = Command::new(&this);
        command.arg("writer");
        command
    })?;
    let mut cuts = Vec::new();
    for n in 0..count {
        let vault = dir.join("vault");
        cuts.push(cut(program, &agent, &vault, &dir.join("opened"))?);
        fs::remove_dir_all(vault)?;
        if n % 100 == 99 {
            eprintln!("{} of {count} cuts, {} steps", n + 1, writers.steps());
        }
    }
    let steps = writers.steps();
    writers.stop()?;
    let torn: Vec<&String> = cuts.iter().filter_map(|cut| cut.torn.as_ref()).collect();
    let mut held: Vec<u64> = cuts.iter().map(|cut| cut.held_us).collect();
    held.sort_unstable();
    // By nearest rank.
    let share = |percent: usize| held.get((held.len() * percent).div_ceil(100).saturating_sub(1));
    let report = json!({
        "cuts": cuts.len(), "journal": journal.as_str(), "torn": torn.len(), "steps": steps,
        "held_us": {"p50": share(50), "p90": share(90), "p99": share(99), "max": held.last()},
    });
    println!("{report}");
    match torn.first() {
        None => Ok(()),
        Some(first) => {
            Err(format!("{} of {count} cuts are torn; first: {first}", torn.len()).into())
        }
    }
}

/// Takes one snapshot and opens it with stock tools only.
fn cut(program: &str, agent: &Agent, vault: &Path, opened: &Path) -> Outcome<Cut> {
    let mut snapshot = Command::new(program);
    snapshot.args(["--json", "--no-progress", "snapshot", "--agent", agent.id().as_str()]);
    snapshot.arg("--root").arg(vault);
    snapshot.arg("--memdir-root").arg(agent.memdir_root());
    snapshot.arg("--sqlite-root").arg(agent.sqlite_root());
    let meta: Value = serde_json::from_str(&output(&mut snapshot)?)?;
    let bundle = PathBuf::from(meta["bundle_path"].as_str().ok_or("the meta names no bundle")?);
    if opened.exists() {
        fs::remove_dir_all(opened)?;
    }
    fs::create_dir_all(opened)?;
    output(Command::new("tar").arg("--zstd").arg("-xf").arg(&bundle).arg("-C").arg(opened))?;
    let manifest: Value = serde_json::from_slice(&fs::read(opened.join("manifest.json"))?)?;
    let subject = manifest["git"]["head_subject"].as_str().unwrap_or_default();
    let state = fs::read(opened.join("state/extract_cursor.json"))?;
    let values = Values::read(&opened.join("sqlite"), subject, &state)?;
    Ok(Cut {
        held_us: meta["capture"]["writers_held_us"].as_u64().ok_or("the meta says no hold time")?,
        torn: values.torn().or_else(|| shipped_head_is_missing(opened, &manifest)),
    })
}

/// HEAD's commit must be in the git bundle that travels with it.
fn shipped_head_is_missing(opened: &Path, manifest: &Value) -> Option<String> {
    let head = manifest["git"]["head_oid"].as_str()?;
    let mut list = Command::new("git");
    list.args(["bundle", "list-heads"]).arg(opened.join("git/memory.bundle"));
    match output(&mut list) {
        Ok(heads) if heads.contains(head) => None,
        Ok(heads) => Some(format!("torn: HEAD {head} is not among the shipped {heads}")),
        Err(e) => Some(format!("torn: the git bundle cannot be read: {e}")),
    }
}

fn output(command: &mut Command) -> Outcome<String> {
    let out = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() { Ok(text) } else { Err(format!("{command:?}: {text}").into()) }
}

fn ana() -> AgentId {
    AgentId::from_static("ana")
}
