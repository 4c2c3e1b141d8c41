//! A store of a bundle, written again without its secrets.

use snapshot_core::{Artifact, ArtifactSink, FileSpec, RedactionReport, SqliteInfo};
use snapshot_fs::Dir;
use snapshot_stores::redact::{RedactedRows, finish_store, redact_rows};

use super::search::{named, unpack};
use super::write::{Writing, spec};
use crate::error::SnapshotError;

/// A store whose rows are redacted; its indexes, vectors and free pages are not yet.
pub(super) struct Store<'a> {
    pub(super) artifact: &'a Artifact,
    /// How much was replaced in it.
    pub(super) matches: u64,
    info: &'a SqliteInfo,
    number: usize,
}

impl<'a> Store<'a> {
    /// Unpacks it, and redacts its rows.
    pub(super) fn redact(
        writing: &Writing<'_, '_>,
        number: usize,
        (info, artifact): (&'a SqliteInfo, &'a Artifact),
        rows: &mut RedactedRows,
        report: &mut RedactionReport,
    ) -> Result<Self, SnapshotError> {
        let path = unpack(writing.bundle, artifact, writing.spool, &unpacked(number))?;
        // One without a page has neither rows nor a schema.
        if artifact.size_bytes > 0 {
            let done = redact_rows(&path, writing.replacer, rows, writing.control)
                .map_err(|e| named(e, &info.store))?;
            report.vectors_deleted += done.vectors_deleted;
        }
        Ok(Self { artifact, matches: writing.taken(report), info, number })
    }

    /// Makes a fresh file of it and writes that; the rows of every store and all files are redacted.
    pub(super) fn put(
        self,
        writing: &Writing<'_, '_>,
        rows: &RedactedRows,
        report: &mut RedactionReport,
        sink: &mut dyn ArtifactSink,
    ) -> Result<Artifact, SnapshotError> {
        let (path, name) = (writing.same_path(self.artifact)?, &self.info.store);
        let (spool, old) = (writing.spool, unpacked(self.number));
        if self.artifact.size_bytes == 0 {
            let put = sink.put_file(FileSpec { path, ..spec(self.artifact) }, &mut &[][..])?;
            return Ok(Artifact { sqlite: Some(self.info.clone()), ..put });
        }
        let fresh = format!("fresh-{}", self.number);
        let (from, into) = (spool.path().join(&old), spool.path().join(&fresh));
        let done = finish_store(&from, &into, rows, writing.control).map_err(|e| named(e, name))?;
        spool.unlink(&old)?;
        report.vectors_deleted += done.vectors_deleted;
        report.notes.extend(done.notes.iter().map(|note| format!("store {name}: {note}")));
        let mut file = spool.open_file(&fresh)?;
        let size_bytes = Dir::stat_file(&file, &into)?.size;
        let spec = FileSpec { path, size_bytes, ..spec(self.artifact) };
        let put = sink.put_file(spec, &mut file)?;
        spool.unlink(&fresh)?;
        let sqlite = SqliteInfo {
            page_size: done.page_size,
            page_count: done.page_count,
            integrity: done.integrity,
            ..self.info.clone()
        };
        Ok(Artifact { sqlite: Some(sqlite), ..put })
    }
}

fn unpacked(number: usize) -> String {
    format!("store-{number}")
}
