//! Copying memory files into a bundle: each whole, and each of the instant or reported.
//!
//! A file that is unchanged from the listing *before* the instant to the end of its copy was that at
//! the instant. One that changed is copied whole from what it is now and reported. One that does not
//! hold still is left out and reported, never shipped torn.
//!
//! Not seen by any look at a file: one single write call that has been under way for over 20 ms and
//! changes the file's times no more.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;

use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink, BundlePath, Control, FileSpec, NotCarried, Step,
    UnstableFile, path_in_bundle,
};
use snapshot_fs::{Dir, Stat};

use super::walk::{
    EntryKind, ListOptions, ListedEntry, Listing, id, is_database, is_denied, is_gone, is_young,
    let_age, locate,
};
use crate::StoresError;

/// Files up to this many bytes are read into memory. Larger ones are copied into the spool first:
/// what was streamed into a bundle cannot be taken back, and only at its end does a file show
/// whether it changed meanwhile.
const SMALL_BYTES: u64 = 4 << 20;
/// Tries to get a whole copy of a file that keeps changing.
const TRIES: usize = 3;
/// Bytes copied between two looks at the caller's control.
const CHUNK_BYTES: usize = 1 << 20;
/// Name of the spooled file; one at a time.
const SPOOLED: &str = "memory-file";

/// What was captured.
#[derive(Debug, Default)]
pub struct FilesCaptured {
    /// In the order written.
    pub artifacts: Vec<Artifact>,
    /// Left out, with the reason.
    pub not_carried: Vec<NotCarried>,
    /// Whole, but not of the instant; or gone since.
    pub unstable: Vec<UnstableFile>,
}

/// Writes the memory files into `sink`, in the order of their paths. `before` was listed before the
/// instant and `after` right after it, so what appears later is of no concern; `spool` is a private
/// folder for copies.
///
/// # Errors
/// If the sink fails, the caller stops it, or the memdir cannot be read. A file that changes or
/// vanishes is no error.
pub fn write_files(
    memdir: &Dir,
    options: &ListOptions,
    before: &Listing,
    after: &Listing,
    sink: &mut dyn ArtifactSink,
    spool: &Dir,
    control: &Control,
) -> Result<FilesCaptured, StoresError> {
    let earlier = before.entries.iter().map(|e| (&e.path, e)).collect();
    let captured = FilesCaptured { not_carried: after.not_carried.clone(), ..Default::default() };
    let mut copy = Copy { memdir, options, earlier, sink, spool, control, captured };
    let total = after.entries.iter().map(|e| e.stat.size).sum();
    let mut done = 0;
    for entry in &after.entries {
        control.check().map_err(StoresError::stopped("copying the memory files"))?;
        copy.entry(entry)?;
        done += entry.stat.size;
        control.advance(Step::Seal, done, total);
    }
    copy.report_vanished(after);
    copy.report_new_databases(before, after);
    Ok(copy.captured)
}

struct Copy<'a> {
    memdir: &'a Dir,
    options: &'a ListOptions,
    earlier: BTreeMap<&'a BundlePath, &'a ListedEntry>,
    sink: &'a mut dyn ArtifactSink,
    spool: &'a Dir,
    control: &'a Control,
    captured: FilesCaptured,
}

/// A try to copy a file.
enum Tried {
    /// Whole, as it was at this look.
    Whole(Content, Stat),
    /// It changed while it was read.
    Torn,
    /// There is no such file any more.
    Gone,
    /// It cannot be carried.
    Refused(&'static str),
}

enum Content {
    Memory(Vec<u8>),
    Spooled(File),
}

impl Copy<'_> {
    fn entry(&mut self, entry: &ListedEntry) -> Result<(), StoresError> {
        let path = BundlePath::parse(path_in_bundle::MEMORY_FILES)?.join(entry.path.as_bytes())?;
        let stat = &entry.stat;
        let artifact = match &entry.kind {
            EntryKind::File => return self.file(entry, path),
            EntryKind::Dir => Artifact::dir(path, stat.mode, stat.mtime_ns),
            EntryKind::Symlink { target } => Artifact::symlink(path, target.clone(), stat.mtime_ns),
        };
        // A folder's own times change with its entries, each of which is looked at by itself.
        match self.earlier.get(&entry.path) {
            Some(earlier) if earlier.kind == entry.kind => {}
            _ => self.unstable(&entry.path, "appeared around the cut"),
        }
        self.sink.put_entry(&artifact)?;
        self.captured.artifacts.push(artifact);
        Ok(())
    }

    fn file(&mut self, entry: &ListedEntry, path: BundlePath) -> Result<(), StoresError> {
        for _ in 0..TRIES {
            match self.try_copy(&entry.path)? {
                Tried::Whole(content, stat) => return self.put(entry, path, content, &stat),
                Tried::Torn => {}
                Tried::Gone => {
                    self.leave_out(&entry.path, "it was removed before it could be copied");
                    return Ok(());
                }
                Tried::Refused(why) => {
                    self.leave_out(&entry.path, why);
                    return Ok(());
                }
            }
        }
        self.leave_out(&entry.path, "it kept changing while it was read");
        Ok(())
    }

    fn put(
        &mut self,
        entry: &ListedEntry,
        path: BundlePath,
        content: Content,
        stat: &Stat,
    ) -> Result<(), StoresError> {
        let of_the_instant = self
            .earlier
            .get(&entry.path)
            .is_some_and(|earlier| !earlier.young && earlier.stat.same_version(stat));
        if !of_the_instant {
            let why = match self.earlier.contains_key(&entry.path) {
                true => "changed around the cut",
                false => "appeared around the cut",
            };
            self.unstable(&entry.path, why);
        }
        let (mut content, size_bytes): (Box<dyn Read>, u64) = match content {
            Content::Memory(bytes) => {
                let size = bytes.len() as u64;
                (Box::new(io::Cursor::new(bytes)), size)
            }
            Content::Spooled(file) => (Box::new(file), stat.size),
        };
        let spec = FileSpec {
            path,
            kind: ArtifactKind::MemoryFile,
            size_bytes,
            mode: Some(stat.mode),
            mtime_ns: Some(stat.mtime_ns),
        };
        self.captured.artifacts.push(self.sink.put_file(spec, &mut content)?);
        Ok(())
    }

    fn try_copy(&mut self, path: &BundlePath) -> Result<Tried, StoresError> {
        let opened = locate(self.memdir, path)
            .and_then(|(dir, name)| Ok((dir.open_file(&name)?, dir.path().join(name))));
        let (file, full) = match opened {
            Ok(opened) => opened,
            Err(StoresError::Fs(e)) if is_gone(&e) => return Ok(Tried::Gone),
            Err(StoresError::Fs(e)) if is_denied(&e) => {
                return Ok(Tried::Refused("we have no right to read it"));
            }
            Err(e) => return Err(e),
        };
        let read = StoresError::io("read", &full);
        let stat = Dir::stat_file(&file, &full)?;
        if is_database(&file, &stat).map_err(read)? && !self.options.plain.contains(&id(&stat)) {
            return Ok(Tried::Refused("it became a SQLite database during the capture"));
        }
        match stat.size <= SMALL_BYTES {
            true => small(&stat, || read_exactly(&file, stat.size), || look(&file))
                .map_err(StoresError::io("read", &full)),
            false => self.large(&file, &stat, &full),
        }
    }

    fn large(
        &self,
        file: &File,
        stat: &Stat,
        full: &std::path::Path,
    ) -> Result<Tried, StoresError> {
        if is_young(stat) {
            let_age();
            return Ok(Tried::Torn);
        }
        // The rest of a try that failed.
        self.spool.remove_tree(SPOOLED)?;
        let mut spooled = self.spool.create_new(SPOOLED, 0o600)?;
        let copied = self.spool_bytes(file, stat.size, &mut spooled, full);
        // Read through the open descriptor; nothing is left behind, whatever happens.
        self.spool.unlink(SPOOLED)?;
        let now = Dir::stat_file(file, full)?;
        match copied? == stat.size && same_content(stat, &now) {
            true => Ok(Tried::Whole(Content::Spooled(spooled.into_reader()?), *stat)),
            false => Ok(Tried::Torn),
        }
    }

    /// Copies at most `size` bytes; gives how many there were.
    fn spool_bytes(
        &self,
        file: &File,
        size: u64,
        spooled: &mut snapshot_fs::DurableFile,
        full: &std::path::Path,
    ) -> Result<u64, StoresError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0;
        while done < size {
            self.control.check().map_err(StoresError::stopped("copying a memory file"))?;
            let want = usize::try_from(size - done).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let got = match file.read_at(&mut chunk[..want], done) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                got => got.map_err(StoresError::io("read", full))?,
            };
            if got == 0 {
                break;
            }
            let at = spooled.path().to_owned();
            spooled.write_all(&chunk[..got]).map_err(StoresError::io("write", at))?;
            done += got as u64;
        }
        Ok(done)
    }

    fn report_vanished(&mut self, after: &Listing) {
        let now: HashSet<&BundlePath> = after.entries.iter().map(|e| &e.path).collect();
        let vanished: Vec<_> =
            self.earlier.keys().copied().filter(|p| !now.contains(p)).cloned().collect();
        for path in vanished.iter().filter(|p| !after.kept.contains(p.as_bytes())) {
            self.unstable(path, "vanished around the cut: the bundle does not hold it");
        }
    }

    fn report_new_databases(&mut self, before: &Listing, after: &Listing) {
        for store in after.auto_stores.iter().filter(|s| !before.auto_stores.contains(s)) {
            self.leave_out(&store.path, "a SQLite database that appeared around the cut");
        }
    }

    fn unstable(&mut self, path: &BundlePath, why: &str) {
        let (path, why) = (path.to_string(), why.to_owned());
        self.captured.unstable.push(UnstableFile { path, why });
    }

    fn leave_out(&mut self, path: &BundlePath, why: &str) {
        let (path, why) = (path.to_string(), why.to_owned());
        self.captured.not_carried.push(NotCarried { path, why });
    }
}

/// Reads a small file. One that changed a moment ago is read again once its times can be trusted: until then they could
/// hide another change. Two equal readings do not, unless its writer stands still in the middle of a write.
fn small(
    stat: &Stat,
    mut read: impl FnMut() -> io::Result<Option<Vec<u8>>>,
    look: impl Fn() -> io::Result<Stat>,
) -> io::Result<Tried> {
    let Some(bytes) = read()? else { return Ok(Tried::Torn) };
    let now = look()?;
    if now.same_version(stat) && !is_young(stat) {
        return Ok(Tried::Whole(Content::Memory(bytes), now));
    }
    let_age();
    match read()?.as_ref() == Some(&bytes) {
        true => Ok(Tried::Whole(Content::Memory(bytes), look()?)),
        false => Ok(Tried::Torn),
    }
}

fn look(file: &File) -> io::Result<Stat> {
    Dir::stat_file(file, std::path::Path::new("")).map_err(io::Error::other)
}

/// The content, unless it has fewer or more than `size` bytes.
fn read_exactly(file: &File, size: u64) -> io::Result<Option<Vec<u8>>> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    match file.read_exact_at(&mut bytes, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let more = file.read_at(&mut [0], size as u64)?;
    Ok((more == 0).then_some(bytes))
}

/// Whether no write happened in between. Losing a name (something was renamed over it) changes the
/// ctime too, but not the content.
fn same_content(a: &Stat, b: &Stat) -> bool {
    let unchanged = (a.dev, a.ino, a.size, a.mtime_ns) == (b.dev, b.ino, b.size, b.mtime_ns);
    unchanged && (a.ctime_ns == b.ctime_ns || b.nlink < a.nlink)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of another time, or of this moment.
    fn stat(young: bool) -> Stat {
        let now = look(&tempfile::tempfile().unwrap()).unwrap();
        let ctime_ns = if young { now.ctime_ns } else { 0 };
        Stat { ctime_ns, mtime_ns: ctime_ns, ..now }
    }

    /// What comes of a file that is read so, one reading after another, and was changed meanwhile.
    fn tried(young: bool, changed: bool, readings: &[Option<&str>]) -> Option<String> {
        let (stat, mut readings) = (stat(young), readings.iter());
        let now = Stat { mtime_ns: stat.mtime_ns + i64::from(changed), ..stat };
        let read = || Ok(readings.next().unwrap().map(|bytes| bytes.as_bytes().to_vec()));
        let tried = small(&stat, read, || Ok(now)).unwrap();
        assert_eq!(readings.next(), None, "a reading less");
        match tried {
            Tried::Whole(Content::Memory(bytes), _) => Some(String::from_utf8(bytes).unwrap()),
            _ => None,
        }
    }

    /// Would catch: a file that is carried half old and half new.
    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        assert_eq!(tried(false, false, &[Some("a")]), Some("a".to_owned()));
        assert_eq!(tried(false, true, &[Some("ab"), Some("b")]), None);
        assert_eq!(tried(false, true, &[Some("b"), Some("b")]), Some("b".to_owned()));
        assert_eq!(tried(true, false, &[Some("ab"), Some("b")]), None);
        assert_eq!(tried(true, false, &[Some("b"), Some("b")]), Some("b".to_owned()));
        assert_eq!(tried(true, false, &[Some("b"), None]), None, "it has another length");
        assert_eq!(tried(false, false, &[None]), None);
    }
}
