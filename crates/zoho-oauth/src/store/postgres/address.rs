//! Where a server is.

use std::fmt;
use std::net::IpAddr;
#[cfg(unix)]
use std::path::PathBuf;

use crate::error::Result;
use crate::store::given;

/// Where a server is.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Clone)]
pub(super) enum Host {
    Name(String),
    #[cfg(unix)]
    SocketFolder(PathBuf),
}

impl Address {
    /// Whether nothing leaves this machine on the way there.
    pub(super) fn is_here(&self) -> bool {
        match &self.host {
            Host::Name(name) => {
                let address = name.parse::<IpAddr>();
                name == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
            #[cfg(unix)]
            Host::SocketFolder(_) => true,
        }
    }
}

impl Address {
    /// Refuses what names no server.
    pub(super) fn check(&self) -> Result<()> {
        match &self.host {
            Host::Name(name) if !given::is_host(name) => Err(given::no_host()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{}:{}", given::shown(name), self.port),
            #[cfg(unix)]
            Host::SocketFolder(folder) => write!(f, "{}:{}", folder.display(), self.port),
        }
    }
}
