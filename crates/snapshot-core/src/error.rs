//! Error kinds: the stable classification that exit codes, metrics labels and callers build on.
//!
//! Rules for every crate's error enum: a variant names the operation and carries the path or id and
//! the `#[source]`; integrity, policy, input, busy, not-found and I/O stay apart; `kind()` maps each
//! variant to exactly one [`ErrorKind`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::one_line;

/// What went wrong, as far as a caller can act on it. Stable; JSON in snake_case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A defect of ours.
    Internal,
    /// Malformed input: a flag, an id, a configuration.
    Usage,
    /// No such agent: its layout finds none of its parts.
    UnknownAgent,
    /// No such snapshot or bundle, or an ambiguous name.
    UnknownSnapshot,
    /// A digest, a length or a structure does not hold.
    Integrity,
    /// A database stayed locked past the time allowed.
    Busy,
    /// Another process works on the same agent.
    Concurrent,
    /// The deadline of the request passed.
    DeadlineExceeded,
    /// Refused by policy: wrong agent, shared store, no confirmation.
    Refused,
    /// An interrupted restore must be decided first.
    RecoveryPending,
    /// The bundle was written by a newer program.
    SchemaTooNew,
    /// A wrong identity, or none where the contents are needed.
    Encryption,
    /// I/O, rights, space.
    Io,
    /// Done, but something was left out or unstable and strictness was asked for.
    Incomplete,
    /// A check found something.
    CheckFailed,
    /// Verified only as far as possible without the identity.
    NotChecked,
    /// Cancelled by the caller.
    Interrupted,
}

/// Why a string or document is not one of our parsed types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// An id outside its grammar.
    #[error("{what} {value:?} is not valid: {why}")]
    Id {
        /// Which id, e.g. `agent id`.
        what: &'static str,
        /// The offending text, at most 80 characters of it.
        value: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A path that may not stand in a bundle.
    #[error("path {value:?} may not stand in a bundle: {why}")]
    Path {
        /// The offending path, lossily rendered, at most 80 characters of it.
        value: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A manifest that contradicts itself or the limits.
    #[error("manifest: {0}")]
    Manifest(String),
    /// A manifest (or sidecar) of a format that this program is too old for.
    #[error("written as {found}, this program reads up to {supported}")]
    TooNew {
        /// Format and version found.
        found: String,
        /// Format and version read by this program.
        supported: String,
    },
}

impl ErrorKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::Internal,
        Self::Usage,
        Self::UnknownAgent,
        Self::UnknownSnapshot,
        Self::Integrity,
        Self::Busy,
        Self::Concurrent,
        Self::DeadlineExceeded,
        Self::Refused,
        Self::RecoveryPending,
        Self::SchemaTooNew,
        Self::Encryption,
        Self::Io,
        Self::Incomplete,
        Self::CheckFailed,
        Self::NotChecked,
        Self::Interrupted,
    ];

    /// The process exit code of this kind, as documented in `docs/cli.md`.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::UnknownAgent | Self::UnknownSnapshot => 3,
            Self::Integrity => 4,
            Self::Busy | Self::Concurrent | Self::DeadlineExceeded => 5,
            Self::Refused | Self::RecoveryPending => 6,
            Self::SchemaTooNew => 7,
            Self::Encryption => 8,
            Self::Io => 9,
            Self::Incomplete => 10,
            Self::CheckFailed => 11,
            Self::NotChecked => 12,
            Self::Interrupted => 130,
        }
    }

    /// The stable name, as in JSON and metrics labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::UnknownAgent => "unknown_agent",
            Self::UnknownSnapshot => "unknown_snapshot",
            Self::Integrity => "integrity",
            Self::Busy => "busy",
            Self::Concurrent => "concurrent",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Refused => "refused",
            Self::RecoveryPending => "recovery_pending",
            Self::SchemaTooNew => "schema_too_new",
            Self::Encryption => "encryption",
            Self::Io => "io",
            Self::Incomplete => "incomplete",
            Self::CheckFailed => "check_failed",
            Self::NotChecked => "not_checked",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ParseError {
    /// The kind of this error; `context` decides between input and integrity at the caller.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Id { .. } => ErrorKind::Usage,
            Self::Path { .. } | Self::Manifest(_) => ErrorKind::Integrity,
            Self::TooNew { .. } => ErrorKind::SchemaTooNew,
        }
    }
}

/// An error and its causes in one line, `what: why: why`, fit for a terminal or log whatever names are
/// in it; a cause that its error has told already is not told again.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |e| e.source()) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    one_line(&text)
}

/// At most 80 characters of `text`, so that a crafted value cannot flood a log.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a name in an error that ends a line of a log and begins one of its own.
    #[test]
    fn an_error_is_one_line_whatever_it_names() {
        let named = std::io::Error::other("\n2026-11-27 INFO all is well\u{1b}[2J");
        assert_eq!(error_chain(&named), r"\n2026-11-27 INFO all is well\u{1b}[2J");
    }

    #[test]
    fn json_name_equals_as_str() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    /// Would catch: a kind that was added and left out of `ALL`, or stands in it twice.
    #[test]
    fn all_kinds_are_in_all() {
        let unknown = serde_json::from_value::<ErrorKind>("no such kind".into()).unwrap_err();
        let named = unknown.to_string().matches('`').count() / 2 - 1;
        let words: std::collections::BTreeSet<_> =
            ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!((words.len(), ErrorKind::ALL.len()), (named, named), "{unknown}");
    }
}
