//! What can only be seen from inside: query plans, a full disk, busy connections.

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
