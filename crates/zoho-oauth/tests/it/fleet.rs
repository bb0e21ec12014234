//! Many machines and one store, played within one process: each authenticator is a machine, and the
//! leases lie in texts in memory, with a clock that the test can set.

mod coherence;
mod store;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use zoho_oauth::store::{Change, Guarantee, Memo};
use zoho_oauth::{
    Authenticator, Credential, ErrorCode, Event, GrantToken, RefreshPolicy, RefreshToken, Result,
    Session, StoreState, TokenId, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::support::{
    SCOPES, authenticator, builder, client, expire, expired, in_seconds, logged_in, no_memory,
    refreshes, sandbox,
};

pub(crate) use self::store::FleetStore;

pub(crate) async fn memo(store: &FleetStore, id: TokenId) -> Memo {
    let permit = store.hold(id).await;
    let memo = permit.memo().await.unwrap();
    permit.release(None).await.unwrap();
    memo
}

pub(crate) fn machines(sandbox: &Sandbox, store: &FleetStore, count: usize) -> Vec<Authenticator> {
    (0..count)
        .map(|_| authenticator(sandbox, store.clone()))
        .collect()
}

pub(crate) async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
#[tokio::test]
async fn a_fleet_refreshes_a_token_once() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let fleet = machines(&sandbox, &store, 8);
    assert_eq!(fleet[0].guarantee(), Guarantee::Fleet);
    for round in 0..25 {
        let (id, _) = expired(&sandbox, &store, &format!("user {round}")).await;
        let ask = |machine: &Authenticator| {
            let machine = machine.clone();
            async move {
                let session = machine.session(id).await.unwrap();
                session.access_token().await.unwrap().token().fingerprint()
            }
        };
        let all = fleet
            .iter()
            .flat_map(|machine| (0..16).map(|_| ask(machine)));
        let answers: HashSet<_> = join_all(all).await.into_iter().collect();
        assert_eq!(answers.len(), 1);
        assert_eq!(refreshes(&sandbox), round + 1);
    }
}

#[tokio::test]
async fn a_late_success_is_kept_and_counted() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let (id, before) = expired(&sandbox, &store, "ann").await;
    let slow = Duration::from_millis(300);
    sandbox.inject(Fault::delay(slow).on(Endpoint::Refresh).times(1));
    let session = authenticator(&sandbox, store.clone())
        .session(id)
        .await
        .unwrap();
    let asked = tokio::spawn(async move { session.access_token().await });
    until(|| refreshes(&sandbox) == 1).await;
    let other = store.take_over(id).await;
    let access = asked.await.unwrap().unwrap();
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.access_token.as_ref(), Some(access.token()));
    assert_eq!(stored.refresh_token, before.refresh_token);
    assert!(!access.is_degraded());
    // Whoever holds the lease now writes what it knows, and loses nothing of that.
    let known = other.memo().await.unwrap();
    assert_eq!(known.minted_at.len(), 1);
    assert!(other.release(None).await.is_ok());
    assert_eq!(memo(&store, id).await.minted_at.len(), 2);
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn a_late_verdict_is_refused() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let mut record = logged_in(&sandbox, "ann", -60);
    record.refresh_token = RefreshToken::new("1000.unknown.token").ok();
    let id = store.save_token(&record).await.unwrap();
    let slow = Duration::from_millis(300);
    sandbox.inject(Fault::delay(slow).on(Endpoint::Refresh).times(1));
    let session = authenticator(&sandbox, store.clone())
        .session(id)
        .await
        .unwrap();
    let asked = tokio::spawn(async move { session.access_token().await });
    until(|| refreshes(&sandbox) == 1).await;
    // Another machine took over, and was luckier.
    let other = store.take_over(id).await;
    let (_, access) = sandbox.login(&sandbox.people()[0], SCOPES);
    record.access_token = zoho_oauth::AccessToken::new(access).ok();
    record.expiry_time = Some(in_seconds(3600));
    store.save_token(&record).await.unwrap();
    other.release(None).await.unwrap();

    let access = asked.await.unwrap().unwrap();
    assert_eq!(Some(access.token()), record.access_token.as_ref());
    assert_eq!(memo(&store, id).await.verdicts, []);
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn a_verdict_reaches_the_whole_fleet() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let mut record = logged_in(&sandbox, "ann", -60);
    record.refresh_token = RefreshToken::new("1000.unknown.token").ok();
    let id = store.save_token(&record).await.unwrap();
    for machine in machines(&sandbox, &store, 4) {
        let session = machine.session(id).await.unwrap();
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode);
    }
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn a_fleet_that_cannot_count_does_not_ask() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    store.cells.refuse_writes(true);
    let machine = authenticator(&sandbox, store.clone());
    let session = machine.session(id).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreFull);
    assert_eq!(refreshes(&sandbox), 0);
}

/// The sandbox as it is by default, which refuses what Zoho would.
#[tokio::test]
async fn the_budget_is_the_fleets() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let fleet = machines(&sandbox, &store, 5);
    let mut stopped = 0;
    for round in 0..30 {
        let machine = &fleet[round % fleet.len()];
        let session = machine.session(id).await.unwrap();
        match session.access_token().await {
            // The API says that it is not good, which is for callers to say, and drives up the count.
            Ok(access) => match session.refused(access.token()).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::MintBudget);
                    stopped += 1;
                }
            },
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::MintBudget);
                stopped += 1;
            }
        }
        expire(&store, id).await;
    }
    let counts = sandbox.counts();
    assert!(stopped > 0 && counts.refreshes_ok <= 10, "{counts:?}");
    assert_eq!(counts.refreshes_failed, 0, "{counts:?}");
    // The login of the test was one more.
    assert!(counts.refreshes_ok >= 8, "{counts:?}");
}

#[tokio::test]
async fn a_login_from_one_refresh_token_is_asked_for_once() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let code = GrantToken::new(sandbox.grant_code(&sandbox.people()[0], SCOPES)).unwrap();
    let fleet = machines(&sandbox, &store, 6);
    let ask = |machine: &Authenticator| {
        let login = Credential::grant(client(&sandbox), code.clone());
        let machine = machine.clone();
        async move { machine.session(login).await.unwrap().id() }
    };
    let ids: HashSet<_> = join_all(fleet.iter().map(ask)).await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
    assert_eq!(sandbox.counts().code_exchanges_failed, 0);
    // It counts also when the record is deleted, whoever else found the login stored.
    let keys: Vec<_> = store.cells.texts.lock().unwrap().keys().cloned().collect();
    assert!(keys.iter().any(|key| key.record_id().is_none()), "{keys:?}");
}

#[tokio::test]
async fn a_refused_login_is_remembered_by_the_fleet() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    for machine in machines(&sandbox, &store, 4) {
        let code = GrantToken::new("1000.used.long-ago").unwrap();
        let login = Credential::grant(client(&sandbox), code);
        let error = machine.session(login).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode);
    }
    assert_eq!(sandbox.counts().code_exchanges_failed, 1);
}
