//! How the server is reached: nodes, log-in, TLS.

use std::fmt;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::fault;
use crate::error::{Error, Result};
use crate::store::given;

/// A connection on which nothing happens is tried this often, in seconds.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// Where a server listens.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = given::shown(&self.host);
        if host.contains(':') {
            write!(f, "[{host}]:{}", self.port)
        } else {
            write!(f, "{host}:{}", self.port)
        }
    }
}

impl Address {
    /// Reads `host:port` as a node of a cluster writes it: an IPv6 address has no brackets, and no
    /// host means the one that was asked.
    pub(super) fn read(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = match host {
            "" | "?" => asked.host.clone(),
            host => host.to_owned(),
        };
        let port = port.parse().ok()?;
        Some(Self { host, port })
    }
}

#[derive(Clone, Debug, Default)]
pub(super) enum Tls {
    #[default]
    Off,
    /// With the roots that the platform trusts.
    Platform,
    /// With these roots alone, as PEM.
    Roots(Vec<u8>),
}

/// The servers that hold the keys now or may later, and how to log in to them.
#[derive(Clone)]
pub(super) struct Nodes {
    /// At least one.
    pub(super) addresses: Vec<Address>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    pub(super) database: u32,
    pub(super) tls: Tls,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes")
            .field("addresses", &self.addresses)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "[redacted]"))
            .field("database", &self.database)
            .field("tls", &!matches!(self.tls, Tls::Off))
            .finish()
    }
}

impl Nodes {
    /// Whether connections are encrypted.
    pub(super) const fn is_over_tls(&self) -> bool {
        !matches!(self.tls, Tls::Off)
    }

    /// Returns the address whose turn it is.
    pub(super) fn address(&self, turn: usize) -> &Address {
        &self.addresses[turn % self.addresses.len()]
    }

    /// Returns what connects to `address`.
    pub(super) fn client(&self, address: &Address) -> Result<Client> {
        let of = |error| fault::of(&error, &place(address));
        let (host, port) = (address.host.clone(), address.port);
        let target = match self.tls {
            Tls::Off => ConnectionAddr::Tcp(host, port),
            Tls::Platform | Tls::Roots(_) => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        let info = self.info(target).map_err(of)?;
        match &self.tls {
            Tls::Off => Client::open(info).map_err(of),
            Tls::Platform => {
                provide_cryptography();
                Client::open(info).map_err(of)
            }
            Tls::Roots(pem) => {
                // The driver would take none, and then trust nobody.
                if CertificateDer::pem_slice_iter(pem).next().is_none() {
                    return Err(no_roots());
                }
                provide_cryptography();
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                };
                Client::build_with_tls(info, certificates).map_err(|_| no_roots())
            }
        }
    }

    fn info(&self, target: ConnectionAddr) -> redis::RedisResult<ConnectionInfo> {
        let mut login = RedisConnectionInfo::default().set_db(i64::from(self.database));
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password.as_str());
        }
        let keep_alive = TcpKeepalive::new()
            .with_time(KEEP_ALIVE)
            .with_interval(KEEP_ALIVE / 3);
        // Calls are small, and somebody waits for each.
        let socket = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keep_alive);
        let info = target.into_connection_info()?;
        Ok(info.set_redis_settings(login).set_tcp_settings(socket))
    }
}

/// A server, as a message names it.
pub(super) fn place(address: &Address) -> String {
    format!("Redis at `{address}`")
}

fn no_roots() -> Error {
    Error::invalid_input("the roots for TLS are no certificates in PEM")
}

/// The driver takes the cryptography that the process has chosen, and panics where several are
/// compiled in and none is chosen.
fn provide_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may be faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Refuses what cannot begin the names of keys. Braces would take the keys apart in a cluster.
pub(super) fn checked_prefix(prefix: String) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
    if prefix.is_empty() || prefix.len() > 100 || !prefix.bytes().all(is_plain) {
        return Err(Error::invalid_input(
            "the prefix of the keys is 1 to 100 ASCII letters, digits, `_`, `-`, `.`, `:` and `/`",
        ));
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        let host = host.to_owned();
        Address { host, port }
    }

    #[test]
    fn addresses_are_read_as_clusters_write_them() {
        let asked = address("redis.example", 6379);
        for (text, host, port) in [
            ("127.0.0.1:7001", "127.0.0.1", 7001),
            ("::1:7001", "::1", 7001),
            (":7001", "redis.example", 7001),
            ("?:7001", "redis.example", 7001),
            ("node-2.example:6380", "node-2.example", 6380),
        ] {
            assert_eq!(
                Address::read(text, &asked),
                Some(address(host, port)),
                "{text}"
            );
        }
        assert_eq!(Address::read("nonsense", &asked), None);
        assert_eq!(address("::1", 1).to_string(), "[::1]:1");
    }

    #[test]
    fn a_prefix_cannot_take_the_keys_apart() {
        for prefix in ["zoho_oauth", "a", "eu:portal/1.x-y"] {
            assert_eq!(checked_prefix(prefix.to_owned()).unwrap(), prefix);
        }
        for prefix in ["", "a{b}", "a b", "a*", "\u{e9}", &"x".repeat(101)] {
            assert!(checked_prefix(prefix.to_owned()).is_err(), "{prefix}");
        }
    }

    #[test]
    fn the_password_is_not_printed() {
        let nodes = Nodes {
            addresses: vec![address("h", 1)],
            user: Some("u".to_owned()),
            password: Some(Zeroizing::new("s3cret".to_owned())),
            database: 0,
            tls: Tls::Roots(b"no PEM".to_vec()),
        };
        let error = nodes.client(nodes.address(0)).unwrap_err();
        let texts = format!("{nodes:?} {nodes:#?} {error} {error:?}");
        assert!(!texts.contains("s3cret"), "{texts}");
        let off = Nodes {
            tls: Tls::Off,
            ..nodes
        };
        let client = off.client(off.address(7)).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
