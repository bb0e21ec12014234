//! Where a client comes from: the four official flows, find-user, and several users at once.

use std::sync::Arc;

use zoho_sandbox::{Endpoint, Fault, LoggedRequest};
use zohocrm::oauth::{
    AccessToken, Authenticator, Credential, HttpOptions, ListStore, RefreshToken, TokenId, UserName,
};
use zohocrm::{ErrorCode, ErrorKind, ZohoCrm};

use crate::support::{
    ELISE, LENA, MIRA, SCOPES, builder, calls, center, client, grant, logged_in, sandbox,
};

/// The name that the official SDKs would give.
async fn official_name(crm: &ZohoCrm, email: &str) -> String {
    let org = crm.org().get().await.unwrap().unwrap();
    format!("{email}:{}", org.zgid().unwrap())
}

#[tokio::test]
async fn a_grant_token_is_exchanged_once_and_the_user_named_as_the_official_sdks_do() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
    assert_eq!(calls(&sandbox, "GET", "/crm/v8/users"), 1);
    assert_eq!(calls(&sandbox, "GET", "/crm/v8/org"), 1);
    let name = crm.user_name().unwrap();
    assert_eq!(name.as_str(), official_name(&crm, MIRA).await);
    let stored = crm.authenticator().store().get_tokens().await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].user_name, Some(name));
    assert_eq!(stored[0].id, Some(crm.token_id()));
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_the_user_named() {
    let sandbox = sandbox().await;
    let (refresh, _) = sandbox.login(MIRA, SCOPES);
    let token = RefreshToken::new(refresh).unwrap();
    let credential = Credential::refresh(client(&sandbox), token);
    let crm = builder(&sandbox, credential).build().await.unwrap();
    assert_eq!(sandbox.counts().refreshes_ok, 1);
    assert_eq!(
        crm.user_name().unwrap().as_str(),
        official_name(&crm, MIRA).await
    );
}

#[tokio::test]
async fn a_bare_access_token_works_and_the_user_is_named() {
    let sandbox = sandbox().await;
    let (_, access) = sandbox.login(MIRA, SCOPES);
    let credential = Credential::access(AccessToken::new(access).unwrap());
    let crm = builder(&sandbox, credential).build().await.unwrap();
    assert!(crm.find_user_error().is_none());
    assert_eq!(
        crm.user_name().unwrap().as_str(),
        official_name(&crm, MIRA).await
    );
    assert_eq!(sandbox.counts().refreshes_ok, 0);
}

#[tokio::test]
async fn a_stored_id_and_a_stored_user_cost_no_http_at_all() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let build = |credential: Credential| {
        ZohoCrm::builder(center(&sandbox, "us"), credential, Arc::clone(&store))
            .client(client(&sandbox))
            .build()
    };
    let first = build(grant(&sandbox, MIRA, SCOPES).into()).await.unwrap();
    let before = sandbox.requests().len();
    let by_id = build(first.token_id().into()).await.unwrap();
    let by_user = build(first.user_name().unwrap().into()).await.unwrap();
    assert_eq!(sandbox.requests().len(), before);
    assert_eq!(by_id.token_id(), by_user.token_id());
    by_user.org().get().await.unwrap().unwrap();
    assert_eq!(sandbox.counts().refreshes_ok, 0);
}

#[tokio::test]
async fn an_unknown_user_is_an_error_that_sends_a_person_to_the_login() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let nobody = UserName::new("nobody@example.com:1").unwrap();
    for credential in [
        Credential::from(nobody),
        Credential::from(TokenId::new(99).unwrap()),
    ] {
        let error = crm.switch_user(credential).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Token);
        assert_eq!(
            error.oauth().unwrap().kind(),
            zohocrm::oauth::ErrorKind::LoginRequired
        );
        assert!(!error.to_string().contains("nobody@"), "{error}");
    }
}

#[tokio::test]
async fn without_the_scopes_for_it_the_token_is_saved_without_a_name() {
    let sandbox = sandbox().await;
    let credential = grant(&sandbox, MIRA, "ZohoCRM.modules.ALL");
    let crm = builder(&sandbox, credential).build().await.unwrap();
    let error = crm.find_user_error().unwrap();
    assert_eq!(error.code(), ErrorCode::ScopeMismatch);
    assert_eq!(crm.user_name(), None);
    // A scope that is missing is no reason for another token.
    assert_eq!(sandbox.counts().refreshes_ok, 0);
    let stored = crm.authenticator().store().get_tokens().await.unwrap();
    assert_eq!(stored.len(), 1);
    assert!(stored[0].refresh_token.is_some());
    let page = crm.records("Leads").list().fields(["id"]).send().await;
    assert!(!page.unwrap().items().is_empty());
}

#[tokio::test]
async fn find_user_can_be_switched_off() {
    let sandbox = sandbox().await;
    let credential = grant(&sandbox, MIRA, SCOPES);
    let crm = builder(&sandbox, credential)
        .find_user(false)
        .build()
        .await
        .unwrap();
    assert_eq!(sandbox.counts().api_calls, 0);
    assert_eq!(crm.user_name(), None);
    assert!(crm.find_user_error().is_none());
}

#[tokio::test]
async fn a_crm_that_fails_during_the_look_up_does_not_lose_the_login() {
    let sandbox = sandbox().await;
    sandbox.inject(Fault::status(500).on(Endpoint::Api).always());
    let credential = grant(&sandbox, MIRA, SCOPES);
    let crm = builder(&sandbox, credential).build().await.unwrap();
    assert!(crm.find_user_error().unwrap().is_transient());
    sandbox.clear_faults();
    // The next start tries again, without a new login.
    let again = crm.switch_user(crm.token_id()).await.unwrap();
    assert!(again.user_name().is_some());
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
}

#[tokio::test]
async fn the_second_login_of_a_person_joins_the_first_record() {
    let sandbox = sandbox().await;
    let first = logged_in(&sandbox, MIRA).await;
    let second = first
        .switch_user(grant(&sandbox, MIRA, SCOPES))
        .await
        .unwrap();
    assert_eq!(second.token_id(), first.token_id());
    let stored = first.authenticator().store().get_tokens().await.unwrap();
    assert_eq!(stored.len(), 1);
    second.org().get().await.unwrap().unwrap();
}

#[tokio::test]
async fn users_of_two_organisations_and_two_data_centers_work_side_by_side() {
    let sandbox = sandbox().await;
    let mira = logged_in(&sandbox, MIRA).await;
    let lena = mira
        .switch_user(grant(&sandbox, LENA, SCOPES))
        .await
        .unwrap();
    let european = grant(&sandbox, ELISE, SCOPES).data_center(center(&sandbox, "eu"));
    let elise = mira.switch_user(european).await.unwrap();
    let company = async |crm: &ZohoCrm| {
        let org = crm.org().get().await.unwrap().unwrap();
        org.company_name().unwrap()
    };
    // At once, and in turns: nobody's call depends on who called last.
    for _ in 0..3 {
        let (one, two, three) = tokio::join!(company(&mira), company(&lena), company(&elise));
        assert_eq!(one, "Northlight Academy");
        assert_eq!(two, "Cedar Row Music School");
        assert_eq!(three, "Harbour Language School");
    }
    let european = sandbox.requests().into_iter().filter(|request| {
        request.center == "eu" && request.path_and_query == "/crm/v8/org" && request.status == 200
    });
    assert_eq!(european.count(), 4, "one to learn the name, three here");
    let ids = [mira.token_id(), lena.token_id(), elise.token_id()];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
}

#[tokio::test]
async fn an_application_may_bring_its_authenticator() {
    let sandbox = sandbox().await;
    let center = center(&sandbox, "us");
    let authenticator = Authenticator::builder(ListStore::new())
        .client(client(&sandbox))
        .data_center(center.clone())
        .http(HttpOptions::new().user_agent("portal/1.0"))
        .build()
        .unwrap();
    let session = authenticator
        .session(grant(&sandbox, MIRA, SCOPES))
        .await
        .unwrap();
    let crm = ZohoCrm::with_authenticator(center.clone(), authenticator.clone(), session.clone())
        .build()
        .await
        .unwrap();
    assert!(crm.user_name().is_some());
    assert_eq!(crm.token_id(), session.id());
    // Its way to the internet is the client's way too: a proxy that one needs, both need.
    let agents = |requests: &[LoggedRequest]| -> Vec<String> {
        let headers = requests.iter().flat_map(|request| &request.headers);
        let agents = headers.filter(|(name, _)| name == "user-agent");
        agents.map(|(_, value)| value.clone()).collect()
    };
    let seen = agents(&sandbox.requests());
    assert_eq!(seen.len(), 3, "one exchange, two calls to learn the name");
    assert!(
        seen.iter().all(|agent| agent.starts_with("portal/1.0")),
        "{seen:?}"
    );
    // Unless the client is given one of its own.
    let own = ZohoCrm::with_authenticator(center.clone(), authenticator.clone(), session.clone())
        .http(HttpOptions::new().user_agent("own/2.0"))
        .build()
        .await
        .unwrap();
    own.org().get().await.unwrap();
    let seen = agents(&sandbox.requests());
    assert!(seen[3].starts_with("own/2.0"), "{seen:?}");
    // An option that the authenticator alone could follow is refused, not ignored.
    let error = ZohoCrm::with_authenticator(center, authenticator, session)
        .client(client(&sandbox))
        .build()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    assert!(error.to_string().contains("`client`"));
}
