//! How this crate reaches Zoho: time-outs, proxy, certificates, and the client that holds to them.
//!
//! What an application sets is [`HttpOptions`]. The rest of this module is for our sister crate,
//! which calls the API with the same options; it is no part of the promised interface.
//!
//! What is fixed, and why:
//! - **No redirects.** Every request carries a secret in its body or in a header, and a redirect
//!   would carry it elsewhere.
//! - **No repeating below us.** A grant token works once and new access tokens are counted, so
//!   whether a request may be sent again is never decided by the HTTP client.
//! - **This machine is reached directly**, whatever the proxy settings say. Plain http is allowed
//!   to this machine because nothing then leaves it; through a proxy it would.
//! - **Nothing below us prints a body or a header,** at no level, and a test searches for it. The
//!   one switch that would change this, reqwest's `connection_verbose`, stays off.
//! - **No process-wide state.** The TLS provider is part of the client, so an application that
//!   installs another one is not disturbed, nor are we by it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;
use url::Url;

use crate::clock::Timestamp;
use crate::connection;
use crate::data_center::is_loopback;
use crate::error::{Error, ErrorCode, Result};
use crate::text;

/// How servers are reached. The defaults suit a program with an open way to the internet.
///
/// ```
/// use std::time::Duration;
/// use zoho_oauth::HttpOptions;
///
/// let options = HttpOptions::new()
///     .connect_timeout(Duration::from_secs(3))
///     .proxy("http://proxy.example:3128")
///     .user_agent("student-portal/1.0");
/// ```
#[derive(Clone)]
pub struct HttpOptions {
    connect_timeout: Duration,
    read_timeout: Duration,
    timeout: Duration,
    proxy: Proxy,
    user_agent: Option<String>,
    extra_roots: Vec<u8>,
}

/// Which proxy is used.
#[derive(Clone)]
enum Proxy {
    System,
    None,
    /// May hold a password, so it is never printed.
    Url(String),
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            timeout: Duration::from_mins(1),
            proxy: Proxy::System,
            user_agent: None,
            extra_roots: Vec::new(),
        }
    }
}

impl HttpOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long opening a connection may take, TLS included: 10 seconds by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a server may stay silent, before its answer or within it: 30 seconds by
    /// default.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// Sets how long a request to the accounts server, or a call to the API whose answer is read as
    /// a whole, may take in all: 60 seconds by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends everything through this proxy, `http://[user:password@]host:port`, instead of the
    /// one that the system or the environment (`HTTPS_PROXY`, `NO_PROXY`, …) names. Without a scheme
    /// it is read as `http://`. SOCKS proxies are not supported.
    ///
    /// Servers on this machine are reached directly all the same.
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Proxy::Url(url.into());
        self
    }

    /// Uses no proxy, whatever the system or the environment says.
    #[must_use]
    pub fn no_proxy(mut self) -> Self {
        self.proxy = Proxy::None;
        self
    }

    /// Puts the application's name in front of ours in the `User-Agent` header.
    #[must_use]
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = Some(name.into()).filter(|name| !name.is_empty());
        self
    }

    /// Trusts these certificate authorities as well as the system's: certificates in PEM form,
    /// any number of them. For networks whose proxy opens TLS, and for own test servers.
    #[must_use]
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.extra_roots.extend_from_slice(pem.as_ref());
        self.extra_roots.push(b'\n');
        self
    }

    fn user_agent_header(&self) -> String {
        let own = concat!("zohocrm-rust/", env!("CARGO_PKG_VERSION"));
        match &self.user_agent {
            Some(name) => format!("{name} {own}"),
            None => own.to_owned(),
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("timeout", &self.timeout)
            .field(
                "proxy",
                match self.proxy {
                    Proxy::System => &"system",
                    Proxy::None => &"none",
                    Proxy::Url(_) => &"[redacted]",
                },
            )
            .field("user_agent", &self.user_agent)
            .field("extra_roots", &!self.extra_roots.is_empty())
            .finish()
    }
}

/// The HTTP client of this crate and its sister crate. Clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    /// For servers on this machine.
    direct: reqwest::Client,
    /// For all others.
    outward: reqwest::Client,
    timeout: Duration,
    /// Whether the proxy is the one of the environment.
    follows_environment: bool,
}

impl HttpClient {
    /// Builds the client.
    ///
    /// Reads the system's certificate authorities once. Where there are none, the client is built
    /// all the same and speaks plain http; a TLS connection then fails and says why.
    ///
    /// # Errors
    /// `invalid_input` for a time-out of zero, a proxy that is neither an http(s) URL nor `host:port`, a
    /// user agent that is no header value, or certificates that cannot be read.
    pub fn new(options: &HttpOptions) -> Result<Self> {
        for (name, timeout) in [
            ("connect time-out", options.connect_timeout),
            ("read time-out", options.read_timeout),
            ("time-out", options.timeout),
        ] {
            if timeout.is_zero() {
                return Err(Error::invalid_input(format!("the {name} is zero")));
            }
        }
        let user_agent = reqwest::header::HeaderValue::from_str(&options.user_agent_header())
            .map_err(|_| Error::invalid_input("the user agent is no header value"))?;
        let tls = tls_config(&options.extra_roots)?;
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(options.connect_timeout)
                .read_timeout(options.read_timeout)
                .user_agent(user_agent.clone())
        };
        let outward = match &options.proxy {
            Proxy::System => builder(),
            Proxy::None => builder().no_proxy(),
            Proxy::Url(url) => builder().proxy(proxy(url)?),
        };
        Ok(Self {
            direct: build(builder().no_proxy())?,
            outward: build(outward)?,
            timeout: options.timeout,
            follows_environment: matches!(options.proxy, Proxy::System),
        })
    }

    /// Returns the client that reaches this URL.
    pub fn for_url(&self, url: &Url) -> &reqwest::Client {
        if is_loopback(url) {
            &self.direct
        } else {
            &self.outward
        }
    }

    /// Returns how long a request to the accounts server may take in all.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Why a request failed, where that is known.
#[derive(Clone, Debug)]
pub struct Reason {
    /// Whether the certificate of the server was refused: trying again does not help.
    pub is_certificate: bool,
    /// The reason, to be put behind a colon.
    pub text: String,
}

impl HttpClient {
    /// Turns a failure to send or to receive into our error: `certificate_refused`, `timeout` or
    /// `network`.
    ///
    /// `what` says what was being done, such as "the refresh at `accounts.zoho.eu`".
    pub fn transport_error(&self, what: &str, error: reqwest::Error) -> Error {
        let reason = self.reason(&error);
        // The URL of a request to the API may hold what a person searched for.
        let error = error.without_url();
        let was_sent = !error.is_connect() && !error.is_builder();
        let (code, happened) = if error.is_timeout() {
            (ErrorCode::Timeout, "got no answer in time")
        } else if error.is_builder() {
            (ErrorCode::Internal, "could not be put together")
        } else if error.is_connect() {
            (ErrorCode::Network, "could not connect")
        } else {
            (ErrorCode::Network, "lost its connection")
        };
        let is_certificate = reason.as_ref().is_some_and(|found| found.is_certificate);
        let code = if is_certificate {
            ErrorCode::CertificateRefused
        } else {
            code
        };
        let reason = reason.map_or_else(String::new, |found| format!(": {}", found.text));
        let error = Error::new(code, format!("{what} {happened}{reason}")).caused_by(error);
        if was_sent {
            error.of_lost_answer()
        } else {
            error
        }
    }

    /// Says why a request failed, as its causes tell it.
    pub fn reason(&self, error: &reqwest::Error) -> Option<Reason> {
        let found = connection::trouble(error);
        let is_certificate = found.is_some_and(|found| found.is_certificate);
        if !is_certificate
            && self.follows_environment
            && let Some(variable) = error.url().and_then(|url| socks_variable(url, found))
        {
            return Some(Reason {
                is_certificate,
                text: format!(
                    "`{variable}` names a SOCKS proxy, which is not supported; name an HTTP proxy \
                     there, or set `HttpOptions::proxy` or `HttpOptions::no_proxy`"
                ),
            });
        }
        found.map(|found| Reason {
            is_certificate,
            text: found.text.to_owned(),
        })
    }
}

/// Returns the variable that sent a request for this URL to a SOCKS proxy. The HTTP client takes it
/// for an HTTP proxy, which it is not.
fn socks_variable(url: &Url, found: Option<connection::Trouble>) -> Option<&'static str> {
    // What `NO_PROXY` names is reached without a tunnel.
    let through_proxy = found.is_some_and(|found| found.text.starts_with("the proxy "));
    if is_loopback(url) || (url.scheme() == "https" && !through_proxy) {
        return None;
    }
    let own = if url.scheme() == "https" {
        ["HTTPS_PROXY", "https_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy"]
    };
    let names = own.into_iter().chain(["ALL_PROXY", "all_proxy"]);
    let set = names.filter_map(|name| Some((name, variable(name)?)));
    let (name, value) = set.into_iter().find(|(_, value)| !value.is_empty())?;
    is_socks(&value).then_some(name)
}

fn is_socks(address: &str) -> bool {
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.to_ascii_lowercase().starts_with("socks"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the HTTP client takes its proxy from there, and an error has to say so"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a `Retry-After` header (RFC 9110 section 10.2.3): a number of seconds, or a date in one of
/// the three forms, of which the wait is counted from `from` on. A date that is over means now.
pub fn retry_after(value: &str, from: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(Timestamp::from(date).since(from))
}

fn proxy(address: &str) -> Result<reqwest::Proxy> {
    // The address may hold a password: neither it nor a parser's view of it is repeated.
    let refused = || Error::invalid_input("the proxy is not an http or https URL");
    // The parser of URLs would leave tabs and line breaks out without a word.
    text::check("proxy", address)?;
    if is_socks(address) {
        let message = "the proxy is a SOCKS proxy, which is not supported: name an HTTP proxy";
        return Err(Error::invalid_input(message));
    }
    // Without a scheme it is read as the environment's variables are.
    let url = if address.contains("://") {
        Url::parse(address)
    } else {
        Url::parse(&format!("http://{address}"))
    };
    let url = url.map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(refused());
    }
    reqwest::Proxy::all(url).map_err(|_| refused())
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder.build().map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            "the HTTP client could not be put together",
        )
        .caused_by(error.without_url())
    })
}

fn tls_config(extra_roots: &[u8]) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = Vec::new();
    if !extra_roots.is_empty() {
        let unreadable =
            || Error::invalid_input("the root certificates are not certificates in PEM form");
        for certificate in CertificateDer::pem_slice_iter(extra_roots) {
            roots.push(certificate.map_err(|error| unreadable().caused_by(error))?);
        }
        if roots.is_empty() {
            return Err(unreadable());
        }
        // Checked here on its own, so that what fails below is the system's doing.
        let mut store = rustls::RootCertStore::empty();
        for certificate in &roots {
            store
                .add(certificate.clone())
                .map_err(|error| unreadable().caused_by(error))?;
        }
    }
    let verifier: Arc<dyn ServerCertVerifier> =
        match Verifier::new_with_extra_roots(roots, Arc::clone(&provider)) {
            Ok(verifier) => Arc::new(verifier),
            Err(reason) => {
                tracing::warn!(%reason, "no certificate authorities: TLS connections will fail");
                Arc::new(TrustsNobody {
                    reason,
                    provider: Arc::clone(&provider),
                })
            }
        };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for both versions of TLS")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // A ready-made configuration is used as it is, so HTTP/2 must be offered here.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Refuses every certificate, for the one `reason` that there is nothing to check them against.
///
/// The platform's verifier cannot be made where the system has no certificate authorities, as in
/// a bare container. A sandbox on plain http needs none, so this takes the verifier's place.
#[derive(Debug)]
struct TrustsNobody {
    reason: rustls::Error,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustsNobody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // As every certificate that is refused.
        let reason = rustls::OtherError(Arc::new(self.reason.clone()));
        Err(rustls::CertificateError::Other(reason).into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(self.reason.clone())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(self.reason.clone())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socks_proxy_is_one_by_its_scheme() {
        for socks in ["socks5://p:1", "SOCKS5H://p:1", "socks4a://u:p@p:1"] {
            assert!(is_socks(socks), "{socks}");
        }
        for other in ["socks.example:3128", "http://socks:1", "", "https://p"] {
            assert!(!is_socks(other), "{other}");
        }
    }
}
