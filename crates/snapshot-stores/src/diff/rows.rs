//! Two databases, compared table by table.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, Statement};
use snapshot_core::{Change, Control, RowCounts, Step};

use super::cells::Cells;
use super::pair::Pair;
use super::report::{StoreReport, TableReport};
use super::tables::{
    FULL_TEXT_PARTS, Kind, Pairing, Table, definitions, list, pairing, quote, rowid_name,
};
use super::vectors;
use crate::error::StoresError;
use crate::sqlite::{bound_cache, immutable_uri, open_scratch};

/// Where in a database its text encoding stands.
const ENCODING_AT: u64 = 56;
/// Most threads that read them; each has connections and rows of its own.
const MAX_THREADS: usize = 4;
/// Rows between two looks at whether the caller still wants this.
const ROWS_BETWEEN_CHECKS: u64 = 1024;

/// One side of what both may have.
pub(super) type Sides<'t> = (Option<&'t Table>, Option<&'t Table>);

/// Two databases, attached as `old` and `new`, in a third to work with.
pub(super) struct Databases<'a> {
    pub(super) conn: Connection,
    /// How many may read them at once.
    pub(super) threads: usize,
    files: Files<'a>,
}

/// The files of both sides, one of which may be missing, and what steers who reads them.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    old: Option<&'a Path>,
    new: Option<&'a Path>,
    encoding: Option<&'static str>,
    control: &'a Control,
}

/// What was compared of a store.
#[derive(Default)]
pub(super) struct Compared {
    /// The tables that differ.
    pub(super) counts: BTreeMap<String, RowCounts>,
    /// All tables that either side has.
    pub(super) tables: BTreeSet<String>,
}

/// Compares what two files hold; a side that has no file is empty. `scratch` is a file to work with,
/// which the caller removes.
pub(super) fn compare(
    (old, new): (Option<&Path>, Option<&Path>),
    scratch: &Path,
    only: Option<&str>,
    report: &mut StoreReport<'_, '_>,
    (control, threads): (&Control, usize),
) -> Result<Compared, StoresError> {
    let old_and_new = old.is_some() && new.is_some();
    let encodings =
        (old.map(encoding).transpose()?.flatten(), new.map(encoding).transpose()?.flatten());
    if let (Some(old), Some(new)) = encodings
        && old != new
    {
        let why =
            format!("its texts are encoded as {old} on the older side, as {new} on the newer");
        report.not_compared(None, why);
        return Ok(Compared::default());
    }
    let files = Files { old, new, encoding: encodings.0.or(encodings.1), control };
    let threads = threads.min(MAX_THREADS);
    let db = match Databases::on(scratch, files) {
        // As of a format or an encoding that SQLite does not know.
        Err(StoresError::Sqlite { source, .. })
            if source.sqlite_error_code() == Some(ErrorCode::Unknown) =>
        {
            report.not_compared(None, format!("it cannot be opened: {source}"));
            return Ok(Compared::default());
        }
        opened => Databases { threads, ..opened? },
    };
    // Never committed: the file is forgotten with the connection.
    db.batch("BEGIN")?;
    let compared = match (list(&db.conn, "old"), list(&db.conn, "new")) {
        (Ok(old), Ok(new)) => db.tables((&old, &new), only, report)?,
        // As of a name that is no text, which would keep the other stores from being compared.
        (Err(e), _) | (_, Err(e)) => {
            report.not_compared(None, format!("its tables cannot be listed: {e}"));
            return Ok(Compared::default());
        }
    };
    if only.is_none() && old_and_new {
        let notes = definitions(&db.conn);
        let why = |e| vec![format!("its definitions cannot be compared: {e}")];
        report.note(notes.unwrap_or_else(why));
    }
    Ok(compared)
}

/// How a file's texts are encoded, which all databases of one connection must share
/// (<https://www.sqlite.org/fileformat2.html#text_encoding>); one without tables has none yet.
fn encoding(file: &Path) -> Result<Option<&'static str>, StoresError> {
    let mut word = [0; 4];
    let read =
        std::fs::File::open(file).and_then(|file| file.read_exact_at(&mut word, ENCODING_AT));
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {}
        read => read.map_err(StoresError::io("read", file))?,
    }
    Ok(match u32::from_be_bytes(word) {
        1 => Some("UTF-8"),
        2 => Some("UTF-16le"),
        3 => Some("UTF-16be"),
        _ => None,
    })
}

impl<'a> Databases<'a> {
    /// For one more reader, with nothing to work with.
    pub(super) fn open(files: Files<'a>) -> Result<Self, StoresError> {
        Self::on(Path::new(":memory:"), files)
    }

    fn on(scratch: &Path, files: Files<'a>) -> Result<Self, StoresError> {
        let db = Self { conn: open_scratch(scratch)?, threads: 1, files };
        if let Some(encoding) = files.encoding {
            db.batch(&format!("PRAGMA encoding = '{encoding}'"))?;
        }
        db.attach("old", files.old)?;
        db.attach("new", files.new)?;
        Ok(db)
    }

    pub(super) const fn files(&self) -> Files<'a> {
        self.files
    }

    pub(super) fn fail(&self) -> impl FnOnce(rusqlite::Error) -> StoresError {
        let at = self.files.new.or(self.files.old).unwrap_or(Path::new("nothing"));
        StoresError::sqlite("compare", at)
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<Statement<'_>, StoresError> {
        self.conn.prepare(sql).map_err(self.fail())
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), StoresError> {
        self.conn.execute_batch(sql).map_err(self.fail())
    }

    /// Now and then, whether to go on.
    pub(super) fn check(&self, rows: &mut u64) -> Result<(), StoresError> {
        *rows += 1;
        if rows.is_multiple_of(ROWS_BETWEEN_CHECKS) {
            self.files.control.check().map_err(StoresError::stopped("comparing the stores"))?;
            self.files.control.advance(Step::Compare, 0, 0);
        }
        Ok(())
    }

    /// Does something with each row of a statement, whose cells are one run.
    pub(super) fn each(
        &self,
        sql: &str,
        mut each: impl FnMut(Cells<'_>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), StoresError> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query([]).map_err(self.fail())?;
        let mut seen = 0;
        while let Some(row) = rows.next().map_err(self.fail())? {
            self.check(&mut seen)?;
            each(Cells::new(row, 0)).map_err(self.fail())?;
        }
        Ok(())
    }

    /// The tables of both sides, by name, or the wanted one.
    fn tables(
        &self,
        (old, new): (&BTreeMap<String, Table>, &BTreeMap<String, Table>),
        only: Option<&str>,
        report: &mut StoreReport<'_, '_>,
    ) -> Result<Compared, StoresError> {
        let tables: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
        let mut counts = BTreeMap::new();
        let is_wanted = |name: &&String| only.is_none_or(|only| only.eq_ignore_ascii_case(name));
        for name in tables.iter().filter(is_wanted) {
            let sides = (old.get(name), new.get(name));
            let mut table = report.table(name);
            let is_index = |table: &Table| table.kind == Kind::Index;
            if only.is_some() && [sides.0, sides.1].into_iter().flatten().all(is_index) {
                table.note("a full-text index of another table, where its rows are counted");
            }
            match self.table(name, sides, &mut table) {
                // What else the store holds is still worth comparing.
                Err(StoresError::Sqlite { source, .. }) => {
                    table.not_compared(format!("not to its end: {source}"));
                }
                done => done?,
            }
            if !table.counts.is_zero() {
                counts.insert(name.clone(), table.counts);
            }
        }
        Ok(Compared { counts, tables })
    }

    /// A copy of our own that nobody writes: no locks, and no journal is looked for.
    fn attach(&self, schema: &str, file: Option<&Path>) -> Result<(), StoresError> {
        let uri = file.map_or_else(|| ":memory:".to_owned(), immutable_uri);
        self.conn.execute(&format!("ATTACH ?1 AS {schema}"), [uri]).map_err(self.fail())?;
        bound_cache(&self.conn, schema).map_err(self.fail())?;
        // What is mapped counts as this process's memory, and would grow with the store.
        self.conn.pragma_update(Some(schema), "mmap_size", 0).map_err(self.fail())
    }

    fn table<'s>(
        &self,
        name: &str,
        sides: Sides<'s>,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        let is = |kind| [sides.0, sides.1].into_iter().flatten().any(|table| table.kind == kind);
        if is(Kind::Virtual) {
            report.not_compared("a virtual table, whose rows cannot be read here");
            return Ok(());
        }
        if is(Kind::Contentless) {
            return self.contentless(name, sides, report);
        }
        if is(Kind::Vectors) {
            return vectors::compare(self, name, sides, report);
        }
        // What an index repeats is counted where it lies.
        let own = |side: Option<&'s Table>| side.filter(|table| table.kind != Kind::Index);
        let sides = (own(sides.0), own(sides.1));
        self.plain(sides, report)
    }

    /// Of its texts there are only the words; whether they are the same is all that can be told.
    fn contentless(
        &self,
        name: &str,
        sides: Sides<'_>,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        let are_both = matches!(sides, (Some(old), Some(new)) if old.kind == new.kind);
        let mut differs = !are_both;
        for (part, column) in FULL_TEXT_PARTS.iter().filter(|_| are_both) {
            differs |= self.part_differs(&format!("{name}_{part}"), column)?;
        }
        if differs {
            report.not_compared("a full-text table that keeps no content; its words differ");
        }
        Ok(())
    }

    /// Whether a table beneath a full-text table differs; one that neither side has does not.
    fn part_differs(&self, part: &str, column: &str) -> Result<bool, StoresError> {
        let sql = "SELECT count(*) FROM pragma_table_list WHERE name = ?1 AND type = 'shadow' \
            AND schema IN ('old', 'new')";
        let have: i64 = self.prepare(sql)?.query_row([part], |r| r.get(0)).map_err(self.fail())?;
        if have != 2 {
            return Ok(have == 1);
        }
        let part = quote(part);
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM old.{part} o FULL OUTER JOIN new.{part} n \
             ON n.rowid = o.rowid WHERE o.{column} IS NOT n.{column})"
        );
        self.prepare(&sql)?.query_row([], |r| r.get(0)).map_err(self.fail())
    }

    fn plain(
        &self,
        sides: Sides<'_>,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        let (old, new) = match sides {
            (Some(old), Some(new)) => (old, new),
            (Some(table), None) => return self.one_side("old", table, report),
            (None, Some(table)) => return self.one_side("new", table, report),
            (None, None) => return Ok(()),
        };
        let pairing = pairing(&self.conn, old, new).map_err(self.fail())?;
        let kept_by_key = (old.without_rowid, new.without_rowid);
        if kept_by_key.0 != kept_by_key.1 || (kept_by_key.0 && pairing == Pairing::Content) {
            report.note("it was made anew with another key: every row counts as removed and added");
            self.one_side("old", old, report)?;
            return self.one_side("new", new, report);
        }
        let Some(pair) = Pair::new(self, (old, new), &pairing) else {
            report.not_compared("its columns leave no name for its rowid");
            return Ok(());
        };
        pair.tell_columns((old, new), report);
        match pairing {
            Pairing::Rowid => pair.by_rowid(report),
            Pairing::Key(_) if old.without_rowid => pair.by_key(report),
            Pairing::Key(_) | Pairing::Content => pair.by_what_is_left(report),
        }
    }

    /// Every row of a table that the other side lacks.
    fn one_side(
        &self,
        schema: &str,
        table: &Table,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        let rowid = rowid_name(table, table).filter(|_| !table.without_rowid).unwrap_or("NULL");
        let columns = || table.columns.iter().map(|(name, _)| name);
        let labels = columns().filter_map(|name| table.label(name)).map(str::to_owned).collect();
        let key = table.columns.iter().enumerate().filter(|(_, (_, place))| *place > 0);
        let key = key.map(|(at, _)| at).collect();
        let list: String = columns().map(|name| format!(", {}", quote(name))).collect();
        let sql = format!("SELECT {rowid}{list} FROM {schema}.{}", quote(&table.from));
        report.has_columns(labels, key);
        let change = if schema == "old" { Change::Removed } else { Change::Added };
        self.each(&sql, |cells| report.row(change, cells))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes and damages its databases plainly")]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use snapshot_core::{Cell, Difference, RowDifference, SnapshotDiff, SnapshotId, StoreName};

    use super::*;

    /// What was told of two databases made by these statements.
    #[derive(Debug)]
    struct Told {
        counts: RowCounts,
        rows: Vec<RowDifference>,
        notes: Vec<String>,
        not_compared: Vec<String>,
    }

    fn told(before: &str, after: &str) -> Told {
        let tmp = tempfile::tempdir().unwrap();
        let make = |name: &str, sql: &str| {
            let path = tmp.path().join(name);
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            path
        };
        // A name that is no URI as it stands.
        let (old, new) = (make("o ld?#%41.db", before), make("new.db", after));
        told_of((Some(&old), Some(&new)), &tmp.path().join("work"))
    }

    fn told_of(sides: (Option<&Path>, Option<&Path>), work: &Path) -> Told {
        let mut rows = Vec::new();
        let mut diff = SnapshotDiff::between(SnapshotId::nil(), SnapshotId::nil());
        let mut hear = |difference| match difference {
            Difference::Row(row) => rows.push(row),
            other => panic!("{other:?}"),
        };
        let mut sink: Option<&mut dyn FnMut(Difference)> = Some(&mut hear);
        let store = StoreName::from_static("facts");
        let mut report = StoreReport { store: &store, sink: &mut sink, diff: &mut diff };
        let compared = compare(sides, work, None, &mut report, (&Control::default(), 2)).unwrap();
        let mut counts = RowCounts::default();
        compared.counts.values().for_each(|table| counts += *table);
        let mut heard = RowCounts::default();
        rows.iter().for_each(|row| heard.count(row.change));
        assert_eq!(heard, counts, "what is told is what is counted");
        let not_compared = diff.not_compared.into_iter();
        let not_compared =
            not_compared.map(|n| format!("{}: {}", n.table.unwrap_or_default(), n.why));
        Told { counts, rows, notes: diff.notes, not_compared: not_compared.collect() }
    }

    fn counts(added: u64, changed: u64, removed: u64) -> RowCounts {
        RowCounts { added, changed, removed }
    }

    /// Would catch: a store of a format that this SQLite does not know, which keeps everything else from being
    /// compared.
    #[test]
    fn what_cannot_be_opened_is_told_as_not_compared() {
        let tmp = tempfile::tempdir().unwrap();
        let [old, new] = ["old.db", "new.db"].map(|name| {
            let path = tmp.path().join(name);
            Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
            path
        });
        let mut bytes = std::fs::read(&new).unwrap();
        bytes[44..48].copy_from_slice(&9u32.to_be_bytes());
        std::fs::write(&new, bytes).unwrap();
        let found = told_of((Some(&old), Some(&new)), &tmp.path().join("work"));
        assert!(found.not_compared[0].contains("cannot be opened"), "{:?}", found.not_compared);
    }

    /// Would catch: rows of a text key paired by their rowids, which differ here, and a change of type,
    /// case or bytes that SQL takes for none.
    #[test]
    fn rows_with_a_key_pair_by_it_whatever_their_rowids() {
        let table = "CREATE TABLE t(id TEXT PRIMARY KEY COLLATE NOCASE, x COLLATE NOCASE);";
        let found = told(
            &format!(
                "{table} INSERT INTO t VALUES ('a', 1), ('b', NULL), ('c', 3), ('e', 'X'), ('f', 1), ('g', 0)"
            ),
            &format!(
                "{table} INSERT INTO t VALUES ('g', 0), ('E', 'X'), ('d', 3), ('a', 1), ('b', 2), ('f', 1.0)"
            ),
        );
        // Of the real 1.0, SQLite makes no integer: the column has no type.
        assert_eq!(found.counts, counts(1, 3, 1));
        let b =
            found.rows.iter().find(|row| row.key[0].new == Some(Cell::Text("b".into()))).unwrap();
        assert_eq!(
            (&b.cells[0].old, &b.cells[0].new),
            (&Some(Cell::Null), &Some(Cell::Integer(2)))
        );
    }

    /// Would catch: duplicates that count once, and a rowid that nobody chose taken for an identity.
    #[test]
    fn rows_without_a_key_are_a_multiset() {
        let found = told(
            "CREATE TABLE t(x); INSERT INTO t VALUES (1), (1), (2), (7)",
            "CREATE TABLE t(x); INSERT INTO t VALUES (7), (2), (1), (3), (3)",
        );
        assert_eq!(found.counts, counts(2, 0, 1));
        assert!(found.rows.iter().all(|row| row.key[0].column == "rowid"));
    }

    /// Would catch: two rows with NULL in their key, which is like no other, paired with each other.
    #[test]
    fn keys_with_a_null_are_no_keys() {
        let table = "CREATE TABLE t(a, b, x, PRIMARY KEY (a, b));";
        let found = told(
            &format!("{table} INSERT INTO t VALUES (1, NULL, 'p'), (1, NULL, 'q'), (1, 1, 'r')"),
            &format!(
                "{table} INSERT INTO t VALUES (1, 1, 's'), (1, NULL, 'q'), (1, NULL, 'z'), (NULL, NULL, 0)"
            ),
        );
        assert_eq!(found.counts, counts(2, 1, 1));
    }

    /// Would catch: a table without rowids asked for them; a key of two columns of which one counts.
    #[test]
    fn tables_without_rowids_pair_by_their_whole_key() {
        let table = "CREATE TABLE t(a, b, x, PRIMARY KEY (b, a)) WITHOUT ROWID;";
        let found = told(
            &format!("{table} INSERT INTO t VALUES (1, 1, 'p'), (1, 2, 'q'), (2, 1, 'r')"),
            &format!("{table} INSERT INTO t VALUES (1, 1, 'p'), (1, 2, 'Q'), (2, 2, 'r')"),
        );
        assert_eq!(found.counts, counts(1, 1, 1));
        let changed = found.rows.iter().find(|row| row.change == Change::Changed).unwrap();
        let key: Vec<_> = changed.key.iter().map(|cell| cell.column.as_str()).collect();
        assert_eq!(key, ["b", "a"]);
    }

    /// Would catch: rows of a full-text table of its own that count nowhere, or are told by the names of the table
    /// beneath it; a row that a trigger put there, which may lie in no other table, taken for a copy.
    #[test]
    fn rows_of_a_full_text_table_count() {
        for (module, words) in [("fts5", "words"), ("fts4", "words"), ("fts5", "wo\"rds")] {
            let quoted = quote(words);
            let tables = format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE VIRTUAL TABLE {quoted} USING {module}(x, y);"
            );
            let before = format!("{tables} INSERT INTO {quoted} VALUES ('a', 'b'), ('c', 'd')");
            let after = format!(
                "{before}; UPDATE {quoted} SET y = 'e' WHERE rowid = 2; INSERT INTO {quoted} VALUES ('f', 'g')"
            );
            let found = told(&before, &after);
            assert_eq!((found.counts, found.notes), (counts(1, 1, 0), vec![]), "{module}");
            let row = &found.rows[0];
            assert_eq!((row.table.as_str(), row.key[0].column.as_str()), (words, "rowid"));
            assert_eq!(row.cells[0].column, "y");

            let inbox = format!(
                "{tables} CREATE TRIGGER i AFTER INSERT ON t BEGIN \
                 INSERT INTO {quoted}(x) VALUES (new.x); DELETE FROM t; END;"
            );
            let found = told(&inbox, &format!("{inbox} INSERT INTO t VALUES (1, 'a')"));
            assert_eq!((found.counts, found.rows[0].table.as_str()), (counts(1, 0, 0), words));
        }
    }

    /// Would catch: a person's own table that has the name of a part of a full-text table, passed over in silence, or
    /// forgotten once there is such a table.
    #[test]
    fn a_table_named_as_a_part_of_a_full_text_table_is_its_own() {
        for (index, own) in [
            ("fts5(x, content='')", "notes_content"),
            ("fts5(x, content=other, content_rowid=id)", "notes_content"),
            ("fts5(x, columnsize=0)", "notes_docsize"),
            ("fts3(x)", "notes_stat"),
        ] {
            let table =
                format!("CREATE TABLE other(id INTEGER PRIMARY KEY, x); CREATE TABLE {own}(k, v);");
            let rows = format!("INSERT INTO {own} VALUES (1, 2), (3, 4);");
            let index = format!("CREATE VIRTUAL TABLE notes USING {index};");
            let found = told(&format!("{table} {index}"), &format!("{table} {index} {rows}"));
            assert_eq!((found.counts, found.rows.len()), (counts(2, 0, 0), 2), "{own}: {found:?}");
            let found = told(&format!("{table} {rows}"), &format!("{table} {rows} {index}"));
            assert_eq!(found.counts, counts(0, 0, 0), "{own}: {found:?}");
        }
    }

    /// Would catch: rows of a full-text table hidden by a trigger that only names it, or that came with them.
    #[test]
    fn a_trigger_hides_no_rows_of_a_full_text_table() {
        let tables = "CREATE VIRTUAL TABLE notes USING fts5(x); CREATE TABLE log(notes);";
        let row = "INSERT INTO notes VALUES ('a');";
        for trigger in [
            "CREATE TRIGGER r AFTER INSERT ON log BEGIN SELECT count(*) FROM notes; END;",
            "CREATE TRIGGER w AFTER INSERT ON log BEGIN INSERT INTO log(notes) VALUES ('into notes2'); END;",
        ] {
            let before = format!("{tables} {trigger}");
            assert_eq!(
                told(&before, &format!("{before} {row}")).counts,
                counts(1, 0, 0),
                "{trigger}"
            );
        }
        let planted =
            "CREATE TRIGGER p AFTER INSERT ON log BEGIN INSERT INTO notes VALUES (new.notes); END;";
        let found = told(tables, &format!("{tables} {row} {planted}"));
        assert_eq!(found.counts, counts(1, 0, 0));
    }

    /// Would catch: silence where texts came into a table that keeps only their words, or a table that nobody
    /// touched told as one that could not be compared.
    #[test]
    fn words_without_their_texts_are_told_where_they_differ() {
        for (module, none, id) in
            [("fts5", "content = ''", "rowid"), ("fts4", "content=\"\"", "docid")]
        {
            let table = format!(
                "CREATE VIRTUAL TABLE n USING {module}(x, {none}); INSERT INTO n({id}, x) VALUES (1, 'a');"
            );
            let found = told(&table, &format!("{table} INSERT INTO n({id}, x) VALUES (2, 'b')"));
            assert!(
                found.not_compared[0].starts_with("n: a full-text table that keeps no"),
                "{found:?}"
            );
            assert_eq!(told(&table, &format!("{table} CREATE TABLE u(x)")).not_compared, [""; 0]);
        }
        // Of these some columns are kept, which say nothing of the others.
        let table = "CREATE VIRTUAL TABLE n USING fts5(x, y UNINDEXED, content='', contentless_unindexed=1);";
        let row = |x: &str| format!("{table} INSERT INTO n(rowid, x, y) VALUES (1, '{x}', 'y')");
        assert_eq!(told(&row("a"), &row("b")).not_compared.len(), 1);
    }

    /// Would catch: the usual index of an agent's memories, which is another table's words, told in every
    /// diff as what cannot be read.
    #[test]
    fn a_full_text_index_of_another_table_is_no_news() {
        let tables = "CREATE TABLE t(id INTEGER PRIMARY KEY, x); \
                      CREATE VIRTUAL TABLE f USING fts5(x, content='t', content_rowid='id'); \
                      CREATE VIRTUAL TABLE g USING fts4(x, content='t');";
        let after = format!(
            "{tables} INSERT INTO t VALUES (1, 'a'); INSERT INTO f(rowid, x) VALUES (1, 'a'); \
             INSERT INTO g(docid, x) VALUES (1, 'a')"
        );
        let found = told(tables, &after);
        assert_eq!(found.counts, counts(1, 0, 0));
        assert_eq!(found.notes, [""; 0]);
    }

    /// Would catch: every row of a table changed because a column came, or none where it brought a value.
    #[test]
    fn columns_that_came_or_went_count_as_null() {
        let found = told(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x, gone); INSERT INTO t VALUES (1, 1, NULL), (2, 2, 2)",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, came, x); INSERT INTO t VALUES (1, NULL, 1), (2, NULL, 2)",
        );
        assert_eq!(found.counts, counts(0, 1, 0));
        assert_eq!(found.rows[0].cells[0].column, "gone");
        assert_eq!(found.notes.len(), 3, "{:?}", found.notes);
    }

    /// Would catch: hostile names that end the statement they stand in; a column that hides the rowid.
    #[test]
    fn names_are_only_names() {
        let table = r#"CREATE TABLE "t""; DROP TABLE x;--"(rowid, "a"" b", _rowid_);"#;
        let sql = format!(r#"{table} INSERT INTO "t""; DROP TABLE x;--" VALUES (9, 1, 2)"#);
        assert_eq!(told(table, &sql).counts, counts(1, 0, 0));
        // A generated column is listed nowhere that the others are, and hides the rowid like them.
        let table = "CREATE TABLE t(k INTEGER PRIMARY KEY, x, rowid AS (7));";
        let before = format!("{table} INSERT INTO t(k, x) VALUES (1, 1), (2, 2), (3, 3)");
        let found =
            told(&before, &format!("{table} INSERT INTO t(k, x) VALUES (2, 2), (3, 9), (4, 4)"));
        assert_eq!(found.counts, counts(1, 1, 1), "{found:?}");
        let all = "CREATE TABLE t(rowid, _rowid_, oid);";
        let found = told(all, &format!("{all} INSERT INTO t VALUES (1, 2, 3)"));
        assert!(found.not_compared[0].contains("no name for its rowid"), "{found:?}");
    }

    #[test]
    fn a_store_on_one_side_only_is_all_added_or_all_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("x.db");
        let sql = "CREATE TABLE t(x); CREATE TABLE u(k PRIMARY KEY) WITHOUT ROWID; \
                   INSERT INTO t VALUES (1), (2); INSERT INTO u VALUES (1)";
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let work = tmp.path().join("work");
        assert_eq!(told_of((None, Some(&path)), &work).counts, counts(3, 0, 0));
        std::fs::remove_file(&work).unwrap();
        assert_eq!(told_of((Some(&path), None), &work).counts, counts(0, 0, 3));
    }

    /// Would catch: damage in one table that hides what changed in another.
    #[test]
    fn a_damaged_table_is_told_and_the_others_are_compared() {
        let tmp = tempfile::tempdir().unwrap();
        let (old, new) = (tmp.path().join("old.db"), tmp.path().join("new.db"));
        let conn = Connection::open(&old).unwrap();
        conn.execute_batch(
            "CREATE TABLE a(id INTEGER PRIMARY KEY, x); CREATE TABLE b(id INTEGER PRIMARY KEY);
            WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO a SELECT i, hex(randomblob(20)) FROM n",
        )
        .unwrap();
        let page: u32 = conn
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'a'", [], |r| r.get(0))
            .unwrap();
        conn.execute_batch("VACUUM").unwrap();
        drop(conn);
        std::fs::copy(&old, &new).unwrap();
        Connection::open(&new).unwrap().execute_batch("INSERT INTO b VALUES (1)").unwrap();
        let mut bytes = std::fs::read(&old).unwrap();
        bytes[(page as usize - 1) * 4096..][..512].fill(0xff);
        std::fs::write(&old, bytes).unwrap();
        let found = told_of((Some(&old), Some(&new)), &tmp.path().join("work"));
        assert!(found.not_compared[0].contains("a: not to its end"), "{found:?}");
        assert_eq!(found.rows.last().unwrap().table, "b");
    }

    /// Would catch: keys that are two in the index and one by their column's collation, paired with each other;
    /// keys of another kind on each side that are equal by SQL and not by their bytes.
    #[test]
    fn keys_are_told_apart_as_their_index_does() {
        for end in ["", " WITHOUT ROWID"] {
            let table = format!(
                "CREATE TABLE t(a TEXT COLLATE NOCASE, x, PRIMARY KEY (a COLLATE BINARY)){end};"
            );
            let before = format!("{table} INSERT INTO t VALUES ('k', 1), ('K', 2), ('q', 3)");
            let after =
                format!("{table} INSERT INTO t VALUES ('q', 3), ('K', 2), ('k', 1), ('Q', 4)");
            assert_eq!(told(&before, &after).counts, counts(1, 0, 0), "{end}");
            let after = format!("{table} INSERT INTO t VALUES ('q', 3), ('K', 5), ('k', 6)");
            assert_eq!(told(&before, &after).counts, counts(0, 2, 0), "{end}");

            let other = format!("CREATE TABLE t(a TEXT COLLATE NOCASE PRIMARY KEY, x){end};");
            let after = format!("{other} INSERT INTO t VALUES ('q', 3), ('K', 2)");
            // Of two kinds of keys only the content pairs, and without a rowid nothing does.
            let expected = if end.is_empty() { counts(0, 0, 1) } else { counts(2, 0, 3) };
            assert_eq!(told(&before, &after).counts, expected, "{end}");

            let texts = format!(
                "CREATE TABLE t(a TEXT PRIMARY KEY, x){end}; INSERT INTO t VALUES ('1', 0), ('01', 0)"
            );
            let numbers =
                format!("CREATE TABLE t(a INT PRIMARY KEY, x){end}; INSERT INTO t VALUES (1, 0)");
            assert_eq!(told(&texts, &numbers).counts, counts(1, 0, 2), "{end}");
        }
    }

    /// Would catch: databases of UTF-16 that cannot be compared, or two encodings taken for no difference.
    #[test]
    fn texts_are_compared_in_their_encoding() {
        let sql = |encoding: &str, rows: &str| {
            format!(
                "PRAGMA encoding = '{encoding}'; CREATE TABLE t(k TEXT PRIMARY KEY, x); INSERT INTO t VALUES {rows}"
            )
        };
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            let found = told(
                &sql(encoding, "('a', 'ä'), ('b', 'b')"),
                &sql(encoding, "('a', 'ö'), ('c', '語')"),
            );
            assert_eq!(found.counts, counts(1, 1, 1), "{encoding}");
            assert!(found.rows.iter().any(|row| row.cells[0].new == Some(Cell::Text("語".into()))));
            let empty = told("", &sql(encoding, "('a', 'ä')"));
            assert_eq!(empty.counts, counts(1, 0, 0), "{encoding}");
        }
        let found = told(&sql("UTF-8", "('a', 'ä')"), &sql("UTF-16le", "('a', 'ö')"));
        assert_eq!(
            found.not_compared,
            [": its texts are encoded as UTF-8 on the older side, as UTF-16le on the newer"]
        );
    }

    /// Would catch: a trigger or view that a dream planted, of which a comparison of rows says nothing.
    #[test]
    fn what_is_no_row_is_told_too() {
        let table = "CREATE TABLE t(x); CREATE VIEW old_one AS SELECT 1; CREATE INDEX i ON t(x);";
        let after = "CREATE TABLE t(x CHECK (x > 0)); CREATE INDEX i ON t(x DESC); PRAGMA user_version = 7; \
            CREATE TRIGGER w AFTER INSERT ON t BEGIN SELECT 1; END;";
        let found = told(table, after);
        assert_eq!(found.counts, counts(0, 0, 0));
        assert_eq!(
            found.notes,
            [
                "facts: user_version 0 -> 7",
                "facts: index i is defined otherwise",
                "facts: table t is defined otherwise",
                "facts: trigger w is new",
                "facts: view old_one is gone"
            ]
        );
    }

    /// The four kinds of tables, with a key that repeats only where that is allowed.
    const KINDS: [&str; 4] = [
        "CREATE TABLE t(k INTEGER PRIMARY KEY, x);",
        "CREATE TABLE t(k TEXT PRIMARY KEY, x);",
        "CREATE TABLE t(k, x, PRIMARY KEY (k)) WITHOUT ROWID;",
        "CREATE TABLE t(k, x);",
    ];

    /// With `stride` the keys, or rowids where those are none, lie so far apart that the table is walked by several
    /// threads.
    fn sql(kind: usize, rows: &[(u8, u8)], stride: i64) -> String {
        let insert = if kind == 3 { "INSERT" } else { "INSERT OR REPLACE" };
        let rows = rows.iter().enumerate().map(|(n, (k, x))| match kind {
            0 => format!("{insert} INTO t VALUES ({k} * {stride}, {x});"),
            1 | 3 => format!("{insert} INTO t (rowid, k, x) VALUES ({n} * {stride}, {k}, {x});"),
            _ => format!("{insert} INTO t VALUES ({k}, {x});"),
        });
        KINDS[kind].to_owned() + &rows.collect::<String>()
    }

    /// The plain way: maps by key, or how often each row is there.
    fn expected(kind: usize, old: &[(u8, u8)], new: &[(u8, u8)]) -> RowCounts {
        if kind == 3 {
            let mut surplus: HashMap<_, i64> = HashMap::new();
            new.iter().for_each(|row| *surplus.entry(row).or_default() += 1);
            old.iter().for_each(|row| *surplus.entry(row).or_default() -= 1);
            let sum = |sign: i64| surplus.values().map(|n| (n * sign).max(0).unsigned_abs()).sum();
            return counts(sum(1), 0, sum(-1));
        }
        let map = |rows: &[(u8, u8)]| rows.iter().copied().collect::<BTreeMap<u8, u8>>();
        let (old, new) = (map(old), map(new));
        let count = |n: usize| n as u64;
        counts(
            count(new.keys().filter(|k| !old.contains_key(k)).count()),
            count(new.iter().filter(|(k, x)| old.get(k).is_some_and(|old| old != *x)).count()),
            count(old.keys().filter(|k| !new.contains_key(k)).count()),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Would catch: a row counted twice or not at all by any of the ways to pair.
        #[test]
        fn counts_are_those_of_the_plain_way(
            kind in 0..KINDS.len(),
            old in prop::collection::vec((0u8..8, 0u8..3), 0..12),
            new in prop::collection::vec((0u8..8, 0u8..3), 0..12),
            stride in prop::sample::select(vec![1, 1 << 40]),
        ) {
            let found = told(&sql(kind, &old, stride), &sql(kind, &new, stride));
            prop_assert_eq!(found.counts, expected(kind, &old, &new));
            prop_assert_eq!(found.notes, Vec::<String>::new());
        }
    }
}
