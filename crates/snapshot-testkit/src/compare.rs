//! Equality of two memories, row by row, ref by ref, file by file: by stock git and plain SQL,
//! with no code of the product between the memory and the verdict.

mod history;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use snapshot_core::{MemoryLayout, Sha256Digest};

use crate::error::KitError;
use crate::git::Git;

/// First bytes of a SQLite file.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Refs below which a restore keeps the HEAD that it found.
const WAY_BACK: &str = "refs/nexo/pre-restore/";

/// Everything that an agent's memory holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// Databases by store name.
    pub stores: BTreeMap<String, Database>,
    /// Refs, HEAD and stash entries by name, with what they point to.
    pub refs: BTreeMap<String, String>,
    /// What git's index says, by path.
    pub index: BTreeMap<String, String>,
    /// Files, folders and links by raw path in the memdir, `.git` left out.
    pub files: BTreeMap<Vec<u8>, Node>,
    /// State files by path.
    pub state: BTreeMap<PathBuf, Vec<u8>>,
}

/// Everything that a database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Tables by name, virtual and shadow tables included.
    pub tables: BTreeMap<String, Table>,
    /// SQL of tables, indexes, views and triggers by type and name.
    pub schema: BTreeMap<String, String>,
    /// `application_id`, `user_version`, `encoding`.
    pub header: [String; 3],
}

/// The rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// How many.
    pub rows: u64,
    /// Digest over every value with its type, and the rowids, in order.
    pub digest: Sha256Digest,
}

/// A file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `file`, `folder`, `symlink` or `other`.
    pub kind: &'static str,
    /// Permission bits; 0 for links.
    pub mode: u32,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// Of the content, or of a link's target.
    pub digest: Sha256Digest,
}

impl Memory {
    /// Reads a memory that nobody writes to meanwhile.
    ///
    /// # Errors
    /// If a database, the repository with all its objects or a file cannot be read.
    pub fn read(layout: &MemoryLayout) -> Result<Self, KitError> {
        let mut memory = Self::default();
        for (name, path) in &layout.stores {
            if path.exists() {
                memory.stores.insert(name.to_string(), Database::read(path)?);
            }
        }
        if let Some(dir) = layout.memdir.as_deref().filter(|dir| dir.exists()) {
            if dir.join(".git").exists() {
                let git = Git::at(dir);
                memory.refs = history::refs(&git)?;
                memory.index = history::index(&git)?;
            }
            let skip = store_inodes(layout)?;
            walk(dir, dir, &skip, &mut memory.files)?;
        }
        for source in [&layout.state.extract_cursor, &layout.state.dream_run].into_iter().flatten()
        {
            if let Ok(content) = fs::read(source.path()) {
                memory.state.insert(source.path().file_name().unwrap_or_default().into(), content);
            }
        }
        Ok(memory)
    }

    /// What differs, one line each; empty for equal memories.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, a, b) in pairs(&self.stores, &other.stores) {
            match (a, b) {
                (Some(a), Some(b)) => {
                    lines
                        .extend(a.differences(b).into_iter().map(|d| format!("store {name}: {d}")));
                }
                _ => lines.push(format!("store {name} is on one side only")),
            }
        }
        unequal("ref", &self.refs, &other.refs, &mut lines);
        unequal("index of", &self.index, &other.index, &mut lines);
        let text = |files: &BTreeMap<Vec<u8>, Node>| -> BTreeMap<String, Node> {
            files.iter().map(|(p, n)| (p.escape_ascii().to_string(), n.clone())).collect()
        };
        unequal("file", &text(&self.files), &text(&other.files), &mut lines);
        let text = |state: &BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<String, String> {
            state
                .iter()
                .map(|(p, c)| (p.display().to_string(), c.escape_ascii().to_string()))
                .collect()
        };
        unequal("state", &text(&self.state), &text(&other.state), &mut lines);
        lines
    }

    /// The same where `other` was restored, but for the way back that a restore leaves on purpose.
    #[must_use]
    pub fn differences_after_restore(&self, other: &Self) -> Vec<String> {
        let mut lines = self.differences(other);
        lines.retain(|line| !line.contains(WAY_BACK));
        lines
    }
}

impl Database {
    /// Reads every row of every table; leaves a write-ahead log as it was.
    ///
    /// # Errors
    /// If the file is no database or a table cannot be read.
    pub fn read(path: &Path) -> Result<Self, KitError> {
        let read = || -> rusqlite::Result<Self> {
            let mut wal = path.as_os_str().to_owned();
            wal.push("-wal");
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(std::time::Duration::from_secs(60))?;
            // Where a log lies, our close must not be what checkpoints it.
            let has_wal = Path::new(&wal).exists();
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_wal)?;
            connection.pragma_update(None, "query_only", true)?;
            let transaction = connection.unchecked_transaction()?;
            let schema = schema(&transaction)?;
            let mut tables = BTreeMap::new();
            for name in schema.keys().filter_map(|key| key.strip_prefix("table ")) {
                tables.insert(name.to_owned(), table(&transaction, name)?);
            }
            let pragma = |name: &str| {
                transaction
                    .pragma_query_value(None, name, |row| Ok(format!("{:?}", row.get_ref(0)?)))
            };
            let header = [pragma("application_id")?, pragma("user_version")?, pragma("encoding")?];
            Ok(Self { tables, schema, header })
        };
        read().map_err(KitError::sql("read", path))
    }

    /// What differs, one line each.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        unequal("table", &self.tables, &other.tables, &mut lines);
        unequal("schema of", &self.schema, &other.schema, &mut lines);
        if self.header != other.header {
            lines.push(format!("header {:?} is not {:?}", self.header, other.header));
        }
        lines
    }
}

fn schema(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    connection
        .prepare("SELECT type || ' ' || name, ifnull(sql, '') FROM sqlite_schema")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Every row with its rowid where the table has one, in that order; else in key order.
fn table(connection: &Connection, name: &str) -> rusqlite::Result<Table> {
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let with_rowid = format!("SELECT rowid, * FROM {quoted} ORDER BY rowid");
    let mut statement = match connection.prepare(&with_rowid) {
        Ok(statement) => statement,
        Err(_) => {
            let columns = connection.prepare(&format!("SELECT * FROM {quoted}"))?.column_count();
            let order: Vec<String> = (1..=columns).map(|n| n.to_string()).collect();
            connection.prepare(&format!("SELECT * FROM {quoted} ORDER BY {}", order.join(", ")))?
        }
    };
    let columns = statement.column_count();
    let mut hasher = Sha256::new();
    let mut count = 0;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        count += 1;
        for column in 0..columns {
            hash_value(&mut hasher, row.get_ref(column)?);
        }
    }
    Ok(Table { rows: count, digest: Sha256Digest::from_bytes(hasher.finalize().into()) })
}

/// Type, length and bytes, so that no two rows hash alike by concatenation.
fn hash_value(hasher: &mut Sha256, value: ValueRef<'_>) {
    let integer;
    let (tag, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(n) => {
            integer = n.to_le_bytes();
            (1, &integer)
        }
        ValueRef::Real(x) => {
            integer = x.to_bits().to_le_bytes();
            (2, &integer)
        }
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    hasher.update([tag]);
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Device and inode of every store with its siblings: they are no memory files.
fn store_inodes(layout: &MemoryLayout) -> Result<Vec<(u64, u64)>, KitError> {
    let mut inodes = Vec::new();
    for path in layout.stores.values() {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = path.as_os_str().to_owned();
            path.push(suffix);
            if let Ok(meta) = fs::metadata(&path) {
                inodes.push((meta.dev(), meta.ino()));
            }
        }
    }
    Ok(inodes)
}

fn walk(
    root: &Path,
    dir: &Path,
    skip: &[(u64, u64)],
    into: &mut BTreeMap<Vec<u8>, Node>,
) -> Result<(), KitError> {
    for entry in fs::read_dir(dir).map_err(KitError::io("list", dir))? {
        let path = entry.map_err(KitError::io("list", dir))?.path();
        let meta = fs::symlink_metadata(&path).map_err(KitError::io("look at", &path))?;
        if path == root.join(".git") || skip.contains(&(meta.dev(), meta.ino())) {
            continue;
        }
        let key = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes().to_vec();
        into.insert(key, node(&path, &meta)?);
        if meta.is_dir() {
            walk(root, &path, skip, into)?;
        }
    }
    Ok(())
}

fn node(path: &Path, meta: &fs::Metadata) -> Result<Node, KitError> {
    let (kind, digest) = if meta.is_dir() {
        ("folder", Sha256Digest::of(b""))
    } else if meta.is_symlink() {
        let target = fs::read_link(path).map_err(KitError::io("read the link", path))?;
        ("symlink", Sha256Digest::of(target.as_os_str().as_bytes()))
    } else if meta.is_file() {
        ("file", file_digest(path)?)
    } else {
        ("other", Sha256Digest::of(b""))
    };
    let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o7777 };
    let mtime_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(Node { kind, mode, mtime_ns, digest })
}

fn file_digest(path: &Path) -> Result<Sha256Digest, KitError> {
    let mut file = File::open(path).map_err(KitError::io("open", path))?;
    let (mut hasher, mut buffer, mut is_database) = (Sha256::new(), vec![0; 1 << 16], None);
    loop {
        let n = file.read(&mut buffer).map_err(KitError::io("read", path))?;
        is_database.get_or_insert_with(|| buffer[..n].starts_with(SQLITE_MAGIC));
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
    }
    if is_database == Some(true) {
        // Closing it would drop this process's POSIX locks on a database that a test has open.
        let _ = file.into_raw_fd();
    }
    Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
}

/// Every key of either side with its values.
fn pairs<'a, K: Ord, V>(
    a: &'a BTreeMap<K, V>,
    b: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let only_b = b.iter().filter(|(key, _)| !a.contains_key(key)).map(|(k, v)| (k, None, Some(v)));
    a.iter().map(move |(key, value)| (key, Some(value), b.get(key))).chain(only_b)
}

fn unequal<V: PartialEq + std::fmt::Debug>(
    what: &str,
    a: &BTreeMap<String, V>,
    b: &BTreeMap<String, V>,
    lines: &mut Vec<String>,
) {
    for (key, a, b) in pairs(a, b).filter(|(_, a, b)| a != b) {
        lines.push(match (a, b) {
            (Some(a), Some(b)) => format!("{what} {key}: {a:?} is not {b:?}"),
            (Some(_), None) => format!("{what} {key} is missing on the right"),
            _ => format!("{what} {key} is missing on the left"),
        });
    }
}

#[cfg(test)]
mod tests {
    use snapshot_core::AgentId;

    use super::*;
    use crate::seed::{Agent, Seed};

    /// Would catch: a comparison blind to one of the things that a restore can get wrong.
    #[test]
    fn each_kind_of_change_is_seen() {
        let tmp = tempfile::tempdir().unwrap();
        let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &Seed::tiny(1)).unwrap();
        let before = Memory::read(&agent.layout()).unwrap();
        let mut known = before.clone();
        let mut change = |what: &str, expected: &str| {
            let now = Memory::read(&agent.layout()).unwrap();
            let lines = known.differences(&now);
            assert!(lines.iter().any(|line| line.starts_with(expected)), "{what}: {lines:?}");
            known = now;
        };
        let sql = |store, sql: &str| agent.connect(store).unwrap().execute_batch(sql).unwrap();
        sql("vector", "UPDATE embeddings SET model = 'Mini' WHERE id = 3");
        change("a value", "store vector: table embeddings");
        sql("vector", "UPDATE embeddings SET id = 100000 WHERE id = 3");
        change("a rowid", "store vector: table embeddings");
        sql("concepts", "DELETE FROM edges WHERE source = 5");
        change("a row without rowid", "store concepts: table edges");
        sql("concepts", "CREATE VIEW v AS SELECT 1");
        change("the schema", "store concepts: schema of view v");
        sql("compactions", "PRAGMA user_version = 9");
        change("the header", "store compactions: header");
        agent.git().run(&["update-ref", "refs/heads/new", "HEAD"]).unwrap();
        change("a ref", "ref refs/heads/new");
        agent.git().run(&["checkout", "--quiet", "--detach"]).unwrap();
        change("a detached HEAD", "ref HEAD");
        let file = agent.memdir().join("MEMORY.md");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        change("a mode", "file MEMORY.md");
        File::open(&file).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        change("a time", "file MEMORY.md");
        fs::remove_file(agent.memdir().join("latest")).unwrap();
        std::os::unix::fs::symlink("elsewhere", agent.memdir().join("latest")).unwrap();
        change("a link", "file latest");
        fs::remove_dir(agent.memdir().join("drafts")).unwrap();
        change("an empty folder", "file drafts is missing on the right");
        fs::write(agent.state("dream_run"), "{}").unwrap();
        change("state", "state dream_run.json");
        fs::remove_file(agent.store("vector")).unwrap();
        change("a store", "store vector is on one side only");
    }

    /// Would catch: a comparison that checkpoints, and so hides what a stale log would do.
    #[test]
    fn reading_leaves_the_write_ahead_log_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &Seed::tiny(1)).unwrap();
        let writer = agent.connect("vector").unwrap();
        writer.execute("UPDATE embeddings SET model = 'x'", []).unwrap();
        writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        drop(writer);
        let wal = agent.sqlite_dir().join("vector.sqlite-wal");
        let size = fs::metadata(&wal).unwrap().len();
        assert!(size > 0);
        Memory::read(&agent.layout()).unwrap();
        assert_eq!(fs::metadata(&wal).unwrap().len(), size);
    }
}
