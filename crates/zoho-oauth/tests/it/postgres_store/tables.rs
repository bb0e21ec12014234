//! What is in the database.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::{Config, NoTls};
use zoho_oauth::store::{CoordinationKey, Memo};
use zoho_oauth::{
    AccessToken, ErrorCode, GrantToken, Guarantee, OAuthToken, PostgresStore, RefreshToken,
    TokenQuery, TokenStore,
};

use super::support::{
    Own, PATIENCE, Schema, by_user, connect, id, leading_to, refreshed, server, token, user,
};

fn pool(config: Config) -> Pool {
    let fast = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    Pool::builder(Manager::from_config(config, NoTls, fast))
        .max_size(2)
        .build()
        .unwrap()
}

/// A pool of the application with settings for its sessions.
fn pool_with(options: &str) -> Pool {
    let mut config = server();
    config.options(options);
    pool(config)
}

#[tokio::test]
async fn the_table_has_the_official_columns_and_nothing_else() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    store.save_token(&token("ann")).await.unwrap();
    let columns = format!(
        "SELECT column_name || ' ' || data_type FROM information_schema.columns \
        WHERE table_schema = '{}' AND table_name = 'oauthtoken' ORDER BY ordinal_position",
        schema.name
    );
    let expected = OAuthToken::FIELDS.map(|name| format!("{name} text"));
    assert_eq!(schema.ask(&columns).await, expected);
    let tables =
        "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1";
    let expected = ["oauthtoken", "zoho_oauth_lease", "zoho_oauth_mark"];
    assert_eq!(schema.ask(tables).await, expected);
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_start_at_once_all_open() {
    for _ in 0..3 {
        let schema = Schema::new().await;
        let opening: Vec<_> = (0..8)
            .map(|number| {
                // Two tables, which share what lies beside them, in a schema that is not there.
                let builder = schema
                    .builder()
                    .schema(format!("{}_new", schema.name))
                    .table(format!("t{}", number % 2));
                tokio::spawn(builder.connect())
            })
            .collect();
        for (number, opening) in opening.into_iter().enumerate() {
            let store = opening.await.unwrap().unwrap();
            store.save_token(&token(&number.to_string())).await.unwrap();
        }
        schema
            .run(&format!(
                "SET client_min_messages = warning; DROP SCHEMA {}_new CASCADE",
                schema.name
            ))
            .await;
        schema.drop().await;
    }
}

/// Somebody stands still in the middle of making tables.
#[tokio::test]
async fn whoever_makes_tables_is_not_waited_for_for_ever() {
    let schema = Schema::new().await;
    // Nobody else is to wait: the lock is one of the whole database.
    let database = format!("db_{}", schema.name);
    schema.run(&format!("CREATE DATABASE {database}")).await;
    let mut config = server();
    config.dbname(&database);
    let other = connect(&config).await;
    let making = i64::from_be_bytes(*b"zohoauth");
    let lock = format!("SELECT pg_advisory_lock({making})");
    other.batch_execute(&lock).await.unwrap();
    let builder = || leading_to(&config).timeout(Duration::from_secs(1));
    let opened = tokio::time::timeout(PATIENCE, builder().connect()).await;
    let error = opened.expect("it gives up by itself").unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreLocked, "{error}");
    drop(other);
    // The server looks at what the client does when it says goodbye, and not at once.
    let opening = async { while builder().connect().await.is_err() {} };
    tokio::time::timeout(PATIENCE, opening).await.unwrap();
    schema
        .run(&format!("DROP DATABASE {database} WITH (FORCE)"))
        .await;
    schema.drop().await;
}

#[tokio::test]
async fn what_is_complete_is_opened_without_the_right_to_make_anything() {
    let schema = Schema::new().await;
    schema.open().await;
    let role = format!("role_{}", schema.name);
    schema
        .run(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {name} TO {role}; \
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {role}",
            name = schema.name
        ))
        .await;
    let builder = || schema.builder().user(&role);
    let store = builder().connect().await.unwrap();
    let saved = store.save_token(&token("ann")).await.unwrap();
    let permit = coordination_of(&store, saved).await.unwrap();
    permit.release(None).await.unwrap();
    assert!(store.delete_token(saved).await.unwrap());

    let error = builder().table("another").connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    drop(store);
    schema
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    schema.drop().await;
}

async fn coordination_of(
    store: &PostgresStore,
    record: zoho_oauth::TokenId,
) -> Option<Box<dyn zoho_oauth::store::Permit>> {
    let coordination = store.coordination().unwrap();
    assert_eq!(coordination.guarantee(), Guarantee::Fleet);
    let key = CoordinationKey::record(record);
    coordination.try_acquire(&key).await.unwrap()
}

#[tokio::test]
async fn what_something_else_made_is_left_alone() {
    let schema = Schema::new().await;
    schema
        .run(
            "CREATE TABLE lacking (id text, user_name text); INSERT INTO lacking VALUES ('x', 'y'); \
            CREATE VIEW seen AS SELECT 1 AS id; \
            CREATE TABLE numbers (id bigint, user_name text, client_id text, client_secret text, \
            refresh_token text, access_token text, grant_token text, expiry_time bigint, \
            redirect_url text, api_domain text)",
        )
        .await;
    for (table, says) in [
        ("lacking", "lacks the columns client_id"),
        ("seen", "is no table"),
        ("numbers", "not text: id, expiry_time"),
    ] {
        let error = schema.builder().table(table).connect().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
        assert!(error.message().contains(says), "{error}");
        assert!(error.message().contains(table), "{error}");
    }
    assert_eq!(schema.ask("SELECT user_name FROM lacking").await, ["y"]);
    let made = "SELECT count(*)::text FROM pg_class WHERE relname LIKE 'zoho%' \
        AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";
    assert_eq!(schema.ask(made).await, ["0"]);

    // Something of another kind where an index belongs.
    schema
        .run("CREATE VIEW zoho_oauth_mine_by_id AS SELECT 1 AS id")
        .await;
    let error = schema.builder().table("mine").connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
    schema.drop().await;
}

#[tokio::test]
async fn a_table_with_the_official_widths_is_used_and_nothing_is_cut_off() {
    let schema = Schema::new().await;
    let columns = OAuthToken::FIELDS.map(|name| match name {
        "id" => "id varchar(10) NOT NULL PRIMARY KEY".to_owned(),
        "expiry_time" => "expiry_time varchar(20)".to_owned(),
        name => format!("{name} varchar(255)"),
    });
    let table = format!("CREATE TABLE oauthtoken ({})", columns.join(", "));
    schema.run(&table).await;
    // What is missing is '' to some.
    schema
        .run("INSERT INTO oauthtoken VALUES ('9', 'ann', '', '', 'r', 'a', '', '', '', NULL)")
        .await;
    let store = schema.open().await;
    let ann = store.find_token(&by_user("ann")).await.unwrap().unwrap();
    assert_eq!(
        (ann.id, ann.grant_token, ann.expiry_time),
        (Some(id(9)), None, None)
    );

    let mut long = token("bob");
    long.access_token = AccessToken::new("a".repeat(256)).ok();
    let error = store.save_token(&long).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
    assert!(store.find_token(&by_user("bob")).await.unwrap().is_none());

    let widen = OAuthToken::FIELDS.map(|name| format!("ALTER {name} TYPE text"));
    // Under the feet of the store, whose statements were prepared for the other type.
    schema
        .run(&format!("ALTER TABLE oauthtoken {}", widen.join(", ")))
        .await;
    assert!(store.find_token(&by_user("ann")).await.unwrap().is_some());
    assert_eq!(store.save_token(&long).await.unwrap(), id(10));
    assert_eq!(
        store
            .find_token_by_id(id(10))
            .await
            .unwrap()
            .unwrap()
            .access_token,
        long.access_token
    );
    schema.drop().await;
}

#[tokio::test]
async fn ids_are_numbers_whoever_gives_them() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    for number in ["10", "9", "2"] {
        schema
            .run(&format!("INSERT INTO oauthtoken (id, user_name, access_token) VALUES ('{number}', 'u', 'a{number}')"))
            .await;
    }
    let first = store.find_token(&by_user("u")).await.unwrap().unwrap();
    assert_eq!(first.id, Some(id(2)));
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(11));
    let numbers = |rows: Vec<OAuthToken>| {
        rows.iter()
            .map(|row| row.id.unwrap().get())
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(store.get_tokens().await.unwrap()), [2, 9, 10, 11]);
    assert_eq!(
        numbers(store.get_tokens_page(None, 2).await.unwrap()),
        [2, 9]
    );
    assert_eq!(
        numbers(store.get_tokens_page(Some(id(9)), 5).await.unwrap()),
        [10, 11]
    );

    // What was deleted through us is remembered, also after all are gone.
    assert!(store.delete_token(id(11)).await.unwrap());
    assert_eq!(store.save_token(&token("bob")).await.unwrap(), id(12));
    assert_eq!(store.delete_tokens().await.unwrap(), 4);
    assert_eq!(store.save_token(&token("bob")).await.unwrap(), id(13));
    assert!(!store.delete_token(id(9_999_999_999)).await.unwrap());
    assert_eq!(store.save_token(&token("cid")).await.unwrap(), id(14));
    schema.drop().await;
}

#[tokio::test]
async fn a_constraint_that_refuses_a_record_is_said() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    store.save_token(&token("ann")).await.unwrap();
    schema
        .run("ALTER TABLE oauthtoken ADD CONSTRAINT one_client UNIQUE (client_id)")
        .await;
    let error = store.save_token(&token("bob")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
    assert!(!format!("{error:?}").contains("1000.CLIENT"), "{error:?}");
    // What the failed insert would have been given is given to the next.
    schema
        .run("ALTER TABLE oauthtoken DROP CONSTRAINT one_client")
        .await;
    assert_eq!(store.save_token(&token("bob")).await.unwrap(), id(2));
    schema.drop().await;
}

#[tokio::test]
async fn damage_is_named_and_no_value_with_it() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    schema
        .run("INSERT INTO oauthtoken (id, user_name, expiry_time) VALUES ('7', 'u', '1000.s3cret')")
        .await;
    let error = store.find_token(&by_user("u")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged);
    assert!(
        error.message().contains("record 7") && error.message().contains("`expiry_time`"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("s3cret"));
    // A time that could be read, and would not be written as it is.
    for wrong in ["01795372876984", "+1795372876984", "-0"] {
        let sql = format!("UPDATE oauthtoken SET expiry_time = '{wrong}'");
        schema.run(&sql).await;
        let error = store.save_token(&token("u")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreDamaged, "{wrong}: {error}");
        assert!(error.message().contains("`expiry_time`"), "{error}");
    }
    schema
        .run("UPDATE oauthtoken SET id = '1000.s3cret', expiry_time = NULL")
        .await;
    let error = store.find_token(&by_user("u")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged);
    assert!(!format!("{error:?}").contains("s3cret"));
    assert_eq!(store.get_tokens().await.unwrap(), []);
    // It does not stand in the way of others.
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(1));
    schema
        .run("INSERT INTO oauthtoken (id, user_name) VALUES ('', 'empty')")
        .await;
    let page = store.get_tokens_page(None, 1).await.unwrap();
    assert_eq!(page[0].id, Some(id(1)));

    // Two rows with one id, where no key keeps them apart.
    let columns = OAuthToken::FIELDS.map(|name| format!("{name} text"));
    let twins = format!(
        "CREATE TABLE twins ({}); INSERT INTO twins (id, user_name) VALUES ('7', 'u'), ('7', 'v')",
        columns.join(", ")
    );
    schema.run(&twins).await;
    let store = schema.builder().table("twins").connect().await.unwrap();
    let mut renewed = refreshed("u", 1);
    renewed.id = Some(id(7));
    let error = store.save_token(&renewed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    assert!(error.message().contains("the id 7"), "{error}");
    schema.drop().await;
}

#[tokio::test]
async fn side_tables_that_go_missing_are_said() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    let saved = store.save_token(&token("ann")).await.unwrap();
    schema.run("DELETE FROM zoho_oauth_mark").await;
    for error in [
        store.save_token(&token("bob")).await.unwrap_err(),
        store.delete_token(saved).await.unwrap_err(),
        store.delete_tokens().await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    }
    assert!(store.find_token_by_id(saved).await.unwrap().is_some());
    schema.run("DROP TABLE zoho_oauth_mark").await;
    let error = store.delete_token(saved).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");

    // Opening it again makes what is missing.
    let store = schema.open().await;
    assert_eq!(store.save_token(&token("bob")).await.unwrap(), id(2));
    assert!(store.delete_token(saved).await.unwrap());
    schema.drop().await;
}

#[tokio::test]
async fn a_table_that_was_put_aside_keeps_no_index_of_the_new_one() {
    let schema = Schema::new().await;
    schema.open().await;
    schema.run("ALTER TABLE oauthtoken RENAME TO old; ALTER TABLE old RENAME CONSTRAINT oauthtoken_pkey TO old_pkey").await;
    schema.open().await;
    let indexes = "SELECT tablename::text FROM pg_indexes WHERE schemaname = current_schema() \
        AND indexname LIKE 'zoho\\_oauth\\_oauthtoken\\_%'";
    assert_eq!(schema.ask(indexes).await, ["oauthtoken"; 5]);
    schema.drop().await;
}

#[tokio::test]
async fn long_values_are_kept_and_found() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    let long = |letter: &str| letter.repeat(64 * 1024);
    for end in ["1", "2"] {
        let mut token = token(&format!("{}{end}", long("u")));
        token.refresh_token = RefreshToken::new(format!("{}{end}", long("r"))).ok();
        token.access_token = AccessToken::new(format!("{}{end}", long("a"))).ok();
        token.grant_token = GrantToken::new(format!("{}{end}", long("g"))).ok();
        let saved = store.save_token(&token).await.unwrap();
        token.id = Some(saved);
        for query in [
            TokenQuery::user_name(token.user_name.clone().unwrap()),
            TokenQuery::refresh_token(token.refresh_token.clone().unwrap()),
            TokenQuery::access_token(token.access_token.clone().unwrap()),
            TokenQuery::grant_token(token.grant_token.clone().unwrap()),
        ] {
            assert_eq!(
                store.find_token(&query).await.unwrap().as_ref(),
                Some(&token)
            );
        }
        assert_eq!(store.save_token(&token).await.unwrap(), saved);
    }
    schema.drop().await;
}

#[tokio::test]
async fn a_delete_forgets_the_lease_and_what_was_remembered() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    let cells = "SELECT key FROM zoho_oauth_lease";
    let mut saved = Vec::new();
    for name in ["ann", "bob"] {
        let record = store.save_token(&token(name)).await.unwrap();
        let permit = coordination_of(&store, record).await.unwrap();
        assert!(coordination_of(&store.clone(), record).await.is_none());
        let mut memo = Memo::default();
        memo.wait_until = token(name).expiry_time;
        permit.release(Some(&memo)).await.unwrap();
        saved.push(record);
    }
    assert_eq!(schema.ask(cells).await, ["id:1", "id:2"]);
    store.delete_token(saved[0]).await.unwrap();
    assert_eq!(schema.ask(cells).await, ["id:2"]);
    store.delete_tokens().await.unwrap();
    assert!(schema.ask(cells).await.is_empty());
    schema.drop().await;
}

#[tokio::test]
async fn an_application_brings_its_own_pool() {
    let schema = Schema::new().await;
    let options = format!("-c search_path={}", schema.name);
    let store = PostgresStore::from_pool(pool_with(&options), "mine")
        .await
        .unwrap();
    assert!(store.changes().is_none(), "nobody said where to listen");
    let saved = store.save_token(&token("ann")).await.unwrap();
    assert_eq!(schema.ask("SELECT id FROM mine").await, [saved.to_string()]);
    drop(store);

    // Without a schema there is no place for a table.
    let pool = pool_with("-c search_path=no_such_schema");
    let error = PostgresStore::from_pool(pool.clone(), "t")
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
    let store = schema
        .builder()
        .table("mine")
        .connect_with(pool)
        .await
        .unwrap();
    assert_eq!(
        store.find_token(&by_user("ann")).await.unwrap().unwrap().id,
        Some(saved)
    );
    schema.drop().await;
}

/// What an application may leave on a connection that it returns to its pool.
const LEFT_OPEN: [&str; 3] = [
    "BEGIN; INSERT INTO theirs VALUES (1)",
    "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM theirs",
    "BEGIN; INSERT INTO theirs VALUES (1 / 0)",
];

#[tokio::test]
async fn nothing_of_ours_gets_into_a_transaction_that_an_application_left_open() {
    let schema = Schema::new().await;
    schema.run("CREATE TABLE theirs (n int)").await;
    let proxy = Own::proxy(&server());
    let mut through = Config::new();
    through.host("127.0.0.1").port(proxy.port);
    through
        .user(server().get_user().unwrap())
        .dbname(server().get_dbname().unwrap());
    let ways = [
        (server(), true),
        (server(), false),
        // What is sent together stays together where each transaction gets another connection.
        (through, false),
    ];
    for (turn, left) in LEFT_OPEN.into_iter().enumerate() {
        let left = &left.replace("theirs", &format!("{}.theirs", schema.name));
        for (way, (config, is_prepared)) in ways.iter().enumerate() {
            let pool = pool(config.clone());
            let leave = async || {
                let clients = [pool.get().await.unwrap(), pool.get().await.unwrap()];
                for client in &clients {
                    // One of them fails.
                    drop(client.batch_execute(left).await);
                }
            };
            let table = format!("t{turn}_{way}");
            let builder = || schema.builder().table(&table);
            leave().await;
            let builder_of_theirs = builder().prepared_statements(*is_prepared);
            let store = builder_of_theirs.connect_with(pool.clone()).await.unwrap();
            let other = builder().connect().await.unwrap();
            let stored = format!("SELECT coalesce(access_token, '') FROM {table}");

            leave().await;
            let ann = store.save_token(&token("ann")).await.unwrap();
            assert_eq!(schema.ask(&stored).await, ["1000.a.ann"], "{left}");
            leave().await;
            other.save_token(&refreshed("ann", 1)).await.unwrap();
            let found = store.find_token(&by_user("ann")).await.unwrap();
            assert_eq!(
                found.unwrap().access_token,
                refreshed("ann", 1).access_token
            );
            leave().await;
            store.save_token(&refreshed("ann", 2)).await.unwrap();
            assert_eq!(schema.ask(&stored).await, ["1000.a.ann.2"], "{left}");
            leave().await;
            let permit = coordination_of(&store, ann).await.unwrap();
            assert!(coordination_of(&other, ann).await.is_none(), "{left}");
            permit.release(None).await.unwrap();
            leave().await;
            assert!(store.delete_token(ann).await.unwrap());
            assert!(schema.ask(&stored).await.is_empty(), "{left}");
        }
    }
    let theirs = "SELECT count(*)::text FROM theirs";
    assert_eq!(schema.ask(theirs).await, ["0"]);
    schema.drop().await;
}

#[tokio::test]
async fn commits_wait_for_the_disk_where_the_server_would_not() {
    let schema = Schema::new().await;
    schema.open().await;
    // At the commit, each write tells how it is committed.
    schema
        .run(
            "CREATE TABLE said (how text); \
            CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql \
            SET search_path FROM CURRENT AS $$ BEGIN \
            INSERT INTO said VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
            CREATE CONSTRAINT TRIGGER say AFTER INSERT OR UPDATE OR DELETE ON oauthtoken \
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION say(); \
            CREATE CONSTRAINT TRIGGER say AFTER INSERT OR UPDATE OR DELETE ON zoho_oauth_lease \
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION say()",
        )
        .await;
    for (setting, expected) in [("off", "on"), ("local", "local"), ("on", "on")] {
        let options = format!("-c synchronous_commit={setting}");
        let store = schema
            .builder()
            .connect_with(pool_with(&options))
            .await
            .unwrap();
        let ann = store.save_token(&token("ann")).await.unwrap();
        store.save_token(&refreshed("ann", 1)).await.unwrap();
        let mut login = refreshed("ann", 2);
        login.refresh_token = RefreshToken::new("1000.r.new").ok();
        store.save_token(&login).await.unwrap();
        let permit = coordination_of(&store, ann).await.unwrap();
        permit.set_memo(&Memo::default()).await.unwrap();
        permit.release(None).await.unwrap();
        store.delete_token(ann).await.unwrap();
        store.save_token(&token("ann")).await.unwrap();
        store.delete_tokens().await.unwrap();
        let said = schema.ask("DELETE FROM said RETURNING how").await;
        assert!(said.len() >= 9, "{said:?}");
        assert!(
            said.iter().all(|how| how == expected),
            "{setting}: {said:?}"
        );
    }
    schema.drop().await;
}

#[tokio::test]
async fn users_are_told_apart_byte_by_byte() {
    let schema = Schema::new().await;
    // A collation for which these are one and the same.
    schema
        .run(
            "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
        )
        .await;
    let columns = OAuthToken::FIELDS.map(|name| format!("{name} text COLLATE blind"));
    schema
        .run(&format!("CREATE TABLE oauthtoken ({})", columns.join(", ")))
        .await;
    let store = schema.open().await;
    for name in ["Ann@example.com", "ann@example.com", "änn@example.com"] {
        store.save_token(&token(name)).await.unwrap();
    }
    assert_eq!(store.get_tokens().await.unwrap().len(), 3);
    let found = store
        .find_token(&by_user("ann@example.com"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.user_name, Some(user("ann@example.com")));
    assert!(
        store
            .find_token(&by_user("ANN@example.com"))
            .await
            .unwrap()
            .is_none()
    );
    schema.drop().await;
}

#[tokio::test]
async fn a_table_that_is_there_is_opened_and_nothing_is_made() {
    let schema = Schema::new().await;
    let builder = || schema.builder();
    let tables =
        "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1";
    assert!(builder().connect_existing().await.unwrap().is_none());
    let missing = builder().schema(format!("{}_not", schema.name));
    assert!(missing.connect_existing().await.unwrap().is_none());
    let schemas = format!(
        "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '{}%'",
        schema.name
    );
    assert_eq!(schema.ask(&schemas).await, [schema.name.as_str()]);
    schema.run("CREATE VIEW oauthtoken AS SELECT 1 AS id").await;
    let error = builder().connect_existing().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign);

    let role = format!("role_{}", schema.name);
    let columns = OAuthToken::FIELDS.map(|name| format!("{name} varchar(255)"));
    schema
        .run(&format!(
            "DROP VIEW oauthtoken; CREATE TABLE oauthtoken ({}); \
            INSERT INTO oauthtoken (id, user_name) VALUES ('7', 'ann'); \
            CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {name} TO {role}; \
            GRANT SELECT ON oauthtoken TO {role}",
            columns.join(", "),
            name = schema.name
        ))
        .await;
    let reader = builder().user(&role).connect_existing().await;
    let reader = reader.unwrap().unwrap();
    let page = reader.get_tokens_page(None, 10).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(reader.get_tokens().await.unwrap(), page);
    assert!(reader.find_token_by_id(id(7)).await.unwrap().is_some());
    let found = reader.find_token(&by_user("ann")).await;
    assert!(found.unwrap().is_some());
    let error = reader.save_token(&token("bob")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    assert!(error.message().contains("zoho_oauth_"), "{error}");
    assert_eq!(schema.ask(tables).await, ["oauthtoken"]);
    drop(reader);

    // What is complete can be written too.
    schema.open().await;
    let writer = builder().connect_existing().await.unwrap().unwrap();
    assert!(writer.save_token(&token("bob")).await.unwrap() > id(7));
    drop(writer);
    schema
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    schema.drop().await;
}
