//! A whole life of tokens over every store, with everything that is printed on the way searched
//! for every secret: logs at TRACE, those of the drivers too, `Debug` and `Display` of values,
//! events, errors and their causes, panic texts, and the URLs that arrived at the server.
//!
//! Each test is alone in a process, since the logs of a driver are those of its process.

mod life;
mod local;
mod mysql;
mod net;
mod postgres;
mod redis;
mod secrets_manager;
