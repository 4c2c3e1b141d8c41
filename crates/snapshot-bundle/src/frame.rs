//! One zstd frame: making it, and opening one that may be crafted.
//!
//! Invariant: a frame that opened is exactly one zstd frame, states its content's size and carries
//! a checksum of it, needs no dictionary, no window over the limit and no more than
//! [`FRAME_BYTES`] of memory.

use snapshot_core::mutants::holds;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound, find_frame_compressed_size};

use crate::format::{FRAME_BYTES, MAX_WINDOW_BYTES, ZSTD_MAGIC};

/// Makes frames.
pub(crate) struct Encoder(Compressor<'static>);

/// Opens frames.
#[derive(Default)]
pub(crate) struct Decoder(Decompressor<'static>);

/// What the header of a frame says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    content_bytes: u64,
    window_bytes: u64,
}

impl Encoder {
    pub(crate) fn new(level: i32) -> Result<Self, String> {
        let mut compressor = Compressor::new(level).map_err(|e| e.to_string())?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(|e| e.to_string())?;
        Ok(Self(compressor))
    }

    /// Replaces `output` by the frame that holds `content`.
    pub(crate) fn encode(&mut self, content: &[u8], output: &mut Vec<u8>) -> Result<(), String> {
        output.clear();
        output.reserve(compress_bound(content.len()));
        self.0.compress_to_buffer(content, output).map(|_| ()).map_err(|e| e.to_string())
    }
}

impl Decoder {
    /// Replaces `output` by the content of `frame`, which must be `expected` bytes.
    pub(crate) fn decode(
        &mut self,
        frame: &[u8],
        expected: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), String> {
        output.clear();
        let header = parse_header(frame)?;
        if header.window_bytes > MAX_WINDOW_BYTES {
            return Err(format!("asks for a window of {} bytes", header.window_bytes));
        }
        if !holds(expected <= FRAME_BYTES && header.content_bytes == expected as u64) {
            return Err(format!(
                "states {} bytes of content where the seek table says {expected}",
                header.content_bytes
            ));
        }
        // zstd would go on with whatever follows the frame; nothing may.
        match find_frame_compressed_size(frame) {
            Ok(size) if holds(size == frame.len()) => {}
            _ => return Err("is not exactly one zstd frame".to_owned()),
        }
        output.reserve(expected);
        let got =
            self.0.decompress_to_buffer(frame, output).map_err(|e| format!("is damaged: {e}"))?;
        if holds(got == expected) { Ok(()) } else { Err("ends early".to_owned()) }
    }
}

/// Largest frame that an encoder can make.
pub(crate) fn max_frame_bytes() -> usize {
    compress_bound(FRAME_BYTES)
}

/// The header of a frame (RFC 8878, 3.1.1), where it is one that we accept.
fn parse_header(frame: &[u8]) -> Result<Header, String> {
    let bad = |why: &str| Err(why.to_owned());
    let Some((magic, rest)) = frame.split_first_chunk::<4>() else {
        return bad("is too short");
    };
    if u32::from_le_bytes(*magic) != ZSTD_MAGIC {
        return bad("is not a zstd frame");
    }
    let Some((&descriptor, rest)) = rest.split_first() else {
        return bad("is too short");
    };
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x18 != 0 {
        return bad("has reserved bits set");
    }
    if descriptor & 0x04 == 0 {
        return bad("has no checksum");
    }
    if descriptor & 0x03 != 0 {
        return bad("asks for a dictionary");
    }
    let (window, rest) = match (single_segment, rest.split_first()) {
        (true, _) => (None, rest),
        (false, Some((&byte, rest))) => (Some(window_bytes(byte)), rest),
        (false, None) => return bad("is too short"),
    };
    let content_bytes = match (descriptor >> 6, single_segment) {
        (0, false) => return bad("does not state its content's size"),
        (0, true) => rest.first().map(|&b| u64::from(b)),
        (1, _) => rest.first_chunk().map(|b| u64::from(u16::from_le_bytes(*b)) + 256),
        (2, _) => rest.first_chunk().map(|b| u64::from(u32::from_le_bytes(*b))),
        (_, _) => rest.first_chunk().map(|b| u64::from_le_bytes(*b)),
    };
    match content_bytes {
        Some(content_bytes) => {
            Ok(Header { content_bytes, window_bytes: window.unwrap_or(content_bytes) })
        }
        None => bad("is too short"),
    }
}

/// The window that a window descriptor stands for.
fn window_bytes(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        Encoder::new(3).unwrap().encode(content, &mut frame).unwrap();
        frame
    }

    fn decode(frame: &[u8], expected: usize) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        Decoder::default().decode(frame, expected, &mut content).map(|()| content)
    }

    /// Catches a reader that lets a frame choose how much memory it takes.
    #[test]
    fn a_window_over_the_limit_is_refused_at_the_limit_plus_one_step() {
        let frame_with_window = |descriptor: u8| {
            // Content size in 4 bytes, checksum, no single segment; one empty last block.
            let mut frame = ZSTD_MAGIC.to_le_bytes().to_vec();
            frame.extend([0x84, descriptor, 0, 0, 0, 0, 1, 0, 0]);
            frame
        };
        let eight_mib = (23 - 10) << 3;
        assert_eq!(window_bytes(eight_mib), MAX_WINDOW_BYTES);
        let parsed = parse_header(&frame_with_window(eight_mib)).unwrap();
        assert_eq!(parsed, Header { content_bytes: 0, window_bytes: MAX_WINDOW_BYTES });
        let refused = decode(&frame_with_window(eight_mib + 1), 0).unwrap_err();
        assert!(refused.contains("window"), "{refused}");
        assert!(decode(&frame_with_window(0xff), 0).unwrap_err().contains("window"));
    }

    /// Catches content smuggled in behind a frame, which zstd itself would decode or skip.
    #[test]
    fn what_follows_a_frame_is_refused() {
        let frame = encode(b"content");
        assert_eq!(decode(&frame, 7).unwrap(), b"content");
        let skippable = [&frame[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat();
        assert!(decode(&skippable, 7).is_err());
        assert!(decode(&[&frame[..], &encode(b"")].concat(), 7).is_err());
        assert!(decode(&[&frame[..], b"x"].concat(), 7).is_err());
    }

    /// Catches a frame without the checksum that names the damaged one.
    #[test]
    fn a_frame_without_checksum_or_with_another_size_is_refused() {
        let mut plain = Vec::with_capacity(1024);
        Compressor::new(3).unwrap().compress_to_buffer(b"content", &mut plain).unwrap();
        assert!(decode(&plain, 7).unwrap_err().contains("checksum"));
        assert!(decode(&encode(b"content"), 8).unwrap_err().contains("seek table"));
        let over = encode(&vec![0; FRAME_BYTES + 1]);
        assert!(decode(&over, FRAME_BYTES + 1).is_err());
        assert_eq!(decode(&encode(&vec![0; FRAME_BYTES]), FRAME_BYTES).unwrap().len(), FRAME_BYTES);
    }

    proptest! {
        #[test]
        fn crafted_frames_fail_without_panic(mut tail in prop::collection::vec(any::<u8>(), 0..64),
                                             expected in 0usize..2048) {
            prop_assert!(decode(&tail, expected).is_err());
            tail.splice(0..0, ZSTD_MAGIC.to_le_bytes());
            let mut out = Vec::new();
            if Decoder::default().decode(&tail, expected, &mut out).is_ok() {
                prop_assert_eq!(out.len(), expected);
            }
        }
    }
}
