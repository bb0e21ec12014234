//! The conformance kit itself: stores that are wrong on purpose, and the rule that must find each.
#![expect(clippy::unwrap_used, reason = "tests")]

mod basic;
mod coordinated;
mod durable;
#[cfg(unix)]
mod late;
