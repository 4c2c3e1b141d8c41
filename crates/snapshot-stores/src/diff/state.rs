//! Pieces of runtime state, compared as JSON documents.

use serde_json::Value;
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
                notes.push(format!(
                    "{state} differs in how it is written, or in numbers of over 64 bits"
                ));
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

/// The document, or the text where it is none.
fn document(json: Vec<u8>) -> Value {
    serde_json::from_slice(&json)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&json).into_owned()))
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
}
