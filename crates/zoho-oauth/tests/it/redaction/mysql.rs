//! MySQL.

use std::sync::Arc;
use std::time::Duration;

use zoho_oauth::store::CoordinationKey;
use zoho_oauth::store::mysql::{MySqlStoreBuilder, MySqlTls};
use zoho_oauth::{
    AccessToken, ClientSecret, GrantToken, MySqlStore, RefreshToken, TokenQuery, TokenStore,
    UserName,
};

use super::life::life;
use super::net::Net;
use crate::accounts::{alone_in_a_process, block_on};
use crate::mysql_store::{Account, TestDatabase};
use crate::support::good;

#[test]
fn no_secret_is_printed() {
    const NAME: &str = "redaction::mysql::no_secret_is_printed";
    if alone_in_a_process(NAME, &[]) {
        block_on(lives());
    }
}

async fn lives() {
    let net = Net::over_the_process();
    let database = TestDatabase::new().await;
    let account = Account::new(&database).await;
    net.secret(account.password());
    account.grant_all(&database).await;
    let builder = account.of(database.builder()).patience(Duration::ZERO);
    net.print(&builder);
    let store = builder.clone().connect().await.unwrap();
    life(&net, Arc::new(store.clone())).await;
    refused(&net, &database, &store).await;
    broken(&net, &database, &store).await;
    damaged(&net, &database, &store).await;
    net.outcome(&builder.clone().table("prices").connect().await);
    unreachable(&net, builder).await;
    net.outcome(&store.widen().await);
    store.disconnect().await;
    account.drop(&database).await;
    net.search(&[]);
}

/// A server that quotes in its refusals what it was given.
async fn refused(net: &Net, database: &TestDatabase, store: &MySqlStore) {
    let mut ann = good("ann", "client");
    ann.client_secret = ClientSecret::new("s3cret-0f-the-client").ok();
    net.record(&ann);
    store.save_token(&ann).await.unwrap();
    let mut token = good("bob", "another");
    for (number, (change, back, code)) in [
        (
            "ADD UNIQUE quoting (client_secret(50))",
            "DROP KEY quoting",
            "store_foreign",
        ),
        (
            "MODIFY refresh_token varchar(20)",
            "MODIFY refresh_token mediumtext",
            "column_too_narrow",
        ),
        (
            "MODIFY grant_token bigint",
            "MODIFY grant_token mediumtext",
            "column_too_narrow",
        ),
        (
            "ADD CONSTRAINT quoting CHECK (access_token NOT LIKE '1000.%')",
            "DROP CONSTRAINT quoting",
            "store_foreign",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        database
            .run(&format!("ALTER TABLE oauthtoken {change}"))
            .await;
        token.access_token = AccessToken::new(format!("1000.bob.unsaved.{number}")).ok();
        token.grant_token = GrantToken::new("1000.no.number.at.all").ok();
        token.refresh_token = RefreshToken::new("1000.longer.than.20.characters").ok();
        token.client_secret.clone_from(&ann.client_secret);
        net.record(&token);
        net.refusal(code, &store.save_token(&token).await);
        database
            .run(&format!("ALTER TABLE oauthtoken {back}"))
            .await;
        database.run("DELETE FROM oauthtoken").await;
    }
    // In whatever words.
    let quote = "CREATE TRIGGER quoting BEFORE INSERT ON oauthtoken FOR EACH ROW \
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = NEW.access_token";
    database.run(quote).await;
    net.refusal("store_foreign", &store.save_token(&token).await);
    database.run("DROP TRIGGER quoting").await;
}

/// Connections that are killed in the middle of a save: while it reads, and while it writes.
async fn broken(net: &Net, database: &TestDatabase, store: &MySqlStore) {
    let mut token = good("cid", "client");
    net.record(&token);
    store.save_token(&token).await.unwrap();
    for (number, (lock, statement)) in [
        ("LOCK TABLES oauthtoken WRITE", "(SELECT id, user_name"),
        (
            "START TRANSACTION; SELECT * FROM oauthtoken FOR UPDATE",
            "UPDATE `oauthtoken`",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        token.access_token = AccessToken::new(format!("1000.in.the.middle.{number}")).ok();
        net.record(&token);
        let lock = database.locked(lock).await;
        let saving = tokio::spawn({
            let (store, token) = (store.clone(), token.clone());
            async move { store.save_token(&token).await }
        });
        database.kill_who_waits(statement).await;
        lock.disconnect().await.unwrap();
        let saved = saving.await.unwrap();
        if number == 0 {
            net.refusal("store_unavailable", &saved);
        }
        // Whether a write was done, the store looks by itself.
        net.outcome(&saved);
    }
}

/// Values where they should not be.
async fn damaged(net: &Net, database: &TestDatabase, store: &MySqlStore) {
    const SECRET: &str = "1000.s3cretinthewrongplace";
    net.secret(SECRET);
    let key = CoordinationKey::record("7".parse().unwrap());
    let sql = format!(
        "INSERT INTO zoho_oauth_lease (token_table, lease_key, lease, changed_at) \
        VALUES ('oauthtoken', '{}', '{{\"fence\": \"{SECRET}\"}}', 0)",
        key.as_str()
    );
    database.run(&sql).await;
    net.outcome(&store.coordination().unwrap().try_acquire(&key).await);
    database
        .run("ALTER TABLE oauthtoken MODIFY id varchar(100) NOT NULL, MODIFY expiry_time text")
        .await;
    for row in [
        format!("(id, user_name) VALUES ('{SECRET}', 'eve')"),
        format!("(id, user_name, expiry_time) VALUES ('8', 'eve', '{SECRET}')"),
    ] {
        database.run("DELETE FROM oauthtoken").await;
        database.run(&format!("INSERT INTO oauthtoken {row}")).await;
        let eve = TokenQuery::user_name(UserName::new("eve").unwrap());
        net.refusal("store_damaged", &store.find_token(&eve).await);
        // They leave it out, and say so in the log.
        net.outcome(&store.get_tokens().await);
        net.outcome(&store.get_tokens_page(None, 9).await);
        net.outcome(&store.inventory().await);
    }
    database.run("DELETE FROM oauthtoken").await;
    database
        .run(&format!("CREATE TABLE prices (`{SECRET}` int)"))
        .await;
}

/// A password that is wrong, nobody who listens, and addresses that hold a password.
async fn unreachable(net: &Net, builder: MySqlStoreBuilder) {
    for word in ["pa55-that-is-wrong", "pa55-for-nobody", "pa55-in-the-url"] {
        net.secret(word);
    }
    let wrong = builder.clone().password("pa55-that-is-wrong");
    net.refusal("store_permission", &wrong.connect().await);
    let nobody = builder
        .clone()
        .password("pa55-for-nobody")
        .hosts(["127.0.0.1:1"]);
    net.refusal("store_unavailable", &nobody.connect().await);
    let tls = MySqlTls::authorities("pa55-in-the-url").identity("x", "pa55-in-the-url");
    let no_certificate = builder.clone().tls(tls);
    net.print(&no_certificate);
    net.outcome(&no_certificate.connect().await);
    for url in [
        "mysql://portal:pa55-in-the-url@127.0.0.1:1/zohooauth",
        "portal:pa55-in-the-url@127.0.0.1:1",
        "portal:pa55-in-the-url@127.0.0.1",
    ] {
        let mistaken = builder.clone().host(url);
        net.print(&mistaken);
        net.refusal("invalid_input", &mistaken.connect().await);
        // A database may have any name.
        let mistaken = builder.clone().database(url);
        net.print(&mistaken);
        let refused = mistaken.connect().await;
        assert!(refused.is_err());
        net.outcome(&refused);
    }
}
