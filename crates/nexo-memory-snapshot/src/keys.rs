//! Keys: for whom snapshots are encrypted, what opens them, who signs them, whose signatures count.
//!
//! Invariants: a file that holds a secret is read only where it is nobody else's to read; nothing is read
//! before it is needed, so a machine that only takes snapshots needs no identity.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use snapshot_core::{AgentId, DecryptionIdentity, Tenant};
use snapshot_fs::{DurableFs, FsError, user};
use zeroize::Zeroizing;

use crate::engine::taken;
use crate::error::SnapshotError;

pub use snapshot_bundle::{
    Identities, KeyError, MAX_RECIPIENTS, PublicKey, Recipients, SigningKey, Trust,
    generate_identity,
};
pub use snapshot_core::{EncryptionKey, Secret};

/// Largest file of keys that is read, in bytes.
const MAX_KEY_FILE_BYTES: usize = 64 << 10;

/// Mode of a file that holds a secret.
const SECRET_MODE: u32 = 0o600;
/// Mode of a public key.
const PUBLIC_MODE: u32 = 0o644;

/// For whom an agent's snapshots are encrypted where nothing else is said; none: for nobody.
pub type EncryptionPolicy = dyn Fn(&Tenant, &AgentId) -> Option<EncryptionKey> + Send + Sync;
/// Asks for the passphrase of the bundle at a path; none: there is nobody to ask.
pub type AskPassphrase = dyn Fn(&Path) -> Option<Secret> + Send + Sync;

/// What an engine knows of keys.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) policy: Option<Arc<EncryptionPolicy>>,
    pub(crate) identities: Vec<DecryptionIdentity>,
    pub(crate) ask: Option<Arc<AskPassphrase>>,
    pub(crate) signing: Option<SigningSource>,
    pub(crate) trust: Trust,
    loaded: OnceLock<Identities>,
    signer: OnceLock<SigningKey>,
    asked: Mutex<Option<Secret>>,
}

/// Where the signing key is.
pub(crate) enum SigningSource {
    Key(Box<SigningKey>),
    File(PathBuf),
}

impl Keys {
    /// The key that signs, read once; none where snapshots are not signed.
    pub(crate) fn signer(&self) -> Result<Option<&SigningKey>, SnapshotError> {
        match &self.signing {
            None => Ok(None),
            Some(SigningSource::Key(key)) => Ok(Some(key)),
            Some(SigningSource::File(path)) => {
                if let Some(signer) = self.signer.get() {
                    return Ok(Some(signer));
                }
                let loaded = load_signing_key(path)?;
                Ok(Some(self.signer.get_or_init(|| loaded)))
            }
        }
    }

    /// The identities that the host gave, read once.
    pub(crate) fn identities(&self) -> Result<Identities, SnapshotError> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded.clone());
        }
        let load = |all: Identities, one| Ok::<_, SnapshotError>(all.and(load(one)?));
        let loaded = self.identities.iter().try_fold(Identities::default(), load)?;
        Ok(self.loaded.get_or_init(|| loaded).clone())
    }

    /// The passphrase for a bundle, asked for once.
    pub(crate) fn ask(&self, path: &Path) -> Option<Identities> {
        let ask = self.ask.as_ref()?;
        let mut asked = self.asked.lock();
        if asked.is_none() {
            *asked = ask(path);
        }
        asked.clone().map(Identities::passphrase)
    }
}

/// What opens bundles, as a request or a host says it.
pub(crate) fn load(identity: &DecryptionIdentity) -> Result<Identities, SnapshotError> {
    match identity {
        DecryptionIdentity::AgeIdentityFile(path) => {
            let text = read_secret_file(path)?;
            let what = format!("the identity file {}", path.display());
            Identities::parse(text.expose()).map_err(|source| SnapshotError::Key { what, source })
        }
        DecryptionIdentity::AgeIdentities(text) => {
            let what = "the identity that was given".to_owned();
            Identities::parse(text.expose()).map_err(|source| SnapshotError::Key { what, source })
        }
        DecryptionIdentity::Passphrase(secret) => Ok(Identities::passphrase(secret.clone())),
        _ => Ok(Identities::default()),
    }
}

fn load_signing_key(path: &Path) -> Result<SigningKey, SnapshotError> {
    let text = read_secret_file(path)?;
    let what = format!("the signing key {}", path.display());
    SigningKey::parse(text.expose()).map_err(|source| SnapshotError::Key { what, source })
}

/// Reads a file that holds a secret: of ours or root's, and closed to everybody else. What is no file, a pipe
/// say, is read as it is.
///
/// # Errors
/// [`SnapshotError::KeyFile`], which quotes nothing of the content.
pub fn read_secret_file(path: &Path) -> Result<Secret, SnapshotError> {
    let fail = |why: String| SnapshotError::KeyFile { path: path.to_owned(), why };
    let mut file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let meta = file.metadata().map_err(|e| fail(e.to_string()))?;
    if meta.is_dir() {
        return Err(fail("it is a folder".to_owned()));
    }
    let open = meta.mode() & 0o077 != 0;
    if meta.is_file() && open {
        let mode = meta.mode() & 0o777;
        return Err(fail(format!("others can read it (mode {mode:04o}); it must be 0600")));
    }
    if meta.is_file() && ![0, user()].contains(&meta.uid()) {
        return Err(fail(format!("it belongs to user {}", meta.uid())));
    }
    // Never moved while it grows: what is left behind then is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES + 32));
    let mut limited = (&mut file).take(MAX_KEY_FILE_BYTES as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;
    if bytes.len() > MAX_KEY_FILE_BYTES {
        return Err(fail(format!("it is larger than {MAX_KEY_FILE_BYTES} bytes")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| fail("it is no text".to_owned()))?;
    Ok(Secret::new(text.to_owned()))
}

/// Writes a secret to a new file, mode 0600, durable when this returns. Nothing that is there is replaced.
///
/// # Errors
/// [`SnapshotError::Exists`], or an I/O error.
pub fn write_secret_file(path: &Path, secret: &Secret) -> Result<(), SnapshotError> {
    write_new(&DurableFs::default(), path, secret.expose(), SECRET_MODE)
}

/// The same with what is no secret, mode 0644.
///
/// # Errors
/// As [`write_secret_file`].
pub fn write_public_file(path: &Path, text: &str) -> Result<(), SnapshotError> {
    write_new(&DurableFs::default(), path, text, PUBLIC_MODE)
}

fn write_new(fs: &DurableFs, path: &Path, text: &str, mode: u32) -> Result<(), SnapshotError> {
    let bad = |why| SnapshotError::Path { path: path.to_owned(), why };
    let name = path.file_name().ok_or_else(|| bad("it names no file"))?;
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let dir = fs.open_dir(parent.unwrap_or(Path::new(".")))?;
    let (temp, mut file) = dir.create_temp(mode)?;
    let written = file
        .write_all(text.as_bytes())
        .map_err(FsError::io("write", path))
        .and_then(|()| file.sync())
        .and_then(|()| dir.rename_new(&temp, name));
    if written.is_err() {
        // The error that led here is the one to report.
        let _ = dir.unlink(&temp);
    }
    written.map_err(taken)?;
    Ok(dir.sync()?)
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use snapshot_fs::{Hook, Op, OpKind};

    use super::*;

    #[derive(Default)]
    struct Order(Mutex<Vec<OpKind>>);

    impl Hook for Order {
        fn before(&self, op: &Op<'_>) -> std::io::Result<()> {
            self.0.lock().push(op.kind);
            Ok(())
        }
    }

    /// Would catch: a new key that a power cut takes after something was encrypted for it.
    #[test]
    fn a_key_that_was_written_is_durable() {
        let tmp = tempfile::tempdir().unwrap();
        let order = Arc::new(Order::default());
        let fs = DurableFs::with_hook(order.clone());
        write_new(&fs, &tmp.path().join("key"), "secret", SECRET_MODE).unwrap();
        let synced =
            [OpKind::Create, OpKind::Write, OpKind::SyncFile, OpKind::Rename, OpKind::SyncDir];
        assert_eq!(*order.0.lock(), synced);
        assert!(write_new(&fs, &tmp.path().join("key"), "another", SECRET_MODE).is_err());
        assert_eq!(std::fs::read_to_string(tmp.path().join("key")).unwrap(), "secret");
    }
}
