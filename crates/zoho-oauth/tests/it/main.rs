//! The integration tests of this crate, one binary: its modules are its parts.

mod kit;
mod stores;
mod file_store;
mod support;
