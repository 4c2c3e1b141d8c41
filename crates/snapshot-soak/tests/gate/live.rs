//! Restores under open connections: cases that cover every value of every axis.

use std::path::Path;
use std::time::Duration;

use snapshot_soak::live::{Case, run_these};
use snapshot_soak::part::Slice;

/// Would catch: a connection that goes on seeing the old state, or a mixture; a row acknowledged before the restore
/// that was not kept, or after it that vanishes; a restore over an open transaction, or what a refused one leaves.
#[test]
fn who_has_the_databases_open_sees_the_restore_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let slice = Slice {
        seed: 1,
        from: 0,
        count: u64::MAX,
        time: Duration::MAX,
        dir: dir.path().to_owned(),
        program: Path::new("").to_owned(),
    };
    let program = Path::new(env!("CARGO_BIN_EXE_nexo-soak"));
    let tally = run_these(&slice, program, &Case::that_cover(24));
    assert_eq!(tally.wrong, Vec::<String>::new());
    assert_eq!(tally.done, 24);
    assert!(tally.counts["busy"] > 0, "{:?}", tally.counts);
}
