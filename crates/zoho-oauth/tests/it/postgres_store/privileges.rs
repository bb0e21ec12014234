//! The GRANT lines of `SECURITY.md`, on a server.

use std::time::Duration;

use zoho_oauth::store::Change;
use zoho_oauth::{ErrorCode, TokenStore};

use super::support::{PATIENCE, Schema, token};
use crate::privileges::{block, everything, rights};

#[tokio::test]
async fn with_the_rights_that_the_handbook_names_everything_works_and_with_one_less_not() {
    let schema = Schema::new().await;
    let admin = schema.open().await;
    let role = format!("role_{}", schema.name);
    schema.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let lines: Vec<_> = block("sql", "-- PostgreSQL")
        .iter()
        .map(|line| {
            let line = line.replace("SCHEMA tokens", &format!("SCHEMA {}", schema.name));
            let line = line.replace("tokens.", &format!("{}.", schema.name));
            line.replace("TO portal", &format!("TO {role}"))
        })
        .collect();
    let builder = schema.builder().user(&role).patience(Duration::ZERO);
    let error = builder.clone().connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    schema.run(&lines.join("")).await;
    let store = builder.clone().connect().await.unwrap();
    // Nothing is needed to listen and to tell.
    let mut changes = store.changes().unwrap();
    let mut next = async || {
        let change = tokio::time::timeout(PATIENCE, changes.recv()).await;
        change.unwrap().unwrap()
    };
    assert_eq!(next().await, Change::Missed);
    everything(&store).await.unwrap();
    let ann = store.save_token(&token("ann")).await.unwrap();
    store.delete_token(ann).await.unwrap();
    while next().await != Change::Record(ann) {}
    drop(store);

    for (right, object) in rights(&lines) {
        let revoke = format!("REVOKE {right} ON {object} FROM {role}");
        schema.run(&revoke).await;
        let outcome = async {
            let store = builder.clone().connect().await?;
            everything(&store).await
        };
        let error = outcome.await.expect_err(&revoke);
        assert_eq!(error.code(), ErrorCode::StorePermission, "{revoke} {error}");
        schema
            .run(&format!("GRANT {right} ON {object} TO {role}"))
            .await;
    }
    everything(&builder.connect().await.unwrap()).await.unwrap();
    everything(&admin).await.unwrap();
    drop(admin);
    schema
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    schema.drop().await;
}
