//! What stands where a secret was.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use snapshot_bundle::redact::{KnownSecrets, Replacer, Rules};
use snapshot_core::{FoundSecret, NameOf, Redactor, SecretSearch};

use crate::support::{KEY, OTHER, TOKEN, known, redacted, text};

static NOTHING: KnownSecrets = KnownSecrets::new();

fn found(value: &str) -> FoundSecret {
    let rule = "assigned-secret".into();
    FoundSecret { range: 0..value.len(), rule, value: value.into(), is_key: false }
}

fn knowing(values: &[&str]) -> KnownSecrets {
    let mut known = KnownSecrets::default();
    values.iter().for_each(|value| known.add(&found(value), false).unwrap());
    known
}

fn redacted_with(known: &KnownSecrets, text: &[u8]) -> Option<Vec<u8>> {
    Replacer::new(&*Rules::builtin(), known, KEY).redact(text)
}

/// Would catch: two values that become one where they are keys, or one that becomes two.
#[test]
fn keys_stay_different_and_equal() {
    let text = format!("{TOKEN} {OTHER} {TOKEN}");
    let known = known(text.as_bytes(), true);
    let left = redacted_with(&known, text.as_bytes()).unwrap();
    let left = String::from_utf8(left).unwrap();
    let parts: Vec<&str> = left.split(' ').collect();
    assert_eq!(parts[0], parts[2]);
    assert_ne!(parts[0], parts[1]);
    assert!(parts[0].starts_with("[REDACTED:github-pat:") && parts[0].len() == 32, "{left}");
    let rules = Rules::builtin();
    let other_key = Replacer::new(&*rules, &known, [8; 32]);
    assert_ne!(other_key.redact(text.as_bytes()).unwrap(), left.as_bytes());
    // Encoded with other words they are other values.
    let [a, b] = ["ana", "bob"].map(|who| STANDARD.encode(format!("{who} has {TOKEN}")));
    let left = redacted_with(&known, format!("{a} {b}").as_bytes()).unwrap();
    let left = String::from_utf8(left).unwrap();
    let (a, b) = left.split_once(' ').unwrap();
    assert_ne!(a, b);
}

/// Would catch: a known secret that survives where no rule sees it.
#[test]
fn what_is_known_goes_everywhere() {
    let secret = "Tr0ub4dor&3xyz";
    let known = knowing(&[secret]);
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let cases = [
        format!("it was {secret}, I think").into_bytes(),
        format!("it was {}, I think", STANDARD.encode(format!("so {secret} so"))).into_bytes(),
        format!("it was {}, I think", secret.replace('&', "\\u0026")).into_bytes(),
        format!("it was {}, I think", secret.replace('&', "%26")).into_bytes(),
        [&b"\x01\x02\x00\xff\xfe\xfd\x7f"[..], &utf16(secret), b"\x00\x01\xff"].concat(),
    ];
    for text in cases {
        let left = redacted_with(&known, &text).unwrap();
        assert!(!left.windows(6).any(|part| part == b"Tr0ub4"), "{text:?}");
    }
    assert_eq!(redacted_with(&known, b"it was tr0ub4dor&3xyz"), None, "in exactly these letters");
}

/// Would catch: `password: password1` taking a word out of every text.
#[test]
fn a_word_is_taken_out_only_where_a_rule_finds_it() {
    for word in [
        "password1",
        "postgres",
        "Sommer2024",
        "20241231",
        "localhost",
        "production",
        "hunter2",
        "admin_user",
    ] {
        let text = format!("we deploy with {word} on Friday");
        assert_eq!(redacted_with(&knowing(&[word]), text.as_bytes()), None, "{word}");
    }
    for value in ["Tr0ub4dor&3", "kX92-fLq0-aa1", "correct horse battery staple", "x7Gq93Lm"] {
        let text = format!("we deploy with {value} on Friday");
        assert!(redacted_with(&knowing(&[value]), text.as_bytes()).is_some(), "{value}");
    }
}

/// Would catch: an unbounded list of secrets.
#[test]
fn what_is_known_has_an_end() {
    let mut known = KnownSecrets::default();
    let value = |n: usize| FoundSecret { value: format!("{n:08}").into_bytes(), ..found("") };
    (0..200_000).for_each(|n| known.add(&value(n), false).unwrap());
    assert!(known.add(&value(200_000), false).is_err());
    known.add(&value(7), true).unwrap();
    assert_eq!(known.len(), 200_000);
    let big = FoundSecret { value: vec![b'x'; 33 << 20], ..found("") };
    assert!(KnownSecrets::default().add(&big, false).is_err());
}

/// Would catch: a length in front of a text in a binary cell that is no longer true.
#[test]
fn binary_data_keeps_its_length() {
    let data = [b"\x00\x28", TOKEN.as_bytes(), b"\x00 password: Tr0ub4dor&3", b"\x00\x01"].concat();
    let left = redacted(&data).unwrap();
    assert_eq!(left.len(), data.len());
    assert!(left.starts_with(
        b"\x00\x28[REDACTED:github-pat]*******************\x00 password: [REDACTED:a"
    ));
}

/// Would catch: a name that is no name any more, or two that fall together.
#[test]
fn names_are_taken_apart_from_their_secrets() {
    let rules = Rules::builtin();
    let replacer = Replacer::new(&*rules, &NOTHING, KEY);
    let name = |name: &str, of| {
        replacer.redact_name(name.as_bytes(), of).map(|name| String::from_utf8(name).unwrap())
    };
    for of in [NameOf::File, NameOf::Ref] {
        assert_eq!(name("notes.md", of), None);
        let (one, other) = (name(&format!("a-{TOKEN}.md"), of), name(&format!("a-{OTHER}.md"), of));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with("a-") && one.ends_with(".md") && !one.contains('/'), "{one}");
        assert_eq!(name(&one, of), None, "{one}");
        let long = format!("{}{TOKEN}", "x ".repeat(122));
        let short = name(&long, of).unwrap();
        assert!(short.len() < 100, "{short}");
    }
    let of_ref = name(TOKEN, NameOf::Ref).unwrap();
    assert!(of_ref.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'), "{of_ref}");
    assert_ne!(name(&format!("{TOKEN}-1"), NameOf::Ref), name(&format!("{OTHER}-1"), NameOf::Ref));
}

/// Would catch: an id of a commit that is no more left in a message, or the new one taken for an old one.
#[test]
fn old_git_ids_become_new_ones() {
    let (old, new) =
        ("4b825dc642cb6eb9a060e54bf8d69288fbee4904", "9daeafb9864cf43055ae93beb0afd6c7d144bfa4");
    let same = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    let known = KnownSecrets::default();
    let rules = Rules::builtin();
    let mut replacer = Replacer::new(&*rules, &known, KEY);
    replacer.set_ids(BTreeMap::from([(old.into(), new.into()), (same.into(), same.into())]));
    let text = format!("reverts {old}, see {} and {same}; not {old}0", old.to_uppercase());
    let left = replacer.redact(text.as_bytes()).unwrap();
    let expected = format!("reverts {new}, see {} and {same}; not {old}0", new.to_uppercase());
    assert_eq!(String::from_utf8(left).unwrap(), expected);
    let found = replacer.receipt().search(text.as_bytes());
    assert_eq!(found.iter().map(|one| &*one.rule).collect::<Vec<_>>(), ["old-git-id"; 2]);
    assert!(replacer.receipt().search(expected.as_bytes()).is_empty());
}

/// Would catch: counts that miss a place, or are given out twice.
#[test]
fn what_was_taken_out_is_counted() {
    let rules = Rules::builtin();
    let replacer = Replacer::new(&*rules, &NOTHING, KEY);
    replacer.redact(format!("{TOKEN} {OTHER} {TOKEN}").as_bytes());
    let counts = replacer.take_counts();
    assert_eq!(counts.get("github-pat"), Some(&2));
    assert_eq!(counts.get("npm-access-token"), Some(&1));
    assert!(replacer.take_counts().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Would catch: redaction that needs to be done twice, or leaves what a receipt finds.
    #[test]
    fn nothing_is_found_in_what_was_redacted(bytes in text(), is_key in any::<bool>()) {
        let known = known(&bytes, is_key);
        let rules = Rules::builtin();
        let replacer = Replacer::new(&*rules, &known, KEY);
        if let Some(left) = replacer.redact(&bytes) {
            prop_assert_eq!(replacer.redact(&left), None, "{:?}", String::from_utf8_lossy(&left));
            prop_assert!(replacer.receipt().search(&left).is_empty());
        }
    }

    /// Would catch: a name that can be redacted again, or has a slash.
    #[test]
    fn names_are_redacted_once(bytes in text()) {
        let rules = Rules::builtin();
        let replacer = Replacer::new(&*rules, &NOTHING, KEY);
        for of in [NameOf::File, NameOf::Ref] {
            if let Some(name) = replacer.redact_name(&bytes, of) {
                prop_assert!(!name.contains(&b'/') && !name.contains(&0));
                prop_assert_eq!(replacer.redact_name(&name, of), None, "{:?}", String::from_utf8_lossy(&name));
            }
        }
    }
}
