//! Two tables read side by side by rowid, on all cores where they are large.
//!
//! A large table is cut into spans of rowids. Each is walked by one thread with connections of its own, which sends
//! the rowids that differ; they are told in order, each row looked up again. Memory stays flat: a thread that is ahead
//! of the telling waits.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rusqlite::{Row, Rows};

use super::cells::{Cells, same};
use super::rows::{Databases, Files};
use crate::error::StoresError;

/// Fewest rowids, between the first and the last, that are worth threads.
const MANY: i64 = 4096;
/// Spans of a large table.
const SPANS: i64 = 64;
/// Rowids sent at a time, and how many such batches wait to be told of each span.
const BATCH: usize = 1024;
const AHEAD: usize = 8;

/// How both sides of a table are read.
pub(super) struct Walk {
    /// Each side's table in SQL, and what is selected of it: the rowid, then the columns of both sides.
    pub(super) old: Side,
    pub(super) new: Side,
    /// The rowid's name.
    pub(super) rowid: &'static str,
    /// How many columns follow the rowid.
    pub(super) columns: usize,
}

/// One side of it.
pub(super) struct Side {
    /// `old.t o`, `new.t n`.
    pub(super) from: String,
    /// `o`, `n`.
    pub(super) alias: &'static str,
    pub(super) select: String,
}

/// A rowid whose rows differ, and which sides have one.
#[derive(Clone, Copy)]
struct Differs {
    rowid: i64,
    old: bool,
    new: bool,
}

/// From the first rowid to the last.
type Span = (i64, i64);
type Batch = Result<Vec<Differs>, StoresError>;
/// What is left to be walked, in order, and where each is told of.
type Queue = Mutex<VecDeque<(Span, SyncSender<Batch>)>>;

impl Walk {
    /// Calls `each` with every two rows of one rowid that differ, and every row alone with its rowid.
    pub(super) fn run(
        &self,
        db: &Databases<'_>,
        mut each: impl FnMut(Option<Cells<'_>>, Option<Cells<'_>>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), StoresError> {
        let whole = self.whole(db)?;
        let many = whole.1.checked_sub(whole.0).is_none_or(|rowids| rowids >= MANY);
        if db.threads < 2 || !many {
            return self.span(db, whole, each);
        }
        let channel = |span| {
            let (tell, hear) = sync_channel(AHEAD);
            ((span, tell), hear)
        };
        let (queue, heard): (VecDeque<_>, Vec<_>) = cut(whole).into_iter().map(channel).unzip();
        let (queue, files) = (Mutex::new(queue), db.files());
        thread::scope(|scope| {
            for _ in 0..db.threads {
                scope.spawn(|| self.work(files, &queue));
            }
            heard.into_iter().try_for_each(|batches| self.tell(db, &batches, &mut each))
        })
    }

    /// Walks spans until none is left, or the telling has ended. It waits for the first that is not done, which is
    /// always in somebody's hands.
    fn work(&self, files: Files<'_>, queue: &Queue) {
        let own = Databases::open(files);
        let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match own {
            Ok(db) => while take().is_some_and(|(span, tell)| self.find(&db, span, &tell)) {},
            Err(e) => {
                // Where nobody hears it, the telling has ended.
                let _ = take().map(|(_, tell)| tell.send(Err(e)));
            }
        }
    }

    /// Sends what differs in a span; says whether somebody hears it.
    fn find(&self, db: &Databases<'_>, span: Span, tell: &SyncSender<Batch>) -> bool {
        let mut batch = Vec::new();
        let mut heard = true;
        let walked = self.span(db, span, |old, new| {
            let Some(cells) = old.or(new) else { return Ok(()) };
            let rowid = cells.row().get(0)?;
            batch.push(Differs { rowid, old: old.is_some(), new: new.is_some() });
            if batch.len() == BATCH {
                heard = tell.send(Ok(std::mem::take(&mut batch))).is_ok();
            }
            // Any error ends the walk.
            if heard { Ok(()) } else { Err(rusqlite::Error::ExecuteReturnedResults) }
        });
        heard && tell.send(walked.map(|()| batch)).is_ok()
    }

    /// Looks the rows of a span up again and tells them.
    fn tell(
        &self,
        db: &Databases<'_>,
        batches: &Receiver<Batch>,
        each: &mut impl FnMut(Option<Cells<'_>>, Option<Cells<'_>>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), StoresError> {
        let row = |side: &Side| {
            let Side { from, alias, select } = side;
            format!("SELECT {select} FROM {from} WHERE {alias}.{} = ?1", self.rowid)
        };
        let mut olds = db.prepare(&row(&self.old))?;
        let mut news = db.prepare(&row(&self.new))?;
        for batch in batches {
            for Differs { rowid, old, new } in batch? {
                let mut old = old.then(|| olds.query([rowid])).transpose().map_err(db.fail())?;
                let mut new = new.then(|| news.query([rowid])).transpose().map_err(db.fail())?;
                let old = old.as_mut().map(next_row).transpose().map_err(db.fail())?.flatten();
                let new = new.as_mut().map(next_row).transpose().map_err(db.fail())?.flatten();
                each(old.map(whole_row), new.map(whole_row)).map_err(db.fail())?;
            }
        }
        Ok(())
    }

    /// The same of one span, by whoever calls it.
    fn span(
        &self,
        db: &Databases<'_>,
        span: Span,
        mut each: impl FnMut(Option<Cells<'_>>, Option<Cells<'_>>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), StoresError> {
        let rowid = self.rowid;
        let rows = |Side { from, alias, select }: &Side| {
            format!(
                "SELECT {select} FROM {from} WHERE {alias}.{rowid} BETWEEN ?1 AND ?2 ORDER BY {alias}.{rowid}"
            )
        };
        let mut olds = db.prepare(&rows(&self.old))?;
        let mut news = db.prepare(&rows(&self.new))?;
        let mut olds = olds.query(span).map_err(db.fail())?;
        let mut news = news.query(span).map_err(db.fail())?;
        let mut old = olds.next().map_err(db.fail())?;
        let mut new = news.next().map_err(db.fail())?;
        let mut seen = 0;
        loop {
            db.check(&mut seen)?;
            let rid = |row: Option<&Row<'_>>| row.map(|row| row.get::<_, i64>(0)).transpose();
            let rids = (rid(old).map_err(db.fail())?, rid(new).map_err(db.fail())?);
            let (has_old, has_new) = match rids {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) => (a <= b, b <= a),
                (a, b) => (a.is_some(), b.is_some()),
            };
            let cells = |row: Option<_>, has: bool| row.filter(|_| has).map(whole_row);
            let (old_cells, new_cells) = (cells(old, has_old), cells(new, has_new));
            let equal = match (old_cells, new_cells) {
                (Some(a), Some(b)) => self.equal(a, b).map_err(db.fail())?,
                _ => false,
            };
            if !equal {
                each(old_cells, new_cells).map_err(db.fail())?;
            }
            if has_old {
                old = olds.next().map_err(db.fail())?;
            }
            if has_new {
                new = news.next().map_err(db.fail())?;
            }
        }
    }

    /// Whether two rows are the same in every column.
    pub(super) fn equal(&self, old: Cells<'_>, new: Cells<'_>) -> Result<bool, rusqlite::Error> {
        for column in 1..=self.columns {
            if !same(old.get(column)?, new.get(column)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From the first rowid of either side to the last; of empty sides no rowid at all.
    fn whole(&self, db: &Databases<'_>) -> Result<Span, StoresError> {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for Side { from, alias, .. } in [&self.old, &self.new] {
            // One aggregate a statement: then each is one look at an end of the tree.
            for (end, at) in [("min", &mut first), ("max", &mut last)] {
                let sql = format!("SELECT {end}({alias}.{}) FROM {from}", self.rowid);
                let found: Option<i64> =
                    db.conn.query_row(&sql, [], |row| row.get(0)).map_err(db.fail())?;
                if let Some(found) = found {
                    *at = if end == "min" { found.min(*at) } else { found.max(*at) };
                }
            }
        }
        Ok((first, last))
    }
}

fn whole_row<'r>(row: &'r Row<'r>) -> Cells<'r> {
    Cells::new(row, 0)
}

fn next_row<'r>(rows: &'r mut Rows<'_>) -> Result<Option<&'r Row<'r>>, rusqlite::Error> {
    rows.next()
}

/// Cuts a span into as many of nearly one width.
fn cut((first, last): Span) -> Vec<Span> {
    let (from, to) = (i128::from(first), i128::from(last));
    let width = (to - from) / i128::from(SPANS) + 1;
    let start = |n: i64| from + width * i128::from(n);
    let spans =
        (0..SPANS).filter(|n| start(*n) <= to).map(|n| (start(n), (start(n + 1) - 1).min(to)));
    // Both lie between two that fit.
    spans.filter_map(|(a, b)| Some((i64::try_from(a).ok()?, i64::try_from(b).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Would catch: a rowid that no span has, or two.
        #[test]
        fn spans_hold_each_rowid_once(a in any::<i64>(), b in any::<i64>(), c in any::<i64>()) {
            let mut ends = [a, b, c];
            ends.sort_unstable();
            let [first, between, last] = ends;
            for whole in [(first, last), (first, first), (i64::MIN, i64::MAX)] {
                let spans = cut(whole);
                prop_assert!(spans.len() as i64 <= SPANS);
                prop_assert_eq!((spans[0].0, spans[spans.len() - 1].1), whole);
                prop_assert!(spans.windows(2).all(|s| s[0].1.checked_add(1) == Some(s[1].0)));
                let holds = |rowid| spans.iter().filter(|s| (s.0..=s.1).contains(&rowid)).count();
                let expected = usize::from((whole.0..=whole.1).contains(&between));
                prop_assert_eq!(holds(between), expected);
            }
        }
    }
}
