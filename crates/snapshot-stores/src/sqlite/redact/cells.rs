//! Values of any kind, as bytes that need be no text; JSONB.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql};

/// Bytes of the longest head of a JSONB element (<https://sqlite.org/jsonb.html>).
const JSONB_SIZES: [usize; 4] = [1, 2, 4, 8];
/// The last type of a JSONB element.
const JSONB_OBJECT: u8 = 12;

/// A value that is kept apart from its row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    /// In any encoding that the database holds, so it may be no UTF-8.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Cell {
    /// Bytes that it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let held = match self {
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Self>() + held
    }
}

/// The bytes of a text or a blob.
pub(super) fn bytes(value: ValueRef<'_>) -> Option<&[u8]> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

/// The text of a blob that is JSONB throughout.
pub(super) fn json_of(conn: &Connection, blob: &[u8]) -> rusqlite::Result<Option<String>> {
    if !may_be_jsonb(blob) {
        return Ok(None);
    }
    let sql = "SELECT CASE WHEN json_valid(?1, 8) THEN json(?1) END";
    let text = conn.prepare_cached(sql)?.query_row([blob], |row| row.get(0)).optional()?;
    Ok(text.flatten())
}

/// JSONB of a text; none where that is no JSON.
pub(super) fn jsonb_of(conn: &Connection, text: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    let text = Cell::Text(text.to_vec());
    let sql = "SELECT CASE WHEN json_valid(?1) THEN jsonb(?1) END";
    let blob = conn.prepare_cached(sql)?.query_row([text], |row| row.get(0)).optional()?;
    Ok(blob.flatten())
}

/// Whether its head gives the length that it has; only containers and strings matter.
fn may_be_jsonb(blob: &[u8]) -> bool {
    let Some(&first) = blob.first() else { return false };
    let (kind, size) = (first & 0x0f, usize::from(first >> 4));
    if !(7..=JSONB_OBJECT).contains(&kind) {
        return false;
    }
    let (head, length) = match size {
        0..=11 => (1, Some(size)),
        _ => {
            let head = JSONB_SIZES[size - 12];
            let length = blob.get(1..=head).map(|bytes| {
                bytes.iter().fold(0_usize, |n, &b| n.wrapping_mul(256).wrapping_add(usize::from(b)))
            });
            (1 + head, length)
        }
    };
    length.is_some_and(|length| head.checked_add(length) == Some(blob.len()))
}
