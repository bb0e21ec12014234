//! What children write, and what their parent knows of it.

use std::collections::BTreeMap;

use super::lines::Line;
use crate::conformance::sample::{describe, set, token};
use crate::conformance::subject::ensure;
use crate::conformance::{Verdict, Violation};
use crate::token::{OAuthToken, TokenId, UserName};

/// The record of `user` whose every value carries `stamp`: values of two saves cannot be mixed
/// unnoticed.
pub(super) fn record(user: &str, stamp: &str) -> OAuthToken {
    let mut record = token("client=1000.CONFORMANCE");
    set(&mut record, "user", user);
    // As long as Zoho's: a longer record is more likely to be torn.
    for (field, start) in [
        ("secret", "5f1d7c3e9b2a4680"),
        ("refresh", "1000.9b2a46805f1d7c3e9b2a46805f1d7c3e"),
        ("access", "1000.46805f1d7c3e9b2a46805f1d7c3e9b2a"),
        ("grant", "1000.7c3e9b2a46805f1d7c3e9b2a46805f1d"),
        ("url", "https://example.com/callback?"),
        ("domain", "https://www.zohoapis.example/"),
    ] {
        // The refresh token of two users is never the same, as at Zoho.
        set(&mut record, field, &format!("{start}.{stamp}.{user}"));
    }
    let sum = stamp.bytes().fold(1_i64, |sum, byte| {
        sum * 31 % 1_000_000_007 + i64::from(byte)
    });
    record.expiry_time = Some(crate::Timestamp::from_millis(1_795_372_876_984 + sum));
    record
}

/// The stamp of a record that [`record`] made.
fn stamp_of(row: &OAuthToken) -> Option<String> {
    let text = row
        .redirect_url
        .as_ref()?
        .strip_prefix("https://example.com/callback?.")?;
    let user = row.user_name.as_ref()?.as_str();
    Some(text.strip_suffix(user)?.strip_suffix('.')?.to_owned())
}

/// Returns user and stamp of a record in which all values belong together.
pub(super) fn whole(row: &OAuthToken) -> Result<(String, String), Violation> {
    let torn = || Violation::new(format!("a record is damaged or mixed: `{}`", describe(row)));
    let user = row
        .user_name
        .as_ref()
        .map(UserName::as_str)
        .ok_or_else(torn)?;
    let stamp = stamp_of(row).ok_or_else(torn)?;
    let mut expected = record(user, &stamp);
    expected.id = row.id;
    if expected == *row {
        Ok((user.to_owned(), stamp))
    } else {
        Err(torn())
    }
}

/// What must be stored, by what was acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Acknowledged {
    /// By user: the id, and the stamp of the last save.
    records: BTreeMap<String, (TokenId, String)>,
    highest: Option<TokenId>,
    /// The call that began and was not answered.
    open: Option<Line>,
}

impl Acknowledged {
    /// Takes in what a child told.
    pub(super) fn hear(&mut self, line: Line) -> Verdict {
        match (line, self.open.take()) {
            (line @ (Line::Save { .. } | Line::Delete { .. }), None) => self.open = Some(line),
            (Line::Saved(id), Some(Line::Save { user, stamp })) => {
                match self.records.get(&user) {
                    Some((known, _)) => ensure!(
                        *known == id,
                        "`{user}` had the id {known}, and an update answered {id}"
                    ),
                    None => ensure!(
                        Some(id) > self.highest,
                        "a new record got the id {id}, which was given before"
                    ),
                }
                self.highest = self.highest.max(Some(id));
                self.records.insert(user, (id, stamp));
            }
            (Line::Deleted(was_there), Some(Line::Delete { user, .. })) => {
                ensure!(
                    was_there,
                    "`{user}` was stored, and `delete_token` answered `false`"
                );
                self.records.remove(&user);
            }
            (Line::Failed(why), _) => return Err(Violation::new(why)),
            (Line::Ready | Line::Finished, None) => {}
            (line, open) => {
                let text = format!("a child said `{line}` while {open:?} was open");
                return Err(Violation::new(text));
            }
        }
        Ok(())
    }

    /// Compares what is stored with what was acknowledged, and goes on from what is stored.
    ///
    /// The call that was not answered may have been done or not, but nothing in between.
    pub(super) fn compare(&mut self, rows: &[OAuthToken]) -> Verdict {
        let open = self.open.take();
        let mut found = BTreeMap::new();
        for row in rows {
            let (user, stamp) = whole(row)?;
            let Some(id) = row.id else {
                return Err(Violation::new(format!("`{user}` has no id")));
            };
            if found.insert(user.clone(), (id, stamp)).is_some() {
                return Err(Violation::new(format!("`{user}` is there twice")));
            }
        }
        for (user, (id, stamp)) in &self.records {
            let deleting = matches!(&open, Some(Line::Delete { user: gone, .. }) if gone == user);
            let Some((found_id, found_stamp)) = found.get(user) else {
                ensure!(deleting, "`{user}` (id {id}) was acknowledged and is lost");
                continue;
            };
            ensure!(
                found_id == id,
                "`{user}` had the id {id} and has {found_id}"
            );
            ensure!(
                found_stamp == stamp || saves(open.as_ref(), user, found_stamp),
                "`{user}` was rolled back: {stamp} was acknowledged, {found_stamp} is stored"
            );
        }
        for (user, (id, stamp)) in &found {
            if !self.records.contains_key(user) {
                ensure!(
                    saves(open.as_ref(), user, stamp),
                    "`{user}` (id {id}) came back after it was deleted, or was never saved"
                );
                ensure!(
                    Some(*id) > self.highest,
                    "a new record got the id {id}, which was given before"
                );
            }
        }
        self.highest = self.highest.max(found.values().map(|(id, _)| *id).max());
        self.records = found;
        Ok(())
    }
}

/// Whether the call that was not answered is a save of this user with this stamp.
fn saves(open: Option<&Line>, user: &str, stamp: &str) -> bool {
    matches!(open, Some(Line::Save { user: u, stamp: s }) if u == user && s == stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: &str, stamp: &str, id: u64) -> OAuthToken {
        let mut row = record(user, stamp);
        row.id = Some(TokenId::new(id).unwrap());
        row
    }

    fn save(user: &str, stamp: &str) -> Line {
        Line::Save {
            user: user.into(),
            stamp: stamp.into(),
        }
    }

    fn saved(id: u64) -> Line {
        Line::Saved(TokenId::new(id).unwrap())
    }

    /// What `compare` finds wrong after these lines.
    fn wrong(lines: Vec<Line>, rows: &[OAuthToken]) -> String {
        let mut heard = Acknowledged::default();
        for line in lines {
            heard.hear(line).unwrap();
        }
        let verdict = heard.compare(rows);
        verdict.map_or_else(|violation| violation.to_string(), |()| "nothing".into())
    }

    #[test]
    fn an_open_call_may_be_done_or_not() {
        let lines = || vec![save("a", "1"), saved(1), save("a", "2")];
        assert_eq!(wrong(lines(), &[row("a", "1", 1)]), "nothing");
        assert_eq!(wrong(lines(), &[row("a", "2", 1)]), "nothing");
        assert!(wrong(lines(), &[]).contains("is lost"));
        let lines = || vec![save("a", "1"), saved(1), save("b", "2")];
        assert_eq!(
            wrong(lines(), &[row("a", "1", 1), row("b", "2", 2)]),
            "nothing"
        );
        assert_eq!(wrong(lines(), &[row("a", "1", 1)]), "nothing");
    }

    #[test]
    fn what_was_acknowledged_counts() {
        let lines = || vec![save("a", "1"), saved(3), save("a", "2"), saved(3)];
        assert_eq!(wrong(lines(), &[row("a", "2", 3)]), "nothing");
        assert!(wrong(lines(), &[row("a", "1", 3)]).contains("rolled back"));
        assert!(wrong(lines(), &[row("a", "2", 4)]).contains("had the id"));
        assert!(wrong(lines(), &[row("a", "2", 3), row("a", "1", 4)]).contains("twice"));
        assert!(wrong(lines(), &[row("a", "2", 3), row("b", "1", 4)]).contains("came back"));
        let mut mixed = row("a", "2", 3);
        mixed.refresh_token = row("a", "1", 3).refresh_token;
        assert!(wrong(lines(), &[mixed]).contains("mixed"));
        let mut late = row("a", "2", 3);
        late.expiry_time = None;
        assert!(wrong(lines(), &[late]).contains("damaged"));
    }

    #[test]
    fn an_id_given_before_is_noticed() {
        let mut heard = Acknowledged::default();
        let id = TokenId::new(1).unwrap();
        let delete = Line::Delete {
            user: "a".into(),
            id,
        };
        for line in [
            save("a", "1"),
            saved(1),
            delete,
            Line::Deleted(true),
            save("b", "2"),
        ] {
            heard.hear(line).unwrap();
        }
        assert!(heard.hear(saved(1)).is_err());
    }
}
