//! What reading takes of memory: the peak of a process of its own, on bundles at the limits of the format.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use rusqlite::Connection;
use snapshot_testkit::Crafted;

use super::Home;

/// The arguments of the measured program, as JSON, for the process that measures it.
const MEASURED: &str = "PEAK_OF";
/// What reading anything may take beside git objects, in MiB.
const BOUND_MIB: u64 = 256;
/// Largest manifest, in bytes, and most artifacts, as `docs/format.md` has them.
const MANIFEST: usize = 16 << 20;
const ARTIFACTS: usize = 65_536;
/// Most frames.
const FRAMES: usize = 1 << 20;

/// The process that measures: the kernel keeps the peak of a process's finished children.
#[test]
fn measuring_process() {
    let Some(args) = std::env::var_os(MEASURED) else { return };
    let args: Vec<String> = serde_json::from_str(args.to_str().unwrap()).unwrap();
    let program = assert_cmd::cargo::cargo_bin!("nexo-memory");
    let said = Command::new(program).args(args).env_remove(MEASURED).output().unwrap();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    // Kilobytes on Linux, bytes on macOS.
    let per_mib = if cfg!(target_os = "macos") { 1 << 20 } else { 1 << 10 };
    let err = String::from_utf8_lossy(&said.stderr).replace('\n', " ");
    println!("\npeak {} {} {err}", usage.max_rss() / per_mib, said.status.code().unwrap());
}

/// Peak of a run in MiB, and its exit code.
fn peak(home: &Home, args: &[&str]) -> (u64, i32, String) {
    let run = home.command(args);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "bounds::measuring_process", "--nocapture"])
        .current_dir(home.0.path());
    command.env_clear().envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let out = command.env(MEASURED, serde_json::to_string(args).unwrap()).output().unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    let line = out.lines().find_map(|line| line.strip_prefix("peak ")).unwrap();
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    (word().parse().unwrap(), word().parse().unwrap(), word().to_owned())
}

/// A manifest as long as one may be.
fn padded(bundle: &Crafted, id: &str) -> String {
    let with = |bytes: usize| bundle.manifest(id, &format!(r#","pad":"{}""#, "x".repeat(bytes)));
    with(MANIFEST - with(0).len())
}

/// As many small files as a bundle may hold.
fn crowded(path: &Path, id: &str, salt: &str) {
    let mut bundle = Crafted::create(path).unwrap();
    for n in 0..ARTIFACTS {
        bundle.file(&format!("{salt}{n:x}"), salt.as_bytes()).unwrap();
    }
    let manifest = padded(&bundle, id);
    bundle.finish(&manifest).unwrap();
}

/// As many frames as there may be, of a byte each.
fn shredded(path: &Path, id: &str, salt: &str) {
    let mut bundle = Crafted::create(path).unwrap();
    bundle.frames_of(1).unwrap();
    // The header, and some frames for the manifest.
    let content = vec![0; FRAMES - 4096];
    bundle.file(salt, &content).unwrap();
    let manifest = padded(&bundle, id);
    bundle.finish(&manifest).unwrap();
}

/// Everything else that grows while it is compared: 4 million lines, cells, a cache that the database asks for, values
/// of state.
fn swelling(home: &Home, path: &Path, id: &str, salt: &str) {
    let database = home.path(&format!("{salt}.db"));
    let conn = Connection::open(&database).unwrap();
    conn.execute_batch(&format!(
        "PRAGMA default_cache_size = 1000000; CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE TABLE u(x);
         INSERT INTO t VALUES (1, zeroblob(15000000)), (2, '{salt}');
         WITH RECURSIVE n(at) AS (SELECT 3 UNION ALL SELECT at + 1 FROM n LIMIT 8000)
         INSERT INTO t SELECT at, zeroblob(8000 + {salt}) FROM n;
         INSERT INTO u VALUES (zeroblob(40000000) || '{salt}');"
    ))
    .unwrap();
    drop(conn);
    let database = fs::read(database).unwrap();
    let mut bundle = Crafted::create(path).unwrap();
    let pages = database.len() / 4096;
    let info = format!(
        r#","sqlite":{{"store":"long_term","page_size":4096,"page_count":{pages},"journal_mode":"delete","integrity":"ok"}}"#
    );
    bundle.entry("sqlite/long_term.sqlite", "sqlite_long_term", &info, &database).unwrap();
    let lines = format!("{salt}\n").repeat((4 << 20) / 2);
    bundle.file("lines", lines.as_bytes()).unwrap();
    for n in 0..10 {
        bundle.file(&format!("some-{n}"), &lines.as_bytes()[..199_990]).unwrap();
    }
    let state = format!("[{}{salt}]", "0,".repeat((1 << 20) - 2));
    bundle
        .entry("state/extract_cursor.json", "state_extract_cursor", "", state.as_bytes())
        .unwrap();
    let manifest = padded(&bundle, id);
    bundle.finish(&manifest).unwrap();
}

/// Would catch: a limit that is none, for what lies within it takes many times its size while it is read.
#[test]
fn no_reading_takes_more_memory_than_it_may() {
    let ids = ["6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d", "7f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d"];
    let mut told = Vec::new();
    for kind in ["crowded", "shredded", "swelling"] {
        let home = Home::new();
        let make = |n: usize| {
            let (path, salt) = (home.path(&format!("{n}.tar.zst")), format!("{}", n + 1));
            match kind {
                "crowded" => crowded(&path, ids[n], &salt),
                "shredded" => shredded(&path, ids[n], &salt),
                _ => swelling(&home, &path, ids[n], &salt),
            }
        };
        make(0);
        make(1);
        fs::create_dir(home.path("mem")).unwrap();
        let store = "long_term=facts.db";
        let over = [
            "restore",
            "1.tar.zst",
            "--agent",
            "ana",
            "--memdir",
            "mem",
            "--store",
            store,
            "--yes",
        ];
        // What takes most of each; docs/reliability.md has all.
        let runs: &[(&[&str], i32)] = match kind {
            "shredded" => &[(&["diff", "0.tar.zst", "1.tar.zst", "--json"], 0)],
            _ => &[(&["diff", "0.tar.zst", "1.tar.zst", "--json"], 0), (&over, 0)],
        };
        for (args, code) in runs {
            let (mib, found, err) = peak(&home, args);
            assert_eq!(found, *code, "{kind}: {args:?}: {err}");
            told.push(format!("{mib:4} MiB  {kind}: {}", args[0]));
            assert!(mib <= BOUND_MIB, "{kind}: {args:?} took {mib} MiB");
        }
    }
    let told = told.join("\n");
    // Shown where the test's output is.
    println!("{told}");
}

/// Would catch: a disk filled to the last byte by what a small bundle unfolds to, and told half way.
#[test]
fn what_does_not_fit_is_not_begun() {
    const PART_MIB: usize = 7 << 10;
    let home = Home::new();
    let disk = rustix::fs::statvfs(home.0.path()).unwrap();
    let parts = usize::try_from((disk.f_bavail * disk.f_frsize) >> 20).unwrap() / PART_MIB + 1;
    if parts * PART_MIB >= FRAMES - 64 {
        eprintln!("skipped: this disk has more room than a bundle can declare");
        return;
    }
    let mut bundle = Crafted::create(&home.path("0.tar.zst")).unwrap();
    for part in 0..parts {
        bundle.hole(&format!("memory_files/{part}"), "memory_file", "", PART_MIB).unwrap();
    }
    let manifest = bundle.manifest("6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d", "");
    bundle.finish(&manifest).unwrap();
    let said = home.run(&["extract", "0.tar.zst", "--to", "out"]);
    assert_eq!(said.code, 9, "{said:?}");
    assert!(said.err.contains("bytes free and has"), "{said:?}");
    assert_eq!(fs::read_dir(home.path("out")).unwrap().count(), 0);
}
