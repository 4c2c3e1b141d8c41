//! What a transaction changed so far, undone as SQLite undoes it.
//!
//! Invariants: count and bytes are bounded; what a savepoint or a statement undid is gone, with what
//! was dropped since, so that only what was committed is ever told or counted; what a commit tells of
//! a row is where it began and where it ended.

use std::collections::HashMap;
use std::mem;
use std::os::raw::c_int;

use snapshot_core::Sha256Digest;

/// One change of one row: the digests before and after, none where there was or is no row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) old: Option<Sha256Digest>,
    pub(super) new: Option<Sha256Digest>,
}

/// The changes of the transaction under way.
#[derive(Debug)]
pub(super) struct Pending {
    max: usize,
    max_bytes: usize,
    changes: Vec<Change>,
    bytes: usize,
    /// Changes that found no room. After the first, none finds any: what is kept is a beginning.
    dropped: u64,
    /// The savepoints, those of statements too, that were opened while SQLite told us.
    marks: Vec<Mark>,
    begun: bool,
}

/// How it was when a savepoint was opened.
#[derive(Debug)]
struct Mark {
    savepoint: c_int,
    changes: usize,
    dropped: u64,
}

/// What became of one row: states that were left and not entered, and the other way round. However
/// many changes there were, and in whatever order they are told (a foreign key of a row to itself
/// changes it again before the trigger of the first change runs), one of each is left, or none.
struct Net {
    order: usize,
    left: Vec<Option<Sha256Digest>>,
    entered: Vec<Option<Sha256Digest>>,
}

impl Change {
    /// What it takes in memory.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.capacity()
    }
}

impl Pending {
    pub(super) fn new(max: usize, max_bytes: usize) -> Self {
        let (changes, marks) = (Vec::new(), Vec::new());
        Self { max, max_bytes, changes, bytes: 0, dropped: 0, marks, begun: false }
    }

    /// A transaction writes, perhaps not for the first time: a schema that was read anew makes a
    /// second virtual table, which is told of the rest as the first one is.
    pub(super) const fn begin(&mut self) {
        self.begun = true;
    }

    pub(super) fn push(&mut self, change: Change) {
        // Somebody called our function by hand.
        if !self.begun {
            return;
        }
        let bytes = change.bytes();
        let full = self.changes.len() >= self.max || self.bytes + bytes > self.max_bytes;
        if full || self.dropped > 0 {
            self.dropped += 1;
            return;
        }
        self.bytes += bytes;
        self.changes.push(change);
    }

    /// A savepoint is open. One that is known is told again on behalf of a second virtual table, and
    /// was opened when it was told first.
    pub(super) fn savepoint(&mut self, savepoint: c_int) {
        if !self.marks.iter().any(|mark| mark.savepoint == savepoint) {
            let (changes, dropped) = (self.changes.len(), self.dropped);
            self.marks.push(Mark { savepoint, changes, dropped });
        }
    }

    /// A savepoint and those within it are no more; what was changed in them stays.
    pub(super) fn release(&mut self, savepoint: c_int) {
        self.marks.retain(|mark| mark.savepoint < savepoint);
    }

    /// All since a savepoint is undone; the savepoint stays. One that we were never told of is older
    /// than the first change: SQLite tells of each that is opened later.
    pub(super) fn rollback_to(&mut self, savepoint: c_int) {
        let mark = self.marks.iter().find(|mark| mark.savepoint == savepoint);
        let (changes, dropped) = mark.map_or((0, 0), |mark| (mark.changes, mark.dropped));
        self.marks.retain(|mark| mark.savepoint <= savepoint);
        let undone = self.changes.drain(changes.min(self.changes.len())..);
        self.bytes -= undone.map(|change| change.bytes()).sum::<usize>();
        self.dropped = dropped;
    }

    /// What was committed, one change a row, and how many more were and found no room.
    pub(super) fn commit(&mut self) -> (Vec<Change>, u64) {
        let done = mem::replace(self, Self::new(self.max, self.max_bytes));
        let changes = if done.changes.len() > 1 { net(done.changes) } else { done.changes };
        (changes, done.dropped)
    }

    pub(super) fn rollback(&mut self) {
        *self = Self::new(self.max, self.max_bytes);
    }
}

impl Net {
    fn add(&mut self, old: Option<Sha256Digest>, new: Option<Sha256Digest>) {
        cancel_or_count(old, &mut self.entered, &mut self.left);
        cancel_or_count(new, &mut self.left, &mut self.entered);
    }
}

fn cancel_or_count<T: PartialEq>(state: T, opposite: &mut Vec<T>, counted: &mut Vec<T>) {
    match opposite.iter().position(|other| *other == state) {
        Some(at) => _ = opposite.swap_remove(at),
        None => counted.push(state),
    }
}

/// One change for each row that is not as it was, in the order of first changes.
fn net(changes: Vec<Change>) -> Vec<Change> {
    let mut rows: HashMap<String, Net> = HashMap::with_capacity(changes.len());
    for (order, Change { key, old, new }) in changes.into_iter().enumerate() {
        let new_row = || Net { order, left: Vec::new(), entered: Vec::new() };
        rows.entry(key).or_insert_with(new_row).add(old, new);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_unstable_by_key(|(_, net)| net.order);
    let change = |(key, net): (String, Net)| {
        let (old, new) = (*net.left.first()?, *net.entered.last()?);
        Some(Change { key, old, new })
    };
    rows.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> Option<Sha256Digest> {
        (n > 0).then(|| Sha256Digest::of(&n.to_be_bytes()))
    }

    fn change(n: usize) -> Change {
        Change { key: format!("t:{n}"), old: None, new: digest(n) }
    }

    fn keys((changes, dropped): (Vec<Change>, u64)) -> (Vec<String>, u64) {
        (changes.into_iter().map(|change| change.key).collect(), dropped)
    }

    /// Would catch: a savepoint opened before the first change that keeps what came after it, though
    /// the mark of a later one, or of a statement long done, lies in between; or one told of twice.
    #[test]
    fn an_older_savepoint_undoes_all_and_a_known_one_what_came_after_it() {
        let mut pending = Pending::new(9, 9999);
        pending.begin();
        pending.savepoint(3);
        pending.push(change(1));
        pending.release(3);
        pending.savepoint(3);
        pending.push(change(2));
        pending.rollback_to(3);
        pending.push(change(3));
        assert_eq!(keys(pending.commit()), (vec!["t:1".to_owned(), "t:3".to_owned()], 0));

        // A second virtual table begins within a savepoint that the first one was told of.
        pending.begin();
        pending.savepoint(0);
        pending.push(change(1));
        pending.begin();
        pending.savepoint(0);
        pending.push(change(2));
        pending.rollback_to(0);
        pending.rollback_to(0);
        pending.push(change(3));
        assert_eq!(keys(pending.commit()), (vec!["t:3".to_owned()], 0));

        pending.begin();
        pending.savepoint(1);
        pending.push(change(1));
        pending.release(1);
        pending.savepoint(1);
        pending.push(change(2));
        pending.rollback_to(0);
        pending.push(change(3));
        pending.rollback_to(-1);
        pending.push(change(4));
        assert_eq!(keys(pending.commit()), (vec!["t:4".to_owned()], 0));
    }

    /// Would catch: a bound that is off by one, room that an undone change keeps, or a drop that is
    /// counted though what was dropped never came to be.
    #[test]
    fn bounds_hold_and_what_is_undone_gives_its_room_back() {
        let bytes = change(1).bytes();
        for (max, max_bytes) in [(2, 9999), (9, 2 * bytes), (9, 3 * bytes - 1)] {
            let mut pending = Pending::new(max, max_bytes);
            pending.begin();
            pending.push(change(1));
            pending.savepoint(0);
            (2..5).for_each(|n| pending.push(change(n)));
            assert_eq!((pending.changes.len(), pending.dropped), (2, 2));
            pending.rollback_to(0);
            pending.push(change(5));
            pending.push(change(6));
            assert_eq!(keys(pending.commit()), (vec!["t:1".to_owned(), "t:5".to_owned()], 1));
            assert_eq!((pending.bytes, pending.begun), (0, false));
        }
    }

    /// Would catch: a row told of twice in one commit, told of though it is as it was, or told to end
    /// where it only passed.
    #[test]
    fn a_commit_tells_where_each_row_began_and_ended() {
        for (states, told) in [
            (&[(0, 1), (1, 2), (2, 3)][..], Some((0, 3))),
            (&[(1, 2), (2, 3), (3, 1)], None),
            (&[(0, 1), (1, 0)], None),
            (&[(1, 0), (0, 2)], Some((1, 2))),
            // Told from the inside out, or by going round.
            (&[(2, 3), (1, 2)], Some((1, 3))),
            (&[(3, 0), (2, 3), (1, 2)], Some((1, 0))),
            (&[(1, 2), (2, 1), (1, 2), (2, 4)], Some((1, 4))),
        ] {
            let mut pending = Pending::new(99, 9999);
            pending.begin();
            for (old, new) in states {
                let (old, new) = (digest(*old), digest(*new));
                pending.push(Change { key: "t:1".to_owned(), old, new });
            }
            let (changes, 0) = pending.commit() else { panic!() };
            let expected = told.map(|(old, new)| (digest(old), digest(new)));
            assert_eq!(changes.iter().map(|c| (c.old, c.new)).next(), expected);
            assert!(changes.len() < 2);
        }
    }
}
