//! Which part a child process plays.

use super::child::pipe;
use super::coordinated::{crowd, puppet, turns};
use super::durable::writers;
use super::environment;
use super::factory::{Place, StoreFactory};
use super::lines::Line;
use super::report::Violation;
use super::subject::Subject;

/// Does the part of a child process of the kit, if this process is one; `true` when it was.
///
/// The tiers with processes start the program of this process again, with environment variables
/// that say what to do. In a test binary `token_store_conformance!` takes care of it. Any other
/// program calls this first in `main`, with the same factory, and ends when the answer is `true`:
///
/// ```no_run
/// # use zoho_oauth::{ListStore, Result};
/// use zoho_oauth::conformance::{Place, StoreFactory, Tier, check, child_main};
///
/// # async fn open(_: Place) -> Result<ListStore> { Ok(ListStore::new()) }
/// # async fn example() {
/// if child_main(StoreFactory::new(open)).await {
///     return;
/// }
/// let report = check(Tier::Durable, StoreFactory::new(open)).await;
/// assert!(report.is_conformant(), "{report}");
/// # }
/// ```
pub async fn child_main(factory: StoreFactory) -> bool {
    if !environment::is_child() {
        return false;
    }
    let told = match play(&factory).await {
        Ok(()) => Line::Finished.tell(),
        Err(violation) => Line::Failed(violation.to_string()).tell(),
    };
    // A parent that is gone cannot be told.
    drop(told);
    true
}

async fn play(factory: &StoreFactory) -> Result<(), Violation> {
    let order = environment::child_order()
        .ok_or_else(|| Violation::new("the child's environment is incomplete"))?;
    let place = Place::existing(order.path, order.name);
    let subject = Subject::open_at(factory, place).await?;
    Line::Ready.tell().map_err(pipe)?;
    match order.part.as_str() {
        writers::WRITE_UNTIL_KILLED => writers::write_until_killed(&subject, order.seed).await,
        writers::WRITE_TOGETHER => writers::write_together(&subject, order.seed).await,
        puppet::DO_AS_TOLD => puppet::do_as_told(&subject).await,
        turns::TAKE_TURNS => turns::take_turns(&subject, order.seed).await,
        crowd::SAVE_FACTS => crowd::save_facts(&subject, order.seed).await,
        other => Err(Violation::new(format!("no part is called `{other}`"))),
    }
}
