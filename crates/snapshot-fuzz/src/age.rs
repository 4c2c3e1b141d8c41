//! Encrypted bundles: any bytes, and files whose seals are right around contents that are not.

use std::sync::LazyLock;

use age_core::primitives::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use sha2::{Digest as _, Sha256};
use snapshot_bundle::{Identities, is_encrypted, wants_passphrase};
use snapshot_core::Secret;

use crate::bundle::judge_with;
use crate::input::{Input, overwrite};
use crate::parts::{Item, build, noise};
use crate::scratch::file_of;

/// Of the format's public test vectors: the file key, an identity, and the stanza that wraps the one for
/// the other.
const FILE_KEY: &[u8; 16] = b"YELLOW SUBMARINE";
const IDENTITY: &str = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
const STANZA: &str = "-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\n\
    hjabGXwSLQ9c3S6Lw2i+S2Tu2fiwQHHslbBN6B41FLE\n";
const VERSION: &str = "age-encryption.org/v1\n";
/// Bytes of a chunk before it is sealed.
const CHUNK: usize = 64 << 10;
/// Larger work factors are refused or take a second each.
const MAX_WORK_FACTOR: u32 = 10;

/// A bundle of three chunks.
static TEMPLATE: LazyLock<Vec<u8>> =
    LazyLock::new(|| build(&[Item::file("a", noise(2 * CHUNK, 5)), Item::file("b", "b")]).bytes());

/// A file that may be encrypted: the bytes as they are, or a header and chunks made of them.
pub(crate) fn age_envelope(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => open(input.rest()),
        1 => {
            let header = header(&mut input);
            open(&[header, sealed(&TEMPLATE, &[])].concat());
        }
        _ => {
            let mut plain = TEMPLATE.clone();
            let at = input.below(plain.len());
            overwrite(&mut plain, at, input.bytes());
            let header = with_mac(&format!("{VERSION}{STANZA}---"));
            let changes: Vec<(u8, u8)> =
                input.rest().chunks(2).map(|two| (two[0], *two.last().unwrap_or(&0))).collect();
            open(&[header, sealed(&plain, &changes)].concat());
        }
    }
}

fn open(bytes: &[u8]) {
    let file = file_of(bytes);
    let is_sealed = is_encrypted(&file).expect("a file that can be read");
    let by_passphrase = wants_passphrase(&file).expect("a file that can be read");
    assert!(is_sealed || !by_passphrase);
    let identity = Identities::parse(IDENTITY).expect("an identity");
    judge_with(bytes, &identity);
    judge_with(bytes, &Identities::default());
    if work_factor(bytes).is_some_and(|factor| factor <= MAX_WORK_FACTOR) {
        judge_with(bytes, &Identities::passphrase(Secret::new("password".to_owned())));
    }
}

/// The work factor in the first line that tells one.
fn work_factor(bytes: &[u8]) -> Option<u32> {
    let line = bytes.split(|&byte| byte == b'\n').find(|line| line.starts_with(b"-> scrypt "))?;
    let text = std::str::from_utf8(line).ok()?;
    text.rsplit(' ').next()?.parse().ok()
}

/// A header of stanzas, ours maybe among them, whose seal is right.
fn header(input: &mut Input<'_>) -> Vec<u8> {
    let mut text = VERSION.to_owned();
    let mut count = 0;
    while !input.is_empty() && count < 80 {
        count += 1;
        match input.byte() % 6 {
            0 | 1 => text.push_str(STANZA),
            2 => text.push_str(&String::from_utf8_lossy(input.bytes())),
            3 => {
                let name = STANDARD_NO_PAD.encode(input.bytes());
                text.push_str(&format!("-> {name}\n\n"));
            }
            4 => {
                let mut stanza = STANZA.as_bytes().to_vec();
                let at = input.below(stanza.len());
                overwrite(&mut stanza, at, input.bytes());
                text.push_str(&String::from_utf8_lossy(&stanza));
            }
            _ => {
                let body = STANDARD_NO_PAD.encode(input.bytes().repeat(40));
                let lines: Vec<_> =
                    body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
                text.push_str(&format!("-> x\n{}\n", lines.join("\n")));
            }
        }
    }
    with_mac(&format!("{text}---"))
}

/// A header with its seal: an HMAC by a key that comes from the file key.
fn with_mac(text: &str) -> Vec<u8> {
    let key = hkdf(&[], b"header", FILE_KEY);
    let keyed = |pad: u8| {
        let mut block = [pad; 64];
        key.iter().zip(&mut block).for_each(|(key, block)| *block ^= key);
        block
    };
    let inner = Sha256::new().chain_update(keyed(0x36)).chain_update(text).finalize();
    let mac = Sha256::new().chain_update(keyed(0x5c)).chain_update(inner).finalize();
    format!("{text} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes()
}

/// The nonce and the chunks of `plain`, some of them changed: what is done, and to which of them.
fn sealed(plain: &[u8], changes: &[(u8, u8)]) -> Vec<u8> {
    let nonce = [7; 16];
    let key = hkdf(&nonce, b"payload", FILE_KEY);
    let cipher = ChaCha20Poly1305::new(&key.into());
    let seal = |number: usize, is_last: bool, chunk: &[u8]| {
        let mut nonce = [0; 12];
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        nonce[7..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(is_last);
        cipher.encrypt(Nonce::from_slice(&nonce), chunk).expect("a sealed chunk")
    };
    let parts: Vec<&[u8]> = plain.chunks(CHUNK).collect();
    let last = parts.len() - 1;
    let mut chunks: Vec<Vec<u8>> =
        parts.iter().enumerate().map(|(n, part)| seal(n, n == last, part)).collect();
    for &(what, which) in changes.iter().take(16) {
        let at = usize::from(which) % chunks.len();
        match what % 7 {
            0 => chunks[at] = seal(at, true, parts[at % parts.len()]),
            1 => chunks[at] = seal(at, false, parts[at % parts.len()]),
            2 => {
                let with = chunks.len() - 1;
                chunks.swap(at, with);
            }
            3 => chunks.push(chunks[at].clone()),
            4 => chunks[at].truncate(usize::from(what) * 300),
            5 => chunks.push(seal(chunks.len(), true, &[])),
            _ if chunks.len() > 1 => drop(chunks.remove(at)),
            _ => chunks[at][0] ^= 1,
        }
    }
    [nonce.to_vec(), chunks.concat()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: seals of ours that are wrong, so that no reader ever looks behind them.
    #[test]
    fn what_is_sealed_here_is_opened_and_a_chunk_too_few_is_not() {
        let identity = Identities::parse(IDENTITY).unwrap();
        let whole = |changes: &[(u8, u8)]| {
            let header = with_mac(&format!("{VERSION}{STANZA}---"));
            judge_with(&[header, sealed(&TEMPLATE, changes)].concat(), &identity)
        };
        assert!(whole(&[]) && !whole(&[(6, 0)]) && !whole(&[(2, 0)]));
    }
}
