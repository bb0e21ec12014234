//! A store that answers later than callers wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use zoho_oauth::{
    Authenticator, ErrorCode, ListStore, RefreshPolicy, Session, StoreState, TokenId, TokenStore,
};

use crate::hooks::{HookStore, Step};
use crate::support::{good, no_memory};

/// A store behind a gate, and a session on it whose token is good for an hour.
struct Slow {
    store: Arc<HookStore<ListStore>>,
    auth: Authenticator,
    session: Session,
    id: TokenId,
    gate: watch::Sender<bool>,
    /// The number of look-ups by id that were begun.
    asked: Arc<AtomicUsize>,
}

impl Slow {
    async fn open(policy: RefreshPolicy) -> Self {
        let store = HookStore::new(ListStore::new());
        let id = store.save_token(&good("ann", "c")).await.unwrap();
        let auth = Authenticator::builder(Arc::clone(&store)).policy(policy);
        let auth = auth.build().unwrap();
        let session = auth.session(id).await.unwrap();
        let (gate, opened) = watch::channel(true);
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        store.at_each_step(move |step| {
            let mut opened = opened.clone();
            let is_look = step == Step::FindById;
            count.fetch_add(usize::from(is_look), Ordering::SeqCst);
            async move {
                if is_look {
                    opened.wait_for(|open| *open).await.unwrap();
                }
                Ok(())
            }
        });
        Self {
            store,
            auth,
            session,
            id,
            gate,
            asked,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Lets the waiting look-ups be answered.
    async fn answer(&self) {
        self.gate.send(true).unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

/// One caller waits for a second; the others know by then, and one question is asked for all.
#[tokio::test(start_paused = true)]
async fn a_late_answer_counts_from_when_it_comes() {
    let slow = Slow::open(no_memory()).await;
    slow.gate.send(false).unwrap();
    let began = Instant::now();
    for _ in 0..20 {
        assert!(slow.session.access_token().await.unwrap().is_degraded());
    }
    assert!(
        began.elapsed() < Duration::from_millis(1300),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(slow.asked(), 1);
    assert!(matches!(
        slow.auth.store_state(),
        StoreState::Degraded { .. }
    ));
    slow.store.inner.delete_token(slow.id).await.unwrap();
    slow.answer().await;
    // No question more: this one was answered.
    let error = slow.session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    assert_eq!(slow.asked(), 1);
}

/// What another process stored is taken over as well.
#[tokio::test(start_paused = true)]
async fn a_late_answer_brings_a_newer_token() {
    // Asked for the first time as soon as it is due, and then not for a long time.
    let recheck = Duration::from_millis(1);
    let slow = Slow::open(RefreshPolicy::new().with_recheck(recheck)).await;
    std::thread::sleep(recheck * 2);
    slow.gate.send(false).unwrap();
    assert!(slow.session.access_token().await.unwrap().is_degraded());
    let mut newer = good("ann", "c");
    newer.access_token = zoho_oauth::AccessToken::new("1000.newer").ok();
    slow.store.inner.save_token(&newer).await.unwrap();
    slow.answer().await;
    slow.gate.send(false).unwrap();
    let access = slow.session.access_token().await.unwrap();
    assert_eq!(Some(access.token()), newer.access_token.as_ref());
}

/// A store that always takes 1.3 s stays known for it, until it answers in time.
#[tokio::test(start_paused = true)]
async fn nobody_waits_a_second_time_for_a_store_that_is_known_to_be_slow() {
    let slow = Slow::open(no_memory()).await;
    let began = Instant::now();
    for _ in 0..10 {
        slow.gate.send(false).unwrap();
        let before = slow.asked();
        slow.session.access_token().await.unwrap();
        while slow.asked() == before {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_millis(1300)).await;
        slow.answer().await;
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    let waited = began
        .elapsed()
        .saturating_sub(Duration::from_millis(6300) * 10);
    assert!(waited < Duration::from_millis(1500), "{waited:?}");
    let state = slow.auth.store_state();
    assert!(
        matches!(state, StoreState::Degraded { .. }),
        "it is slow still"
    );
    // Now it answers at once.
    for _ in 0..2 {
        slow.session.access_token().await.unwrap();
        slow.answer().await;
    }
    assert_eq!(slow.auth.store_state(), StoreState::Working);
    assert!(!slow.session.access_token().await.unwrap().is_degraded());
}

/// A slow answer holds up nobody else's, whatever their number.
#[tokio::test(start_paused = true)]
async fn each_record_of_a_slow_store_is_asked_about() {
    let slow = Slow::open(no_memory()).await;
    let mut sessions = Vec::new();
    for number in 0..10 {
        let name = format!("user {number}");
        let id = slow
            .store
            .inner
            .save_token(&good(&name, "c"))
            .await
            .unwrap();
        sessions.push(slow.auth.session(id).await.unwrap());
    }
    let before = slow.asked();
    slow.gate.send(false).unwrap();
    for session in &sessions {
        assert!(session.access_token().await.unwrap().is_degraded());
    }
    while slow.asked() - before < sessions.len() {
        tokio::task::yield_now().await;
    }
    for session in &sessions {
        slow.store.inner.delete_token(session.id()).await.unwrap();
    }
    slow.answer().await;
    for session in &sessions {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::RecordDeleted);
    }
}
