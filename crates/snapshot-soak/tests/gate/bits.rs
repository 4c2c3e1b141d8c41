//! Every bit counts: a seeded choice of all that can be done to a small bundle and the files beside it.

use snapshot_soak::bits;

/// Judges so many cases; an encrypted bundle takes longer to open.
fn judge_some(sealed: bool, count: usize, seed: u64) {
    let tmp = tempfile::tempdir().unwrap();
    let tally = bits::some(tmp.path(), sealed, count, seed).unwrap();
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    assert_eq!(tally.done, count as u64);
    assert!(tally.counts["stopped verify"] > tally.done / 2, "{:?}", tally.counts);
}

/// Would catch: a byte, a field, a frame, an entry or a file of a plain snapshot that may change with
/// `verify` calling it good, or a verb that gives out what is not so before it stops.
#[test]
fn whatever_is_done_to_a_plain_snapshot_is_noticed() {
    judge_some(false, 600, 1);
}

/// Would catch: the same of an encrypted snapshot; another inside that passes for it because its file is
/// not compared with the summary.
#[test]
fn whatever_is_done_to_an_encrypted_snapshot_is_noticed() {
    judge_some(true, 400, 2);
}
