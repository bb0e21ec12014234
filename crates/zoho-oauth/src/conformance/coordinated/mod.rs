//! The tier [`Coordinated`](super::Tier::Coordinated): one worker per key, among all processes that
//! use the store, and what is learned about a record reaches all of them.
//!
//! [`holders`] says who holds a key and for how long, [`turns`] lets eight processes compete for one,
//! [`memos`] says what holders leave to each other, [`stopped`] what counts of a holder that stood
//! still for too long, [`neighbours`] what the work on other records must not touch, and [`crowd`]
//! what becomes of the news that eight processes bring at once. [`changes`] says what a process hears
//! of the others, if the store can tell. What becomes of a single fact is a matter of every store:
//! see [`basic::facts`](super::basic::facts).
//!
//! # What these rules do not see
//! - **Your own cells.** A store that brings [`LeaseCells`](crate::store::LeaseCells) and leaves the
//!   rest to [`Leases`](crate::store::Leases) is held to these rules as a whole, and `Leases` looks
//!   at the clock twice: that a swap is refused after its last moment, and compares to the byte,
//!   only [`cells_are_compared_and_swapped`] sees. It takes cells and not a store, so no tier runs
//!   it and the macro makes no test of it. Call it in a test of your own.
//! - **Whose clock it is.** All processes of a run are on one machine and read one clock, so cells
//!   that answer the clock of whoever asks keep every rule, and two machines whose clocks differ by
//!   more than a lease would then both hold it. The moment must come from the server, in the same
//!   statement that reads or swaps the text: nothing but a look at that statement tells.
//! - **Nodes.** Where the store is a cluster, all processes may have reached the same node.
#![expect(
    clippy::missing_errors_doc,
    reason = "the error of a rule is that the store breaks it, and the rule is its doc"
)]

pub mod cells;
pub mod changes;
pub mod crowd;
pub mod holders;
pub mod memos;
pub mod neighbours;
pub(super) mod puppet;
pub mod stopped;
pub mod turns;

pub use cells::cells_are_compared_and_swapped;
pub use changes::*;
pub use crowd::*;
pub use holders::*;
pub use memos::*;
pub use neighbours::*;
pub use stopped::*;
pub use turns::*;

use std::time::Duration;

use super::Violation;
use super::subject::Subject;
use crate::store::{Coordination, CoordinationKey, Guarantee, Permit};
use crate::token::TokenId;

/// Hands the names of the rules to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_coordinated_rules {
    ($then:ident $($argument:tt)*) => {
        $crate::$then! {
            $($argument)*
            the_store_coordinates_processes
            one_task_holds_a_key
            one_process_holds_a_key
            a_released_key_is_free_at_once
            a_dropped_key_is_free_soon
            a_try_that_is_given_up_holds_nothing
            a_dead_holder_frees_its_key
            a_living_holder_keeps_its_key
            memos_pass_from_holder_to_holder
            memos_are_of_one_key
            a_new_record_has_no_memo
            keys_survive_the_work_on_others
            a_stopped_holder_is_replaced_and_refused
            an_opinion_after_the_lease_is_refused
            an_issue_counts_without_a_hold
            a_delete_does_not_wait_for_the_holder
            facts_and_saves_at_once_lose_nothing
            changes_are_heard_in_other_processes
        }
    };
}

crate::__conformance_coordinated_rules! { __conformance_list }

/// How long a key that was given up may stay taken. Far more than it takes.
const SOON: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

type Answer<T> = Result<T, Violation>;
type Held = Box<dyn Permit>;

fn key(number: u64) -> Answer<CoordinationKey> {
    let id = TokenId::new(number).map_err(|error| Violation::error("no such id", &error))?;
    Ok(CoordinationKey::record(id))
}

impl Subject {
    fn coordination(&self) -> Answer<&dyn Coordination> {
        self.store.coordination().ok_or_else(|| {
            Violation::new(
                "`coordination` answers `None`, so a token is refreshed once per process: \
                 implement it, or leave this tier out",
            )
        })
    }

    fn guarantee(&self) -> Answer<Guarantee> {
        Ok(self.coordination()?.guarantee())
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Answer<Option<Held>> {
        let tried = self.coordination()?.try_acquire(key).await;
        tried.map_err(|error| Violation::error("`try_acquire` failed", &error))
    }

    /// Takes a key that must be free. `when` says why it should be.
    async fn acquire(&self, key: &CoordinationKey, when: &str) -> Answer<Held> {
        let tried = self.try_acquire(key).await?;
        tried.ok_or_else(|| Violation::new(format!("`{}` is not free {when}", key.as_str())))
    }

    /// Takes a key that must become free within `bound`.
    async fn acquire_within(
        &self,
        bound: Duration,
        key: &CoordinationKey,
        when: &str,
    ) -> Answer<Held> {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(permit) = self.try_acquire(key).await? {
                return Ok(permit);
            }
            if began.elapsed() > bound {
                let text = format!("`{}` is not free {when}, after {bound:?}", key.as_str());
                return Err(Violation::new(text));
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    /// Breaks the rule if somebody can take the key.
    async fn is_held(&self, key: &CoordinationKey, when: &str) -> Answer<()> {
        match self.try_acquire(key).await? {
            None => Ok(()),
            Some(_) => Err(Violation::new(format!(
                "`{}` was given to two holders at once: {when}",
                key.as_str()
            ))),
        }
    }
}

async fn release(permit: Held, memo: Option<&crate::store::Memo>) -> Answer<()> {
    let released = permit.release(memo).await;
    released.map_err(|error| Violation::error("`release` failed", &error))
}

async fn memo_of(permit: &Held) -> Answer<crate::store::Memo> {
    let memo = permit.memo().await;
    memo.map_err(|error| Violation::error("`memo` failed", &error))
}

async fn set_memo(permit: &Held, memo: &crate::store::Memo) -> Answer<()> {
    let set = permit.set_memo(memo).await;
    set.map_err(|error| Violation::error("`set_memo` failed", &error))
}
