//! Runtime state from rows, files and the host, and databases in unusual places and conditions.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::{AgentId, StoreName, Tenant};
use nexo_memory_snapshot::layout::{MemoryLayout, StateSource};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, DurableFs, Progress, StateKind, Step};
use nexo_memory_snapshot::request::SnapshotRequest;
use rusqlite::Connection;
use snapshot_testkit::HostState;
use snapshot_testkit::compare::Memory;
use snapshot_testkit::conformance::state;

use crate::support::{Layouts, World, ana, assert_same, engine, restore, take};

/// Tells a child process which database to work on.
const CHILD_DATABASE: &str = "NEXO_TEST_DATABASE";

const STATE_TABLES: &str = "
    CREATE TABLE cursors (session TEXT PRIMARY KEY, position INTEGER NOT NULL, raw BLOB, at REAL);
    CREATE TABLE dream_runs (id INTEGER PRIMARY KEY, started_at INTEGER NOT NULL, note TEXT);";

/// Databases in a folder of their own, by store name, and nothing else.
struct Stores {
    tmp: tempfile::TempDir,
    layout: MemoryLayout,
}

impl Stores {
    fn new(names: &[(&'static str, &str)]) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let store = |&(name, file): &(&'static str, &str)| {
            (StoreName::from_static(name), tmp.path().join(file))
        };
        let layout =
            MemoryLayout { stores: names.iter().map(store).collect(), ..MemoryLayout::default() };
        Self { tmp, layout }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.tmp.path().join(file)
    }

    fn engine(&self) -> Engine {
        engine(&self.path("vault"), self.layout.clone(), DurableFs::default())
    }

    fn memory(&self) -> Memory {
        Memory::read(&self.layout).unwrap()
    }

    /// Nothing of a snapshot, finished or not, lies in the vault.
    fn assert_vault_empty(&self) {
        let mut folders = vec![self.path("vault")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => assert!(path.extension().is_some_and(|e| e == "lock"), "{path:?}"),
                }
            }
        }
    }
}

fn database(path: &Path, journal: &str, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", journal).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

fn row(sqlite: &Path, table: &str, order_by: &str) -> Option<StateSource> {
    let (table, order_by) = (table.to_owned(), order_by.to_owned());
    Some(StateSource::Sqlite { sqlite: sqlite.to_owned(), table, order_by })
}

fn state_in(engine: &Engine, meta: &SnapshotMeta, path: &str) -> serde_json::Value {
    let (path, mut json) = (BundlePath::parse(path).unwrap(), Vec::new());
    engine.read_artifact(meta, &path, &mut json, &Control::default()).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Would catch: state rows read before the gates close or after they open: a writer that changes a
/// store and then the state row is seen in the wrong order.
#[test]
fn state_rows_are_of_the_instant() {
    for journal in ["wal", "delete"] {
        let mut stores = Stores::new(&[("long_term", "long_term.db")]);
        let runtime = stores.path("runtime.db");
        stores.layout.state.extract_cursor = row(&runtime, "cursors", "position");
        stores.layout.state.dream_run = row(&runtime, "dream_runs", "started_at");
        let facts = database(
            &stores.path("long_term.db"),
            journal,
            "CREATE TABLE n (n); INSERT INTO n VALUES (0)",
        );
        let state = database(&runtime, journal, STATE_TABLES);
        let (stepped, steps) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writer = std::thread::spawn(move || {
            for connection in [&facts, &state] {
                connection.busy_timeout(Duration::from_secs(60)).unwrap();
                connection.pragma_update(None, "synchronous", "OFF").unwrap();
            }
            let mut n = 0i64;
            while !stopped.load(Ordering::SeqCst) {
                n += 1;
                facts.execute("UPDATE n SET n = ?1", [n]).unwrap();
                state
                    .execute("INSERT OR REPLACE INTO cursors VALUES ('s', ?1, NULL, 0.5)", [n])
                    .unwrap();
                state.execute("INSERT INTO dream_runs (started_at) VALUES (?1)", [n]).unwrap();
                // The test may have seen enough.
                let _ = stepped.send(());
            }
        });
        let engine = stores.engine();
        let copy = stores.path("copy.db");
        for cut in 0..25 {
            steps.try_iter().for_each(drop);
            steps.recv().unwrap();
            let meta = take(&engine);
            let mut file = std::fs::File::create(&copy).unwrap();
            let path = BundlePath::parse("sqlite/long_term.sqlite").unwrap();
            engine.read_artifact(&meta, &path, &mut file, &Control::default()).unwrap();
            drop(file);
            let fact = number(&Connection::open(&copy).unwrap(), "SELECT n FROM n");
            let cursor = &state_in(&engine, &meta, "state/extract_cursor.json")["position"];
            let run = &state_in(&engine, &meta, "state/dream_run.json")["started_at"];
            let order = [fact, cursor.as_i64().unwrap(), run.as_i64().unwrap(), fact - 1];
            assert!(order.is_sorted_by(|a, b| a >= b), "{journal}, cut {cut}: {order:?}");
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    }
}

/// Would catch: rows newer than the snapshot's that stay the latest, values that change their type
/// on the way through JSON, and a table that was empty then and is not emptied.
#[test]
fn state_rows_come_back() {
    let mut stores = Stores::new(&[("long_term", "long_term.db")]);
    let file = stores.path("long_term.db");
    // In a captured store and in a database that holds nothing else.
    let runtime = stores.path("runtime.db");
    stores.layout.state.extract_cursor = row(&runtime, "cursors", "position");
    stores.layout.state.dream_run = row(&file, "dream_runs", "started_at");
    let facts = database(
        &file,
        "wal",
        &format!("{STATE_TABLES} INSERT INTO dream_runs VALUES (7, 100, 'ü'), (3, 50, 'old')"),
    );
    let state = database(
        &runtime,
        "wal",
        &format!("{STATE_TABLES} INSERT INTO cursors VALUES ('a', 9007199254740993, x'00ff', 0.1)"),
    );
    let engine = stores.engine();
    let meta = take(&engine);
    let expected = Memory::read(&stores.layout).unwrap();
    let whole = |c: &Connection| -> Vec<(i64, Vec<u8>, f64)> {
        let mut all = c.prepare("SELECT position, raw, at FROM cursors ORDER BY 1").unwrap();
        let rows = all.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let before = whole(&state);
    facts
        .execute_batch(
            "UPDATE dream_runs SET note = 'x'; INSERT INTO dream_runs VALUES (8, 101, 'new')",
        )
        .unwrap();
    state.execute_batch("UPDATE cursors SET at = 7; INSERT INTO cursors VALUES ('b', 9007199254740994, NULL, 0)").unwrap();
    let report = restore(&engine, &meta).unwrap();
    // The dream run came back with its store.
    assert_eq!(report.state_files_restored, ["extract_cursor"]);
    assert_same(&expected, &Memory::read(&stores.layout).unwrap());
    assert_eq!(whole(&state), before);
    assert_eq!(number(&facts, "SELECT count(*) FROM dream_runs"), 2);

    state.execute_batch("DELETE FROM cursors").unwrap();
    let without = take(&engine);
    state.execute_batch("INSERT INTO cursors VALUES ('c', 1, NULL, 0)").unwrap();
    restore(&engine, &without).unwrap();
    assert_eq!(number(&state, "SELECT count(*) FROM cursors"), 0);
}

/// Would catch: a rule that the provider of the next test breaks, which would then prove little.
#[test]
fn the_hosts_state_keeps_the_rules_of_its_trait() {
    state::check(&state::Subject::of_any_json(Arc::new(HostState::default()))).unwrap();
}

/// Would catch: a provider that is asked beside the layout's files instead of in their place, or a
/// piece that was not there and is not removed.
#[test]
fn a_host_keeps_the_state_itself() {
    let world = World::tiny();
    let host = Arc::new(HostState::default());
    let engine = Engine::builder()
        .root(world.vault())
        .layouts(Arc::new(Layouts(vec![(ana(), world.agent.layout())])))
        .state_provider(host.clone())
        .build()
        .unwrap();
    let put = |json: &str| host.pieces().insert(StateKind::ExtractCursor, json.into());
    put("{\"at\": 1}");
    let meta = take(&engine);
    assert_eq!(state_in(&engine, &meta, "state/extract_cursor.json")["at"], 1);
    put("{\"at\": 2}");
    host.pieces().insert(StateKind::DreamRun, b"{}".to_vec());
    let files = world.memory().state;
    restore(&engine, &meta).unwrap();
    let pieces = host.pieces().clone();
    assert_eq!(pieces, [(StateKind::ExtractCursor, b"{\"at\": 1}".to_vec())].into());
    assert_eq!(world.memory().state, files, "the layout's files are the host's no more");
}

/// Finishes a state file when the cut is taken for the second time.
struct Finish {
    file: PathBuf,
    cuts: AtomicUsize,
}

impl Progress for Finish {
    fn advance(&self, step: Step, _: u64, _: u64) {
        if step == Step::Cut && self.cuts.fetch_add(1, Ordering::SeqCst) == 1 {
            std::fs::write(&self.file, "{\"counter\": 12}").unwrap();
        }
    }
}

/// Would catch: half a JSON document that ships although a second look finds it whole, or one that
/// ships without a word where every look finds it torn.
#[test]
fn a_state_file_caught_half_written() {
    let world = World::tiny();
    let file = world.agent.state("extract_cursor");
    std::fs::write(&file, "{\"counter\": 1").unwrap();
    let finish = Arc::new(Finish { file: file.clone(), cuts: AtomicUsize::new(0) });
    let control = Control::default().with_progress(finish.clone());
    let req = SnapshotRequest::cli(ana(), Tenant::default());
    let meta = world.engine.snapshot(&req, &control).unwrap();
    assert_eq!(finish.cuts.load(Ordering::SeqCst), 2);
    assert_eq!(state_in(&world.engine, &meta, "state/extract_cursor.json")["counter"], 12);
    assert_eq!(meta.capture.unwrap().unstable, []);

    std::fs::write(&file, "{\"counter\": 1").unwrap();
    let torn = world.memory();
    let meta = world.snapshot();
    let unstable = &meta.capture.as_ref().unwrap().unstable;
    assert!(
        unstable.len() == 1 && unstable[0].path.ends_with("extract_cursor.json"),
        "{unstable:?}"
    );
    std::fs::write(&file, "{}").unwrap();
    world.restore(&meta).unwrap();
    world.assert_memory(&torn);
}

/// Would catch: a database in the memdir that is copied as a file under its writer, or that comes
/// back beside its own stale log.
#[test]
fn a_database_in_the_memdir_is_a_store() {
    let world = World::tiny();
    let path = world.agent.memdir().join("cache/notes.db");
    let live = database(&path, "wal", "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    live.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    live.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    let meta = world.snapshot();
    let names: Vec<String> =
        meta.capture.as_ref().unwrap().stores.iter().map(|s| s.store.to_string()).collect();
    assert!(names.contains(&"auto:cache/notes.db".to_owned()), "{names:?}");
    let manifest = world.engine.manifest(&meta).unwrap();
    let files: Vec<_> = manifest.memory_entries().map(|(path, _)| path.to_string()).collect();
    assert!(!files.iter().any(|path| path.contains("notes.db")), "{files:?}");

    live.execute_batch("DELETE FROM t; INSERT INTO t VALUES (3)").unwrap();
    world.restore(&meta).unwrap();
    assert_eq!(number(&live, "SELECT group_concat(x) = '1,2' FROM t"), 1);
    drop(live);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    world.restore(&meta).unwrap();
    let back = Connection::open(&path).unwrap();
    assert_eq!(number(&back, "SELECT sum(x) FROM t"), 3);
}

/// Would catch: a link that is replaced by a file, so that the agent goes on with the old content.
#[test]
fn a_store_behind_a_symbolic_link() {
    let stores = Stores::new(&[("long_term", "link.db")]);
    std::fs::create_dir(stores.path("data")).unwrap();
    let real = stores.path("data/real.db");
    symlink("data/real.db", stores.path("link.db")).unwrap();
    let live = database(&real, "wal", "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    let before = stores.memory();
    let meta = take(&stores.engine());
    live.execute_batch("UPDATE t SET x = 2").unwrap();
    restore(&stores.engine(), &meta).unwrap();
    assert_same(&before, &stores.memory());
    assert_eq!(number(&live, "SELECT x FROM t"), 1);
    assert!(stores.path("link.db").is_symlink());
    assert!(!stores.path("link.db-wal").exists());
}

/// Would catch: two gates on one file, which wait for each other for ever.
#[test]
fn several_names_of_one_file() {
    let stores = Stores::new(&[("long_term", "a.db"), ("vector", "b.db"), ("concepts", "c.db")]);
    let live =
        database(&stores.path("a.db"), "delete", "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    symlink("a.db", stores.path("b.db")).unwrap();
    std::fs::hard_link(stores.path("a.db"), stores.path("c.db")).unwrap();
    let before = stores.memory();
    let meta = take(&stores.engine());
    assert_eq!(meta.capture.as_ref().unwrap().stores.len(), 3);
    live.execute_batch("UPDATE t SET x = 2").unwrap();
    restore(&stores.engine(), &meta).unwrap();
    assert_same(&before, &stores.memory());
    assert_eq!(number(&live, "SELECT x FROM t"), 1);
}

/// Would catch: two stores of a snapshot that are one file by now: one of them comes back, the other is lost and
/// nobody is told.
#[test]
fn two_stores_that_became_one_file_are_refused() {
    let link = |from: &Path, to: &Path| std::fs::hard_link(from, to);
    for alias in [link, |from: &Path, to: &Path| symlink(from, to)] {
        let stores = Stores::new(&[("long_term", "a.db"), ("vector", "b.db")]);
        drop(database(&stores.path("a.db"), "delete", "CREATE TABLE a (x)"));
        drop(database(&stores.path("b.db"), "delete", "CREATE TABLE b (x)"));
        let meta = take(&stores.engine());
        std::fs::remove_file(stores.path("b.db")).unwrap();
        alias(&stores.path("a.db"), &stores.path("b.db")).unwrap();
        let before = stores.memory();
        let refused = restore(&stores.engine(), &meta).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        let told = refused.to_string();
        assert!(told.contains("two stores") && told.contains("a.db"), "{told}");
        assert_same(&before, &stores.memory());
    }
}

/// Would catch: a database that another agent knows by another name, rolled back for both.
#[test]
fn a_store_shared_by_a_hard_link_is_refused() {
    let stores = Stores::new(&[("long_term", "a.db")]);
    let live = database(&stores.path("a.db"), "delete", "CREATE TABLE t (x)");
    std::fs::hard_link(stores.path("a.db"), stores.path("b.db")).unwrap();
    let others = MemoryLayout {
        stores: [(StoreName::from_static("vector"), stores.path("b.db"))].into(),
        ..MemoryLayout::default()
    };
    let layouts = vec![(ana(), stores.layout.clone()), (AgentId::from_static("bo"), others)];
    let engine = Engine::builder()
        .root(stores.path("vault"))
        .layouts(Arc::new(Layouts(layouts)))
        .build()
        .unwrap();
    let meta = take(&engine);
    live.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    let refused = restore(&engine, &meta).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("bo"), "{refused}");
    assert_eq!(number(&live, "SELECT count(*) FROM t"), 1);
}

/// The body of the process that keeps a database to itself.
#[test]
fn exclusive_process() {
    let Some(path) = std::env::var_os(CHILD_DATABASE) else { return };
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").unwrap();
    connection.execute_batch("UPDATE t SET x = x + 1").unwrap();
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Runs one test of this binary in another process, with that database.
fn this_test(name: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(CHILD_DATABASE, path);
    command
}

/// Starts it and waits until it says that it is ready.
fn start(command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("ready")), "it ended early");
    // What it prints later has a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// Counts the waits for a busy database.
#[derive(Default)]
struct Waits(AtomicUsize);

impl Progress for Waits {
    fn advance(&self, step: Step, _: u64, _: u64) {
        self.0.fetch_add(usize::from(step == Step::Wait), Ordering::SeqCst);
    }
}

fn busy(result: Result<SnapshotMeta, SnapshotError>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("a.db") && error.hint().is_some(), "{error}");
}

/// Would catch: a database in exclusive mode that makes us wait for ever or longer than asked,
/// ships torn, or leaves half a snapshot behind.
#[test]
fn a_database_that_another_process_keeps_to_itself() {
    for journal in ["wal", "delete"] {
        let stores = Stores::new(&[("long_term", "a.db"), ("vector", "b.db")]);
        drop(database(
            &stores.path("a.db"),
            journal,
            "CREATE TABLE t (x); INSERT INTO t VALUES (1)",
        ));
        let other = database(&stores.path("b.db"), "wal", "CREATE TABLE t (x)");
        let mut child = start(&mut this_test("state::exclusive_process", &stores.path("a.db")));
        let mut req = SnapshotRequest::cli(ana(), Tenant::default());
        req.timeout = Duration::from_millis(200);
        let waits = Arc::new(Waits::default());
        let control = Control::default().with_progress(waits.clone());
        busy(stores.engine().snapshot(&req, &control));
        assert!(waits.0.load(Ordering::SeqCst) > 0, "it waits where it can be told to stop");
        stores.assert_vault_empty();
        other.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(child.wait().unwrap().success());
        take(&stores.engine());
    }
}

/// The body of the process without the right to pass over file modes.
#[test]
fn powerless_process() {
    let Some(path) = std::env::var_os(CHILD_DATABASE) else { return };
    let path = PathBuf::from(path);
    let stores = [(StoreName::from_static("long_term"), path.clone())].into();
    let layout = MemoryLayout { stores, ..MemoryLayout::default() };
    let engine = engine(&path.with_file_name("vault"), layout, DurableFs::default());
    let req = SnapshotRequest::cli(ana(), Tenant::default());
    let error = engine.snapshot(&req, &Control::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("may not write"), "{error}");
}

/// Would catch: a cut without the write lock of a database that we may only read.
#[test]
fn a_database_that_we_may_only_read_is_refused() {
    let stores = Stores::new(&[("long_term", "a.db")]);
    let path = stores.path("a.db");
    drop(database(&path, "delete", "CREATE TABLE t (x)"));
    let mut read_only = std::fs::metadata(&path).unwrap().permissions();
    read_only.set_readonly(true);
    std::fs::set_permissions(&path, read_only).unwrap();
    // Root passes over modes by a capability, which the child does without.
    let child = this_test("state::powerless_process", &path);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-dac_override,-dac_read_search", "--"]);
    command.arg(child.get_program()).args(child.get_args()).env(CHILD_DATABASE, &path);
    let mut command = if unprivileged(&path) { child } else { command };
    let output =
        command.output().expect("setpriv is needed for this test: apt-get install util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    stores.assert_vault_empty();
}

/// Whether file modes hold for this process.
fn unprivileged(read_only: &Path) -> bool {
    std::fs::File::options().append(true).open(read_only).is_err()
}

/// Would catch: a snapshot or a restore that needs every extension that the agent has.
#[test]
fn tokenizers_and_modules_that_we_lack() {
    let stores = Stores::new(&[("long_term", "a.db")]);
    let live = database(
        &stores.path("a.db"),
        "wal",
        "CREATE TABLE t (x); INSERT INTO t VALUES (1);
         CREATE VIRTUAL TABLE words USING fts5 (text); INSERT INTO words VALUES ('water is wet');
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = ours)'
             WHERE name = 'words';
         INSERT INTO sqlite_schema VALUES
             ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING ours (vec)');
         PRAGMA writable_schema = RESET;",
    );
    let fails = |sql| live.prepare(sql).and_then(|mut s| s.query([])?.next().map(drop)).is_err();
    assert!(fails("SELECT * FROM words('water')") && fails("SELECT * FROM vectors"));
    let all = "SELECT (SELECT group_concat(sql, ';') FROM sqlite_schema)
        || (SELECT ifnull(group_concat(hex(block)), '') FROM words_data) || (SELECT sum(x) FROM t)";
    let read = |c: &Connection| c.query_row(all, [], |r| r.get::<_, String>(0)).unwrap();
    let before = read(&live);
    let meta = take(&stores.engine());
    let integrity = &meta.capture.as_ref().unwrap().stores[0].integrity;
    assert!(!integrity.is_empty(), "{integrity}");
    live.execute_batch("UPDATE t SET x = 2; DELETE FROM words_data; DROP TABLE words_config")
        .unwrap();
    assert_ne!(read(&live), before);
    restore(&stores.engine(), &meta).unwrap();
    assert_eq!(read(&live), before);
    restore(&stores.engine(), &meta).unwrap();
    println!("{integrity}");
}
