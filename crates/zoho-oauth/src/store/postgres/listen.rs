//! Hearing of what others change, on a connection of its own.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Config};

use super::connect::Connector;
use super::sql::quoted;
use crate::secret::Fingerprint;
use crate::store::Change;
use crate::store::hearing::{Hearing, tell};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long it may take to connect and to begin to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The channel on which the changes of a table are told: one per schema and table of a database,
/// with no more in its name than a digest, since its room is 63 bytes.
pub(super) fn channel(schema: &str, table: &str) -> String {
    // A table's name has no dot.
    let name = format!("{schema}.{table}");
    format!("zoho_oauth_{}", Fingerprint::of(&[&name]).as_str())
}

/// Listens from the first receiver on, until it is dropped.
pub(super) struct Listening {
    ear: Ear,
    hearing: Hearing,
}

#[derive(Clone)]
struct Ear {
    config: Config,
    connector: Connector,
    channel: String,
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("channel", &self.ear.channel)
            .finish_non_exhaustive()
    }
}

impl Listening {
    pub(super) fn new(config: Config, connector: Connector, channel: String) -> Self {
        Self {
            ear: Ear {
                config,
                connector,
                channel,
            },
            hearing: Hearing::new(),
        }
    }

    /// Returns a receiver; `None` outside of a runtime, where nobody could listen.
    pub(super) fn receiver(&self) -> Option<broadcast::Receiver<Change>> {
        let runtime = Handle::try_current().ok()?;
        let ear = &self.ear;
        let receiver = |sender| ear.clone().listen(sender);
        Some(self.hearing.receiver(&runtime, receiver))
    }
}

impl Ear {
    async fn listen(self, sender: broadcast::Sender<Change>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.one_connection(&sender).await {
                pause = FIRST_PAUSE;
            }
            tracing::debug!(channel = self.channel, "not listening for changes");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Listens until the connection ends; whether it came that far at all.
    async fn one_connection(&self, sender: &broadcast::Sender<Change>) -> bool {
        let connecting = timeout(PATIENCE, self.connector.open(&self.config));
        let Ok(Ok((client, mut messages))) = connecting.await else {
            return false;
        };
        let statement = format!("LISTEN {}", quoted(&self.channel));
        let mut beginning = pin!(timeout(PATIENCE, client.batch_execute(&statement)));
        let mut is_listening = false;
        loop {
            tokio::select! {
                begun = &mut beginning, if !is_listening => {
                    let Ok(Ok(())) = begun else {
                        return false;
                    };
                    is_listening = true;
                    // What changed before was not heard.
                    tell(sender, Change::Missed);
                }
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(heard))) => {
                        tell(sender, change(heard.payload()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return is_listening,
                },
            }
        }
    }
}

/// An id, or anything.
fn change(payload: &str) -> Change {
    payload.parse().map_or(Change::Everything, Change::Record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenId;

    #[test]
    fn what_is_no_id_is_everything() {
        let seven = TokenId::new(7).unwrap();
        assert_eq!(change("7"), Change::Record(seven));
        for payload in ["", "*", "007", "seven"] {
            assert_eq!(change(payload), Change::Everything);
        }
    }

    #[test]
    fn a_channel_belongs_to_one_table() {
        let one = channel("public", "oauthtoken");
        assert!(one.len() <= 63, "{one}");
        assert_ne!(one, channel("public", "other"));
        assert_ne!(one, channel("other", "oauthtoken"));
    }
}
