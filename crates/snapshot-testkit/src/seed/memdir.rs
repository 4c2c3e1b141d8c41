//! The memdir: markdown under git with a history of merges, branches and tags, and working files
//! of every kind, tracked, untracked and ignored.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::{SEEDED_AT_S, Scale};
use crate::error::KitError;
use crate::git::Git;
use crate::random::{Random, Vocabulary};

/// Of the standard agent.
const STANDARD_BYTES: u64 = 20_000_000;
const STANDARD_COMMITS: u64 = 300;
const FEWEST_COMMITS: u64 = 24;

/// Bytes of a note, about.
const NOTE_BYTES: u64 = 8_000;

/// A `git fast-import` stream in the making.
struct History<'a> {
    stream: Vec<u8>,
    commits: u64,
    /// One line for each note, the content of `MEMORY.md`.
    index: String,
    random: &'a mut Random,
    words: &'a Vocabulary,
}

/// Makes the repository and its working files in the empty folder `dir`.
pub(super) fn create(
    dir: &Path,
    scale: Scale,
    random: &mut Random,
    words: &Vocabulary,
) -> Result<(), KitError> {
    let git = Git::at(dir);
    git.run(&["init", "--quiet"])?;
    for setting in [["user.name", "Ana"], ["user.email", "ana@example.org"]] {
        git.run(&["config", setting[0], setting[1]])?;
    }
    let stream =
        history(scale, random, words).map_err(KitError::io("write the history of", dir))?;
    git.feed(&["fast-import", "--quiet"], &stream)?;
    git.run(&["reset", "--quiet", "--hard", "main"])?;
    untracked(dir, random, words)?;
    settle(dir)?;
    git.run(&["update-index", "--refresh"])?;
    Ok(())
}

/// `main` with a merged and an unmerged branch, an annotated and a plain tag.
fn history(scale: Scale, random: &mut Random, words: &Vocabulary) -> std::io::Result<Vec<u8>> {
    let commits = scale.of(STANDARD_COMMITS).clamp(FEWEST_COMMITS, STANDARD_COMMITS);
    let notes = (scale.of(STANDARD_BYTES) / NOTE_BYTES / commits).max(1);
    let mut history =
        History { stream: Vec::new(), commits: 0, index: String::new(), random, words };
    history.commit("main", None, None)?;
    history.file("100644", ".gitignore", b"cache/\n*.tmp\n")?;
    history.file("100755", "bin/remind.sh", b"#!/bin/sh\necho \"remember\"\n")?;
    history.file("120000", "latest", b"notes/0001-0.md")?;
    for n in 1..commits {
        match n {
            // The third quarter: an idea is followed beside main and merged.
            n if n == commits / 2 => history.commit("ideas", Some("main"), None)?,
            n if n == commits / 2 + 1 => history.commit("ideas", None, None)?,
            n if n == commits * 3 / 4 => history.commit("main", None, Some("ideas"))?,
            n if n == commits - 2 => history.commit("draft/unfinished", Some("main"), None)?,
            _ => history.commit("main", None, None)?,
        }
        for note in 0..notes {
            history.note(n, note)?;
        }
    }
    write!(
        history.stream,
        "reset refs/tags/baseline\nfrom :1\n\n\
         tag v1\nfrom :{}\ntagger Ana <ana@example.org> {SEEDED_AT_S} +0000\ndata 9\nversion 1\n",
        commits / 2
    )?;
    Ok(history.stream)
}

impl History<'_> {
    fn commit(
        &mut self,
        branch: &str,
        from: Option<&str>,
        merge: Option<&str>,
    ) -> std::io::Result<()> {
        self.commits += 1;
        let at = SEEDED_AT_S - 3600 * (1000 - i64::try_from(self.commits).unwrap_or_default());
        let message = self.words.text(self.random, 30);
        write!(
            self.stream,
            "commit refs/heads/{branch}\nmark :{}\ncommitter Ana <ana@example.org> {at} +0000\n\
             data {}\n{message}\n",
            self.commits,
            message.len()
        )?;
        if let Some(from) = from {
            writeln!(self.stream, "from refs/heads/{from}")?;
        }
        if let Some(merge) = merge {
            writeln!(self.stream, "merge refs/heads/{merge}")?;
        }
        Ok(())
    }

    /// A new note, and its line in the index.
    fn note(&mut self, commit: u64, note: u64) -> std::io::Result<()> {
        let path = format!("notes/{commit:04}-{note}.md");
        let bytes = usize::try_from(NOTE_BYTES / 2).unwrap_or_default()
            + self.random.below(usize::try_from(NOTE_BYTES).unwrap_or_default());
        let text = self.words.text(self.random, bytes);
        self.index
            .push_str(&format!("- [{}]({path})\n", self.words.text(self.random, 20).trim_end()));
        self.file("100644", &path, format!("# Note {commit}, naïve ☂\n\n{text}").as_bytes())?;
        let index = self.index.clone();
        self.file("100644", "MEMORY.md", index.as_bytes())
    }

    fn file(&mut self, mode: &str, path: &str, content: &[u8]) -> std::io::Result<()> {
        writeln!(self.stream, "M {mode} inline {path}\ndata {}", content.len())?;
        self.stream.extend_from_slice(content);
        self.stream.push(b'\n');
        Ok(())
    }
}

/// What no commit holds: an untracked file, an ignored one, an empty folder, a dangling link, a
/// name that is not UTF-8.
fn untracked(dir: &Path, random: &mut Random, words: &Vocabulary) -> Result<(), KitError> {
    for folder in ["inbox", "cache", "drafts"] {
        let path = dir.join(folder);
        fs::create_dir(&path).map_err(KitError::io("make the folder", &path))?;
    }
    let mut files = vec![
        (dir.join("inbox/new.md"), words.text(random, 900).into_bytes()),
        (dir.join("cache/scratch.tmp"), random.bytes(5_000)),
        (dir.join("inbox/empty"), Vec::new()),
    ];
    if cfg!(target_os = "linux") {
        use std::os::unix::ffi::OsStrExt as _;
        files.push((dir.join("inbox").join(OsStr::from_bytes(b"caf\xe9.md")), b"latin1".to_vec()));
    }
    for (path, content) in files {
        fs::write(&path, content).map_err(KitError::io("write", &path))?;
    }
    let link = dir.join("inbox/gone");
    symlink("../nowhere", &link).map_err(KitError::io("make the link", &link))
}

/// Gives everything but `.git` fixed modes and times, whatever the umask and the clock.
fn settle(dir: &Path) -> Result<(), KitError> {
    for entry in fs::read_dir(dir).map_err(KitError::io("list", dir))? {
        let entry = entry.map_err(KitError::io("list", dir))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(KitError::io("look at", dir))?);
        if entry.file_name() == ".git" {
            continue;
        }
        if kind.is_dir() {
            settle(&path)?;
        }
        if !kind.is_symlink() {
            let old = fs::metadata(&path).map_err(KitError::io("look at", &path))?;
            let runs = kind.is_dir() || old.permissions().mode() & 0o100 != 0;
            let mode = fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 });
            fs::set_permissions(&path, mode).map_err(KitError::io("set the mode of", &path))?;
        }
        let length = i64::try_from(path.as_os_str().len()).unwrap_or_default();
        let name_length = length - i64::try_from(dir.as_os_str().len()).unwrap_or_default();
        let time = Timespec { tv_sec: SEEDED_AT_S - name_length, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| KitError::io("set the time of", &path)(e.into()))?;
    }
    Ok(())
}
