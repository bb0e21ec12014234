//! What SQLite's refusals mean for the caller.
//!
//! rusqlite's error texts can quote statements, names and values, and whoever prints an error
//! walks its sources too. So only the result code goes on, with the fixed text that belongs to it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode as Sqlite;
use rusqlite::ffi;

use crate::error::{Error, ErrorCode};
use crate::store::inventory::warn_once;

/// Where a store keeps its records, for messages.
#[derive(Debug)]
pub(super) struct Place {
    /// `None` in memory.
    path: Option<PathBuf>,
    /// The checked name of the table, as the database spells it.
    table: String,
}

impl Place {
    pub(super) const fn new(path: Option<PathBuf>, table: String) -> Self {
        Self { path, table }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The database, as a message names it.
    pub(super) fn name(&self) -> String {
        name(self.path())
    }

    pub(super) fn fault(&self, error: &rusqlite::Error) -> Error {
        fault(self.path(), error)
    }

    /// Tells the log which records are left out, each once in this process.
    pub(super) fn left_out(damages: &[Error]) {
        damages.iter().for_each(warn_once);
    }

    /// A value in the table cannot be understood. Names the place, never the value.
    pub(super) fn damaged_row(&self, rowid: i64, what: &str) -> Error {
        let Self { table, .. } = self;
        let message = format!("table `{table}` of {}, rowid {rowid}: {what}", self.name());
        Error::new(ErrorCode::StoreDamaged, message)
    }
}

/// The database, as a message names it.
pub(super) fn name(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the database in memory".to_owned(),
        |path| format!("`{}`", path.display()),
    )
}

/// Turns an error of SQLite into ours.
pub(super) fn fault(path: Option<&Path>, error: &rusqlite::Error) -> Error {
    let cause = match error {
        rusqlite::Error::SqliteFailure(cause, _)
        | rusqlite::Error::SqlInputError { error: cause, .. } => *cause,
        // Everything else is rusqlite's own checking, which our statements never run into.
        _ => {
            let message = format!("a statement for {} was not understood", name(path));
            return Error::new(ErrorCode::Internal, message);
        }
    };
    let database = name(path);
    let (code, message) = match cause.code {
        Sqlite::DiskFull => (ErrorCode::StoreFull, format!("{database} has no room left")),
        Sqlite::DatabaseBusy | Sqlite::DatabaseLocked | Sqlite::FileLockingProtocolFailed => (
            ErrorCode::StoreLocked,
            format!("{database} is locked by another connection"),
        ),
        Sqlite::DatabaseCorrupt | Sqlite::NotADatabase => (
            ErrorCode::StoreDamaged,
            format!("{database} is damaged, says SQLite"),
        ),
        Sqlite::PermissionDenied | Sqlite::AuthorizationForStatementDenied => {
            (ErrorCode::StorePermission, not_allowed(&database))
        }
        Sqlite::ReadOnly if cause.extended_code != ffi::SQLITE_READONLY_DBMOVED => {
            (ErrorCode::StorePermission, not_allowed(&database))
        }
        Sqlite::CannotOpen => return cannot_open(path, cause),
        Sqlite::ConstraintViolation => (
            ErrorCode::StoreForeign,
            format!("a constraint of the table in {database} refuses a record of ours"),
        ),
        Sqlite::TooBig => (
            ErrorCode::InvalidInput,
            format!("a value is larger than SQLite can keep in {database}"),
        ),
        _ => (
            ErrorCode::StoreUnavailable,
            format!("SQLite cannot work on {database}"),
        ),
    };
    Error::new(code, message).caused_by(cause)
}

fn not_allowed(database: &str) -> String {
    format!("this process may not write {database}")
}

/// SQLite does not say why it cannot open a file, so look at what is there.
///
/// Without opening it: closing any handle of a file drops all locks that this process holds on it,
/// also those of SQLite's own connections.
fn cannot_open(path: Option<&Path>, cause: ffi::Error) -> Error {
    let error = match path.map(|path| (path, path.metadata())) {
        None => Error::new(
            ErrorCode::StoreUnavailable,
            "SQLite cannot open a database in memory",
        ),
        Some((path, Err(error))) => return os_fault(path, error),
        Some((path, Ok(found))) if !found.is_file() => not_a_file(path),
        Some((path, Ok(_))) => match path.parent().map(std::fs::File::open) {
            // Too many open files, and the like.
            Some(Err(error)) => return os_fault(path, error),
            _ => Error::new(
                ErrorCode::StorePermission,
                format!(
                    "this process may not open {}, or not write in its folder",
                    name(Some(path))
                ),
            ),
        },
    };
    error.caused_by(cause)
}

/// There is something at `path`, and it is not a file.
pub(super) fn not_a_file(path: &Path) -> Error {
    let message = format!("{} is not a file", name(Some(path)));
    Error::new(ErrorCode::StoreForeign, message)
}

/// Turns what the operating system says of `path` into our error.
pub(super) fn os_fault(path: &Path, error: io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorCode::StorePermission
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::StoreFull,
        io::ErrorKind::IsADirectory => return not_a_file(path),
        _ => ErrorCode::StoreUnavailable,
    };
    Error::new(code, format!("cannot open {}", name(Some(path)))).caused_by(error)
}

/// The system starts no more threads.
pub(super) fn no_thread(error: io::Error) -> Error {
    Error::new(
        ErrorCode::StoreUnavailable,
        "cannot start a thread for the database",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(result: i32) -> ErrorCode {
        let text = "UNIQUE constraint failed near '1000.secret'".to_owned();
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(result), Some(text));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        std::fs::write(&path, "").unwrap();
        let fault = fault(Some(&path), &error);
        let texts = format!("{fault} {fault:?} {:?}", std::error::Error::source(&fault));
        assert!(!texts.contains("secret"), "{texts}");
        assert!(texts.contains("t.db"), "{texts}");
        fault.code()
    }

    #[test]
    fn every_result_code_has_its_meaning() {
        for (result, code) in [
            (ffi::SQLITE_FULL, ErrorCode::StoreFull),
            (ffi::SQLITE_BUSY, ErrorCode::StoreLocked),
            (ffi::SQLITE_BUSY_SNAPSHOT, ErrorCode::StoreLocked),
            (ffi::SQLITE_LOCKED, ErrorCode::StoreLocked),
            (ffi::SQLITE_PROTOCOL, ErrorCode::StoreLocked),
            (ffi::SQLITE_CORRUPT, ErrorCode::StoreDamaged),
            (ffi::SQLITE_NOTADB, ErrorCode::StoreDamaged),
            (ffi::SQLITE_PERM, ErrorCode::StorePermission),
            (ffi::SQLITE_READONLY, ErrorCode::StorePermission),
            (ffi::SQLITE_READONLY_DBMOVED, ErrorCode::StoreUnavailable),
            (ffi::SQLITE_CANTOPEN, ErrorCode::StorePermission),
            (ffi::SQLITE_CONSTRAINT_UNIQUE, ErrorCode::StoreForeign),
            (ffi::SQLITE_TOOBIG, ErrorCode::InvalidInput),
            (ffi::SQLITE_IOERR_FSYNC, ErrorCode::StoreUnavailable),
            (ffi::SQLITE_NOMEM, ErrorCode::StoreUnavailable),
            (ffi::SQLITE_ERROR, ErrorCode::StoreUnavailable),
        ] {
            assert_eq!(code_of(result), code, "{result}");
        }
    }

    #[test]
    fn a_statement_that_is_not_understood_is_not_quoted() {
        let error = rusqlite::Error::SqlInputError {
            error: ffi::Error::new(ffi::SQLITE_ERROR),
            msg: "near secret".into(),
            sql: "SELECT secret".into(),
            offset: 1,
        };
        let fault = fault(None, &error);
        assert!(!format!("{fault:?}").contains("secret"));
        assert_eq!(fault.code(), ErrorCode::StoreUnavailable);
    }

    #[test]
    fn what_cannot_be_opened_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let cause = ffi::Error::new(ffi::SQLITE_CANTOPEN);
        let at = |path: &Path| cannot_open(Some(path), cause).code();
        assert_eq!(at(folder.path()), ErrorCode::StoreForeign);
        assert_eq!(at(&folder.path().join("none")), ErrorCode::StoreUnavailable);
        let file = folder.path().join("t.db");
        std::fs::write(&file, "").unwrap();
        assert_eq!(at(&file), ErrorCode::StorePermission);
        for (kind, code) in [
            (io::ErrorKind::PermissionDenied, ErrorCode::StorePermission),
            (
                io::ErrorKind::ReadOnlyFilesystem,
                ErrorCode::StorePermission,
            ),
            (io::ErrorKind::StorageFull, ErrorCode::StoreFull),
            (io::ErrorKind::NotFound, ErrorCode::StoreUnavailable),
        ] {
            assert_eq!(os_fault(&file, kind.into()).code(), code, "{kind}");
        }
    }
}
