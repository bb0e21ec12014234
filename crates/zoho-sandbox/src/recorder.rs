//! What happened: counts, and a log of requests that tests search for leaked secrets.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::faults::Endpoint;

/// How many requests the log keeps at most.
const LOG_LENGTH: usize = 20_000;
/// How many bytes the log takes at most, unless it is told otherwise.
pub(crate) const LOG_BYTES: usize = 32 * 1024 * 1024;
/// How many refresh tokens are counted one by one. Anyone can invent more.
const TOKENS_LIMIT: usize = 100_000;

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
    /// that counts can be printed; see [`Counts::refreshes_of`]. The first 100,000 tokens are
    /// counted.
    pub refreshes_by_token: BTreeMap<String, u64>,
    /// Requests that the log no longer holds. It is bounded in number and in bytes
    /// ([`SandboxBuilder::request_log_bytes`](crate::SandboxBuilder::request_log_bytes)), and the
    /// oldest go first.
    pub requests_dropped: u64,
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

impl LoggedRequest {
    /// The memory that the request takes in the log.
    fn bytes(&self) -> usize {
        let texts = [&self.center, &self.method, &self.path_and_query];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let headers = self.headers.iter();
        let headers =
            headers.map(|(name, value)| size_of::<(String, String)>() + name.len() + value.len());
        size_of::<Self>() + texts + headers.sum::<usize>()
    }
}

/// How a request ended, as far as counting goes. Handlers attach it to their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Throttled,
}

#[derive(Debug)]
pub(crate) struct Recorder {
    inner: Mutex<Inner>,
    log_bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    log: VecDeque<LoggedRequest>,
    /// What the requests in the log take together.
    bytes: usize,
}

impl Inner {
    /// Adds a request to the log, which then takes at most `limit` bytes. A request that is
    /// larger than that is left out, and takes no other with it.
    fn keep(&mut self, request: LoggedRequest, limit: usize) {
        let bytes = request.bytes();
        if bytes > limit {
            self.drop_one();
            return;
        }
        while self.log.len() >= LOG_LENGTH || self.bytes + bytes > limit {
            let Some(oldest) = self.log.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
            self.drop_one();
        }
        self.bytes += bytes;
        self.log.push_back(request);
    }

    fn drop_one(&mut self) {
        if self.counts.requests_dropped == 0 {
            tracing::warn!("the request log is full: from now on the oldest requests go");
        }
        self.counts.requests_dropped += 1;
    }
}

impl Recorder {
    /// A recorder whose log takes at most `log_bytes` bytes.
    pub(crate) fn new(log_bytes: usize) -> Self {
        Self {
            inner: Mutex::default(),
            log_bytes,
        }
    }

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
                    let counted = &mut counts.refreshes_by_token;
                    let token = fingerprint(token);
                    if counted.len() < TOKENS_LIMIT || counted.contains_key(&token) {
                        *counted.entry(token).or_default() += 1;
                    }
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
        inner.keep(request, self.log_bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: usize, length: usize) -> LoggedRequest {
        LoggedRequest {
            center: "us".into(),
            method: "GET".into(),
            path_and_query: path.to_string(),
            status: 200,
            headers: vec![("x-long".into(), "x".repeat(length)); 2],
        }
    }

    fn note(recorder: &Recorder, request: LoggedRequest) {
        recorder.note(Endpoint::Any, None, None, request);
    }

    #[test]
    fn the_log_holds_its_bytes_and_its_number() {
        let recorder = Recorder::new(50_000);
        for at in 0..1_000 {
            note(&recorder, request(at, at % 3_000));
            let log = recorder.requests();
            assert!(log.iter().map(LoggedRequest::bytes).sum::<usize>() <= 50_000);
            assert_eq!(log.last().unwrap().path_and_query, at.to_string());
            let dropped = recorder.counts().requests_dropped;
            assert_eq!(dropped + log.len() as u64, at as u64 + 1);
        }
        let recorder = Recorder::new(usize::MAX);
        for at in 0..=LOG_LENGTH {
            note(&recorder, request(at, 0));
        }
        assert_eq!(recorder.requests().len(), LOG_LENGTH);
        assert_eq!(recorder.requests()[0].path_and_query, "1");
        assert_eq!(recorder.counts().requests_dropped, 1);
        // Without room there is no log, and the counts go on.
        let recorder = Recorder::new(0);
        note(&recorder, request(0, 0));
        assert!(recorder.requests().is_empty());
        assert_eq!(recorder.counts().requests_dropped, 1);
    }

    #[test]
    fn invented_refresh_tokens_do_not_fill_the_counts() {
        let recorder = Recorder::new(0);
        let ask = |token: &str| recorder.note(Endpoint::Refresh, None, Some(token), request(0, 0));
        ask("first");
        let others = (1..TOKENS_LIMIT).map(|at| (at.to_string(), 1));
        recorder.lock().counts.refreshes_by_token.extend(others);
        ask("second");
        ask("first");
        let counts = recorder.counts();
        assert_eq!(counts.refreshes_by_token.len(), TOKENS_LIMIT);
        assert_eq!(counts.refreshes_of("second"), 0);
        assert_eq!(counts.refreshes_of("first"), 2, "known ones are counted");
        assert_eq!(counts.refreshes_failed, 3);
    }
}
