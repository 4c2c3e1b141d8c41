//! The power goes.

use std::path::PathBuf;
use std::time::Duration;

use snapshot_soak::deed::Deed;
use snapshot_soak::part::Slice;
use snapshot_soak::power::{cut, model};
use snapshot_soak::tally::Tally;
use snapshot_testkit::Random;

const SEED: u64 = 8;
/// Cases of the model, drawn at random; those of a deed that was said to be done come besides.
const DRAWN: u64 = 60;
/// Real cuts.
const CUTS: u64 = 5;

/// Would catch: content that is renamed into place and not synced, a name that nobody synced although the operation
/// said it was done, and a step that is not to be seen before another and may be.
#[test]
fn what_a_disk_may_hold_after_a_power_cut_is_old_or_new() {
    let tmp = tempfile::tempdir().unwrap();
    let mut model = model::Model::new(tmp.path(), SEED).unwrap();
    let total = model.total();
    let (mut tally, mut random) = (Tally::of(total), Random::new(SEED));
    // Nothing is kept that was not synced, or all of it, and some between.
    let told = Deed::ALL.into_iter().flat_map(|deed| model.told(deed));
    let told = told.filter(|n| n % model::CHOICES < 2 || n % 4 == 0);
    let drawn = (0..DRAWN).map(|_| random.next_u64() % total);
    for n in told.collect::<Vec<_>>().into_iter().chain(drawn) {
        model.case(n, &mut tally).unwrap();
    }
    assert_eq!(tally.wrong, Vec::<String>::new());
    let seen = |what: &str| tally.counts.keys().any(|key| key.ends_with(what));
    assert!(seen(": old") && seen(": new") && seen(": rolled forward"), "{:?}", tally.counts);
}

/// Would catch: a model that believes in syncs which nobody makes. Each of these is taken out of a snapshot in turn,
/// and then what was said to be done may be gone.
#[test]
fn a_sync_that_is_left_out_is_noticed() {
    let tmp = tempfile::tempdir().unwrap();
    let mut model = model::Model::new(tmp.path(), SEED).unwrap();
    let deed = Deed::Snapshot;
    let syncs = model.syncs(deed);
    // The folder's, the sidecar's and the checksum file's, the bundle's: the last ones of all.
    let bundle = syncs.iter().find(|(_, what)| what.ends_with("/bundle")).unwrap();
    let (published, last) = (syncs.iter().filter(|s| s.0 > bundle.0), syncs.last().unwrap());
    let contents = published.filter(|(_, what)| what.starts_with("SyncFile"));
    let left_out: Vec<_> = contents.chain([bundle, last]).cloned().collect();
    assert_eq!(left_out.len(), 4, "{syncs:?}");
    for (sync, what) in left_out {
        let forgotten = model.forget(deed, sync);
        let mut tally = Tally::of(0);
        // Nothing is kept that was not synced.
        model.case(model.told(deed).start, &mut tally).unwrap();
        assert_eq!(tally.wrong.len(), 1, "{what}");
        model.remember(forgotten);
    }
}

/// Would catch: what only a real file system does to a memory, SQLite's and git's own files included.
#[test]
fn real_power_cuts_leave_old_or_new() {
    let tmp = tempfile::tempdir().unwrap();
    if let Some(why) = cut::unavailable(tmp.path()) {
        println!("NOT RUN: {why}");
        return;
    }
    let time = Duration::from_secs(3600);
    let (count, program) = (CUTS, PathBuf::new());
    let slice = Slice { seed: SEED, from: 0, count, time, dir: tmp.path().to_owned(), program };
    // And the one that left an empty branch.
    let last = Slice { from: cut::TOTAL - 1, count: 1, ..slice.clone() };
    for slice in [slice, last] {
        let tally = cut::run(&slice).unwrap();
        assert_eq!((tally.done, tally.wrong), (slice.count, Vec::new()));
    }
}
