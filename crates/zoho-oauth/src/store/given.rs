//! Names of hosts and databases as somebody gave them. Whoever gives a URL instead gives a password
//! with it, which must not get into `Debug` or an error.

use crate::error::Error;

/// Whether a text can name a host: nothing in it belongs to a URL or a list of settings.
pub(crate) fn is_host(text: &str) -> bool {
    let is_strange = |c: char| "/@?#=".contains(c) || c.is_whitespace() || c.is_control();
    !text.is_empty() && !text.contains(is_strange)
}

/// Returns a name as it is printed: itself, unless it may hold a password.
pub(crate) fn shown(name: &str) -> &str {
    if name.is_empty() || is_host(name) {
        name
    } else {
        "[not printed]"
    }
}

/// Refuses a URL in the place of a database's name.
///
/// # Errors
/// `invalid_input`, which does not quote it.
#[cfg(any(test, feature = "mysql", feature = "postgres"))]
pub(crate) fn check_database(name: &str) -> crate::error::Result<()> {
    if name.contains("://") {
        return Err(Error::invalid_input(
            "the name of the database is a URL: give host, database, user and password one by one",
        ));
    }
    Ok(())
}

/// The error for a host that is none.
pub(crate) fn no_host() -> Error {
    Error::invalid_input(
        "a host is a name or an address, and no URL: give host, port, user and password one by one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_a_password_is_no_host_and_is_not_printed() {
        for host in ["db", "db-1.example.com", "10.0.0.7", "::1", "fe80::1%eth0"] {
            assert!(is_host(host), "{host}");
            assert_eq!(shown(host), host);
            assert!(check_database(host).is_ok());
        }
        for text in [
            "mysql://root:s3cret@db/x",
            "root:s3cret@db",
            "db?password=s3cret",
            "host=db password=s3cret",
            "db/s3cret",
            "db\ns3cret",
        ] {
            assert!(!is_host(text), "{text}");
            assert!(!shown(text).contains("s3cret"));
        }
        let error = check_database("mysql://root:s3cret@db/x").unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
    }
}
