//! SQLite databases out of bundles: compared, searched, redacted, restored.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::Connection;
use snapshot_bundle::redact::{KnownSecrets, Replacer, Rules, Search};
use snapshot_core::{
    AgentId, ArtifactKind, Control, DiffScope, ErrorKind, FileSpec, MemoryLayout, Sha256Digest,
    SnapshotId, SqliteInfo, StoreName, SystemClock, Tenant, error_chain,
};
use snapshot_fs::DurableFs;
use snapshot_stores::redact::{RedactedRows, finish_store, redact_rows, scan_store};
use snapshot_stores::{CaptureOptions, DiffOptions, RestoreOptions, StoresError};
use snapshot_testkit::MemoryBundle;

use crate::input::{Input, overwrite};
use crate::scratch::Scratch;

/// The store's name.
const STORE: &str = "facts";
/// Bytes of a page of the template.
const PAGE: usize = 1024;
/// Bytes of a database's header, of which a restore rewrites some.
const HEADER: usize = 100;
/// What the template is made of: every kind of object that has rules of its own.
const SCHEMA: &str = "
    PRAGMA page_size = 1024;
    CREATE TABLE facts (id INTEGER PRIMARY KEY, agent_id TEXT, text TEXT NOT NULL, n REAL,
        upper TEXT GENERATED ALWAYS AS (upper(text)) VIRTUAL, CHECK (length(text) < 1000));
    CREATE INDEX by_text ON facts (text COLLATE NOCASE) WHERE n > 0;
    CREATE UNIQUE INDEX by_n ON facts (n, id);
    CREATE TABLE pairs (a TEXT, b BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE TABLE loose (x, y DEFAULT (1 + 1));
    CREATE TABLE child (id INTEGER PRIMARY KEY, of REFERENCES facts (id) ON DELETE CASCADE);
    CREATE VIRTUAL TABLE words USING fts5 (text, content='facts', content_rowid='id');
    CREATE VIRTUAL TABLE own USING fts5 (text);
    CREATE VIEW seen AS SELECT text FROM facts WHERE n > 1;
    CREATE TRIGGER noted AFTER UPDATE ON facts BEGIN INSERT INTO loose VALUES (new.text, 1); END;
    INSERT INTO facts (agent_id, text, n) VALUES ('ana', 'one', 1), ('ana', 'two', 2),
        ('bo', 'AKIAQYLPMN5HFIQR7XYA is a key', 0.5);
    INSERT INTO pairs VALUES ('a', x'00ff'), ('b', 2);
    INSERT INTO loose (x) VALUES (1), ('x'), (NULL), (1e300), (zeroblob(1500));
    INSERT INTO child (of) VALUES (1), (2);
    INSERT INTO words (words) VALUES ('rebuild');
    INSERT INTO own VALUES ('full of words');
    ANALYZE;";
/// Kinds of objects that a schema may say it has.
const KINDS: [&str; 4] = ["table", "index", "view", "trigger"];

static TEMPLATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("template.sqlite");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch(SCHEMA).expect("its schema");
    drop(conn);
    std::fs::read(path).expect("a file")
});

static RULES: LazyLock<std::sync::Arc<Rules>> = LazyLock::new(Rules::builtin);

/// A database: the bytes as they are, the template with some of them changed, or with another schema.
pub(crate) fn sqlite_admission(data: &[u8]) {
    let mut input = Input::new(data);
    let scratch = Scratch::new();
    let bytes = match input.byte() % 3 {
        0 => input.rest().to_vec(),
        1 => changed(&mut input),
        _ => match with_schema(&scratch, &mut input) {
            Some(bytes) => bytes,
            None => return,
        },
    };
    take(&scratch, &bytes);
    scratch.finish();
}

/// The database that others are made of.
pub(crate) fn template() -> &'static [u8] {
    &TEMPLATE
}

/// The template with bytes of its pages written over.
fn changed(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = TEMPLATE.clone();
    while !input.is_empty() {
        let page = input.below(bytes.len() / PAGE);
        let at = usize::try_from(input.number::<2>()).unwrap_or_default() % PAGE;
        overwrite(&mut bytes, page * PAGE + at, input.bytes());
    }
    bytes
}

/// The template with other definitions in its schema, which SQLite parses when it opens the file.
fn with_schema(scratch: &Scratch, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let path = scratch.put("schema.sqlite", &TEMPLATE);
    let conn = Connection::open(&path).ok()?;
    conn.execute_batch("PRAGMA writable_schema = ON; PRAGMA journal_mode = OFF").ok()?;
    let mut changes = 0;
    while !input.is_empty() && changes < 8 {
        changes += 1;
        let (how, which) = (input.byte(), input.byte());
        let text = String::from_utf8_lossy(input.bytes()).into_owned();
        let done = match how % 3 {
            0 => conn.execute(
                "UPDATE sqlite_schema SET sql = ?1 WHERE rowid = 1 + ?2 % (SELECT max(rowid) FROM sqlite_schema)",
                (&text, which),
            ),
            1 => conn.execute(
                "INSERT INTO sqlite_schema VALUES (?1, ?2, ?2, ?3, ?4)",
                (
                    KINDS[usize::from(how) / 3 % KINDS.len()],
                    format!("new{which}"),
                    which % 40,
                    &text,
                ),
            ),
            _ => conn.execute(
                "UPDATE sqlite_schema SET name = ?1, rootpage = ?2 % 40
                 WHERE rowid = 1 + ?2 % (SELECT max(rowid) FROM sqlite_schema)",
                (&text, which),
            ),
        };
        done.ok()?;
    }
    drop(conn);
    std::fs::read(path).ok()
}

/// Everything that is done with a store out of a bundle.
fn take(scratch: &Scratch, bytes: &[u8]) {
    let (control, store) = (Control::default(), source(bytes));
    let good = source(&TEMPLATE);
    for (name, a, b) in [("ab", &good, &store), ("ba", &store, &good)] {
        let options = DiffOptions {
            scope: &DiffScope::default(),
            scratch: &scratch.sub(name),
            max_git_object_bytes: 1 << 20,
            threads: 1,
            control: &control,
        };
        let mut told: u64 = 0;
        match snapshot_stores::diff(a, b, &options, Some(&mut |_| told += 1)) {
            Ok(diff) => {
                let counted: u64 =
                    diff.stores.values().map(|rows| rows.added + rows.changed + rows.removed).sum();
                assert_eq!(told, counted, "what is told is what is counted");
            }
            Err(e) => is_typed(&e),
        }
    }
    search(scratch, bytes);
    redact(scratch, bytes);
    restore(scratch, &store, bytes);
}

fn search(scratch: &Scratch, bytes: &[u8]) {
    let path = scratch.put("scanned.sqlite", bytes);
    let search = Search::new(RULES.as_ref());
    if let Err(e) = scan_store(&path, &search, &Control::default(), &mut |_, _| {}) {
        is_typed(&e);
    }
    assert!(std::fs::read(&path).expect("it is there") == bytes, "a search changes what it reads");
}

/// What a redaction says is sound is.
fn redact(scratch: &Scratch, bytes: &[u8]) {
    let path = scratch.put("redacted.sqlite", bytes);
    let (known, control) = (KnownSecrets::new(), Control::default());
    let replacer = Replacer::new(RULES.as_ref(), &known, [1; 32]);
    let (mut rows, into) = (RedactedRows::new(), scratch.dir.path().join("fresh.sqlite"));
    let done = redact_rows(&path, &replacer, &mut rows, &control)
        .and_then(|_| finish_store(&path, &into, &rows, &control));
    match done {
        Ok(finished) if finished.integrity == "ok" => {
            let conn = Connection::open(&into).expect("a database");
            let check = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0));
            assert_eq!(check, Ok("ok".to_owned()), "a redaction made an unsound database");
        }
        // It is as it was captured, and says so.
        Ok(_) => {}
        Err(e) => is_typed(&e),
    }
}

/// What was restored holds the pages that the bundle has; says whether it was restored.
fn restore(scratch: &Scratch, store: &MemoryBundle, bytes: &[u8]) -> bool {
    let (fs, control) = (DurableFs::default(), Control::default());
    let live = scratch.sub("agent").path().join("facts.db");
    let mut layout = MemoryLayout::default();
    layout.stores.insert(StoreName::from_static(STORE), live.clone());
    let capture = CaptureOptions {
        agent: &AgentId::from_static("ana"),
        fs: &fs,
        spool: &scratch.sub("spool"),
        clock: &SystemClock,
        state: None,
        timeout: Duration::from_secs(5),
        control: &control,
        max_git_object_bytes: 1 << 20,
        check_integrity: true,
    };
    let options = RestoreOptions {
        capture,
        tenant: &Tenant::default(),
        work: &scratch.sub("work"),
        restore_id: SnapshotId::from_random_bytes([9; 16]),
        whole_store: true,
        others: &[],
    };
    let restored = snapshot_stores::restore(
        store,
        &layout,
        &options,
        &mut |_| Ok(None),
        &mut || Ok(()),
        &mut |_, _| {},
    );
    match restored {
        Ok(_) => {
            same_pages(&live, bytes);
            true
        }
        Err(e) => {
            is_typed(&e);
            assert!(!live.exists() || std::fs::metadata(&live).is_ok_and(|m| m.len() == 0), "{e}");
            false
        }
    }
}

fn same_pages(live: &Path, bytes: &[u8]) {
    let live = std::fs::read(live).expect("a restored file");
    let common = live.len().min(bytes.len());
    assert!(common <= HEADER || live[HEADER..common] == bytes[HEADER..common], "other pages");
}

/// A bundle of one store.
fn source(bytes: &[u8]) -> MemoryBundle {
    let mut bundle = MemoryBundle::new();
    let store = StoreName::from_static(STORE);
    let spec = FileSpec {
        path: store.bundle_path(),
        kind: ArtifactKind::of_store(&store),
        size_bytes: bytes.len() as u64,
        mode: Some(0o600),
        mtime_ns: None,
    };
    let mut artifact = spec.into_artifact(Sha256Digest::of(bytes));
    artifact.sqlite = Some(SqliteInfo {
        store,
        page_size: 1024,
        page_count: u32::try_from(bytes.len() / PAGE).unwrap_or_default(),
        journal_mode: "delete".to_owned(),
        integrity: "ok".to_owned(),
    });
    bundle.contents.insert(artifact.path.clone(), bytes.to_vec());
    bundle.manifest.artifacts.push(artifact);
    bundle
}

/// A fault of the bytes is never called a defect of ours.
fn is_typed(error: &StoresError) {
    assert_ne!(error.kind(), ErrorKind::Internal, "{}", error_chain(error));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a template that is refused, so that nothing behind the checks is tried.
    #[test]
    fn the_template_is_restored_and_what_is_no_database_is_not() {
        let restored = |bytes: &[u8]| {
            let scratch = Scratch::new();
            restore(&scratch, &source(bytes), bytes)
        };
        assert!(restored(&TEMPLATE) && !restored(b"SQLite"));
    }
}
