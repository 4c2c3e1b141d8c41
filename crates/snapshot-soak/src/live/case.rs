//! The axes of the cases, and some cases that stand for all.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use snapshot_testkit::Journal;

/// One place in the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What the peers do while the restore comes.
    pub activity: Activity,
    /// Bytes in a page of the live stores.
    pub page_size: u32,
    /// Their journal mode.
    pub journal: Journal,
    /// In write-ahead-log mode: there are frames in the log. Else: the peers have read all before.
    pub warm: bool,
    /// Where the first peer runs.
    pub place: Place,
}

/// What a peer does with its connections while the restore comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Nothing.
    Idle,
    /// Short transactions that read, one after another.
    Reading,
    /// Rows, each of them acknowledged.
    Writing,
    /// One transaction that reads and stays open.
    Pinned,
    /// One transaction that writes and stays open.
    Stubborn,
}

/// Where a peer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A thread of the process that restores.
    Here,
    /// A process of its own.
    Elsewhere,
}

const ACTIVITIES: [Activity; 5] =
    [Activity::Idle, Activity::Reading, Activity::Writing, Activity::Pinned, Activity::Stubborn];
const PAGE_SIZES: [u32; 5] = [512, 1024, 4096, 8192, 65536];
const JOURNALS: [Journal; 4] = [Journal::Wal, Journal::Delete, Journal::Truncate, Journal::Persist];
const PLACES: [Place; 2] = [Place::Here, Place::Elsewhere];

impl Case {
    /// Cases in the product; later numbers are the same ones with other seeds.
    pub const DIFFERENT: u64 = 400;

    /// The case of a number.
    #[must_use]
    pub fn nth(n: u64) -> Self {
        let [activity, page_size, journal, warm, place] = digits(n);
        Self {
            activity: ACTIVITIES[activity],
            page_size: PAGE_SIZES[page_size],
            journal: JOURNALS[journal],
            warm: warm == 1,
            place: PLACES[place],
        }
    }

    /// The numbers of `count` cases in which as many pairs of values as possible meet.
    #[must_use]
    pub fn that_cover(count: usize) -> Vec<u64> {
        let (mut met, mut chosen) = (BTreeSet::new(), Vec::new());
        for _ in 0..count {
            let new = |n: u64| pairs(n).filter(|pair| !met.contains(pair)).count();
            // The first of those that bring most.
            let best = (0..Self::DIFFERENT).max_by_key(|&n| (new(n), std::cmp::Reverse(n)));
            let best = best.unwrap_or_default();
            met.extend(pairs(best));
            chosen.push(best);
        }
        chosen
    }
}

impl Place {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Here => Self::Elsewhere,
            Self::Elsewhere => Self::Here,
        }
    }
}

/// The index of the value on each axis.
fn digits(n: u64) -> [usize; 5] {
    let mut rest = usize::try_from(n % Case::DIFFERENT).unwrap_or_default();
    [ACTIVITIES.len(), PAGE_SIZES.len(), JOURNALS.len(), 2, PLACES.len()].map(|size| {
        let digit = rest % size;
        rest /= size;
        digit
    })
}

/// Values of two axes that meet in a case.
fn pairs(n: u64) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let digits = digits(n);
    (0..digits.len()).flat_map(move |a| (0..a).map(move |b| (a, digits[a], b, digits[b])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: an axis whose values the numbers, or the gate's cases, never reach.
    #[test]
    fn every_value_has_a_case() {
        let all: BTreeSet<_> = (0..Case::DIFFERENT).map(digits).collect();
        assert_eq!(all.len() as u64, Case::DIFFERENT);
        let chosen = Case::that_cover(24);
        assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), 24);
        let values = |numbers: &[u64]| -> BTreeSet<(usize, usize)> {
            numbers.iter().flat_map(|&n| digits(n).into_iter().enumerate()).collect()
        };
        assert_eq!(values(&chosen), values(&(0..Case::DIFFERENT).collect::<Vec<_>>()));
    }
}
