//! PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};
use zoho_oauth::store::CoordinationKey;
use zoho_oauth::store::postgres::PostgresStoreBuilder;
use zoho_oauth::{AccessToken, ClientSecret, PostgresStore, TokenQuery, TokenStore, UserName};
use zoho_test_servers::{Options, Postgres};

use super::life::life;
use super::net::Net;
use crate::accounts::{alone_in_a_process, block_on};
use crate::support::good;

const PASSWORD: &str = "pa55-0f-the-portal";

#[test]
fn no_secret_is_printed() {
    const NAME: &str = "redaction::postgres::no_secret_is_printed";
    if alone_in_a_process(NAME, &[]) {
        block_on(lives());
    }
}

async fn lives() {
    let net = Net::over_the_process();
    net.secret(PASSWORD);
    let options = Options::new().hba("host all all 127.0.0.1/32 scram-sha-256");
    let server = Postgres::start_with(&options).unwrap();
    let role = format!(
        "CREATE ROLE portal SUPERUSER LOGIN PASSWORD '{PASSWORD}'; \
        CREATE SCHEMA portal AUTHORIZATION portal"
    );
    server.sql(&role).unwrap();
    let builder = PostgresStore::builder()
        .port(server.port())
        .database("postgres")
        .schema("portal")
        .user("portal")
        .password(PASSWORD)
        .patience(Duration::ZERO);
    for prepared in [true, false] {
        let builder = builder.clone().prepared_statements(prepared);
        net.print(&builder);
        let store = builder.clone().connect().await.unwrap();
        life(&net, Arc::new(store.clone())).await;
        // A statement that was prepared before the table changed is tried again.
        let patient = builder.patience(Duration::from_secs(1));
        refused(&net, &server, &patient.connect().await.unwrap()).await;
        broken(&net, &server, &store).await;
        damaged(&net, &server, &store).await;
    }
    let foreign = "CREATE TABLE portal.prices (\"1000.s3cretinthewrongplace\" int)";
    server.sql(foreign).unwrap();
    let prices = builder.clone().table("prices").connect().await;
    net.refusal("store_foreign", &prices);
    unreachable(&net, builder).await;
    net.search(&["executing statement", "preparing query", "poll_read"]);
}

/// A server that quotes in its refusals what it was given.
async fn refused(net: &Net, server: &Postgres, store: &PostgresStore) {
    let mut ann = good("ann", "client");
    ann.client_secret = ClientSecret::new("s3cret-0f-the-client").ok();
    net.record(&ann);
    store.save_token(&ann).await.unwrap();
    let mut token = good("bob", "another");
    token.client_secret.clone_from(&ann.client_secret);
    for (number, (change, back, code)) in [
        (
            "ADD CONSTRAINT quoting UNIQUE (client_secret)",
            "DROP CONSTRAINT quoting",
            "store_foreign",
        ),
        (
            "ADD CONSTRAINT quoting CHECK (access_token NOT LIKE '1000.bob%')",
            "DROP CONSTRAINT quoting",
            "store_foreign",
        ),
        (
            "ALTER COLUMN redirect_url TYPE varchar(5)",
            "ALTER COLUMN redirect_url TYPE text",
            "invalid_input",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let alter = |change| format!("ALTER TABLE portal.oauthtoken {change}");
        server.sql(&alter(change)).unwrap();
        token.access_token = AccessToken::new(format!("1000.bob.unsaved.{number}")).ok();
        token.redirect_url = Some("https://portal.example".into());
        net.record(&token);
        net.refusal(code, &store.save_token(&token).await);
        server.sql(&alter(back)).unwrap();
    }
    // In whatever words, and beside them.
    let quote = "CREATE FUNCTION portal.quote() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        RAISE NOTICE 'this one: %', NEW.access_token; \
        RAISE WARNING 'this one: %', NEW.refresh_token; \
        RAISE EXCEPTION 'not this one: %', NEW.access_token \
            USING DETAIL = NEW.refresh_token, HINT = NEW.client_secret; \
        END $$; \
        CREATE TRIGGER quoting BEFORE INSERT ON portal.oauthtoken \
        FOR EACH ROW EXECUTE FUNCTION portal.quote()";
    server.sql(quote).unwrap();
    net.refusal("store_foreign", &store.save_token(&token).await);
    server.sql("DROP FUNCTION portal.quote CASCADE").unwrap();
}

/// The superuser, with a statement that holds no secret: the driver logs it.
async fn superuser(server: &Postgres) -> Client {
    let mut config = Config::new();
    config.host("127.0.0.1").port(server.port());
    config.user("portal").password(PASSWORD).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A connection that is killed in the middle of a save.
async fn broken(net: &Net, server: &Postgres, store: &PostgresStore) {
    let mut token = good("cid", "client");
    net.record(&token);
    store.save_token(&token).await.unwrap();
    token.access_token = AccessToken::new("1000.cid.in.the.middle").ok();
    net.record(&token);
    let (locker, killer) = (superuser(server).await, superuser(server).await);
    let lock = "BEGIN; SELECT 1 FROM portal.oauthtoken FOR UPDATE";
    locker.batch_execute(lock).await.unwrap();
    let saving = tokio::spawn({
        let store = store.clone();
        async move { store.save_token(&token).await }
    });
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name = 'zoho-oauth' AND wait_event_type = 'Lock'";
    let began = std::time::Instant::now();
    while killer.query(kill, &[]).await.unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    net.refusal("store_unavailable", &saving.await.unwrap());
}

/// Values where they should not be.
async fn damaged(net: &Net, server: &Postgres, store: &PostgresStore) {
    const SECRET: &str = "1000.s3cretinthewrongplace";
    net.secret(SECRET);
    // Of a record that never comes: whose lease nobody can read is waited for.
    let key = CoordinationKey::record("7000".parse().unwrap());
    let cell = format!(
        "INSERT INTO portal.zoho_oauth_lease (token_table, key, cell) \
        VALUES ('oauthtoken', '{}', '{{\"fence\": \"{SECRET}\"}}') ON CONFLICT DO NOTHING",
        key.as_str()
    );
    server.sql(&cell).unwrap();
    net.outcome(&store.coordination().unwrap().try_acquire(&key).await);
    for row in [
        format!("(id, user_name) VALUES ('{SECRET}', 'eve')"),
        format!("(id, user_name, expiry_time) VALUES ('8', 'eve', '{SECRET}')"),
    ] {
        let insert = format!(
            "DELETE FROM portal.oauthtoken; INSERT INTO portal.oauthtoken {row}; \
            NOTIFY \"zoho_oauth_x\", '{SECRET}'"
        );
        server.sql(&insert).unwrap();
        let eve = TokenQuery::user_name(UserName::new("eve").unwrap());
        net.refusal("store_damaged", &store.find_token(&eve).await);
        // They leave it out, and say so in the log.
        net.outcome(&store.get_tokens().await);
        net.outcome(&store.get_tokens_page(None, 9).await);
        net.outcome(&store.inventory().await);
    }
    server.sql("DELETE FROM portal.oauthtoken").unwrap();
}

/// A password that is wrong, nobody who listens, and addresses that hold a password.
async fn unreachable(net: &Net, builder: PostgresStoreBuilder) {
    for word in ["pa55-that-is-wrong", "pa55-for-nobody", "pa55-in-the-url"] {
        net.secret(word);
    }
    let wrong = builder.clone().password("pa55-that-is-wrong");
    net.refusal("store_permission", &wrong.connect().await);
    let nobody = builder.clone().password("pa55-for-nobody").port(1);
    net.refusal("store_unavailable", &nobody.connect().await);
    let no_certificate = builder.clone().root_certificates("pa55-in-the-url");
    net.print(&no_certificate);
    net.refusal("invalid_input", &no_certificate.connect().await);
    for url in [
        "postgres://portal:pa55-in-the-url@127.0.0.1:1/zohooauth",
        "portal:pa55-in-the-url@127.0.0.1",
    ] {
        for mistaken in [
            builder.clone().host(url),
            builder.clone().database(url),
            builder.clone().listen_on(url, 5432),
        ] {
            net.print(&mistaken);
            net.refusal("invalid_input", &mistaken.connect().await);
        }
    }
}
