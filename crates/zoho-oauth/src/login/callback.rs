//! What a person comes back with from Zoho's consent page.

use std::fmt;

use url::form_urlencoded;

use crate::error::{Error, ErrorCode, Result};
use crate::secret::GrantToken;

/// The query that Zoho appends to the redirect URI: read, not yet believed.
///
/// `Debug` says which parameters there are and none of their values.
#[derive(Clone)]
pub struct Callback {
    pub(super) code: Option<GrantToken>,
    pub(super) state: Option<String>,
    pub(super) error: Option<String>,
    pub(super) location: Option<String>,
    pub(super) accounts_server: Option<String>,
}

impl Callback {
    /// Reads the URL that was called, whole or from its path on: `/callback?code=…`. White space
    /// around it, as it comes with a URL that a person pastes, does not matter.
    ///
    /// # Errors
    /// As [`from_query`](Self::from_query). The URL is not repeated: it holds the grant token.
    pub fn from_url(url: &str) -> Result<Self> {
        let url = url.trim();
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        Self::from_query(url.split_once('?').map_or("", |(_, query)| query))
    }

    /// Reads the query alone, with or without the question mark, as it was sent: not decoded.
    ///
    /// Empty values count as absent, unknown parameters are ignored.
    ///
    /// # Errors
    /// `callback_refused` when a parameter is there twice, neither `code` nor `error` is there, or
    /// the code holds characters that no code has.
    pub fn from_query(query: &str) -> Result<Self> {
        let query = query.strip_prefix('?').unwrap_or(query);
        let mut callback = Self {
            code: None,
            state: None,
            error: None,
            location: None,
            accounts_server: None,
        };
        let mut code = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "code" => &mut code,
                "state" => &mut callback.state,
                "error" => &mut callback.error,
                "location" => &mut callback.location,
                "accounts-server" => &mut callback.accounts_server,
                _ => continue,
            };
            if value.is_empty() {
                continue;
            }
            // RFC 6749 section 3.1: none may be there twice. Which of two would be the right one?
            if field.is_some() {
                return Err(refused(format!("the callback holds `{name}` twice")));
            }
            *field = Some(value.into_owned());
        }
        let code = code.map(GrantToken::new).transpose();
        callback.code =
            code.map_err(|error| refused(format!("in the callback, {}", error.message())))?;
        if callback.code.is_none() && callback.error.is_none() {
            return Err(refused("the callback holds neither a code nor an error"));
        }
        Ok(callback)
    }

    /// Returns the state: the key to the pending login, where several are kept by their state.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("code", &self.code.is_some())
            .field("state", &self.state.is_some())
            .field("error", &self.error.is_some())
            .field("location", &self.location.is_some())
            .field("accounts_server", &self.accounts_server.is_some())
            .finish()
    }
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::CallbackRefused, message)
}
