//! Other ways to read the same bytes: UTF-16, JSON escapes, percent-encoding, base64, hexadecimal.
//!
//! Invariant: every byte of a view is of a known range of what was read, and those ranges go front to back.

use std::ops::Range;

use super::runs::{Runs, is_base64};

/// Shortest encoded text that is looked into, decoded.
const MIN_DECODED: usize = 16;
/// Letters that so many bytes take in base64.
const MIN_BASE64: usize = 22;
/// Digits that they take in hexadecimal.
const MIN_HEX: usize = 2 * MIN_DECODED;
/// Longest run that is taken out as a whole; of a longer one only what encodes the secret.
pub(super) const MAX_RUN: usize = 32 * 1024;
/// Every so many letters of a long run it is known where they lie: one is found near by.
const LETTERS_STEP: usize = 1024;
/// Lines of encoded text that are wrapped have at least so many letters, but for the last.
const MIN_LINE: usize = 40;
/// Text that is read around an escape.
const AROUND: usize = 4 * 1024;
/// Bytes that are looked at to know UTF-16 without a mark.
const SAMPLE: usize = 4 * 1024;

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In bytes that keep ASCII.
    Plain,
    /// In units of two bytes, the low one first or last.
    Utf16 { little: bool },
}

/// Bytes that were read another way, and where they come from.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Where the last part ends.
    end: usize,
}

/// A part of a view, up to the next one.
#[derive(Debug, Clone, Copy)]
struct Part {
    view: usize,
    origin: usize,
    /// Bytes of the origin for each byte; none where the part is of one piece.
    step: Option<usize>,
}

/// An encoded text that was found.
pub(super) struct Run {
    pub(super) range: Range<usize>,
    pub(super) code: Code,
}

/// What encodes a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Base64,
    Hex,
}

impl View {
    /// What the bytes in `range` of the view come from; `range` is not empty.
    pub(super) fn origin(&self, range: &Range<usize>) -> Range<usize> {
        let first = self.part(range.start);
        let last = self.part(range.end.saturating_sub(1).max(range.start));
        let start = match first {
            Some((part, _)) => {
                part.origin + part.step.map_or(0, |step| (range.start - part.view) * step)
            }
            None => 0,
        };
        let end = match last {
            Some((Part { view, origin, step: Some(step) }, _)) => {
                origin + (range.end - view) * step
            }
            Some((_, next)) => next,
            None => self.end,
        };
        start..end.max(start)
    }

    /// The part that holds byte `at` of the view, and where the next one starts in the origin.
    fn part(&self, at: usize) -> Option<(Part, usize)> {
        let index = self.parts.partition_point(|part| part.view <= at).checked_sub(1)?;
        let next = self.parts.get(index + 1).map_or(self.end, |next| next.origin);
        Some((self.parts[index], next))
    }

    /// Adds bytes that stand in the origin as they are.
    fn copy(&mut self, bytes: &[u8], range: Range<usize>) {
        if !range.is_empty() {
            self.parts.push(Part { view: self.bytes.len(), origin: range.start, step: Some(1) });
            self.bytes.extend_from_slice(&bytes[range.clone()]);
            self.end = range.end;
        }
    }

    /// Adds a piece that `range` of the origin stands for.
    fn piece(&mut self, piece: &[u8], range: Range<usize>) {
        if !piece.is_empty() {
            self.parts.push(Part { view: self.bytes.len(), origin: range.start, step: None });
            self.bytes.extend_from_slice(piece);
        }
        self.end = range.end;
    }
}

impl Form {
    /// By the mark at its start, or by the zero bytes of ASCII in UTF-16.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xff, 0xfe, ..] => Self::Utf16 { little: true },
            [0xfe, 0xff, ..] => Self::Utf16 { little: false },
            _ => Self::by_zeros(&bytes[..bytes.len().min(SAMPLE)]),
        }
    }

    fn by_zeros(sample: &[u8]) -> Self {
        if sample.len() < MIN_DECODED || memchr::memchr(0, sample).is_none() {
            return Self::Plain;
        }
        let pairs = sample.len() / 2;
        let zeros = |side: usize| sample.chunks_exact(2).filter(|pair| pair[side] == 0).count();
        let (high, low) = (zeros(0), zeros(1));
        // Latin text has a zero in most units, and hardly any on the other side.
        let is_text = |many: usize, few: usize| many * 10 >= pairs * 4 && few * 20 <= pairs;
        match (is_text(low, high), is_text(high, low)) {
            (true, _) => Self::Utf16 { little: true },
            (_, true) => Self::Utf16 { little: false },
            _ => Self::Plain,
        }
    }

    /// `ascii` written so.
    pub(super) fn write(self, ascii: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => ascii.to_vec(),
            Self::Utf16 { little: true } => ascii.iter().flat_map(|&c| [c, 0]).collect(),
            Self::Utf16 { little: false } => ascii.iter().flat_map(|&c| [0, c]).collect(),
        }
    }
}

/// UTF-16 as UTF-8; half a pair is `?`.
pub(super) fn utf16(bytes: &[u8], little: bool) -> View {
    let unit = |pair: &[u8]| match little {
        true => u16::from_le_bytes([pair[0], pair[1]]),
        false => u16::from_be_bytes([pair[0], pair[1]]),
    };
    let mut view = View { bytes: Vec::with_capacity(bytes.len() / 2), ..View::default() };
    let mut at = 0;
    let mut ascii = false;
    for c in char::decode_utf16(bytes.chunks_exact(2).map(unit)) {
        let c = c.unwrap_or('?');
        let width = 2 * c.len_utf16();
        if c.is_ascii() {
            if !ascii {
                view.parts.push(Part { view: view.bytes.len(), origin: at, step: Some(2) });
            }
            view.bytes.extend(u8::try_from(c));
            view.end = at + width;
        } else {
            view.piece(c.encode_utf8(&mut [0; 4]).as_bytes(), at..at + width);
        }
        ascii = c.is_ascii();
        at += width;
    }
    view
}

/// `bytes` without the escapes of JSON strings, as far as they lie near one; none where there is none.
pub(super) fn unescape_json(bytes: &[u8]) -> Vec<View> {
    unescape(bytes, b'\\', json_escape)
}

/// `bytes` without percent-encoding, likewise.
pub(super) fn unescape_percent(bytes: &[u8]) -> Vec<View> {
    unescape(bytes, b'%', |rest| {
        let mut piece = Piece::default();
        piece.push(hex_byte(rest.get(1..3)?)?);
        Some((piece, 3))
    })
}

/// What an escape stands for.
#[derive(Default)]
struct Piece {
    bytes: [u8; 4],
    len: usize,
}

impl Piece {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl From<char> for Piece {
    fn from(c: char) -> Self {
        let mut bytes = [0; 4];
        let len = c.encode_utf8(&mut bytes).len();
        Self { bytes, len }
    }
}

/// Decodes what `escape` takes, in one view for each group of escapes that lie near each other.
fn unescape(bytes: &[u8], mark: u8, escape: impl Fn(&[u8]) -> Option<(Piece, usize)>) -> Vec<View> {
    let mut views: Vec<View> = Vec::new();
    let mut from = 0;
    while let Some(found) = memchr::memchr(mark, &bytes[from..]) {
        let at = from + found;
        let Some((piece, length)) = escape(&bytes[at..]) else {
            from = at + 1;
            continue;
        };
        match views.last_mut() {
            Some(view) if at - view.end <= 2 * AROUND => view.copy(bytes, view.end..at),
            last => {
                let mut start = at.saturating_sub(AROUND);
                if let Some(view) = last {
                    view.copy(bytes, view.end..view.end + AROUND);
                    start = start.max(view.end);
                }
                let mut view = View::default();
                view.copy(bytes, start..at);
                views.push(view);
            }
        }
        if let Some(view) = views.last_mut() {
            view.piece(piece.as_slice(), at..at + length);
        }
        from = at + length;
    }
    if let Some(view) = views.last_mut() {
        view.copy(bytes, view.end..bytes.len().min(view.end + AROUND));
    }
    views
}

fn json_escape(rest: &[u8]) -> Option<(Piece, usize)> {
    let c = match rest.get(1)? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return unicode_escape(rest),
        &c @ (b'"' | b'\\' | b'/') => char::from(c),
        _ => return None,
    };
    Some((c.into(), 2))
}

fn unicode_escape(rest: &[u8]) -> Option<(Piece, usize)> {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let (high, low) = (hex_byte(&digits[..2])?, hex_byte(&digits[2..])?);
        Some(u16::from_be_bytes([high, low]))
    };
    let first = unit(0)?;
    let pair = (0xd800..0xdc00).contains(&first).then(|| unit(6)).flatten();
    let mut units = [first, pair.unwrap_or_default()].into_iter();
    let mut decoded = char::decode_utf16(units.by_ref().take(1 + usize::from(pair.is_some())));
    match decoded.next()? {
        Ok(c) => Some((c.into(), 3 * 2 * c.len_utf16())),
        Err(_) => Some(('?'.into(), 6)),
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    Some(hex_digit(*digits.first()?)? << 4 | hex_digit(*digits.get(1)?)?)
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Runs of base64 and hexadecimal, front to back; those of hexadecimal lie in others of base64.
pub(super) fn encoded_runs(bytes: &[u8], mut each: impl FnMut(Run)) {
    let mut from = 0;
    for line in Runs::new(bytes, MIN_BASE64, is_base64) {
        if line.start < from {
            continue;
        }
        let mut range = wrapped(bytes, line);
        from = range.end;
        for hex in Runs::new(&bytes[range.clone()], MIN_HEX, |c| hex_digit(c).is_some()) {
            let range = range.start + hex.start..range.start + hex.end;
            each(Run { range, code: Code::Hex });
        }
        let text = &bytes[range.clone()];
        // Bytes of text have both in base64; words of a path or a sentence with dashes do not.
        let mixed =
            text.iter().any(u8::is_ascii_uppercase) && text.iter().any(u8::is_ascii_lowercase);
        if mixed {
            range.end += bytes[range.end..].iter().take(2).take_while(|&&c| c == b'=').count();
            each(Run { range, code: Code::Base64 });
        }
    }
}

/// A line of letters with those after it, where it is long and the next starts with letters.
fn wrapped(bytes: &[u8], line: Range<usize>) -> Range<usize> {
    let Range { start, mut end } = line;
    let mut last = start;
    while end - last >= MIN_LINE {
        let rest = &bytes[end..];
        let Some(rest) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) else {
            break;
        };
        let blank = rest.iter().take(16).take_while(|&&c| c == b' ' || c == b'\t').count();
        let letters = rest[blank..].iter().take_while(|&&c| is_base64(c)).count();
        if letters == 0 || !is_line(&rest[blank..], letters) {
            break;
        }
        last = bytes.len() - rest.len() + blank;
        // What is longer than the line before is another text.
        if letters > 2 * (end - start) {
            break;
        }
        end = last + letters;
    }
    start..end
}

/// Whether so many letters are a line of wrapped base64, and not the word that the next text begins with.
fn is_line(rest: &[u8], letters: usize) -> bool {
    let (line, rest) = rest.split_at(letters);
    let ends = rest.first().is_none_or(|c| matches!(c, b'=' | b'\r' | b'\n' | b'"' | b'\'' | b'<'));
    let has = |is: fn(&u8) -> bool| line.iter().any(is);
    ends || has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
}

impl Run {
    /// Ways to decode it: a text in front that is of the same letters shifts what follows.
    pub(super) const fn shifts(&self) -> usize {
        match self.code {
            Code::Base64 => 4,
            Code::Hex => 2,
        }
    }

    /// The run without its first `shift` letters, decoded. Line ends are of no account.
    pub(super) fn decode(&self, bytes: &[u8], shift: usize, into: &mut Vec<u8>) {
        into.clear();
        let letters = bytes[self.range.clone()].iter();
        match self.code {
            Code::Hex => {
                let mut digits = letters.filter_map(|&c| hex_digit(c)).skip(shift);
                while let (Some(high), Some(low)) = (digits.next(), digits.next()) {
                    into.push(high << 4 | low);
                }
            }
            Code::Base64 => {
                let (mut bits, mut have) = (0u32, 0);
                for digit in letters.filter_map(|&c| base64_digit(c)).skip(shift) {
                    bits = (bits << 6 | u32::from(digit)) & 0xffff;
                    have += 6;
                    if have >= 8 {
                        have -= 8;
                        into.extend(u8::try_from(bits >> have & 0xff));
                    }
                }
            }
        }
    }

    /// Where its letters lie, of every so many; for what is very long alone, of which only parts are taken out.
    pub(super) fn letters(&self, bytes: &[u8]) -> Vec<usize> {
        if self.range.len() <= MAX_RUN {
            return Vec::new();
        }
        let letters = self.range.clone().filter(|&at| self.counts(bytes[at]));
        letters.step_by(LETTERS_STEP).collect()
    }

    fn counts(&self, letter: u8) -> bool {
        match self.code {
            Code::Hex => hex_digit(letter).is_some(),
            Code::Base64 => base64_digit(letter).is_some(),
        }
    }

    /// What encodes the bytes in `decoded`, by whole groups of letters: all of it, unless it is very long.
    /// `letters` are those of [`Run::letters`].
    pub(super) fn origin(
        &self,
        bytes: &[u8],
        letters: &[usize],
        shift: usize,
        decoded: &Range<usize>,
    ) -> Range<usize> {
        if self.range.len() <= MAX_RUN {
            return self.range.clone();
        }
        let (first, last) = match self.code {
            Code::Hex => (2 * decoded.start, 2 * decoded.end),
            Code::Base64 => (decoded.start / 3 * 4, decoded.end.div_ceil(3) * 4),
        };
        let nth = |n: usize| {
            let from = *letters.get(n / LETTERS_STEP)?;
            let near = (from..self.range.end).filter(|&at| self.counts(bytes[at]));
            { near }.nth(n % LETTERS_STEP)
        };
        let start = nth(shift + first).unwrap_or(self.range.start);
        let end = nth(shift + last.saturating_sub(1)).map_or(self.range.end, |at| at + 1);
        start..end.max(start)
    }
}
