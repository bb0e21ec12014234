//! Leases over the server: one holder, by its clock, whatever answers are lost.

use std::time::Duration;

use redis::Value;
use zoho_oauth::store::{CoordinationKey, Memo, Verdict};
use zoho_oauth::{ErrorCode, Guarantee, RedisStore, RefreshToken, Timestamp, TokenId, TokenStore};

use super::proxy::Proxy;
use super::{builder, keys, login, run, shared, shared_server, unique};

fn memo() -> Memo {
    let mut memo = Memo::default();
    memo.credential = Some(RefreshToken::new("1000.refresh").unwrap().fingerprint());
    let at = Timestamp::from_millis(1_800_000_000_000);
    memo.verdicts = vec![Verdict::new("invalid_code", at)];
    memo
}

async fn stored(store: &RedisStore) -> CoordinationKey {
    CoordinationKey::record(store.save_token(&login("ann", "1")).await.unwrap())
}

#[tokio::test]
async fn one_of_many_holds_a_key_and_leaves_a_memo() {
    let prefix = unique();
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(builder(&prefix).connect().await.unwrap());
    }
    let key = stored(&stores[0]).await;
    for _ in 0..20 {
        let tries = stores.iter().map(|store| async {
            let coordination = store.coordination().unwrap();
            assert_eq!(coordination.guarantee(), Guarantee::Fleet);
            coordination.try_acquire(&key).await.unwrap()
        });
        let permits = futures_util::future::join_all(tries).await;
        let held: Vec<_> = permits.into_iter().flatten().collect();
        assert_eq!(held.len(), 1);
        for permit in held {
            permit.release(Some(&memo())).await.unwrap();
        }
    }
    let permit = stores[3]
        .coordination()
        .unwrap()
        .try_acquire(&key)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        permit.memo().await.unwrap().verdicts[0].code,
        "invalid_code"
    );
}

#[tokio::test]
async fn whichever_answers_are_lost_a_lease_comes_out_right() {
    let (host, port) = shared_server();
    let proxy = Proxy::start(host, port).await;
    let prefix = unique();
    let direct = builder(&prefix).connect().await.unwrap();
    let unlucky = RedisStore::builder().port(proxy.port).prefix(prefix);
    let unlucky = unlucky.connect().await.unwrap();
    let key = stored(&direct).await;
    let (there, here) = (
        unlucky.coordination().unwrap(),
        direct.coordination().unwrap(),
    );
    for count in 1..=2 {
        for first in 0_usize.. {
            proxy.lose(first, count);
            let permit = there.try_acquire(&key).await.unwrap().expect("it is free");
            assert!(here.try_acquire(&key).await.unwrap().is_none(), "{first}");
            permit.set_memo(&memo()).await.unwrap();
            let credential = memo().credential.unwrap();
            permit
                .tell_issue(
                    &credential,
                    Timestamp::from_millis(i64::try_from(first).unwrap()),
                )
                .await
                .unwrap();
            let remembered = permit.memo().await.unwrap();
            permit.release(Some(&memo())).await.unwrap();
            let next = here
                .try_acquire(&key)
                .await
                .unwrap()
                .expect("it was given back");
            assert_eq!(
                next.memo().await.unwrap().verdicts.len(),
                remembered.verdicts.len()
            );
            // What is not needed any more goes, also when that is not heard.
            next.release(Some(&Memo::default())).await.unwrap();
            if proxy.lost() == 0 {
                // Looking, taking, remembering and giving back: each was lost once.
                assert!(first >= 4);
                break;
            }
        }
    }
}

#[test]
fn who_stood_still_for_too_long_has_lost_the_lease_and_cannot_pass_a_verdict() {
    let prefix = unique();
    // Two machines. The tasks of the first run only when it is looked at.
    let machine = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let (first, second) = (machine(), machine());
    let brief = builder(&prefix).lease(Duration::from_millis(150));
    let (one, two) = (
        first.block_on(brief.connect()).unwrap(),
        second.block_on(builder(&prefix).connect()).unwrap(),
    );
    let key = first.block_on(stored(&one));
    let stopped = first.block_on(one.coordination().unwrap().try_acquire(&key));
    let stopped = stopped.unwrap().unwrap();
    let holder = second.block_on(async {
        loop {
            if let Some(holder) = two.coordination().unwrap().try_acquire(&key).await.unwrap() {
                break holder;
            }
        }
    });
    let error = first.block_on(stopped.set_memo(&memo())).unwrap_err();
    assert_eq!(error.code(), ErrorCode::LeaseLost);
    let error = first.block_on(stopped.release(Some(&memo()))).unwrap_err();
    assert_eq!(error.code(), ErrorCode::LeaseLost);
    second.block_on(async {
        assert!(holder.memo().await.unwrap().verdicts.is_empty());
        holder.set_memo(&memo()).await.unwrap();
        holder.release(None).await.unwrap();
    });
}

#[tokio::test]
async fn cells_go_with_their_records_and_with_time() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    let mut connection = shared().await;
    let key = stored(&store).await;
    let coordination = store.coordination().unwrap();
    let cells = async |connection: &mut redis::aio::ConnectionManager| {
        let mut cells = keys(connection, &prefix).await;
        cells.retain(|key| key.contains(":cell:"));
        cells
    };
    let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
    permit.release(Some(&memo())).await.unwrap();
    let cell = format!("{{{prefix}}}:1:cell:id:1");
    assert_eq!(cells(&mut connection).await, [cell.as_str()]);
    // The memo of a record is kept for as long as the record.
    assert_eq!(run(&mut connection, &["PTTL", &cell]).await, Value::Int(-1));
    let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
    assert!(store.delete_token(TokenId::new(1).unwrap()).await.unwrap());
    assert!(cells(&mut connection).await.is_empty());
    let error = permit.set_memo(&memo()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::LeaseLost);

    // Whoever comes late to a record that is gone leaves nothing for ever.
    let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
    permit.release(Some(&memo())).await.unwrap();
    let left = run(&mut connection, &["PTTL", &cell]).await;
    assert!(
        matches!(left, Value::Int(3_500_000..=3_600_000)),
        "{left:?}"
    );

    // A clear takes them all.
    let id = store.save_token(&login("bob", "1")).await.unwrap();
    let key = CoordinationKey::record(id);
    let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
    assert_eq!(store.delete_tokens().await.unwrap(), 1);
    assert!(permit.release(Some(&memo())).await.is_err());
    let left = cells(&mut connection).await;
    assert!(
        !left.contains(&format!("{{{prefix}}}:1:cell:id:{id}")),
        "{left:?}"
    );
}
