//! Names on disk: the folders of the vault and the files of a snapshot. The only place that spells
//! them.

use std::ffi::OsStr;

use snapshot_core::{AgentId, Sha256Digest, Sidecar, SnapshotId};
use snapshot_fs::{Dir, FsError, Meta, is_temp_name};

/// Mode of every folder.
pub(crate) const DIR_MODE: u32 = 0o700;
/// Mode of every file.
pub(crate) const FILE_MODE: u32 = 0o600;

/// Folder of the tenants, below the root.
pub(crate) const TENANTS: &str = "tenants";
/// Folder of lock files, below the root and below each tenant.
pub(crate) const LOCKS: &str = "locks";
/// Folder of the events that wait for their delivery, below the root.
pub(crate) const OUTBOX: &str = "outbox";
/// Folder of the agents' snapshots, below a tenant.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// Folder of the agents' staging folders, below a tenant.
pub(crate) const STAGING: &str = "staging";
/// Folder of the agents' notes, below a tenant.
pub(crate) const NOTES: &str = "notes";
/// The hold on everything, below the root.
pub(crate) const HOLD: &str = "hold.json";
/// Folder in an agent's snapshots folder of what is no snapshot any more.
pub(crate) const QUARANTINE: &str = ".quarantine";
/// Folder of the agents' restore journals, below a tenant.
pub(crate) const RESTORE: &str = "restore";

/// Folder of the agents' maps of redacted git objects, below a tenant.
pub(crate) const GIT_MAPS: &str = "git-maps";

/// What follows the id in the other name of an encrypted bundle.
pub(crate) const REKEYED: &str = ".rekeyed.tar.zst.age";
/// What follows a bundle's name in that of its checksum file.
pub(crate) const SUM: &str = ".sha256";
const SIDECAR: &str = ".manifest.json";
const DELETING: &str = ".deleting";

/// The three names that a bundle can have. Encrypting it anew writes to the one of the two encrypted ones
/// that it does not have, so that the rename of the sidecar changes both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Plain,
    Encrypted,
    Rekeyed,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Encrypted, Self::Rekeyed];

    /// The one that a sidecar speaks of.
    pub(crate) const fn of(sidecar: &Sidecar) -> Self {
        match (&sidecar.encryption, sidecar.rekeyed) {
            (None, _) => Self::Plain,
            (Some(_), false) => Self::Encrypted,
            (Some(_), true) => Self::Rekeyed,
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Plain => ".tar.zst",
            Self::Encrypted => ".tar.zst.age",
            Self::Rekeyed => REKEYED,
        }
    }
}

/// What the name of a file in an agent's snapshots folder says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// A bundle.
    Bundle { id: SnapshotId, form: Form },
    /// The checksum file of a bundle.
    Sum { id: SnapshotId, form: Form },
    /// A sidecar: the snapshot exists.
    Sidecar { id: SnapshotId },
    /// What was a sidecar: the snapshot is deleted, its files are going.
    Deleting { id: SnapshotId },
    /// A temporary file of an atomic write.
    Temp,
    /// The folder of what was set aside.
    Quarantine,
    /// Not ours.
    Unknown,
}

impl Name {
    pub(crate) fn parse(name: &OsStr) -> Self {
        let Some(text) = name.to_str() else { return Self::Unknown };
        if is_temp_name(name) {
            return Self::Temp;
        }
        if text == QUARANTINE {
            return Self::Quarantine;
        }
        // An id is 36 ASCII characters; a shorter or split name is not ours.
        let (Some(id), Some(rest)) = (text.get(..36), text.get(36..)) else {
            return Self::Unknown;
        };
        let Ok(id) = id.parse() else { return Self::Unknown };
        let form = |suffix| Form::ALL.into_iter().find(|form| form.suffix() == suffix);
        match (rest, form(rest), rest.strip_suffix(SUM).and_then(form)) {
            (SIDECAR, ..) => Self::Sidecar { id },
            (DELETING, ..) => Self::Deleting { id },
            (_, Some(form), _) => Self::Bundle { id, form },
            (_, _, Some(form)) => Self::Sum { id, form },
            _ => Self::Unknown,
        }
    }
}

/// Whether a name is one that 0.1.x gave to work in progress: what lies there died with its process.
pub(crate) fn is_v1_leftover(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let folders = [".staging-", ".restore-staging-"];
    let folder = folders.iter().find_map(|prefix| name.strip_prefix(prefix));
    let id = folder.or_else(|| {
        let bundle = name.strip_suffix(".partial")?;
        Form::ALL.iter().find_map(|form| bundle.strip_suffix(form.suffix()))
    });
    id.is_some_and(|id| id.parse::<SnapshotId>().is_ok())
}

pub(crate) fn bundle_name(id: SnapshotId, form: Form) -> String {
    format!("{id}{}", form.suffix())
}

pub(crate) fn sum_name(bundle: &str) -> String {
    format!("{bundle}{SUM}")
}

pub(crate) fn sidecar_name(id: SnapshotId) -> String {
    format!("{id}{SIDECAR}")
}

pub(crate) fn git_map_name(id: SnapshotId) -> String {
    format!("{id}.txt")
}

pub(crate) fn deleting_name(id: SnapshotId) -> String {
    format!("{id}{DELETING}")
}

/// Content of the checksum file, as `sha256sum -c` reads it.
pub(crate) fn sum_line(sha256: &Sha256Digest, bundle: &str) -> String {
    format!("{sha256}  {bundle}\n")
}

/// Name in the quarantine of what was set aside of a snapshot for the `n`th time, from 0.
pub(crate) fn aside_name(id: SnapshotId, n: u32) -> String {
    match n {
        0 => id.to_string(),
        n => format!("{id}.{n}"),
    }
}

pub(crate) fn notes_name(agent: &AgentId) -> String {
    format!("{agent}.json")
}

pub(crate) fn agent_lock_name(agent: &AgentId) -> String {
    format!("{agent}.agent.lock")
}

pub(crate) fn vault_lock_name(agent: &AgentId) -> String {
    format!("{agent}.vault.lock")
}

pub(crate) fn target_lock_name(identity: &Sha256Digest) -> String {
    format!("target-{identity}.lock")
}

/// Opens the folder `name`, making it where it is missing, for our eyes alone: a folder that an
/// earlier program left open to others is closed to them.
pub(crate) fn private_sub(dir: &Dir, name: &str) -> Result<Dir, FsError> {
    let sub = dir.ensure_sub(name, DIR_MODE)?;
    if sub.stat_self()?.mode & 0o077 != 0 {
        dir.set_meta(name, Meta { mode: Some(DIR_MODE), ..Meta::default() })?;
    }
    Ok(sub)
}

/// The folder at `path` below `dir`, or none where there is none.
pub(crate) fn existing_sub(dir: &Dir, path: &[&str]) -> Result<Option<Dir>, FsError> {
    match dir.sub(path.iter().collect::<std::path::PathBuf>()) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_name_that_is_written_is_recognised() {
        let id = SnapshotId::from_random_bytes([7; 16]);
        let parse = |name: &str| Name::parse(OsStr::new(name));
        for form in Form::ALL {
            let bundle = bundle_name(id, form);
            assert_eq!(parse(&bundle), Name::Bundle { id, form });
            assert_eq!(parse(&sum_name(&bundle)), Name::Sum { id, form });
        }
        assert_eq!(parse(&sidecar_name(id)), Name::Sidecar { id });
        assert_eq!(parse(&deleting_name(id)), Name::Deleting { id });
        assert_eq!(parse(".nexo-tmp-1-2-3"), Name::Temp);
        assert_eq!(parse(QUARANTINE), Name::Quarantine);
        for other in [
            sidecar_name(id).to_uppercase(),
            format!("{id}.sha256"),
            format!("{id}.tar.zst.sha256.sha256"),
            format!(" {id}.tar.zst"),
            "ä".repeat(40),
        ] {
            assert_eq!(parse(&other), Name::Unknown, "{other}");
        }
    }

    /// Would catch: a decrypted memory that 0.1.x left, called nobody's, or somebody's file called its.
    #[test]
    fn what_the_predecessor_left_is_known_by_its_names() {
        let id = SnapshotId::from_random_bytes([7; 16]);
        let is = |name: &str| is_v1_leftover(OsStr::new(name));
        assert!(is(&format!(".staging-{id}")) && is(&format!(".restore-staging-{id}")));
        assert!(is(&format!("{id}.tar.zst.partial")) && is(&format!("{id}.tar.zst.age.partial")));
        for other in [".staging-", "x.partial", &format!("{id}.partial"), &format!("staging-{id}")]
        {
            assert!(!is(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_name_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            use std::os::unix::ffi::OsStrExt;
            Name::parse(OsStr::from_bytes(&bytes));
        }
    }
}
