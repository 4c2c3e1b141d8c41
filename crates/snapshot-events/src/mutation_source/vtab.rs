//! The virtual table by which SQLite tells what becomes of a transaction: all unsafe code there is.
//!
//! `SQLite` calls the methods of every virtual table that a statement could write to when its
//! transaction, a savepoint or a statement in it begins, is undone or is kept; rusqlite's safe
//! interface lacks those of savepoints (<https://www.sqlite.org/vtab.html>, 2.14 to 2.20).
//!
//! Invariants: no panic crosses into C; the state lives as long as the module or a table of it.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use rusqlite::{Connection, ffi};

use crate::mutation_source::state::State;

/// The module's name, as [`crate::mutation_source::schema::SINK`].
const NAME: &CStr = c"nexo_mutation_sink";
/// Version of the methods that has those of savepoints.
const WITH_SAVEPOINTS: c_int = 2;

/// The methods. A table of this module can neither be read nor, by a statement that yields a row,
/// be written to.
static MODULE: ffi::sqlite3_module = ffi::sqlite3_module {
    iVersion: WITH_SAVEPOINTS,
    xCreate: Some(connect),
    xConnect: Some(connect),
    xBestIndex: Some(best_index),
    xDisconnect: Some(disconnect),
    xDestroy: Some(disconnect),
    xOpen: Some(open),
    xUpdate: Some(update),
    xBegin: Some(begin),
    xCommit: Some(commit),
    xRollback: Some(rollback),
    xSavepoint: Some(savepoint),
    xRelease: Some(release),
    xRollbackTo: Some(rollback_to),
    ..NOTHING
};

/// A module without methods. Which methods there are depends on the version of SQLite.
// SAFETY: an integer and nullable function pointers, for all of which zeros are a value.
const NOTHING: ffi::sqlite3_module = unsafe { std::mem::zeroed() };

/// A table of the module. SQLite knows its beginning only.
#[repr(C)]
struct Sink {
    base: ffi::sqlite3_vtab,
    state: Arc<State>,
}

/// Registers the module, in place of one of that name.
pub(super) fn register(conn: &Connection, state: &Arc<State>) -> rusqlite::Result<()> {
    let state = Arc::into_raw(Arc::clone(state)).cast_mut().cast::<c_void>();
    // SAFETY: the handle is open as long as `conn` is borrowed, and is not closed here. The name and
    // the module are static. `state` is ours to give away, and `forget` gets it, here too if this
    // fails.
    let code = unsafe {
        ffi::sqlite3_create_module_v2(conn.handle(), NAME.as_ptr(), &MODULE, state, Some(forget))
    };
    checked(code)
}

/// Removes the module; a table that is left keeps its state.
pub(super) fn unregister(conn: &Connection) -> rusqlite::Result<()> {
    // SAFETY: as in `register`; no module is the documented way to remove one.
    let code = unsafe {
        let (module, nothing) = (ptr::null(), ptr::null_mut());
        ffi::sqlite3_create_module_v2(conn.handle(), NAME.as_ptr(), module, nothing, None)
    };
    checked(code)
}

fn checked(code: c_int) -> rusqlite::Result<()> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

/// Runs what may panic: SQLite is told of an error then.
fn guarded(run: impl FnOnce()) -> c_int {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_ERROR,
    }
}

/// # Safety
/// `vtab` must be a table made by `connect` that `disconnect` has not had.
unsafe fn with(vtab: *mut ffi::sqlite3_vtab, run: impl FnOnce(&State)) -> c_int {
    // SAFETY: then it is the beginning of a `Sink`, which nothing changes while it lives.
    let sink = unsafe { &*vtab.cast::<Sink>() };
    guarded(|| run(&sink.state))
}

/// The module is no more.
unsafe extern "C" fn forget(state: *mut c_void) {
    // SAFETY: SQLite calls this once, with the state that `register` gave it.
    let state = unsafe { Arc::from_raw(state.cast::<State>()) };
    guarded(|| drop(state));
}

unsafe extern "C" fn connect(
    db: *mut ffi::sqlite3,
    state: *mut c_void,
    _argc: c_int,
    _argv: *const *const c_char,
    table: *mut *mut ffi::sqlite3_vtab,
    _error: *mut *mut c_char,
) -> c_int {
    // SAFETY: `db` is the connection that calls; the text is static.
    let code = unsafe { ffi::sqlite3_declare_vtab(db, c"CREATE TABLE x(unused)".as_ptr()) };
    if code != ffi::SQLITE_OK {
        return code;
    }
    // Triggers may use it where the schema is not trusted: writing to it does nothing.
    // SAFETY: as above, and within this method as it must be; the option takes no more arguments.
    let code = unsafe { ffi::sqlite3_vtab_config(db, ffi::SQLITE_VTAB_INNOCUOUS) };
    if code != ffi::SQLITE_OK {
        return code;
    }
    let state = state.cast::<State>().cast_const();
    // SAFETY: it is what `register` gave, and the module, which is there, holds one count of it.
    let state = unsafe {
        Arc::increment_strong_count(state);
        Arc::from_raw(state)
    };
    let base = ffi::sqlite3_vtab { pModule: ptr::null(), nRef: 0, zErrMsg: ptr::null_mut() };
    let sink = Box::into_raw(Box::new(Sink { base, state }));
    // SAFETY: SQLite gives a place for the result. A `Sink` begins with what SQLite knows.
    unsafe { *table = sink.cast() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn disconnect(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: `connect` made it of a box, and SQLite gives it back once and uses it no more.
    let sink = unsafe { Box::from_raw(vtab.cast::<Sink>()) };
    guarded(|| drop(sink))
}

/// No way to read it.
unsafe extern "C" fn best_index(
    _: *mut ffi::sqlite3_vtab,
    _: *mut ffi::sqlite3_index_info,
) -> c_int {
    ffi::SQLITE_CONSTRAINT
}

/// Nor this way, so that the methods of cursors are never called.
unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vtab,
    _: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    ffi::SQLITE_ERROR
}

/// A row for it: somebody wrote to it by hand.
unsafe extern "C" fn update(
    _: *mut ffi::sqlite3_vtab,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
    _: *mut ffi::sqlite3_int64,
) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn begin(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: SQLite calls methods with tables that are connected.
    unsafe { with(vtab, State::begin) }
}

unsafe extern "C" fn commit(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: as in `begin`.
    unsafe { with(vtab, State::commit) }
}

unsafe extern "C" fn rollback(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: as in `begin`.
    unsafe { with(vtab, State::rollback) }
}

unsafe extern "C" fn savepoint(vtab: *mut ffi::sqlite3_vtab, savepoint: c_int) -> c_int {
    // SAFETY: as in `begin`.
    unsafe { with(vtab, |state| state.savepoint(savepoint)) }
}

unsafe extern "C" fn release(vtab: *mut ffi::sqlite3_vtab, savepoint: c_int) -> c_int {
    // SAFETY: as in `begin`.
    unsafe { with(vtab, |state| state.release(savepoint)) }
}

unsafe extern "C" fn rollback_to(vtab: *mut ffi::sqlite3_vtab, savepoint: c_int) -> c_int {
    // SAFETY: as in `begin`.
    unsafe { with(vtab, |state| state.rollback_to(savepoint)) }
}
