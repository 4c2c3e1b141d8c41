//! Redaction of text: rules that find secrets, through encodings, and placeholders in their place.
//!
//! Stores and git know their own shapes and hand plain bytes to this; it knows nothing of them.
//! Invariants: the same bytes become the same everywhere; nothing is found in what was redacted.
//!
//! | module | concern |
//! |---|---|
//! | `config` | rules as data |
//! | `rule` / `rules` | one rule; all of them over plain bytes |
//! | `entropy` / `runs` | how random, and how long, a text looks |
//! | `views` | other ways to read the same bytes |
//! | `search` | rules through views |
//! | `known` | secrets found before, wherever they turn up |
//! | `placeholder` / `replace` | what takes the place of a secret |
//! | `stream` | the same for what is too long for memory |

mod config;
mod entropy;
mod known;
mod placeholder;
mod replace;
mod rule;
mod rules;
mod runs;
mod search;
mod stream;
mod views;

pub use config::{AllowConfig, RuleConfig, RuleError, RulesConfig, Target};
pub use known::{GitIds, KnownSecrets, TooManySecrets};
pub use replace::Replacer;
pub use rules::Rules;
pub use search::Search;
pub use stream::{redact_reader, scan_reader};

/// Characters of a secret that are shown.
const SHOWN: usize = 4;
/// Shortest secret of which any is.
const SHOWN_FROM: usize = 12;

/// A secret for reports: its first four characters where it is long enough to stay one without them, and its
/// length.
#[must_use]
pub fn masked(secret: &[u8]) -> String {
    let start = secret.iter().take(if secret.len() >= SHOWN_FROM { SHOWN } else { 0 });
    let shown: String =
        start.take_while(|c| c.is_ascii_graphic()).map(|&c| char::from(c)).collect();
    format!("{shown}... ({} bytes)", secret.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a short secret shown by half, or a character that moves the cursor.
    #[test]
    fn a_report_shows_little_of_a_secret() {
        assert_eq!(masked(b"hunter2hunter"), "hunt... (13 bytes)");
        assert_eq!(masked(b"hunter2"), "... (7 bytes)");
        assert_eq!(masked(b"a\x1b[31mhunter2hunter"), "a... (19 bytes)");
        assert_eq!(masked("\u{e4}ndern-nicht-1".as_bytes()), "... (15 bytes)");
    }
}
