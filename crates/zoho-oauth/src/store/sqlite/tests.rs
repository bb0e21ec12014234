//! What can only be seen from inside: query plans, a full disk, busy connections.

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::oneshot;

use super::*;
use crate::clock::Timestamp;
use crate::secret::{AccessToken, Fingerprint, RefreshToken};
use crate::store::{CoordinationKey, Memo};
use crate::token::UserName;

fn token(user: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(UserName::new(user).unwrap());
    token.refresh_token = Some(RefreshToken::new(format!("refresh of {user}")).unwrap());
    token.access_token = Some(AccessToken::new(format!("access of {user}")).unwrap());
    token
}

fn query(user: &str) -> TokenQuery {
    TokenQuery::user_name(UserName::new(user).unwrap())
}

/// A store in a file of its own, with the folder that it dies with.
fn store() -> (SqliteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("t.db")).unwrap();
    (store, folder)
}

async fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let read = move |db: &Db| {
        let mut statement = db.connection.prepare(&sql).unwrap();
        let details = statement.raw_query();
        let details = details.mapped(|row| row.get::<_, String>("detail"));
        Ok(details.collect::<rusqlite::Result<_>>().unwrap())
    };
    store.core.reader.run(read).await.unwrap()
}

#[tokio::test]
async fn no_statement_scans_or_sorts() {
    let (store, _folder) = store();
    let statements = sql::Statements::new(SqliteStore::DEFAULT_TABLE, "user_name");
    for round in ["without statistics", "with statistics"] {
        for sql in statements.pointed() {
            for step in plan(&store, sql).await {
                let bad = step.starts_with("SCAN") && step != "SCAN CONSTANT ROW";
                assert!(
                    !bad && !step.contains("TEMP B-TREE"),
                    "{round}: {sql}\n{step}"
                );
            }
        }
        let all = plan(&store, &statements.all).await;
        assert_eq!(
            all,
            ["SCAN oauthtoken USING INDEX zoho_oauth_oauthtoken_by_id"]
        );
        let fill = |db: &Db| {
            for number in 0..500 {
                save::save(db, &token(&format!("user {number}")))?;
            }
            db.connection.execute_batch("ANALYZE").unwrap();
            Ok(())
        };
        store.core.writer().unwrap().run(fill).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_changes_nothing() {
    let (store, _folder) = store();
    store.save_token(&token("ann")).await.unwrap();
    let before = store.get_tokens().await.unwrap();
    let fill_up = |db: &Db| {
        let sql = "SELECT page_count FROM pragma_page_count";
        let pages: i64 = db.connection.query_row(sql, [], |row| row.get(0)).unwrap();
        db.connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
        Ok(())
    };
    store.core.writer().unwrap().run(fill_up).await.unwrap();

    let mut big = token("ann");
    big.access_token = Some(AccessToken::new("x".repeat(100_000)).unwrap());
    let error = store.save_token(&big).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreFull, "{error}");
    assert!(error.to_string().contains("t.db"));
    assert_eq!(store.get_tokens().await.unwrap(), before);
    // What needs no room still works.
    let id = before[0].id.unwrap();
    assert!(store.delete_token(id).await.unwrap());
}

#[tokio::test]
async fn a_read_finds_another_way_when_all_connections_are_busy() {
    let (store, _folder) = store();
    let id = store.save_token(&token("ann")).await.unwrap();
    let found = {
        let _busy: Vec<_> = store.core.here.iter().map(|db| worker::lock(db)).collect();
        assert!(store.core.read_here(|db| db.by_id(id)).is_none());
        // The guards cannot be held over an `await` on this runtime; the answer needs none.
        futures_of(&store, id)
    };
    let (by_name, by_id) = found;
    assert_eq!(by_name.unwrap().id, Some(id));
    assert_eq!(by_id.unwrap().id, Some(id));
}

/// Both look-ups, on a runtime of their own.
fn futures_of(store: &SqliteStore, id: TokenId) -> (Option<OAuthToken>, Option<OAuthToken>) {
    std::thread::scope(|scope| {
        let look_up = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(async {
                let by_name = store.find_token(&query("ann")).await.unwrap();
                (by_name, store.find_token_by_id(id).await.unwrap())
            })
        });
        look_up.join().unwrap()
    })
}

#[tokio::test]
async fn a_connection_that_may_not_write_is_a_matter_of_permission() {
    let (store, _folder) = store();
    let write = |db: &Db| save::save(db, &token("ann"));
    let error = store.core.reader.run(write).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
}

#[tokio::test]
async fn every_commit_is_synced() {
    let (store, _folder) = store();
    let settings = |db: &Db| {
        let read = |name: &str| {
            let value = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
            db.connection.pragma_query_value(None, name, value).unwrap()
        };
        Ok((
            read("synchronous"),
            read("journal_mode"),
            read("secure_delete"),
        ))
    };
    let (synchronous, mode, secure) = store.core.writer().unwrap().run(settings).await.unwrap();
    assert_eq!(synchronous, 2.into());
    assert_eq!(mode, "wal".to_owned().into());
    assert_eq!(secure, 1.into());
}

#[test]
fn no_statement_is_prepared_twice() {
    let (_store, folder) = store();
    let path = folder.path().join("t.db");
    let writer = open::writer(&path, SqliteStore::DEFAULT_TABLE, Duration::ZERO).unwrap();
    let reader = open::reader(&writer, Duration::ZERO).unwrap();
    for number in 0..20 {
        let name = format!("user {number}");
        let mut token = token(&name);
        let id = save::save(&writer, &token).unwrap();
        token.access_token = Some(AccessToken::new(format!("new {number}")).unwrap());
        save::save(&writer, &token).unwrap();
        reader.find(&query(&name)).unwrap().unwrap();
        reader.by_id(id).unwrap().unwrap();
    }
    for db in [&writer, &reader] {
        for sql in db.statements.pointed() {
            let statement = db.connection.prepare_cached(sql).unwrap();
            let again = statement.get_status(rusqlite::StatementStatus::RePrepare);
            assert_eq!(again, 0, "{sql}");
        }
    }
}

#[tokio::test]
async fn what_is_remembered_of_logins_that_never_became_a_record_goes_after_an_hour() {
    let (store, _folder) = store();
    let remember = async |key: &CoordinationKey, millis: i64| {
        let permit = store.coordination().unwrap().try_acquire(key).await;
        let memo = Memo {
            wait_until: Some(Timestamp::from_millis(millis)),
            ..Memo::default()
        };
        permit.unwrap().unwrap().set_memo(&memo).await.unwrap();
    };
    let remembered = async || {
        let read = |db: &Db| {
            let mut statement = db
                .connection
                .prepare("SELECT key FROM zoho_oauth_memo")
                .unwrap();
            let keys = statement.query_map([], |row| row.get(0)).unwrap();
            Ok(keys.collect::<rusqlite::Result<Vec<String>>>().unwrap())
        };
        store.core.reader.run(read).await.unwrap()
    };
    let (hour, now) = (3_600_000, 1_000_000_000);
    let mut starts: Vec<_> = (0..30)
        .map(|number| CoordinationKey::start(&Fingerprint::of(&[&number.to_string()])))
        .collect();
    starts.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    let record = CoordinationKey::record(TokenId::new(7).unwrap());
    remember(&record, now - 2 * hour).await;
    for key in &starts[1..] {
        remember(key, now - hour - 1).await;
    }
    remember(&starts[2], now - hour).await;
    assert_eq!(remembered().await.len(), 30);

    // An old one that is written takes nothing along, nor does a record.
    remember(&starts[0], now - hour - 1).await;
    remember(&record, now).await;
    assert_eq!(remembered().await.len(), 31);
    remember(&starts[0], now).await;
    let mut left = vec![record.as_str(), starts[0].as_str(), starts[2].as_str()];
    left.extend(starts[21..].iter().map(CoordinationKey::as_str));
    assert_eq!(remembered().await, left);
}

// ---- a disk that hangs

/// A store for which a disk hangs after a moment.
fn impatient_store() -> (SqliteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = SqliteStore::builder().busy_timeout(Duration::from_millis(50));
    builder.patience.disk = Duration::from_millis(50);
    let store = builder.open(folder.path().join("t.db")).unwrap();
    (store, folder)
}

/// Work that does not return until the other end is dropped, as a call to a disk that hangs, and
/// the news that it was begun.
fn hanging() -> (
    impl FnMut(&Db) -> Result<()> + Send + 'static,
    oneshot::Receiver<()>,
    mpsc::Sender<()>,
) {
    let (goes_on, hangs) = mpsc::channel::<()>();
    let (begins, begun) = oneshot::channel();
    let mut begins = Some(begins);
    let work = move |_: &Db| {
        begins.take().map(|begins| begins.send(()));
        let _ = hangs.recv();
        Ok(())
    };
    (work, begun, goes_on)
}

#[tokio::test]
async fn a_write_that_hangs_keeps_nobody_waiting() {
    let (store, _folder) = impatient_store();
    let ann = store.save_token(&token("ann")).await.unwrap();
    let key = CoordinationKey::record(ann);
    let permit = store.coordination().unwrap().try_acquire(&key).await;
    let permit = permit.unwrap().unwrap();
    let (work, begun, goes_on) = hanging();
    let core = Arc::clone(&store.core);
    let hangs = tokio::spawn(async move { core.writer().unwrap().run(work).await });
    begun.await.unwrap();

    let unavailable = ErrorCode::StoreUnavailable;
    let (bob, memo) = (token("bob"), Memo::default());
    let (saved, remembered) = tokio::join!(store.save_token(&bob), permit.set_memo(&memo));
    let error = saved.unwrap_err();
    assert_eq!(error.code(), unavailable);
    assert!(error.to_string().contains("t.db"), "{error}");
    assert_eq!(remembered.unwrap_err().code(), unavailable);
    assert_eq!(hangs.await.unwrap().unwrap_err().code(), unavailable);
    // A look-up does not run in the caller's task, where nothing would end the wait.
    assert!(store.core.read_here(|_| Ok(())).is_none());
    // A later call fails at once.
    let late = store.delete_token(ann).now_or_never().unwrap();
    assert_eq!(late.unwrap_err().code(), unavailable);
    // Readers go on.
    assert!(store.find_token(&query("ann")).await.unwrap().is_some());
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
    assert_eq!(permit.memo().await.unwrap(), memo);

    // What was refused is not done later, when the disk is back.
    drop(goes_on);
    while store.save_token(&token("cy")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(store.find_token(&query("bob")).await.unwrap().is_none());
    assert!(store.find_token_by_id(ann).await.unwrap().is_some());
    assert!(store.core.read_here(|_| Ok(())).is_some());
}

#[tokio::test]
async fn a_read_that_hangs_keeps_nobody_waiting() {
    let (store, _folder) = impatient_store();
    let ann = store.save_token(&token("ann")).await.unwrap();
    let (work, begun, goes_on) = hanging();
    let core = Arc::clone(&store.core);
    let hangs = tokio::spawn(async move { core.reader.run(work).await });
    begun.await.unwrap();
    let key = CoordinationKey::record(ann);
    let coordination = store.coordination().unwrap();
    let (all, permit) = tokio::join!(store.get_tokens(), coordination.try_acquire(&key));
    assert_eq!(all.unwrap_err().code(), ErrorCode::StoreUnavailable);
    let refused = permit.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StoreUnavailable);
    hangs.await.unwrap().unwrap_err();
    store.save_token(&token("bob")).await.unwrap();
    // Where the look-up was called, nothing would end the wait.
    let found = store.find_token(&query("bob")).now_or_never().unwrap();
    assert_eq!(found.unwrap_err().code(), ErrorCode::StoreUnavailable);
    drop(goes_on);
    while store.find_token(&query("bob")).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_store_that_hangs_can_be_dropped() {
    let (store, folder) = impatient_store();
    let path = folder.path().join("t.db");
    let (work, begun, goes_on) = hanging();
    let core = Arc::clone(&store.core);
    let hangs = tokio::spawn(async move { core.writer().unwrap().run(work).await });
    begun.await.unwrap();
    hangs.await.unwrap().unwrap_err();
    drop(store);
    drop(goes_on);
    let store = SqliteStore::open(path).unwrap();
    store.save_token(&token("ann")).await.unwrap();
}

#[tokio::test]
async fn no_more_calls_wait_than_there_is_room_for() {
    let (store, _folder) = store();
    let writer = store.core.writer().unwrap();
    let (work, begun, goes_on) = hanging();
    let core = Arc::clone(&store.core);
    let hangs = tokio::spawn(async move { core.writer().unwrap().run(work).await });
    begun.await.unwrap();
    for _ in 0..worker::MOST_WAITING {
        assert!(writer.run(|_| Ok(())).now_or_never().is_none());
    }
    let refused = writer.run(|_| Ok(())).now_or_never().unwrap();
    assert_eq!(refused.unwrap_err().code(), ErrorCode::StoreUnavailable);
    drop(goes_on);
    hangs.await.unwrap().unwrap();
    // There is room again once the thread has taken some of them.
    while store.save_token(&token("ann")).await.is_err() {
        tokio::task::yield_now().await;
    }
}

// ---- a lock that lasts

fn locked(folder: &tempfile::TempDir) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(folder.path().join("t.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test]
async fn each_write_waits_for_a_lock_as_long_as_it_may() {
    let (store, folder) = store();
    let other = locked(&folder);
    let writer = store.core.writer().unwrap();
    let save = |name: &'static str, seconds: u64| {
        let work = move |db: &Db| save::save(db, &token(name));
        writer.run_within(Duration::from_secs(seconds), work)
    };
    // The first is answered while the others wait with it and behind it.
    let mut answers = stream::FuturesUnordered::new();
    for (name, seconds) in [("a", 3_600), ("b", 0), ("c", 3_600), ("d", 1), ("e", 0)] {
        answers.push(save(name, seconds).map(move |answer| (name, answer)));
    }
    let mut refused = Vec::new();
    while refused.len() < 3 {
        let (name, answer) = answers.next().await.unwrap();
        assert_eq!(answer.unwrap_err().code(), ErrorCode::StoreLocked);
        refused.push(name);
    }
    refused.sort_unstable();
    assert_eq!(refused, ["b", "d", "e"]);
    other.execute_batch("COMMIT").unwrap();
    while let Some((name, answer)) = answers.next().await {
        assert!(answer.is_ok(), "{name}");
    }
    assert_eq!(store.get_tokens().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_can_be_written_later_fails_fast_while_a_lock_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let builder = SqliteStore::builder().busy_timeout(Duration::from_hours(1));
    let store = builder.open(folder.path().join("t.db")).unwrap();
    let key = CoordinationKey::record(TokenId::new(1).unwrap());
    let permit = store.coordination().unwrap().try_acquire(&key).await;
    let permit = permit.unwrap().unwrap();
    let writer = store.core.writer().unwrap();
    let other = locked(&folder);
    // A write has timed out waiting for the lock.
    let work = |db: &Db| save::save(db, &token("ann"));
    let error = writer.run_within(Duration::ZERO, work).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreLocked);
    assert!(writer.is_locked.load(Ordering::Relaxed));
    let memo = Memo::default();
    for _ in 0..3 {
        let error = permit.set_memo(&memo).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreLocked);
    }
    other.execute_batch("COMMIT").unwrap();
    permit.set_memo(&memo).await.unwrap();
    assert!(!writer.is_locked.load(Ordering::Relaxed));
}

/// Outside a write-ahead log readers wait too. They wait together, not one after the other.
#[tokio::test]
async fn readers_wait_for_a_lock_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    drop(SqliteStore::open(&path).unwrap());
    let other = rusqlite::Connection::open(&path).unwrap();
    let to = "PRAGMA journal_mode = DELETE";
    other.query_row(to, [], |_| Ok(())).unwrap();
    let open = |milliseconds| {
        let builder = SqliteStore::builder().busy_timeout(Duration::from_millis(milliseconds));
        builder.open_read_only(&path).unwrap().unwrap()
    };
    let (store, patient) = (open(200), open(4_000));
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let many = join_all((0..100).map(|_| store.get_tokens()));
    tokio::select! {
        biased;
        answers = many => for answer in answers {
            assert_eq!(answer.unwrap_err().code(), ErrorCode::StoreLocked);
        },
        _ = patient.get_tokens() => panic!("a hundred readers waited one after the other"),
    }
}
