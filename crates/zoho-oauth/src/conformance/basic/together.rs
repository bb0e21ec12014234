//! What happens at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::conformance::sample::{describe, describe_all, query, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::store::TokenStore;
use crate::token::{OAuthToken, TokenId};

const TASKS: usize = 16;
const SAVES: usize = 10;

/// Version `number` of the record of `user`: the numbers of all its parts are the same.
fn version(user: &str, number: usize) -> OAuthToken {
    token(&format!(
        "user={user} client=c secret=s{number} refresh=r{number} access=x{number} grant=g{number} \
         expiry={number} url=u{number} domain=d{number}"
    ))
}

/// Whether a record is one of the versions, and not a mixture.
fn is_whole(row: &OAuthToken, user: &str) -> bool {
    let number = row
        .expiry_time
        .and_then(|at| usize::try_from(at.as_millis()).ok());
    let mut expected = version(user, number.unwrap_or(usize::MAX));
    expected.id = row.id;
    *row == expected
}

async fn joined<T: 'static>(mut tasks: JoinSet<Result<T, Violation>>) -> Result<Vec<T>, Violation> {
    let mut all = Vec::new();
    while let Some(task) = tasks.join_next().await {
        all.push(task.map_err(|panic| Violation::new(format!("a panic: {panic}")))??);
    }
    Ok(all)
}

/// One login saved by many tasks at once is one record, under one id, and holds one task's values.
pub async fn one_login_saved_at_once_is_one_record(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let subject = subject.clone();
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for save in 0..SAVES {
                ids.push(subject.save(&version("ann", task * SAVES + save)).await?);
            }
            Ok(ids)
        });
    }
    let mut ids: Vec<TokenId> = joined(tasks).await?.into_iter().flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == 1, "one login got the ids {ids:?}");
    let rows = subject.all().await?;
    ensure!(
        rows.len() == 1 && rows[0].id == Some(ids[0]) && is_whole(&rows[0], "ann"),
        "one login became {}",
        describe_all(&rows)
    );
    Ok(())
}

/// Different logins saved by many tasks at once are all there, each under an id of its own.
pub async fn logins_saved_at_once_are_all_there(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let subject = subject.clone();
        tasks.spawn(async move {
            let mut saved = Vec::new();
            for save in 0..SAVES {
                let mut record = version(&format!("user-{task}-{save}"), task * SAVES + save);
                record.id = Some(subject.save(&record).await?);
                saved.push(record);
            }
            Ok(saved)
        });
    }
    let mut saved: Vec<_> = joined(tasks).await?.into_iter().flatten().collect();
    saved.sort_by_key(|record| record.id);
    subject.holds(&saved).await
}

/// Readers see the old record or the new one while it is being saved: never none, never a mixture.
pub async fn readers_see_whole_records(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let id = subject.save(&version("ann", 0)).await?;
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for reader in 0..4 {
        let subject = subject.clone();
        let done = Arc::clone(&done);
        tasks.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let row = match reader % 3 {
                    0 => subject.find(&query("user", "ann")).await?,
                    1 => subject.by_id(id).await?,
                    _ => subject.all().await?.pop(),
                };
                let text = row.as_ref().map_or_else(|| "nothing".into(), describe);
                ensure!(
                    row.is_some_and(|row| is_whole(&row, "ann")),
                    "a reader saw {text} while the record was being saved"
                );
                tokio::task::yield_now().await;
            }
            Ok(())
        });
    }
    tasks.spawn(async move {
        let mut saved = Ok(id);
        for number in 1..=50 {
            saved = saved.and(subject.save(&version("ann", number)).await);
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::Relaxed);
        saved.map(|_| ())
    });
    joined(tasks).await?;
    Ok(())
}

/// Of many deletes of one record at once, exactly one answers that it was there.
pub async fn one_of_many_deletes_wins(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    for round in 0..5 {
        let id = subject.save(&version("ann", round)).await?;
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let subject = subject.clone();
            tasks.spawn(async move { subject.delete(id).await });
        }
        let wins = joined(tasks).await?.into_iter().filter(|&won| won).count();
        ensure!(
            wins == 1,
            "{wins} of {TASKS} deletes of one record answered `true`"
        );
    }
    subject.holds(&[]).await
}

/// A save whose future is dropped half-way leaves the record as it was or as it was to be, and the
/// store working.
pub async fn a_save_that_is_given_up_leaves_a_whole_record(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let id = subject.save(&version("ann", 0)).await?;
    for number in 1..=30 {
        let given_up = version("ann", number);
        let polls = number % 6;
        let patience = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = subject.store.save_token(&given_up) => {}
            () = patience => {}
        }
        let rows = subject.all().await?;
        ensure!(
            rows.len() == 1 && rows[0].id == Some(id) && is_whole(&rows[0], "ann"),
            "a save that was given up left {}",
            describe_all(&rows)
        );
    }
    // What was given up may still be done later, as if another task had asked for it. A record of
    // its own shows that the store goes on working.
    let mut other = version("bob", 1);
    other.id = Some(subject.save(&other).await?);
    subject.finds(&query("user", "bob"), Some(&other)).await
}

/// The store works the same behind `Arc` and `Box`, as decorators and applications hold it.
pub async fn the_store_works_behind_pointers(factory: &StoreFactory) -> Verdict {
    let Subject { store, place } = Subject::open(factory).await?;
    let coordinates = store.coordination().is_some();
    let store: Arc<dyn TokenStore> = Arc::new(Box::new(Arc::clone(&store)));
    ensure!(
        store.coordination().is_some() == coordinates,
        "`coordination` is lost behind pointers"
    );
    let subject = Subject { store, place };
    let mut record = version("ann", 1);
    let id = subject.save(&record).await?;
    record.id = Some(id);
    subject.finds(&query("user", "ann"), Some(&record)).await?;
    let found = subject.by_id(id).await?;
    ensure!(
        found.as_ref() == Some(&record),
        "`find_token_by_id` is lost"
    );
    subject.holds(&[record]).await?;
    ensure!(subject.delete(id).await?, "`delete_token` is lost");
    subject.save(&version("bob", 2)).await?;
    ensure!(subject.clear().await? == 1, "`delete_tokens` is lost");
    Ok(())
}
