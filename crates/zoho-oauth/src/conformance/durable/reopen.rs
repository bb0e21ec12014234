//! What is there when the store is opened again.

use crate::conformance::sample::{query, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict};
use crate::error::ErrorCode;

/// Inserted, updated and merged records are there after reopening, values and ids as they were.
pub async fn everything_is_there_after_reopening(factory: &StoreFactory) -> Verdict {
    let mut subject = Subject::open(factory).await?;
    subject.holds(&[]).await?;
    subject = subject.reopen(factory).await?;
    for fields in [
        "user=a client=c secret=s refresh=r access=x grant=g expiry=1795372876984 url=u domain=d",
        "user=a client=d refresh=r",
        "user=o'brien,\u{1f511}\u{e9} refresh=q access=\"y\"",
        "client=c access=only",
        "user=a client=c access=z expiry=-1",
        "grant=g",
    ] {
        subject.save(&token(fields)).await?;
        let before = subject.all().await?;
        subject = subject.reopen(factory).await?;
        subject.holds(&before).await?;
    }
    for row in subject.all().await? {
        let found = subject.by_id(row.id.unwrap_or(crate::TokenId::MAX)).await?;
        ensure!(
            found == Some(row),
            "a record is listed and not found by its id"
        );
    }
    let found = subject.find(&query("user", "a")).await?;
    ensure!(
        found.is_some(),
        "a record is listed and not found by its user name"
    );
    Ok(())
}

/// New ids after reopening are higher than all before, also when the highest record was deleted, or
/// all of them.
pub async fn ids_go_on_after_reopening(factory: &StoreFactory) -> Verdict {
    let mut subject = Subject::open(factory).await?;
    let mut highest = None;
    for round in 0..12 {
        let id = subject
            .save(&token(&format!("user=u{round} access=x{round}")))
            .await?;
        ensure!(
            highest < Some(id),
            "after reopening a new record got the id {id}, and {highest:?} was given before"
        );
        highest = Some(id);
        match round % 4 {
            1 => {
                subject.delete(id).await?;
            }
            2 => {
                subject.clear().await?;
            }
            _ => {}
        }
        subject = subject.reopen(factory).await?;
    }
    Ok(())
}

/// Deleted records are not there after reopening, and their ids are still refused.
pub async fn deleted_records_stay_deleted_after_reopening(factory: &StoreFactory) -> Verdict {
    let mut subject = Subject::open(factory).await?;
    let mut deleted = token("user=a access=x");
    let mut cleared = token("user=b access=y");
    deleted.id = Some(subject.save(&deleted).await?);
    cleared.id = Some(subject.save(&cleared).await?);
    ensure!(
        subject
            .delete(deleted.id.unwrap_or(crate::TokenId::MAX))
            .await?,
        "`delete_token` answered that a record was not there"
    );
    subject = subject.reopen(factory).await?;
    subject.holds(std::slice::from_ref(&cleared)).await?;
    subject
        .save_fails_with(&deleted, ErrorCode::RecordDeleted)
        .await?;
    let count = subject.clear().await?;
    ensure!(
        count == 1,
        "`delete_tokens` took one record and answered {count}"
    );
    subject = subject.reopen(factory).await?;
    subject.holds(&[]).await?;
    for gone in [&deleted, &cleared] {
        subject
            .save_fails_with(gone, ErrorCode::RecordDeleted)
            .await?;
    }
    Ok(())
}

/// Two stores that are open at one place at once see each other's saves and deletes, and number
/// their records together.
pub async fn two_open_stores_see_each_other(factory: &StoreFactory) -> Verdict {
    let one = Subject::open(factory).await?;
    let two = Subject::open_at(factory, one.place.clone()).await?;
    let mut expected = Vec::new();
    for round in 0..6 {
        let (writer, reader) = if round % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        let mut record = token(&format!("user=u{round} client=c refresh=r{round}"));
        record.id = Some(writer.save(&record).await?);
        expected.push(record.clone());
        let asked = query("user", &format!("u{round}"));
        reader.finds(&asked, Some(&record)).await?;
        reader.holds(&expected).await?;
        // The reader updates what the writer inserted.
        let mut update = token(&format!("user=u{round} client=c access=x expiry={round}"));
        let id = reader.save(&update).await?;
        ensure!(
            Some(id) == record.id,
            "the other store made a second record, {id}"
        );
        update.id = record.id;
        update.refresh_token = record.refresh_token;
        expected[round] = update;
        writer.holds(&expected).await?;
    }
    let gone = expected.remove(2);
    ensure!(
        one.delete(gone.id.unwrap_or(crate::TokenId::MAX)).await?,
        "the other store's record could not be deleted"
    );
    two.save_fails_with(&gone, ErrorCode::RecordDeleted).await?;
    two.holds(&expected).await
}
