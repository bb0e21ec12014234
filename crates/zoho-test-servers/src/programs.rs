//! Finds the servers' programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::environment;
use crate::error::{Error, Result};

/// Where PostgreSQL's programs are on Debian, by version: not on `PATH`.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";
/// Where Debian puts servers; not on the `PATH` of people who are not root.
const SYSTEM_FOLDERS: &[&str] = &["/usr/sbin", "/sbin"];

/// Programs, the variables that say where they are, and the Debian packages that bring them.
const KNOWN: &[(&str, &str, &str)] = &[
    ("mariadbd", "ZOHO_TEST_MARIADBD", "mariadb-server"),
    (
        "mariadb-install-db",
        "ZOHO_TEST_MARIADB_INSTALL_DB",
        "mariadb-server",
    ),
    ("mariadb", "ZOHO_TEST_MARIADB", "mariadb-client"),
    ("rsync", "ZOHO_TEST_RSYNC", "rsync"),
    ("initdb", "ZOHO_TEST_INITDB", "postgresql"),
    ("psql", "ZOHO_TEST_PSQL", "postgresql"),
    ("pgbouncer", "ZOHO_TEST_PGBOUNCER", "pgbouncer"),
    ("redis-server", "ZOHO_TEST_REDIS_SERVER", "redis-server"),
    ("redis-cli", "ZOHO_TEST_REDIS_CLI", "redis-tools"),
    ("moto_server", "ZOHO_TEST_MOTO_SERVER", "moto"),
];

/// Finds a program: where its variable says, else on `PATH`, else in Debian's folders.
///
/// The variable is `ZOHO_TEST_` and the program's name: `ZOHO_TEST_MARIADBD`,
/// `ZOHO_TEST_MARIADB_INSTALL_DB`, `ZOHO_TEST_MARIADB` (the client), `ZOHO_TEST_INITDB` (the other
/// programs of PostgreSQL are taken from beside it), `ZOHO_TEST_PGBOUNCER`,
/// `ZOHO_TEST_REDIS_SERVER`, `ZOHO_TEST_REDIS_CLI`, `ZOHO_TEST_MOTO_SERVER`. Of several versions of
/// PostgreSQL the newest is taken.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let variable = KNOWN.iter().find(|(known, ..)| *known == name);
    let chosen = variable.and_then(|(_, variable, _)| environment::path(variable));
    chosen
        .or_else(|| {
            let folders = environment::program_folders();
            let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
            in_folders(folders.into_iter().chain(system), name)
        })
        .or_else(|| in_folders(postgres_folders(Path::new(POSTGRES_VERSIONS)), name))
        .filter(|path| is_program(path))
}

/// The same, for a server that cannot do without.
pub(crate) fn needed(name: &str) -> Result<PathBuf> {
    find_program(name).ok_or_else(|| {
        let known = KNOWN.iter().find(|(known, ..)| *known == name);
        Error::new(match known {
            Some((_, variable, package)) => format!(
                "`{name}` is not there: install `{package}`, or set `{variable}` to its path"
            ),
            None => format!("`{name}` is not on PATH"),
        })
    })
}

fn in_folders(folders: impl IntoIterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

/// `…/VERSION/bin`, the newest version first.
fn postgres_folders(versions: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(versions).into_iter().flatten().flatten();
    let mut versions: Vec<_> = entries
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

fn is_program(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_postgres_is_taken_by_number() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "not-a-version"] {
            let bin = folder.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("initdb"), "").unwrap();
            fs::set_permissions(bin.join("initdb"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let found = in_folders(postgres_folders(folder.path()), "initdb").unwrap();
        assert!(found.ends_with("15/bin/initdb"), "{}", found.display());
    }

    #[test]
    fn a_missing_program_is_named_with_what_brings_it() {
        let told = needed("surely-not-there-1").unwrap_err().to_string();
        assert_eq!(told, "`surely-not-there-1` is not on PATH");
        assert_eq!(
            find_program("sh").map(|path| path.ends_with("sh")),
            Some(true)
        );
    }
}
