//! The two skippable frames at the end of a bundle: our index, and the seek table of the zstd
//! *seekable format*.
//!
//! Invariant: both are fully determined by the frames and the manifest, so that a reader can
//! compare every bit of them with what they must be.

use std::ops::Range;
use std::path::Path;

use snapshot_core::{BUNDLE_FORMAT, MAX_ARTIFACTS, MAX_MANIFEST_BYTES, ParseError};

use crate::error::BundleError;
use crate::format::{
    FRAME_BYTES, INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, INDEX_MAGIC, INDEX_TAG, INDEX_VERSION,
    MAX_FRAMES, MAX_INDEX_BYTES, SEEK_ENTRY_BYTES, SEEK_FOOTER_BYTES, SEEK_FOOTER_MAGIC,
    SEEK_TABLE_MAGIC, SKIPPABLE_HEADER_BYTES,
};
use crate::frame::max_frame_bytes;

/// Where the data frames lie in the file, and their content in the tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameTable {
    /// Start of each frame in the file, and the end of the last one.
    file: Vec<u64>,
    /// Start of each frame's content in the stream, and the end of the last one.
    stream: Vec<u64>,
}

/// A place in the tar stream: a frame, and an offset in its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) frame: u32,
    pub(crate) offset: u32,
}

/// Our index: where the manifest and the content of every artifact lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    /// The frame that the manifest's tar entry starts in, at offset 0.
    pub(crate) manifest_frame: u32,
    /// Length of `manifest.json` in bytes.
    pub(crate) manifest_bytes: u64,
    /// Where each artifact's content starts, in the manifest's order.
    pub(crate) artifacts: Vec<Place>,
}

impl Default for FrameTable {
    fn default() -> Self {
        Self { file: vec![0], stream: vec![0] }
    }
}

impl FrameTable {
    /// Adds a frame of `compressed` bytes that hold `content` bytes.
    ///
    /// # Errors
    /// [`BundleError::TooLarge`] past [`MAX_FRAMES`].
    pub(crate) fn push(&mut self, compressed: usize, content: usize) -> Result<(), BundleError> {
        if self.len() == MAX_FRAMES {
            return Err(BundleError::TooLarge);
        }
        self.file.push(self.file_end() + compressed as u64);
        self.stream.push(self.stream_end() + content as u64);
        Ok(())
    }

    /// Number of data frames.
    pub(crate) fn len(&self) -> usize {
        self.file.len() - 1
    }

    /// End of the last data frame in the file.
    pub(crate) fn file_end(&self) -> u64 {
        self.file.last().copied().unwrap_or_default()
    }

    /// Length of the tar stream.
    pub(crate) fn stream_end(&self) -> u64 {
        self.stream.last().copied().unwrap_or_default()
    }

    /// Number of the frames that end at `position` of the stream or before.
    pub(crate) fn before(&self, position: u64) -> usize {
        self.stream[1..].partition_point(|&end| end <= position)
    }

    /// Where frame `frame` lies in the file; none past the last.
    pub(crate) fn in_file(&self, frame: usize) -> Option<Range<u64>> {
        Some(*self.file.get(frame)?..*self.file.get(frame + 1)?)
    }

    /// Where the content of frame `frame` lies in the stream; none past the last.
    pub(crate) fn in_stream(&self, frame: usize) -> Option<Range<u64>> {
        Some(*self.stream.get(frame)?..*self.stream.get(frame + 1)?)
    }

    /// Length of the content of frame `frame`; none past the last.
    pub(crate) fn content_bytes(&self, frame: usize) -> Option<usize> {
        let range = self.in_stream(frame)?;
        usize::try_from(range.end - range.start).ok()
    }

    /// The frame that holds the byte at `position` of the stream; none past its end.
    pub(crate) fn locate(&self, position: u64) -> Option<Place> {
        let frame = self.stream.partition_point(|&start| start <= position).checked_sub(1)?;
        let range = self.in_stream(frame)?;
        Some(Place {
            frame: u32::try_from(frame).ok()?,
            offset: u32::try_from(position - range.start).ok()?,
        })
    }

    /// The seek table, whose last entry is the skippable frame of `index_frame_bytes` before it.
    pub(crate) fn render(&self, index_frame_bytes: usize) -> Vec<u8> {
        let entries = self.len() + 1;
        let payload = entries * SEEK_ENTRY_BYTES + SEEK_FOOTER_BYTES;
        let mut bytes = skippable_header(SEEK_TABLE_MAGIC, payload);
        for (file, stream) in self.file.windows(2).zip(self.stream.windows(2)) {
            put_u32(&mut bytes, file[1] - file[0]);
            put_u32(&mut bytes, stream[1] - stream[0]);
        }
        put_u32(&mut bytes, index_frame_bytes as u64);
        put_u32(&mut bytes, 0);
        put_u32(&mut bytes, entries as u64);
        bytes.push(0);
        bytes.extend(SEEK_FOOTER_MAGIC.to_le_bytes());
        bytes
    }

    /// Length of the whole seek table frame, from the footer that ends it.
    ///
    /// # Errors
    /// [`BundleError::Structure`] where it is none that we write.
    pub(crate) fn bytes_from_footer(
        footer: &[u8; SEEK_FOOTER_BYTES],
        path: &Path,
    ) -> Result<usize, BundleError> {
        let [n0, n1, n2, n3, descriptor, magic @ ..] = *footer;
        let entries = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
        if u32::from_le_bytes(magic) != SEEK_FOOTER_MAGIC {
            return Err(structure(path, "it does not end in a seek table"));
        }
        // No checksums (every frame has its own), no reserved bits.
        if descriptor != 0 {
            return Err(structure(path, "its seek table has flags that this format has not"));
        }
        if !(2..=MAX_FRAMES + 1).contains(&entries) {
            return Err(structure(path, "its seek table has an impossible number of frames"));
        }
        Ok(SKIPPABLE_HEADER_BYTES + entries * SEEK_ENTRY_BYTES + SEEK_FOOTER_BYTES)
    }

    /// Parses the whole seek table frame; returns the data frames and the index frame's length.
    ///
    /// # Errors
    /// [`BundleError::Structure`] where a size is beyond its limit.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<(Self, usize), BundleError> {
        let payload = skippable_payload(bytes, SEEK_TABLE_MAGIC)
            .ok_or_else(|| structure(path, "its seek table is no skippable frame"))?;
        let entries = payload.len().saturating_sub(SEEK_FOOTER_BYTES);
        let (entries, _) = payload[..entries].as_chunks::<SEEK_ENTRY_BYTES>();
        let Some((index, data)) = entries.split_last() else {
            return Err(structure(path, "its seek table is empty"));
        };
        let mut table = Self::default();
        table.file.reserve_exact(data.len());
        table.stream.reserve_exact(data.len());
        for (number, entry) in data.iter().enumerate() {
            let (compressed, content) = entry_sizes(entry);
            if content == 0 || content > FRAME_BYTES || compressed > max_frame_bytes() {
                return Err(structure(path, format!("frame {number} has an impossible size")));
            }
            table.push(compressed, content)?;
        }
        let (index_bytes, nothing) = entry_sizes(index);
        let limit = SKIPPABLE_HEADER_BYTES + MAX_INDEX_BYTES;
        if nothing != 0 || index_bytes > limit {
            return Err(structure(path, "the frame of its index has an impossible size"));
        }
        Ok((table, index_bytes))
    }
}

impl Index {
    /// The index of artifacts whose content starts at `positions` of the stream.
    ///
    /// None where a position lies past the stream or the manifest starts inside a frame.
    pub(crate) fn of(
        frames: &FrameTable,
        manifest_position: u64,
        manifest_bytes: u64,
        positions: &[u64],
    ) -> Option<Self> {
        let manifest = frames.locate(manifest_position).filter(|place| place.offset == 0)?;
        let artifacts = positions.iter().map(|&at| frames.locate(at)).collect::<Option<_>>()?;
        Some(Self { manifest_frame: manifest.frame, manifest_bytes, artifacts })
    }

    /// The whole skippable frame.
    pub(crate) fn render(&self) -> Vec<u8> {
        let payload = INDEX_HEADER_BYTES + self.artifacts.len() * INDEX_ENTRY_BYTES;
        let mut bytes = skippable_header(INDEX_MAGIC, payload);
        bytes.extend(INDEX_TAG);
        bytes.push(INDEX_VERSION);
        bytes.extend(self.manifest_frame.to_le_bytes());
        put_u32(&mut bytes, self.artifacts.len() as u64);
        bytes.extend(self.manifest_bytes.to_le_bytes());
        for place in &self.artifacts {
            bytes.extend(place.frame.to_le_bytes());
            bytes.extend(place.offset.to_le_bytes());
        }
        bytes
    }

    /// Parses the whole skippable frame.
    ///
    /// # Errors
    /// [`BundleError::Manifest`] for a newer version; [`BundleError::Structure`] otherwise.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, BundleError> {
        let bad = |why: &str| structure(path, why);
        let payload = skippable_payload(bytes, INDEX_MAGIC)
            .ok_or_else(|| bad("its index is no skippable frame"))?;
        let Some((&[t0, t1, t2, t3, t4, t5, t6, version], rest)) = payload.split_first_chunk()
        else {
            return Err(bad("its index is too short"));
        };
        if [t0, t1, t2, t3, t4, t5, t6] != INDEX_TAG {
            return Err(bad("its index is not ours"));
        }
        if version > INDEX_VERSION {
            return Err(BundleError::Manifest {
                path: path.to_owned(),
                source: ParseError::TooNew {
                    found: format!("index version {version}"),
                    supported: format!("{BUNDLE_FORMAT} with index version {INDEX_VERSION}"),
                },
            });
        }
        if version < INDEX_VERSION {
            return Err(bad("its index has an impossible version"));
        }
        let Some((&[f0, f1, f2, f3, n0, n1, n2, n3], rest)) = rest.split_first_chunk() else {
            return Err(bad("its index is too short"));
        };
        let Some((manifest_bytes, entries)) = rest.split_first_chunk() else {
            return Err(bad("its index is too short"));
        };
        let count = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
        let manifest_bytes = u64::from_le_bytes(*manifest_bytes);
        let (entries, tail) = entries.as_chunks::<INDEX_ENTRY_BYTES>();
        if count > MAX_ARTIFACTS || entries.len() != count || !tail.is_empty() {
            return Err(bad("its index has another length than its number of entries"));
        }
        if manifest_bytes > MAX_MANIFEST_BYTES {
            return Err(bad("its manifest is larger than the limit"));
        }
        let place = |&[f0, f1, f2, f3, o0, o1, o2, o3]: &[u8; INDEX_ENTRY_BYTES]| Place {
            frame: u32::from_le_bytes([f0, f1, f2, f3]),
            offset: u32::from_le_bytes([o0, o1, o2, o3]),
        };
        Ok(Self {
            manifest_frame: u32::from_le_bytes([f0, f1, f2, f3]),
            manifest_bytes,
            artifacts: entries.iter().map(place).collect(),
        })
    }
}

/// An error about the bundle's structure.
pub(crate) fn structure(path: &Path, why: impl Into<String>) -> BundleError {
    BundleError::Structure { path: path.to_owned(), why: why.into() }
}

fn skippable_header(magic: u32, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SKIPPABLE_HEADER_BYTES + payload);
    bytes.extend(magic.to_le_bytes());
    put_u32(&mut bytes, payload as u64);
    bytes
}

/// The payload of a skippable frame that fills `bytes` exactly.
fn skippable_payload(bytes: &[u8], magic: u32) -> Option<&[u8]> {
    let (found, rest) = bytes.split_first_chunk()?;
    let (length, payload) = rest.split_first_chunk()?;
    let fits = u32::from_le_bytes(*length) as usize == payload.len();
    (u32::from_le_bytes(*found) == magic && fits).then_some(payload)
}

fn entry_sizes(&[c0, c1, c2, c3, d0, d1, d2, d3]: &[u8; SEEK_ENTRY_BYTES]) -> (usize, usize) {
    let size = |bytes| u32::from_le_bytes(bytes) as usize;
    (size([c0, c1, c2, c3]), size([d0, d1, d2, d3]))
}

/// Appends a number whose limit lies far below 4 GiB.
fn put_u32(bytes: &mut Vec<u8>, number: u64) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    bytes.extend(number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use snapshot_core::ErrorKind;

    use super::*;

    fn table(sizes: &[(usize, usize)]) -> FrameTable {
        let mut table = FrameTable::default();
        for &(compressed, content) in sizes {
            table.push(compressed, content).unwrap();
        }
        table
    }

    fn parse(bytes: &[u8]) -> Result<(FrameTable, usize), BundleError> {
        let footer = bytes.last_chunk().unwrap();
        assert_eq!(FrameTable::bytes_from_footer(footer, Path::new("b"))?, bytes.len());
        FrameTable::parse(bytes, Path::new("b"))
    }

    /// Catches an end-of-frame position that two readers would give different names.
    #[test]
    fn a_position_belongs_to_the_frame_that_holds_its_byte() {
        let table = table(&[(10, 100), (10, 50)]);
        assert_eq!(table.locate(99), Some(Place { frame: 0, offset: 99 }));
        assert_eq!(table.locate(100), Some(Place { frame: 1, offset: 0 }));
        assert_eq!(table.locate(149), Some(Place { frame: 1, offset: 49 }));
        assert_eq!(table.locate(150), None);
        assert_eq!(table.locate(u64::MAX), None);
    }

    /// Catches sizes that would make a reader allocate what a crafted table asks for.
    #[test]
    fn sizes_are_refused_past_their_limits() {
        let max = max_frame_bytes();
        assert!(parse(&table(&[(max, FRAME_BYTES)]).render(32)).is_ok());
        for bad in [(max + 1, FRAME_BYTES), (max, FRAME_BYTES + 1), (max, 0)] {
            assert!(parse(&table(&[bad]).render(32)).is_err(), "{bad:?}");
        }
        let limit = SKIPPABLE_HEADER_BYTES + MAX_INDEX_BYTES;
        assert!(parse(&table(&[(1, 1)]).render(limit)).is_ok());
        assert!(parse(&table(&[(1, 1)]).render(limit + 1)).is_err());
        let mut footer = [0u8; SEEK_FOOTER_BYTES];
        footer[5..].copy_from_slice(&SEEK_FOOTER_MAGIC.to_le_bytes());
        for entries in [0, 1, u32::try_from(MAX_FRAMES).unwrap() + 2, u32::MAX] {
            footer[..4].copy_from_slice(&entries.to_le_bytes());
            assert!(FrameTable::bytes_from_footer(&footer, Path::new("b")).is_err(), "{entries}");
        }
    }

    /// Catches a newer index taken for damage.
    #[test]
    fn a_newer_index_is_named_as_such() {
        let index = Index { manifest_frame: 0, manifest_bytes: 2, artifacts: vec![] };
        let mut bytes = index.render();
        bytes[SKIPPABLE_HEADER_BYTES + INDEX_TAG.len()] = INDEX_VERSION + 1;
        let error = Index::parse(&bytes, Path::new("b")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaTooNew);
        bytes[SKIPPABLE_HEADER_BYTES + INDEX_TAG.len()] = INDEX_VERSION - 1;
        assert_eq!(Index::parse(&bytes, Path::new("b")).unwrap_err().kind(), ErrorKind::Integrity);
    }

    proptest! {
        #[test]
        fn tables_round_trip(sizes in prop::collection::vec((1usize..1 << 20, 1usize..=1 << 20), 1..50),
                             index_bytes in 32usize..1000) {
            let table = table(&sizes);
            prop_assert_eq!(parse(&table.render(index_bytes)).unwrap(), (table, index_bytes));
        }

        #[test]
        fn indexes_round_trip(manifest_frame: u32, manifest_bytes in 0..=MAX_MANIFEST_BYTES,
                              places in prop::collection::vec(any::<(u32, u32)>(), 0..50)) {
            let artifacts = places.into_iter().map(|(frame, offset)| Place { frame, offset }).collect();
            let index = Index { manifest_frame, manifest_bytes, artifacts };
            prop_assert_eq!(Index::parse(&index.render(), Path::new("b")).unwrap(), index);
        }

        #[test]
        fn crafted_bytes_parse_to_themselves_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..80),
                                                     framed: bool, at in 0usize..60, to: u8) {
            let mut bytes = if framed { table(&[(9, 9), (7, 7)]).render(40) } else { bytes };
            if let Some(byte) = bytes.get_mut(at) { *byte = to; }
            if let Ok((table, index_bytes)) = FrameTable::parse(&bytes, Path::new("b")) {
                let footer = bytes.last_chunk().unwrap();
                if FrameTable::bytes_from_footer(footer, Path::new("b")).is_ok_and(|n| n == bytes.len()) {
                    prop_assert_eq!(table.render(index_bytes), bytes);
                }
            } else if let Ok(index) = Index::parse(&bytes, Path::new("b")) {
                prop_assert_eq!(index.render(), bytes);
            }
        }
    }
}
