//! Opening connections: private files, and the settings that every connection needs.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::db::Db;
use super::fault::{Place, fault, not_a_file, os_fault};
use super::schema::{self, Found};
use super::sql::Statements;
use crate::error::{Error, ErrorCode, Result};
use crate::store::host_lock::give_to_owner;
use crate::store::single_name::check_single_name;

/// How long to pause between two tries to switch the journal mode.
const MODE_PAUSE: Duration = Duration::from_millis(5);

/// No `CREATE`: the file was made, with the right mode, before. No `URI`: a path is a path.
fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Opens the connection that writes, and makes the database what we need.
pub(super) fn writer(path: &Path, table: &str, busy_timeout: Duration) -> Result<Db> {
    let failed = |error: rusqlite::Error| fault(Some(path), &error);
    let mut connection = Connection::open_with_flags(path, flags()).map_err(failed)?;
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    // Look before anything is changed: somebody else's database stays in its own journal mode.
    schema::inspect(&connection, table, Some(path))?;
    use_write_ahead_log(&connection, busy_timeout).map_err(failed)?;
    connection.execute_batch(SETTINGS).map_err(failed)?;
    let table = schema::prepare(&mut connection, table, Some(path))?;
    let statements = Statements::new(&table.name, table.user_column);
    let place = Place::new(Some(path.to_owned()), table.name);
    Db::new(connection, Arc::new(statements), Arc::new(place))
}

/// Opens a connection that only reads, beside that of `writer`.
pub(super) fn reader(writer: &Db, busy_timeout: Duration) -> Result<Db> {
    let failed = |error: rusqlite::Error| writer.place.fault(&error);
    let path = writer.place.path().expect("a database in a file");
    let connection = Connection::open_with_flags(path, flags()).map_err(failed)?;
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")
        .map_err(failed)?;
    let (statements, place) = (writer.statements.clone(), writer.place.clone());
    Db::new(connection, statements, place)
}

/// Opens a connection that changes nothing; `None` if there is no token table.
pub(super) fn read_only(path: &Path, table: &str, busy_timeout: Duration) -> Result<Option<Db>> {
    let plain = || read_with(path, path, OpenFlags::empty(), table, busy_timeout);
    // Without a log nothing is missing from the database, and SQLite can do without the files that it
    // keeps next to a database with a write-ahead log.
    let alone = || {
        let uri = immutable(path).filter(|_| !has_log(path))?;
        let flags = OpenFlags::SQLITE_OPEN_URI;
        Some(read_with(path, uri.as_ref(), flags, table, busy_timeout))
    };
    // Files that this process makes would be its own: their owner could not write the database then,
    // and a process that may not write it cannot remove them.
    if !may_write(path)
        && let Some(opened) = alone()
    {
        return opened;
    }
    match plain() {
        // SQLite may not make these files.
        Err(error) if error.code() == ErrorCode::StorePermission => alone().unwrap_or(Err(error)),
        opened => opened,
    }
}

fn may_write(path: &Path) -> bool {
    std::fs::OpenOptions::new().write(true).open(path).is_ok()
}

fn read_with(
    path: &Path,
    name: &Path,
    flags: OpenFlags,
    table: &str,
    busy_timeout: Duration,
) -> Result<Option<Db>> {
    let failed = |error: rusqlite::Error| fault(Some(path), &error);
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(name, flags).map_err(failed)?;
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    connection
        .execute_batch("PRAGMA trusted_schema = OFF")
        .map_err(failed)?;
    let Found::Table(table) = schema::inspect(&connection, table, Some(path))? else {
        return Ok(None);
    };
    let statements = table.as_official(&connection).map_err(failed)?;
    let statements = Statements::new(statements, "user_name");
    let place = Place::new(Some(path.to_owned()), table.name);
    Db::new(connection, Arc::new(statements), Arc::new(place)).map(Some)
}

/// The URI of a database that nothing changes while it is open.
fn immutable(path: &Path) -> Option<String> {
    let path = path.to_str()?.replace('%', "%25");
    let path = path.replace('?', "%3f").replace('#', "%23");
    Some(format!("file:{path}?immutable=1"))
}

fn log_of(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Whether the database alone may not be what is committed: a write-ahead log holds more, or a
/// journal says what a program that died in a transaction has to take back.
fn has_log(path: &Path) -> bool {
    let has_content = |path: PathBuf| path.metadata().is_ok_and(|log| log.len() > 0);
    has_content(log_of(path)) || has_content(with_suffix(path, "-journal"))
}

/// Removes, when it is dropped, the files that SQLite kept next to a database that was read: the
/// last connection that closes removes them, but not one that may not write.
#[derive(Debug)]
pub(super) struct Tidy(Option<PathBuf>);

impl Tidy {
    /// For a database that is about to be opened. If there is a log already, it stays.
    pub(super) fn after_reading(path: &Path) -> Self {
        Self((!log_of(path).exists()).then(|| path.to_owned()))
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        let Some(path) = self.0.take().filter(|path| log_of(path).exists()) else {
            return;
        };
        // SQLite keeps the files while another process uses the database.
        if let Ok(connection) = Connection::open_with_flags(path, flags()) {
            let _ = connection.execute_batch("SELECT 1 FROM sqlite_schema");
        }
    }
}

/// Opens a database of its own in memory.
pub(super) fn in_memory(table: &str) -> Result<Db> {
    let failed = |error: rusqlite::Error| fault(None, &error);
    let mut connection = Connection::open_in_memory_with_flags(flags()).map_err(failed)?;
    connection.execute_batch(SETTINGS).map_err(failed)?;
    let table = schema::prepare(&mut connection, table, None)?;
    let statements = Statements::new(&table.name, table.user_column);
    let place = Place::new(None, table.name);
    Db::new(connection, Arc::new(statements), Arc::new(place))
}

/// `FULL`: in the write-ahead log only this syncs each commit; `fullfsync` does the same where
/// the operating system's own sync stops at the drive's cache (macOS). `secure_delete` overwrites
/// what is deleted, since it opens doors. `trusted_schema`: nobody's trigger or view gets to call
/// more than plain functions.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; \
    PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF";

/// Switches the database to the write-ahead log, which it then keeps.
///
/// SQLite does not always wait for its busy timeout here: two processes that switch at once could
/// wait for each other, so one is refused at once. We try again until the time is up.
fn use_write_ahead_log(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && started.elapsed() < busy_timeout =>
            {
                thread::sleep(MODE_PAUSE);
            }
            Err(error) => return Err(error),
            Ok(mode) => {
                if !mode.eq_ignore_ascii_case("wal") {
                    tracing::warn!(
                        mode,
                        "this database cannot use a write-ahead log: readers and writers wait for each other"
                    );
                }
                return Ok(());
            }
        }
    }
}

/// What a database file must be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileRules {
    pub(super) require_private: bool,
    pub(super) allow_hard_links: bool,
}

/// Makes the file if it is missing, private from its first moment, and returns its real path.
///
/// The real path, so that processes that came by different links meet at the same locks.
///
/// # Errors
/// `store_aliased`, `store_permission`, `store_foreign` when there is something that is no file, and
/// `store_permission` when others may read it and `require_private` is set.
pub(super) fn private_file(path: &Path, rules: FileRules) -> Result<PathBuf> {
    /// Closing a file that we open here would drop the locks that SQLite holds on it in this
    /// process. So a file that exists is never opened, and nobody gets between look and creation.
    static CREATING: Mutex<()> = Mutex::new(());

    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    // Not `:memory:` nor anything else that SQLite reads a meaning into.
    let path = &std::path::absolute(path).map_err(|error| os_fault(path, error))?;
    match path.metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let made = options.open(path).map_err(|error| os_fault(path, error))?;
            // What root makes in the folder of a service is the service's. The folder in which the
            // file really is: a link may lead out of the one in which root looked.
            if let Ok(real) = path.canonicalize()
                && let Some(Ok(folder)) = real.parent().map(Path::metadata)
            {
                give_to_owner(&made, &folder);
            }
        }
        Err(error) => return Err(os_fault(path, error)),
    }
    real_path(path, rules)
}

/// The same for a file that is there; `None` if it is not.
pub(super) fn existing_file(path: &Path, rules: FileRules) -> Result<Option<PathBuf>> {
    let path = &std::path::absolute(path).map_err(|error| os_fault(path, error))?;
    match path.metadata() {
        Ok(_) => real_path(path, rules).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(os_fault(path, error)),
    }
}

fn real_path(path: &Path, rules: FileRules) -> Result<PathBuf> {
    let real = path.canonicalize().map_err(|error| os_fault(path, error))?;
    let metadata = real.metadata().map_err(|error| os_fault(path, error))?;
    if !metadata.is_file() {
        return Err(not_a_file(path));
    }
    check_single_name(&real, &metadata, rules.allow_hard_links)?;
    check_privacy(&real, &metadata, rules.require_private)?;
    Ok(real)
}

#[cfg(unix)]
fn check_privacy(path: &Path, metadata: &std::fs::Metadata, require_private: bool) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o777;
    let others = mode & 0o077;
    if others == 0 {
        return Ok(());
    }
    if require_private {
        let message = format!("others can open `{}` (mode {mode:o})", path.display());
        return Err(Error::new(ErrorCode::StorePermission, message));
    }
    tracing::warn!(
        path = %path.display(),
        mode = format_args!("{mode:o}"),
        "others can open this token store: `chmod 600` it"
    );
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature everywhere")]
fn check_privacy(_: &Path, _: &std::fs::Metadata, _: bool) -> Result<()> {
    Ok(())
}
