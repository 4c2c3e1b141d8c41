//! Pieces of runtime state, compared as JSON documents.

use serde_json::Value;
use serde_json::value::RawValue;
use snapshot_core::{
    ArtifactSource, BundlePath, Change, Difference, StateDifference, StateKind, StateSummary,
};

use super::report::Sink;
use crate::error::StoresError;
use crate::restore::read_piece;

/// Hears of a place, and what each side has there.
type Tell<'t> = dyn FnMut(String, Option<&Value>, Option<&Value>) + 't;

/// Says which pieces differ, and tells where.
pub(super) fn compare(
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    sink: &mut Sink<'_>,
    notes: &mut Vec<String>,
) -> Result<StateSummary, StoresError> {
    let mut summary = StateSummary::default();
    for kind in StateKind::ALL {
        let path = BundlePath::parse(kind.bundle_path())?;
        let digest =
            |side: &dyn ArtifactSource| side.manifest().artifact(&path).map(|piece| piece.sha256);
        if digest(a) == digest(b) {
            continue;
        }
        match kind {
            StateKind::ExtractCursor => summary.extract_cursor_changed = true,
            StateKind::DreamRun => summary.last_dream_run_changed = true,
        }
        if let Some(sink) = sink {
            let state = kind.as_str();
            let read = |side| read_piece(side, kind).map(|json| json.map(document));
            let (before, after) = (read(a)?, read(b)?);
            if before == after {
                notes.push(format!("{state} differs in how it is written"));
            }
            places(String::new(), before.as_ref(), after.as_ref(), &mut |path, old, new| {
                sink(Difference::State(StateDifference {
                    state: state.to_owned(),
                    path,
                    change: change(old, new),
                    old: old.cloned(),
                    new: new.cloned(),
                }));
            });
        }
    }
    Ok(summary)
}

/// The document, or the text where it is none. A number that would lose digits is the text of them.
fn document(json: Vec<u8>) -> Value {
    serde_json::from_slice(&exact(&json))
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&json).into_owned()))
}

/// The same with quotes around numbers of which a [`Value`] keeps less than is there.
fn exact(json: &[u8]) -> Vec<u8> {
    let mut exact = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => text_length(rest),
            b'-' | b'0'..=b'9' => rest
                .iter()
                .take_while(|c| matches!(c, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
                .count(),
            _ => 1,
        };
        let (token, after) = rest.split_at(length);
        match matches!(first, b'-' | b'0'..=b'9') && loses(token) {
            true => exact.extend([b"\"", token, b"\""].concat()),
            false => exact.extend(token),
        }
        rest = after;
    }
    exact
}

/// Bytes of the text that `json` begins with, quotes and all.
fn text_length(json: &[u8]) -> usize {
    let mut escaped = false;
    let end = json.iter().skip(1).position(|c| {
        let is_end = *c == b'"' && !escaped;
        escaped = *c == b'\\' && !escaped;
        is_end
    });
    end.map_or(json.len(), |end| end + 2)
}

/// Whether a number is no integer of 64 bits, and one that a float does not give back as it was written.
fn loses(number: &[u8]) -> bool {
    let text = String::from_utf8_lossy(number);
    let is_whole = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
    let is_number = serde_json::from_slice::<&RawValue>(number).is_ok();
    let float = text.parse::<f64>().map(|float| float.to_string()).unwrap_or_default();
    is_number && !is_whole && significant(&text) != significant(&float)
}

/// The digits of a number without what only says how large it is.
fn significant(number: &str) -> String {
    let digits = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}

/// Calls `tell` with every place that differs, as a JSON pointer. What only one side has is one place.
fn places(path: String, old: Option<&Value>, new: Option<&Value>, tell: &mut Tell<'_>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                places(path, old.get(key), new.get(key), tell);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for at in 0..old.len().max(new.len()) {
                places(format!("{path}/{at}"), old.get(at), new.get(at), tell);
            }
        }
        (old, new) => tell(path, old, new),
    }
}

const fn change(old: Option<&Value>, new: Option<&Value>) -> Change {
    match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ => Change::Changed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Would catch: a changed leaf told as its whole document, a key with `/` that names another place.
    #[test]
    fn what_differs_is_told_by_its_place() {
        let old = json!({ "cursor": 7, "same": [1], "a/b~c": 1, "list": [1, 2, { "x": 1 }], "was": null });
        let new = json!({ "cursor": 9, "same": [1], "a/b~c": 2, "list": [1, 3], "is": true });
        let mut told = Vec::new();
        places(String::new(), Some(&old), Some(&new), &mut |path, old, new| {
            told.push((path, change(old, new)));
        });
        let told: Vec<_> = told.iter().map(|(path, change)| (path.as_str(), *change)).collect();
        assert_eq!(
            told,
            [
                ("/a~1b~0c", Change::Changed),
                ("/cursor", Change::Changed),
                ("/list/1", Change::Changed),
                ("/list/2", Change::Removed),
                ("/was", Change::Removed),
                ("/is", Change::Added),
            ]
        );
    }

    /// Would catch: two numbers past 64 bits told as the same, and digits in a text taken for a number.
    #[test]
    fn numbers_keep_their_digits() {
        let read = |json: &str| document(json.as_bytes().to_vec());
        assert_eq!(
            read(r#"{"a\\":18446744073709551617,"b\"1":[-1,0.1,1e5],"12345678901234567890123":1}"#),
            json!({ "a\\": "18446744073709551617", "b\"1": [-1, 0.1, 1e5], "12345678901234567890123": 1 })
        );
        assert_ne!(read("0.12345678901234567891"), read("0.12345678901234567892"));
        assert_eq!(read("0.30000000000000004"), json!(0.300_000_000_000_000_04));
        assert_eq!(read("1790000000.1234560"), json!(1_790_000_000.123_456));
        assert_eq!(read("1e400"), json!("1e400"));
        assert_eq!(read("18446744073709551615"), json!(u64::MAX));
        assert_eq!(read("-9223372036854775808"), json!(i64::MIN));
        assert_eq!(read("{\"x"), json!("{\"x"));
    }
}
