//! One refresh per token on this machine: the permits are kernel locks, the memos lie beside them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::super::host_lock::{HeldLock, LockFolder, cannot_lock};
use super::super::{Coordination, CoordinationKey, Guarantee, Memo, Permit};
use super::replace::{read_if_there, replace, sweep, while_trying};
use super::workers::Workers;
use crate::error::Result;

/// How long before the newest memo another one of the same file was written, if nothing of it can
/// count any more: the windows that Zoho counts in last minutes.
const OVER: Duration = Duration::from_hours(24);
/// The same for a memo with a verdict, which stands for ever. Without it Zoho is asked once more.
const OVER_WITH_VERDICT: Duration = Duration::from_hours(30 * 24);

/// The coordination of a [`FileStore`](super::FileStore).
#[derive(Debug)]
pub(super) struct FileCoordination {
    folder: LockFolder,
    workers: Arc<Workers>,
}

impl FileCoordination {
    pub(super) const fn new(folder: LockFolder, workers: Arc<Workers>) -> Self {
        Self { folder, workers }
    }
}

#[async_trait]
impl Coordination for FileCoordination {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Host
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        let folder = self.folder.clone();
        let key = key.clone();
        let workers = Arc::clone(&self.workers);
        let work = move || {
            let stripe = LockFolder::stripe_name(&key);
            let lock = folder
                .try_lock(&stripe)
                .map_err(|error| cannot_lock(&folder.lock_path(&stripe), error))?;
            Ok(lock.map(|lock| {
                let memos = Memos {
                    path: folder.path().join(format!("{stripe}.json")),
                    folder,
                    stripe,
                    writing: Mutex::new(()),
                    _lock: lock,
                };
                let permit = FilePermit {
                    key,
                    memos: Arc::new(memos),
                    workers,
                };
                Box::new(permit) as Box<dyn Permit>
            }))
        };
        self.workers.run(work).await
    }

    async fn holder(&self, key: &CoordinationKey) -> Option<String> {
        let folder = self.folder.clone();
        let stripe = LockFolder::stripe_name(key);
        let look = move || Ok(folder.holder_of(&stripe));
        self.workers.run(look).await.ok().flatten()
    }
}

#[derive(Debug)]
struct FilePermit {
    key: CoordinationKey,
    /// Shared with a write that is under way: should its future be dropped, and the permit too,
    /// the lock still lasts until the write is over.
    memos: Arc<Memos>,
    workers: Arc<Workers>,
}

#[async_trait]
impl Permit for FilePermit {
    async fn memo(&self) -> Result<Memo> {
        let (memos, key) = (Arc::clone(&self.memos), self.key.clone());
        let read = move || Ok(memos.read()?.remove(key.as_str()).unwrap_or_default());
        self.workers.run(read).await
    }

    async fn set_memo(&self, memo: &Memo) -> Result<()> {
        let (memos, key, memo) = (Arc::clone(&self.memos), self.key.clone(), memo.clone());
        self.workers.run(move || memos.set(&key, memo)).await
    }
}

/// The memos of all keys that share a lock, while that is held.
#[derive(Debug)]
struct Memos {
    path: PathBuf,
    folder: LockFolder,
    stripe: String,
    /// One permit may be asked by two tasks at once.
    writing: Mutex<()>,
    _lock: HeldLock,
}

impl Memos {
    fn read(&self) -> Result<BTreeMap<String, Memo>> {
        let Some(bytes) = read_if_there(&self.path)? else {
            return Ok(BTreeMap::new());
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            // A memo saves Zoho a useless question. It is not worth keeping anybody from asking.
            tracing::warn!(
                "what was remembered in `{}` cannot be understood and is forgotten ({:?} error at line {})",
                self.path.display(),
                error.classify(),
                error.line()
            );
            BTreeMap::new()
        }))
    }

    fn set(&self, key: &CoordinationKey, memo: Memo) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        sweep(&self.folder, &self.stripe).map_err(while_trying("tidy up", self.folder.path()))?;
        let mut memos = self.read()?;
        if memo.is_empty() {
            memos.remove(key.as_str());
        } else {
            // Records are deleted by operations that do not hold this lock, so nobody removes
            // their memos. What is too old to matter goes when something new is written, by whose
            // time it is judged: a store does not read the clock.
            if let Some(latest) = memo.latest() {
                memos.retain(|_, memo| {
                    let over = if memo.verdicts.is_empty() {
                        OVER
                    } else {
                        OVER_WITH_VERDICT
                    };
                    memo.latest().is_some_and(|at| at >= latest.before(over))
                });
            }
            memos.insert(key.as_str().to_owned(), memo);
        }
        let content = serde_json::to_vec(&memos).expect("memos are maps, strings and numbers");
        replace(&self.folder, &self.stripe, &self.path, &[content], None)
            .map_err(while_trying("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::secret::Fingerprint;
    use crate::store::Verdict;
    use crate::token::TokenId;

    fn key(id: u64) -> CoordinationKey {
        CoordinationKey::record(TokenId::new(id).unwrap())
    }

    /// Two keys that share a lock.
    fn neighbours() -> (CoordinationKey, CoordinationKey) {
        let stripe = LockFolder::stripe_name(&key(1));
        let other = (2..10_000)
            .map(key)
            .find(|key| LockFolder::stripe_name(key) == stripe);
        (key(1), other.unwrap())
    }

    fn memo(of: &str) -> Memo {
        Memo {
            credential: Some(Fingerprint::of(&[of])),
            minted_at: vec![Timestamp::from_millis(5)],
            ..Memo::default()
        }
    }

    fn coordination(place: &tempfile::TempDir) -> FileCoordination {
        let file = place.path().join("tokens");
        let workers = Workers::start(&file).unwrap();
        FileCoordination::new(LockFolder::beside(&file), Arc::new(workers))
    }

    async fn permit(coordination: &FileCoordination, key: &CoordinationKey) -> Box<dyn Permit> {
        coordination.try_acquire(key).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn one_permit_at_a_time_also_between_two_stores() {
        let place = tempfile::tempdir().unwrap();
        let (one, other) = (coordination(&place), coordination(&place));
        let held = permit(&one, &key(1)).await;
        assert!(one.try_acquire(&key(1)).await.unwrap().is_none());
        assert!(other.try_acquire(&key(1)).await.unwrap().is_none());
        assert!(other.try_acquire(&key(2)).await.unwrap().is_some());
        drop(held);
        assert!(other.try_acquire(&key(1)).await.unwrap().is_some());
        assert_eq!(one.guarantee(), Guarantee::Host);
    }

    #[tokio::test]
    async fn a_memo_is_there_for_the_next_holder_of_its_key_alone() {
        let place = tempfile::tempdir().unwrap();
        let (one, other) = neighbours();
        let coordination = coordination(&place);
        permit(&coordination, &one)
            .await
            .set_memo(&memo("a"))
            .await
            .unwrap();
        let second = permit(&coordination, &other).await;
        assert!(second.memo().await.unwrap().is_empty());
        second.set_memo(&memo("b")).await.unwrap();
        drop(second);
        let first = permit(&coordination, &one).await;
        assert_eq!(first.memo().await.unwrap(), memo("a"));
    }

    #[tokio::test]
    async fn an_empty_memo_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let permit = permit(&coordination(&place), &key(1)).await;
        permit.set_memo(&memo("a")).await.unwrap();
        permit.set_memo(&Memo::default()).await.unwrap();
        let name = format!("tokens.state/{}.json", LockFolder::stripe_name(&key(1)));
        assert_eq!(std::fs::read(place.path().join(name)).unwrap(), b"{}");
        assert!(permit.memo().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_too_old_to_matter_goes_when_something_new_comes() {
        let day = |number: i64| Timestamp::from_millis(number * 24 * 3_600_000);
        let place = tempfile::tempdir().unwrap();
        let (new, old) = neighbours();
        let coordination = coordination(&place);
        for (verdict, kept_until, gone_at) in [(false, 1, 2), (true, 30, 31)] {
            let mut minted = memo("old");
            minted.minted_at = vec![day(0)];
            let refused = verdict.then(|| Verdict {
                at: day(0),
                ..Verdict::default()
            });
            minted.verdicts.extend(refused);
            permit(&coordination, &old)
                .await
                .set_memo(&minted)
                .await
                .unwrap();
            for (at, is_there) in [(kept_until, true), (gone_at, false)] {
                let mut newer = memo("new");
                newer.minted_at = vec![day(at)];
                permit(&coordination, &new)
                    .await
                    .set_memo(&newer)
                    .await
                    .unwrap();
                let left = permit(&coordination, &old).await.memo().await.unwrap();
                assert_eq!(!left.is_empty(), is_there, "{verdict} {at}");
            }
        }
    }

    #[tokio::test]
    async fn memos_that_cannot_be_read_are_empty_and_replaced() {
        let place = tempfile::tempdir().unwrap();
        let permit = permit(&coordination(&place), &key(1)).await;
        let name = format!("tokens.state/{}.json", LockFolder::stripe_name(&key(1)));
        for junk in ["", "{", "{\"id:1\": 7}", "\u{0}\u{0}"] {
            std::fs::write(place.path().join(&name), junk).unwrap();
            assert!(permit.memo().await.unwrap().is_empty(), "{junk:?}");
            permit.set_memo(&memo("a")).await.unwrap();
            assert_eq!(permit.memo().await.unwrap(), memo("a"));
        }
    }
}
