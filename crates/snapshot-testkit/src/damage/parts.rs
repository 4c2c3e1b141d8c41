//! A plain bundle taken apart and put together by `docs/format.md`, with no code of the product.

use std::io;

/// Magic number of the index's skippable frame.
const INDEX_MAGIC: u32 = 0x184D_2A5D;
/// Magic number of the seek table's skippable frame.
const TABLE_MAGIC: u32 = 0x184D_2A5E;
/// The last four bytes of a bundle.
const FOOTER_MAGIC: u32 = 0x8F92_EAB1;
/// Bytes of the seek table's footer.
const FOOTER: usize = 9;
/// Bytes of one entry of the seek table, and of a skippable frame's header.
const PAIR: usize = 8;

/// The frames of a plain bundle, and its index.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Every data frame as it lies in the file, and its content's length.
    pub frames: Vec<(Vec<u8>, usize)>,
    /// The index, without the header of its skippable frame.
    pub index: Vec<u8>,
}

impl Parts {
    /// Takes a whole bundle apart.
    ///
    /// # Errors
    /// If it is none.
    pub fn of(bytes: &[u8]) -> io::Result<Self> {
        let footer = back(bytes.len(), FOOTER)?;
        let entries = word(bytes, footer)?;
        let table = back(footer, PAIR * entries)?;
        let start = back(table, PAIR)?;
        let magics = (word(bytes, footer + 5)?, word(bytes, start)?);
        if magics != (FOOTER_MAGIC as usize, TABLE_MAGIC as usize) {
            return Err(broken("no seek table"));
        }
        let (mut at, mut frames) = (0, Vec::new());
        for entry in 0..entries {
            let place = table + PAIR * entry;
            let (compressed, content) = (word(bytes, place)?, word(bytes, place + 4)?);
            let frame = bytes.get(at..at + compressed).ok_or_else(|| broken("a short frame"))?;
            frames.push((frame.to_vec(), content));
            at += compressed;
        }
        let index = frames.pop().filter(|(_, content)| *content == 0 && at == start);
        let index = index.and_then(|(index, _)| index.get(PAIR..).map(<[u8]>::to_vec));
        Ok(Self { frames, index: index.ok_or_else(|| broken("no index"))? })
    }

    /// The file, with a seek table that fits the frames.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.frames.iter().flat_map(|(frame, _)| frame.clone()).collect();
        bytes.extend(INDEX_MAGIC.to_le_bytes());
        bytes.extend(le32(self.index.len()));
        bytes.extend(&self.index);
        let entries = self.frames.len() + 1;
        bytes.extend(TABLE_MAGIC.to_le_bytes());
        bytes.extend(le32(PAIR * entries + FOOTER));
        for (frame, content) in &self.frames {
            bytes.extend(le32(frame.len()));
            bytes.extend(le32(*content));
        }
        bytes.extend(le32(self.index.len() + PAIR));
        bytes.extend(le32(0));
        bytes.extend(le32(entries));
        bytes.push(0);
        bytes.extend(FOOTER_MAGIC.to_le_bytes());
        bytes
    }

    /// The tar stream.
    ///
    /// # Errors
    /// If a frame cannot be decoded.
    pub fn stream(&self) -> io::Result<Vec<u8>> {
        (0..self.frames.len()).try_fold(Vec::new(), |mut stream, number| {
            stream.extend(self.content(number)?);
            Ok(stream)
        })
    }

    /// The frame in which the manifest starts.
    #[must_use]
    pub fn manifest_frame(&self) -> usize {
        word(&self.index, 8).unwrap_or_default()
    }

    /// Says that the manifest starts in another frame.
    pub fn set_manifest_frame(&mut self, number: usize) {
        if let Some(place) = self.index.get_mut(8..12) {
            place.copy_from_slice(&le32(number));
        }
    }

    /// Where frame `number` starts in the file.
    #[must_use]
    pub fn start_of(&self, number: usize) -> usize {
        self.frames.iter().take(number).map(|(frame, _)| frame.len()).sum()
    }

    /// The content of frame `number`.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn content(&self, number: usize) -> io::Result<Vec<u8>> {
        zstd::decode_all(&self.frames[number].0[..])
    }

    /// Replaces the content of frame `number`.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn set_content(&mut self, number: usize, content: &[u8]) -> io::Result<()> {
        self.frames[number] = (compress(content)?, content.len());
        Ok(())
    }

    /// The text of the manifest, of a bundle whose manifest fits one frame.
    ///
    /// # Errors
    /// If it does not.
    pub fn manifest(&self) -> io::Result<String> {
        let entry = self.content(self.manifest_frame())?;
        let text = entry.get(512..512 + word(&self.index, 16)?);
        let text = text.ok_or_else(|| broken("a manifest of several frames"))?;
        String::from_utf8(text.to_vec()).map_err(io::Error::other)
    }

    /// Replaces that manifest, with a header, padding, end and index that fit it.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn set_manifest(&mut self, text: &str) -> io::Result<()> {
        let number = self.manifest_frame();
        let mut entry = self.content(number)?;
        entry.truncate(512);
        set_size(&mut entry, text.len());
        entry.extend(text.as_bytes());
        entry.resize(entry.len().next_multiple_of(512) + 1024, 0);
        self.set_content(number, &entry)?;
        self.index[16..24].copy_from_slice(&(text.len() as u64).to_le_bytes());
        Ok(())
    }
}

/// One frame with content size and checksum.
///
/// # Errors
/// If zstd fails.
pub fn compress(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(3)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    compressor.compress(content)
}

/// Sets the checksum of a header block.
pub fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Sets size and checksum of a header block.
pub(super) fn set_size(header: &mut [u8], size: usize) {
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    seal(header);
}

/// A number of four bytes.
pub(super) fn le32(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

/// What is no bundle, and why.
pub(super) fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn back(from: usize, by: usize) -> io::Result<usize> {
    from.checked_sub(by).ok_or_else(|| broken("too short"))
}

fn word(bytes: &[u8], at: usize) -> io::Result<usize> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let word = word.ok_or_else(|| broken("too short"))?;
    usize::try_from(u32::from_le_bytes(*word)).map_err(io::Error::other)
}
