//! What can go wrong, and what to do about it: one opaque [`Error`].

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zoho_oauth::{Report, write_report};

use crate::api_error::ApiError;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or a setting is wrong: correct it. Nothing was sent.
    InvalidInput,
    /// There is no access token, or none that the CRM takes. [`Error::oauth`] tells why there is
    /// none: a person must log in again ([`Error::needs_login`]), or the store or the accounts
    /// server cannot be reached ([`Error::is_transient`]), or the application is not registered
    /// as it should be.
    Token,
    /// This user, or this token, may not do that.
    Permission,
    /// There is nothing at that address.
    NotFound,
    /// The CRM understood the request and refused it; [`Error::api`] says which field or why.
    Refused,
    /// The record was changed by somebody else in the meantime.
    Conflict,
    /// The CRM asks to wait: try again after [`Error::retry_after`], or in a while.
    RateLimited,
    /// The network or the server at its other end failed.
    Network,
    /// The server answered what this client does not understand.
    Protocol,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:ident, $transient:literal, $remedy:literal;)*) => {
        /// The stable name of an error: [`as_str`](Self::as_str) never changes its meaning.
        ///
        /// `docs/troubleshooting.md` has an entry for each, with the texts that people see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code of this version.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the stable text of the code, lower case with underscores.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns the kind that all errors with this code have.
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$name => ErrorKind::$kind,)* }
            }

            /// Returns whether the same call may succeed later with nothing changed by anybody.
            ///
            /// For [`NoToken`](Self::NoToken) it depends on the cause: ask
            /// [`Error::is_transient`].
            pub const fn is_transient(self) -> bool {
                match self { $(Self::$name => $transient,)* }
            }

            /// Returns what to do next, in a sentence.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    /// An argument or a setting is wrong.
    InvalidInput = "invalid_input", InvalidInput, false,
        "Correct the value and call again.";
    /// More than 100 records in one write.
    TooManyRecords = "too_many_records", InvalidInput, false,
        "Send at most 100 records in one call.";
    /// More than 50 names in `fields`.
    TooManyFields = "too_many_fields", InvalidInput, false,
        "Ask for at most 50 fields in one call.";

    /// No access token could be had; [`Error::oauth`] tells why.
    NoToken = "no_token", Token, false,
        "See the cause.";
    /// The CRM refused the access token, and a new one too.
    TokenRefused = "token_refused", Token, false,
        "Check that the user is active in this organisation, and that the API domain is the one of the token's environment.";

    /// The token lacks the scope of this call (`OAUTH_SCOPE_MISMATCH`).
    ScopeMismatch = "scope_mismatch", Permission, false,
        "Log in again, and ask for the scope that this call needs.";
    /// The user's profile or role does not allow it.
    PermissionDenied = "permission_denied", Permission, false,
        "Ask an administrator of the organisation for the permission that the CRM names.";

    /// There is nothing at that address.
    NotFound = "not_found", NotFound, false,
        "Check the module, the id and the path.";
    /// The CRM refused the request; its own code and message say why.
    Refused = "refused", Refused, false,
        "Correct what the CRM names and call again.";
    /// The list goes on, but the CRM leads no further: 100,000 records are the end of paging.
    PagesEnded = "pages_ended", Refused, false,
        "Narrow the request, or use a bulk read job for more than 100,000 records.";
    /// The record was changed after the moment that the request named.
    ModifiedMeanwhile = "modified_meanwhile", Conflict, false,
        "Read the record again, and decide anew.";

    /// Too many calls at a time or in a row (HTTP 429).
    TooManyRequests = "too_many_requests", RateLimited, true,
        "Wait and try again; make fewer calls at once.";

    /// The connection failed.
    Network = "network", Network, true,
        "Check the connection and the proxy, and try again.";
    /// The certificate of the server was refused: expired, of another host, of an authority that is
    /// not trusted.
    CertificateRefused = "certificate_refused", Network, false,
        "Do what the text names: renew the certificate, correct the host name or the clock of this machine, or trust the authority (`HttpOptions::root_certificates`).";
    /// The server did not answer in time.
    Timeout = "timeout", Network, true,
        "Try again; raise the time-out if the server is known to be slow.";
    /// The server failed (HTTP 5xx, or a page where JSON was due).
    ServerError = "server_error", Network, true,
        "Try again later; if it lasts, look at Zoho's status page.";
    /// A write was sent and its answer was lost: it may have been carried out or not.
    OutcomeUnknown = "outcome_unknown", Network, false,
        "Look whether the change is there before you send it again.";

    /// The answer is longer than the limit of this client.
    AnswerTooLarge = "answer_too_large", Protocol, false,
        "Ask for fewer records or fields, or raise the limit with `max_answer_bytes`.";
    /// The server answered what this client does not understand.
    UnexpectedAnswer = "unexpected_answer", Protocol, false,
        "Check that the address is Zoho's and that your types fit the fields; otherwise please report it.";
}

/// What went wrong.
///
/// It has a [`kind`](Self::kind) to decide by, a stable [`code`](Self::code) for people
/// and dashboards, and what the CRM ([`api`](Self::api)) or the token side
/// ([`oauth`](Self::oauth)) said underneath.
///
/// `Display` is one line: what happened and the code. `Debug` adds the
/// [remedy](Self::remedy), how long to wait and the causes, each on a line of its own; a `main` that
/// returns the error prints that. No text of it carries a token, a query string or a record. Cheap
/// to clone.
///
/// ```
/// use zohocrm::{Error, ErrorKind};
///
/// fn answer(error: &Error) -> (u16, &'static str) {
///     match error.kind() {
///         _ if error.needs_login() => (401, "please log in with Zoho again"),
///         _ if error.is_transient() => (503, "try again later"),
///         ErrorKind::Permission => (403, "your CRM does not allow this"),
///         ErrorKind::NotFound => (404, "there is nothing here"),
///         ErrorKind::Refused => (422, "the CRM did not take this: see `error.api()`"),
///         _ => (500, "see the log"),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: ErrorCode,
    message: String,
    http_status: Option<u16>,
    retry_after: Option<Duration>,
    api: Option<ApiError>,
    oauth: Option<zoho_oauth::Error>,
    source: Option<Arc<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Error {
    /// Makes an error of `code`; `message` says what happened to what, without a full stop.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            code,
            message: message.into(),
            http_status: None,
            retry_after: None,
            api: None,
            oauth: None,
            source: None,
        }))
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidInput, message)
    }

    /// No access token for `call`, because of `cause`.
    pub(crate) fn no_token(call: &dyn fmt::Display, cause: zoho_oauth::Error) -> Self {
        let cause_code = cause.code().as_str();
        Self::new(
            ErrorCode::NoToken,
            format!("there is no access token for `{call}` (`{cause_code}`)"),
        )
        .with(|inner| inner.oauth = Some(cause))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.source = Some(Arc::new(source)))
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        self.with(|inner| inner.http_status = Some(status))
    }

    pub(crate) fn with_retry_after(self, wait: Option<Duration>) -> Self {
        self.with(|inner| inner.retry_after = wait)
    }

    pub(crate) fn with_api(self, api: ApiError) -> Self {
        self.with(|inner| inner.api = Some(api))
    }

    /// Returns what the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.code.kind()
    }

    /// Returns the stable code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Returns whether the same call may succeed later with nothing changed by anybody.
    ///
    /// Never `true` for a write that may have been carried out: that is
    /// [`ErrorCode::OutcomeUnknown`].
    pub fn is_transient(&self) -> bool {
        match &self.0.oauth {
            Some(cause) => cause.is_transient(),
            None => self.0.code.is_transient(),
        }
    }

    /// Returns whether a person must log in (again): nothing that is stored can be turned into an
    /// access token, or the login did not ask for the scope that this call needs.
    ///
    /// Of the [kind](ErrorKind) `Token` alone that cannot be said: the accounts server or the
    /// store may just be out of reach.
    pub fn needs_login(&self) -> bool {
        match &self.0.oauth {
            Some(cause) => cause.kind() == zoho_oauth::ErrorKind::LoginRequired,
            None => self.0.code == ErrorCode::ScopeMismatch,
        }
    }

    /// Returns what happened, without the code that `Display` adds.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns what to do next, in a sentence.
    pub fn remedy(&self) -> &'static str {
        match &self.0.oauth {
            Some(cause) => cause.remedy(),
            None => self.0.code.remedy(),
        }
    }

    /// Returns the HTTP status of the answer, if there was one.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// Returns what the CRM said: its code, its message and the details.
    pub fn api(&self) -> Option<&ApiError> {
        self.0.api.as_ref()
    }

    /// Returns what went wrong on the token side: why there is no access token, or which setting
    /// it does not take.
    pub fn oauth(&self) -> Option<&zoho_oauth::Error> {
        self.0.oauth.as_ref()
    }

    /// Returns how long to wait before trying again, as far as a server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        let cause = self.0.oauth.as_ref();
        self.0
            .retry_after
            .or_else(|| cause.and_then(zoho_oauth::Error::retry_after))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, message, .. } = &*self.0;
        write!(f, "{message} [{}]", code.as_str())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut details = Vec::new();
        if let Some(status) = self.0.http_status {
            details.push(("HTTP status", status.to_string()));
        }
        if let Some(api) = &self.0.api {
            details.push(("CRM", format!("{api:?}")));
        }
        write_report(
            f,
            &Report {
                error: self,
                remedy: self.remedy(),
                retry_after: self.retry_after(),
                details,
            },
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.oauth {
            // Its message is ours already.
            Some(oauth) if self.0.code == ErrorCode::InvalidInput => return oauth.source(),
            Some(oauth) => return Some(oauth),
            None => {}
        }
        let source = self.0.source.as_deref();
        source.map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<zoho_oauth::Error> for Error {
    /// An error of the token side outside of a call: while logging in or building.
    fn from(cause: zoho_oauth::Error) -> Self {
        if cause.kind() == zoho_oauth::ErrorKind::InvalidInput {
            let message = cause.message().to_owned();
            return Self::invalid_input(message).with(|inner| inner.oauth = Some(cause));
        }
        let cause_code = cause.code().as_str();
        Self::new(
            ErrorCode::NoToken,
            format!("there is no access token for this user (`{cause_code}`)"),
        )
        .with(|inner| inner.oauth = Some(cause))
    }
}

impl From<ApiError> for Error {
    /// The refusal of one item of a write, as an error of the whole.
    fn from(api: ApiError) -> Self {
        let message = format!("the CRM refused a record: {api}");
        Self::new(api.error_code(None), message).with_api(api)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::error::Error as _;

    use super::*;

    #[test]
    fn codes_are_unique_and_have_a_remedy() {
        let texts: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!(code.remedy().ends_with('.'), "{}", code.as_str());
        }
    }

    #[test]
    fn a_missing_token_takes_remedy_and_transience_from_its_cause() {
        let cause = zoho_oauth::Error::new(zoho_oauth::ErrorCode::Throttled, "too often");
        let error = Error::no_token(&"GET /crm/v8/Leads", cause);
        assert!(error.is_transient());
        assert_eq!(error.remedy(), zoho_oauth::ErrorCode::Throttled.remedy());
        assert_eq!(error.kind(), ErrorKind::Token);
        assert!(error.source().unwrap().to_string().contains("too often"));
        assert!(!error.to_string().contains("too often"), "printed twice");
    }

    /// What `main() -> Result<(), Box<dyn Error>>` prints, behind `Error: `.
    #[test]
    fn debug_has_the_cause_the_remedy_and_the_wait_on_lines_of_their_own() {
        let code = zoho_oauth::ErrorCode::Throttled;
        let wait = zoho_oauth::Timestamp::now().after(Duration::from_mins(10));
        let cause = zoho_oauth::Error::new(code, "too often")
            .retry_at(wait)
            .caused_by(std::io::Error::other("read it on a page"));
        let error = Error::no_token(&"GET /crm/v8/Leads", cause);
        let shown = format!("{error:?}");
        let (before, after) = shown.split_once("  retry after: ").unwrap();
        let first = "there is no access token for `GET /crm/v8/Leads` (`throttled`) [no_token]\n";
        assert_eq!(before, first);
        let remedy = code.remedy();
        let rest = format!(
            "\n  remedy: {remedy}\n  caused by:\n    1: too often [throttled]\n    2: read it on a page"
        );
        assert!(after.ends_with(&rest), "{shown}");
        assert_eq!(after.matches(remedy).count(), 1);

        let api = Error::new(ErrorCode::TooManyRequests, "`GET /x` was refused")
            .with_status(429)
            .with_retry_after(Some(Duration::from_secs(61)));
        let expected = "`GET /x` was refused [too_many_requests]\n  HTTP status: 429\n  \
            retry after: 1 min 1 s\n  remedy: Wait and try again; make fewer calls at once.";
        assert_eq!(format!("{api:?}"), expected);
    }

    #[test]
    fn a_login_is_asked_for_where_it_helps_and_nowhere_else() {
        use zoho_oauth::ErrorCode as Cause;
        for (cause, helps) in [
            (Cause::LoginRequired, true),
            (Cause::RecordDeleted, true),
            (Cause::Network, false),
            (Cause::StoreLocked, false),
            (Cause::InvalidClient, false),
        ] {
            let error = Error::no_token(&"GET", zoho_oauth::Error::new(cause, "x"));
            assert_eq!(error.needs_login(), helps, "{}", cause.as_str());
        }
        assert!(Error::new(ErrorCode::ScopeMismatch, "x").needs_login());
        assert!(!Error::new(ErrorCode::PermissionDenied, "x").needs_login());
    }

    #[test]
    fn a_wrong_setting_of_the_token_side_keeps_its_code_and_remedy_and_is_told_once() {
        let code = zoho_oauth::ErrorCode::InsecureUrl;
        let error = Error::from(zoho_oauth::Error::new(code, "`http://x` is plain http"));
        assert_eq!(error.code(), ErrorCode::InvalidInput);
        assert_eq!(error.oauth().unwrap().code(), code);
        assert_eq!(error.remedy(), code.remedy());
        assert!(error.source().is_none(), "printed twice");
    }

    #[test]
    fn a_lost_write_is_never_called_transient() {
        assert!(!ErrorCode::OutcomeUnknown.is_transient());
    }
}
