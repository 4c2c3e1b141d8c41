//! Edits of JSON: every field in turn, each in every way that there is.

use serde_json::Value;

/// One field, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Where it stands, as a JSON pointer.
    pub pointer: String,
    /// What becomes of it.
    pub how: How,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It says something else of the same sort.
    Other,
    /// It says nothing.
    Null,
    /// It is gone.
    Gone,
}

/// Every edit of a document.
#[must_use]
pub fn edits(document: &Value) -> Vec<Edit> {
    let mut pointers = Vec::new();
    collect(document, "", &mut pointers);
    let each = |pointer: &String| {
        [How::Other, How::Null, How::Gone].map(|how| Edit { pointer: pointer.clone(), how })
    };
    let mut edits: Vec<Edit> = pointers.iter().flat_map(each).collect();
    // An empty list or nothing in place of nothing is no edit.
    edits.retain(|edit| {
        let mut edited = document.clone();
        edit.apply(&mut edited);
        edited != *document
    });
    edits
}

impl Edit {
    /// Does it.
    pub fn apply(&self, document: &mut Value) {
        if self.how == How::Gone {
            let Some((parent, name)) = self.pointer.rsplit_once('/') else { return };
            match document.pointer_mut(parent) {
                Some(Value::Object(fields)) => _ = fields.remove(name),
                Some(Value::Array(items)) => _ = name.parse().map(|n: usize| items.remove(n)),
                _ => {}
            }
            return;
        }
        if let Some(value) = document.pointer_mut(&self.pointer) {
            *value = if self.how == How::Null { Value::Null } else { other(value) };
        }
    }
}

fn collect(value: &Value, at: &str, pointers: &mut Vec<String>) {
    let mut below = |name: String, value: &Value| {
        // No name in our documents needs an escape.
        let at = format!("{at}/{name}");
        pointers.push(at.clone());
        collect(value, &at, pointers);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| below(k.clone(), v)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, v)| below(n.to_string(), v)),
        _ => {}
    }
}

/// Another value of the same sort: of text the last character, of a number the next.
fn other(value: &Value) -> Value {
    match value {
        Value::Null => Value::Bool(true),
        Value::Bool(is) => Value::Bool(!is),
        Value::Number(n) => n.as_i64().map_or(Value::from(1), |n| (n + 1).into()),
        Value::String(text) => {
            let mut text = text.clone();
            let last = text.pop();
            text.push(if last == Some('1') { '2' } else { '1' });
            Value::String(text)
        }
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(serde_json::Map::new()),
    }
}
