//! Every seed goes through its target: what fuzzing once found is never found again.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests; which seed it was"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use snapshot_fuzz::{TARGETS, run};

/// Largest seed, and the most of them that a target has.
const MAX_BYTES: usize = 64 << 10;
const MAX_SEEDS: usize = 40;

fn corpus() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/fuzz"))
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Would catch: a defect that fuzzing found and somebody brings back; a target that nothing runs.
fn replay(target: &str) {
    let dir = corpus().join(target);
    let seeds = names(&dir);
    assert!(!seeds.is_empty() && seeds.len() <= MAX_SEEDS, "{target}: {} seeds", seeds.len());
    for seed in seeds {
        let data = fs::read(dir.join(&seed)).unwrap();
        assert!(data.len() <= MAX_BYTES, "{target}/{seed}: {} bytes", data.len());
        eprintln!("{target}/{seed}");
        run(target, &data);
    }
}

/// Would catch: a folder of seeds that no target reads any more, and a target without a test below.
#[test]
fn every_folder_has_a_target_and_every_target_a_folder() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&corpus()), targets);
    assert_eq!(REPLAYED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), targets);
}

/// Would catch: a target that the gate replays and nobody fuzzes.
#[test]
fn every_target_is_a_program_of_the_fuzzer() {
    let fuzzer = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let cargo = fs::read_to_string(fuzzer.join("Cargo.toml")).unwrap();
    for (target, _) in TARGETS {
        let source = fuzzer.join("fuzz_targets").join(format!("{target}.rs"));
        let source = fs::read_to_string(&source).unwrap();
        assert!(source.contains(&format!("run(\"{target}\", data)")), "{source}");
        assert!(cargo.contains(&format!("\"fuzz_targets/{target}.rs\"")), "{target}");
    }
    assert_eq!(names(&fuzzer.join("fuzz_targets")).len(), TARGETS.len());
}

macro_rules! replayed {
    ($($target:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*
    };
}

replayed! {
    age_envelope
    bundle
    configuration
    git_bundle
    journal
    keys
    manifest
    notes
    outbox_record
    seek_table
    sidecar
    snapshot_names
    sqlite_admission
    v1
}
