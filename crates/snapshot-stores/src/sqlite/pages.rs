//! Pages read from a pinned connection, and the digest that two equal databases share.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, Rows, Statement};
use sha2::{Digest, Sha256};
use snapshot_core::Sha256Digest;
use snapshot_fs::Dir;

use crate::error::StoresError;
use crate::sqlite::connect::open_private;

/// Header bytes that a backup rewrites though the content is equal: read and write version, change
/// counter, schema cookie, version-valid-for and library version
/// (<https://www.sqlite.org/fileformat2.html>, 1.3).
const MASKED: [Range<usize>; 4] = [18..20, 24..28, 40..44, 92..100];

/// Pages copied at a time where `sqlite_dbpage` is missing.
const BACKUP_STEP: i32 = 1024;

/// SHA-256 over the pages with [`MASKED`] header bytes zeroed.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageDigest {
    hasher: Sha256,
    offset: usize,
}

/// The pages of a pinned database, front to back.
pub(crate) struct PageReader<'a> {
    rows: Rows<'a>,
    page: Vec<u8>,
    at: usize,
    digest: Option<PageDigest>,
}

impl PageDigest {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let end = MASKED[MASKED.len() - 1].end;
        let head = end.saturating_sub(self.offset).min(bytes.len());
        if head > 0 {
            let mut masked = bytes[..head].to_vec();
            for (i, byte) in masked.iter_mut().enumerate() {
                if MASKED.iter().any(|range| range.contains(&(self.offset + i))) {
                    *byte = 0;
                }
            }
            self.hasher.update(&masked);
            self.offset += head;
        }
        self.hasher.update(&bytes[head..]);
    }

    pub(crate) fn finish(self) -> Sha256Digest {
        Sha256Digest::from_bytes(self.hasher.finalize().into())
    }
}

impl<'a> PageReader<'a> {
    /// A statement for [`PageReader::new`], or none where the library lacks `sqlite_dbpage`.
    pub(crate) fn prepare(conn: &'a Connection) -> Option<Statement<'a>> {
        conn.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno").ok()
    }

    /// Reads, and where `digested` takes the digest on the way.
    pub(crate) fn new(
        statement: &'a mut Statement<'_>,
        digested: bool,
    ) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            rows: statement.query([])?,
            page: Vec::new(),
            at: 0,
            digest: digested.then(PageDigest::default),
        })
    }

    /// The digest of the pages read so far, where it was asked for.
    pub(crate) fn digest(self) -> Option<Sha256Digest> {
        self.digest.map(PageDigest::finish)
    }

    fn next_page(&mut self) -> Result<bool, rusqlite::Error> {
        self.page.clear();
        self.at = 0;
        match self.rows.next()? {
            Some(row) => {
                self.page.extend_from_slice(row.get_ref(0)?.as_blob()?);
                if let Some(digest) = &mut self.digest {
                    digest.update(&self.page);
                }
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

impl Read for PageReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.page.len() && !self.next_page().map_err(io::Error::other)? {
            return Ok(0);
        }
        let n = out.len().min(self.page.len() - self.at);
        out[..n].copy_from_slice(&self.page[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// The page digest of what `conn` sees; in a read transaction, of its pin.
pub(crate) fn page_digest(
    conn: &Connection,
    path: &Path,
    spool: &Dir,
) -> Result<Sha256Digest, StoresError> {
    let fail = || StoresError::sqlite("read the pages of", path);
    if let Some(mut statement) = PageReader::prepare(conn) {
        let mut rows = statement.query([]).map_err(fail())?;
        let mut digest = PageDigest::default();
        while let Some(row) = rows.next().map_err(fail())? {
            let page = row.get_ref(0).and_then(|page| Ok(page.as_blob()?)).map_err(fail())?;
            digest.update(page);
        }
        return Ok(digest.finish());
    }
    let mut copy = spool_pages(conn, path, spool)?;
    let mut digest = PageDigest::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = copy.read(&mut buffer).map_err(|e| {
            StoresError::integrity(path.display(), format!("its spooled copy cannot be read: {e}"))
        })?;
        if n == 0 {
            return Ok(digest.finish());
        }
        digest.update(&buffer[..n]);
    }
}

/// A copy of what `conn` sees, made by the backup API into an unnamed file in `spool`: the way
/// where the library lacks `sqlite_dbpage`.
pub(crate) fn spool_pages(
    conn: &Connection,
    path: &Path,
    spool: &Dir,
) -> Result<File, StoresError> {
    let fail = || StoresError::sqlite("copy the pages of", path);
    let (name, file) = spool.create_temp(0o600)?;
    let copy_path = file.path().to_owned();
    let copied = (|| {
        let mut copy = open_private(&copy_path)?;
        // The copy dies with us, whatever happens: no journal, no sync.
        copy.pragma_update(None, "journal_mode", "OFF").map_err(fail())?;
        copy.pragma_update(None, "synchronous", "OFF").map_err(fail())?;
        let backup = Backup::new(conn, &mut copy).map_err(fail())?;
        while backup.step(BACKUP_STEP).map_err(fail())? != StepResult::Done {}
        Ok::<_, StoresError>(())
    })();
    let opened = copied.and_then(|()| Ok(file.into_reader()?));
    spool.unlink(&name)?;
    opened
}

#[cfg(test)]
mod tests {
    use snapshot_fs::DurableFs;

    use super::*;

    #[test]
    fn the_mask_covers_the_bytes_that_a_backup_changes_and_no_others() {
        let digest = |bytes: &[u8], cut: usize| {
            let mut d = PageDigest::default();
            d.update(&bytes[..cut]);
            d.update(&bytes[cut..]);
            d.finish()
        };
        let base = [7u8; 512];
        for at in 0..512 {
            let mut other = base;
            other[at] = 8;
            let masked = matches!(at, 18 | 19 | 24..=27 | 40..=43 | 92..=99);
            assert_eq!(digest(&base, 20) == digest(&other, at), masked, "byte {at}");
        }
    }

    #[test]
    fn both_ways_to_read_pages_give_the_same_and_stay_at_the_pin() {
        let tmp = tempfile::tempdir().unwrap();
        let spool = DurableFs::default().open_dir(tmp.path()).unwrap();
        let path = tmp.path().join("live.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(50000))")
            .unwrap();
        let pin = Connection::open(&path).unwrap();
        pin.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        let before = page_digest(&pin, &path, &spool).unwrap();
        writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();

        let mut streamed = Vec::new();
        let mut statement = PageReader::prepare(&pin).expect("built with sqlite_dbpage");
        let mut reader = PageReader::new(&mut statement, true).unwrap();
        reader.read_to_end(&mut streamed).unwrap();
        assert_eq!(reader.digest(), Some(before));
        let mut copied = Vec::new();
        spool_pages(&pin, &path, &spool).unwrap().read_to_end(&mut copied).unwrap();
        let mut digest = PageDigest::default();
        digest.update(&copied);
        assert_eq!(digest.finish(), before);
        assert_eq!(streamed.len(), copied.len());
    }
}
