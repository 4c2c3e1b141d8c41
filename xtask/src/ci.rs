//! The one gate. Steps run in this order, cheap ones first; the first failure ends it.

use std::env;
use std::path::Path;
use std::time::Instant;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::tools::{self, Outcome, cargo, has_cargo, output, prerequisites};
use crate::{api, edges, embeds, fixtures, nats, peers, systemd, tidy};

/// What the number of crates of the default command line must stay below, itself included.
const MAX_CLI_CRATES: usize = 300;

/// A file system in memory, as Linux has it, and the bytes that must be free there.
pub(crate) const MEMORY_DISK: &str = "/dev/shm";
const MEMORY_DISK_BYTES: u64 = 4 << 30;

/// A step's name, and what it does.
type Step = (&'static str, fn() -> Outcome);

const STEPS: [Step; 17] = [
    ("prerequisites", prerequisites),
    ("nats-server", nats::ensure),
    ("peers", peers::ensure),
    ("tidy", tidy::check),
    ("edges", edges::check),
    ("systemd", systemd::verify),
    ("crates", crate_count),
    ("fmt", fmt),
    ("clippy", clippy),
    ("test", test),
    ("features", features),
    ("embeds", embeds::check),
    ("doctest", doctest),
    ("doc", doc),
    ("api", api::check),
    ("fixtures", fixtures::check),
    ("deny", deny),
];

/// Runs every step, or the named ones.
pub(crate) fn run(only: &[&str]) -> Outcome {
    if let Some(unknown) = only.iter().find(|name| !STEPS.iter().any(|(step, _)| step == *name)) {
        let steps: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no step {unknown:?}; there are: {}", steps.join(", ")));
    }
    let started = Instant::now();
    for (name, step) in STEPS {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        println!("== {name}");
        let at = Instant::now();
        step().map_err(|why| format!("step {name}: {why}"))?;
        println!("== {name}: ok, {:.1} s", at.elapsed().as_secs_f64());
    }
    println!("all good, {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn fmt() -> Outcome {
    cargo_run(&["fmt", "--all", "--check"])
        .map_err(|why| format!("{why}; `cargo fmt --all` mends it"))
}

fn clippy() -> Outcome {
    cargo_run(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])
}

fn test() -> Outcome {
    if !has_cargo("nextest") {
        println!("cargo-nextest is not installed: cargo test runs the same tests");
    }
    tests(&["--workspace", "--all-features", "--lib", "--bins", "--tests"], &[])
}

/// What is built without the optional parts: a warning there is one too, and every verb of the smallest
/// command line says what the whole one does.
fn features() -> Outcome {
    embeds::check_types_only()?;
    for (package, features) in [
        ("snapshot-events", ""),
        ("nexo-memory-snapshot", ""),
        ("nexo-memory-snapshot", "local"),
        ("nexo-memory-cli", ""),
    ] {
        let small =
            ["clippy", "--package", package, "--no-default-features", "--features", features];
        cargo_run(&[small.as_slice(), &["--locked", "--", "-D", "warnings"]].concat())?;
    }
    let smallest = ["--package", "nexo-memory-cli", "--no-default-features", "--test", "cli"];
    tests(&smallest, &["events::", "help::", "json::"])
}

/// Runs tests, of those chosen the ones with one of `names` in theirs, or all; all failures are told, not
/// the first alone.
fn tests(which: &[&str], names: &[&str]) -> Outcome {
    let runner: &[&str] = match has_cargo("nextest") {
        true => &["nextest", "run"],
        false => &["test"],
    };
    let flags = ["--locked", "--no-fail-fast", "--"];
    let mut command = cargo(&[runner, which, &flags, names].concat());
    if let Some(dir) = memory_disk(Path::new(MEMORY_DISK)) {
        println!("the tests' scratch folders are in {}", dir.display());
        command.env("TMPDIR", dir);
    }
    tools::run(&mut command)
}

/// Where the tests' scratch folders go, unless `TMPDIR` says: thousands of small syncs are most of their
/// time on a disk, and what they prove are orders and contents. `soak` and `bench` use the disk.
pub(crate) fn memory_disk(dir: &Path) -> Option<&Path> {
    let stat = statvfs(dir).ok()?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let runs_programs = !stat.flags().contains(FsFlags::ST_NOEXEC);
    let fits = env::var_os("TMPDIR").is_none() && runs_programs && free >= MEMORY_DISK_BYTES;
    fits.then_some(dir)
}

fn doctest() -> Outcome {
    cargo_run(&["test", "--workspace", "--all-features", "--locked", "--doc"])
}

fn doc() -> Outcome {
    let args = ["doc", "--workspace", "--all-features", "--locked", "--no-deps"];
    tools::run(cargo(&args).env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny() -> Outcome {
    if !has_cargo("deny") {
        println!(
            "NOT RUN: cargo-deny is not installed (licences, advisories and sources unchecked)"
        );
        return Ok(());
    }
    println!(
        "advisories: NOT RUN, for they need their database from the network: cargo deny check"
    );
    cargo_run(&["deny", "--offline", "check", "bans", "licenses", "sources"])
}

/// First impressions count: what a newcomer compiles stays small.
fn crate_count() -> Outcome {
    let tree = output(&mut cargo(&[
        "tree",
        "--locked",
        "--package",
        "nexo-memory-cli",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    let mut crates: Vec<&str> =
        tree.lines().filter_map(|l| l.strip_suffix(" (*)").or(Some(l))).collect();
    crates.sort_unstable();
    crates.dedup();
    println!("the default command line needs {} crates", crates.len());
    if crates.len() < MAX_CLI_CRATES {
        return Ok(());
    }
    Err(format!("{} crates, the limit is {MAX_CLI_CRATES}", crates.len()))
}

fn cargo_run(args: &[&str]) -> Outcome {
    tools::run(&mut cargo(args))
}
