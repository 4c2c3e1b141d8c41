//! Redaction: what counts as a secret, and the ports through which the layers look for secrets and
//! take them out.
//!
//! Text rules know neither SQLite nor git, and those know no rules: they meet here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{ParseError, excerpt};
use crate::id::{SnapshotId, StoreName};

/// What counts as a secret. Its caller has looked through UTF-16, base64, hexadecimal, URL- and JSON
/// escapes, so a policy looks at plain bytes; those are text in any encoding that keeps ASCII, or binary.
pub trait RedactionPolicy: Send + Sync {
    /// Its name, for manifests.
    fn id(&self) -> &str;

    /// How many rules it has, for manifests.
    fn rules(&self) -> usize;

    /// The secrets in `bytes`, in any order; they may overlap. It must find the same in the same bytes, and
    /// nothing in `[REDACTED:<rule>]`, which takes a secret's place.
    fn find(&self, bytes: &[u8]) -> Vec<SecretSpan>;
}

/// Where a policy saw a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpan {
    /// The bytes to take out.
    pub range: Range<usize>,
    /// Id of the rule, as it stands in `[REDACTED:<rule>]`: ASCII letters, digits and `-`.
    pub rule: Arc<str>,
}

/// A secret that was found, with itself: never shown, logged or kept.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundSecret {
    /// Where it lies in the bytes that were searched; of an encoded one, what encodes it.
    pub range: Range<usize>,
    /// Id of the rule.
    pub rule: Arc<str>,
    /// The secret, decoded.
    pub value: Vec<u8>,
    /// Whether a value follows that it names, as a key of JSON or YAML does: others must stay different from it.
    pub is_key: bool,
}

/// Looks for secrets.
pub trait SecretSearch: Sync {
    /// The secrets in `bytes`, encoded ones too, front to back; no two overlap.
    fn search(&self, bytes: &[u8]) -> Vec<FoundSecret>;
}

/// Takes secrets out. The same bytes become the same everywhere.
pub trait Redactor: Sync {
    /// `bytes` without their secrets, or none where there is nothing to take out.
    fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>>;

    /// A name in a folder, a git tree or a list of refs without its secrets, or none where there is nothing
    /// to take out. Two names with different secrets stay different; what it gives has no `/`, and where
    /// `of` says so is one that git takes for part of a ref.
    fn redact_name(&self, name: &[u8], of: NameOf) -> Option<Vec<u8>>;
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOf {
    /// A file or folder.
    File,
    /// A part of a ref, between two slashes.
    Ref,
}

/// Where a secret lies in an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPlace {
    /// For people: `table facts, column text, rowid 3`, `commit 1a2b..., message`.
    pub place: String,
    /// Whether other values must differ from the one it is part of: a key, a unique column, a name.
    pub is_key: bool,
}

/// A secret, told without itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFinding {
    /// The artifact's path in the bundle.
    pub artifact: String,
    /// Where in it.
    pub place: String,
    /// Id of the rule.
    pub rule: String,
    /// Enough of the secret to know it again, and not to use it.
    pub masked: String,
}

/// How a search for secrets went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsReport {
    /// The snapshot; absent where the live memory was searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<SnapshotId>,
    /// The policy that it was searched by.
    pub policy: String,
    /// Secrets found, each place counted.
    pub findings: u64,
    /// The same by rule.
    pub by_rule: BTreeMap<String, u64>,
    /// Artifacts searched.
    pub artifacts: u64,
    /// Bytes searched, decompressed.
    pub bytes_searched: u64,
}

/// What becomes of the git history of a redacted bundle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitHistory {
    /// Every commit is kept, and written anew where a secret was in it or before it.
    #[default]
    Rewrite,
    /// Only what HEAD holds is kept, as one commit.
    HeadOnly,
    /// None of it is kept.
    Drop,
}

/// What a redaction is to do beyond looking for secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedactionOptions {
    /// What becomes of the git history.
    pub git_history: GitHistory,
    /// Stores that the redacted bundle does not hold.
    pub drop_stores: Vec<StoreName>,
}

impl fmt::Debug for FoundSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, rule, value, is_key: _ } = self;
        write!(f, "FoundSecret({rule} at {range:?}, {} bytes)", value.len())
    }
}

impl GitHistory {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rewrite, Self::HeadOnly, Self::Drop];

    /// As it is said in requests and manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rewrite => "rewrite",
            Self::HeadOnly => "head-only",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for GitHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for GitHistory {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| ParseError::Id {
            what: "git history",
            value: excerpt(text),
            why: "expected rewrite, head-only or drop",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_found_secret_never_shows_itself() {
        let found = FoundSecret {
            range: 3..9,
            rule: "pin".into(),
            value: b"hunter2".to_vec(),
            is_key: false,
        };
        assert_eq!(format!("{found:?}"), "FoundSecret(pin at 3..9, 7 bytes)");
    }

    #[test]
    fn what_becomes_of_the_history_parses_as_it_prints() {
        for mode in GitHistory::ALL {
            assert_eq!(mode.to_string().parse::<GitHistory>().unwrap(), mode);
        }
        assert!("all".parse::<GitHistory>().is_err());
    }
}
