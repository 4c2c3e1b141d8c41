//! What can go wrong with a bundle. Variants keep apart: the file system, the caller's mistakes,
//! and bytes that are not a bundle.

use std::io;
use std::path::PathBuf;

use snapshot_core::{BundlePath, Damage, ErrorKind, Interrupted, ParseError, PortError};

/// An error of writing, opening, reading or verifying a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The bundle's file cannot be read.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// The bundle.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The output refused bytes of the bundle.
    #[error("cannot write the bundle")]
    Write {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The recipients were refused by age.
    #[error("cannot encrypt: {why}")]
    Encrypt {
        /// What it said.
        why: String,
    },
    /// The bundle is encrypted, and nothing that could open it was given.
    #[error("{} is encrypted, and no identity was given", path.display())]
    NoIdentity {
        /// The bundle.
        path: PathBuf,
    },
    /// The bundle is encrypted for others.
    #[error("none of the identities and passphrases that were given opens {}", path.display())]
    WrongIdentity {
        /// The bundle.
        path: PathBuf,
    },
    /// The bundle is encrypted with a passphrase and asks for too much work to try one.
    #[error("{} asks for a scrypt work factor of 2^{required}; at most 2^{} is done", path.display(), crate::keys::WORK_FACTOR)]
    ExcessiveWork {
        /// The bundle.
        path: PathBuf,
        /// Binary logarithm of the work factor.
        required: u8,
    },
    /// A worker thread cannot be started.
    #[error("cannot start a thread")]
    Spawn {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// zstd refused its settings or the bytes of a frame.
    #[error("cannot compress: {why}")]
    Compress {
        /// What zstd said.
        why: String,
    },
    /// A worker thread panicked.
    #[error("a thread panicked while {doing}")]
    Panicked {
        /// What it was doing.
        doing: &'static str,
    },
    /// The content of an artifact cannot be read at its source.
    #[error("cannot read {artifact} at its source")]
    Content {
        /// The artifact.
        artifact: BundlePath,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The source of an artifact gave another length than it was declared with.
    #[error("{artifact} was declared with {declared} bytes and gave {}", if *.more { "more" } else { "fewer" })]
    Length {
        /// The artifact.
        artifact: BundlePath,
        /// Bytes declared.
        declared: u64,
        /// Whether there were more of them.
        more: bool,
    },
    /// An artifact that may not be written, or not read, this way.
    #[error("{artifact}: {why}")]
    Artifact {
        /// The artifact.
        artifact: BundlePath,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The manifest given to the writer is not that of what was written.
    #[error("the manifest is not that of this bundle: {why}")]
    ManifestMismatch {
        /// The first difference.
        why: String,
    },
    /// The manifest given to the writer breaks its own rules.
    #[error("the manifest cannot be written")]
    ManifestRefused {
        /// The rule.
        #[source]
        source: ParseError,
    },
    /// The bundle would need more frames than the format admits.
    #[error("the bundle is larger than {} frames", crate::MAX_FRAMES)]
    TooLarge,
    /// The writer failed before; what it wrote must be given up.
    #[error("the bundle already failed")]
    AlreadyFailed,
    /// Bytes that are not a bundle of this format.
    #[error("{} is not a whole bundle: {why}", path.display())]
    Structure {
        /// The bundle.
        path: PathBuf,
        /// The rule that it breaks.
        why: String,
    },
    /// A frame that does not hold what the seek table says.
    #[error("{}: frame {frame} {why}", path.display())]
    Frame {
        /// The bundle.
        path: PathBuf,
        /// The frame's number, from 0.
        frame: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The manifest, or the index, is of a newer format or breaks its rules.
    #[error("{}: manifest.json cannot be used", path.display())]
    Manifest {
        /// The bundle.
        path: PathBuf,
        /// The rule.
        #[source]
        source: ParseError,
    },
    /// An artifact whose bytes are not those that the manifest describes.
    #[error("{}: {artifact} {why}", path.display())]
    Mismatch {
        /// The bundle.
        path: PathBuf,
        /// The artifact.
        artifact: BundlePath,
        /// What differs.
        why: &'static str,
    },
    /// There is no such artifact.
    #[error("{} holds no {artifact}", path.display())]
    NoSuchArtifact {
        /// The bundle.
        path: PathBuf,
        /// What was asked for.
        artifact: BundlePath,
    },
    /// A signature that names a trusted key, and is not that key's over this manifest.
    #[error("the signature of {} names {key_id}, which did not sign this manifest", path.display())]
    Forged {
        /// The bundle.
        path: PathBuf,
        /// The key.
        key_id: String,
    },
    /// A whole bundle that must be signed and is not, by nobody whose signature counts.
    #[error("{} is refused: {why}", path.display())]
    Untrusted {
        /// The bundle.
        path: PathBuf,
        /// Which signature it lacks.
        why: String,
    },
    /// A full verification found damage.
    #[error("{} is damaged: {}", path.display(), first(damage))]
    Damaged {
        /// The bundle.
        path: PathBuf,
        /// All that was found.
        damage: Vec<Damage>,
    },
    /// The caller stopped it.
    #[error("stopped")]
    Interrupted(#[from] Interrupted),
}

impl BundleError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Write { .. } | Self::Spawn { .. } | Self::Content { .. } => {
                ErrorKind::Io
            }
            Self::NoIdentity { .. } | Self::WrongIdentity { .. } | Self::ExcessiveWork { .. } => {
                ErrorKind::Encryption
            }
            Self::Untrusted { .. } => ErrorKind::Refused,
            Self::Compress { .. }
            | Self::Encrypt { .. }
            | Self::Panicked { .. }
            | Self::ManifestMismatch { .. }
            | Self::ManifestRefused { .. }
            | Self::AlreadyFailed => ErrorKind::Internal,
            Self::Artifact { .. } | Self::NoSuchArtifact { .. } | Self::TooLarge => {
                ErrorKind::Usage
            }
            Self::Length { .. }
            | Self::Structure { .. }
            | Self::Frame { .. }
            | Self::Mismatch { .. }
            | Self::Forged { .. }
            | Self::Damaged { .. } => ErrorKind::Integrity,
            Self::Manifest { source: ParseError::TooNew { .. }, .. } => ErrorKind::SchemaTooNew,
            Self::Manifest { .. } => ErrorKind::Integrity,
            Self::Interrupted(why) => why.kind(),
        }
    }

    /// As an error of [`io::Read`]. Whoever gets it may not know bundles: damage is told from a disk that fails
    /// by its kind.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match self.kind() {
            ErrorKind::Integrity => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    /// What is wrong, without the bundle's path where that stands elsewhere.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Structure { why, .. } => why.clone(),
            other => other.to_string(),
        }
    }

    /// As an error of the port through which memory reaches a bundle.
    pub(crate) fn writing(self) -> PortError {
        PortError::new(self.kind(), "the bundle cannot be written", self)
    }

    /// As an error of the port through which memory leaves a bundle.
    pub(crate) fn reading(self) -> PortError {
        PortError::new(self.kind(), "the bundle cannot be read", self)
    }
}

/// The first finding, and how many more there are.
fn first(damage: &[Damage]) -> String {
    match damage {
        [] => "unspecified".to_owned(),
        [one] => format!("{}: {}", one.artifact, one.why),
        [one, more @ ..] => format!("{}: {} (and {} more)", one.artifact, one.why, more.len()),
    }
}
