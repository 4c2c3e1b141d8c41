//! The decompressed bytes of a bundle of 0.1.x, front to back.

use std::io::{self, BufReader, Read};
use std::path::Path;

use snapshot_core::mutants::holds;
use snapshot_core::{Control, Sha256Digest};
use zstd::stream::read::Decoder;

use crate::error::BundleError;
use crate::format::{FRAME_BYTES, MAX_WINDOW_BYTES, TAR_BLOCK, TAR_END_BYTES};
use crate::seek::structure;
use crate::source::{Sequential, Source};
use crate::tar::padding;

/// A tar archive as it comes out of its zstd stream.
pub(super) struct Stream<'a> {
    path: &'a Path,
    control: &'a Control,
    decoder: Decoder<'static, BufReader<Feed<'a>>>,
}

/// The compressed bytes.
struct Feed<'a> {
    bytes: Sequential<'a>,
    len: u64,
    position: u64,
    chunk: Vec<u8>,
    /// How much of the chunk was given out.
    given: usize,
}

impl<'a> Stream<'a> {
    /// Begins at the front.
    pub(super) fn start(source: &'a Source, control: &'a Control) -> Result<Self, BundleError> {
        let feed = Feed {
            bytes: source.sequential()?,
            len: source.len(),
            position: 0,
            chunk: Vec::new(),
            given: 0,
        };
        let compress = |e: io::Error| BundleError::Compress { why: e.to_string() };
        let mut decoder = Decoder::new(feed).map_err(compress)?.single_frame();
        decoder.window_log_max(MAX_WINDOW_BYTES.ilog2()).map_err(compress)?;
        Ok(Self { path: source.path(), control, decoder })
    }

    /// Fills `out` with the next bytes.
    pub(super) fn fill(&mut self, mut out: &mut [u8]) -> Result<(), BundleError> {
        while !out.is_empty() {
            self.control.check()?;
            let (now, later) = out.split_at_mut(out.len().min(FRAME_BYTES));
            self.decoder.read_exact(now).map_err(|e| self.fault(e))?;
            out = later;
        }
        Ok(())
    }

    pub(super) fn block(&mut self) -> Result<[u8; TAR_BLOCK], BundleError> {
        let mut block = [0; TAR_BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    /// The zero bytes after a content of this size.
    pub(super) fn padding(&mut self, size_bytes: u64) -> Result<(), BundleError> {
        self.zeros(padding(size_bytes))
    }

    /// The end of the archive, behind which there must be nothing; returns the digest of the file.
    pub(super) fn end(mut self) -> Result<Sha256Digest, BundleError> {
        self.zeros(TAR_END_BYTES)?;
        match self.decoder.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err(self.bad("its archive goes on after its end")),
            Err(e) => return Err(self.fault(e)),
        }
        let Self { path, control, decoder } = self;
        let rest = decoder.finish();
        let unread = !rest.buffer().is_empty();
        let feed = rest.into_inner();
        if !holds(!unread && feed.given == feed.chunk.len() && feed.position == feed.len) {
            return Err(structure(path, "something follows its zstd stream"));
        }
        feed.bytes.finish(control)
    }

    pub(super) fn bad(&self, why: &str) -> BundleError {
        structure(self.path, why)
    }

    fn zeros(&mut self, count: usize) -> Result<(), BundleError> {
        let mut bytes = [0; TAR_END_BYTES];
        self.fill(&mut bytes[..count])?;
        match holds(bytes.iter().all(|&byte| byte == 0)) {
            true => Ok(()),
            false => Err(self.bad("it has a block that should be empty and is not")),
        }
    }

    /// What reading failed with: the file's fault, or that of the bytes in it.
    fn fault(&self, error: io::Error) -> BundleError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.bad("its zstd stream ends early");
        }
        match error.downcast::<BundleError>() {
            Ok(own) => own,
            Err(e) => self.bad(&format!("its zstd stream is damaged: {e}")),
        }
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.chunk.len() {
            let end = self.len.min(self.position + FRAME_BYTES as u64);
            self.given = 0;
            self.bytes.read(self.position..end, &mut self.chunk).map_err(BundleError::into_io)?;
            self.position = end;
        }
        let rest = &self.chunk[self.given..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}
