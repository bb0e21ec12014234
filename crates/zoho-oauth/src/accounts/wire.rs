//! The accounts server's answers, and what they mean. Pure: no network, no clock.
//!
//! Zoho reports most errors with HTTP 200, throttles with 400 (200 was seen too), and a proxy on
//! the way may answer with a page. So the body is read **before** the status, and a verdict about
//! a token or a client needs a body that says so in Zoho's words. What is malformed is never a
//! verdict: it is `server_error`, which may pass, or `unexpected_answer`.
//!
//! | answer | code |
//! | --- | --- |
//! | JSON with `access_token`, without `error` | success, whatever the status |
//! | `error`: `invalid_code`, `invalid_client`, `invalid_client_secret`, `invalid_redirect_uri`, `invalid_scope`, `access_denied` | the code of that name |
//! | `error`: `Access Denied` with `status`: `failure`; status 429 without a known `error` | `throttled` |
//! | `error`: `missing_org_info`, `invalid_soid` | `invalid_input` |
//! | `error`: `general_error`; status 5xx without a known `error` | `server_error` |
//! | a page, cut-off JSON, nothing at all with a status of success | `server_error` |
//! | status 407, from a proxy | `network` |
//! | everything else: another `error`, neither `error` nor `access_token`, a redirect | `unexpected_answer` |

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::http::retry_after;
use crate::secret::{AccessToken, RefreshToken};

/// The life of an access token as Zoho documents it. None lives longer: a larger number is in
/// another unit, or wrong, and no process would believe the end that it makes (`auth/decide`).
const DOCUMENTED_LIFE: Duration = Duration::from_hours(1);

/// Zoho counts in windows of ten minutes and does not say when the present one began.
const THROTTLE_WINDOW: Duration = Duration::from_mins(10);

/// The shortest and the longest `Retry-After` that are believed.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// What Zoho issued.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenAnswer {
    /// The key to the API.
    pub access_token: AccessToken,
    /// The key to new access tokens. Absent from a refresh (Zoho keeps the one it has), and from
    /// an exchange without `access_type=offline` or after an earlier consent.
    pub refresh_token: Option<RefreshToken>,
    /// Where the API of this user is; opaque.
    pub api_domain: Option<String>,
    /// The moment at which the access token ends, counted from before the request was sent, so it
    /// is never later than Zoho's own.
    pub expires_at: Timestamp,
    /// How long the access token lives in all.
    ///
    /// An answer that names no life, or one that cannot be true (less than a second, more than an
    /// hour, no number), gets the hour that Zoho documents: never "for ever", and never "already
    /// over", which would make callers ask again and again.
    pub life: Duration,
    /// The scopes as Zoho wrote them, if it named them.
    pub scope: Option<String>,
}

/// What became of a refresh token that was to be revoked. In both cases it is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// Zoho revoked it, and every access token made from it.
    Revoked,
    /// Zoho did not know it: revoked before, or never issued by this data center.
    AlreadyInvalid,
}

/// What is asked of the accounts server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Exchange,
    Refresh,
    Revoke,
}

impl Call {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
        }
    }

    /// Where it is asked. A page of 2026 names `/oauth/v2/revoke/token`, with the client's
    /// password, for the last one; all official SDKs use this path, and it needs no password.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Exchange | Self::Refresh => "/oauth/v2/token",
            Self::Revoke => "/oauth/v2/token/revoke",
        }
    }
}

/// What was asked of whom: the beginning of every error text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) call: Call,
    pub(super) host: &'a str,
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.call {
            Call::Exchange => "the exchange of the grant token",
            Call::Refresh => "the refresh",
            Call::Revoke => "the revocation",
        };
        write!(f, "{what} at `{}`", self.host)
    }
}

/// An HTTP answer, as far as it matters. The body may hold tokens, so there is no `Debug`.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) retry_after: Option<String>,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Whether there was more than is ever read; the body is then empty.
    pub(super) too_long: bool,
    /// When the request was sent.
    pub(super) sent_at: Timestamp,
}

/// Reads the answer to an exchange or a refresh. See the [table](self).
pub(super) fn classify(answer: &Answer, asked: &Asked<'_>) -> Result<TokenAnswer> {
    let Some(mut json) = answer.json() else {
        return Err(answer.without_json(asked));
    };
    let said = error_field(&json);
    let access_token = text(&mut json, "access_token");
    match (said, access_token) {
        (Said::Nothing, Some(token)) => tokens(answer, asked, json, token),
        (Said::Nothing | Said::Unreadable, None) => Err(answer.without_meaning(asked, None)),
        // An answer that grants and refuses at once says neither.
        (_, Some(_)) => Err(unexpected(
            asked,
            "was answered with an access token and an error at once",
        )
        .of_lost_answer()),
        (Said::Error(said), None) => Err(answer.refusal(asked, &said, &json)),
    }
}

/// Reads the answer to a revocation.
///
/// Zoho documents HTTP 400 for a token that it does not know, and no body for it. So an empty
/// body or JSON without an `error` is believed there, and a page is not.
pub(super) fn classify_revocation(answer: &Answer, asked: &Asked<'_>) -> Result<Revocation> {
    let Some(json) = answer.json() else {
        if answer.status == 400 && answer.body.is_empty() && !answer.too_long {
            return Ok(Revocation::AlreadyInvalid);
        }
        return Err(answer.without_json(asked));
    };
    match error_field(&json) {
        Said::Nothing if status_is(&json, "success") => Ok(Revocation::Revoked),
        Said::Nothing if answer.status == 400 => Ok(Revocation::AlreadyInvalid),
        Said::Nothing | Said::Unreadable => Err(answer.without_meaning(asked, None)),
        Said::Error(said) => match said.as_str() {
            "invalid_code" | "invalid_token" => Ok(Revocation::AlreadyInvalid),
            _ => Err(answer.refusal(asked, &said, &json)),
        },
    }
}

/// Returns our code for one of the error codes that Zoho documents, in an answer or a callback.
pub(crate) fn meaning_of(said: &str) -> Option<ErrorCode> {
    Some(match said {
        "invalid_code" => ErrorCode::InvalidCode,
        "invalid_client" => ErrorCode::InvalidClient,
        "invalid_client_secret" => ErrorCode::InvalidClientSecret,
        "invalid_redirect_uri" => ErrorCode::InvalidRedirectUri,
        "invalid_scope" => ErrorCode::InvalidScope,
        "access_denied" => ErrorCode::AccessDenied,
        "missing_org_info" | "invalid_soid" => ErrorCode::InvalidInput,
        "general_error" => ErrorCode::ServerError,
        _ => return None,
    })
}

/// Returns the text if it can be an error code, and not a token or a person's data.
///
/// Tokens of Zoho have 70 characters and long runs of hexadecimal digits; error codes are words.
pub(crate) fn code_like(text: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ' ');
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let fits = (1..=64).contains(&text.len()) && text.chars().all(plain) && digits <= 4;
    fits.then_some(text)
}

impl Answer {
    /// Returns the body as a JSON object. Of a key that is there twice the last value counts.
    fn json(&self) -> Option<Map<String, Value>> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The error of an answer whose body is no JSON object.
    fn without_json(&self, asked: &Asked<'_>) -> Error {
        let page = self
            .content_type
            .as_deref()
            .is_some_and(|kind| kind.contains("html"))
            || self.body.trim_ascii_start().starts_with(b"<");
        let body = match () {
            () if self.too_long => "more than an answer can hold",
            () if self.body.is_empty() => "an empty answer",
            () if page => "a page instead of JSON",
            () => "something else than JSON",
        };
        match self.status {
            407 | 429 | 300..=399 | 500.. => self.without_meaning(asked, Some(body)),
            400.. if self.body.is_empty() && !self.too_long => {
                self.without_meaning(asked, Some(body))
            }
            _ => self.server_error(asked, body),
        }
    }

    /// The error of an answer whose body says nothing that Zoho's protocol knows: the status
    /// decides.
    fn without_meaning(&self, asked: &Asked<'_>, body: Option<&str>) -> Error {
        match self.status {
            407 => Error::new(
                ErrorCode::Network,
                format!("{asked} was refused by a proxy, which wants a user name and a password"),
            ),
            429 => self.throttled(asked),
            300..=399 => unexpected(
                asked,
                "was answered with a redirect, which is never followed: secrets would travel with it",
            ),
            500.. => self.server_error(asked, body.unwrap_or("JSON without a known error")),
            _ => unexpected(
                asked,
                &format!(
                    "was answered with {} and status {}",
                    body.unwrap_or("JSON that has neither a token nor an error"),
                    self.status
                ),
            ),
        }
    }

    /// The error of an answer that refuses: `said` is its `error`.
    fn refusal(&self, asked: &Asked<'_>, said: &str, json: &Map<String, Value>) -> Error {
        // The description beside it is in the language of the account: not looked at.
        if said.eq_ignore_ascii_case("Access Denied") && status_is(json, "failure") {
            return self.throttled(asked).with_server_code("Access Denied");
        }
        let known = match (asked.call, meaning_of(said)) {
            // Nobody is asked for consent at a refresh, so nobody can refuse: what is left of the
            // documented meanings is "too often". The token itself is not in doubt.
            (Call::Refresh | Call::Revoke, Some(ErrorCode::AccessDenied)) => {
                Some(ErrorCode::Throttled)
            }
            (_, known) => known,
        };
        let error = match known {
            Some(ErrorCode::Throttled) => self.throttled(asked),
            Some(ErrorCode::ServerError) => self.server_error(asked, "an unspecified error"),
            Some(code) => Error::new(code, format!("{asked} was refused with `{said}`")),
            None => {
                let said = code_like(said);
                let error = match self.status {
                    407 | 429 | 500.. => self.without_meaning(asked, None),
                    _ => {
                        let what = match said {
                            Some(said) => format!("was refused with the unknown error `{said}`"),
                            None => "was refused with an error that is no code".to_owned(),
                        };
                        unexpected(asked, &what)
                    }
                };
                return match said {
                    Some(said) => error.with_server_code(said),
                    None => error,
                };
            }
        };
        error.with_server_code(said)
    }

    /// Zoho names no end of the wait, so it is the longest that it can be: one window from the
    /// request on.
    fn throttled(&self, asked: &Asked<'_>) -> Error {
        let wait = self.wait().unwrap_or(THROTTLE_WINDOW);
        Error::new(
            ErrorCode::Throttled,
            format!("{asked} was refused: too many requests"),
        )
        .retry_at(self.sent_at.after(wait))
    }

    fn server_error(&self, asked: &Asked<'_>, body: &str) -> Error {
        let error = Error::new(
            ErrorCode::ServerError,
            format!(
                "{asked} was answered with {body} and status {}",
                self.status
            ),
        );
        // Behind a status of success, and behind a gateway that gave up, Zoho may have done its
        // work. Another failure is one before a token was issued.
        let error = if self.status < 400 || matches!(self.status, 502 | 504) {
            error.of_lost_answer()
        } else {
            error
        };
        match self.wait() {
            Some(wait) => error.retry_at(self.sent_at.after(wait)),
            None => error,
        }
    }

    /// The `Retry-After` header, which Zoho was not seen to send, but proxies do.
    fn wait(&self) -> Option<Duration> {
        let wait = retry_after(self.retry_after.as_deref()?, self.sent_at)?;
        Some(wait.clamp(SHORTEST_WAIT, LONGEST_WAIT))
    }
}

fn unexpected(asked: &Asked<'_>, what: &str) -> Error {
    Error::new(ErrorCode::UnexpectedAnswer, format!("{asked} {what}"))
}

fn tokens(
    answer: &Answer,
    asked: &Asked<'_>,
    mut json: Map<String, Value>,
    access_token: String,
) -> Result<TokenAnswer> {
    let access_token = AccessToken::received(access_token)?;
    let refresh_token = text(&mut json, "refresh_token")
        .map(RefreshToken::received)
        .transpose()?;
    let printable = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable(access_token.expose_secret())
        || refresh_token
            .as_ref()
            .is_some_and(|token| !printable(token.expose_secret()))
    {
        // RFC 6749 appendix A allows visible ASCII; anything else cannot go into a header.
        return Err(unexpected(
            asked,
            "was answered with a token of characters that no token has",
        )
        .of_lost_answer());
    }
    let life = life(&json);
    Ok(TokenAnswer {
        access_token,
        refresh_token,
        api_domain: text(&mut json, "api_domain"),
        expires_at: answer.sent_at.after(life),
        life,
        scope: text(&mut json, "scope"),
    })
}

/// How long the access token lives.
///
/// `expires_in` counts seconds, as RFC 6749 wants it; beside the older `expires_in_sec` it counts
/// milliseconds, and then the older one, which has its unit in its name, is asked first.
fn life(json: &Map<String, Value>) -> Duration {
    let old = json.get("expires_in_sec").filter(|value| !value.is_null());
    let new = json.get("expires_in").and_then(number);
    let seconds = match old {
        Some(old) => number(old).or(new.map(|millis| millis / 1000.0)),
        None => new,
    };
    let believable = 1.0..=DOCUMENTED_LIFE.as_secs_f64();
    match seconds {
        Some(seconds) if believable.contains(&seconds) => Duration::from_secs_f64(seconds.floor()),
        _ => DOCUMENTED_LIFE,
    }
}

/// A number, or text that is one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Takes a text that is not empty out of the object.
fn text(json: &mut Map<String, Value>, key: &str) -> Option<String> {
    match json.remove(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// What the key `error` holds.
enum Said {
    Nothing,
    Error(String),
    Unreadable,
}

fn error_field(json: &Map<String, Value>) -> Said {
    match json.get("error") {
        None | Some(Value::Null) => Said::Nothing,
        Some(Value::String(text)) if text.is_empty() => Said::Nothing,
        Some(Value::String(text)) => Said::Error(text.clone()),
        Some(_) => Said::Unreadable,
    }
}

fn status_is(json: &Map<String, Value>, expected: &str) -> bool {
    matches!(json.get("status"), Some(Value::String(status)) if status.eq_ignore_ascii_case(expected))
}

#[cfg(test)]
mod tests;
