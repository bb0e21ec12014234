//! What is remembered of failures, and of a store that is slow.

use async_trait::async_trait;

use super::*;
use crate::store::Outage;
use crate::token::TokenId;

const WINDOW: Duration = Duration::from_mins(10);

#[test]
fn attempts_are_forgotten_when_their_window_is_over() {
    let attempts = Attempts::default();
    let begin = Timestamp::from_millis(1_000_000_000);
    for number in 0..100 {
        let now = begin.after(Duration::from_mins(number));
        let credential = Fingerprint::of(&[&number.to_string()]);
        let mut memo = attempts.recall(&credential, now, WINDOW);
        assert!(memo.is_empty());
        memo.note_mint(now);
        attempts.remember(&memo, now, WINDOW);
        assert_eq!(attempts.recall(&credential, now, WINDOW), memo);
        assert!(attempts.0.lock().unwrap().len() <= 10);
    }
}

fn failed(code: ErrorCode) -> Error {
    Error::new(code, "on purpose")
}

fn remembered(before: &Memo, error: &Error) -> Memo {
    let mut noted = before.clone();
    noted.note_mint(Timestamp::now().before(Duration::from_mins(1)));
    let asked = Fingerprint::of(&["us"]);
    after_failure(before, &noted, error, &asked, &RefreshPolicy::default())
}

#[test]
fn a_lost_answer_counts_from_the_moment_at_which_it_was_given_up() {
    let began = Timestamp::now();
    let memo = remembered(
        &Memo::default(),
        &failed(ErrorCode::Timeout).of_lost_answer(),
    );
    assert_eq!(memo.minted_at.len(), 1);
    assert!(memo.minted_at[0] >= began);
    // An exchange notes nothing, and moves nothing that was noted before.
    let before = memo.clone();
    let error = failed(ErrorCode::Timeout).of_lost_answer();
    let asked = Fingerprint::of(&["us"]);
    let policy = RefreshPolicy::default();
    assert_eq!(
        after_failure(&before, &before, &error, &asked, &policy),
        before
    );
}

#[test]
fn trouble_of_zohos_server_spends_nothing_and_is_remembered() {
    let mut memo = Memo::default();
    for _ in 0..20 {
        memo = remembered(&memo, &failed(ErrorCode::ServerError));
        assert_eq!(memo.minted_at, []);
        assert!(memo.outage.is_some());
    }
    let lost = remembered(&memo, &failed(ErrorCode::ServerError).of_lost_answer());
    assert_eq!(lost.minted_at.len(), 1);
    assert!(matches!(lost.outage, Some(Outage { failures: 1.., .. })));
    // Whoever it was that said so, he does not keep the whole fleet waiting for long.
    let now = Timestamp::now();
    let wait = failed(ErrorCode::ServerError).retry_at(now.after(Duration::from_mins(9)));
    let until = remembered(&Memo::default(), &wait).outage.unwrap().until;
    assert!(until.since(now) > Duration::from_secs(20) && until.since(now) < WINDOW / 2);
    // What never arrived is nothing to anybody else.
    for code in [
        ErrorCode::Network,
        ErrorCode::Timeout,
        ErrorCode::InvalidClient,
    ] {
        assert_eq!(remembered(&Memo::default(), &failed(code)), Memo::default());
    }
}

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

fn memory<'a>(slot: &'a Slot, permit: &'a dyn Permit, guarantee: Guarantee) -> Memory<'a> {
    Memory {
        slot,
        permit: Some(permit),
        guarantee,
        window: WINDOW,
    }
}

#[tokio::test(start_paused = true)]
async fn a_mint_that_was_not_asked_for_since_the_store_is_slow_does_not_count() {
    for guarantee in [Guarantee::Fleet, Guarantee::Host] {
        let (slot, permit) = (Slot::new(TokenId::new(1).unwrap()), SlowPermit::default());
        let memory = memory(&slot, &permit, guarantee);
        let before = Memo::default();
        let mut noted = before.clone();
        noted.note_mint(Timestamp::from_millis(5));
        let error = memory.reserve(&before, &noted).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
        assert_eq!(*permit.0.lock().unwrap(), [noted, before.clone()]);
        assert_eq!(slot.memo(), (before, true));
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
        Err(failed(ErrorCode::StoreFull))
    }
}

#[tokio::test]
async fn a_mint_that_cannot_be_written_down_is_not_asked_for_and_does_not_count() {
    for guarantee in [Guarantee::Fleet, Guarantee::Host, Guarantee::Process] {
        let slot = Slot::new(TokenId::new(1).unwrap());
        let memory = memory(&slot, &FullPermit, guarantee);
        let before = Memo::default();
        slot.set_memo(before.clone(), true);
        let mut noted = before.clone();
        noted.note_mint(Timestamp::now());
        let error = memory.reserve(&before, &noted).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreFull);
        assert!(error.message().starts_with(NOT_ASKED), "{error}");
        assert_eq!(slot.memo(), (before, true));
        // What became of a request is remembered here all the same.
        memory.remember(&noted).await.unwrap();
        assert_eq!(slot.memo(), (noted, false));
    }
}

/// Cannot be read, and must not be written then.
#[derive(Debug)]
struct BlindPermit;

#[async_trait]
impl Permit for BlindPermit {
    async fn memo(&self) -> Result<Memo> {
        Err(failed(ErrorCode::StoreUnavailable))
    }

    async fn set_memo(&self, _: &Memo) -> Result<()> {
        panic!("what others wrote down is lost")
    }
}

#[tokio::test]
async fn no_process_goes_on_without_what_the_others_counted() {
    let slot = Slot::new(TokenId::new(1).unwrap());
    let mut record = OAuthToken::new();
    record.refresh_token = RefreshToken::new("r").ok();
    for guarantee in [Guarantee::Fleet, Guarantee::Host] {
        let memory = memory(&slot, &BlindPermit, guarantee);
        let error = memory.recall(&record, Timestamp::now()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    }
}
