//! A memory held still: written into a bundle at leisure.

use std::io::{self, Read};
use std::ops::Deref;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink, BundlePath, CaptureInfo, Control, FileSpec, GitInfo,
    Sha256Digest, SqliteInfo, Step, StoreCapture, StoreName, path_in_bundle,
};

use crate::cut::{CaptureOptions, Instant0};
use crate::error::StoresError;
use crate::files;
use crate::git::{self, GitBundle, PinnedGit};
use crate::sources::{Database, Memdir, Sources, StateRow};
use crate::sqlite::{Gates, Live, PageReader, Shape, integrity, page_digest, spool_pages};
use crate::state::{self, StatePiece};

/// A memory held still at one instant.
pub struct Pinned<'a> {
    opts: CaptureOptions<'a>,
    sources: Sources,
    stores: Vec<PinnedStore<'a>>,
    /// Held through the copy for rollback-journal stores; WAL stores are free already.
    gates: Option<Gates>,
    instant: Instant0,
    /// The memdir again, right after the gates opened.
    listed_after: Option<files::Listing>,
    shut_at: Instant,
    held: Duration,
}

/// What a capture wrote.
#[derive(Debug)]
pub struct Captured {
    /// Every artifact, in the order of writing.
    pub artifacts: Vec<Artifact>,
    /// The repository, where the memdir has one.
    pub git: Option<GitInfo>,
    /// How it went.
    pub capture: CaptureInfo,
}

/// A database pinned by a read transaction.
pub(crate) struct PinnedStore<'a> {
    live: Live,
    conn: PinConn<'a>,
    shape: Shape,
    stores: Vec<StoreName>,
    state: Vec<StateRow>,
    mode: u32,
    mtime_ns: i64,
    page_digest: Option<Sha256Digest>,
}

/// The pinning connection: our own, or that of a restore which also writes through it.
pub(crate) enum PinConn<'a> {
    Owned(Connection),
    Borrowed(&'a Connection),
}

/// Tells the caller how many bytes were read.
struct Metered<'a> {
    inner: &'a mut dyn Read,
    control: &'a Control,
    done: &'a mut u64,
    total: u64,
}

impl<'a> Pinned<'a> {
    pub(crate) fn new(
        opts: CaptureOptions<'a>,
        sources: Sources,
        stores: Vec<PinnedStore<'a>>,
        gates: Option<Gates>,
        instant: Instant0,
        shut_at: Instant,
        held: Duration,
    ) -> Result<Self, StoresError> {
        let memdir = sources.memdir.as_ref();
        let listed_after =
            memdir.map(|m| files::list(&m.dir, &m.options, opts.control)).transpose()?;
        Ok(Self { opts, sources, stores, gates, instant, listed_after, shut_at, held })
    }

    /// The instant, milliseconds since the epoch, UTC.
    #[must_use]
    pub fn instant_ms(&self) -> i64 {
        self.instant.at_ms
    }

    /// Writes everything into `sink` and lets go of the agent. Nothing reaches the sink before the
    /// repository is packed, so where that fails with [`StoresError::is_git_vanished`] the caller can
    /// cut again and use the same sink.
    ///
    /// # Errors
    /// If a part cannot be read or the sink refuses it.
    pub fn write_to(&mut self, sink: &mut dyn ArtifactSink) -> Result<Captured, StoresError> {
        let git = self.spool_git()?;
        let mut captured =
            Captured { artifacts: Vec::new(), git: None, capture: CaptureInfo::default() };
        captured.capture.instant_ms = self.instant.at_ms;
        captured.capture.not_carried.append(&mut self.sources.missing);
        captured.capture.unstable.append(&mut self.instant.torn_state);
        self.write_stores(sink, &mut captured)?;
        let state = self.collect_state()?;
        if self.gates.take().is_some() && self.stores.iter().any(PinnedStore::held_through_copy) {
            self.held = self.shut_at.elapsed();
        }
        if let Some(git) = git {
            write_git(git, sink, &mut captured)?;
        }
        self.write_files(sink, &mut captured)?;
        for piece in state {
            captured.artifacts.extend(write_state(piece, sink)?);
        }
        captured.capture.writers_held_us = u64::try_from(self.held.as_micros()).unwrap_or(u64::MAX);
        Ok(captured)
    }

    /// The page digest of every pinned database, by path, none for one without a page: taken over from the writing where it ran.
    pub(crate) fn page_digests(
        &mut self,
    ) -> Result<Vec<(std::path::PathBuf, Option<Sha256Digest>)>, StoresError> {
        let spool = self.opts.spool;
        let mut digests = Vec::new();
        for store in &mut self.stores {
            let digest = match store.page_digest {
                _ if store.shape.page_count == 0 => None,
                None => Some(page_digest(&store.conn, store.live.path(), spool)?),
                known => known,
            };
            digests.push((store.live.path().to_owned(), digest));
        }
        Ok(digests)
    }

    /// The state pieces of the instant.
    pub(crate) fn collect_state(&self) -> Result<Vec<StatePiece>, StoresError> {
        let mut pieces = self.instant.state.clone();
        if self.opts.state.is_none() {
            for store in &self.stores {
                for StateRow { kind, table, order_by } in &store.state {
                    let json = state::read_row(&store.conn, store.live.path(), table, order_by)?;
                    pieces.push(StatePiece { kind: *kind, json });
                }
            }
        }
        pieces.sort_by_key(|piece| piece.kind);
        Ok(pieces)
    }

    pub(crate) fn git(&self) -> Option<&PinnedGit> {
        self.instant.git.as_ref()
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Packs the repository into the spool: a tar entry says its size before its content.
    fn spool_git(&self) -> Result<Option<GitBundle>, StoresError> {
        let repo = self.sources.memdir.as_ref().and_then(|m| m.repo.as_ref());
        let (Some(repo), Some(pinned)) = (repo, &self.instant.git) else { return Ok(None) };
        let CaptureOptions { spool, max_git_object_bytes, control, .. } = self.opts;
        git::write_bundle(repo, pinned, spool, max_git_object_bytes, control).map(Some)
    }

    fn write_stores(
        &mut self,
        sink: &mut dyn ArtifactSink,
        captured: &mut Captured,
    ) -> Result<(), StoresError> {
        let opts = self.opts;
        let total = self.stores.iter().map(|s| s.shape.size_bytes() * s.stores.len() as u64).sum();
        let mut done = 0;
        for store in &mut self.stores {
            let integrity = match opts.check_integrity && !store.stores.is_empty() {
                true => integrity(&store.conn),
                false => "not_checked".to_owned(),
            };
            for name in store.stores.clone() {
                let mut artifact = store.write(&name, opts, sink, &mut done, total)?;
                artifact.sqlite = Some(SqliteInfo {
                    store: name.clone(),
                    page_size: store.shape.page_size,
                    page_count: store.shape.page_count,
                    journal_mode: store.shape.journal_mode.clone(),
                    integrity: integrity.clone(),
                });
                captured.capture.stores.push(StoreCapture {
                    store: name,
                    size_bytes: artifact.size_bytes,
                    journal_mode: store.shape.journal_mode.clone(),
                    held_through_copy: store.held_through_copy(),
                    integrity: integrity.clone(),
                });
                captured.artifacts.push(artifact);
            }
        }
        Ok(())
    }

    fn write_files(
        &mut self,
        sink: &mut dyn ArtifactSink,
        captured: &mut Captured,
    ) -> Result<(), StoresError> {
        let (Some(memdir), Some(after)) = (&self.sources.memdir, &self.listed_after) else {
            return Ok(());
        };
        let Memdir { dir, options, listing, .. } = memdir;
        let files = files::write_files(
            dir,
            options,
            listing,
            after,
            sink,
            self.opts.spool,
            self.opts.control,
        )?;
        captured.artifacts.extend(files.artifacts);
        captured.capture.not_carried.extend(files.not_carried);
        captured.capture.unstable.extend(files.unstable);
        Ok(())
    }
}

impl<'a> PinnedStore<'a> {
    pub(crate) fn new(database: &Database, conn: Connection) -> Result<Self, StoresError> {
        Self::with_conn(database, PinConn::Owned(conn))
    }

    pub(crate) fn with_conn(database: &Database, conn: PinConn<'a>) -> Result<Self, StoresError> {
        Ok(Self {
            shape: database.live.shape(&conn)?,
            live: database.live.clone(),
            conn,
            stores: database.stores.clone(),
            state: database.state.clone(),
            mode: database.stat.mode,
            mtime_ns: database.stat.mtime_ns,
            page_digest: None,
        })
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    fn held_through_copy(&self) -> bool {
        !self.shape.is_wal()
    }

    fn write(
        &mut self,
        name: &StoreName,
        opts: CaptureOptions<'_>,
        sink: &mut dyn ArtifactSink,
        done: &mut u64,
        total: u64,
    ) -> Result<Artifact, StoresError> {
        let spec = FileSpec {
            path: name.bundle_path(),
            kind: ArtifactKind::of_store(name),
            size_bytes: self.shape.size_bytes(),
            mode: Some(self.mode),
            mtime_ns: Some(self.mtime_ns),
        };
        let fail = StoresError::sqlite("read the pages of", self.live.path());
        if let Some(mut statement) = PageReader::prepare(&self.conn) {
            let mut pages = PageReader::new(&mut statement).map_err(fail)?;
            let mut metered = Metered { inner: &mut pages, control: opts.control, done, total };
            let artifact = sink.put_file(spec, &mut metered)?;
            self.page_digest = Some(pages.digest());
            return Ok(artifact);
        }
        let mut copy = spool_pages(&self.conn, self.live.path(), opts.spool)?;
        let mut metered = Metered { inner: &mut copy, control: opts.control, done, total };
        Ok(sink.put_file(spec, &mut metered)?)
    }
}

impl Drop for PinnedStore<'_> {
    fn drop(&mut self) {
        // A borrowed connection goes on to write; one of our own ends with us.
        if let PinConn::Borrowed(conn) = self.conn
            && !conn.is_autocommit()
        {
            // Where even that fails, the write that follows fails by name.
            let _ = conn.execute_batch("ROLLBACK");
        }
    }
}

impl Deref for PinConn<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Owned(conn) => conn,
            Self::Borrowed(conn) => conn,
        }
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        *self.done += n as u64;
        self.control.advance(Step::Seal, *self.done, self.total);
        Ok(n)
    }
}

fn write_git(
    bundle: GitBundle,
    sink: &mut dyn ArtifactSink,
    captured: &mut Captured,
) -> Result<(), StoresError> {
    if let Some((mut file, size_bytes)) = bundle.file {
        let spec = FileSpec {
            path: BundlePath::parse(path_in_bundle::GIT_BUNDLE)?,
            kind: ArtifactKind::GitBundle,
            size_bytes,
            mode: None,
            mtime_ns: None,
        };
        captured.artifacts.push(sink.put_file(spec, &mut file)?);
    }
    captured.capture.not_carried.extend(bundle.not_carried);
    captured.git = Some(bundle.info);
    Ok(())
}

fn write_state(
    piece: StatePiece,
    sink: &mut dyn ArtifactSink,
) -> Result<Option<Artifact>, StoresError> {
    let Some(json) = piece.json else { return Ok(None) };
    let spec = FileSpec {
        path: BundlePath::parse(piece.kind.bundle_path())?,
        kind: piece.kind.artifact_kind(),
        size_bytes: json.len() as u64,
        mode: None,
        mtime_ns: None,
    };
    Ok(Some(sink.put_file(spec, &mut json.as_slice())?))
}
