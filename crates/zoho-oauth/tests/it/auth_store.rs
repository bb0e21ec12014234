//! The authenticator and its store: saves that fail, records that vanish, users and centers that
//! must not mix.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use zoho_oauth::{
    Authenticator, Credential, DataCenter, ErrorCode, ErrorKind, Event, GrantToken, Guarantee,
    ListStore, OAuthClient, RefreshPolicy, RefreshToken, Session, TokenQuery, TokenStore,
};
use zoho_sandbox::{Client, Endpoint, Fault, Organisation, Person, Sandbox};

use crate::support::{
    FlakyStore, SCOPES, authenticator, builder, center, client, expire, expired, in_seconds,
    logged_in, no_memory, refreshes, sandbox, user,
};

/// Waits for an event that `wanted` picks, and returns it.
async fn event(
    events: &mut tokio::sync::broadcast::Receiver<Event>,
    wanted: impl Fn(&Event) -> bool,
) -> Event {
    loop {
        let event = events.recv().await.unwrap();
        if wanted(&event) {
            return event;
        }
    }
}

#[tokio::test]
async fn a_refresh_that_cannot_be_saved_is_handed_out_and_saved_later() {
    let sandbox = sandbox().await;
    let store = FlakyStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, old) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    let mut events = auth.events();
    store.fail_saves(2);
    let access = session.access_token().await.unwrap();
    assert!(access.is_degraded());
    let told = events.recv().await.unwrap();
    assert!(matches!(told, Event::StoreDegraded { .. }), "{told:?}");
    let told = events.recv().await.unwrap();
    assert!(matches!(told, Event::SaveFailed { .. }), "{told:?}");
    let stored = store.inner.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.access_token, old.access_token);

    event(&mut events, |event| {
        matches!(event, Event::SaveRecovered { .. })
    })
    .await;
    let stored = store.inner.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.access_token.as_ref(), Some(access.token()));
    assert_eq!(stored.refresh_token, old.refresh_token);
    assert!(!session.access_token().await.unwrap().is_degraded());
    assert_eq!(refreshes(&sandbox), 1);
}

/// Defect 6: the official SDK logs a failed save and drops the token of a one-time grant.
#[tokio::test]
async fn a_login_that_cannot_be_saved_comes_with_the_error() {
    let sandbox = sandbox().await;
    let store = FlakyStore::new(ListStore::new());
    // Else it would be saved a moment later.
    let policy = RefreshPolicy::new().with_patience(Duration::ZERO);
    let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
    let auth = auth.build().unwrap();
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    let credential = Credential::grant(client(&sandbox), GrantToken::new(code).unwrap());
    store.fail_saves(1);
    let error = auth.session(credential.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenNotSaved);
    assert!(
        std::error::Error::source(&error).is_some(),
        "the cause is kept"
    );
    let rescued = error.unsaved_token().unwrap().clone();
    assert!(rescued.refresh_token.is_some() && rescued.access_token.is_some());

    store.save_token(&rescued).await.unwrap();
    auth.session(credential)
        .await
        .unwrap()
        .access_token()
        .await
        .unwrap();
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_is_an_error_of_its_own() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    let credential = Credential::grant(client(&sandbox), GrantToken::new(code).unwrap());
    sandbox.inject(Fault::no_refresh_token());
    let error = auth.session(credential).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RefreshTokenMissing);
    assert!(error.remedy().contains("prompt=consent"), "{error:?}");
    assert!(format!("{error:?}").contains(error.remedy()), "{error:?}");
    assert!(error.unsaved_token().unwrap().access_token.is_some());
    assert_eq!(auth.store().get_tokens().await.unwrap(), []);
}

/// Defect 26: without a stored expiry the official SDKs hand a token out for ever.
#[tokio::test]
async fn an_answer_without_an_expiry_means_an_hour() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, mut token) = expired(&sandbox, auth.store(), "ann").await;
    auth.store().delete_token(id).await.unwrap();
    token.expiry_time = None;
    let id = auth.store().save_token(&token).await.unwrap();
    sandbox.inject(Fault::no_expires_in());
    let session = auth.session(id).await.unwrap();
    let access = session.access_token().await.unwrap();
    assert_eq!(refreshes(&sandbox), 1, "no expiry counts as ended");
    let end = access.expires_at().unwrap();
    assert!(end > in_seconds(3590) && end <= in_seconds(3600));
}

/// Defects 7 and 25: whoever read before must not put the old refresh token back.
#[tokio::test]
async fn a_new_login_during_a_refresh_keeps_its_refresh_token() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, old) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    sandbox.inject(Fault::delay(Duration::from_millis(300)).on(Endpoint::Refresh));
    let refreshing = tokio::spawn(async move { session.access_token().await });
    while refreshes(&sandbox) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let new = logged_in(&sandbox, "ann", 3600);
    assert_eq!(store.save_token(&new).await.unwrap(), id);
    refreshing.await.unwrap().unwrap();
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, new.refresh_token);
    assert_ne!(stored.refresh_token, old.refresh_token);
}

/// Defect 11: the official SDK raises an error that does not say what happened.
#[tokio::test]
async fn a_record_deleted_during_a_refresh_stays_deleted_and_says_so() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    sandbox.inject(Fault::delay(Duration::from_millis(300)).on(Endpoint::Refresh));
    let refreshing = {
        let session = session.clone();
        tokio::spawn(async move { session.access_token().await })
    };
    while refreshes(&sandbox) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.delete_token(id).await.unwrap());
    let error = refreshing.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert_eq!(store.get_tokens().await.unwrap(), []);
    let again = session.access_token().await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::RecordDeleted);

    // By name, the next login of the same user is found again.
    let new = store
        .save_token(&logged_in(&sandbox, "ann", 3600))
        .await
        .unwrap();
    assert!(new > id);
    auth.access_token(&user("ann")).await.unwrap();
}

#[tokio::test]
async fn a_record_that_another_process_deleted_is_not_handed_out_after_the_recheck() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();
    let id = store
        .save_token(&logged_in(&sandbox, "ann", 3600))
        .await
        .unwrap();
    auth.access_token(&user("ann")).await.unwrap();
    let session = auth.session(id).await.unwrap();
    store.delete_token(id).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    let error = auth.access_token(&user("ann")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::LoginRequired);
}

#[tokio::test]
async fn a_token_that_another_process_refreshed_is_taken_over() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    let newer = logged_in(&sandbox, "ann", 3600);
    store.save_token(&newer).await.unwrap();
    let access = session.access_token().await.unwrap();
    assert_eq!(Some(access.token()), newer.access_token.as_ref());
    assert_eq!(refreshes(&sandbox), 0);
}

#[tokio::test]
async fn revoking_ends_it_at_zoho_and_in_the_store() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, token) = expired(&sandbox, auth.store(), "ann").await;
    let (other, _) = expired(&sandbox, auth.store(), "bob").await;
    let session = auth.session(id).await.unwrap();
    session.access_token().await.unwrap();
    assert!(auth.revoke(id).await.unwrap());
    assert!(!auth.revoke(id).await.unwrap());
    assert_eq!(sandbox.counts().revocations, 1);
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    // Defect 16: the official SDKs revoke somebody else's token, or nothing.
    let left = auth.store().get_tokens().await.unwrap();
    assert_eq!(left.len(), 1);
    auth.session(other)
        .await
        .unwrap()
        .access_token()
        .await
        .unwrap();
    let credential = Credential::refresh(client(&sandbox), token.refresh_token.unwrap());
    let error = auth.session(credential).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidCode);
}

#[tokio::test]
async fn a_revocation_that_zoho_did_not_hear_deletes_nothing() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, _) = expired(&sandbox, auth.store(), "ann").await;
    sandbox.inject(Fault::status(500).on(Endpoint::Revoke));
    let error = auth.revoke(id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(auth.store().find_token_by_id(id).await.unwrap().is_some());
    assert!(auth.revoke(id).await.unwrap());
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_who_report_it() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let id = auth
        .store()
        .save_token(&logged_in(&sandbox, "ann", 3600))
        .await
        .unwrap();
    let session = auth.session(id).await.unwrap();
    let refused = session.access_token().await.unwrap().token().clone();
    let reports = (0..16).map(|_| session.refused(&refused));
    let mut replaced = Vec::new();
    for answer in join_all(reports).await {
        replaced.push(answer.unwrap().token().clone());
    }
    assert!(
        replaced
            .iter()
            .all(|token| *token == replaced[0] && *token != refused)
    );
    assert_eq!(refreshes(&sandbox), 1);
    // A late report of the old token costs nothing.
    session.refused(&refused).await.unwrap();
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn our_own_budget_stops_before_zoho_throttles() {
    // With Zoho's real limit of ten in ten minutes.
    let sandbox = Sandbox::builder().start().await.unwrap();
    let auth = builder(&sandbox, ListStore::new()).policy(no_memory());
    let auth = auth.build().unwrap();
    let (id, _) = expired(&sandbox, auth.store(), "ann").await;
    let session = auth.session(id).await.unwrap();
    let mut last = None;
    for _ in 0..8 {
        last = Some(session.access_token().await.unwrap());
        expire(auth.store(), id).await;
    }
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MintBudget);
    assert!(error.retry_after().unwrap() > Duration::from_mins(9));
    assert_eq!(refreshes(&sandbox), 8);

    // Two more are there for tokens that the API refuses.
    let mut refused = last.unwrap();
    for _ in 0..2 {
        refused = session.refused(refused.token()).await.unwrap();
    }
    let error = session.refused(refused.token()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MintBudget);
    assert_eq!(refreshes(&sandbox), 10);
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
}

#[tokio::test]
async fn a_token_near_its_end_is_served_and_refreshed_in_the_background() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let token = logged_in(&sandbox, "ann", 200);
    let id = auth.store().save_token(&token).await.unwrap();
    let session = auth.session(id).await.unwrap();
    let mut events = auth.events();
    let served = session.access_token().await.unwrap();
    assert_eq!(Some(served.token()), token.access_token.as_ref());
    event(&mut events, |event| {
        matches!(event, Event::Refreshed { .. })
    })
    .await;
    let next = session.access_token().await.unwrap();
    assert_ne!(next.token(), served.token());
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn a_store_that_is_away_does_not_stop_a_good_token() {
    let sandbox = sandbox().await;
    let store = FlakyStore::new(ListStore::new());
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();
    let id = store
        .save_token(&logged_in(&sandbox, "ann", 3600))
        .await
        .unwrap();
    let session = auth.session(id).await.unwrap();
    assert!(!session.access_token().await.unwrap().is_degraded());
    store.fail_reads(2);
    assert!(session.access_token().await.unwrap().is_degraded());
    assert!(session.access_token().await.unwrap().is_degraded());
    assert_eq!(store.failures_left(), 0, "the store was asked each time");
    assert!(!session.access_token().await.unwrap().is_degraded());
    assert_eq!(refreshes(&sandbox), 0);
}

#[tokio::test]
async fn a_name_learned_later_joins_the_record_that_has_it() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (known, old) = expired(&sandbox, auth.store(), "ann").await;
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    let credential = Credential::grant(client(&sandbox), GrantToken::new(code).unwrap());
    let nameless = auth.session(credential.clone()).await.unwrap();
    assert_ne!(nameless.id(), known);
    let access = nameless.access_token().await.unwrap();

    let named = nameless.set_user_name(user("ann")).await.unwrap();
    assert_eq!(named.id(), known);
    assert_eq!(named.user_name(), Some(user("ann")));
    assert_eq!(named.access_token().await.unwrap().token(), access.token());
    let stored = auth.store().get_tokens().await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_ne!(stored[0].refresh_token, old.refresh_token);
    assert_eq!(auth.session(credential).await.unwrap().id(), known);
    assert_eq!(refreshes(&sandbox), 0);
}

/// Defect 17: the official stores keep one row per user name.
#[tokio::test]
async fn one_user_under_two_clients_has_two_logins() {
    let sandbox = Sandbox::builder()
        .no_limits()
        .client(Client::web(
            "1000.OTHER",
            "other secret",
            "https://other.example/cb",
        ))
        .start()
        .await
        .unwrap();
    let other = OAuthClient::new("1000.OTHER", "other secret").unwrap();
    let store = Arc::new(ListStore::new());
    let email = &sandbox.people()[0];
    let mut sessions = Vec::new();
    for client in [client(&sandbox), other] {
        let auth = builder(&sandbox, Arc::clone(&store)).client(client.clone());
        let auth = auth.build().unwrap();
        let code = sandbox
            .try_grant_code(client.id.as_str(), email, SCOPES)
            .unwrap();
        let credential = Credential::grant(client, GrantToken::new(code).unwrap());
        auth.session(credential.user_name(user("ann")))
            .await
            .unwrap();
        sessions.push((auth.access_token(&user("ann")).await.unwrap(), auth));
    }
    assert_ne!(sessions[0].0.token(), sessions[1].0.token());
    assert_eq!(store.get_tokens().await.unwrap().len(), 2);
    for (access, auth) in &sessions {
        let again = auth.access_token(&user("ann")).await.unwrap();
        assert_eq!(again.token(), access.token());
    }
}

/// Defect 23: in the official SDKs one user's call changes where another user's refresh goes.
#[tokio::test]
async fn users_of_two_data_centers_work_side_by_side() {
    let sandbox = Sandbox::builder()
        .no_limits()
        .data_center(zoho_sandbox::DataCenter::new("eu"))
        .organisation(Organisation::new("Nordlicht", "eu"))
        .person(Person::new("eva@nordlicht.example").of("Nordlicht"))
        .start()
        .await
        .unwrap();
    let eu = sandbox.center("eu");
    let eu_center = DataCenter::builder("eu", eu.accounts_url())
        .api_domain(eu.api_url())
        .build()
        .unwrap();
    let mut centers = zoho_oauth::DataCenters::known();
    centers.add(eu_center.clone());
    let auth = Authenticator::builder(ListStore::new())
        .data_centers(centers)
        .data_center(center(&sandbox))
        .build()
        .unwrap();
    let mut sessions = Vec::new();
    for (email, center) in [
        (sandbox.people()[0].as_str(), center(&sandbox)),
        ("eva@nordlicht.example", eu_center),
    ] {
        let code = sandbox.grant_code(email, SCOPES);
        let client = OAuthClient::new(eu.client_id(), eu.client_secret()).unwrap();
        let credential = Credential::grant(client, GrantToken::new(code).unwrap())
            .user_name(user(email))
            .data_center(center);
        sessions.push(auth.session(credential).await.unwrap());
    }
    for round in 0..3 {
        for session in &sessions {
            let old = session.access_token().await.unwrap();
            let new = session.refused(old.token()).await.unwrap();
            assert_ne!(new.token(), old.token(), "round {round}");
            assert_eq!(new.api_domain(), old.api_domain());
        }
    }
    let domains: Vec<_> = join_all(sessions.iter().map(Session::access_token)).await;
    assert_eq!(
        domains[0].as_ref().unwrap().api_domain(),
        Some(sandbox.api_url())
    );
    assert_eq!(
        domains[1].as_ref().unwrap().api_domain(),
        Some(eu.api_url())
    );
    assert_eq!(sandbox.counts().refreshes_failed, 0);
}

#[tokio::test]
async fn the_guarantee_is_the_stores() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    assert_eq!(auth.guarantee(), Guarantee::Process);
}

#[tokio::test]
async fn a_look_up_for_another_client_finds_nothing() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    expired(&sandbox, &store, "ann").await;
    let other = OAuthClient::new("1000.OTHER", "x").unwrap();
    let auth = builder(&sandbox, Arc::clone(&store)).client(other.clone());
    let error = auth
        .build()
        .unwrap()
        .access_token(&user("ann"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::LoginRequired);
    let query = TokenQuery::user_name(user("ann")).with_client(other.id);
    assert_eq!(store.find_token(&query).await.unwrap(), None);
    let refresh = RefreshToken::new("1000.nobody").unwrap();
    let found = store.find_token(&TokenQuery::refresh_token(refresh)).await;
    assert_eq!(found.unwrap(), None);
}
