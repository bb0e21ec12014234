//! The integration tests of this crate, one binary: its modules are its parts.

mod auth;
mod auth_store;
mod support;
