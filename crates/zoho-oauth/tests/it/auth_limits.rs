//! How often Zoho and the store are asked when things go wrong.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use zoho_oauth::store::CoordinationKey;
use zoho_oauth::{
    Credential, DataCenter, ErrorCode, ErrorKind, Event, FileStore, GrantToken, ListStore,
    OAuthClient, OAuthToken, RefreshPolicy, RefreshToken, TokenId, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::hooks::{HookStore, OneLock, Step, out_of_order};
use crate::support::{
    authenticator, builder, client, expire, expired, in_seconds, logged_in, no_memory, refreshes,
    sandbox,
};

async fn file_store(folder: &tempfile::TempDir) -> Arc<FileStore> {
    let path = folder.path().join("sdk_tokens.txt");
    Arc::new(FileStore::open(path).await.unwrap())
}

/// What never arrived at Zoho, and what it answered with trouble, made no access token there. An
/// outage of seconds must not become ten minutes without one.
#[tokio::test]
async fn an_outage_does_not_spend_the_budget() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(&folder).await;
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let once = RefreshPolicy::new().with_attempts(1);
    let nobody = DataCenter::builder("us", "http://127.0.0.1:9").api_domain(sandbox.api_url());
    let nobody = nobody.build().unwrap();
    sandbox.inject(Fault::status(500).on(Endpoint::Refresh).times(1));
    for round in 0..20 {
        // A new process each time, which remembers no failure of its own.
        let mut auth = builder(&sandbox, Arc::clone(&store)).policy(once.clone());
        if round < 19 {
            auth = auth.data_center(nobody.clone());
        }
        let session = auth.build().unwrap().session(id).await.unwrap();
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "round {round}: {error}");
    }
    loop {
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let session = auth.session(id).await.unwrap();
        let Err(error) = session.access_token().await else {
            break;
        };
        // Zoho's server said that it was in trouble, and is left alone for a moment.
        assert_eq!(error.code(), ErrorCode::ServerError);
        let wait = error.retry_after().unwrap();
        assert!(wait < Duration::from_secs(1), "{wait:?}");
        tokio::time::sleep(wait).await;
    }
}

/// An answer that got lost may have been a token: Zoho has counted it.
#[tokio::test]
async fn a_lost_answer_counts() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(&folder).await;
    let (id, _) = expired(&sandbox, &store, "ann").await;
    sandbox.inject(Fault::cut().on(Endpoint::Refresh).times(7));
    // The last, since it is trouble of the server, which is left alone for a moment.
    sandbox.inject(Fault::malformed_json().on(Endpoint::Refresh).times(1));
    let mut codes = HashSet::new();
    for _ in 0..10 {
        let once = RefreshPolicy::new().with_attempts(1);
        let auth = builder(&sandbox, Arc::clone(&store)).policy(once);
        let session = auth.build().unwrap().session(id).await.unwrap();
        codes.insert(session.access_token().await.unwrap_err().code());
    }
    assert!(codes.contains(&ErrorCode::MintBudget), "{codes:?}");
    assert_eq!(refreshes(&sandbox), 8);
}

#[tokio::test]
async fn a_login_counts_as_one_of_the_ten() {
    // With Zoho's real limit of ten in ten minutes.
    let sandbox = Sandbox::builder().start().await.unwrap();
    let auth = builder(&sandbox, ListStore::new()).policy(no_memory());
    let auth = auth.build().unwrap();
    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    let session = auth
        .session(Credential::refresh(client(&sandbox), refresh))
        .await
        .unwrap();
    let id = session.id();
    let mut last = session.access_token().await.unwrap();
    for _ in 0..20 {
        match session.refused(last.token()).await {
            Ok(access) => last = access,
            Err(error) => assert_eq!(error.code(), ErrorCode::MintBudget),
        }
        expire(auth.store(), id).await;
    }
    assert_eq!(refreshes(&sandbox), 10);
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
}

#[tokio::test]
async fn a_login_that_is_saved_later_counts_as_one_of_the_ten() {
    // With Zoho's real limit of ten in ten minutes.
    let sandbox = Sandbox::builder().start().await.unwrap();
    let auth = builder(&sandbox, ListStore::new()).policy(no_memory());
    let auth = auth.build().unwrap();
    let login = logged_in(&sandbox, "ann", 3600);
    let session = auth.save_login(login).await.unwrap();
    let id = session.id();
    let mut last = session.access_token().await.unwrap();
    for _ in 0..12 {
        match session.refused(last.token()).await {
            Ok(access) => last = access,
            Err(error) => assert_eq!(error.code(), ErrorCode::MintBudget),
        }
        expire(auth.store(), id).await;
    }
    // The access token that came with the login is the first.
    assert_eq!(refreshes(&sandbox), 9);
}

#[tokio::test]
async fn a_login_that_zoho_refused_or_throttled_is_not_tried_again_at_once() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let dead = RefreshToken::new("1000.dead").unwrap();
    for _ in 0..5 {
        let credential = Credential::refresh(client(&sandbox), dead.clone());
        let error = auth.session(credential).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode);
        assert_eq!(error.server_code(), Some("invalid_code"));
    }
    assert_eq!(refreshes(&sandbox), 1);

    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    sandbox.inject(Fault::throttle());
    for _ in 0..5 {
        let credential = Credential::refresh(client(&sandbox), refresh.clone());
        let error = auth.session(credential).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Throttled);
        assert!(error.retry_after().is_some_and(|wait| !wait.is_zero()));
    }
    assert_eq!(refreshes(&sandbox), 2);

    let code = GrantToken::new("1000.used.code").unwrap();
    for _ in 0..5 {
        let credential = Credential::grant(client(&sandbox), code.clone());
        let error = auth.session(credential).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode);
    }
    assert_eq!(sandbox.counts().code_exchanges_failed, 1);
}

#[tokio::test]
async fn a_login_that_can_never_be_saved_stays_within_zohos_limit() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = HookStore::new(ListStore::new());
    let policy = RefreshPolicy::new().with_patience(Duration::ZERO);
    let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
    let auth = auth.build().unwrap();
    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    store.at_each_step(|step| async move {
        match step {
            Step::Save => Err(out_of_order()),
            _ => Ok(()),
        }
    });
    let mut codes = HashSet::new();
    for _ in 0..20 {
        let credential = Credential::refresh(client(&sandbox), refresh.clone());
        codes.insert(auth.session(credential).await.unwrap_err().code());
    }
    let expected = [ErrorCode::TokenNotSaved, ErrorCode::MintBudget];
    assert_eq!(codes, HashSet::from(expected));
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
}

#[tokio::test]
async fn a_wrong_client_is_not_sent_with_every_call() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let wrong = OAuthClient::new(sandbox.client_id(), "another secret").unwrap();
    let auth = builder(&sandbox, store).client(wrong).build().unwrap();
    let session = auth.session(id).await.unwrap();
    for _ in 0..50 {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidClientSecret);
    }
    assert!(refreshes(&sandbox) <= 5, "{}", refreshes(&sandbox));
}

#[tokio::test]
async fn a_stored_grant_token_that_is_of_no_use_is_sent_once() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let mut token = OAuthToken::new();
    token.client_id = Some(client(&sandbox).id);
    token.grant_token = GrantToken::new("1000.used.code").ok();
    let id = auth.store().save_token(&token).await.unwrap();
    let session = auth.session(id).await.unwrap();
    for _ in 0..5 {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode);
    }
    assert_eq!(sandbox.counts().code_exchanges_failed, 1);
}

/// While a refresh is due and cannot be, the good token comes from memory as ever.
#[tokio::test]
async fn a_refresh_that_cannot_be_leaves_the_hot_path_hot() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let files = file_store(&folder).await;
    let mut token = logged_in(&sandbox, "ann", 200);
    token.refresh_token = RefreshToken::new("1000.dead").ok();
    let id = files.save_token(&token).await.unwrap();
    let auth = authenticator(&sandbox, Arc::clone(&files));
    let mut events = auth.events();
    let session = auth.session(id).await.unwrap();
    session.access_token().await.unwrap();
    while !matches!(events.recv().await.unwrap(), Event::LoginRequired { .. }) {}

    let store = HookStore::new(files);
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    store.at_each_step(move |step| {
        count.fetch_add(usize::from(step == Step::FindById), Ordering::SeqCst);
        async { Ok(()) }
    });
    let auth = authenticator(&sandbox, store);
    let session = auth.session(id).await.unwrap();
    for _ in 0..100 {
        session.access_token().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let reads = reads.load(Ordering::SeqCst);
    assert!(reads <= 3, "the store was read {reads} times");
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn a_dead_login_is_told_once_and_not_with_every_call() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let mut token = logged_in(&sandbox, "ann", -60);
    token.refresh_token = RefreshToken::new("1000.dead").ok();
    let id = auth.store().save_token(&token).await.unwrap();
    let mut events = auth.events();
    let session = auth.session(id).await.unwrap();
    for _ in 0..10 {
        session.access_token().await.unwrap_err();
    }
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        told += usize::from(matches!(event, Event::LoginRequired { .. }));
    }
    assert_eq!(told, 1);
}

/// The budget must hold also while the store cannot write it down: the next process would not know
/// what this one asked for.
#[tokio::test]
async fn a_budget_that_cannot_be_written_down_is_not_drawn_on() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let lock = OneLock::default();
    let store = HookStore::with_one_lock(ListStore::new(), lock.clone());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let mut token = logged_in(&sandbox, "ann", 3600);
    token.expiry_time = Some(in_seconds(3600));
    let id = store.save_token(&token).await.unwrap();
    let session = auth.session(id).await.unwrap();
    lock.forget();
    let good = session.access_token().await.unwrap();
    for _ in 0..20 {
        let error = session.refused(good.token()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
        session.access_token().await.unwrap();
    }
    assert_eq!(refreshes(&sandbox), 0);
}

/// Users behind one lock queue up in memory instead of all trying for the lock again and again.
#[tokio::test]
async fn a_crowd_behind_one_lock_waits_in_line() {
    const CROWD: usize = 40;
    let sandbox = sandbox().await;
    let lock = OneLock::default();
    let store = HookStore::with_one_lock(ListStore::new(), lock.clone());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let mut sessions = Vec::new();
    // Ids whose keys share a lock in the stores of one machine.
    let ids = (1..).map(|number| TokenId::new(number).unwrap());
    let ids = ids.filter(|&id| CoordinationKey::record(id).stripe(64) == 7);
    for id in ids.take(CROWD) {
        let mut token = logged_in(&sandbox, &format!("user {id}"), -60);
        token.id = Some(id);
        store.save_token(&token).await.unwrap();
        sessions.push(auth.session(id).await.unwrap());
    }
    sandbox.inject(
        Fault::delay(Duration::from_millis(10))
            .on(Endpoint::Refresh)
            .always(),
    );
    for answer in join_all(sessions.iter().map(zoho_oauth::Session::access_token)).await {
        answer.unwrap();
    }
    assert_eq!(lock.most_refused(), 1);
}

#[tokio::test]
async fn waiting_in_line_ends_with_the_patience() {
    let sandbox = sandbox().await;
    let policy = RefreshPolicy::new().with_at_once(1);
    let auth = builder(&sandbox, ListStore::new())
        .policy(policy.with_patience(Duration::from_millis(50)))
        .build()
        .unwrap();
    let (first, _) = expired(&sandbox, auth.store(), "ann").await;
    let (second, _) = expired(&sandbox, auth.store(), "bob").await;
    sandbox.inject(Fault::delay(Duration::from_mins(1)).on(Endpoint::Refresh));
    let session = auth.session(first).await.unwrap();
    tokio::spawn(async move { session.access_token().await });
    while refreshes(&sandbox) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let session = auth.session(second).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreLocked);
    assert!(error.is_transient());
    assert_eq!(refreshes(&sandbox), 1);
}

/// As from replicas, of which some lag behind.
#[tokio::test]
async fn a_store_that_shows_two_logins_in_turn_does_not_let_zoho_be_asked_for_ever() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let session = auth.session(id).await.unwrap();
    let (inner, reads) = (Arc::clone(&store), AtomicUsize::new(0));
    store.at_each_step(move |step| {
        let is_read = step == Step::FindById;
        let read = reads.fetch_add(usize::from(is_read), Ordering::SeqCst);
        let inner = Arc::clone(&inner);
        async move {
            if is_read && read < 40 {
                let mut other = OAuthToken::new();
                other.id = Some(id);
                let text = if read.is_multiple_of(2) {
                    "1000.old"
                } else {
                    "1000.new"
                };
                other.refresh_token = RefreshToken::new(text).ok();
                inner.inner.save_token(&other).await?;
            }
            Ok(())
        }
    });
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert_eq!(refreshes(&sandbox), 1);
}

/// A process that cannot read what others counted neither writes over it nor asks Zoho: it cannot
/// write down what it asks for.
#[tokio::test]
async fn a_memory_that_cannot_be_read_is_not_written_over() {
    let sandbox = sandbox().await;
    let lock = OneLock::default();
    let store = HookStore::with_one_lock(ListStore::new(), lock.clone());
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    for _ in 0..3 {
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let session = auth.session(id).await.unwrap();
        session.access_token().await.unwrap();
        expire(&store.inner, id).await;
    }
    assert_eq!(lock.remembered(id).minted_at.len(), 3);
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let session = auth.build().unwrap().session(id).await.unwrap();
    lock.hide(true);
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert_eq!(lock.remembered(id).minted_at.len(), 3);
    assert_eq!(refreshes(&sandbox), 3);
    lock.hide(false);
    while session.access_token().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(lock.remembered(id).minted_at.len(), 4);
}
