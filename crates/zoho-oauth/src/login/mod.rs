//! The login: the URL that a person is sent to, and the callback that comes back.
//!
//! [`LoginRequest::begin`] makes the URL and a [`PendingLogin`]; the person consents at Zoho, who
//! redirects to the application with a query that [`Callback`] reads; [`PendingLogin::accept`]
//! checks that the one belongs to the other. No network: the grant token that comes out is
//! exchanged by the authenticator.
//!
//! Two things protect the way back. The **state** (RFC 6749 section 10.12) ties the callback to
//! the browser that began: without it anybody could slip their own login to somebody else. The
//! **code verifier** (PKCE, RFC 7636) makes a stolen grant token worthless.
//!
//! **Data centers.** Zoho sends a person to the data center of their account, and the callback
//! names its accounts server. It is believed only if it is that of a known center, since the
//! client secret is sent there; no address is ever built from the callback.

mod callback;
mod pending;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;

pub use callback::Callback;
pub use pending::PendingLogin;

use crate::credential::OAuthClient;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::{ClientSecret, CodeVerifier, SavedLogin};
use crate::text;

/// What to ask a person for. One request serves any number of logins.
///
/// **A person who comes back.** Zoho sends a refresh token at the first consent only. A later login
/// of the same person joins the stored one, if it is known who that is: the application names the
/// user, as here, or hands the grant to `ZohoCrm::builder`, which asks the CRM for the name and needs
/// the scopes `ZohoCRM.users.READ` and `ZohoCRM.org.READ` for that. Without a name the login ends in
/// `refresh_token_missing`.
///
/// ```
/// use zoho_oauth::{Authenticator, Callback, ListStore, LoginRequest, OAuthClient, UserName};
/// # use zoho_oauth::{DataCenter, DataCenters};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sandbox = zoho_sandbox::Sandbox::builder().start().await?;
/// # let center = DataCenter::builder("us", sandbox.accounts_url()).api_domain(sandbox.api_url());
/// # let center = center.build()?;
/// # let (id, secret) = (sandbox.client_id(), sandbox.client_secret());
/// # let redirect_uri = sandbox.redirect_uri();
/// # let store = ListStore::new();
/// // Against Zoho: `let center = DataCenter::us();`
/// let client = OAuthClient::new(id, secret)?.redirect_uri(redirect_uri);
/// let scopes = ["ZohoCRM.modules.ALL", "ZohoCRM.users.READ", "ZohoCRM.org.READ"];
/// let request = LoginRequest::new(client, center.clone(), scopes);
/// let auth = Authenticator::builder(store).data_center(center).build()?;
///
/// # for login in 1..=2 {
/// // Send the person to `url`; keep `saved` in their session.
/// let (url, pending) = request.begin()?;
/// let saved = pending.save();
/// # let called = sandbox.authorize(&url, &sandbox.people()[0])?;
///
/// // In the callback, perhaps in another process, `called` is the URL that the browser asks for:
/// let callback = Callback::from_url(&called)?;
/// let grant = request.resume(&saved)?.accept(&callback, auth.data_centers())?;
/// let person = UserName::new("ann@portal.example")?;
/// let session = auth.session(grant.user_name(person)).await?;
/// let access = session.access_token().await?;
/// # assert_eq!(auth.store().get_tokens().await?.len(), 1);
/// # assert_eq!(sandbox.counts().code_exchanges_ok, login);
/// # session.refused(access.token()).await?;
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LoginRequest {
    client: OAuthClient,
    center: DataCenter,
    scopes: Vec<String>,
    consent: bool,
    online: bool,
    pkce: bool,
}

impl LoginRequest {
    /// Asks for these scopes (`Service.group.OPERATION`) on behalf of this client.
    ///
    /// The login begins at `center`. [`DataCenter::us`] is right for everybody but Chinese
    /// users, whose logins must begin at [`DataCenter::cn`]: Zoho sends the person on to their
    /// own center, if the client is registered for several.
    pub fn new(
        client: OAuthClient,
        center: DataCenter,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            client,
            center,
            scopes: scopes.into_iter().map(Into::into).collect(),
            consent: false,
            online: false,
            pkce: true,
        }
    }

    /// Asks for consent even from people who gave it before (`prompt=consent`).
    ///
    /// Zoho issues a refresh token at the first consent only. Whoever may have lost it needs this.
    #[must_use]
    pub fn consent(mut self) -> Self {
        self.consent = true;
        self
    }

    /// Asks for an access token alone (`access_type=online`): it ends after an hour, and there is
    /// no refresh token. Zoho's default, but not ours.
    #[must_use]
    pub fn online(mut self) -> Self {
        self.online = true;
        self
    }

    /// Leaves PKCE out.
    ///
    /// It is on, because a grant token that leaks from a log or a browser is then of no use, and
    /// RFC 9700 asks for it from all clients. Zoho documents it for mobile and desktop clients
    /// and says nothing of server-based ones; a server that does not know it must ignore it
    /// (RFC 6749 section 3.1). Should Zoho refuse your client's logins because of it, this is the
    /// way out: the state and the client secret still protect the login.
    #[must_use]
    pub fn without_pkce(mut self) -> Self {
        self.pkce = false;
        self
    }

    /// Names the client secret for the users of another data center: see [`OAuthClient::secret_at`].
    #[must_use]
    pub fn secret_at(mut self, center: &DataCenter, secret: ClientSecret) -> Self {
        self.client = self.client.secret_at(center, secret);
        self
    }

    /// Begins a login: returns the URL to send the person to, and what to keep until they return.
    ///
    /// The URL holds no secret but the state, which belongs there; do not log it all the same.
    ///
    /// # Errors
    /// `invalid_input` when the client has no redirect URI, the redirect URI is not an absolute
    /// http(s) URL without a fragment, or the scopes are not scopes; `internal` when the system
    /// has no random numbers.
    pub fn begin(&self) -> Result<(String, PendingLogin)> {
        let redirect_uri = self.redirect_uri()?;
        let scopes = self.scope_list()?;
        let state = random_text()?;
        let verifier = if self.pkce {
            Some(CodeVerifier::new(random_text()?)?)
        } else {
            None
        };
        let mut url = Url::parse(&format!("{}/oauth/v2/auth", self.center.accounts_url()))
            .map_err(|_| Error::invalid_input("the accounts URL is not an absolute URL"))?;
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", self.client.id.as_str())
                .append_pair("redirect_uri", redirect_uri)
                .append_pair("scope", &scopes)
                .append_pair(
                    "access_type",
                    if self.online { "online" } else { "offline" },
                )
                .append_pair("state", &state);
            if self.consent {
                query.append_pair("prompt", "consent");
            }
            if let Some(verifier) = &verifier {
                query
                    .append_pair("code_challenge", &challenge(verifier))
                    .append_pair("code_challenge_method", "S256");
            }
        }
        Ok((url.into(), self.pending(state, verifier)))
    }

    /// Takes a login up again that was put aside with [`PendingLogin::save`], in this process or
    /// another one with the same settings.
    ///
    /// # Errors
    /// `callback_refused` when the text is not one that `save` made, or was made for another data
    /// center: the login then has to begin again.
    pub fn resume(&self, saved: &SavedLogin) -> Result<PendingLogin> {
        let (state, verifier) = pending::parse(saved, &self.center)?;
        Ok(self.pending(state, verifier))
    }

    fn pending(&self, state: String, verifier: Option<CodeVerifier>) -> PendingLogin {
        PendingLogin {
            state,
            verifier,
            client: self.client.clone(),
            center: self.center.clone(),
        }
    }

    fn redirect_uri(&self) -> Result<&str> {
        let uri = self.client.redirect_uri.as_deref().ok_or_else(|| {
            Error::invalid_input("the client has no redirect URI, so nobody could come back")
        })?;
        text::check("redirect URI", uri)?;
        match Url::parse(uri) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.fragment().is_none() => {
                Ok(uri)
            }
            _ => Err(Error::invalid_input(
                "the redirect URI is not an absolute http or https URL without a fragment",
            )),
        }
    }

    /// The scopes in Zoho's notation, separated by commas, each of them once.
    fn scope_list(&self) -> Result<String> {
        let mut list: Vec<&str> = Vec::new();
        for scope in &self.scopes {
            check_scope(scope)?;
            if !list.contains(&scope.as_str()) {
                list.push(scope);
            }
        }
        if list.is_empty() {
            return Err(Error::invalid_input("no scope is asked for"));
        }
        Ok(list.join(","))
    }
}

/// Checks the form `Service.group.OPERATION`; more parts are allowed (`ZohoCRM.modules.leads.READ`),
/// and so are the three words of `OpenID` Connect that Zoho knows.
fn check_scope(scope: &str) -> Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let parts = scope.split('.').count();
    let openid = matches!(scope, "openid" | "email" | "profile");
    if openid || (parts >= 3 && scope.split('.').all(part)) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "`{}` is not a scope: they read `Service.group.OPERATION`, one for each value",
        scope.escape_debug()
    )))
}

/// The S256 challenge to a verifier (RFC 7636 section 4.2).
fn challenge(verifier: &CodeVerifier) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose_secret()))
}

/// 32 random bytes as 43 characters that need no escaping in a URL.
fn random_text() -> Result<String> {
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| {
        Error::new(ErrorCode::Internal, "the system has no random numbers").caused_by(error)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(*bytes))
}

#[cfg(test)]
mod tests;
