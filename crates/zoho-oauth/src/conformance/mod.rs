//! The conformance kit: tells the author of any [`TokenStore`] whether it is right.
//!
//! A store is right when it does what [`TokenStore`] promises; the rule book is
//! [`TokenTable`](crate::TokenTable). Each rule is one function and one test, and its name is the
//! rule: a failure reads `my_store::two_clients_of_one_user_stay_apart`.
//!
//! # As tests
//! The kit is a feature, for the tests alone:
//!
//! ```toml
//! [dev-dependencies]
//! zoho-oauth = { version = "0.1", features = ["conformance"] }
//! ```
//!
//! Write a function that opens your store at a [`Place`], and call the macro once per tier:
//!
//! ```
//! # use zoho_oauth::{ListStore, Result};
//! # struct MyStore;
//! # impl MyStore { fn open(_: std::path::PathBuf) -> Result<ListStore> { Ok(ListStore::new()) } }
//! #[cfg(test)]
//! mod my_store {
//!     use zoho_oauth::{conformance::Place, token_store_conformance};
//!
//!     async fn open(place: Place) -> zoho_oauth::Result<super::MyStore> {
//!         super::MyStore::open(place.path().join("tokens"))
//!     }
//!
//!     token_store_conformance!(basic, open);
//!     token_store_conformance!(durable, open); // if the tokens outlive the process
//!     # #[cfg(any())]
//!     token_store_conformance!(coordinated, open); // if `coordination` answers `Some`
//! }
//! ```
//!
//! No test attribute of an async runtime is needed, and the tests run in parallel, under
//! `cargo test` and under `cargo nextest`. `examples/own_store.rs` is a whole store with its tests,
//! and `examples/own_fleet_store.rs` one that coordinates a fleet.
//!
//! # Without a test harness
//! [`check`] runs a tier and returns a [`Report`]. For the durable and the coordinated tier call
//! [`child_main`] first in `main`.
//!
//! # Tiers
//! - [`Tier::Basic`] ([`basic`]): the six methods against the rule book, hostile and long texts,
//!   many tasks at once, random operations. It opens each place once.
//! - [`Tier::Durable`] ([`durable`]): what was acknowledged is there after reopening, after SIGKILL
//!   in the middle of writing, and when eight processes save at once. It opens a place again and
//!   again, in several processes, and must find the same tokens each time. Unix only: elsewhere its
//!   rules about processes fail and say so. A power cut is not tried: that a store flushes its
//!   files to the disk cannot be seen from outside.
//! - [`Tier::Coordinated`] ([`coordinated`]): one holder per key, among tasks and among eight
//!   processes; keys of holders that die or stand still become free; what holders remember reaches
//!   the next, and what they think after they lost their key does not; neither is touched by work on
//!   other records; what Zoho issued is saved as long as it counts, and nothing that was acknowledged
//!   is lost to saves at the same time. It opens a place in several processes, and reads from
//!   [`guarantee`](crate::Guarantee) whether keys are held by kernel locks or by leases. With leases,
//!   five rules wait for the end of one: let `open` make them short. Unix only, as above. If
//!   [`changes`](TokenStore::changes) answers a receiver, it must hear what other processes do;
//!   otherwise the report says that the store does not offer it. [What the tier does not
//!   see](coordinated#what-these-rules-do-not-see): the clock of a lease, and cells of your own.
//!
//! The environment variables that the kit reads are listed in [`environment`].

pub mod basic;
mod child;
pub mod coordinated;
mod dispatch;
pub mod durable;
pub mod environment;
mod factory;
mod lines;
mod model;
mod report;
mod rule;
mod sample;
mod subject;

use std::io::Write as _;

pub use dispatch::child_main;
pub use factory::{Place, StoreFactory};
pub use report::{Offer, OptionalVerdict, Outcome, Report, Tier, Verdict, Violation};
pub use rule::Rule;

#[cfg(doc)]
use crate::store::TokenStore;

impl Tier {
    /// Returns the rules of this tier, without those of the tiers before it.
    pub const fn rules(self) -> &'static [Rule] {
        match self {
            Self::Basic => basic::RULES,
            Self::Durable => durable::RULES,
            Self::Coordinated => coordinated::RULES,
        }
    }
}

/// Holds a store to all rules of one tier, one after the other.
///
/// Takes some seconds for [`Tier::Basic`] and about a minute for [`Tier::Durable`]; how long
/// [`Tier::Coordinated`] takes depends on the life of a lease. The last two need [`child_main`]. Call it on a tokio runtime with time and I/O enabled.
pub async fn check(tier: Tier, factory: StoreFactory) -> Report {
    let mut report = Report::new(tier, factory.kills());
    if environment::is_child() {
        let why = "this process is a child of the kit: call `child_main` first in `main`";
        report.add("the_child_has_a_main", Err(Violation::new(why)));
        return report;
    }
    for rule in tier.rules() {
        report.add(rule.name, rule.check(&factory).await);
    }
    report
}

/// Runs one rule as a test. For [`token_store_conformance!`](crate::token_store_conformance).
///
/// # Panics
/// When the store breaks the rule.
#[doc(hidden)]
pub fn run_as_test(tier: Tier, name: &str, factory: &StoreFactory) {
    let rule = tier.rules().iter().find(|rule| rule.name == name);
    let rule = rule.expect("the macro names rules of this tier");
    match runtime().block_on(rule.check(factory)) {
        Ok(Offer::Kept) => {}
        Ok(Offer::None) => {
            // Past the capture of the test harness: a test that is green here has tried nothing.
            let note = format!("note: {name}: the store does not offer it\n");
            let _ = std::io::stderr().write_all(note.as_bytes());
        }
        Err(violation) => panic!("{violation}"),
    }
}

/// Does the part of a child process in a test. For [`token_store_conformance!`](crate::token_store_conformance).
#[doc(hidden)]
pub fn run_as_child(factory: StoreFactory) {
    runtime().block_on(child_main(factory));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime for a test can be made")
}

/// Makes tests of a store, one per rule: see [`conformance`](crate::conformance).
///
/// - `token_store_conformance!(basic, open)`, `token_store_conformance!(durable, open)` and
///   `token_store_conformance!(coordinated, open)` make the tests of a tier. `open` is an
///   `async fn(Place) -> zoho_oauth::Result<impl TokenStore>`.
/// - `token_store_conformance!(durable, open, kills = 200)` runs fewer rounds of SIGKILL than 1,000,
///   for a store that is slow to open: see
///   [`StoreFactory::with_kills`](crate::conformance::StoreFactory::with_kills).
/// - `token_store_conformance!(coordinated, open, lease = Duration::from_secs(1))` says how long a
///   lease lasts at most: see
///   [`StoreFactory::with_lease`](crate::conformance::StoreFactory::with_lease).
/// - `token_store_conformance!(child, open)` makes only the test `conformance_child`, which passes
///   at once unless the kit runs it in a process of its own. For authors who call rules themselves:
///   see [`StoreFactory::with_child_test`](crate::conformance::StoreFactory::with_child_test).
///   `durable` includes it, and `coordinated` makes its own, `conformance_coordinated_child`, so that
///   one module can call both.
#[macro_export]
macro_rules! token_store_conformance {
    (basic, $open:expr $(,)?) => {
        $crate::__conformance_basic_rules! {
            __conformance_tests Basic conformance_child ($crate::conformance::StoreFactory::new($open))
        }
    };
    (durable, $open:expr $(, kills = $kills:expr)? $(,)?) => {
        $crate::__conformance_durable_rules! {
            __conformance_tests Durable conformance_child
            ($crate::conformance::StoreFactory::new($open)$(.with_kills($kills))?)
        }
        $crate::__conformance_child! { conformance_child $open }
    };
    (coordinated, $open:expr $(, lease = $lease:expr)? $(,)?) => {
        $crate::__conformance_coordinated_rules! {
            __conformance_tests Coordinated conformance_coordinated_child
            ($crate::conformance::StoreFactory::new($open)$(.with_lease($lease))?)
        }
        $crate::__conformance_child! { conformance_coordinated_child $open }
    };
    (child, $open:expr $(,)?) => {
        $crate::__conformance_child! { conformance_child $open }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_child {
    ($child:ident $open:expr) => {
        #[test]
        fn $child() {
            $crate::conformance::run_as_child($crate::conformance::StoreFactory::new($open));
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($tier:ident $child:ident ($factory:expr) $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                let child = concat!(module_path!(), "::", stringify!($child));
                $crate::conformance::run_as_test(
                    $crate::conformance::Tier::$tier,
                    stringify!($rule),
                    &$factory.with_child_test(child),
                );
            }
        )*
    };
}

/// Makes the list of a tier's rules from their functions.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    ($($rule:ident)*) => {
        /// The rules of this tier, in the order in which they are checked.
        pub const RULES: &[$crate::conformance::Rule] = &[$(
            $crate::conformance::Rule {
                name: stringify!($rule),
                run: |factory| Box::pin(async move { $rule(factory).await.map(Into::into) }),
            },
        )*];
    };
}
