//! Several processes and one store: one refresh per expired token, however many ask, and a lock
//! that dies with its holder.
//!
//! The test binary starts itself again as the worker: `processes::worker` does nothing unless it
//! is told what to do.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use zoho_oauth::{
    Authenticator, DataCenter, FileStore, Guarantee, RefreshPolicy, SqliteStore, TokenId,
    TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::support::{expired, refreshes, sandbox};

const PROCESSES: usize = 8;
const TASKS: usize = 16;
const ROUNDS: usize = 50;

/// What a worker is told, by environment variables of this process and no other.
const STORE: &str = "ZOHO_WORKER_STORE";
const ACCOUNTS_URL: &str = "ZOHO_WORKER_ACCOUNTS_URL";
const API_URL: &str = "ZOHO_WORKER_API_URL";

async fn open(store: &str) -> Box<dyn TokenStore> {
    let (kind, path) = store.split_once(':').unwrap();
    match kind {
        "file" => Box::new(FileStore::open(path).await.unwrap()),
        "sqlite" => Box::new(SqliteStore::open(path).unwrap()),
        other => panic!("no store `{other}`"),
    }
}

/// Reads ids from standard input; for each, asks for a token with all tasks at once and writes
/// the fingerprints of what came back.
#[test]
fn worker() {
    let env = |name: &str| {
        #[expect(clippy::disallowed_methods, reason = "how a worker is told what to do")]
        std::env::var(name)
    };
    let Ok(store) = env(STORE) else { return };
    let accounts_url = env(ACCOUNTS_URL).unwrap();
    let center = DataCenter::builder("sandbox", accounts_url).api_domain(env(API_URL).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let auth = Authenticator::builder(runtime.block_on(open(&store)))
        .data_center(center.build().unwrap())
        .policy(RefreshPolicy::new().with_attempts(1))
        .build()
        .unwrap();
    assert_eq!(auth.guarantee(), Guarantee::Host);
    println!("ready");
    for line in std::io::stdin().lines() {
        let id: TokenId = line.unwrap().parse().unwrap();
        let asked = (0..TASKS).map(|_| {
            let auth = auth.clone();
            runtime.spawn(async move {
                let session = auth.session(id).await?;
                let access = session.access_token().await?;
                Ok::<_, zoho_oauth::Error>(access.token().fingerprint())
            })
        });
        let answers = runtime.block_on(join_all(asked.collect::<Vec<_>>()));
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer.unwrap() {
                Ok(fingerprint) => fingerprint.as_str().to_owned(),
                Err(error) => format!("error:{}", error.code().as_str()),
            })
            .collect();
        println!("{}", answers.join(" "));
    }
}

struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    async fn start(store: &str, sandbox: &Sandbox) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::worker", "--nocapture"])
            .env(STORE, store)
            .env(ACCOUNTS_URL, sandbox.accounts_url())
            .env(API_URL, sandbox.api_url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut worker = Self {
            child,
            stdin,
            stdout,
        };
        // The test harness says something first.
        while worker.line().await != "ready" {}
        worker
    }

    async fn line(&mut self) -> String {
        let line = self.stdout.next_line().await.unwrap();
        let line = line.expect("the worker ended early");
        // The harness writes "test processes::worker ... " in front of the first line.
        line.rsplit(" ... ").next().unwrap().to_owned()
    }

    async fn ask(&mut self, id: TokenId) {
        let line = format!("{id}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    async fn answers(&mut self) -> Vec<String> {
        let line = self.line().await;
        line.split(' ').map(str::to_owned).collect()
    }
}

async fn one_refresh_each(kind: &str, path: &Path) {
    let sandbox = sandbox().await;
    let store = format!("{kind}:{}", path.display());
    let own = open(&store).await;
    let workers = (0..PROCESSES).map(|_| Worker::start(&store, &sandbox));
    let mut workers = join_all(workers).await;
    for round in 0..ROUNDS {
        let (id, old) = expired(&sandbox, &*own, &format!("user {round}")).await;
        for worker in &mut workers {
            worker.ask(id).await;
        }
        let answers = join_all(workers.iter_mut().map(Worker::answers)).await;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!(answers.len(), PROCESSES * TASKS);
        let different: HashSet<_> = answers.iter().collect();
        assert_eq!(different.len(), 1, "round {round}: {different:?}");
        assert_eq!(refreshes(&sandbox), round as u64 + 1, "round {round}");
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
    one_refresh_each("file", &folder.path().join("sdk_tokens.txt")).await;
}

#[tokio::test]
async fn eight_processes_refresh_a_token_in_sqlite_once() {
    let folder = tempfile::tempdir().unwrap();
    one_refresh_each("sqlite", &folder.path().join("zohooauth.db")).await;
}

/// The holder of the lock is killed while Zoho lets it wait for an hour; whoever comes next gets
/// its token all the same.
async fn a_killed_holder_delays_nobody(kind: &str, path: &Path) {
    let sandbox = sandbox().await;
    let store = format!("{kind}:{}", path.display());
    let own = open(&store).await;
    let (id, _) = expired(&sandbox, &*own, "ann").await;
    let mut holder = Worker::start(&store, &sandbox).await;
    let mut next = Worker::start(&store, &sandbox).await;
    sandbox.inject(Fault::delay(Duration::from_hours(1)).on(Endpoint::Refresh));
    holder.ask(id).await;
    while refreshes(&sandbox) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    next.ask(id).await;
    holder.child.kill().await.unwrap();
    let answers: HashSet<_> = next.answers().await.into_iter().collect();
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
