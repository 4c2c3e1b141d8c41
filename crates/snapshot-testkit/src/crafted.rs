//! Bundles of which every byte is chosen, at the limits of the format, written as they are made.
//!
//! Invariant: it goes by `docs/format.md` and uses no code of the product; a manifest is any text at all, so that what
//! is written may be refused.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::error::KitError;

/// Unit of a tar archive, in bytes.
const BLOCK: usize = 512;
/// Most content of a frame, in bytes.
const FRAME: usize = 1 << 20;

/// A bundle under way.
pub struct Crafted {
    out: BufWriter<File>,
    compressor: Compressor<'static>,
    /// Content of the frame that is being filled, and of how much it is full.
    frame: Vec<u8>,
    frame_bytes: usize,
    /// The frame written last, with its content: crafted ones are often all alike.
    last: (Vec<u8>, Vec<u8>),
    frames: Vec<[u8; 8]>,
    places: Vec<[u8; 8]>,
    listed: String,
    created_at_ms: i64,
}

impl Crafted {
    /// Begins a bundle in a new file at `path`.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, KitError> {
        let begin = || {
            let mut compressor = Compressor::new(1)?;
            compressor.set_parameter(CParameter::ChecksumFlag(true))?;
            Ok((BufWriter::new(File::create(path)?), compressor))
        };
        let (out, compressor) = begin().map_err(KitError::io("create", path))?;
        Ok(Self {
            out,
            compressor,
            frame: Vec::new(),
            frame_bytes: FRAME,
            last: (Vec::new(), Vec::new()),
            frames: Vec::new(),
            places: Vec::new(),
            listed: String::new(),
            created_at_ms: 1_700_000_000_000,
        })
    }

    /// Ends the frame that is being filled; those that follow hold `bytes` of content each, at most 1 MiB.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn frames_of(&mut self, bytes: usize) -> io::Result<()> {
        self.end_frame()?;
        self.frame_bytes = bytes.clamp(1, FRAME);
        Ok(())
    }

    /// Adds a memory file and lists it. `name` has at most 80 bytes, so that a plain header holds it.
    ///
    /// # Errors
    /// As all of these, if the file cannot be written.
    pub fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = format!("memory_files/{name}");
        self.entry(&path, "memory_file", "", content)
    }

    /// Adds anything that has content: the `kind` in the manifest, and `more` fields of its entry there, each after a
    /// comma.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn entry(&mut self, path: &str, kind: &str, more: &str, content: &[u8]) -> io::Result<()> {
        self.header(path, b'0', 0o644, content.len())?;
        self.place();
        self.write(content)?;
        self.pad(content.len())?;
        self.list(path, kind, content.len(), &Sha256::digest(content), more);
        Ok(())
    }

    /// Adds something of `mib` MiB of zeros, and lists it with a digest that is not its own: for what is refused before
    /// it is read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn hole(&mut self, path: &str, kind: &str, more: &str, mib: usize) -> io::Result<()> {
        let size = mib * FRAME;
        self.frames_of(FRAME)?;
        self.header(path, b'0', 0o644, size)?;
        self.end_frame()?;
        self.place();
        let frame = self.compressor.compress(&[0; FRAME])?;
        for _ in 0..mib {
            self.out.write_all(&frame)?;
            self.frames.push(pair(frame.len(), FRAME));
        }
        self.list(path, kind, size, &Sha256::digest(b""), more);
        Ok(())
    }

    /// Adds a memory folder and lists it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn folder(&mut self, name: &str) -> io::Result<()> {
        let path = format!("memory_files/{name}");
        self.header(&format!("{path}/"), b'5', 0o755, 0)?;
        self.place();
        self.list(&path, "memory_dir", 0, &Sha256::digest(b""), "");
        Ok(())
    }

    /// A manifest of version 2, of agent `ana`, that lists what was added; `more` fields follow, each after a comma.
    #[must_use]
    pub fn manifest(&self, id: &str, more: &str) -> String {
        let Self { created_at_ms, listed, .. } = self;
        format!(
            r#"{{"manifest_version":2,"bundle_format":"nexo-memory-snapshot-v2","snapshot_id":"{id}","agent_id":"ana","tenant":"default","created_at_ms":{created_at_ms},"created_by":"cli","schema_versions":{{"long_term":1,"vector":1,"concepts":1,"compactions":1,"manifest":2}}{more},"artifacts":[{listed}]}}"#
        )
    }

    /// Ends the bundle with this manifest.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self, manifest: &str) -> io::Result<()> {
        self.frames_of(FRAME)?;
        let first = word(self.frames.len());
        self.header("manifest.json", b'0', 0o644, manifest.len())?;
        self.write(manifest.as_bytes())?;
        self.pad(manifest.len())?;
        self.write(&[0; 2 * BLOCK])?;
        self.end_frame()?;
        let mut index = b"NEXOIDX\x02".to_vec();
        index.extend(first);
        index.extend(word(self.places.len()));
        index.extend((manifest.len() as u64).to_le_bytes());
        index.extend(self.places.as_flattened());
        self.skippable(0x184D_2A5D, &index)?;
        self.frames.push(pair(index.len() + 8, 0));
        let mut table = self.frames.as_flattened().to_vec();
        table.extend(word(self.frames.len()));
        table.push(0);
        table.extend(0x8F92_EAB1u32.to_le_bytes());
        self.skippable(0x184D_2A5E, &table)?;
        self.out.flush()
    }

    fn list(&mut self, path: &str, kind: &str, size: usize, digest: &[u8], more: &str) {
        let comma = if self.listed.is_empty() { "" } else { "," };
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.listed.push_str(&format!(
            r#"{comma}{{"path_in_bundle":"{path}","kind":"{kind}","size_bytes":{size},"sha256":"{digest}"{more}}}"#
        ));
    }

    /// Notes the place of the next byte.
    fn place(&mut self) {
        self.places.push(pair(self.frames.len(), self.frame.len()));
    }

    fn header(&mut self, path: &str, kind: u8, mode: u32, size: usize) -> io::Result<()> {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        let seconds = self.created_at_ms / 1000;
        for (at, text) in [
            (108, "0000000".to_owned()),
            (116, "0000000".to_owned()),
            (124, format!("{size:011o}")),
            (136, format!("{seconds:011o}")),
            (148, "        ".to_owned()),
            (257, "ustar\x0000".to_owned()),
            (329, "0000000".to_owned()),
            (337, "0000000".to_owned()),
        ] {
            put(at, text.as_bytes());
        }
        put(156, &[kind]);
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.write(&block)
    }

    fn pad(&mut self, size: usize) -> io::Result<()> {
        self.write(&vec![0; size.next_multiple_of(BLOCK) - size])
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.frame_bytes - self.frame.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.frame.extend_from_slice(now);
            if self.frame.len() == self.frame_bytes {
                self.end_frame()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        if self.last.0 != self.frame {
            self.last = (self.frame.clone(), self.compressor.compress(&self.frame)?);
        }
        self.out.write_all(&self.last.1)?;
        self.frames.push(pair(self.last.1.len(), self.frame.len()));
        self.frame.clear();
        Ok(())
    }

    fn skippable(&mut self, magic: u32, payload: &[u8]) -> io::Result<()> {
        self.out.write_all(&magic.to_le_bytes())?;
        self.out.write_all(&word(payload.len()))?;
        self.out.write_all(payload)
    }
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

fn pair(a: usize, b: usize) -> [u8; 8] {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (word(a), word(b));
    [a0, a1, a2, a3, b0, b1, b2, b3]
}
