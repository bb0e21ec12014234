//! Another process holds SQLite's write lock.

use std::time::Duration;

use futures_util::future::join_all;
use rusqlite::Connection;
use tokio::time::Instant;
use zoho_oauth::{Authenticator, ErrorCode, Session, SqliteStore, StoreState};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::support::{authenticator, builder, expired, no_memory, refreshes, sandbox};
use crate::troubled::{Call, Trouble, TroubledStore};

const USERS: usize = 60;
/// How long the store waits for the lock.
const BUSY: Duration = Duration::from_millis(400);

struct Locked {
    sandbox: Sandbox,
    auth: Authenticator,
    other: Connection,
    sessions: Vec<Session>,
    _folder: tempfile::TempDir,
}

async fn locked() -> Locked {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zohooauth.db");
    let store = SqliteStore::builder().busy_timeout(BUSY).open(&path);
    let auth = authenticator(&sandbox, store.unwrap());
    let mut sessions = Vec::new();
    for number in 0..USERS {
        let (id, _) = expired(&sandbox, auth.store(), &format!("user {number}")).await;
        sessions.push(auth.session(id).await.unwrap());
    }
    let other = Connection::open(&path).unwrap();
    Locked {
        sandbox,
        auth,
        other,
        sessions,
        _folder: folder,
    }
}

#[tokio::test]
async fn a_write_lock_that_is_held_costs_callers_its_patience_once() {
    let locked = locked().await;
    locked.other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for round in 0..2 {
        let began = Instant::now();
        let asked = locked.sessions.iter().map(Session::access_token);
        for answer in join_all(asked).await {
            let error = answer.unwrap_err();
            assert_eq!(error.code(), ErrorCode::StoreLocked, "{error}");
            assert!(error.message().contains("locked"), "{error}");
        }
        // The first waits for the lock, and then those that came meanwhile, together.
        let most = BUSY * 4;
        assert!(began.elapsed() < most, "{round}: {:?}", began.elapsed());
        let state = locked.auth.store_state();
        assert!(matches!(state, StoreState::Degraded { .. }));
    }
    assert_eq!(refreshes(&locked.sandbox), 0);
    locked.other.execute_batch("COMMIT").unwrap();
    let asked = locked.sessions.iter().map(|session| async move {
        while session.access_token().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let all = tokio::time::timeout(Duration::from_secs(30), join_all(asked));
    all.await.unwrap();
    assert_eq!(refreshes(&locked.sandbox), u64::try_from(USERS).unwrap());
    assert_eq!(locked.auth.store_state(), StoreState::Working);
}

/// The lock is taken while Zoho is asked: the token is handed out after one wait for it.
#[tokio::test]
async fn a_lock_that_comes_during_a_refresh_is_waited_for_once() {
    let locked = locked().await;
    let slow = Fault::delay(Duration::from_millis(200));
    locked.sandbox.inject(slow.on(Endpoint::Refresh));
    let lock = async {
        while refreshes(&locked.sandbox) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        locked.other.execute_batch("BEGIN IMMEDIATE").unwrap();
        Instant::now()
    };
    let (access, began) = tokio::join!(locked.sessions[0].access_token(), lock);
    assert!(access.unwrap().is_degraded());
    assert!(
        began.elapsed() < BUSY * 2 + Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    locked.other.execute_batch("COMMIT").unwrap();
}

/// After a save that found the lock taken, nothing more is written that can wait.
#[tokio::test]
async fn a_refresh_that_finds_the_lock_taken_writes_nothing_more() {
    let sandbox = sandbox().await;
    let store = TroubledStore::new();
    let auth = builder(&sandbox, store.clone()).policy(no_memory());
    let auth = auth.build().unwrap();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let session = auth.session(id).await.unwrap();
    store.trouble(Call::Save, Trouble::Fail(ErrorCode::StoreLocked));
    assert!(session.access_token().await.unwrap().is_degraded());
    // The reservation, and nothing after it.
    assert_eq!(store.count(Call::SetMemo), 1);
    while store.count(Call::Save) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(auth.store_state(), StoreState::Degraded { .. }));
    store.recover();
    while auth.store_state() != StoreState::Working {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(refreshes(&sandbox), 1);
}
