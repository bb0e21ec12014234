//! The integration tests of this crate, one binary: its modules are its parts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod accounts;
mod auth;
mod auth_cache;
mod auth_clock;
mod auth_full;
mod auth_limits;
mod auth_locked;
mod auth_names;
mod auth_races;
mod auth_rescue;
mod auth_reused_ids;
mod auth_slow;
mod auth_store;
mod auth_troubles;
#[cfg(unix)]
mod child;
mod copy;
mod data_centers;
mod defects;
mod file_store;
mod fleet;
mod fleet_memory;
mod given_values;
mod hooks;
mod kit;
mod mysql_store;
mod official_node;
mod official_python;
mod official_sdk;
mod outages;
mod postgres_store;
mod privileges;
mod processes;
mod redaction;
mod redis_store;
mod returning;
mod secrets_manager_store;
mod side_files;
mod sqlite_store;
mod stores;
mod support;
mod switch;
mod troubled;
mod troubleshooting;
mod workers;
