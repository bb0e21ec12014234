//! The accounts server: exchange, refresh, revoke. One request each, no store, no decisions.
//!
//! [`AccountsClient`] asks and [`wire`] reads the answer. Nothing is ever repeated here: a grant
//! token works once, new access tokens are counted, and only the caller knows whether another
//! process has asked meanwhile. Secrets travel in the form body, never in a URL.
//!
//! Events (`tracing`, level debug, one for each request) name the operation, the host, the HTTP
//! status, the duration and our error code.

mod wire;

use std::time::Instant;

use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use url::Url;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::DataCenter;
use crate::error::{Error, Result};
use crate::http::{HttpClient, HttpOptions};
use crate::secret::{ClientSecret, CodeVerifier, GrantToken, RefreshToken};
use crate::token::ClientId;

use wire::{Answer, Asked, Call};
pub use wire::{Revocation, TokenAnswer};
pub(crate) use wire::{code_like, meaning_of};

/// The most of an answer that is read. A token answer has less than a hundredth of it.
const BODY_LIMIT: usize = 64 * 1024;

/// Asks the accounts servers of all data centers. Clones share their connections.
#[derive(Clone, Debug)]
pub struct AccountsClient {
    http: HttpClient,
}

impl AccountsClient {
    /// Builds the client.
    ///
    /// # Errors
    /// `invalid_input` when an option is wrong.
    pub fn new(options: &HttpOptions) -> Result<Self> {
        Ok(Self {
            http: HttpClient::new(options)?,
        })
    }

    pub(crate) fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Exchanges a grant token for tokens (RFC 6749 section 4.1.3).
    ///
    /// `verifier` belongs to the challenge of the authorization request, if it had one; the
    /// client's redirect URI, if any, must be the one that the request named.
    ///
    /// # Errors
    /// `invalid_code` when the grant token is wrong, used or older than a few minutes;
    /// `access_denied` after too many codes in ten minutes; `invalid_client`,
    /// `invalid_client_secret`, `invalid_redirect_uri`, `invalid_scope`; `throttled`; `timeout`,
    /// `network`, `server_error`; `unexpected_answer`. After a time-out or a lost connection the
    /// grant token may be spent although nothing arrived: a new login is then the only way.
    ///
    /// # Cancellation
    /// Dropping the future may lose the tokens of a spent grant token. Run it in a task of its own.
    pub async fn exchange(
        &self,
        center: &DataCenter,
        client: &OAuthClient,
        code: &GrantToken,
        verifier: Option<&CodeVerifier>,
    ) -> Result<TokenAnswer> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client.id.as_str()),
            ("client_secret", client.secret.expose_secret()),
            ("code", code.expose_secret()),
        ];
        if let Some(uri) = &client.redirect_uri {
            form.push(("redirect_uri", uri));
        }
        if let Some(verifier) = verifier {
            form.push(("code_verifier", verifier.expose_secret()));
        }
        self.ask(Call::Exchange, center, &form, wire::classify)
            .await
    }

    /// Makes a new access token (RFC 6749 section 6). Zoho does not replace the refresh token.
    ///
    /// # Errors
    /// `invalid_code` when the refresh token is wrong or revoked: the only error that says so;
    /// `invalid_client` (also at the wrong data center), `invalid_client_secret`; `throttled`
    /// after ten new access tokens in ten minutes; `timeout`, `network`, `server_error`;
    /// `unexpected_answer`.
    ///
    /// # Cancellation
    /// Dropping the future may waste one of the ten access tokens, nothing else.
    pub async fn refresh(
        &self,
        center: &DataCenter,
        client_id: &ClientId,
        client_secret: &ClientSecret,
        token: &RefreshToken,
    ) -> Result<TokenAnswer> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", client_id.as_str()),
            ("client_secret", client_secret.expose_secret()),
            ("refresh_token", token.expose_secret()),
        ];
        self.ask(Call::Refresh, center, &form, wire::classify).await
    }

    /// Ends a refresh token, and with it every access token that was made from it.
    ///
    /// # Errors
    /// `throttled`; `timeout`, `network`, `server_error`: whether it was revoked is then unknown,
    /// and asking again does no harm; `unexpected_answer`.
    pub async fn revoke(&self, center: &DataCenter, token: &RefreshToken) -> Result<Revocation> {
        let form = [("token", token.expose_secret())];
        self.ask(Call::Revoke, center, &form, wire::classify_revocation)
            .await
    }

    async fn ask<T>(
        &self,
        call: Call,
        center: &DataCenter,
        form: &[(&str, &str)],
        read: fn(&Answer, &Asked<'_>) -> Result<T>,
    ) -> Result<T> {
        let asked = Asked {
            call,
            host: host(center),
        };
        let started = Instant::now();
        let answer = self.send(&asked, center, form).await;
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let result = answer.and_then(|answer| read(&answer, &asked));
        tracing::debug!(
            operation = call.as_str(),
            host = asked.host,
            status,
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            error = result.as_ref().err().map(|error| error.code().as_str()),
            "asked the accounts server"
        );
        result
    }

    async fn send(
        &self,
        asked: &Asked<'_>,
        center: &DataCenter,
        form: &[(&str, &str)],
    ) -> Result<Answer> {
        let url = Url::parse(&format!("{}{}", center.accounts_url(), asked.call.path()))
            .map_err(|_| Error::invalid_input("the accounts URL is not an absolute URL"))?;
        let failed = |error| self.http.transport_error(&asked.to_string(), error);
        // Life is counted from here: whatever time the way takes is lost to us, not to Zoho.
        let sent_at = Timestamp::now();
        let mut response = self
            .http
            .for_url(&url)
            .post(url)
            .timeout(self.http.timeout())
            .header(ACCEPT, "application/json")
            .form(form)
            .send()
            .await
            .map_err(failed)?;
        let mut body = Zeroizing::new(Vec::new());
        let mut too_long = false;
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                // Whatever this is, no part of it is an answer.
                too_long = true;
                body.clear();
                break;
            }
            body.extend_from_slice(&chunk);
        }
        let header = |name| {
            response
                .headers()
                .get(name)?
                .to_str()
                .ok()
                .map(str::to_owned)
        };
        Ok(Answer {
            status: response.status().as_u16(),
            content_type: header(CONTENT_TYPE),
            retry_after: header(RETRY_AFTER),
            body,
            too_long,
            sent_at,
        })
    }
}

/// The accounts server's address without the scheme: what messages and events call it.
fn host(center: &DataCenter) -> &str {
    let url = center.accounts_url();
    url.split_once("://").map_or(url, |(_, host)| host)
}
