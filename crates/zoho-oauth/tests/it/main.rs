//! The integration tests of this crate, one binary: its modules are its parts.

<<<<<<< HEAD
mod auth;
mod auth_store;
=======
mod accounts;
>>>>>>> accounts
mod support;
