//! A memory held still: written into a bundle at leisure.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
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
#[derive(Debug, Default)]
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
    /// Whether the page digest will be asked for: a second hash over every byte, for restores only.
    digested: bool,
    page_digest: Option<Sha256Digest>,
}

/// The pinning connection: our own, which one thread copies and another checks, or that of a
/// restore which also writes through it.
pub(crate) enum PinConn<'a> {
    Owned(Mutex<Connection>),
    Borrowed(&'a Connection),
}

/// A pinning connection, used by one thread.
pub(crate) enum ConnGuard<'a> {
    Owned(MutexGuard<'a, Connection>),
    Borrowed(&'a Connection),
}

/// A store as it was written under one of its names.
struct Copied {
    /// Its number.
    store: usize,
    name: StoreName,
    artifact: Artifact,
    page_digest: Option<Sha256Digest>,
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
        mut stores: Vec<PinnedStore<'a>>,
        gates: Option<Gates>,
        instant: Instant0,
        shut_at: Instant,
        held: Duration,
    ) -> Result<Self, StoresError> {
        stores.sort_by_key(|store| store.shape.size_bytes());
        let memdir = sources.memdir.as_ref();
        let listed_after =
            memdir.map(|m| files::list(&m.dir, &m.options, opts.control)).transpose()?;
        Ok(Self { opts, sources, stores, gates, instant, listed_after, shut_at, held })
    }

    /// Bytes of all databases, as they will be written.
    #[must_use]
    pub fn stores_bytes(&self) -> u64 {
        self.stores.iter().fold(0, |sum, store| sum.saturating_add(store.shape.size_bytes()))
    }

    /// The instant, milliseconds since the epoch, UTC.
    #[must_use]
    pub fn instant_ms(&self) -> i64 {
        self.instant.at_ms
    }

    /// How long the cut held the writers. Those of a rollback-journal store wait on until it is
    /// copied; the capture's report says how long.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.held
    }

    /// Writes everything into `sink` and lets go of the agent. Where it fails with
    /// [`StoresError::is_git_vanished`] the caller can cut again, into another sink.
    ///
    /// The repository is packed and the stores are checked on threads of their own, for both take
    /// as long as copying does. Copied are the smallest first, checked the largest first: the two
    /// seldom want the same one.
    ///
    /// # Errors
    /// If a part cannot be read or the sink refuses it.
    pub fn write_to(&mut self, sink: &mut dyn ArtifactSink) -> Result<Captured, StoresError> {
        let mut captured =
            Captured { artifacts: Vec::new(), git: None, capture: CaptureInfo::default() };
        captured.capture.instant_ms = self.instant.at_ms;
        captured.capture.not_carried.append(&mut self.sources.missing);
        captured.capture.unstable.append(&mut self.instant.torn_state);
        let git = self.write_stores_and_pack(sink, &mut captured)?;
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
                None => Some(page_digest(&store.conn.lock(), store.live.path(), spool)?),
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
                    let json =
                        state::read_row(&store.conn.lock(), store.live.path(), table, order_by)?;
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

    /// Copies the stores on this thread, packs and checks on two others.
    fn write_stores_and_pack(
        &mut self,
        sink: &mut dyn ArtifactSink,
        captured: &mut Captured,
    ) -> Result<Option<GitBundle>, StoresError> {
        let Self { opts, sources, stores, instant, .. } = self;
        let repo = sources.memdir.as_mut().and_then(|m| m.repo.as_mut());
        let conns: Vec<_> = stores.iter().map(|store| store.to_check(opts)).collect();
        let CaptureOptions { spool, max_git_object_bytes, control, .. } = *opts;
        let (git, checked, copied) = thread::scope(|scope| {
            let packing = scope.spawn(move || match (repo, &instant.git) {
                // A tar entry says its size before its content, so the pack is spooled.
                (Some(repo), Some(pinned)) => {
                    git::write_bundle(repo, pinned, spool, max_git_object_bytes, control).map(Some)
                }
                _ => Ok(None),
            });
            let checking = scope.spawn(move || check_stores(&conns, control));
            let copied = copy_stores(stores, *opts, sink);
            let (git, checked) = (joined(packing), joined(checking));
            // A repository that vanished is the error that callers know what to do about.
            Ok::<_, StoresError>((git?, checked?, copied?))
        })?;
        for Copied { store: number, name, mut artifact, page_digest } in copied {
            let (store, integrity) = (&mut self.stores[number], &checked[number]);
            store.page_digest = store.page_digest.or(page_digest);
            let shape = &store.shape;
            artifact.sqlite = Some(SqliteInfo {
                store: name.clone(),
                page_size: shape.page_size,
                page_count: shape.page_count,
                journal_mode: shape.journal_mode.clone(),
                integrity: integrity.clone(),
            });
            captured.capture.stores.push(StoreCapture {
                store: name,
                size_bytes: artifact.size_bytes,
                journal_mode: shape.journal_mode.clone(),
                held_through_copy: store.held_through_copy(),
                integrity: integrity.clone(),
            });
            captured.artifacts.push(artifact);
        }
        captured.capture.stores.sort_by(|a, b| a.store.cmp(&b.store));
        Ok(git)
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
        let mut store = Self::for_restore(database, PinConn::new(conn))?;
        store.digested = false;
        Ok(store)
    }

    /// One whose page digest a restore will ask for.
    pub(crate) fn for_restore(database: &Database, conn: PinConn<'a>) -> Result<Self, StoresError> {
        let shape = database.live.shape(&conn.lock())?;
        Ok(Self {
            shape,
            live: database.live.clone(),
            conn,
            stores: database.stores.clone(),
            state: database.state.clone(),
            mode: database.stat.mode,
            mtime_ns: database.stat.mtime_ns,
            digested: true,
            page_digest: None,
        })
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    fn held_through_copy(&self) -> bool {
        !self.shape.is_wal()
    }

    /// The connection to check, where a check is wanted.
    fn to_check(&self, opts: &CaptureOptions<'_>) -> Option<&Mutex<Connection>> {
        match &self.conn {
            PinConn::Owned(conn) if opts.check_integrity && !self.stores.is_empty() => Some(conn),
            _ => None,
        }
    }

    /// Copies it into `sink` as `name`; gives the page digest too, where it will be asked for.
    fn write(
        &self,
        name: &StoreName,
        opts: CaptureOptions<'_>,
        sink: &mut dyn ArtifactSink,
        done: &mut u64,
        total: u64,
    ) -> Result<(Artifact, Option<Sha256Digest>), StoresError> {
        let spec = FileSpec {
            path: name.bundle_path(),
            kind: ArtifactKind::of_store(name),
            size_bytes: self.shape.size_bytes(),
            mode: Some(self.mode),
            mtime_ns: Some(self.mtime_ns),
        };
        let fail = StoresError::sqlite("read the pages of", self.live.path());
        let conn = self.conn.lock();
        if let Some(mut statement) = PageReader::prepare(&conn) {
            let mut pages = PageReader::new(&mut statement, self.digested).map_err(fail)?;
            let mut metered = Metered { inner: &mut pages, control: opts.control, done, total };
            let artifact = sink.put_file(spec, &mut metered)?;
            return Ok((artifact, pages.digest()));
        }
        let mut copy = spool_pages(&conn, self.live.path(), opts.spool)?;
        let mut metered = Metered { inner: &mut copy, control: opts.control, done, total };
        Ok((sink.put_file(spec, &mut metered)?, None))
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

impl PinConn<'_> {
    pub(crate) fn new(conn: Connection) -> Self {
        Self::Owned(Mutex::new(conn))
    }

    pub(crate) fn lock(&self) -> ConnGuard<'_> {
        match self {
            // A connection is as good as before where another thread panicked over it.
            Self::Owned(conn) => {
                ConnGuard::Owned(conn.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Self::Borrowed(conn) => ConnGuard::Borrowed(conn),
        }
    }
}

impl Deref for ConnGuard<'_> {
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

/// Copies every store under each of its names, in order.
fn copy_stores(
    stores: &[PinnedStore<'_>],
    opts: CaptureOptions<'_>,
    sink: &mut dyn ArtifactSink,
) -> Result<Vec<Copied>, StoresError> {
    let total = stores.iter().map(|s| s.shape.size_bytes() * s.stores.len() as u64).sum();
    let mut done = 0;
    let mut copied = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        for name in &store.stores {
            let (artifact, page_digest) = store.write(name, opts, sink, &mut done, total)?;
            copied.push(Copied { store: number, name: name.clone(), artifact, page_digest });
        }
    }
    Ok(copied)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What SQLite says of each store, from the last to the first.
fn check_stores(
    conns: &[Option<&Mutex<Connection>>],
    control: &Control,
) -> Result<Vec<String>, StoresError> {
    let mut found = vec!["not_checked".to_owned(); conns.len()];
    for (said, conn) in found.iter_mut().zip(conns).rev() {
        control.check().map_err(StoresError::stopped("checking the stores"))?;
        if let Some(conn) = conn {
            *said = integrity(&conn.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
    Ok(found)
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
