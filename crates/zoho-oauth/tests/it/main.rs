//! The integration tests of this crate, one binary: its modules are its parts.

mod file_store;
mod support;
