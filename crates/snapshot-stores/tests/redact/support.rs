//! A store on its way, and rules for which everything of the form `SECRET-[a-z0-9]+` is a secret.

use std::ops::Range;
use std::path::PathBuf;

use rusqlite::{Connection, ffi};
use snapshot_core::{Control, FoundSecret, NameOf, Redactor, SecretPlace, SecretSearch};
use snapshot_stores::StoresError;
use snapshot_stores::redact::{
    FinishedStore, RedactedRows, StoreRedaction, finish_store, redact_rows, scan_store,
};
use tempfile::TempDir;

/// How a secret begins.
pub(crate) const START: &[u8] = b"SECRET-";

/// The fake rules; secrets that are equal in any case of letters become the same.
pub(crate) struct Rules;

fn secrets(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].windows(START.len()).position(|w| w == START) {
        let start = at + start;
        let rest = &bytes[start + START.len()..];
        let length =
            rest.iter().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).count();
        at = start + START.len() + length;
        if length > 0 {
            found.push(start..at);
        }
    }
    found
}

impl SecretSearch for Rules {
    fn search(&self, bytes: &[u8]) -> Vec<FoundSecret> {
        let secret = |range: Range<usize>| {
            let value = bytes[range.clone()].to_vec();
            FoundSecret { range, rule: "fake".into(), value, is_key: false }
        };
        secrets(bytes).into_iter().map(secret).collect()
    }
}

impl Redactor for Rules {
    /// With a tag, so that different secrets stay different.
    fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let found = secrets(bytes);
        let mut out = Vec::new();
        let mut at = 0;
        for range in &found {
            let tag = range.clone().fold(7_u32, |n, at| n.wrapping_mul(31) + u32::from(bytes[at]));
            out.extend_from_slice(&bytes[at..range.start]);
            out.extend_from_slice(format!("[REDACTED:fake:{tag:08x}]").as_bytes());
            at = range.end;
        }
        out.extend_from_slice(&bytes[at..]);
        (!found.is_empty()).then_some(out)
    }

    fn redact_name(&self, name: &[u8], _: NameOf) -> Option<Vec<u8>> {
        self.redact(name)
    }
}

/// A folder with one store, and where it goes.
pub(crate) struct Scene {
    pub(crate) tmp: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) into: PathBuf,
    pub(crate) rows: RedactedRows,
    pub(crate) control: Control,
}

impl Scene {
    /// A store made by these statements.
    pub(crate) fn new(sql: &str) -> Self {
        Self::by(|conn| conn.execute_batch(sql).unwrap())
    }

    pub(crate) fn by(make: impl FnOnce(&Connection)) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let (path, into) = (tmp.path().join("s tore?.db"), tmp.path().join("fresh.db"));
        let conn = with_vectors(&path);
        make(&conn);
        conn.close().unwrap();
        Self { tmp, path, into, rows: RedactedRows::new(), control: Control::default() }
    }

    /// Every secret's place and value.
    pub(crate) fn scan(&self) -> Result<Vec<(SecretPlace, String)>, StoresError> {
        let mut found = Vec::new();
        scan_store(&self.path, &Rules, &self.control, &mut |place, secret| {
            found.push((place, String::from_utf8(secret.value).unwrap()));
        })?;
        Ok(found)
    }

    pub(crate) fn places(&self) -> Vec<String> {
        let show = |(place, _): (SecretPlace, String)| {
            format!("{}{}", place.place, if place.is_key { " (key)" } else { "" })
        };
        self.scan().unwrap().into_iter().map(show).collect()
    }

    pub(crate) fn redact(&mut self) -> Result<StoreRedaction, StoresError> {
        redact_rows(&self.path, &Rules, &mut self.rows, &self.control)
    }

    pub(crate) fn finish(&self) -> Result<FinishedStore, StoresError> {
        finish_store(&self.path, &self.into, &self.rows, &self.control)
    }

    /// All three steps; the outcome holds no secret in any case or encoding, and nothing lies beside it.
    pub(crate) fn done(&mut self) -> (StoreRedaction, FinishedStore) {
        let redaction = self.redact().unwrap();
        let finished = self.finish().unwrap();
        self.is_clean();
        (redaction, finished)
    }

    pub(crate) fn is_clean(&self) {
        let raw = std::fs::read(&self.into).unwrap().to_ascii_lowercase();
        for start in [&b"secret-"[..], b"secret ", b"s\0e\0c\0r\0e\0t\0", b"\0s\0e\0c\0r\0e\0t"] {
            let at = raw.windows(start.len()).position(|w| w == start);
            let shown = at.map(|at| String::from_utf8_lossy(&raw[at..(at + 40).min(raw.len())]));
            assert_eq!(shown, None);
        }
        let beside = std::fs::read_dir(self.tmp.path()).unwrap();
        let names: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    /// The outcome, with the module sqlite-vec.
    pub(crate) fn open(&self) -> Connection {
        with_vectors(&self.into)
    }

    /// Why it cannot be redacted, which never shows a value.
    pub(crate) fn refusal(&mut self) -> String {
        let done = self.redact().and_then(|_| self.finish());
        let error = done.unwrap_err();
        assert!(matches!(error, StoresError::Unredactable { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("SECRET-"), "{shown}");
        assert!(shown.contains("--drop-store"), "{shown}");
        error.to_string()
    }
}

type Init = unsafe extern "C" fn(
    *mut ffi::sqlite3,
    *mut *mut std::ffi::c_char,
    *const ffi::sqlite3_api_routines,
) -> std::ffi::c_int;

/// A database with the module sqlite-vec, on this one connection alone.
#[expect(unsafe_code, reason = "the only way to load an extension that is linked in")]
fn with_vectors(path: &std::path::Path) -> Connection {
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

/// One value.
pub(crate) fn one<T: rusqlite::types::FromSql>(conn: &Connection, sql: &str) -> T {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}
