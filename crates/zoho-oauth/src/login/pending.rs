//! A login between the redirect to Zoho and the callback.

use std::fmt;

use subtle::ConstantTimeEq;
use url::Url;

use super::callback::{Callback, refused};
use crate::accounts::{code_like, meaning_of};
use crate::credential::{Credential, GrantCredential, OAuthClient};
use crate::data_center::{DataCenter, DataCenters, server_of};
use crate::error::{Error, ErrorCode, Result};
use crate::secret::{CodeVerifier, SavedLogin};

/// The first part of a saved login: a later form gets another number.
const FORM: &str = "1";

/// A login that waits for its callback. Good for one callback: drop it after that.
#[derive(Clone)]
pub struct PendingLogin {
    pub(super) state: String,
    pub(super) verifier: Option<CodeVerifier>,
    pub(super) client: OAuthClient,
    pub(super) center: DataCenter,
}

impl PendingLogin {
    /// Returns the state, as the callback will carry it: a key to keep several logins by.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Returns the login as text, for a web session; [`LoginRequest::resume`] reads it.
    ///
    /// Keep it on the server, or in a cookie of this browser that is encrypted, or at least
    /// signed, `HttpOnly`, `Secure`, and `SameSite=Lax` (with `Strict` it would not come back
    /// from Zoho). It holds the state and the code verifier, and no client secret. Delete it when
    /// the callback has come.
    ///
    /// [`LoginRequest::resume`]: super::LoginRequest::resume
    #[expect(clippy::missing_panics_doc, reason = "the text cannot be empty")]
    pub fn save(&self) -> SavedLogin {
        let verifier = self.verifier.as_ref().map_or("", |v| v.expose_secret());
        let text = [FORM, &self.state, verifier, self.center.name()].join(".");
        SavedLogin::new(text).expect("text with dots in it is not empty")
    }

    /// Checks the callback and returns what the authenticator exchanges.
    ///
    /// The data center is that of the callback's `accounts-server`; without one it is the center
    /// that the login began at. With it goes the client secret that [`OAuthClient::secret_at`]
    /// named for it, else the client's own.
    ///
    /// # Errors
    /// `unknown_data_center`, naming the server, when `accounts-server` is that of no known center;
    /// `callback_refused` when the state is missing or another one, when `accounts-server` is not an
    /// https address without a path, or when `location` names another center than that;
    /// `access_denied` when the person refused; the other errors of the authorization page under
    /// their own codes, such as `invalid_scope`. An error without a state is reported, since
    /// Zoho's page may fail before it has read the state; nothing but the report comes of it.
    pub fn accept(&self, callback: &Callback, centers: &DataCenters) -> Result<GrantCredential> {
        let state_fits = match &callback.state {
            Some(state) => bool::from(state.as_bytes().ct_eq(self.state.as_bytes())),
            None => callback.code.is_none(),
        };
        if !state_fits {
            return Err(refused(
                "the callback's state is not that of this login: it belongs to another browser or an older try",
            ));
        }
        if let Some(error) = &callback.error {
            return Err(reported(error));
        }
        let code = callback
            .code
            .clone()
            .ok_or_else(|| refused("the callback holds no code"))?;
        let center = self.center_of(callback, centers)?;
        let mut grant = Credential::grant(self.client.at(&center), code).data_center(center);
        if let Some(verifier) = &self.verifier {
            grant = grant.code_verifier(verifier.clone());
        }
        Ok(grant)
    }

    fn center_of(&self, callback: &Callback, centers: &DataCenters) -> Result<DataCenter> {
        let center = match &callback.accounts_server {
            None => &self.center,
            Some(server) if is_bare_origin(server) => Some(&self.center)
                .filter(|own| own.has_accounts_url(server))
                .or_else(|| centers.by_accounts_url(server))
                .ok_or_else(|| unknown(server))?,
            Some(_) => {
                return Err(refused(
                    "the callback's accounts server is not an address without a path",
                ));
            }
        };
        // `location` picks no server. It can only contradict.
        if let Some(location) = &callback.location
            && !location.eq_ignore_ascii_case(center.name())
        {
            return Err(refused(format!(
                "the callback's location is not `{}`, the data center of its accounts server",
                center.name()
            )));
        }
        Ok(center.clone())
    }
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin")
            .field("client", &self.client.id)
            .field("center", &self.center)
            .field("pkce", &self.verifier.is_some())
            .finish_non_exhaustive()
    }
}

/// Reads what [`PendingLogin::save`] wrote.
pub(super) fn parse(
    saved: &SavedLogin,
    center: &DataCenter,
) -> Result<(String, Option<CodeVerifier>)> {
    let broken = || refused("the saved login is damaged, or of another version");
    // The name comes last: it alone may hold a dot.
    let mut parts = saved.expose_secret().splitn(4, '.');
    let mut part = || parts.next().ok_or_else(broken);
    let (form, state, verifier, name) = (part()?, part()?, part()?, part()?);
    if form != FORM || state.len() != 43 || !matches!(verifier.len(), 0 | 43) {
        return Err(broken());
    }
    if name != center.name() {
        return Err(refused("the saved login began at another data center"));
    }
    let verifier = Some(verifier).filter(|verifier| !verifier.is_empty());
    Ok((
        state.to_owned(),
        verifier.map(CodeVerifier::received).transpose()?,
    ))
}

/// The error that the authorization page reported.
fn reported(said: &str) -> Error {
    let error = match meaning_of(said) {
        Some(ErrorCode::AccessDenied) => Error::new(
            ErrorCode::AccessDenied,
            "the person refused the login, or tried it too often",
        ),
        Some(code) => Error::new(code, format!("the login failed with `{said}`")),
        None => match code_like(said) {
            Some(said) => refused(format!("the login failed with the unknown error `{said}`")),
            None => refused("the login failed with an error that is no code"),
        },
    };
    match code_like(said) {
        Some(said) => error.with_server_code(said),
        None => error,
    }
}

/// The error for a callback that names the accounts server of no known center.
fn unknown(server: &str) -> Error {
    if !server.to_ascii_lowercase().starts_with("https://") {
        return refused("the callback's accounts server is not an https address");
    }
    let server = server_of(server);
    let message =
        format!("the callback names `{server}`, an accounts server of no known data center");
    Error::new(ErrorCode::UnknownDataCenter, message)
}

/// Whether this is scheme, host and port alone.
fn is_bare_origin(url: &str) -> bool {
    let has_control = url.contains(char::is_control);
    !has_control
        && Url::parse(url).is_ok_and(|url| {
            url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        })
}
