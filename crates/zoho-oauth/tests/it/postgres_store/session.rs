//! Settings of sessions, and rules of the server, that change what a statement of ours does: none
//! reaches a statement of ours, and none of ours reaches a statement of the application.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::{Config, NoTls};
use zoho_oauth::store::postgres::PostgresStoreBuilder;
use zoho_oauth::{Error, ErrorCode, PostgresStore, TokenStore};

use super::support::{Own, Schema, by_user, refreshed, server, token};
use crate::privileges::everything;

/// A user of the database that owns nothing, with the rights on the schema of a test.
struct Role {
    name: String,
}

impl Role {
    async fn new(schema: &Schema) -> Self {
        let name = format!("role_{}", schema.name);
        schema
            .run(&format!(
                "CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA {0} TO {name}; \
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {0} TO {name}",
                schema.name
            ))
            .await;
        Self { name }
    }

    fn config(&self) -> Config {
        let mut config = server();
        config.user(&self.name);
        config
    }

    /// A pool of the application with one connection.
    fn pool(&self) -> Pool {
        let fast = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(self.config(), NoTls, fast);
        Pool::builder(manager).max_size(1).build().unwrap()
    }

    async fn drop(self, schema: &Schema) {
        schema
            .run(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name))
            .await;
    }
}

/// The three ways to the server: of our own, through a proxy, through an application's pool.
async fn ways(schema: &Schema, role: &Role, proxy: &Own, pool: Pool) -> Vec<PostgresStore> {
    let builder = || schema.builder().user(&role.name);
    let proxied = builder()
        .host("127.0.0.1")
        .port(proxy.port)
        .prepared_statements(false);
    vec![
        builder().connect_existing().await.unwrap().unwrap(),
        proxied.connect_existing().await.unwrap().unwrap(),
        builder().connect_with(pool.clone()).await.unwrap(),
        builder()
            .prepared_statements(false)
            .connect_with(pool)
            .await
            .unwrap(),
    ]
}

/// Operators and functions that say what is wrong, in a schema that comes before the system's own.
fn traps(schema: &str) -> String {
    format!(
        "CREATE FUNCTION {schema}.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; \
        CREATE OPERATOR {schema}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = {schema}.same); \
        CREATE FUNCTION {schema}.length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1'; \
        CREATE FUNCTION {schema}.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$"
    )
}

async fn settings(pool: &Pool) -> BTreeMap<String, String> {
    let client = pool.get().await.unwrap();
    let sql = "SELECT name, setting FROM pg_catalog.pg_settings";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn settings_of_a_session_change_nothing_for_us_nor_we_for_the_application() {
    let schema = Schema::new().await;
    schema.open().await;
    let role = Role::new(&schema).await;
    schema.run(&traps(&schema.name)).await;
    let hostile = format!(
        "ALTER ROLE {0} SET search_path = {1}, pg_catalog; \
        ALTER ROLE {0} SET default_transaction_isolation = 'serializable'; \
        ALTER ROLE {0} SET default_transaction_deferrable = on; \
        ALTER ROLE {0} SET standard_conforming_strings = off; \
        ALTER ROLE {0} SET transform_null_equals = on; \
        ALTER ROLE {0} SET synchronous_commit = off; \
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {1} TO {0}",
        role.name, schema.name
    );
    schema.run(&hostile).await;
    let proxy = Own::proxy(&role.config());
    let pool = role.pool();
    let client = pool.get().await.unwrap();
    client
        .batch_execute("SET client_encoding = 'LATIN1'")
        .await
        .unwrap();
    drop(client);
    let before = settings(&pool).await;
    for store in ways(&schema, &role, &proxy, pool.clone()).await {
        let ann = store.save_token(&token("ann")).await.unwrap();
        let zoe = store.save_token(&token("zo\u{eb}")).await.unwrap();
        assert_ne!(ann, zoe);
        // Whoever is not there is not found.
        assert_eq!(store.find_token(&by_user("eve")).await.unwrap(), None);
        let found = store.find_token(&by_user("zo\u{eb}")).await.unwrap();
        assert_eq!(found.unwrap().id, Some(zoe));
        let stored = schema
            .ask("SELECT user_name FROM oauthtoken ORDER BY id::int")
            .await;
        assert_eq!(stored, ["ann", "zo\u{eb}"]);
        assert!(store.delete_token(zoe).await.unwrap());
        let found = store.find_token_by_id(ann).await.unwrap();
        assert_eq!(found.unwrap().user_name, token("ann").user_name);
        everything(&store).await.unwrap();
        assert_eq!(settings(&pool).await, before);
    }

    // A server that reads only unless it is told is written to on connections of our own.
    schema
        .run(&format!(
            "ALTER ROLE {} SET default_transaction_read_only = on",
            role.name
        ))
        .await;
    let own = schema.builder().user(&role.name).connect().await.unwrap();
    everything(&own).await.unwrap();
    // Without a schema, the first of the `search_path` is meant, as ever.
    let mut builder = super::support::leading_to(&role.config());
    builder = builder.table("oauthtoken");
    let found = builder.connect_existing().await.unwrap().unwrap();
    assert!(format!("{found:?}").contains(&schema.name));
    drop((own, found, proxy));
    role.drop(&schema).await;
    schema.drop().await;
}

/// All that reads or writes.
async fn asked(store: &PostgresStore) -> Vec<(&'static str, Option<Error>)> {
    vec![
        ("find", store.find_token(&by_user("ann")).await.err()),
        ("all", store.get_tokens().await.err()),
        ("page", store.get_tokens_page(None, 5).await.err()),
        ("save", store.save_token(&refreshed("ann", 1)).await.err()),
        ("new", store.save_token(&token("bob")).await.err()),
        (
            "delete",
            store.delete_token(super::support::id(1)).await.err(),
        ),
        ("clear", store.delete_tokens().await.err()),
    ]
}

fn is_said(outcome: Option<Error>, why: &str) {
    let error = outcome.unwrap_or_else(|| panic!("{why}: no error"));
    assert_eq!(error.code(), ErrorCode::StorePermission, "{why}: {error}");
    assert!(
        error.message().contains("row-level security"),
        "{why}: {error}"
    );
}

#[tokio::test]
async fn row_level_security_that_hides_records_is_said() {
    let schema = Schema::new().await;
    schema.open().await.save_token(&token("ann")).await.unwrap();
    let role = Role::new(&schema).await;
    let proxy = Own::proxy(&role.config());
    let stores = ways(&schema, &role, &proxy, role.pool()).await;
    for store in &stores {
        assert_eq!(store.get_tokens().await.unwrap().len(), 1);
    }
    // It is switched on while the program runs; one policy shows some of the records.
    let on = "ALTER TABLE oauthtoken ENABLE ROW LEVEL SECURITY; \
        CREATE POLICY of_ann ON oauthtoken USING (user_name = 'ann')";
    schema.run(on).await;
    for (way, store) in stores.iter().enumerate() {
        for (what, outcome) in asked(store).await {
            is_said(outcome, &format!("{what} by way {way}"));
        }
    }
    assert_eq!(
        schema.ask("SELECT access_token FROM oauthtoken").await,
        ["1000.a.ann"]
    );
    // A store that is opened then says so at once.
    let builder = || schema.builder().user(&role.name);
    is_said(builder().connect().await.err(), "open");
    is_said(
        builder().connect_existing().await.err(),
        "open what is there",
    );
    is_said(
        builder().connect_with(role.pool()).await.err(),
        "open a pool",
    );
    // For a user who may pass by it, nothing changes.
    schema
        .run(&format!("ALTER ROLE {} BYPASSRLS", role.name))
        .await;
    everything(&builder().connect().await.unwrap())
        .await
        .unwrap();
    schema
        .run(&format!("ALTER ROLE {} NOBYPASSRLS", role.name))
        .await;
    schema
        .run("ALTER TABLE oauthtoken DISABLE ROW LEVEL SECURITY")
        .await;

    // The tables beside it.
    for table in ["zoho_oauth_mark", "zoho_oauth_lease"] {
        schema
            .run(&format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))
            .await;
        for (way, store) in stores.iter().enumerate() {
            let error = everything(store).await.err();
            is_said(error, &format!("{table} by way {way}"));
        }
        schema
            .run(&format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"))
            .await;
    }
    drop((stores, proxy));
    role.drop(&schema).await;
    schema.drop().await;
}

/// What the application's own sessions see stays what it was.
#[tokio::test]
async fn the_application_keeps_its_row_level_security() {
    let schema = Schema::new().await;
    schema.open().await;
    let role = Role::new(&schema).await;
    schema
        .run(&format!(
            "CREATE TABLE theirs (n int); INSERT INTO theirs VALUES (1); \
            ALTER TABLE theirs ENABLE ROW LEVEL SECURITY; GRANT SELECT ON theirs TO {}",
            role.name
        ))
        .await;
    let pool = role.pool();
    let builder: PostgresStoreBuilder = schema.builder().timeout(Duration::from_secs(5));
    let store = builder.connect_with(pool.clone()).await.unwrap();
    everything(&store).await.unwrap();
    let client = pool.get().await.unwrap();
    let sql = format!("SELECT n FROM {}.theirs", schema.name);
    assert!(client.query(&sql, &[]).await.unwrap().is_empty());
    drop((client, store, pool));
    role.drop(&schema).await;
    schema.drop().await;
}
