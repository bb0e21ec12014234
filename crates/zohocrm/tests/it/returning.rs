//! A person who logs in again. Zoho sends a refresh token at the first consent only.

use std::sync::Arc;

use zoho_sandbox::Sandbox;
use zohocrm::oauth::{
    Authenticator, Callback, Credential, DataCenters, GrantCredential, ListStore, LoginRequest,
    OAuthToken, TokenStore,
};
use zohocrm::{ErrorCode, ZohoCrm};

use crate::support::{LENA, MIRA, SCOPES, center, client, sandbox};

/// The login with a browser, up to the grant token.
fn login_page(sandbox: &Sandbox, email: &str, scopes: &str) -> GrantCredential {
    let client = client(sandbox).redirect_uri(sandbox.redirect_uri());
    let request = LoginRequest::new(
        client,
        center(sandbox, "us"),
        scopes.split(',').map(str::trim),
    );
    let (url, pending) = request.begin().unwrap();
    let back = sandbox.authorize(&url, email).unwrap();
    let mut centers = DataCenters::known();
    centers.add(center(sandbox, "us"));
    pending
        .accept(&Callback::from_url(&back).unwrap(), &centers)
        .unwrap()
}

async fn crm(
    sandbox: &Sandbox,
    store: &Arc<ListStore>,
    credential: impl Into<Credential>,
) -> zohocrm::Result<ZohoCrm> {
    let builder = ZohoCrm::builder(center(sandbox, "us"), credential, Arc::clone(store));
    builder.client(client(sandbox)).build().await
}

async fn only(store: &ListStore) -> OAuthToken {
    let mut stored = store.get_tokens().await.unwrap();
    assert_eq!(stored.len(), 1, "{stored:?}");
    stored.remove(0)
}

#[tokio::test]
async fn a_person_who_comes_back_without_a_refresh_token_joins_the_stored_login() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let first = crm(&sandbox, &store, login_page(&sandbox, MIRA, SCOPES))
        .await
        .unwrap();
    let old = only(&store).await;
    // In a new process, and in the same.
    let second = crm(&sandbox, &store, login_page(&sandbox, MIRA, SCOPES))
        .await
        .unwrap();
    let third = first
        .switch_user(login_page(&sandbox, MIRA, SCOPES))
        .await
        .unwrap();
    let new = only(&store).await;
    assert_eq!((new.id, &new.refresh_token), (old.id, &old.refresh_token));
    assert_ne!(new.access_token, old.access_token);
    for crm in [&second, &third] {
        assert_eq!(crm.user_name(), first.user_name());
        assert!(crm.org().get().await.unwrap().is_some());
    }
    assert_eq!(sandbox.counts().refreshes_ok, 0);
    sandbox.expire_access_tokens();
    assert!(third.org().get().await.unwrap().is_some());
    assert_eq!(sandbox.counts().refreshes_ok, 1);
}

#[tokio::test]
async fn a_person_who_comes_back_and_is_not_stored_is_asked_for_consent() {
    let sandbox = sandbox().await;
    let elsewhere = Arc::new(ListStore::new());
    crm(&sandbox, &elsewhere, login_page(&sandbox, MIRA, SCOPES))
        .await
        .unwrap();
    let store = Arc::new(ListStore::new());
    crm(&sandbox, &store, login_page(&sandbox, LENA, SCOPES))
        .await
        .unwrap();
    // Not stored at all; and with a login that does not even say who it is.
    for scopes in [SCOPES, "ZohoCRM.modules.ALL"] {
        let returned = login_page(&sandbox, MIRA, scopes);
        let error = crm(&sandbox, &store, returned).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NoToken);
        let cause = error.oauth().unwrap();
        assert_eq!(cause.code(), zohocrm::oauth::ErrorCode::RefreshTokenMissing);
        assert!(error.remedy().contains("prompt=consent"), "{error}");
        assert!(cause.unsaved_token().unwrap().access_token.is_some());
    }
    only(&store).await;
}

#[tokio::test]
async fn settings_with_an_old_refresh_token_do_not_undo_a_later_login() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    crm(&sandbox, &store, login_page(&sandbox, MIRA, SCOPES))
        .await
        .unwrap();
    let (older, _) = sandbox.login(MIRA, SCOPES);
    let stored = only(&store).await;
    let older = zohocrm::oauth::RefreshToken::new(older).unwrap();
    let settings = Credential::refresh(client(&sandbox), older);
    let settings = settings.user_name(stored.user_name.clone().unwrap());
    let crm = crm(&sandbox, &store, settings).await.unwrap();
    assert_eq!(only(&store).await, stored);
    assert_eq!(Some(crm.token_id()), stored.id);
    assert!(crm.org().get().await.unwrap().is_some());
}

/// The authenticator's table says what `us` is, and the built-in center is the target.
#[tokio::test]
async fn the_data_centers_of_a_given_authenticator_are_known() {
    let sandbox = sandbox().await;
    let us = center(&sandbox, "us");
    let authenticator = Authenticator::builder(ListStore::new()).data_center(us.clone());
    let authenticator = authenticator.build().unwrap();
    let login = crate::support::grant(&sandbox, MIRA, SCOPES);
    let session = authenticator.session(login).await.unwrap();
    let target = zohocrm::oauth::DataCenter::us();
    let builder = ZohoCrm::with_authenticator(target, authenticator, session);
    let crm = builder.build().await.unwrap();
    assert!(crm.find_user_error().is_none());
    assert!(crm.org().get().await.unwrap().is_some());
}

#[tokio::test]
async fn a_token_goes_to_no_origin_that_its_data_center_does_not_know() {
    let sandbox = sandbox().await;
    // A record says where the token is sent; this one is of the sandbox, under another center.
    let (_, access) = sandbox.login(MIRA, SCOPES);
    let token = zohocrm::oauth::AccessToken::new(access).unwrap();
    let credential = || Credential::access(token.clone()).api_domain(sandbox.api_url());
    let build = || {
        ZohoCrm::builder(
            zohocrm::oauth::DataCenter::eu(),
            credential(),
            ListStore::new(),
        )
    };
    for builder in [build(), build().api_domain(zohocrm::ApiDomain::OfToken), {
        let authenticator = Authenticator::builder(ListStore::new()).build().unwrap();
        let session = authenticator.session(credential()).await.unwrap();
        let eu = zohocrm::oauth::DataCenter::eu();
        ZohoCrm::with_authenticator(eu, authenticator, session)
    }] {
        let crm = builder.find_user(false).build().await.unwrap();
        let error = crm.org().get().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput);
        assert!(
            error.to_string().contains("no known data center"),
            "{error}"
        );
    }
    assert_eq!(sandbox.counts().api_calls, 0);
}
