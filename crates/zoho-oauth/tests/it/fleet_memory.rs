//! What a fleet remembers about a credential: for whom it counts, and how many tokens it made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use zoho_oauth::store::Memo;
use zoho_oauth::{
    Authenticator, Credential, DataCenter, ErrorCode, ErrorKind, GrantToken, ListStore,
    OAuthClient, OAuthToken, RefreshPolicy, RefreshToken, Session, Timestamp, TokenId, TokenStore,
};
use zoho_sandbox::Sandbox;

use crate::fleet::{FleetStore, machines, memo, until};
use crate::hooks::{HookStore, Step, out_of_order};
use crate::support::{
    SCOPES, authenticator, builder, center, client, expire, expired, in_seconds, logged_in,
    no_memory, refreshes, sandbox, user,
};

async fn refusal(machine: &Authenticator, id: TokenId) -> ErrorCode {
    let session = machine.session(id).await.unwrap();
    session.access_token().await.unwrap_err().code()
}

/// Zoho's data centers know the same clients and not the same tokens. An old file does not say
/// which one a token belongs to, so a machine with another default asks the wrong one.
#[tokio::test]
async fn a_refusal_counts_for_those_who_would_ask_the_same_server() {
    let (right, wrong) = (sandbox().await, sandbox().await);
    let store = FleetStore::new();
    let mut record = logged_in(&right, "ann", -60);
    record.api_domain = None;
    let id = store.save_token(&record).await.unwrap();
    for machine in machines(&wrong, &store, 3) {
        assert_eq!(refusal(&machine, id).await, ErrorCode::InvalidCode);
    }
    assert_eq!(refreshes(&wrong), 1, "the others of its kind know");
    let machine = authenticator(&right, store.clone());
    let session = machine.session(id).await.unwrap();
    session.access_token().await.unwrap();
    assert_eq!(refreshes(&right), 1);
}

/// A server that does not know a token says the same as one where it ended.
#[tokio::test]
async fn a_login_is_not_ended_by_asking_the_wrong_server() {
    let (right, wrong) = (sandbox().await, sandbox().await);
    let store = FleetStore::new();
    let mut record = logged_in(&right, "ann", -60);
    record.api_domain = None;
    let id = store.save_token(&record).await.unwrap();
    let machine = authenticator(&wrong, store.clone());
    let session = machine.session(id).await.unwrap();
    let error = session.revoke().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownDataCenter);
    assert!(store.find_token_by_id(id).await.unwrap().is_some());
    let machine = authenticator(&right, store.clone());
    let session = machine.session(id).await.unwrap();
    session.access_token().await.unwrap();

    // Where the center is named, a token that it does not know has ended.
    store.delete_tokens().await.unwrap();
    let token = record.refresh_token.clone().unwrap();
    let login = Credential::refresh(client(&right), token).data_center(center(&right));
    for _ in 0..2 {
        store.save_token(&record).await.unwrap();
        let session = machine.session(login.clone()).await.unwrap();
        session.revoke().await.unwrap();
        assert_eq!(store.get_tokens().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_refusal_counts_for_those_who_would_ask_as_the_same_client() {
    let other = zoho_sandbox::Client::self_client("1000.OTHER", "another secret");
    let sandbox = Sandbox::builder().no_limits().client(other).start();
    let sandbox = sandbox.await.unwrap();
    let store = FleetStore::new();
    let mut record = logged_in(&sandbox, "ann", -60);
    (record.client_id, record.client_secret) = (None, None);
    let id = store.save_token(&record).await.unwrap();
    let other = OAuthClient::new("1000.OTHER", "another secret").unwrap();
    for _ in 0..2 {
        let machine = builder(&sandbox, store.clone()).client(other.clone());
        let machine = machine.build().unwrap();
        assert_eq!(refusal(&machine, id).await, ErrorCode::InvalidCode);
    }
    assert_eq!(refreshes(&sandbox), 1);
    let machine = authenticator(&sandbox, store.clone());
    let session = machine.session(id).await.unwrap();
    session.access_token().await.unwrap();
}

/// Else two machines would ask in turn for ever, each making the other forget.
#[tokio::test]
async fn refusals_of_two_servers_stand_side_by_side() {
    let (one, other) = (sandbox().await, sandbox().await);
    let store = FleetStore::new();
    let mut record = logged_in(&one, "ann", -60);
    record.api_domain = None;
    record.refresh_token = RefreshToken::new("1000.unknown.token").ok();
    let id = store.save_token(&record).await.unwrap();
    for _ in 0..3 {
        for asked in [&one, &other] {
            let machine = authenticator(asked, store.clone());
            assert_eq!(refusal(&machine, id).await, ErrorCode::InvalidCode);
        }
    }
    assert_eq!((refreshes(&one), refreshes(&other)), (1, 1));
}

#[tokio::test]
async fn a_token_of_an_unknown_data_center_is_shown_to_nobody() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let mut record = logged_in(&sandbox, "ann", -60);
    record.api_domain = Some("https://www.zohoapis.example".to_owned());
    let id = store.save_token(&record).await.unwrap();
    let machine = authenticator(&sandbox, store.clone());
    let session = machine.session(id).await.unwrap();
    for error in [
        session.access_token().await.unwrap_err(),
        session.revoke().await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::UnknownDataCenter);
        assert!(error.to_string().contains("https://www.zohoapis.example"));
    }
    assert_eq!(refreshes(&sandbox) + sandbox.counts().revocations, 0);
    assert!(store.find_token_by_id(id).await.unwrap().is_some());

    // An authenticator whose own center does not say what its API is called is taken at its word.
    let own = DataCenter::builder("us", sandbox.accounts_url()).build();
    let machine = builder(&sandbox, store.clone()).data_center(own.unwrap());
    let session = machine.build().unwrap().session(id).await.unwrap();
    session.access_token().await.unwrap();
}

/// Lets the API refuse every token, until the budget is spent and beyond.
async fn refuse_all(auth: &Authenticator, session: &Session) {
    let mut last = session.access_token().await.unwrap();
    for _ in 0..14 {
        match session.refused(last.token()).await {
            Ok(access) => last = access,
            Err(error) => assert_eq!(error.code(), ErrorCode::MintBudget),
        }
        expire(auth.store(), session.id()).await;
    }
}

/// A fleet's machine behind Zoho's real limit of ten in ten minutes.
fn strict(sandbox: &Sandbox, store: &FleetStore) -> Authenticator {
    let machine = builder(sandbox, store.clone()).policy(no_memory());
    machine.build().unwrap()
}

#[tokio::test]
async fn a_login_counts_also_while_another_machine_holds_the_record() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let machine = strict(&sandbox, &store);
    let held = store.hold(TokenId::new(1).unwrap()).await;
    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    let login = Credential::refresh(client(&sandbox), refresh);
    let session = machine.session(login).await.unwrap();
    held.release(None).await.unwrap();
    refuse_all(&machine, &session).await;
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(refreshes(&sandbox), 10);
}

#[tokio::test]
async fn logging_in_and_out_all_the_time_stays_within_zohos_limit() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    let mut logins = 0;
    for machine in machines(&sandbox, &store, 14) {
        let login = Credential::refresh(client(&sandbox), refresh.clone());
        match machine.session(login).await {
            Ok(session) => {
                logins += 1;
                assert!(store.delete_token(session.id()).await.unwrap());
            }
            Err(error) => assert_eq!(error.code(), ErrorCode::MintBudget),
        }
    }
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(logins, 8);
}

/// As machines do that boot from one refresh token: who comes second finds the login stored.
#[tokio::test]
async fn machines_that_log_in_and_out_side_by_side_stay_within_zohos_limit() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    let fleet = machines(&sandbox, &store, 2);
    for _ in 0..14 {
        let ask = |machine: &Authenticator| {
            let login = Credential::refresh(client(&sandbox), refresh.clone());
            let machine = machine.clone();
            async move { machine.session(login).await }
        };
        for answer in join_all(fleet.iter().map(ask)).await {
            match answer {
                Ok(session) => drop(store.delete_token(session.id()).await.unwrap()),
                Err(error) => assert_eq!(error.code(), ErrorCode::MintBudget),
            }
        }
    }
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(refreshes(&sandbox), 8);
}

/// Lets the API refuse the tokens of `ids` in turn, each time at another machine, until long after
/// the budget of their one refresh token is spent.
async fn refuse_in_turn(machines: &[Authenticator], ids: &[TokenId]) {
    for round in 0..20 {
        let machine = &machines[round % machines.len()];
        let id = ids[round / 3 % ids.len()];
        let stored = machine.store().find_token_by_id(id).await.unwrap();
        let refused = stored.unwrap().access_token.unwrap();
        let session = machine.session(id).await.unwrap();
        if let Err(error) = session.refused(&refused).await {
            assert_eq!(error.code(), ErrorCode::MintBudget);
        }
    }
}

/// As when somebody saves one login under two names.
#[tokio::test]
async fn the_records_of_one_refresh_token_have_one_budget() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let mut record = logged_in(&sandbox, "ann", -60);
    let mut ids = Vec::new();
    for name in ["ann", "anna", "annika"] {
        record.user_name = Some(user(name));
        ids.push(store.save_token(&record).await.unwrap());
    }
    refuse_in_turn(&machines(&sandbox, &store, 4), &ids).await;
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(refreshes(&sandbox), 10);
}

/// The same in one process, whose store does not help.
#[tokio::test]
async fn the_records_of_one_refresh_token_have_one_budget_in_a_process() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let machine = builder(&sandbox, ListStore::new()).policy(no_memory());
    let machine = machine.build().unwrap();
    let mut record = logged_in(&sandbox, "ann", -60);
    let mut ids = Vec::new();
    for name in ["ann", "anna"] {
        record.user_name = Some(user(name));
        ids.push(machine.store().save_token(&record).await.unwrap());
    }
    refuse_in_turn(&[machine], &ids).await;
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(refreshes(&sandbox), 10);
}

/// Fourteen records of one refresh token, all due at once.
async fn ask_all_at_once(sandbox: &Sandbox, machines: &[Authenticator]) {
    let mut record = logged_in(sandbox, "ann", -60);
    let mut sessions = Vec::new();
    for number in 0..14 {
        record.user_name = Some(user(&format!("ann {number}")));
        let machine = &machines[number % machines.len()];
        let id = machine.store().save_token(&record).await.unwrap();
        sessions.push(machine.session(id).await.unwrap());
    }
    let answers = join_all(sessions.iter().map(Session::access_token)).await;
    let codes = answers.iter().filter_map(|answer| answer.as_ref().err());
    let codes: Vec<_> = codes.map(zoho_oauth::Error::code).collect();
    assert_eq!(codes, [ErrorCode::MintBudget; 6]);
    assert_eq!(refreshes(sandbox), 8);
    // What came of it is known: two are left for tokens that the API refuses.
    for session in &sessions {
        let access = session.access_token().await;
        if let Ok(access) = access {
            drop(session.refused(access.token()).await);
        }
    }
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(refreshes(sandbox), 10);
}

#[tokio::test]
async fn all_at_once_the_records_of_one_refresh_token_stay_within_zohos_limit() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    ask_all_at_once(&sandbox, &machines(&sandbox, &store, 2)).await;
}

#[tokio::test]
async fn all_at_once_they_do_in_one_process_too() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let machine = builder(&sandbox, ListStore::new()).policy(no_memory());
    ask_all_at_once(&sandbox, &[machine.build().unwrap()]).await;
}

/// Whoever deletes a login and saves it again does not begin anew at Zoho.
#[tokio::test]
async fn a_record_that_is_saved_again_goes_on_counting() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let record = logged_in(&sandbox, "ann", -60);
    let fleet = machines(&sandbox, &store, 4);
    for round in 0..14 {
        let id = store.save_token(&record).await.unwrap();
        let session = fleet[round % 4].session(id).await.unwrap();
        match session.access_token().await {
            Ok(_) => assert!(round < 8),
            Err(error) => assert_eq!(error.code(), ErrorCode::MintBudget),
        }
        assert!(store.delete_token(id).await.unwrap());
    }
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(refreshes(&sandbox), 8);
    // Nor does a login from it.
    let refresh = record.refresh_token.unwrap();
    let login = Credential::refresh(client(&sandbox), refresh);
    let error = fleet[0].session(login).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MintBudget);
}

/// The first one comes with the refresh token.
#[tokio::test]
async fn a_login_by_grant_that_is_saved_again_goes_on_counting() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let fleet = machines(&sandbox, &store, 2);
    let code = GrantToken::new(sandbox.grant_code(&sandbox.people()[0], SCOPES)).unwrap();
    let login = Credential::grant(client(&sandbox), code);
    let session = fleet[0].session(login).await.unwrap();
    let stored = store.find_token_by_id(session.id()).await.unwrap();
    let mut record = stored.unwrap();
    store.delete_token(session.id()).await.unwrap();
    record.id = None;
    record.access_token = None;
    for round in 0..10 {
        let id = store.save_token(&record).await.unwrap();
        let session = fleet[round % 2].session(id).await.unwrap();
        match session.access_token().await {
            Ok(_) => assert!(round < 7),
            Err(error) => assert_eq!(error.code(), ErrorCode::MintBudget),
        }
        store.delete_token(id).await.unwrap();
    }
    assert_eq!(refreshes(&sandbox), 7);
}

/// Requests that brought nothing do not count, whoever made them.
#[tokio::test]
async fn an_outage_does_not_spend_the_budget_of_all() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let mut record = logged_in(&sandbox, "ann", -60);
    record.user_name = Some(user("ann"));
    let first = store.save_token(&record).await.unwrap();
    record.user_name = Some(user("anna"));
    let second = store.save_token(&record).await.unwrap();
    let fault = zoho_sandbox::Fault::status(503).on(zoho_sandbox::Endpoint::Refresh);
    sandbox.inject(fault.times(10));
    let once = RefreshPolicy::new().with_attempts(1);
    for _ in 0..10 {
        let machine = builder(&sandbox, store.clone()).policy(once.clone());
        let session = machine.build().unwrap().session(first).await.unwrap();
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ServerError);
        store.cells.advance(Duration::from_mins(1));
    }
    assert_eq!(refreshes(&sandbox), 10);
    let machine = authenticator(&sandbox, store.clone());
    let session = machine.session(second).await.unwrap();
    session.access_token().await.unwrap();
}

/// What is counted of a refresh token.
async fn counted(store: &FleetStore, token: Option<&RefreshToken>) -> Memo {
    let permit = store.hold_credential(token.unwrap()).await;
    let counted = permit.memo().await.unwrap();
    permit.release(None).await.unwrap();
    counted
}

/// Counted from the answer on, since Zoho may have counted as late as that.
#[tokio::test]
async fn a_slow_answer_counts_from_when_it_came() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let (id, record) = expired(&sandbox, &store, "ann").await;
    let session = authenticator(&sandbox, store.clone()).session(id).await;
    let slow = Duration::from_millis(1300);
    sandbox.inject(zoho_sandbox::Fault::delay(slow).on(zoho_sandbox::Endpoint::Refresh));
    let began = Timestamp::now();
    session.unwrap().access_token().await.unwrap();
    let counted = counted(&store, record.refresh_token.as_ref()).await;
    assert_eq!(counted.minted_at.len(), 1);
    assert!(counted.minted_at[0].since(began) > Duration::from_secs(1));
}

/// The store is away when Zoho says no: the next one must not wait for ten minutes.
#[tokio::test]
async fn what_was_not_granted_is_taken_back_when_the_store_is_there_again() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let mut record = logged_in(&sandbox, "ann", -60);
    record.user_name = Some(user("ann"));
    let first = store.save_token(&record).await.unwrap();
    record.user_name = Some(user("anna"));
    let second = store.save_token(&record).await.unwrap();
    let stingy = RefreshPolicy::new().with_attempts(1);
    let stingy = stingy.with_mint_budget(Some(1));
    let open = || builder(&sandbox, store.clone()).policy(stingy.clone());
    let (center, asked) = out_of_service(Duration::from_millis(300)).await;
    let refused = open().data_center(center).build().unwrap();
    let session = refused.session(first).await.unwrap();
    let away = async {
        until(|| asked.load(Ordering::SeqCst) == 1).await;
        store.cells.refuse_writes(true);
    };
    let (answer, ()) = tokio::join!(session.access_token(), away);
    assert_eq!(answer.unwrap_err().code(), ErrorCode::ServerError);
    store.cells.refuse_writes(false);
    let machine = open().build().unwrap();
    let session = machine.session(second).await.unwrap();
    let began = Timestamp::now();
    while let Err(error) = session.access_token().await {
        assert_eq!(error.code(), ErrorCode::MintBudget);
        assert!(Timestamp::now().since(began) < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Others are at the count, and a good token is in hand: nobody waits, and nothing fails.
#[tokio::test]
async fn a_refresh_ahead_does_not_insist() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let (id, record) = expired(&sandbox, &store, "ann").await;
    let machine = authenticator(&sandbox, store.clone());
    let session = machine.session(id).await.unwrap();
    session.access_token().await.unwrap();
    let token = record.refresh_token.unwrap();
    let held = store.hold_credential(&token).await;
    // Due, by all that is known of it.
    let mut record = store.find_token_by_id(id).await.unwrap().unwrap();
    record.user_name = Some(user("anna"));
    record.id = None;
    record.expiry_time = Some(in_seconds(120));
    let due = store.save_token(&record).await.unwrap();
    let mut events = machine.events();
    let due = machine.session(due).await.unwrap();
    for _ in 0..30 {
        assert!(due.access_token().await.is_ok());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(refreshes(&sandbox), 1);
    assert!(events.try_recv().is_err(), "nothing to tell");
    held.release(None).await.unwrap();
    let old = due.access_token().await.unwrap();
    loop {
        let access = due.access_token().await.unwrap();
        if access.token() != old.token() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refreshes(&sandbox), 2);
}

/// Whoever died while counting keeps others waiting for no longer than a lease lives.
#[tokio::test]
async fn a_count_that_broke_off_is_waited_for() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let (id, record) = expired(&sandbox, &store, "ann").await;
    let machine = authenticator(&sandbox, store.clone());
    let session = machine.session(id).await.unwrap();
    session.access_token().await.unwrap();
    expire(&store, id).await;
    let dead = store.hold_credential(&record.refresh_token.unwrap()).await;
    let ask = async {
        let machine = authenticator(&sandbox, store.clone());
        let session = machine.session(id).await.unwrap();
        session.access_token().await.map(drop)
    };
    let time_passes = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(refreshes(&sandbox), 1);
        store.cells.advance(Duration::from_mins(1));
    };
    let (answer, ()) = tokio::join!(ask, time_passes);
    answer.unwrap();
    assert_eq!(refreshes(&sandbox), 2);
    drop(dead);
}

/// A grant works once, so its login is saved later, and what came with it counts all the same.
#[tokio::test]
async fn a_login_that_could_not_be_saved_counts() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let code = GrantToken::new(sandbox.grant_code(&sandbox.people()[0], SCOPES)).unwrap();
    let login = Credential::grant(client(&sandbox), code);
    let hasty = RefreshPolicy::new().with_patience(Duration::ZERO);
    let inner = HookStore::new(store.clone());
    inner.at_each_step(|step| async move {
        match step {
            Step::Save => Err(out_of_order()),
            _ => Ok(()),
        }
    });
    let machine = builder(&sandbox, inner).policy(hasty).build().unwrap();
    let error = machine.session(login).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenNotSaved);
    let unsaved = error.unsaved_token().unwrap();
    let counted = counted(&store, unsaved.refresh_token.as_ref()).await;
    assert_eq!(counted.minted_at.len(), 1);
}

#[tokio::test]
async fn mints_go_with_their_token_to_the_record_of_its_user() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let store = FleetStore::new();
    let first = logged_in(&sandbox, "ann", 3600);
    let first = store.save_token(&first).await.unwrap();
    let machine = strict(&sandbox, &store);
    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    let login = Credential::refresh(client(&sandbox), refresh);
    let session = machine.session(login).await.unwrap();
    let mut last = session.access_token().await.unwrap();
    for _ in 0..4 {
        last = session.refused(last.token()).await.unwrap();
    }
    let session = session.set_user_name(user("ann")).await.unwrap();
    assert_eq!(session.id(), first);
    assert_eq!(memo(&store, first).await.minted_at.len(), 5);
    refuse_all(&machine, &session).await;
    assert_eq!(sandbox.counts().refreshes_throttled, 0);
    assert_eq!(refreshes(&sandbox), 10);
}

#[tokio::test]
async fn mints_of_other_machines_go_with_their_token_too() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let first = logged_in(&sandbox, "ann", 3600);
    let first = store.save_token(&first).await.unwrap();
    let (machine, other) = (strict(&sandbox, &store), strict(&sandbox, &store));
    let refresh = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
    let login = Credential::refresh(client(&sandbox), refresh);
    let session = machine.session(login).await.unwrap();
    let held = other.session(session.id()).await.unwrap();
    let mut last = held.access_token().await.unwrap();
    for _ in 0..4 {
        last = held.refused(last.token()).await.unwrap();
    }
    let session = session.set_user_name(user("ann")).await.unwrap();
    assert_eq!(session.id(), first);
    assert_eq!(memo(&store, first).await.minted_at.len(), 5);
}

#[tokio::test]
async fn the_exchange_of_a_stored_grant_token_counts() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let mut record = OAuthToken::new();
    record.client_id = Some(client(&sandbox).id);
    record.grant_token = GrantToken::new(sandbox.grant_code(&sandbox.people()[0], SCOPES)).ok();
    let id = store.save_token(&record).await.unwrap();
    let machine = authenticator(&sandbox, store.clone());
    let session = machine.session(id).await.unwrap();
    session.access_token().await.unwrap();
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    let memo = memo(&store, id).await;
    assert_eq!(memo.minted_at.len(), 1);
    let refresh = stored.refresh_token.unwrap().fingerprint();
    assert_eq!(memo.credential, Some(refresh));
}

/// An accounts server in trouble, that says for how long.
async fn out_of_service(delay: Duration) -> (DataCenter, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            tokio::time::sleep(delay).await;
            let answer = "HTTP/1.1 503 x\r\nRetry-After: 60\r\nConnection: close\r\n\
                Content-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (DataCenter::builder("us", url).build().unwrap(), asked)
}

#[tokio::test]
async fn a_fleet_leaves_a_server_in_trouble_alone() {
    let sandbox = sandbox().await;
    let (center, asked) = out_of_service(Duration::ZERO).await;
    let store = FleetStore::new();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    // Whatever a machine remembers by itself is gone with it.
    let ask = || async {
        let machine = builder(&sandbox, store.clone()).data_center(center.clone());
        let session = machine.build().unwrap().session(id).await.unwrap();
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ServerError, "{error}");
        error
    };
    ask().await;
    for error in join_all((0..5).map(|_| ask())).await {
        assert!(error.retry_after().is_some());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// After half a second, as long as the trouble lasts no longer.
#[tokio::test]
async fn a_server_that_is_back_is_asked_again_soon() {
    let sandbox = sandbox().await;
    let store = FleetStore::new();
    let (id, _) = expired(&sandbox, &store, "ann").await;
    let fault = zoho_sandbox::Fault::status(500).on(zoho_sandbox::Endpoint::Refresh);
    sandbox.inject(fault.times(1));
    let once = RefreshPolicy::new().with_attempts(1);
    let machine = builder(&sandbox, store.clone())
        .policy(once)
        .build()
        .unwrap();
    let session = machine.session(id).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let error = loop {
        let other = authenticator(&sandbox, store.clone());
        match other.session(id).await.unwrap().access_token().await {
            Ok(_) => break error,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Network);
                let wait = error.retry_after().unwrap();
                assert!(wait <= Duration::from_secs(1), "{wait:?}");
                tokio::time::sleep(wait).await;
            }
        }
    };
    assert!(error.is_transient());
    assert_eq!(memo(&store, id).await.minted_at.len(), 1);
}
