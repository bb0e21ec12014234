//! What is remembered by a store that is slow.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::secret::RefreshToken;
use crate::token::TokenId;

const WINDOW: Duration = Duration::from_mins(10);

/// Writes slowly, and keeps what it was told.
#[derive(Debug, Default)]
struct SlowPermit(Mutex<Vec<Memo>>);

#[async_trait]
impl Permit for SlowPermit {
    async fn memo(&self) -> Result<Memo> {
        Ok(Memo::default())
    }

    async fn set_memo(&self, memo: &Memo) -> Result<()> {
        tokio::time::sleep(STANDSTILL + Duration::from_secs(1)).await;
        self.0.lock().unwrap().push(memo.clone());
        Ok(())
    }
}

fn memory<'a>(entry: &'a CacheEntry, permit: &'a dyn Permit, guarantee: Guarantee) -> Memory<'a> {
    Memory {
        entry,
        permit: Some(permit),
        guarantee,
        window: WINDOW,
    }
}

#[tokio::test(start_paused = true)]
async fn a_mint_that_was_not_asked_for_since_the_store_is_slow_does_not_count() {
    for guarantee in [Guarantee::Fleet, Guarantee::Host] {
        let (entry, permit) = (
            CacheEntry::new(TokenId::new(1).unwrap()),
            SlowPermit::default(),
        );
        let memory = memory(&entry, &permit, guarantee);
        let before = Memo::default();
        let mut noted = before.clone();
        noted.note_mint(Timestamp::from_millis(5));
        let error = memory.reserve(&before, &noted).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
        assert_eq!(*permit.0.lock().unwrap(), [noted, before.clone()]);
        assert_eq!(entry.memo(), (before, true));
    }
}

/// Cannot be written.
#[derive(Debug)]
struct FullPermit;

#[async_trait]
impl Permit for FullPermit {
    async fn memo(&self) -> Result<Memo> {
        Ok(Memo::default())
    }

    async fn set_memo(&self, _: &Memo) -> Result<()> {
        Err(Error::new(ErrorCode::StoreFull, "on purpose"))
    }
}

#[tokio::test]
async fn a_mint_that_cannot_be_written_down_is_not_asked_for_and_does_not_count() {
    for guarantee in [Guarantee::Fleet, Guarantee::Host, Guarantee::Process] {
        let entry = CacheEntry::new(TokenId::new(1).unwrap());
        let memory = memory(&entry, &FullPermit, guarantee);
        let before = Memo::default();
        entry.set_memo(before.clone(), true);
        let mut noted = before.clone();
        noted.note_mint(Timestamp::now());
        let error = memory.reserve(&before, &noted).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreFull);
        assert!(error.message().starts_with(NOT_ASKED), "{error}");
        assert_eq!(entry.memo(), (before, true));
        // What became of a request is remembered here all the same.
        memory.remember(&noted).await.unwrap();
        assert_eq!(entry.memo(), (noted, false));
    }
}

/// Cannot be read, and must not be written then.
#[derive(Debug)]
struct BlindPermit;

#[async_trait]
impl Permit for BlindPermit {
    async fn memo(&self) -> Result<Memo> {
        Err(Error::new(ErrorCode::StoreUnavailable, "on purpose"))
    }

    async fn set_memo(&self, _: &Memo) -> Result<()> {
        panic!("what others wrote down is lost")
    }
}

#[tokio::test]
async fn no_process_goes_on_without_what_the_others_counted() {
    let entry = CacheEntry::new(TokenId::new(1).unwrap());
    let mut record = OAuthToken::new();
    record.refresh_token = RefreshToken::new("r").ok();
    for guarantee in [Guarantee::Fleet, Guarantee::Host] {
        let memory = memory(&entry, &BlindPermit, guarantee);
        let error = memory.recall(&record, Timestamp::now()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    }
}
