//! Several processes and one store: one refresh per expired token, however many ask, and a lock
//! that dies with its holder.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use zoho_sandbox::{Endpoint, Fault};

use crate::support::{expired, refreshes, sandbox};
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
