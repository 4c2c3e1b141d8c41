//! Whether a database holds rows of more than one agent.

use rusqlite::Connection;

/// Ids named at most.
const MAX_NAMED: usize = 8;

/// Other agents whose rows a database holds, by its tables with an `agent_id` column. A table that
/// cannot be read (a module that we lack) tells nothing.
pub(crate) fn other_agents(conn: &Connection, agent: &str) -> Result<Vec<String>, rusqlite::Error> {
    let tables = "SELECT DISTINCT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
                  ON c.name = 'agent_id' COLLATE NOCASE WHERE m.type = 'table' AND m.rootpage > 0";
    let names: Vec<String> =
        conn.prepare(tables)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut others: Vec<String> = Vec::new();
    for name in names {
        let sql = format!(
            "SELECT DISTINCT CAST(agent_id AS TEXT) FROM \"{}\" WHERE agent_id IS NOT NULL AND agent_id <> ?1 LIMIT {MAX_NAMED}",
            name.replace('"', "\"\"")
        );
        let found: Vec<String> =
            conn.prepare(&sql)?.query_map([agent], |row| row.get(0))?.collect::<Result<_, _>>()?;
        others.extend(found.into_iter().filter(|id| !others.contains(id)).collect::<Vec<_>>());
    }
    others.truncate(MAX_NAMED);
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_another_agent_are_found_in_any_table() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE a(agent_id TEXT, x); CREATE TABLE \"b\"\"c\"(y, Agent_Id TEXT); \
             INSERT INTO a VALUES ('ana', 1); INSERT INTO \"b\"\"c\" VALUES (1, 'ana')",
        )
        .unwrap();
        assert!(other_agents(&conn, "ana").unwrap().is_empty());
        conn.execute_batch("INSERT INTO \"b\"\"c\" VALUES (2, 'bo')").unwrap();
        assert_eq!(other_agents(&conn, "ana").unwrap(), ["bo"]);
    }
}
