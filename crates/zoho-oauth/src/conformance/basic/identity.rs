//! Which record a save updates.

use crate::conformance::model::Pair;
use crate::conformance::sample::token;
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict};
use crate::error::ErrorCode;

/// A first save inserts the record, and answers the id it has from now on.
pub async fn a_new_login_is_inserted(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut record = token("user=a client=c refresh=r access=x");
    let id = subject.save(&record).await?;
    record.id = Some(id);
    subject.holds(&[record]).await
}

/// Saving the same login again updates its record; saving the same values again changes nothing.
pub async fn save_is_an_upsert(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut record = token("user=a client=c refresh=r access=x expiry=1");
    let id = subject.save(&record).await?;
    for fields in [
        "user=a client=c refresh=r access=x expiry=1",
        "user=a client=c refresh=r access=y expiry=2",
        "user=a client=c refresh=r access=y expiry=2",
    ] {
        record = token(fields);
        let again = subject.save(&record).await?;
        ensure!(
            again == id,
            "the id was {id} and is {again} after saving again"
        );
        record.id = Some(id);
        subject.holds(std::slice::from_ref(&record)).await?;
        // The record as it came out of the store, id included.
        let again = subject.save(&record).await?;
        ensure!(
            again == id,
            "the id was {id} and is {again} after saving by id"
        );
        subject.holds(std::slice::from_ref(&record)).await?;
    }
    Ok(())
}

/// The identity is the user name and the client id together; no client is a client of its own.
pub async fn two_clients_of_one_user_stay_apart(factory: &StoreFactory) -> Verdict {
    let saves = [
        "user=a client=c refresh=r1 access=x1",
        "user=a client=d refresh=r2 access=x2",
        "user=a refresh=r3",
        "user=b client=c refresh=r4",
        "user=a client=c access=x5",
        "user=a client=d refresh=r6",
        "user=a access=x7",
    ];
    let pair = Pair::scenario(factory, &saves).await?;
    ensure!(
        pair.given.len() == 4,
        "four logins became {}",
        pair.given.len()
    );
    Ok(())
}

/// A token that is stored under one name and saved under another makes a second record.
pub async fn a_token_under_another_name_is_another_login(factory: &StoreFactory) -> Verdict {
    let saves = [
        "user=a client=c refresh=r access=x grant=g",
        "user=b client=c refresh=r access=x grant=g",
    ];
    Pair::scenario(factory, &saves).await?;
    Ok(())
}

/// Without a user name the refresh token and client tell the login, then the grant token and
/// client, then the access token.
pub async fn a_nameless_record_is_known_by_its_tokens(factory: &StoreFactory) -> Verdict {
    let scenarios: [&[&str]; 6] = [
        &["client=c refresh=r access=x", "client=c refresh=r access=y"],
        &[
            "client=c refresh=r",
            "client=d refresh=r",
            "refresh=r",
            "client=d refresh=r access=x",
        ],
        &[
            "client=c grant=g",
            "client=c grant=g refresh=r",
            "client=d grant=g",
        ],
        &[
            "access=x",
            "client=c access=x",
            "client=d access=x",
            "access=x expiry=7",
        ],
        &["user=a client=c refresh=r", "client=c refresh=r access=x"],
        &[
            "user=a client=c refresh=r access=x",
            "access=x expiry=7",
            "user=a access=x expiry=8",
        ],
    ];
    for saves in scenarios {
        Pair::scenario(factory, saves).await?;
    }
    Ok(())
}

/// A record that was saved before its user name was known gets the name, by its id or its tokens.
pub async fn a_name_learned_later_joins_the_record(factory: &StoreFactory) -> Verdict {
    let scenarios: [&[&str]; 5] = [
        &["client=c refresh=r access=x", "#1 user=a"],
        &["client=c refresh=r access=x", "user=a client=c refresh=r"],
        &["client=c refresh=r access=x", "user=a client=c access=x"],
        &["client=c grant=g", "user=a client=c grant=g refresh=r"],
        &[
            "client=c refresh=r access=x",
            "user=a access=x",
            "user=a access=x",
        ],
    ];
    for saves in scenarios {
        let pair = Pair::scenario(factory, saves).await?;
        ensure!(pair.given.len() == 1, "{saves:?} made a second record");
    }
    Ok(())
}

/// A record that takes on the identity of another one becomes that one, under the other's id.
pub async fn records_of_one_login_become_one(factory: &StoreFactory) -> Verdict {
    let scenarios: [&[&str]; 5] = [
        &[
            "user=a client=c refresh=old secret=s",
            "client=c refresh=new access=x expiry=5",
            "#2 user=a",
            "#2 access=y",
        ],
        &[
            "user=a client=c refresh=r",
            "user=a access=x",
            "#2 client=c",
        ],
        &[
            "client=c refresh=r1",
            "client=c refresh=r2",
            "#2 refresh=r1",
        ],
        &[
            "client=c refresh=r1",
            "user=a client=c refresh=r2",
            "#1 refresh=r2",
        ],
        &[
            "user=a client=c access=x",
            "client=c access=y",
            "user=a access=z",
            "#2 access=z",
        ],
    ];
    for saves in scenarios {
        Pair::scenario(factory, saves).await?;
    }
    Ok(())
}

/// Nameless records of a login are deleted when it is saved, and fill what is blank in it; records
/// of other logins are left alone.
pub async fn nameless_records_of_a_login_are_taken_in(factory: &StoreFactory) -> Verdict {
    let scenarios: [&[&str]; 5] = [
        &[
            "user=a client=c refresh=r1",
            "client=c refresh=r2 secret=s access=x expiry=5",
            "user=a client=c refresh=r2",
        ],
        &[
            "user=a client=c refresh=r",
            "access=x expiry=5",
            "user=a client=c access=x",
        ],
        &[
            "user=a client=c refresh=r",
            "client=c grant=g domain=d",
            "#1 grant=g",
        ],
        &[
            "user=a client=c refresh=r",
            "client=c refresh=q grant=g",
            "#1 grant=g",
        ],
        &[
            "user=a client=c refresh=r1",
            "client=d refresh=r2",
            "#1 refresh=r2",
        ],
    ];
    for saves in scenarios {
        Pair::scenario(factory, saves).await?;
    }
    Ok(())
}

/// Saving one login under the id of another is refused, and changes nothing.
pub async fn an_id_of_another_login_is_a_conflict(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::scenario(
        factory,
        &["user=a client=c refresh=r", "client=d refresh=r"],
    )
    .await?;
    for (number, fields) in [
        (0, "user=b refresh=q"),
        (0, "user=a client=d"),
        (0, "client=d access=x"),
        (1, "client=c refresh=r"),
    ] {
        let mut record = token(fields);
        record.id = Some(pair.given[number]);
        pair.subject
            .save_fails_with(&record, ErrorCode::IdConflict)
            .await?;
        pair.save(&record).await?;
    }
    Ok(())
}

/// A save without anything to tell the login by, or a new record without a token, is refused.
pub async fn a_save_that_says_nothing_is_refused(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::scenario(factory, &["user=a client=c refresh=r"]).await?;
    for fields in [
        "",
        "client=c",
        "client=c secret=s url=u domain=d expiry=4",
        "user=b",
        "user=a",
    ] {
        let record = token(fields);
        pair.subject
            .save_fails_with(&record, ErrorCode::InvalidInput)
            .await?;
        pair.save(&record).await?;
    }
    Ok(())
}
