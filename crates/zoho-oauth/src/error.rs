//! What can go wrong, and what to do about it.
//!
//! One opaque [`Error`] with a [`kind`](Error::kind) for decisions, a stable [`code`](Error::code)
//! for people and dashboards, a text that says what happened to what, and a
//! [`remedy`](Error::remedy). `Display` is one line, `Debug` is everything over several lines, since
//! that is what `main` prints of an error that it returns. No error text carries a secret, nor a
//! part of one; a server's answer is parsed, its error code kept, and the rest dropped, since bodies
//! hold tokens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::token::OAuthToken;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or a setting is wrong: correct it. Nothing was changed.
    InvalidInput,
    /// A person must log in (again): nothing that is stored can be turned into an access token.
    LoginRequired,
    /// The registration of the application at Zoho (id, secret, redirect URI, scopes) does not fit.
    InvalidClient,
    /// Zoho asks to wait, or asking now would make it do so: try again after [`Error::retry_after`].
    RateLimited,
    /// The request contradicts what is stored.
    Conflict,
    /// The store could not be reached or refused to work; what it holds is unharmed.
    StoreUnavailable,
    /// What the store holds cannot be understood. Nothing was overwritten.
    StoreDamaged,
    /// The network or the server at its other end failed: try again.
    Network,
    /// The server answered what its protocol does not know.
    Protocol,
    /// This store or this server cannot do that.
    Unsupported,
    /// A mistake in this library: please report it.
    Internal,
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
    /// A data center that is not in the table was named.
    UnknownDataCenter = "unknown_data_center", InvalidInput, false,
        "Name a known data center, or add yours with `DataCenters::add`.";
    /// A server address is plain http and not on this machine.
    InsecureUrl = "insecure_url", InvalidInput, false,
        "Use https, or allow plain http for this data center by name.";

    /// A value does not fit the column of a table that was made for shorter ones.
    ColumnTooNarrow = "column_too_narrow", InvalidInput, false,
        "Widen the table with `MySqlStore::widen`; nothing was cut off, and nothing was changed.";

    /// Nothing is stored for this user.
    LoginRequired = "login_required", LoginRequired, false,
        "Send the person through the login again.";
    /// Zoho refused the grant token or the refresh token (`invalid_code`): used, expired or revoked.
    InvalidCode = "invalid_code", LoginRequired, false,
        "Send the person through the login again; a grant token works once and for a few minutes.";
    /// The stored access token ended, and there is no refresh token to make another one.
    AccessTokenEnded = "access_token_ended", LoginRequired, false,
        "Start from a refresh token or a grant token instead of a bare access token.";
    /// Zoho answered the exchange without a refresh token.
    RefreshTokenMissing = "refresh_token_missing", LoginRequired, false,
        "Name the user of the login if an earlier one of theirs is stored; otherwise log in again, and ask for `prompt=consent` and `access_type=offline`.";
    /// The record was deleted, by this process or another one.
    RecordDeleted = "record_deleted", LoginRequired, false,
        "Send the person through the login again, and drop the handle that you hold.";
    /// The person refused, or too many codes were asked for in ten minutes (`access_denied`).
    AccessDenied = "access_denied", LoginRequired, false,
        "Ask the person whether to try again; after several tries wait ten minutes.";
    /// The answer to a login cannot be trusted: wrong state, or an accounts server of no known data center.
    CallbackRefused = "callback_refused", LoginRequired, false,
        "Start the login again from the beginning, in the same browser.";

    /// Zoho does not know the client id, or not at this data center (`invalid_client`).
    InvalidClient = "invalid_client", InvalidClient, false,
        "Compare the client id with the API console, and the data center with the one it was registered at.";
    /// The client secret is wrong, or of another data center (`invalid_client_secret`).
    InvalidClientSecret = "invalid_client_secret", InvalidClient, false,
        "Copy the client secret from the API console anew; each data center may have its own.";
    /// The redirect URI is not the registered one (`invalid_redirect_uri`).
    InvalidRedirectUri = "invalid_redirect_uri", InvalidClient, false,
        "Use exactly the redirect URI that the API console lists, to the last slash.";
    /// A scope is unknown to Zoho (`invalid_scope`).
    InvalidScope = "invalid_scope", InvalidClient, false,
        "Check the names of the scopes: `Service.group.OPERATION`, separated by commas.";

    /// Zoho throttles (`Access Denied`).
    Throttled = "throttled", RateLimited, true,
        "Wait until the window ends; share one store so that a token is refreshed only once.";
    /// The own budget of new access tokens is spent, before Zoho would throttle.
    MintBudget = "mint_budget", RateLimited, true,
        "Wait until the window ends; look for who keeps asking for new access tokens.";

    /// The record with this id belongs to another user or another client.
    IdConflict = "id_conflict", Conflict, false,
        "Save without an id, or with the id that belongs to this user; keep logins to production and to a sandbox in two stores, or under two user names.";
    /// All ids that fit Zoho's ten-digit column are used.
    IdsExhausted = "ids_exhausted", Conflict, false,
        "Move the tokens that are still needed to a new store.";

    /// The store could not be read or written.
    StoreUnavailable = "store_unavailable", StoreUnavailable, true,
        "See the cause; try again when the store is back.";
    /// Another process holds the store's lock for too long.
    StoreLocked = "store_locked", StoreUnavailable, true,
        "Try again; if it lasts, look for a process or a transaction that holds the lock.";
    /// The right to refresh a token ended before the work was done: this process stood still for too
    /// long, or could not reach the store. Another one may be at it.
    LeaseLost = "lease_lost", StoreUnavailable, true,
        "Try again; if it lasts, look for processes that stand still, and for a slow store.";
    /// The store's service takes no more for now: too many calls, or too many writes to one record.
    StoreThrottled = "store_throttled", StoreUnavailable, true,
        "Wait and try again; if it lasts, look for who saves or looks up the same tokens all the time.";
    /// There is no room left.
    StoreFull = "store_full", StoreUnavailable, true,
        "Make room where the store is, on its disk or in its memory; the stored tokens are as they were.";
    /// This process may not read or write the store.
    StorePermission = "store_permission", StoreUnavailable, false,
        "Give this process, and nobody else, the rights that it needs: on the file and its folder, or on the server those that SECURITY.md lists.";
    /// The store's file has several names, so that its locks do not protect it.
    StoreAliased = "store_aliased", StoreUnavailable, false,
        "Give the file one name: remove its other hard links, or mount its folder instead of the file. The builder of the store can allow hard links that are backups.";
    /// A token was issued by Zoho and could not be saved; see [`Error::unsaved_token`].
    TokenNotSaved = "token_not_saved", StoreUnavailable, false,
        "Take the token out of this error with `unsaved_token`, and save it when the store is back: its grant token is spent.";

    /// The stored data is damaged.
    StoreDamaged = "store_damaged", StoreDamaged, false,
        "Correct what the text names by hand, or restore it from a backup; nothing was overwritten.";
    /// The file or table was made by something else.
    StoreForeign = "store_foreign", StoreDamaged, false,
        "Check the path, table or prefix: what is there is not a token store, and was left untouched.";

    /// The connection failed.
    Network = "network", Network, true,
        "Check the connection and the proxy, and try again.";
    /// The certificate of a server was refused: expired, of another host, of an authority that is
    /// not trusted.
    CertificateRefused = "certificate_refused", Network, false,
        "Do what the text names: renew the certificate, correct the host name or the clock of this machine, or trust the authority (`HttpOptions::root_certificates`; for a store its TLS settings).";
    /// The server did not answer in time.
    Timeout = "timeout", Network, true,
        "Try again; raise the time-out if the server is known to be slow.";
    /// The server failed (HTTP 5xx, or a page where JSON was due).
    ServerError = "server_error", Network, true,
        "Try again later; if it lasts, look at Zoho's status page.";

    /// The server answered what its protocol does not know.
    UnexpectedAnswer = "unexpected_answer", Protocol, false,
        "Check that the address is Zoho's; if it is, please report the code.";

    /// This store, this record or this server cannot do that.
    Unsupported = "unsupported", Unsupported, false,
        "See the documentation of the call: it says what it needs, and what to call instead.";

    /// A mistake in this library.
    Internal = "internal", Internal, false,
        "Please report it, with the steps that led here.";
}

/// What went wrong: a [`kind`](Self::kind) for decisions, a stable [`code`](Self::code) for people
/// and dashboards, a text that says what happened to what, and what to do next
/// ([`remedy`](Self::remedy)).
///
/// `Display` is one line: the text and the code. `Debug` adds the remedy, how long to wait and the
/// causes, each on a line of its own; a `main` that returns the error prints that. No text of it
/// carries a secret, nor a part of one. Cheap to clone: all callers that wait for one refresh get the
/// same error.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: ErrorCode,
    message: String,
    server_code: Option<String>,
    retry_at: Option<Timestamp>,
    unsaved: Option<OAuthToken>,
    may_have_issued: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Error {
    /// Makes an error of `code`; `message` says what happened to what, without a full stop.
    ///
    /// For authors of stores. Keep secrets out of `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            code,
            message: message.into(),
            server_code: None,
            retry_at: None,
            unsaved: None,
            may_have_issued: false,
            source: None,
        }))
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidInput, message)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Puts in front what was being done, for an error that comes from further inside.
    pub(crate) fn about(self, what: impl fmt::Display) -> Self {
        self.with(|inner| inner.message = format!("{what}: {}", inner.message))
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.source = Some(Arc::new(source)))
    }

    /// Adds the moment from which on the call may succeed.
    #[must_use]
    pub fn retry_at(self, moment: Timestamp) -> Self {
        self.with(|inner| inner.retry_at = Some(moment))
    }

    pub(crate) fn with_server_code(self, server_code: impl Into<String>) -> Self {
        self.with(|inner| inner.server_code = Some(server_code.into()))
    }

    pub(crate) fn with_unsaved_token(self, token: OAuthToken) -> Self {
        self.with(|inner| inner.unsaved = Some(token))
    }

    pub(crate) fn without_unsaved_token(self) -> Self {
        if self.0.unsaved.is_none() {
            return self;
        }
        self.with(|inner| inner.unsaved = None)
    }

    /// Says that the server may have done what it was asked for: its answer was lost.
    pub(crate) fn of_lost_answer(self) -> Self {
        self.with(|inner| inner.may_have_issued = true)
    }

    /// Whether a token may have been issued although there is this error instead.
    pub(crate) fn may_have_issued(&self) -> bool {
        self.0.may_have_issued
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
    pub fn is_transient(&self) -> bool {
        self.0.code.is_transient()
    }

    /// Returns what happened, without the code that `Display` adds.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns what to do next, in a sentence.
    pub fn remedy(&self) -> &'static str {
        self.0.code.remedy()
    }

    /// Returns the error code that the server gave, such as `invalid_code`.
    pub fn server_code(&self) -> Option<&str> {
        self.0.server_code.as_deref()
    }

    /// Returns how long to wait before trying again, as far as it is known, by the wall clock.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_moment().map(|at| at.since(Timestamp::now()))
    }

    /// Returns the moment from which on the call may succeed, as far as it is known.
    pub(crate) fn retry_moment(&self) -> Option<Timestamp> {
        self.0.retry_at
    }

    /// Returns the token that Zoho issued and that is in no store.
    ///
    /// With [`ErrorCode::TokenNotSaved`] the store failed. The grant token that it came from is
    /// spent, so nothing but this record holds the new refresh token: save it as soon as the store
    /// is back. With [`ErrorCode::RefreshTokenMissing`] there is only an access token, good for an
    /// hour: enough to learn who the user is, and to save it with
    /// [`Authenticator::save_login`](crate::Authenticator::save_login) beside the refresh token that
    /// may be stored for that user. With [`ErrorCode::UnknownDataCenter`] and
    /// [`ErrorCode::IdConflict`] the login has no place in the store as it is: add the data center
    /// or open a second store, and save it there.
    pub fn unsaved_token(&self) -> Option<&OAuthToken> {
        self.0.unsaved.as_ref()
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
        if let Some(server_code) = &self.0.server_code {
            details.push(("server code", server_code.clone()));
        }
        if self.0.unsaved.is_some() {
            details.push(("unsaved token", "see `unsaved_token`".to_owned()));
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

/// What `Debug` shows of an error. For our sister crate; no part of the promised interface.
#[doc(hidden)]
#[derive(Debug)]
pub struct Report<'a> {
    /// `Display` is the first line, the sources are the causes.
    pub error: &'a (dyn std::error::Error + 'static),
    /// What to do next, in a sentence.
    pub remedy: &'a str,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// What else is known: a name and a value each.
    pub details: Vec<(&'static str, String)>,
}

/// Writes a report over several lines, without a line break at the end.
#[doc(hidden)]
pub fn write_report(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    write!(f, "{}", report.error)?;
    for (name, value) in &report.details {
        write!(f, "\n  {name}: {value}")?;
    }
    if let Some(wait) = report.retry_after {
        write!(f, "\n  retry after: {}", in_words(wait))?;
    }
    write!(f, "\n  remedy: {}", report.remedy)?;
    let causes = causes(report.error);
    if !causes.is_empty() {
        f.write_str("\n  caused by:")?;
    }
    for (number, cause) in (1..).zip(causes) {
        write!(f, "\n    {number}: {}", cause.replace('\n', "\n       "))?;
    }
    Ok(())
}

/// Returns the texts of all causes of an error, the nearest first. A wrapper that says the same as
/// what is inside it is left out.
#[doc(hidden)]
pub fn causes(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let chain = std::iter::successors(error.source(), |cause| cause.source());
    let mut texts: Vec<String> = chain.map(ToString::to_string).collect();
    texts.dedup();
    texts
}

/// Returns a wait in words, such as `9 min 58 s`, rounded up to a second.
#[doc(hidden)]
pub fn in_words(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let words: Vec<_> = parts
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    if words.is_empty() {
        "0 s".to_owned()
    } else {
        words.join(" ")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
    fn display_is_one_line_with_what_happened_and_the_code() {
        let error = Error::new(ErrorCode::StoreFull, "cannot write `/tmp/tokens.txt`")
            .caused_by(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(
            error.to_string(),
            "cannot write `/tmp/tokens.txt` [store_full]"
        );
        assert!(std::error::Error::source(&error).is_some());
        assert!(error.is_transient());
    }

    /// What `main() -> Result<(), Box<dyn Error>>` prints, behind `Error: `.
    #[test]
    fn debug_has_all_that_is_known_on_lines_of_its_own() {
        #[derive(Debug)]
        struct Wrapper(std::io::Error);
        impl fmt::Display for Wrapper {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the disk failed\nat sector 7")
            }
        }
        impl std::error::Error for Wrapper {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }

        let cause = Wrapper(std::io::Error::other("no more sectors"));
        let cause = Error::new(ErrorCode::StoreFull, "cannot write `t`").caused_by(cause);
        let error = Error::new(ErrorCode::Throttled, "no token for record 1")
            .with_server_code("Access Denied")
            .with_unsaved_token(OAuthToken::new())
            .retry_at(Timestamp::now().after(Duration::from_secs(3599)))
            .caused_by(cause);
        let expected = "no token for record 1 [throttled]\n  \
            server code: Access Denied\n  \
            unsaved token: see `unsaved_token`\n  \
            retry after: 59 min 59 s\n  \
            remedy: Wait until the window ends; share one store so that a token is refreshed only once.\n  \
            caused by:\n    \
            1: cannot write `t` [store_full]\n    \
            2: the disk failed\n       at sector 7\n    \
            3: no more sectors";
        assert_eq!(format!("{error:?}"), expected);
        let boxed: Box<dyn std::error::Error> = error.into();
        assert_eq!(format!("{boxed:?}"), expected);
        assert_eq!(format!("{boxed:#?}"), expected);
    }

    #[test]
    fn debug_within_a_structure_keeps_its_lines_apart() {
        let error = Error::new(ErrorCode::Network, "lost");
        let list = format!("{:#?}", [Some(error)]);
        let lines: Vec<_> = list.lines().map(str::trim_start).collect();
        let remedy = "remedy: Check the connection and the proxy, and try again.,";
        assert_eq!(lines, ["[", "Some(", "lost [network]", remedy, "),", "]"]);
    }

    #[test]
    fn a_wait_is_told_in_units_that_people_use() {
        for (millis, words) in [
            (0, "0 s"),
            (1, "1 s"),
            (59_001, "1 min"),
            (598_000, "9 min 58 s"),
            (3_600_000, "1 h"),
            (90_061_000, "25 h 1 min 1 s"),
        ] {
            assert_eq!(in_words(Duration::from_millis(millis)), words);
        }
    }
}
