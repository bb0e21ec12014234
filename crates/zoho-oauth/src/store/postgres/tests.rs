//! What can be seen only from within: how the statements are carried out.

use std::collections::BTreeSet;

use tokio_postgres::config::Host;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::server::Server;
use super::value::Value;
use super::*;
use crate::secret::{AccessToken, Fingerprint, GrantToken, RefreshToken};
use crate::store::rows::{Mark, Plan, Wanted};
use crate::store::{CoordinationKey, LeaseCells};
use crate::token::{ClientId, UserName};

const ROWS: u32 = 20_000;

fn server() -> Config {
    const NAME: &str = "ZOHO_TEST_POSTGRES";
    #[expect(clippy::disallowed_methods, reason = "where a test finds its server")]
    let url = std::env::var(NAME);
    let url = url.unwrap_or_else(|_| panic!("`{NAME}` is not set: run `cargo xtask test`"));
    url.parse().unwrap()
}

async fn open(schema: &str) -> (PostgresStore, Client) {
    open_in(&server(), schema).await
}

async fn open_in(config: &Config, schema: &str) -> (PostgresStore, Client) {
    let (base, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let [Host::Tcp(host)] = config.get_hosts() else {
        panic!("the server of the tests has one host name");
    };
    let mut builder = PostgresStore::builder()
        .host(host)
        .port(config.get_ports()[0])
        .database(config.get_dbname().unwrap())
        .user(config.get_user().unwrap())
        .schema(schema);
    if let Some(password) = config.get_password() {
        builder = builder.password(String::from_utf8_lossy(password));
    }
    let store = builder.connect().await.unwrap();
    (store, base)
}

async fn close(schema: &str, base: &Client) {
    let sql = format!("SET client_min_messages = warning; DROP SCHEMA {schema} CASCADE");
    base.batch_execute(&sql).await.unwrap();
}

fn token(number: u64) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.id = TokenId::new(number).ok();
    token.user_name = UserName::new(format!("u{number}")).ok();
    token.refresh_token = RefreshToken::new(format!("r{number}")).ok();
    token.access_token = AccessToken::new(format!("a{number}")).ok();
    token.grant_token = GrantToken::new(format!("g{number}")).ok();
    token
}

/// A statement, the types of its values, and the indexes that it must use.
type Pointed = (String, Vec<Type>, Vec<&'static str>);

/// Every statement that must go straight to its rows, however many others there are.
fn pointed(server: &Server) -> Vec<Pointed> {
    const ALL: [&str; 5] = [
        "by_id",
        "user_name",
        "refresh_token",
        "grant_token",
        "access_token",
    ];
    let kinds = |values: &[Value<'_>]| values.iter().map(Value::kind).collect::<Vec<_>>();
    let statements = &server.statements;
    let row = token(5);
    let wanted = [
        Wanted::Id(row.id.unwrap()),
        Wanted::UserName(row.user_name.clone().unwrap()),
        Wanted::RefreshToken(row.refresh_token.clone().unwrap()),
        Wanted::GrantToken(row.grant_token.clone().unwrap()),
        Wanted::AccessToken(row.access_token.clone().unwrap()),
    ];
    let mut all: Vec<Pointed> = Vec::new();
    let queries = [
        TokenQuery::user_name(row.user_name.clone().unwrap()),
        TokenQuery::refresh_token(row.refresh_token.clone().unwrap()),
        TokenQuery::grant_token(row.grant_token.clone().unwrap()),
        TokenQuery::access_token(row.access_token.clone().unwrap()),
    ];
    for (query, index) in queries.iter().zip(&ALL[1..]) {
        let with = query.clone().with_client(ClientId::new("c").unwrap());
        for query in [query, &with] {
            let (sql, values) = statements.find(query);
            all.push((sql.to_owned(), kinds(&values), vec![index]));
        }
    }
    let (sql, values) = statements.by_id(row.id.unwrap());
    all.push((sql.to_owned(), kinds(&values), vec!["by_id"]));
    let (sql, values) = statements.rows(&wanted);
    all.push((sql, kinds(&values), ALL.to_vec()));
    for channel in [None, Some("c")] {
        let (sql, values) = statements.replace(&row, &row, channel);
        all.push((sql.to_owned(), kinds(&values), vec!["by_id"]));
    }
    let mark = Mark {
        highest_id: 1,
        writes: 1,
    };
    let pair = (row.clone(), token(6));
    for (insert, update, delete) in [
        (Some(token(30_000)), None, vec![]),
        (None, Some(pair), vec![token(7), token(8)]),
    ] {
        let plan = Plan {
            id: row.id.unwrap(),
            highest_id: 1,
            insert,
            update,
            delete,
        };
        let (sql, values) = statements.apply("oauthtoken", &mark, &plan, "c");
        all.push((sql, kinds(&values), vec!["by_id"]));
    }
    let (text, number) = (Type::TEXT, Type::INT8);
    let cell = [text.clone(), text.clone(), text.clone(), number.clone()];
    let and_text = [&cell[..], std::slice::from_ref(&text)].concat();
    let page = vec![number.clone(), text.clone(), number];
    for (sql, kinds, indexes) in [
        (&statements.page, page, vec!["by_id"]),
        (&statements.mark, vec![text.clone()], vec!["by_id"]),
        (
            &statements.delete,
            and_text.clone(),
            vec!["by_id", "lease_pkey"],
        ),
        (
            &statements.read_cell,
            cell[..2].to_vec(),
            vec!["lease_pkey"],
        ),
        (&statements.insert_cell, cell.to_vec(), vec![]),
        (&statements.update_cell, and_text, vec!["lease_pkey"]),
        (&statements.delete_cell, cell.to_vec(), vec!["lease_pkey"]),
        (&statements.sweep_cells, vec![text], vec!["lease_starts"]),
    ] {
        all.push((sql.clone(), kinds, indexes));
    }
    all
}

/// How the server would carry out a statement for values that it does not know yet.
async fn plan_of(base: &Client, sql: &str, kinds: &[Type]) -> String {
    let names: Vec<_> = kinds.iter().map(Type::name).collect();
    let values = kinds.iter().map(|kind| match *kind {
        Type::TEXT => "'5'",
        _ => "5",
    });
    let values: Vec<_> = values.collect();
    let prepare = format!("PREPARE it ({}) AS {sql}", names.join(", "));
    base.batch_execute(&prepare).await.unwrap();
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE it ({})", values.join(", "));
    let lines = base.simple_query(&explain).await.unwrap();
    base.batch_execute("DEALLOCATE it").await.unwrap();
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    let lines: Vec<_> = lines.iter().filter_map(line).collect();
    lines.join("\n")
}

#[tokio::test]
async fn every_look_up_and_write_goes_straight_to_its_rows() {
    let base = server();
    let (base, connection) = base.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    // Where the order is that of the bytes, a prefix is a range of an index, and elsewhere not.
    for locale in ["C", "C.UTF-8"] {
        let name = format!("plans_{:016x}", fastrand::u64(..));
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 LOCALE '{locale}'");
        base.batch_execute(&create).await.unwrap();
        assert_all_go_straight(server().dbname(&name), locale).await;
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        base.batch_execute(&drop).await.unwrap();
    }
}

async fn assert_all_go_straight(database: &Config, locale: &str) {
    let (store, base) = open_in(database, "plans").await;
    let fill = format!(
        "SET search_path = plans; INSERT INTO oauthtoken SELECT i, 'u' || i, 'c', 's', 'r' || i, \
        'a' || i, CASE WHEN i % 2 = 0 THEN '' END, '1795372876984', NULL, 'd' \
        FROM generate_series(1, {ROWS}) i; \
        INSERT INTO zoho_oauth_lease SELECT 'oauthtoken', 'id:' || i, '{{}}' \
        FROM generate_series(1, {ROWS}) i"
    );
    base.batch_execute(&fill).await.unwrap();
    let statements = pointed(&store.core.server);
    for (statistics, planning) in [
        ("", "force_generic_plan"),
        ("ANALYZE;", "force_generic_plan"),
        ("", "force_custom_plan"),
    ] {
        let set = format!("{statistics} SET plan_cache_mode = {planning}");
        base.batch_execute(&set).await.unwrap();
        for (sql, kinds, indexes) in &statements {
            let plan = plan_of(&base, sql, kinds).await;
            let why = format!("{locale} {statistics} {planning}: {sql}\n{plan}");
            for table in ["oauthtoken", "zoho_oauth_lease"] {
                assert!(!plan.contains(&format!("Seq Scan on {table}")), "{why}");
            }
            for index in indexes {
                let used = [
                    format!("zoho_oauth_{index}"),
                    format!("zoho_oauth_oauthtoken_{index}"),
                ];
                assert!(used.iter().any(|index| plan.contains(index)), "{why}");
            }
        }
    }
}

#[tokio::test]
async fn old_leases_of_credentials_are_swept_away() {
    let schema = format!("sweep_{:016x}", fastrand::u64(..));
    let (store, base) = open(&schema).await;
    let id = CoordinationKey::record(TokenId::new(7).unwrap());
    let used = CoordinationKey::start(&Fingerprint::of(&["used"]));
    let old = format!(
        "SET search_path = {schema}; INSERT INTO zoho_oauth_lease \
        SELECT table_name, key, '', now() - age::interval \
        FROM (VALUES ('oauthtoken'), ('other')) t (table_name), \
        (VALUES ('start:old', '3 hours'), ('start:new', '1 hour'), ('{}', '3 hours'), \
        ('{}', '3 hours')) k (key, age)",
        id.as_str(),
        used.as_str()
    );
    base.batch_execute(&old).await.unwrap();
    // Whoever goes on using one makes it young. In a record's, of which this does not matter,
    // nothing changes that an index has.
    let cells = super::coordination::Cells(Arc::clone(&store.core.server));
    for key in [&used, &id] {
        let swapped = cells.swap_cell(key, Some(""), Some("a"), None).await;
        assert!(swapped.unwrap());
    }
    let same = "SELECT made_at < now() - interval '2 hours' FROM zoho_oauth_lease WHERE cell = 'a' \
        AND key LIKE 'id:%'";
    assert!(base.query_one(same, &[]).await.unwrap().get::<_, bool>(0));
    store.core.server.sweep_cells().await;
    let left = "SELECT token_table || ' ' || key FROM zoho_oauth_lease ORDER BY 1";
    let left = base.query(left, &[]).await.unwrap();
    let left: BTreeSet<String> = left.iter().map(|row| row.get(0)).collect();
    let expected = [
        "oauthtoken id:7",
        &format!("oauthtoken {}", used.as_str()),
        "oauthtoken start:new",
        "other id:7",
        &format!("other {}", used.as_str()),
        "other start:new",
        "other start:old",
    ];
    assert_eq!(left, expected.into_iter().map(str::to_owned).collect());
    close(&schema, &base).await;
}

#[tokio::test]
async fn the_cells_are_compared_and_swapped() {
    let schema = format!("cells_{:016x}", fastrand::u64(..));
    let (store, base) = open(&schema).await;
    let cells = super::coordination::Cells(Arc::clone(&store.core.server));
    let kept = crate::conformance::coordinated::cells_are_compared_and_swapped(&cells).await;
    kept.unwrap();
    close(&schema, &base).await;
}
