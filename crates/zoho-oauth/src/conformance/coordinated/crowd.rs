//! Eight processes with news about the same records.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::conformance::child::{persistently, pipe, run_together, wait_for_the_start};
use crate::conformance::lines::Line;
use crate::conformance::sample::{describe, set, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::secret::{AccessToken, RefreshToken};
use crate::store::{Fact, Kept};
use crate::token::{OAuthToken, TokenId};

/// Waits for the start, then saves facts, or other fields, of records that all processes share.
pub(in crate::conformance) const SAVE_FACTS: &str = "save-facts";

const PROCESSES: u64 = 8;
const RECORDS: u64 = 4;
const ROUNDS: u64 = 15;

/// What a process was told by the store.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// A field of a record was saved.
    Field {
        record: u64,
        field: String,
        value: String,
    },
    /// A fact was saved: the refresh token that it came from, the access token and its end.
    Fact {
        record: u64,
        refresh: String,
        access: String,
        end: i64,
    },
}

/// Eight processes save facts and other fields of the same records at once, among them new refresh
/// tokens. Nothing that was acknowledged is lost, and no access token lies beside a refresh token
/// that it does not come from.
pub async fn facts_and_saves_at_once_lose_nothing(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    subject.coordination()?;
    for number in 0..RECORDS {
        let fields = format!(
            "user=u{number} client=c refresh=refresh.{number}.0 access=refresh.{number}.0/first \
             expiry=1000"
        );
        subject.save(&token(&fields)).await?;
    }
    let told = run_together(factory, SAVE_FACTS, &subject.place, PROCESSES).await?;
    let mut fields = BTreeMap::new();
    let mut facts = Vec::new();
    for line in told.into_iter().flatten() {
        let Line::Told(text) = line else { continue };
        let told = serde_json::from_str(&text);
        match told.map_err(|error| Violation::new(format!("a child said nonsense: {error}")))? {
            Told::Field {
                record,
                field,
                value,
            } => drop(fields.insert((record, field), value)),
            fact @ Told::Fact { .. } => facts.push(fact),
        }
    }
    let rows = subject.all().await?;
    ensure!(
        rows.len() as u64 == RECORDS,
        "{} records are stored and not {RECORDS}",
        rows.len()
    );
    for (number, row) in (0..).zip(&rows) {
        let _ = refresh_of(row)?;
        for field in ["refresh", "secret", "url", "domain"] {
            let expected = fields.get(&(number, field.to_owned()));
            let mut same = row.clone();
            set(&mut same, field, expected.map_or("-", String::as_str));
            ensure!(
                same == *row,
                "{expected:?} was the last {field} that was acknowledged, and `{}` is stored",
                describe(row)
            );
        }
        has_the_latest(number, row, &facts)?;
    }
    Ok(())
}

/// The access token is that of the last login, or of a fact that was acknowledged, and none that was
/// acknowledged for the same refresh token ends later.
fn has_the_latest(number: u64, row: &OAuthToken, facts: &[Told]) -> Verdict {
    let (refresh, access) = exposed(row);
    let end = row.expiry_time.map_or(0, Timestamp::as_millis);
    let mut is_told = access.ends_with("/login");
    for fact in facts {
        let Told::Fact {
            record,
            refresh: from,
            access: other,
            end: other_end,
        } = fact
        else {
            continue;
        };
        if *record == number && from == refresh {
            ensure!(
                *other_end <= end,
                "`{other}`, which ends at {other_end}, was acknowledged, and `{}` is stored",
                describe(row)
            );
            is_told |= other == access && *other_end == end;
        }
    }
    ensure!(
        is_told,
        "an access token is stored that was not acknowledged: `{}`",
        describe(row)
    );
    Ok(())
}

fn exposed(row: &OAuthToken) -> (&str, &str) {
    let refresh = row.refresh_token.as_ref();
    let access = row.access_token.as_ref();
    (
        refresh.map_or("", RefreshToken::expose_secret),
        access.map_or("", AccessToken::expose_secret),
    )
}

/// The refresh token of a record whose access token came from it.
fn refresh_of(row: &OAuthToken) -> Result<String, Violation> {
    let (refresh, access) = exposed(row);
    let from = access.split_once('/').map(|(from, _)| from);
    if from == Some(refresh) {
        return Ok(refresh.to_owned());
    }
    Err(Violation::new(format!(
        "an access token lies beside a refresh token that it does not come from: `{}`",
        describe(row)
    )))
}

/// The part of each process. Four save facts; the others are the only ones to save one field each.
pub(in crate::conformance) async fn save_facts(subject: &Subject, process: u64) -> Verdict {
    let rows = subject.all().await?;
    wait_for_the_start().await;
    let mut rng = Rng::with_seed(process);
    for round in 1..=ROUNDS {
        for (number, row) in (0..).zip(&rows) {
            let id = row.id.unwrap_or(TokenId::MAX);
            let field = match process {
                1 => "refresh",
                2 => "secret",
                3 => "url",
                4 => "domain",
                _ => {
                    let stamp = format!("{process}.{round}");
                    save_fact(subject, id, number, &stamp, rng.i64(1..1000)).await?;
                    continue;
                }
            };
            // The refresh tokens of two records are never the same.
            let value = format!("{field}.{number}.{round}");
            save_field(subject, id, number, field, value).await?;
        }
    }
    Ok(())
}

fn tell(told: &Told) -> Verdict {
    let text = serde_json::to_string(told)
        .map_err(|error| Violation::new(format!("cannot be told: {error}")))?;
    Line::Told(text).tell().map_err(pipe)
}

async fn save_field(
    subject: &Subject,
    id: TokenId,
    record: u64,
    field: &str,
    value: String,
) -> Verdict {
    let mut news = token("");
    news.id = Some(id);
    set(&mut news, field, &value);
    if field == "refresh" {
        // A new login brings its own access token.
        set(&mut news, "access", &format!("{value}/login"));
        news.expiry_time = Some(Timestamp::from_millis(500));
    }
    let saved = persistently(|| subject.store.save_token(&news)).await;
    let saved = saved.map_err(|error| Violation::error("`save_token` failed", &error))?;
    ensure!(saved == id, "an update of {id} answered {saved}");
    tell(&Told::Field {
        record,
        field: field.into(),
        value,
    })
}

async fn save_fact(
    subject: &Subject,
    id: TokenId,
    record: u64,
    stamp: &str,
    longer: i64,
) -> Verdict {
    let before = subject.by_id(id).await?.unwrap_or_default();
    let refresh = refresh_of(&before)?;
    let access = format!("{refresh}/{stamp}");
    let end = before.expiry_time.map_or(0, Timestamp::as_millis) + longer;
    let mut news = token(&format!("access={access} expiry={end}"));
    news.id = Some(id);
    news.user_name.clone_from(&before.user_name);
    news.client_id.clone_from(&before.client_id);
    let fact = Fact::new(id, before, news);
    let kept = persistently(|| subject.store.save_fact(&fact)).await;
    match kept.map_err(|error| Violation::error("`save_fact` failed", &error))? {
        Kept::Saved => tell(&Told::Fact {
            record,
            refresh,
            access,
            end,
        }),
        Kept::Superseded(newer) => {
            let ends_later = newer.expiry_time > Some(Timestamp::from_millis(end));
            ensure!(
                refresh_of(&newer)? != refresh || ends_later,
                "`{access}`, which ends at {end}, was superseded by `{}`",
                describe(&newer)
            );
            Ok(())
        }
        Kept::Gone => Err(Violation::new(format!("the record {id} is gone"))),
    }
}
