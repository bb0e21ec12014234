//! Whatever the two stores hold: nothing is lost, nothing old goes over something newer, and a
//! second copy has nothing to do.

use proptest::prelude::*;
use zoho_oauth::store::CopyTokens;
use zoho_oauth::store::copy::CopyReport;
use zoho_oauth::{ListStore, OAuthToken, TokenId, TokenStore};

use super::probe::ReadOnly;
use super::{id, list, text, token};

/// Something that happens to a store.
#[derive(Clone, Debug)]
enum Step {
    /// A login or a refresh of this person, with this number as the end of the access token.
    Save {
        person: u8,
        version: u8,
        url: bool,
    },
    /// The same under an id above all others, as far above as said.
    Jump {
        person: u8,
        version: u8,
        gap: u64,
    },
    Delete(u64),
}

/// People 0 to 5 have names, 6 to 8 none: those are known by a refresh token that stays.
fn record(person: u8, version: u8) -> String {
    let refresh = format!("r{person}.{}", if person < 6 { version } else { 0 });
    let name = if person < 6 {
        format!("user=u{person} ")
    } else {
        String::new()
    };
    let access = match version {
        // As stored before the first exchange.
        0 => String::new(),
        _ => format!(" access=a{person}.{version} expiry={version}00"),
    };
    format!("{name}client=c refresh={refresh}{access}")
}

fn step() -> impl Strategy<Value = Step> {
    let (person, version) = (0..9_u8, 0..4_u8);
    prop_oneof![
        6 => (person.clone(), version.clone(), any::<bool>())
            .prop_map(|(person, version, url)| Step::Save { person, version, url }),
        1 => (person, version, 1..9_u64)
            .prop_map(|(person, version, gap)| Step::Jump { person, version, gap }),
        2 => (1..20_u64).prop_map(Step::Delete),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..14)
}

async fn happen(store: &ListStore, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Save {
                person,
                version,
                url,
            } => {
                let mut record = token(&record(person, version));
                record.redirect_url = url.then(|| format!("https://{person}"));
                store.save_token(&record).await.unwrap();
            }
            Step::Jump {
                person,
                version,
                gap,
            } => {
                let all = store.get_tokens().await.unwrap();
                let last = all.last().and_then(|last| last.id).map_or(0, TokenId::get);
                let mut record = token(&record(person, version));
                record.id = Some(id(last + gap));
                // Where the number was given before, nothing happens.
                let _ = store.save_token(&record).await;
            }
            Step::Delete(number) => {
                store.delete_token(id(number)).await.unwrap();
            }
        }
    }
}

fn is_same_login(one: &OAuthToken, other: &OAuthToken) -> bool {
    match (&one.user_name, &other.user_name) {
        (None, None) => one.refresh_token == other.refresh_token,
        (one, other) => one == other,
    }
}

/// Whether `record` has every value of `other`.
fn has_all_of(record: &OAuthToken, other: &OAuthToken) -> bool {
    let fields = record
        .expose_fields()
        .into_iter()
        .zip(other.expose_fields());
    let mut fields = fields.skip(1);
    fields.all(|(have, want)| want.is_none() || have == want)
}

fn check(
    source: &[OAuthToken],
    before: &[OAuthToken],
    after: &[OAuthToken],
    report: &CopyReport,
) -> Result<(), TestCaseError> {
    for record in source {
        let number = record.id.unwrap();
        let there = after.iter().find(|row| is_same_login(row, record));
        if report.left_out.contains(&number) {
            prop_assert!(there.is_none());
            continue;
        }
        prop_assert!(there.is_some(), "lost: {}", text(record));
        let there = there.unwrap();
        let told = report.new_id(number).unwrap_or(number);
        prop_assert_eq!(there.id, Some(told), "{}", text(record));
        let is_newer = there.expiry_time > record.expiry_time;
        prop_assert!(
            has_all_of(there, record) || is_newer || report.different.contains_key(&number),
            "{} is {}",
            text(record),
            text(there)
        );
        prop_assert_eq!(
            report.kept_newer.contains(&number),
            is_newer && !has_all_of(there, record)
        );
    }
    for record in before {
        let there = after.iter().find(|row| row.id == record.id);
        prop_assert!(there.is_some(), "lost from the target: {}", text(record));
        let there = there.unwrap();
        prop_assert!(is_same_login(there, record));
        prop_assert!(there.expiry_time >= record.expiry_time);
        if !source.iter().any(|row| is_same_login(row, record)) {
            prop_assert_eq!(there, record, "not the source's business");
        }
    }
    let gained = source.iter().filter(|row| {
        let is_it = |other: &&OAuthToken| is_same_login(other, row);
        before.iter().find(is_it).is_none() && after.iter().any(|other| is_it(&other))
    });
    prop_assert_eq!(after.len(), before.len() + gained.count());
    Ok(())
}

/// What the first copy brought and was deleted in the target since is left out.
fn stay_deleted(
    copied: &[OAuthToken],
    source: &[OAuthToken],
    before: &[OAuthToken],
    report: &CopyReport,
) -> Result<(), TestCaseError> {
    let is_there = |record: &OAuthToken| before.iter().any(|row| is_same_login(row, record));
    // If nothing is left of it under its id, and there are others, nothing shows that there was a
    // copy.
    let shows = before.is_empty()
        || copied.iter().any(|record| {
            let twin = before.iter().find(|row| row.id == record.id);
            let origin = source.iter().find(|row| row.id == record.id);
            twin.is_some() && origin.is_some()
        });
    for record in copied.iter().filter(|_| shows) {
        let is_in_source = source.iter().any(|row| row.id == record.id);
        if is_in_source && !is_there(record) {
            let number = record.id.unwrap();
            prop_assert!(
                report.left_out.contains(&number),
                "brought back: {}",
                text(record)
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn nothing_is_lost_whatever_the_stores_hold(
        in_source in steps(),
        in_target in steps(),
        is_second_copy in any::<bool>(),
        then_in_source in steps(),
        page_size in 1..5_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (from, to) = (list(&[]).await, list(&[]).await);
            happen(&from, &in_source).await;
            let mut copied = Vec::new();
            if is_second_copy {
                let first = CopyTokens::new(&from, &to).run().await.unwrap();
                prop_assert!(first.is_complete(), "{}", first);
                prop_assert_eq!(from.get_tokens().await.unwrap(), to.get_tokens().await.unwrap());
                copied = to.get_tokens().await.unwrap();
                happen(&from, &then_in_source).await;
            }
            happen(&to, &in_target).await;
            let source = from.get_tokens().await.unwrap();
            let before = to.get_tokens().await.unwrap();

            let read_only = ReadOnly::of(&to);
            let plan = CopyTokens::new(&from, &read_only).page_size(page_size).dry_run();
            let plan = plan.run().await.unwrap();
            let copies = CopyTokens::new(&from, &to).page_size(page_size);
            let report = copies.run().await.unwrap();
            let after = to.get_tokens().await.unwrap();
            check(&source, &before, &after, &report)?;
            stay_deleted(&copied, &source, &before, &report)?;
            prop_assert!(report.refused.is_empty() && report.missing.is_empty());
            prop_assert!(report.copied_again.is_empty() && report.gone.is_empty());
            // What the target gave before and has no more, reading tells only in part.
            prop_assert!(plan.left_out.is_subset(&report.left_out));
            let told_late = report.left_out.len() - plan.left_out.len();
            prop_assert_eq!(&plan.different, &report.different);
            prop_assert_eq!(&plan.joined, &report.joined);
            prop_assert_eq!((plan.inserted, plan.updated, plan.unchanged),
                (report.inserted + told_late, report.updated, report.unchanged));
            prop_assert_eq!(&source, &from.get_tokens().await.unwrap());

            let again = CopyTokens::new(&from, &to).run().await.unwrap();
            prop_assert_eq!(again.inserted + again.updated, 0);
            prop_assert_eq!(again.is_complete(), report.is_complete());
            prop_assert_eq!(&after, &to.get_tokens().await.unwrap());
            Ok(())
        })?;
    }
}
