//! The soak of `cargo xtask soak bits`: every damage that can be done to a small bundle, plain and
//! encrypted, and to the files beside it, is put to `verify`, `restore`, `import`, `cat` and `diff`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool of developers, whose files are its own"
)]

mod bench;
mod judge;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use bench::{Bench, Outcome};
use judge::{Judge, Table};
use snapshot_testkit::damage::{Beside, Damage};
use snapshot_testkit::tool;

const USAGE: &str = "usage: soak_bits DIR";
/// Cases between two lines of progress.
const STEP: usize = 5000;
/// Most wrong cases that are told by name.
const TOLD: u64 = 20;

fn main() -> ExitCode {
    tool::run(|args| match args {
        [dir] => soak(Path::new(dir)).map_err(|e| e as _),
        _ => Err(USAGE.into()),
    })
}

/// Prints a table for each kind of bundle; fails if anything is wrong.
fn soak(dir: &Path) -> Outcome<()> {
    let mut wrong = 0;
    for (name, sealed) in [("plain", false), ("encrypted", true)] {
        let (dir, began) = (dir.join(name), Instant::now());
        let bench = Bench::create(&dir.join("first"), sealed)?;
        let cases = bench.specimen.damages()?;
        let bytes = bench.specimen.files.bundle.as_ref().map_or(0, Vec::len);
        let next = AtomicUsize::new(0);
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let tables: Vec<Outcome<Table>> = thread::scope(|scope| {
            let work = |worker| {
                let (bench, next, cases) = (&bench, &next, &cases);
                let dir = dir.join(format!("worker-{worker}"));
                scope.spawn(move || work(copy(bench, &dir)?, cases, next, name))
            };
            let running: Vec<_> = (0..workers).map(work).collect();
            let died = |_| Err("a worker died".into());
            running.into_iter().map(|worker| worker.join().unwrap_or_else(died)).collect()
        });
        let mut table = Table::default();
        for part in tables {
            for (kind, row) in part?.0 {
                table.0.entry(kind).or_default().add(&row);
            }
        }
        wrong += table.total().wrong;
        let took = began.elapsed().as_secs();
        println!("{name}: a bundle of {bytes} bytes, {workers} workers, {took} s\n\n{table}");
    }
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} cases are wrong").into()) }
}

/// The same bench in another folder.
fn copy(bench: &Bench, dir: &Path) -> Outcome<Bench> {
    fs::create_dir_all(dir)?;
    let copied = Command::new("cp").arg("-a").args([&bench.dir.join("."), dir]).status()?;
    if !copied.success() {
        return Err("cp failed".into());
    }
    let (specimen, identity) = (Arc::clone(&bench.specimen), bench.identity.clone());
    Ok(Bench { dir: dir.to_owned(), specimen, identity, ..*bench })
}

/// Takes cases until there are none.
fn work(
    bench: Bench,
    cases: &[(Damage, Beside)],
    next: &AtomicUsize,
    name: &str,
) -> Outcome<Table> {
    let (mut judge, mut table) = (Judge::new(bench)?, Table::default());
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let Some((damage, beside)) = cases.get(n) else { return Ok(table) };
        let verdict = judge.judge(n, damage, *beside)?;
        table.add(damage, *beside, &verdict);
        if !verdict.wrong.is_empty() && table.total().wrong <= TOLD {
            eprintln!("WRONG  {damage:?}, beside it {}: {:?}", beside.as_str(), verdict.wrong);
        }
        if n % STEP == STEP - 1 {
            eprintln!("{name}: {} of {}", n + 1, cases.len());
        }
    }
}
