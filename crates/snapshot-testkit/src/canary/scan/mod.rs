//! The judge: looks for known values in everything that a bundle is made of.
//!
//! Invariant: it shares no code with what writes, reads or redacts bundles.

mod database;
mod needles;
mod repository;
mod unpack;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

pub use needles::Form;

use self::needles::Needles;
use self::unpack::Unpacked;
use super::Canary;
use crate::error::KitError;

/// How deep JSON in strings of JSON is looked into.
const DEPTH: usize = 4;

/// A planted value that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// Which.
    pub canary: Canary,
    /// Where it was seen.
    pub seen: Seen,
    /// What it looked like.
    pub form: Form,
    /// Whether all of it was seen, or a piece of 12 characters at least.
    pub is_whole: bool,
}

/// A place in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The bundle's own bytes, not decompressed.
    Bundle,
    /// The tar as a stream: headers, names, paddings, contents.
    Stream,
    /// A file of the tar: its name, its link, its content.
    Entry(String),
    /// A column of a table; `sqlite_schema` is one.
    Cell {
        /// The database's name in the tar.
        file: String,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The words of a full-text table.
    Words {
        /// The database's name in the tar.
        file: String,
        /// The table.
        table: String,
    },
    /// A git object, as its type and id.
    Object {
        /// `commit`, `tree`, `blob` or `tag`.
        kind: String,
        /// Its id.
        oid: String,
    },
    /// A ref's name.
    Ref(String),
    /// A file beside the bundle that is named after it, by that name.
    Beside(String),
}

/// What was found, by canary, place and form, and whether in whole.
#[derive(Debug, Default)]
struct Found(BTreeMap<(usize, Seen, Form), bool>);

/// Looks for the canaries in a bundle and in the files beside it that are named after it.
///
/// # Errors
/// If the bundle is not what it should be, or cannot be read.
pub fn leaks(bundle: &Path, canaries: &[Canary]) -> Result<Vec<Leak>, KitError> {
    let needles = Needles::new(canaries)?;
    let unpacked = Unpacked::read(bundle)?;
    let mut found = Found::default();
    found.look(&needles, &unpacked.raw, Seen::Bundle);
    found.look(&needles, &unpacked.stream, Seen::Stream);
    for entry in &unpacked.entries {
        let seen = Seen::Entry(entry.name.clone());
        found.look(&needles, &entry.path, seen.clone());
        found.look(&needles, &entry.link, seen.clone());
        let content = &unpacked.stream[entry.content.clone()];
        found.look(&needles, content, seen.clone());
        found.look_into_json(&needles, content, &seen, DEPTH);
    }
    for (name, path) in &unpacked.databases {
        database::look(path, name, &needles, &mut found)?;
    }
    for git in &unpacked.repositories {
        repository::look(git, &needles, &mut found)?;
    }
    beside(bundle, &needles, &mut found)?;
    let leak = |((id, seen, form), is_whole): ((usize, Seen, Form), bool)| Leak {
        canary: canaries[id].clone(),
        seen,
        form,
        is_whole,
    };
    Ok(found.0.into_iter().map(leak).collect())
}

/// What SQLite and git have to say against the databases and the repository in a bundle; nothing for a
/// sound one.
///
/// # Errors
/// If the bundle is not what it should be, or cannot be read.
pub fn checks(bundle: &Path) -> Result<Vec<String>, KitError> {
    let unpacked = Unpacked::read(bundle)?;
    let mut complaints = Vec::new();
    for (name, path) in &unpacked.databases {
        complaints.extend(database::complaints(path, name)?);
    }
    for git in &unpacked.repositories {
        complaints.extend(repository::complaints(git));
    }
    Ok(complaints)
}

fn beside(bundle: &Path, needles: &Needles, found: &mut Found) -> Result<(), KitError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let own = name(bundle);
    let stem = own.split('.').next().unwrap_or_default();
    let dir = bundle.parent().unwrap_or(Path::new("."));
    for entry in fs::read_dir(dir).map_err(KitError::io("list", dir))? {
        let path = entry.map_err(KitError::io("list", dir))?.path();
        let other = name(&path);
        if other == own || !other.starts_with(stem) || !path.is_file() {
            continue;
        }
        let content = fs::read(&path).map_err(KitError::io("read", &path))?;
        let seen = Seen::Beside(other.clone());
        found.look(needles, other.as_bytes(), seen.clone());
        found.look(needles, &content, seen.clone());
        found.look_into_json(needles, &content, &seen, DEPTH);
    }
    Ok(())
}

impl Found {
    fn look(&mut self, needles: &Needles, bytes: &[u8], seen: Seen) {
        for (id, form, is_whole) in needles.find(bytes) {
            *self.0.entry((id, seen.clone(), form)).or_default() |= is_whole;
        }
    }

    fn look_for_words(&mut self, needles: &Needles, words: &str, seen: &Seen) {
        for id in needles.find_words(words) {
            self.0.insert((id, seen.clone(), Form::Words), true);
        }
    }

    /// Where the bytes are JSON, or lines of it, looks at its strings as they are meant, and into those.
    fn look_into_json(&mut self, needles: &Needles, bytes: &[u8], seen: &Seen, depth: usize) {
        if !matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[' | b'"')) || depth == 0 {
            return;
        }
        // What comes after the last whole value is seen in the bytes as they are.
        let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        for value in values.map_while(Result::ok) {
            self.look_into_value(needles, &value, seen, depth);
        }
    }

    fn look_into_value(&mut self, needles: &Needles, value: &Value, seen: &Seen, depth: usize) {
        match value {
            Value::String(text) => {
                self.look(needles, text.as_bytes(), seen.clone());
                self.look_into_json(needles, text.as_bytes(), seen, depth - 1);
            }
            Value::Array(values) => {
                values.iter().for_each(|value| self.look_into_value(needles, value, seen, depth));
            }
            Value::Object(members) => {
                for (name, value) in members {
                    self.look(needles, name.as_bytes(), seen.clone());
                    self.look_into_value(needles, value, seen, depth);
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { canary, seen, form, is_whole } = self;
        let part = if *is_whole { "" } else { "a piece of " };
        write!(f, "{part}{canary} is in {seen:?} as {form:?}")
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::git::Git;

    /// A bundle of these files.
    fn bundle(dir: &Path, files: &[(&str, &Path)]) -> std::path::PathBuf {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, path) in files {
            tar.append_path_with_name(path, name).unwrap();
        }
        let bundle = dir.join("some.tar.zst");
        fs::write(&bundle, zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap()).unwrap();
        bundle
    }

    fn file(dir: &Path, name: &str, content: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Would catch: a rewritten database with an index, a reference or full-text words of what it was before,
    /// or a rewritten history that git complains of, and nobody says so.
    #[test]
    fn what_is_broken_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let database = tmp.path().join("a.sqlite");
        let sql = "PRAGMA foreign_keys = OFF;
            CREATE TABLE parents (name TEXT PRIMARY KEY);
            CREATE TABLE children (parent TEXT REFERENCES parents (name));
            INSERT INTO children VALUES ('nobody');
            CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT CHECK (length(body) > 5));
            CREATE VIRTUAL TABLE docs_fts USING fts5 (body, content='docs', content_rowid='id');
            INSERT INTO docs VALUES (1, 'a secret word');
            INSERT INTO docs_fts (rowid, body) VALUES (1, 'a secret word');
            PRAGMA ignore_check_constraints = ON;
            UPDATE docs SET body = 'short';
            CREATE VIRTUAL TABLE old USING fts4 (body);
            INSERT INTO old (body) VALUES ('a secret word');
            UPDATE old_content SET c0body = 'a word';";
        Connection::open(&database).unwrap().execute_batch(sql).unwrap();
        let git = Git::at(tmp.path().join("repository"));
        fs::create_dir(git.dir()).unwrap();
        git.run(&["init", "--quiet"]).unwrap();
        let tree = git.run(&["write-tree"]).unwrap();
        let commit = format!("tree {tree}\nauthor nobody\ncommitter nobody\n\nbad\n");
        let args = ["hash-object", "-t", "commit", "-w", "--stdin", "--literally"];
        let oid = git.feed(&args, commit.as_bytes()).unwrap();
        git.run(&["update-ref", "refs/heads/main", &oid]).unwrap();
        git.run(&["bundle", "create", "--quiet", "../memory.bundle", "--all"]).unwrap();
        let manifest = file(tmp.path(), "manifest.json", "{}");
        let files = [
            ("manifest.json", &*manifest),
            ("sqlite/a.sqlite", &*database),
            ("git/memory.bundle", &*tmp.path().join("memory.bundle")),
        ];
        let said = checks(&bundle(tmp.path(), &files)).unwrap();
        for part in ["children", "CHECK", "docs_fts", "old", "git: error"] {
            assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:#?}");
        }
    }

    /// Would catch: praise for a bundle that was not read to its end, or has nothing in it.
    #[test]
    fn what_is_no_bundle_is_an_error_and_not_clean() {
        let tmp = tempfile::tempdir().unwrap();
        let note = file(tmp.path(), "a.md", "a note");
        assert!(leaks(&bundle(tmp.path(), &[("memory_files/a.md", &note)]), &[]).is_err());
        let whole = bundle(tmp.path(), &[("manifest.json", &note)]);
        assert_eq!(leaks(&whole, &[]).unwrap(), []);
        let bytes = fs::read(&whole).unwrap();
        fs::write(&whole, &bytes[..bytes.len() - 9]).unwrap();
        assert!(leaks(&whole, &[]).is_err());
    }
}
