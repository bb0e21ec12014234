//! TLS, passwords, and what is printed.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_postgres::NoTls;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;
use zoho_oauth::store::postgres::PostgresStoreBuilder;
use zoho_oauth::{
    AccessToken, ErrorCode, GrantToken, PostgresStore, RefreshToken, TokenQuery, TokenStore,
};

use super::support::{Own, Schema, by_user, refreshed, server, token};
use crate::accounts::{alone_in_a_process, whole};

pub(super) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server of the test's own, with the authority of its certificate.
fn server_of(authority: &CertifiedIssuer<'static, KeyPair>) -> (Own, PostgresStoreBuilder) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let server = Own::postgres(&certificate.pem(), &key.serialize_pem());
    let builder = PostgresStore::builder()
        .port(server.port)
        .database("postgres")
        .password("s3cret-word");
    (server, builder)
}

/// A server that can be stopped, and the settings that lead to it.
pub(super) fn own_server() -> (Own, PostgresStoreBuilder) {
    server_of(&authority())
}

#[tokio::test]
async fn certificates_and_passwords_are_checked() {
    let authority = authority();
    let (server, builder) = server_of(&authority);
    let encrypted = "SELECT ssl::text FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE application_name = 'zoho-oauth'";
    let mut config = tokio_postgres::Config::new();
    config
        .host("localhost")
        .port(server.port)
        .user("postgres")
        .password("s3cret-word");
    let (base, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let ask = async || {
        let rows = base.query(encrypted, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };

    let builder = builder.patience(Duration::ZERO);
    let trusting = builder.clone().root_certificates(authority.pem());
    let store = trusting.clone().connect().await.unwrap();
    assert_eq!(ask().await, ["true"]);
    // Listening goes the same way.
    let mut changes = store.changes().unwrap();
    changes.recv().await.unwrap();
    assert_eq!(ask().await, ["true", "true"]);
    drop(store);

    let plain = builder.clone().connect().await.unwrap();
    assert!(
        ask().await.contains(&"false".to_owned()),
        "on this machine it is not the default"
    );
    drop(plain);

    #[cfg(unix)]
    {
        let sql = "SHOW unix_socket_directories";
        let folder: String = base.query_one(sql, &[]).await.unwrap().get(0);
        // TLS has no place there.
        let socket = trusting.clone().socket_folder(folder);
        let store = socket.connect().await.unwrap();
        assert!(store.get_tokens().await.unwrap().is_empty());
    }

    let refused = |builder: PostgresStoreBuilder| async {
        let error = builder.connect().await.unwrap_err();
        assert!(!whole(&error).contains("s3cret"), "{error:?}");
        (error.code(), whole(&error))
    };
    let stranger = builder.clone().root_certificates(self::authority().pem());
    let (code, text) = refused(stranger).await;
    assert_eq!(code, ErrorCode::CertificateRefused);
    assert!(text.contains("certificate"), "{text}");
    let (code, text) = refused(trusting.clone().host("127.0.0.1")).await;
    assert_eq!(code, ErrorCode::CertificateRefused);
    assert!(text.contains("not valid for name"), "{text}");
    let (code, _) = refused(builder.clone().require_tls()).await;
    assert_eq!(
        code,
        ErrorCode::CertificateRefused,
        "no system trusts our authority"
    );

    let (code, text) = refused(trusting.clone().password("wr0ng-s3cret")).await;
    assert_eq!(code, ErrorCode::StorePermission, "{text}");
    let (_, text) = refused(trusting.password("")).await;
    assert!(text.contains("password"), "{text}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_open() {
    let schema = Schema::new().await;
    let error = schema.builder().require_tls().connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(whole(&error).contains("TLS"), "{error:?}");
    schema.drop().await;
}

/// Everything that was printed.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<Vec<u8>>>);

impl io::Write for Net {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    const NAME: &str = "postgres_store::secrecy::nothing_that_is_printed_holds_a_secret";
    if alone_in_a_process(NAME, &[]) {
        crate::accounts::block_on(print_everything());
    }
}

async fn print_everything() {
    let net = Net::default();
    let log = net.clone();
    // With the bridge from the `log` crate, which the driver uses.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || log.clone())
        .finish()
        .init();
    let schema = Schema::new().await;
    let mut printed = Vec::new();
    for prepare in [true, false] {
        let builder = schema
            .builder()
            .password("s3cret-word")
            .prepared_statements(prepare);
        printed.push(format!("{builder:?} {builder:#?}"));
        let store = builder.connect().await.unwrap();
        printed.push(format!("{store:?} {:?}", store.coordination()));
        let mut secret = token("s3cret-ann");
        secret.refresh_token = RefreshToken::new("s3cret-refresh").ok();
        secret.access_token = AccessToken::new("s3cret-access").ok();
        secret.grant_token = GrantToken::new("s3cret-grant").ok();
        let saved = store.save_token(&secret).await.unwrap();
        store.save_token(&refreshed("s3cret-ann", 1)).await.unwrap();
        for query in [
            by_user("s3cret-ann"),
            TokenQuery::grant_token(GrantToken::new("s3cret-grant").unwrap()),
        ] {
            assert!(store.find_token(&query).await.unwrap().is_some());
        }
        // The server's own words about this one quote the value.
        schema
            .run("ALTER TABLE oauthtoken ADD CONSTRAINT c UNIQUE (client_id)")
            .await;
        let error = store.save_token(&token("s3cret-bob")).await.unwrap_err();
        printed.push(whole(&error));
        schema.run("ALTER TABLE oauthtoken DROP CONSTRAINT c").await;
        store.delete_token(saved).await.unwrap();
    }
    let mut wrong = server();
    wrong.password("s3cret-word").user("nobody_of_that_name");
    let wrong = super::support::leading_to(&wrong)
        .connect()
        .await
        .unwrap_err();
    printed.push(whole(&wrong));
    schema.drop().await;

    let logged = String::from_utf8(net.0.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("executing statement"),
        "the driver's log was not caught"
    );
    for text in printed.into_iter().chain([logged]) {
        if let Some(at) = text.find("s3cret") {
            panic!("{}", &text[at.saturating_sub(300)..at + 30]);
        }
    }
}
