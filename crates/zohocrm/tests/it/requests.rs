//! Raw requests.

use serde_json::{Value, json};
use zoho_sandbox::{Endpoint, Fault};
use zohocrm::{ErrorCode, ErrorKind, Method};

use crate::support::{MIRA, logged_in, sandbox};

#[tokio::test]
async fn what_has_no_method_is_reached_all_the_same() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let answer = crm
        .request(Method::Get, "settings/related_lists")
        .query("module", "Accounts")
        .send()
        .await
        .unwrap()
        .check()
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.header("Content-Type").unwrap().contains("json"));
    assert!(answer.headers().any(|(name, _)| name == "content-type"));
    let body: Value = answer.json().unwrap();
    assert!(body["related_lists"].is_array());
    let count: Value = crm
        .request(Method::Get, "/crm/v8/Leads/actions/count")
        .send()
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(count["count"], 60);
    let created = crm
        .request(Method::Post, "Leads")
        .json(&json!({ "data": [{ "Last_Name": "Raw", "Company": "B" }] }))
        .send()
        .await
        .unwrap();
    assert_eq!(created.status(), 201);
}

#[tokio::test]
async fn an_error_status_is_an_answer_until_it_is_checked() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let answer = crm
        .request(Method::Get, "settings/nowhere")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);
    let error = answer.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.api().unwrap().code(), "INVALID_URL_PATTERN");
    let nothing = crm.request(Method::Get, "Leads/1").send().await.unwrap();
    assert_eq!(nothing.status(), 204);
    assert_eq!(nothing.json::<Option<Value>>().unwrap(), None);
}

#[tokio::test]
async fn html_is_an_answer_to_a_raw_request() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    sandbox.inject(Fault::html().on(Endpoint::Api));
    let answer = crm.request(Method::Get, "org").send().await.unwrap();
    assert!(answer.bytes().starts_with(b"<!DOCTYPE html>"));
    assert_eq!(
        answer.json::<Value>().unwrap_err().code(),
        ErrorCode::UnexpectedAnswer
    );
}

#[tokio::test]
async fn a_raw_request_cannot_leave_the_crm_or_change_who_asks() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let before = sandbox.requests().len();
    for path in ["../../oauth/v2/token", "/crm/../oauth/v2/token", "org?x=y"] {
        let error = crm.request(Method::Get, path).send().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{path}");
    }
    for header in ["Authorization", "host", "Cookie"] {
        let request = crm.request(Method::Get, "org").header(header, "x");
        let error = request.send().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{header}");
    }
    let request = crm
        .request(Method::Get, "org")
        .header("X-Line", "a\r\nX-Other: b");
    assert_eq!(
        request.send().await.unwrap_err().code(),
        ErrorCode::InvalidInput
    );
    assert_eq!(sandbox.requests().len(), before);
}

#[tokio::test]
async fn a_raw_write_is_not_repeated_unless_it_says_that_it_only_reads() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let query = json!({ "select_query": "select id from Leads where id is not null limit 1" });
    let request = || crm.request(Method::Post, "coql").json(&query);
    sandbox.inject(Fault::status(503).on(Endpoint::Api));
    assert_eq!(request().send().await.unwrap().status(), 503);
    sandbox.inject(Fault::status(503).on(Endpoint::Api));
    assert_eq!(request().only_reads().send().await.unwrap().status(), 200);
}
