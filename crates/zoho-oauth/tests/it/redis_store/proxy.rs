//! A network that fails at the worst moment: after the server did what it was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Stands between a store and its server, and loses answers to scripts with their connection.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    plan: Arc<Plan>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Plan {
    /// How many script calls went through.
    calls: AtomicUsize,
    /// Which of them lose their answers: from this one on…
    first: AtomicUsize,
    /// …so many,
    count: AtomicUsize,
    /// or every one whose number can be divided by this.
    every: AtomicUsize,
    lost: AtomicUsize,
    /// Whether nobody gets through after a loss until the gate is opened.
    closes: AtomicBool,
    is_closed: watch::Sender<bool>,
}

impl Plan {
    fn loses(&self, call: usize) -> bool {
        let (first, count) = (
            self.first.load(Ordering::SeqCst),
            self.count.load(Ordering::SeqCst),
        );
        let every = self.every.load(Ordering::SeqCst);
        (first..first + count).contains(&call) || (every > 0 && call % every == every - 1)
    }
}

impl Proxy {
    pub(crate) async fn start(host: String, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Plan::default());
        let shared = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (plan, host) = (Arc::clone(&shared), host.clone());
                tokio::spawn(async move {
                    let mut is_closed = plan.is_closed.subscribe();
                    if is_closed.wait_for(|is_closed| !is_closed).await.is_err() {
                        return;
                    }
                    if let Ok(server) = TcpStream::connect((host.as_str(), port)).await {
                        pump(client, server, &plan).await;
                    }
                });
            }
        });
        Self {
            port: own_port,
            plan,
            task,
        }
    }

    /// Loses the answers to `count` script calls, from the `first` one on that comes from now on.
    pub(crate) fn lose(&self, first: usize, count: usize) {
        self.plan.count.store(0, Ordering::SeqCst);
        let now = self.plan.calls.load(Ordering::SeqCst);
        self.plan.lost.store(0, Ordering::SeqCst);
        self.plan.first.store(now + first, Ordering::SeqCst);
        self.plan.count.store(count, Ordering::SeqCst);
    }

    /// Loses every so many-th answer.
    pub(crate) fn lose_every(&self, every: usize) {
        self.plan.every.store(every, Ordering::SeqCst);
    }

    /// Lets nobody through after the next loss until [`open`](Self::open).
    pub(crate) fn close_after_loss(&self) {
        self.plan.closes.store(true, Ordering::SeqCst);
    }

    /// Waits for that loss.
    pub(crate) async fn closed(&self) {
        let mut is_closed = self.plan.is_closed.subscribe();
        is_closed.wait_for(|is_closed| *is_closed).await.unwrap();
    }

    pub(crate) fn open(&self) {
        self.plan.closes.store(false, Ordering::SeqCst);
        self.plan.is_closed.send_replace(false);
    }

    /// Returns how many answers were lost.
    pub(crate) fn lost(&self) -> usize {
        self.plan.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries bytes both ways until one side ends, or the answer to a doomed call comes.
async fn pump(client: TcpStream, server: TcpStream, plan: &Plan) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_doomed = AtomicBool::new(false);
    let there = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let bytes = &buffer[..length];
            for _ in 0..calls_in(bytes) {
                if plan.loses(plan.calls.fetch_add(1, Ordering::SeqCst)) {
                    is_doomed.store(true, Ordering::SeqCst);
                }
            }
            if to_server.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            if is_doomed.load(Ordering::SeqCst) {
                plan.lost.fetch_add(1, Ordering::SeqCst);
                if plan.closes.load(Ordering::SeqCst) {
                    plan.is_closed.send_replace(true);
                }
                return;
            }
            if to_client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// How many calls of scripts begin in these bytes.
fn calls_in(bytes: &[u8]) -> usize {
    let count = |name: &[u8]| {
        bytes
            .windows(name.len())
            .filter(|part| *part == name)
            .count()
    };
    count(b"\r\nEVALSHA\r\n") + count(b"\r\nEVAL\r\n")
}
