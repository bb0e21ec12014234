//! What processes write while they are killed, or together.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::script::record;
use crate::conformance::Violation;
use crate::conformance::child::{persistently, pipe, wait_for_the_start};
use crate::conformance::lines::Line;
use crate::conformance::subject::Subject;
use crate::token::TokenId;

/// Writes until it is killed.
pub(in crate::conformance) const WRITE_UNTIL_KILLED: &str = "write-until-killed";
/// Waits for the start, then writes a fixed number of records.
pub(in crate::conformance) const WRITE_TOGETHER: &str = "write-together";

/// How many different users of the process `seed` write together, each saved once.
pub(super) const OWN_USERS: usize = 30;
/// How many users all processes save.
pub(super) const SHARED_USERS: usize = 10;

/// About twenty users are updated; guests come and go.
pub(in crate::conformance) async fn write_until_killed(
    subject: &Subject,
    seed: u64,
) -> Result<(), Violation> {
    let mut rng = Rng::with_seed(seed);
    let mut stored: BTreeMap<String, TokenId> = BTreeMap::new();
    for row in subject.all().await? {
        if let (Some(name), Some(id)) = (row.user_name, row.id) {
            stored.insert(name.as_str().to_owned(), id);
        }
    }
    for number in 0_u64.. {
        let guests = stored.keys().filter(|name| name.starts_with("guest"));
        let (count, oldest) = (guests.clone().count(), guests.clone().next().cloned());
        let regular = format!("regular-{:02}", rng.u32(0..20));
        let stamp = format!("{seed:x}-{number}");
        let (user, is_delete) = match rng.u32(0..100) {
            0..15 if count < 8 => (format!("guest-{stamp}"), false),
            0..27 => (oldest.unwrap_or(regular), count > 0),
            27..30 => (regular, true),
            _ => (regular, false),
        };
        if let Some(id) = stored.get(&user).copied().filter(|_| is_delete) {
            delete(subject, &user, id).await?;
            stored.remove(&user);
        } else {
            let id = save(subject, &user, &stamp).await?;
            stored.insert(user, id);
        }
    }
    Ok(())
}

/// Own users, each of which is there at the end or deleted again, and users that all processes save.
pub(in crate::conformance) async fn write_together(
    subject: &Subject,
    process: u64,
) -> Result<(), Violation> {
    wait_for_the_start().await;
    for number in 0..OWN_USERS {
        let stamp = format!("{process}-{number}");
        let user = format!("own-{stamp}");
        let id = save(subject, &user, &stamp).await?;
        save(
            subject,
            &format!("shared-{}", number % SHARED_USERS),
            &stamp,
        )
        .await?;
        if number % 5 == 4 {
            delete(subject, &user, id).await?;
        }
    }
    Ok(())
}

/// Tells, saves, tells.
async fn save(subject: &Subject, user: &str, stamp: &str) -> Result<TokenId, Violation> {
    let line = Line::Save {
        user: user.into(),
        stamp: stamp.into(),
    };
    line.tell().map_err(pipe)?;
    let record = record(user, stamp);
    let saved = persistently(|| subject.store.save_token(&record)).await;
    let id = saved.map_err(|error| Violation::error("`save_token` failed", &error))?;
    Line::Saved(id).tell().map_err(pipe)?;
    Ok(id)
}

/// Tells, deletes, tells.
async fn delete(subject: &Subject, user: &str, id: TokenId) -> Result<(), Violation> {
    let line = Line::Delete {
        user: user.into(),
        id,
    };
    line.tell().map_err(pipe)?;
    let deleted = persistently(|| subject.store.delete_token(id)).await;
    let was_there = deleted.map_err(|error| Violation::error("`delete_token` failed", &error))?;
    Line::Deleted(was_there).tell().map_err(pipe)
}
