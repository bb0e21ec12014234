//! What machines hear of each other's changes, and what they do while the store is away and when it
//! is back.

use super::*;

#[tokio::test]
async fn what_another_machine_deletes_is_not_handed_out_any_more() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let id = store
        .save_token(&logged_in(&sandbox, "ann", 3600))
        .await
        .unwrap();
    // Without being told, it would be handed out for an hour.
    let policy = RefreshPolicy::new().with_recheck(Duration::from_hours(1));
    let machine = builder(&sandbox, store.clone())
        .policy(policy)
        .build()
        .unwrap();
    let session = machine.session(id).await.unwrap();
    assert!(session.access_token().await.is_ok());
    let mut heard = machine.events();
    store.delete_token(id).await.unwrap();
    let error = loop {
        match session.access_token().await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    assert!(matches!(heard.recv().await, Ok(Event::Deleted { id: gone }) if gone == id));
}

/// Sessions of so many users, whose tokens are good for an hour and in hand.
async fn sessions(
    sandbox: &Sandbox,
    store: &FleetStore,
    machine: &Authenticator,
    users: usize,
) -> Vec<Session> {
    let mut sessions = Vec::new();
    for number in 0..users {
        let token = logged_in(sandbox, &format!("user {number}"), 3600);
        let id = store.save_token(&token).await.unwrap();
        let session = machine.session(id).await.unwrap();
        session.access_token().await.unwrap();
        sessions.push(session);
    }
    sessions
}

/// A store that is heard again may just have come back, and has enough to do.
#[tokio::test]
async fn changes_that_went_unheard_are_looked_for_bit_by_bit() {
    const USERS: usize = 200;
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let policy = RefreshPolicy::new().with_recheck(Duration::from_hours(1));
    let machine = builder(&sandbox, store.clone())
        .policy(policy)
        .build()
        .unwrap();
    let sessions = sessions(&sandbox, &store, &machine, USERS).await;
    let questions = || store.cells.questions.load(Ordering::SeqCst);
    let before = questions();
    // Nobody is told of it.
    store.records.delete_token(sessions[7].id()).await.unwrap();
    store.changes.send(Change::Missed).unwrap();
    until(|| store.changes.is_empty()).await;
    tokio::task::yield_now().await;
    join_all(sessions.iter().map(Session::access_token)).await;
    assert!(questions() - before < USERS / 2, "{}", questions() - before);

    let mut round = 0;
    while questions() - before < USERS {
        let outcomes = join_all(sessions.iter().map(Session::access_token)).await;
        round += usize::from(outcomes.iter().any(Result::is_err));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(round > 0, "the record is gone");
    let error = sessions[7].access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    assert_eq!(questions() - before, USERS, "each was looked up once");
}

#[tokio::test]
async fn a_store_that_is_down_is_asked_by_one_and_everybody_is_served_from_memory() {
    const USERS: usize = 40;
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let policy = RefreshPolicy::new().with_recheck(Duration::from_millis(20));
    let machine = builder(&sandbox, store.clone())
        .policy(policy)
        .build()
        .unwrap();
    let sessions = sessions(&sandbox, &store, &machine, USERS).await;
    let mut heard = machine.events();
    assert_eq!(machine.store_state(), StoreState::Working);
    store.cells.break_down(true);
    until_degraded(&machine, &sessions).await;
    assert!(matches!(heard.try_recv(), Ok(Event::StoreDegraded { .. })));

    // Once it counts as down, hundreds of calls become a handful of questions.
    for session in &sessions {
        session.access_token().await.unwrap();
    }
    let before = store.cells.questions.load(Ordering::SeqCst);
    for _ in 0..20 {
        for session in &sessions {
            assert!(session.access_token().await.is_ok());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let asked = store.cells.questions.load(Ordering::SeqCst) - before;
    assert!(asked < USERS, "{asked}");

    store.cells.break_down(false);
    while machine.store_state() != StoreState::Working {
        for session in &sessions {
            assert!(session.access_token().await.is_ok());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(heard.try_recv(), Ok(Event::StoreRecovered)));
    loop {
        let access = join_all(sessions.iter().map(Session::access_token)).await;
        if access
            .iter()
            .all(|access| !access.as_ref().unwrap().is_degraded())
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks for tokens until every one of them says that the store could not be asked.
async fn until_degraded(machine: &Authenticator, sessions: &[Session]) {
    loop {
        let mut degraded = 0;
        for session in sessions {
            let access = session.access_token().await.unwrap();
            degraded += usize::from(access.is_degraded());
        }
        if degraded == sessions.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(machine.store_state(), StoreState::Degraded { .. }));
}

#[tokio::test]
async fn after_an_outage_tokens_are_renewed_a_few_at_a_time() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    // Who waits looks now and then, also where a good token need not be looked up at all.
    let policy = RefreshPolicy::new().with_recheck(Duration::MAX);
    let policy = policy.with_at_once(3);
    let machine = builder(&sandbox, store.clone())
        .policy(policy)
        .build()
        .unwrap();
    let mut sessions = Vec::new();
    for number in 0..12 {
        let (id, _) = expired(&sandbox, &store, &format!("user {number}")).await;
        sessions.push(machine.session(id).await.unwrap());
    }
    let slow = Duration::from_secs(2);
    sandbox.inject(Fault::delay(slow).on(Endpoint::Refresh).times(3));
    let all = sessions.iter().map(Session::access_token);
    let all = join_all(all);
    let first = async {
        until(|| refreshes(&sandbox) == 3).await;
        // The slow three are at it, and nobody else begins.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(refreshes(&sandbox), 3);
        }
    };
    let (answers, ()) = tokio::join!(all, first);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(refreshes(&sandbox), 12);
}

/// A machine with many tokens to renew keeps nobody from those whose turn has not come.
#[tokio::test]
async fn who_waits_in_line_holds_no_lease() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let policy = RefreshPolicy::new().with_recheck(Duration::from_secs(1));
    let busy = builder(&sandbox, store.clone()).policy(policy.with_at_once(3));
    let busy = busy.build().unwrap();
    // Takes what is free, and waits for nobody.
    let policy = RefreshPolicy::new().with_patience(Duration::ZERO);
    let other = builder(&sandbox, store.clone()).policy(policy);
    let other = other.build().unwrap();
    sandbox.inject(
        Fault::delay(Duration::from_mins(1))
            .on(Endpoint::Refresh)
            .times(3),
    );
    let mut waiting = HashMap::new();
    for number in 0..12 {
        let (id, _) = expired(&sandbox, &store, &format!("user {number}")).await;
        let session = busy.session(id).await.unwrap();
        let asked = tokio::spawn(async move { session.access_token().await });
        waiting.insert(id, asked);
    }
    until(|| refreshes(&sandbox) == 3).await;
    let held = store.cells.held();
    assert_eq!(held.len(), 3);
    waiting.retain(|id, _| !held.contains(id));
    for (id, asked) in waiting {
        let session = other.session(id).await.unwrap();
        let access = session.access_token().await.unwrap();
        // Who still waits in line finds out without a turn.
        let found = asked.await.unwrap().unwrap();
        assert_eq!(found.token(), access.token());
    }
    assert_eq!(refreshes(&sandbox), 12);
}

/// Lets a machine begin to listen on a runtime that ends, and returns a session of it.
async fn deafened(machine: &Authenticator, store: &FleetStore, id: TokenId) -> Session {
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let begun = machine.clone();
    let session = other.spawn(async move { begun.session(id).await.unwrap() });
    let session = session.await.unwrap();
    assert_eq!(store.listeners(), 1);
    other.shutdown_background();
    until(|| store.listeners() == 0).await;
    session
}

#[tokio::test]
async fn a_machine_goes_on_listening_when_the_runtime_that_began_has_ended() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let token = logged_in(&sandbox, "ann", 3600);
    let id = store.save_token(&token).await.unwrap();
    let other = logged_in(&sandbox, "bob", 3600);
    let other = store.save_token(&other).await.unwrap();

    // Whoever looks a token up sees to it.
    let machine = builder(&sandbox, store.clone()).policy(no_memory());
    let machine = machine.build().unwrap();
    let session = deafened(&machine, &store, id).await;
    session.access_token().await.unwrap();
    assert_eq!(store.listeners(), 1);
    drop((machine, session));
    until(|| store.listeners() == 0).await;

    // What happened while nobody listened is not missed.
    let policy = RefreshPolicy::new().with_recheck(Duration::from_hours(1));
    let machine = builder(&sandbox, store.clone()).policy(policy);
    let machine = machine.build().unwrap();
    let session = deafened(&machine, &store, id).await;
    store.delete_token(id).await.unwrap();
    assert!(session.access_token().await.is_ok());
    machine.session(other).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
}
