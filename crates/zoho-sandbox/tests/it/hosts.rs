//! Which hosts the sandbox answers for, and which pages may use its control API.

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zoho_sandbox::Sandbox;

use crate::support::{ALL, Api, MIRA, http, sandbox};

/// The status and the body of a request as it is written here.
async fn raw(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

async fn get(port: u16, target: &str, headers: &str) -> (u16, String) {
    raw(
        port,
        &format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"),
    )
    .await
}

async fn with_host(port: u16, host: &str) -> (u16, String) {
    get(port, "/_sandbox/counts", &format!("Host: {host}\r\n")).await
}

fn port(sandbox: &Sandbox) -> u16 {
    let (_, port) = sandbox.accounts_url().rsplit_once(':').unwrap();
    port.parse().unwrap()
}

/// A page whose name resolves to 127.0.0.1 is of one origin with the sandbox for its browser, so
/// nothing but the name in its requests gives it away.
#[tokio::test]
async fn a_foreign_host_is_refused_on_every_route() {
    let sandbox = sandbox().await;
    let port = port(&sandbox);
    let code = format!(r#"{{"email":"{MIRA}","scopes":"ZohoCRM.modules.ALL"}}"#);
    for (method, path, body) in [
        ("GET", "/", ""),
        ("GET", "/oauth/v2/auth?client_id=1", ""),
        ("POST", "/oauth/v2/auth/signin", "request=1"),
        ("POST", "/oauth/v2/auth/consent", "request=1"),
        ("POST", "/oauth/v2/token", "grant_type=refresh_token"),
        ("POST", "/oauth/v2/token/revoke", "token=1"),
        ("POST", "/oauth/v2/revoke/token", "token=1"),
        ("GET", "/oauth/user/info", ""),
        ("GET", "/oauth/serverinfo", ""),
        ("GET", "/crm/v8/org", ""),
        ("GET", "/no/such/page", ""),
        ("PATCH", "/oauth/serverinfo", ""),
        ("GET", "/_sandbox", ""),
        ("GET", "/_sandbox/", ""),
        ("GET", "/_sandbox/counts", ""),
        ("GET", "/_sandbox/requests", ""),
        ("GET", "/_sandbox/people", ""),
        ("POST", "/_sandbox/codes", code.as_str()),
        ("POST", "/_sandbox/reset", ""),
        ("GET", "/_sandbox/no/such/call", ""),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: evil.test:{port}\r\n\
             Origin: http://evil.test:{port}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = raw(port, &request).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let text = answer["error"].as_str().unwrap();
        assert!(text.contains(sandbox.accounts_url()), "{text}");
    }
    // The second data center too.
    let (_, eu) = sandbox
        .center("eu")
        .accounts_url()
        .rsplit_once(':')
        .unwrap();
    let (status, _) = with_host(eu.parse().unwrap(), "evil.test").await;
    assert_eq!(status, 403);
    assert!(sandbox.requests().is_empty(), "nothing was carried out");
}

#[tokio::test]
async fn the_names_and_addresses_of_this_machine_are_good_with_the_right_port() {
    let sandbox = sandbox().await;
    let port = port(&sandbox);
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "localhost",
        "LocalHost",
        "localhost.",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
    ] {
        let (status, body) = with_host(port, &format!("{host}:{port}")).await;
        assert_eq!(status, 200, "{host}: {body}");
        for wrong in [host.to_owned(), format!("{host}:1"), format!("{host}:")] {
            assert_eq!(with_host(port, &wrong).await.0, 403, "{wrong}");
        }
    }
}

#[tokio::test]
async fn other_names_and_addresses_are_refused() {
    let sandbox = sandbox().await;
    let port = port(&sandbox);
    for host in [
        "evil.test",
        "evil.test.",
        "EVIL.TEST",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "127-0-0-1.evil.test",
        "evil.localhost",
        "localhost.localdomain",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.0.7",
        "128.0.0.1",
        "[::]",
        "[2001:db8::1]",
        "[::ffff:10.0.0.1]",
    ] {
        let (status, body) = with_host(port, &format!("{host}:{port}")).await;
        assert_eq!(status, 403, "{host}: {body}");
    }
    // What names no host at all.
    let good = format!("Host: 127.0.0.1:{port}\r\n");
    for headers in [
        String::new(),
        "Host: \r\n".into(),
        "Host: :80\r\n".into(),
        format!("Host: user@127.0.0.1:{port}\r\n"),
        format!("Host: 127.0.0.1:{port}, evil.test\r\n"),
        format!("Host: 127.0.0.1:{port}/x\r\n"),
        format!("Host: http://127.0.0.1:{port}\r\n"),
        format!("Host: ::1:{port}\r\n"),
        "Host: 127.0.0.1:99999\r\n".into(),
        format!("Host: 127.0.0.1:+{port}\r\n"),
        format!("Host: 127.0.0.1:-{port}\r\n"),
        format!("Host: \u{e9}vil:{port}\r\n"),
        format!("{good}{good}"),
        format!("{good}Host: evil.test:{port}\r\n"),
    ] {
        let (status, body) = get(port, "/_sandbox/counts", &headers).await;
        assert_eq!(status, 400, "{headers}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(body["error"].is_string());
    }
    let old = "GET /_sandbox/counts HTTP/1.0\r\n\r\n";
    assert_eq!(raw(port, old).await.0, 400);
}

/// Where the request target names a host, that is the one that counts (RFC 9112, section 3.2.2).
/// Both must be right.
#[tokio::test]
async fn a_host_in_the_request_target_is_checked_too() {
    let sandbox = sandbox().await;
    let port = port(&sandbox);
    let own = format!("127.0.0.1:{port}");
    let evil = format!("evil.test:{port}");
    for (target, host, expected) in [
        (&own, &own, 200),
        (&evil, &own, 403),
        (&own, &evil, 403),
        (&evil, &evil, 403),
    ] {
        let target = format!("http://{target}/_sandbox/counts");
        let (status, _) = get(port, &target, &format!("Host: {host}\r\n")).await;
        assert_eq!(status, expected, "{target} {host}");
    }
}

#[tokio::test]
async fn http_2_names_its_host_in_the_authority() {
    let sandbox = sandbox().await;
    let port = port(&sandbox);
    // Installs the provider of cryptography that every client wants.
    drop(http());
    // Only the name is foreign, as after DNS rebinding.
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .resolve("evil.test", ([127, 0, 0, 1], port).into())
        .no_proxy()
        .build()
        .unwrap();
    for (host, expected) in [("127.0.0.1", 200), ("localhost", 200), ("evil.test", 403)] {
        let url = format!("http://{host}:{port}/_sandbox/counts");
        let origin = format!("http://{host}:{port}");
        let request = client.get(url).header("Origin", origin);
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        assert_eq!(response.status().as_u16(), expected, "{host}");
    }
}

#[tokio::test]
async fn the_configured_address_is_good() {
    let named = Sandbox::builder()
        .listen("LOCALHOST:0")
        .start()
        .await
        .unwrap();
    let at = port(&named);
    assert_eq!(with_host(at, &format!("localhost:{at}")).await.0, 200);

    // On every address of the machine, any address may be asked: only a name can be rebound.
    let open = Sandbox::builder()
        .listen("0.0.0.0:0")
        .start()
        .await
        .unwrap();
    let at = port(&open);
    for (host, expected) in [
        ("192.168.0.7", 200),
        ("[2001:db8::1]", 200),
        ("evil.test", 403),
    ] {
        let host = format!("{host}:{at}");
        assert_eq!(with_host(at, &host).await.0, expected, "{host}");
    }

    // Mounted elsewhere, the address is the given one, with the usual port of its scheme.
    for (url, good, bad) in [
        (
            "https://crm.example.com",
            "crm.example.com",
            "crm.example.com:80",
        ),
        (
            "https://crm.example.com",
            "CRM.example.com.:443",
            "evil.test",
        ),
        (
            "http://crm.example.com/",
            "crm.example.com",
            "crm.example.com:443",
        ),
        (
            "http://crm.example.com:81/x",
            "crm.example.com:81",
            "crm.example.com",
        ),
        (
            "http://[2001:db8::1]:82",
            "[2001:db8:0::1]:82",
            "[2001:db8::2]:82",
        ),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().port();
        let sandbox = Sandbox::builder().mounted_at(url).unwrap();
        let routes = sandbox.router();
        let server = tokio::spawn(async move { axum_serve(listener, routes).await });
        assert_eq!(with_host(at, good).await.0, 200, "{url} {good}");
        assert_eq!(with_host(at, bad).await.0, 403, "{url} {bad}");
        server.abort();
    }
}

async fn axum_serve(listener: tokio::net::TcpListener, routes: axum::Router) {
    axum::serve(listener, routes).await.unwrap();
}

/// A form of another site needs no permission of its browser to be sent, and its answer is not
/// shown to the site; it must not be carried out either.
#[tokio::test]
async fn a_control_call_from_a_page_must_come_from_the_sandbox_itself() {
    let sandbox = sandbox().await;
    let port = port(&sandbox);
    let api = Api::new(&sandbox, MIRA, ALL);
    let reset = async |origin: &str, host: &str| {
        let request = format!(
            "POST /_sandbox/expire HTTP/1.1\r\nHost: {host}\r\n{origin}\
             Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        raw(port, &request).await
    };
    let own = format!("127.0.0.1:{port}");
    let named = format!("localhost:{port}");
    for origin in [
        "https://evil.test".to_owned(),
        "null".into(),
        String::new(),
        "http://localhost:3000".into(),
        format!("http://{named}"),
        format!("http://evil.test:{port}"),
        format!("ftp://{own}"),
        format!("http://{own}.evil.test"),
        "http://127.0.0.1".into(),
    ] {
        let (status, body) = reset(&format!("Origin: {origin}\r\n"), &own).await;
        assert_eq!(status, 403, "{origin}: {body}");
    }
    let two = format!("Origin: http://{own}\r\nOrigin: http://evil.test\r\n");
    assert_eq!(reset(&two, &own).await.0, 403);
    assert_eq!(api.get("org").await.0, 200, "nothing was ended");
    for (origin, host) in [
        (format!("Origin: http://{own}\r\n"), &own),
        (format!("Origin: http://LOCALHOST:{port}\r\n"), &named),
        (String::new(), &own),
    ] {
        assert_eq!(reset(&origin, host).await.0, 200, "{origin}");
    }
    assert_eq!(api.call(Method::GET, "org", None).await.0, 401);
}
