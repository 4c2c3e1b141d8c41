//! The tar stream of a plain bundle as a list of entries, and the bundle that such a list makes, by
//! `docs/format.md`.

use std::io;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::parts::{Parts, broken, compress, le32, set_size};

const BLOCK: usize = 512;

/// One entry: its header blocks, and its content without the padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The header, with the PAX entry before it where there is one.
    pub header: Vec<u8>,
    /// The content.
    pub content: Vec<u8>,
}

/// The entries of an unsigned bundle: the artifacts, and the manifest as the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// In order.
    pub artifacts: Vec<Entry>,
    /// The manifest's entry.
    pub manifest: Entry,
}

impl Entry {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.header.as_slice(), &self.content].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

impl Archive {
    /// Takes a bundle apart.
    ///
    /// # Errors
    /// If it is none, or signed.
    pub fn of(bundle: &[u8]) -> io::Result<Self> {
        let stream = Parts::of(bundle)?.stream()?;
        let (mut entries, mut at) = (Vec::new(), 0);
        loop {
            let start = at;
            let (mut size, mut kind) = header(&stream, at)?;
            at += BLOCK;
            if kind == b'x' {
                at += size.next_multiple_of(BLOCK);
                (size, kind) = header(&stream, at)?;
                at += BLOCK;
            }
            if kind == 0 {
                break;
            }
            let content = stream.get(at..at + size).ok_or_else(|| broken("a short entry"))?;
            entries.push(Entry { header: stream[start..at].to_vec(), content: content.to_vec() });
            at += size.next_multiple_of(BLOCK);
        }
        let manifest = entries.pop().ok_or_else(|| broken("no manifest"))?;
        Ok(Self { artifacts: entries, manifest })
    }

    /// The manifest.
    ///
    /// # Errors
    /// If it is no JSON.
    pub fn manifest(&self) -> io::Result<Value> {
        Ok(serde_json::from_slice(&self.manifest.content)?)
    }

    /// Replaces the manifest; its header fits it.
    pub fn set_manifest(&mut self, text: Vec<u8>) {
        set_size(&mut self.manifest.header, text.len());
        self.manifest.content = text;
    }

    /// Replaces the content of an artifact by another of its length, and the digest that the manifest says;
    /// nothing else in it changes.
    ///
    /// # Errors
    /// If the manifest is no text.
    pub fn forge(&mut self, artifact: usize, content: Vec<u8>) -> io::Result<()> {
        let forged = &mut self.artifacts[artifact].content;
        let (was, is) = (hex_digest(forged), hex_digest(&content));
        *forged = content;
        let text = String::from_utf8(self.manifest.content.clone()).map_err(io::Error::other)?;
        self.set_manifest(text.replace(&was, &is).into_bytes());
        Ok(())
    }

    /// The bundle, in frames of at most `cut` bytes of content.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn to_bundle(&self, cut: usize) -> io::Result<Vec<u8>> {
        let (mut stream, mut places) = (Vec::new(), Vec::new());
        for entry in &self.artifacts {
            places.push(stream.len() + entry.header.len());
            stream.extend(entry.bytes());
        }
        let first = stream.len().div_ceil(cut);
        let mut index = b"NEXOIDX\x02".to_vec();
        index.extend(le32(first));
        index.extend(le32(self.artifacts.len()));
        index.extend((self.manifest.content.len() as u64).to_le_bytes());
        for place in places {
            // A place is one that holds a byte: what ends with the artifacts is in the manifest's frame.
            let (frame, offset) =
                if place == stream.len() { (first, 0) } else { (place / cut, place % cut) };
            index.extend(le32(frame));
            index.extend(le32(offset));
        }
        let mut end = self.manifest.bytes();
        end.resize(end.len() + 2 * BLOCK, 0);
        let frame = |content: &[u8]| Ok((compress(content)?, content.len()));
        let frames: io::Result<_> = stream.chunks(cut).chain(end.chunks(cut)).map(frame).collect();
        Ok(Parts { frames: frames?, index }.to_bytes())
    }
}

/// The SHA-256 of some bytes, as text has it.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Size and type of the header at `at`; a type of 0 is the end.
fn header(stream: &[u8], at: usize) -> io::Result<(usize, u8)> {
    let block = stream.get(at..at + BLOCK).ok_or_else(|| broken("no end"))?;
    if block.iter().all(|&byte| byte == 0) {
        return Ok((0, 0));
    }
    let size = std::str::from_utf8(&block[124..135]).map_err(io::Error::other)?;
    Ok((usize::from_str_radix(size, 8).map_err(io::Error::other)?, block[156]))
}
