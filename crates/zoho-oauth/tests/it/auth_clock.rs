//! Ends of access tokens that cannot be true, and clocks that go wrong.

use std::sync::Arc;
use std::time::Duration;

use zoho_oauth::{
    AccessToken, Authenticator, ErrorCode, ListStore, OAuthToken, SqliteStore, Timestamp, TokenId,
    TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::support::{
    authenticator, builder, in_seconds, logged_in, no_memory, refreshes, sandbox, user,
};

/// Ends that no access token of Zoho has: too far ahead, in another unit, or nonsense.
fn impossible() -> Vec<Timestamp> {
    let ahead = |minutes: i64| in_seconds(minutes * 60);
    let now = in_seconds(0).as_millis();
    vec![
        ahead(66),
        ahead(60_000),
        Timestamp::from_millis(i64::MAX),
        Timestamp::from_millis(i64::MIN),
        Timestamp::from_millis(-1),
        Timestamp::from_millis(0),
        // In seconds, and in microseconds.
        Timestamp::from_millis(now / 1000 + 3600),
        Timestamp::from_millis((now + 3_600_000).saturating_mul(1000)),
    ]
}

async fn saved(store: &dyn TokenStore, token: &OAuthToken) -> TokenId {
    store.save_token(token).await.unwrap()
}

#[tokio::test]
async fn an_end_that_no_token_has_means_to_refresh_before_use() {
    let sandbox = sandbox().await;
    let stores: [fn() -> Arc<dyn TokenStore>; 2] = [
        || Arc::new(ListStore::new()),
        || Arc::new(SqliteStore::in_memory().unwrap()),
    ];
    for open in stores {
        for (number, end) in impossible().into_iter().enumerate() {
            let store = open();
            let mut token = logged_in(&sandbox, "ann", 0);
            token.expiry_time = Some(end);
            let id = saved(&*store, &token).await;
            let before = refreshes(&sandbox);
            // By its name and by its id, in processes that start one after the other.
            let auth = authenticator(&sandbox, Arc::clone(&store));
            let access = auth.access_token(&user("ann")).await.unwrap();
            assert_ne!(Some(access.token()), token.access_token.as_ref(), "{end}");
            assert_eq!(refreshes(&sandbox), before + 1, "{number}: {end}");
            let auth = authenticator(&sandbox, Arc::clone(&store));
            let session = auth.session(id).await.unwrap();
            let again = session.access_token().await.unwrap();
            assert_eq!(again.token(), access.token());
            assert_eq!(refreshes(&sandbox), before + 1, "{number}: {end}");
            let stored = store.find_token_by_id(id).await.unwrap().unwrap();
            let end = stored.expiry_time.unwrap();
            assert!(end > in_seconds(3500) && end <= in_seconds(3600));
        }
    }
}

/// The clocks of two machines may differ by some minutes.
#[tokio::test]
async fn an_end_a_little_beyond_an_hour_is_believed() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let token = logged_in(&sandbox, "ann", 64 * 60);
    saved(auth.store(), &token).await;
    let access = auth.access_token(&user("ann")).await.unwrap();
    assert_eq!(Some(access.token()), token.access_token.as_ref());
    assert_eq!(refreshes(&sandbox), 0);
}

/// There is nothing to make another one from, so it is used until the API refuses it.
#[tokio::test]
async fn a_bare_token_with_an_impossible_end_is_used_until_it_is_refused() {
    let sandbox = sandbox().await;
    for end in impossible() {
        let auth = authenticator(&sandbox, ListStore::new());
        let mut token = logged_in(&sandbox, "ann", 0);
        token.refresh_token = None;
        token.expiry_time = Some(end);
        let id = saved(auth.store(), &token).await;
        let session = auth.session(id).await.unwrap();
        let access = session.access_token().await.unwrap();
        assert_eq!(access.expires_at(), None, "{end}");
        let error = session.refused(access.token()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AccessTokenEnded);
    }
}

/// Also one that another program stores while this one runs.
#[tokio::test]
async fn an_impossible_end_that_comes_later_is_seen() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();
    let first = logged_in(&sandbox, "ann", 3600);
    let id = saved(&*store, &first).await;
    let session = auth.session(id).await.unwrap();
    session.access_token().await.unwrap();
    let mut wrong = logged_in(&sandbox, "ann", 0);
    wrong.expiry_time = Some(in_seconds(100 * 3600));
    assert_eq!(saved(&*store, &wrong).await, id);
    let access = session.access_token().await.unwrap();
    assert_ne!(Some(access.token()), wrong.access_token.as_ref());
    assert_eq!(refreshes(&sandbox), 1);
}

/// The end beside a newer token says nothing about which of two is newer either.
#[tokio::test]
async fn an_impossible_end_does_not_keep_a_refresh_from_being_stored() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let token = logged_in(&sandbox, "ann", -60);
    let id = saved(&*store, &token).await;
    let session = auth.session(id).await.unwrap();
    sandbox.inject(Fault::delay(Duration::from_millis(200)).on(Endpoint::Refresh));
    let meanwhile = async {
        while refreshes(&sandbox) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut wrong = token.clone();
        wrong.access_token = AccessToken::new("1000.other").ok();
        wrong.expiry_time = Some(in_seconds(1000 * 3600));
        saved(&*store, &wrong).await;
    };
    let (access, ()) = tokio::join!(session.access_token(), meanwhile);
    let access = access.unwrap();
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.access_token.as_ref(), Some(access.token()));
    assert!(stored.expiry_time.unwrap() <= in_seconds(3600));
}

/// A server that says two hours: no other process may take that for an end that cannot be.
#[tokio::test]
async fn an_answer_with_a_longer_life_counts_as_an_hour() {
    let sandbox = Sandbox::builder()
        .no_limits()
        .access_token_life(Duration::from_hours(2))
        .start()
        .await
        .unwrap();
    let store = Arc::new(ListStore::new());
    let id = saved(&*store, &logged_in(&sandbox, "ann", -60)).await;
    let mut seen = None;
    for _ in 0..3 {
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let access = auth
            .session(id)
            .await
            .unwrap()
            .access_token()
            .await
            .unwrap();
        assert!(access.expires_at().unwrap() <= in_seconds(3600));
        let first = seen.get_or_insert_with(|| access.clone());
        assert_eq!(first.token(), access.token());
    }
    assert_eq!(refreshes(&sandbox), 1);
}

/// Lets time pass by the monotonic clock alone, as if the wall clock was set back meanwhile.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn asks_again_after_an_hour(auth: &Authenticator, id: TokenId, sandbox: &Sandbox) {
    let session = auth.session(id).await.unwrap();
    let first = session.access_token().await.unwrap();
    let before = refreshes(sandbox);
    pass(Duration::from_mins(40)).await;
    let still = session.access_token().await.unwrap();
    assert_eq!(still.token(), first.token());
    pass(Duration::from_mins(25)).await;
    // Neither a look at the store nor another handle brings it back.
    let second = auth
        .session(id)
        .await
        .unwrap()
        .access_token()
        .await
        .unwrap();
    assert_ne!(second.token(), first.token());
    assert_eq!(
        session.access_token().await.unwrap().token(),
        second.token()
    );
    assert_eq!(refreshes(sandbox), before + 1);
}

/// The wall clock was an hour ahead when the token was refreshed, say, and was corrected then.
#[tokio::test]
async fn a_token_ends_by_its_age_although_the_wall_clock_was_set_back() {
    let sandbox = sandbox().await;
    let auth = builder(&sandbox, ListStore::new()).policy(no_memory());
    let auth = auth.build().unwrap();
    let id = saved(auth.store(), &logged_in(&sandbox, "ann", -60)).await;
    asks_again_after_an_hour(&auth, id, &sandbox).await;
}

/// The same for one that another process refreshed, and with looks that are rare.
#[tokio::test]
async fn a_token_of_another_process_ends_by_its_age_too() {
    let sandbox = sandbox().await;
    let auth = builder(&sandbox, ListStore::new()).policy(no_memory());
    let auth = auth.build().unwrap();
    let id = saved(auth.store(), &logged_in(&sandbox, "ann", 3600)).await;
    asks_again_after_an_hour(&auth, id, &sandbox).await;
}

/// Without a refresh token there is nothing to do but to say so.
#[tokio::test]
async fn a_bare_token_ends_by_its_age() {
    let sandbox = sandbox().await;
    let auth = builder(&sandbox, ListStore::new()).policy(no_memory());
    let auth = auth.build().unwrap();
    let mut token = logged_in(&sandbox, "ann", 3600);
    token.refresh_token = None;
    let id = saved(auth.store(), &token).await;
    let session = auth.session(id).await.unwrap();
    session.access_token().await.unwrap();
    pass(Duration::from_mins(65)).await;
    for _ in 0..2 {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AccessTokenEnded);
    }
}
