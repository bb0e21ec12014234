//! What a process hears of the changes in the store.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, timeout_at};

use super::SOON;
use super::puppet::{Order, Puppet};
use crate::conformance::sample::token;
use crate::conformance::subject::Subject;
use crate::conformance::{Offer, OptionalVerdict, StoreFactory, Verdict, Violation};
use crate::store::Change;
use crate::token::{OAuthToken, TokenId};

/// Whoever listens hears what ends or replaces a token, within five seconds: that a login brought a
/// new refresh token, that a record was deleted, that all were. Also if another process did it, and
/// also if an earlier receiver is gone.
///
/// For stores whose [`changes`](crate::TokenStore::changes) answers a receiver. Of what changed
/// before, or of nothing at all, it may hear as well.
pub async fn changes_are_heard_in_other_processes(factory: &StoreFactory) -> OptionalVerdict {
    let subject = Subject::open(factory).await?;
    if subject.store.changes().is_none() {
        return Ok(Offer::None);
    }
    let mut puppet = Puppet::start(factory, &subject.place).await?;
    everything_is_heard(&subject, Some(&mut puppet)).await?;
    everything_is_heard(&subject, None).await?;
    Ok(Offer::Kept)
}

/// Lets another process change things, or this one.
async fn everything_is_heard(subject: &Subject, mut puppet: Option<&mut Puppet>) -> Verdict {
    let changes = subject.store.changes();
    let changes = changes.ok_or_else(|| Violation::new("`changes` answered `None` later on"))?;
    let who = puppet.as_ref().map_or("this", |_| "another");
    let mut ear = Ear { changes, who };

    let mut ids = Vec::new();
    for name in ["first", "renewed", "deleted", "rest"] {
        ids.push(subject.save(&login(name, "old")).await?);
    }
    let [first, renewed, deleted, rest] = ids[..] else {
        return Err(Violation::new("four logins have four ids"));
    };
    // That it begins to listen may be heard as well, and would do for whatever comes first.
    for (name, id) in [("first", first), ("renewed", renewed)] {
        ear.forgets()?;
        let news = login(name, "new");
        match &mut puppet {
            Some(puppet) => puppet.succeeds(&Order::save_token(&news)).await?,
            None => drop(subject.save(&news).await?),
        }
        ear.hears(&[id], "saved a new refresh token").await?;
    }
    ear.forgets()?;
    match &mut puppet {
        Some(puppet) => puppet.succeeds(&Order::Delete(deleted.get())).await?,
        None => drop(subject.delete(deleted).await?),
    }
    ear.hears(&[deleted], "deleted a record").await?;
    ear.forgets()?;
    match &mut puppet {
        Some(puppet) => puppet.succeeds(&Order::DeleteAll).await?,
        None => drop(subject.clear().await?),
    }
    ear.hears(&[first, renewed, rest], "deleted all records")
        .await
}

fn login(name: &str, refresh: &str) -> OAuthToken {
    token(&format!(
        "user={name} client=c refresh={refresh}.{name} access={refresh}/{name} expiry=1000"
    ))
}

struct Ear {
    changes: Receiver<Change>,
    /// Which process is listened to.
    who: &'static str,
}

impl Ear {
    /// Drops what was told until now.
    fn forgets(&mut self) -> Verdict {
        loop {
            match self.changes.try_recv() {
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Closed) => return Err(closed()),
            }
        }
    }

    /// Waits until all these records were told, one by one or together.
    async fn hears(&mut self, ids: &[TokenId], what: &str) -> Verdict {
        let mut silent = ids.to_vec();
        let end = Instant::now() + SOON;
        while !silent.is_empty() {
            match timeout_at(end, self.changes.recv()).await {
                Ok(Ok(Change::Record(told))) => silent.retain(|id| *id != told),
                Ok(Ok(Change::Everything | Change::Missed) | Err(RecvError::Lagged(_))) => {
                    return Ok(());
                }
                Ok(Err(RecvError::Closed)) => return Err(closed()),
                Err(_) => {
                    let who = self.who;
                    return Err(Violation::new(format!(
                        "{who} process {what}, and `changes` told nothing of {silent:?} within \
                         {SOON:?}"
                    )));
                }
            }
        }
        Ok(())
    }
}

fn closed() -> Violation {
    Violation::new("a receiver of `changes` was closed while its store is open")
}
