//! A Galera cluster of three nodes: what is written at one is read at the others, and nodes die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zoho_oauth::{TokenQuery, TokenStore};
use zoho_test_servers::Galera;

use super::*;

/// A store that prefers one of the nodes.
async fn open_at(ports: &[u16], first: usize) -> MySqlStore {
    let hosts = (0..ports.len()).map(|step| {
        let port = ports[(first + step) % ports.len()];
        format!("127.0.0.1:{port}")
    });
    let builder = MySqlStore::builder().hosts(hosts).database("portal");
    builder.connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn galera_nodes_agree_and_one_that_dies_takes_nothing_along() {
    let cluster = tokio::task::spawn_blocking(|| Galera::start(3).unwrap());
    let mut cluster = cluster.await.unwrap();
    cluster.sql(0, "CREATE DATABASE portal").unwrap();
    let ports: Vec<_> = (0..3).map(|node| cluster.port(node)).collect();
    // All at once, each at another node: one of them makes the tables.
    let stores = tokio::join!(open_at(&ports, 0), open_at(&ports, 1), open_at(&ports, 2));
    let stores = [stores.0, stores.1, stores.2];

    // What one node has acknowledged, the others show at once.
    for round in 0..60 {
        let (writer, reader) = (&stores[round % 3], &stores[(round + 1) % 3]);
        let token = user(&format!("early-{}", round % 7));
        let mut token = with_id_of(reader, token).await;
        token.access_token = access(&format!("x{round}"));
        let id = writer.save_token(&token).await.unwrap();
        let found = reader.find_token_by_id(id).await.unwrap().unwrap();
        assert_eq!(found.access_token, token.access_token);
    }
    let early = stores[0].get_tokens().await.unwrap();
    assert_eq!(early.len(), 7);

    // Everybody saves everybody's logins and their own, and one node dies under them.
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for (number, store) in stores.iter().enumerate() {
        for lane in 0..2 {
            let (store, is_over) = (store.clone(), is_over.clone());
            writers.spawn(async move {
                let mut saved = Vec::new();
                let mut round = 0;
                while !is_over.load(Ordering::SeqCst) || round < 20 {
                    let own = user(&format!("own-{number}-{lane}-{round}"));
                    let id = store.save_token(&own).await.unwrap();
                    saved.push(with_id(id, own));
                    let shared = user(&format!("shared-{}", round % 5));
                    store.save_token(&shared).await.unwrap();
                    round += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                saved
            });
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.kill(0);
        cluster.restart(0).unwrap();
        cluster
    });
    let cluster = cluster.await.unwrap();
    is_over.store(true, Ordering::SeqCst);
    let saved: Vec<_> = writers.join_all().await.concat();

    let again = open_at(&ports, 0).await;
    for store in stores.iter().chain([&again]) {
        let all = store.get_tokens().await.unwrap();
        assert_eq!(all.len(), saved.len() + 7 + 5);
        for token in saved.iter().chain(&early) {
            assert!(all.contains(token), "{:?} is gone", token.id);
        }
    }
    drop(cluster);
}

/// The token under the id that its user has, if he has one: as the node shows it.
async fn with_id_of(store: &MySqlStore, mut token: OAuthToken) -> OAuthToken {
    let query = TokenQuery::user_name(token.user_name.clone().unwrap());
    token.id = store
        .find_token(&query)
        .await
        .unwrap()
        .and_then(|token| token.id);
    token
}
