//! One refresh among machines that share a database.

use std::sync::Arc;

use zoho_oauth::store::CoordinationKey;
use zoho_oauth::{Guarantee, TokenStore};

use super::*;
use crate::support::{builder, expired, refreshes, sandbox};

/// Two machines, whose clocks and connections have nothing to do with each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_refreshes_once_per_expiry() {
    let database = TestDatabase::new().await;
    let sandbox = sandbox().await;
    let mut machines = Vec::new();
    for _ in 0..3 {
        let store = Arc::new(database.open().await);
        let auth = builder(&sandbox, Arc::clone(&store)).build().unwrap();
        assert_eq!(auth.guarantee(), Guarantee::Fleet);
        machines.push((store, auth));
    }
    let (id, _) = expired(&sandbox, &*machines[0].0, "ann").await;
    let mut asking = tokio::task::JoinSet::new();
    for (_, auth) in &machines {
        let session = auth.session(id).await.unwrap();
        for _ in 0..8 {
            let session = session.clone();
            asking.spawn(async move {
                let access = session.access_token().await.unwrap();
                access.token().expose_secret().to_owned()
            });
        }
    }
    let mut given = asking.join_all().await;
    given.dedup();
    assert_eq!(given.len(), 1);
    assert_eq!(refreshes(&sandbox), 1);
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends_by_itself() {
    let database = TestDatabase::new().await;
    let short = Duration::from_millis(300);
    let dying = database.builder().lease(short);
    let survivor = database.open().await;
    let key = CoordinationKey::record(id(7));
    let taken = key.clone();
    // A machine that dies: its runtime ends, and nobody gives the lease back.
    let machine = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let permit = runtime.block_on(async {
            let store = dying.connect().await.unwrap();
            let permit = store.coordination().unwrap().try_acquire(&taken).await;
            permit.unwrap().unwrap()
        });
        drop(runtime);
        std::mem::forget(permit);
    });
    machine.join().unwrap();
    let taken = tokio::time::timeout(PATIENCE, async {
        let agreement = survivor.coordination().unwrap();
        loop {
            if let Some(permit) = agreement.try_acquire(&key).await.unwrap() {
                return permit;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    taken.await.unwrap().release(None).await.unwrap();
}
