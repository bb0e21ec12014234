//! The accounts client: against servers that misbehave, behind proxies and TLS, against the
//! sandbox, and under a magnifying glass for secrets.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod answers;
mod redaction;
mod sandbox;
mod transport;

pub(crate) use transport::TlsServer;

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use zoho_oauth::{
    AccountsClient, ClientId, ClientSecret, DataCenter, Error, GrantToken, HttpOptions,
    OAuthClient, RefreshToken, Result, TokenAnswer,
};

pub(crate) const CLIENT_ID: &str = "1000.CLIENT";
pub(crate) const CLIENT_SECRET: &str = "s3cret-0f-the-client";
pub(crate) const GRANT: &str = "1000.gr4nt.c0de";
pub(crate) const REFRESH: &str = "1000.r3fresh.t0ken";
pub(crate) const ACCESS: &str = "1000.4ccess.t0ken";

pub(crate) fn accounts() -> AccountsClient {
    AccountsClient::new(&HttpOptions::new().no_proxy()).unwrap()
}

pub(crate) fn center(accounts_url: &str) -> DataCenter {
    let center = DataCenter::builder("test", accounts_url);
    center.allow_plain_http().build().unwrap()
}

pub(crate) fn client() -> OAuthClient {
    OAuthClient::new(CLIENT_ID, CLIENT_SECRET)
        .unwrap()
        .redirect_uri("https://portal.example/callback")
}

pub(crate) async fn refresh(accounts: &AccountsClient, center: &DataCenter) -> Result<TokenAnswer> {
    let id = ClientId::new(CLIENT_ID).unwrap();
    let secret = ClientSecret::new(CLIENT_SECRET).unwrap();
    let token = RefreshToken::new(REFRESH).unwrap();
    accounts.refresh(center, &id, &secret, &token).await
}

pub(crate) async fn exchange(
    accounts: &AccountsClient,
    center: &DataCenter,
) -> Result<TokenAnswer> {
    let code = GrantToken::new(GRANT).unwrap();
    accounts.exchange(center, &client(), &code, None).await
}

/// The error with all its causes, as a logger would print it: `Display` and `Debug` of each.
pub(crate) fn whole(error: &Error) -> String {
    let mut lines = vec![format!("{error} {error:?}")];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        lines.push(format!("caused by {error} {error:?}"));
        cause = error.source();
    }
    lines.join("\n")
}

/// Runs the test called `name` again, alone in a process of its own with these variables set, and
/// passes if it does there. `true` means: this is that process, go ahead.
pub(crate) fn alone_in_a_process(name: &str, variables: &[(&str, &str)]) -> bool {
    const MARK: &str = "ZOHO_OAUTH_TEST_ALONE";
    #[expect(
        clippy::disallowed_methods,
        reason = "how a test knows its child process"
    )]
    let marked = std::env::var_os(MARK);
    if marked.is_some_and(|marked| marked == name) {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(MARK, name)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}

pub(crate) fn block_on(future: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future);
}

/// A server made by hand: answers every request with the same bytes and closes the connection.
pub(crate) struct RawServer {
    pub(crate) url: String,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl RawServer {
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Self::answering_behind(Arc::new(gate), answer).await
    }

    /// Each answer takes one permit of the gate, and waits until there is one.
    pub(crate) async fn answering_behind(gate: Arc<Semaphore>, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                gate.acquire().await.unwrap().forget();
                // The client may have gone away: that is its right.
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Self {
            url,
            requests,
            task,
        }
    }

    pub(crate) async fn json(body: &str) -> Self {
        Self::answering(http("200 OK", "application/json", body)).await
    }

    pub(crate) fn center(&self) -> DataCenter {
        center(&self.url)
    }

    /// The requests as they came, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn http(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads a request to the end of its body, or to where the client stops.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let done = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            body.len() >= length
        });
        if count == 0 || done {
            return text.into_owned();
        }
    }
}
