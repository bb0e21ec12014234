//! How a connection is encrypted, and whom it is believed to lead to.

use std::fmt;

use mysql_async::{ClientIdentity, SslOpts};

use crate::error::{Error, ErrorCode, Result};

/// Whom a [`MySqlStore`](super::MySqlStore) believes to be its database.
///
/// The server's certificate is checked, and so is that it was made for the host which is asked. The
/// certificates that MySQL makes for itself name no host: give the server one that does.
#[derive(Clone)]
pub struct MySqlTls {
    /// In PEM; none means the authorities of this machine.
    authorities: Option<Vec<u8>>,
    host_name: Option<String>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl MySqlTls {
    /// Trusts the certificate authorities of this machine.
    pub fn system() -> Self {
        Self {
            authorities: None,
            host_name: None,
            identity: None,
        }
    }

    /// Trusts these certificate authorities and no others: certificates in PEM form, such as one of
    /// your own, or the bundle of a cloud.
    pub fn authorities(pem: impl AsRef<[u8]>) -> Self {
        Self {
            authorities: Some(pem.as_ref().to_vec()),
            ..Self::system()
        }
    }

    /// Expects the certificate to name this host, and not the one that is connected to: for tunnels,
    /// and for servers that are reached by address.
    #[must_use]
    pub fn host_name(mut self, name: impl Into<String>) -> Self {
        self.host_name = Some(name.into());
        self
    }

    /// Shows the server this certificate, with its private key, both in PEM form: for accounts that
    /// `REQUIRE X509`.
    #[must_use]
    pub fn identity(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some((chain.as_ref().to_vec(), key.as_ref().to_vec()));
        self
    }

    /// Puts the driver's options together. Reads the machine's authorities: blocks for a moment.
    pub(super) fn options(&self) -> Result<SslOpts> {
        let roots = match &self.authorities {
            Some(pem) => vec![pem.clone()],
            None => system_authorities()?,
        };
        let identity = self.identity.clone();
        let identity = identity.map(|(chain, key)| ClientIdentity::new(chain.into(), key.into()));
        provide_cryptography();
        Ok(SslOpts::default()
            .with_root_certs(roots.into_iter().map(Into::into).collect())
            .with_disable_built_in_roots(true)
            .with_danger_tls_hostname_override(self.host_name.clone())
            .with_client_identity(identity))
    }
}

/// In DER, each by itself.
fn system_authorities() -> Result<Vec<Vec<u8>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let message = "this machine has no certificate authorities to check the database with";
        let error = Error::new(ErrorCode::Unsupported, message);
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.caused_by(cause),
            None => error,
        });
    }
    let certificates = found.certs.into_iter();
    Ok(certificates.map(|der| der.to_vec()).collect())
}

/// The driver uses whatever the process provides, and panics where two could. Ours comes only where
/// the application chose none.
fn provide_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails if another thread was faster, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

impl fmt::Debug for MySqlTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlTls")
            .field("own_authorities", &self.authorities.is_some())
            .field("host_name", &self.host_name)
            .field("identity", &self.identity.is_some())
            .finish()
    }
}
