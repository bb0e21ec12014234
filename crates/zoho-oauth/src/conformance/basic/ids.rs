//! What numbers records get.

use crate::conformance::model::Pair;
use crate::conformance::sample::token;
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::error::ErrorCode;
use crate::token::TokenId;

fn number(number: u64) -> Result<TokenId, Violation> {
    TokenId::new(number).map_err(|error| Violation::error("no such id", &error))
}

/// New records get rising ids, compared as numbers, and `get_tokens` lists them in that order.
pub async fn ids_rise_past_9_and_99(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut ids = Vec::new();
    for user in 1..=101 {
        let id = subject
            .save(&token(&format!("user=u{user} access=x{user}")))
            .await?;
        ensure!(
            ids.last() < Some(&id),
            "the id {id} came after {:?}",
            ids.last()
        );
        ids.push(id);
    }
    let listed: Vec<_> = subject
        .all()
        .await?
        .iter()
        .filter_map(|row| row.id)
        .collect();
    ensure!(
        listed == ids,
        "`get_tokens` lists the ids {listed:?} and not {ids:?}"
    );
    let again = subject.save(&token("user=u10 access=y")).await?;
    ensure!(
        again == ids[9],
        "the tenth record has the id {} and answered {again}",
        ids[9]
    );
    for (index, id) in ids.iter().enumerate() {
        let name = subject.by_id(*id).await?.and_then(|row| row.user_name);
        let expected = format!("u{}", index + 1);
        ensure!(
            name.as_ref().is_some_and(|name| name.as_str() == expected),
            "the id {id} was given to `{expected}` and belongs to {name:?}"
        );
    }
    Ok(())
}

/// An id is not given again: not after its record was deleted, not after all were.
pub async fn ids_are_never_used_twice(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::scenario(factory, &["user=a access=x", "user=b access=y"]).await?;
    pair.delete(pair.given[1]).await?;
    pair.save_each(&["user=b access=y"]).await?;
    pair.delete(pair.given[0]).await?;
    pair.save_each(&["user=a access=x"]).await?;
    pair.clear().await?;
    pair.save_each(&["user=a access=x", "user=b access=y"])
        .await?;
    let mut ids = pair.given.clone();
    ids.dedup();
    ensure!(
        ids.len() == 6 && ids.is_sorted(),
        "six records got the ids {:?}",
        pair.given
    );
    Ok(())
}

/// A save under the id of a deleted record fails with `record_deleted` and brings nothing back.
pub async fn a_deleted_record_stays_deleted(factory: &StoreFactory) -> Verdict {
    let saves = ["user=a client=c refresh=r", "user=b refresh=q", "access=x"];
    let mut pair = Pair::scenario(factory, &saves).await?;
    pair.delete(pair.given[0]).await?;
    pair.delete(pair.given[2]).await?;
    let ids = pair.given.clone();
    for (id, fields) in [
        (ids[0], "user=a client=c refresh=r access=new"),
        (ids[0], "access=new"),
        (ids[0], "user=b refresh=q"),
        (ids[2], "access=x"),
    ] {
        let mut record = token(fields);
        record.id = Some(id);
        pair.subject
            .save_fails_with(&record, ErrorCode::RecordDeleted)
            .await?;
        pair.save(&record).await?;
    }
    pair.clear().await?;
    for id in ids {
        let mut record = token("user=a client=c refresh=r");
        record.id = Some(id);
        pair.subject
            .save_fails_with(&record, ErrorCode::RecordDeleted)
            .await?;
    }
    // A new login is a new record.
    pair.save_each(&["user=a client=c refresh=r"]).await
}

/// A record with an id higher than any that was given is inserted under it; later ids are higher.
pub async fn a_record_moves_in_with_its_id(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::scenario(factory, &["user=a access=x"]).await?;
    let first = pair.given[0].get();
    for (id, fields) in [
        (first + 98, "user=b refresh=r"),
        // Its login is stored already, so it gets no second record.
        (first + 500, "user=a access=y"),
        (first + 8998, "access=z"),
    ] {
        let mut record = token(fields);
        record.id = Some(number(id)?);
        pair.save(&record).await?;
    }
    pair.save_each(&["user=c access=w"]).await?;
    let last = pair.given[3].get();
    ensure!(
        last > first + 8998,
        "after the id {} came {last}",
        first + 8998
    );
    let mut skipped = token("user=d access=v");
    skipped.id = Some(number(first + 200)?);
    pair.subject
        .save_fails_with(&skipped, ErrorCode::RecordDeleted)
        .await
}

/// After the last id of ten digits a new record fails with `ids_exhausted`; updates go on.
pub async fn the_last_id_is_the_last(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::scenario(factory, &["user=a access=x"]).await?;
    let mut last = token("user=b access=y");
    last.id = Some(TokenId::MAX);
    pair.save(&last).await?;
    let new = token("user=c access=z");
    pair.subject
        .save_fails_with(&new, ErrorCode::IdsExhausted)
        .await?;
    pair.save_each(&["user=c access=z", "user=a access=w", "user=b access=v"])
        .await?;
    pair.delete(TokenId::MAX).await?;
    pair.subject
        .save_fails_with(&new, ErrorCode::IdsExhausted)
        .await
}
