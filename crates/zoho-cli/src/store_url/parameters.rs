//! What stands behind the `?` of a store's text.
//!
//! Names of parameters are printed if they look like names, values never.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::wrong;
use crate::error::{Failure, Result};

/// What people call a password in the URLs of other programs.
const PASSWORDS: [&str; 4] = ["password", "passwd", "pass", "pwd"];

/// The parameters of one text, all of them known.
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// Reads what stands behind the `?`, if there is one. `kind` may have the parameters `known`.
    pub(super) fn read(kind: &str, query: Option<&str>, known: &[&'static str]) -> Result<Self> {
        let mut values = BTreeMap::new();
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(wrong("a parameter behind the `?` has no `=` and no value"));
            };
            if PASSWORDS.contains(&name) {
                return Err(password_refused());
            }
            let Some(&name) = known.iter().find(|known| **known == name) else {
                let what = if is_name(name) {
                    format!("`{name}` is no parameter of `{kind}`")
                } else {
                    format!("there is something behind the `?` that is no parameter of `{kind}`")
                };
                let hint = format!("Its parameters are: {}.", known.join(", "));
                return Err(wrong(what).hinted(hint));
            };
            let value = decoded(value)?;
            if value.is_empty() {
                return Err(wrong(format!("the parameter `{name}` is empty")));
            }
            if values.insert(name, value).is_some() {
                return Err(wrong(format!("the parameter `{name}` is there twice")));
            }
        }
        Ok(Self(values))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Which of two words a parameter is, if it is there.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(super) fn choice(&self, name: &str, [yes, no]: [&str; 2]) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(word) if word == yes => Ok(Some(true)),
            Some(word) if word == no => Ok(Some(false)),
            Some(_) => Err(wrong(format!("`{name}` is `{yes}` or `{no}`"))),
        }
    }

    /// The password that the environment has.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
    pub(super) fn password(&self) -> Result<Option<String>> {
        let Some(name) = self.get("password_env") else {
            return Ok(None);
        };
        // Somebody may have put the password itself here.
        if !is_name(name) {
            return Err(wrong(
                "`password_env` is no name of an environment variable",
            ));
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the variable that the command line names"
        )]
        let value = std::env::var(name);
        match value {
            Ok(password) if !password.is_empty() => Ok(Some(password)),
            Ok(_) | Err(std::env::VarError::NotPresent) => Err(wrong(format!(
                "the environment variable `{name}`, which should hold the password, is not set"
            ))),
            Err(std::env::VarError::NotUnicode(_)) => Err(wrong(format!(
                "the environment variable `{name}` does not hold text"
            ))),
        }
    }

    /// The certificate authorities to trust, if they are named.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
    pub(super) fn authorities(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.get("tls_ca") else {
            return Ok(None);
        };
        match std::fs::read(path) {
            Ok(pem) => Ok(Some(pem)),
            Err(error) => {
                let problem = format!("the certificates in `{path}` cannot be read: {error}");
                Err(wrong(problem))
            }
        }
    }
}

/// Whether it looks like the name of a parameter or a variable, and may be printed.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    !text.is_empty() && text.bytes().all(is_part) && !text.as_bytes().first().is_some_and(is_digit)
}

pub(super) fn password_refused() -> Failure {
    wrong("there is a password in the URL of a store, where others can see it").hinted(
        "Put it into an environment variable, and name that: `?password_env=NAME`. If this machine \
         has other users, change the password.",
    )
}

/// Undoes `%40` and the like.
pub(super) fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    match decoded {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(wrong("what is written with `%` in the URL is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["table", "password_env"];

    fn problem(query: &str) -> String {
        let failure = Parameters::read("mysql://", Some(query), &KNOWN).unwrap_err();
        format!("{failure:?}")
    }

    #[test]
    fn values_are_decoded_and_a_plus_is_a_plus() {
        let read = Parameters::read("mysql://", Some("table=a%20%2B+b"), &KNOWN).unwrap();
        assert_eq!(read.get("table"), Some("a ++b"));
        assert_eq!(read.get("password_env"), None);
        let none = Parameters::read("mysql://", None, &KNOWN).unwrap();
        assert_eq!(none.get("table"), None);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name_and_its_value_not_printed() {
        let text = problem("tabel=secret");
        assert!(
            text.contains("`tabel` is no parameter of `mysql://`"),
            "{text}"
        );
        assert!(text.contains("table, password_env"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        for query in [
            "secret",
            "se/cret=1",
            "secret@host=2",
            "table=a&secret",
            "1secret=3",
        ] {
            let text = problem(query);
            assert!(!text.contains("cret"), "{text}");
        }
        assert!(problem("table=a&table=b").contains("`table` is there twice"));
        assert!(problem("table=").contains("`table` is empty"));
        assert!(problem("").contains("no `=`"));
        assert!(problem("table=%ff").contains("no text"));
        assert!(problem("table=a%00").contains("no text"));
    }

    #[test]
    fn a_password_is_refused_and_not_printed() {
        for name in PASSWORDS {
            let text = problem(&format!("table=a&{name}=geheim"));
            assert!(text.contains("there is a password") && text.contains("password_env"));
            assert!(!text.contains("geheim"), "{text}");
        }
    }

    #[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
    #[test]
    fn a_variable_that_holds_no_password_is_named() {
        let read = |query| Parameters::read("mysql://", Some(query), &KNOWN).unwrap();
        let failure = read("password_env=ZOHO_NO_SUCH_VARIABLE").password();
        let text = format!("{:?}", failure.unwrap_err());
        assert!(text.contains("`ZOHO_NO_SUCH_VARIABLE`"), "{text}");
        let failure = read("password_env=ge-heim!").password();
        let text = format!("{:?}", failure.unwrap_err());
        assert!(!text.contains("heim"), "{text}");
        assert_eq!(read("table=a").password().unwrap(), None);
    }
}
