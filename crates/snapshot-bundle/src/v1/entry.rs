//! The header blocks of a bundle of 0.1.x: regular files in GNU or ustar form, each with at most one `L` entry
//! before it that holds a long name. Nothing else is an entry.

use crate::format::TAR_BLOCK;
use snapshot_core::mutants::holds;

/// Longest name in an `L` entry, in bytes, and the NUL behind it.
pub(super) const MAX_LONG_NAME_BYTES: u64 = snapshot_core::MAX_PATH_BYTES as u64 + 1;

const GNU: &[u8] = b"ustar  \0";
const USTAR: &[u8] = b"ustar\x0000";
/// Where the checksum lies, which counts as blanks in its own sum.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// What a header block says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The name in the block, with ustar's prefix.
    pub(super) name: Vec<u8>,
    pub(super) size_bytes: u64,
}

/// What follows a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The content of a regular file.
    File,
    /// The name of the entry behind it.
    LongName,
}

impl Header {
    /// Parses a block; the error is what is wrong with it.
    pub(super) fn parse(block: &[u8; TAR_BLOCK]) -> Result<Self, &'static str> {
        if !holds(octal(&block[CHECKSUM]) == Some(checksum(block))) {
            return Err("a header without a right checksum");
        }
        let is_ustar = match &block[257..265] {
            GNU => false,
            USTAR => true,
            _ => return Err("a header that is neither of GNU tar's form nor of ustar's"),
        };
        let kind = match block[156] {
            b'0' | 0 => Kind::File,
            b'L' => Kind::LongName,
            _ => return Err("an entry that is no regular file"),
        };
        if block[157..257].iter().any(|&byte| byte != 0) {
            return Err("a regular file with a link's target");
        }
        let mut name = text(&block[..100]).to_vec();
        match (is_ustar, text(&block[345..500])) {
            (true, b"") => {}
            (true, prefix) => name = [prefix, b"/", &name].concat(),
            // Where ustar has its prefix, GNU tar has what sparse and incremental archives need.
            (false, _) if block[345..].iter().any(|&byte| byte != 0) => {
                return Err("a header of an incremental or sparse archive");
            }
            (false, _) => {}
        }
        let size_bytes = size(&block[124..136]).ok_or("a header without a size")?;
        Ok(Self { kind, name, size_bytes })
    }
}

/// The sum of all bytes, the checksum's own counted as blanks.
fn checksum(block: &[u8; TAR_BLOCK]) -> u64 {
    let counted = |(at, &byte): (usize, &u8)| match CHECKSUM.contains(&at) {
        true => u64::from(b' '),
        false => u64::from(byte),
    };
    block.iter().enumerate().map(counted).sum()
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Octal digits, or, from 8 GiB on, as GNU tar writes it: big-endian behind a byte of 0x80.
fn size(field: &[u8]) -> Option<u64> {
    match field.split_first() {
        Some((0x80, number)) => {
            let (high, low) = number.split_last_chunk()?;
            high.iter().all(|&byte| byte == 0).then(|| u64::from_be_bytes(*low))
        }
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field).trim_ascii();
    let all = digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
    let number = std::str::from_utf8(digits).ok().filter(|_| all && !digits.is_empty())?;
    u64::from_str_radix(number, 8).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header as another implementation writes it.
    fn block(change: impl FnOnce(&mut ::tar::Header)) -> [u8; TAR_BLOCK] {
        let mut header = ::tar::Header::new_gnu();
        header.set_path("memory_files/a.md").unwrap();
        header.set_size(5);
        header.set_mode(0o600);
        change(&mut header);
        header.set_cksum();
        *header.as_bytes()
    }

    /// Would catch: a size from 8 GiB on that is read as another, a name cut off, a prefix lost.
    #[test]
    fn regular_files_are_read_as_others_write_them() {
        let plain = Header::parse(&block(|_| {})).unwrap();
        let name = b"memory_files/a.md".to_vec();
        assert_eq!(plain, Header { kind: Kind::File, name, size_bytes: 5 });
        for size in [0, 1, (8 << 30) - 1, 8 << 30, 1 << 40] {
            assert_eq!(Header::parse(&block(|h| h.set_size(size))).unwrap().size_bytes, size);
        }
        let mut ustar = ::tar::Header::new_ustar();
        let long = format!("{}/{}", "p".repeat(120), "n".repeat(90));
        ustar.set_path(&long).unwrap();
        ustar.set_size(0);
        ustar.set_cksum();
        assert_eq!(Header::parse(ustar.as_bytes()).unwrap().name, long.as_bytes());
        let long_name = block(|h| h.set_entry_type(::tar::EntryType::GNULongName));
        assert_eq!(Header::parse(&long_name).unwrap().kind, Kind::LongName);
    }

    /// Would catch: an entry that a generic unpacker would follow, make or skip: links, folders, devices, PAX,
    /// sparse files, old headers.
    #[test]
    fn whatever_is_no_regular_file_is_refused() {
        for kind in (1..=u8::MAX).filter(|kind| !b"0L".contains(kind)) {
            let odd = block(|h| h.set_entry_type(::tar::EntryType::new(kind)));
            assert_eq!(Header::parse(&odd), Err("an entry that is no regular file"), "{kind}");
        }
        assert!(Header::parse(&block(|h| h.set_link_name("x").unwrap())).is_err());
        assert!(Header::parse(&block(|h| h.as_mut_bytes()[400] = 1)).is_err());
        assert!(Header::parse(&block(|h| h.as_mut_bytes()[257] = b'v')).is_err());
        let mut flipped = block(|_| {});
        flipped[0] ^= 1;
        assert!(Header::parse(&flipped).is_err());
        assert!(Header::parse(&[0; TAR_BLOCK]).is_err());
        assert!(Header::parse(&block(|h| h.as_mut_bytes()[124..136].fill(0xff))).is_err());
    }

    proptest! {
        #[test]
        fn no_block_panics(change in prop::collection::vec((0..TAR_BLOCK, any::<u8>()), 0..40)) {
            let crafted = block(|h| {
                for (at, byte) in &change {
                    h.as_mut_bytes()[*at] = *byte;
                }
            });
            let _ = Header::parse(&crafted);
        }
    }
}
