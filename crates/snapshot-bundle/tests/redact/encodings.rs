//! Secrets in other encodings.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use snapshot_bundle::redact::{Rules, Search};
use snapshot_core::SecretSearch;

use crate::support::{TOKEN, redacted, text, values};

/// `text` with every character as an escape of JSON.
fn json_escaped(text: &str) -> String {
    text.bytes().map(|c| format!("\\u{c:04x}")).collect()
}

fn percent(text: &str) -> String {
    text.bytes().map(|c| format!("%{c:02X}")).collect()
}

fn utf16(text: &str, little: bool) -> Vec<u8> {
    let unit = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
    text.encode_utf16().flat_map(unit).collect()
}

fn wrapped(text: &str, width: usize, end: &str) -> String {
    let lines = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap());
    lines.collect::<Vec<_>>().join(end)
}

/// Would catch: an encoding that hides a secret, or whose range takes too much or too little.
#[test]
fn a_secret_is_found_in_each_encoding() {
    let long = format!("{} {TOKEN} {}", "some text before ".repeat(8), "and after it ".repeat(8));
    let base64 = STANDARD.encode(&long);
    for (name, encoded) in [
        ("plain", TOKEN.to_owned()),
        ("json", json_escaped(TOKEN)),
        ("json in json", json_escaped(TOKEN).replace('\\', "\\\\")),
        ("percent", percent(TOKEN)),
        ("percent twice", percent(TOKEN).replace('%', "%25")),
        ("hex", hex::encode(TOKEN)),
        ("HEX", hex::encode_upper(TOKEN)),
        ("base64", STANDARD.encode(TOKEN)),
        ("base64, no padding", STANDARD_NO_PAD.encode(TOKEN)),
        ("base64url", URL_SAFE.encode(format!("??>>{TOKEN} ??>>"))),
        ("base64url, no padding", URL_SAFE_NO_PAD.encode(format!("??>>{TOKEN} ??>>"))),
        ("base64, wrapped", wrapped(&base64, 76, "\n")),
        ("base64, wrapped otherwise", wrapped(&base64, 64, "\r\n")),
        ("base64, wrapped in json", wrapped(&base64, 64, "\\n")),
        ("base64 in base64", STANDARD.encode(STANDARD.encode(TOKEN))),
        ("base64 in json in base64", STANDARD.encode(json_escaped(&STANDARD.encode(TOKEN)))),
        ("base64 of UTF-16", STANDARD.encode(utf16(TOKEN, true))),
    ] {
        let whole = format!("before it ( {encoded} ) after it");
        assert_eq!(values(whole.as_bytes()), [TOKEN], "{name}");
        let left = String::from_utf8(redacted(whole.as_bytes()).unwrap()).unwrap();
        assert_eq!(left, "before it ( [REDACTED:github-pat] ) after it", "{name}");
    }
}

/// Would catch: the word with which the next line begins, taken for the end of base64.
#[test]
fn the_line_after_base64_stays() {
    let line = STANDARD_NO_PAD.encode(format!("??>>{TOKEN} and so on"));
    let text = format!("{line}\nMeeting at noon with Bob\n");
    let left = String::from_utf8(redacted(text.as_bytes()).unwrap()).unwrap();
    assert_eq!(left, "[REDACTED:github-pat]\nMeeting at noon with Bob\n");
}

/// Would catch: work that grows with the square of what somebody wrote; it would not end while we wait.
#[test]
fn many_secrets_in_one_run_are_found_in_time() {
    let many: String = (0..20_000).map(|n| format!("AKIAQ3EGRVN7ZT5L{n:04X} ")).collect();
    assert!(values(STANDARD.encode(many).as_bytes()).len() > 1000);
    assert_eq!(values("eyJ".repeat(200_000).as_bytes()), Vec::<String>::new());
}

/// Would catch: a range that is off by what an escape before it takes.
#[test]
fn only_the_secret_goes_from_escaped_text() {
    let escaped = format!(r#"{{"a":"\u00e9\n\"{TOKEN}\"\ud83d\ude00","b":"100%25 {TOKEN}%0A"}}"#);
    let left = redacted(escaped.as_bytes()).unwrap();
    assert_eq!(
        String::from_utf8(left).unwrap(),
        r#"{"a":"\u00e9\n\"[REDACTED:github-pat]\"\ud83d\ude00","b":"100%25 [REDACTED:github-pat]%0A"}"#
    );
}

/// Would catch: UTF-16 that is taken for binary, or comes back in another form.
#[test]
fn utf16_stays_utf16() {
    let text = format!("Das Passwort f\u{fc}r \u{1f600} ist anders, das Token {TOKEN} bleibt.");
    let left = text.replace(TOKEN, "[REDACTED:github-pat]");
    for little in [true, false] {
        let mark = utf16("\u{feff}", little);
        assert_eq!(redacted(&utf16(&text, little)).unwrap(), utf16(&left, little));
        let marked = [mark.clone(), utf16(&text, little)].concat();
        assert_eq!(redacted(&marked).unwrap(), [mark, utf16(&left, little)].concat());
        // Half a pair is as it was.
        let mut broken = utf16(&text, little);
        let lone = if little { [0x00, 0xd8] } else { [0xd8, 0x00] };
        broken.splice(0..2, lone);
        let mut expected = utf16(&left, little);
        expected.splice(0..2, lone);
        assert_eq!(redacted(&broken).unwrap(), expected);
    }
}

/// Would catch: a long attachment that hides a secret, or goes as a whole.
#[test]
fn of_a_very_long_run_only_the_secret_goes() {
    let noise: Vec<u8> = (0..60_000u32).map(|n| u8::try_from(n * n % 251).unwrap()).collect();
    let bytes = [noise.as_slice(), b" ", TOKEN.as_bytes(), b" ", noise.as_slice()].concat();
    let encoded = STANDARD.encode(bytes);
    let left = redacted(encoded.as_bytes()).unwrap();
    let left = String::from_utf8(left).unwrap();
    let (before, after) = left.split_once("[REDACTED:github-pat]").unwrap();
    assert!(encoded.starts_with(before) && encoded.ends_with(after));
    assert!((56..=64).contains(&(encoded.len() - before.len() - after.len())));
}

proptest! {
    /// Would catch: a range outside of what was read, or two that overlap, on whatever bytes there are.
    #[test]
    fn ranges_are_in_bounds_and_in_order(bytes in text()) {
        let rules = Rules::builtin();
        let found = Search::new(&*rules).search(&bytes);
        let mut end = 0;
        for one in found {
            prop_assert!(end <= one.range.start && one.range.start < one.range.end, "{one:?}");
            prop_assert!(one.range.end <= bytes.len());
            end = one.range.end;
        }
    }

    /// Would catch: a panic on bytes that are no text at all.
    #[test]
    fn any_bytes_can_be_searched(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        redacted(&bytes);
    }
}
