//! The way to the server: proxies, certificates, and options that make no sense.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zoho_oauth::{
    AccountsClient, Authenticator, Credential, ErrorCode, HttpOptions, ListStore, OAuthClient,
    RefreshToken,
};

use super::{
    ACCESS, CLIENT_ID, CLIENT_SECRET, REFRESH, RawServer, alone_in_a_process, block_on, center,
    http, refresh, whole,
};

const TOKENS: &str = r#"{"access_token":"1000.4ccess.t0ken"}"#;
const PASSWORD: &str = "pr0xy-p4ssword";

/// The same server as a proxy that wants a password.
fn with_password(url: &str) -> String {
    url.replace("http://", &format!("http://me:{PASSWORD}@"))
}

#[tokio::test]
async fn other_machines_are_reached_through_the_proxy() {
    let proxy = RawServer::json(TOKENS).await;
    let options = HttpOptions::new().proxy(with_password(&proxy.url));
    let accounts = AccountsClient::new(&options).unwrap();
    let far = center("http://accounts.example");
    let tokens = refresh(&accounts, &far).await.unwrap();
    assert_eq!(tokens.access_token.expose_secret(), ACCESS);
    let request = proxy.requests().remove(0);
    assert!(request.starts_with("POST http://accounts.example/oauth/v2/token HTTP/1.1\r\n"));
    // "me:pr0xy-p4ssword" in base64.
    let authorization = "proxy-authorization: basic bwu6chiwehktcdrzc3dvcmq=";
    assert!(request.to_ascii_lowercase().contains(authorization));
}

/// As the variables of the environment are read.
#[tokio::test]
async fn a_proxy_without_a_scheme_is_an_http_proxy() {
    let proxy = RawServer::json(TOKENS).await;
    let bare = proxy.url.replace("http://", "");
    let port = bare.rsplit_once(':').unwrap().1;
    for text in [
        bare.clone(),
        format!("localhost:{port}"),
        format!("me:{PASSWORD}@{bare}"),
    ] {
        let accounts = AccountsClient::new(&HttpOptions::new().proxy(&text)).unwrap();
        let tokens = refresh(&accounts, &center("http://accounts.example")).await;
        assert_eq!(tokens.unwrap().access_token.expose_secret(), ACCESS);
    }
    assert_eq!(proxy.requests().len(), 3);
    for text in ["[::1]:3128", "proxy", "proxy.example:3128"] {
        assert!(
            AccountsClient::new(&HttpOptions::new().proxy(text)).is_ok(),
            "{text}"
        );
    }
}

#[tokio::test]
async fn this_machine_is_reached_past_the_proxy() {
    let proxy = RawServer::json("{}").await;
    let server = RawServer::json(TOKENS).await;
    let accounts = AccountsClient::new(&HttpOptions::new().proxy(&proxy.url)).unwrap();
    assert!(refresh(&accounts, &server.center()).await.is_ok());
    let by_name = server.url.replace("127.0.0.1", "localhost");
    assert!(refresh(&accounts, &center(&by_name)).await.is_ok());
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn the_password_of_a_proxy_that_fails_is_in_no_error() {
    let nowhere = RawServer::json("").await;
    let refusing = RawServer::answering(http(
        "407 Proxy Authentication Required",
        "text/html",
        "<html>who are you</html>",
    ))
    .await;
    let closed = nowhere.url.clone();
    drop(nowhere);
    for proxy in [&closed, &refusing.url] {
        let options = HttpOptions::new().proxy(with_password(proxy));
        assert!(!format!("{options:?}").contains(PASSWORD));
        let accounts = AccountsClient::new(&options).unwrap();
        assert!(!format!("{accounts:?}").contains(PASSWORD));
        for far in ["http://accounts.example", "https://accounts.example"] {
            let error = refresh(&accounts, &center(far)).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Network, "{far} {error:?}");
            for secret in [PASSWORD, "bWU6cHIweHktcDRzc3dvcmQ="] {
                assert!(!whole(&error).contains(secret), "{}", whole(&error));
            }
        }
    }
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let zero = std::time::Duration::ZERO;
    for (options, said) in [
        (HttpOptions::new().connect_timeout(zero), "connect time-out"),
        (HttpOptions::new().read_timeout(zero), "read time-out"),
        (HttpOptions::new().timeout(zero), "time-out"),
        (HttpOptions::new().proxy(""), "proxy"),
        (HttpOptions::new().proxy(format!("me:{PASSWORD}@")), "proxy"),
        (
            HttpOptions::new().proxy(format!("ftp://me:{PASSWORD}@proxy")),
            "proxy",
        ),
        (
            HttpOptions::new().proxy(format!("me:{PASSWORD}@proxy:99999")),
            "proxy",
        ),
        (
            HttpOptions::new().proxy(format!("socks5://me:{PASSWORD}@proxy")),
            "SOCKS",
        ),
        (
            HttpOptions::new().proxy(format!("http://me:{PASSWORD}@proxy:99999")),
            "proxy",
        ),
        (HttpOptions::new().user_agent("a\nb"), "user agent"),
        (
            HttpOptions::new().root_certificates("no certificate"),
            "root certificates",
        ),
        (
            HttpOptions::new().root_certificates(
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
            "root certificates",
        ),
    ] {
        let error = AccountsClient::new(&options).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{said}");
        assert!(error.message().contains(said), "{error}");
        assert!(!whole(&error).contains(PASSWORD), "{}", whole(&error));
    }
}

#[tokio::test]
async fn the_application_is_named_before_us() {
    let server = RawServer::json(TOKENS).await;
    let options = HttpOptions::new().user_agent("portal/1.0");
    let accounts = AccountsClient::new(&options).unwrap();
    refresh(&accounts, &server.center()).await.unwrap();
    let request = server.requests().remove(0);
    assert!(
        request.contains("user-agent: portal/1.0 zohocrm-rust/0."),
        "{request}"
    );
}

/// One TLS connection on a thread of its own; its result is the protocol that was agreed on.
pub(crate) struct TlsServer {
    pub(crate) url: String,
    root_pem: String,
    thread: std::thread::JoinHandle<std::io::Result<Option<Vec<u8>>>>,
}

impl TlsServer {
    pub(crate) fn start(protocols: &[&[u8]]) -> Self {
        Self::with("localhost", protocols, |_| {})
    }

    /// With a certificate for this name that is its own authority.
    fn with(
        name: &str,
        protocols: &[&[u8]],
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Self {
        let mut wanted = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut wanted);
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let cert = wanted.self_signed(&signing_key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept()?;
            let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut socket)?;
            }
            let agreed = tls.alpn_protocol().map(<[u8]>::to_vec);
            if agreed.is_none() {
                let mut stream = rustls::Stream::new(&mut tls, &mut socket);
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.ends_with(b"refresh_token=1000.r3fresh.t0ken") {
                    let count = stream.read(&mut buffer)?;
                    request.extend_from_slice(&buffer[..count]);
                }
                stream.write_all(&http("200 OK", "application/json", TOKENS))?;
                tls.send_close_notify();
                tls.complete_io(&mut socket)?;
            }
            Ok(agreed)
        });
        Self {
            url: format!("https://localhost:{port}"),
            root_pem: cert.pem(),
            thread,
        }
    }
}

#[tokio::test]
async fn an_extra_certificate_authority_is_trusted() {
    let server = TlsServer::start(&[]);
    let options = HttpOptions::new().root_certificates(&server.root_pem);
    let accounts = AccountsClient::new(&options).unwrap();
    let tokens = refresh(&accounts, &center(&server.url)).await.unwrap();
    assert_eq!(tokens.access_token.expose_secret(), ACCESS);
    server.thread.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_of_nobody_known_is_refused() {
    let server = TlsServer::start(&[]);
    let accounts = AccountsClient::new(&HttpOptions::new()).unwrap();
    let error = refresh(&accounts, &center(&server.url)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CertificateRefused);
    assert!(whole(&error).contains("UnknownIssuer"), "{}", whole(&error));
    let said = "could not connect: the certificate of the server is of an authority that is not \
        trusted here";
    assert!(error.message().ends_with(said), "{error}");
    assert!(server.thread.join().unwrap().is_err());
}

#[tokio::test]
async fn a_certificate_that_is_refused_says_why_and_is_not_transient() {
    type Change = fn(&mut rcgen::CertificateParams);
    let nothing: Change = |_| {};
    let expired: Change = |wanted| {
        wanted.not_before = rcgen::date_time_ymd(2020, 1, 1);
        wanted.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let early: Change = |wanted| wanted.not_before = rcgen::date_time_ymd(2090, 1, 1);
    for (name, change, said) in [
        ("localhost", expired, "has expired"),
        ("localhost", early, "is not valid yet"),
        ("accounts.example", nothing, "is for another host name"),
    ] {
        let server = TlsServer::with(name, &[], change);
        let options = HttpOptions::new().root_certificates(&server.root_pem);
        let accounts = AccountsClient::new(&options).unwrap();
        let error = refresh(&accounts, &center(&server.url)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::CertificateRefused, "{error:?}");
        assert_eq!(error.kind(), zoho_oauth::ErrorKind::Network);
        assert!(!error.is_transient());
        let text = format!("could not connect: the certificate of the server {said}");
        assert!(error.message().contains(&text), "{error}");
        assert!(server.thread.join().unwrap().is_err());
    }
}

/// Accepts connections, reads something of each, answers and closes; counts them.
fn plain_server(answer: &'static [u8]) -> (u16, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(answer);
        }
    });
    (port, count)
}

/// A login that is refreshed again and again would only be refused again and again.
#[tokio::test]
async fn a_refused_certificate_is_not_tried_again() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
            let mut socket = socket.unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut socket).is_ok() {}
        }
    });
    let client = OAuthClient::new(CLIENT_ID, CLIENT_SECRET).unwrap();
    let auth = Authenticator::builder(ListStore::new())
        .client(client.clone())
        .data_center(center(&url))
        .build()
        .unwrap();
    let login = Credential::refresh(client, RefreshToken::new(REFRESH).unwrap());
    let session = auth.session(login).await;
    let error = match session {
        Ok(session) => session.access_token().await.unwrap_err(),
        Err(error) => error,
    };
    let texts = whole(&error);
    assert!(texts.contains("certificate_refused"), "{texts}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tls_asked_of_a_plain_server_says_so() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"-ERR unknown\r\n",
        b"",
    ] {
        let (port, _) = plain_server(answer);
        let far = center(&format!("https://localhost:{port}"));
        let error = refresh(&http_accounts(), &far).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Network);
        let said = error.message();
        assert!(said.contains("could not connect: the "), "{said}");
        assert!(said.contains("speak TLS at this port"), "{said}");
    }
}

#[tokio::test]
async fn plain_http_asked_of_a_tls_server_says_so() {
    let server = TlsServer::start(&[]);
    let url = server.url.replace("https://", "http://");
    let error = refresh(&http_accounts(), &center(&url)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Network);
    let said = "the answer is not HTTP: the server may want https at this port";
    assert!(error.message().ends_with(said), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_refuses_says_so() {
    for (answer, said) in [
        (
            http("403 Forbidden", "text/html", "<html>not allowed</html>"),
            "could not connect: the proxy refused to connect to the server",
        ),
        (
            b"<html>log in to this network</html>".to_vec(),
            "could not connect: the proxy refused to connect to the server",
        ),
        (
            http("407 Proxy Authentication Required", "text/html", "<html>"),
            "could not connect: the proxy wants a user name and a password",
        ),
        (b"".to_vec(), "could not connect: the proxy broke off"),
        (
            http("200 OK", "text/html", "<html>log in to this network</html>"),
            "the server, or a proxy before it, may not speak TLS",
        ),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let proxy = RawServer::answering(answer).await;
        let accounts = AccountsClient::new(&HttpOptions::new().proxy(&proxy.url)).unwrap();
        let far = center("https://accounts.example");
        let error = refresh(&accounts, &far).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Network, "{shown}");
        assert!(error.message().contains(said), "{shown}: {error:?}");
    }
}

/// In processes of their own, since the HTTP client reads the environment.
#[test]
fn a_socks_proxy_of_the_environment_is_named() {
    const NAME: &str = "accounts::transport::a_socks_proxy_of_the_environment_is_named";
    // What a SOCKS server says to what is not SOCKS.
    let (port, _) = plain_server(b"\x05\xff");
    let url = format!("socks5://127.0.0.1:{port}");
    if alone_in_a_process(NAME, &[("ALL_PROXY", &url)]) {
        block_on(async {
            for far in ["https://accounts.example", "http://accounts.example"] {
                let error = refresh(&http_accounts(), &center(far)).await.unwrap_err();
                assert_eq!(error.code(), ErrorCode::Network, "{error:?}");
                let said = "`ALL_PROXY` names a SOCKS proxy, which is not supported";
                assert!(error.message().contains(said), "{far}: {error:?}");
            }
            // Whoever sets another proxy has no use for the variable.
            let proxy = RawServer::answering(http("403 x", "text/html", "")).await;
            let accounts = AccountsClient::new(&HttpOptions::new().proxy(&proxy.url)).unwrap();
            let error = refresh(&accounts, &center("https://accounts.example")).await;
            let error = error.unwrap_err();
            assert!(!error.message().contains("ALL_PROXY"), "{error:?}");
        });
    }
}

fn http_accounts() -> AccountsClient {
    AccountsClient::new(&HttpOptions::new()).unwrap()
}

#[tokio::test]
async fn http_2_is_offered() {
    let server = TlsServer::start(&[b"h2"]);
    let options = HttpOptions::new().root_certificates(&server.root_pem);
    let accounts = AccountsClient::new(&options).unwrap();
    let error = refresh(&accounts, &center(&server.url)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Network);
    let agreed = server.thread.join().unwrap().unwrap();
    assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
}

/// In a process of its own, since the system's certificates are found through its environment.
#[test]
fn without_certificate_authorities_plain_http_works_and_tls_says_why_not() {
    const NAME: &str = "accounts::transport::without_certificate_authorities_plain_http_works_and_tls_says_why_not";
    let nowhere = [
        ("SSL_CERT_FILE", "/nowhere/at/all"),
        ("SSL_CERT_DIR", "/nowhere/at/all"),
    ];
    if alone_in_a_process(NAME, &nowhere) {
        block_on(without_certificate_authorities());
    }
}

async fn without_certificate_authorities() {
    let accounts = AccountsClient::new(&HttpOptions::new()).unwrap();
    let plain = RawServer::json(TOKENS).await;
    assert!(refresh(&accounts, &plain.center()).await.is_ok());
    let server = TlsServer::start(&[]);
    let error = refresh(&accounts, &center(&server.url)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CertificateRefused);
    assert!(
        whole(&error).contains("No CA certificates"),
        "{}",
        whole(&error)
    );
    // A named authority is enough, with no other in the system.
    let server = TlsServer::start(&[]);
    let options = HttpOptions::new().root_certificates(&server.root_pem);
    let accounts = AccountsClient::new(&options).unwrap();
    assert!(refresh(&accounts, &center(&server.url)).await.is_ok());
}
