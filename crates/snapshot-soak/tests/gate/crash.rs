//! Deaths of a small agent's deeds.

use snapshot_fs::OpKind;
use snapshot_soak::ground::Ground;
use snapshot_soak::tally::Tally;
use snapshot_soak::{crash, work};
use snapshot_testkit::Random;

use crate::draw;

/// Cases of each seeded sample.
const SAMPLE: usize = 40;

/// Would catch: any order of steps in which a death leaves a mixture that the next command does not mend, loses
/// what was said to be done, or leaves something behind.
fn dies_at_every_second_change_from(first: u64) {
    let scratch = tempfile::tempdir().unwrap();
    let ground = Ground::lay(scratch.path()).unwrap();
    let mut tally = Tally::default();
    for case in (first..ground.points()).step_by(2) {
        crash::index_case(&ground, case, &mut tally).unwrap();
    }
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    for what in ["old", "new", "rolled forward"] {
        assert!(tally.counts[what] > 10, "{what}: {:?}", tally.counts);
    }
}

#[test]
fn death_at_any_even_change_of_any_deed_leaves_old_or_new() {
    dies_at_every_second_change_from(0);
}

#[test]
fn death_at_any_odd_change_of_any_deed_leaves_old_or_new() {
    dies_at_every_second_change_from(1);
}

/// Would catch: a recovery that cannot be recovered from.
#[test]
fn death_in_a_recovery_leaves_old_or_new() {
    let scratch = tempfile::tempdir().unwrap();
    let ground = Ground::lay(scratch.path()).unwrap();
    let mut tally = Tally::default();
    for case in 0..SAMPLE as u64 {
        crash::pair_case(&ground, 1, case, &mut tally).unwrap();
    }
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    assert!(tally.counts["rolled forward"] > 3, "{:?}", tally.counts);
}

/// Would catch: a next command that rolls over what the agent did after the crash.
#[test]
fn work_after_a_death_is_not_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let ground = Ground::lay(scratch.path()).unwrap();
    let mut random = Random::new(1);
    draw(SAMPLE, &[("decided, the work is kept", 1)], |tally| {
        let case = random.next_u64() % work::cases(&ground);
        work::work_case(&ground, case, tally).unwrap();
    });
}

/// Would catch: half a pack that stays in the repository for ever where a restore that died bringing it in is given up.
#[test]
fn a_restore_that_is_given_up_leaves_no_half_a_pack() {
    let scratch = tempfile::tempdir().unwrap();
    let ground = Ground::lay(scratch.path()).unwrap();
    let (mut tally, mut given_up) = (Tally::default(), 0);
    for point in 0..ground.points() {
        let (known, n) = ground.point(point);
        let change = &known.changes[usize::try_from(n).unwrap()];
        let half = change.kind == OpKind::Write && change.path.to_string_lossy().contains("/.git/");
        // Death at an odd change is followed by giving up, where somebody has to decide.
        if half && n % 2 == 1 {
            work::work_case(&ground, point * work::NEXT, &mut tally).unwrap();
            given_up += 1;
        }
    }
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    assert!(given_up > 0, "no such death");
}
