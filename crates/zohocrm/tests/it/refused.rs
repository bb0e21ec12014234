//! An access token that the CRM refuses: replaced once, and never for another reason.

use zoho_sandbox::{Endpoint, Fault, Sandbox};
use zohocrm::{ErrorCode, ErrorKind};

use crate::support::{MIRA, builder, calls, grant, lead, logged_in, sandbox};

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_call_repeated_once() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    assert_eq!(sandbox.expire_access_tokens(), 1);
    let org = crm.org().get().await.unwrap();
    assert!(org.is_some());
    assert_eq!(sandbox.counts().refreshes_ok, 1);
    assert_eq!(
        calls(&sandbox, "GET", "/crm/v8/org"),
        3,
        "one before, two here"
    );
}

#[tokio::test]
async fn a_write_is_repeated_after_a_refused_token_too_and_happens_once() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    sandbox.expire_access_tokens();
    let leads = crm.records("Leads");
    let lead = lead("Onlyonce");
    let written = leads.create([lead]).send().await.unwrap();
    assert!(written[0].is_ok());
    assert_eq!(calls(&sandbox, "POST", "/crm/v8/Leads"), 2);
    let found = leads.search().word("Onlyonce").send().await.unwrap();
    assert_eq!(found.items().len(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_again_is_an_error() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    sandbox.inject(Fault::invalid_token().always());
    let error = crm.users().current().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenRefused);
    assert_eq!(error.kind(), ErrorKind::Token);
    assert_eq!(error.api().unwrap().code(), "INVALID_TOKEN");
    assert_eq!(error.http_status(), Some(401));
    assert_eq!(sandbox.counts().refreshes_ok, 1);
    assert_eq!(
        calls(&sandbox, "GET", "/crm/v8/users"),
        3,
        "one before, two here"
    );
}

#[tokio::test]
async fn many_callers_with_one_refused_token_make_one_refresh() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    sandbox.expire_access_tokens();
    let calls = (0..20).map(|_| {
        let crm = crm.clone();
        tokio::spawn(async move { crm.org().get().await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap().unwrap().is_some());
    }
    assert_eq!(sandbox.counts().refreshes_ok, 1);
}

#[tokio::test]
async fn a_revoked_login_says_that_a_person_must_log_in() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let twin = crm.clone();
    crm.session().revoke().await.unwrap();
    let error = twin.org().get().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoToken);
    assert!(!error.is_transient());
    assert_eq!(
        error.oauth().unwrap().kind(),
        zohocrm::oauth::ErrorKind::LoginRequired
    );
}

/// A missing scope comes with 401 as well, or with 403; a new token would not help.
async fn scope_mismatch(sandbox: &Sandbox, status: u16) {
    let credential = grant(sandbox, MIRA, "ZohoCRM.modules.Leads.READ");
    let crm = builder(sandbox, credential)
        .find_user(false)
        .build()
        .await
        .unwrap();
    let lead = lead("Zed");
    let error = crm
        .records("Leads")
        .create([lead])
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::ScopeMismatch);
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert_eq!(error.http_status(), Some(status));
    assert_eq!(sandbox.counts().refreshes_ok, 0);
    assert_eq!(sandbox.counts().api_calls, 1);
}

#[tokio::test]
async fn a_missing_scope_costs_no_token_whatever_its_status() {
    for status in [401, 403] {
        let sandbox = Sandbox::builder()
            .rule(|rules| rules.scope_mismatch_status = status)
            .start()
            .await
            .unwrap();
        scope_mismatch(&sandbox, status).await;
    }
}

#[tokio::test]
async fn the_refresh_that_fails_is_the_error_of_the_call() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    sandbox.expire_access_tokens();
    sandbox.inject(Fault::throttle().on(Endpoint::Refresh).always());
    let error = crm.org().get().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoToken);
    assert!(error.is_transient());
    assert!(error.to_string().contains("`GET /crm/v8/org`"), "{error}");
}
