//! Processes that share a store: the test binary starts itself again as a worker.
//!
//! `workers::worker` does nothing unless it is told what to do. It reads lines `LANE ID` from its
//! standard input and, for each, asks for an access token with all its tasks at once; then it writes
//! `LANE` and the fingerprints of what came back. Lanes do not wait for each other.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use zoho_oauth::{
    Authenticator, DataCenter, FileStore, Guarantee, RefreshPolicy, SqliteStore, TokenId,
    TokenStore,
};
use zoho_sandbox::Sandbox;

/// How many tasks of a worker ask at once.
pub(crate) const TASKS: usize = 16;

/// What a worker is told, by environment variables of this process and no other.
const STORE: &str = "ZOHO_WORKER_STORE";
const ACCOUNTS_URL: &str = "ZOHO_WORKER_ACCOUNTS_URL";
const API_URL: &str = "ZOHO_WORKER_API_URL";

/// Opens the store that `place` names: `file PATH`, `sqlite PATH`.
pub(crate) async fn open(place: &str) -> Arc<dyn TokenStore> {
    let mut words = place.split(' ');
    let (kind, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
    match kind {
        "file" => Arc::new(FileStore::open(rest[0]).await.unwrap()),
        "sqlite" => Arc::new(SqliteStore::open(rest[0]).unwrap()),
        other => panic!("no store `{other}`"),
    }
}

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
    assert!(auth.guarantee() >= Guarantee::Host);
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (lane, id) = line.split_once(' ').unwrap();
        let (lane, id) = (lane.to_owned(), id.parse().unwrap());
        let auth = auth.clone();
        runtime.spawn(async move {
            let asked = (0..TASKS).map(|_| tokio::spawn(ask(auth.clone(), id)));
            let answers = join_all(asked.collect::<Vec<_>>()).await;
            let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
            println!("{lane} {}", answers.join(" "));
        });
    }
}

async fn ask(auth: Authenticator, id: TokenId) -> String {
    let access = async { auth.session(id).await?.access_token().await };
    match access.await {
        Ok(access) => access.token().fingerprint().as_str().to_owned(),
        Err(error) => format!("error:{}", error.code().as_str()),
    }
}

/// A worker, ended with SIGKILL when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    pub(crate) async fn start(store: &str, sandbox: &Sandbox) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "workers::worker", "--nocapture"])
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
        // The harness writes "test workers::worker ... " in front of the first line.
        line.rsplit(" ... ").next().unwrap().to_owned()
    }

    /// Asks all tasks of the worker to want a token.
    pub(crate) async fn ask(&mut self, lane: usize, id: TokenId) {
        let line = format!("{lane} {id}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    /// The answers to the question that is answered next, and its lane.
    pub(crate) async fn answers(&mut self) -> (usize, Vec<String>) {
        let line = self.line().await;
        let mut words = line.split(' ').map(str::to_owned);
        let lane = words.next().unwrap().parse().unwrap();
        (lane, words.collect())
    }

    /// Sends a signal, `STOP` or `CONT`.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let mut kill = std::process::Command::new("kill");
        let done = kill.args(["-s", name, &pid]).status().unwrap();
        assert!(done.success());
    }
}

/// Everything shall have answered within this, or a test is stuck.
pub(crate) const STUCK: Duration = Duration::from_secs(100);
