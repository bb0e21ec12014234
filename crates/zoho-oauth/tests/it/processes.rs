//! Several processes and one store: one refresh per expired token, however many ask, and a lock
//! that dies with its holder.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use mysql_async::prelude::Queryable;
use zoho_oauth::store::{CoordinationKey, Permit};
use zoho_oauth::{AccessToken, Authenticator, RefreshToken, TokenId, TokenStore};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::support::{
    SCOPES, authenticator, expire, expired, in_seconds, logged_in, refreshes, sandbox,
};
use crate::workers::{TASKS, Worker, open};

const PROCESSES: usize = 8;

/// Lets a token end `rounds` times, and has every process ask for a new one with all its tasks.
async fn one_refresh_each(place: &str, rounds: u64) {
    let sandbox = sandbox().await;
    let own = open(place).await;
    let workers = (0..PROCESSES).map(|_| Worker::start(place, &sandbox));
    let mut workers = join_all(workers).await;
    for round in 0..rounds {
        let (id, old) = expired(&sandbox, &*own, &format!("user {round}")).await;
        for worker in &mut workers {
            worker.ask(0, id).await;
        }
        let answers = join_all(workers.iter_mut().map(Worker::answers)).await;
        let answers: Vec<_> = answers.into_iter().flat_map(|(_, all)| all).collect();
        assert_eq!(answers.len(), PROCESSES * TASKS);
        let different: HashSet<_> = answers.iter().collect();
        assert_eq!(different.len(), 1, "round {round}: {different:?}");
        assert_eq!(refreshes(&sandbox), round + 1, "round {round}");
        let stored = own.find_token_by_id(id).await.unwrap().unwrap();
        let stored_access = stored.access_token.unwrap().fingerprint();
        assert!(different.contains(&stored_access.as_str().to_owned()));
        assert_eq!(stored.refresh_token, old.refresh_token);
    }
    assert_eq!(sandbox.counts().refreshes_failed, 0);
}

#[tokio::test]
async fn eight_processes_refresh_a_token_in_a_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sdk_tokens.txt");
    one_refresh_each(&format!("file {}", path.display()), 200).await;
}

#[tokio::test]
async fn eight_processes_refresh_a_token_in_sqlite_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zohooauth.db");
    one_refresh_each(&format!("sqlite {}", path.display()), 200).await;
}

/// The holder of the lock is killed while Zoho lets it wait for an hour; whoever comes next gets
/// its token all the same.
async fn a_killed_holder_delays_nobody(kind: &str, path: &Path) {
    let sandbox = sandbox().await;
    let store = format!("{kind} {}", path.display());
    let own = open(&store).await;
    let (id, _) = expired(&sandbox, &*own, "ann").await;
    let mut holder = Worker::start(&store, &sandbox).await;
    let mut next = Worker::start(&store, &sandbox).await;
    sandbox.inject(Fault::delay(Duration::from_hours(1)).on(Endpoint::Refresh));
    holder.ask(0, id).await;
    while refreshes(&sandbox) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    next.ask(0, id).await;
    holder.child.kill().await.unwrap();
    let (_, answers) = next.answers().await;
    let answers: HashSet<_> = answers.into_iter().collect();
    assert_eq!(answers.len(), 1);
    let stored = own.find_token_by_id(id).await.unwrap().unwrap();
    let stored = stored.access_token.unwrap().fingerprint();
    assert!(answers.contains(stored.as_str()), "{answers:?}");
    assert_eq!(refreshes(&sandbox), 2);
}

#[tokio::test]
async fn a_killed_process_frees_its_lock_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    a_killed_holder_delays_nobody("file", &folder.path().join("sdk_tokens.txt")).await;
}

#[tokio::test]
async fn a_killed_process_frees_its_lock_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    a_killed_holder_delays_nobody("sqlite", &folder.path().join("zohooauth.db")).await;
}

/// Waits until the lease of a record has ended by itself, and takes it.
async fn take_over(store: &dyn TokenStore, id: TokenId) -> Box<dyn Permit> {
    let key = CoordinationKey::record(id);
    let agreement = store.coordination().unwrap();
    loop {
        if let Some(permit) = agreement.try_acquire(&key).await.unwrap() {
            return permit;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A worker at `place` that was stopped while Zoho answered, and the record it works on.
async fn stopped(place: &str, sandbox: &Sandbox, id: TokenId) -> Worker {
    let mut holder = Worker::start(place, sandbox).await;
    let slow = Fault::delay(Duration::from_millis(500)).on(Endpoint::Refresh);
    sandbox.inject(slow.times(1));
    holder.ask(0, id).await;
    while refreshes(sandbox) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    holder.signal("STOP");
    holder
}

/// A holder that is stopped past its lease and continued later: what Zoho issued is kept, although
/// another process holds the lease by then. `place` has leases that live for a moment.
async fn a_late_success_is_kept(place: &str) {
    let sandbox = sandbox().await;
    let own = open(place).await;
    let (id, old) = expired(&sandbox, &*own, "ann").await;
    let mut holder = stopped(place, &sandbox, id).await;
    let permit = take_over(&*own, id).await;
    holder.signal("CONT");
    let (_, answers) = holder.answers().await;
    let stored = own.find_token_by_id(id).await.unwrap().unwrap();
    let access = stored.access_token.unwrap().fingerprint();
    assert!(
        answers.iter().all(|answer| answer == access.as_str()),
        "{answers:?}"
    );
    assert_eq!(stored.refresh_token, old.refresh_token);
    assert_eq!(refreshes(&sandbox), 1);
    // The new holder can go on, and both counted what Zoho issued.
    permit.release(None).await.unwrap();
    let permit = take_over(&*own, id).await;
    assert_eq!(permit.memo().await.unwrap().minted_at.len(), 2);
}

/// The same with a refusal: it is not believed, and the process finds what the other one did.
async fn a_late_verdict_is_refused(place: &str) {
    let sandbox = sandbox().await;
    let own = open(place).await;
    let mut record = logged_in(&sandbox, "ann", -60);
    record.refresh_token = RefreshToken::new("1000.unknown.token").ok();
    let id = own.save_token(&record).await.unwrap();
    let mut holder = stopped(place, &sandbox, id).await;
    let permit = take_over(&*own, id).await;
    let (_, access) = sandbox.login(&sandbox.people()[0], SCOPES);
    record.access_token = AccessToken::new(access).ok();
    record.expiry_time = Some(in_seconds(3600));
    own.save_token(&record).await.unwrap();
    permit.release(None).await.unwrap();
    holder.signal("CONT");
    let (_, answers) = holder.answers().await;
    let access = record.access_token.unwrap().fingerprint();
    assert!(
        answers.iter().all(|answer| answer == access.as_str()),
        "{answers:?}"
    );
    let permit = take_over(&*own, id).await;
    assert_eq!(permit.memo().await.unwrap().verdicts, []);
    assert_eq!(refreshes(&sandbox), 1);
}

/// Zoho's limit, which the sandbox holds as Zoho does, whatever the callers do: all of them keep
/// saying that the API refused their token.
async fn the_limit_is_never_passed(place: &str) {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let own = open(place).await;
    let (id, _) = expired(&sandbox, &*own, "ann").await;
    let mut machines = Vec::new();
    for _ in 0..6 {
        machines.push(authenticator(&sandbox, open(place).await));
    }
    let hammer = |machine: Authenticator| async move {
        let session = machine.session(id).await.unwrap();
        for _ in 0..20 {
            let Ok(access) = session.access_token().await else {
                continue;
            };
            let _ = session.refused(access.token()).await;
        }
    };
    let (counts, ()) = tokio::join!(
        async {
            join_all(machines.iter().cloned().map(hammer)).await;
            sandbox.counts()
        },
        async {
            for _ in 0..20 {
                expire(&*own, id).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    );
    // The login of the test was a mint too.
    assert!((8..=10).contains(&counts.refreshes_ok), "{counts:?}");
    assert_eq!(counts.refreshes_throttled, 0, "{counts:?}");
}

/// A lease that outlives every round of a test.
const LONG: u64 = 20_000;
/// One that a test waits for.
const SHORT: u64 = 1_500;

/// A place on a shared server that nobody else uses.
async fn place(kind: &str, url: &str, lease: u64) -> String {
    let port = url::Url::parse(url).unwrap().port().unwrap();
    let name = format!("processes_{:016x}", fastrand::u64(..));
    if kind == "mysql" {
        // The other stores make what they need themselves.
        let mut connection = mysql_async::Conn::from_url(url).await.unwrap();
        let sql = format!("CREATE DATABASE {name}");
        connection.query_drop(sql).await.unwrap();
        connection.disconnect().await.unwrap();
    }
    format!("{kind} {port} {name} {lease}")
}

macro_rules! on_a_server {
    ($kind:ident, $url:ident) => {
        mod $kind {
            use zoho_test_servers::shared::$url;

            use super::{LONG, SHORT, place};

            async fn new(lease: u64) -> String {
                place(stringify!($kind), &$url(), lease).await
            }

            #[tokio::test]
            async fn eight_processes_refresh_a_token_once() {
                super::one_refresh_each(&new(LONG).await, 200).await;
            }

            #[tokio::test]
            async fn a_late_success_is_kept() {
                super::a_late_success_is_kept(&new(SHORT).await).await;
            }

            #[tokio::test]
            async fn a_late_verdict_is_refused() {
                super::a_late_verdict_is_refused(&new(SHORT).await).await;
            }

            #[tokio::test]
            async fn the_limit_is_never_passed() {
                super::the_limit_is_never_passed(&new(LONG).await).await;
            }
        }
    };
}

on_a_server!(mysql, mysql_url);
on_a_server!(postgres, postgres_url);
on_a_server!(redis, redis_url);
