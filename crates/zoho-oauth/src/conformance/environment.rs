//! The environment variables that the kit reads, all of them here.
//!
//! For people:
//! - `ZOHO_CONFORMANCE_KILLS`: how many rounds of SIGKILL the durable tier runs, for a quick look or
//!   a long one. Without it, what the test asks for, which is 1,000 unless the store is slow; the
//!   output says so when it is fewer.
//! - `ZOHO_CONFORMANCE_SEED`: the seed of a random sequence, to repeat what a failure printed.
//!
//! From the kit to its child processes: `ZOHO_CONFORMANCE_CHILD` (the part to play),
//! `ZOHO_CONFORMANCE_PLACE`, `ZOHO_CONFORMANCE_NAME` and `ZOHO_CONFORMANCE_CHILD_SEED`. Don't set
//! them.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place where the kit reads the environment"
)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

const KILLS: &str = "ZOHO_CONFORMANCE_KILLS";
const SEED: &str = "ZOHO_CONFORMANCE_SEED";
const CHILD: &str = "ZOHO_CONFORMANCE_CHILD";
const CHILD_PLACE: &str = "ZOHO_CONFORMANCE_PLACE";
const CHILD_NAME: &str = "ZOHO_CONFORMANCE_NAME";
const CHILD_SEED: &str = "ZOHO_CONFORMANCE_CHILD_SEED";

/// How many rounds of SIGKILL are run unless the test or the environment says otherwise.
pub const DEFAULT_KILLS: usize = 1000;

/// Returns how many rounds of SIGKILL the environment asks for.
///
/// # Panics
/// When `ZOHO_CONFORMANCE_KILLS` is not a number of at least 1: nothing would be tested.
pub fn kills() -> Option<usize> {
    let text = env::var(KILLS).ok()?;
    match text.parse() {
        Ok(kills) if kills > 0 => Some(kills),
        _ => panic!("`{KILLS}` is a number of at least 1, not `{text}`"),
    }
}

/// Returns the seed to repeat, if one is asked for. Panics when it is not a number.
pub(super) fn seed() -> Option<u64> {
    let text = env::var(SEED).ok()?;
    let seed = text.parse();
    Some(seed.unwrap_or_else(|_| panic!("`{SEED}` is a number, not `{text}`")))
}

/// What a child process is asked to do.
#[derive(Debug)]
pub(super) struct ChildOrder {
    pub(super) part: String,
    /// The place of the store.
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) seed: u64,
}

/// Returns whether this process was started by the kit.
pub(super) fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

pub(super) fn child_order() -> Option<ChildOrder> {
    Some(ChildOrder {
        part: env::var(CHILD).ok()?,
        path: env::var_os(CHILD_PLACE)?.into(),
        name: env::var(CHILD_NAME).ok()?,
        seed: env::var(CHILD_SEED).ok()?.parse().ok()?,
    })
}

pub(super) fn give_order(command: &mut Command, order: &ChildOrder) {
    command
        .env(CHILD, &order.part)
        .env(CHILD_PLACE, &order.path)
        .env(CHILD_NAME, &order.name)
        .env(CHILD_SEED, order.seed.to_string());
}
