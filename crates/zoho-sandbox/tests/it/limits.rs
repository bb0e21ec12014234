//! What the service issues at most, over HTTP and with the clock pushed forward.

use std::time::Duration;

use serde_json::Value;
use zoho_sandbox::{Error, Sandbox};

use crate::support::{ALL, Api, MIRA, refresh, sandbox, token_response};

#[tokio::test]
async fn the_eleventh_refresh_in_ten_minutes_is_denied_until_the_window_ends() {
    let sandbox = sandbox().await;
    let (refresh_token, _) = sandbox.login(MIRA, ALL);
    for _ in 0..10 {
        assert!(refresh(&sandbox, &refresh_token).await["access_token"].is_string());
    }
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &refresh_token),
    ];
    let response = token_response(&sandbox, &fields).await;
    assert_eq!(response.status(), 400);
    let text = response.text().await.unwrap();
    assert_eq!(
        text,
        r#"{"error_description":"You have made too many requests continuously. Please try again after some time.","error":"Access Denied","status":"failure"}"#
    );
    // Another refresh token has a window of its own.
    let (other, _) = sandbox.login(MIRA, ALL);
    assert!(refresh(&sandbox, &other).await["access_token"].is_string());
    sandbox.advance(Duration::from_mins(10));
    assert!(refresh(&sandbox, &refresh_token).await["access_token"].is_string());
    let counts = sandbox.counts();
    assert_eq!((counts.refreshes_ok, counts.refreshes_throttled), (12, 1));
    assert_eq!(counts.refreshes_failed, 1);
}

#[tokio::test]
async fn the_throttle_status_is_settable() {
    let sandbox = Sandbox::builder()
        .mint_limit(1)
        .rule(|rules| rules.throttle_status = 200)
        .start()
        .await
        .unwrap();
    let (refresh_token, _) = sandbox.login(MIRA, ALL);
    refresh(&sandbox, &refresh_token).await;
    assert_eq!(
        refresh(&sandbox, &refresh_token).await["error"],
        "Access Denied"
    );
}

#[tokio::test]
async fn without_limits_there_are_none() {
    let sandbox = Sandbox::builder().no_limits().start().await.unwrap();
    let (refresh_token, access_token) = sandbox.login(MIRA, ALL);
    for _ in 0..20 {
        assert!(refresh(&sandbox, &refresh_token).await["access_token"].is_string());
        sandbox.grant_code(MIRA, ALL);
    }
    let api = Api::with_token(sandbox.api_url(), &access_token);
    assert_eq!(api.get("org").await.0, 200);
}

#[tokio::test]
async fn the_sixteenth_live_access_token_ends_the_oldest() {
    let sandbox = Sandbox::builder().mint_limit(0).start().await.unwrap();
    let (refresh_token, oldest) = sandbox.login(MIRA, ALL);
    let oldest = Api::with_token(sandbox.api_url(), &oldest);
    for _ in 0..14 {
        refresh(&sandbox, &refresh_token).await;
    }
    assert_eq!(oldest.get("org").await.0, 200);
    let newest = refresh(&sandbox, &refresh_token).await;
    assert_eq!(oldest.get("org").await.0, 401);
    let newest = Api::with_token(sandbox.api_url(), newest["access_token"].as_str().unwrap());
    assert_eq!(newest.get("org").await.0, 200);
}

#[tokio::test]
async fn the_twenty_first_refresh_token_deletes_the_oldest() {
    let sandbox = sandbox().await;
    let (oldest, _) = sandbox.login(MIRA, ALL);
    for _ in 0..19 {
        sandbox.login(MIRA, ALL);
    }
    // Another person's tokens are not counted.
    sandbox.login("tomas.reyes@example.com", ALL);
    assert!(refresh(&sandbox, &oldest).await["access_token"].is_string());
    sandbox.login(MIRA, ALL);
    assert_eq!(refresh(&sandbox, &oldest).await["error"], "invalid_code");
}

#[tokio::test]
async fn the_eleventh_code_of_a_client_in_ten_minutes_is_denied() {
    let sandbox = sandbox().await;
    for _ in 0..10 {
        sandbox.grant_code(MIRA, ALL);
    }
    let refused = sandbox.try_grant_code(sandbox.client_id(), MIRA, ALL);
    assert!(matches!(refused, Err(Error::Refused(_))));
    // On the page the refusal travels to the redirect URI.
    let url = format!(
        "{}/oauth/v2/auth?response_type=code&client_id={}&scope=ZohoCRM.org.READ&redirect_uri={}",
        sandbox.accounts_url(),
        sandbox.client_id(),
        sandbox.redirect_uri()
    );
    let redirect = sandbox.authorize(&url, MIRA).unwrap();
    assert!(redirect.ends_with("?error=access_denied"), "{redirect}");
    sandbox.advance(Duration::from_mins(10));
    assert!(
        sandbox
            .authorize(&url, MIRA)
            .unwrap()
            .contains("code=1000.")
    );
}

#[tokio::test]
async fn expiring_ends_access_tokens_of_one_or_of_all() {
    let sandbox = sandbox().await;
    let mira = Api::new(&sandbox, MIRA, ALL);
    let tomas = Api::new(&sandbox, "tomas.reyes@example.com", ALL);
    assert_eq!(sandbox.expire_access_tokens_of("Mira.Holm@example.com"), 1);
    assert_eq!(mira.get("org").await.0, 401);
    let answer: (u16, Value) = tomas.get("org").await;
    assert_eq!(answer.0, 200);
    assert_eq!(sandbox.expire_access_tokens(), 1);
    assert_eq!(tomas.get("org").await.0, 401);
}
