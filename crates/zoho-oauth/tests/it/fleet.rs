//! Many machines and one store, played within one process: each authenticator is a machine, and the
//! leases lie in texts in memory, with a clock that the test can set.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::broadcast;
use zoho_oauth::store::{
    Cell, Change, Coordination, CoordinationKey, Fact, Guarantee, Kept, LeaseCells, Leases, Memo,
    Permit,
};
use zoho_oauth::{
    Authenticator, Credential, Error, ErrorCode, Event, GrantToken, ListStore, OAuthToken,
    RefreshPolicy, RefreshToken, Result, Session, StoreState, Timestamp, TokenId, TokenQuery,
    TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::support::{
    SCOPES, authenticator, builder, client, expire, expired, in_seconds, logged_in, no_memory,
    refreshes, sandbox,
};

/// The store of a fleet. Clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct FleetStore {
    records: Arc<ListStore>,
    pub(crate) cells: Arc<Cells>,
    agreement: Agreement,
    changes: broadcast::Sender<Change>,
}

#[derive(Clone, Debug)]
struct Agreement(Leases);

#[derive(Debug, Default)]
pub(crate) struct Cells {
    texts: Mutex<HashMap<CoordinationKey, String>>,
    ahead_millis: AtomicI64,
    is_read_only: AtomicBool,
    is_down: AtomicBool,
    questions: AtomicUsize,
}

impl FleetStore {
    pub(crate) fn new() -> Self {
        let cells = Arc::<Cells>::default();
        Self {
            records: Arc::default(),
            agreement: Agreement(Leases::new(Shared(Arc::clone(&cells)))),
            cells,
            changes: broadcast::channel(16).0,
        }
    }

    fn up(&self) -> Result<()> {
        self.cells.up()
    }

    /// How many machines listen to what changes.
    fn listeners(&self) -> usize {
        self.changes.receiver_count()
    }

    /// Takes the lease of a record that nobody holds.
    pub(crate) async fn hold(&self, id: TokenId) -> Box<dyn Permit> {
        let key = CoordinationKey::record(id);
        self.agreement.0.try_acquire(&key).await.unwrap().unwrap()
    }

    /// Takes the lease of a refresh token from which something was made, when it is free.
    pub(crate) async fn hold_credential(&self, token: &RefreshToken) -> Box<dyn Permit> {
        loop {
            let key = self.cells.credential(token);
            if let Some(key) = key
                && let Some(permit) = self.agreement.0.try_acquire(&key).await.unwrap()
            {
                return permit;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes the lease of a record whose holder has stood still for longer than it lives.
    pub(crate) async fn take_over(&self, id: TokenId) -> Box<dyn Permit> {
        self.cells.advance(Duration::from_mins(5));
        self.hold(id).await
    }
}

impl Cells {
    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap();
        self.ahead_millis.fetch_add(millis, Ordering::SeqCst);
    }

    pub(crate) fn break_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// The key of a refresh token, if anything is known of it.
    fn credential(&self, token: &RefreshToken) -> Option<CoordinationKey> {
        let name = token.fingerprint();
        let texts = self.texts.lock().unwrap();
        let mut named = texts
            .iter()
            .filter(|(_, text)| text.contains(name.as_str()));
        let key = named.find(|(key, _)| key.record_id().is_none());
        key.map(|(key, _)| key.clone())
    }

    pub(crate) fn refuse_writes(&self, is_read_only: bool) {
        self.is_read_only.store(is_read_only, Ordering::SeqCst);
    }

    /// The records whose lease somebody has.
    fn held(&self) -> HashSet<TokenId> {
        let texts = self.texts.lock().unwrap();
        let held = (texts.iter()).filter(|(_, text)| text.contains("holder\":{"));
        held.filter_map(|(key, _)| key.record_id()).collect()
    }

    fn up(&self) -> Result<()> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorCode::StoreUnavailable, "out of order"));
        }
        Ok(())
    }

    /// A clock that has nothing to do with that of any machine.
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_millis.load(Ordering::SeqCst);
        Timestamp::from_millis(in_seconds(-86_400).as_millis() + ahead)
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<Cells>);

#[async_trait]
impl LeaseCells for Shared {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        self.0.up()?;
        tokio::task::yield_now().await;
        let texts = self.0.texts.lock().unwrap();
        Ok(Cell {
            text: texts.get(key).cloned(),
            now: self.0.now(),
        })
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        self.0.up()?;
        tokio::task::yield_now().await;
        let mut texts = self.0.texts.lock().unwrap();
        let is_late = not_after.is_some_and(|until| self.0.now() > until);
        if is_late || texts.get(key).map(String::as_str) != before {
            return Ok(false);
        }
        let holds_memo = after.is_some_and(|text| text.contains("minted_at\":["));
        if holds_memo && self.0.is_read_only.load(Ordering::SeqCst) {
            let message = "the disk is full of other things";
            return Err(Error::new(ErrorCode::StoreFull, message));
        }
        match after {
            Some(text) => drop(texts.insert(key.clone(), text.to_owned())),
            None => drop(texts.remove(key)),
        }
        Ok(true)
    }
}

#[async_trait]
impl Coordination for Agreement {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Fleet
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        self.0.try_acquire(key).await
    }
}

#[async_trait]
impl TokenStore for FleetStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.up()?;
        self.records.find_token(query).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.up()?;
        self.records.save_token(token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.up()?;
        let deleted = self.records.delete_token(id).await?;
        // Nobody may be listening.
        let _ = self.changes.send(Change::Record(id));
        Ok(deleted)
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.up()?;
        self.records.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.up()?;
        let deleted = self.records.delete_tokens().await?;
        let _ = self.changes.send(Change::Everything);
        Ok(deleted)
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.up()?;
        self.records.find_token_by_id(id).await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.up()?;
        self.records.save_fact(fact).await
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        Some(self.changes.subscribe())
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(&self.agreement)
    }
}

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
    store.cells.is_read_only.store(true, Ordering::SeqCst);
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
