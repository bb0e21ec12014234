//! Servers that die while many processes refresh tokens, and come back.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use zoho_oauth::{OAuthToken, TokenId, TokenStore};
use zoho_sandbox::Sandbox;
use zoho_test_servers::{Galera, Postgres, Redis};

use crate::support::{logged_in, sandbox};
use crate::workers::{Crew, TASKS, open};

/// Logins that come and end side by side.
const LANES: usize = 3;
/// How many tokens each lane lets end before the outage, and after the server is back.
const ROUNDS: usize = 12;

/// What an outage test keeps track of.
struct Watch {
    sandbox: Sandbox,
    store: Arc<dyn TokenStore>,
    crew: Crew,
    /// Moves when a server is killed.
    kills: AtomicUsize,
    is_over: AtomicBool,
    rounds: [AtomicUsize; LANES],
}

/// A token that ended, and what came of it.
struct Ended {
    id: TokenId,
    record: OAuthToken,
    /// The access token that everybody had in the end.
    access: String,
    /// A server was killed while it was being refreshed.
    is_hit: bool,
    /// What some tasks got instead.
    errors: Vec<String>,
}

impl Watch {
    /// One login whose access token has ended, which all tasks of all processes want to use.
    async fn round(&self, lane: usize) -> Ended {
        let number = self.rounds[lane].fetch_add(1, Ordering::SeqCst);
        let record = logged_in(&self.sandbox, &format!("user {lane} {number}"), -60);
        let id = loop {
            // Not acknowledged: saved again, and still one record.
            if let Ok(id) = self.store.save_token(&record).await {
                break id;
            }
        };
        let kills = self.kills.load(Ordering::SeqCst);
        let mut errors = Vec::new();
        let access = loop {
            let answers = self.crew.ask(lane, id).await;
            assert!(answers.iter().all(|answers| answers.len() == TASKS));
            let answers = answers.into_iter().flatten();
            let (failed, tokens): (Vec<_>, Vec<_>) =
                answers.partition(|answer| answer.starts_with("error:"));
            let is_done = failed.is_empty();
            errors.extend(failed);
            if is_done {
                let all_same = tokens.iter().all(|token| *token == tokens[0]);
                assert!(all_same, "different tokens for record {id}");
                break tokens[0].clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Ended {
            id,
            record,
            access,
            is_hit: kills != self.kills.load(Ordering::SeqCst),
            errors,
        }
    }

    async fn lane(&self, lane: usize) -> Vec<Ended> {
        let mut ended = Vec::new();
        while !self.is_over.load(Ordering::SeqCst) {
            ended.push(self.round(lane).await);
        }
        ended
    }

    /// Waits until each lane has gone through more rounds.
    async fn some_rounds(&self) {
        let now = |lane: &AtomicUsize| lane.load(Ordering::SeqCst);
        let before: Vec<_> = self.rounds.iter().map(now).collect();
        let is_done = |(lane, before): (&AtomicUsize, &usize)| now(lane) >= before + ROUNDS;
        while !self.rounds.iter().zip(&before).all(is_done) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// How the sandbox names a refresh token in its counts.
fn named(record: &OAuthToken) -> String {
    let token = record.refresh_token.as_ref().unwrap();
    let digest = Sha256::digest(token.expose_secret().as_bytes());
    digest[..8].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Four processes at `places` refresh tokens that end all the time, while `outage` happens: it is
/// handed a function to call at the moment it kills something.
///
/// Nothing that was acknowledged may be missing at any of `places`, and there is exactly one refresh
/// for each token that ended, or two where a kill came in between.
async fn nothing_is_lost<F>(places: &[String], outage: impl FnOnce(Arc<Watch>) -> F)
where
    F: Future<Output = ()>,
{
    let sandbox = sandbox().await;
    let crew = Crew::start(places, &sandbox).await;
    let watch = Arc::new(Watch {
        store: open(&places[0]).await,
        sandbox,
        crew,
        kills: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        rounds: std::array::from_fn(|_| AtomicUsize::new(0)),
    });
    let lanes = (0..LANES).map(|lane| {
        let watch = Arc::clone(&watch);
        tokio::spawn(async move { watch.lane(lane).await })
    });
    let lanes: Vec<_> = lanes.collect();
    watch.some_rounds().await;
    outage(Arc::clone(&watch)).await;
    watch.some_rounds().await;
    watch.is_over.store(true, Ordering::SeqCst);
    let ended = join_all(lanes).await.into_iter().flat_map(Result::unwrap);
    let ended: Vec<_> = ended.collect();

    let asked = watch.sandbox.counts().refreshes_by_token;
    let mut hits = 0;
    for token in &ended {
        let times = asked.get(&named(&token.record)).copied().unwrap_or(0);
        hits += usize::from(token.is_hit);
        assert!(
            times == 1 || (token.is_hit && times == 2),
            "{times} refreshes of record {}, hit: {}, errors: {:?}",
            token.id,
            token.is_hit,
            token.errors
        );
        // Errors are for those whose server was away, and pass.
        for error in &token.errors {
            let passing = ["store_unavailable", "store_locked", "lease_lost", "timeout"];
            let code = error.trim_start_matches("error:");
            assert!(passing.contains(&code), "{error}");
        }
    }
    assert!(hits <= LANES * watch.kills.load(Ordering::SeqCst));
    assert_eq!(asked.len(), ended.len());

    for place in places {
        let store = open(place).await;
        let stored = store.get_tokens().await.unwrap();
        let stored: HashMap<_, _> = stored.into_iter().map(|row| (row.id, row)).collect();
        assert_eq!(stored.len(), ended.len(), "at {place}");
        for token in &ended {
            let row = &stored[&Some(token.id)];
            assert_eq!(row.refresh_token, token.record.refresh_token);
            assert_eq!(row.user_name, token.record.user_name);
            let access = row.access_token.as_ref().unwrap().fingerprint();
            assert_eq!(access.as_str(), token.access);
        }
    }
}

/// Kills a server, and brings it back after a while.
async fn kill_and_restart(
    watch: Arc<Watch>,
    away: Duration,
    kill: impl FnOnce(),
    restart: impl FnOnce() + Send + 'static,
) {
    watch.kills.fetch_add(1, Ordering::SeqCst);
    kill();
    tokio::time::sleep(away).await;
    tokio::task::spawn_blocking(restart).await.unwrap();
}

macro_rules! restarting {
    ($test:ident, $kind:literal, $server:ident) => {
        #[tokio::test]
        async fn $test() {
            let server = Arc::new(Mutex::new($server::start().unwrap()));
            let port = server.lock().unwrap().port();
            let place = format!("{} {port} outages 20000", $kind);
            // Once more, since the server ends with the last of them.
            let (_whole, again) = (Arc::clone(&server), Arc::clone(&server));
            let places = vec![place; 4];
            nothing_is_lost(&places, |watch| {
                kill_and_restart(
                    watch,
                    Duration::from_secs(2),
                    move || server.lock().unwrap().kill(),
                    move || again.lock().unwrap().restart().unwrap(),
                )
            })
            .await;
        }
    };
}

restarting!(
    processes_survive_a_postgres_that_restarts,
    "postgres",
    Postgres
);
restarting!(processes_survive_a_redis_that_restarts, "redis", Redis);

/// Three nodes, each used by a process or two, and the others when it fails.
#[tokio::test]
async fn processes_survive_a_galera_node_that_dies() {
    let cluster = Galera::start(3).unwrap();
    cluster.sql(0, "CREATE DATABASE outages").unwrap();
    let ports = [0, 1, 2].map(|node| cluster.port(node).to_string());
    let place = |first: usize| {
        let order = [0, 1, 2].map(|next| ports[(first + next) % 3].clone());
        format!("mysql {} outages 20000", order.join(","))
    };
    let places = [0, 1, 2, 1].map(place);
    let cluster = Arc::new(Mutex::new(cluster));
    let (dying, again) = (Arc::clone(&cluster), Arc::clone(&cluster));
    nothing_is_lost(&places, |watch| {
        kill_and_restart(
            watch,
            // Longer than the cluster waits for the dead node.
            Duration::from_secs(12),
            move || dying.lock().unwrap().kill(1),
            move || again.lock().unwrap().restart(1).unwrap(),
        )
    })
    .await;
}
