//! What the driver's and the server's complaints mean: for the call, and for the caller.
//!
//! Their texts can quote arguments (an unknown command comes back with what followed it), and
//! whoever prints an error walks its sources too. So only codes go on.

use std::fmt;
use std::io;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::connection;
use crate::error::{Error, ErrorCode};

/// What to do about a failed call.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It was not carried out, and may be later: the server is starting, or has another role at
    /// the moment.
    Later(Cause),
    /// The answer is lost: it was carried out or not. The connection is of no use.
    Lost(Cause),
    /// It belongs to this node of the cluster, `host:port`; without a host it is the same one.
    Elsewhere(String),
    /// The server does not know the script.
    NoScript,
    /// It was refused, and will be. The message needs the place in front.
    Refused(ErrorCode, &'static str, Cause),
}

/// What went wrong, without the driver's text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cause {
    /// The server's error code, such as `LOADING`.
    Server(String),
    Io(io::ErrorKind),
    Tls(rustls::Error),
    /// A TLS handshake that the server broke off, and what that may mean.
    Handshake(io::ErrorKind, &'static str),
    /// The driver, by the name of its kind of error.
    Driver(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(code) => write!(f, "the server answered {code}"),
            Self::Io(kind) | Self::Handshake(kind, _) => kind.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Driver(kind) => write!(f, "the driver says {kind}"),
        }
    }
}

impl std::error::Error for Cause {}

impl Cause {
    /// The same on a way over TLS: a server that knows only plain text waits for the rest of what
    /// it takes for a command.
    pub(super) fn over_tls(self) -> Self {
        match self {
            Self::Io(kind @ io::ErrorKind::TimedOut) => Self::Handshake(
                kind,
                "no answer in time; the server may be busy, or not speak TLS at this port",
            ),
            other => other,
        }
    }
}

/// Errors of the server that a script met: before version 7 they stand within the text of a general
/// error.
const WITHIN: [&str; 8] = [
    "WRONGTYPE",
    "OOM",
    "READONLY",
    "NOPERM",
    "MISCONF",
    "NOREPLICAS",
    "MASTERDOWN",
    "CLUSTERDOWN",
];

pub(super) fn judge(error: &RedisError) -> Verdict {
    use ErrorCode::{
        Internal, InvalidInput, StoreDamaged, StoreForeign, StoreFull, StorePermission,
        StoreUnavailable, Unsupported,
    };
    match error.kind() {
        ErrorKind::Io => return of_io(error),
        ErrorKind::AuthenticationFailed => {
            let cause = Cause::Driver("AuthenticationFailed".to_owned());
            return Verdict::Refused(StorePermission, "did not take the password", cause);
        }
        ErrorKind::InvalidClientConfig => {
            let cause = Cause::Driver("InvalidClientConfig".to_owned());
            return Verdict::Refused(InvalidInput, "cannot be connected to like this", cause);
        }
        ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => {
            return Verdict::Lost(Cause::Driver(format!("{:?}", error.kind())));
        }
        ErrorKind::Client | ErrorKind::UnexpectedReturnType | ErrorKind::RESP3NotSupported => {
            let asked_wrong = || {
                let cause = Cause::Driver(format!("{:?}", error.kind()));
                Verdict::Refused(Internal, "was asked in a wrong way", cause)
            };
            return tls_error(error).map_or_else(asked_wrong, of_tls);
        }
        ErrorKind::Server(ServerErrorKind::NoScript) => return Verdict::NoScript,
        ErrorKind::Server(ServerErrorKind::Moved) => {
            if let Some((address, _)) = error.redirect_node() {
                return Verdict::Elsewhere(address.to_owned());
            }
        }
        _ => {}
    }
    let code = server_code(error);
    let cause = Cause::Server(code.clone());
    match code.as_str() {
        // A record may lie on either of two nodes while its slot is moved, so an ASK is not
        // followed: a script would not see the keys that have not been moved yet.
        "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "ASK"
        | "NOREPLICAS" | "MOVED" => Verdict::Later(cause),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Verdict::Refused(
            StorePermission,
            "does not let this user in, or not do what a store needs",
            cause,
        ),
        "OOM" => Verdict::Refused(StoreFull, "has no memory left (`maxmemory`)", cause),
        "MISCONF" => Verdict::Refused(StoreUnavailable, "cannot write to its disk", cause),
        "WRONGTYPE" => Verdict::Refused(
            StoreForeign,
            "has a key of another kind under the prefix",
            cause,
        ),
        // Said by scripts of ours.
        "DAMAGED" => {
            let message = match detail(error) {
                "store" => "has records of a store, and lost the key `…:store` that describes it",
                "ids" => "lost ids of records: the key `…:ids` has not as many as were saved",
                _ => "counts ids from below one that is stored (`highest_id` in the key `…:store`)",
            };
            Verdict::Refused(StoreDamaged, message, cause)
        }
        "CROSSSLOT" => Verdict::Refused(Internal, "was asked for keys of several slots", cause),
        // So it is put where a script does what its user may not.
        _ if detail(error).contains("The user executing the script can't") => Verdict::Refused(
            StorePermission,
            "does not let this user do what a store needs",
            cause,
        ),
        // The inside of a script is told so when a cluster moves the slot.
        _ if detail(error).contains("non local key") => Verdict::Later(cause),
        _ if detail(error).contains("unknown command") => {
            Verdict::Refused(Unsupported, "does not know a command that is needed", cause)
        }
        // A limit on connections, and whatever else a proxy or a later version may say.
        _ => Verdict::Refused(StoreUnavailable, "refused", cause),
    }
}

/// Whether an error that may pass speaks of the node that was asked, and another may be well.
pub(super) fn is_of_node(code: &str) -> bool {
    matches!(code, "LOADING" | "MASTERDOWN" | "CLUSTERDOWN")
}

fn detail(error: &RedisError) -> &str {
    error.detail().unwrap_or_default()
}

fn server_code(error: &RedisError) -> String {
    let code = error.code().unwrap_or_default();
    if code == "ERR" && detail(error).contains("script") {
        let is_there = |within: &&&str| {
            let text = detail(error);
            text.contains(&format!("-{within} ")) || text.contains(&format!(": {within} "))
        };
        if let Some(within) = WITHIN.iter().find(is_there) {
            return (*within).to_owned();
        }
    }
    // What is no code may be anything.
    let is_code = !code.is_empty()
        && code.len() <= 20
        && code
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    if is_code {
        code.to_owned()
    } else {
        "ERR".to_owned()
    }
}

fn of_io(error: &RedisError) -> Verdict {
    if let Some(tls) = tls_error(error) {
        return of_tls(tls);
    }
    let io = io_error(error);
    let kind = io.map_or(io::ErrorKind::Other, io::Error::kind);
    if kind == io::ErrorKind::UnexpectedEof
        && let Some(reason) = io.and_then(|io| connection::trouble(io))
    {
        return Verdict::Lost(Cause::Handshake(kind, reason.text));
    }
    if kind == io::ErrorKind::ConnectionRefused {
        // Nothing was sent.
        return Verdict::Later(Cause::Io(kind));
    }
    Verdict::Lost(Cause::Io(kind))
}

fn of_tls(error: rustls::Error) -> Verdict {
    let message = "cannot be reached over TLS";
    let code = connection::of_tls(&error).code(ErrorCode::StoreUnavailable);
    Verdict::Refused(code, message, Cause::Tls(error))
}

/// The driver wraps errors in `Arc`s.
fn wrapped(error: &RedisError) -> Option<&(dyn std::error::Error + 'static)> {
    type Shared = std::sync::Arc<dyn std::error::Error + Send + Sync>;
    let source = std::error::Error::source(error)?;
    match source.downcast_ref::<Shared>() {
        Some(shared) => Some(shared.as_ref()),
        None => Some(source),
    }
}

fn io_error(error: &RedisError) -> Option<&io::Error> {
    wrapped(error)?.downcast_ref()
}

fn tls_error(error: &RedisError) -> Option<rustls::Error> {
    let found = wrapped(error)?;
    let inner = found.downcast_ref::<io::Error>().map(io::Error::get_ref);
    let tls = match inner {
        Some(inner) => inner?.downcast_ref::<rustls::Error>(),
        None => found.downcast_ref::<rustls::Error>(),
    };
    tls.cloned()
}

/// An error about the server at `place`.
pub(super) fn error(code: ErrorCode, place: &str, message: &str, cause: Cause) -> Error {
    let reason = match &cause {
        Cause::Tls(error) => format!(": {}", connection::of_tls(error).text),
        Cause::Handshake(_, reason) => format!(": {reason}"),
        _ => String::new(),
    };
    Error::new(code, format!("{place} {message}{reason}")).caused_by(cause)
}

/// What a driver's error means where nothing can be tried again.
pub(super) fn of(error: &RedisError, place: &str) -> Error {
    match judge(error) {
        Verdict::Refused(code, message, cause) => self::error(code, place, message, cause),
        Verdict::Later(cause) | Verdict::Lost(cause) => self::error(
            ErrorCode::StoreUnavailable,
            place,
            "cannot be reached",
            cause,
        ),
        Verdict::Elsewhere(_) | Verdict::NoScript => {
            let message = format!("{place} refused");
            Error::new(ErrorCode::StoreUnavailable, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn server(text: &str) -> RedisError {
        let answer = parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        answer.extract_error().unwrap_err()
    }

    fn code_of(text: &str) -> ErrorCode {
        match judge(&server(text)) {
            Verdict::Refused(code, message, cause) => {
                let said = error(code, "Redis at `h:1`", message, cause);
                let texts = format!("{said} {said:?}");
                assert!(!texts.contains("s3cret"), "{texts}");
                assert!(texts.contains("h:1"), "{texts}");
                code
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_the_server_says_has_its_meaning_and_none_of_its_text() {
        for (text, code) in [
            (
                "NOAUTH Authentication required. s3cret",
                ErrorCode::StorePermission,
            ),
            ("WRONGPASS s3cret", ErrorCode::StorePermission),
            (
                "NOPERM User s3cret has no permissions",
                ErrorCode::StorePermission,
            ),
            (
                "ERR The user executing the script can't run this command s3cret",
                ErrorCode::StorePermission,
            ),
            ("OOM command not allowed s3cret", ErrorCode::StoreFull),
            ("MISCONF s3cret", ErrorCode::StoreUnavailable),
            ("WRONGTYPE s3cret", ErrorCode::StoreForeign),
            ("CROSSSLOT s3cret", ErrorCode::Internal),
            (
                "ERR unknown command 'EVALSHA', with args beginning with: 's3cret'",
                ErrorCode::Unsupported,
            ),
            (
                "ERR max number of clients reached s3cret",
                ErrorCode::StoreUnavailable,
            ),
            ("s3cret", ErrorCode::StoreUnavailable),
            (
                "ERR Error running script (call to f_1): @user_script:8: -OOM command s3cret",
                ErrorCode::StoreFull,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:8: WRONGTYPE s3cret",
                ErrorCode::StoreForeign,
            ),
        ] {
            assert_eq!(code_of(text), code, "{text}");
        }
    }

    #[test]
    fn what_passes_is_waited_for() {
        for text in [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script.",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "MASTERDOWN Link with MASTER is down",
            "READONLY You can't write against a read only replica.",
            "ASK 3999 127.0.0.1:6381",
            "NOREPLICAS Not enough good replicas to write.",
            "ERR Script attempted to access a non local key in a cluster node script: 1",
            "ERR Error running script (call to f_1): @user_script:8: -READONLY You can't",
        ] {
            let verdict = judge(&server(text));
            assert!(matches!(verdict, Verdict::Later(_)), "{text}: {verdict:?}");
        }
        assert!(matches!(
            judge(&server("NOSCRIPT No matching")),
            Verdict::NoScript
        ));
        let moved = judge(&server("MOVED 3999 127.0.0.1:6381"));
        assert!(matches!(moved, Verdict::Elsewhere(node) if node == "127.0.0.1:6381"));
    }

    #[test]
    fn a_lost_connection_is_not_a_refusal() {
        let of = |kind: io::ErrorKind| judge(&RedisError::from(io::Error::from(kind)));
        for kind in [
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::TimedOut,
        ] {
            let verdict = of(kind);
            assert!(matches!(verdict, Verdict::Lost(Cause::Io(found)) if found == kind));
        }
        let refused = of(io::ErrorKind::ConnectionRefused);
        assert!(matches!(refused, Verdict::Later(_)));
        let tls = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
        );
        let refused = judge(&RedisError::from(tls));
        assert!(
            matches!(refused, Verdict::Refused(_, _, Cause::Tls(_))),
            "{refused:?}"
        );
    }
}
