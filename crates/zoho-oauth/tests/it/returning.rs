//! People who come back: with a new login, or by settings that still name an old credential.

mod goes_first;

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use zoho_oauth::{
    AccountsClient, Authenticator, Callback, Credential, DataCenter, ErrorCode, Event, FileStore,
    GrantCredential, GrantToken, HttpOptions, ListStore, LoginRequest, OAuthToken, RefreshToken,
    TokenId, TokenStore,
};
use zoho_sandbox::Sandbox;

use crate::support::{
    SCOPES, authenticator, builder, center, client, expire, in_seconds, logged_in, sandbox, user,
};

const FULL: &str = "ann@example.com:60001";
const PLAIN: &str = "ann@example.com";

fn grant(sandbox: &Sandbox) -> GrantCredential {
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    Credential::grant(client(sandbox), GrantToken::new(code).unwrap())
}

/// The login with a browser, up to the grant token.
fn login_page(sandbox: &Sandbox) -> GrantCredential {
    let client = client(sandbox).redirect_uri(sandbox.redirect_uri());
    let request = LoginRequest::new(client, center(sandbox), SCOPES.split(','));
    let (url, pending) = request.begin().unwrap();
    let back = sandbox.authorize(&url, &sandbox.people()[0]).unwrap();
    let mut centers = zoho_oauth::DataCenters::known();
    centers.add(center(sandbox));
    let callback = Callback::from_url(&back).unwrap();
    pending.accept(&callback, &centers).unwrap()
}

async fn only(store: &dyn TokenStore) -> OAuthToken {
    let mut stored = store.get_tokens().await.unwrap();
    assert_eq!(stored.len(), 1, "{stored:?}");
    stored.remove(0)
}

fn told(events: &mut Receiver<Event>, name: &str) -> bool {
    let mut is_told = false;
    while let Ok(event) = events.try_recv() {
        is_told |= format!("{event:?}").starts_with(name);
    }
    is_told
}

#[tokio::test]
async fn a_second_login_without_a_refresh_token_joins_the_stored_one_of_its_user() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let first = login_page(&sandbox).user_name(user("ann"));
    auth.session(first).await.unwrap();
    let old = only(auth.store()).await;

    let nameless = auth.session(login_page(&sandbox)).await.unwrap_err();
    assert_eq!(nameless.code(), ErrorCode::RefreshTokenMissing);
    let text = nameless.remedy();
    assert!(
        text.contains("Name the user") && text.contains("prompt=consent"),
        "{text}"
    );

    let second = login_page(&sandbox).user_name(user("ann"));
    let session = auth.session(second).await.unwrap();
    let new = only(auth.store()).await;
    assert_eq!((new.id, &new.refresh_token), (old.id, &old.refresh_token));
    assert_ne!(new.access_token, old.access_token);
    let access = session.access_token().await.unwrap();
    session.refused(access.token()).await.unwrap();
}

#[tokio::test]
async fn a_login_that_an_error_carried_is_saved_once_its_user_is_known() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let first = login_page(&sandbox).user_name(user("ann"));
    auth.session(first).await.unwrap();
    let old = only(auth.store()).await;
    let error = auth.session(login_page(&sandbox)).await.unwrap_err();
    let unsaved = error.unsaved_token().unwrap().clone();
    let error = auth.save_login(unsaved.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RefreshTokenMissing);
    assert_eq!(error.unsaved_token(), Some(&unsaved));
    let mut named = unsaved.clone();
    named.user_name = Some(user("bob"));
    let error = auth.save_login(named.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RefreshTokenMissing);
    named.user_name = Some(user("ann"));
    let session = auth.save_login(named).await.unwrap();
    let access = session.access_token().await.unwrap();
    assert_eq!(Some(access.token()), unsaved.access_token.as_ref());
    let new = only(auth.store()).await;
    assert_eq!((new.id, &new.refresh_token), (old.id, &old.refresh_token));
    assert_eq!(new.access_token, unsaved.access_token);
}

#[tokio::test]
async fn a_spent_grant_token_leads_to_the_stored_login_of_its_user() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let open = || FileStore::open(folder.path().join("tokens.csv"));
    let settings = grant(&sandbox).user_name(user("ann"));
    let auth = authenticator(&sandbox, open().await.unwrap());
    auth.session(settings.clone()).await.unwrap();
    auth.session(grant(&sandbox).user_name(user("ann")))
        .await
        .unwrap();
    let stored = only(auth.store()).await;

    // Zoho is asked about the spent grant token once, and not at each start.
    for _ in 0..3 {
        let auth = authenticator(&sandbox, open().await.unwrap());
        let session = auth.session(settings.clone()).await.unwrap();
        assert_eq!(Some(session.id()), stored.id);
        session.access_token().await.unwrap();
        assert_eq!(only(auth.store()).await, stored);
        assert_eq!(sandbox.counts().code_exchanges_failed, 1);
    }

    // A new one is exchanged, and that is told.
    let mut events = auth.events();
    let session = auth
        .session(grant(&sandbox).user_name(user("ann")))
        .await
        .unwrap();
    let new = only(auth.store()).await;
    assert_eq!(Some(session.id()), stored.id);
    assert_ne!(new.refresh_token, stored.refresh_token);
    assert!(told(&mut events, "LoginReplaced"));

    // The login of another user, or of none, is no answer.
    for other in [settings.clone().user_name(user("bob")), {
        let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
        let spent = Credential::grant(client(&sandbox), GrantToken::new(code).unwrap());
        let elsewhere = authenticator(&sandbox, ListStore::new());
        elsewhere.session(spent.clone()).await.unwrap();
        spent
    }] {
        let error = auth.session(other).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode);
    }
}

async fn revoke(sandbox: &Sandbox, token: &RefreshToken) {
    let accounts = AccountsClient::new(&HttpOptions::new()).unwrap();
    accounts.revoke(&center(sandbox), token).await.unwrap();
}

/// A stored login of `name` that is good, and another refresh token of the same person.
async fn two_logins(sandbox: &Sandbox, store: &dyn TokenStore) -> (TokenId, RefreshToken) {
    let (older, _) = sandbox.login(&sandbox.people()[0], SCOPES);
    let id = store
        .save_token(&logged_in(sandbox, "ann", 3000))
        .await
        .unwrap();
    (id, RefreshToken::new(older).unwrap())
}

#[tokio::test]
async fn an_older_refresh_token_does_not_replace_the_stored_login() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let (id, older) = two_logins(&sandbox, &store).await;
    let stored = only(&store).await;
    for is_expired in [false, true] {
        if is_expired {
            expire(&store, id).await;
        }
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let mut events = auth.events();
        let credential = Credential::refresh(client(&sandbox), older.clone());
        let session = auth
            .session(credential.user_name(user("ann")))
            .await
            .unwrap();
        assert_eq!(session.id(), id);
        session.access_token().await.unwrap();
        assert_eq!(only(&store).await.refresh_token, stored.refresh_token);
        assert!(told(&mut events, "StoredLoginUsed"));
        assert_eq!(sandbox.counts().refreshes_of(older.expose_secret()), 0);
    }
}

#[tokio::test]
async fn a_refresh_token_replaces_a_stored_login_that_zoho_refuses() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let (id, older) = two_logins(&sandbox, &store).await;
    revoke(&sandbox, &only(&store).await.refresh_token.unwrap()).await;
    expire(&store, id).await;
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let credential = Credential::refresh(client(&sandbox), older.clone());
    let session = auth
        .session(credential.user_name(user("ann")))
        .await
        .unwrap();
    session.access_token().await.unwrap();
    let stored = only(&store).await;
    assert_eq!((stored.id, stored.refresh_token), (Some(id), Some(older)));
}

#[tokio::test]
async fn a_refresh_token_that_gets_its_name_later_replaces_the_stored_login_and_says_so() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let (id, other) = two_logins(&sandbox, &store).await;
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let credential = Credential::refresh(client(&sandbox), other.clone());
    let session = auth.session(credential).await.unwrap();
    let mut events = auth.events();
    let named = session.set_user_name(user("ann")).await.unwrap();
    assert_eq!(named.id(), id);
    assert_eq!(only(&store).await.refresh_token, Some(other));
    assert!(told(&mut events, "LoginReplaced"));
    // A name that was learned before replaces nothing.
    named.set_user_name(user("ann")).await.unwrap();
    assert!(!told(&mut events, "LoginReplaced"));
}

/// A stored login as older official SDKs wrote it.
async fn migrated(sandbox: &Sandbox, store: &dyn TokenStore) -> OAuthToken {
    let mut record = logged_in(sandbox, PLAIN, 3000);
    record.api_domain = None;
    record.id = store.save_token(&record).await.ok();
    record
}

#[tokio::test]
async fn a_record_under_the_address_alone_joins_the_login_with_the_full_name() {
    // Named at the login; named later; with the refresh token of the record; without one.
    for way in 0..4 {
        let sandbox = sandbox().await;
        let store = Arc::new(ListStore::new());
        if way == 3 {
            // Zoho sends a refresh token at the first consent only.
            let nowhere = authenticator(&sandbox, ListStore::new());
            nowhere.session(login_page(&sandbox)).await.unwrap();
        }
        let old = migrated(&sandbox, &store).await;
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let session = match way {
            0 => auth
                .session(grant(&sandbox).user_name(user(FULL)))
                .await
                .unwrap(),
            1 => {
                let nameless = auth.session(grant(&sandbox)).await.unwrap();
                nameless.set_user_name(user(FULL)).await.unwrap()
            }
            2 => {
                let refresh = old.refresh_token.clone().unwrap();
                let credential = Credential::refresh(client(&sandbox), refresh);
                auth.session(credential.user_name(user(FULL)))
                    .await
                    .unwrap()
            }
            _ => auth
                .session(login_page(&sandbox).user_name(user(FULL)))
                .await
                .unwrap(),
        };
        let stored = only(&store).await;
        assert_eq!(stored.user_name, Some(user(FULL)), "{way}");
        assert_eq!(stored.id, Some(session.id()), "{way}");
        assert_eq!(stored.refresh_token == old.refresh_token, way >= 2, "{way}");
        let access = session.access_token().await.unwrap();
        session.refused(access.token()).await.unwrap();
    }
}

#[tokio::test]
async fn a_record_under_the_address_alone_stays_where_it_may_be_another_login() {
    // Another organisation of the same address; another client; an unknown data center; another
    // environment; another name.
    for other in 0..5 {
        let sandbox = sandbox().await;
        let store = Arc::new(ListStore::new());
        let mut plain = logged_in(&sandbox, PLAIN, 3000);
        match other {
            0 => {
                let organisation = logged_in(&sandbox, "ann@example.com:70002", 3000);
                store.save_token(&organisation).await.unwrap();
            }
            1 => plain.client_id = zoho_oauth::ClientId::new("1000.OTHER").ok(),
            2 => plain.api_domain = Some("https://www.zohoapis.mars".to_owned()),
            3 => plain.api_domain = Some("https://www.zohoapis.com".to_owned()),
            _ => plain.user_name = Some(user("ann@example.co")),
        }
        plain.id = store.save_token(&plain).await.ok();
        let auth = of_sandbox(&sandbox, Arc::clone(&store));
        auth.session(grant(&sandbox).user_name(user(FULL)))
            .await
            .unwrap();
        let kept = store.find_token_by_id(plain.id.unwrap()).await.unwrap();
        assert_eq!(kept, Some(plain), "{other}");
    }
    // The same refresh token is the same login, whatever other organisations there are.
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let organisation = logged_in(&sandbox, "ann@example.com:70002", 3000);
    store.save_token(&organisation).await.unwrap();
    let old = migrated(&sandbox, &store).await;
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let credential = Credential::refresh(client(&sandbox), old.refresh_token.unwrap());
    auth.session(credential.user_name(user(FULL)))
        .await
        .unwrap();
    let names: Vec<_> = store.get_tokens().await.unwrap();
    let names: Vec<_> = names.into_iter().map(|row| row.user_name).collect();
    assert_eq!(
        names,
        [Some(user("ann@example.com:70002")), Some(user(FULL))]
    );
}

/// An authenticator whose data center has the API of `sandbox` as its sandbox environment.
fn of_sandbox(sandbox: &Sandbox, store: Arc<ListStore>) -> Authenticator {
    let center = DataCenter::builder("us", sandbox.accounts_url())
        .api_domain("https://www.zohoapis.com")
        .sandbox_domain(sandbox.api_url());
    let builder = builder(sandbox, store).data_center(center.build().unwrap());
    builder.build().unwrap()
}

#[tokio::test]
async fn a_sandbox_login_does_not_overwrite_the_production_login_of_its_user() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let mut production = logged_in(&sandbox, "ann", 3000);
    production.expiry_time = Some(in_seconds(3000));
    for domain in ["https://www.zohoapis.com", "https://api.zoho.com"] {
        store.delete_tokens().await.unwrap();
        production.api_domain = Some(domain.to_owned());
        production.id = None;
        production.id = store.save_token(&production).await.ok();
        let auth = of_sandbox(&sandbox, Arc::clone(&store));
        let error = auth
            .session(grant(&sandbox).user_name(user("ann")))
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::IdConflict);
        let text = error.remedy();
        assert!(
            text.contains("two stores") && text.contains("user names"),
            "{text}"
        );
        assert!(error.unsaved_token().unwrap().refresh_token.is_some());
        assert_eq!(only(&store).await, production);

        // The same if the name is learned later: two records stay two.
        let nameless = auth.session(grant(&sandbox)).await.unwrap();
        let error = nameless.set_user_name(user("ann")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::IdConflict);
        nameless.access_token().await.unwrap();
        assert_eq!(store.get_tokens().await.unwrap().len(), 2);
        let kept = store
            .find_token_by_id(production.id.unwrap())
            .await
            .unwrap();
        assert_eq!(kept.as_ref(), Some(&production));

        // Under another name there is room for both.
        auth.session(grant(&sandbox).user_name(user("ann in the sandbox")))
            .await
            .unwrap();
        auth.session(grant(&sandbox).user_name(user("ann in the sandbox")))
            .await
            .unwrap();
        assert_eq!(store.get_tokens().await.unwrap().len(), 3);
    }
}
