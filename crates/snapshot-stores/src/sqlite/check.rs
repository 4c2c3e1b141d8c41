//! SQLite's own check of a database.

use rusqlite::Connection;

/// Findings kept for the manifest.
const MAX_FINDINGS: usize = 8;

/// `ok`, or the first findings of `integrity_check` on what `conn` sees. Where the whole run fails
/// (a module or tokenizer that we lack), the tables are checked one by one and the rest is said.
pub(crate) fn integrity(conn: &Connection) -> String {
    let whole = run(conn, &format!("PRAGMA integrity_check({MAX_FINDINGS})"));
    let findings = match whole {
        Ok(findings) => findings,
        Err(why) => by_table(conn, &why.to_string()),
    };
    match findings.as_slice() {
        [] => "ok".to_owned(),
        [one] if one == "ok" => "ok".to_owned(),
        _ => findings.join("; "),
    }
}

fn by_table(conn: &Connection, why: &str) -> Vec<String> {
    let tables =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    let names = match run(conn, tables) {
        Ok(names) => names,
        Err(e) => return vec![e.to_string()],
    };
    let mut findings = vec![format!("checked table by table: {why}")];
    for name in names {
        let pragma = format!("PRAGMA integrity_check('{}')", name.replace('\'', "''"));
        match run(conn, &pragma) {
            Ok(found) => findings
                .extend(found.into_iter().filter(|f| f != "ok").map(|f| format!("{name}: {f}"))),
            Err(e) => findings.push(format!("{name}: not checked: {e}")),
        }
        if findings.len() > MAX_FINDINGS {
            findings.truncate(MAX_FINDINGS);
            break;
        }
    }
    findings
}

fn run(conn: &Connection, sql: &str) -> Result<Vec<String>, rusqlite::Error> {
    conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_database_is_ok_and_a_broken_index_is_named() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE t(x); CREATE INDEX i ON t(x); INSERT INTO t VALUES (1), (2)",
        )
        .unwrap();
        assert_eq!(integrity(&conn), "ok");
        conn.execute_batch(
            "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'i'; PRAGMA writable_schema=RESET",
        )
        .unwrap();
        assert_ne!(integrity(&conn), "ok");
    }

    #[test]
    fn an_unknown_module_does_not_stop_the_check() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t(x)").unwrap();
        conn.execute_batch(
            "PRAGMA writable_schema=ON; \
             INSERT INTO sqlite_schema VALUES ('table','v','v',0,'CREATE VIRTUAL TABLE v USING vec0(a)'); \
             PRAGMA writable_schema=RESET",
        )
        .unwrap();
        let said = integrity(&conn);
        assert!(said == "ok" || said.contains("checked table by table"), "{said}");
    }
}
