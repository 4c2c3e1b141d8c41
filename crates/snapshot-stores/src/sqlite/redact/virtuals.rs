//! Virtual tables, as far as their definitions tell.

use std::ops::Range;

/// A virtual table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Virtual {
    pub(super) name: String,
    pub(super) module: Module,
    /// Its definition, as it stands in the schema.
    pub(super) sql: String,
    /// Where in it the arguments of its module stand.
    arguments: Vec<Range<usize>>,
}

/// What keeps its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Module {
    /// Full-text: FTS5.
    Fts5,
    /// Full-text: FTS3, FTS4.
    Fts3,
    /// sqlite-vec.
    Vec0,
    /// Boxes: numbers alone, but for columns of its own kind.
    Rtree,
    /// Keeps nothing itself.
    Viewer,
    /// Another, by its name.
    Unknown(String),
}

/// Where the texts of a full-text table are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// In a table beneath it.
    Own,
    /// In a table or view that it indexes.
    Elsewhere,
    /// Nowhere.
    Nowhere,
}

impl Virtual {
    /// Reads `CREATE VIRTUAL TABLE <name> USING <module>(<arguments>)`; none where it is something else.
    pub(super) fn parse(name: &str, sql: &str) -> Option<Self> {
        let tokens = tokens(sql);
        let mut at =
            tokens.iter().skip(3).position(|t| sql[t.clone()].eq_ignore_ascii_case("USING"))? + 4;
        let module = bare(&sql[tokens.get(at)?.clone()]).to_ascii_lowercase();
        at += 1;
        let mut arguments = Vec::new();
        if tokens.get(at).is_some_and(|t| &sql[t.clone()] == "(") {
            arguments = split(sql, &tokens[at + 1..]);
        }
        let module = match module.as_str() {
            "fts5" => Module::Fts5,
            "fts3" | "fts4" => Module::Fts3,
            "vec0" => Module::Vec0,
            "rtree" | "rtree_i32" | "geopoly" => Module::Rtree,
            "fts5vocab" | "fts4aux" | "fts3tokenize" | "dbstat" | "sqlite_dbpage" => Module::Viewer,
            _ => Module::Unknown(module),
        };
        Some(Self { name: name.to_owned(), module, sql: sql.to_owned(), arguments })
    }

    pub(super) fn is_full_text(&self) -> bool {
        matches!(self.module, Module::Fts5 | Module::Fts3)
    }

    /// Where the texts of a full-text table are.
    pub(super) fn texts(&self) -> Texts {
        match self.option("content").map(|(_, value)| bare(value)) {
            None => Texts::Own,
            Some(value) if value.is_empty() => Texts::Nowhere,
            Some(_) => Texts::Elsewhere,
        }
    }

    /// Whether the texts of a full-text table are packed by functions of its host.
    pub(super) fn is_packed(&self) -> bool {
        self.module == Module::Fts3
            && (self.option("compress").is_some() || self.option("uncompress").is_some())
    }

    /// Its definition with a tokenizer that is always here, where it names one.
    pub(super) fn with_known_tokenizer(&self) -> Option<String> {
        let (range, _) = self.option("tokenize").or_else(|| self.fts3_tokenizer())?;
        let known = "tokenize=unicode61";
        Some(format!("{}{known}{}", &self.sql[..range.start], &self.sql[range.end..]))
    }

    /// An argument `key=value`.
    fn option(&self, key: &str) -> Option<(Range<usize>, &str)> {
        self.arguments.iter().find_map(|range| {
            let (found, value) = self.sql[range.clone()].split_once('=')?;
            bare(found.trim()).eq_ignore_ascii_case(key).then(|| (range.clone(), value.trim()))
        })
    }

    /// FTS3 also takes `tokenize <name> <arguments>`.
    fn fts3_tokenizer(&self) -> Option<(Range<usize>, &str)> {
        let is = |text: &str| {
            text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("tokenize"))
        };
        let range = self.arguments.iter().find(|range| is(&self.sql[(*range).clone()]))?;
        (self.module == Module::Fts3).then(|| (range.clone(), ""))
    }
}

/// A name or a string without its quotes.
pub(super) fn bare(text: &str) -> String {
    let close = match text.chars().next() {
        Some(quote @ ('"' | '\'' | '`')) => quote,
        Some('[') => ']',
        _ => return text.to_owned(),
    };
    let inner = &text[1..];
    let inner = inner.strip_suffix(close).unwrap_or(inner);
    inner.replace(&format!("{close}{close}"), &close.to_string())
}

/// The arguments up to the closing bracket.
fn split(sql: &str, tokens: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut arguments = Vec::new();
    let (mut depth, mut current) = (0_u32, None::<Range<usize>>);
    for token in tokens {
        match &sql[token.clone()] {
            "," if depth == 0 => {
                arguments.extend(current.take());
                continue;
            }
            ")" if depth == 0 => break,
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        let start = current.map_or(token.start, |range| range.start);
        current = Some(start..token.end);
    }
    arguments.extend(current);
    arguments
}

/// Where the tokens of SQL stand, without blanks and comments: words, quoted things, single signs.
fn tokens(sql: &str) -> Vec<Range<usize>> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest[0] {
            b'-' if rest.get(1) == Some(&b'-') => {
                at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                continue;
            }
            b'/' if rest.get(1) == Some(&b'*') => {
                let end = rest.windows(2).skip(2).position(|two| two == b"*/");
                at += end.map_or(rest.len(), |end| end + 4);
                continue;
            }
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'[' => rest.iter().position(|&b| b == b']').map_or(rest.len(), |end| end + 1),
            quote @ (b'"' | b'\'' | b'`') => quoted(rest, quote),
            b if is_word(b) => rest.iter().position(|&b| !is_word(b)).unwrap_or(rest.len()),
            _ => 1,
        };
        found.push(at..at + length);
        at += length;
    }
    found
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        if rest[at] != quote {
            at += 1;
        } else if rest.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: an option missed because of how it is written, so that an index is taken for another kind.
    #[test]
    fn options_are_read_however_they_are_written() {
        let of = |sql: &str| Virtual::parse("f", sql).unwrap();
        let f = of(
            "CREATE VIRTUAL TABLE \"a using b\" /* using x */ USING \"FTS5\" (\n a, content = '' -- c\n, tokenize = \"x 'y, z'\")",
        );
        assert_eq!((f.module.clone(), f.texts()), (Module::Fts5, Texts::Nowhere));
        let known = f.with_known_tokenizer().unwrap();
        assert!(known.ends_with("\n, tokenize=unicode61)"), "{known}");
        let f = of(
            "CREATE VIRTUAL TABLE f USING fts4(a, tokenize icu en_AU, Content=[t], COMPRESS=zip)",
        );
        assert_eq!((f.texts(), f.is_packed()), (Texts::Elsewhere, true));
        assert!(f.with_known_tokenizer().unwrap().contains("(a, tokenize=unicode61, Content"));
        assert_eq!(of("CREATE VIRTUAL TABLE f USING fts5vocab('f', 'row')").module, Module::Viewer);
        assert_eq!(of("CREATE VIRTUAL TABLE f USING x").module, Module::Unknown("x".to_owned()));
        assert_eq!(Virtual::parse("f", "CREATE TABLE f(a)"), None);
    }
}
