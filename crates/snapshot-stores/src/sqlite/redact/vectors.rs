//! The entries of sqlite-vec indexes (0.1), read and taken out through the tables beneath them, as its own
//! `DELETE` would: its module is not linked. Source of the layout: sqlite-vec 0.1.9, `sqlite-vec.c`,
//! "VEC0_SHADOW_*", `vec0Update_Delete`, `vec0_write_metadata_value`.

use std::collections::HashSet;

use rusqlite::OptionalExtension;
use rusqlite::types::ValueRef;
use snapshot_core::Redactor;

use super::cells::{Cell, bytes};
use super::db::Store;
use super::embeddings::Blanked;
use super::keys::{Keys, RedactedRows};
use super::tables::{Address, Part, Schema};
use super::virtuals::{Module, Virtual};
use crate::error::StoresError;
use crate::sqlite::{METADATA, METADATA_TEXT, ROWID_BYTES, VECTOR_COLUMNS, VECTORS, quote};

/// Bytes of a text in a metadata chunk: its length, and its text or the first of it.
const VIEW_BYTES: usize = 16;
const VIEW_HEAD: usize = 4;
/// Bytes of the largest chunk: twice what 1,024 vectors of the most dimensions take.
const MAX_CHUNK: u64 = 64 << 20;
/// Modules of other vector indexes, by a part of their names.
const OTHERS: [&str; 5] = ["vec", "vss", "hnsw", "faiss", "annoy"];

/// Hears of a text: what it is, the rowids of the entries that have it, itself.
type Hear<'f> = &'f mut dyn FnMut(&str, &[i64], &[u8]);

/// A sqlite-vec index; its tables, in SQL.
struct Index {
    name: String,
    chunks: String,
    rowids: String,
    auxiliary: Option<String>,
    vectors: Vec<String>,
    metadata: Vec<Metadata>,
    partitions: Vec<String>,
}

struct Metadata {
    chunks: String,
    /// Where texts that are too long for a chunk are; only texts have it.
    texts: Option<String>,
}

/// A chunk, as far as its entries go.
struct Chunk {
    id: i64,
    validity: Vec<u8>,
    rowids: Vec<i64>,
}

/// Entries that hold a secret themselves.
#[derive(Default)]
pub(super) struct Doomed {
    pub(super) cells: u64,
    pub(super) entries: Vec<(String, HashSet<i64>)>,
}

/// Gives every text that an index holds beside its vectors, with whose it is.
pub(super) fn search(
    store: &Store<'_>,
    schema: &Schema,
    hear: &mut dyn FnMut(&str, i64, &[u8]),
) -> Result<(), StoresError> {
    for index in indexes(store, schema)? {
        index.texts(store, &mut |column, rowids, text| {
            let rowid = rowids.first().copied().unwrap_or_default();
            hear(&format!("table {}, {column}", index.name), rowid, text);
        })?;
    }
    Ok(())
}

/// Finds the entries with a secret in their key, metadata, auxiliary or partition texts.
pub(super) fn doomed(
    store: &Store<'_>,
    schema: &Schema,
    redactor: &dyn Redactor,
    keys: &mut Keys,
) -> Result<Doomed, StoresError> {
    let mut doomed = Doomed::default();
    for index in indexes(store, schema)? {
        let mut entries = HashSet::new();
        let mut cells = 0;
        index.texts(store, &mut |_, rowids, text| {
            if redactor.redact(text).is_some() {
                cells += 1;
                entries.extend(rowids);
            }
        })?;
        if cells == 0 {
            continue;
        }
        index.each(store, &mut |rowid, id| {
            if entries.contains(&rowid) {
                keys.row();
                keys.note(if matches!(id, ValueRef::Null) { ValueRef::Integer(rowid) } else { id });
            }
        })?;
        keys.linked(&index.name);
        doomed.cells += cells;
        doomed.entries.push((index.name, entries));
    }
    Ok(doomed)
}

/// Takes entries out, and what older versions of the module left of deleted ones.
pub(super) fn remove(
    store: &Store<'_>,
    entries: &[(String, HashSet<i64>)],
) -> Result<u64, StoresError> {
    let mut removed = 0;
    if entries.is_empty() {
        return Ok(0);
    }
    let schema = Schema::of(store)?;
    for index in indexes(store, &schema)? {
        if let Some((_, entries)) = entries.iter().find(|(name, _)| *name == index.name) {
            removed += index.remove(store, entries)?;
        }
    }
    Ok(removed)
}

/// Takes out the entries of redacted rows; all, where no entry's key is known to be any row's. Scrubs what
/// deleted entries left.
pub(super) fn remove_by_key(
    store: &Store<'_>,
    schema: &Schema,
    rows: &RedactedRows,
) -> Result<Blanked, StoresError> {
    let mut done = Blanked::default();
    refuse_others(store, schema, rows)?;
    for index in indexes(store, schema)? {
        let mut entries = HashSet::new();
        let mut all = 0_u64;
        index.each(store, &mut |rowid, id| {
            let key = if matches!(id, ValueRef::Null) { ValueRef::Integer(rowid) } else { id };
            if rows.holds(key) {
                entries.insert(rowid);
            }
            all += 1;
        })?;
        let is_known = !entries.is_empty() || all == 0 || rows.is_linked(store.path, &index.name);
        if rows.rows() > 0 && !is_known && !index.is_keyed(store, schema)? {
            index.each(store, &mut |rowid, _| _ = entries.insert(rowid))?;
            done.notes.push(format!(
                "table {}: emptied, for its keys are none that are known, so that any may be a redacted row's",
                index.name
            ));
        }
        done.vectors += index.remove(store, &entries)?;
    }
    Ok(done)
}

/// Vectors in a form that only their module knows cannot be told apart.
fn refuse_others(
    store: &Store<'_>,
    schema: &Schema,
    rows: &RedactedRows,
) -> Result<(), StoresError> {
    let is_other = |owner: &&Virtual| match &owner.module {
        Module::Unknown(module) => OTHERS.iter().any(|part| module.contains(part)),
        Module::Vec0 => Index::of(store, schema, owner).is_ok_and(|index| index.is_none()),
        _ => false,
    };
    match schema.virtuals.iter().find(is_other) {
        Some(other) if rows.rows() > 0 => {
            let why =
                "it holds vectors in a form that is not known here, perhaps of redacted texts";
            Err(store.unredactable(&format!("table {}", other.name), why))
        }
        _ => Ok(()),
    }
}

fn indexes(store: &Store<'_>, schema: &Schema) -> Result<Vec<Index>, StoresError> {
    let owners = schema.virtuals.iter().filter(|owner| owner.module == Module::Vec0);
    let indexes: Result<Vec<_>, _> = owners.map(|owner| Index::of(store, schema, owner)).collect();
    Ok(indexes?.into_iter().flatten().collect())
}

impl Index {
    fn of(
        store: &Store<'_>,
        schema: &Schema,
        owner: &Virtual,
    ) -> Result<Option<Self>, StoresError> {
        let part = |suffix: &str| {
            let table = schema.table(&format!("{}_{suffix}", owner.name));
            table.filter(|table| table.part == Part::Vectors)
        };
        let quoted = |suffix: &str| part(suffix).map(|table| table.quoted());
        let (Some(chunks), Some(rowids)) = (quoted("chunks"), quoted("rowids")) else {
            return Ok(None);
        };
        let numbered = |kind: &str| {
            (0..VECTOR_COLUMNS).map_while(|n| quoted(&format!("{kind}{n:02}"))).collect::<Vec<_>>()
        };
        let metadata = numbered(METADATA).into_iter().enumerate().map(|(n, chunks)| Metadata {
            chunks,
            texts: quoted(&format!("{METADATA_TEXT}{n:02}")),
        });
        let partitions = part("chunks").into_iter().flat_map(|table| &table.columns);
        let partitions = partitions.filter(|column| column.name.starts_with("partition"));
        let index = Self {
            name: owner.name.clone(),
            chunks,
            rowids,
            auxiliary: quoted("auxiliary"),
            vectors: numbered(VECTORS),
            metadata: metadata.collect(),
            partitions: partitions.map(|column| quote(&column.name)).collect(),
        };
        index.refuse_huge(store)?;
        Ok(Some(index))
    }

    /// A chunk is held whole.
    fn refuse_huge(&self, store: &Store<'_>) -> Result<(), StoresError> {
        let vectors = self.vectors.iter().map(|table| (table, "vectors"));
        let metadata = self.metadata.iter().map(|metadata| (&metadata.chunks, "data"));
        for (table, column) in vectors.chain(metadata) {
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM main.{table} WHERE octet_length({column}) > {MAX_CHUNK})"
            );
            if store.prepare(&sql)?.query_row([], |row| row.get(0)).map_err(store.fail("read"))? {
                let why = format!("a chunk of it has more than {MAX_CHUNK} bytes");
                return Err(store.unredactable(&format!("table {}", self.name), &why));
            }
        }
        Ok(())
    }

    /// Every entry: its rowid, and its key where that is a text.
    fn each(
        &self,
        store: &Store<'_>,
        hear: &mut dyn FnMut(i64, ValueRef<'_>),
    ) -> Result<(), StoresError> {
        let sql = format!("SELECT rowid, id FROM main.{} NOT INDEXED", self.rowids);
        each_row(store, &sql, 1, &mut |rowid, value| hear(rowid, value))
    }

    /// Whether every entry has its row in one table of the same store, by a key.
    fn is_keyed(&self, store: &Store<'_>, schema: &Schema) -> Result<bool, StoresError> {
        for table in schema.tables.iter().filter(|table| table.part == Part::Own) {
            let rowid = match &table.address {
                Address::Rowid(name) => Some(name.as_str()),
                _ => None,
            };
            let found = table.columns.iter().filter(|c| c.is_found).map(|c| c.name.as_str());
            for column in rowid.into_iter().chain(found) {
                let sql = format!(
                    "SELECT NOT EXISTS (SELECT 1 FROM main.{} v WHERE NOT EXISTS \
                     (SELECT 1 FROM main.{} t WHERE t.{} = ifnull(v.id, v.rowid)))",
                    self.rowids,
                    table.quoted(),
                    quote(column)
                );
                if store
                    .prepare(&sql)?
                    .query_row([], |row| row.get(0))
                    .map_err(store.fail("read"))?
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Every text that it holds, with the rowids of the entries that have it.
    fn texts(&self, store: &Store<'_>, hear: Hear<'_>) -> Result<(), StoresError> {
        let mut one = |what: &str, rowid: i64, value: ValueRef<'_>| {
            if let Some(text) = bytes(value) {
                hear(what, &[rowid], text);
            }
        };
        self.each(store, &mut |rowid, id| one("key", rowid, id))?;
        if let Some(auxiliary) = &self.auxiliary {
            let sql = format!("SELECT * FROM main.{auxiliary} NOT INDEXED");
            let columns = store.prepare(&sql)?.column_count();
            each_row(store, &sql, columns - 1, &mut |rowid, value| one("auxiliary", rowid, value))?;
        }
        for texts in self.metadata.iter().filter_map(|metadata| metadata.texts.as_ref()) {
            let sql = format!("SELECT rowid, data FROM main.{texts} NOT INDEXED");
            each_row(store, &sql, 1, &mut |rowid, value| one("metadata", rowid, value))?;
        }
        for id in self.chunk_ids(store)? {
            store.go_on()?;
            let chunk = self.chunk(store, id)?;
            for partition in &self.partitions {
                let value = self.cell(store, &self.chunks, partition, "chunk_id", id)?;
                if let Some(Cell::Text(text) | Cell::Blob(text)) = value {
                    hear("partition", &chunk.used(), &text);
                }
            }
            for metadata in self.metadata.iter().filter(|metadata| metadata.texts.is_some()) {
                let data = self.data(store, &metadata.chunks, "data", id)?;
                for (slot, view) in data.as_chunks::<VIEW_BYTES>().0.iter().enumerate() {
                    if let (true, Some(text)) = (chunk.is_used(slot), inline(view)) {
                        hear("metadata", &[chunk.rowids[slot]], text);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes entries out, clears the places that are not in use, and drops chunks without any.
    fn remove(&self, store: &Store<'_>, entries: &HashSet<i64>) -> Result<u64, StoresError> {
        store.batch("BEGIN")?;
        let mut removed = 0;
        for id in self.chunk_ids(store)? {
            store.go_on()?;
            let mut chunk = self.chunk(store, id)?;
            let mut is_changed = false;
            for slot in 0..chunk.rowids.len() {
                if chunk.is_used(slot) && entries.contains(&chunk.rowids[slot]) {
                    chunk.validity[slot / 8] &= !(1 << (slot % 8));
                    removed += 1;
                    is_changed = true;
                }
                if !chunk.is_used(slot) && chunk.rowids[slot] != 0 {
                    chunk.rowids[slot] = 0;
                    is_changed = true;
                }
            }
            if chunk.used().is_empty() {
                self.drop_chunk(store, id)?;
                continue;
            }
            if is_changed {
                let rowids: Vec<u8> = chunk.rowids.iter().flat_map(|id| id.to_le_bytes()).collect();
                let sql = format!(
                    "UPDATE main.{} SET validity = ?1, rowids = ?2 WHERE chunk_id = ?3",
                    self.chunks
                );
                self.run(store, &sql, (&chunk.validity, rowids, id))?;
            }
            self.clear(store, &chunk)?;
        }
        self.forget(store, entries)?;
        store.batch("COMMIT")?;
        Ok(removed)
    }

    /// Zeroes vectors and metadata in the places that are not in use.
    fn clear(&self, store: &Store<'_>, chunk: &Chunk) -> Result<(), StoresError> {
        let vectors = self.vectors.iter().map(|table| (table, "vectors"));
        let metadata = self.metadata.iter().map(|metadata| (&metadata.chunks, "data"));
        for (table, column) in vectors.chain(metadata) {
            let mut data = self.data(store, table, column, chunk.id)?;
            if chunk.zero_unused(&mut data) {
                let sql = format!("UPDATE main.{table} SET {column} = ?1 WHERE rowid = ?2");
                self.run(store, &sql, (data, chunk.id))?;
            }
        }
        Ok(())
    }

    fn drop_chunk(&self, store: &Store<'_>, id: i64) -> Result<(), StoresError> {
        self.run(store, &format!("DELETE FROM main.{} WHERE chunk_id = ?1", self.chunks), [id])?;
        let metadata = self.metadata.iter().map(|metadata| &metadata.chunks);
        for table in self.vectors.iter().chain(metadata) {
            self.run(store, &format!("DELETE FROM main.{table} WHERE rowid = ?1"), [id])?;
        }
        Ok(())
    }

    /// Deletes what is kept by rowid: of these entries, and of ones that are gone.
    fn forget(&self, store: &Store<'_>, entries: &HashSet<i64>) -> Result<(), StoresError> {
        let sql = format!("DELETE FROM main.{} WHERE rowid = ?1", self.rowids);
        for entry in entries {
            self.run(store, &sql, [entry])?;
        }
        let texts = self.metadata.iter().filter_map(|metadata| metadata.texts.as_ref());
        for table in self.auxiliary.iter().chain(texts) {
            let sql = format!(
                "DELETE FROM main.{table} WHERE NOT EXISTS \
                 (SELECT 1 FROM main.{} r WHERE r.rowid = main.{table}.rowid)",
                self.rowids
            );
            self.run(store, &sql, [])?;
        }
        Ok(())
    }

    fn run(
        &self,
        store: &Store<'_>,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<(), StoresError> {
        let done =
            store.conn.prepare_cached(sql).and_then(|mut statement| statement.execute(values));
        done.map(drop).map_err(store.refuse(&format!("table {}", self.name)))
    }

    fn chunk_ids(&self, store: &Store<'_>) -> Result<Vec<i64>, StoresError> {
        let mut statement = store.prepare(&format!("SELECT chunk_id FROM main.{}", self.chunks))?;
        let ids = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
        ids.map_err(store.fail("read"))
    }

    fn chunk(&self, store: &Store<'_>, id: i64) -> Result<Chunk, StoresError> {
        let validity = self.cell(store, &self.chunks, "validity", "chunk_id", id)?;
        let rowids = self.cell(store, &self.chunks, "rowids", "chunk_id", id)?;
        let (Some(Cell::Blob(validity)), Some(Cell::Blob(rowids))) = (validity, rowids) else {
            return Err(self.unsound());
        };
        let (rowids, rest) = rowids.as_chunks::<ROWID_BYTES>();
        if !rest.is_empty() || validity.len() * 8 < rowids.len() {
            return Err(self.unsound());
        }
        Ok(Chunk {
            id,
            validity,
            rowids: rowids.iter().map(|id| i64::from_le_bytes(*id)).collect(),
        })
    }

    /// What a table keeps of a chunk.
    fn data(
        &self,
        store: &Store<'_>,
        table: &str,
        column: &str,
        id: i64,
    ) -> Result<Vec<u8>, StoresError> {
        match self.cell(store, table, column, "rowid", id)? {
            Some(Cell::Blob(data)) => Ok(data),
            _ => Err(self.unsound()),
        }
    }

    fn cell(
        &self,
        store: &Store<'_>,
        table: &str,
        column: &str,
        key: &str,
        id: i64,
    ) -> Result<Option<Cell>, StoresError> {
        let sql = format!("SELECT {column} FROM main.{table} WHERE {key} = ?1");
        let mut statement = store.conn.prepare_cached(&sql).map_err(store.fail("read"))?;
        let cell = statement.query_row([id], |row| Ok(Cell::from(row.get_ref(0)?))).optional();
        cell.map_err(store.fail("read"))
    }

    fn unsound(&self) -> StoresError {
        StoresError::integrity(&self.name, "a chunk of this vector index is not whole")
    }
}

impl Chunk {
    fn is_used(&self, slot: usize) -> bool {
        slot < self.rowids.len() && self.validity[slot / 8] >> (slot % 8) & 1 == 1
    }

    fn used(&self) -> Vec<i64> {
        (0..self.rowids.len())
            .filter(|&slot| self.is_used(slot))
            .map(|slot| self.rowids[slot])
            .collect()
    }

    /// Zeroes the places not in use, each as many bits wide as the data gives it; tells of a change.
    fn zero_unused(&self, data: &mut [u8]) -> bool {
        let slots = self.rowids.len();
        let bits = data.len() * 8 / slots;
        let mut is_changed = false;
        for slot in (0..slots).filter(|&slot| !self.is_used(slot)) {
            if bits < 8 {
                let mask = 1_u8 << (slot % 8);
                is_changed |= data[slot / 8] & mask != 0;
                data[slot / 8] &= !mask;
            } else {
                let place = &mut data[slot * bits / 8..(slot + 1) * bits / 8];
                is_changed |= place.iter().any(|&byte| byte != 0);
                place.fill(0);
            }
        }
        is_changed
    }
}

/// A text that is short enough to lie in its chunk.
fn inline(view: &[u8; VIEW_BYTES]) -> Option<&[u8]> {
    let (head, text) = view.split_first_chunk::<VIEW_HEAD>()?;
    let length = usize::try_from(i32::from_le_bytes(*head)).ok()?;
    text.get(..length)
}

/// The cells after the rowid of every row.
fn each_row(
    store: &Store<'_>,
    sql: &str,
    cells: usize,
    hear: &mut dyn FnMut(i64, ValueRef<'_>),
) -> Result<(), StoresError> {
    let mut statement = store.prepare(sql)?;
    let mut rows = statement.query([]).map_err(store.fail("read"))?;
    let mut seen = 0;
    while let Some(row) = rows.next().map_err(store.fail("read"))? {
        store.check(&mut seen)?;
        let rowid = row.get(0).map_err(store.fail("read"))?;
        for at in 1..=cells {
            hear(rowid, row.get_ref(at).map_err(store.fail("read"))?);
        }
    }
    Ok(())
}
