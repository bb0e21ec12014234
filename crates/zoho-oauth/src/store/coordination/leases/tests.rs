//! Leases over cells in memory that lose answers, stand still, and keep a time of their own.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::store::Verdict;
use crate::token::TokenId;

const LIFE: Duration = Leases::DEFAULT_LIFE;

/// What becomes of the next swaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is done, and the answer is lost.
    Unheard,
    /// It never arrives.
    Lost,
    /// The connection is lost, and it arrives at [`Cells::go_on`] all the same.
    Late,
    /// It waits until [`Cells::go_on`], also if nobody waits for the answer any more.
    Held,
    /// It waits until [`Cells::go_on`], and is given up with whoever waits for the answer.
    Frail,
    /// Somebody tells an issue just before.
    Raced,
}

#[derive(Debug)]
struct Cells {
    texts: StdMutex<BTreeMap<String, String>>,
    fates: StdMutex<Vec<Fate>>,
    gate: Notify,
    /// Swaps that wait at the gate.
    waiting: AtomicUsize,
    reads: AtomicUsize,
    began: Instant,
    /// What the store's clock showed in the beginning, in milliseconds.
    clock: AtomicI64,
    /// By how much at most it is off, this way and that, from one look to the next.
    jitter: i64,
}

impl Cells {
    /// With a clock that goes as tokio's does.
    fn new() -> Arc<Self> {
        Self::with_clock(Timestamp::now().as_millis(), 0)
    }

    fn with_clock(clock: i64, jitter: i64) -> Arc<Self> {
        Arc::new(Self {
            texts: StdMutex::default(),
            fates: StdMutex::default(),
            gate: Notify::new(),
            waiting: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            began: Instant::now(),
            clock: AtomicI64::new(clock),
            jitter,
        })
    }

    fn now(&self) -> Timestamp {
        let clock = Timestamp::from_millis(self.clock.load(Ordering::Relaxed));
        let off = fastrand::i64(-self.jitter..=self.jitter);
        clock.after(self.began.elapsed()).shifted(off)
    }

    /// The fates of the next swaps, in this order.
    fn doom(&self, fates: &[Fate]) {
        let mut next = self.fates.lock().unwrap();
        *next = fates.iter().rev().copied().collect();
    }

    async fn is_waiting(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    fn go_on(&self) {
        self.waiting.store(0, Ordering::SeqCst);
        self.gate.notify_one();
    }

    fn text(&self) -> Option<String> {
        self.texts.lock().unwrap().get(key().as_str()).cloned()
    }

    fn swap(&self, before: Option<&str>, after: Option<&str>, end: Option<Timestamp>) -> bool {
        let mut texts = self.texts.lock().unwrap();
        let name = key().as_str().to_owned();
        let is_same = texts.get(&name).map(String::as_str) == before;
        if !is_same || end.is_some_and(|end| self.now() > end) {
            return false;
        }
        match after {
            Some(after) => texts.insert(name, after.to_owned()),
            None => texts.remove(&name),
        };
        true
    }
}

#[async_trait]
impl LeaseCells for Arc<Cells> {
    async fn read_cell(&self, _: &CoordinationKey) -> Result<Cell> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(Cell {
            text: self.text(),
            now: self.now(),
        })
    }

    async fn swap_cell(
        &self,
        _: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        let fate = self.fates.lock().unwrap().pop();
        let away = Error::new(ErrorCode::StoreUnavailable, "the connection was lost");
        match fate {
            None => Ok(self.swap(before, after, not_after)),
            Some(Fate::Lost) => Err(away),
            Some(Fate::Unheard) => {
                self.swap(before, after, not_after);
                Err(away)
            }
            Some(Fate::Late) => {
                let cells = Arc::clone(self);
                let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
                tokio::spawn(async move {
                    cells.waiting.fetch_add(1, Ordering::SeqCst);
                    cells.gate.notified().await;
                    cells.swap(before.as_deref(), after.as_deref(), not_after)
                });
                Err(away)
            }
            Some(Fate::Held) => {
                // As a server does it: whoever stops waiting for the answer stops nothing.
                let cells = Arc::clone(self);
                let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
                let work = async move {
                    cells.waiting.fetch_add(1, Ordering::SeqCst);
                    cells.gate.notified().await;
                    cells.swap(before.as_deref(), after.as_deref(), not_after)
                };
                Ok(tokio::spawn(work).await.unwrap())
            }
            Some(Fate::Frail) => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.gate.notified().await;
                Ok(self.swap(before, after, not_after))
            }
            Some(Fate::Raced) => {
                let lease = lease_of(self.text().as_deref()).unwrap();
                let at = Timestamp::from_millis(fastrand::i64(1..1_000_000_000));
                if let Some(write) = lease.with_issue(&credential(), at) {
                    let text = text_of(&write)?;
                    self.swap(self.text().as_deref(), text.as_deref(), None);
                }
                Ok(self.swap(before, after, not_after))
            }
        }
    }
}

fn key() -> CoordinationKey {
    CoordinationKey::record(TokenId::new(7).unwrap())
}

fn credential() -> Fingerprint {
    Fingerprint::of(&["r"])
}

fn memo(minted_at: &[Timestamp]) -> Memo {
    Memo {
        credential: Some(credential()),
        minted_at: minted_at.to_vec(),
        ..Memo::default()
    }
}

fn dead() -> Memo {
    Memo {
        verdicts: vec![Verdict {
            code: "invalid_code".into(),
            at: Timestamp::now(),
            asked: None,
        }],
        ..memo(&[])
    }
}

async fn take(cells: &Arc<Cells>) -> Box<dyn Permit> {
    let leases = Leases::new(Arc::clone(cells));
    leases.try_acquire(&key()).await.unwrap().unwrap()
}

async fn is_free(cells: &Arc<Cells>) -> bool {
    let cell = cells.read_cell(&key()).await.unwrap();
    let lease = lease_of(cell.text.as_deref()).unwrap();
    lease.take(1, cell.now, LIFE).is_ok()
}

/// Lets tasks in the background do what they can do without time passing.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn code(result: Result<()>) -> Option<ErrorCode> {
    result.err().map(|error| error.code())
}

#[tokio::test(start_paused = true)]
async fn a_lease_lasts_while_its_permit_lives_and_no_longer() {
    let cells = Cells::new();
    let permit = take(&cells).await;
    for _ in 0..40 {
        tokio::time::sleep(LIFE / 4).await;
        assert!(!is_free(&cells).await);
    }
    permit.set_memo(&dead()).await.unwrap();
    drop(permit);
    settle().await;
    assert!(is_free(&cells).await);
    let reads = cells.reads.load(Ordering::Relaxed);
    tokio::time::sleep(LIFE * 3).await;
    assert_eq!(
        cells.reads.load(Ordering::Relaxed),
        reads,
        "nobody renews any more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_part_of_the_life_costs_nothing() {
    let cells = Cells::new();
    let permit = take(&cells).await;
    cells.doom(&[Fate::Lost; 6]);
    tokio::time::sleep(LIFE * 2).await;
    assert!(!is_free(&cells).await);
    permit.release(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_stood_still_is_told_and_changes_nothing() {
    let cells = Cells::new();
    let old = take(&cells).await;
    // Whether somebody took over or nobody did.
    cells.clock.fetch_add(
        i64::try_from(LIFE.as_millis()).unwrap() + 1,
        Ordering::SeqCst,
    );
    let before = cells.text();
    assert_eq!(
        code(old.set_memo(&dead()).await),
        Some(ErrorCode::LeaseLost)
    );
    assert_eq!(cells.text(), before);
    let new = take(&cells).await;
    new.set_memo(&memo(&[])).await.unwrap();
    let before = cells.text();
    assert_eq!(
        code(old.set_memo(&dead()).await),
        Some(ErrorCode::LeaseLost)
    );
    assert_eq!(
        code(old.release(Some(&dead())).await),
        Some(ErrorCode::LeaseLost)
    );
    assert_eq!(cells.text(), before);
    new.release(None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_answers_are_found_out() {
    for fate in [Fate::Unheard, Fate::Lost] {
        let cells = Cells::new();
        cells.doom(&[fate]);
        let permit = take(&cells).await;
        cells.doom(&[fate]);
        permit.set_memo(&dead()).await.unwrap();
        assert_eq!(take_memo(&cells).verdicts, [dead_code()]);
        cells.doom(&[fate]);
        permit.release(Some(&memo(&[]))).await.unwrap();
        assert!(is_free(&cells).await, "{fate:?}");
        assert_eq!(take_memo(&cells).verdicts, []);
        let permit = take(&cells).await;
        cells.doom(&[fate]);
        drop(permit);
        settle().await;
        assert!(is_free(&cells).await, "{fate:?}");
    }
}

fn take_memo(cells: &Arc<Cells>) -> Memo {
    let mut memo = lease_of(cells.text().as_deref()).unwrap().memo();
    for verdict in &mut memo.verdicts {
        verdict.at = Timestamp::from_millis(0);
    }
    memo
}

fn dead_code() -> Verdict {
    let mut verdict = dead().verdicts.remove(0);
    verdict.at = Timestamp::from_millis(0);
    verdict
}

#[tokio::test(start_paused = true)]
async fn a_take_that_is_given_up_leaves_no_lease() {
    let cells = Cells::new();
    cells.doom(&[Fate::Held]);
    let leases = Leases::new(Arc::clone(&cells));
    let taking = tokio::spawn(async move { leases.try_acquire(&key()).await.map(drop) });
    cells.is_waiting().await;
    taking.abort();
    settle().await;
    cells.go_on();
    settle().await;
    assert!(is_free(&cells).await);
    assert_eq!(cells.text(), None);
}

/// With the cell gone, the first try would find it as it was before.
#[tokio::test(start_paused = true)]
async fn a_take_that_arrives_after_the_release_leaves_no_lease() {
    let cells = Cells::new();
    cells.doom(&[Fate::Late]);
    let permit = take(&cells).await;
    permit.release(None).await.unwrap();
    cells.is_waiting().await;
    cells.go_on();
    settle().await;
    assert!(is_free(&cells).await);
    // Whoever comes next tidies up.
    let permit = take(&cells).await;
    permit.release(None).await.unwrap();
    assert_eq!(cells.text(), None);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_given_up_is_done() {
    let cells = Cells::new();
    let permit = take(&cells).await;
    cells.doom(&[Fate::Frail]);
    let releasing = tokio::spawn(async move { permit.release(Some(&dead())).await });
    cells.is_waiting().await;
    releasing.abort();
    settle().await;
    cells.doom(&[]);
    cells.go_on();
    settle().await;
    assert!(is_free(&cells).await);
    assert_eq!(take_memo(&cells).verdicts, [dead_code()]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_under_way_does_not_outlive_the_release() {
    let cells = Cells::new();
    let permit = take(&cells).await;
    cells.doom(&[Fate::Held]);
    tokio::time::sleep(LIFE / 4 + Duration::from_millis(1)).await;
    cells.is_waiting().await;
    permit.release(Some(&dead())).await.unwrap();
    cells.go_on();
    settle().await;
    assert!(is_free(&cells).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_not_overwritten_by_the_holder() {
    let cells = Cells::new();
    let base = Timestamp::now();
    let (first, late) = (base.shifted(1), base.shifted(2));
    let lost = take(&cells).await;
    lost.set_memo(&memo(&[first])).await.unwrap();
    cells.clock.fetch_add(
        i64::try_from(LIFE.as_millis()).unwrap() + 1,
        Ordering::SeqCst,
    );
    let holder = take(&cells).await;
    let mut seen = holder.memo().await.unwrap();
    lost.tell_issue(&credential(), late).await.unwrap();
    // Again, since the answer may have been lost.
    lost.tell_issue(&credential(), late).await.unwrap();
    seen.wait_until = Some(base.shifted(60_000));
    holder.set_memo(&seen).await.unwrap();
    holder.release(None).await.unwrap();
    let told = take(&cells).await.memo().await.unwrap();
    assert_eq!(told.minted_at.len(), 2, "{:?}", told.minted_at);
    assert!(told.wait_until.is_some());
}

#[tokio::test(start_paused = true)]
async fn tellers_do_not_make_the_holder_believe_that_it_lost() {
    let cells = Cells::new();
    let permit = take(&cells).await;
    cells.doom(&[Fate::Raced; 7]);
    permit.set_memo(&memo(&[])).await.unwrap();
    cells.doom(&[Fate::Raced; 50]);
    assert_eq!(
        code(permit.set_memo(&memo(&[])).await),
        Some(ErrorCode::StoreLocked)
    );
    cells.doom(&[]);
    permit.set_memo(&dead()).await.unwrap();
    permit.release(None).await.unwrap();
}

#[tokio::test]
async fn a_mint_keeps_its_millisecond_from_permit_to_permit() {
    // The same mint, a millisecond off, would look like another one and be counted twice.
    let minted = Timestamp::now();
    for ahead in [0, -400, 3_600_000] {
        let cells = Cells::with_clock(minted.as_millis() + ahead, 20);
        let leases = Leases::new(Arc::clone(&cells));
        for _ in 0..10 {
            let permit = leases.try_acquire(&key()).await.unwrap().unwrap();
            let known = permit.memo().await.unwrap();
            let known = known.joined(memo(&[minted]));
            assert_eq!(known.minted_at, [minted]);
            permit.release(Some(&known)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn moments_are_kept_by_the_stores_clock() {
    let now = Timestamp::now();
    let hour = 3_600_000;
    let cells = Cells::with_clock(now.as_millis() + hour, 0);
    let permit = take(&cells).await;
    permit.release(Some(&memo(&[now]))).await.unwrap();
    let stored = lease_of(cells.text().as_deref()).unwrap();
    let stored = stored.memo().minted_at[0];
    let off = stored.as_millis() - now.as_millis() - hour;
    assert!(off.abs() < 5_000, "{off}");
    // A machine whose clock is right reads the same moment as one whose clock is an hour slow.
    let back = take(&cells).await.memo().await.unwrap().minted_at[0];
    let off = back.as_millis() - now.as_millis();
    assert!(off.abs() < 5_000, "{off}");
}

impl Cells {
    fn put(&self, text: &str) {
        let mut texts = self.texts.lock().unwrap();
        texts.insert(key().as_str().to_owned(), text.to_owned());
    }
}

/// A text of a version that knows more than this one, or in a form of its own.
fn of_a_later_version(writes: u64) -> String {
    let lease = format!(r#"{{"holders":["a","b"],"writes":{writes}}}"#);
    format!(r#"{{"version":{},"lease":{lease}}}"#, VERSION + 1)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_held_until_it_stands_still_for_two_lives() {
    let cells = Cells::new();
    let leases = Leases::new(Arc::clone(&cells));
    let take = async || leases.try_acquire(&key()).await.unwrap();
    // A later version is at it, and renews.
    for writes in 0..20 {
        cells.put(&of_a_later_version(writes));
        assert!(take().await.is_none());
        tokio::time::sleep(LIFE / 4).await;
        assert!(take().await.is_none());
    }
    // Its machine died, or the text is damage of which nothing is known.
    for text in [of_a_later_version(20), "{\"fence\":".into(), "{}".into()] {
        cells.put(&text);
        assert!(take().await.is_none());
        tokio::time::sleep((LIFE * 2).saturating_sub(Duration::from_millis(1))).await;
        assert!(take().await.is_none(), "{text}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        let permit = take().await.unwrap();
        assert!(permit.memo().await.unwrap().is_empty());
        permit.set_memo(&dead()).await.unwrap();
        permit.release(None).await.unwrap();
        assert!(lease_of(cells.text().as_deref()).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_yields_to_a_version_that_it_cannot_read() {
    let cells = Cells::new();
    let permit = take(&cells).await;
    permit.set_memo(&dead()).await.unwrap();
    let text = of_a_later_version(7);
    cells.put(&text);
    let lost = Some(ErrorCode::LeaseLost);
    assert_eq!(code(permit.set_memo(&dead()).await), lost);
    let told = permit.tell_issue(&credential(), Timestamp::now()).await;
    assert_eq!(code(told), Some(ErrorCode::StoreLocked));
    assert_eq!(code(permit.release(None).await), lost);
    assert_eq!(cells.text(), Some(text));
}

#[test]
fn fields_that_a_later_version_adds_change_nothing() {
    let write = Lease::default().take(1, Timestamp::from_millis(5), LIFE);
    let (write, _) = write.unwrap();
    let text = text_of(&write).unwrap().unwrap();
    assert!(
        text.starts_with(r#"{"version":1,"lease":{"fence":1,"holder":{"name":1,"#),
        "{text}"
    );
    let more = text.replace(r#""name""#, r#""mood":"good","name""#);
    let more = more.replace(r#""fence""#, r#""fences":[],"fence""#);
    assert_eq!(lease_of(Some(&more)), write.lease);
    // A holder of whom something is missing is not nobody.
    assert_eq!(
        lease_of(Some(&text.replace(r#""until""#, r#""end""#))),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn telling_does_not_bring_back_the_cell_of_a_deleted_record() {
    let cells = Cells::new();
    let permit = take(&cells).await;
    permit.set_memo(&memo(&[])).await.unwrap();
    cells.texts.lock().unwrap().clear();
    let told = permit.tell_issue(&credential(), Timestamp::now()).await;
    assert_eq!(code(told), None);
    assert_eq!(cells.text(), None);
}
