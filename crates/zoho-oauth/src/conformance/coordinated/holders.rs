//! Who holds a key, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::puppet::{Order, Puppet};
use super::{SOON, key, release};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::store::{Coordination, Guarantee, TokenStore};

const TASKS: usize = 16;
const TURNS: usize = 8;
const GIVEN_UP: usize = 40;

/// The store offers coordination, and says that it reaches all processes of a host or of a fleet.
/// That it does, the other rules see.
pub async fn the_store_coordinates_processes(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let guarantee = subject.guarantee()?;
    ensure!(
        guarantee >= Guarantee::Host,
        "`guarantee` answers {guarantee:?}: this tier is for stores that coordinate processes"
    );
    // A pointer that forgets to forward would silently coordinate nothing.
    let pointers: [Box<dyn TokenStore>; 2] = [
        Box::new(Arc::clone(&subject.store)),
        Box::new(Arc::new(subject.store)),
    ];
    for pointer in pointers {
        let behind = pointer.coordination().map(Coordination::guarantee);
        ensure!(
            behind == Some(guarantee),
            "behind a pointer `guarantee` is {behind:?}"
        );
    }
    Ok(())
}

/// Of sixteen tasks, on two open stores, one at a time holds a key. Each gets its turn.
pub async fn one_task_holds_a_key(factory: &StoreFactory) -> Verdict {
    let one = Subject::open(factory).await?;
    let two = Subject::open_at(factory, one.place.clone()).await?;
    let inside = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let subject = if task % 2 == 0 { &one } else { &two }.clone();
        let inside = Arc::clone(&inside);
        tasks.spawn(async move {
            let key = key(7)?;
            for turn in 0..TURNS {
                let permit = subject
                    .acquire_within(SOON * 12, &key, "while others take turns")
                    .await?;
                let others = inside.fetch_add(1, Ordering::SeqCst);
                ensure!(others == 0, "{} tasks hold a key at once", others + 1);
                // Long enough for others to come in, if they can.
                tokio::time::sleep(Duration::from_millis(1)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                if turn % 2 == 0 {
                    release(permit, None).await?;
                }
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(|panic| Violation::new(format!("a panic: {panic}")))??;
    }
    Ok(())
}

/// When `release` has answered, the key can be taken: by the same store, by another one that is
/// open at the place, by another process, and back.
pub async fn a_released_key_is_free_at_once(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let other = Subject::open_at(factory, subject.place.clone()).await?;
    let mut puppet = Puppet::start(factory, &subject.place).await?;
    let key = key(3)?;
    for _ in 0..5 {
        let permit = subject.acquire(&key, "at first").await?;
        other
            .is_held(&key, "by another store of the process")
            .await?;
        release(permit, None).await?;
        let permit = other.acquire(&key, "after its release").await?;
        release(permit, None).await?;
        puppet.succeeds(&Order::Acquire(3)).await?;
        subject.is_held(&key, "another process had it").await?;
        puppet.succeeds(&Order::Release(None)).await?;
        let permit = subject
            .acquire(&key, "after its release in another process")
            .await?;
        release(permit, None).await?;
    }
    Ok(())
}

/// A permit that is dropped, here or in another process that goes on, frees its key before long.
pub async fn a_dropped_key_is_free_soon(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut puppet = Puppet::start(factory, &subject.place).await?;
    let key = key(3)?;
    for _ in 0..5 {
        drop(subject.acquire_within(SOON, &key, "at first").await?);
        let permit = subject
            .acquire_within(SOON, &key, "after it was dropped")
            .await?;
        release(permit, None).await?;
        puppet.succeeds(&Order::Acquire(3)).await?;
        puppet.succeeds(&Order::Drop).await?;
        let permit = subject
            .acquire_within(SOON, &key, "after another process dropped it")
            .await?;
        release(permit, None).await?;
    }
    Ok(())
}

/// Whoever stops waiting for `try_acquire`, or for `release`, at whatever moment, holds nothing.
pub async fn a_try_that_is_given_up_holds_nothing(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let key = key(3)?;
    for round in 0..GIVEN_UP {
        let delay = Duration::from_micros(fastrand::u64(0..3000));
        let trying = subject.clone();
        let key_there = key.clone();
        let task = tokio::spawn(async move {
            if let Ok(Some(permit)) = trying.try_acquire(&key_there).await
                && round % 2 == 0
            {
                let _ = permit.release(None).await;
            }
        });
        tokio::time::sleep(delay).await;
        task.abort();
        let _ = task.await;
        let when = "after somebody stopped waiting for it";
        let permit = subject.acquire_within(SOON, &key, when).await?;
        release(permit, None).await?;
    }
    Ok(())
}

/// The key of a process that is ended with SIGKILL can be taken: at once if the guarantee is
/// [`Guarantee::Host`], when its lease has ended if it is [`Guarantee::Fleet`]
/// (see [`StoreFactory::with_lease`]).
pub async fn a_dead_holder_frees_its_key(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let bound = match subject.guarantee()? {
        Guarantee::Fleet => factory.lease() + SOON,
        _ => SOON,
    };
    let mut puppet = Puppet::start(factory, &subject.place).await?;
    puppet.succeeds(&Order::Acquire(3)).await?;
    let key = key(3)?;
    subject.is_held(&key, "another process had it").await?;
    puppet.kill();
    let when = "although its holder was killed";
    let permit = subject.acquire_within(bound, &key, when).await?;
    release(permit, None).await
}

/// A holder keeps its key for as long as it lives: longer than a lease, if the store has leases.
pub async fn a_living_holder_keeps_its_key(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let (living, dead) = (key(3)?, key(4)?);
    let permit = subject.acquire(&living, "at first").await?;
    if subject.guarantee()? == Guarantee::Fleet {
        // How long a lease is, another one tells: it is taken later and not renewed. Two of them,
        // so that a lease that is renewed only once does not look as if it lived on.
        for _ in 0..2 {
            let mut puppet = Puppet::start(factory, &subject.place).await?;
            puppet.succeeds(&Order::Acquire(4)).await?;
            puppet.kill();
            let when = "although its holder was killed";
            let bound = factory.lease() + SOON;
            let over = subject.acquire_within(bound, &dead, when).await?;
            release(over, None).await?;
        }
    }
    for _ in 0..20 {
        subject.is_held(&living, "its holder lives").await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let memo = super::memos::sample("living");
    super::set_memo(&permit, &memo).await?;
    release(permit, None).await?;
    let permit = subject.acquire(&living, "after its release").await?;
    release(permit, None).await
}
