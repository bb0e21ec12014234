//! A server's folder, and the user that it belongs to.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::options::Tls;

/// Where the system's users are listed.
const USERS: &str = "/etc/passwd";

/// A user of this machine, by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Account {
    /// For servers that refuse to run as root: the first of `names` that there is, when we are root.
    pub(crate) fn other_than_root(names: &[&str]) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string(USERS)
            .map_err(|error| Error::io(format_args!("read `{USERS}`"), &error))?;
        let account = names.iter().find_map(|name| find(&users, name));
        account.map(Some).ok_or_else(|| {
            Error::new(format!(
                "the server does not run as root, and there is none of these users: {}",
                names.join(", ")
            ))
        })
    }
}

/// Lines of `name:x:uid:gid:…`.
fn find(users: &str, name: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        Some(Account {
            user: fields.nth(1)?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    })
}

/// A folder for one server, removed with this value. Only its user, and root, can look into it.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
    account: Option<Account>,
}

impl Home {
    /// Makes the folder, and gives it to `account`.
    pub(crate) fn new(account: Option<Account>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("zoho-test-")
            .tempdir()
            .map_err(|error| Error::io("make a folder for a server", &error))?;
        let home = Self { folder, account };
        home.give(home.path())?;
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn account(&self) -> Option<Account> {
        self.account
    }

    /// Writes a file that only the server's user can read.
    pub(crate) fn write(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(contents.as_bytes()))
            .map_err(|error| Error::io(format_args!("write `{}`", path.display()), &error))?;
        self.give(&path)?;
        Ok(path)
    }

    /// Makes a folder that belongs to the server's user.
    pub(crate) fn make_folder(&self, path: &Path) -> Result<()> {
        fs::create_dir(path)
            .map_err(|error| Error::io(format_args!("make `{}`", path.display()), &error))?;
        self.give(path)
    }

    /// Writes certificate and key; returns their paths in this order.
    pub(crate) fn write_tls(&self, tls: &Tls) -> Result<(String, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let certificate = self.write("server.crt", &tls.certificate)?;
        let key = self.write("server.key", &tls.key)?;
        Ok((text(certificate), text(key)))
    }

    fn give(&self, path: &Path) -> Result<()> {
        let Some(Account { user, group }) = self.account else {
            return Ok(());
        };
        chown(path, Some(user), Some(group)).map_err(|error| {
            Error::io(
                format_args!("give `{}` to its user", path.display()),
                &error,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\nmysqlx:x:1:2::/:\nmysql:x:102:105:MySQL Server,,,:/nonexistent:/bin/false\n";
        let account = Account {
            user: 102,
            group: 105,
        };
        assert_eq!(find(users, "mysql"), Some(account));
        assert_eq!(find(users, "sql"), None);
    }

    #[test]
    fn a_written_file_is_for_its_user_alone_and_goes_with_the_folder() {
        use std::os::unix::fs::PermissionsExt as _;

        let home = Home::new(None).unwrap();
        let file = home.write("server.key", "k").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(home);
        assert!(!file.exists());
    }
}
