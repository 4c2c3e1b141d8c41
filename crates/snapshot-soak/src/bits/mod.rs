//! Every damage that can be done to a small bundle, plain and encrypted, and to the files beside it, is put to
//! `verify`, `restore`, `import`, `cat` and `diff`.
//!
//! A bundle tells how long its writers were held, and encryption is random: in another slice a case is the same
//! damage to bytes that differ a little, and there are a few more of them or fewer.

mod bench;
mod judge;

use std::collections::BTreeMap;
use std::path::Path;

use snapshot_testkit::Random;
use snapshot_testkit::damage::{Beside, Damage};

use crate::Outcome;
use crate::part::Slice;
use crate::tally::Tally;
use bench::Bench;
use judge::{End, Judge, VERBS};

/// Of a plain bundle.
///
/// # Errors
/// If the bundle cannot be made, or a case not be judged.
pub fn plain(slice: &Slice) -> Outcome<Tally> {
    all(slice, false)
}

/// Of an encrypted one.
///
/// # Errors
/// As [`plain`].
pub fn encrypted(slice: &Slice) -> Outcome<Tally> {
    all(slice, true)
}

/// `count` cases, as many of every kind as there are.
///
/// # Errors
/// As [`plain`].
pub fn some(dir: &Path, sealed: bool, count: usize, seed: u64) -> Outcome<Tally> {
    let bench = Bench::create(dir, sealed)?;
    if sealed && !has_forgery_of_its_length(&bench)? {
        return Err("another inside would be noticed by its length, not by what it is".into());
    }
    let chosen = spread(bench.specimen.damages()?, count, &mut Random::new(seed));
    let mut judge = Judge::new(bench)?;
    let mut tally = Tally::of(chosen.len() as u64);
    for (n, (damage, beside)) in chosen.iter().enumerate() {
        judge_one(&mut judge, n, damage, *beside, &mut tally)?;
        tally.done += 1;
    }
    Ok(tally)
}

fn all(slice: &Slice, sealed: bool) -> Outcome<Tally> {
    let bench = Bench::create(&slice.dir, sealed)?;
    let cases = bench.specimen.damages()?;
    let mut judge = Judge::new(bench)?;
    slice.run(cases.len() as u64, |n, tally| {
        let number = usize::try_from(n)?;
        let (damage, beside) = &cases[number];
        judge_one(&mut judge, number, damage, *beside, tally)
    })
}

/// Judges a case; how often each verb stopped is counted.
fn judge_one(
    judge: &mut Judge,
    n: usize,
    damage: &Damage,
    beside: Beside,
    tally: &mut Tally,
) -> Outcome<()> {
    let verdict = judge.judge(n, damage, beside)?;
    for (verb, end) in VERBS.iter().zip(&verdict.ends) {
        if matches!(end, End::Stopped(_)) {
            tally.count(format!("stopped {verb}"));
        }
    }
    if !verdict.wrong.is_empty() {
        let beside = beside.as_str();
        tally.wrong(n as u64, format!("{damage:?}, beside it {beside}: {:?}", verdict.wrong));
    }
    Ok(())
}

fn has_forgery_of_its_length(bench: &Bench) -> Outcome<bool> {
    let whole = bench.specimen.files.bundle.as_ref().map(Vec::len);
    for n in 0..4 {
        let forged = bench.specimen.damaged(&Damage::Forged(n), Beside::Kept)?;
        if forged.bundle.map(|bundle| bundle.len()) == whole {
            return Ok(true);
        }
    }
    Ok(false)
}

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
