//! Rules as data: what `gitleaks.json`, `own.json` and a configuration say.

use serde::Deserialize;

/// Rules of one's own, beside the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// What manifests call the rules; otherwise what is built in is named.
    pub name: Option<String>,
    /// Rules to add.
    pub rules: Vec<RuleConfig>,
    /// What is no secret, whatever rule says so.
    pub allow: AllowConfig,
    /// Ids of built-in rules that are not wanted.
    pub disable: Vec<String>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Lower-case letters, digits and `-`; it stands where a secret was.
    pub id: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Matches bytes; classes are of ASCII.
    pub regex: String,
    /// One of these must be near, in any case; without any the rule is run on everything, which is slow.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// A secret has more than so many bits of Shannon entropy a byte.
    #[serde(default)]
    pub entropy: Option<f64>,
    /// The group that is the secret; otherwise the first that matched, or the whole match.
    #[serde(default)]
    pub secret_group: Option<usize>,
    /// Gives way where a rule that is not weak finds something too.
    #[serde(default)]
    pub weak: bool,
    /// What is no secret of this rule, in any of these lists.
    #[serde(default)]
    pub allow: Vec<AllowConfig>,
}

/// What is no secret.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllowConfig {
    /// Any of these allows what they are matched against.
    pub regexes: Vec<String>,
    /// A secret with any of these in it, in any case, is allowed.
    pub stopwords: Vec<String>,
    /// What the regular expressions are matched against.
    pub target: Target,
    /// Whether it takes all regular expressions and a stopword, rather than any.
    pub all: bool,
}

/// What an allow-list is matched against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The secret.
    #[default]
    Secret,
    /// All that the rule matched.
    Match,
    /// The lines that the match is in.
    Line,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The id is empty, too long or has other characters than lower-case letters, digits and `-`.
    #[error("rule {rule:?}: an id has lower-case letters, digits and '-', at most 64")]
    Id {
        /// The id.
        rule: String,
    },
    /// Two rules have one id.
    #[error("rule {rule:?} is there twice")]
    Twice {
        /// The id.
        rule: String,
    },
    /// No rule has the id.
    #[error("there is no rule {rule:?} to disable")]
    Unknown {
        /// The id.
        rule: String,
    },
    /// A regular expression is none.
    #[error("rule {rule:?} does not compile: {why}")]
    Regex {
        /// The id; `allow` of the list that is no rule's.
        rule: String,
        /// What is wrong.
        why: String,
    },
    /// The regular expression matches the empty string, which is everywhere.
    #[error("rule {rule:?} matches the empty string")]
    MatchesNothing {
        /// The id.
        rule: String,
    },
    /// The group that is to be the secret is not there.
    #[error("rule {rule:?} has no group {group}")]
    Group {
        /// The id.
        rule: String,
        /// The group.
        group: usize,
    },
    /// The rules are too many or their keywords too long.
    #[error("the rules' keywords cannot be searched for: {why}")]
    Keywords {
        /// What is wrong.
        why: String,
    },
    /// The built-in rules are not what they must be.
    #[error("the built-in rules cannot be read")]
    Builtin(#[source] serde_json::Error),
}
