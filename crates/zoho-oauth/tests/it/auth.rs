//! The authenticator in one process: the ways to start, and everything that can happen to a
//! refresh.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::future::join_all;
use zoho_oauth::{
    Credential, ErrorCode, ErrorKind, Event, GrantToken, ListStore, OAuthClient, RefreshPolicy,
    RefreshToken, Session, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::support::{
    SCOPES, authenticator, builder, client, expire, expired, in_seconds, logged_in, refreshes,
    sandbox, user,
};

fn grant(sandbox: &Sandbox) -> Credential {
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    Credential::grant(client(sandbox), GrantToken::new(code).unwrap()).into()
}

/// Asks `tasks` times at once, and returns the different tokens that came back.
async fn ask_at_once(session: &Session, tasks: usize) -> HashSet<String> {
    let asked = (0..tasks).map(|_| {
        let session = session.clone();
        tokio::spawn(async move {
            let access = session.access_token().await.unwrap();
            access.token().expose_secret().to_owned()
        })
    });
    let answers = join_all(asked.collect::<Vec<_>>()).await;
    answers.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_grant_token_is_exchanged_once_however_many_start_from_it() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let credential = grant(&sandbox);
    let starts = (0..50).map(|_| {
        let (auth, credential) = (auth.clone(), credential.clone());
        tokio::spawn(async move { auth.session(credential).await.unwrap().id() })
    });
    let ids = join_all(starts.collect::<Vec<_>>()).await;
    let ids: HashSet<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
    assert_eq!(sandbox.counts().code_exchanges_failed, 0);

    let stored = auth.store().get_tokens().await.unwrap();
    assert_eq!(stored.len(), 1);
    assert!(stored[0].refresh_token.is_some() && stored[0].client_secret.is_some());
    assert_eq!(stored[0].api_domain.as_deref(), Some(sandbox.api_url()));
}

#[tokio::test]
async fn after_a_restart_the_used_grant_token_finds_the_stored_login() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let credential = grant(&sandbox);
    let first = authenticator(&sandbox, Arc::clone(&store));
    let first = first.session(credential.clone()).await.unwrap();
    let again = authenticator(&sandbox, Arc::clone(&store));
    let again = again.session(credential).await.unwrap();
    assert_eq!(first.id(), again.id());
    let tokens = [&first, &again].map(Session::access_token);
    let tokens = join_all(tokens).await;
    assert_eq!(
        tokens[0].as_ref().unwrap().token(),
        tokens[1].as_ref().unwrap().token()
    );
    assert_eq!(sandbox.requests().len(), 1);
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_then_found() {
    let sandbox = sandbox().await;
    let (refresh, _) = sandbox.login(&sandbox.people()[0], SCOPES);
    let credential = Credential::refresh(client(&sandbox), RefreshToken::new(refresh).unwrap())
        .user_name(user("ann"));
    let auth = authenticator(&sandbox, ListStore::new());
    let session = auth.session(credential.clone()).await.unwrap();
    let again = auth.session(credential).await.unwrap();
    assert_eq!(session.id(), again.id());
    assert_eq!(session.user_name(), Some(user("ann")));
    assert_eq!(refreshes(&sandbox), 1);
    let by_user = auth.access_token(&user("ann")).await.unwrap();
    assert_eq!(
        by_user.token(),
        session.access_token().await.unwrap().token()
    );
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn a_bare_access_token_works_until_it_is_refused() {
    let sandbox = sandbox().await;
    let token = logged_in(&sandbox, "ann", 3600).access_token.unwrap();
    let auth = authenticator(&sandbox, ListStore::new());
    let session = auth
        .session(Credential::access(token.clone()))
        .await
        .unwrap();
    assert_eq!(session.access_token().await.unwrap().token(), &token);
    assert_eq!(session.access_token().await.unwrap().expires_at(), None);
    let refused = session.refused(&token).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::AccessTokenEnded);
    assert_eq!(refused.kind(), ErrorKind::LoginRequired);
    assert_eq!(sandbox.requests().len(), 0);
}

/// Defect 25: the official SDKs prefer the caller's stale access token to the stored good one.
#[tokio::test]
async fn what_is_stored_outlives_the_callers_access_token() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let stored = logged_in(&sandbox, "ann", 3600);
    auth.store().save_token(&stored).await.unwrap();
    let stale = zoho_oauth::AccessToken::new("1000.stale.token").unwrap();
    let credential = Credential::access(stale).user_name(user("ann"));
    let access = auth.session(credential).await.unwrap();
    let access = access.access_token().await.unwrap();
    assert_eq!(Some(access.token()), stored.access_token.as_ref());
    assert_eq!(access.expires_at(), stored.expiry_time);
    assert_eq!(sandbox.requests().len(), 0);
}

#[tokio::test]
async fn an_id_and_a_user_must_be_stored() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, _) = expired(&sandbox, auth.store(), "ann").await;
    for credential in [
        Credential::User(user("bob")),
        Credential::Stored(id.next().unwrap()),
    ] {
        let error = auth.session(credential).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::LoginRequired);
    }
    let error = auth.access_token(&user("bob")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::LoginRequired);
    assert_eq!(auth.session(user("ann")).await.unwrap().id(), id);
}

/// Defect 29: with the official SDK such tokens cannot be used to authenticate.
#[tokio::test]
async fn records_that_were_listed_can_be_used() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    for name in ["ann", "bob"] {
        expired(&sandbox, auth.store(), name).await;
    }
    for token in auth.store().get_tokens().await.unwrap() {
        let session = auth.session(token.id.unwrap()).await.unwrap();
        session.access_token().await.unwrap();
    }
    assert_eq!(refreshes(&sandbox), 2);
}

/// Defects 5 and 24: 50 threads, 50 refreshes, and the refresh token lost.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_tasks_and_one_expired_token_make_one_refresh() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, old) = expired(&sandbox, auth.store(), "ann").await;
    let session = auth.session(id).await.unwrap();
    let tokens = ask_at_once(&session, 50).await;
    assert_eq!(tokens.len(), 1);
    assert_eq!(refreshes(&sandbox), 1);
    let stored = auth.store().find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, old.refresh_token);
    assert_eq!(stored.client_secret, old.client_secret);
    let access = stored.access_token.unwrap();
    assert!(tokens.contains(access.expose_secret()));
    assert!(stored.expiry_time.unwrap() > in_seconds(3500));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_waits_gets_the_same_error() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, _) = expired(&sandbox, auth.store(), "ann").await;
    let session = auth.session(id).await.unwrap();
    sandbox.inject(Fault::throttle());
    let asked = (0..20).map(|_| session.access_token());
    for answer in join_all(asked).await {
        let error = answer.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Throttled);
        assert!(error.retry_after().is_some_and(|wait| !wait.is_zero()));
    }
    assert_eq!(refreshes(&sandbox), 1);
}

/// Polls `work` at most `times` times, letting everything else run in between, and drops it.
async fn poll_and_drop(work: impl Future + Send, times: usize) -> bool {
    let mut work = pin!(work);
    for _ in 0..times {
        let ready = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if ready.is_ready() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

#[tokio::test]
async fn a_caller_dropped_at_any_await_leaves_the_refresh_to_finish() {
    let sandbox = sandbox().await;
    let mut dropped_early = 0;
    for polls in 1..=12 {
        let auth = authenticator(&sandbox, ListStore::new());
        let name = format!("user {polls}");
        let (id, old) = expired(&sandbox, auth.store(), &name).await;
        let session = auth.session(id).await.unwrap();
        let mut events = auth.events();
        let before = refreshes(&sandbox);
        if !poll_and_drop(session.access_token(), polls).await {
            dropped_early += 1;
        }
        drop((session, auth.clone()));
        let event = events.recv().await.unwrap();
        assert!(matches!(event, Event::Refreshed { id: of, .. } if of == id));
        let stored = auth.store().find_token_by_id(id).await.unwrap().unwrap();
        assert_ne!(stored.access_token, old.access_token);
        assert_eq!(refreshes(&sandbox), before + 1);
    }
    assert!(dropped_early > 0, "no call was dropped before its end");
}

#[tokio::test]
async fn a_dropped_login_is_finished_and_stored() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let credential = grant(&sandbox);
    let mut events = auth.events();
    assert!(!poll_and_drop(auth.session(credential.clone()), 1).await);
    let event = events.recv().await.unwrap();
    assert!(matches!(event, Event::LoggedIn { .. }));
    auth.session(credential).await.unwrap();
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
}

#[tokio::test]
async fn a_throttled_token_is_left_alone_until_the_window_ends() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    sandbox.inject(Fault::throttle());
    for _ in 0..5 {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Throttled);
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        // Longer than an error is kept for those who ask at the same moment.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(refreshes(&sandbox), 1);
    // Another user of the same application is not affected.
    let (other, _) = expired(&sandbox, &store, "bob").await;
    let other = auth.session(other).await.unwrap();
    other.access_token().await.unwrap();
}

#[tokio::test]
async fn a_refused_refresh_token_is_not_sent_again_until_a_new_one_is_saved() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, mut token) = expired(&sandbox, auth.store(), "ann").await;
    let good = token
        .refresh_token
        .replace(RefreshToken::new("1000.dead").unwrap());
    token.id = Some(id);
    auth.store().save_token(&token).await.unwrap();
    let session = auth.session(id).await.unwrap();
    for _ in 0..3 {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode);
        assert_eq!(error.kind(), ErrorKind::LoginRequired);
        assert_eq!(error.server_code(), Some("invalid_code"));
    }
    assert_eq!(refreshes(&sandbox), 1);
    let stored = auth.store().find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored, token, "a refusal changes nothing in the store");

    token.refresh_token = good;
    auth.store().save_token(&token).await.unwrap();
    session.access_token().await.unwrap();
    assert_eq!(refreshes(&sandbox), 2);
}

#[tokio::test]
async fn a_wrong_client_secret_is_no_verdict_on_the_token() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let (id, token) = expired(&sandbox, &store, "ann").await;
    let wrong = OAuthClient::new(sandbox.client_id(), "another secret").unwrap();
    let auth = builder(&sandbox, Arc::clone(&store)).client(wrong);
    let auth = auth.build().unwrap();
    let session = auth.session(id).await.unwrap();
    for _ in 0..2 {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidClientSecret);
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
    }
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, token.refresh_token);
    // With the right secret the same record works, and nobody logs in again.
    let auth = authenticator(&sandbox, store);
    auth.session(id)
        .await
        .unwrap()
        .access_token()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again_and_passes_no_verdict() {
    for fault in [
        Fault::status(500),
        Fault::status(503),
        Fault::html(),
        Fault::cut(),
    ] {
        let sandbox = sandbox().await;
        let store = Arc::new(ListStore::new());
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let (id, _) = expired(&sandbox, &store, "ann").await;
        let session = auth.session(id).await.unwrap();
        sandbox.inject(fault.clone().on(Endpoint::Refresh).times(2));
        session.access_token().await.unwrap();
        assert_eq!(sandbox.requests().len(), 3, "{fault:?}");

        expire(&store, id).await;
        let once = RefreshPolicy::new().with_attempts(1);
        let auth = builder(&sandbox, Arc::clone(&store)).policy(once);
        let auth = auth.build().unwrap();
        let session = auth.session(id).await.unwrap();
        sandbox.inject(fault.clone().on(Endpoint::Refresh).times(1));
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{fault:?}");
        assert!(error.is_transient());
        // Callers of the next half second get the same answer; then Zoho is asked again.
        tokio::time::sleep(Duration::from_millis(600)).await;
        session.access_token().await.unwrap();
    }
}

#[tokio::test]
async fn a_good_token_is_served_while_the_server_is_in_trouble() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let token = logged_in(&sandbox, "ann", 120);
    let id = auth.store().save_token(&token).await.unwrap();
    sandbox.inject(Fault::status(500).always());
    let session = auth.session(id).await.unwrap();
    let mut events = auth.events();
    let served = session.access_token().await.unwrap();
    assert_eq!(Some(served.token()), token.access_token.as_ref());
    let event = events.recv().await.unwrap();
    assert!(matches!(event, Event::RefreshFailed { .. }), "{event:?}");
    session.access_token().await.unwrap();
}
