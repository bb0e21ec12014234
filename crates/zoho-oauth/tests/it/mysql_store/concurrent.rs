//! Others at the same rows at the same time.

use mysql_async::TxOpts;
use zoho_oauth::{TokenQuery, TokenStore};

use super::*;

/// What the official SDKs for Java and PHP do for a login that they do not know: they number after
/// the highest text, and write over whoever has the number by then.
async fn official_insert(conn: &mut Conn, name: &str) {
    let next = official_number(conn).await;
    // Between the two anything may happen.
    tokio::task::yield_now().await;
    official_write(conn, next, name).await;
}

pub(super) async fn official_number(conn: &mut Conn) -> u64 {
    let last: Option<Option<String>> = conn
        .query_first("SELECT MAX(id) FROM oauthtoken")
        .await
        .unwrap();
    let last: u64 = last.flatten().map_or(0, |id| id.parse().unwrap());
    last + 1
}

pub(super) async fn official_write(conn: &mut Conn, number: u64, name: &str) {
    conn.exec_drop(
        "INSERT INTO oauthtoken (id, user_name, client_id, refresh_token, access_token) \
        VALUES (?, ?, '1000.THEIRS', ?, ?) ON DUPLICATE KEY UPDATE \
        user_name = VALUES(user_name), client_id = VALUES(client_id), \
        refresh_token = VALUES(refresh_token), access_token = VALUES(access_token)",
        (
            number.to_string(),
            name,
            format!("1000.r.{name}"),
            format!("1000.a.{name}"),
        ),
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_of_ours_is_written_over_by_an_official_sdk_that_numbers_at_the_same_time() {
    let database = TestDatabase::official().await;
    for shared in [false, true] {
        let mut builder = database.builder();
        if shared {
            builder = builder.ids_from(MySqlStore::SHARED_IDS);
        }
        let store = builder.connect().await.unwrap();
        store.delete_tokens().await.unwrap();
        let mut saved = Vec::new();
        if shared {
            // Until it is there they number from 1, and do not get past ten.
            let id = store.save_token(&user("first")).await.unwrap();
            saved.push(with_id(id, user("first")));
        }
        let mut conn = database.connection().await;
        let theirs = tokio::spawn(async move {
            for number in 0..100 {
                official_insert(&mut conn, &format!("theirs-{number}")).await;
            }
        });
        for number in 0..100 {
            let token = user(&format!("ours-{number}"));
            let id = store.save_token(&token).await.unwrap();
            saved.push(with_id(id, token));
        }
        theirs.await.unwrap();
        let all = store.get_tokens().await.unwrap();
        for token in &saved {
            assert!(all.contains(token), "{:?} is gone", token.id);
        }
        let theirs = all.len() - saved.len();
        if shared {
            // They go on past ten.
            assert_eq!(theirs, 100);
        } else {
            // They run into their own ten.
            assert!(theirs <= 20, "{theirs}");
        }
    }
}

/// It has worked out its number, and the record that it counted from is deleted before it writes.
#[tokio::test]
async fn the_number_after_a_deleted_record_is_left_to_the_official_sdk_that_saw_it() {
    let database = TestDatabase::official().await;
    let store = database.builder().ids_from(MySqlStore::SHARED_IDS);
    let store = store.connect().await.unwrap();
    let ann = store.save_token(&user("ann")).await.unwrap();
    let mut conn = database.connection().await;
    let number = official_number(&mut conn).await;
    assert_eq!(number, ann.get() + 1);
    assert!(store.delete_token(ann).await.unwrap());
    let bob = store.save_token(&user("bob")).await.unwrap();
    official_write(&mut conn, number, "theirs").await;
    let all = store.get_tokens().await.unwrap();
    assert!(all.contains(&with_id(bob, user("bob"))), "{all:?}");
    assert_eq!(all.len(), 2);
}

/// The deadlock is certain, and so is whom the server sends away: who has done less.
#[tokio::test]
async fn a_deadlock_is_begun_anew() {
    let database = TestDatabase::new().await;
    let store = database.open().await;
    let id = store.save_token(&user("ann")).await.unwrap();
    database.run("CREATE TABLE work (n int)").await;
    let mut other = database.connection().await;
    let mut work = other.start_transaction(TxOpts::default()).await.unwrap();
    work.query_drop("INSERT INTO work SELECT seq FROM seq_1_to_1000")
        .await
        .unwrap();
    work.query_drop("UPDATE oauthtoken SET api_domain = 'theirs'")
        .await
        .unwrap();

    let deleting = store.clone();
    let deleting = tokio::spawn(async move { deleting.delete_token(id).await });
    // It has the mark, and waits for the row. The server looks anew only if nobody asked it within
    // the last tenth of a second.
    let waits = "SELECT COUNT(*) FROM information_schema.innodb_trx \
        WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE 'DELETE FROM `oauthtoken`%'";
    tokio::time::timeout(PATIENCE, async {
        while database.ask(waits).await == ["0"] {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    })
    .await
    .unwrap();
    work.query_drop("UPDATE zoho_oauth_mark SET writes = writes + 1")
        .await
        .unwrap();
    work.commit().await.unwrap();
    assert!(deleting.await.unwrap().unwrap());
    assert_eq!(store.get_tokens().await.unwrap(), []);
}

/// A change that somebody makes between our read and our write is not undone.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_at_the_same_time_stays() {
    let database = TestDatabase::new().await;
    let store = database.open().await;
    let id = store.save_token(&user("ann")).await.unwrap();
    let mut conn = database.connection().await;
    let theirs = tokio::spawn(async move {
        for number in 0..200 {
            let sql = format!("UPDATE oauthtoken SET api_domain = 'd{number}'");
            conn.query_drop(sql).await.unwrap();
        }
    });
    for number in 0..100 {
        let mut token = OAuthToken::new();
        token.id = Some(id);
        token.access_token = access(&format!("x{number}"));
        store.save_token(&token).await.unwrap();
    }
    theirs.await.unwrap();
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.api_domain.as_deref(), Some("d199"));
    assert_eq!(stored.access_token, access("x99"));
}

/// Futures that are dropped at any moment, and time-outs that end statements half-way, on a pool
/// of one connection: each answer still belongs to its question.
#[tokio::test(flavor = "multi_thread")]
async fn answers_belong_to_their_questions_whatever_is_given_up() {
    const USERS: usize = 20;
    let database = TestDatabase::new().await;
    let calm = database.open().await;
    for number in 0..USERS {
        calm.save_token(&user(&format!("u{number}"))).await.unwrap();
    }
    let hasty = database
        .builder()
        .pool_size(1)
        .patience(Duration::from_millis(1));
    // As short as the machine allows: a little less, and it could not even be opened.
    let mut hasty_for = Duration::from_micros(700);
    let hasty_store = loop {
        match hasty.clone().timeout(hasty_for).connect().await {
            Ok(store) => break store,
            Err(error) => {
                assert!(hasty_for < Duration::from_secs(1), "{error}");
                hasty_for = hasty_for.mul_f64(1.02);
            }
        }
    };
    let longest = u64::try_from(hasty_for.as_micros()).unwrap() * 3;
    let patient = database.builder().pool_size(1).connect().await.unwrap();
    let (mut answered, mut given_up) = (0, 0);
    for round in 0..3000 {
        let store = if round % 2 == 0 {
            &hasty_store
        } else {
            &patient
        };
        let name = format!("u{}", fastrand::usize(..USERS));
        let query = TokenQuery::user_name(UserName::new(&name).unwrap());
        let mut saved = user(&name);
        saved.access_token = access(&format!("1000.a.{name}.{round}"));
        let limit = Duration::from_micros(fastrand::u64(0..longest));
        if fastrand::bool() {
            let found = tokio::time::timeout(limit, store.find_token(&query)).await;
            let Ok(Ok(found)) = found else {
                given_up += 1;
                continue;
            };
            let found = found.unwrap();
            assert_eq!(found.user_name.as_ref().unwrap().as_str(), name);
            let access = found.access_token.unwrap();
            let whose = format!("1000.a.{name}");
            assert!(access.expose_secret().starts_with(&whose));
            answered += 1;
        } else {
            drop(tokio::time::timeout(limit, store.save_token(&saved)).await);
        }
    }
    assert!(answered > 0 && given_up > 0, "{answered}, {given_up}");
    let tokens = calm.get_tokens().await.unwrap();
    assert_eq!(tokens.len(), USERS);
    for token in tokens {
        let name = token.user_name.unwrap();
        let access = token.access_token.unwrap();
        let access = access.expose_secret();
        let rest = access.strip_prefix(&format!("1000.a.{name}")).unwrap();
        assert!(rest.is_empty() || rest.starts_with('.'), "{name}: {access}");
    }
}
