//! The small runs of the proofs, for the gate.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests: it plays the world around the product, and a failed step fails the test"
)]

use snapshot_soak::tally::Tally;

mod bits;
mod crash;
mod doctor;
mod faults;
mod live;
mod power;
mod refused;
mod scene;
mod synced;

/// Draws so many cases, and on up to four times as many until each of these things happened more often than said; none
/// may be wrong. With a change more or less in a deed every draw is another one, and what is rare may be missed by
/// chance.
fn draw(cases: usize, more_than: &[(&str, u64)], mut case: impl FnMut(&mut Tally)) {
    let mut tally = Tally::default();
    let seen = |tally: &Tally| {
        let count = |what: &str| tally.counts.get(what).copied().unwrap_or_default();
        more_than.iter().all(|(what, floor)| count(what) > *floor)
    };
    for drawn in 0..4 * cases {
        if drawn >= cases && seen(&tally) {
            break;
        }
        case(&mut tally);
    }
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    assert!(seen(&tally), "{:?}", tally.counts);
}
