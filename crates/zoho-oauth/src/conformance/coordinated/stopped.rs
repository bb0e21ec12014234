//! What counts of a holder that stood still (suspended, swapped out, behind a network that was cut),
//! or whose record was deleted.

use std::time::Duration;

use super::memos::{is_same, sample};
use super::puppet::{Order, Outcome, Puppet};
use super::{SOON, key, memo_of, release, set_memo};
use crate::clock::Timestamp;
use crate::conformance::basic::facts::told;
use crate::conformance::sample::token;
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict};
use crate::secret::Fingerprint;
use crate::store::{CoordinationKey, Guarantee, Kept};

/// A holder is stopped with SIGSTOP and continued later.
///
/// With [`Guarantee::Fleet`] another one takes over when its lease has ended. What the old one then
/// thinks is refused as `lease_lost` and changes nothing; what Zoho issued to it is saved.
/// With [`Guarantee::Host`] a stopped holder keeps its key, and what it thinks counts.
pub async fn a_stopped_holder_is_replaced_and_refused(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut record = token("user=a client=c refresh=r access=old expiry=1000");
    let id = subject.save(&record).await?;
    record.id = Some(id);
    let key = CoordinationKey::record(id);
    let (first, second, third) = (sample("first"), sample("second"), sample("third"));
    let mut old = Puppet::start(factory, &subject.place).await?;
    old.succeeds(&Order::Acquire(id.get())).await?;
    old.succeeds(&Order::SetMemo(first.clone())).await?;
    old.stop()?;
    if subject.guarantee()? == Guarantee::Host {
        stays(&subject, &key).await?;
        old.go_on()?;
        old.succeeds(&Order::Release(Some(second.clone()))).await?;
        let permit = subject.acquire(&key, "after its release").await?;
        let memo = memo_of(&permit).await?;
        ensure!(memo == second, "{second:?} was passed on as {memo:?}");
        return release(permit, None).await;
    }
    let when = "although its holder stands still";
    let bound = factory.lease() + SOON;
    let new = subject.acquire_within(bound, &key, when).await?;
    let memo = memo_of(&new).await?;
    ensure!(
        is_same(&first, &memo),
        "{first:?} was passed on as {memo:?}"
    );
    set_memo(&new, &second).await?;
    old.go_on()?;
    old.has_lost(&Order::SetMemo(third.clone())).await?;
    let mut news = token("user=a client=c access=new expiry=3601000 domain=d");
    news.id = Some(id);
    let saved = old.does(&Order::save(id, &record, &news)).await?;
    ensure!(
        saved == Outcome::Kept("saved".into()),
        "what Zoho issued to a holder that lost its key came to {saved:?}"
    );
    let stored = subject.by_id(id).await?.unwrap_or_default();
    ensure!(
        stored.access_token == news.access_token && stored.expiry_time == news.expiry_time,
        "what Zoho issued was acknowledged and is not stored"
    );
    old.has_lost(&Order::Release(Some(third))).await?;
    subject.is_held(&key, "its old holder released it").await?;
    // The new holder noticed nothing of it.
    let memo = memo_of(&new).await?;
    ensure!(is_same(&second, &memo), "{second:?} became {memo:?}");
    set_memo(&new, &second).await?;
    release(new, None).await?;
    let permit = subject.acquire(&key, "after its release").await?;
    let memo = memo_of(&permit).await?;
    ensure!(
        is_same(&second, &memo),
        "{second:?} was passed on as {memo:?}"
    );
    release(permit, None).await
}

async fn stays(subject: &Subject, key: &CoordinationKey) -> Verdict {
    for _ in 0..20 {
        subject.is_held(key, "its holder stands still").await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// What a holder thinks is refused when its lease has ended, also if nobody took over.
///
/// With [`Guarantee::Host`] nothing ends: there the key of a holder that is stopped and then killed
/// is free at once.
pub async fn an_opinion_after_the_lease_is_refused(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let (stopped, killed) = (key(3)?, key(4)?);
    let first = sample("first");
    let mut old = Puppet::start(factory, &subject.place).await?;
    old.succeeds(&Order::Acquire(3)).await?;
    old.succeeds(&Order::SetMemo(first.clone())).await?;
    old.stop()?;
    let when = "although its holder was killed";
    if subject.guarantee()? == Guarantee::Host {
        stays(&subject, &stopped).await?;
        old.kill();
        let permit = subject.acquire_within(SOON, &stopped, when).await?;
        return release(permit, None).await;
    }
    // The stopped one's lease cannot outlast one that was taken after the stop.
    let mut later = Puppet::start(factory, &subject.place).await?;
    later.succeeds(&Order::Acquire(4)).await?;
    later.kill();
    let bound = factory.lease() + SOON;
    let permit = subject.acquire_within(bound, &killed, when).await?;
    release(permit, None).await?;
    old.go_on()?;
    old.has_lost(&Order::SetMemo(sample("late"))).await?;
    old.has_lost(&Order::Release(Some(sample("late")))).await?;
    let permit = subject
        .acquire(&stopped, "although its lease has ended")
        .await?;
    let memo = memo_of(&permit).await?;
    ensure!(is_same(&first, &memo), "{first:?} became {memo:?}");
    release(permit, None).await
}

/// That Zoho issued an access token is counted also when a holder tells it that lost its key, and the
/// present holder, who has not heard of it, writes a memo. With [`Guarantee::Host`] nobody loses a
/// key, and telling is allowed.
pub async fn an_issue_counts_without_a_hold(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let key = key(3)?;
    let memo = sample("credential");
    let credential = Fingerprint::of(&["credential"]);
    let issued = Timestamp::now().before(Duration::from_secs(70));
    let mut old = Puppet::start(factory, &subject.place).await?;
    old.succeeds(&Order::Acquire(3)).await?;
    let tell = Order::TellIssue(credential, issued);
    if subject.guarantee()? == Guarantee::Host {
        old.succeeds(&tell).await?;
        return old.succeeds(&Order::Release(None)).await;
    }
    old.stop()?;
    let when = "although its holder stands still";
    let bound = factory.lease() + SOON;
    let new = subject.acquire_within(bound, &key, when).await?;
    set_memo(&new, &memo).await?;
    old.go_on()?;
    old.succeeds(&tell).await?;
    // Once, however often it is told: the answer may have been lost.
    old.succeeds(&tell).await?;
    set_memo(&new, &memo).await?;
    release(new, Some(&memo)).await?;
    let permit = subject.acquire(&key, "after its release").await?;
    let found = memo_of(&permit).await?;
    let close = |at: &Timestamp| at.since(issued).max(issued.since(*at)) < Duration::from_secs(5);
    let told = found.minted_at.iter().filter(|at| close(at)).count();
    ensure!(
        found.minted_at.len() == memo.minted_at.len() + 1 && told == 1,
        "an issue at {issued} was told, and {found:?} is remembered"
    );
    release(permit, None).await
}

/// A record is deleted at once while another one holds its key, and what the holder brings is
/// dropped.
pub async fn a_delete_does_not_wait_for_the_holder(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let other = Subject::open_at(factory, subject.place.clone()).await?;
    for clears in [false, true] {
        let mut record = token("user=a client=c refresh=r access=old");
        let id = subject.save(&record).await?;
        record.id = Some(id);
        let key = CoordinationKey::record(id);
        let permit = other.acquire(&key, "at first").await?;
        set_memo(&permit, &sample("held")).await?;
        if clears {
            let count = subject.clear().await?;
            ensure!(count == 1, "`delete_tokens` answered {count}");
        } else {
            ensure!(subject.delete(id).await?, "`delete_token` found nothing");
        }
        let news = "user=a client=c access=new expiry=5000";
        let kept = other.keep(&record, news).await?;
        ensure!(kept == Kept::Gone, "it came to {}", told(&kept));
        // Whether there is still something to give back is the store's affair.
        let _ = permit.release(Some(&sample("released"))).await;
        subject.holds(&[]).await?;
    }
    Ok(())
}
