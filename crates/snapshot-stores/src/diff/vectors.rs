//! The vectors of a sqlite-vec index (0.1), read from the tables beneath it: its module is not linked.
//!
//! `<name>_chunks` says which rowid lies at which place of a chunk (a bitmap of the places in use, and
//! rowids of 8 bytes, little-endian), `<name>_vector_chunksNN` holds the vectors of column NN of a chunk
//! one after another, `<name>_rowids` the primary key of a rowid where that is a text. Source of the layout:
//! sqlite-vec 0.1.9, `sqlite-vec.c`, "VEC0_SHADOW_*".

use rusqlite::types::{Value, ValueRef};
use rusqlite::{OptionalExtension, Row};
use sha2::{Digest, Sha256};
use snapshot_core::{Cell, CellDifference, Change, Sha256Digest};

use super::cells::{cosine, floats};
use super::report::{TableReport, one_side};
use super::rows::{Databases, Sides};
use super::tables::quote;
use crate::error::StoresError;
use crate::sqlite::{METADATA, ROWID_BYTES, VECTOR_COLUMNS, VECTORS};

/// What an index's row is called where its own columns' names are not known.
const VECTOR: &str = "vector";
/// Where each vector lies, and its digest.
const PLACES: &str = "
    CREATE TABLE IF NOT EXISTS main.old_vectors
        (key PRIMARY KEY, digest BLOB, bytes INTEGER, chunk INTEGER, place INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS main.new_vectors
        (key PRIMARY KEY, digest BLOB, bytes INTEGER, chunk INTEGER, place INTEGER) WITHOUT ROWID;
    DELETE FROM main.old_vectors;
    DELETE FROM main.new_vectors;";

/// A vector that differs: its digest and length, and where it lies.
struct Found {
    digest: [u8; 32],
    bytes: u64,
    chunk: i64,
    place: i64,
}

/// Compares the vectors by primary key.
pub(super) fn compare(
    db: &Databases<'_>,
    name: &str,
    sides: Sides<'_>,
    report: &mut TableReport<'_, '_, '_>,
) -> Result<(), StoresError> {
    db.batch(PLACES)?;
    for (schema, side) in [("old", sides.0), ("new", sides.1)] {
        if side.is_some() {
            find(db, schema, name)?;
        }
    }
    let sql = "SELECT ifnull(n.key, o.key), o.digest, o.bytes, o.chunk, o.place, n.digest, n.bytes, n.chunk, n.place \
        FROM main.old_vectors o FULL OUTER JOIN main.new_vectors n ON n.key = o.key WHERE o.digest IS NOT n.digest";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([]).map_err(db.fail())?;
    let mut seen = 0;
    while let Some(row) = rows.next().map_err(db.fail())? {
        db.check(&mut seen)?;
        tell(db, name, row, report).map_err(db.fail())?;
    }
    if metadata_differs(db, name, sides)? {
        report.not_compared("its metadata columns differ; they are not compared by row");
    }
    Ok(())
}

/// Whether metadata differs, whose values lie packed in chunks.
fn metadata_differs(db: &Databases<'_>, name: &str, sides: Sides<'_>) -> Result<bool, StoresError> {
    let (Some(_), Some(_)) = sides else { return Ok(false) };
    let (old, new) = (columns(db, "old", name, METADATA)?, columns(db, "new", name, METADATA)?);
    for part in &new {
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM old.{part} o FULL OUTER JOIN new.{part} n \
             ON n.rowid = o.rowid WHERE o.data IS NOT n.data)"
        );
        if old.contains(part) && db.prepare(&sql)?.query_row([], |r| r.get(0)).map_err(db.fail())? {
            return Ok(true);
        }
    }
    Ok(old != new)
}

/// Notes where each vector of one side lies.
fn find(db: &Databases<'_>, schema: &str, name: &str) -> Result<(), StoresError> {
    let columns = columns(db, schema, name, VECTORS)?;
    let (mut select, mut join) = (String::new(), String::new());
    for (n, part) in columns.iter().enumerate() {
        select.push_str(&format!(", v{n}.vectors"));
        join.push_str(&format!(" JOIN {schema}.{part} v{n} ON v{n}.rowid = c.chunk_id"));
    }
    let part = |suffix: &str| quote(&format!("{name}_{suffix}"));
    let sql = format!(
        "SELECT c.chunk_id, c.validity, c.rowids{select} FROM {schema}.{} c{join}",
        part("chunks")
    );
    let mut key =
        db.prepare(&format!("SELECT id FROM {schema}.{} WHERE rowid = ?1", part("rowids")))?;
    let mut keep = db.prepare(&format!(
        "INSERT OR IGNORE INTO main.{schema}_vectors VALUES (?1, ?2, ?3, ?4, ?5)"
    ))?;
    let mut chunks = db.prepare(&sql)?;
    let mut chunks = chunks.query([]).map_err(db.fail())?;
    let mut seen = 0;
    while let Some(chunk) = chunks.next().map_err(db.fail())? {
        let (id, validity) = (chunk.get::<_, i64>(0), chunk.get_ref(1));
        let (id, validity) = (id.map_err(db.fail())?, blob(validity.map_err(db.fail())?));
        let (rowids, _) = blob(chunk.get_ref(2).map_err(db.fail())?).as_chunks::<ROWID_BYTES>();
        for (place, rowid) in rowids.iter().enumerate() {
            let used = validity.get(place / 8).is_some_and(|bits| bits >> (place % 8) & 1 == 1);
            if !used {
                continue;
            }
            db.check(&mut seen)?;
            let rowid = i64::from_le_bytes(*rowid);
            let found = key.query_row([rowid], |row| row.get::<_, Value>(0)).optional();
            let key = match found.map_err(db.fail())? {
                None | Some(Value::Null) => Value::Integer(rowid),
                Some(key) => key,
            };
            let mut hasher = Sha256::new();
            let mut bytes = 0;
            for column in 0..columns.len() {
                let vectors = blob(chunk.get_ref(3 + column).map_err(db.fail())?);
                let length = vectors.len() / rowids.len();
                let vector = &vectors[place * length..][..length];
                hasher.update(vector);
                bytes += length as u64;
            }
            let digest: [u8; 32] = hasher.finalize().into();
            let place = place as u64;
            keep.execute((key, digest, bytes.cast_signed(), id, place.cast_signed()))
                .map_err(db.fail())?;
        }
    }
    Ok(())
}

/// The tables of the index's columns of a kind, in SQL.
fn columns(
    db: &Databases<'_>,
    schema: &str,
    name: &str,
    kind: &str,
) -> Result<Vec<String>, StoresError> {
    let mut columns = Vec::new();
    let sql =
        format!("SELECT count(*) FROM pragma_table_list WHERE schema = '{schema}' AND name = ?1");
    let mut is_there = db.prepare(&sql)?;
    for column in 0..VECTOR_COLUMNS {
        let table = format!("{name}_{kind}{column:02}");
        if is_there.query_row([&table], |row| row.get::<_, i64>(0)).map_err(db.fail())? == 0 {
            break;
        }
        columns.push(quote(&table));
    }
    Ok(columns)
}

fn tell(
    db: &Databases<'_>,
    name: &str,
    row: &Row<'_>,
    report: &mut TableReport<'_, '_, '_>,
) -> Result<(), rusqlite::Error> {
    let (old, new) = (found(row, 1)?, found(row, 5)?);
    let change = match (&old, &new) {
        (Some(_), Some(_)) => Change::Changed,
        (Some(_), None) => Change::Removed,
        (None, _) => Change::Added,
    };
    if !report.counted(change) {
        return Ok(());
    }
    let angle = match (&old, &new) {
        (Some(old), Some(new)) => {
            let vector = |schema, at| read(db, schema, name, at);
            vector("old", old)?.zip(vector("new", new)?).and_then(|(a, b)| cosine(&a, &b))
        }
        _ => None,
    };
    let cell = |found: Found| Cell::Blob {
        blob_bytes: found.bytes,
        sha256: Sha256Digest::from_bytes(found.digest),
    };
    let vector = CellDifference {
        column: VECTOR.to_owned(),
        old: old.map(cell),
        new: new.map(cell),
        cosine: angle,
    };
    report.tell(change, vec![one_side("id", change, row.get_ref(0)?)], vec![vector]);
    Ok(())
}

/// One side's vector in the row of a join; none where it has none.
fn found(row: &Row<'_>, at: usize) -> Result<Option<Found>, rusqlite::Error> {
    let Some(digest) = row.get(at)? else { return Ok(None) };
    let bytes = row.get::<_, i64>(at + 1)?.unsigned_abs();
    Ok(Some(Found { digest, bytes, chunk: row.get(at + 2)?, place: row.get(at + 3)? }))
}

/// The floats of the first vector column; none where it holds something else.
fn read(
    db: &Databases<'_>,
    schema: &str,
    name: &str,
    at: &Found,
) -> Result<Option<Vec<f32>>, rusqlite::Error> {
    let part = |suffix: &str| quote(&format!("{name}_{suffix}"));
    let sql = format!(
        "SELECT substr(v.vectors, 1 + ?2 * (length(v.vectors) / c.size), length(v.vectors) / c.size) \
         FROM {schema}.{} c JOIN {schema}.{} v ON v.rowid = c.chunk_id WHERE c.chunk_id = ?1",
        part("chunks"),
        part("vector_chunks00")
    );
    db.conn
        .prepare_cached(&sql)?
        .query_row((at.chunk, at.place), |row| Ok(floats(blob(row.get_ref(0)?))))
        .optional()
        .map(Option::flatten)
}

fn blob(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Blob(bytes) => bytes,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::{Connection, ffi};
    use snapshot_core::{Control, Difference, RowCounts, SnapshotDiff, SnapshotId, StoreName};

    use super::super::report::StoreReport;
    use super::super::rows;

    type Init = unsafe extern "C" fn(
        *mut ffi::sqlite3,
        *mut *mut std::ffi::c_char,
        *const ffi::sqlite3_api_routines,
    ) -> std::ffi::c_int;

    /// A database with the module, on this one connection alone.
    #[expect(unsafe_code, reason = "the only way to load an extension that is linked in")]
    fn with_module(path: &Path) -> Connection {
        let conn = Connection::open(path).unwrap();
        // SAFETY: `sqlite3_vec_init` is an extension's entry point, which its crate declares without
        // its arguments; the handle is open, and a linked-in extension takes no table of functions.
        let code = unsafe {
            let init: Init = std::mem::transmute(sqlite_vec::sqlite3_vec_init as *const ());
            init(conn.handle(), std::ptr::null_mut(), std::ptr::null())
        };
        assert_eq!(code, ffi::SQLITE_OK);
        conn
    }

    /// A thousand and a half vectors, in two chunks.
    fn fill(conn: &Connection, key: &str) {
        conn.execute_batch(&format!(
            "CREATE VIRTUAL TABLE v USING vec0(id {key} PRIMARY KEY, embedding FLOAT[8]);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
             INSERT INTO v SELECT CAST(i AS {key}), '[' || i || ',1,1,1,1,1,1,1]' FROM n"
        ))
        .unwrap();
    }

    fn compare(old: &Path, new: &Path, work: &Path) -> (RowCounts, Vec<Difference>, Vec<String>) {
        let mut told = Vec::new();
        let mut diff = SnapshotDiff::between(SnapshotId::nil(), SnapshotId::nil());
        let mut hear = |difference| told.push(difference);
        let mut sink: Option<&mut dyn FnMut(Difference)> = Some(&mut hear);
        let store = StoreName::from_static("vector");
        let mut report = StoreReport { store: &store, sink: &mut sink, diff: &mut diff };
        let sides = (Some(old), Some(new));
        let compared =
            rows::compare(sides, work, None, &mut report, (&Control::default(), 2)).unwrap();
        let counts = compared.counts;
        assert!(counts.keys().all(|name| name == "v"), "{counts:?}");
        let notes = diff.not_compared.into_iter().map(|n| n.why).chain(diff.notes);
        (counts.get("v").copied().unwrap_or_default(), told, notes.collect())
    }

    /// Would catch: vectors counted by the tables beneath them (a chunk, a bitmap and a row for one), or
    /// paired by their place, which a delete and an insert change.
    #[test]
    fn vectors_are_paired_by_their_key_and_told_with_their_angle() {
        for key in ["TEXT", "INTEGER"] {
            let tmp = tempfile::tempdir().unwrap();
            let (old, new) = (tmp.path().join("old.db"), tmp.path().join("new.db"));
            fill(&with_module(&old), key);
            fill(&with_module(&new), key);
            with_module(&new)
                .execute_batch(&format!(
                    "DELETE FROM v WHERE id IN (CAST(3 AS {key}), CAST(1400 AS {key}), CAST(7 AS {key}));
                     INSERT INTO v VALUES (CAST(2000 AS {key}), '[1,2,3,4,5,6,7,8]');
                     INSERT INTO v VALUES (CAST(7 AS {key}), '[7,1,1,1,1,1,1,1]');
                     UPDATE v SET embedding = '[-1,-1,-1,-1,-1,-1,-1,-1]' WHERE id = CAST(1 AS {key})"
                ))
                .unwrap();
            let (counts, told, notes) = compare(&old, &new, &tmp.path().join("work"));
            assert_eq!(counts, RowCounts { added: 1, changed: 1, removed: 2 }, "{told:?}");
            assert_eq!(notes, Vec::<String>::new());
            let angles: Vec<_> = told
                .iter()
                .filter_map(|told| match told {
                    Difference::Row(row) => row.cells[0].cosine,
                    _ => None,
                })
                .collect();
            assert_eq!(angles.len(), 1);
            assert!((angles[0] + 1.0).abs() < 1e-6, "{angles:?}");
        }
    }

    /// Would catch: metadata that changed and was passed over in silence.
    #[test]
    fn metadata_that_differs_is_told_as_not_compared() {
        let tmp = tempfile::tempdir().unwrap();
        let (old, new) = (tmp.path().join("old.db"), tmp.path().join("new.db"));
        for path in [&old, &new] {
            let sql = "CREATE VIRTUAL TABLE v USING vec0(embedding FLOAT[2], year INTEGER);
                INSERT INTO v (rowid, embedding, year) VALUES (1, '[1,2]', 2025), (2, '[3,4]', 2026)";
            with_module(path).execute_batch(sql).unwrap();
        }
        let work = tmp.path().join("work");
        assert_eq!(compare(&old, &new, &work).2, Vec::<String>::new());
        with_module(&new).execute_batch("UPDATE v SET year = 1999 WHERE rowid = 2").unwrap();
        let (counts, told, notes) = compare(&old, &new, &tmp.path().join("work again"));
        assert_eq!((counts, told.len()), (RowCounts::default(), 0));
        assert!(notes[0].contains("metadata"), "{notes:?}");
    }
}
