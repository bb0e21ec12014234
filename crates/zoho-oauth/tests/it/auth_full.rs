//! A store that cannot write down what is asked of Zoho, as on a full disk.

use std::time::Duration;

use zoho_oauth::{AccessToken, ErrorCode, GrantToken, OAuthToken, TokenStore};
use zoho_sandbox::Sandbox;

use crate::support::{SCOPES, authenticator, expired, good, logged_in, refreshes, sandbox, user};
use crate::troubled::{Call, Trouble, TroubledStore, access_again, grant};

/// Processes that start one after the other on a full disk.
#[tokio::test]
async fn what_cannot_be_counted_is_not_asked_for() {
    for code in [
        ErrorCode::StoreFull,
        ErrorCode::StorePermission,
        ErrorCode::StoreLocked,
        ErrorCode::StoreUnavailable,
    ] {
        let sandbox = Sandbox::builder().start().await.unwrap();
        let store = TroubledStore::new();
        let (id, _) = expired(&sandbox, &store, "ann").await;
        let fine = store.save_token(&good("bob", "c")).await.unwrap();
        store.trouble(Call::SetMemo, Trouble::Fail(code));
        store.trouble(Call::Save, Trouble::Fail(code));
        for _ in 0..12 {
            let auth = authenticator(&sandbox, store.clone());
            let session = auth.session(id).await.unwrap();
            let error = session.access_token().await.unwrap_err();
            assert_eq!(error.code(), code);
            assert!(error.message().contains("Zoho is not asked"), "{error}");
            let good = auth.session(fine).await.unwrap();
            good.access_token().await.unwrap();
        }
        assert_eq!(refreshes(&sandbox), 0);
        // In one process, what was not asked for does not count once there is room again.
        let auth = authenticator(&sandbox, store.clone());
        let session = auth.session(id).await.unwrap();
        for _ in 0..12 {
            session.access_token().await.unwrap_err();
            let forced = AccessToken::new("1000.refused").unwrap();
            session.refused(&forced).await.unwrap_err();
        }
        assert_eq!(refreshes(&sandbox), 0);
        store.recover();
        access_again(&session).await;
        assert_eq!(refreshes(&sandbox), 1);
    }
}

/// A grant token works once: it is not spent on an answer that cannot be saved.
#[tokio::test]
async fn a_grant_token_survives_a_full_disk() {
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let login = grant(&sandbox);
    store.trouble(Call::SetMemo, Trouble::Fail(ErrorCode::StoreFull));
    store.trouble(Call::Save, Trouble::Fail(ErrorCode::StoreFull));
    let auth = authenticator(&sandbox, store.clone());
    let error = auth.session(login.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreFull);
    assert!(error.unsaved_token().is_none());

    // Nor is one that lies in the store.
    let mut stored = OAuthToken::new();
    stored.user_name = Some(user("bob"));
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    stored.grant_token = GrantToken::new(code).ok();
    let id = store.inner.save_token(&stored).await.unwrap();
    let session = auth.session(id).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreFull);
    assert_eq!(sandbox.counts().code_exchanges_ok, 0);

    store.recover();
    while auth.session(login.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    access_again(&session).await;
    assert_eq!(sandbox.counts().code_exchanges_ok, 2);
    assert_eq!(sandbox.counts().code_exchanges_failed, 0);
}

/// Where nothing can be written down, this process is all there is.
#[tokio::test]
async fn a_store_without_a_memory_counts_in_the_process() {
    let sandbox = sandbox().await;
    let store = TroubledStore::alone();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    store.trouble(Call::Save, Trouble::Fail(ErrorCode::StoreFull));
    let auth = authenticator(&sandbox, store.clone());
    let session = auth.session(id).await.unwrap();
    assert!(session.access_token().await.unwrap().is_degraded());
    assert_eq!(refreshes(&sandbox), 1);
}

/// What another process refreshed is good, also while what it counted cannot be read.
#[tokio::test]
async fn a_stored_token_is_used_although_its_memory_cannot_be_read() {
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let auth = authenticator(&sandbox, store.clone());
    let session = auth.session(id).await.unwrap();
    let new = logged_in(&sandbox, "ann", 3600);
    store.save_token(&new).await.unwrap();
    store.trouble(Call::Memo, Trouble::Fail(ErrorCode::StoreUnavailable));
    let access = session.access_token().await.unwrap();
    assert_eq!(Some(access.token()), new.access_token.as_ref());
    assert_eq!(refreshes(&sandbox), 0);
}
