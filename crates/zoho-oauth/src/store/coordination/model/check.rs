//! What may happen next, what must hold, and how far it is explored.

use super::*;

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 10,
            cell: None,
            record: Some(Record {
                refresh: 0,
                access: 0,
                from: 0,
                end: 10,
            }),
            workers: vec![Worker::new(); self.workers],
            flying: None,
            issues: Vec::new(),
            left: self.luck,
            ghost: Ghost::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let mut nobody_moves = true;
        for index in (0..self.workers).filter(|index| state.is_at_work(*index)) {
            let worker = &state.workers[index];
            if !state.is_waiting(index) {
                nobody_moves = false;
                actions.push(Action::Step(index));
                let writes = matches!(worker.step, Step::Take(_) | Step::Note | Step::Release(_));
                if writes && state.left.lost_answers > 0 {
                    actions.push(Action::StepUnheard(index));
                }
            }
            if worker.step == Step::Ask {
                if state.left.refusals > 0 {
                    actions.push(Action::Refuse(index));
                }
                if state.left.lost_answers > 0 {
                    actions.push(Action::IssueUnheard(index));
                }
            }
            let holds = !matches!(worker.step, Step::Begin | Step::Take(_) | Step::Tell);
            if holds && state.left.renewals > 0 {
                actions.push(Action::Renew(index));
                if state.left.lost_answers > 0 {
                    actions.push(Action::RenewUnheard(index));
                }
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crash(index));
            }
        }
        if state.flying.is_some() {
            actions.push(Action::Land);
        }
        let is_somebody_left = (0..self.workers).any(|index| state.is_at_work(index));
        let may_wait = nobody_moves && is_somebody_left && state.now < self.end + 3 * LIFE;
        if state.now < self.end || may_wait {
            actions.push(Action::Tick);
        }
        if is_somebody_left && state.record.is_some() {
            if state.left.logins > 0 {
                actions.push(Action::Login);
            }
            if state.left.deletes > 0 {
                actions.push(Action::Delete);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(index) => state.step(index),
            Action::StepUnheard(index) => {
                state.left.lost_answers -= 1;
                state.write_unheard(index)?;
            }
            Action::Renew(index) => {
                state.left.renewals -= 1;
                state.renew(index, true)?;
            }
            Action::RenewUnheard(index) => {
                state.left.renewals -= 1;
                state.left.lost_answers -= 1;
                state.renew(index, false)?;
            }
            Action::Refuse(index) => {
                state.left.refusals -= 1;
                state.refuse(index);
            }
            Action::IssueUnheard(index) => {
                state.left.lost_answers -= 1;
                state.issue(index);
                // Whenever that was, it was not later.
                let now = at(state.now);
                let worker = &mut state.workers[index];
                worker.memo.settle_mint(now);
                worker.step = Step::Release(true);
            }
            Action::Crash(index) => {
                state.left.crashes -= 1;
                state.workers[index].step = Step::Dead;
            }
            Action::Land => {
                let it = state.flying.take()?;
                state.swap(&it).then_some(())?;
            }
            Action::Tick => state.now += 1,
            Action::Login => {
                state.left.logins -= 1;
                let record = state.record.as_mut()?;
                (record.refresh, record.from, record.access) = (1, 1, 100);
                record.end = state.now;
            }
            Action::Delete => {
                state.left.deletes -= 1;
                // In one transaction, as the stores do it.
                (state.record, state.cell) = (None, None);
                state.ghost.holder = None;
            }
        }
        state.tidy();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<Property<Self>> = vec![
            always("one worker at a time holds the lease", |_, state| {
                state.ghost.wrong != Some(Wrong::TwoHolders)
            }),
            always("an opinion needs the lease", |_, state| {
                state.ghost.wrong != Some(Wrong::OpinionWithoutHold)
            }),
            always("nobody loses the lease before its time", |_, state| {
                let held = state.ghost.holder.filter(|(_, until)| state.now < *until);
                held.is_none_or(|(hold, _)| state.lease().is_held_by(hold, at(state.now)))
            }),
            always("a fact is lost to nothing but newer news", |_, state| {
                let wrong = [Wrong::FactLost, Wrong::FactRolledBack];
                state.ghost.wrong.is_none_or(|it| !wrong.contains(&it))
            }),
            always(
                "an access token lies beside the refresh token that it came from",
                |_, state| {
                    state
                        .record
                        .is_none_or(|record| record.from == record.refresh)
                },
            ),
            always("a deleted record stays deleted", |setup, state| {
                state.left.deletes == setup.luck.deletes || state.record.is_none()
            }),
            always(
                "of one window, no more is issued than the budget",
                |_, state| most_in_a_window(state, |issue| issue.noted) <= BUDGET,
            ),
            always("what was issued is counted", is_counted),
            always("a lease that is not renewed ends", |_, state| {
                let later = at(state.now + LIFE);
                state.lease().take(0, later, ticks(LIFE)).is_ok()
            }),
            always("nobody is stuck", |setup, state| {
                let mut next = Vec::new();
                setup.actions(state, &mut next);
                !next.is_empty() || (0..setup.workers).all(|index| !state.is_at_work(index))
            }),
        ];
        properties.extend((self.reached)());
        properties
    }
}

/// How many issues of one refresh token lie in one window, from `start` of the first on.
fn most_in_a_window(state: &State, start: impl Fn(&Issue) -> i64) -> usize {
    let in_window = |first: &Issue| {
        let others = state.issues.iter().filter(|it| {
            it.refresh == first.refresh
                && start(it) >= start(first)
                && it.at < start(first) + WINDOW
        });
        others.count()
    };
    state.issues.iter().map(in_window).max().unwrap_or(0)
}

/// As long as the record holds a refresh token, the cell counts at least what Zoho issued for it
/// and was written down within the window.
fn is_counted(_: &Setup, state: &State) -> bool {
    let Some(record) = state.record else {
        return true;
    };
    let now = at(state.now);
    let memo = state.lease().memo();
    let memo = memo.about(&credential(record.refresh), now, ticks(WINDOW));
    let recent = state
        .issues
        .iter()
        .filter(|it| it.refresh == record.refresh && it.noted > state.now - WINDOW);
    recent.count() <= memo.minted_at.len()
}

fn always(name: &'static str, holds: fn(&Setup, &State) -> bool) -> Property<Setup> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, is_so: fn(&Setup, &State) -> bool) -> Property<Setup> {
    Property::sometimes(name, is_so)
}

const QUIET: Luck = Luck {
    crashes: 0,
    lost_answers: 0,
    renewals: 0,
    refusals: 0,
    logins: 0,
    deletes: 0,
};

/// Explores everything that can happen.
fn explore(setup: &Setup) {
    let began = std::time::Instant::now();
    let checker = setup.clone().checker().threads(2).spawn_bfs().join();
    println!(
        "{} states in {:?}: {} workers, {:?}",
        checker.unique_state_count(),
        began.elapsed(),
        setup.workers,
        setup.luck
    );
    checker.assert_properties();
}

fn reaches(end: End) -> Property<Setup> {
    match end {
        End::Used => sometimes("another one's token is used", |_, it| it.ended(End::Used)),
        End::Saved => sometimes("a token is saved", |_, it| it.ended(End::Saved)),
        End::SavedLate => sometimes("a late fact is saved", |_, it| it.ended(End::SavedLate)),
        End::Superseded => sometimes("a fact is superseded", |_, it| it.ended(End::Superseded)),
        End::Gone => sometimes("a record is gone", |_, it| it.ended(End::Gone)),
        End::GoneLate => sometimes("a fact comes too late", |_, it| it.ended(End::GoneLate)),
        End::LoginAgain => sometimes("another one hears of a verdict", |_, it| {
            let heard = |worker: &&Worker| worker.step == Step::End(End::LoginAgain);
            it.workers.iter().filter(heard).count() > 1
        }),
        End::Unheard => sometimes("a verdict is lost", |_, it| it.ended(End::Unheard)),
        End::Wait => sometimes("the budget is spent", |_, it| it.ended(End::Wait)),
        End::Failed => sometimes("a worker fails", |_, it| it.ended(End::Failed)),
    }
}

#[test]
fn two_workers_that_pause_and_one_that_crashes() {
    explore(&Setup {
        workers: 2,
        end: 15,
        luck: Luck {
            crashes: 1,
            renewals: 1,
            refusals: 1,
            ..QUIET
        },
        reached: || {
            let crashed = sometimes("another one takes over from the dead", |_, it| {
                let dead = |worker: &Worker| worker.step == Step::Dead;
                it.workers.iter().any(dead) && it.issues.len() > 1
            });
            let ends = [
                End::Used,
                End::Saved,
                End::SavedLate,
                End::LoginAgain,
                End::Unheard,
            ];
            let more = [End::Wait, End::Failed, End::Superseded].map(reaches);
            let all = ends.map(reaches).into_iter().chain(more);
            all.chain([crashed]).collect()
        },
    });
}

#[test]
fn a_sleeper_exceeds_the_budget() {
    explore(&Setup {
        workers: 2,
        end: 10 + WINDOW + 2,
        luck: QUIET,
        reached: || {
            vec![sometimes("a sleeper exceeds the budget", |_, it| {
                most_in_a_window(it, |issue| issue.at) > BUDGET
            })]
        },
    });
}

#[test]
fn answers_that_are_lost() {
    explore(&Setup {
        workers: 2,
        end: 13,
        luck: Luck {
            lost_answers: 1,
            renewals: 1,
            ..QUIET
        },
        reached: || {
            let late = sometimes("a write is done before that is known", |_, it| {
                let asks = |worker: &Worker| matches!(worker.step, Step::FindOut(_));
                it.flying.is_none() && it.workers.iter().any(asks)
            });
            let unheard = sometimes("an issue is not heard of", |_, it| {
                it.issues.len() == 1 && it.ended(End::Failed) && it.ended(End::Wait)
            });
            vec![late, unheard, reaches(End::Failed), reaches(End::Saved)]
        },
    });
}

#[test]
fn a_new_login_and_a_delete_meanwhile() {
    explore(&Setup {
        workers: 2,
        end: 13,
        luck: Luck {
            logins: 1,
            deletes: 1,
            ..QUIET
        },
        reached: || {
            let ends = [End::Saved, End::SavedLate, End::Superseded, End::GoneLate];
            ends.map(reaches).into()
        },
    });
}

#[test]
fn three_workers() {
    explore(&Setup {
        workers: 3,
        end: 13,
        luck: Luck {
            crashes: 1,
            ..QUIET
        },
        reached: || [End::Used, End::Saved, End::SavedLate].map(reaches).into(),
    });
}
