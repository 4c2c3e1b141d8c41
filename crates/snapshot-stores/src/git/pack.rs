//! A look over a pack before libgit2 inflates it: every object's declared size is bounded, so that
//! a small crafted pack cannot take memory.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::ZlibDecoder;
use snapshot_core::Control;

use crate::StoresError;

/// Bytes of the raw id that a delta may name its base by.
const RAW_OID_BYTES: u64 = 20;
/// Bytes of the digest at the end.
const TRAILER_BYTES: u64 = 20;
/// Most objects of a history: libgit2 keeps some hundred bytes of each while it indexes a pack.
pub(super) const MAX_OBJECTS: u32 = 500_000;
/// Fewest bytes of an object in a pack: its type and size, and no content deflated.
const OBJECT_BYTES: u64 = 9;
/// Bytes of a pack's index beside its entries, and of an entry: id, checksum, place, and a large place.
const INDEX_BYTES: u64 = 4096;
const INDEX_ENTRY_BYTES: u64 = 20 + 4 + 4 + 8;
/// Most bytes of a delta's instructions: they lie in memory beside its base and what it makes.
const MAX_DELTA_BYTES: u64 = 64 << 20;

/// What the index beside a pack of a git bundle of this size takes at most, in bytes.
pub(crate) fn index_bytes(bundle_bytes: u64) -> u64 {
    let objects = (bundle_bytes / OBJECT_BYTES).min(u64::from(MAX_OBJECTS));
    INDEX_BYTES + objects * INDEX_ENTRY_BYTES
}

/// What a git bundle of this size takes at most while it is unpacked: as it came, as a pack, and the index.
#[must_use]
pub fn unpacked_bytes(bundle_bytes: u64) -> u64 {
    bundle_bytes.saturating_mul(2).saturating_add(index_bytes(bundle_bytes))
}

/// Gives the number of objects in `pack`, once each of them, deltas resolved, is known to have at
/// most `max_object_bytes`.
pub(super) fn check(
    pack: &mut dyn Read,
    max_object_bytes: u64,
    control: &Control,
) -> Result<u32, StoresError> {
    let mut pack = BufReader::with_capacity(1 << 16, pack);
    let mut head = [0; 12];
    pack.read_exact(&mut head).map_err(broken)?;
    let [version, objects] = [4, 8].map(|at| {
        let word = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        u32::from_be_bytes(word)
    });
    if &head[..4] != b"PACK" || version != 2 {
        return Err(bad("it holds no pack of version 2"));
    }
    if objects > MAX_OBJECTS {
        return Err(bad(&format!(
            "it holds {objects} objects, and {MAX_OBJECTS} are the most that are read"
        )));
    }
    for _ in 0..objects {
        control.check().map_err(StoresError::stopped("checking the git history"))?;
        entry(&mut pack, max_object_bytes)?;
    }
    let mut trailer = Vec::new();
    pack.take(TRAILER_BYTES + 1).read_to_end(&mut trailer).map_err(broken)?;
    match trailer.len() as u64 == TRAILER_BYTES {
        true => Ok(objects),
        false => Err(bad("its pack is cut off or goes on after its end")),
    }
}

fn entry(pack: &mut impl BufRead, limit: u64) -> Result<(), StoresError> {
    let (kind, size) = entry_head(pack)?;
    check_size(size, limit)?;
    let is_delta = match kind {
        1..=4 => false,
        6 => {
            // The base's distance: as many bytes as have the top bit set, and one more.
            while byte(pack)? & 0x80 != 0 {}
            true
        }
        7 => {
            let skipped = io::copy(&mut pack.take(RAW_OID_BYTES), &mut io::sink());
            if skipped.map_err(broken)? != RAW_OID_BYTES {
                return Err(bad("its pack is cut off"));
            }
            true
        }
        _ => return Err(bad("its pack holds an object of no known type")),
    };
    let mut content = ZlibDecoder::new(pack);
    let mut inflated = 0;
    if is_delta {
        check_size(size, limit.min(MAX_DELTA_BYTES))?;
        let mut counted = Counted { inner: &mut content, bytes: 0 };
        // The base's size, then the result's.
        check_size(varint(&mut counted)?, limit)?;
        check_size(varint(&mut counted)?, limit)?;
        inflated = counted.bytes;
    }
    // One byte past the declared size is enough to know.
    let more = size.saturating_sub(inflated) + 1;
    inflated += io::copy(&mut content.by_ref().take(more), &mut io::sink()).map_err(broken)?;
    match inflated == size {
        true => Ok(()),
        false => Err(bad("its pack holds an object of another length than it says")),
    }
}

/// Type and size: three and four bits in the first byte, seven in each that follows.
fn entry_head(pack: &mut impl Read) -> Result<(u8, u64), StoresError> {
    let first = byte(pack)?;
    let low = u64::from(first & 0x0f);
    let size = match first & 0x80 {
        0 => low,
        _ => varint(pack)?
            .checked_mul(16)
            .and_then(|high| high.checked_add(low))
            .ok_or_else(|| bad("its pack holds an impossible size"))?,
    };
    Ok(((first >> 4) & 7, size))
}

/// Seven bits a byte, low ones first.
fn varint(from: &mut impl Read) -> Result<u64, StoresError> {
    let mut value = 0;
    for shift in (0..56).step_by(7) {
        let byte = byte(from)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(bad("its pack holds an impossible size"))
}

fn byte(from: &mut impl Read) -> Result<u8, StoresError> {
    let mut byte = [0];
    from.read_exact(&mut byte).map_err(broken)?;
    Ok(byte[0])
}

fn check_size(size: u64, limit: u64) -> Result<(), StoresError> {
    if size <= limit {
        return Ok(());
    }
    Err(StoresError::GitObjectTooLarge { oid: "in the bundle".to_owned(), size, limit })
}

fn broken(e: io::Error) -> StoresError {
    bad(&format!("its pack cannot be read: {e}"))
}

fn bad(why: &str) -> StoresError {
    StoresError::GitBundle { why: why.to_owned() }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(out)?;
        self.bytes += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use proptest::prelude::*;

    use super::*;

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn pack_of(entry: &[u8]) -> Vec<u8> {
        let head = [&b"PACK"[..], &[0, 0, 0, 2], &[0, 0, 0, 1]].concat();
        [&head[..], entry, &[0; 20]].concat()
    }

    fn checked(pack: &[u8], limit: u64) -> Result<u32, StoresError> {
        check(&mut &*pack, limit, &Control::default())
    }

    #[test]
    fn sizes_hold_at_the_limit_and_not_past_it() {
        // A blob of 10 bytes.
        let pack = pack_of(&[&[0x3a][..], &deflated(&[7; 10])].concat());
        assert_eq!(checked(&pack, 10).unwrap(), 1);
        assert!(matches!(checked(&pack, 9), Err(StoresError::GitObjectTooLarge { size: 10, .. })));
    }

    /// Would catch: a pack of so many objects that indexing it takes gigabytes, refused at the limit or taken past it.
    #[test]
    fn objects_hold_at_their_limit_and_not_past_it() {
        let of = |objects: u32| {
            let pack = [&b"PACK"[..], &[0, 0, 0, 2], &objects.to_be_bytes()].concat();
            checked(&pack, 100).unwrap_err().to_string()
        };
        assert!(of(MAX_OBJECTS).contains("cannot be read"), "{}", of(MAX_OBJECTS));
        assert!(of(MAX_OBJECTS + 1).contains("the most that are read"));
    }

    /// Would catch: instructions of any length beside an object at its limit.
    #[test]
    fn a_delta_is_as_long_as_its_limit_and_no_longer() {
        let head = |size: u64| {
            let low = u8::try_from(size & 15).unwrap();
            // Kind 6, with a distance of one byte.
            let mut head = vec![0x80 | 0x60 | low];
            let mut rest = size >> 4;
            while rest > 0x7f {
                head.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                rest >>= 7;
            }
            head.push(u8::try_from(rest).unwrap());
            [head, vec![1], deflated(&[1, 1])].concat()
        };
        let of = |size| checked(&pack_of(&head(size)), u64::MAX);
        assert!(matches!(of(MAX_DELTA_BYTES), Err(StoresError::GitBundle { .. })));
        assert!(matches!(of(MAX_DELTA_BYTES + 1), Err(StoresError::GitObjectTooLarge { .. })));
    }

    /// A delta of a few bytes can stand for gigabytes.
    #[test]
    fn a_delta_counts_with_what_it_makes() {
        // Base of 1 byte, result of 2^34 bytes, made by one copy.
        let delta = [1, 0x80, 0x80, 0x80, 0x80, 0x40, 0x90, 1];
        let entry = [&[0x68][..], &[0x10], &deflated(&delta)].concat();
        let refused = checked(&pack_of(&entry), 1 << 20);
        assert!(
            matches!(refused, Err(StoresError::GitObjectTooLarge { size, .. }) if size > 1 << 30)
        );
    }

    #[test]
    fn lengths_that_lie_and_trailing_bytes_are_refused() {
        let short = pack_of(&[&[0x3b][..], &deflated(&[7; 10])].concat());
        assert!(checked(&short, 100).is_err());
        let long = pack_of(&[&[0x39][..], &deflated(&[7; 10])].concat());
        assert!(checked(&long, 100).is_err());
        let mut more = pack_of(&[&[0x3a][..], &deflated(&[7; 10])].concat());
        more.push(0);
        assert!(checked(&more, 100).is_err());
    }

    proptest! {
        #[test]
        fn no_pack_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let head = [&b"PACK"[..], &[0, 0, 0, 2], &[0, 0, 0, 3]].concat();
            let _ = checked(&[&head[..], &body].concat(), 1 << 16);
        }
    }
}
