//! The tier [`Durable`](super::Tier::Durable): what was acknowledged survives.
//!
//! [`reopen`] closes the store and opens it again, [`kill`] ends a writing process with SIGKILL,
//! [`crowd`] lets eight processes save at once. How a child process gets to the store is told at
//! [`child_main`](super::child_main).
#![expect(
    clippy::missing_errors_doc,
    reason = "the error of a rule is that the store breaks it, and the rule is its doc"
)]

pub mod crowd;
pub mod kill;
pub mod reopen;
mod script;
pub(super) mod writers;

pub use crowd::*;
pub use kill::*;
pub use reopen::*;

/// Hands the names of the rules to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_durable_rules {
    ($then:ident $($argument:tt)*) => {
        $crate::$then! {
            $($argument)*
            everything_is_there_after_reopening
            ids_go_on_after_reopening
            deleted_records_stay_deleted_after_reopening
            two_open_stores_see_each_other
            nothing_acknowledged_is_lost_when_killed
            nothing_is_lost_when_processes_save_at_once
        }
    };
}

crate::__conformance_durable_rules! { __conformance_list }
