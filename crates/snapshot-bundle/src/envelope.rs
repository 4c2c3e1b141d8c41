//! The age layer around a bundle: written in one pass, read from the middle.
//!
//! age (<https://age-encryption.org/v1>) seals a file in chunks of 64 KiB that are authentic one by one, in
//! their order and in their number, so a part of it can be read without the rest. Invariants: of a header no
//! more than [`MAX_HEADER_BYTES`] are looked at; a file is opened with its identity once, however many
//! readers it has; a chunk that is not authentic gives nothing.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, IntoInnerError, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use age::secrecy::ExposeSecret;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, EncryptError, Encryptor, Identity, Recipient};
use age_core::format::{FileKey, Stanza};
use sha2::{Digest, Sha256};
use snapshot_core::{EncryptionInfo, Sha256Digest};

use crate::error::BundleError;
use crate::keys::{Identities, Recipients, SCHEME_PASSPHRASE, SCHEME_X25519, fingerprint};
use crate::seek::structure;

/// Most bytes of an age header that are read: 64 recipients need 10 KiB, and whoever parses it keeps all.
const MAX_HEADER_BYTES: u64 = 64 << 10;
/// How every age file begins.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// How the last line of a header begins, and no other.
const LAST_LINE: &[u8] = b"---";
/// What follows where a passphrase opens it: that stanza stands alone.
const PASSPHRASE_STANZA: &[u8] = b"-> scrypt ";
/// Plaintext bytes of a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Most readers of one file that are kept for the next.
const MAX_IDLE: usize = 8;

/// The output of a bundle: digest and length of the file, around it age where it is encrypted.
pub(crate) struct Envelope<W: Write> {
    layer: Layer<W>,
    key: Option<FileKey>,
}

enum Layer<W: Write> {
    Plain(Measured<W>),
    /// A header is many small writes, and of a number that its random stanza changes: they become one.
    Age(Box<StreamWriter<BufWriter<Measured<W>>>>),
}

/// An output whose bytes are counted and hashed.
struct Measured<W> {
    out: W,
    hasher: Sha256,
    bytes: u64,
}

/// An output that is complete.
pub(crate) struct Written<W> {
    pub(crate) out: W,
    pub(crate) size_bytes: u64,
    pub(crate) sha256: Sha256Digest,
    /// What opens it again without an identity, where it is encrypted.
    pub(crate) key: Option<FileKey>,
}

/// An encrypted file whose key is known, read at positions of its plaintext.
pub(crate) struct Sealed {
    file: Arc<File>,
    head: Arc<[u8]>,
    key: FileKey,
    /// How it is encrypted, as far as a reader can tell: which recipient's identity opened it.
    info: EncryptionInfo,
    plain_bytes: u64,
    /// Readers, and where in the plaintext they are.
    idle: Mutex<Vec<(u64, StreamReader<FileAt>)>>,
}

/// The file from a position on; its beginning as it was when the header was looked at. Hashes what is read
/// where that is asked for.
pub(crate) struct FileAt {
    file: Arc<File>,
    head: Arc<[u8]>,
    position: u64,
    hasher: Option<Arc<Mutex<Sha256>>>,
}

/// The beginning of a file.
struct Head<'a>(&'a [u8]);

/// Hands on the stanzas of a recipient, and keeps the key that they wrap.
struct Capture<'a> {
    inner: &'a dyn Recipient,
    key: &'a RefCell<Option<FileKey>>,
}

/// Tries every identity, and keeps the key that one of them unwrapped, and how.
struct Keyring<'a> {
    identities: &'a Identities,
    found: &'a RefCell<Option<(FileKey, EncryptionInfo)>>,
}

/// A key that is known already.
struct Known<'a>(&'a FileKey);

impl<W: Write> Envelope<W> {
    /// Begins the file: nothing around it, or the header for `recipients`.
    pub(crate) fn new(out: W, recipients: Option<&Recipients>) -> Result<Self, BundleError> {
        let out = Measured { out, hasher: Sha256::new(), bytes: 0 };
        let Some(recipients) = recipients else {
            return Ok(Self { layer: Layer::Plain(out), key: None });
        };
        let (recipients, key) = (recipients.for_age(), RefCell::new(None));
        let captures: Vec<Capture<'_>> =
            recipients.iter().map(|inner| Capture { inner: inner.as_ref(), key: &key }).collect();
        let encryptor =
            Encryptor::with_recipients(captures.iter().map(|capture| capture as &dyn Recipient));
        let encryptor = encryptor.map_err(|e| BundleError::Encrypt { why: e.to_string() })?;
        drop(captures);
        let out = BufWriter::with_capacity(CHUNK_BYTES, out);
        let stream = encryptor.wrap_output(out).map_err(|source| BundleError::Write { source })?;
        Ok(Self { layer: Layer::Age(Box::new(stream)), key: key.into_inner() })
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> io::Result<Written<W>> {
        let Measured { mut out, hasher, bytes } = match self.layer {
            Layer::Plain(out) => out,
            Layer::Age(stream) => {
                stream.finish()?.into_inner().map_err(IntoInnerError::into_error)?
            }
        };
        out.flush()?;
        let sha256 = Sha256Digest::from_bytes(hasher.finalize().into());
        Ok(Written { out, size_bytes: bytes, sha256, key: self.key })
    }
}

impl<W: Write> Write for Envelope<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain(out) => out.write(bytes),
            Layer::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain(out) => out.flush(),
            Layer::Age(stream) => stream.flush(),
        }
    }
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether a file is encrypted, whatever its name says.
///
/// # Errors
/// If it cannot be read.
pub fn is_encrypted(file: &File) -> io::Result<bool> {
    let mut begin = [0; MAGIC.len()];
    match file.read_exact_at(&mut begin, 0) {
        Ok(()) => Ok(begin == *MAGIC),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a file is encrypted with a passphrase; one whose header is damaged is not.
///
/// # Errors
/// If it cannot be read.
pub fn wants_passphrase(file: &File) -> io::Result<bool> {
    let mut head = vec![0; MAGIC.len() + PASSPHRASE_STANZA.len()];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(head.starts_with(MAGIC) && head.ends_with(PASSPHRASE_STANZA)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Checks the header of an encrypted file as far as that goes without an identity.
pub(crate) fn check_header(file: &File, path: &Path) -> Result<(), BundleError> {
    let head = read_head(file, path)?;
    Decryptor::new_buffered(Head(&head)).map(drop).map_err(|e| refused(path, e))
}

impl Sealed {
    /// Opens an encrypted file.
    ///
    /// # Errors
    /// [`BundleError::NoIdentity`], [`BundleError::WrongIdentity`], [`BundleError::ExcessiveWork`], or
    /// [`BundleError::Structure`] where it is not authentic.
    pub(crate) fn open(
        file: File,
        path: &Path,
        identities: &Identities,
    ) -> Result<Self, BundleError> {
        if identities.is_empty() {
            check_header(&file, path)?;
            return Err(BundleError::NoIdentity { path: path.to_owned() });
        }
        let head: Arc<[u8]> = read_head(&file, path)?.into();
        let found = RefCell::new(None);
        let keyring = Keyring { identities, found: &found };
        let decryptor = Decryptor::new_buffered(Head(&head)).map_err(|e| refused(path, e))?;
        let opened = decryptor.decrypt([&keyring as &dyn Identity].into_iter());
        opened.map(drop).map_err(|e| refused(path, e))?;
        let unknown = || BundleError::WrongIdentity { path: path.to_owned() };
        let (key, info) = found.into_inner().ok_or_else(unknown)?;
        Self::with_key(file, head, key, info, path)
    }

    /// Opens a file that was just written, by the key that it was written with.
    pub(crate) fn reopen(
        file: File,
        path: &Path,
        key: &FileKey,
        info: EncryptionInfo,
    ) -> Result<Self, BundleError> {
        let head = read_head(&file, path)?.into();
        Self::with_key(file, head, copy_of(key), info, path)
    }

    fn with_key(
        file: File,
        head: Arc<[u8]>,
        key: FileKey,
        info: EncryptionInfo,
        path: &Path,
    ) -> Result<Self, BundleError> {
        let idle = Mutex::default();
        let mut sealed = Self { file: Arc::new(file), head, key, info, plain_bytes: 0, idle };
        let mut reader = sealed.reader(None, path)?;
        // Authenticates the last chunk as the last one, and with it the length.
        sealed.plain_bytes = reader.seek(SeekFrom::End(0)).map_err(|e| damaged(path, e))?;
        Ok(sealed)
    }

    /// How it is encrypted, as far as a reader can tell.
    pub(crate) const fn info(&self) -> &EncryptionInfo {
        &self.info
    }

    /// Length of the plaintext in bytes.
    pub(crate) const fn len(&self) -> u64 {
        self.plain_bytes
    }

    /// The file as it lies there.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Fills `out` with the plaintext from `position` on. Decrypts only the chunks that hold it.
    pub(crate) fn read_at(
        &self,
        out: &mut [u8],
        position: u64,
        path: &Path,
    ) -> Result<(), BundleError> {
        let mut reader = match self.take(position) {
            Some(reader) => reader,
            None => self.reader(None, path)?,
        };
        // A reader that failed is in no state to go on.
        reader
            .seek(SeekFrom::Start(position))
            .and_then(|_| reader.read_exact(out))
            .map_err(|e| damaged(path, e))?;
        self.keep(position + out.len() as u64, reader);
        Ok(())
    }

    /// A reader over the whole plaintext, from its beginning. With `hasher` every byte of the file goes
    /// through it, as long as the reader is only read.
    pub(crate) fn reader(
        &self,
        hasher: Option<Arc<Mutex<Sha256>>>,
        path: &Path,
    ) -> Result<StreamReader<FileAt>, BundleError> {
        let (file, head) = (Arc::clone(&self.file), Arc::clone(&self.head));
        let decryptor = Decryptor::new_buffered(FileAt { file, head, position: 0, hasher });
        let known = Known(&self.key);
        decryptor
            .and_then(|decryptor| decryptor.decrypt([&known as &dyn Identity].into_iter()))
            .map_err(|e| refused(path, e))
    }

    /// The idle reader that is nearest: best the one that stands there already.
    fn take(&self, position: u64) -> Option<StreamReader<FileAt>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|(at, _)| *at == position);
        let at = at.or_else(|| idle.len().checked_sub(1))?;
        Some(idle.swap_remove(at).1)
    }

    fn keep(&self, position: u64, reader: StreamReader<FileAt>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((position, reader));
        }
    }
}

impl Read for FileAt {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(self.position).unwrap_or(usize::MAX);
        let count = match self.head.get(from..) {
            Some(head) if !head.is_empty() => {
                let count = head.len().min(out.len());
                out[..count].copy_from_slice(&head[..count]);
                count
            }
            _ => self.file.read_at(out, self.position)?,
        };
        if let Some(hasher) = &self.hasher {
            hasher.lock().unwrap_or_else(PoisonError::into_inner).update(&out[..count]);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for FileAt {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => (self.file.metadata()?.len(), offset),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "before the beginning");
        self.position = base.checked_add_signed(offset).ok_or_else(before)?;
        Ok(self.position)
    }
}

/// Of what it looks at while it parses.
impl BufRead for FileAt {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let from = usize::try_from(self.position).unwrap_or(usize::MAX);
        Ok(self.head.get(from..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        let from = usize::try_from(self.position).unwrap_or(usize::MAX);
        if let (Some(hasher), Some(rest)) = (&self.hasher, self.head.get(from..)) {
            let mut hasher = hasher.lock().unwrap_or_else(PoisonError::into_inner);
            hasher.update(&rest[..count.min(rest.len())]);
        }
        self.position += count as u64;
    }

    fn read_until(&mut self, _: u8, out: &mut Vec<u8>) -> io::Result<usize> {
        read_header(self, out)
    }
}

impl Read for Head<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl BufRead for Head<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.0)
    }

    fn consume(&mut self, count: usize) {
        self.0 = &self.0[count..];
    }

    fn read_until(&mut self, _: u8, out: &mut Vec<u8>) -> io::Result<usize> {
        read_header(self, out)
    }
}

impl Recipient for Capture<'_> {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        *self.key.borrow_mut() = Some(copy_of(key));
        self.inner.wrap_file_key(key)
    }
}

impl Identity for Keyring<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        for key in self.identities.keys() {
            if let Some(unwrapped) = key.unwrap_stanzas(stanzas) {
                let fingerprint = vec![fingerprint(&key.to_public())];
                return Some(self.keep(unwrapped, SCHEME_X25519, fingerprint));
            }
        }
        // Each takes a second, and says no by an error; another one may still be right.
        let mut refusal = None;
        for passphrase in self.identities.passphrases() {
            match passphrase.unwrap_stanzas(stanzas) {
                None => return refusal,
                Some(Ok(key)) => return Some(self.keep(Ok(key), SCHEME_PASSPHRASE, Vec::new())),
                Some(Err(e)) => refusal = Some(Err(e)),
            }
        }
        refusal
    }
}

impl Keyring<'_> {
    fn keep(
        &self,
        unwrapped: Result<FileKey, DecryptError>,
        scheme: &str,
        recipients_fingerprint: Vec<String>,
    ) -> Result<FileKey, DecryptError> {
        let key = unwrapped?;
        let info = EncryptionInfo { scheme: scheme.to_owned(), recipients_fingerprint };
        *self.found.borrow_mut() = Some((copy_of(&key), info));
        Ok(key)
    }
}

impl Identity for Known<'_> {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        Some(Ok(copy_of(self.0)))
    }
}

/// Hands over all of a header: its parser asks for a line, and begins anew after each that it gets. Of 64 KiB
/// that would be seconds, once for every reader.
fn read_header(from: &mut impl BufRead, out: &mut Vec<u8>) -> io::Result<usize> {
    let rest = from.fill_buf()?;
    let mut end = 0;
    for line in rest.split_inclusive(|&byte| byte == b'\n') {
        end += line.len();
        if line.starts_with(LAST_LINE) {
            break;
        }
    }
    out.extend_from_slice(&rest[..end]);
    from.consume(end);
    Ok(end)
}

/// What age said of a header, in our words.
fn refused(path: &Path, error: DecryptError) -> BundleError {
    let path = path.to_owned();
    match error {
        DecryptError::NoMatchingKeys
        | DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed => BundleError::WrongIdentity { path },
        DecryptError::ExcessiveWork { required, .. } => {
            BundleError::ExcessiveWork { path, required }
        }
        DecryptError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            BundleError::Io { op: "read", path, source }
        }
        DecryptError::UnknownFormat => structure(&path, "it is of another format than age v1"),
        _ => structure(&path, "its encryption header is damaged"),
    }
}

/// What a reader of chunks failed with.
fn damaged(path: &Path, error: io::Error) -> BundleError {
    match error.kind() {
        // These two are the age reader's own.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            structure(path, "a part of it cannot be decrypted: it was changed or cut off")
        }
        _ => BundleError::Io { op: "read", path: path.to_owned(), source: error },
    }
}

fn read_head(file: &File, path: &Path) -> Result<Vec<u8>, BundleError> {
    let failed = |source| BundleError::Io { op: "read", path: path.to_owned(), source };
    let len = file.metadata().map_err(failed)?.len().min(MAX_HEADER_BYTES);
    let mut head = vec![0; usize::try_from(len).unwrap_or_default()];
    match file.read_exact_at(&mut head, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(structure(path, "it became shorter while it was read"))
        }
        read => read.map(|()| head).map_err(failed),
    }
}

fn copy_of(key: &FileKey) -> FileKey {
    FileKey::init_with_mut(|copy| copy.copy_from_slice(key.expose_secret()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use snapshot_core::Secret;

    use super::*;

    /// Vectors that the library takes although the format refuses them: stanzas without a short last line.
    const LEGACY: [&str; 2] = ["stanza_missing_body", "stanza_missing_final_line"];

    /// One public vector: what is said of it, and the file.
    struct Vector {
        name: String,
        said: BTreeMap<String, String>,
        identities: Identities,
        file: File,
    }

    impl Vector {
        fn read(path: &Path) -> Self {
            let bytes = fs::read(path).unwrap();
            let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
            let (mut said, mut identities) = (BTreeMap::new(), Identities::default());
            for line in std::str::from_utf8(&bytes[..end]).unwrap().lines() {
                let (key, value) = line.split_once(": ").unwrap();
                let more = match key {
                    "identity" => Identities::parse(value).unwrap(),
                    "passphrase" => Identities::passphrase(Secret::new(value.to_owned())),
                    _ => Identities::default(),
                };
                identities = identities.and(more);
                said.insert(key.to_owned(), value.to_owned());
            }
            let mut age = bytes[end + 2..].to_vec();
            if said.contains_key("compressed") {
                let packed = std::mem::take(&mut age);
                let mut decoder = flate2::read::ZlibDecoder::new(&packed[..]);
                decoder.read_to_end(&mut age).unwrap();
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&age).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            Self { name, said, identities, file }
        }

        /// What our reader makes of it, reading `step` bytes at a time from the end to the beginning.
        fn outcome(&self, step: u64) -> Result<Vec<u8>, BundleError> {
            let path = Path::new("vector.age");
            let file = self.file.try_clone().unwrap();
            let sealed = Sealed::open(file, path, &self.identities)?;
            let mut plain = vec![0; usize::try_from(sealed.len()).unwrap()];
            let mut end = sealed.len();
            while end > 0 {
                let start = end.saturating_sub(step);
                let place = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
                sealed.read_at(&mut plain[place], start, path)?;
                end = start;
            }
            // And front to back: the same, or damage that the other way did not meet.
            let mut again = Vec::new();
            let read = sealed.reader(None, path)?.read_to_end(&mut again);
            read.map_err(|e| damaged(path, e))?;
            assert_eq!(again, plain, "{}: two ways of reading differ", self.name);
            Ok(plain)
        }
    }

    fn vectors() -> Vec<Vector> {
        let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/age"));
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| Vector::read(&path)).collect()
    }

    /// Would catch: a header, a chunk or an end that the age format refuses and our reader takes when it reads
    /// from the middle; damage called a wrong identity, or the reverse.
    #[test]
    fn the_public_vectors_are_read_as_they_say() {
        let vectors = vectors();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for vector in &vectors {
            let (name, expect) = (&vector.name, vector.said["expect"].as_str());
            for step in [1 << 20, 65_536, 1000] {
                let outcome = vector.outcome(step);
                match (expect, outcome) {
                    ("success", Ok(plain)) => {
                        assert_eq!(Sha256Digest::of(&plain).to_string(), vector.said["payload"]);
                    }
                    ("no match", Err(BundleError::WrongIdentity { .. }))
                    | (
                        "HMAC failure" | "header failure" | "payload failure",
                        Err(BundleError::Structure { .. }),
                    ) => {}
                    // The library still reads what its own old versions wrote; both are authentic.
                    ("header failure", Ok(_)) if LEGACY.contains(&name.as_str()) => {}
                    // Of this one the header says what we refuse before we try it.
                    ("header failure", Err(BundleError::ExcessiveWork { required: 23, .. })) => {}
                    (_, outcome) => panic!("{name}: expected {expect}, got {outcome:?}"),
                }
            }
            *seen.entry(expect).or_default() += 1;
        }
        assert!(seen["success"] > 10 && seen["payload failure"] > 15, "{seen:?}");
        assert!(seen["header failure"] > 40 && seen["no match"] > 5, "{seen:?}");
    }

    /// Would catch: a header that is parsed anew for each of its bytes or lines, whose cost is the square of its
    /// length: a file of 64 KiB would keep every reader busy for seconds.
    #[test]
    fn a_header_is_handed_over_whole_and_nothing_behind_it() {
        let header = b"age-encryption.org/v1\n-> x\n\n-> y\nabcd\n--- mac\n";
        let whole = [&header[..], b"nonce\n--- more"].concat();
        let head: Arc<[u8]> = whole.clone().into();
        let mut out = Vec::new();
        assert_eq!(Head(&whole).read_until(b'\n', &mut out).unwrap(), header.len());
        assert_eq!(out, header);
        let file = Arc::new(tempfile::tempfile().unwrap());
        let hasher = Arc::new(Mutex::new(Sha256::new()));
        let mut reader = FileAt { file, head, position: 0, hasher: Some(Arc::clone(&hasher)) };
        out.clear();
        assert_eq!(reader.read_until(b'\n', &mut out).unwrap(), header.len());
        assert_eq!((out.as_slice(), reader.position), (&header[..], header.len() as u64));
        reader.read_to_end(&mut out).unwrap();
        assert_eq!(out, whole);
        let hashed = hasher.lock().unwrap().clone().finalize();
        assert_eq!(hashed, Sha256::digest(&whole), "every byte is hashed once");
        // One that does not end is all there is.
        out.clear();
        assert_eq!(Head(b"age\n-> x").read_until(b'\n', &mut out).unwrap(), 8);
    }
}
