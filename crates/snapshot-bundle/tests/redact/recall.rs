//! How much of what is labelled as a secret is taken out; the whole report is an example of this crate.

use snapshot_bundle::redact::{Rules, Search};
use snapshot_core::SecretSearch;

use crate::labelled::{Sample, samples};

/// Would catch: a rule that is lost, or a context that hides secrets from all of them.
#[test]
fn labelled_secrets_are_found() {
    let rules = Rules::builtin();
    let search = Search::new(&*rules);
    let samples = samples(1);
    let missed: Vec<&Sample> = samples.iter().filter(|sample| !is_found(&search, sample)).collect();
    let names: Vec<_> = missed.iter().map(|sample| (sample.provider, sample.context)).collect();
    assert!(samples.len() > 900, "{}", samples.len());
    assert!(missed.len() * 20 <= samples.len(), "recall is below 0.95: {names:?}");
}

/// Would catch: a rule that takes ordinary text for a secret.
#[test]
fn ordinary_text_is_left_alone() {
    let rules = Rules::builtin();
    for text in [
        "Set the password in the settings; a token is made for you. The secret: keep it simple.",
        "See https://docs.rs/serde_json/latest/serde_json/value/struct.Map.html for the key type.",
        "let token: Option<&str> = parse_token(input)?; let key = map.keys().next();",
        "postgres://user:password@localhost/db and https://example.com:8080/a@b",
        "commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904 (HEAD -> main)",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "id: 6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d, primary_key = facts_by_day_2024",
        "API_KEY=${API_KEY} password: <your-password-here1> secret = \"$SECRET_2\"",
        "-----BEGIN PRIVATE KEY----- is the first line of such a file.",
        "Authorization: Bearer <token>, or Basic authentication-with-a-password",
        "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa is a recipient",
    ] {
        let found = Search::new(&*rules).search(text.as_bytes());
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}

fn is_found(search: &Search<'_>, sample: &Sample) -> bool {
    let mut left = sample.text.clone().into_bytes();
    for found in search.search(sample.text.as_bytes()) {
        left[found.range].fill(b'*');
    }
    let is_left = |part: &[u8]| left.windows(part.len()).any(|window| window == part);
    !sample.secret.as_bytes().chunks_exact(6).any(is_left)
}
