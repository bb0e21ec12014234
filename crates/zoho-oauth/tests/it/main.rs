//! The integration tests of this crate, one binary: its modules are its parts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod accounts;
mod auth;
mod auth_limits;
mod auth_names;
mod auth_races;
mod auth_rescue;
mod auth_reused_ids;
mod auth_store;
mod copy;
mod defects;
mod file_store;
mod fleet;
mod fleet_memory;
mod hooks;
mod kit;
mod mysql_store;
mod official_python;
mod outages;
mod postgres_store;
mod privileges;
mod processes;
mod redaction;
mod redis_store;
mod secrets_manager_store;
mod sqlite_store;
mod stores;
mod support;
mod switch;
mod troubleshooting;
mod workers;
