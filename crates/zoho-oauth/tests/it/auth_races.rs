//! What happens between two steps of the authenticator: another login, a deletion, a revocation,
//! a store that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use zoho_oauth::{
    Authenticator, Credential, ErrorCode, Event, GrantToken, ListStore, OAuthToken, RefreshPolicy,
    RefreshToken, Session, StoreState, TokenId, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::hooks::{HookStore, OneLock, Step, out_of_order};
use crate::support::{
    SCOPES, authenticator, builder, center, client, expired, good, logged_in, no_memory, refreshes,
    sandbox, user,
};

#[tokio::test(start_paused = true)]
async fn callers_do_not_queue_up_behind_a_store_that_hangs() {
    let store = HookStore::new(ListStore::new());
    let id = store.save_token(&good("ann", "c")).await.unwrap();
    let auth = Authenticator::builder(Arc::clone(&store)).policy(no_memory());
    let session = auth.build().unwrap().session(id).await.unwrap();
    store.at_each_step(|_| std::future::pending());
    let begun = tokio::time::Instant::now();
    let asked = (0..20).map(|_| session.access_token());
    for answer in join_all(asked).await {
        assert!(answer.unwrap().is_degraded());
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_caller_that_gives_up_early_does_not_keep_the_store_from_being_asked() {
    let store = HookStore::new(ListStore::new());
    let id = store.save_token(&good("ann", "c")).await.unwrap();
    let auth = Authenticator::builder(Arc::clone(&store)).policy(no_memory());
    let session = auth.build().unwrap().session(id).await.unwrap();
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let (open, door) = tokio::sync::watch::channel(false);
    store.at_each_step(move |_| {
        let (asked, mut door) = (asked.clone(), door.clone());
        async move {
            door.wait_for(|open| *open).await.unwrap();
            asked.send(()).unwrap();
            Ok(())
        }
    });
    let impatient = tokio::time::timeout(Duration::from_millis(5), session.access_token());
    assert!(impatient.await.is_err());
    open.send(true).unwrap();
    was_asked.recv().await.unwrap();
}

/// How long a token is handed out without a look in the tests of slow looks.
const RECHECK: Duration = Duration::from_millis(200);

/// Lets the next look-up be answered so late that its answer is out of date when it comes.
fn answer_late(store: &Arc<HookStore<ListStore>>, id: TokenId) {
    let hooked = Arc::clone(store);
    store.once_at(Step::FoundById, move || async move {
        hooked.inner.delete_token(id).await?;
        tokio::time::sleep(RECHECK + Duration::from_millis(50)).await;
        Ok(())
    });
}

fn with_recheck(sandbox: &Sandbox, store: &Arc<HookStore<ListStore>>) -> Authenticator {
    let policy = RefreshPolicy::new().with_recheck(RECHECK);
    let auth = builder(sandbox, Arc::clone(store)).policy(policy);
    auth.build().unwrap()
}

/// A late answer says what was true when the store was asked: only from then on it counts.
#[tokio::test]
async fn a_session_that_began_with_a_late_answer_is_looked_up_at_once() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = with_recheck(&sandbox, &store);
    let id = store.save_token(&good("ann", "c")).await.unwrap();
    answer_late(&store, id);
    let session = auth.session(id).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
}

#[tokio::test]
async fn a_token_that_was_looked_up_late_is_looked_up_again_at_once() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = with_recheck(&sandbox, &store);
    let id = store.save_token(&good("ann", "c")).await.unwrap();
    let session = auth.session(id).await.unwrap();
    answer_late(&store, id);
    // By the time it is looked up it counts as there; by the answer it does not any more.
    tokio::time::sleep(RECHECK).await;
    assert!(session.access_token().await.is_ok());
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
}

#[tokio::test]
async fn a_token_that_a_refresh_found_late_is_looked_up_at_once() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = with_recheck(&sandbox, &store);
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let session = auth.session(id).await.unwrap();
    // Another process renews it, and then it is deleted.
    store
        .save_token(&logged_in(&sandbox, "ann", 3600))
        .await
        .unwrap();
    answer_late(&store, id);
    assert!(session.access_token().await.is_ok());
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    assert_eq!(refreshes(&sandbox), 0);
}

/// A store that takes longer than a look waits for still serves those who cannot go on without it.
#[tokio::test]
async fn a_slow_store_is_asked_for_what_only_it_can_answer() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = with_recheck(&sandbox, &store);
    let mut sessions = Vec::new();
    for number in 0..4 {
        let token = good(&format!("user {number}"), &format!("c{number}"));
        let id = store.save_token(&token).await.unwrap();
        sessions.push(auth.session(id).await.unwrap());
    }
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let ended = auth.session(id).await.unwrap();
    store.at_each_step(|step| async move {
        if step == Step::FindById {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        Ok(())
    });
    tokio::time::sleep(RECHECK).await;
    let looks = join_all(sessions.iter().map(Session::access_token)).await;
    assert!(
        looks.iter().all(Result::is_ok),
        "they are served from memory"
    );
    assert!(matches!(auth.store_state(), StoreState::Degraded { .. }));
    assert!(ended.access_token().await.is_ok());
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn callers_who_wait_for_the_same_look_share_its_answer() {
    let store = HookStore::new(ListStore::new());
    let id = store.save_token(&good("ann", "c")).await.unwrap();
    let auth = Authenticator::builder(Arc::clone(&store)).policy(no_memory());
    let session = auth.build().unwrap().session(id).await.unwrap();
    let looks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looks);
    store.at_each_step(move |step| {
        count.fetch_add(usize::from(step == Step::FindById), Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).map(Ok)
    });
    let asked = (0..20).map(|_| session.access_token());
    for answer in join_all(asked).await {
        assert!(!answer.unwrap().is_degraded());
    }
    // Who came after the first question was asked must not take its answer for his.
    assert!(looks.load(Ordering::SeqCst) <= 2);
    session.access_token().await.unwrap();
    assert!(looks.load(Ordering::SeqCst) >= 2);
}

/// Defects 7 and 25: what the old login was given must not take the place of the new one's.
#[tokio::test]
async fn a_new_login_during_a_refresh_keeps_its_access_token() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    sandbox.inject(Fault::delay(Duration::from_millis(300)).on(Endpoint::Refresh));
    let refreshing = tokio::spawn(async move { session.access_token().await });
    while refreshes(&sandbox) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let new = logged_in(&sandbox, "ann", 3000);
    assert_eq!(store.save_token(&new).await.unwrap(), id);
    let handed = refreshing.await.unwrap().unwrap();
    assert_eq!(Some(handed.token()), new.access_token.as_ref());
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.access_token, new.access_token);
    assert_eq!(stored.expiry_time, new.expiry_time);
}

/// What Zoho says about the old login is said to nobody who has just logged in anew.
async fn a_refusal_during_a_new_login(old: &OAuthToken, sandbox: &Sandbox) {
    let store = Arc::new(ListStore::new());
    let auth = authenticator(sandbox, Arc::clone(&store));
    let id = store.save_token(old).await.unwrap();
    let session = auth.session(id).await.unwrap();
    let mut events = auth.events();
    sandbox.inject(Fault::delay(Duration::from_millis(300)).on(Endpoint::Token));
    let refreshing = {
        let session = session.clone();
        tokio::spawn(async move { session.access_token().await })
    };
    let asked = || refreshes(sandbox) + sandbox.counts().code_exchanges_failed;
    while asked() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let new = logged_in(sandbox, "ann", 3000);
    assert_eq!(store.save_token(&new).await.unwrap(), id);
    let handed = refreshing.await.unwrap().unwrap();
    assert_eq!(Some(handed.token()), new.access_token.as_ref());
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, Event::LoginRequired { .. }), "{event:?}");
    }
    assert_eq!(asked(), 1);
    // Nor is anything remembered against the new one.
    let next = session.refused(handed.token()).await.unwrap();
    assert_ne!(next.token(), handed.token());
}

#[tokio::test]
async fn a_new_login_while_the_old_one_is_refused_is_not_told_to_log_in() {
    let sandbox = sandbox().await;
    let mut old = logged_in(&sandbox, "ann", -60);
    old.refresh_token = RefreshToken::new("1000.dead").ok();
    a_refusal_during_a_new_login(&old, &sandbox).await;
}

#[tokio::test]
async fn a_new_login_while_a_grant_token_is_refused_is_not_told_to_log_in() {
    let sandbox = sandbox().await;
    let mut old = logged_in(&sandbox, "ann", -60);
    (old.refresh_token, old.access_token, old.expiry_time) = (None, None, None);
    old.grant_token = GrantToken::new("1000.used.code").ok();
    a_refusal_during_a_new_login(&old, &sandbox).await;
}

#[tokio::test]
async fn nobody_is_told_to_log_in_while_the_record_cannot_be_seen() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let mut events = auth.events();
    let mut old = logged_in(&sandbox, "ann", -60);
    old.refresh_token = RefreshToken::new("1000.dead").ok();
    let id = store.save_token(&old).await.unwrap();
    fail_the_third_look(&store, None);
    let session = auth.session(id).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    // What Zoho said is remembered, and told when the record is seen to be the same still.
    let error = loop {
        let error = session.access_token().await.unwrap_err();
        if error.code() != ErrorCode::StoreUnavailable {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(error.code(), ErrorCode::InvalidCode);
    assert_eq!(refreshes(&sandbox), 1);
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event);
    }
    let refused = |event: &Event| matches!(event, Event::LoginRequired { .. });
    assert!(refused(told.last().unwrap()), "{told:?}");
    assert_eq!(told.into_iter().filter(refused).count(), 1);
}

#[tokio::test]
async fn a_new_login_during_a_revocation_stays() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    sandbox.inject(Fault::delay(Duration::from_millis(300)).on(Endpoint::Revoke));
    let revoking = {
        let auth = auth.clone();
        tokio::spawn(async move { auth.revoke(id).await })
    };
    while sandbox.counts().revocations == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let new = logged_in(&sandbox, "ann", 3600);
    assert_eq!(store.save_token(&new).await.unwrap(), id);
    assert!(revoking.await.unwrap().unwrap());
    let handed = auth.access_token(&user("ann")).await.unwrap();
    assert_eq!(Some(handed.token()), new.access_token.as_ref());
}

#[tokio::test]
async fn a_revoked_token_is_not_handed_out_though_its_record_could_not_be_deleted() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let token = logged_in(&sandbox, "ann", 3600);
    let id = store.save_token(&token).await.unwrap();
    let session = auth.session(id).await.unwrap();
    store.once_at(Step::Delete, || async { Err(out_of_order()) });
    let error = auth.revoke(id).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    for error in [
        session.access_token().await.unwrap_err(),
        auth.access_token(&user("ann")).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::InvalidCode);
    }
    assert_eq!(refreshes(&sandbox), 0);
    // A new login of the same user is another credential in the same record.
    let new = logged_in(&sandbox, "ann", 3600);
    assert_eq!(store.save_token(&new).await.unwrap(), id);
    let handed = session.access_token().await.unwrap();
    assert_eq!(Some(handed.token()), new.access_token.as_ref());
    assert!(auth.revoke(id).await.unwrap());
    assert_eq!(store.get_tokens().await.unwrap(), []);
}

/// Lets the third look-up fail, after another login was saved if there is one.
fn fail_the_third_look(store: &Arc<HookStore<ListStore>>, new: Option<OAuthToken>) {
    let (looks, hooked) = (AtomicUsize::new(0), Arc::clone(store));
    store.at_each_step(move |step| {
        let is_third = step == Step::FindById && looks.fetch_add(1, Ordering::SeqCst) == 2;
        let (hooked, new) = (Arc::clone(&hooked), new.clone());
        async move {
            if !is_third {
                return Ok(());
            }
            if let Some(new) = new {
                hooked.inner.save_token(&new).await?;
            }
            Err(out_of_order())
        }
    });
}

#[tokio::test]
async fn a_revocation_deletes_no_login_unseen() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let new = logged_in(&sandbox, "ann", 3600);
    fail_the_third_look(&store, Some(new.clone()));
    let error = auth.revoke(id).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert_eq!(sandbox.counts().revocations, 1);
    let handed = auth.access_token(&user("ann")).await.unwrap();
    assert_eq!(Some(handed.token()), new.access_token.as_ref());
}

#[tokio::test]
async fn a_revocation_whose_record_could_not_be_seen_is_finished_by_the_next() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let id = store.save_token(&logged_in(&sandbox, "ann", 3600)).await;
    let id = id.unwrap();
    fail_the_third_look(&store, None);
    auth.revoke(id).await.unwrap_err();
    // Meanwhile nothing of it is handed out, and nobody asks Zoho what became of it.
    let error = auth.access_token(&user("ann")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidCode);
    assert_eq!(refreshes(&sandbox), 0);
    assert!(auth.revoke(id).await.unwrap());
    assert_eq!(store.get_tokens().await.unwrap(), []);
}

#[tokio::test]
async fn a_record_without_a_client_can_be_revoked() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let auth = Authenticator::builder(Arc::clone(&store)).data_center(center(&sandbox));
    let mut token = logged_in(&sandbox, "ann", 3600);
    (token.client_id, token.client_secret) = (None, None);
    let id = store.save_token(&token).await.unwrap();
    assert!(auth.build().unwrap().revoke(id).await.unwrap());
    assert_eq!(sandbox.counts().revocations, 1);
}

#[tokio::test]
async fn a_token_that_was_saved_after_all_is_not_degraded_any_more() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let session = auth.session(id).await.unwrap();
    let mut events = auth.events();
    store.once_at(Step::Save, || async { Err(out_of_order()) });
    assert!(session.access_token().await.unwrap().is_degraded());
    // A caller asks at the very moment at which the save succeeds.
    let asking = session.clone();
    store.once_at(Step::Saved, || async move {
        asking.access_token().await.map(drop)
    });
    while !matches!(events.recv().await.unwrap(), Event::SaveRecovered { .. }) {}
    assert!(!session.access_token().await.unwrap().is_degraded());
}

#[tokio::test]
async fn a_token_that_was_never_saved_gives_way_to_a_newer_stored_one() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let session = auth.session(id).await.unwrap();
    store.once_at(Step::Save, || async { Err(out_of_order()) });
    assert!(session.access_token().await.unwrap().is_degraded());
    let newer = logged_in(&sandbox, "ann", 3800);
    store.inner.save_token(&newer).await.unwrap();
    let handed = loop {
        let handed = session.access_token().await.unwrap();
        if !handed.is_degraded() {
            break handed;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(Some(handed.token()), newer.access_token.as_ref());
}

#[tokio::test]
async fn a_record_deleted_between_save_and_answer_is_not_handed_out_again() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let session = auth.session(id).await.unwrap();
    let mut events = auth.events();
    let deleting = auth.clone();
    store.once_at(Step::Saved, move || async move {
        assert!(deleting.delete(id).await?);
        Ok(())
    });
    // Whoever waited may get the token; whoever asks now gets the truth, and it is told once.
    let _ = session.access_token().await;
    for _ in 0..3 {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::RecordDeleted);
    }
    let mut deleted = 0;
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, Event::RefreshFailed { .. }), "{event:?}");
        deleted += usize::from(matches!(event, Event::Deleted { .. }));
    }
    assert_eq!(deleted, 1);
}

/// A handle to a deleted record must not come to life again beside the one that replaced it.
#[tokio::test]
async fn a_handle_that_ended_stays_ended() {
    let store = HookStore::new(ListStore::new());
    let id = store.save_token(&good("ann", "c")).await.unwrap();
    let auth = Authenticator::builder(Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();
    let old = auth.session(id).await.unwrap();
    store.inner.delete_token(id).await.unwrap();
    let error = old.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    let steps = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&steps);
    store.at_each_step(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    });
    let error = old.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    assert_eq!(steps.load(Ordering::SeqCst), 0, "nobody need be asked");
}

/// All keys may share one lock, so whoever holds a permit must not wait for another key's.
#[tokio::test]
async fn a_login_and_a_refresh_behind_one_lock_do_not_wait_for_each_other() {
    let sandbox = sandbox().await;
    let lock = OneLock::default();
    let store = HookStore::with_one_lock(ListStore::new(), lock.clone());
    let patience = RefreshPolicy::new().with_patience(Duration::from_secs(3));
    let auth = builder(&sandbox, Arc::clone(&store)).policy(patience);
    let auth = auth.build().unwrap();
    let mut token = logged_in(&sandbox, "ann", -60);
    token.user_name = None;
    let refresh = token.refresh_token.clone().unwrap();
    let credential = Credential::refresh(client(&sandbox), refresh).user_name(user("ann"));

    // Another process stores the login between our two looks, and here somebody uses it at once.
    let (finds, hooked, asking) = (AtomicUsize::new(0), Arc::clone(&store), auth.clone());
    let (report, mut reported) = tokio::sync::mpsc::unbounded_channel();
    store.at_each_step(move |step| {
        let second = step == Step::Find && finds.fetch_add(1, Ordering::SeqCst) == 1;
        let (hooked, asking, token) = (Arc::clone(&hooked), asking.clone(), token.clone());
        let (report, lock) = (report.clone(), lock.clone());
        async move {
            if second {
                let id = hooked.inner.save_token(&token).await?;
                let session = asking.session(id).await?;
                let tries = lock.tries();
                tokio::spawn(async move {
                    let answer = session.access_token().await.map(drop);
                    report.send(answer).unwrap();
                });
                while lock.tries() == tries {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Ok(())
        }
    });
    let session = auth.session(credential).await.unwrap();
    assert_eq!(session.user_name(), Some(user("ann")));
    reported.recv().await.unwrap().unwrap();
    assert_eq!(refreshes(&sandbox), 1);
}

/// The exchange has spent the grant token: whatever fails behind it, the answer must not be lost.
#[tokio::test]
async fn an_answer_is_not_lost_when_the_store_cannot_be_asked_about_it() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    let credential = Credential::grant(client(&sandbox), GrantToken::new(code).unwrap());
    sandbox.inject(Fault::no_refresh_token());
    let finds = AtomicUsize::new(0);
    store.at_each_step(move |step| {
        let third = step == Step::Find && finds.fetch_add(1, Ordering::SeqCst) == 2;
        async move { if third { Err(out_of_order()) } else { Ok(()) } }
    });
    let error = auth.session(credential.user_name(user("ann"))).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenNotSaved);
    assert!(error.unsaved_token().unwrap().access_token.is_some());
}

#[tokio::test]
async fn a_store_that_panics_does_not_leave_callers_waiting() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let session = auth.session(id).await.unwrap();
    store.once_at(Step::FindById, || async { panic!("on purpose") });
    let asked = (0..5).map(|_| session.access_token());
    for answer in join_all(asked).await {
        answer.unwrap();
    }
    assert_eq!(refreshes(&sandbox), 1);
}

/// A refresh may run on the runtime of whoever asked first, which may end before it.
#[tokio::test]
async fn a_runtime_that_ends_takes_its_refresh_with_it_and_not_its_waiters() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let auth = authenticator(&sandbox, Arc::clone(&store));
    let (id, _) = expired(&sandbox, &store.inner, "ann").await;
    let session = auth.session(id).await.unwrap();
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    store.once_at(Step::FindById, move || async move {
        begun.send(()).unwrap();
        std::future::pending().await
    });
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let first = session.clone();
    other.spawn(async move { first.access_token().await });
    has_begun.recv().await.unwrap();
    let waiting = tokio::spawn(async move { session.access_token().await });
    tokio::task::yield_now().await;
    other.shutdown_background();
    waiting.await.unwrap().unwrap();
    assert_eq!(refreshes(&sandbox), 1);
}
