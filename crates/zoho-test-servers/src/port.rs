//! Ports for servers that are restarted on the same one.
//!
//! A port that is merely free now may be taken by another test, or by an outgoing connection, while
//! its server is down. So ports are taken from below the range of outgoing connections, and on
//! Linux each is reserved among all processes of this crate by an abstract socket of its name,
//! which the kernel frees with its owner.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Below Linux' range of outgoing connections, which begins at 32,768, and above the ports that
/// services are known by.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

#[cfg(target_os = "linux")]
type Reservation = std::os::unix::net::UnixListener;
#[cfg(not(target_os = "linux"))]
type Reservation = ();

/// A port of 127.0.0.1 that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _reservation: Reservation,
}

/// A free port of 127.0.0.1, ours until the process ends: for what a test listens on itself, and
/// for servers' further ports.
///
/// # Errors
/// When a few thousand ports were tried and none was free.
pub fn free_port() -> Result<u16> {
    static KEPT: Mutex<Vec<Port>> = Mutex::new(Vec::new());
    let port = Port::reserve()?;
    let number = port.number;
    KEPT.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .push(port);
    Ok(number)
}

impl Port {
    pub(crate) fn reserve() -> Result<Self> {
        let count = LAST - FIRST;
        let start = u16::try_from(RandomState::new().hash_one(0) % u64::from(count)).unwrap_or(0);
        (0..count)
            .map(|step| FIRST + (start + step) % count)
            .find_map(Self::try_reserve)
            .ok_or_else(|| Error::new(format!("no port from {FIRST} to {LAST} is free")))
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let reservation = reservation(number)?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _reservation: reservation,
        })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(target_os = "linux")]
fn reservation(number: u16) -> Option<Reservation> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let name = SocketAddr::from_abstract_name(format!("zoho-test-port-{number}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

#[cfg(not(target_os = "linux"))]
fn reservation(_: u16) -> Option<Reservation> {
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_to_one_at_a_time_and_given_back() {
        let port = Port::reserve().unwrap();
        let number = port.number();
        #[cfg(target_os = "linux")]
        assert!(Port::try_reserve(number).is_none());
        drop(port);
        assert!(Port::try_reserve(number).is_some());
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_passed_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = listener.local_addr().unwrap().port();
        assert!(Port::try_reserve(number).is_none());
    }
}
