//! Damage to a bundle and to the files beside it, as values: everything that can be done to a small one
//! (`cargo xtask soak bits`), or a seeded choice of it (the gate).
//!
//! Invariant: what is made here is made by `docs/format.md` and by no code of the product, so that both
//! cannot be wrong in the same way.

mod archive;
mod edits;
mod parts;

pub use archive::{Archive, Entry};
pub use edits::{Edit, How, edits};
pub use parts::{Parts, compress, seal};

use std::io;

/// Content of the skippable frame that nobody looks for.
const HIDDEN: [u8; 12] = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];

/// The files of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The bundle.
    pub bundle: Option<Vec<u8>>,
    /// Its summary.
    pub sidecar: Option<Vec<u8>>,
    /// Its checksum file.
    pub sum: Option<Vec<u8>>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// The bundle, encrypted or not.
    Bundle,
    /// Its summary.
    Sidecar,
    /// Its checksum file.
    Sum,
}

/// Encrypts a bundle.
pub type Seal = dyn Fn(&[u8]) -> io::Result<Vec<u8>> + Send + Sync;

/// What is damaged.
pub struct Specimen {
    /// Its files.
    pub files: Files,
    /// The bundle in the clear.
    pub plain: Vec<u8>,
    /// Most content of its frames, in bytes.
    pub cut: usize,
    /// The files of another snapshot of the same agent.
    pub sibling: Files,
    /// How the bundle is encrypted, where it is.
    pub seal: Option<Box<Seal>>,
}

/// One damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// One bit of a file.
    Flip(File, usize, u8),
    /// A file's end.
    Cut(File, usize),
    /// Bytes after a file's end: a zero, a letter, an empty frame of zstd, the file again.
    Append(File, usize),
    /// A file is gone.
    Remove(File),
    /// A file is the sibling's.
    Exchange(File),
    /// All three are.
    ExchangeAll,
    /// Of the bundle in the clear: a data frame is there twice.
    FrameTwice(usize, Table),
    /// A data frame is gone.
    FrameGone(usize, Table),
    /// Two data frames are in each other's place.
    FramesSwapped(usize, usize, Table),
    /// Something follows a data frame, inside of its range.
    FrameFollowed(usize),
    /// One bit of the tar stream's byte, in a frame that is whole.
    Stream(usize),
    /// An entry is there twice.
    EntryTwice(usize, List),
    /// An entry is gone.
    EntryGone(usize, List),
    /// An entry and the next are in each other's place.
    EntriesSwapped(usize, List),
    /// An artifact has another content, of the digest that the manifest says.
    Forged(usize),
    /// A field of the manifest is edited; header, index and frames fit it.
    Manifest(Edit),
    /// A field of the summary is edited.
    Summary(Edit),
}

/// What the seek table says of moved frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// What it said before.
    Kept,
    /// What is true, and so does the index about the manifest's frame.
    Fits,
}

/// What the manifest says of moved entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// What it said before.
    Kept,
    /// What is true.
    Fits,
}

/// What lies beside a damaged bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Beside {
    /// What lay there before.
    Kept,
    /// A summary and a checksum file with the digest and size of the damaged file.
    Told,
    /// Nothing.
    Nothing,
}

impl Files {
    /// One of the three.
    #[must_use]
    pub fn get(&self, file: File) -> Option<&Vec<u8>> {
        match file {
            File::Bundle => self.bundle.as_ref(),
            File::Sidecar => self.sidecar.as_ref(),
            File::Sum => self.sum.as_ref(),
        }
    }

    fn slot(&mut self, file: File) -> &mut Option<Vec<u8>> {
        match file {
            File::Bundle => &mut self.bundle,
            File::Sidecar => &mut self.sidecar,
            File::Sum => &mut self.sum,
        }
    }

    /// Makes size and digest in summary and checksum file those of the bundle.
    ///
    /// # Errors
    /// If the summary is no JSON.
    pub fn tell(&mut self) -> io::Result<()> {
        let (Some(bundle), Some(sidecar)) = (&self.bundle, &self.sidecar) else { return Ok(()) };
        let digest = archive::hex_digest(bundle);
        let mut json: serde_json::Value = serde_json::from_slice(sidecar)?;
        json["bundle_size_bytes"] = bundle.len().into();
        json["bundle_sha256"] = digest.as_str().into();
        self.sidecar = Some(serde_json::to_vec_pretty(&json)?);
        if let Some(sum) = self.sum.as_mut().filter(|sum| sum.len() > 64) {
            sum[..64].copy_from_slice(digest.as_bytes());
        }
        Ok(())
    }
}

impl File {
    const ALL: [Self; 3] = [Self::Bundle, Self::Sidecar, Self::Sum];

    const fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Sidecar => "summary",
            Self::Sum => "checksum file",
        }
    }
}

impl Beside {
    /// For tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "as before",
            Self::Told => "made to fit",
            Self::Nothing => "nothing",
        }
    }
}

impl Specimen {
    /// Every damage that there is, each with what lies beside it then.
    ///
    /// # Errors
    /// If the specimen is no bundle.
    pub fn damages(&self) -> io::Result<Vec<(Damage, Beside)>> {
        let mut all = Vec::new();
        for file in File::ALL {
            let bytes = self.files.get(file).map_or(0, Vec::len);
            let bits = (0..bytes).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
            all.extend(bits.map(|(byte, bit)| Damage::Flip(file, byte, bit)));
            all.extend((0..bytes).map(|length| Damage::Cut(file, length)));
            all.extend((0..TAILS).map(|tail| Damage::Append(file, tail)));
            all.extend([Damage::Remove(file), Damage::Exchange(file)]);
        }
        all.push(Damage::ExchangeAll);
        self.add_inside(&mut all)?;
        let summary = self.files.sidecar.as_deref().unwrap_or_default();
        all.extend(edits(&serde_json::from_slice(summary)?).into_iter().map(Damage::Summary));
        let with = |damage: Damage| damage.besides().iter().map(move |b| (damage.clone(), *b));
        Ok(all.into_iter().flat_map(with).collect())
    }

    /// Those of the bundle in the clear.
    fn add_inside(&self, all: &mut Vec<Damage>) -> io::Result<()> {
        let parts = Parts::of(&self.plain)?;
        let frames = parts.frames.len();
        for table in [Table::Kept, Table::Fits] {
            for n in 0..frames {
                all.extend([Damage::FrameTwice(n, table), Damage::FrameGone(n, table)]);
                all.extend((n + 1..frames).map(|m| Damage::FramesSwapped(n, m, table)));
            }
        }
        all.extend((0..frames).map(Damage::FrameFollowed));
        all.extend((0..parts.stream()?.len()).map(Damage::Stream));
        let archive = Archive::of(&self.plain)?;
        let entries = archive.artifacts.len();
        for list in [List::Kept, List::Fits] {
            for n in 0..entries {
                all.extend([Damage::EntryTwice(n, list), Damage::EntryGone(n, list)]);
            }
            all.extend((0..entries.saturating_sub(1)).map(|n| Damage::EntriesSwapped(n, list)));
        }
        let filled = (0..entries).filter(|&n| !archive.artifacts[n].content.is_empty());
        all.extend(filled.map(Damage::Forged));
        all.extend(edits(&archive.manifest()?).into_iter().map(Damage::Manifest));
        Ok(())
    }

    /// The files with one damage done to them.
    ///
    /// # Errors
    /// If the specimen is no bundle, or it cannot be encrypted.
    pub fn damaged(&self, damage: &Damage, beside: Beside) -> io::Result<Files> {
        let mut files = self.files.clone();
        match damage {
            Damage::Flip(file, byte, bit) => files.change(*file, |f| f[*byte] ^= 1 << bit),
            Damage::Cut(file, length) => files.change(*file, |f| f.truncate(*length)),
            Damage::Append(file, tail) => files.change(*file, |f| append(f, *tail)),
            Damage::Remove(file) => *files.slot(*file) = None,
            Damage::Exchange(file) => *files.slot(*file) = self.sibling.get(*file).cloned(),
            Damage::ExchangeAll => files = self.sibling.clone(),
            Damage::Summary(edit) => {
                let summary = files.sidecar.as_deref().unwrap_or_default();
                let mut json = serde_json::from_slice(summary)?;
                edit.apply(&mut json);
                files.sidecar = Some(serde_json::to_vec_pretty(&json)?);
            }
            inside => {
                let plain = self.inside(inside)?;
                files.bundle = Some(self.sealed(plain, matches!(inside, Damage::Forged(_)))?);
            }
        }
        match beside {
            Beside::Kept => {}
            Beside::Told => files.tell()?,
            Beside::Nothing => (files.sidecar, files.sum) = (None, None),
        }
        Ok(files)
    }

    /// The bundle as it lies in the file. Encryption is random in its length too: whoever tries often enough
    /// gets a file as long as the old one.
    fn sealed(&self, plain: Vec<u8>, as_long: bool) -> io::Result<Vec<u8>> {
        let Some(seal) = &self.seal else { return Ok(plain) };
        let length = self.files.bundle.as_ref().map_or(0, Vec::len);
        let mut sealed = seal(&plain)?;
        let mut tries = if as_long { TRIES } else { 0 };
        while sealed.len() != length && tries > 0 {
            (sealed, tries) = (seal(&plain)?, tries - 1);
        }
        Ok(sealed)
    }

    /// The bundle in the clear with a damage inside.
    fn inside(&self, damage: &Damage) -> io::Result<Vec<u8>> {
        match damage {
            Damage::Manifest(edit) => self.rebuilt(|archive| {
                let mut json = archive.manifest()?;
                edit.apply(&mut json);
                archive.set_manifest(serde_json::to_vec_pretty(&json)?);
                Ok(())
            }),
            Damage::Forged(n) => self.rebuilt(|archive| {
                let mut content = archive.artifacts[*n].content.clone();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                archive.forge(*n, content)
            }),
            Damage::EntryTwice(n, list) => self.moved(*list, |entries| {
                let entry = entries[*n].clone();
                entries.insert(*n, entry);
            }),
            Damage::EntryGone(n, list) => self.moved(*list, |entries| _ = entries.remove(*n)),
            Damage::EntriesSwapped(n, list) => self.moved(*list, |entries| entries.swap(*n, n + 1)),
            frames => self.reframed(frames),
        }
    }

    fn rebuilt(&self, change: impl Fn(&mut Archive) -> io::Result<()>) -> io::Result<Vec<u8>> {
        let mut archive = Archive::of(&self.plain)?;
        change(&mut archive)?;
        archive.to_bundle(self.cut)
    }

    /// The entries of the artifacts moved, and those of the manifest's list with them.
    fn moved(&self, list: List, change: impl Fn(&mut Vec<Moved>)) -> io::Result<Vec<u8>> {
        self.rebuilt(|archive| {
            let mut json = archive.manifest()?;
            let listed = json["artifacts"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let mut both = std::mem::take(&mut archive.artifacts).into_iter().zip(listed).collect();
            change(&mut both);
            let (artifacts, listed): (Vec<_>, Vec<_>) = both.into_iter().unzip();
            archive.artifacts = artifacts;
            if list == List::Fits {
                json["artifacts"] = listed.into();
                archive.set_manifest(serde_json::to_vec_pretty(&json)?);
            }
            Ok(())
        })
    }

    fn reframed(&self, damage: &Damage) -> io::Result<Vec<u8>> {
        let whole = Parts::of(&self.plain)?;
        let (mut parts, first) = (whole.clone(), whole.manifest_frame());
        let table = match damage {
            Damage::FrameTwice(n, table) => {
                parts.frames.insert(*n, whole.frames[*n].clone());
                parts.set_manifest_frame(first + usize::from(*n < first));
                *table
            }
            Damage::FrameGone(n, table) => {
                parts.frames.remove(*n);
                parts.set_manifest_frame(first - usize::from(*n < first));
                *table
            }
            Damage::FramesSwapped(n, m, table) => {
                parts.frames.swap(*n, *m);
                *table
            }
            Damage::FrameFollowed(n) => {
                parts.frames[*n].0.extend(HIDDEN);
                Table::Fits
            }
            Damage::Stream(at) => {
                let (n, offset) = frame_of(&whole, *at);
                let mut content = whole.content(n)?;
                content[offset] ^= 1 << (at % 8);
                parts.set_content(n, &content)?;
                Table::Fits
            }
            other => return Err(io::Error::other(format!("{other:?} is no damage of frames"))),
        };
        if table == Table::Fits {
            return Ok(parts.to_bytes());
        }
        let tail = &self.plain[whole.start_of(whole.frames.len())..];
        let frames = parts.frames.into_iter().flat_map(|(frame, _)| frame);
        Ok(frames.chain(tail.iter().copied()).collect())
    }
}

/// An entry, and what the manifest's list says of it.
type Moved = (Entry, serde_json::Value);

/// How often a file as long as the old one is tried for.
const TRIES: usize = 500;
/// How many sorts of bytes are appended.
const TAILS: usize = 4;

impl Files {
    fn change(&mut self, file: File, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(bytes) = self.slot(file) {
            change(bytes);
        }
    }
}

impl Damage {
    /// What may lie beside it.
    #[must_use]
    pub const fn besides(&self) -> &'static [Beside] {
        use Beside::{Kept, Nothing, Told};
        match self {
            Self::Flip(File::Bundle, ..)
            | Self::Cut(File::Bundle, _)
            | Self::Append(File::Bundle, _) => &[Kept, Nothing],
            Self::Flip(..) | Self::Cut(..) | Self::Append(..) | Self::Remove(_) => &[Kept],
            Self::Exchange(_) | Self::ExchangeAll | Self::Summary(_) => &[Kept],
            // Beside what lay there before the digest of the file tells all of these alike.
            Self::Stream(_) => &[Told, Nothing],
            _ => &[Kept, Told, Nothing],
        }
    }

    /// Its kind, for tables.
    #[must_use]
    pub fn kind(&self) -> String {
        let of = |what: &str, file: File| format!("{}: {what}", file.name());
        let table = |what: &str, table: Table| match table {
            Table::Kept => what.to_owned(),
            Table::Fits => format!("{what}, tables made to fit"),
        };
        let list = |what: &str, list: List| match list {
            List::Kept => what.to_owned(),
            List::Fits => format!("{what}, manifest made to fit"),
        };
        match self {
            Self::Flip(file, ..) => of("a flipped bit", *file),
            Self::Cut(file, _) => of("cut short", *file),
            Self::Append(file, _) => of("something appended", *file),
            Self::Remove(file) => of("removed", *file),
            Self::Exchange(file) => of("another snapshot's", *file),
            Self::ExchangeAll => "all three files: another snapshot's".to_owned(),
            Self::FrameTwice(_, t) => table("frame: doubled", *t),
            Self::FrameGone(_, t) => table("frame: deleted", *t),
            Self::FramesSwapped(_, _, t) => table("frames: swapped", *t),
            Self::FrameFollowed(_) => "frame: something hidden behind it".to_owned(),
            Self::Stream(_) => "a byte of the archive, its frame made anew".to_owned(),
            Self::EntryTwice(_, l) => list("entry: doubled", *l),
            Self::EntryGone(_, l) => list("entry: deleted", *l),
            Self::EntriesSwapped(_, l) => list("entries: swapped", *l),
            Self::Forged(_) => "entry: other content, manifest made to fit".to_owned(),
            Self::Manifest(_) => "manifest: a field edited".to_owned(),
            Self::Summary(_) => "summary: a field edited".to_owned(),
        }
    }

    /// Whether the manifest says something else, and the rest of the bundle may agree with it: where
    /// nothing outside tells what it was, that is another bundle and not a damaged one.
    #[must_use]
    pub fn may_make_another(&self, specimen: &Specimen) -> bool {
        match self {
            Self::EntryTwice(_, l) | Self::EntryGone(_, l) | Self::EntriesSwapped(_, l) => {
                *l == List::Fits
            }
            Self::Forged(_) | Self::Manifest(_) => true,
            Self::Stream(at) => Parts::of(&specimen.plain)
                .is_ok_and(|parts| frame_of(&parts, *at).0 >= parts.manifest_frame()),
            _ => false,
        }
    }
}

/// The frame that holds a byte of the stream, and where in it.
fn frame_of(parts: &Parts, mut at: usize) -> (usize, usize) {
    for (n, (_, content)) in parts.frames.iter().enumerate() {
        if at < *content {
            return (n, at);
        }
        at -= content;
    }
    (parts.frames.len(), 0)
}

fn append(bytes: &mut Vec<u8>, tail: usize) {
    match tail {
        0 => bytes.push(0),
        1 => bytes.push(b'x'),
        2 => bytes.extend(HIDDEN),
        _ => bytes.extend_from_within(..),
    }
}
