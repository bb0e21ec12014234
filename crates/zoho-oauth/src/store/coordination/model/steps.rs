//! What each step of a worker does.

use super::super::lease::Lost;
use super::super::{Fact, Ruling, Verdict};
use super::*;

impl State {
    pub(super) fn lease(&self) -> Lease {
        self.cell.clone().unwrap_or_default()
    }

    /// Compares and swaps, as every store does it.
    pub(super) fn swap(&mut self, it: &Flying) -> bool {
        let is_late = it.write.not_after.is_some_and(|end| at(self.now) > end);
        if self.cell != it.before || is_late {
            return false;
        }
        self.cell.clone_from(&it.write.lease);
        self.account(it.by, it.kind);
        true
    }

    /// Keeps account of a write that was done.
    fn account(&mut self, by: Hold, kind: Kind) {
        let held = self.ghost.holder;
        if let Kind::Take(_) = kind {
            if held.is_some_and(|(_, until)| self.now < until) {
                self.ghost.wrong = Some(Wrong::TwoHolders);
            }
        } else if held.is_none_or(|(holder, until)| holder != by || self.now > until) {
            self.ghost.wrong = Some(Wrong::OpinionWithoutHold);
        }
        self.ghost.holder = match kind {
            Kind::Take(until) | Kind::Renew(until) => Some((by, until)),
            Kind::Remember => held,
            Kind::Release => None,
        };
    }

    /// The worker reads the cell. Whether it still holds the lease.
    fn see(&mut self, worker: usize) -> bool {
        let (lease, now) = (self.lease(), at(self.now));
        let worker = &mut self.workers[worker];
        worker.known = lease;
        worker
            .hold
            .is_some_and(|hold| worker.known.is_held_by(hold, now))
    }

    /// What the worker's step writes into the cell, as far as it knows that: instead of what, and by
    /// whom. Nothing if it knows that its lease is lost.
    fn write_of(&self, worker: usize) -> Option<Result<Flying, Lost>> {
        let worker = &self.workers[worker];
        let by = worker.hold?;
        let mut before = Some(worker.known.clone());
        let (write, kind) = match &worker.step {
            Step::Take(take) => {
                before.clone_from(&take.0);
                (Ok(take.1.clone()), Kind::Take(take.2))
            }
            Step::Note => {
                let write = worker.known.remember(by, worker.memo.clone());
                (write, Kind::Remember)
            }
            Step::Release(with_memo) => {
                let memo = with_memo.then(|| worker.memo.clone());
                (worker.known.release(by, memo, false), Kind::Release)
            }
            _ => return None,
        };
        Some(write.map(|write| Flying {
            before,
            write,
            by,
            kind,
        }))
    }

    /// What a worker does after its write was done.
    fn go_on(&mut self, index: usize, done: Flying) {
        let worker = &mut self.workers[index];
        worker.known = done.write.lease.unwrap_or_default();
        worker.step = match done.kind {
            Kind::Take(_) => Step::Look,
            Kind::Remember => Step::Ask,
            Kind::Release | Kind::Renew(_) => Step::End(worker.kept.unwrap_or(End::Failed)),
        };
    }

    /// What a worker does when it is told that its lease is lost.
    fn has_lost(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.step = match (worker.issued, worker.kept) {
            (Some(_), kept) => {
                worker.kept = match kept {
                    Some(End::Saved) => Some(End::SavedLate),
                    kept => kept,
                };
                Step::Tell
            }
            (None, Some(End::LoginAgain)) => Step::End(End::Unheard),
            (None, kept) => Step::End(kept.unwrap_or(End::Failed)),
        };
    }

    fn write(&mut self, index: usize) {
        let Some(write) = self.write_of(index) else {
            return;
        };
        let Ok(write) = write else {
            return self.has_lost(index);
        };
        if self.swap(&write) {
            self.go_on(index, write);
        } else if let Kind::Take(_) = write.kind {
            self.workers[index].hold = None;
            self.workers[index].step = Step::Begin;
        } else if !self.see(index) {
            self.has_lost(index);
        }
    }

    /// The write is on its way, and the worker does not know what becomes of it.
    pub(super) fn write_unheard(&mut self, index: usize) -> Option<()> {
        let write = self.write_of(index)?.ok()?;
        self.workers[index].step = Step::FindOut(Box::new(write.clone()));
        self.flying = Some(write);
        Some(())
    }

    fn find_out(&mut self, index: usize, write: Flying) {
        if self.cell == write.write.lease || self.cell == write.before && self.swap(&write) {
            return self.go_on(index, write);
        }
        // It is never found out: the lease, if it is held, is left to end.
        let end = self.workers[index].kept.unwrap_or(End::Failed);
        self.workers[index].step = Step::End(end);
    }

    pub(super) fn step(&mut self, index: usize) {
        let now = self.now;
        match self.workers[index].step.clone() {
            Step::Begin => {
                // Each worker takes the lease once at most, so its name is never used twice.
                let name = index as u64 + 1;
                let taken = self.lease().take(name, at(now), ticks(LIFE));
                if let Ok((write, hold)) = taken {
                    let step = Step::Take(Box::new((self.cell.clone(), write, now + LIFE)));
                    self.workers[index].hold = Some(hold);
                    self.workers[index].step = step;
                }
            }
            Step::Take(_) | Step::Note | Step::Release(_) => self.write(index),
            Step::FindOut(unheard) => self.find_out(index, *unheard),
            Step::Look => self.look(index),
            Step::Ask => {
                let issue = self.issue(index);
                let worker = &mut self.workers[index];
                worker.memo.settle_mint(at(now));
                worker.issued = Some(issue);
                worker.step = Step::Keep;
            }
            Step::Keep => self.keep(index),
            Step::Tell => {
                // Without a cell the record is gone, or nothing of it counts any more.
                if let (Some(issue), Some(lease)) = (self.workers[index].issued, &self.cell) {
                    let told = lease.with_issue(&credential(issue.refresh), at(issue.at));
                    if let Some(write) = told {
                        self.cell = write.lease;
                    }
                }
                let end = self.workers[index].kept.unwrap_or(End::Failed);
                self.workers[index].step = Step::End(end);
            }
            Step::End(_) | Step::Dead => {}
        }
    }

    fn look(&mut self, index: usize) {
        let (now, record) = (self.now, self.record);
        let worker = &mut self.workers[index];
        worker.before = record;
        let end = match record {
            None => Some(End::Gone),
            Some(record) if record.end > now => Some(End::Used),
            Some(record) => {
                let memo = worker.known.memo();
                worker.memo = memo.about(&credential(record.refresh), at(now), ticks(WINDOW));
                let wait = worker.memo.budget_wait(BUDGET, at(now), ticks(WINDOW));
                let is_dead = worker.memo.verdict_of(None).is_some();
                wait.map(|_| End::Wait)
                    .or(is_dead.then_some(End::LoginAgain))
            }
        };
        worker.kept = end;
        worker.step = if end.is_some() {
            Step::Release(false)
        } else {
            worker.memo.note_mint(at(now));
            Step::Note
        };
    }

    /// Zoho issues an access token.
    pub(super) fn issue(&mut self, index: usize) -> Issue {
        let worker = &self.workers[index];
        let issue = Issue {
            refresh: worker.before.map_or(0, |record| record.refresh),
            access: u8::try_from(self.issues.len() + 1).unwrap(),
            noted: worker.memo.minted_at.last().unwrap().as_millis(),
            at: self.now,
        };
        self.issues.push(issue);
        issue
    }

    fn keep(&mut self, index: usize) {
        let worker = &self.workers[index];
        let (Some(before), Some(issue)) = (worker.before, worker.issued) else {
            return;
        };
        let news = Record {
            access: issue.access,
            from: issue.refresh,
            end: issue.at + TOKEN_LIFE,
            ..before
        };
        let mut answer = news.token();
        answer.refresh_token = None;
        let fact = Fact::new(TokenId::new(1).unwrap(), before.token(), answer);
        let stored = self.record;
        let ruling = fact.ruling(stored.map(Record::token).as_ref());
        let end = match ruling {
            Ruling::Save(token) => {
                self.record = Some(Record::of(&token));
                End::Saved
            }
            Ruling::Superseded => End::Superseded,
            Ruling::Gone => End::GoneLate,
        };
        // What must be, told without the ruling.
        if let (Some(stored), Some(record)) = (stored, self.record)
            && stored.refresh == issue.refresh
        {
            if record.access != issue.access && record.end <= news.end {
                self.ghost.wrong = Some(Wrong::FactLost);
            }
            if stored.access != before.access && record.end < stored.end {
                self.ghost.wrong = Some(Wrong::FactRolledBack);
            }
        }
        self.workers[index].kept = Some(end);
        self.workers[index].step = Step::Release(true);
    }

    pub(super) fn refuse(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.memo.minted_at.pop();
        worker.memo.judge(Verdict {
            code: "invalid_code".to_owned(),
            at: at(self.now),
            asked: None,
        });
        worker.kept = Some(End::LoginAgain);
        worker.step = Step::Release(true);
    }

    pub(super) fn renew(&mut self, index: usize, is_heard: bool) -> Option<()> {
        let hold = self.workers[index].hold?;
        let lease = self.cell.clone()?;
        let write = lease.renew(hold, at(self.now), ticks(LIFE)).ok()?;
        let renewal = Flying {
            before: Some(lease),
            write,
            by: hold,
            kind: Kind::Renew(self.now + LIFE),
        };
        if is_heard {
            self.swap(&renewal).then_some(())?;
            self.workers[index].known = renewal.write.lease?;
        } else {
            self.flying = Some(renewal);
        }
        Some(())
    }

    /// Forgets what a worker that has ended knows: it does not matter any more.
    pub(super) fn tidy(&mut self) {
        for worker in &mut self.workers {
            if let Step::End(_) | Step::Dead = worker.step {
                let step = worker.step.clone();
                *worker = Worker {
                    step,
                    ..Worker::new()
                };
            }
        }
    }

    pub(super) fn is_at_work(&self, index: usize) -> bool {
        !matches!(self.workers[index].step, Step::End(_) | Step::Dead)
    }

    /// Whether the worker waits for another one's lease to end.
    pub(super) fn is_waiting(&self, index: usize) -> bool {
        let taken = || self.lease().take(0, at(self.now), ticks(LIFE));
        self.workers[index].step == Step::Begin && taken().is_err()
    }

    pub(super) fn ended(&self, end: End) -> bool {
        let ended = |worker: &Worker| worker.step == Step::End(end);
        self.workers.iter().any(ended)
    }
}
