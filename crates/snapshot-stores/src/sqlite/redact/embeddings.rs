//! Vectors that ordinary tables hold.
//!
//! A vector gives back much of the text that it was made of. In a redacted row those go: of columns named for
//! it, every blob and every text that is a list of numbers; of others, what reads as floats throughout. In
//! tables that hold vectors by the key of a text elsewhere, those of redacted rows go, and where no key of
//! theirs can be told to be one, all.

use rusqlite::params_from_iter;
use rusqlite::types::ValueRef;

use super::cells::Cell;
use super::db::Store;
use super::keys::{Keys, RedactedRows};
use super::tables::{Address, Column, Part, Schema, Table};
use crate::error::StoresError;
use crate::sqlite::quote;

/// Words in the names of columns and tables that hold vectors.
const NAMED: [&str; 2] = ["embed", "vector"];
/// Such words that stand by themselves, or begin a name's last word.
const SHORT: [&str; 4] = ["emb", "embs", "vec", "vecs"];
/// A blob of as many bytes that reads as floats is a vector, whatever its column is called.
const MIN_VECTOR_BYTES: usize = 128;
/// Sizes between which the numbers of a vector lie, but for zero.
const NUMBERS: std::ops::RangeInclusive<f64> = 1e-12..=1e6;
/// Tables whose vectors are found by a digest of their text, which no row can be linked with.
const CACHE: &str = "embedding_cache";
/// Words in the names of columns that say to whom or what many rows belong.
const OF_MANY: [&str; 9] = [
    "agent",
    "tenant",
    "user",
    "owner",
    "model",
    "session",
    "workspace",
    "namespace",
    "collection",
];
/// Columns that are read at once.
const COLUMNS_AT_ONCE: usize = 500;
/// Rows that are read before those among them are changed.
const ROWS_AT_ONCE: u64 = 4096;

/// What is beside the redacted cells of a row.
pub(super) struct Beside<'t> {
    table: &'t Table,
    /// A group of columns and the SQL that reads them of one row.
    groups: Vec<(String, Vec<&'t Column>)>,
}

/// The vectors of a row: their columns, and what they become.
#[derive(Default)]
pub(super) struct Vectors(Vec<Blank>);

struct Blank {
    column: String,
    zeros: Cell,
    may_be_null: bool,
}

/// What was done about vectors by a digest or a key of their text.
#[derive(Default)]
pub(super) struct Blanked {
    pub(super) vectors: u64,
    pub(super) notes: Vec<String>,
}

impl<'t> Beside<'t> {
    pub(super) fn of(table: &'t Table) -> Self {
        let columns: Vec<_> = table.columns.iter().filter(|column| !column.is_generated).collect();
        let groups = columns.chunks(COLUMNS_AT_ONCE).map(|group| {
            let names: Vec<_> = group.iter().map(|column| quote(&column.name)).collect();
            let (names, condition) = (names.join(", "), table.address.condition(0));
            let sql = format!("SELECT {names} FROM main.{} WHERE {condition}", table.quoted());
            (sql, group.to_vec())
        });
        Self { table, groups: groups.collect() }
    }

    /// Notes by what a row that will be redacted may be referred to, and gives its vectors.
    pub(super) fn read(
        &self,
        store: &Store<'_>,
        row: &[Cell],
        keys: &mut Keys,
    ) -> Result<Vectors, StoresError> {
        keys.row();
        if let (Address::Rowid(_), Some(Cell::Integer(rowid))) = (&self.table.address, row.first())
        {
            keys.note(ValueRef::Integer(*rowid));
        }
        let mut vectors = Vec::new();
        for (sql, columns) in &self.groups {
            let fail = || store.fail("read");
            let mut statement = store.conn.prepare_cached(sql).map_err(fail())?;
            let mut found = statement.query(params_from_iter(row)).map_err(fail())?;
            let Some(found) = found.next().map_err(fail())? else { continue };
            for (at, column) in columns.iter().enumerate() {
                let value = found.get_ref(at).map_err(fail())?;
                if may_refer(column, value) {
                    keys.note(value);
                }
                vectors.extend(Blank::of(column, is_vector_column(self.table, column), value));
            }
        }
        Ok(Vectors(vectors))
    }
}

impl Vectors {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn as_null(&self) -> Vec<(String, Cell)> {
        let cell = |blank: &Blank| if blank.may_be_null { Cell::Null } else { blank.zeros.clone() };
        self.0.iter().map(|blank| (blank.column.clone(), cell(blank))).collect()
    }

    pub(super) fn as_zeros(&self) -> Vec<(String, Cell)> {
        self.0.iter().map(|blank| (blank.column.clone(), blank.zeros.clone())).collect()
    }
}

impl Blank {
    fn of(column: &Column, named: bool, value: ValueRef<'_>) -> Option<Self> {
        let zeros = match value {
            ValueRef::Blob(blob) if !blob.is_empty() && (named || is_floats(blob)) => {
                Cell::Blob(vec![0; blob.len()])
            }
            ValueRef::Text(text) if is_list(text) && (named || text.len() >= MIN_VECTOR_BYTES) => {
                Cell::Text(b"[]".to_vec())
            }
            _ => return None,
        };
        let may_be_null = !column.not_null && column.key == 0;
        let is_blank = matches!(value, ValueRef::Blob(blob) if blob.iter().all(|&b| b == 0));
        (!is_blank).then(|| Self { column: column.name.clone(), zeros, may_be_null })
    }
}

/// Takes out what tables of vectors hold of rows redacted elsewhere.
pub(super) fn blank(
    store: &Store<'_>,
    schema: &Schema,
    rows: &RedactedRows,
) -> Result<Blanked, StoresError> {
    let mut done = Blanked::default();
    if rows.rows() == 0 {
        return Ok(done);
    }
    for table in schema.tables.iter().filter(|table| table.part == Part::Own) {
        store.go_on()?;
        if table.name.to_lowercase().contains(CACHE) {
            let sql = format!("DELETE FROM main.{}", table.quoted());
            let part = format!("table {}", table.name);
            let deleted = store.conn.execute(&sql, []).map_err(store.refuse(&part))?;
            done.vectors += deleted as u64;
            if deleted > 0 {
                done.notes
                    .push(format!("{part}: emptied, for its vectors cannot be linked with texts"));
            }
        } else if table.columns.iter().any(|column| is_vector_column(table, column)) {
            by_key(store, table, rows, &mut done)?;
        }
    }
    Ok(done)
}

fn by_key(
    store: &Store<'_>,
    table: &Table,
    rows: &RedactedRows,
    done: &mut Blanked,
) -> Result<(), StoresError> {
    let mut linked = |value: ValueRef<'_>| rows.holds(value);
    let blanked = sweep(store, table, &mut linked)?;
    done.vectors += blanked.0;
    // Its vectors belong to texts elsewhere, of which some were redacted; but nothing says which.
    let holds_texts = table.columns.iter().any(|column| {
        !column.is_key && !is_vector_column(table, column) && !is_numeric(&column.declared)
    });
    if blanked.1 == 0 && !holds_texts {
        let (vectors, _) = sweep(store, table, &mut |_| true)?;
        done.vectors += vectors;
        if vectors > 0 {
            done.notes.push(format!(
                "table {}: its vectors were taken out, for its keys are none of the redacted rows'",
                table.name
            ));
        }
    }
    Ok(())
}

/// Blanks the vectors of rows of which a key is meant; gives how many vectors, and of how many rows a key was.
fn sweep(
    store: &Store<'_>,
    table: &Table,
    is_meant: &mut dyn FnMut(ValueRef<'_>) -> bool,
) -> Result<(u64, u64), StoresError> {
    let part = format!("table {}", table.name);
    if table.address == Address::Nothing {
        let why = "its columns have all names of the rowid, so that no row can be named";
        return Err(store.unredactable(&part, why));
    }
    let columns: Vec<_> = table.columns.iter().filter(|c| is_vector_column(table, c)).collect();
    let (mut vectors, mut meant, mut from) = (0, 0, From::Start);
    loop {
        let rows = page(store, table, &from, is_meant)?;
        meant += rows.meant.len() as u64;
        store.batch("BEGIN")?;
        for row in &rows.meant {
            let found = of_row(store, table, &columns, row)?;
            vectors += found.len() as u64;
            if !found.is_empty() {
                // As of a redacted row: NULL where a constraint allows it.
                let null = table.update(store, row, &borrow(&found.as_null()));
                null.or_else(|_| table.update(store, row, &borrow(&found.as_zeros())))
                    .map_err(store.refuse(&part))?;
            }
        }
        store.batch("COMMIT")?;
        match rows.next {
            Some(next) => from = next,
            None => return Ok((vectors, meant)),
        }
    }
}

/// Where a page of rows begins. Keys do not change here, so that rows can be counted where there is no rowid.
enum From {
    Start,
    After(Cell),
    Offset(u64),
}

#[derive(Default)]
struct Page {
    meant: Vec<Vec<Cell>>,
    next: Option<From>,
}

/// The rows that are meant among the next few.
fn page(
    store: &Store<'_>,
    table: &Table,
    from: &From,
    is_meant: &mut dyn FnMut(ValueRef<'_>) -> bool,
) -> Result<Page, StoresError> {
    let address = table.address.names();
    let links: Vec<_> =
        links(table).into_iter().map(|column| column.name.as_str()).take(COLUMNS_AT_ONCE).collect();
    let list: Vec<_> = address.iter().chain(&links).map(|name| quote(name)).collect();
    let (rest, at) = match (&table.address, from) {
        (Address::Rowid(name), From::After(last)) => {
            (format!("WHERE {0} > ?1 ORDER BY {0}", quote(name)), Some(last.clone()))
        }
        (Address::Rowid(name), _) => (format!("ORDER BY {}", quote(name)), None),
        _ => (String::new(), None),
    };
    let offset = if let From::Offset(offset) = from { *offset } else { 0 };
    let sql = format!(
        "SELECT {} FROM main.{} NOT INDEXED {rest} LIMIT {ROWS_AT_ONCE} OFFSET {offset}",
        list.join(", "),
        table.quoted()
    );
    let fail = || store.fail("read");
    let mut statement = store.conn.prepare_cached(&sql).map_err(fail())?;
    let mut rows = statement.query(params_from_iter(at)).map_err(fail())?;
    let (mut page, mut seen, mut last) = (Page::default(), 0, None);
    while let Some(row) = rows.next().map_err(fail())? {
        store.check(&mut seen)?;
        let mut is_hit = false;
        for at in 0..list.len() {
            is_hit |= is_meant(row.get_ref(at).map_err(fail())?);
        }
        let key = (0..address.len()).map(|at| row.get_ref(at).map(Cell::from));
        let key: Vec<_> = key.collect::<Result<_, _>>().map_err(fail())?;
        last = key.first().cloned();
        if is_hit {
            page.meant.push(key);
        }
    }
    if seen == ROWS_AT_ONCE {
        let is_rowid = matches!(table.address, Address::Rowid(_));
        page.next = last.filter(|_| is_rowid).map(From::After);
        page.next = page.next.or(Some(From::Offset(offset + seen)));
    }
    Ok(page)
}

fn of_row(
    store: &Store<'_>,
    table: &Table,
    columns: &[&Column],
    row: &[Cell],
) -> Result<Vectors, StoresError> {
    let list: Vec<_> = columns.iter().map(|column| quote(&column.name)).collect();
    let (list, condition) = (list.join(", "), table.address.condition(0));
    let sql = format!("SELECT {list} FROM main.{} WHERE {condition}", table.quoted());
    let fail = || store.fail("read");
    let mut statement = store.conn.prepare_cached(&sql).map_err(fail())?;
    let mut rows = statement.query(params_from_iter(row)).map_err(fail())?;
    let mut found = Vec::new();
    if let Some(row) = rows.next().map_err(fail())? {
        for (at, column) in columns.iter().enumerate() {
            found.extend(Blank::of(column, true, row.get_ref(at).map_err(fail())?));
        }
    }
    Ok(Vectors(found))
}

fn borrow(cells: &[(String, Cell)]) -> Vec<(&str, &Cell)> {
    cells.iter().map(|(name, cell)| (name.as_str(), cell)).collect()
}

/// Whether a column holds vectors by its name, or by its table's.
fn is_vector_column(table: &Table, column: &Column) -> bool {
    !column.is_generated
        && !is_numeric(&column.declared)
        && (is_named(&column.name)
            || (is_named(&table.name)
                && (column.declared.is_empty() || column.declared.contains("blob"))))
}

fn is_named(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    NAMED.iter().any(|word| lower.contains(word)) || words.any(|word| SHORT.contains(&word))
}

/// The columns by which a row of vectors may name its text; not those of whom many rows are, unless there is no
/// other.
fn links(table: &Table) -> Vec<&Column> {
    let links = table.columns.iter().filter(|column| column.is_key || is_link(&column.name));
    let (of_many, of_one): (Vec<_>, Vec<_>) = links.partition(|column| is_of_many(&column.name));
    if of_one.is_empty() { of_many } else { of_one }
}

/// Whether values in a column may name a row, by its name.
fn is_link(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    words.any(|word| ["key", "ref", "hash"].contains(&word) || word.ends_with("id"))
}

/// Whether a column names who or what many rows belong to.
fn is_of_many(name: &str) -> bool {
    let lower = name.to_lowercase();
    OF_MANY.iter().any(|word| lower.contains(word))
}

fn is_numeric(declared: &str) -> bool {
    let numeric = ["int", "real", "floa", "doub", "num", "dec", "bool", "date", "time"];
    numeric.iter().any(|kind| declared.contains(kind))
}

/// Whether something may refer to a row by this value: a short text of any column, a number of a key.
fn may_refer(column: &Column, value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Text(_) => true,
        ValueRef::Integer(_) => {
            (column.is_key || is_link(&column.name)) && !is_of_many(&column.name)
        }
        _ => false,
    }
}

/// A list of numbers.
fn is_list(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.starts_with(b"[")
        && text.ends_with(b"]")
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().all(|b| b.is_ascii_digit() || b"[]+-.eE, \n\t\r".contains(b))
}

/// Whether a blob reads as floats throughout, of 4 or 8 bytes; text never does.
fn is_floats(blob: &[u8]) -> bool {
    let is_number = |x: f64| x == 0.0 || NUMBERS.contains(&x.abs());
    let (short, rest) = blob.as_chunks::<4>();
    if blob.len() < MIN_VECTOR_BYTES || !rest.is_empty() {
        return false;
    }
    let (long, rest) = blob.as_chunks::<8>();
    short.iter().all(|bytes| is_number(f64::from(f32::from_le_bytes(*bytes))))
        || (rest.is_empty() && long.iter().all(|bytes| is_number(f64::from_le_bytes(*bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a text or a picture that is zeroed as a vector, or a vector that is not known as one.
    #[test]
    fn vectors_are_known_by_their_numbers() {
        let floats: Vec<u8> =
            (0..64_u8).flat_map(|n| (f32::from(n) / 64.0 - 0.3).to_le_bytes()).collect();
        let doubles: Vec<u8> =
            (0..64_u8).flat_map(|n| (f64::from(n) / 640.0).to_le_bytes()).collect();
        assert!(is_floats(&floats) && is_floats(&doubles));
        let noise: Vec<u8> =
            (0..256_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert!(!is_floats(&noise) && !is_floats(&[b'a'; 256]) && !is_floats(&floats[..64]));
        assert!(is_list(b" [1.5, -2e-3]\n") && !is_list(b"[1, x]") && !is_list(b"[]"));
    }

    /// Would catch: columns that only sound alike.
    #[test]
    fn names_are_read_by_words() {
        for name in ["embedding", "text_embeddings", "Vector", "emb", "vec_384", "text_vec"] {
            assert!(is_named(name), "{name}");
        }
        for name in ["member", "vecchio", "remember", "text", "september"] {
            assert!(!is_named(name), "{name}");
        }
    }
}
