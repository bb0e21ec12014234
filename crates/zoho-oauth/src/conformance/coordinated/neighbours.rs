//! What the work on one record must not touch of another.

use std::ops::Range;

use tokio::task::JoinSet;

use super::memos::{is_same, sample};
use super::puppet::{Order, Outcome, Puppet};
use super::{SOON, key, memo_of, release, set_memo};
use crate::conformance::sample::token;
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::secret::Fingerprint;
use crate::store::{CoordinationKey, Guarantee};
use crate::token::TokenId;

/// Numbers that begin or end like others, for stores that look for keys by a part of them.
const IDS: [u64; 10] = [1, 2, 3, 4, 10, 11, 12, 21, 112, 120];
/// Will turn out to be the login of the record before it.
const NAMELESS: u64 = 4;
const HELD: u64 = 12;
const REMEMBERED: u64 = 11;
const OTHERS: Range<u64> = 200..240;
const AT_ONCE: usize = 8;

/// A key that is held stays held, and what is remembered stays remembered, whatever happens to
/// others: forty of them are taken and given back in all ways, records are deleted, held ones among
/// them, and two records become one.
pub async fn keys_survive_the_work_on_others(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let other = Subject::open_at(factory, subject.place.clone()).await?;
    let mut puppet = Puppet::start(factory, &subject.place).await?;
    for number in IDS {
        let mut record = token(&format!("user=u{number} client=c refresh=r{number}"));
        if number == NAMELESS {
            record.user_name = None;
        }
        record.id = TokenId::new(number).ok();
        subject.save(&record).await?;
    }
    let start = CoordinationKey::start(&Fingerprint::of(&["a grant token"]));
    let remembered = [key(REMEMBERED)?, start.clone()].map(|key| {
        let memo = sample(key.as_str());
        (key, memo)
    });
    for (key, memo) in &remembered {
        let permit = subject.acquire(key, "at first").await?;
        release(permit, Some(memo)).await?;
    }
    let held = key(HELD)?;
    let permit = subject.acquire(&held, "at first").await?;
    let (first, second) = (sample("first"), sample("second"));
    set_memo(&permit, &first).await?;

    if subject.guarantee()? == Guarantee::Fleet {
        // As who refreshes a token does, to count what is made from it.
        let while_held = format!("while its taker holds `{}`", held.as_str());
        let permit = subject.acquire_within(SOON, &start, &while_held).await?;
        release(permit, None).await?;
    }
    others_are_taken(&other).await?;
    records_go(&other, &mut puppet).await?;

    let when = "its holder lives, and others worked on other keys";
    other.is_held(&held, when).await?;
    let tried = puppet.does(&Order::Acquire(HELD)).await?;
    ensure!(
        tried == Outcome::Held,
        "`{}` was given to another process: {when}",
        held.as_str()
    );
    let memo = memo_of(&permit).await?;
    ensure!(is_same(&first, &memo), "{first:?} became {memo:?}");
    set_memo(&permit, &second).await?;
    release(permit, None).await?;
    let permit = other.acquire(&held, "after its release").await?;
    let memo = memo_of(&permit).await?;
    ensure!(
        is_same(&second, &memo),
        "{second:?} was passed on as {memo:?}"
    );
    release(permit, None).await?;
    for (key, expected) in &remembered {
        let when = "long after its release";
        let permit = other.acquire_within(SOON, key, when).await?;
        let memo = memo_of(&permit).await?;
        ensure!(
            is_same(expected, &memo),
            "after work on other keys the memo of `{}` is {memo:?}",
            key.as_str()
        );
        release(permit, None).await?;
    }
    Ok(())
}

/// Takes keys of records that nobody uses, some at a time, and gives them back in all ways.
async fn others_are_taken(other: &Subject) -> Verdict {
    // On one machine keys may share a lock, also with the one that is held.
    let may_share = other.guarantee()? == Guarantee::Host;
    let mut tasks = JoinSet::new();
    for first in OTHERS.take(AT_ONCE) {
        let other = other.clone();
        tasks.spawn(async move {
            for number in (first..OTHERS.end).step_by(AT_ONCE) {
                take_and_give_back(&other, number, may_share).await?;
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(|panic| Violation::new(format!("a panic: {panic}")))??;
    }
    Ok(())
}

async fn take_and_give_back(other: &Subject, number: u64, may_share: bool) -> Verdict {
    let key = key(number)?;
    let Some(permit) = other.try_acquire(&key).await? else {
        ensure!(may_share, "`{}` is not free at first", key.as_str());
        return Ok(());
    };
    match number % 3 {
        0 => release(permit, None).await,
        1 => release(permit, Some(&sample("another"))).await,
        _ => {
            drop(permit);
            Ok(())
        }
    }
}

/// Deletes records whose numbers are a part of those that are watched, and lets two become one.
async fn records_go(other: &Subject, puppet: &mut Puppet) -> Verdict {
    let id = |number| TokenId::new(number).map_err(|error| Violation::error("no such id", &error));
    let going = other.try_acquire(&key(2)?).await?;
    if let Some(permit) = &going {
        set_memo(permit, &sample("going")).await?;
    }
    for number in [1, 2, 112] {
        ensure!(
            other.delete(id(number)?).await?,
            "`delete_token` found nothing"
        );
    }
    drop(going);
    ensure!(!other.delete(id(1)?).await?, "a record was deleted twice");
    for number in [10, 21, 120] {
        puppet.succeeds(&Order::Delete(number)).await?;
    }
    let saved = other.save(&token("user=u3 client=c refresh=r4")).await?;
    ensure!(saved == id(3)?, "the login of record 3 is record {saved}");
    let taken_in = other.by_id(id(NAMELESS)?).await?;
    ensure!(taken_in.is_none(), "record {NAMELESS} is still there");
    Ok(())
}
