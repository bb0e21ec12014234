//! What becomes of news about a record: see [`Fact`].

use crate::conformance::sample::{describe, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::store::{Fact, Kept};
use crate::token::{OAuthToken, TokenId};

impl Subject {
    /// Saves what Zoho issued for a record that was `before` when it was asked.
    pub(in crate::conformance) async fn keep(
        &self,
        before: &OAuthToken,
        news: &str,
    ) -> Result<Kept, Violation> {
        let id = before.id.unwrap_or(TokenId::MAX);
        let mut news = token(news);
        news.id = Some(id);
        let kept = self
            .store
            .save_fact(&Fact::new(id, before.clone(), news))
            .await;
        kept.map_err(|error| Violation::error("`save_fact` failed", &error))
    }

    /// Saves a fact, compares what it came to, and what is stored then.
    async fn keeps(
        &self,
        before: &OAuthToken,
        news: &str,
        expected: &Kept,
        stored: Option<&OAuthToken>,
    ) -> Verdict {
        let kept = self.keep(before, news).await?;
        ensure!(
            kept == *expected,
            "the fact `{news}` about `{}` should come to {} and came to {}",
            describe(before),
            told(expected),
            told(&kept)
        );
        let found = self.by_id(before.id.unwrap_or(TokenId::MAX)).await?;
        ensure!(
            found.as_ref() == stored,
            "after the fact `{news}`, which came to {}, `{}` is stored",
            told(&kept),
            found.as_ref().map_or_else(|| "nothing".into(), describe)
        );
        Ok(())
    }
}

pub(in crate::conformance) fn told(kept: &Kept) -> String {
    match kept {
        Kept::Saved => "`Saved`".into(),
        Kept::Superseded(newer) => format!("`Superseded` by `{}`", describe(newer)),
        Kept::Gone => "`Gone`".into(),
    }
}

/// A record, saved, as it is stored.
async fn stored(subject: &Subject, fields: &str) -> Result<OAuthToken, Violation> {
    let mut record = token(fields);
    record.id = Some(subject.save(&record).await?);
    Ok(record)
}

/// What Zoho issued is saved as long as the record holds the refresh token that Zoho was shown,
/// whatever else was saved meanwhile. It fills the fields that it names and leaves the others.
pub async fn a_fact_is_saved_while_the_credential_is_the_same(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let before = stored(
        &subject,
        "user=a client=c secret=s refresh=r access=old expiry=1000 grant=g url=u",
    )
    .await?;
    let news = "user=a client=c access=new expiry=5000 domain=d";
    let expected = |fields: &str| {
        let mut record = token(fields);
        record.id = before.id;
        record
    };
    let first = expected(
        "user=a client=c secret=s refresh=r access=new expiry=5000 grant=g url=u domain=d",
    );
    subject
        .keeps(&before, news, &Kept::Saved, Some(&first))
        .await?;
    // It is told again: the answer may have been lost.
    subject
        .keeps(&before, news, &Kept::Saved, Some(&first))
        .await?;

    // Other fields, and an access token that ends sooner, were saved since Zoho was asked.
    let mut other = token("secret=t url=v access=sooner expiry=4000");
    other.id = before.id;
    subject.save(&other).await?;
    let second = expected(
        "user=a client=c secret=t refresh=r access=newer expiry=6000 grant=g url=v domain=d",
    );
    let news = "user=a client=c access=newer expiry=6000";
    subject
        .keeps(&before, news, &Kept::Saved, Some(&second))
        .await?;

    // The access token that was to be replaced still seemed good: the API had refused it.
    let third = expected(
        "user=a client=c secret=t refresh=r access=last expiry=3000 grant=g url=v domain=d",
    );
    let news = "user=a client=c access=last expiry=3000";
    subject
        .keeps(&second, news, &Kept::Saved, Some(&third))
        .await?;

    // The exchange of a grant token brings the refresh token.
    let before = stored(&subject, "user=b client=c grant=h").await?;
    let news = "user=b client=c refresh=q access=x expiry=1";
    let mut exchanged = token("user=b client=c grant=h refresh=q access=x expiry=1");
    exchanged.id = before.id;
    subject
        .keeps(&before, news, &Kept::Saved, Some(&exchanged))
        .await
}

/// What Zoho issued for a refresh token that was replaced meanwhile, or what ends sooner than what
/// another process stored meanwhile, changes nothing. The answer is what is stored.
pub async fn a_fact_is_superseded_by_what_is_newer(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let before = stored(&subject, "user=a client=c refresh=r access=old expiry=1000").await?;
    let news = "user=a client=c access=new expiry=5000 domain=d";
    for newer in [
        "user=a client=c refresh=r access=later expiry=5001",
        "user=a client=c refresh=login access=later expiry=900",
        "user=a client=c refresh=login access=old expiry=900",
    ] {
        let mut newer = token(newer);
        newer.id = before.id;
        subject.save(&newer).await?;
        let expected = Kept::Superseded(Box::new(newer.clone()));
        subject
            .keeps(&before, news, &expected, Some(&newer))
            .await?;
    }
    Ok(())
}

/// A fact about a record that was deleted, or about another login than the one that is stored under
/// its id, is dropped. Nothing is brought back.
pub async fn a_fact_about_a_record_that_is_gone_changes_nothing(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let record = stored(&subject, "user=a client=c refresh=r access=old").await?;
    for other in [
        "user=b client=c refresh=r access=old",
        "user=a client=d refresh=r access=old",
    ] {
        let mut before = token(other);
        before.id = record.id;
        let news = "access=new expiry=5000";
        subject
            .keeps(&before, news, &Kept::Gone, Some(&record))
            .await?;
    }
    let elder = stored(&subject, "user=b client=c refresh=q access=x").await?;
    let news = "user=a client=c access=new expiry=5000";
    let id = record.id.unwrap_or(TokenId::MAX);
    ensure!(subject.delete(id).await?, "`delete_token` found nothing");
    subject.keeps(&record, news, &Kept::Gone, None).await?;
    // Not by way of the login that took its place, either.
    let anew = stored(&subject, "user=a client=c refresh=r access=old").await?;
    subject.keeps(&record, news, &Kept::Gone, None).await?;
    subject.holds(&[elder, anew.clone()]).await?;
    subject.clear().await?;
    subject.keeps(&anew, news, &Kept::Gone, None).await?;
    subject.holds(&[]).await
}
