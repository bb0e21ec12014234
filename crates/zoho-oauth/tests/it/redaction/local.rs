//! Memory, files and SQLite.

use std::path::Path;
use std::sync::Arc;

use zoho_oauth::{FileStore, ListStore, SqliteStore, TokenStore};

use super::life::life;
use super::net::Net;
use crate::accounts::{alone_in_a_process, block_on};

#[test]
fn no_secret_is_printed_in_the_whole_life_of_a_token() {
    const NAME: &str = "redaction::local::no_secret_is_printed_in_the_whole_life_of_a_token";
    if alone_in_a_process(NAME, &[]) {
        block_on(lives());
    }
}

async fn lives() {
    let net = Net::over_the_process();
    let folder = tempfile::tempdir().unwrap();
    life(&net, Arc::new(ListStore::new())).await;
    let path = folder.path().join("sdk_tokens.txt");
    life(&net, Arc::new(FileStore::open(&path).await.unwrap())).await;
    damaged_file(&net, &path).await;
    let path = folder.path().join("zohooauth.db");
    life(&net, Arc::new(SqliteStore::open(&path).unwrap())).await;
    damaged_database(&net, &path).await;
    net.search(&[]);
}

/// Files in which tokens stand where they should not.
async fn damaged_file(net: &Net, path: &Path) {
    let header = "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time,redirect_uri,api_domain";
    let secret = "1000.s3cretinthewrongplace.0123456789abcdef";
    net.secret(secret);
    for line in [
        format!("{secret},u,c,s,r,a,g,1,,"),
        format!("1,u,c,s,r,a,g,{secret},,"),
        format!("1,u,c,{secret}"),
        format!("1,u,c,\"{secret},r,a,g,1,,"),
        format!("1,u,c,\"{secret}\"x,r,a,g,1,,"),
        format!("1,u,c,{secret},r,a,g,1,,\r\n1,u,c,{secret},r,a,g,1,,"),
    ] {
        std::fs::write(path, format!("{header}\r\n{line}\r\n")).unwrap();
        let store = FileStore::open(path).await;
        net.print(&store);
        match store {
            Ok(store) => net.outcome(&store.get_tokens().await),
            Err(error) => net.error(&error),
        }
    }
    std::fs::write(path, format!("{secret}\n")).unwrap();
    net.outcome(&FileStore::open(path).await);
}

/// Rows in which tokens stand where they should not.
async fn damaged_database(net: &Net, path: &Path) {
    let secret = "1000.s3cretinthewrongplace.fedcba9876543210";
    net.secret(secret);
    let base = rusqlite::Connection::open(path).unwrap();
    for columns in ["id", "expiry_time, id"] {
        base.execute("delete from oauthtoken", []).unwrap();
        let sql = match columns {
            "id" => "insert into oauthtoken (id) values (?1)",
            _ => "insert into oauthtoken (id, expiry_time) values ('1', ?1)",
        };
        base.execute(sql, [secret]).unwrap();
        let store = SqliteStore::open(path);
        net.print(&store);
        match store {
            Ok(store) => net.outcome(&store.get_tokens().await),
            Err(error) => net.error(&error),
        }
    }
    base.close().unwrap();
    std::fs::write(path, secret).unwrap();
    net.outcome(&SqliteStore::open(path));
}
