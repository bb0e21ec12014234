//! Settings of sessions that change what a statement does: none reaches a statement of ours, and none
//! of ours reaches a statement of the application.

use std::collections::BTreeMap;

use zoho_oauth::{ErrorCode, TokenStore};
use zoho_test_servers::{MariaDb, Options};

use super::*;
use crate::privileges::everything;

/// What makes a session misbehave.
const HOSTILE: &str = "sql_select_limit = 10, sql_big_selects = 0, max_join_size = 1, \
    completion_type = CHAIN, autocommit = 0, time_zone = '+05:30', max_sort_length = 8, \
    character_set_client = latin1, character_set_results = latin1, \
    collation_connection = latin1_german1_ci, tx_isolation = 'SERIALIZABLE', tx_read_only = 1, \
    sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,PAD_CHAR_TO_FULL_LENGTH,\
EMPTY_STRING_IS_NULL,HIGH_NOT_PRECEDENCE,IGNORE_SPACE'";

/// What a session alone has.
const OF_SESSIONS: &str = "sql_safe_updates = 1, foreign_key_checks = 0, unique_checks = 0";

/// `HOSTILE` or the like, said of the session or of the server.
fn set(scope: &str, settings: &str) -> String {
    let each: Vec<_> = settings
        .split(", ")
        .map(|one| format!("{scope} {one}"))
        .collect();
    format!("SET {}", each.join(", "))
}

/// 41 records with ids that sort in another way as text, all found, listed, changed and deleted.
async fn nothing_is_left_out(store: &MySqlStore) {
    everything(store).await.unwrap();
    let mut saved = Vec::new();
    for number in 0..41 {
        let mut token = user(&format!("u\u{fc}{number}"));
        if number == 40 {
            // Far behind the others.
            token.id = Some(id(1_000_000_001));
        }
        let id = store.save_token(&token).await.unwrap();
        saved.push(with_id(id, token));
    }
    assert_eq!(store.get_tokens().await.unwrap(), saved);
    let mut paged = Vec::new();
    loop {
        let after = paged.last().and_then(|last: &OAuthToken| last.id);
        let page = store.get_tokens_page(after, 15).await.unwrap();
        let is_last = page.len() < 15;
        paged.extend(page);
        if is_last {
            break;
        }
    }
    assert_eq!(paged, saved);
    assert_eq!(store.delete_tokens().await.unwrap(), saved.len());
}

#[tokio::test]
async fn settings_of_the_server_change_nothing_on_connections_of_our_own() {
    let server = tokio::task::spawn_blocking(|| MariaDb::start().unwrap());
    let server = server.await.unwrap();
    server.sql("CREATE DATABASE portal").unwrap();
    server.sql(&set("GLOBAL", HOSTILE)).unwrap();
    let builder = MySqlStore::builder()
        .host("127.0.0.1")
        .port(server.port())
        .database("portal");
    let store = builder.connect().await.unwrap();
    nothing_is_left_out(&store).await;
}

/// A pool of the application with one connection, which resets nothing and was told everything that
/// is wrong.
fn hostile_pool(database: &str) -> Pool {
    let pool = PoolOpts::default()
        .with_constraints(PoolConstraints::new(0, 1).unwrap())
        .with_inactive_connection_ttl(PATIENCE)
        .with_reset_connection(false);
    let options = OptsBuilder::from_opts(address())
        .db_name(Some(database))
        .prefer_socket(false)
        .pool_opts(pool)
        .setup(vec![
            set("SESSION", HOSTILE),
            set("SESSION", OF_SESSIONS),
            "SET SESSION timestamp = 86400".to_owned(),
        ]);
    Pool::new(options)
}

/// All variables of the session, but for those that say what it did last.
async fn variables(database: &TestDatabase, pool: &Pool) -> BTreeMap<String, String> {
    let names = "SELECT LOWER(variable_name) FROM information_schema.system_variables \
        WHERE session_value IS NOT NULL AND variable_name NOT IN ('ERROR_COUNT', 'WARNING_COUNT', \
        'LAST_INSERT_ID', 'IDENTITY', 'INSERT_ID', 'RAND_SEED1', 'RAND_SEED2', 'LAST_GTID', \
        'IN_TRANSACTION', 'PSEUDO_THREAD_ID')";
    let mut names: Vec<_> = database.ask(names).await;
    assert!(names.len() > 150, "{}", names.len());
    for name in &mut names {
        name.insert_str(0, "@@SESSION.");
    }
    // Nothing of ours is left under a name of our own either.
    let own = ["sql_mode", "timestamp", "isolation"].map(|name| format!("@zoho_oauth_{name}"));
    names.extend(own);
    let mut conn = pool.get_conn().await.unwrap();
    let row: mysql_async::Row = conn
        .query_first(format!("SELECT {}", names.join(", ")))
        .await
        .unwrap()
        .unwrap();
    let values = row.unwrap().into_iter().map(|value| value.as_sql(false));
    names.into_iter().zip(values).collect()
}

#[tokio::test]
async fn a_session_of_the_application_changes_nothing_for_us_nor_we_for_it() {
    let database = TestDatabase::new().await;
    let pool = hostile_pool(&database.name);
    let before = variables(&database, &pool).await;
    let store = MySqlStore::from_pool(pool.clone(), "tokens").await.unwrap();
    nothing_is_left_out(&store).await;
    assert_eq!(variables(&database, &pool).await, before);

    // What the server refuses leaves as little behind.
    let rule = "ALTER TABLE tokens ADD UNIQUE of_the_application (api_domain(50))";
    database.run(rule).await;
    let ann = store.save_token(&user("ann")).await.unwrap();
    let mut bob = user("bob");
    let error = store.save_token(&bob).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
    assert_eq!(variables(&database, &pool).await, before);
    // Nor does a statement that was given up.
    bob.api_domain = None;
    let lock = database.locked("START TRANSACTION; SELECT * FROM tokens FOR UPDATE");
    let lock = lock.await;
    let hasty = MySqlStore::builder().table("tokens");
    let hasty = hasty
        .timeout(Duration::from_secs(1))
        .patience(Duration::ZERO);
    let hasty = hasty.open_pool(pool.clone()).await.unwrap();
    hasty.delete_token(ann).await.unwrap_err();
    lock.disconnect().await.unwrap();
    assert_eq!(variables(&database, &pool).await, before);
    store.save_token(&bob).await.unwrap();
}

/// A server that lets nobody stop the clock of a connection.
#[tokio::test]
async fn a_server_whose_clock_is_its_own_is_used() {
    let server = tokio::task::spawn_blocking(|| {
        let options = Options::new().arguments(["--secure-timestamp=YES"]);
        MariaDb::start_with(&options).unwrap()
    });
    let server = server.await.unwrap();
    server.sql("CREATE DATABASE portal").unwrap();
    let builder = MySqlStore::builder()
        .host("127.0.0.1")
        .port(server.port())
        .database("portal");
    nothing_is_left_out(&builder.connect().await.unwrap()).await;
    let options = OptsBuilder::from_opts(Opts::from_url(&server.url()).unwrap());
    let pool = Pool::new(options.db_name(Some("portal")));
    let store = MySqlStore::from_pool(pool, "lent").await.unwrap();
    nothing_is_left_out(&store).await;
}
