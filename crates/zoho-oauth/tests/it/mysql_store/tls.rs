//! A server whose TLS changes while the program runs.

use zoho_oauth::store::mysql::MySqlTls;
use zoho_oauth::{ErrorCode, StoreState, TokenStore};
use zoho_test_servers::{MariaDb, Options};

use super::connections::certificate;
use super::*;
use crate::support::{builder, comes_back, every_look_up_fails, good, no_memory, sandbox};
use crate::switch::Switch;

async fn start(options: Options) -> MariaDb {
    let server = tokio::task::spawn_blocking(move || MariaDb::start_with(&options).unwrap());
    let server = server.await.unwrap();
    server.sql("CREATE DATABASE portal").unwrap();
    server
}

/// Asked without a pause for two seconds by eight tasks, it is connected to a few times, and the
/// store's health is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_its_tls_is_said_and_not_connected_to_all_the_time() {
    let (chain, key, authority) = certificate("db.example.com");
    let good_one = start(Options::new().tls(chain, key)).await;
    let (chain, key, _) = certificate("db.example.com");
    let cases = [
        (
            start(Options::new().arguments(["--skip-ssl"])).await,
            true,
            "no TLS",
        ),
        (
            start(Options::new().tls(chain.clone(), key.clone())).await,
            true,
            "not trusted",
        ),
        (
            start(
                Options::new()
                    .tls(chain, key)
                    .arguments(["--require-secure-transport=ON"]),
            )
            .await,
            false,
            "TLS",
        ),
    ];
    for (server, is_encrypted, says) in cases {
        // Without TLS, MariaDB's answer is the one to a wrong password.
        let code = if says == "not trusted" {
            ErrorCode::CertificateRefused
        } else if is_encrypted {
            ErrorCode::StoreUnavailable
        } else {
            ErrorCode::StorePermission
        };
        let switch = Switch::to(good_one.port()).await;
        let mut settings = MySqlStore::builder()
            .hosts([format!("127.0.0.1:{}", switch.port())])
            .database("portal");
        if is_encrypted {
            let tls = MySqlTls::authorities(&authority).host_name("db.example.com");
            settings = settings.tls(tls);
        }
        let store = settings.connect().await.unwrap();
        store.delete_tokens().await.unwrap();
        let ann = store.save_token(&good("ann", "client")).await.unwrap();
        let sandbox = sandbox().await;
        let auth = builder(&sandbox, store.clone()).policy(no_memory());
        let auth = auth.build().unwrap();
        let session = auth.session(ann).await.unwrap();
        session.access_token().await.unwrap();
        assert_eq!(auth.store_state(), StoreState::Working);

        switch.lead_to(server.port());
        every_look_up_fails(&store, ann, code, says).await;
        assert!(
            switch.connections() < 25,
            "{says}: {}",
            switch.connections()
        );
        // A token that is good is handed out, and the state says how it is.
        session.access_token().await.unwrap();
        let is_degraded = matches!(auth.store_state(), StoreState::Degraded { .. });
        assert_eq!(is_degraded, is_encrypted, "{says}");

        // It comes back by itself.
        switch.lead_to(good_one.port());
        comes_back(&store, ann).await;
        store.disconnect().await;
    }
}

/// A connection that is there is used while others are refused.
#[tokio::test]
async fn a_connection_from_before_goes_on_being_used() {
    let (chain, key, authority) = certificate("db.example.com");
    let server = start(Options::new().tls(chain, key)).await;
    let tls = MySqlTls::authorities(&authority).host_name("db.example.com");
    let store = MySqlStore::builder()
        .hosts([format!("127.0.0.1:{}", server.port())])
        .database("portal")
        .tls(tls);
    let store = store.connect().await.unwrap();
    server
        .sql("ALTER USER root@'127.0.0.1' IDENTIFIED BY 'another'")
        .or_else(|_| server.sql("SET PASSWORD FOR root@localhost = PASSWORD('another')"))
        .unwrap();
    for _ in 0..3 {
        store.get_tokens().await.unwrap();
    }
    // Two at once: one of them needs another connection.
    for _ in 0..3 {
        let (one, two) = tokio::join!(store.get_tokens(), store.get_tokens());
        assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
        store.get_tokens().await.unwrap();
    }
}
