//! Full-text indexes.

use crate::support::{Scene, one};

/// Would catch: words of a text that is redacted or was deleted, in an index of any kind; rowids that move under
/// an index of another table's rows.
#[test]
fn indexes_of_every_kind_are_built_anew() {
    let mut scene = Scene::new(
        "CREATE TABLE facts (text, extra);
         CREATE VIEW seen AS SELECT rowid AS id, text FROM facts;
         CREATE VIRTUAL TABLE own USING fts5(title, body, note UNINDEXED, prefix='2 3', tokenize='porter ascii');
         CREATE VIRTUAL TABLE ext USING fts5(text, content='facts', content_rowid='rowid', detail=none);
         CREATE VIRTUAL TABLE viewed USING fts5(text, content=seen, content_rowid=id, detail=column, columnsize=0);
         CREATE VIRTUAL TABLE tri USING fts5(text, tokenize=\"trigram case_sensitive 1\");
         CREATE VIRTUAL TABLE three USING fts3(a, b, tokenize=porter);
         CREATE VIRTUAL TABLE four USING fts4(a, b, notindexed=b, prefix=\"3\", order=desc);
         CREATE VIRTUAL TABLE four_ext USING fts4(content=\"facts\", text);
         INSERT INTO facts VALUES ('first', 1), ('SECRET-f1 second fact', 2), ('third fact', 3), ('SECRET-gone', 4);
         DELETE FROM facts WHERE rowid = 1;
         INSERT INTO own SELECT text, 'body ' || text, text FROM facts;
         INSERT INTO tri SELECT text FROM facts; INSERT INTO three SELECT text, text FROM facts;
         INSERT INTO four SELECT text, text FROM facts;
         INSERT INTO ext(ext) VALUES ('rebuild'); INSERT INTO viewed(viewed) VALUES ('rebuild');
         INSERT INTO four_ext(four_ext) VALUES ('rebuild');
         DELETE FROM facts WHERE text = 'SECRET-gone'; DELETE FROM own WHERE title = 'SECRET-gone';
         DELETE FROM tri WHERE text = 'SECRET-gone'; DELETE FROM three WHERE a = 'SECRET-gone'",
    );
    let (_, finished) = scene.done();
    assert_eq!(
        (finished.indexes_rebuilt, finished.notes.len(), finished.integrity.as_str()),
        (7, 0, "ok")
    );
    let conn = scene.open();
    for (index, word) in [
        ("own", "fact"),
        ("ext", "fact"),
        ("viewed", "fact"),
        ("tri", "fact"),
        ("three", "fact"),
        ("four", "fact"),
        ("four_ext", "fact"),
    ] {
        let sql = format!("SELECT group_concat(rowid) FROM {index} WHERE {index} MATCH '{word}'");
        let expected = if ["ext", "viewed", "four_ext"].contains(&index) { "2,3" } else { "1,2" };
        let found: String = one(&conn, &sql);
        assert!(
            found == expected || found.split(',').rev().eq(expected.split(',')),
            "{index}: {found}"
        );
        let module = if index.starts_with("t") && index != "tri" || index.starts_with("f") {
            "fts4aux"
        } else {
            "fts5vocab"
        };
        let arguments =
            if module == "fts5vocab" { format!("{index}, row") } else { index.to_owned() };
        conn.execute_batch(&format!(
            "CREATE VIRTUAL TABLE temp.w_{index} USING {module}(main, {arguments})"
        ))
        .unwrap();
        let words: String = one(&conn, &format!("SELECT group_concat(term) FROM temp.w_{index}"));
        assert!(
            !words.contains("secret") && !words.contains("f1") && !words.contains("gone"),
            "{index}: {words}"
        );
    }
}

/// Would catch: an index that keeps no texts and with them every word that it ever saw.
#[test]
fn an_index_without_texts_is_emptied() {
    let mut scene = Scene::new(
        "CREATE VIRTUAL TABLE five USING fts5(a, content='', contentless_delete=1);
         CREATE VIRTUAL TABLE bare USING fts5(a, content='');
         CREATE VIRTUAL TABLE four USING fts4(a, content=\"\");
         CREATE VIRTUAL TABLE empty USING fts5(a, content='');
         CREATE VIRTUAL TABLE sizeless USING fts5(a, content='', columnsize=0);
         CREATE VIRTUAL TABLE half USING fts5(a, b UNINDEXED, content='', contentless_unindexed=1);
         INSERT INTO sizeless(rowid, a) VALUES (1, 'SECRET-a word'); INSERT INTO half(rowid, a, b) VALUES (1, 'SECRET-a word', 'x');
         INSERT INTO five(rowid, a) VALUES (1, 'SECRET-a word'); INSERT INTO bare(rowid, a) VALUES (1, 'SECRET-a word');
         INSERT INTO four(docid, a) VALUES (1, 'SECRET-a word')",
    );
    assert_eq!(scene.places(), Vec::<String>::new());
    let (_, finished) = scene.done();
    assert_eq!(finished.notes.len(), 5, "{:?}", finished.notes);
    let conn = scene.open();
    for index in ["five", "bare", "four", "empty", "sizeless", "half"] {
        let sql = format!("SELECT count(*) FROM {index} WHERE {index} MATCH 'word'");
        assert_eq!(one::<i64>(&conn, &sql), 0);
        conn.execute_batch(&format!("INSERT INTO {index}(rowid, a) VALUES (5, 'new word')"))
            .unwrap();
        assert_eq!(one::<i64>(&conn, &sql), 1);
    }
}

/// Would catch: an index left with its old words because its tokenizer is not here, or its definition changed.
#[test]
fn an_index_of_an_unknown_tokenizer_is_built_with_another() {
    let definition = "CREATE VIRTUAL TABLE f USING fts5(a, tokenize = 'jieba \"x\" 1' , prefix=2)";
    let four = "CREATE VIRTUAL TABLE g USING fts4(a, tokenize=icu en_AU)";
    let mut scene = Scene::new(&format!(
        "CREATE VIRTUAL TABLE f USING fts5(a, prefix=2); CREATE VIRTUAL TABLE g USING fts4(a);
         INSERT INTO f VALUES ('SECRET-a word'), ('other'); INSERT INTO g VALUES ('SECRET-a word');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = '{}' WHERE name = 'f';
         UPDATE sqlite_schema SET sql = '{four}' WHERE name = 'g'",
        definition.replace('\'', "''")
    ));
    assert_eq!(scene.places().len(), 2);
    let (_, finished) = scene.done();
    assert!(finished.notes.iter().all(|note| note.contains("unicode61")), "{:?}", finished.notes);
    assert_eq!(finished.notes.len(), 2);
    let conn = scene.open();
    assert_eq!(one::<String>(&conn, "SELECT sql FROM sqlite_schema WHERE name = 'f'"), definition);
    assert_eq!(one::<String>(&conn, "SELECT sql FROM sqlite_schema WHERE name = 'g'"), four);
    conn.execute_batch(
        "PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE f USING fts5(a, prefix=2)' WHERE name = 'f';
         PRAGMA writable_schema=RESET",
    )
    .unwrap();
    assert_eq!(one::<i64>(&conn, "SELECT count(*) FROM f WHERE f MATCH 'word'"), 1);
}

/// Would catch: texts packed by the agent's own functions taken for searched, or an index whose texts are gone
/// left as it was.
#[test]
fn texts_that_cannot_be_read_are_refused_or_their_index_emptied() {
    let mut scene = Scene::new(
        "CREATE VIRTUAL TABLE f USING fts4(a); INSERT INTO f VALUES ('SECRET-a');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE f USING fts4(a, compress=zip, uncompress=unzip)' WHERE name = 'f'",
    );
    assert!(scene.scan().is_err());
    assert!(scene.refusal().contains("packed"));
    let mut scene = Scene::new(
        "CREATE TABLE t (a); INSERT INTO t VALUES ('SECRET-a word'); CREATE TABLE u (b); INSERT INTO u VALUES ('SECRET-b');
         CREATE VIRTUAL TABLE f USING fts5(a, content=t); INSERT INTO f(f) VALUES ('rebuild');
         CREATE VIRTUAL TABLE g USING fts4(a, content=t); INSERT INTO g(g) VALUES ('rebuild'); DROP TABLE t",
    );
    let (_, finished) = scene.done();
    assert_eq!(finished.notes.len(), 2, "{:?}", finished.notes);
}

/// Would catch: somebody's own table, named as a part of the other module's indexes, that is taken for an index and
/// ships as it is.
#[test]
fn a_table_named_as_a_part_of_another_module_is_searched() {
    let mut scene = Scene::new(
        "CREATE VIRTUAL TABLE five USING fts5(a); CREATE VIRTUAL TABLE four USING fts4(a);
         CREATE TABLE five_segments (blockid INTEGER PRIMARY KEY, block);
         CREATE TABLE four_data (id INTEGER PRIMARY KEY, block);
         INSERT INTO five_segments VALUES (1, 'SECRET-s1'); INSERT INTO four_data VALUES (1, 'SECRET-s2')",
    );
    assert_eq!(scene.places().len(), 2);
    scene.done();
    scene.is_clean();
}
