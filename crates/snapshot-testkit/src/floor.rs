//! The least that any program must do with a bundle, for benchmarks: nothing checked, nothing kept in
//! order, every core busy.
//!
//! Invariant: it knows the zstd seekable format only, none of our code.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use crate::error::KitError;

/// Bytes of one entry of the seek table, and of its footer.
const ENTRY: usize = 8;
const FOOTER: usize = 9;

/// One data frame: where it lies in the file, where its content lies in the tar stream.
struct Frame {
    file: (u64, usize),
    stream: (u64, usize),
}

/// Reads, decodes and hashes: each frame's bytes and each frame's content, each on its own. A
/// verification hashes the same bytes, and in order.
///
/// # Errors
/// If the bundle cannot be read.
pub fn decode_and_hash(bundle: &Path) -> Result<(), KitError> {
    each_frame(bundle, Sha256::new, |hasher, _, frame, content| {
        hasher.update(frame);
        hasher.update(content);
        Ok(())
    })
}

/// Reads, decodes and writes the tar stream to `out`, and syncs it.
///
/// # Errors
/// If the bundle cannot be read or `out` not be written.
pub fn decode_and_write(bundle: &Path, out: &Path) -> Result<(), KitError> {
    let file = File::create(out).map_err(KitError::io("create", out))?;
    each_frame(bundle, || (), |(), at, _, content| file.write_all_at(content, at))?;
    file.sync_all().map_err(KitError::io("sync", out))
}

/// Gives every frame to `take`: its place in the stream, its bytes, its content.
fn each_frame<S>(
    bundle: &Path,
    state: impl Fn() -> S + Sync,
    take: impl Fn(&mut S, u64, &[u8], &[u8]) -> io::Result<()> + Sync,
) -> Result<(), KitError> {
    let run = || {
        let file = File::open(bundle)?;
        let frames = frames(&file)?;
        let next = AtomicUsize::new(0);
        let work = || {
            let (mut state, mut decoder) = (state(), Decompressor::new()?);
            let (mut bytes, mut content) = (Vec::new(), Vec::new());
            while let Some(frame) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
                bytes.resize(frame.file.1, 0);
                file.read_exact_at(&mut bytes, frame.file.0)?;
                content.clear();
                content.reserve(frame.stream.1);
                decoder.decompress_to_buffer(&bytes, &mut content)?;
                take(&mut state, frame.stream.0, &bytes, &content)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    };
    run().map_err(KitError::io("read the frames of", bundle))
}

/// The data frames, by the seek table at the end; its last entry is the index.
fn frames(file: &File) -> io::Result<Vec<Frame>> {
    let end = file.metadata()?.len();
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, end.saturating_sub(FOOTER as u64))?;
    let [n0, n1, n2, n3, ..] = footer;
    let count = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
    let mut table = vec![0; count * ENTRY];
    let table_at = end.saturating_sub((FOOTER + table.len()) as u64);
    file.read_exact_at(&mut table, table_at)?;
    let (entries, _) = table.as_chunks::<ENTRY>();
    let (mut in_file, mut in_stream) = (0, 0);
    let mut frames = Vec::with_capacity(count);
    for &[c0, c1, c2, c3, d0, d1, d2, d3] in &entries[..count.saturating_sub(1)] {
        let size = |bytes| u32::from_le_bytes(bytes) as usize;
        let (compressed, content) = (size([c0, c1, c2, c3]), size([d0, d1, d2, d3]));
        frames.push(Frame { file: (in_file, compressed), stream: (in_stream, content) });
        in_file += compressed as u64;
        in_stream += content as u64;
    }
    Ok(frames)
}
