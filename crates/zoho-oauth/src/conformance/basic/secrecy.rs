//! What is printed.

use crate::conformance::sample::{leaks_a_part, set, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict};
use crate::error::Error;
use crate::secret::Fingerprint;
use crate::token::OAuthToken;

/// A record whose secrets have no words in them: whatever part of one turns up somewhere, it comes
/// from here.
fn secretive(user: &str) -> OAuthToken {
    let mut record = token(&format!("user={user} client=1000.public expiry=7"));
    for field in ["secret", "refresh", "access", "grant"] {
        set(&mut record, field, &unguessable(field, user));
    }
    record
}

fn unguessable(field: &str, of: &str) -> String {
    Fingerprint::of(&[field, of]).as_str().to_owned()
}

/// Everything that an error and its causes say, in all ways.
fn all_texts(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.extend([" ".into(), cause.to_string(), format!(" {cause:?}")]);
        source = cause.source();
    }
    text
}

/// No error carries a secret or a part of one: not in its text, its `Debug`, nor its causes.
pub async fn errors_carry_no_secret(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let ann = subject.save(&secretive("ann")).await?;
    let bob = subject.save(&secretive("bob")).await?;
    subject.delete(bob).await?;

    let mut conflict = secretive("carla");
    conflict.id = Some(ann);
    let mut deleted = secretive("bob");
    deleted.id = Some(bob);
    let mut refused = vec![conflict, deleted];
    for field in ["user", "client", "secret", "refresh", "access", "grant"] {
        for hostile in ['\0', '\''] {
            let mut record = secretive(&format!("dora-{field}"));
            let (start, rest) = (unguessable(field, "start"), unguessable(field, "rest"));
            set(&mut record, field, &format!("{start}{hostile}{rest}"));
            refused.push(record);
        }
    }
    for record in refused {
        if let Err(error) = subject.store.save_token(&record).await {
            let text = all_texts(&error);
            ensure!(
                !leaks_a_part(&record, &text) && !leaks_a_part(&secretive("ann"), &text),
                "an error gives a secret away: {text}"
            );
        }
    }
    Ok(())
}

/// `Debug` of the store shows no secret that it holds.
pub async fn the_store_prints_no_secret(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let record = secretive("ann");
    subject.save(&record).await?;
    subject.all().await?;
    for text in [
        format!("{:?}", subject.store),
        format!("{:#?}", subject.store),
    ] {
        ensure!(
            !leaks_a_part(&record, &text),
            "`Debug` of the store shows a secret: {text}"
        );
    }
    Ok(())
}
