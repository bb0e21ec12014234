//! One call as data: what is sent, apart from the token and the address of the server.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use url::{Position, Url};

use crate::error::{Error, Result};

/// The HTTP methods of the CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, and asks questions that need a body.
    Post,
    /// Updates.
    Put,
    /// Updates in part; few resources know it.
    Patch,
    /// Deletes.
    Delete,
}

impl Method {
    /// Returns the name in upper case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

/// What kind of thing is sent along.
#[derive(Clone)]
pub(crate) struct Body {
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

/// A call that can be sent, and sent again: everything in it is kept until it has succeeded.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Begins with `/crm/`; checked again when the address is put together.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Body>,
    /// Changes nothing in the CRM, so it may be sent again after a lost answer.
    pub(crate) only_reads: bool,
    /// Nothing but JSON (or nothing) is an answer to this call.
    pub(crate) wants_json: bool,
}

impl Call {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        let path = if path.starts_with("/crm/") {
            path.to_owned()
        } else {
            format!("/crm/v8/{path}")
        };
        Self {
            method,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            only_reads: method == Method::Get,
            wants_json: true,
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::Get, path)
    }

    /// Sets a query parameter, in place of one with the same name.
    pub(crate) fn set_query(&mut self, name: &str, value: impl Into<String>) {
        self.query.retain(|(known, _)| known != name);
        self.query.push((name.to_owned(), value.into()));
    }

    pub(crate) fn query_value(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn set_header(&mut self, name: &str, value: impl Into<String>) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(crate) fn set_json(&mut self, value: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|cause| {
            Error::invalid_input(format!("the body of `{self}` cannot be written as JSON"))
                .caused_by(cause)
        })?;
        self.body = Some(Body {
            content_type: "application/json".into(),
            bytes: bytes.into(),
        });
        Ok(())
    }

    /// Returns a copy for texts about the call. It does not keep an upload in memory.
    pub(crate) fn without_body(&self) -> Self {
        let body = None;
        Self {
            body,
            ..self.clone()
        }
    }

    /// Puts the address together from the API domain of the user.
    ///
    /// # Errors
    /// `invalid_input` when the path would leave `/crm/`. The host is never taken from the path.
    pub(crate) fn url(&self, domain: &Url) -> Result<Url> {
        let refused = |why: &str| Err(Error::invalid_input(format!("the path of `{self}` {why}")));
        if self.path.contains(['?', '#']) {
            return refused("holds a query or a fragment: use `query`");
        }
        if self.path.contains(['\\', '\0']) || self.path.chars().any(char::is_control) {
            return refused("holds a character that no path may hold");
        }
        let base = domain.path().trim_end_matches('/');
        let mut url = domain.clone();
        url.set_path(&format!("{base}{}", self.path));
        // `set_path` resolves `..`, also where it is written as `%2e%2e`: look at the outcome.
        let inside = url.path().strip_prefix(base);
        if !inside.is_some_and(|path| path.starts_with("/crm/"))
            || url[..Position::BeforePath] != domain[..Position::BeforePath]
        {
            return refused("leads out of `/crm/`");
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}

impl fmt::Display for Call {
    /// Writes method and path, without the query: search terms and names are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path.escape_debug())
    }
}

/// Checks a name that becomes part of a path: letters, digits and `_`.
pub(crate) fn api_name<'a>(what: &str, name: &'a str) -> Result<&'a str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::invalid_input(format!(
            "an API name of a {what} consists of letters, digits and `_`: `{}` does not",
            name.escape_debug()
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &str) -> Result<String> {
        let domain = Url::parse("https://www.zohoapis.eu").unwrap();
        Call::get(path).url(&domain).map(String::from)
    }

    #[test]
    fn paths_are_relative_to_the_version_or_absolute() {
        assert_eq!(
            url("Leads/1").unwrap(),
            "https://www.zohoapis.eu/crm/v8/Leads/1"
        );
        assert_eq!(
            url("/crm/bulk/v8/read").unwrap(),
            "https://www.zohoapis.eu/crm/bulk/v8/read"
        );
        assert_eq!(
            url("Leads/a b").unwrap(),
            "https://www.zohoapis.eu/crm/v8/Leads/a%20b"
        );
    }

    #[test]
    fn no_path_leads_to_another_host_or_out_of_the_crm() {
        for path in [
            "../../oauth/v2/token",
            "%2e%2e/%2E%2e/oauth/v2/token",
            "/crm/../oauth/v2/token",
            "/crm/v8/../../..",
            "Leads?fields=id",
            "Leads#x",
            "Leads\\..\\..\\x",
            "Leads\r\nHost: evil.example",
        ] {
            let error = url(path).unwrap_err();
            assert_eq!(error.code().as_str(), "invalid_input", "{path}");
        }
        // What looks like another host is just a strange path on ours.
        for path in ["//evil.example/x", "@evil.example", "https://evil.example/"] {
            let url = url(path).unwrap();
            assert!(url.starts_with("https://www.zohoapis.eu/crm/v8/"), "{url}");
        }
    }

    #[test]
    fn a_domain_with_a_path_keeps_it() {
        let domain = Url::parse("http://127.0.0.1:1/gateway").unwrap();
        let url = Call::get("org").url(&domain).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:1/gateway/crm/v8/org");
        assert!(
            Call::get("../../../gateway2/crm/v8/x")
                .url(&domain)
                .is_err()
        );
    }

    #[test]
    fn the_query_is_encoded_and_not_shown() {
        let mut call = Call::get("Leads/search");
        call.set_query("word", "old");
        call.set_query("word", "a&b=c d");
        let domain = Url::parse("https://www.zohoapis.eu").unwrap();
        assert_eq!(call.url(&domain).unwrap().query(), Some("word=a%26b%3Dc+d"));
        assert_eq!(call.to_string(), "GET /crm/v8/Leads/search");
    }

    #[test]
    fn api_names_are_plain() {
        assert!(api_name("module", "Leads").is_ok());
        assert!(api_name("module", "CustomModule5_x").is_ok());
        for bad in ["", "Leads/1", "Leads?x", "Lea ds", "Läden"] {
            assert!(api_name("module", bad).is_err(), "{bad}");
        }
    }
}
