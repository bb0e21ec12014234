//! Making connections: with or without TLS, for the pool and for listening.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::stream::{self, Stream, StreamExt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, ErrorCode, Result};

/// How long the server has to hear that nobody waits for an answer any more.
const CANCEL: Duration = Duration::from_secs(5);

type Driver<T> = Result<T, tokio_postgres::Error>;

/// What a connection says of its own accord, until it ends. It must be read, or the connection
/// stands still.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Driver<AsyncMessage>> + Send>>;

/// Makes connections, all with TLS or all without.
#[derive(Clone)]
pub(super) struct Connector {
    tls: Option<MakeRustlsConnect>,
    /// What a session of the pool is told at its beginning.
    told: Option<&'static str>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) const fn without_tls() -> Self {
        Self {
            tls: None,
            told: None,
        }
    }

    /// Tells each session of the pool this at its beginning.
    #[must_use]
    pub(super) const fn telling(mut self, sql: &'static str) -> Self {
        self.told = Some(sql);
        self
    }

    /// Trusts the given authorities (certificates in PEM form), or those of the system.
    ///
    /// # Errors
    /// `invalid_input` when the certificates cannot be read; `store_unavailable` when the system
    /// has none.
    pub(super) fn with_tls(roots: Option<&[u8]>) -> Result<Self> {
        // The provider is named, so that an application may install another one, or none.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for both versions of TLS");
        let config = if let Some(pem) = roots {
            builder.with_root_certificates(authorities(pem)?)
        } else {
            let verifier = Verifier::new(provider).map_err(|error| {
                let message = "this system has no certificate authorities to check a \
                        database server by: name them with `root_certificates`";
                Error::new(ErrorCode::StoreUnavailable, message).caused_by(error)
            })?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        };
        Ok(Self {
            tls: Some(MakeRustlsConnect::new(config.with_no_client_auth())),
            told: None,
        })
    }

    pub(super) const fn is_encrypting(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) async fn open(&self, config: &Config) -> Driver<(Client, Messages)> {
        if let Some(tls) = &self.tls {
            let (client, connection) = config.connect(tls.clone()).await?;
            return Ok((client, messages(connection)));
        }
        let (client, connection) = config.connect(NoTls).await?;
        Ok((client, messages(connection)))
    }

    /// Asks the server, in the background, to stop what it does on a connection.
    pub(super) fn cancel(&self, token: CancelToken) {
        let tls = self.tls.clone();
        tokio::spawn(tokio::time::timeout(CANCEL, async move {
            let told = match tls {
                Some(tls) => token.cancel_query(tls).await,
                None => token.cancel_query(NoTls).await,
            };
            if told.is_err() {
                tracing::debug!("a statement that nobody waits for could not be ended");
            }
        }));
    }
}

fn authorities(pem: &[u8]) -> Result<RootCertStore> {
    let unreadable =
        || Error::invalid_input("the root certificates are not certificates in PEM form");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unreadable().caused_by(error))?;
        store
            .add(certificate)
            .map_err(|error| unreadable().caused_by(error))?;
    }
    if store.is_empty() {
        return Err(unreadable());
    }
    Ok(store)
}

fn messages<S, T>(mut connection: Connection<S, T>) -> Messages
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(stream::poll_fn(move |context| {
        connection.poll_message(context)
    }))
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Driver<(Client, JoinHandle<()>)>> + Send + 'a>>;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let config = config.clone();
        Box::pin(async move {
            let (client, mut messages) = self.open(&config).await?;
            // The pool's own way prints what the server says at the end of a connection.
            let driving = tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    if message.is_err() {
                        tracing::debug!("a connection to PostgreSQL ended");
                        break;
                    }
                }
            });
            if let Some(sql) = self.told {
                client.batch_execute(sql).await?;
            }
            Ok((client, driving))
        })
    }
}
