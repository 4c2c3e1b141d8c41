//! Reading one mapping key by key: every error names the key from the top of the file, and a key that
//! is not in the table comes before any other.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::keys::Kind;
use super::{ConfigError, MAX_SQL_NAME};

/// A mapping of which the keys not yet read remain.
pub(super) struct Section<'a> {
    key: String,
    kind: &'static Kind,
    rest: Map<String, Value>,
    file: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        key: impl Into<String>,
        kind: &'static Kind,
        rest: Map<String, Value>,
        file: &'a Path,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let section = Self { key: key.into(), kind, rest, file, env };
        match section.rest.keys().find(|key| kind.of(key).is_none()) {
            Some(unknown) => Err(section.unknown(unknown)),
            None => Ok(section),
        }
    }

    /// The keys not yet read.
    pub(super) fn keys(&self) -> Vec<String> {
        self.rest.keys().cloned().collect()
    }

    /// The value of `key`; `null` counts as absent.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        debug_assert!(
            self.kind.of(key).is_some(),
            "{} is not in the table of keys",
            self.full(key)
        );
        self.rest.remove(key).filter(|value| !value.is_null())
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.bad(key, "true or false is expected")),
        }
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_u64() {
            Some(n) if range.contains(&n) => Ok(Some(n)),
            _ => {
                let (from, to) = range.into_inner();
                Err(self.bad(key, format!("a whole number from {from} to {to} is expected")))
            }
        }
    }

    /// A number, fractions too.
    pub(super) fn decimal(
        &mut self,
        key: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_f64() {
            Some(n) if range.contains(&n) => Ok(Some(n)),
            _ => {
                let (from, to) = range.into_inner();
                Err(self.bad(key, format!("a number from {from} to {to} is expected")))
            }
        }
    }

    /// A count of things.
    pub(super) fn count(&mut self, key: &str) -> Result<Option<u32>, ConfigError> {
        let count = self.number(key, 0..=u64::from(u32::MAX))?;
        Ok(count.and_then(|n| u32::try_from(n).ok()))
    }

    /// A list of texts.
    pub(super) fn texts(
        &mut self,
        key: &str,
        most: usize,
    ) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let texts: Option<Vec<String>> = value.as_array().and_then(|values| {
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
        });
        match texts.filter(|texts| texts.len() <= most) {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.bad(key, format!("a list of at most {most} texts is expected"))),
        }
    }

    /// A text in which `${VAR}` stands for a variable.
    pub(super) fn expanded(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        Ok(Some(self.expand(key, &text)?))
    }

    /// A path, made absolute; the empty text counts as absent, as it did in 0.1.
    pub(super) fn path(&mut self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let text = self.expand(key, &text)?;
        let text = match text.strip_prefix("~/") {
            Some(rest) => format!("{}/{rest}", self.variable(key, "HOME")?),
            None => text,
        };
        if text.contains('\0') {
            return Err(self.bad(key, "it contains NUL"));
        }
        let base = self.file.parent().unwrap_or(Path::new("/"));
        Ok(Some(base.join(text)))
    }

    /// A shell command. `${VAR}` in it is the shell's business: expanded here, a value could change
    /// what the command means.
    pub(super) fn command(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.text(key)? {
            Some(text) if text.contains('\0') => Err(self.bad(key, "it contains NUL")),
            text => Ok(text),
        }
    }

    /// The name of a table or a column.
    pub(super) fn sql_name(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.text(key)? {
            Some(name) if name.len() > MAX_SQL_NAME || name.chars().any(char::is_control) => {
                let why = format!("a name of at most {MAX_SQL_NAME} bytes is expected");
                Err(self.bad(key, why))
            }
            name => Ok(name),
        }
    }

    /// The mapping below `key`.
    pub(super) fn section(&mut self, key: &str) -> Result<Option<Section<'a>>, ConfigError> {
        match (self.take(key), self.kind.of(key)) {
            (None, _) => Ok(None),
            (Some(Value::Object(map)), Some(kind)) => {
                Section::new(self.full(key), kind, map, self.file, self.env).map(Some)
            }
            _ => Err(self.bad(key, "a mapping is expected")),
        }
    }

    /// Every mapping below, with its key.
    pub(super) fn into_sections(mut self) -> Result<Vec<(String, Section<'a>)>, ConfigError> {
        let mut sections = Vec::new();
        for key in self.keys() {
            let section = self.section(&key)?.ok_or_else(|| self.bad(&key, "it is empty"))?;
            sections.push((key, section));
        }
        Ok(sections)
    }

    /// All that is known was read.
    pub(super) fn finish(self) {
        debug_assert!(self.rest.is_empty(), "nobody reads {:?} of {}", self.rest, self.key);
    }

    pub(super) fn bad(&self, key: &str, why: impl Into<String>) -> ConfigError {
        ConfigError::Value { path: self.file.to_owned(), key: self.full(key), why: why.into() }
    }

    /// The mapping itself is wrong.
    pub(super) fn bad_here(&self, why: String) -> ConfigError {
        ConfigError::Value { path: self.file.to_owned(), key: self.key.clone(), why }
    }

    /// The file that it is in.
    pub(super) fn file(&self) -> &Path {
        self.file
    }

    fn unknown(&self, unknown: &str) -> ConfigError {
        let distance = |known: &&str| strsim::damerau_levenshtein(known, unknown);
        let nearest = self.kind.keys().map(|key| key.name).min_by_key(distance);
        ConfigError::UnknownKey {
            path: self.file.to_owned(),
            key: self.full(unknown),
            nearest: nearest.map_or_else(|| self.key.clone(), |known| self.full(known)),
        }
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.key)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(_) => Err(self.bad(key, "text is expected")),
        }
    }

    /// `${VAR}` replaced by its value, `$${` by `${`.
    fn expand(&self, key: &str, text: &str) -> Result<String, ConfigError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            let after = &from[2..];
            if let Some(literal) = before.strip_suffix('$') {
                out.push_str(literal);
                out.push_str("${");
                rest = after;
                continue;
            }
            let (name, tail) = after
                .split_once('}')
                .filter(|(name, _)| is_variable(name))
                .ok_or_else(|| self.bad(key, "${ starts no ${VARIABLE}; write $${ for itself"))?;
            out.push_str(before);
            out.push_str(&self.variable(key, name)?);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// A variable's value; an empty one would turn `${HOME}/x` into a path from the root.
    fn variable(&self, key: &str, name: &str) -> Result<String, ConfigError> {
        (self.env)(name).filter(|value| !value.is_empty()).ok_or_else(|| ConfigError::Variable {
            path: self.file.to_owned(),
            key: self.full(key),
            variable: name.to_owned(),
        })
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
