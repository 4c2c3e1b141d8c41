//! Signatures: Ed25519 in the file formats of minisign (<https://jedisct1.github.io/minisign/>), so that
//! the stock tool verifies the manifest that `tar` extracted.
//!
//! Invariants: a signing key wipes itself when dropped and shows nothing in `Debug`; signing the same bytes
//! gives the same signature; what is verified is the exact bytes, with the strict rules of RFC 8032 that
//! leave no second form of a signature.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use blake2::digest::{Digest, Update, VariableOutput};
use blake2::{Blake2b512, Blake2bVar};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use snapshot_core::mutants::holds;
use snapshot_core::{
    AgentId, Attestation, CreatedBy, Manifest, Secret, SignatureReport, SignatureStatus,
    SnapshotId, SnapshotMeta, Tenant,
};
use zeroize::Zeroizing;

use crate::keys::KeyError;

/// Longest signature file in a bundle, in bytes: the usual one has about 320.
pub(crate) const MAX_SIGNATURE_BYTES: usize = 1024;

/// Algorithm of keys.
const ED: [u8; 2] = *b"Ed";
/// Algorithm of signatures over the BLAKE2b-512 of a file; those over the file itself are of old versions.
const ED_PREHASHED: [u8; 2] = *b"ED";
/// Key derivation of a secret key without a password.
const KDF_NONE: [u8; 2] = [0; 2];
/// Checksum algorithm of a secret key.
const B2: [u8; 2] = *b"B2";
/// Bytes of a secret key before the key's number: algorithms, salt and limits of the key derivation.
const SECRET_HEAD: usize = 2 + 2 + 2 + 32 + 8 + 8;
/// Bytes of a secret key: the above, number, seed and public key, checksum.
const SECRET_BYTES: usize = SECRET_HEAD + 8 + 64 + 32;
/// What an attestation's message begins with: a signature over it is never one over something else.
const ATTESTATION_TAG: &[u8] = b"nexo-memory-snapshot attestation v1\0";

const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// A key that signs, as minisign keeps it.
pub struct SigningKey {
    number: [u8; 8],
    key: ed25519_dalek::SigningKey,
}

/// A key that verifies, as minisign shows it: `RW` and 54 characters more.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    number: [u8; 8],
    key: VerifyingKey,
}

/// Whose signatures count, and whether there must be one. By default nobody's, and none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The keys whose signatures count.
    pub keys: Vec<PublicKey>,
    /// Whether what they did not sign is refused.
    pub required: bool,
}

/// What a signature file says, not yet believed.
struct SignatureFile {
    number: [u8; 8],
    signature: Signature,
    trusted_comment: String,
    global: Signature,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let (mut seed, mut number) = (Zeroizing::new([0; 32]), [0; 8]);
        getrandom::fill(&mut *seed)
            .and_then(|()| getrandom::fill(&mut number))
            .map_err(|_| KeyError::NoRandomness)?;
        Ok(Self { number, key: ed25519_dalek::SigningKey::from_bytes(&seed) })
    }

    /// Reads a secret key file that minisign wrote without a password (`minisign -G -W`).
    ///
    /// # Errors
    /// [`KeyError::Minisign`], which never quotes the file.
    pub fn parse(file: &str) -> Result<Self, KeyError> {
        let bad = |why| KeyError::Minisign { what: "secret", why };
        let line = file.lines().map(str::trim).find(|line| is_key_line(line));
        let line = line.ok_or(bad("it has no line with a key"))?;
        let bytes = Zeroizing::new(BASE64.decode(line).map_err(|_| bad("it is not base64"))?);
        if bytes.len() != SECRET_BYTES || bytes[..2] != ED || bytes[4..6] != B2 {
            return Err(bad("it has another length or algorithm"));
        }
        if bytes[2..4] != KDF_NONE {
            return Err(bad(
                "it has a password, which a program that signs by itself cannot ask for",
            ));
        }
        let (number, pair) = bytes[SECRET_HEAD..].split_at(8);
        let pair: Zeroizing<[u8; 64]> =
            Zeroizing::new(pair[..64].try_into().map_err(|_| bad("it is too short"))?);
        let key = ed25519_dalek::SigningKey::from_keypair_bytes(&pair);
        let key = key.map_err(|_| bad("its two halves do not belong together"))?;
        Ok(Self { number: number.try_into().map_err(|_| bad("it is too short"))?, key })
    }

    /// The file that [`SigningKey::parse`] and minisign read.
    #[must_use]
    pub fn to_file(&self) -> Secret {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES));
        bytes.extend_from_slice(&[ED, KDF_NONE, B2].concat());
        bytes.resize(SECRET_HEAD, 0);
        bytes.extend_from_slice(&self.number);
        let pair = Zeroizing::new(self.key.to_keypair_bytes());
        bytes.extend_from_slice(&*pair);
        let mut checksum = [0; 32];
        if let Ok(mut hasher) = Blake2bVar::new(checksum.len()) {
            hasher.update(&ED);
            hasher.update(&bytes[SECRET_HEAD..]);
            // The output has the length that was asked for.
            let _ = hasher.finalize_variable(&mut checksum);
        }
        bytes.extend_from_slice(&checksum);
        let encoded = Zeroizing::new(BASE64.encode(&*bytes));
        Secret::new(format!("{UNTRUSTED}minisign secret key\n{}\n", *encoded))
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { number: self.number, key: self.key.verifying_key() }
    }

    /// Attests a snapshot; see [`Attestation`].
    #[must_use]
    pub fn attest(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        id: SnapshotId,
        created_at_ms: i64,
        created_by: &CreatedBy,
    ) -> Attestation {
        let message = attested(tenant, agent, id, created_at_ms, created_by);
        let signature = self.key.sign(&message);
        Attestation { key_id: key_id(&self.number), signature: BASE64.encode(signature.to_bytes()) }
    }

    /// The signature file over the exact bytes of a manifest.
    pub(crate) fn sign(&self, manifest: &Manifest, bytes: &[u8]) -> String {
        let signature = self.key.sign(&Blake2b512::digest(bytes)).to_bytes();
        let comment = format!(
            "nexo-memory-snapshot {}/{}/{} {}",
            manifest.tenant, manifest.agent_id, manifest.snapshot_id, manifest.created_at_ms
        );
        let global = self.key.sign(&[&signature, comment.as_bytes()].concat());
        let signed = [&ED_PREHASHED[..], &self.number, &signature].concat();
        format!(
            "{UNTRUSTED}verify manifest.json with minisign -V\n{}\n{TRUSTED}{comment}\n{}\n",
            BASE64.encode(signed),
            BASE64.encode(global.to_bytes())
        )
    }
}

impl PublicKey {
    /// As minisign names it: 16 upper-case hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        key_id(&self.number)
    }

    /// The file that minisign reads with `-p`.
    #[must_use]
    pub fn to_file(&self) -> String {
        format!("{UNTRUSTED}minisign public key {}\n{self}\n", self.id())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads the key alone, or the file that holds it.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bad = |why| KeyError::Minisign { what: "public", why };
        let line = text.lines().map(str::trim).find(|line| is_key_line(line));
        let line = line.ok_or(bad("expected RW and 54 characters more"))?;
        let bytes = BASE64.decode(line).map_err(|_| bad("it is not base64"))?;
        let bytes: [u8; 42] =
            bytes.try_into().map_err(|_| bad("expected RW and 54 characters more"))?;
        let [e, d, n0, n1, n2, n3, n4, n5, n6, n7, key @ ..] = bytes;
        if [e, d] != ED {
            return Err(bad("it has another algorithm"));
        }
        let key = VerifyingKey::from_bytes(&key).map_err(|_| bad("it is no point of the curve"))?;
        if key.is_weak() {
            return Err(bad("it is a weak key, for which anybody can make signatures"));
        }
        Ok(Self { number: [n0, n1, n2, n3, n4, n5, n6, n7], key })
    }
}

impl Trust {
    /// Whether a trusted key attests the snapshot of this summary.
    #[must_use]
    pub fn attests(&self, meta: &SnapshotMeta) -> bool {
        let Some(attestation) = &meta.attestation else { return false };
        let created_by =
            meta.created_by.clone().unwrap_or_else(|| CreatedBy::from_static("unknown"));
        let message =
            attested(&meta.tenant, &meta.agent_id, meta.id, meta.created_at_ms, &created_by);
        let Some(signature) = signature(&attestation.signature) else { return false };
        let signed = |key: &PublicKey| holds(key.key.verify_strict(&message, &signature).is_ok());
        self.keys.iter().filter(|key| key.id() == attestation.key_id).any(signed)
    }

    /// What a signature file over the exact bytes of a manifest is worth; none where it is no such file.
    pub(crate) fn judge(&self, manifest: &[u8], file: &[u8]) -> Option<SignatureReport> {
        let file = SignatureFile::parse(file)?;
        let key_id = key_id(&file.number);
        let mut named = self.keys.iter().filter(|key| key.number == file.number).peekable();
        if named.peek().is_none() {
            return Some(SignatureReport { key_id, status: SignatureStatus::UnknownKey });
        }
        let digest = Blake2b512::digest(manifest);
        let global = [&file.signature.to_bytes(), file.trusted_comment.as_bytes()].concat();
        let status = match named.any(|key| {
            holds(key.key.verify_strict(&digest, &file.signature).is_ok())
                && holds(key.key.verify_strict(&global, &file.global).is_ok())
        }) {
            true => SignatureStatus::Trusted,
            false => SignatureStatus::Forged,
        };
        Some(SignatureReport { key_id, status })
    }

    /// Why something with this signature is refused, where it is.
    #[must_use]
    pub fn refusal(&self, signature: Option<&SignatureReport>) -> Option<String> {
        let required = "a signature is required";
        match signature.map(|report| (report.status, &report.key_id)) {
            _ if holds(!self.required) => None,
            Some((SignatureStatus::Trusted, _)) => None,
            Some((_, key_id)) => {
                Some(format!("{required}, and {key_id}, whose it says it has, is not trusted"))
            }
            None => Some(format!("{required}, and it has none")),
        }
    }
}

impl SignatureFile {
    /// Four lines: a comment, the signature, a comment that is signed too, the signature over both.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        lines.next()?.strip_prefix(UNTRUSTED)?;
        let signed: [u8; 74] = BASE64.decode(lines.next()?).ok()?.try_into().ok()?;
        let trusted_comment = lines.next()?.strip_prefix(TRUSTED)?.to_owned();
        let global = signature(lines.next()?)?;
        let [e, d, n0, n1, n2, n3, n4, n5, n6, n7, signature @ ..] = signed;
        let whole = lines.next().is_none() && [e, d] == ED_PREHASHED;
        whole.then(|| Self {
            number: [n0, n1, n2, n3, n4, n5, n6, n7],
            signature: Signature::from_bytes(&signature),
            trusted_comment,
            global,
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode([&ED[..], &self.number, self.key.as_bytes()].concat()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &key_id(&self.number)).finish_non_exhaustive()
    }
}

/// Whether these bytes are a signature file.
pub(crate) fn is_signature(bytes: &[u8]) -> bool {
    SignatureFile::parse(bytes).is_some()
}

/// What an attestation is over. No part of it can hold a NUL.
fn attested(
    tenant: &Tenant,
    agent: &AgentId,
    id: SnapshotId,
    created_at_ms: i64,
    created_by: &CreatedBy,
) -> Vec<u8> {
    let text = format!("{tenant}\0{agent}\0{id}\0{created_at_ms}\0{created_by}");
    [ATTESTATION_TAG, text.as_bytes()].concat()
}

fn signature(text: &str) -> Option<Signature> {
    let bytes: [u8; 64] = BASE64.decode(text).ok()?.try_into().ok()?;
    Some(Signature::from_bytes(&bytes))
}

/// minisign shows a key's number as one of 64 bits, of which the bytes lie the other way round.
fn key_id(number: &[u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(*number))
}

fn is_key_line(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(UNTRUSTED.trim_end())
}
