//! Which users stay in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use zoho_oauth::{Authenticator, DataCenter, ListStore, OAuthClient, RefreshPolicy, TokenStore};

use crate::accounts::{RawServer, http};
use crate::hooks::{HookStore, Step};
use crate::support::{good, in_seconds, user};

/// A store of these users with good tokens, which counts its look-ups by user name.
async fn store_of(users: usize) -> (Arc<HookStore<ListStore>>, Arc<AtomicUsize>) {
    let store = HookStore::new(ListStore::new());
    for number in 0..users {
        let record = good(&format!("user{number}"), &format!("client{number}"));
        store.save_token(&record).await.unwrap();
    }
    let found = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&found);
    store.at_each_step(move |step| {
        count.fetch_add(usize::from(step == Step::Find), Ordering::SeqCst);
        async { Ok(()) }
    });
    (store, found)
}

fn authenticator(store: &Arc<HookStore<ListStore>>, policy: RefreshPolicy) -> Authenticator {
    // Nothing but a drop makes the store be asked by name.
    let policy = policy.with_recheck(Duration::ZERO);
    let auth = Authenticator::builder(Arc::clone(store)).policy(policy);
    auth.build().unwrap()
}

#[tokio::test]
async fn no_more_users_are_kept_than_the_policy_says() {
    let (store, found) = store_of(100).await;
    let auth = authenticator(&store, RefreshPolicy::new().with_max_cached(16));
    let held = auth.session(user("user0")).await.unwrap();
    let ask_all = async || {
        let before = found.load(Ordering::SeqCst);
        for number in 1..100 {
            let name = user(&format!("user{number}"));
            auth.access_token(&name).await.unwrap();
        }
        found.load(Ordering::SeqCst) - before
    };
    assert_eq!(ask_all().await, 99);
    // All but a few were dropped meanwhile, in turn.
    assert_eq!(ask_all().await, 99);
    // Those who asked last are there.
    let before = found.load(Ordering::SeqCst);
    for number in 90..100 {
        let name = user(&format!("user{number}"));
        auth.access_token(&name).await.unwrap();
    }
    // Whose session is held stays, however long ago he asked.
    held.access_token().await.unwrap();
    auth.access_token(&user("user0")).await.unwrap();
    assert_eq!(found.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn users_who_have_not_asked_for_a_while_are_dropped() {
    let (store, found) = store_of(10).await;
    let auth = authenticator(&store, RefreshPolicy::new().with_max_idle(Duration::ZERO));
    for _ in 0..3 {
        for number in 0..10 {
            // Another user may have asked within the same millisecond.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let name = user(&format!("user{number}"));
            auth.access_token(&name).await.unwrap();
        }
    }
    assert_eq!(found.load(Ordering::SeqCst), 30);
    let patient = authenticator(&store, RefreshPolicy::new());
    for _ in 0..3 {
        for number in 0..10 {
            let name = user(&format!("user{number}"));
            patient.access_token(&name).await.unwrap();
        }
    }
    assert_eq!(found.load(Ordering::SeqCst), 40);
}

#[tokio::test]
async fn a_user_whose_token_is_being_refreshed_is_not_dropped() {
    let gate = Arc::new(Semaphore::new(0));
    let body = r#"{"access_token":"1000.new","expires_in":3600,"token_type":"Bearer"}"#;
    let answer = http("200 OK", "application/json", body);
    let server = RawServer::answering_behind(Arc::clone(&gate), answer).await;
    let store = Arc::new(ListStore::new());
    let mut record = good("ann", "1000.CLIENT");
    record.expiry_time = Some(in_seconds(-60));
    store.save_token(&record).await.unwrap();
    store.save_token(&good("bob", "1000.CLIENT")).await.unwrap();
    let policy = RefreshPolicy::new()
        .with_recheck(Duration::ZERO)
        .with_max_idle(Duration::ZERO)
        .with_max_cached(1);
    let auth = Authenticator::builder(Arc::clone(&store)).policy(policy);
    let auth = auth.client(OAuthClient::new("1000.CLIENT", "secret").unwrap());
    let center = DataCenter::builder("stub", &server.url).build().unwrap();
    let auth = auth.data_center(center).build().unwrap();
    let ask = || {
        let auth = auth.clone();
        tokio::spawn(async move { auth.access_token(&user("ann")).await })
    };
    let first = ask();
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    // Nobody waits for it any more.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        auth.access_token(&user("bob")).await.unwrap();
    }
    let second = ask();
    tokio::task::yield_now().await;
    gate.add_permits(2);
    let access = second.await.unwrap().unwrap();
    assert_eq!(access.token().expose_secret(), "1000.new");
    assert_eq!(server.requests().len(), 1);
}
