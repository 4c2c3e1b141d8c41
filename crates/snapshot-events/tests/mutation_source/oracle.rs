//! Keys and digests of the rows of a database, as `docs/wire.md` says, with code of its own.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::types::Value;
use snapshot_core::Sha256Digest;

/// Digest of each row by its key.
pub(crate) type Rows = BTreeMap<String, String>;

/// A table, what its key is made of, whether that may hold NULL, and its columns.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [&'static str],
    pub(crate) nullable: bool,
    pub(crate) columns: &'static [&'static str],
}

/// What `conn` sees in these tables.
pub(crate) fn rows(conn: &Connection, tables: &[Table]) -> Rows {
    let mut rows = Rows::new();
    for Table { name, key, nullable, columns } in tables {
        let rowid: &[&str] = if *nullable { &["rowid"] } else { &[] };
        let values = [*key, rowid, *columns].concat();
        let sql = format!("SELECT {} FROM {name}", values.join(", "));
        let mut select = conn.prepare(&sql).unwrap();
        let mut found = select.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let values: Vec<Value> = (0..values.len()).map(|i| row.get(i).unwrap()).collect();
            let (key, values) = values.split_at(key.len());
            let (rowid, values) = values.split_at(rowid.len());
            let mut parts: Vec<String> = key.iter().map(render).collect();
            if key.contains(&Value::Null) {
                parts.extend(rowid.iter().map(|rowid| format!("@{}", render(rowid))));
            }
            let key = format!("{name}:{}", parts.join(","));
            assert_eq!(rows.insert(key, digest(values)), None);
        }
    }
    rows
}

pub(crate) fn digest(values: &[Value]) -> String {
    let mut bytes = b"nexo-memory-row-v1\0".to_vec();
    for value in values {
        match value {
            Value::Null => bytes.push(0),
            Value::Integer(n) => {
                bytes.push(1);
                bytes.extend(n.to_be_bytes());
            }
            Value::Real(x) => {
                bytes.push(2);
                let x = if *x == 0.0 { x.abs() } else { *x };
                bytes.extend(x.to_be_bytes());
            }
            Value::Text(text) => {
                bytes.push(3);
                bytes.extend((text.len() as u64).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
            Value::Blob(blob) => {
                bytes.push(4);
                bytes.extend((blob.len() as u64).to_be_bytes());
                bytes.extend(blob);
            }
        }
    }
    Sha256Digest::of(&bytes).to_string()
}

/// Enough for the values that the tests use.
fn render(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(x) => format!("{x:?}").replace("-0.0", "0.0"),
        Value::Text(text) if text.parse::<f64>().is_ok() => {
            format!("%{:02x}{}", text.as_bytes()[0], &text[1..])
        }
        Value::Text(text) => text.replace('%', "%25").replace(',', "%2c").replace('\'', "%27"),
        Value::Blob(blob) => {
            let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'")
        }
    }
}
