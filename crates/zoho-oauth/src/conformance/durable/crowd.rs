//! What is there when several processes save at once.

use std::collections::{BTreeMap, BTreeSet};

use super::writers::{OWN_USERS, SHARED_USERS, WRITE_TOGETHER};
use crate::conformance::child::run_together;

use super::script::{record, whole};
use crate::conformance::lines::Line;
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict};
use crate::token::TokenId;

const PROCESSES: u64 = 8;
const ELDERS: usize = 20;

/// Eight processes that save and delete at once lose nothing: not their own records, not those that
/// were there before. A login that all of them save is one record, and no id is given twice.
pub async fn nothing_is_lost_when_processes_save_at_once(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let mut saved = Saved::default();
    for number in 0..ELDERS {
        let (user, stamp) = (format!("elder-{number}"), "0-0");
        let id = subject.save(&record(&user, stamp)).await?;
        saved.note(&user, stamp, id)?;
    }
    for lines in run_together(factory, WRITE_TOGETHER, &subject.place, PROCESSES).await? {
        saved.hear(lines)?;
    }
    // For the store that was open all along, and for one that was not.
    saved.compare(&subject).await?;
    let fresh = Subject::open_at(factory, subject.place.clone()).await?;
    saved.compare(&fresh).await
}

/// What all processes were told by the store.
#[derive(Debug, Default)]
struct Saved {
    ids: BTreeMap<String, TokenId>,
    deleted: BTreeSet<String>,
    /// By user, the stamps that may be stored: the last of each process.
    stamps: BTreeMap<String, Vec<String>>,
}

impl Saved {
    fn note(&mut self, user: &str, stamp: &str, id: TokenId) -> Verdict {
        let known = *self.ids.entry(user.to_owned()).or_insert(id);
        ensure!(
            known == id,
            "`{user}` was saved under two ids, {known} and {id}"
        );
        self.stamps
            .entry(user.to_owned())
            .or_default()
            .push(stamp.to_owned());
        Ok(())
    }

    /// Takes in what one process told.
    fn hear(&mut self, lines: Vec<Line>) -> Verdict {
        let mut last: BTreeMap<String, (String, TokenId)> = BTreeMap::new();
        let mut open = None;
        for line in lines {
            match (line, open.take()) {
                (Line::Saved(id), Some(Line::Save { user, stamp })) => {
                    if let Some((_, known)) = last.insert(user.clone(), (stamp, id)) {
                        ensure!(
                            known == id,
                            "`{user}` was saved under two ids, {known} and {id}"
                        );
                    }
                }
                (Line::Deleted(was_there), Some(Line::Delete { user, .. })) => {
                    ensure!(
                        was_there,
                        "`{user}` was saved, and `delete_token` answered `false`"
                    );
                    self.deleted.insert(user);
                }
                (line, _) => open = Some(line),
            }
        }
        for (user, (stamp, id)) in last {
            self.note(&user, &stamp, id)?;
        }
        Ok(())
    }

    async fn compare(&self, subject: &Subject) -> Verdict {
        let distinct: BTreeSet<_> = self.ids.values().collect();
        ensure!(
            distinct.len() == self.ids.len(),
            "two users were saved under one id"
        );
        let expected = ELDERS + SHARED_USERS + OWN_USERS * usize::try_from(PROCESSES).unwrap_or(0);
        ensure!(
            self.ids.len() == expected,
            "{} users were acknowledged and not {expected}",
            self.ids.len()
        );
        let mut found = BTreeSet::new();
        for row in subject.all().await? {
            let (user, stamp) = whole(&row)?;
            ensure!(
                !self.deleted.contains(&user),
                "`{user}` came back after it was deleted"
            );
            ensure!(
                row.id.as_ref() == self.ids.get(&user),
                "`{user}` was saved under the id {:?} and has {:?}",
                self.ids.get(&user),
                row.id
            );
            let possible = self.stamps.get(&user);
            ensure!(
                possible.is_some_and(|stamps| stamps.contains(&stamp)),
                "`{user}` holds {stamp}, and the last saves were {possible:?}"
            );
            ensure!(found.insert(user.clone()), "`{user}` is there twice");
        }
        let kept = self.ids.keys().filter(|user| !self.deleted.contains(*user));
        let lost: Vec<_> = kept.filter(|user| !found.contains(*user)).collect();
        ensure!(
            lost.is_empty(),
            "{} acknowledged records are lost: {lost:?}",
            lost.len()
        );
        Ok(())
    }
}
