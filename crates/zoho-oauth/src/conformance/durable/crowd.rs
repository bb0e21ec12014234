//! What is there when several processes save at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::child::{OWN_USERS, Process, SHARED_USERS, WRITE_TOGETHER};
use super::kill::listen;
use super::lines::Line;
use super::script::{record, whole};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{Place, StoreFactory, Verdict, Violation};
use crate::token::TokenId;

const PROCESSES: u64 = 8;
const ELDERS: usize = 20;
const PATIENCE: Duration = Duration::from_mins(2);

/// Eight processes that save and delete at once lose nothing: not their own records, not those that
/// were there before. A login that all of them save is one record, and no id is given twice.
pub async fn nothing_is_lost_when_processes_save_at_once(factory: &StoreFactory) -> Verdict {
    ensure!(cfg!(unix), "this rule needs the processes of Unix");
    let subject = Subject::open(factory).await?;
    let mut saved = Saved::default();
    for number in 0..ELDERS {
        let (user, stamp) = (format!("elder-{number}"), "0-0");
        let id = subject.save(&record(&user, stamp)).await?;
        saved.note(&user, stamp, id)?;
    }
    let (starter, place) = (factory.clone(), subject.place.clone());
    let run = tokio::task::spawn_blocking(move || run_together(&starter, &place));
    let told = run
        .await
        .map_err(|panic| Violation::new(format!("a panic: {panic}")))??;
    for lines in told {
        saved.hear(lines)?;
    }
    // For the store that was open all along, and for one that was not.
    saved.compare(&subject).await?;
    let fresh = Subject::open_at(factory, subject.place.clone()).await?;
    saved.compare(&fresh).await
}

/// Starts all processes, lets them begin together, and returns what each told.
fn run_together(factory: &StoreFactory, place: &Place) -> Result<Vec<Vec<Line>>, Violation> {
    let mut children = Vec::new();
    for seed in 1..=PROCESSES {
        let mut process = Process::start(factory, WRITE_TOGETHER, place, seed)?;
        let lines = listen(&mut process)?;
        children.push((process, lines));
    }
    let mut told: Vec<Vec<Line>> = Vec::new();
    for (_, lines) in &children {
        let first = lines.recv_timeout(PATIENCE);
        match first {
            Ok(Line::Ready) => told.push(Vec::new()),
            Ok(line) => return Err(Violation::new(format!("a child began with `{line}`"))),
            Err(_) => return Err(Violation::new("a child did not open the store")),
        }
    }
    let starts: Vec<_> = children
        .iter_mut()
        .map(|(process, _)| process.input())
        .collect();
    drop(starts);
    for ((_, lines), told) in children.iter().zip(&mut told) {
        while told.last() != Some(&Line::Finished) {
            match lines.recv_timeout(PATIENCE) {
                Ok(Line::Failed(why)) => return Err(Violation::new(why)),
                Ok(line) => told.push(line),
                Err(_) => return Err(Violation::new("a child ended early or hangs")),
            }
        }
    }
    Ok(told)
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
