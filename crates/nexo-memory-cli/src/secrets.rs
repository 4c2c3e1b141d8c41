//! Secrets that a person or the environment gives: identities, passphrases.
//!
//! Invariant: none is taken from an argument, which everybody on the machine can read.

use std::cell::OnceCell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use console::Term;
use nexo_memory_snapshot::keys::{AskPassphrase, EncryptionKey, Recipients, Secret};
use nexo_memory_snapshot::request::{DecryptionIdentity, Encryption};

use crate::args::EncryptArgs;
use crate::exit::Failure;
use crate::output::can_ask;
use crate::settings::Env;

/// Holds age identities, one a line; wins over the configuration.
pub(crate) const IDENTITY: &str = "NEXO_MEMORY_IDENTITY";
/// Holds a passphrase, to encrypt with and to open with.
pub(crate) const PASSPHRASE: &str = "NEXO_MEMORY_PASSPHRASE";

/// Holds the passphrase that `rekey` encrypts with.
const NEW_PASSPHRASE: &str = "NEXO_MEMORY_NEW_PASSPHRASE";

/// Most bytes of identities read from stdin, and of a file of recipients.
const MAX_BYTES: usize = 64 << 10;
/// The file name that stands for stdin.
const STDIN: &str = "-";

/// Where secrets come from.
pub(crate) struct Secrets {
    identity: Source,
    passphrase: Option<Secret>,
    new_passphrase: Option<Secret>,
    /// What stdin held: it can be read once.
    stdin: OnceCell<Secret>,
}

/// Where the identity comes from.
enum Source {
    File(PathBuf),
    Stdin,
    Variable(Secret),
    /// The configuration's, where it has one.
    Configuration,
}

impl Secrets {
    pub(crate) fn new(flag: Option<&Path>, env: Env<'_>) -> Self {
        let variable = |name| env(name).filter(|text| !text.is_empty()).map(Secret::new);
        let identity = match (flag, variable(IDENTITY)) {
            (Some(path), _) if path == Path::new(STDIN) => Source::Stdin,
            (Some(path), _) => Source::File(path.to_owned()),
            (None, Some(text)) => Source::Variable(text),
            (None, None) => Source::Configuration,
        };
        let (passphrase, new_passphrase) = (variable(PASSPHRASE), variable(NEW_PASSPHRASE));
        Self { identity, passphrase, new_passphrase, stdin: OnceCell::new() }
    }

    /// Whether the identities of the configuration do not count.
    pub(crate) const fn overrides(&self) -> bool {
        !matches!(self.identity, Source::Configuration)
    }

    /// Where it comes from, in a word; none where the configuration says it.
    pub(crate) const fn origin(&self) -> Option<&'static str> {
        match self.identity {
            Source::File(_) | Source::Stdin => Some("--decrypt-identity"),
            Source::Variable(_) => Some(IDENTITY),
            Source::Configuration => None,
        }
    }

    /// What opens encrypted bundles, beside the configuration.
    pub(crate) fn identity(&self) -> Result<Option<DecryptionIdentity>, Failure> {
        Ok(match &self.identity {
            Source::File(path) => Some(DecryptionIdentity::AgeIdentityFile(path.clone())),
            Source::Variable(text) => Some(DecryptionIdentity::AgeIdentities(text.clone())),
            Source::Stdin => Some(DecryptionIdentity::AgeIdentities(self.stdin()?)),
            Source::Configuration => None,
        })
    }

    /// Asks for the passphrase of a bundle, where there is a terminal; the variable is not asked for.
    pub(crate) fn ask(&self) -> Arc<AskPassphrase> {
        let given = self.passphrase.clone();
        Arc::new(move |path| {
            given.clone().or_else(|| prompt(&format!("Passphrase of {}: ", path.display())))
        })
    }

    /// For whom to encrypt, where the flags say it.
    pub(crate) fn key(&self, args: &EncryptArgs) -> Result<Option<EncryptionKey>, Failure> {
        Self::key_with(args, self.passphrase.as_ref(), PASSPHRASE)
    }

    /// For whom to encrypt what is encrypted already: the passphrase that opens it is not the new one.
    pub(crate) fn new_encryption(&self, args: &EncryptArgs) -> Result<Encryption, Failure> {
        let key = Self::key_with(args, self.new_passphrase.as_ref(), NEW_PASSPHRASE)?;
        Ok(key.map_or(Encryption::ByPolicy, Encryption::For))
    }

    /// The same; a passphrase is `given` in `variable`, or asked for.
    fn key_with(
        args: &EncryptArgs,
        given: Option<&Secret>,
        variable: &str,
    ) -> Result<Option<EncryptionKey>, Failure> {
        if args.passphrase {
            let passphrase = given.cloned().map_or_else(|| ask_new(variable), Ok);
            return passphrase.map(EncryptionKey::Passphrase).map(Some);
        }
        let mut recipients = args.encrypt.clone();
        for path in &args.recipients_file {
            recipients.extend(read_recipients(path)?);
        }
        if recipients.is_empty() {
            return Ok(None);
        }
        Recipients::parse(recipients.iter().map(String::as_str))
            .map_err(|e| Failure::usage(format!("cannot encrypt: {e}")))?;
        Ok(Some(EncryptionKey::AgePublicKeys(recipients)))
    }

    /// Whether to encrypt, as the flags say it, else as the policy does.
    pub(crate) fn encryption(
        &self,
        args: &EncryptArgs,
        never: bool,
    ) -> Result<Encryption, Failure> {
        Ok(match self.key(args)? {
            Some(key) => Encryption::For(key),
            None if never => Encryption::Never,
            None => Encryption::ByPolicy,
        })
    }

    fn stdin(&self) -> Result<Secret, Failure> {
        if let Some(read) = self.stdin.get() {
            return Ok(read.clone());
        }
        // Never moved while it grows: what is left behind then is not wiped.
        let mut text = String::with_capacity(MAX_BYTES + 32);
        io::stdin()
            .lock()
            .take(MAX_BYTES as u64)
            .read_to_string(&mut text)
            .map_err(|e| Failure::usage(format!("cannot read identities from stdin: {e}")))?;
        Ok(self.stdin.get_or_init(|| Secret::new(text)).clone())
    }
}

/// The recipients in a file, one a line.
fn read_recipients(path: &Path) -> Result<Vec<String>, Failure> {
    let bad = |why: String| Failure::usage(format!("the recipients in {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
    let mut text = String::new();
    file.take(MAX_BYTES as u64).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
    let recipients = Recipients::parse_file(&text).map_err(|e| bad(e.to_string()))?;
    Ok(recipients.texts())
}

/// Asks for a new passphrase, twice.
fn ask_new(variable: &str) -> Result<Secret, Failure> {
    let asked = prompt("Passphrase to encrypt with: ");
    let first = asked.ok_or_else(|| {
        Failure::usage("there is no terminal to ask for a passphrase on")
            .try_this(format!("set {variable}"))
    })?;
    match prompt("Once more: ") {
        Some(second) if second == first && !first.expose().is_empty() => Ok(first),
        Some(second) if second == first => Err(Failure::usage("the passphrase is empty")),
        _ => Err(Failure::usage("the two are not the same")),
    }
}

/// Asks on the terminal, which shows nothing of it; none where there is none.
fn prompt(question: &str) -> Option<Secret> {
    if !can_ask() {
        return None;
    }
    let terminal = Term::stderr();
    terminal.write_str(question).ok()?;
    terminal.read_secure_line().ok().map(Secret::new)
}
