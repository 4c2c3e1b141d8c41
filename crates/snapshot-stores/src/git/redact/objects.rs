//! Commits and tags cut into the pieces that secrets are looked for in, and put together again.

use std::borrow::Cow;

use git2::{ObjectType, Oid};

use super::super::walk::id_line;

/// Headers that sign what stands in the object, or in another.
const SIGNATURES: [&[u8]; 3] = [b"gpgsig", b"gpgsig-sha256", b"mergetag"];
/// First lines of the signature at the end of a signed tag's message, as git knows them.
const SIGNATURE_LINES: [&[u8]; 4] = [
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----BEGIN PGP MESSAGE-----",
    b"-----BEGIN SIGNED MESSAGE-----",
    b"-----BEGIN SSH SIGNATURE-----",
];

/// A commit or a tag.
pub(super) struct Raw<'a> {
    pub(super) headers: Vec<Header<'a>>,
    /// None where it ends with its headers.
    pub(super) message: Option<&'a [u8]>,
    /// What signs a tag, at the end of its message.
    pub(super) signature: Option<&'a [u8]>,
}

/// A header, by what may be in it.
pub(super) enum Header<'a> {
    /// An id; with the label before it.
    Link { label: &'a [u8], id: Oid },
    /// The type of a tag's object, the whole line.
    Kept(&'a [u8]),
    /// `name <mail>`, and the time behind it.
    Who { label: &'a [u8], who: &'a [u8], when: &'a [u8] },
    /// The name of a tag.
    Name(&'a [u8]),
    /// A signature, label and all, unfolded.
    Signature(Cow<'a, [u8]>),
    /// Anything else, label and all, unfolded.
    Text(Cow<'a, [u8]>),
}

impl<'a> Raw<'a> {
    /// Of the whole content of a commit or a tag.
    pub(super) fn parse(kind: ObjectType, content: &'a [u8]) -> Self {
        let is_tag = kind == ObjectType::Tag;
        let (mut headers, mut rest) = (Vec::new(), content);
        let mut message = None;
        while !rest.is_empty() {
            if let Some(text) = rest.strip_prefix(b"\n") {
                message = Some(text);
                break;
            }
            let end = header_end(rest);
            headers.push(Header::parse(is_tag, &rest[..end]));
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        let signature_at = message.filter(|_| is_tag).and_then(signature_at);
        let (message, signature) = match (message, signature_at) {
            (Some(message), Some(at)) => (Some(&message[..at]), Some(&message[at..])),
            (message, _) => (message, None),
        };
        Self { headers, message, signature }
    }
}

impl<'a> Header<'a> {
    fn parse(is_tag: bool, line: &'a [u8]) -> Self {
        let space = line.iter().position(|&b| b == b' ').map_or(line.len(), |at| at + 1);
        let (label, value) = line.split_at(space);
        match (label, is_tag) {
            (b"tree " | b"parent ", false) | (b"object ", true) => {
                if let Some(id) = id_line(line, label) {
                    return Self::Link { label, id };
                }
            }
            (b"author " | b"committer ", false) | (b"tagger ", true) => {
                if let Some((who, when)) = who(value) {
                    return Self::Who { label, who, when };
                }
            }
            (b"type ", true) if matches!(value, b"commit" | b"tree" | b"blob" | b"tag") => {
                return Self::Kept(line);
            }
            (b"tag ", true) if !value.contains(&b'\n') => return Self::Name(value),
            _ => {}
        }
        match SIGNATURES.contains(&label.trim_ascii_end()) {
            true => Self::Signature(unfold(line)),
            false => Self::Text(unfold(line)),
        }
    }
}

/// A header's text, continued as git continues lines.
pub(super) fn fold(text: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
    lines.join(&b"\n "[..])
}

/// `name <mail>` without what git could not parse, from a redacted one.
pub(super) fn parsable_who(who: Vec<u8>) -> Vec<u8> {
    let is_plain = |part: &[u8]| !part.iter().any(|b| matches!(b, b'<' | b'>' | b'\n' | b'\0'));
    let mut parts = who.strip_suffix(b">").unwrap_or_default().splitn(2, |&b| b == b'<');
    if let (Some(name), Some(mail)) = (parts.next(), parts.next())
        && (name.is_empty() || name.ends_with(b" "))
        && is_plain(name)
        && is_plain(mail)
    {
        return who;
    }
    // The name swallowed the mail.
    let mut name: Vec<u8> = who.into_iter().filter(|b| is_plain(&[*b])).collect();
    name.extend_from_slice(b" <>");
    name
}

/// Where the line ends that no line continues.
fn header_end(rest: &[u8]) -> usize {
    let mut ends = memchr::memchr_iter(b'\n', rest);
    ends.find(|&end| rest.get(end + 1) != Some(&b' ')).unwrap_or(rest.len())
}

fn unfold(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&b'\n') {
        return Cow::Borrowed(line);
    }
    let mut lines = line.split(|&b| b == b'\n');
    let mut text = lines.next().unwrap_or_default().to_vec();
    for line in lines {
        text.push(b'\n');
        text.extend_from_slice(line.strip_prefix(b" ").unwrap_or(line));
    }
    Cow::Owned(text)
}

/// `name <mail>` and ` <seconds> <zone>`; none where it is not written so.
fn who(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = value.iter().rposition(|&b| b == b'>')? + 1;
    let (who, when) = value.split_at(end);
    let text = std::str::from_utf8(when).ok()?.strip_prefix(' ')?;
    let (seconds, zone) = text.split_once(' ')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let zone = zone.strip_prefix(['+', '-'])?;
    let is_when = digits(seconds.strip_prefix('-').unwrap_or(seconds)) && digits(zone);
    (is_when && who.contains(&b'<') && !who.contains(&b'\n')).then_some((who, when))
}

/// Where the signature begins that ends a message: with its last first line, as git has it.
fn signature_at(message: &[u8]) -> Option<usize> {
    let mut starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', message).map(|at| at + 1));
    let is_first = |at: &usize| SIGNATURE_LINES.iter().any(|line| message[*at..].starts_with(line));
    starts.rfind(is_first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Would catch: a crafted object that makes the parser panic or go on for ever.
        #[test]
        fn no_object_makes_it_panic(content in proptest::collection::vec(prop_oneof![
            Just(b' '), Just(b'\n'), Just(b'<'), Just(b'>'), Just(b'0'), any::<u8>()], 0..120)) {
            for kind in [ObjectType::Commit, ObjectType::Tag] {
                let _ = Raw::parse(kind, &content);
            }
            let header = [b"x ", &content[..]].concat();
            let folded = fold(&header);
            prop_assert_eq!(&*unfold(&folded), &header[..]);
        }

        /// Would catch: a redacted identity that git cannot parse.
        #[test]
        fn who_can_be_parsed(text in "[ab <>\n]{0,12}") {
            let who = [parsable_who(text.into_bytes()), b" 1700000000 +0000".to_vec()].concat();
            prop_assert!(super::who(&who).is_some());
        }
    }

    /// Would catch: a key of a redacted name or mail that git takes for another.
    #[test]
    fn what_parses_stays_and_what_swallowed_the_mail_gets_an_empty_one() {
        let clean = |text: &str| String::from_utf8(parsable_who(text.as_bytes().to_vec())).unwrap();
        assert_eq!(clean("[REDACTED:x] <a@[REDACTED:x]>"), "[REDACTED:x] <a@[REDACTED:x]>");
        assert_eq!(clean("Ana [REDACTED:x]"), "Ana [REDACTED:x] <>");
        assert_eq!(clean("a<b> <c>\n"), "ab c <>");
    }

    /// Would catch: a secret of several lines that a header's continuation hides.
    #[test]
    fn a_continued_header_is_one_text() {
        let raw = Raw::parse(ObjectType::Commit, b"tree x\nnote one\n two\n \n three\nmore\n\nx");
        let text = |header: &Header<'_>| match header {
            Header::Text(text) => text.to_vec(),
            _ => Vec::new(),
        };
        let texts: Vec<_> = raw.headers.iter().map(text).collect();
        assert_eq!(texts, [&b"tree x"[..], b"note one\ntwo\n\nthree", b"more"]);
    }

    /// Would catch: a signature that is taken for text, or a message that is cut short.
    #[test]
    fn a_tags_signature_is_its_last() {
        let content = b"object x\n\nsaid:\n-----BEGIN PGP SIGNATURE-----\nquoted\n\
                        -----BEGIN SSH SIGNATURE-----\nreal\n";
        let raw = Raw::parse(ObjectType::Tag, content);
        assert!(raw.message.unwrap().ends_with(b"quoted\n"));
        assert!(raw.signature.unwrap().ends_with(b"real\n"));
        assert!(Raw::parse(ObjectType::Commit, content).signature.is_none());
    }
}
