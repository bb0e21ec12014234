//! What text does that means something to a file, a database, a shell or a terminal.

use crate::conformance::sample::{TEXT_FIELDS, describe, leaks, query, set, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::error::ErrorKind;
use crate::token::OAuthToken;

/// Text that broke stores which are in use today, and some of its kin.
const HOSTILE: [&str; 44] = [
    "a,b",
    "a;b",
    "a\tb",
    "a\"b",
    "\"",
    "\"\"",
    "a'b",
    "'",
    "`",
    "\\",
    "\\'",
    "\\n",
    "a\nb",
    "a\r\nb",
    "a\rb",
    "\n",
    " ",
    " a",
    "a ",
    "a\u{a0}",
    "a\0b",
    "\0",
    "\u{feff}a",
    "\u{1a}",
    "\u{1b}[31mred",
    "user_name",
    "id",
    "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time",
    "1,x,,,,,,,,",
    "#1",
    "--",
    "null",
    "NULL",
    "None",
    "0",
    "=1+1",
    "' OR '1'='1",
    "0 or 1=1",
    "x'; DROP TABLE oauthtoken; --",
    "') ON CONFLICT DO UPDATE SET refresh_token='",
    "${HOME} $(id) %s %n {0}",
    "../../etc/passwd",
    "\u{1f511}\u{1f469}\u{200d}\u{1f4bb}\u{10ffff}",
    "\u{202e}nnA\u{202c} \u{627}\u{644}\u{639}\u{631}\u{628}\u{64a}\u{629}",
];

/// A full record with `value` in `field`, unlike any with another `number`.
fn record(field: &str, value: &str, number: usize) -> OAuthToken {
    let mut record = token(&format!(
        "user=u{number} client=c secret=s refresh=r{number} access=x{number} grant=g{number} \
         expiry=7 url=u domain=d"
    ));
    set(&mut record, field, value);
    record
}

/// Saves a record; it must come back as it is, by id, by query and in the list, or be refused with
/// `invalid_input`.
async fn comes_back_or_is_refused(
    subject: &Subject,
    expected: &mut Vec<OAuthToken>,
    (field, value): (&str, &str),
    mut record: OAuthToken,
) -> Verdict {
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
            if ["user", "refresh", "access", "grant"].contains(&field) {
                subject.finds(&query(field, value), Some(&record)).await?;
            }
            expected.push(record);
        }
        Err(error) => {
            ensure!(
                error.kind() == ErrorKind::InvalidInput,
                "`{}` should be stored or refused with `invalid_input`, and failed with `{}`: {}",
                describe(&record),
                error.code().as_str(),
                error.message()
            );
            ensure!(
                !leaks(&record, &format!("{error} {error:?}")),
                "the refusal of `{}` gives its secrets away: {error:?}",
                describe(&record)
            );
        }
    }
    subject.holds(expected).await
}

/// Any text in any field comes back as it was saved, or the save is refused and changes nothing.
pub async fn hostile_text_comes_back_or_is_refused(factory: &StoreFactory) -> Verdict {
    for field in TEXT_FIELDS {
        let subject = Subject::open(factory).await?;
        let mut expected = Vec::new();
        for (number, value) in HOSTILE.into_iter().enumerate() {
            let record = record(field, value, number);
            comes_back_or_is_refused(&subject, &mut expected, (field, value), record).await?;
        }
    }
    Ok(())
}

/// Any text can be asked for; it finds nothing that is not stored, and changes nothing.
pub async fn hostile_queries_find_nothing_and_change_nothing(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut stored = record("user", "Ann", 1);
    stored.id = Some(subject.save(&stored).await?);
    for value in HOSTILE {
        for field in ["user", "refresh", "access", "grant"] {
            let asked = query(field, value);
            match subject.store.find_token(&asked).await {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let found = describe(&found);
                    let text = format!("{field} `{}` found `{found}`", value.escape_debug());
                    return Err(Violation::new(text));
                }
                Err(error) => ensure!(
                    error.kind() == ErrorKind::InvalidInput,
                    "a query for {field} `{}` failed: {}",
                    value.escape_debug(),
                    error.message()
                ),
            }
        }
    }
    subject.holds(&[stored]).await
}

/// Names that people have are stored, not refused.
pub async fn names_of_people_are_stored(factory: &StoreFactory) -> Verdict {
    let names = [
        "o'brien@example.com:1",
        "\"Ann, B.\" <ann+zoho@example.com>:2",
        "Zo\u{eb} S\u{f8}rensen:3",
        "\u{674e}\u{96f7}@\u{4f8b}\u{5b50}.\u{6d4b}\u{8bd5}:4",
        "\u{645}\u{62d}\u{645}\u{62f}:5",
        "\u{1f600}:6",
        "DOMAIN\\user:7",
        "a b;c%d_e*f:8",
    ];
    let subject = Subject::open(factory).await?;
    let mut expected = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let mut record = record("user", name, number);
        record.id = Some(subject.save(&record).await?);
        subject.finds(&query("user", name), Some(&record)).await?;
        expected.push(record);
    }
    subject.holds(&expected).await
}

/// A value of 64 KiB in any field comes back whole, or is refused; it is never cut.
pub async fn long_text_comes_back_or_is_refused(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut expected = Vec::new();
    for (number, field) in TEXT_FIELDS.into_iter().enumerate() {
        for (step, length) in [256, 2048, 65_536].into_iter().enumerate() {
            let unique = format!("{field}{step}");
            let value = unique.repeat(length / unique.len() + 1);
            let record = record(field, &value, number * 10 + step);
            comes_back_or_is_refused(&subject, &mut expected, (field, &value), record).await?;
        }
    }
    // Tokens of Zoho are about 70 characters, and a store must take ten times that.
    let mut usual = token("user=usual");
    set(&mut usual, "access", &"1000.a".repeat(120));
    set(&mut usual, "refresh", &"1000.r".repeat(120));
    usual.id = Some(subject.save(&usual).await?);
    expected.push(usual);
    subject.holds(&expected).await
}
