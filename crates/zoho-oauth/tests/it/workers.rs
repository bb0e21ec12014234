//! Processes that share a store: the test binary starts itself again as a worker.
//!
//! `workers::worker` does nothing unless it is told what to do. It reads lines `LANE ID` from its
//! standard input and, for each, asks for an access token with all its tasks at once; then it writes
//! `LANE` and the fingerprints of what came back. Lanes do not wait for each other.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, oneshot};
use zoho_oauth::{
    Authenticator, DataCenter, FileStore, Guarantee, MySqlStore, PostgresStore, RedisStore,
    RefreshPolicy, SqliteStore, TokenId, TokenStore,
};
use zoho_sandbox::Sandbox;

/// How many tasks of a worker ask at once.
pub(crate) const TASKS: usize = 16;

/// What a worker is told, by environment variables of this process and no other.
const STORE: &str = "ZOHO_WORKER_STORE";
const ACCOUNTS_URL: &str = "ZOHO_WORKER_ACCOUNTS_URL";
const API_URL: &str = "ZOHO_WORKER_API_URL";

/// Opens the store that `place` names: `file PATH`, `sqlite PATH`, or a server's name with its ports
/// (commas in between), the database, schema or prefix, and how many milliseconds a lease lives.
pub(crate) async fn open(place: &str) -> Arc<dyn TokenStore> {
    let mut words = place.split(' ');
    let (kind, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
    match kind {
        "file" => Arc::new(FileStore::open(rest[0]).await.unwrap()),
        "sqlite" => Arc::new(SqliteStore::open(rest[0]).unwrap()),
        "mysql" => {
            let nodes = rest[0].split(',').map(|port| format!("127.0.0.1:{port}"));
            let store = MySqlStore::builder().hosts(nodes).database(rest[1]);
            Arc::new(store.lease(millis(rest[2])).connect().await.unwrap())
        }
        "postgres" => {
            let store = PostgresStore::builder()
                .host("127.0.0.1")
                .database("postgres");
            let store = store.port(rest[0].parse().unwrap()).schema(rest[1]);
            Arc::new(store.lease(millis(rest[2])).connect().await.unwrap())
        }
        "redis" => {
            let store = RedisStore::builder().port(rest[0].parse().unwrap());
            let store = store.prefix(rest[1]).lease(millis(rest[2]));
            Arc::new(store.connect().await.unwrap())
        }
        other => panic!("no store `{other}`"),
    }
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
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
        loop {
            let line = self.stdout.next_line().await.unwrap();
            let line = line.expect("the worker ended early");
            if !is_reminder(&line) {
                // The harness writes "test workers::worker ... " in front of the first line.
                return line.rsplit(" ... ").next().unwrap().to_owned();
            }
        }
    }

    /// Asks all tasks of the worker to want a token.
    pub(crate) async fn ask(&mut self, lane: usize, id: TokenId) {
        let line = format!("{lane} {id}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    /// The answers to the question that is answered next, and its lane.
    pub(crate) async fn answers(&mut self) -> (usize, Vec<String>) {
        parse(&self.line().await)
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

/// Several workers whose lanes are asked side by side.
#[derive(Debug)]
pub(crate) struct Crew {
    workers: Vec<Member>,
    /// Dropped, and with it killed, with the crew.
    _children: Vec<Child>,
}

#[derive(Debug)]
struct Member {
    stdin: Mutex<ChildStdin>,
    waiting: Arc<std::sync::Mutex<HashMap<usize, oneshot::Sender<Vec<String>>>>>,
}

impl Crew {
    /// Starts a worker at each of `places`.
    pub(crate) async fn start(places: &[String], sandbox: &Sandbox) -> Self {
        let workers = join_all(places.iter().map(|place| Worker::start(place, sandbox))).await;
        let (mut members, mut children) = (Vec::new(), Vec::new());
        for mut worker in workers {
            let waiting = Arc::<std::sync::Mutex<HashMap<_, oneshot::Sender<_>>>>::default();
            let answered = Arc::clone(&waiting);
            let child = worker.child;
            let stdin = Mutex::new(worker.stdin);
            tokio::spawn(async move {
                while let Ok(Some(line)) = worker.stdout.next_line().await {
                    if line.starts_with("test ") {
                        continue;
                    }
                    let (lane, answers) = parse(&line);
                    let waiter = answered.lock().unwrap().remove(&lane).unwrap();
                    // The test may have failed meanwhile.
                    let _ = waiter.send(answers);
                }
            });
            members.push(Member { stdin, waiting });
            children.push(child);
        }
        Self {
            workers: members,
            _children: children,
        }
    }

    /// Has all tasks of all workers want a token, and returns what each worker's tasks got.
    pub(crate) async fn ask(&self, lane: usize, id: TokenId) -> Vec<Vec<String>> {
        let asked = self.workers.iter().map(|worker| worker.ask(lane, id));
        join_all(asked).await
    }
}

impl Member {
    async fn ask(&self, lane: usize, id: TokenId) -> Vec<String> {
        let (sender, answers) = oneshot::channel();
        self.waiting.lock().unwrap().insert(lane, sender);
        let line = format!("{lane} {id}\n");
        let mut stdin = self.stdin.lock().await;
        stdin.write_all(line.as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
        drop(stdin);
        answers.await.expect("the worker ended early")
    }
}

/// The test harness says so after a minute.
fn is_reminder(line: &str) -> bool {
    line.contains("has been running for over")
}

fn parse(line: &str) -> (usize, Vec<String>) {
    let mut words = line.split(' ').map(str::to_owned);
    let lane = words.next().unwrap().parse().unwrap();
    (lane, words.collect())
}
