//! What the service limits or loses, and what it is told.

use std::time::Duration;

use zoho_oauth::store::secrets_manager::Deletion;
use zoho_oauth::{ErrorCode, Guarantee, OAuthToken, SecretsManagerStore, TokenStore};

use super::stub::{counted, writes};
use super::{Stub, by_access, by_user, id, renewed, store, token, unlimited};
use crate::accounts::{alone_in_a_process, block_on, whole};
use crate::support::{builder, expired, no_memory, refreshes, sandbox};

#[tokio::test]
async fn a_secret_is_a_json_object_that_other_tools_can_read() {
    let stub = Stub::start().await;
    let builder = SecretsManagerStore::builder()
        .prefix("team/zoho")
        .kms_key("alias/zoho")
        .tag("team", "crm");
    let store = builder.with_client(stub.client()).unwrap();
    store.save_token(&token("ann")).await.unwrap();
    assert_eq!(stub.names(), ["team/zoho/token/1"]);
    let secret = stub.secret("team/zoho/token/1").unwrap();
    let value: serde_json::Value = serde_json::from_str(secret.value()).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    let mut official = OAuthToken::FIELDS.map(str::to_owned);
    official.sort();
    assert_eq!(keys, official);
    assert_eq!(value["id"], "1");
    assert_eq!(value["refresh_token"], "1000.r.ann");
    assert_eq!(value["redirect_url"], serde_json::Value::Null);
    assert_eq!(secret.tags["team"], "crm");
    assert_eq!(secret.tags.len(), 5);
    assert!(
        stub.bodies()
            .iter()
            .any(|body| body.contains("\"KmsKeyId\":\"alias/zoho\""))
    );
}

#[tokio::test]
async fn no_secret_and_no_user_is_in_a_name_or_a_tag() {
    let stub = Stub::start().await;
    let store = store(&stub);
    let ann = store.save_token(&token("ann@example.com")).await.unwrap();
    store
        .save_token(&renewed("ann@example.com", ann, "1000.renewed"))
        .await
        .unwrap();
    for query in [by_user("ann@example.com"), by_access("1000.renewed")] {
        store.find_token(&query).await.unwrap().unwrap();
    }
    store.delete_token(ann).await.unwrap();
    let bodies = stub.bodies();
    assert!(bodies.len() > 8);
    for body in bodies {
        let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
        // The value of the secret is the one place for them.
        body.as_object_mut().unwrap().remove("SecretString");
        let text = body.to_string();
        assert!(!text.contains("ann") && !text.contains("1000."), "{text}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_before_it_is_sent() {
    let stub = Stub::start().await;
    let store = store(&stub);
    let ann = store.save_token(&token("ann")).await.unwrap();
    stub.calls();
    let mut long = renewed("ann", ann, &"a".repeat(65_536));
    let error = store.save_token(&long).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    assert!(error.to_string().contains("65536"), "{error}");
    assert!(!whole(&error).contains("aaa"));
    let calls = stub.calls();
    assert!(writes(&calls).is_empty(), "{calls:?}");
    // Also as a new record, and as one that moves in: the ledger is left alone.
    for number in [None, Some(id(700))] {
        long.id = number;
        long.user_name = token("bob").user_name;
        store.save_token(&long).await.unwrap_err();
        let calls = stub.calls();
        assert!(writes(&calls).is_empty(), "{calls:?}");
    }
    let row = store.find_token_by_id(ann).await.unwrap().unwrap();
    assert_eq!(row.access_token, token("ann").access_token);
}

#[tokio::test]
async fn a_save_that_changes_nothing_writes_nothing() {
    let stub = Stub::start().await;
    let store = store(&stub);
    store.save_token(&token("ann")).await.unwrap();
    stub.calls();
    for _ in 0..200 {
        store.save_token(&token("ann")).await.unwrap();
    }
    assert!(writes(&stub.calls()).is_empty());
    assert_eq!(stub.secret("p/token/1").unwrap().versions.len(), 1);
}

#[tokio::test]
async fn the_budget_ends_before_the_quota_of_the_service() {
    let stub = Stub::start().await;
    let store = SecretsManagerStore::from_client(stub.client(), "p").unwrap();
    let ann = store.save_token(&token("ann")).await.unwrap();
    let mut saved = 0;
    let error = loop {
        match store
            .save_token(&renewed("ann", ann, &format!("1000.{saved}")))
            .await
        {
            Ok(_) => saved += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(saved, 24);
    assert_eq!(error.code(), ErrorCode::StoreThrottled);
    assert!(error.is_transient());
    assert!(error.to_string().contains("in 20 min"), "{error}");
    let secret = stub.secret("p/token/1").unwrap();
    assert_eq!(secret.versions.len(), 25);
    assert!(
        secret.value().contains("1000.23"),
        "the last save that was acknowledged"
    );
    // Other records have their own, and reading, deleting and what changes nothing need none.
    store.save_token(&token("bob")).await.unwrap();
    store
        .save_token(&renewed("ann", ann, "1000.23"))
        .await
        .unwrap();
    assert!(store.delete_token(ann).await.unwrap());
}

#[tokio::test]
async fn the_quota_of_the_service_is_an_error_of_its_own() {
    let stub = Stub::start().await;
    let store = store(&stub);
    let ann = store.save_token(&token("ann")).await.unwrap();
    let mut error = None;
    for number in 0..100 {
        let saved = store
            .save_token(&renewed("ann", ann, &format!("1000.{number}")))
            .await;
        error = saved.err();
    }
    let error = error.unwrap();
    assert_eq!(error.code(), ErrorCode::StoreThrottled);
    assert_eq!(error.server_code(), Some("LimitExceededException"));
    let row = store.find_token_by_id(ann).await.unwrap().unwrap();
    assert_eq!(row.access_token.unwrap().expose_secret(), "1000.98");
    // By the old token too, though the tags were set before the write was refused.
    let other = super::store(&stub);
    assert!(
        other
            .find_token(&by_access("1000.98"))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn throttling_is_waited_for() {
    let stub = Stub::start().await;
    let store = store(&stub);
    for (number, code) in ["ThrottlingException", "TooManyRequestsException"]
        .into_iter()
        .enumerate()
    {
        let name = format!("u{number}");
        stub.refuse("", code, 3);
        let saved = store.save_token(&token(&name)).await.unwrap();
        stub.refuse("GetSecretValue", code, 3);
        assert!(store.find_token_by_id(saved).await.unwrap().is_some());
    }
    stub.refuse("GetSecretValue", "ThrottlingException", 4);
    let error = store.find_token_by_id(id(1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreThrottled);
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_record_and_no_second_version() {
    for times in [1, 4] {
        let stub = Stub::start().await;
        let store = store(&stub);
        // All attempts of one call can lose theirs: then the secret is read.
        stub.lose_answers("CreateSecret", times);
        let ann = store.save_token(&token("ann")).await.unwrap();
        assert_eq!(stub.names(), ["p/token/1"]);
        stub.lose_answers("PutSecretValue", times);
        store
            .save_token(&renewed("ann", ann, "1000.new"))
            .await
            .unwrap();
        let secret = stub.secret("p/token/1").unwrap();
        assert_eq!(secret.versions.len(), 2);
        assert!(secret.value().contains("1000.new"));
        assert_eq!(store.get_tokens().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_write_that_was_not_done_is_an_error_and_changes_nothing() {
    let stub = Stub::start().await;
    let store = store(&stub);
    let ann = store.save_token(&token("ann")).await.unwrap();
    let before = store.get_tokens().await.unwrap();
    for action in ["TagResource", "PutSecretValue"] {
        stub.refuse(action, "InternalServiceError", 4);
        let error = store
            .save_token(&renewed("ann", ann, "1000.new"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
        assert_eq!(super::store(&stub).get_tokens().await.unwrap(), before);
        // Not even for those who know the record by its tags alone.
        for query in [by_access("1000.a.ann"), by_user("ann")] {
            let found = super::store(&stub).find_token(&query).await.unwrap();
            assert_eq!(found.as_ref(), before.first());
        }
    }
    stub.refuse("CreateSecret", "InternalServiceError", 4);
    store.save_token(&token("bob")).await.unwrap_err();
    assert_eq!(store.get_tokens().await.unwrap(), before);
}

#[tokio::test]
async fn what_aws_refuses_says_what_to_allow() {
    let stub = Stub::start().await;
    let store = store(&stub);
    store.save_token(&token("ann")).await.unwrap();
    for (action, code) in [
        ("GetSecretValue", "AccessDeniedException"),
        ("GetSecretValue", "ExpiredTokenException"),
        ("GetSecretValue", "UnrecognizedClientException"),
        ("GetSecretValue", "DecryptionFailure"),
    ] {
        stub.refuse(action, code, 1);
        let error = store.find_token(&by_user("ann")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
        assert_eq!(error.server_code(), Some(code));
        let text = whole(&error);
        assert!(text.contains(&format!("secretsmanager:{action}")), "{text}");
        assert!(
            text.contains("p/token/1") && text.contains("00000000-stub"),
            "{text}"
        );
    }
    // A batch says so entry by entry, and that is no absence.
    let denied = SecretsManagerStore::from_client(stub.client(), "p").unwrap();
    stub.refuse("BatchGetSecretValue", "AccessDeniedException", 1);
    let error = denied.get_tokens().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission);
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_can_be_deleted() {
    let stub = Stub::start().await;
    let store = store(&stub);
    let ann = store.save_token(&token("ann")).await.unwrap();
    let bob = store.save_token(&token("bob")).await.unwrap();
    stub.write(
        "p/token/1",
        "by-hand",
        "{\"refresh_token\": \"1000.s3cret\"",
    );
    for error in [
        store.find_token(&by_user("ann")).await.unwrap_err(),
        store.find_token_by_id(ann).await.unwrap_err(),
        store.save_token(&token("ann")).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::StoreDamaged);
        let text = whole(&error);
        assert!(
            text.contains("p/token/1") && !text.contains("s3cret"),
            "{text}"
        );
    }
    assert!(store.find_token_by_id(bob).await.unwrap().is_some());
    // Lists leave it out, and the inventory names it.
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
    assert_eq!(store.get_tokens_page(None, 1).await.unwrap().len(), 1);
    let inventory = store.inventory().await.unwrap().unwrap();
    assert_eq!((inventory.records, inventory.unreadable.len()), (2, 1));
    assert!(!inventory.is_independent, "it is the listing once more");
    let named = &inventory.unreadable[0];
    assert!(
        named.contains("p/token/1") && !named.contains("s3cret"),
        "{named}"
    );
    assert!(store.delete_token(ann).await.unwrap());
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_in_nobodys_way() {
    for is_listed in [true, false] {
        let stub = Stub::start().await;
        let writer = store(&stub);
        writer.save_token(&token("ann")).await.unwrap();
        writer.save_token(&token("bob")).await.unwrap();
        stub.write("p/token/1", "by-hand", "1000.s3cret");
        if !is_listed {
            stub.hold_listings_without(&stub.names());
        }
        let other = store(&stub);
        assert_eq!(other.find_token(&by_user("nobody")).await.unwrap(), None);
        assert_eq!(other.save_token(&token("carla")).await.unwrap(), id(3));
        // A list leaves it out, and the inventory says so.
        assert_eq!(store(&stub).get_tokens().await.unwrap().len(), 2);
        let inventory = store(&stub).inventory().await.unwrap().unwrap();
        assert_eq!((inventory.records, inventory.unreadable.len()), (3, 1));
        assert_eq!(store(&stub).delete_tokens().await.unwrap(), 3);
        assert_eq!(store(&stub).get_tokens().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_deleted_secret_can_be_recovered_unless_it_is_to_be_gone_at_once() {
    for deletion in [Deletion::AfterDays(30), Deletion::AtOnce] {
        let stub = Stub::start().await;
        let builder = unlimited().prefix("p").deletion(deletion);
        let store = builder.with_client(stub.client()).unwrap();
        let ann = store.save_token(&token("ann")).await.unwrap();
        assert!(store.delete_token(ann).await.unwrap());
        assert_eq!(store.get_tokens().await.unwrap(), []);
        assert!(!store.delete_token(ann).await.unwrap());
        let is_kept = stub.secret("p/token/1").is_some();
        assert_eq!(is_kept, deletion == Deletion::AfterDays(30));
        let bodies = stub.bodies().join("");
        assert_eq!(bodies.contains("\"RecoveryWindowInDays\":30"), is_kept);
        assert_eq!(
            bodies.contains("\"ForceDeleteWithoutRecovery\":true"),
            !is_kept
        );
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_unavailable() {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = super::stub::client("http://127.0.0.1:1", "us-east-1")
        .config()
        .to_builder();
    let client = aws_sdk_secretsmanager::Client::from_conf(config.http_client(http).build());
    let store = unlimited().with_client(client).unwrap();
    let error = store.find_token_by_id(id(1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);

    // It accepts the connection, and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let builder = unlimited().timeout(Duration::from_millis(200));
    let store = builder
        .with_client(super::stub::client(&url, "us-east-1"))
        .unwrap();
    let error = store.find_token_by_id(id(1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(
        error.to_string().contains("not answered in time"),
        "{error}"
    );
}

#[tokio::test]
async fn two_processes_refresh_through_it_and_one_finds_the_others_token() {
    let sandbox = sandbox().await;
    let stub = Stub::start().await;
    let process = || {
        let store = SecretsManagerStore::from_client(stub.client(), "p").unwrap();
        builder(&sandbox, store)
            .policy(no_memory())
            .build()
            .unwrap()
    };
    let (one, other) = (process(), process());
    assert_eq!(one.guarantee(), Guarantee::Process);
    let (ann, _) = expired(&sandbox, one.store(), "ann").await;
    // Many tasks of one process ask at once; the other process comes later.
    let sessions = [
        one.session(ann).await.unwrap(),
        other.session(ann).await.unwrap(),
    ];
    let asked = (0..16).map(|_| sessions[0].access_token());
    let tokens = futures_util::future::try_join_all(asked).await.unwrap();
    let late = sessions[1].access_token().await.unwrap();
    assert!(tokens.iter().all(|access| access.token() == late.token()));
    assert_eq!(refreshes(&sandbox), 1);
    assert_eq!(stub.secret("p/token/1").unwrap().versions.len(), 2);
    // A record that was deleted is not handed out any more.
    one.store().delete_token(ann).await.unwrap();
    let error = sessions[1].access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
}

#[test]
fn connecting_finds_credentials_in_the_environment_and_tries_them() {
    const NAME: &str = "secrets_manager_store::limits::connecting_finds_credentials_in_the_environment_and_tries_them";
    let variables = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
    ];
    if !alone_in_a_process(NAME, &variables) {
        return;
    }
    block_on(async {
        let stub = Stub::start().await;
        let builder = SecretsManagerStore::builder().endpoint(stub.url());
        let error = builder.clone().connect().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput);
        assert!(error.to_string().contains("AWS_REGION"), "{error}");
        let builder = builder.region("eu-central-1");
        assert!(builder.clone().connect_existing().await.unwrap().is_none());
        assert!(stub.names().is_empty());
        stub.calls();
        let store = builder.clone().connect().await.unwrap();
        assert_eq!(store.prefix(), "zoho-oauth");
        assert_eq!(counted(&stub.calls()).len(), 1);
        store.save_token(&token("ann")).await.unwrap();
        assert_eq!(stub.names(), ["zoho-oauth/token/1"]);
        let existing = builder.clone().connect_existing().await.unwrap().unwrap();
        assert_eq!(existing.get_tokens().await.unwrap().len(), 1);
        // One that was emptied is there all the same.
        assert_eq!(existing.delete_tokens().await.unwrap(), 1);
        assert!(builder.clone().connect_existing().await.unwrap().is_some());
        stub.refuse("", "AccessDeniedException", 1);
        let error = builder.connect().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorePermission);
    });
}

#[test]
fn connecting_without_credentials_says_so() {
    const NAME: &str = "secrets_manager_store::limits::connecting_without_credentials_says_so";
    let variables = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
    ];
    if !alone_in_a_process(NAME, &variables) {
        return;
    }
    block_on(async {
        let builder = SecretsManagerStore::builder().region("eu-central-1");
        let error = builder
            .endpoint("http://127.0.0.1:1")
            .connect()
            .await
            .unwrap_err();
        assert_eq!(
            error.code(),
            ErrorCode::StorePermission,
            "{}",
            whole(&error)
        );
        assert!(error.to_string().contains("no AWS credentials"), "{error}");
    });
}
