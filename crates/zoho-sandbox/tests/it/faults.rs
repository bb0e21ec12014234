//! Faults on request, the log, the counts and the control API.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use zoho_sandbox::{Endpoint, Fault};

use crate::support::{ALL, Api, MIRA, exchange, http, refresh, sandbox, token_response};

#[tokio::test]
async fn token_requests_can_be_throttled_broken_or_hidden_behind_html() {
    let sandbox = sandbox().await;
    let (refresh_token, _) = sandbox.login(MIRA, ALL);
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.as_str()),
    ];
    sandbox.inject(Fault::throttle().times(2));
    sandbox.inject(Fault::status(503).on(Endpoint::Refresh));
    sandbox.inject(Fault::html().on(Endpoint::Refresh));
    for _ in 0..2 {
        let response = token_response(&sandbox, &fields).await;
        assert_eq!(response.status(), 400);
        assert_eq!(
            response.json::<Value>().await.unwrap()["error"],
            "Access Denied"
        );
    }
    assert_eq!(token_response(&sandbox, &fields).await.status(), 503);
    let response = token_response(&sandbox, &fields).await;
    assert_eq!(
        response.headers()["content-type"],
        "text/html;charset=UTF-8"
    );
    assert!(
        response
            .text()
            .await
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    assert!(refresh(&sandbox, &refresh_token).await["access_token"].is_string());
    let counts = sandbox.counts();
    assert_eq!(counts.refreshes_ok, 1);
    assert_eq!(counts.refreshes_failed, 4);
    assert_eq!(counts.refreshes_throttled, 2);
    assert_eq!(counts.refreshes_of(&refresh_token), 5);
}

#[tokio::test]
async fn a_fault_aims_at_its_endpoint_only() {
    let sandbox = sandbox().await;
    sandbox.inject(Fault::status(500).on(Endpoint::Refresh).always());
    let answer = exchange(&sandbox, &sandbox.grant_code(MIRA, ALL)).await;
    assert!(answer["access_token"].is_string());
    let refresh_token = answer["refresh_token"].as_str().unwrap();
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    ];
    for _ in 0..3 {
        assert_eq!(token_response(&sandbox, &fields).await.status(), 500);
    }
    sandbox.clear_faults();
    assert_eq!(token_response(&sandbox, &fields).await.status(), 200);
}

#[tokio::test]
async fn a_broken_answer_still_uses_the_code_up() {
    let sandbox = sandbox().await;
    for fault in [Fault::malformed_json(), Fault::cut()] {
        sandbox.inject(fault.on(Endpoint::CodeExchange));
        let code = sandbox.grant_code(MIRA, ALL);
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
        ];
        let response = token_response(&sandbox, &fields).await;
        assert!(
            response.json::<Value>().await.is_err(),
            "there is no whole JSON"
        );
        assert_eq!(exchange(&sandbox, &code).await["error"], "invalid_code");
    }
}

#[tokio::test]
async fn a_cut_is_an_error_of_the_connection_not_a_short_answer() {
    let sandbox = sandbox().await;
    let (_, token) = sandbox.login(MIRA, ALL);
    sandbox.inject(Fault::cut().on(Endpoint::Api));
    let response = http()
        .get(format!("{}/crm/v8/org", sandbox.api_url()))
        .header("Authorization", format!("Bearer {token}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn answers_can_be_held_back() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    sandbox.inject(Fault::delay(Duration::from_millis(300)).on(Endpoint::Api));
    let before = Instant::now();
    assert_eq!(api.get("org").await.0, 200);
    assert!(before.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn token_answers_can_lack_fields_or_be_in_the_old_manner() {
    let sandbox = sandbox().await;
    sandbox.inject(Fault::no_refresh_token());
    let answer = exchange(&sandbox, &sandbox.grant_code(MIRA, ALL)).await;
    assert!(answer["refresh_token"].is_null() && answer["access_token"].is_string());
    let (refresh_token, _) = sandbox.login(MIRA, ALL);
    sandbox.inject(Fault::no_expires_in());
    assert!(refresh(&sandbox, &refresh_token).await["expires_in"].is_null());
    sandbox.inject(Fault::legacy_expiry());
    let answer = refresh(&sandbox, &refresh_token).await;
    assert_eq!(answer["expires_in"], 3_600_000);
    assert_eq!(answer["expires_in_sec"], 3600);
}

#[tokio::test]
async fn api_calls_can_be_refused_though_the_token_is_good() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    sandbox.inject(Fault::invalid_token().times(2));
    for _ in 0..2 {
        let (status, body) = api.get("org").await;
        assert_eq!((status, &body["code"]), (401, &json!("INVALID_TOKEN")));
    }
    assert_eq!(api.get("org").await.0, 200);
    sandbox.inject(Fault::throttle().on(Endpoint::Api));
    let (status, body) = api.get("org").await;
    assert_eq!((status, &body["code"]), (429, &json!("TOO_MANY_REQUESTS")));
    let counts = sandbox.counts();
    assert_eq!((counts.api_calls, counts.api_unauthorized), (4, 2));
}

#[tokio::test]
async fn the_log_has_queries_but_no_credentials() {
    let sandbox = sandbox().await;
    let (_, token) = sandbox.login(MIRA, ALL);
    let api = Api::with_token(sandbox.api_url(), &token);
    api.get("Leads?fields=Last_Name").await;
    let requests = sandbox.requests();
    let [request] = requests.as_slice() else {
        panic!("one request, not {}", requests.len());
    };
    assert_eq!(request.method, "GET");
    assert_eq!(request.path_and_query, "/crm/v8/Leads?fields=Last_Name");
    assert_eq!((request.status, request.center.as_str()), (200, "us"));
    let header = request
        .headers
        .iter()
        .find(|(name, _)| name == "authorization")
        .unwrap();
    assert_eq!(header.1, "[redacted]");
    assert!(!format!("{request:?}").contains(&token));
}

#[tokio::test]
async fn the_log_is_bounded_in_bytes_and_says_what_went() {
    let sandbox = zoho_sandbox::Sandbox::builder()
        .request_log_bytes(100_000)
        .start()
        .await
        .unwrap();
    let send = async |number: usize, length: usize| {
        http()
            .get(format!(
                "{}/oauth/serverinfo?n={number}",
                sandbox.accounts_url()
            ))
            .header("X-Long", "x".repeat(length))
            .send()
            .await
            .unwrap();
    };
    for number in 0..40 {
        send(number, 9_000).await;
    }
    let kept = sandbox.requests();
    assert!((8..=11).contains(&kept.len()), "{} are kept", kept.len());
    assert!(kept.last().unwrap().path_and_query.ends_with("n=39"));
    let dropped = 40 - kept.len() as u64;
    assert_eq!(sandbox.counts().requests_dropped, dropped);
    let control = async |path: &str| {
        let url = format!("{}{path}", sandbox.control_url());
        http().get(url).send().await.unwrap()
    };
    let listed = control("/requests").await;
    let header = listed.headers()["x-sandbox-requests-dropped"].clone();
    assert_eq!(header, dropped.to_string().as_str());
    let counts: Value = control("/counts").await.json().await.unwrap();
    assert_eq!(counts["requests_dropped"], dropped);

    // One that is larger than the whole log takes nothing else with it.
    send(40, 150_000).await;
    assert_eq!(sandbox.requests().len(), kept.len());
    assert_eq!(sandbox.counts().requests_dropped, dropped + 1);

    sandbox.reset();
    assert_eq!(sandbox.counts(), zoho_sandbox::Counts::default());
    send(41, 9_000).await;
    assert_eq!(sandbox.requests().len(), 1);
}

#[tokio::test]
async fn the_control_api_does_what_the_handle_does() {
    let sandbox = sandbox().await;
    let control = async |method: Method, path: &str, body: Value| {
        let url = format!("{}{path}", sandbox.control_url());
        let mut request = http().request(method, url);
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    let asked = json!({ "email": MIRA, "scopes": ALL });
    let (status, code) = control(Method::POST, "/codes", asked).await;
    assert_eq!((status, &code["location"]), (200, &json!("us")));
    let answer = exchange(&sandbox, code["code"].as_str().unwrap()).await;
    let api = Api::with_token(sandbox.api_url(), answer["access_token"].as_str().unwrap());

    let fault = json!({ "effect": "status", "status": 502, "endpoint": "api", "times": 1 });
    assert_eq!(
        control(Method::POST, "/faults", fault.clone()).await,
        (200, fault.clone())
    );
    assert_eq!(
        control(Method::GET, "/faults", Value::Null).await.1,
        json!([fault])
    );
    assert_eq!(api.get("org").await.0, 502);
    let fault = json!({ "effect": "html", "times": null });
    control(Method::POST, "/faults", fault).await;
    control(Method::DELETE, "/faults", Value::Null).await;
    assert_eq!(api.get("org").await.0, 200);

    let (_, counts) = control(Method::GET, "/counts", Value::Null).await;
    assert_eq!(
        (&counts["code_exchanges_ok"], &counts["api_calls"]),
        (&json!(1), &json!(2))
    );
    let (_, requests) = control(Method::GET, "/requests", Value::Null).await;
    assert_eq!(requests.as_array().unwrap().len(), 3);
    assert_eq!(requests[1]["status"], 502);

    let ended = control(Method::POST, "/expire", json!({ "email": MIRA })).await;
    assert_eq!(ended.1, json!({ "expired": 1 }));
    assert_eq!(api.get("org").await.0, 401);

    assert_eq!(control(Method::POST, "/reset", Value::Null).await.0, 200);
    assert_eq!(sandbox.counts(), zoho_sandbox::Counts::default());

    for (path, wrong) in [
        ("/faults", json!({ "effect": "earthquake" })),
        ("/faults", json!({ "effect": "html", "endpoint": "moon" })),
        ("/faults", json!({ "effect": "html", "tims": 2 })),
        ("/faults", json!({ "effect": "status", "status": 100 })),
        ("/faults", json!({ "effect": "status", "status": 4242 })),
        (
            "/codes",
            json!({ "email": "nobody@example.com", "scopes": ALL }),
        ),
        ("/codes", json!({ "email": MIRA, "scopes": "nonsense" })),
        ("/expire", json!({ "mail": MIRA })),
    ] {
        let (status, body) = control(Method::POST, path, wrong.clone()).await;
        assert_eq!(status, 400, "{wrong}");
        assert!(body["error"].is_string());
    }
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_the_control_api() {
    let sandbox = sandbox().await;
    let url = format!("{}/counts", sandbox.control_url());
    let foreign = http()
        .get(&url)
        .header("Origin", "https://evil.example.com");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let own = http().get(&url).header("Origin", sandbox.accounts_url());
    assert_eq!(own.send().await.unwrap().status(), 200);
}

/// Numbers come from other people's programs; the largest ones must not end the sandbox's work.
#[tokio::test]
async fn spans_beyond_all_time_mean_for_ever() {
    let most = u64::MAX;
    let sandbox = zoho_sandbox::Sandbox::builder()
        .rule(|rules| {
            rules.access_token_life_s = most;
            rules.window_s = most;
        })
        .start()
        .await
        .unwrap();
    let post = async |path: &str, body: Value| {
        let url = format!("{}{path}", sandbox.control_url());
        let response = http().post(url).body(body.to_string()).send().await;
        response.unwrap().json::<Value>().await.unwrap()
    };
    let asked = json!({ "email": MIRA, "scopes": ALL, "life_seconds": most });
    let code = post("/codes", asked).await["code"].clone();
    let answer = exchange(&sandbox, code.as_str().unwrap()).await;
    assert_eq!(answer["expires_in"], most);
    let refresh_token = answer["refresh_token"].as_str().unwrap();
    assert!(refresh(&sandbox, refresh_token).await["access_token"].is_string());
    let mut before = 0;
    for _ in 0..2 {
        let now = post("/advance", json!({ "seconds": most })).await;
        let now = now["now_ms"].as_u64().unwrap();
        assert!(now >= before, "time ran backwards");
        before = now;
    }
    let api = Api::new(&sandbox, MIRA, ALL);
    assert_eq!(api.get("Leads?fields=Last_Name&per_page=1").await.0, 401);
    let page = format!(
        "{}/oauth/v2/auth?client_id={}&response_type=code&scope={ALL}&redirect_uri={}",
        sandbox.accounts_url(),
        sandbox.client_id(),
        sandbox.redirect_uri()
    );
    assert_eq!(http().get(page).send().await.unwrap().status(), 200);
}
