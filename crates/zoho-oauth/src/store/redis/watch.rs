//! Telling of changes: a connection of its own that listens, for as long as the store lives.
//!
//! It speaks the older version of the protocol (RESP2), which every server and proxy knows, and in
//! which a connection that listens can do nothing else.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use redis::{Client, RedisResult};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use crate::store::Change;
use crate::store::hearing::{Hearing, tell};

/// How often a connection on which nothing is told is tried.
const ALIVE: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Listens from when it is first asked until it is dropped.
pub(super) struct Watch {
    listener: Listener,
    /// Where the store was opened; whoever asks later may have none.
    runtime: Handle,
    hearing: Hearing,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("channel", &self.listener.channel)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// `clients` are tried in turn. Within a tokio runtime, which is the one that will listen.
    pub(super) fn new(clients: Vec<Client>, channel: String, connect: Duration) -> Self {
        Self {
            listener: Listener {
                clients,
                channel,
                connect,
            },
            runtime: Handle::current(),
            hearing: Hearing::new(),
        }
    }

    pub(super) fn receiver(&self) -> broadcast::Receiver<Change> {
        let runtime = Handle::try_current().unwrap_or_else(|_| self.runtime.clone());
        let listener = &self.listener;
        self.hearing
            .receiver(&runtime, |sender| listener.clone().listen(sender))
    }
}

#[derive(Clone)]
struct Listener {
    clients: Vec<Client>,
    channel: String,
    connect: Duration,
}

impl Listener {
    async fn listen(self, sender: broadcast::Sender<Change>) {
        let mut pause = SHORTEST_PAUSE;
        for client in self.clients.iter().cycle() {
            let ended = self.listen_once(client, &sender, &mut pause).await;
            match ended {
                Ok(()) => tracing::debug!("the server closed the connection for changes"),
                // The text of the driver's error stays out of the log.
                Err(error) => tracing::debug!(kind = ?error.kind(), "cannot listen for changes"),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen_once(
        &self,
        client: &Client,
        sender: &broadcast::Sender<Change>,
        pause: &mut Duration,
    ) -> RedisResult<()> {
        let connecting = async {
            let mut connection = client.get_async_pubsub().await?;
            connection.subscribe(self.channel.as_str()).await?;
            Ok(connection)
        };
        let connection = within(self.connect, connecting).await?;
        *pause = SHORTEST_PAUSE;
        // Nobody knows what happened until now.
        tell(sender, Change::Missed);
        let (mut sink, mut messages) = connection.split();
        loop {
            let Ok(message) = tokio::time::timeout(ALIVE, messages.next()).await else {
                within(self.connect, sink.ping::<redis::Value>()).await?;
                continue;
            };
            let Some(message) = message else {
                return Ok(());
            };
            let id = std::str::from_utf8(message.get_payload_bytes()).ok();
            let id = id.and_then(|id| id.parse().ok());
            tell(sender, id.map_or(Change::Everything, Change::Record));
        }
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = RedisResult<T>> + Send,
) -> RedisResult<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
