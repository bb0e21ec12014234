//! Stores for a fleet, each with one flaw that lets two workers do the same, or lose what one did.
//!
//! They are the store of `examples/own_fleet_store.rs`, which is right, with one part exchanged.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use zoho_oauth::conformance::{Offer, Place, StoreFactory, Violation, coordinated};
use zoho_oauth::store::{
    Cell, Change, Coordination, CoordinationKey, Fact, Kept, LeaseCells, Leases, Memo, Permit,
};
use zoho_oauth::{
    Guarantee, OAuthToken, Result, Timestamp, TokenId, TokenQuery, TokenStore,
    token_store_conformance,
};

use crate::stores::own_fleet_store::{Cells, FleetStore, LIFE, open as open_right};
use crate::stores::own_store::JsonStore;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Answers no coordination.
    OffersNothing,
    /// Says that it reaches no further than the process.
    PromisesNothing,
    /// Gives everybody a permit.
    RefusesNobody,
    /// Holds keys in memory, and says that all processes know.
    KnowsItsProcessOnly,
    /// Swaps without comparing.
    SwapsBlindly,
    /// Does not look at its clock when it swaps.
    ForgetsTheTime,
    /// Gives a lease for an hour.
    HoldsTooLong,
    /// Lets a lease end although its holder lives.
    RefusesRenewals,
    /// Has one cell for all keys.
    MixesKeys,
    /// Writes down nothing but who holds a key.
    ForgetsMemos,
    /// Keeps an access token, whatever it came from.
    BelievesEveryFact,
    /// Reads, decides, and then saves.
    DecidesTooEarly,
    /// Forgets with a record also those whose numbers begin with its own.
    DeletesByPrefix,
    /// Tells what is changed in its own process.
    HearsItselfOnly,
    /// Tells of deletes, and not of new refresh tokens.
    HearsNoLogins,
    /// Tells of deletes, but not when all records go at once.
    HearsNoClearing,
    /// Gives one receiver that hears everything, and then deaf ones.
    HearsOnce,
}

#[derive(Debug)]
struct Flawed {
    flaw: Flaw,
    right: FleetStore,
    leases: Leases,
    changes: broadcast::Sender<Change>,
    receivers: AtomicUsize,
}

impl Flawed {
    fn tells_itself(&self, change: Change) {
        if self.flaw == Flaw::HearsItselfOnly {
            let _ = self.changes.send(change);
        }
    }

    async fn forget(&self, id: TokenId) -> Result<()> {
        let (cells, key) = (&self.right.cells, CoordinationKey::record(id));
        loop {
            let text = cells.read_cell(&key).await?.text;
            if cells.swap_cell(&key, text.as_deref(), None, None).await? {
                return Ok(());
            }
        }
    }

    /// Looks at the tokens again and again, and tells what it finds changed.
    async fn listen(flaw: Flaw, file: PathBuf, changes: broadcast::Sender<Change>) {
        let store = JsonStore(file);
        let mut known: Vec<(Option<TokenId>, _)> = Vec::new();
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let Ok(rows) = store.get_tokens().await else {
                continue;
            };
            let is_cleared = rows.is_empty() && flaw == Flaw::HearsNoClearing;
            let now: Vec<_> = rows
                .into_iter()
                .map(|row| (row.id, row.refresh_token))
                .collect();
            // Also what was not there before: a login may be replaced between two looks.
            let logins = now.iter().filter(|_| flaw != Flaw::HearsNoLogins);
            let logins = logins.filter(|row| !known.contains(*row));
            let ids: HashSet<_> = now.iter().map(|(id, _)| *id).collect();
            let deleted = known.iter().filter(|_| !is_cleared);
            let deleted = deleted.filter(|(id, _)| !ids.contains(id));
            for (id, _) in logins.chain(deleted) {
                let _ = changes.send(Change::Record(id.unwrap()));
            }
            known = now;
        }
    }
}

async fn open(flaw: Flaw, place: Place) -> Result<Flawed> {
    let right = open_right(place).await?;
    let (changes, _) = broadcast::channel(100);
    if matches!(
        flaw,
        Flaw::HearsNoLogins | Flaw::HearsNoClearing | Flaw::HearsOnce
    ) {
        let file = right.tokens.0.clone();
        tokio::spawn(Flawed::listen(flaw, file, changes.clone()));
    }
    let cells = FlawedCells {
        flaw,
        right: right.cells.clone(),
    };
    let life = match flaw {
        Flaw::HoldsTooLong => Duration::from_hours(1),
        _ => LIFE,
    };
    Ok(Flawed {
        flaw,
        right,
        leases: Leases::new(cells).with_life(life),
        changes,
        receivers: AtomicUsize::new(0),
    })
}

#[derive(Debug)]
struct FlawedCells {
    flaw: Flaw,
    right: Cells,
}

impl FlawedCells {
    fn key(&self, key: &CoordinationKey) -> CoordinationKey {
        match self.flaw {
            Flaw::MixesKeys => CoordinationKey::record(TokenId::MAX),
            _ => key.clone(),
        }
    }
}

#[async_trait]
impl LeaseCells for FlawedCells {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        self.right.read_cell(&self.key(key)).await
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        let key = self.key(key);
        let present = self.right.read_cell(&key).await?.text;
        let (before, not_after) = match self.flaw {
            Flaw::SwapsBlindly => (present.as_deref(), not_after),
            Flaw::ForgetsTheTime => (before, None),
            _ => (before, not_after),
        };
        let holder = |text: Option<&str>| {
            let text: serde_json::Value = serde_json::from_str(text?).ok()?;
            text.pointer("/lease/holder/name").cloned()
        };
        let is_renewal = holder(after).is_some() && holder(before) == holder(after);
        if self.flaw == Flaw::RefusesRenewals && is_renewal {
            return Ok(true);
        }
        self.right.swap_cell(&key, before, after, not_after).await
    }
}

#[async_trait]
impl TokenStore for Flawed {
    fn coordination(&self) -> Option<&dyn Coordination> {
        (self.flaw != Flaw::OffersNothing).then_some(self)
    }
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.right.find_token(query).await
    }
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.right.find_token_by_id(id).await
    }
    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.right.get_tokens().await
    }
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let id = self.right.save_token(token).await?;
        self.tells_itself(Change::Record(id));
        Ok(id)
    }
    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let was_there = self.right.delete_token(id).await?;
        self.tells_itself(Change::Record(id));
        if self.flaw == Flaw::DeletesByPrefix {
            for digit in 0..10 {
                self.forget(TokenId::new(id.get() * 10 + digit)?).await?;
            }
        }
        Ok(was_there)
    }
    async fn delete_tokens(&self) -> Result<usize> {
        let count = self.right.delete_tokens().await?;
        self.tells_itself(Change::Everything);
        Ok(count)
    }
    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        match self.flaw {
            Flaw::HearsItselfOnly | Flaw::HearsNoLogins | Flaw::HearsNoClearing => {
                Some(self.changes.subscribe())
            }
            Flaw::HearsOnce => Some(match self.receivers.fetch_add(1, Ordering::SeqCst) {
                0 => self.changes.subscribe(),
                _ => broadcast::channel(1).1,
            }),
            _ => None,
        }
    }
    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        match self.flaw {
            Flaw::BelievesEveryFact => {
                let saved = self.right.save_token(fact.news()).await;
                saved.map(|_| Kept::Saved)
            }
            Flaw::DecidesTooEarly => {
                let stored = self.right.find_token_by_id(fact.id()).await?;
                // A way to a server and back. With none, a busy machine lets one process do all its
                // work before the next begins, and nothing comes between.
                tokio::time::sleep(Duration::from_millis(2)).await;
                match fact.ruling(stored.as_ref()) {
                    zoho_oauth::store::Ruling::Save(record) => {
                        let saved = self.right.save_token(&record).await;
                        saved.map(|_| Kept::Saved)
                    }
                    ruling => Ok(ruling.kept(stored.as_ref())),
                }
            }
            _ => self.right.save_fact(fact).await,
        }
    }
}

static HELD: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// A permit of this process, or of nobody.
#[derive(Debug)]
struct Local(Option<String>);

impl Drop for Local {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(held), Some(key)) = (held.as_mut(), &self.0) {
            held.remove(key);
        }
    }
}

#[async_trait]
impl Permit for Local {
    async fn memo(&self) -> Result<Memo> {
        Ok(Memo::default())
    }
    async fn set_memo(&self, _: &Memo) -> Result<()> {
        Ok(())
    }
}

/// A permit that keeps nothing.
#[derive(Debug)]
struct Forgetful(Box<dyn Permit>);

#[async_trait]
impl Permit for Forgetful {
    async fn memo(&self) -> Result<Memo> {
        self.0.memo().await
    }
    async fn set_memo(&self, _: &Memo) -> Result<()> {
        Ok(())
    }
    async fn release(&self, _: Option<&Memo>) -> Result<()> {
        self.0.release(None).await
    }
}

#[async_trait]
impl Coordination for Flawed {
    fn guarantee(&self) -> Guarantee {
        match self.flaw {
            Flaw::PromisesNothing => Guarantee::Process,
            Flaw::KnowsItsProcessOnly => Guarantee::Host,
            _ => Guarantee::Fleet,
        }
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        match self.flaw {
            Flaw::RefusesNobody => Ok(Some(Box::new(Local(None)))),
            Flaw::KnowsItsProcessOnly => {
                let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
                let key = key.as_str().to_owned();
                let is_new = held.get_or_insert_default().insert(key.clone());
                Ok(is_new.then(|| Box::new(Local(Some(key))) as Box<dyn Permit>))
            }
            Flaw::ForgetsMemos => {
                let permit = self.leases.try_acquire(key).await?;
                Ok(permit.map(|permit| Box::new(Forgetful(permit)) as Box<dyn Permit>))
            }
            _ => self.leases.try_acquire(key).await,
        }
    }
}

/// A test that one rule finds one flaw, in a module of its own for its child processes.
macro_rules! flaws {
    ($($module:ident: $flaw:ident breaks $tier:ident::$rule:ident, $text:literal;)*) => {
        $(
            mod $module {
                use super::*;

                async fn open(place: Place) -> Result<Flawed> {
                    super::open(Flaw::$flaw, place).await
                }

                token_store_conformance!(child, open);

                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn is_found() {
                    let factory = StoreFactory::new(open)
                        .with_lease(LIFE)
                        .with_child_test(concat!(module_path!(), "::conformance_child"));
                    let verdict = zoho_oauth::conformance::$tier::$rule(&factory).await;
                    let violation: Violation = verdict.expect_err("the flaw should be found");
                    println!("{violation}");
                    assert!(violation.to_string().contains($text), "{violation}");
                }
            }
        )*
    };
}

flaws! {
    nothing: OffersNothing breaks coordinated::the_store_coordinates_processes, "leave this tier out";
    process: PromisesNothing breaks coordinated::the_store_coordinates_processes, "Process";
    everybody: RefusesNobody breaks coordinated::one_task_holds_a_key, "at once";
    memory: KnowsItsProcessOnly breaks coordinated::one_process_holds_a_key, "";
    memory_of_another: KnowsItsProcessOnly breaks coordinated::a_released_key_is_free_at_once, "two holders at once";
    blind: SwapsBlindly breaks coordinated::one_process_holds_a_key, "";
    an_hour: HoldsTooLong breaks coordinated::a_dead_holder_frees_its_key, "is not free";
    not_renewed: RefusesRenewals breaks coordinated::a_living_holder_keeps_its_key, "its holder lives";
    one_cell: MixesKeys breaks coordinated::memos_are_of_one_key, "begins with";
    no_memo: ForgetsMemos breaks coordinated::memos_pass_from_holder_to_holder, "reads";
    every_fact: BelievesEveryFact breaks basic::a_fact_is_superseded_by_what_is_newer, "Superseded";
    too_early: DecidesTooEarly breaks coordinated::facts_and_saves_at_once_lose_nothing, "";
    prefixes: DeletesByPrefix breaks coordinated::keys_survive_the_work_on_others, "work";
    itself: HearsItselfOnly breaks coordinated::changes_are_heard_in_other_processes, "another process saved a new refresh token";
    no_logins: HearsNoLogins breaks coordinated::changes_are_heard_in_other_processes, "saved a new refresh token";
    no_clearing: HearsNoClearing breaks coordinated::changes_are_heard_in_other_processes, "deleted all records";
    one_receiver: HearsOnce breaks coordinated::changes_are_heard_in_other_processes, "closed";
}

/// The rule about what a store need not offer tries nothing, and says so.
#[tokio::test]
async fn changes_that_are_not_offered_are_not_asked_for() {
    let factory = StoreFactory::new(open_right);
    let verdict = coordinated::changes_are_heard_in_other_processes(&factory).await;
    assert_eq!(verdict, Ok(Offer::None));
}

#[tokio::test]
async fn cells_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let cells = |flaw| FlawedCells {
        flaw,
        right: Cells(folder.path().join("tokens")),
    };
    let right = cells(Flaw::OffersNothing);
    coordinated::cells_are_compared_and_swapped(&right)
        .await
        .unwrap();
    for (flaw, text) in [
        (Flaw::SwapsBlindly, "answered true"),
        (Flaw::ForgetsTheTime, "not after Some"),
        (Flaw::MixesKeys, "another key"),
    ] {
        let verdict = coordinated::cells_are_compared_and_swapped(&cells(flaw)).await;
        let violation = verdict.expect_err("the flaw should be found").to_string();
        assert!(violation.contains(text), "{violation}");
        std::fs::remove_file(folder.path().join("tokens.cells")).unwrap();
    }
}
