//! Agreement between the processes of one machine: kernel locks beside the file, memos inside it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::Core;
use super::db::Db;
use crate::error::{Error, ErrorCode, Result};
use crate::store::host_lock::{HeldLock, LockFolder, cannot_lock};
use crate::store::{Coordination, CoordinationKey, Guarantee, Memo, Permit};

/// What a store in a file offers.
#[derive(Clone, Debug)]
pub(super) struct HostCoordination {
    core: Arc<Core>,
    folder: LockFolder,
}

impl HostCoordination {
    pub(super) fn new(core: Arc<Core>, database: &Path) -> Self {
        Self {
            core,
            folder: LockFolder::beside(database),
        }
    }
}

#[async_trait]
impl Coordination for HostCoordination {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Host
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        let (folder, name) = (self.folder.clone(), LockFolder::stripe_name(key));
        let locked = self.core.reader.run(move |_| {
            let locked = folder.try_lock(&name);
            locked.map_err(|error| cannot_lock(&folder.lock_path(&name), error))
        });
        Ok(locked.await?.map(|lock| {
            Box::new(HostPermit {
                core: self.core.clone(),
                key: key.clone(),
                lock: Arc::new(lock),
            }) as Box<dyn Permit>
        }))
    }

    async fn holder(&self, key: &CoordinationKey) -> Option<String> {
        let (folder, name) = (self.folder.clone(), LockFolder::stripe_name(key));
        let look = move |_: &Db| Ok(folder.holder_of(&name));
        self.core.reader.run(look).await.ok().flatten()
    }
}

#[derive(Debug)]
struct HostPermit {
    core: Arc<Core>,
    key: CoordinationKey,
    /// Shared with a write that is under way: should its future be dropped, and the permit too, the
    /// lock still lasts until the write is over.
    lock: Arc<HeldLock>,
}

#[async_trait]
impl Permit for HostPermit {
    async fn memo(&self) -> Result<Memo> {
        let key = self.key.clone();
        let text = self
            .core
            .reader
            .run(move |db| db.memo(key.as_str()))
            .await?;
        let Some(text) = text else {
            return Ok(Memo::default());
        };
        // A memo is advice, and what it advises is found out again. Damage must not end logins.
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| {
            tracing::warn!(key = self.key.as_str(), "a memo cannot be read: forgotten");
            Memo::default()
        }))
    }

    async fn set_memo(&self, memo: &Memo) -> Result<()> {
        let text = (!memo.is_empty())
            .then(|| serde_json::to_string(memo))
            .transpose()
            .map_err(|error| {
                Error::new(ErrorCode::Internal, "a memo cannot be written").caused_by(error)
            })?;
        let key = self.key.clone();
        let lock = Arc::clone(&self.lock);
        let newest = memo.latest().filter(|_| key.record_id().is_none());
        let write = move |db: &Db| {
            let _held = &lock;
            db.set_memo(key.as_str(), text.as_deref())?;
            newest.map_or(Ok(()), |newest| db.forget_old_starts(key.as_str(), newest))
        };
        self.core.writer()?.run_briefly(write).await
    }
}
