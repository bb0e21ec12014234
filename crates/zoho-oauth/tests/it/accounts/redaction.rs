//! Everything that is printed while secrets are at work, searched for them.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;
use zoho_oauth::{AccountsClient, CodeVerifier, GrantToken, HttpOptions, RefreshToken};

use super::{
    ACCESS, CLIENT_SECRET, GRANT, REFRESH, RawServer, alone_in_a_process, block_on, center, client,
    http, refresh, whole,
};

/// Where the log goes.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

const PASSWORD: &str = "pr0xy-p4ssword";
const VERIFIER: &str = "v3rifier-v3rifier";
const ISSUED: &str = "1000.n3w.refresh";

/// In a process of its own: whether an event is wanted at all is remembered for the process, so
/// tests without a subscriber on other threads would make holes in the net.
#[test]
fn no_secret_is_printed_by_us_or_by_the_http_client() {
    const NAME: &str = "accounts::redaction::no_secret_is_printed_by_us_or_by_the_http_client";
    if alone_in_a_process(NAME, &[]) {
        block_on(everything_is_searched());
    }
}

async fn everything_is_searched() {
    let log = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // Also takes what is said through the crate `log`. For this thread, on which all tasks run.
    let guard = subscriber.set_default();
    let mut printed = Vec::new();

    let tokens = format!(r#"{{"access_token":"{ACCESS}","refresh_token":"{ISSUED}"}}"#);
    let mut cut = http("200 OK", "application/json", &tokens);
    cut.truncate(cut.len() - 2);
    let answers = [
        http("200 OK", "application/json", &tokens),
        http("200 OK", "application/json", r#"{"error":"invalid_code"}"#),
        // A server, or a proxy, that repeats what it was sent.
        http(
            "400 No",
            "application/json",
            &format!(r#"{{"error":"{REFRESH}-4a5b6c7d8e9f"}}"#),
        ),
        http(
            "500 No",
            "text/html",
            &format!("<html>{CLIENT_SECRET} {REFRESH} {GRANT}</html>"),
        ),
        http(
            "302 Found\r\nLocation: https://elsewhere.example/",
            "text/plain",
            "",
        ),
        cut,
        format!("HTTP/1.1 200 {ACCESS}\r\nbroken header {REFRESH}\r\n\r\n").into_bytes(),
    ];
    for answer in answers {
        let server = RawServer::answering(answer).await;
        let proxy = server
            .url
            .replace("http://", &format!("http://me:{PASSWORD}@"));
        let options = HttpOptions::new().proxy(proxy);
        let accounts = AccountsClient::new(&options).unwrap();
        printed.push(format!("{options:?} {accounts:?}"));
        // Once past the proxy, once through it, once through a tunnel that does not open.
        for url in [&*server.url, "http://far.example", "https://far.example"] {
            let center = center(url);
            let code = GrantToken::new(GRANT).unwrap();
            let verifier = CodeVerifier::new(VERIFIER).unwrap();
            let token = RefreshToken::new(REFRESH).unwrap();
            let exchanged = accounts
                .exchange(&center, &client(), &code, Some(&verifier))
                .await;
            let refreshed = refresh(&accounts, &center).await;
            let revoked = accounts.revoke(&center, &token).await;
            printed.push(format!("{exchanged:?} {refreshed:?} {revoked:?}"));
            let errors = [exchanged.err(), refreshed.err(), revoked.err()];
            for error in errors.into_iter().flatten() {
                printed.push(whole(&error));
            }
        }
    }
    drop(guard);

    let (log, printed) = (log.text(), printed.join("\n"));
    // The net is whole: our events, and those of the client below us at the finest level.
    for source in [
        "asked the accounts server",
        "hyper_util::client",
        "reqwest::connect",
    ] {
        assert!(log.contains(source), "nothing of `{source}` was captured");
    }
    for operation in ["exchange", "refresh", "revoke"] {
        assert!(log.contains(&format!("operation=\"{operation}\"")));
    }
    for secret in [
        CLIENT_SECRET,
        GRANT,
        REFRESH,
        ACCESS,
        ISSUED,
        VERIFIER,
        PASSWORD,
        "bWU6cHIweHktcDRzc3dvcmQ",
    ] {
        for (what, text) in [("the log", &log), ("a value or an error", &printed)] {
            if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                panic!("{what} holds a secret: {line}");
            }
        }
    }
}
