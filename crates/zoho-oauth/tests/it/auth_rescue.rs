//! A refresh token that Zoho issued ends in the store, with whoever asked, or revoked at Zoho.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use zoho_oauth::{
    Authenticator, Credential, ErrorCode, Event, GrantToken, ListStore, OAuthToken, RefreshPolicy,
    TokenId, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::fleet::until;
use crate::hooks::{HookStore, Step, out_of_order};
use crate::support::{
    SCOPES, authenticator, builder, client, in_seconds, logged_in, sandbox, user,
};

type Store = Arc<HookStore<ListStore>>;

fn code(sandbox: &Sandbox) -> GrantToken {
    GrantToken::new(sandbox.grant_code(&sandbox.people()[0], SCOPES)).unwrap()
}

/// Saves that fail.
#[derive(Clone)]
struct Saves {
    /// How many there were, the good ones too.
    seen: Arc<AtomicUsize>,
    /// The first fails when this opens.
    gate: Arc<Semaphore>,
}

impl Saves {
    /// Fails the next `count` saves of `store`.
    fn fail(store: &Store, count: usize) -> Self {
        let saves = Self {
            seen: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        };
        let all = saves.clone();
        store.at_each_step(move |step| {
            let before = match step {
                Step::Save => all.seen.fetch_add(1, Ordering::SeqCst),
                _ => usize::MAX,
            };
            let gate = Arc::clone(&all.gate);
            async move {
                if before == 0 {
                    gate.acquire().await.unwrap().forget();
                }
                if before < count {
                    Err(out_of_order())
                } else {
                    Ok(())
                }
            }
        });
        saves
    }

    fn open(&self) {
        self.gate.add_permits(1);
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

/// Begins a login whose save is going to fail, and goes away.
async fn abandon(auth: &Authenticator, sandbox: &Sandbox, saves: &Saves) {
    let login = Credential::grant(client(sandbox), code(sandbox)).user_name(user("ann"));
    let auth = auth.clone();
    let handler = tokio::spawn(async move { auth.session(login).await.map(drop) });
    until(|| saves.seen() > 0).await;
    handler.abort();
    let _ = handler.await;
    saves.open();
}

#[tokio::test]
async fn a_save_that_fails_for_a_moment_does_not_fail_the_login() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    Saves::fail(&store, 2).open();
    let login = Credential::grant(client(&sandbox), code(&sandbox));
    let session = auth.session(login).await.unwrap();
    session.access_token().await.unwrap();
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_login_that_nobody_waits_for_any_more_is_stored_when_the_store_is_back() {
    // While it is tried, and after that was given up.
    for patience in [Duration::from_secs(90), Duration::ZERO] {
        let sandbox = sandbox().await;
        let store = HookStore::new(ListStore::new());
        let policy = RefreshPolicy::new().with_patience(patience);
        let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
        let auth = auth.build().unwrap();
        let saves = Saves::fail(&store, 3);
        abandon(&auth, &sandbox, &saves).await;
        while store.get_tokens().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stored = store.get_tokens().await.unwrap().remove(0);
        assert!(stored.refresh_token.is_some());
        assert_eq!(stored.user_name, Some(user("ann")));
        assert_eq!(sandbox.counts().revocations, 0);
    }
}

#[tokio::test]
async fn whoever_waits_gets_what_could_not_be_saved_and_it_is_his() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let policy = RefreshPolicy::new().with_patience(Duration::ZERO);
    let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
    let auth = auth.build().unwrap();
    let saves = Saves::fail(&store, 1);
    saves.open();
    let login = Credential::grant(client(&sandbox), code(&sandbox));
    let error = auth.session(login).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenNotSaved);
    assert!(error.unsaved_token().unwrap().refresh_token.is_some());
    // Two who save it, each at his own time, could bring back what one of them deleted.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        assert_eq!(saves.seen(), 1);
    }
}

#[tokio::test]
async fn an_abandoned_login_gives_way_to_a_newer_one() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let policy = RefreshPolicy::new().with_patience(Duration::ZERO);
    let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
    let auth = auth.build().unwrap();
    let saves = Saves::fail(&store, 1);
    abandon(&auth, &sandbox, &saves).await;
    let newer = logged_in(&sandbox, "ann", 3800);
    let id = store.inner.save_token(&newer).await.unwrap();
    until(|| sandbox.counts().revocations > 0).await;
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, newer.refresh_token);
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_abandoned_login_gives_way_to_one_that_comes_while_it_is_saved() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let policy = RefreshPolicy::new().with_patience(Duration::ZERO);
    let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
    let auth = auth.build().unwrap();
    let older = logged_in(&sandbox, "ann", -60);
    let id = store.inner.save_token(&older).await.unwrap();
    let newer = logged_in(&sandbox, "ann", 3800);
    let saves = Saves::fail(&store, 1);
    abandon(&auth, &sandbox, &saves).await;
    let mut heard = auth.events();
    let (late, to) = (newer.clone(), Arc::clone(&store));
    let found = Arc::new(AtomicUsize::new(0));
    store.at_each_step(move |step| {
        // Right after it was looked at what is there.
        let is_moment = step != Step::Find && found.fetch_add(1, Ordering::SeqCst) == 0;
        let (late, to) = (late.clone(), Arc::clone(&to));
        async move {
            if is_moment {
                to.inner.save_token(&late).await?;
            }
            Ok(())
        }
    });
    while sandbox.counts().revocations == 0 {
        let heard = heard.try_recv();
        assert!(!matches!(heard, Ok(Event::LoggedIn { .. })), "it is saved");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, newer.refresh_token);
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
}

/// A record with a grant token, which is exchanged while `meanwhile` happens to it.
async fn exchanged_while<F>(
    meanwhile: impl FnOnce(Arc<ListStore>, TokenId, Arc<Sandbox>) -> F,
) -> (Arc<Sandbox>, Arc<ListStore>, Option<ErrorCode>)
where
    F: Future<Output = ()>,
{
    let sandbox = Arc::new(sandbox().await);
    let store = Arc::new(ListStore::new());
    let mut record = OAuthToken::new();
    record.user_name = Some(user("ann"));
    record.client_id = Some(client(&sandbox).id);
    record.grant_token = Some(code(&sandbox));
    let id = store.save_token(&record).await.unwrap();
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let session = auth.session(id).await.unwrap();
    let slow = Duration::from_millis(300);
    sandbox.inject(Fault::delay(slow).on(Endpoint::CodeExchange));
    let asked = tokio::spawn(async move { session.access_token().await });
    until(|| sandbox.counts().code_exchanges_ok == 1).await;
    meanwhile(Arc::clone(&store), id, Arc::clone(&sandbox)).await;
    let failed = asked.await.unwrap().err().map(|error| error.code());
    (sandbox, store, failed)
}

#[tokio::test]
async fn what_was_issued_for_a_deleted_record_is_revoked() {
    let (sandbox, store, failed) = exchanged_while(|store, id, _| async move {
        assert!(store.delete_token(id).await.unwrap());
    })
    .await;
    assert_eq!(failed, Some(ErrorCode::RecordDeleted));
    assert_eq!(store.get_tokens().await.unwrap(), []);
    assert_eq!(sandbox.counts().revocations, 1);
}

#[tokio::test]
async fn what_was_issued_beside_a_newer_login_is_revoked() {
    let (sandbox, store, failed) = exchanged_while(|store, _, sandbox| async move {
        let newer = logged_in(&sandbox, "ann", 3000);
        store.save_token(&newer).await.unwrap();
    })
    .await;
    assert_eq!(failed, None);
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
    assert_eq!(sandbox.counts().revocations, 1);
}

#[tokio::test]
async fn a_refresh_token_is_saved_beside_a_newer_access_token() {
    let (sandbox, store, failed) = exchanged_while(|store, id, sandbox| async move {
        let mut bare = logged_in(&sandbox, "ann", 0);
        bare.id = Some(id);
        bare.refresh_token = None;
        bare.expiry_time = Some(in_seconds(7200));
        store.save_token(&bare).await.unwrap();
    })
    .await;
    assert_eq!(failed, None);
    let stored = store.get_tokens().await.unwrap().remove(0);
    assert!(stored.refresh_token.is_some());
    assert_eq!(sandbox.counts().revocations, 0);
}

/// A record with a grant token only, as the application stored it.
async fn granted(sandbox: &Sandbox, store: &Store) -> TokenId {
    let mut record = OAuthToken::new();
    record.client_id = Some(client(sandbox).id);
    record.grant_token = Some(code(sandbox));
    store.inner.save_token(&record).await.unwrap()
}

#[tokio::test]
async fn what_was_exchanged_is_stored_also_when_nobody_waits_and_the_store_is_away() {
    // While it is tried, and after that was given up.
    for patience in [Duration::from_secs(90), Duration::ZERO] {
        let sandbox = sandbox().await;
        let store = HookStore::new(ListStore::new());
        let id = granted(&sandbox, &store).await;
        let policy = RefreshPolicy::new().with_patience(patience);
        let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
        let session = auth.build().unwrap().session(id).await.unwrap();
        let saves = Saves::fail(&store, 3);
        let handler = session.clone();
        let handler = tokio::spawn(async move { handler.access_token().await.map(drop) });
        until(|| saves.seen() > 0).await;
        handler.abort();
        let _ = handler.await;
        saves.open();
        // Nobody is sent to log in again meanwhile. After the last failure the store may count as
        // down for a moment.
        while let Err(error) = session.access_token().await {
            let is_temporary = [ErrorCode::TokenNotSaved, ErrorCode::StoreUnavailable];
            assert!(is_temporary.contains(&error.code()), "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stored = store.get_tokens().await.unwrap().remove(0);
        assert_eq!(stored.id, Some(id));
        assert!(stored.refresh_token.is_some());
        let counts = sandbox.counts();
        assert_eq!((counts.code_exchanges_failed, counts.revocations), (0, 0));
    }
}

#[tokio::test]
async fn what_cannot_be_stored_any_more_is_revoked_as_soon_as_zoho_answers() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let id = granted(&sandbox, &store).await;
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let session = auth.session(id).await.unwrap();
    let inner = Arc::clone(&store);
    store.once_at(Step::Save, move || async move {
        inner.inner.delete_token(id).await.map(drop)
    });
    sandbox.inject(Fault::status(500).on(Endpoint::Revoke).times(2));
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    until(|| sandbox.counts().revocations == 1).await;
    assert_eq!(store.get_tokens().await.unwrap(), []);
}
