//! What stands where a secret was: `[REDACTED:<rule>]`, or `[REDACTED:<rule>:<tag>]` where values must
//! stay different; `REDACTED-<rule>-<tag>` in refs.
//!
//! Invariant: nothing that overlaps one is ever found, or redaction would have no end.

use std::ops::Range;

use memchr::memmem;

/// How one starts.
const OPEN: &[u8] = b"[REDACTED:";
/// How one in a ref starts.
const OPEN_REF: &[u8] = b"REDACTED-";
/// Longest id of a rule.
pub(super) const MAX_RULE_BYTES: usize = 64;
/// Hex digits of a tag.
pub(super) const TAG_DIGITS: usize = 10;
/// Longest placeholder.
pub(super) const MAX_BYTES: usize = OPEN.len() + MAX_RULE_BYTES + 1 + TAG_DIGITS + 1;

/// What takes the place of a secret.
pub(super) fn text(rule: &str, tag: Option<&str>) -> Vec<u8> {
    match tag {
        Some(tag) => format!("[REDACTED:{rule}:{tag}]").into_bytes(),
        None => format!("[REDACTED:{rule}]").into_bytes(),
    }
}

/// The same in a ref, which takes no brackets.
pub(super) fn in_ref(rule: &str, tag: &str) -> Vec<u8> {
    format!("REDACTED-{rule}-{tag}").into_bytes()
}

/// Whether the id of a rule can stand in a placeholder.
pub(super) fn is_rule_id(id: &str) -> bool {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=MAX_RULE_BYTES).contains(&id.len()) && id.bytes().all(fits)
}

/// Whether a placeholder shares a byte with `range`.
pub(super) fn overlaps(bytes: &[u8], range: &Range<usize>) -> bool {
    let from = range.start.saturating_sub(MAX_BYTES);
    let window = &bytes[from..bytes.len().min(range.end + OPEN.len())];
    memmem::find_iter(window, &OPEN_REF[..8]).any(|at| {
        let at = from + at;
        let end = end_of(bytes, at);
        end.is_some_and(|(start, end)| start < range.end && range.start < end)
    })
}

/// The placeholder whose `REDACTED` is at `at`.
fn end_of(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let body = &bytes[at + 8..bytes.len().min(at + MAX_BYTES)];
    let id = body.get(1..)?;
    let in_id = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    let length = id.iter().take_while(|c| in_id(c)).count();
    let hex = |tag: &[u8]| tag.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    match body.first()? {
        b':' if at > 0 && bytes[at - 1] == b'[' && length > 0 => {
            let after = &id[length..];
            let tagged = || {
                let tag = after.strip_prefix(b":")?.get(..=TAG_DIGITS)?;
                (hex(&tag[..TAG_DIGITS]) && tag[TAG_DIGITS] == b']').then_some(TAG_DIGITS + 2)
            };
            let closed = after.starts_with(b"]").then_some(1).or_else(tagged)?;
            Some((at - 1, at + 9 + length + closed))
        }
        b'-' => {
            // The tag is the last ten digits of what can be an id.
            let tag = id.get(length.checked_sub(TAG_DIGITS + 1)?..length)?;
            (tag[0] == b'-' && hex(&tag[1..]) && length > TAG_DIGITS + 1)
                .then_some((at, at + 9 + length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a placeholder of ours that is not known as one, or any bracket taken for one.
    #[test]
    fn what_we_write_is_known_and_nothing_else() {
        let tag = Some("0123456789");
        for ours in [text("a-1", None), text("a-1", tag), in_ref("a-1", "0123456789")] {
            for (before, after) in [(&b""[..], &b""[..]), (b"xyz", b" uvw")] {
                let bytes = [before, &ours, after].concat();
                for at in 0..bytes.len() {
                    let inside = (before.len()..before.len() + ours.len()).contains(&at);
                    assert_eq!(overlaps(&bytes, &(at..at + 1)), inside, "{at} of {bytes:?}");
                }
            }
        }
        for other in ["[REDACTED]", "[REDACTED:]", "[REDACTED:ghp_X]", "REDACTED", "REDACTED-abc"] {
            assert!(!overlaps(other.as_bytes(), &(0..other.len())), "{other}");
        }
    }
}
