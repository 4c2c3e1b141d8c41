//! Text with and without secrets.

use proptest::prelude::*;
use snapshot_bundle::redact::{KnownSecrets, Replacer, Rules, Search};
use snapshot_core::{Redactor, SecretSearch};

/// A key for tags.
pub(crate) const KEY: [u8; 32] = [7; 32];
/// A secret that a rule finds wherever it stands.
pub(crate) const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
/// Another.
pub(crate) const OTHER: &str = "npm_0dGVzdHRva2VuZm9yYXRlc3QxMjM0NTY3ODk";

/// What is found in `bytes`, by the built-in rules.
pub(crate) fn values(bytes: &[u8]) -> Vec<String> {
    let rules = Rules::builtin();
    let found = Search::new(&*rules).search(bytes).into_iter();
    found.map(|one| String::from_utf8_lossy(&one.value).into_owned()).collect()
}

/// All secrets in `bytes`, as a first pass gathers them.
pub(crate) fn known(bytes: &[u8], is_key: bool) -> KnownSecrets {
    let rules = Rules::builtin();
    let mut known = KnownSecrets::default();
    for one in Search::new(&*rules).search(bytes) {
        known.add(&one, is_key).unwrap();
    }
    known
}

/// `bytes` after both passes.
pub(crate) fn redacted(bytes: &[u8]) -> Option<Vec<u8>> {
    let known = known(bytes, false);
    Replacer::new(&*Rules::builtin(), &known, KEY).redact(bytes)
}

/// Pieces of text in which secrets, what is like one, and what encodes one meet.
pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    let fixed = [
        TOKEN,
        OTHER,
        "password: ",
        "hunter2!Xy9",
        " ",
        "\n",
        "\"",
        "\\",
        "%",
        "\\u0067",
        "%67",
        "://",
        "@",
        ":",
        "=",
        "[REDACTED:github-pat]",
        "[REDACTED:",
        "REDACTED-",
        "token=",
        "-----BEGIN PRIVATE KEY-----\n",
        "MC4CAQAwBQYDK2VwBCIEIBftnHPp22SewYmmEmoMcX8VwI4IHwaqd",
        "-----END PRIVATE KEY-----",
        "Z2hwXzE2QzdlNDJGMjkyYzY5MTJFNzcxMGM4MzgzNDdBZTE3OEI0YQ==",
        "eyJhbGciOiJIUzI1NiJ9xx",
        ".",
        "key",
        "\0",
        "kind: secret",
        "data:",
        "AKIAQ3EGVQTUDMCXHLEQ",
    ];
    let piece = prop_oneof![
        8 => proptest::sample::select(fixed.map(|text| text.as_bytes().to_vec()).to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
        1 => "[ -~]{0,12}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}
