//! Many tasks, threads, stores and programs at once; and nobody waiting for an answer.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use rusqlite::Connection;
use zoho_oauth::store::{CoordinationKey, Guarantee, Memo, Permit};
use zoho_oauth::{AccessToken, ErrorCode, SqliteStore, Timestamp, TokenStore};

use super::{block_on, by_user, code, id, ids, place, token, with_timeout};

#[test]
fn one_database_in_memory_serves_all_threads_and_runtimes() {
    let store = SqliteStore::in_memory().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                block_on(async {
                    for number in 0..20 {
                        let name = format!("{thread}.{number}");
                        let id = store.save_token(&token(&name)).await.unwrap();
                        let found = store.find_token(&by_user(&name)).await.unwrap();
                        assert_eq!(found.unwrap().id, Some(id));
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(block_on(ids(&store)), (1..=160).collect::<Vec<_>>());
    assert!(store.coordination().is_none());
    assert_eq!(store.path(), None);
    // Another one is another one.
    let other = SqliteStore::in_memory().unwrap();
    assert_eq!(block_on(ids(&other)), [0; 0]);
}

#[test]
fn saves_from_eight_threads_are_all_there() {
    let (_folder, path) = place();
    let stores = [
        SqliteStore::open(&path).unwrap(),
        SqliteStore::open(&path).unwrap(),
    ];
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &stores[thread % 2];
            scope.spawn(move || {
                block_on(async {
                    for number in 0..50 {
                        let name = format!("{thread}.{number}");
                        store.save_token(&token(&name)).await.unwrap();
                        store.save_token(&token("everybody")).await.unwrap();
                    }
                });
            });
        }
    });
    let [one, other] = stores;
    let all = block_on(one.get_tokens()).unwrap();
    assert_eq!(all.len(), 401);
    let given: HashSet<_> = all.iter().map(|row| row.id).collect();
    assert_eq!(given.len(), 401);
    assert_eq!(block_on(other.get_tokens()).unwrap(), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_save_from_many_tasks_leaves_one_record() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let saves: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.save_token(&token("ann")).await.unwrap() })
        })
        .collect();
    for save in saves {
        assert_eq!(save.await.unwrap(), id(1));
    }
    assert_eq!(ids(&store).await, [1]);
}

#[tokio::test]
async fn two_stores_on_one_file_see_each_other() {
    let (_folder, path) = place();
    let one = SqliteStore::open(&path).unwrap();
    let other = SqliteStore::open(&path).unwrap();
    for round in 0..20 {
        let name = format!("u{round}");
        let given = one.save_token(&token(&name)).await.unwrap();
        assert_eq!(given, id(2 * round + 1));
        let found = other.find_token(&by_user(&name)).await.unwrap().unwrap();
        assert_eq!(found.id, Some(given));
        let given = other
            .save_token(&token(&format!("v{round}")))
            .await
            .unwrap();
        assert_eq!(given, id(2 * round + 2));
    }
    assert!(other.delete_token(id(1)).await.unwrap());
    assert_eq!(one.find_token(&by_user("u0")).await.unwrap(), None);
}

#[tokio::test]
async fn a_lock_that_is_not_let_go_is_told_and_nothing_is_changed() {
    let (_folder, path) = place();
    let store = with_timeout(30).open(&path).unwrap();
    store.save_token(&token("ann")).await.unwrap();
    let before = store.get_tokens().await.unwrap();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; UPDATE oauthtoken SET access_token = 'half'")
        .unwrap();
    let mut changed = token("ann");
    changed.access_token = Some(AccessToken::new("new").unwrap());
    let error = store.save_token(&changed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreLocked);
    assert!(error.is_transient());
    assert!(error.to_string().contains("zohooauth.db"), "{error}");
    assert_eq!(code(store.delete_tokens().await), ErrorCode::StoreLocked);
    // Reading goes on, and sees what was committed. So does opening.
    assert_eq!(store.get_tokens().await.unwrap(), before);
    assert_eq!(ids(&with_timeout(30).open(&path).unwrap()).await, [1]);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.get_tokens().await.unwrap(), before);
    store.save_token(&changed).await.unwrap();
}

#[tokio::test]
async fn a_write_goes_on_when_its_future_is_dropped() {
    let (_folder, path) = place();
    let store = with_timeout(60_000).open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for name in ["ann", "bob"] {
        let record = token(name);
        let mut save = pin!(store.save_token(&record));
        let polled = poll_fn(|context| Poll::Ready(save.as_mut().poll(context))).await;
        assert!(polled.is_pending());
    }
    // Not polled is not begun.
    drop(store.save_token(&token("nobody")));
    other.execute_batch("COMMIT").unwrap();
    // The queue is worked off in order.
    assert_eq!(store.save_token(&token("cy")).await.unwrap(), id(3));
    for (name, number) in [("ann", 1), ("bob", 2)] {
        let found = store.find_token(&by_user(name)).await.unwrap().unwrap();
        let mut expected = token(name);
        expected.id = Some(id(number));
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn dropping_the_store_finishes_what_is_queued() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    for number in 0..20 {
        let record = token(&format!("u{number}"));
        let mut save = pin!(store.save_token(&record));
        let _ = poll_fn(|context| Poll::Ready(save.as_mut().poll(context))).await;
    }
    drop(store);
    let raw = Connection::open(&path).unwrap();
    let count = raw.query_row("SELECT count(*) FROM oauthtoken", [], |row| row.get(0));
    assert_eq!(count, Ok(20));
}

// ---- coordination

async fn acquire(store: &SqliteStore, key: &CoordinationKey) -> Option<Box<dyn Permit>> {
    let coordination = store.coordination().unwrap();
    coordination.try_acquire(key).await.unwrap()
}

#[tokio::test]
async fn one_holder_at_a_time_on_this_machine() {
    let (folder, path) = place();
    let one = SqliteStore::open(&path).unwrap();
    let other = SqliteStore::open(&path).unwrap();
    assert_eq!(one.coordination().unwrap().guarantee(), Guarantee::Host);
    let key = CoordinationKey::record(id(7));
    let held = acquire(&one, &key).await.unwrap();
    assert!(acquire(&other, &key).await.is_none());
    assert!(acquire(&one, &key).await.is_none());
    drop(held);
    let held = acquire(&other, &key).await.unwrap();
    assert!(acquire(&one, &key).await.is_none());
    drop(held);
    assert!(folder.path().join("zohooauth.db.state").is_dir());
}

#[tokio::test]
async fn memos_pass_from_holder_to_holder() {
    let (_folder, path) = place();
    let one = SqliteStore::open(&path).unwrap();
    let other = SqliteStore::builder().table("other").open(&path).unwrap();
    let id = one.save_token(&token("ann")).await.unwrap();
    let key = CoordinationKey::record(id);
    let mut memo = Memo::default();
    memo.minted_at.push(Timestamp::from_millis(12));

    let permit = acquire(&one, &key).await.unwrap();
    assert_eq!(permit.memo().await.unwrap(), Memo::default());
    permit.set_memo(&memo).await.unwrap();
    drop(permit);
    let permit = acquire(&SqliteStore::open(&path).unwrap(), &key)
        .await
        .unwrap();
    assert_eq!(permit.memo().await.unwrap(), memo);
    drop(permit);
    // The other table has a record with this id too, and nothing is known of that.
    let permit = acquire(&other, &key).await.unwrap();
    assert_eq!(permit.memo().await.unwrap(), Memo::default());
    drop(permit);

    let raw = Connection::open(&path).unwrap();
    let count = || -> i64 {
        let sql = "SELECT count(*) FROM zoho_oauth_memo";
        raw.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(), 1);
    // What cannot be read is forgotten.
    raw.execute("UPDATE zoho_oauth_memo SET memo = '{'", [])
        .unwrap();
    let permit = acquire(&one, &key).await.unwrap();
    assert_eq!(permit.memo().await.unwrap(), Memo::default());
    permit.set_memo(&Memo::default()).await.unwrap();
    assert_eq!(count(), 0);
    permit.set_memo(&memo).await.unwrap();
    assert_eq!(count(), 1);
    // The memo goes with its record.
    assert!(one.delete_token(id).await.unwrap());
    assert_eq!(count(), 0);
}

/// Root who runs a tool beside a service must not lock the service out. Whoever is not root cannot
/// give files away, and tests the simple half.
#[cfg(unix)]
#[tokio::test]
async fn the_locks_belong_to_the_owner_of_the_database() {
    use std::os::unix::fs::{MetadataExt, chown};
    const NOBODY: u32 = 65_534;

    let (_folder, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    let owner = |path: &std::path::Path| {
        let metadata = std::fs::metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    };
    if owner(&path).0 == 0 {
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let store = SqliteStore::open(&path).unwrap();
    let key = CoordinationKey::record(id(1));
    let _permit = acquire(&store, &key).await.unwrap();
    let side = path.with_extension("db.state");
    let inside = std::fs::read_dir(&side).unwrap().next().unwrap().unwrap();
    let beside = [side, inside.path(), path.with_extension("db-wal")];
    for file in beside {
        assert_eq!(owner(&file), owner(&path), "{}", file.display());
    }
}

#[tokio::test]
async fn a_folder_of_locks_that_cannot_be_made_is_an_error() {
    let (folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    std::fs::write(folder.path().join("zohooauth.db.state"), "").unwrap();
    let coordination = store.coordination().unwrap();
    let error = coordination
        .try_acquire(&CoordinationKey::record(id(1)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.to_string().contains("zohooauth.db.state"), "{error}");
}
