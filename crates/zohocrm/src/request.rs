//! The raw way in: any method, any path, for everything that has no method of its own yet.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api_error::{ApiError, meaning_of};
use crate::call::{Body, Call, Method};
use crate::client::ZohoCrm;
use crate::error::{Error, ErrorCode, Result};
use crate::http;

/// A request in the making. Made by [`ZohoCrm::request`].
#[must_use = "nothing is sent until `send` is called"]
pub struct Request {
    crm: ZohoCrm,
    call: Call,
    failed: Option<Error>,
}

impl Request {
    pub(crate) fn new(crm: &ZohoCrm, method: Method, path: &str) -> Self {
        let mut call = Call::new(method, path);
        call.wants_json = false;
        Self {
            crm: crm.clone(),
            call,
            failed: None,
        }
    }

    /// Adds a query parameter; it is encoded here. The same name may come twice.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "texts and numbers are written as they are, without `&`"
    )]
    pub fn query(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.call.query.push((name.into(), value.to_string()));
        self
    }

    /// Adds a header. `Authorization`, `Host` and `Cookie` are refused by [`send`](Self::send).
    pub fn header(mut self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        let name = name.as_ref();
        let kept = ["authorization", "host", "cookie", "proxy-authorization"];
        if kept.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            self.fail(Error::invalid_input(format!(
                "the header `{name}` is set by the client alone"
            )));
        } else {
            self.call.set_header(name, value);
        }
        self
    }

    /// Sends this as JSON.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        if let Err(error) = self.call.set_json(body) {
            self.fail(error);
        }
        self
    }

    /// Sends these bytes under this content type.
    pub fn body(mut self, content_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.call.body = Some(Body {
            content_type: content_type.into(),
            bytes: bytes.into().into(),
        });
        self
    }

    /// Says that this call changes nothing in the CRM, so that it may be repeated after a
    /// transient failure. GET requests are so by themselves.
    pub fn only_reads(mut self) -> Self {
        self.call.only_reads = true;
        self
    }

    /// Sends the request and returns the answer whatever its status.
    ///
    /// A refused access token is replaced and the request repeated once, as for every call. Use
    /// [`Response::check`] to turn an HTTP error into an [`Error`].
    ///
    /// # Errors
    /// `invalid_input` when the path leaves `/crm/` or something cannot be sent; `no_token`;
    /// `network`, `timeout` or, for what is not just reading, `outcome_unknown`;
    /// `answer_too_large`.
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether the CRM carried the request out.
    pub async fn send(self) -> Result<Response> {
        match self.failed {
            Some(error) => Err(error),
            None => http::send(&self.crm, &self.call).await,
        }
    }

    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.call)
    }
}

/// What the CRM answered: status, headers and the whole body.
///
/// `Debug` prints the length of the body, not the body.
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Which call this answers, without its body.
    pub(crate) call: Call,
}

impl Response {
    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the first value of a header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns names in lower case and values of all headers that are text.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }

    /// Returns the body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Takes the body.
    pub fn into_bytes(self) -> Vec<u8> {
        self.body
    }

    /// Reads the body as JSON. An empty body, as of 204 and 304, reads as `null`.
    ///
    /// # Errors
    /// `unexpected_answer` when it is not JSON or does not fit the type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let body: &[u8] = if self.body.is_empty() {
            b"null"
        } else {
            &self.body
        };
        serde_json::from_slice(body).map_err(|cause| {
            let text = format!("the answer to `{}` does not fit the type", self.call);
            Error::new(ErrorCode::UnexpectedAnswer, text)
                .with_status(self.status)
                .caused_by(cause)
        })
    }

    /// Turns an answer that is an error into an [`Error`]: everything but 2xx and 304.
    ///
    /// # Errors
    /// By the CRM's code first and by the status second; see [`ErrorCode`].
    pub fn check(self) -> Result<Self> {
        if matches!(self.status, 200..=299 | 304) {
            return Ok(self);
        }
        Err(self.error())
    }

    /// The error that this answer is.
    pub(crate) fn error(&self) -> Error {
        let Self { call, status, .. } = self;
        let refusal = ApiError::find(&self.body);
        let said = refusal.as_ref().map(|api| format!(": {api}"));
        let said = said.unwrap_or_default();
        let code = meaning_of(refusal.as_ref(), *status);
        // A gateway that gives up says nothing about what happened behind it.
        let code = match code {
            ErrorCode::ServerError if !call.only_reads && *status != 503 => {
                ErrorCode::OutcomeUnknown
            }
            other => other,
        };
        let text = match code {
            ErrorCode::ServerError | ErrorCode::OutcomeUnknown => {
                format!("`{call}` failed with HTTP {status}{said}")
            }
            ErrorCode::UnexpectedAnswer => {
                format!("`{call}` was answered with the unexpected HTTP {status}{said}")
            }
            _ => format!("`{call}` was refused with HTTP {status}{said}"),
        };
        let error = Error::new(code, text)
            .with_status(*status)
            .with_retry_after(http::retry_after(&self.headers));
        match refusal {
            Some(api) => error.with_api(api),
            None => error,
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("call", &self.call.to_string())
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
