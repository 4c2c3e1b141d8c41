//! The gitleaks rules as JSON: the program that redacts reads no TOML.
//!
//! Invariant: what Go's regular expressions say and Rust's do not is mended here, so that the file beside
//! the JSON stays as its authors wrote it.

use std::fs;

use serde_json::{Map, Value, json};

use crate::tools::root;

/// The rules as gitleaks ships them.
const TOML: &str = "crates/snapshot-bundle/rules/gitleaks.toml";

/// What is made of them.
pub(crate) const JSON: &str = "crates/snapshot-bundle/rules/gitleaks.json";

/// Its name, for manifests. The file does not say which release it is of, only which it needs.
const NAME: &str = "gitleaks 8.25 or later";

/// Rules that name any word beside an equals sign: they give way where a rule knows better.
const WEAK: [&str; 1] = ["generic-api-key"];

/// Regular expressions that are mended: (as it is, as it is meant). This one let pass whatever starts with
/// `true`, ends in `null` or has `false` in it.
const MENDED: [(&str, &str); 1] = [("(?i)^true|false|null$", "(?i)^(?:true|false|null)$")];

/// Keywords that every match starts with, instead of some that are everywhere in what is written of secrets
/// or tests, and say little about where to look.
const KEYWORDS: [(&str, &[&str]); 2] =
    [("kubernetes-secret-yaml", &["kind:", "data:"]), ("lob-api-key", &["lob"])];

/// Rules that are left out, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("pkcs12-file", "judges by the file's name alone"),
    (
        "private-key",
        "takes the words between two mentions of a key for one; ours knows what keys are made of",
    ),
];

/// The generated file.
pub(crate) fn json() -> Result<Vec<u8>, String> {
    let path = root().join(TOML);
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {TOML}: {e}"))?;
    let toml: toml::Value = toml::from_str(&text).map_err(|e| format!("{TOML}: {e}"))?;
    let toml = serde_json::to_value(&toml).map_err(|e| format!("{TOML}: {e}"))?;
    let mut text = serde_json::to_string_pretty(&convert(&toml)?).map_err(|e| e.to_string())?;
    text.push('\n');
    Ok(text.into_bytes())
}

fn convert(toml: &Value) -> Result<Value, String> {
    let rules = toml["rules"].as_array().ok_or("no rules")?;
    let rules = rules.iter().filter_map(|one| rule(one).transpose());
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let mut whole = Map::new();
    whole.insert("name".into(), json!(NAME));
    whole.insert("allow".into(), allow(&toml["allowlist"]).unwrap_or_else(|| json!({})));
    whole.insert("rules".into(), Value::Array(rules));
    Ok(Value::Object(whole))
}

fn rule(toml: &Value) -> Result<Option<Value>, String> {
    let id = toml["id"].as_str().ok_or("a rule without an id")?;
    if LEFT_OUT.iter().any(|(left_out, _)| *left_out == id) {
        return Ok(None);
    }
    let regex = toml["regex"].as_str().ok_or_else(|| format!("rule {id} has no regex"))?;
    let mut rule = Map::new();
    rule.insert("id".into(), json!(id));
    rule.insert("description".into(), toml["description"].clone());
    rule.insert("regex".into(), json!(rust_regex(regex)));
    for (from, to) in
        [("keywords", "keywords"), ("entropy", "entropy"), ("secretGroup", "secret_group")]
    {
        if let Some(value) = toml.get(from) {
            rule.insert(to.into(), value.clone());
        }
    }
    if let Some((_, keywords)) = KEYWORDS.iter().find(|(rule, _)| *rule == id) {
        rule.insert("keywords".into(), json!(keywords));
    }
    if WEAK.contains(&id) {
        rule.insert("weak".into(), json!(true));
    }
    let lists = toml["allowlists"].as_array().into_iter().flatten().filter_map(allow);
    let lists: Vec<Value> = lists.collect();
    if !lists.is_empty() {
        rule.insert("allow".into(), Value::Array(lists));
    }
    Ok(Some(Value::Object(rule)))
}

/// An allow-list without its paths: what ships is searched wherever it lies. One that holds only at a path
/// allows nothing.
fn allow(toml: &Value) -> Option<Value> {
    let all = toml["condition"] == "AND";
    if all && toml.get("paths").is_some() {
        return None;
    }
    let mut list = Map::new();
    if let Some(regexes) = toml["regexes"].as_array() {
        let regexes = regexes.iter().filter_map(Value::as_str).map(rust_regex);
        list.insert("regexes".into(), regexes.collect());
    }
    if let Some(stopwords) = toml.get("stopwords") {
        list.insert("stopwords".into(), stopwords.clone());
    }
    if list.is_empty() {
        return None;
    }
    if let Some(target) = toml.get("regexTarget") {
        list.insert("target".into(), target.clone());
    }
    if all {
        list.insert("all".into(), json!(true));
    }
    Some(Value::Object(list))
}

/// Go takes a brace that opens no count for itself; Rust wants it escaped.
fn rust_regex(go: &str) -> String {
    if let Some((_, mended)) = MENDED.iter().find(|(regex, _)| *regex == go) {
        return (*mended).to_owned();
    }
    let mut rust = String::with_capacity(go.len());
    let (mut escaped, mut class) = (false, false);
    for (at, c) in go.char_indices() {
        let opens_count = || {
            let count = go[at + 1..].split('}').next().unwrap_or_default();
            count.starts_with(|c: char| c.is_ascii_digit())
                && count.chars().all(|c| c.is_ascii_digit() || c == ',')
                && !go[..at].ends_with(['(', '|'])
        };
        let of_property = escaped && matches!(c, 'p' | 'P');
        if c == '{' && !escaped && !class && !opens_count() {
            rust.push('\\');
        }
        rust.push(c);
        match c {
            '[' if !escaped => class = true,
            // First in a class it is itself.
            ']' if !escaped && !go[..at].ends_with(['[', '^']) => class = false,
            _ => {}
        }
        escaped = (c == '\\' && !escaped) || of_property;
    }
    rust
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a count taken for a brace, or a brace left to be an error in Rust.
    #[test]
    fn a_brace_that_opens_no_count_is_escaped() {
        for (go, rust) in [
            (r"a{3}b{1,}", r"a{3}b{1,}"),
            (r"^\$(?:\d+|{\d+})$", r"^\$(?:\d+|\{\d+})$"),
            (r"\$?{{[^}]+}}", r"\$?\{\{[^}]+}}"),
            (r"^\{\d{0,2}}$", r"^\{\d{0,2}}$"),
            (r"[{a]{2}", r"[{a]{2}"),
        ] {
            assert_eq!(rust_regex(go), rust);
        }
    }

    /// Would catch: an allow-list that holds at one path only, taken to hold everywhere.
    #[test]
    fn what_is_allowed_at_a_path_only_is_not_allowed() {
        assert_eq!(allow(&json!({"paths": ["x"]})), None);
        assert_eq!(allow(&json!({"condition": "AND", "paths": ["x"], "regexes": ["y"]})), None);
        let list = allow(&json!({"paths": ["x"], "regexes": ["y"], "regexTarget": "line"}));
        assert_eq!(list, Some(json!({"regexes": ["y"], "target": "line"})));
    }
}
