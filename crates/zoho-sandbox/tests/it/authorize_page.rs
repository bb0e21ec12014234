//! The authorization page, as a browser without JavaScript goes through it.

use reqwest::Response;
use serde_json::Value;
use url::Url;
use zoho_sandbox::{Error, Sandbox};

use crate::support::{ALL, ELISE, MIRA, between, client_fields, exchange, http, sandbox, token};

/// The address of the page, with these parameters in place of or beside the usual ones.
fn page(sandbox: &Sandbox, changes: &[(&str, &str)]) -> String {
    let mut url = Url::parse(&format!("{}/oauth/v2/auth", sandbox.accounts_url())).unwrap();
    let usual = [
        ("response_type", "code"),
        ("client_id", sandbox.client_id()),
        ("scope", ALL),
        ("redirect_uri", sandbox.redirect_uri()),
    ];
    for (name, value) in usual {
        if changes.iter().all(|(other, _)| *other != name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
        url.query_pairs_mut().append_pair(name, value);
    }
    url.into()
}

fn param(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).unwrap();
    let mut pairs = url.query_pairs();
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn request_name(html: &str) -> &str {
    between(html, "name=\"request\" value=\"", "\"").expect("the form carries the request")
}

async fn submit(sandbox: &Sandbox, step: &str, fields: &[(&str, &str)]) -> Response {
    let url = format!("{}/oauth/v2/auth/{step}", sandbox.accounts_url());
    http().post(url).form(fields).send().await.unwrap()
}

/// Opens the page, signs in, and answers the second page.
async fn signed_in(sandbox: &Sandbox, url: &str, email: &str) -> String {
    let first = http().get(url).send().await.unwrap().text().await.unwrap();
    let name = request_name(&first);
    let second = submit(sandbox, "signin", &[("request", name), ("email", email)]).await;
    assert_eq!(second.status(), 200);
    second.text().await.unwrap()
}

async fn decided(sandbox: &Sandbox, html: &str, decision: &str) -> String {
    let name = request_name(html);
    let response = submit(
        sandbox,
        "consent",
        &[("request", name), ("decision", decision)],
    )
    .await;
    assert_eq!(response.status(), 302);
    response.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_signs_in_accepts_and_goes_back_with_a_code() {
    let sandbox = sandbox().await;
    let url = page(
        &sandbox,
        &[("state", "s&t=a te"), ("access_type", "offline")],
    );
    let html = signed_in(&sandbox, &url, MIRA).await;
    assert!(html.contains("Northlight Student Portal"));
    assert!(html.contains("ZohoCRM.coql.READ"), "the scopes are named");
    let back = decided(&sandbox, &html, "accept").await;
    assert!(back.starts_with(sandbox.redirect_uri()));
    assert_eq!(param(&back, "state").unwrap(), "s&t=a te");
    assert_eq!(param(&back, "location").unwrap(), "us");
    assert_eq!(
        param(&back, "accounts-server").unwrap(),
        sandbox.accounts_url()
    );
    let code = param(&back, "code").unwrap();
    let uri = sandbox.redirect_uri();
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", uri),
    ];
    assert!(token(&sandbox, &fields).await["refresh_token"].is_string());
}

#[tokio::test]
async fn rejecting_goes_back_with_access_denied_and_the_state() {
    let sandbox = sandbox().await;
    let html = signed_in(&sandbox, &page(&sandbox, &[("state", "xyz")]), MIRA).await;
    let back = decided(&sandbox, &html, "reject").await;
    assert_eq!(param(&back, "error").unwrap(), "access_denied");
    assert_eq!(param(&back, "state").unwrap(), "xyz");
    assert!(param(&back, "code").is_none());
}

#[tokio::test]
async fn somebody_of_another_center_is_sent_back_with_that_center() {
    let sandbox = sandbox().await;
    let back = sandbox.authorize(&page(&sandbox, &[]), ELISE).unwrap();
    assert_eq!(param(&back, "location").unwrap(), "eu");
    let home = sandbox.center("eu").accounts_url();
    assert_eq!(param(&back, "accounts-server").unwrap(), home);
    let mut form = client_fields(&sandbox);
    form.push(("grant_type", "authorization_code".into()));
    form.push(("code", param(&back, "code").unwrap()));
    form.push(("redirect_uri", sandbox.redirect_uri().into()));
    let url = format!("{home}/oauth/v2/token");
    let answer: Value = http()
        .post(url)
        .form(&form)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(answer["access_token"].is_string());
}

#[tokio::test]
async fn errors_are_shown_on_the_page_and_redirect_nowhere() {
    let sandbox = sandbox().await;
    let almost = format!("{}/", sandbox.redirect_uri());
    for (change, title) in [
        (("client_id", "1000.NOBODY"), "Invalid client"),
        (("client_id", ""), "Invalid client"),
        (("response_type", "token"), "Invalid response type"),
        (("scope", ""), "Invalid scope"),
        (("scope", "everything"), "Invalid scope"),
        (
            ("redirect_uri", "https://evil.example.com/"),
            "Invalid redirect URI",
        ),
        (("redirect_uri", almost.as_str()), "Invalid redirect URI"),
        (("access_type", "sometimes"), "Invalid parameter"),
        (("code_challenge_method", "S256"), "Invalid parameter"),
    ] {
        let url = page(&sandbox, &[change]);
        let response = http().get(&url).send().await.unwrap();
        assert!(response.headers().get("location").is_none());
        let html = response.text().await.unwrap();
        assert!(
            html.contains(&format!("<h1>{title}</h1>")),
            "{change:?}: {html}"
        );
        assert!(!html.contains("<form"));
        let error = sandbox.authorize(&url, MIRA).unwrap_err();
        assert!(matches!(error, Error::AuthorizePage(text) if text == title));
    }
}

#[tokio::test]
async fn forms_are_good_once_and_cannot_name_a_redirect_uri() {
    let sandbox = sandbox().await;
    let html = signed_in(&sandbox, &page(&sandbox, &[]), MIRA).await;
    let name = request_name(&html);
    let evil = ("redirect_uri", "https://evil.example.com/");
    let fields = [("request", name), ("decision", "accept"), evil];
    let response = submit(&sandbox, "consent", &fields).await;
    let back = response.headers()["location"].to_str().unwrap().to_owned();
    assert!(back.starts_with(sandbox.redirect_uri()));
    let again = submit(&sandbox, "consent", &fields).await;
    assert!(again.headers().get("location").is_none());
    assert!(again.text().await.unwrap().contains("no longer valid"));
}

#[tokio::test]
async fn consent_needs_somebody_who_signed_in() {
    let sandbox = sandbox().await;
    let first = http()
        .get(page(&sandbox, &[]))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let fields = [("request", request_name(&first)), ("decision", "accept")];
    let response = submit(&sandbox, "consent", &fields).await;
    assert!(response.headers().get("location").is_none());
}

#[tokio::test]
async fn a_page_left_open_for_too_long_is_refused() {
    let sandbox = sandbox().await;
    let html = signed_in(&sandbox, &page(&sandbox, &[]), MIRA).await;
    sandbox.advance(std::time::Duration::from_mins(10));
    let fields = [("request", request_name(&html)), ("decision", "accept")];
    let response = submit(&sandbox, "consent", &fields).await;
    assert!(response.headers().get("location").is_none());
}

#[tokio::test]
async fn the_refresh_token_comes_with_the_first_offline_consent_only() {
    let sandbox = sandbox().await;
    let login = async |changes: &[(&str, &str)]| {
        let back = sandbox.authorize(&page(&sandbox, changes), MIRA).unwrap();
        let code = param(&back, "code").unwrap();
        let uri = sandbox.redirect_uri();
        let grant = ("grant_type", "authorization_code");
        token(&sandbox, &[grant, ("code", &code), ("redirect_uri", uri)]).await
    };
    let offline = ("access_type", "offline");
    assert!(
        login(&[]).await["refresh_token"].is_null(),
        "online is the default"
    );
    let first = login(&[offline]).await;
    let first = first["refresh_token"]
        .as_str()
        .expect("the first offline consent");
    assert!(login(&[offline]).await["refresh_token"].is_null());
    let again = login(&[offline, ("prompt", "consent")]).await;
    let again = again["refresh_token"]
        .as_str()
        .expect("asked again")
        .to_owned();
    assert_ne!(first, again);
    // When every refresh token is revoked, the consent is gone too.
    for token in [first, &again] {
        let url = format!("{}/oauth/v2/token/revoke", sandbox.accounts_url());
        let response = http()
            .post(url)
            .form(&[("token", token)])
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
    assert!(login(&[offline]).await["refresh_token"].is_string());
}

#[tokio::test]
async fn a_code_wants_the_very_redirect_uri_it_was_made_for() {
    let sandbox = sandbox().await;
    let back = sandbox.authorize(&page(&sandbox, &[]), MIRA).unwrap();
    let code = param(&back, "code").unwrap();
    assert_eq!(
        exchange(&sandbox, &code).await["error"],
        "invalid_redirect_uri"
    );
    let grant = ("grant_type", "authorization_code");
    let other = ("redirect_uri", "http://localhost:8080/oauth/callback?x=1");
    let answer = token(&sandbox, &[grant, ("code", &code), other]).await;
    assert_eq!(answer["error"], "invalid_redirect_uri");
    let right = ("redirect_uri", sandbox.redirect_uri());
    let answer = token(&sandbox, &[grant, ("code", &code), right]).await;
    assert!(answer["access_token"].is_string());
}

#[tokio::test]
async fn a_challenge_wants_its_verifier() {
    // The pair of RFC 7636, appendix B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let sandbox = sandbox().await;
    for (challenge, method) in [(challenge, "S256"), (verifier, "plain"), (verifier, "")] {
        let changes = [
            ("code_challenge", challenge),
            ("code_challenge_method", method),
        ];
        let back = sandbox.authorize(&page(&sandbox, &changes), MIRA).unwrap();
        let code = param(&back, "code").unwrap();
        let fields = |verifier: &'static str| {
            [
                ("grant_type", "authorization_code".to_owned()),
                ("code", code.clone()),
                ("redirect_uri", sandbox.redirect_uri().to_owned()),
                ("code_verifier", verifier.to_owned()),
            ]
        };
        for (given, good) in [("", false), ("wrong", false), (verifier, true)] {
            let fields = fields(given);
            let fields: Vec<(&str, &str)> = fields
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let answer = token(&sandbox, &fields).await;
            assert_eq!(
                answer["access_token"].is_string(),
                good,
                "{method} {given}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn what_a_request_says_is_escaped_on_the_page() {
    let client = zoho_sandbox::Client::web("1000.X", "s", "https://app.example.com/cb")
        .name("<script>alert(1)</script>");
    let sandbox = Sandbox::builder()
        .default_client(client)
        .start()
        .await
        .unwrap();
    let html = signed_in(&sandbox, &page(&sandbox, &[]), MIRA).await;
    assert!(!html.contains("<script"));
    assert!(html.contains("&#60;script&#62;"), "{html}");
}
