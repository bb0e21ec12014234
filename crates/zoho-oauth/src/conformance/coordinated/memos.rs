//! What a holder leaves to the next.

use std::time::Duration;

use super::puppet::{Order, Puppet};
use super::{key, memo_of, release, set_memo};
use crate::clock::Timestamp;
use crate::conformance::sample::token;
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict};
use crate::secret::Fingerprint;
use crate::store::{CoordinationKey, Guarantee, Memo, Outage, Verdict as Judgement};

/// Moments come back as the clocks of two machines agree, which may be off by that much.
const CLOCKS: Duration = Duration::from_secs(5);

/// More than the stores of this crate have locks, so that some keys share one.
const KEYS: u64 = 70;

/// A memo with everything in it.
pub(super) fn sample(name: &str) -> Memo {
    let now = Timestamp::now();
    let before = |seconds| now.before(Duration::from_secs(seconds));
    Memo {
        credential: Some(Fingerprint::of(&[name])),
        minted_at: vec![before(300), before(20), before(20), before(1)],
        verdicts: vec![Judgement {
            // Longer and stranger than anything that Zoho sends.
            code: format!("invalid_code '\"\\\n\u{e9}\u{1f511}%_{name}").repeat(4),
            at: before(2),
            asked: Some(Fingerprint::of(&["asked", name])),
        }],
        wait_until: Some(now.after(Duration::from_mins(7))),
        outage: Some(Outage {
            until: now.after(Duration::from_mins(1)),
            failures: 3,
        }),
    }
}

/// Whether `found` is `expected`, to the byte; its moments as far as clocks agree.
pub(super) fn is_same(expected: &Memo, found: &Memo) -> bool {
    let close = |one: Timestamp, two: Timestamp| one.since(two).max(two.since(one)) <= CLOCKS;
    let both = |one: Option<Timestamp>, two: Option<Timestamp>| match (one, two) {
        (Some(one), Some(two)) => close(one, two),
        (one, two) => one == two,
    };
    let judged = expected.verdicts.iter().zip(&found.verdicts);
    let same = |(one, two): (&Judgement, &Judgement)| {
        one.code == two.code && one.asked == two.asked && close(one.at, two.at)
    };
    let until = |memo: &Memo| memo.outage.as_ref().map(|outage| outage.until);
    let failures = |memo: &Memo| memo.outage.as_ref().map(|outage| outage.failures);
    let minted = expected.minted_at.iter().zip(&found.minted_at);
    expected.credential == found.credential
        && expected.verdicts.len() == found.verdicts.len()
        && judged.into_iter().all(same)
        && both(until(expected), until(found))
        && failures(expected) == failures(found)
        && both(expected.wait_until, found.wait_until)
        && expected.minted_at.len() == found.minted_at.len()
        && minted.into_iter().all(|(one, two)| close(*one, *two))
}

/// What a holder writes down, and what it says with its release, the next one reads: in this process
/// and in others. An empty memo takes the place of another one.
pub async fn memos_pass_from_holder_to_holder(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let other = Subject::open_at(factory, subject.place.clone()).await?;
    let mut puppet = Puppet::start(factory, &subject.place).await?;
    let key = key(3)?;
    let permit = subject.acquire(&key, "at first").await?;
    let memo = memo_of(&permit).await?;
    ensure!(memo.is_empty(), "a key that nobody held has {memo:?}");
    release(permit, None).await?;
    for round in 0..4 {
        let [one, two, three] =
            ["one", "two", "three"].map(|name| sample(&format!("{name}{round}")));
        let permit = subject.acquire(&key, "after its release").await?;
        set_memo(&permit, &sample("overwritten")).await?;
        set_memo(&permit, &one).await?;
        let own = memo_of(&permit).await?;
        ensure!(
            is_same(&one, &own),
            "the holder wrote {one:?} and reads {own:?}"
        );
        release(permit, None).await?;

        let permit = other.acquire(&key, "after its release").await?;
        let found = memo_of(&permit).await?;
        ensure!(is_same(&one, &found), "{one:?} was passed on as {found:?}");
        release(permit, Some(&two)).await?;

        puppet.succeeds(&Order::Acquire(3)).await?;
        puppet.succeeds(&Order::Release(None)).await?;
        let permit = subject.acquire(&key, "after its release").await?;
        let found = memo_of(&permit).await?;
        ensure!(is_same(&two, &found), "{two:?} was passed on as {found:?}");
        release(permit, None).await?;

        puppet.succeeds(&Order::Acquire(3)).await?;
        puppet.succeeds(&Order::SetMemo(three.clone())).await?;
        puppet.succeeds(&Order::Release(None)).await?;
        let permit = subject.acquire(&key, "after its release").await?;
        let found = memo_of(&permit).await?;
        ensure!(
            is_same(&three, &found),
            "another process wrote {three:?} and this one reads {found:?}"
        );
        if subject.guarantee()? == Guarantee::Host {
            ensure!(found == three, "on one machine the clock is the same");
        }
        release(permit, Some(&Memo::default())).await?;
        let permit = other.acquire(&key, "after its release").await?;
        let found = memo_of(&permit).await?;
        ensure!(found.is_empty(), "an empty memo was passed on as {found:?}");
        release(permit, None).await?;
    }
    Ok(())
}

/// The memos of 70 records, and of a login that has no record yet, stay apart.
pub async fn memos_are_of_one_key(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let start = CoordinationKey::start(&Fingerprint::of(&["a grant token"]));
    let mut keys = vec![start];
    for number in 1..=KEYS {
        keys.push(key(number)?);
    }
    for key in &keys {
        let permit = subject.acquire(key, "at first").await?;
        let memo = memo_of(&permit).await?;
        ensure!(memo.is_empty(), "`{}` begins with {memo:?}", key.as_str());
        release(permit, Some(&sample(key.as_str()))).await?;
    }
    for key in &keys {
        let permit = subject.acquire(key, "after its release").await?;
        let (expected, found) = (sample(key.as_str()), memo_of(&permit).await?);
        // It took a while.
        ensure!(
            expected.credential == found.credential
                && expected.verdicts.first().map(|it| &it.code)
                    == found.verdicts.first().map(|it| &it.code),
            "the memo of `{}` is another one's",
            key.as_str()
        );
        release(permit, None).await?;
    }
    Ok(())
}

/// A login that is stored anew, after its record was deleted or all were, begins without the memos
/// of the deleted record. What machines remember of its refresh token stays, since Zoho goes on
/// counting.
pub async fn a_new_record_has_no_memo(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let login = token("user=a client=c refresh=r access=x");
    let credential = CoordinationKey::start(&Fingerprint::of(&["r"]));
    let counted = sample("r");
    let permit = subject.acquire(&credential, "at first").await?;
    release(permit, Some(&counted)).await?;
    let mut before = None;
    for round in 0..6 {
        let id = subject.save(&login).await?;
        ensure!(before < Some(id), "the id {id} was given twice");
        before = Some(id);
        let key = CoordinationKey::record(id);
        let permit = subject.acquire(&key, "at first").await?;
        let memo = memo_of(&permit).await?;
        ensure!(memo.is_empty(), "a new record begins with {memo:?}");
        let held = if round % 3 == 0 {
            set_memo(&permit, &sample("dead")).await?;
            Some(permit)
        } else {
            release(permit, Some(&sample("dead"))).await?;
            None
        };
        if round % 2 == 0 {
            ensure!(subject.delete(id).await?, "`delete_token` found nothing");
        } else {
            subject.clear().await?;
        }
        drop(held);
    }
    if subject.guarantee()? == Guarantee::Fleet {
        let permit = subject
            .acquire(&credential, "long after its release")
            .await?;
        let memo = memo_of(&permit).await?;
        ensure!(
            is_same(&counted, &memo),
            "after all records went, {counted:?} of a credential became {memo:?}"
        );
        release(permit, None).await?;
    }
    Ok(())
}
