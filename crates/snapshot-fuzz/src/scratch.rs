//! A folder to work in, whose neighbourhood is looked at afterwards.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::PathBuf;

use snapshot_fs::{Dir, DurableFs};
use tempfile::TempDir;

/// The folder's name.
const INSIDE: &str = "inside";

/// See the module.
pub(crate) struct Scratch {
    outside: TempDir,
    pub(crate) dir: Dir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let outside = tempfile::tempdir().expect("a temporary folder");
        let dir = DurableFs::default().ensure_dir(&outside.path().join(INSIDE), 0o700);
        Self { dir: dir.expect("a folder in it"), outside }
    }

    /// A folder in it.
    pub(crate) fn sub(&self, name: &str) -> Dir {
        self.dir.ensure_sub(name, 0o700).expect("a folder to work in")
    }

    /// A file in it.
    pub(crate) fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut file = self.dir.create_new(name, 0o600).expect("a new file");
        file.write_all(content).expect("room for it");
        path
    }

    /// Nothing may have been written beside it.
    pub(crate) fn finish(self) {
        let beside = std::fs::read_dir(self.outside.path()).expect("a folder");
        let names: Vec<_> = beside.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(names, [INSIDE], "something was written outside");
    }
}

/// A file without a name that holds `bytes`.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("room for it");
    file
}
