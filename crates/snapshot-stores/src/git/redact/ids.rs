//! Mentions of objects in text: runs of hexadecimal digits.

use std::ops::Range;

/// Digits of a whole id.
pub(super) const WHOLE: usize = 40;
/// Digits of the shortest abbreviation that counts, git's default.
pub(super) const SHORTEST: usize = 7;

/// Asks `new` for each run of `shortest` to 40 hexadecimal digits in `text`, in lower case, and puts as
/// many digits of what it gives in its place.
pub(super) fn replace(
    text: &[u8],
    shortest: usize,
    new: &mut dyn FnMut(&str) -> Option<String>,
) -> Option<Vec<u8>> {
    let mut replaced: Option<Vec<u8>> = None;
    let mut copied = 0;
    for run in runs(text, shortest) {
        let old = &text[run.clone()];
        let lower = String::from_utf8_lossy(old).to_ascii_lowercase();
        let Some(mut id) = new(&lower) else { continue };
        id.truncate(old.len());
        if old.iter().any(u8::is_ascii_uppercase) {
            id.make_ascii_uppercase();
        }
        let replaced = replaced.get_or_insert_default();
        replaced.extend_from_slice(&text[copied..run.start]);
        replaced.extend_from_slice(id.as_bytes());
        copied = run.end;
    }
    let mut replaced = replaced?;
    replaced.extend_from_slice(&text[copied..]);
    Some(replaced)
}

/// Every run of `shortest` to 40 hexadecimal digits, with none before and behind it.
fn runs(text: &[u8], shortest: usize) -> impl Iterator<Item = Range<usize>> {
    let is_hex = |b: &u8| b.is_ascii_hexdigit();
    // Always at the start, or behind what is no digit.
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            // A run that begins at `at` or later covers this one.
            let probe = at + shortest - 1;
            if !is_hex(text.get(probe)?) {
                at = probe + 1;
                continue;
            }
            let before = text[at..probe].iter().rposition(|b| !is_hex(b));
            let start = before.map_or(at, |before| at + before + 1);
            let behind = text[probe..].iter().position(|b| !is_hex(b));
            let end = behind.map_or(text.len(), |behind| probe + behind);
            at = end + 1;
            if (shortest..=WHOLE).contains(&(end - start)) {
                return Some(start..end);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What [`runs`] is to find, the slow way.
    fn naive(text: &[u8], shortest: usize) -> Vec<Range<usize>> {
        let (mut found, mut start) = (Vec::new(), 0);
        for end in 0..=text.len() {
            if text.get(end).is_some_and(u8::is_ascii_hexdigit) {
                continue;
            }
            if (shortest..=WHOLE).contains(&(end - start)) {
                found.push(start..end);
            }
            start = end + 1;
        }
        found
    }

    proptest! {
        /// Would catch: a mention that the leaps over a text jump past.
        #[test]
        fn every_run_is_found(
            parts in proptest::collection::vec(("[0-9a-fA-F]{0,45}", "[g-z ]{0,9}"), 0..12),
            shortest in prop_oneof![Just(SHORTEST), Just(WHOLE)],
        ) {
            let text: String = parts.into_iter().map(|(hex, other)| hex + &other).collect();
            let found: Vec<_> = runs(text.as_bytes(), shortest).collect();
            prop_assert_eq!(found, naive(text.as_bytes(), shortest));
        }
    }

    /// Would catch: an abbreviation that grows, capitals that stay old, text that gets lost.
    #[test]
    fn mentions_keep_their_length_and_case() {
        let new = |old: &str| {
            old.starts_with("abcdef1").then(|| "0123456789".repeat(4).replace('9', "f"))
        };
        let replaced = |text: &str| {
            let replaced = replace(text.as_bytes(), SHORTEST, &mut { new });
            replaced.map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(replaced("see abcdef1."), Some("see 0123456.".to_owned()));
        assert_eq!(replaced("ABCDEF1234 gabcdef1"), Some("012345678F g0123456".to_owned()));
        assert_eq!(replaced("abcdef and 1234567"), None);
    }
}
