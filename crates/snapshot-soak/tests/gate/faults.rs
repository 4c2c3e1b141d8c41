//! What the operating system refuses.

use snapshot_soak::faults;
use snapshot_soak::ground::Ground;
use snapshot_testkit::Random;

use crate::draw;

/// Cases of the seeded sample.
const SAMPLE: usize = 150;

/// Would catch: a false success, a failed sync that is passed over, an error that does not say what failed, where and
/// why, a leftover.
#[test]
fn whatever_is_refused_is_told_and_nothing_is_half_done() {
    let scratch = tempfile::tempdir().unwrap();
    let ground = Ground::lay(scratch.path()).unwrap();
    let (cases, mut random) = (faults::cases(&ground), Random::new(1));
    let more_than =
        [("refused, Before", 5), ("refused, After", 5), ("done all the same, After", 5)];
    draw(SAMPLE, &more_than, |tally| {
        let number = random.below(cases.len());
        cases[number].run(&ground, number as u64, tally).unwrap();
    });
}
