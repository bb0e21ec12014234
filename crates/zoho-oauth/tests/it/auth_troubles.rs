//! A store that panics, hangs, or answers with the wrong record.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use zoho_oauth::store::{Fact, Kept};
use zoho_oauth::{
    Credential, Error, ErrorCode, Event, ListStore, OAuthToken, RefreshPolicy, RefreshToken,
    Result, Session, StoreState, TokenId, TokenQuery, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault};

use crate::support::{
    authenticator, builder, client, expire, expired, good, logged_in, no_memory, refreshes,
    sandbox, user,
};
use crate::troubled::{Call, Trouble, TroubledStore, access_again, grant};

const STEPS: [Call; 6] = [
    Call::FindById,
    Call::Save,
    Call::TryAcquire,
    Call::Memo,
    Call::SetMemo,
    Call::Release,
];

/// A refresh whose store panics at one step: Zoho is asked once at most, and things go on.
async fn a_step_in_trouble(step: Call, trouble: Trouble) -> Result<bool> {
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let policy = no_memory().with_store_timeout(Duration::from_millis(100));
    let auth = builder(&sandbox, store.clone()).policy(policy);
    let auth = auth.build().unwrap();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    store.trouble(step, trouble);
    let answer = session.access_token().await;
    assert!(refreshes(&sandbox) <= 1, "{step:?}");
    let asked = answer.as_ref().map_or(0, |_| 1);
    assert!(refreshes(&sandbox) == asked, "{step:?}: {answer:?}");
    store.recover();
    access_again(&session).await;
    assert_eq!(refreshes(&sandbox), 1, "{step:?}");
    expire(&*store.inner, id).await;
    access_again(&session).await;
    assert_eq!(refreshes(&sandbox), 2, "{step:?}");
    answer.map(|access| access.is_degraded())
}

#[tokio::test]
async fn a_panic_of_the_store_does_not_let_zoho_be_asked_again() {
    for step in STEPS {
        let answer = a_step_in_trouble(step, Trouble::Panic).await;
        match (step, answer) {
            (Call::Save, Ok(is_degraded)) => assert!(is_degraded),
            (Call::Release, Ok(is_degraded)) => assert!(!is_degraded),
            (_, Err(error)) => {
                assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{step:?}");
                assert!(error.message().contains("panicked"), "{error}");
            }
            (_, Ok(_)) => panic!("{step:?} is no trouble"),
        }
    }
}

#[tokio::test]
async fn a_panic_while_a_login_is_saved_keeps_what_zoho_issued() {
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let policy = RefreshPolicy::new().with_patience(Duration::ZERO);
    let auth = builder(&sandbox, store.clone()).policy(policy);
    let auth = auth.build().unwrap();
    store.trouble(Call::Save, Trouble::Panic);
    let login = grant(&sandbox);
    let error = auth.session(login.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenNotSaved);
    assert!(error.unsaved_token().unwrap().refresh_token.is_some());
    store.recover();
    let rescued = error.unsaved_token().unwrap().clone();
    store.save_token(&rescued).await.unwrap();
    auth.session(login).await.unwrap();
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
    assert_eq!(sandbox.counts().code_exchanges_failed, 0);
}

#[tokio::test]
async fn a_panic_elsewhere_is_an_error_that_says_so() {
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let auth = authenticator(&sandbox, store.clone());
    let mut token = logged_in(&sandbox, "ann", 3600);
    token.user_name = None;
    let id = store.save_token(&token).await.unwrap();
    let session = auth.session(id).await.unwrap();
    let said = |error: Error| {
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
        assert!(error.message().contains("panicked"), "{error}");
    };
    store.trouble(Call::Save, Trouble::Panic);
    said(session.set_user_name(user("ann")).await.unwrap_err());
    store.recover();
    store.trouble(Call::Delete, Trouble::Panic);
    said(session.revoke().await.unwrap_err());
    store.trouble(Call::Find, Trouble::Panic);
    said(auth.access_token(&user("bob")).await.unwrap_err());
    store.recover();
    session.revoke().await.unwrap();
    assert_eq!(store.get_tokens().await.unwrap(), []);
}

/// What could not be saved is tried again, also after a panic.
#[tokio::test]
async fn a_save_that_panicked_is_made_up_for() {
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let auth = authenticator(&sandbox, store.clone());
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    let mut events = auth.events();
    store.trouble(Call::Save, Trouble::Panic);
    let access = session.access_token().await.unwrap();
    while store.count(Call::Save) < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.recover();
    while !matches!(events.recv().await.unwrap(), Event::SaveRecovered { .. }) {}
    let stored = store.inner.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.access_token.as_ref(), Some(access.token()));
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up() {
    for step in STEPS {
        let began = tokio::time::Instant::now();
        let answer = a_step_in_trouble(step, Trouble::Hang).await;
        match (step, answer) {
            (Call::Save, Ok(is_degraded)) => assert!(is_degraded),
            (Call::Release, Ok(is_degraded)) => assert!(!is_degraded),
            (_, Err(error)) => {
                assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{step:?}");
                let text = error.message();
                assert!(text.contains("did not answer"), "{step:?}: {text}");
            }
            (_, Ok(_)) => panic!("{step:?} is no trouble"),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{step:?}");
    }
}

/// As many records hang as are refreshed at once; everybody else gets a token all the same.
#[tokio::test]
async fn records_that_hang_do_not_keep_others_from_their_tokens() {
    const HUNG: usize = 8;
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let auth = builder(&sandbox, store.clone()).policy(
        RefreshPolicy::new()
            .with_at_once(HUNG)
            .with_store_timeout(Duration::from_millis(300)),
    );
    let auth = auth.build().unwrap();
    let mut hung = Vec::new();
    for number in 0..HUNG {
        let (id, _) = expired(&sandbox, &store, &format!("user {number}")).await;
        hung.push(auth.session(id).await.unwrap());
    }
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    let ids: Vec<_> = hung.iter().map(Session::id).collect();
    store.only_for(&ids);
    store.trouble(Call::FindById, Trouble::Hang);
    let others = hung.iter().map(Session::access_token);
    let (others, ours) = tokio::join!(join_all(others), session.access_token());
    ours.unwrap();
    for answer in others {
        let error = answer.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    }
    // The same once they are known to hang.
    let (id, _) = expired(&sandbox, &store, "bob").await;
    let session = auth.session(id).await.unwrap();
    session.access_token().await.unwrap();
    assert_eq!(refreshes(&sandbox), 2);
}

#[tokio::test]
async fn a_store_that_hangs_is_degraded() {
    let sandbox = sandbox().await;
    for step in [Call::FindById, Call::TryAcquire, Call::Memo, Call::SetMemo] {
        let store = TroubledStore::new();
        let policy = RefreshPolicy::new().with_store_timeout(Duration::from_millis(50));
        let auth = builder(&sandbox, store.clone()).policy(policy);
        let auth = auth.build().unwrap();
        let (id, _) = expired(&sandbox, &store, "ann").await;
        let session = auth.session(id).await.unwrap();
        store.trouble(step, Trouble::Hang);
        session.access_token().await.unwrap_err();
        let state = auth.store_state();
        assert!(matches!(state, StoreState::Degraded { .. }), "{step:?}");
        store.recover();
        access_again(&session).await;
        assert_eq!(auth.store_state(), StoreState::Working, "{step:?}");
    }
}

/// A store that answers with the record of another user, or with another record.
#[derive(Debug)]
struct Liar {
    inner: ListStore,
    lie: Mutex<Option<OAuthToken>>,
    /// The number of lies that are left.
    lies: AtomicUsize,
}

impl Liar {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: ListStore::new(),
            lie: Mutex::default(),
            lies: AtomicUsize::new(usize::MAX),
        })
    }

    fn tell(&self, lie: &OAuthToken, times: usize) {
        self.lies.store(times, Ordering::SeqCst);
        *self.lie.lock().unwrap() = Some(lie.clone());
    }

    fn lie(&self) -> Option<OAuthToken> {
        let lie = self.lie.lock().unwrap().clone()?;
        let less = |left: usize| left.checked_sub(1);
        let left = self
            .lies
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        left.is_ok().then_some(lie)
    }
}

#[async_trait]
impl TokenStore for Liar {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        match self.lie() {
            Some(lie) => Ok(Some(lie)),
            None => self.inner.find_token(query).await,
        }
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.inner.save_token(token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.inner.delete_token(id).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.inner.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.inner.delete_tokens().await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        match self.lie() {
            Some(lie) => Ok(Some(lie)),
            None => self.inner.find_token_by_id(id).await,
        }
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        match self.lie() {
            Some(lie) => Ok(Kept::Superseded(Box::new(lie))),
            None => self.inner.save_fact(fact).await,
        }
    }
}

fn damaged<T: std::fmt::Debug>(answer: Result<T>) {
    let error = answer.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    let text = format!("{error} {error:?}");
    for secret in ["1000.", "ann", "bob"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_record_that_was_not_asked_for_is_not_handed_out() {
    let sandbox = sandbox().await;
    let store = Liar::new();
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (ann, record) = expired(&sandbox, &*store, "ann").await;
    let bob = logged_in(&sandbox, "bob", 3600);
    let id = store.save_token(&bob).await.unwrap();
    let bob = store.find_token_by_id(id).await.unwrap().unwrap();
    let session = auth.session(ann).await.unwrap();

    store.tell(&bob, usize::MAX);
    damaged(auth.access_token(&user("ann")).await);
    damaged(auth.session(user("ann")).await);
    damaged(auth.session(ann).await);
    damaged(session.access_token().await);
    let refresh = record.refresh_token.clone().unwrap();
    damaged(
        auth.session(Credential::refresh(client(&sandbox), refresh))
            .await,
    );
    damaged(auth.session(grant(&sandbox)).await);
    damaged(
        auth.session(Credential::access(record.access_token.clone().unwrap()))
            .await,
    );
    assert_eq!(refreshes(&sandbox), 0);
    assert_eq!(sandbox.counts().code_exchanges_ok, 0);
}

/// The right name under another client, and a record that does not say its id.
#[tokio::test]
async fn a_record_of_another_client_is_not_handed_out_either() {
    let sandbox = sandbox().await;
    let store = Liar::new();
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let id = store.save_token(&good("ann", "other")).await.unwrap();
    let mut other = store.find_token_by_id(id).await.unwrap().unwrap();
    // Only the look-up under the client is answered wrongly, once and once more.
    store.tell(&other, 2);
    damaged(auth.access_token(&user("ann")).await);
    other.id = None;
    store.tell(&other, usize::MAX);
    damaged(auth.session(id).await);
}

/// An index that is behind its rows for a moment is no damage.
#[tokio::test]
async fn a_wrong_answer_is_asked_for_once_more() {
    let sandbox = sandbox().await;
    let store = Liar::new();
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let ann = store
        .save_token(&logged_in(&sandbox, "ann", 3600))
        .await
        .unwrap();
    store.tell(&good("bob", "c"), 1);
    assert_eq!(auth.session(user("ann")).await.unwrap().id(), ann);
}

/// Nor is a token of another user's record handed out as what superseded a refresh.
#[tokio::test]
async fn a_refresh_is_not_superseded_by_another_record() {
    let sandbox = sandbox().await;
    let store = Liar::new();
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (ann, _) = expired(&sandbox, &*store, "ann").await;
    let id = store.save_token(&good("bob", "c")).await.unwrap();
    let bob = store.find_token_by_id(id).await.unwrap().unwrap();
    let session = auth.session(ann).await.unwrap();
    sandbox.inject(Fault::delay(Duration::from_millis(200)).on(Endpoint::Refresh));
    // The reads before the save are right.
    let told = async {
        while refreshes(&sandbox) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        store.tell(&bob, usize::MAX);
    };
    let (access, ()) = tokio::join!(session.access_token(), told);
    assert_ne!(Some(access.unwrap().token()), bob.access_token.as_ref());
}

/// A name that was saved leads to its own record, whatever the store says.
#[tokio::test]
async fn a_login_does_not_become_what_the_store_returns_for_it() {
    let sandbox = sandbox().await;
    let store = Liar::new();
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let mut wrong = good("bob", "c");
    let token = logged_in(&sandbox, "ann", 3600);
    let refresh = Credential::refresh(
        client(&sandbox),
        RefreshToken::new(token.refresh_token.unwrap().expose_secret()).unwrap(),
    );
    let id = store.save_token(&good("carl", "c")).await.unwrap();
    // The record that the new login gets, with another user in it.
    wrong.id = TokenId::new(id.get() + 1).ok();
    let lied = Arc::clone(&store);
    let told = async {
        while refreshes(&sandbox) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        lied.tell(&wrong, usize::MAX);
    };
    sandbox.inject(Fault::delay(Duration::from_millis(200)).on(Endpoint::Refresh));
    let login = auth.session(refresh.user_name(user("ann")));
    let (session, ()) = tokio::join!(login, told);
    // The store is asked for the user's login before the new one is saved.
    let error = session.map(drop).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenNotSaved, "{error:?}");
    let unsaved = error.unsaved_token().unwrap();
    assert_eq!(unsaved.user_name, Some(user("ann")));
    assert_ne!(unsaved.access_token, wrong.access_token);
}
