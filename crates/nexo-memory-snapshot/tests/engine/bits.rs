//! Every bit counts: a seeded choice of all that can be done to a small bundle and the files beside it.
//! `cargo xtask soak bits` does all of it, with the same judge.

#[path = "../../examples/soak_bits/bench.rs"]
mod bench;
#[path = "../../examples/soak_bits/judge.rs"]
mod judge;

use std::collections::BTreeMap;

use bench::Bench;
use judge::{Judge, Table};
use snapshot_testkit::Random;
use snapshot_testkit::damage::{Beside, Damage};

/// As many of every kind as there are, up to `count` in all.
fn spread(all: Vec<(Damage, Beside)>, count: usize, random: &mut Random) -> Vec<(Damage, Beside)> {
    let mut kinds: BTreeMap<(String, Beside), Vec<(Damage, Beside)>> = BTreeMap::new();
    for (damage, beside) in all {
        kinds.entry((damage.kind(), beside)).or_default().push((damage, beside));
    }
    let mut chosen = Vec::new();
    while chosen.len() < count && !kinds.is_empty() {
        for cases in kinds.values_mut() {
            chosen.push(cases.swap_remove(random.below(cases.len())));
        }
        kinds.retain(|_, cases| !cases.is_empty());
    }
    chosen.truncate(count);
    chosen
}

/// Judges so many cases; an encrypted bundle takes longer to open.
fn judge_some(sealed: bool, count: usize, seed: u64) {
    let tmp = tempfile::tempdir().unwrap();
    let bench = Bench::create(tmp.path(), sealed).unwrap();
    if sealed {
        // Else it is by its length that another inside is noticed, and not by what it is.
        let whole = bench.specimen.files.bundle.as_ref().unwrap().len();
        let forged = |n| bench.specimen.damaged(&Damage::Forged(n), Beside::Kept).unwrap();
        assert!((0..4).any(|n| forged(n).bundle.unwrap().len() == whole));
    }
    let chosen = spread(bench.specimen.damages().unwrap(), count, &mut Random::new(seed));
    let (mut judge, mut table, mut wrong) = (Judge::new(bench).unwrap(), Table::default(), vec![]);
    for (n, (damage, beside)) in chosen.iter().enumerate() {
        let verdict = judge.judge(n, damage, *beside).unwrap();
        table.add(damage, *beside, &verdict);
        if !verdict.wrong.is_empty() {
            wrong.push(format!("{damage:?}, beside it {beside:?}: {:?}", verdict.wrong));
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(table.total().cases, count as u64);
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
