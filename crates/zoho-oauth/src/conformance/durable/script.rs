//! What children write, and what their parent knows of it.

use std::collections::BTreeMap;

use crate::conformance::lines::Line;
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
    late: Option<Late>,
}

/// The last call of the process that was killed before. It was not answered, and was not done when
/// that was compared: a server may still be at it, and may do it at any time until the next
/// comparison.
#[derive(Clone, Debug)]
struct Late {
    line: Line,
    /// The highest id that was given before it.
    highest: Option<TokenId>,
}

impl Late {
    /// Whether the record of `user` may have `id` because of this save.
    fn inserts(&self, user: &str, id: TokenId) -> bool {
        matches!(&self.line, Line::Save { user: u, .. } if u == user) && Some(id) > self.highest
    }

    /// Whether the record of `user` under `id` may be gone because of this delete.
    fn deletes(&self, user: &str, id: TokenId) -> bool {
        matches!(&self.line, Line::Delete { user: u, id: i } if u == user && *i == id)
    }
}

impl Acknowledged {
    /// Whether something may still be done that a process asked for which is gone.
    pub(super) const fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Takes in what a child told.
    pub(super) fn hear(&mut self, line: Line) -> Verdict {
        match (line, self.open.take()) {
            (line @ (Line::Save { .. } | Line::Delete { .. }), None) => self.open = Some(line),
            (Line::Saved(id), Some(Line::Save { user, stamp })) => {
                self.hear_saved(&user, id)?;
                self.highest = self.highest.max(Some(id));
                self.records.insert(user, (id, stamp));
            }
            (Line::Deleted(was_there), Some(Line::Delete { user, id })) => {
                let was_late = self.late.as_ref().is_some_and(|it| it.deletes(&user, id));
                ensure!(
                    was_there || was_late,
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

    fn hear_saved(&self, user: &str, id: TokenId) -> Verdict {
        let late = self.late.as_ref();
        let is_new = Some(id) > self.highest;
        match self.records.get(user) {
            Some((known, _)) => ensure!(
                *known == id || is_new && late.is_some_and(|it| it.deletes(user, *known)),
                "`{user}` had the id {known}, and an update answered {id}"
            ),
            None => ensure!(
                is_new || late.is_some_and(|it| it.inserts(user, id)),
                "a new record got the id {id}, which was given before"
            ),
        }
        Ok(())
    }

    /// Compares what is stored with what was acknowledged, and goes on from what is stored.
    ///
    /// The call that was not answered may have been done or not, but nothing in between. If it was
    /// not, it may be done until the next comparison, and nothing else may.
    pub(super) fn compare(&mut self, rows: &[OAuthToken]) -> Verdict {
        let (open, late) = (self.open.take(), self.late.take());
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
            let was_late = late.as_ref().is_some_and(|it| it.deletes(user, *id));
            let deletes =
                was_late || matches!(&open, Some(Line::Delete { user: gone, .. }) if gone == user);
            let Some((found_id, found_stamp)) = found.get(user) else {
                ensure!(deletes, "`{user}` (id {id}) was acknowledged and is lost");
                continue;
            };
            // If one of the two calls deletes it, the other one may insert it anew.
            ensure!(
                found_id == id || deletes && Some(*found_id) > self.highest,
                "`{user}` had the id {id} and has {found_id}"
            );
            ensure!(
                found_stamp == stamp && found_id == id
                    || saves(open.as_ref(), user, found_stamp)
                    || saves(late.as_ref().map(|it| &it.line), user, found_stamp),
                "`{user}` was rolled back: {stamp} was acknowledged, {found_stamp} is stored"
            );
        }
        for (user, (id, stamp)) in &found {
            if !self.records.contains_key(user) {
                let was_late = saves(late.as_ref().map(|it| &it.line), user, stamp);
                ensure!(
                    was_late || saves(open.as_ref(), user, stamp),
                    "`{user}` (id {id}) came back after it was deleted, or was never saved"
                );
                let inserts = late.as_ref().is_some_and(|it| it.inserts(user, *id));
                ensure!(
                    Some(*id) > self.highest || inserts,
                    "a new record got the id {id}, which was given before"
                );
            }
        }
        self.highest = self.highest.max(found.values().map(|(id, _)| *id).max());
        self.records = found;
        let highest = self.highest;
        self.late = open
            .filter(|line| !self.is_done(line))
            .map(|line| Late { line, highest });
        Ok(())
    }

    /// Whether what is stored shows that the call was done.
    fn is_done(&self, call: &Line) -> bool {
        match call {
            Line::Save { user, stamp } => {
                let stored = self.records.get(user);
                stored.is_some_and(|(_, there)| there == stamp)
            }
            Line::Delete { user, id } => {
                let stored = self.records.get(user);
                stored.is_none_or(|(there, _)| there != id)
            }
            _ => true,
        }
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

    fn delete(user: &str, id: u64) -> Line {
        Line::Delete {
            user: user.into(),
            id: TokenId::new(id).unwrap(),
        }
    }

    /// What is found wrong when `rows` are stored after these lines, after `before` was stored while
    /// the last call of another process was not answered.
    fn wrong_later(
        before: &[Line],
        stored: &[OAuthToken],
        lines: &[Line],
        rows: &[OAuthToken],
    ) -> String {
        let mut heard = Acknowledged::default();
        let verdict = before
            .iter()
            .try_for_each(|line| heard.hear(line.clone()))
            .and_then(|()| heard.compare(stored));
        verdict.unwrap();
        let verdict = lines
            .iter()
            .try_for_each(|line| heard.hear(line.clone()))
            .and_then(|()| heard.compare(rows));
        verdict.map_or_else(|violation| violation.to_string(), |()| "nothing".into())
    }

    #[test]
    fn a_save_that_was_not_answered_may_be_done_later() {
        let before = [save("a", "1"), saved(1), save("a", "2")];
        let stored = [row("a", "1", 1)];
        let wrong =
            |lines: &[Line], rows: &[OAuthToken]| wrong_later(&before, &stored, lines, rows);
        assert_eq!(wrong(&[], &[row("a", "1", 1)]), "nothing");
        assert_eq!(wrong(&[], &[row("a", "2", 1)]), "nothing");
        // Before or after what the next process did to the same record.
        let again = [save("a", "3"), saved(1)];
        assert_eq!(wrong(&again, &[row("a", "3", 1)]), "nothing");
        assert_eq!(wrong(&again, &[row("a", "2", 1)]), "nothing");
        assert!(wrong(&again, &[row("a", "1", 1)]).contains("rolled back"));
        let gone = [delete("a", 1), Line::Deleted(true)];
        assert_eq!(wrong(&gone, &[]), "nothing");
        assert_eq!(wrong(&gone, &[row("a", "2", 2)]), "nothing");
        assert!(wrong(&gone, &[row("a", "1", 1)]).contains("came back"));
        assert!(wrong(&gone, &[row("a", "2", 1)]).contains("given before"));
        assert!(wrong(&[], &[]).contains("is lost"));
    }

    #[test]
    fn an_insert_that_was_not_answered_may_be_done_later() {
        let before = [save("a", "1"), saved(1), save("b", "2")];
        let stored = [row("a", "1", 1)];
        let wrong =
            |lines: &[Line], rows: &[OAuthToken]| wrong_later(&before, &stored, lines, rows);
        let all = [row("a", "1", 1), row("c", "3", 3), row("b", "2", 2)];
        assert_eq!(wrong(&[save("c", "3"), saved(3)], &all), "nothing");
        let lines = [save("c", "3"), saved(3), save("b", "4"), saved(2)];
        assert_eq!(wrong(&lines, &all), "nothing");
        let lines = [save("c", "3"), saved(3), save("d", "4"), saved(2)];
        assert!(wrong(&lines, &all).contains("given before"));
    }

    #[test]
    fn a_delete_that_was_not_answered_may_be_done_later() {
        let before = [save("a", "1"), saved(1), delete("a", 1)];
        let stored = [row("a", "1", 1)];
        let wrong =
            |lines: &[Line], rows: &[OAuthToken]| wrong_later(&before, &stored, lines, rows);
        assert_eq!(wrong(&[], &[]), "nothing");
        assert_eq!(
            wrong(&[delete("a", 1), Line::Deleted(false)], &[]),
            "nothing"
        );
        assert_eq!(wrong(&[save("a", "2"), saved(1)], &[]), "nothing");
        let anew = [save("a", "2"), saved(2)];
        assert_eq!(wrong(&anew, &[row("a", "2", 2)]), "nothing");
        assert!(wrong(&anew, &[]).contains("is lost"));
        assert!(wrong(&[save("a", "2"), saved(1)], &[row("a", "1", 1)]).contains("rolled back"));
    }

    #[test]
    fn what_was_not_answered_is_over_at_the_next_comparison() {
        let mut heard = Acknowledged::default();
        for line in [save("a", "1"), saved(1), save("a", "2")] {
            heard.hear(line).unwrap();
        }
        heard.compare(&[row("a", "1", 1)]).unwrap();
        heard.compare(&[row("a", "1", 1)]).unwrap();
        assert!(heard.compare(&[row("a", "2", 1)]).is_err());
        // What was seen done cannot be done again.
        let mut heard = Acknowledged::default();
        for line in [save("a", "1"), saved(1), save("a", "2")] {
            heard.hear(line).unwrap();
        }
        heard.compare(&[row("a", "2", 1)]).unwrap();
        for line in [save("a", "3"), saved(1)] {
            heard.hear(line).unwrap();
        }
        assert!(heard.compare(&[row("a", "2", 1)]).is_err());
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
