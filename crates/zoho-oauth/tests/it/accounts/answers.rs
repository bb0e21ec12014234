//! What is sent, and what comes of answers that no accounts server should give.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};
use zoho_oauth::{CodeVerifier, ErrorCode, RefreshToken, Revocation, Timestamp};

use super::{
    ACCESS, CLIENT_ID, CLIENT_SECRET, GRANT, REFRESH, RawServer, accounts, center, client,
    exchange, http, read_request, refresh,
};

const TOKENS: &str = r#"{"access_token":"1000.4ccess.t0ken","api_domain":"https://www.zohoapis.eu","expires_in":3600}"#;

async fn answering(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

/// The one request that came: its form, after a check of everything around it.
async fn form_sent_to(server: &MockServer, path: &str) -> Vec<(String, String)> {
    let requests = server.received_requests().await.unwrap();
    let [request] = &requests[..] else {
        panic!("{} requests instead of one", requests.len());
    };
    assert_eq!(request.method.as_str(), "POST");
    assert_eq!(request.url.path(), path);
    assert_eq!(request.url.query(), None);
    let header = |name: &str| Some(request.headers.get(name)?.to_str().unwrap());
    assert_eq!(
        header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(header("accept"), Some("application/json"));
    assert!(header("user-agent").unwrap().starts_with("zohocrm-rust/"));
    for absent in ["authorization", "cookie", "referer"] {
        assert_eq!(header(absent), None);
    }
    url::form_urlencoded::parse(&request.body)
        .into_owned()
        .collect()
}

fn fields<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    pairs.map(owned).to_vec()
}

#[tokio::test]
async fn an_exchange_sends_its_secrets_in_the_form_and_nowhere_else() {
    let server =
        answering(ResponseTemplate::new(200).set_body_raw(TOKENS, "application/json")).await;
    let verifier = CodeVerifier::new("v3rifier").unwrap();
    let code = zoho_oauth::GrantToken::new(GRANT).unwrap();
    let before = Timestamp::now();
    let tokens = accounts()
        .exchange(&center(&server.uri()), &client(), &code, Some(&verifier))
        .await
        .unwrap();
    assert_eq!(tokens.access_token.expose_secret(), ACCESS);
    assert!(tokens.expires_at >= before.after(tokens.life));
    assert!(tokens.expires_at <= Timestamp::now().after(tokens.life));
    let form = form_sent_to(&server, "/oauth/v2/token").await;
    let expected = fields([
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("code", GRANT),
        ("redirect_uri", "https://portal.example/callback"),
        ("code_verifier", "v3rifier"),
    ]);
    assert_eq!(form, expected);
}

#[tokio::test]
async fn the_life_is_counted_from_before_the_request_arrived() {
    let (note, arrived) = std::sync::mpsc::channel();
    let server = MockServer::start().await;
    let answer = move |_: &wiremock::Request| {
        let now = Timestamp::now();
        note.send(now).unwrap();
        while Timestamp::now() == now {
            std::thread::yield_now();
        }
        ResponseTemplate::new(200).set_body_raw(TOKENS, "application/json")
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let tokens = refresh(&accounts(), &center(&server.uri())).await.unwrap();
    assert!(tokens.expires_at <= arrived.recv().unwrap().after(tokens.life));
}

#[tokio::test]
async fn a_self_client_sends_no_redirect_uri() {
    let server =
        answering(ResponseTemplate::new(200).set_body_raw(TOKENS, "application/json")).await;
    let client = zoho_oauth::OAuthClient::new(CLIENT_ID, CLIENT_SECRET).unwrap();
    let code = zoho_oauth::GrantToken::new(GRANT).unwrap();
    let accounts = accounts();
    let center = center(&server.uri());
    let answer = accounts.exchange(&center, &client, &code, None);
    answer.await.unwrap();
    let form = form_sent_to(&server, "/oauth/v2/token").await;
    assert!(
        form.iter()
            .all(|(name, _)| name != "redirect_uri" && name != "code_verifier")
    );
}

#[tokio::test]
async fn a_refresh_sends_four_fields() {
    let server =
        answering(ResponseTemplate::new(200).set_body_raw(TOKENS, "application/json")).await;
    let tokens = refresh(&accounts(), &center(&server.uri())).await.unwrap();
    assert_eq!(tokens.refresh_token, None);
    let form = form_sent_to(&server, "/oauth/v2/token").await;
    let expected = fields([
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("refresh_token", REFRESH),
    ]);
    assert_eq!(form, expected);
}

#[tokio::test]
async fn a_revocation_sends_the_token_alone() {
    let success = r#"{"status":"success"}"#;
    let server =
        answering(ResponseTemplate::new(200).set_body_raw(success, "application/json")).await;
    let token = RefreshToken::new(REFRESH).unwrap();
    let done = accounts().revoke(&center(&server.uri()), &token).await;
    assert_eq!(done.unwrap(), Revocation::Revoked);
    let form = form_sent_to(&server, "/oauth/v2/token/revoke").await;
    assert_eq!(form, fields([("token", REFRESH)]));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere =
        answering(ResponseTemplate::new(200).set_body_raw(TOKENS, "application/json")).await;
    for status in [301, 302, 303, 307, 308] {
        let redirect = ResponseTemplate::new(status).insert_header("location", elsewhere.uri());
        let server = answering(redirect).await;
        let error = refresh(&accounts(), &center(&server.uri()))
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnexpectedAnswer, "{status}");
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_page_may_pass() {
    let page = ResponseTemplate::new(200).set_body_raw("<html>maintenance</html>", "text/html");
    let server = answering(page).await;
    let error = refresh(&accounts(), &center(&server.uri()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::ServerError);
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_wait_named_by_the_server_is_kept() {
    let busy = ResponseTemplate::new(503).insert_header("retry-after", "120");
    let server = answering(busy).await;
    let error = refresh(&accounts(), &center(&server.uri()))
        .await
        .unwrap_err();
    let wait = error.retry_after().unwrap().as_secs();
    assert!((100..=120).contains(&wait), "{wait}");
}

#[tokio::test]
async fn an_endless_answer_is_read_no_further_than_needed() {
    // The first part alone would be a verdict.
    let body = format!(r#"{{"error":"invalid_code"}}{}"#, " ".repeat(100_000));
    let server = answering(ResponseTemplate::new(200).set_body_raw(body, "application/json")).await;
    let error = refresh(&accounts(), &center(&server.uri()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::ServerError);

    // An empty body with this status would be one too.
    let page = ResponseTemplate::new(400).set_body_raw(" ".repeat(100_000), "text/plain");
    let server = answering(page).await;
    let token = RefreshToken::new(REFRESH).unwrap();
    let done = accounts().revoke(&center(&server.uri()), &token).await;
    assert_eq!(done.unwrap_err().code(), ErrorCode::ServerError);
}

#[tokio::test]
async fn a_cut_connection_is_the_network_and_is_not_tried_again() {
    let mut half = http("200 OK", "application/json", TOKENS);
    half.truncate(half.len() - 20);
    let cut_verdict = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"error\":\"invalid_code\"}";
    for answer in [&b""[..], b"HTTP/1.1 2", &half, cut_verdict] {
        let server = RawServer::answering(answer).await;
        let error = exchange(&accounts(), &server.center()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Network, "{error:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_is_not_http_is_the_network() {
    let server = RawServer::answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    let error = refresh(&accounts(), &server.center()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Network);
}

#[tokio::test]
async fn nobody_listening_is_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = refresh(&accounts(), &center(&url)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Network);
    assert!(error.message().contains("could not connect"), "{error}");
}

/// The clock of the test stands still and jumps ahead whenever all tasks wait, so nobody waits.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_a_time_out() {
    // The kernel accepts connections for a listener that nobody serves.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let error = refresh(&accounts(), &center(&url)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout, "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_drips_is_a_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n";
        stream.write_all(head).await.unwrap();
        // Never silent for as long as the read time-out, 200 seconds in all.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            if stream.write_all(b" ").await.is_err() {
                break;
            }
        }
    });
    let error = refresh(&accounts(), &center(&url)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout, "{error:?}");
    server.abort();
}
