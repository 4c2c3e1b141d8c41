//! Keys of mutation events: whole up to a limit, beyond it a beginning and a digest.
//!
//! Invariant: a key takes bounded memory however long what it names is, and two keys that differ
//! still do when shortened.

use sha2::{Digest, Sha256};
use snapshot_core::Sha256Digest;

/// Bytes of a key that is told whole. A longer one is told as its first 1024 bytes (less what would
/// cut a character), `#` and the 64 hexadecimal digits of its SHA-256: more than this many bytes, so
/// that it is nobody's whole key.
pub const MAX_KEY_BYTES: usize = 1024;

/// A key that is written piece by piece.
#[derive(Debug, Default)]
pub(crate) struct KeyWriter {
    text: String,
    /// Over all of it, once it is too long.
    digest: Option<Sha256>,
}

impl KeyWriter {
    pub(crate) fn push(&mut self, piece: &str) {
        if let Some(digest) = &mut self.digest {
            digest.update(piece);
        } else if self.text.len() + piece.len() <= MAX_KEY_BYTES {
            self.text.push_str(piece);
        } else {
            self.digest = Some(Sha256::new().chain_update(&self.text).chain_update(piece));
            let room = MAX_KEY_BYTES - self.text.len();
            self.text.push_str(&piece[..piece.floor_char_boundary(room)]);
        }
    }

    pub(crate) fn finish(self) -> String {
        match self.digest {
            None => self.text,
            Some(digest) => {
                let digest = Sha256Digest::from_bytes(digest.finalize().into());
                format!("{}#{digest}", self.text)
            }
        }
    }
}

/// The key as it is told.
pub(crate) fn bounded(key: &str) -> String {
    let mut writer = KeyWriter::default();
    writer.push(key);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a key at the limit that is shortened, one past it that is not, a cut character,
    /// or a key whose form depends on the pieces that it came in.
    #[test]
    fn keys_are_whole_up_to_the_limit_and_shortened_past_it() {
        let at = "a".repeat(MAX_KEY_BYTES);
        assert_eq!(bounded(&at), at);
        for past in [format!("{at}b"), format!("{}é", &at[1..]), format!("{at}{at}é")] {
            let shortened = bounded(&past);
            let (begins, digest) = shortened.rsplit_once('#').unwrap();
            assert!(past.starts_with(begins) && begins.len() >= MAX_KEY_BYTES - 3);
            assert_eq!(digest, Sha256Digest::of(past.as_bytes()).to_string());
            assert!(shortened.len() > MAX_KEY_BYTES);
            let mut writer = KeyWriter::default();
            past.split_inclusive(['b', 'é']).for_each(|piece| writer.push(piece));
            assert_eq!(writer.finish(), shortened);
        }
    }
}
