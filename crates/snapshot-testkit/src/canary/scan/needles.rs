//! What the judge looks for: each value in every form that a text may have, in whole and in pieces.

use std::collections::HashSet;
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::super::Canary;
use super::super::encode::{self, STANDARD, URL_SAFE};
use super::super::token::longest_run;
use crate::error::KitError;

/// Characters of a piece. A stretch of this length that survives is a leak.
const PIECE: usize = 12;

/// Characters from one piece that is looked for in every form to the next.
const STEP: usize = 8;

/// What a value looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// As it is.
    Plain,
    /// In small letters.
    Lower,
    /// In capitals.
    Upper,
    /// UTF-16, little end first.
    Utf16Le,
    /// UTF-16, big end first.
    Utf16Be,
    /// Base64 of a text with it, of either alphabet.
    Base64,
    /// Hexadecimal.
    Hex,
    /// Percent-encoded, in part or in every byte.
    Percent,
    /// With escapes of JSON, in part or in every character.
    Json,
    /// A word of a full-text index.
    Words,
}

/// All needles of all canaries.
pub(super) struct Needles {
    automaton: AhoCorasick,
    /// By pattern: the canary's index, the form, whether it is the value in whole.
    meanings: Vec<(usize, Form, bool)>,
    words: AhoCorasick,
}

impl Needles {
    pub(super) fn new(canaries: &[Canary]) -> Result<Self, KitError> {
        let (mut patterns, mut meanings) = (Vec::new(), Vec::new());
        for (index, canary) in canaries.iter().enumerate() {
            let mut known = HashSet::new();
            let mut add = |pattern: Vec<u8>, form, is_whole| {
                if known.insert(pattern.clone()) {
                    patterns.push(pattern);
                    meanings.push((index, form, is_whole));
                }
            };
            for (form, pattern) in forms(&canary.value) {
                add(pattern, form, true);
            }
            let pieces = pieces(canary);
            for piece in &pieces {
                add(piece.as_bytes().to_vec(), Form::Plain, false);
            }
            // An encoded stretch survives by accident of an alignment or a border: some will do.
            for piece in pieces.iter().step_by(STEP).chain(pieces.last()) {
                for (form, pattern) in forms(piece) {
                    add(pattern, form, false);
                }
            }
        }
        let words = canaries.iter().map(|c| longest_run(&c.value[c.random.clone()]));
        Ok(Self { automaton: automaton(&patterns)?, meanings, words: case_blind(words)? })
    }

    /// What is in `haystack`, in any order, some of it again and again.
    pub(super) fn find(&self, haystack: &[u8]) -> impl Iterator<Item = (usize, Form, bool)> {
        self.automaton.find_overlapping_iter(haystack).map(|hit| self.meanings[hit.pattern()])
    }

    /// The canaries whose longest run of letters and digits is among the words of an index.
    pub(super) fn find_words(&self, words: &str) -> impl Iterator<Item = usize> {
        self.words.find_overlapping_iter(words).map(|hit| hit.pattern().as_usize())
    }
}

/// Every form of a text, the plainest first.
fn forms(text: &str) -> Vec<(Form, Vec<u8>)> {
    let bytes = text.as_bytes();
    let mut forms = vec![
        (Form::Plain, bytes.to_vec()),
        (Form::Lower, text.to_ascii_lowercase().into_bytes()),
        (Form::Upper, text.to_ascii_uppercase().into_bytes()),
        (Form::Utf16Le, encode::utf16(text, false)),
        (Form::Utf16Be, encode::utf16(text, true)),
        (Form::Json, encode::json(text).into_bytes()),
    ];
    for alphabet in [STANDARD, URL_SAFE] {
        forms.extend((0..3).map(|shift| (Form::Base64, inner_base64(bytes, shift, alphabet))));
    }
    for is_upper in [false, true] {
        forms.extend([
            (Form::Hex, encode::hex(bytes, "", is_upper).into_bytes()),
            (Form::Percent, encode::percent(text, is_upper).into_bytes()),
            (Form::Percent, encode::hex(bytes, "%", is_upper).into_bytes()),
            (Form::Json, encode::hex(bytes, "\\u00", is_upper).into_bytes()),
        ]);
    }
    forms
}

/// The characters of base64 that are the same whatever stands before and after a text that begins `shift`
/// bytes into a group of three.
fn inner_base64(bytes: &[u8], shift: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let inner = &bytes[(3 - shift) % 3..];
    encode::base64(&inner[..inner.len() / 3 * 3], alphabet).into_bytes()
}

/// All stretches of its random part; those of a key of many lines from three of them.
fn pieces(canary: &Canary) -> Vec<&str> {
    let lines: Vec<&str> = canary.lines().filter(|line| line.len() >= PIECE).collect();
    let picked: Vec<&str> = match lines[..] {
        [first, .., last] if lines.len() > 3 => vec![first, lines[lines.len() / 2], last],
        _ => lines,
    };
    let windows = |line| (0..=str::len(line) - PIECE).map(move |at| &line[at..at + PIECE]);
    picked.into_iter().flat_map(windows).collect()
}

fn automaton(patterns: &[Vec<u8>]) -> Result<AhoCorasick, KitError> {
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(patterns)
        .map_err(|e| KitError::broken("the needles", Path::new("canaries"), e.to_string()))
}

fn case_blind<'a>(words: impl Iterator<Item = &'a str>) -> Result<AhoCorasick, KitError> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(words)
        .map_err(|e| KitError::broken("the words", Path::new("canaries"), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Kind, Place};
    use super::*;
    use crate::random::Random;

    fn canary(kind: Kind) -> Canary {
        Canary::new(0, Place::Text, kind, &mut Random::new(5))
    }

    fn seen(canary: &Canary, haystack: &[u8]) -> HashSet<(Form, bool)> {
        let needles = Needles::new(std::slice::from_ref(canary)).unwrap();
        needles.find(haystack).map(|(_, form, is_whole)| (form, is_whole)).collect()
    }

    /// Would catch: a judge that does not know a value in one of its forms.
    #[test]
    fn every_form_is_known_in_whole() {
        for kind in Kind::ALL {
            let canary = canary(kind);
            for (form, bytes) in forms(&canary.value) {
                let haystack = [b"some ", &bytes[..], b" more"].concat();
                let found = seen(&canary, &haystack);
                // Where two forms are the same text the plainer one names it.
                assert!(
                    found.iter().any(|(_, is_whole)| *is_whole),
                    "{kind:?} as {form:?}: {found:?}"
                );
            }
        }
    }

    /// Would catch: an alignment of base64 that hides a value.
    #[test]
    fn base64_is_known_at_every_alignment() {
        for kind in Kind::ALL {
            let canary = canary(kind);
            for (before, after) in [("", ""), ("a", "b"), ("ab", "cd"), ("abc", "d")] {
                let text = format!("{before}{}{after}", canary.value);
                for alphabet in [STANDARD, URL_SAFE] {
                    let found = seen(&canary, encode::base64(text.as_bytes(), alphabet).as_bytes());
                    assert!(
                        found.iter().any(|(_, is_whole)| *is_whole),
                        "{kind:?} after {before:?}"
                    );
                }
            }
        }
    }

    /// Would catch: a redactor that takes out the first half of a secret and is praised for it; a judge that
    /// takes a provider's prefix for a secret.
    #[test]
    fn a_piece_is_a_leak_and_a_prefix_is_none() {
        for kind in Kind::ALL {
            let canary = canary(kind);
            let first = canary.lines().next().unwrap();
            let middle = (first.len() - PIECE) / 2;
            for at in [0, middle, first.len() - PIECE] {
                let found = seen(&canary, &first.as_bytes()[at..at + PIECE]);
                assert_eq!(found, HashSet::from([(Form::Plain, false)]), "{kind:?} at {at}");
                let shorter = seen(&canary, &first.as_bytes()[at..at + PIECE - 1]);
                assert_eq!(shorter, HashSet::new(), "{kind:?} at {at}");
            }
            let other = Canary::new(1, Place::Text, kind, &mut Random::new(6));
            assert_eq!(seen(&canary, other.text.as_bytes()), HashSet::new(), "{kind:?}");
        }
    }
}
