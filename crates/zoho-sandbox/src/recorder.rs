//! What happened: counts, and a log of requests that tests search for leaked secrets.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::faults::Endpoint;

/// How many requests the log keeps; the oldest go first.
const LOG_LENGTH: usize = 20_000;

/// How often things happened since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Grant codes exchanged for tokens.
    pub code_exchanges_ok: u64,
    /// Code exchanges that brought no token, for whatever reason.
    pub code_exchanges_failed: u64,
    /// Refreshes that brought an access token.
    pub refreshes_ok: u64,
    /// Refreshes that brought none, the throttled ones included.
    pub refreshes_failed: u64,
    /// Refreshes answered with `Access Denied`, by the mint limit or by a fault.
    pub refreshes_throttled: u64,
    /// Access tokens issued for client credentials.
    pub client_credentials_ok: u64,
    /// Client credentials requests that brought none.
    pub client_credentials_failed: u64,
    /// Revocations that ended a token.
    pub revocations: u64,
    /// Calls below `/crm`, whatever came of them.
    pub api_calls: u64,
    /// Calls below `/crm` that were answered with 401.
    pub api_unauthorized: u64,
    /// Refresh requests by refresh token, whatever came of them. The key is a fingerprint, so
    /// that counts can be printed; see [`Counts::refreshes_of`].
    pub refreshes_by_token: BTreeMap<String, u64>,
}

impl Counts {
    /// How many refresh requests came with this refresh token, whatever came of them.
    pub fn refreshes_of(&self, refresh_token: &str) -> u64 {
        self.refreshes_by_token
            .get(&fingerprint(refresh_token))
            .copied()
            .unwrap_or_default()
    }
}

/// A request as it arrived, without the value of its credentials header.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LoggedRequest {
    /// Location code of the data center that was asked.
    pub center: String,
    /// The HTTP method.
    pub method: String,
    /// The path **with** its query string, so that a search finds secrets in URLs.
    pub path_and_query: String,
    /// The HTTP status of the answer (of the head, where the connection was cut later).
    pub status: u16,
    /// The request's headers in lower case, the values of `authorization` and `cookie` replaced.
    pub headers: Vec<(String, String)>,
}

/// How a request ended, as far as counting goes. Handlers attach it to their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Throttled,
}

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    log: VecDeque<LoggedRequest>,
}

impl Recorder {
    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    pub(crate) fn requests(&self) -> Vec<LoggedRequest> {
        self.lock().log.iter().cloned().collect()
    }

    pub(crate) fn reset(&self) {
        *self.lock() = Inner::default();
    }

    /// Counts a request that has been answered, and adds it to the log.
    pub(crate) fn note(
        &self,
        endpoint: Endpoint,
        outcome: Option<Outcome>,
        refresh_token: Option<&str>,
        request: LoggedRequest,
    ) {
        let done = outcome == Some(Outcome::Done);
        let mut inner = self.lock();
        let counts = &mut inner.counts;
        match endpoint {
            Endpoint::CodeExchange if done => counts.code_exchanges_ok += 1,
            Endpoint::CodeExchange => counts.code_exchanges_failed += 1,
            Endpoint::Refresh => {
                if done {
                    counts.refreshes_ok += 1;
                } else {
                    counts.refreshes_failed += 1;
                }
                if outcome == Some(Outcome::Throttled) {
                    counts.refreshes_throttled += 1;
                }
                if let Some(token) = refresh_token {
                    *counts
                        .refreshes_by_token
                        .entry(fingerprint(token))
                        .or_default() += 1;
                }
            }
            Endpoint::ClientCredentials if done => counts.client_credentials_ok += 1,
            Endpoint::ClientCredentials => counts.client_credentials_failed += 1,
            Endpoint::Revoke if done => counts.revocations += 1,
            Endpoint::Api => {
                counts.api_calls += 1;
                if request.status == 401 {
                    counts.api_unauthorized += 1;
                }
            }
            _ => {}
        }
        if inner.log.len() >= LOG_LENGTH {
            inner.log.pop_front();
        }
        inner.log.push_back(request);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The headers of a request for the log.
pub(crate) fn loggable(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let secret = *name == header::AUTHORIZATION
                || *name == header::COOKIE
                || *name == header::PROXY_AUTHORIZATION;
            let value = if secret {
                "[redacted]".to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), value)
        })
        .collect()
}

fn fingerprint(secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    digest[..8].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}
