//! A server whose TLS changes while the program runs.

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use zoho_oauth::{ErrorCode, PostgresStore, StoreState, TokenStore};
use zoho_test_servers::{Options, Postgres};

use super::secrecy::authority;
use crate::support::{builder, comes_back, every_look_up_fails, good, no_memory, sandbox};
use crate::switch::Switch;

async fn start(options: Options) -> Postgres {
    let server = tokio::task::spawn_blocking(move || Postgres::start_with(&options).unwrap());
    server.await.unwrap()
}

fn encrypting(authority: &CertifiedIssuer<'static, KeyPair>) -> Options {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    Options::new().tls(certificate.pem(), key.serialize_pem())
}

/// Asked without a pause for two seconds by eight tasks, it is connected to a few times, and the
/// store's health is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_its_tls_is_said_and_not_connected_to_all_the_time() {
    let ours = authority();
    let good_one = start(encrypting(&ours)).await;
    let hostssl = "hostssl all all 127.0.0.1/32 trust";
    let cases = [
        (start(Options::new()).await, true, "offers no TLS"),
        (start(encrypting(&authority())).await, true, "certificate"),
        (
            start(encrypting(&ours).hba(hostssl)).await,
            false,
            "without TLS",
        ),
    ];
    for (server, is_encrypted, says) in cases {
        let code = if says == "certificate" {
            ErrorCode::CertificateRefused
        } else {
            ErrorCode::StoreUnavailable
        };
        let switch = Switch::to(good_one.port()).await;
        let mut settings = PostgresStore::builder()
            .host("localhost")
            .port(switch.port())
            .database("postgres")
            .without_notifications();
        if is_encrypted {
            settings = settings.root_certificates(ours.pem());
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
        // Until all connections from before have ended.
        drop(store.find_token_by_id(ann).await);
        every_look_up_fails(&store, ann, code, says).await;
        // Each attempt may try the addresses of both families.
        assert!(
            switch.connections() < 25,
            "{says}: {}",
            switch.connections()
        );
        // A token that is good is handed out, and the state says how it is.
        session.access_token().await.unwrap();
        assert!(
            matches!(auth.store_state(), StoreState::Degraded { .. }),
            "{says}"
        );

        // It comes back by itself.
        switch.lead_to(good_one.port());
        comes_back(&store, ann).await;
    }
}
