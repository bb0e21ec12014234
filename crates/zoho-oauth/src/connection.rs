//! Why a connection failed, in words: read off the causes of a driver's error.
//!
//! Every driver wraps the same few errors, most of all those of rustls, in its own way. A store on a
//! server can ask [`trouble`] about any of them.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rustls::CertificateError;

#[cfg(any(test, feature = "postgres", feature = "redis"))]
use crate::error::ErrorCode;

/// What is known of a connection that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Whether the certificate of the server was refused: trying again does not help.
    pub(crate) is_certificate: bool,
    /// The reason, to be put behind a colon.
    pub(crate) text: &'static str,
}

impl Trouble {
    const fn of(text: &'static str) -> Self {
        Self {
            is_certificate: false,
            text,
        }
    }

    const fn of_certificate(text: &'static str) -> Self {
        Self {
            is_certificate: true,
            text,
        }
    }

    /// Returns `certificate_refused` where that is what happened, and else `code`.
    #[cfg(any(test, feature = "postgres", feature = "redis"))]
    pub(crate) const fn code(self, code: ErrorCode) -> ErrorCode {
        if self.is_certificate {
            ErrorCode::CertificateRefused
        } else {
            code
        }
    }
}

/// Some drivers clone what they cannot clone.
type Shared = Arc<dyn StdError + Send + Sync>;

/// Looks for a known reason in an error and its causes.
pub(crate) fn trouble(error: &(dyn StdError + 'static)) -> Option<Trouble> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(of_tls(tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // `source` of an I/O error leaves out what is in it.
            if let Some(found) = io.get_ref().and_then(|inner| trouble(inner)) {
                return Some(found);
            }
            if io.kind() == io::ErrorKind::ConnectionRefused {
                return Some(Trouble::of("nothing listens at this address and port"));
            }
        }
        if let Some(shared) = error.downcast_ref::<Shared>()
            && let Some(found) = trouble(shared.as_ref())
        {
            return Some(found);
        }
        if let Some(found) = of_text(&error.to_string()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What an error of TLS means.
pub(crate) fn of_tls(error: &rustls::Error) -> Trouble {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(reason) => Trouble::of_certificate(of_certificate(reason)),
        Tls::NoCertificatesPresented => Trouble::of_certificate("the server has no certificate"),
        Tls::InvalidMessage(_) => {
            Trouble::of("the server, or a proxy before it, does not speak TLS at this port")
        }
        Tls::AlertReceived(rustls::AlertDescription::CertificateRequired) => {
            Trouble::of("the server asks for a certificate of the client")
        }
        Tls::AlertReceived(_) => Trouble::of("the server refused the TLS handshake"),
        Tls::PeerIncompatible(_) => {
            Trouble::of("the server offers no version or cipher of TLS that is supported")
        }
        _ => Trouble::of("the TLS handshake failed"),
    }
}

const fn of_certificate(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate of the server has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate of the server is not valid yet, or the clock of this machine is wrong"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate of the server is for another host name"
        }
        CertificateError::UnknownIssuer => {
            "the certificate of the server is of an authority that is not trusted here"
        }
        CertificateError::Revoked => "the certificate of the server was revoked",
        _ => "the certificate of the server cannot be verified",
    }
}

/// Errors whose types are private to their crates. A test with a real server holds each text.
fn of_text(text: &str) -> Option<Trouble> {
    if let Some(reason) = text.strip_prefix("tunnel error: ") {
        return Some(Trouble::of(match reason {
            "proxy authorization required" => {
                "the proxy wants a user name and a password (HTTP status 407)"
            }
            "failed to create underlying connection" => "the proxy cannot be reached",
            "unsuccessful" => "the proxy refused to connect to the server, or is no HTTP proxy",
            _ => "the proxy broke off, or is no HTTP proxy",
        }));
    }
    Some(Trouble::of(match text {
        "dns error" => "the host name is not known",
        "tls handshake eof" => {
            "the TLS handshake broke off: the server, or a proxy before it, may not speak TLS at this port"
        }
        text if text.starts_with("invalid HTTP ") => {
            "the answer is not HTTP: the server may want https at this port"
        }
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_tls_is_found_however_it_is_wrapped() {
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let io = io::Error::new(io::ErrorKind::InvalidData, expired.clone());
        let twice = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, expired.clone()));
        let shared = io::Error::other(Box::<dyn StdError + Send + Sync>::from(io::Error::other(
            expired.clone(),
        )));
        let shared: Shared = Arc::new(shared);
        let ours = crate::Error::new(ErrorCode::Network, "x")
            .caused_by(io::Error::other(io::Error::other(expired.clone())));
        let known = Trouble::of_certificate("the certificate of the server has expired");
        for error in [&expired as &(dyn StdError + 'static), &io, &twice, &ours] {
            assert_eq!(trouble(error), Some(known), "{error:?}");
        }
        assert_eq!(trouble(shared.as_ref()), Some(known));
        assert_eq!(trouble(&io::Error::other("nothing known")), None);
    }

    #[test]
    fn each_reason_to_refuse_a_certificate_has_words_of_its_own() {
        let reasons = [
            CertificateError::Expired,
            CertificateError::NotValidYet,
            CertificateError::NotValidForName,
            CertificateError::UnknownIssuer,
            CertificateError::Revoked,
            CertificateError::BadSignature,
        ];
        let mut texts: Vec<_> = reasons
            .iter()
            .map(|reason| of_tls(&rustls::Error::InvalidCertificate(reason.clone())))
            .inspect(|found| {
                assert_eq!(
                    found.code(ErrorCode::Network),
                    ErrorCode::CertificateRefused
                );
            })
            .map(|found| found.text)
            .collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), reasons.len());
    }
}
