//! The program as a person runs it, with a script in cargo's place.

#![cfg(unix)]

mod interrupt;
mod run;
mod servers;
mod support;
