//! The program in races with itself.

use std::time::Duration;

use snapshot_soak::part::Slice;
use snapshot_soak::processes::run;

/// Would catch: a snapshot that another process's sweep, delete or death takes along, or that is torn by a restore beside
/// it; a lock that outlives who held it; an exit code that blames the caller for somebody else's work.
#[test]
fn processes_that_race_are_killed_and_stopped_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let slice = Slice {
        seed: 1,
        from: 0,
        count: 50,
        time: Duration::MAX,
        dir: dir.path().to_owned(),
        program: env!("CARGO_BIN_EXE_nexo-memory").into(),
    };
    let tally = run(&slice).unwrap();
    assert_eq!(tally.wrong, Vec::<String>::new());
    assert_eq!(tally.done, 50);
    let killed = tally.counts.iter().filter(|(what, _)| what.ends_with(" killed"));
    assert!(killed.map(|(_, n)| n).sum::<u64>() > 0, "{:?}", tally.counts);
}
