//! What of a schema acts by itself once somebody uses the database: triggers, and views, which run when
//! they are read.

use std::collections::HashSet;

use rusqlite::Connection;

/// How SQLite lets words follow each other without a comment, the byte order mark among it.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\r', '\u{c}', '\u{feff}'];

/// A trigger or a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acting {
    /// `trigger` or `view`.
    pub(crate) kind: &'static str,
    /// What the schema calls it.
    pub(crate) name: String,
    /// All of its text: what it does.
    sql: String,
}

/// The triggers and views of what `conn` sees, by name. Found by their text, as SQLite does: what a
/// crafted schema says of their type is only partly looked at.
pub(crate) fn acting(conn: &Connection) -> Result<Vec<Acting>, rusqlite::Error> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name, rowid";
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // Of a crafted schema it may be anything but text.
        let text = |at| {
            let bytes = row.get_ref(at)?.as_bytes_or_null().ok().flatten().unwrap_or_default();
            Ok::<_, rusqlite::Error>(String::from_utf8_lossy(bytes).into_owned())
        };
        let sql = text(1)?;
        if let Some(kind) = kind(&sql) {
            found.push(Acting { kind, name: text(0)?, sql });
        }
    }
    Ok(found)
}

/// Those that are not in `known`, word for word.
pub(crate) fn without(found: Vec<Acting>, known: &[Acting]) -> Vec<Acting> {
    let known: HashSet<&str> = known.iter().map(|acting| acting.sql.as_str()).collect();
    found.into_iter().filter(|acting| !known.contains(acting.sql.as_str())).collect()
}

/// What a `CREATE` statement makes, if that acts; what is not understood counts as if it did.
fn kind(sql: &str) -> Option<&'static str> {
    let mut words = Words(sql).map(str::to_ascii_lowercase).skip(1);
    let mut word = words.next()?;
    if matches!(word.as_str(), "temp" | "temporary") {
        word = words.next()?;
    }
    match word.as_str() {
        "table" | "virtual" | "index" | "unique" => None,
        "view" => Some("view"),
        _ => Some("trigger"),
    }
}

/// The words of a statement, without blanks and comments between them.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            self.0 = self.0.trim_start_matches(BLANKS);
            let comment = [("--", "\n"), ("/*", "*/")];
            let Some((start, end)) = comment.into_iter().find(|(s, _)| self.0.starts_with(s))
            else {
                break;
            };
            let inside = &self.0[start.len()..];
            self.0 = inside.split_once(end).map_or("", |(_, rest)| rest);
        }
        let end = self.0.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.0.len());
        // Whatever else stands there is a word of its own.
        let end = if end == 0 { self.0.chars().next()?.len_utf8() } else { end };
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(conn: &Connection) -> Vec<String> {
        let found = acting(conn).unwrap();
        found.iter().map(|acting| format!("{} {}", acting.kind, acting.name)).collect()
    }

    /// Would catch: a trigger that is not seen because a comment, a line end or another word stands in it.
    #[test]
    fn what_acts_is_known_by_its_text() {
        for (sql, expected) in [
            ("CREATE TABLE t(x)", None),
            ("create virtual table t using fts5(x)", None),
            ("CREATE UNIQUE INDEX i ON t(x)", None),
            ("CREATE/**/TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; END", Some("trigger")),
            ("CREATE -- TABLE\n\u{feff} TEMP\tTRIGGER a", Some("trigger")),
            ("CREATE/* TABLE */VIEW v AS SELECT 1", Some("view")),
            ("CREATE \u{a0}TABLE", Some("trigger")),
            ("CREATE", None),
            ("CREATE /* ", None),
        ] {
            assert_eq!(kind(sql), expected, "{sql:?}");
        }
    }

    /// Would catch: a trigger that hides behind another spelling of its type in the schema table, which
    /// SQLite runs nevertheless.
    #[test]
    fn a_trigger_of_a_misspelt_type_is_found() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE t(x); CREATE TABLE hit(x); CREATE VIEW v AS SELECT x FROM t; \
             CREATE TRIGGER evil AFTER INSERT ON t BEGIN INSERT INTO hit VALUES (1); END; \
             PRAGMA writable_schema=ON; UPDATE sqlite_schema SET type = 'TRIGGER' WHERE name = 'evil'; \
             PRAGMA writable_schema=RESET; INSERT INTO t VALUES (1)",
        )
        .unwrap();
        let hits: i64 = conn.query_row("SELECT count(*) FROM hit", [], |r| r.get(0)).unwrap();
        assert_eq!(hits, 1, "SQLite goes by the text");
        assert_eq!(names(&conn), ["trigger evil", "view v"]);
    }

    /// Would catch: a trigger of a known name that does something else now.
    #[test]
    fn another_text_under_the_same_name_is_another() {
        let with = |body: &str| {
            let conn = Connection::open_in_memory().unwrap();
            let sql =
                format!("CREATE TABLE t(x); CREATE TRIGGER a AFTER INSERT ON t BEGIN {body}; END");
            conn.execute_batch(&sql).unwrap();
            acting(&conn).unwrap()
        };
        let (one, other) = (with("SELECT 1"), with("DELETE FROM t"));
        assert!(without(one.clone(), &one).is_empty());
        assert_eq!(without(other.clone(), &one), other);
    }
}
