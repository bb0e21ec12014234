//! The SDK's own `DBStore` and ours on the official table, in turns and at once.

use zoho_oauth::{MySqlStore, TokenQuery};

use super::*;

#[tokio::test]
async fn one_login_in_turns_in_a_table_of_mysql() {
    one_login_in_turns(Language::Python, Kind::MySql).await;
}

#[tokio::test]
async fn an_id_that_the_sdk_gives_again_in_a_table_of_mysql_is_another_record() {
    an_id_given_again(Kind::MySql).await;
}

/// In the official table and in one that we made.
#[tokio::test]
async fn the_sdk_reads_and_changes_what_we_wrote_to_mysql() {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    for official in [true, false] {
        let database = if official {
            TestDatabase::official().await
        } else {
            TestDatabase::new().await
        };
        let store = database.open().await;
        let mut expected = Vec::new();
        for name in NAMES {
            let id = store.save_token(&invented(name)).await.unwrap();
            expected.push(with_id(id.get(), invented(name)));
        }
        let mut sparse = OAuthToken::new();
        sparse.access_token = AccessToken::new("1000.sparse").ok();
        let sparse_id = store.save_token(&sparse).await.unwrap();
        expected.push(with_id(sparse_id.get(), sparse.clone()));

        python.open_mysql(&database).await;
        assert_eq!(python.tokens().await, expected);
        for token in &expected {
            let found = python.find_by_id(token.id.unwrap()).await.unwrap();
            assert_eq!(&found, token);
        }
        for (name, token) in NAMES.iter().zip(&expected) {
            let found = python.find(&by_user(name)).await;
            assert_eq!(found.as_ref(), Some(token));
        }
        let mut partial = OAuthToken::new();
        partial.access_token.clone_from(&sparse.access_token);
        assert_eq!(python.find(&partial).await.unwrap().id, Some(sparse_id));

        // It changes a record of ours, we see that, and the other way round.
        let mut changed = invented(NAMES[1]);
        changed.access_token = AccessToken::new("1000.by.python").ok();
        python.update(&changed).await;
        let query = TokenQuery::user_name(user(NAMES[1]));
        let found = store.find_token(&query).await.unwrap().unwrap();
        assert_eq!(found.access_token, changed.access_token);
        changed.access_token = AccessToken::new("1000.by.us").ok();
        store.save_token(&changed).await.unwrap();
        let found = python.find(&by_user(NAMES[1])).await.unwrap();
        assert_eq!(found.access_token, changed.access_token);
        python.delete(sparse_id).await;
        assert_eq!(store.find_token_by_id(sparse_id).await.unwrap(), None);
        assert!(store.delete_token(expected[0].id.unwrap()).await.unwrap());
        let gone = python.find_by_id(expected[0].id.unwrap()).await;
        assert!(gone.unwrap_err().contains("TOKEN_STORE"));
    }
}

/// The SDK alone comes to ten, and never to eleven. We go on where it cannot, and give it back the
/// way to go on.
#[tokio::test]
async fn the_eleventh_record_of_mysql() {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    let database = TestDatabase::official().await;
    python.open_mysql(&database).await;
    for number in 1..=10 {
        let name = format!("p{number}");
        assert_eq!(python.save(&invented(&name)).await, id(number));
    }
    let refused = python.try_save(&invented("p11")).await.unwrap_err();
    assert!(refused.contains("TOKEN_STORE"), "{refused}");

    let store = database.open().await;
    let ours = store.save_token(&invented("o11")).await.unwrap();
    assert_eq!(ours, id(11));
    assert_eq!(store.save_token(&invented("o12")).await.unwrap(), id(12));
    assert_eq!(store.get_tokens().await.unwrap(), python.tokens().await);
    python.try_save(&invented("p11")).await.unwrap_err();

    // With ids that agree as text and as numbers, both go on, in turns.
    let shared = database.builder().ids_from(MySqlStore::SHARED_IDS);
    let shared = shared.connect().await.unwrap();
    let mut last = shared.save_token(&invented("s1")).await.unwrap();
    assert_eq!(last, MySqlStore::SHARED_IDS);
    for number in 0..12 {
        let theirs = python.save(&invented(&format!("p-{number}"))).await;
        assert_eq!(theirs.get(), last.get() + 1);
        last = shared
            .save_token(&invented(&format!("s-{number}")))
            .await
            .unwrap();
        assert!(last > theirs);
    }
    let all = store.get_tokens().await.unwrap();
    assert_eq!(all.len(), 10 + 2 + 1 + 24);
    assert_eq!(all, python.tokens().await);
}

/// From whatever start, the SDK can add as many records as it could add to a table of its own.
#[tokio::test]
async fn the_sdk_can_add_to_mysql_what_it_could_add_without_us() {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    // Alone it comes to ten records.
    for start in [0, 1, 8, 9, 10] {
        for ours in [1, 12] {
            let database = TestDatabase::official().await;
            python.open_mysql(&database).await;
            for number in 0..start {
                python.save(&invented(&format!("p{number}"))).await;
            }
            let store = database.open().await;
            let mut expected = start + ours;
            for number in 0..ours {
                let name = format!("o{number}");
                store.save_token(&invented(&name)).await.unwrap();
                // In turns.
                if start + number < 10 {
                    python
                        .save(&invented(&format!("p{}", start + number)))
                        .await;
                    expected += 1;
                }
            }
            for number in start + ours..10 {
                python.save(&invented(&format!("p{number}"))).await;
                expected += 1;
            }
            let all = store.get_tokens().await.unwrap();
            assert_eq!(all.len(), expected, "{start} of theirs, {ours} of ours");
            assert_eq!(all, python.tokens().await);
        }
    }
}

/// Both add and change records all the time. Nothing of either is lost.
#[tokio::test(flavor = "multi_thread")]
async fn both_write_to_mysql_at_once() {
    const ROUNDS: usize = 60;
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    let database = TestDatabase::official().await;
    let builder = database.builder().ids_from(MySqlStore::SHARED_IDS);
    let store = builder.connect().await.unwrap();
    let first = store.save_token(&invented("first")).await.unwrap();
    python.open_mysql(&database).await;
    let theirs = tokio::spawn(async move {
        for round in 0..ROUNDS {
            python.save(&invented(&format!("p{round}"))).await;
            let mut renewed = invented("by python");
            renewed.access_token = AccessToken::new(format!("1000.{round}")).ok();
            python.update(&renewed).await;
        }
        python
    });
    for round in 0..ROUNDS {
        store
            .save_token(&invented(&format!("o{round}")))
            .await
            .unwrap();
        let mut renewed = invented("first");
        renewed.access_token = AccessToken::new(format!("1000.{round}")).ok();
        assert_eq!(store.save_token(&renewed).await.unwrap(), first);
    }
    let mut python = theirs.await.unwrap();
    let all = store.get_tokens().await.unwrap();
    assert_eq!(all, python.tokens().await);
    assert_eq!(all.len(), 2 + 2 * ROUNDS);
    for round in 0..ROUNDS {
        for side in ["o", "p"] {
            let name = user(&format!("{side}{round}"));
            assert!(
                all.iter()
                    .any(|token| token.user_name.as_ref() == Some(&name)),
                "{name}"
            );
        }
    }
    let last = AccessToken::new(format!("1000.{}", ROUNDS - 1)).ok();
    for name in ["first", "by python"] {
        let found = store
            .find_token(&TokenQuery::user_name(user(name)))
            .await
            .unwrap();
        assert_eq!(found.unwrap().access_token, last);
    }
}
