//! What a [`StateProvider`] must keep to.
//!
//! Invariant: both pieces of the provider are overwritten; a check wants one with nothing to lose.

use std::sync::Arc;

use serde_json::Value;
use snapshot_core::{StateKind, StateProvider};

use super::{ConformanceError, Kept, same};

/// A provider, and what it may be given.
pub struct Subject {
    /// What is checked.
    pub provider: Arc<dyn StateProvider>,
    /// Two different documents of a kind that it takes.
    pub documents: fn(StateKind) -> [Vec<u8>; 2],
}

/// One rule.
pub type Rule = super::Rule<Subject>;

/// Every rule.
pub const RULES: [Rule; 8] = [
    Rule { name: "nothing_is_captured_as_none", check: nothing_is_captured_as_none },
    Rule { name: "what_is_put_back_is_captured", check: what_is_put_back_is_captured },
    Rule { name: "its_own_comes_back_byte_for_byte", check: its_own_comes_back_byte_for_byte },
    Rule { name: "none_removes", check: none_removes },
    Rule { name: "a_restore_may_be_repeated", check: a_restore_may_be_repeated },
    Rule { name: "the_kinds_are_apart", check: the_kinds_are_apart },
    Rule { name: "capturing_changes_nothing", check: capturing_changes_nothing },
    Rule { name: "what_is_no_json_does_no_harm", check: what_is_no_json_does_no_harm },
];

/// Checks every rule, to the first that is not kept.
///
/// # Errors
/// If one is not kept.
pub fn check(subject: &Subject) -> Result<(), ConformanceError> {
    RULES.iter().try_for_each(|rule| rule.check(subject))
}

impl Subject {
    /// Of a provider that takes any JSON.
    #[must_use]
    pub fn of_any_json(provider: Arc<dyn StateProvider>) -> Self {
        Self { provider, documents: any_json }
    }

    fn capture(&self, kind: StateKind) -> Result<Option<Vec<u8>>, String> {
        self.provider.capture(kind).map_err(|e| format!("capture of {}: {e}", kind.as_str()))
    }

    fn restore(&self, kind: StateKind, json: Option<&[u8]>) -> Kept {
        self.provider.restore(kind, json).map_err(|e| format!("restore of {}: {e}", kind.as_str()))
    }

    /// Puts the first document of each kind back.
    fn fill(&self) -> Kept {
        StateKind::ALL
            .into_iter()
            .try_for_each(|kind| self.restore(kind, Some(&(self.documents)(kind)[0])))
    }

    /// What is captured is this document, however it is spelled.
    fn holds_document(&self, kind: StateKind, document: &[u8]) -> Kept {
        let captured = self.capture(kind)?.map(|bytes| value(&bytes)).transpose()?;
        same(kind.as_str(), &captured, &Some(value(document)?))
    }
}

/// Where a provider has nothing it says so, and does not make a document of it.
fn nothing_is_captured_as_none(subject: &Subject) -> Kept {
    StateKind::ALL.into_iter().try_for_each(|kind| {
        subject.restore(kind, None)?;
        same(kind.as_str(), &text(subject.capture(kind)?), &None)
    })
}

/// The document that was put back is there, in place of the one before and not merged with it.
fn what_is_put_back_is_captured(subject: &Subject) -> Kept {
    for kind in StateKind::ALL {
        for document in (subject.documents)(kind) {
            subject.restore(kind, Some(&document))?;
            subject.holds_document(kind, &document)?;
        }
    }
    Ok(())
}

/// What a provider spelled itself it spells so again: after a crash, a recovery compares bytes.
fn its_own_comes_back_byte_for_byte(subject: &Subject) -> Kept {
    for kind in StateKind::ALL {
        let [one, other] = (subject.documents)(kind);
        subject.restore(kind, Some(&one))?;
        let own = subject.capture(kind)?;
        subject.restore(kind, Some(&other))?;
        subject.restore(kind, own.as_deref())?;
        same(kind.as_str(), &text(subject.capture(kind)?), &text(own))?;
    }
    Ok(())
}

/// A piece that the snapshot lacks goes.
fn none_removes(subject: &Subject) -> Kept {
    subject.fill()?;
    nothing_is_captured_as_none(subject)
}

/// A recovery may repeat what the restore did.
fn a_restore_may_be_repeated(subject: &Subject) -> Kept {
    for kind in StateKind::ALL {
        let [document, _] = (subject.documents)(kind);
        subject.restore(kind, Some(&document))?;
        let once = text(subject.capture(kind)?);
        subject.restore(kind, Some(&document))?;
        same(kind.as_str(), &text(subject.capture(kind)?), &once)?;
        subject.restore(kind, None)?;
        subject.restore(kind, None)?;
        same(kind.as_str(), &text(subject.capture(kind)?), &None)?;
    }
    Ok(())
}

/// Neither kind's restore touches the other.
fn the_kinds_are_apart(subject: &Subject) -> Kept {
    let [cursor, run] = StateKind::ALL;
    for (kind, other) in [(cursor, run), (run, cursor)] {
        subject.fill()?;
        let before = text(subject.capture(other)?);
        for json in [Some((subject.documents)(kind)[1].as_slice()), None] {
            subject.restore(kind, json)?;
            same(other.as_str(), &text(subject.capture(other)?), &before)?;
        }
    }
    Ok(())
}

/// A capture is read until two agree, and repeated by every snapshot.
fn capturing_changes_nothing(subject: &Subject) -> Kept {
    subject.fill()?;
    let capture = || -> Result<_, String> {
        let [cursor, run] = StateKind::ALL.map(|kind| subject.capture(kind));
        Ok([text(cursor?), text(run?)])
    };
    let first = capture()?;
    same("again", &capture()?, &first)
}

/// A bundle may be crafted: what is no JSON is refused, and nothing changes, or it is kept as it is.
fn what_is_no_json_does_no_harm(subject: &Subject) -> Kept {
    for kind in StateKind::ALL {
        for damaged in [&b"{\"half\": "[..], b"\xff\0", b""] {
            subject.fill()?;
            let before = text(subject.capture(kind)?);
            let expected = match subject.provider.restore(kind, Some(damaged)) {
                Ok(()) => text(Some(damaged.to_owned())),
                Err(_) => before,
            };
            same(kind.as_str(), &text(subject.capture(kind)?), &expected)?;
        }
    }
    subject.fill()
}

/// Documents that a careless provider bends: a number past 2^53, one that is no whole, text of every sort.
fn any_json(kind: StateKind) -> [Vec<u8>; 2] {
    let kind = kind.as_str();
    [
        format!(r#"{{"kind": "{kind}", "at": 9007199254740993, "x": 0.1, "old": [null, {{}}]}}"#),
        format!(r#"{{"at": -1, "text": "\"\\\n\u0000\ud83d\ude00 ü", "kind": "{kind}"}}"#),
    ]
    .map(String::into_bytes)
}

fn value(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("{} is no JSON: {e}", bytes.escape_ascii()))
}

/// For people to read.
fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| bytes.escape_ascii().to_string())
}
