//! Who can read an encrypted bundle: recipients, identities, passphrases.
//!
//! Invariants: what is secret here wipes itself when dropped and shows nothing in `Debug`; no error quotes
//! a line that may hold a secret.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use age::{Recipient, x25519};
use snapshot_core::{EncryptionInfo, EncryptionKey, ErrorKind, Secret};

/// Most recipients of one bundle: its summary lists them in at most 4096 bytes.
pub const MAX_RECIPIENTS: usize = 64;
/// Binary logarithm of scrypt's work factor, for writing, and at most for reading: that of the usual `age`,
/// 256 MiB of memory and about a second. What asks for more could ask for any amount.
pub(crate) const WORK_FACTOR: u8 = 18;
/// [`EncryptionInfo::scheme`] of bundles for recipients.
pub(crate) const SCHEME_X25519: &str = "age-x25519";
/// [`EncryptionInfo::scheme`] of bundles with a passphrase.
pub(crate) const SCHEME_PASSPHRASE: &str = "age-scrypt";

/// Length of a fingerprint: the last characters of a recipient, so that people can compare them by eye.
/// 0.1.x took 8, which somebody could aim for.
const FINGERPRINT_CHARS: usize = 16;
/// What may stand before a recipient, as 0.1.x has it.
const SCHEME_PREFIX: &str = "age:";

/// For whom a bundle is encrypted: age recipients, or a passphrase, which age does not mix.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipients(For);

#[derive(Clone, PartialEq, Eq)]
enum For {
    Keys(Vec<x25519::Recipient>),
    Passphrase(Secret),
}

/// What opens encrypted bundles: age identities and passphrases. Empty by default.
#[derive(Clone, Default)]
pub struct Identities {
    keys: Vec<x25519::Identity>,
    passphrases: Vec<Secret>,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nobody could read what is encrypted for nobody.
    #[error("there is no recipient to encrypt for")]
    NoRecipient,
    /// More recipients than [`MAX_RECIPIENTS`].
    #[error("there are more than {MAX_RECIPIENTS} recipients")]
    TooManyRecipients,
    /// A text that is no X25519 recipient.
    #[error("{} is no age recipient: {why}", shown(text))]
    Recipient {
        /// The text; empty where it must not be shown.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A passphrase of no characters.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A line of an identity file that is no X25519 identity.
    #[error("line {line} is no age identity (AGE-SECRET-KEY-1...)")]
    Identity {
        /// The line, from 1.
        line: usize,
    },
    /// An identity file without an identity.
    #[error("there is no age identity in it")]
    NoIdentity,
    /// A text that is no minisign key.
    #[error("it is no minisign {what} key: {why}")]
    Minisign {
        /// `public` or `secret`.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

impl Recipients {
    /// The recipients of these texts, `age1...`, with or without `age:` before them; one that is named twice
    /// counts once.
    ///
    /// # Errors
    /// [`KeyError`] for none, too many, or a text that is none.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, KeyError> {
        let mut keys: Vec<x25519::Recipient> = Vec::new();
        for text in texts {
            let key = recipient(text)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
            if keys.len() > MAX_RECIPIENTS {
                return Err(KeyError::TooManyRecipients);
            }
        }
        match keys.is_empty() {
            true => Err(KeyError::NoRecipient),
            false => Ok(Self(For::Keys(keys))),
        }
    }

    /// The recipients of a file: one a line; blank lines and those that begin with `#` count for nothing.
    ///
    /// # Errors
    /// As [`Recipients::parse`].
    pub fn parse_file(text: &str) -> Result<Self, KeyError> {
        Self::parse(lines(text).map(|(_, line)| line))
    }

    /// Whoever knows `passphrase`.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`].
    pub fn passphrase(passphrase: Secret) -> Result<Self, KeyError> {
        match passphrase.expose().is_empty() {
            true => Err(KeyError::EmptyPassphrase),
            false => Ok(Self(For::Passphrase(passphrase))),
        }
    }

    /// Those of a request.
    ///
    /// # Errors
    /// As the other constructors.
    pub fn of(key: &EncryptionKey) -> Result<Self, KeyError> {
        match key {
            EncryptionKey::AgePublicKey(text) => Self::parse([text.as_str()]),
            EncryptionKey::AgePublicKeys(texts) => Self::parse(texts.iter().map(String::as_str)),
            EncryptionKey::Passphrase(secret) => Self::passphrase(secret.clone()),
            _ => Err(KeyError::NoRecipient),
        }
    }

    /// Their texts, `age1...`; none of a passphrase.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match &self.0 {
            For::Keys(keys) => keys.iter().map(ToString::to_string).collect(),
            For::Passphrase(_) => Vec::new(),
        }
    }

    /// What a summary says of them.
    #[must_use]
    pub fn info(&self) -> EncryptionInfo {
        match &self.0 {
            For::Keys(keys) => EncryptionInfo {
                scheme: SCHEME_X25519.to_owned(),
                recipients_fingerprint: keys.iter().map(fingerprint).collect(),
            },
            For::Passphrase(_) => EncryptionInfo {
                scheme: SCHEME_PASSPHRASE.to_owned(),
                recipients_fingerprint: Vec::new(),
            },
        }
    }

    /// As age takes them.
    pub(crate) fn for_age(&self) -> Vec<Box<dyn Recipient>> {
        match &self.0 {
            For::Keys(keys) => keys.iter().map(|key| Box::new(key.clone()) as _).collect(),
            For::Passphrase(passphrase) => {
                let mut recipient = age::scrypt::Recipient::new(secret_string(passphrase));
                recipient.set_work_factor(WORK_FACTOR);
                vec![Box::new(recipient)]
            }
        }
    }
}

impl Identities {
    /// The identities of a file as `age-keygen` writes it: one a line; blank lines and those that begin with
    /// `#` count for nothing.
    ///
    /// # Errors
    /// [`KeyError::Identity`] names the line, never what it holds; [`KeyError::NoIdentity`] for none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (line, text) in lines(text) {
            keys.push(x25519::Identity::from_str(text).map_err(|_| KeyError::Identity { line })?);
        }
        match keys.is_empty() {
            true => Err(KeyError::NoIdentity),
            false => Ok(Self { keys, passphrases: Vec::new() }),
        }
    }

    /// A passphrase.
    #[must_use]
    pub fn passphrase(passphrase: Secret) -> Self {
        Self { keys: Vec::new(), passphrases: vec![passphrase] }
    }

    /// Those of both.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.keys.extend(others.keys);
        self.passphrases.extend(others.passphrases);
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.passphrases.is_empty()
    }

    /// Whether there is a passphrase among them.
    #[must_use]
    pub fn has_passphrase(&self) -> bool {
        !self.passphrases.is_empty()
    }

    /// The fingerprints of the recipients whose bundles they open, sorted.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let all: BTreeSet<String> =
            self.keys.iter().map(|key| fingerprint(&key.to_public())).collect();
        all.into_iter().collect()
    }

    /// Those who can open what an identity of these opened, as far as that is known: the recipient of this
    /// fingerprint.
    #[must_use]
    pub fn recipient_of(&self, opened: &EncryptionInfo) -> Option<Recipients> {
        let all = self.keys.iter().map(x25519::Identity::to_public);
        let mut named = all.filter(|key| opened.recipients_fingerprint.contains(&fingerprint(key)));
        named.next().map(|key| Recipients(For::Keys(vec![key])))
    }

    pub(crate) fn keys(&self) -> &[x25519::Identity] {
        &self.keys
    }

    /// As age takes them.
    pub(crate) fn passphrases(&self) -> impl Iterator<Item = age::scrypt::Identity> {
        self.passphrases.iter().map(|passphrase| {
            let mut identity = age::scrypt::Identity::new(secret_string(passphrase));
            identity.set_max_work_factor(WORK_FACTOR);
            identity
        })
    }
}

impl KeyError {
    /// What a caller can act on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRandomness => ErrorKind::Io,
            _ => ErrorKind::Usage,
        }
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipients").field(&self.info()).finish()
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("keys", &self.keys.len())
            .field("passphrases", &self.passphrases.len())
            .finish()
    }
}

/// A new identity: a file for its holder alone, as `age-keygen` writes it, and its recipient.
#[must_use]
pub fn generate_identity() -> (Secret, String) {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let file = format!("# public key: {recipient}\n{}\n", secret.expose_secret());
    (Secret::new(file), recipient)
}

/// What a summary calls a recipient.
pub(crate) fn fingerprint(recipient: &x25519::Recipient) -> String {
    let text = recipient.to_string();
    // Bech32 is ASCII.
    text[text.len().saturating_sub(FINGERPRINT_CHARS)..].to_owned()
}

fn recipient(text: &str) -> Result<x25519::Recipient, KeyError> {
    let text = text.trim();
    let text = text.strip_prefix(SCHEME_PREFIX).unwrap_or(text);
    let bad = |text: &str, why| {
        // Enough to find it by, and no more than a recipient is long.
        Err(KeyError::Recipient { text: text.chars().take(80).collect(), why })
    };
    match x25519::Recipient::from_str(text) {
        Ok(recipient) => Ok(recipient),
        Err(_) if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") => bad(
            "",
            "it is an identity, which is its holder's alone; the recipient begins with age1",
        ),
        Err(_) if text.starts_with("ssh-") => bad(text, "ssh keys are not supported"),
        Err(_) if text.starts_with("age1") && text.matches('1').count() > 1 => {
            bad(text, "it is of a plugin, or mistyped; only X25519 recipients are supported")
        }
        Err(_) => bad(text, "expected age1 and 58 characters more; one of them may be mistyped"),
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "what was given" } else { text }
}

fn secret_string(secret: &Secret) -> SecretString {
    SecretString::from(secret.expose().to_owned())
}

/// The lines that count, with their numbers from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a duplicate that takes a place, none or too many taken, a fingerprint that people do not
    /// find in their recipient.
    #[test]
    fn recipients_are_folded_and_limited() {
        let all: Vec<String> = (0..=MAX_RECIPIENTS).map(|_| generate_identity().1).collect();
        let first = all[0].as_str();
        let twice = Recipients::parse([first, &format!("age:{first}"), &format!(" {first} ")]);
        let info = twice.unwrap().info();
        assert_eq!(info.scheme, "age-x25519");
        assert_eq!(info.recipients_fingerprint, [&first[first.len() - 16..]]);
        assert_eq!(Recipients::parse([]), Err(KeyError::NoRecipient));
        let texts = || all.iter().map(String::as_str);
        assert_eq!(Recipients::parse(texts()), Err(KeyError::TooManyRecipients));
        assert!(Recipients::parse(texts().take(MAX_RECIPIENTS)).is_ok());
        let file = format!("# team\n\n{first}\n  # more\n{}\n", all[1]);
        assert_eq!(Recipients::parse_file(&file).unwrap().info().recipients_fingerprint.len(), 2);
        assert_eq!(Recipients::parse_file("# nobody\n"), Err(KeyError::NoRecipient));
        let empty = Recipients::passphrase(Secret::new(String::new()));
        assert_eq!(empty, Err(KeyError::EmptyPassphrase));
    }

    /// Would catch: a secret key that is taken for a recipient's typing error, and quoted.
    #[test]
    fn no_error_and_no_debug_shows_a_secret() {
        let (file, recipient) = generate_identity();
        let line = file.expose().lines().last().unwrap();
        let data = &line["AGE-SECRET-KEY-1".len()..];
        for text in [line.to_owned(), line.to_lowercase(), format!("age:{line}")] {
            let error = Recipients::parse([text.as_str()]).unwrap_err();
            assert!(error.to_string().contains("its holder's alone"), "{error}");
            assert!(!format!("{error:?}{error}").to_uppercase().contains(data), "{error:?}");
        }
        let other = if line.ends_with('X') { 'Q' } else { 'X' };
        let mistyped = format!("# key\n{}{other}\n", &line[..line.len() - 1]);
        let error = Identities::parse(&mistyped).unwrap_err();
        assert_eq!(error, KeyError::Identity { line: 2 });
        let identities = Identities::parse(file.expose()).unwrap();
        let identities = identities.and(Identities::passphrase(Secret::new("hunter2".into())));
        let shown = format!("{identities:?} {file:?}");
        assert!(!shown.contains(data) && !shown.contains("hunter2"), "{shown}");
        assert_eq!(identities.fingerprints(), [&recipient[recipient.len() - 16..]]);
        for bad in ["age1", "ssh-ed25519 AAAA", "age1yubikey1qqqq", "hello", ""] {
            assert!(Recipients::parse([bad]).is_err(), "{bad}");
        }
        assert_eq!(Identities::parse("# none\n").unwrap_err(), KeyError::NoIdentity);
    }
}
