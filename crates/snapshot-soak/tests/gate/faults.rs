//! What the operating system refuses.

use snapshot_soak::faults;
use snapshot_soak::ground::Ground;
use snapshot_soak::tally::Tally;
use snapshot_testkit::Random;

/// Cases of the seeded sample.
const SAMPLE: usize = 150;

/// Would catch: a false success, a failed sync that is passed over, an error that does not say what failed, where and
/// why, a leftover.
#[test]
fn whatever_is_refused_is_told_and_nothing_is_half_done() {
    let scratch = tempfile::tempdir().unwrap();
    let ground = Ground::lay(scratch.path()).unwrap();
    let (cases, mut tally, mut random) = (faults::cases(&ground), Tally::default(), Random::new(1));
    for _ in 0..SAMPLE {
        let number = random.below(cases.len());
        cases[number].run(&ground, number as u64, &mut tally).unwrap();
    }
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    for what in ["refused, Before", "refused, After"] {
        assert!(tally.counts[what] > 5, "{what}: {:?}", tally.counts);
    }
}
