//! What becomes of the values.

use crate::clock::Timestamp;
use crate::conformance::model::Pair;
use crate::conformance::sample::{describe, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict};
use crate::error::ErrorKind;

const FULL: &str = "user=ann@example.com:70001 client=1000.ABC secret=s-1 refresh=1000.r-1 \
    access=1000.x-1 grant=1000.g-1 expiry=1795372876984 url=https://example.com/callback \
    domain=https://www.zohoapis.eu";

/// Every field comes back as it was saved, from every method; a record of one field too.
pub async fn all_ten_fields_come_back(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    for fields in [
        FULL,
        "access=only-access",
        "grant=only-grant",
        "refresh=only-refresh",
    ] {
        let mut record = token(fields);
        let id = subject.save(&record).await?;
        record.id = Some(id);
        let found = subject.by_id(id).await?;
        ensure!(
            found.as_ref() == Some(&record),
            "saved `{}`, got back {}",
            describe(&record),
            found.as_ref().map_or_else(|| "nothing".into(), describe)
        );
        let listed = subject.all().await?;
        ensure!(
            listed.last() == Some(&record),
            "`get_tokens` lists it differently"
        );
    }
    Ok(())
}

/// A field that the saved record lacks keeps what is stored, each of them; empty text counts as
/// lacking.
pub async fn blank_fields_keep_the_stored_value(factory: &StoreFactory) -> Verdict {
    let identities = [
        "user=ann@example.com:70001 client=1000.ABC",
        "client=1000.ABC refresh=1000.r-1",
        "client=1000.ABC grant=1000.g-1",
        "access=1000.x-1",
        "#1",
    ];
    for identity in identities {
        Pair::scenario(factory, &[FULL, identity]).await?;
    }
    let mut pair = Pair::scenario(factory, &[FULL]).await?;
    let mut empty = token("user=ann@example.com:70001 client=1000.ABC");
    empty.redirect_url = Some(String::new());
    empty.api_domain = Some(String::new());
    pair.save(&empty).await
}

/// A field that the saved record fills replaces what is stored, each alone and all at once.
pub async fn filled_fields_replace_the_stored_value(factory: &StoreFactory) -> Verdict {
    let changes = [
        "#1 refresh=1000.r-2",
        "#1 access=1000.x-2 expiry=1795372876985",
        "#1 grant=1000.g-2",
        "#1 secret=s-2",
        "#1 url=https://example.com/other",
        "#1 domain=https://www.zohoapis.in",
        "user=ann@example.com:70001 client=1000.ABC refresh=1000.r-3 secret=s-3 grant=1000.g-3 \
         access=1000.x-3 expiry=1795372876986 url=u domain=d",
    ];
    let mut pair = Pair::scenario(factory, &[FULL]).await?;
    pair.save_each(&changes).await
}

/// A different access token never keeps the old one's expiry, and an expiry alone is ignored where
/// an access token is stored.
pub async fn an_access_token_and_its_expiry_go_together(factory: &StoreFactory) -> Verdict {
    let stored = "user=a access=x expiry=5";
    let scenarios: [&[&str]; 8] = [
        &[stored, "user=a access=y"],
        &[stored, "user=a access=y expiry=9"],
        &[stored, "user=a access=x"],
        &[stored, "user=a access=x expiry=9"],
        &[stored, "user=a expiry=9"],
        &["user=a access=x", "user=a expiry=9"],
        &["user=a refresh=r", "user=a expiry=9"],
        &["user=a refresh=r expiry=9", "user=a access=x"],
    ];
    for saves in scenarios {
        Pair::scenario(factory, saves).await?;
    }
    Ok(())
}

/// Moments before 1970 and far in the future come back to the millisecond, or are refused.
pub async fn any_moment_can_be_an_expiry(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let moments = [
        0,
        1,
        -1,
        -86_400_001,
        1_795_372_876_984,
        i64::from(i32::MAX) + 1,
    ];
    for (number, &millis) in moments.iter().chain(&[i64::MAX, i64::MIN]).enumerate() {
        let mut record = token(&format!("user=u{number} access=x{number}"));
        record.expiry_time = Some(Timestamp::from_millis(millis));
        match subject.store.save_token(&record).await {
            Ok(id) => {
                record.id = Some(id);
                let found = subject.by_id(id).await?;
                ensure!(
                    found.as_ref() == Some(&record),
                    "saved `{}`, got back {}",
                    describe(&record),
                    found.as_ref().map_or_else(|| "nothing".into(), describe)
                );
            }
            Err(error) => ensure!(
                error.kind() == ErrorKind::InvalidInput && number >= moments.len(),
                "the expiry {millis} was refused: {}",
                error.message()
            ),
        }
    }
    Ok(())
}
