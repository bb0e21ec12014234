//! The URL of a store on a server, apart.
//!
//! By hand, since what looks like a password must be known for one before anything is printed, and
//! a user without a host is fine: `postgres://portal@/portal?socket=/run/postgresql`.

use super::parameters::{Parameters, decoded, password_refused};
use super::wrong;
use crate::error::Result;

/// What a URL says; what it does not say is as the store has it by default.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) user: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    /// The database, without its slash.
    pub(super) database: Option<String>,
    pub(super) parameters: Parameters,
}

impl Address {
    /// Reads what stands behind `kind:`. `form` shows how it is written, `known` are its parameters.
    pub(super) fn read(
        (kind, form): (&str, &str),
        rest: &str,
        known: &[&'static str],
    ) -> Result<Self> {
        let refused = |problem: &str| {
            let hint = format!("Write it as `{form}`. See `zoho tokens --help`.");
            wrong(problem).hinted(hint)
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(refused(&format!("`//` is missing behind `{kind}:`")));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        // A password with one of these characters in it ends up here.
        if rest.contains('@') {
            let problem =
                "there is an `@` behind the host of a URL, as if a password had a `/` in it";
            return Err(refused(problem).hinted(
                "Leave the password out, see `password_env` in `zoho tokens --help`; elsewhere \
                 write %40.",
            ));
        }
        if rest.contains('#') {
            return Err(refused("there is a `#` in the URL: write %23"));
        }
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(password_refused());
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let database = path.strip_prefix('/').unwrap_or_default();
        if database.contains('/') {
            return Err(refused(
                "there is more than one `/` behind the host of a URL",
            ));
        }
        let (host, port) = split(place).ok_or_else(|| {
            refused("the host and port of a URL are a name or an address, and a number")
        })?;
        let some = |text: &str| -> Result<Option<String>> {
            let text = decoded(text)?;
            Ok(Some(text).filter(|text| !text.is_empty()))
        };
        Ok(Self {
            user: some(user)?,
            host: (!host.is_empty()).then(|| host.to_owned()),
            port,
            database: some(database)?,
            parameters: Parameters::read(&format!("{kind}://"), query, known)?,
        })
    }
}

/// `host`, `host:port`, `:port`, `[::1]:port`, or nothing.
fn split(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some(""))?,
            )
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    let port = match port {
        "" => None,
        digits => Some(digits.parse().ok().filter(|port| *port > 0)?),
    };
    host.bytes().all(is_part).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: (&str, &str) = ("mysql", "mysql://USER@HOST:PORT/DATABASE");
    const KNOWN: [&str; 1] = ["table"];

    fn read(text: &str) -> Result<Address> {
        Address::read(FORM, text, &KNOWN)
    }

    #[test]
    fn all_parts_are_read_and_each_can_be_left_out() {
        for (text, user, host, port, database, table) in [
            ("///", None, None, None, None, None),
            ("//", None, None, None, None, None),
            ("//db", None, Some("db"), None, None, None),
            ("//db:1/", None, Some("db"), Some(1), None, None),
            ("//ann@db/d", Some("ann"), Some("db"), None, Some("d"), None),
            ("//ann@/d", Some("ann"), None, None, Some("d"), None),
            ("//a%40b@db", Some("a@b"), Some("db"), None, None, None),
            (
                "//[::1]:7/a%2Fb",
                None,
                Some("::1"),
                Some(7),
                Some("a/b"),
                None,
            ),
            ("//:9/d", None, None, Some(9), Some("d"), None),
            ("//[::1]", None, Some("::1"), None, None, None),
            ("//db?table=t", None, Some("db"), None, None, Some("t")),
            ("///d?table=t", None, None, None, Some("d"), Some("t")),
        ] {
            let address = read(text).unwrap();
            assert_eq!(address.user.as_deref(), user, "{text}");
            assert_eq!(address.host.as_deref(), host, "{text}");
            assert_eq!(address.port, port, "{text}");
            assert_eq!(address.database.as_deref(), database, "{text}");
            assert_eq!(address.parameters.get("table"), table, "{text}");
        }
    }

    #[test]
    fn a_password_is_refused_and_no_part_of_it_printed() {
        for text in [
            "//ann:geheim@db/d",
            "//ann:geheim@/d",
            "//:geheim@db/d",
            "//ann:ge@heim@db/d",
            "//ann:ge/heim@db/d",
            "//ann:1/heim@db/d",
            "//ann:1?heim@db/d",
            "//ann:1#heim@db/d",
            "//ann:heim",
            "//ge heim",
            "//db/ge/heim",
            "//db/d#heim",
            "//[heim]/",
            "//db:65536/",
            "//db:0/",
            "ann:geheim@db",
        ] {
            let failure = format!("{:?}", read(text).unwrap_err());
            assert!(!failure.contains("heim"), "{failure}");
            assert!(failure.contains("\nhint: "), "{failure}");
        }
        let failure = format!("{:?}", read("//ann:geheim@db/d").unwrap_err());
        assert!(failure.contains("there is a password"), "{failure}");
    }
}
