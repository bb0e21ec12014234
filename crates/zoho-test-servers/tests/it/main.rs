//! Each server is started, asked, killed, restarted and dropped.

#![cfg(unix)]

mod galera;
mod mariadb;
mod moto;
mod owner;
mod postgres;
mod redis;
mod support;
