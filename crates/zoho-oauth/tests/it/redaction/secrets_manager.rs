//! AWS Secrets Manager: a stub in its place.

use std::sync::Arc;
use std::time::Duration;

use zoho_oauth::{AccessToken, SecretsManagerStore, TokenStore};

use super::life::life;
use super::net::Net;
use crate::accounts::{alone_in_a_process, block_on};
use crate::secrets_manager_store::Stub;
use crate::support::good;

/// The secret half of the process's credentials, and what goes with one that ends.
const SECRET_KEY: &str = "pr1vatekey0fthe/machine+0123456789abcdef";
const SESSION: &str = "s3ssionT0ken0fTheRole//////////wEaDOneTwoThree";

#[test]
fn no_secret_is_printed() {
    const NAME: &str = "redaction::secrets_manager::no_secret_is_printed";
    let credentials = [
        ("AWS_ACCESS_KEY_ID", "ASIATESTTESTTEST"),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", SESSION),
    ];
    if alone_in_a_process(NAME, &credentials) {
        block_on(lives());
    }
}

async fn lives() {
    let net = Net::over_the_process();
    net.secret(SECRET_KEY);
    net.secret(SESSION);
    let stub = Stub::start().await;
    let builder = SecretsManagerStore::builder()
        .region("eu-central-1")
        .endpoint(stub.url())
        .versions(1, Duration::ZERO);
    net.print(&builder);
    let store = builder.clone().connect().await.unwrap();
    life(&net, Arc::new(store.clone())).await;
    refused(&net, &stub, &store).await;
    let nobody = builder.clone().endpoint("http://127.0.0.1:1");
    let nobody = nobody.timeout(Duration::from_millis(300));
    net.refusal("store_unavailable", &nobody.connect().await);
    // Whoever puts a password into the address.
    let url = stub
        .url()
        .replace("http://", "http://user:pa55-in-the-url@");
    net.secret("pa55-in-the-url");
    let mistaken = builder.endpoint(url);
    net.print(&mistaken);
    net.refusal("invalid_input", &mistaken.connect().await);
    net.search(&["aws_smithy_runtime", "hyper_util"]);

    // Of a service that quotes what it was sent, the SDK's own logs have the words: ours do not.
    let (ours, unkind) = (Net::default(), Stub::start().await);
    unkind.quote();
    let store = SecretsManagerStore::builder().versions(1, Duration::ZERO);
    let store = store.with_client(unkind.client()).unwrap();
    ours.print(&store);
    refused(&ours, &unkind, &store).await;
    ours.search_for_secrets();
}

/// Whatever AWS refuses, and a secret that is no record.
async fn refused(net: &Net, stub: &Stub, store: &SecretsManagerStore) {
    let mut token = good("bob", "client");
    net.record(&token);
    let id = store.save_token(&token).await.unwrap();
    for (action, code) in [
        ("PutSecretValue", "InvalidParameterException"),
        ("PutSecretValue", "LimitExceededException"),
        ("TagResource", "AccessDeniedException"),
        ("GetSecretValue", "DecryptionFailure"),
    ] {
        // Some codes are tried again.
        stub.refuse(action, code, 9);
        token.access_token = AccessToken::new(format!("1000.{}.unsaved", code.len())).ok();
        net.record(&token);
        let refused = store.save_token(&token).await;
        assert!(refused.is_err(), "{action} {code}");
        net.outcome(&refused);
        stub.refuse_no_more();
    }
    for name in stub.names() {
        if name.contains("/token/") {
            stub.write(&name, "by-hand", "{\"client_secret\": \"damaged-s3cret\"");
        }
    }
    net.secret("damaged-s3cret");
    net.refusal("store_damaged", &store.find_token_by_id(id).await);
    net.outcome(&store.get_tokens().await);
    net.outcome(&store.inventory().await);
}
