//! The database of Zoho's SQLite sample: the SDK with a store as its users write them, see
//! `sqlite_store.py`.

use super::*;

#[tokio::test]
async fn one_login_in_turns_in_a_database() {
    one_login_in_turns(Language::Python, Kind::Sqlite).await;
}

#[tokio::test]
async fn the_sdk_uses_a_database_that_we_wrote() {
    a_store_that_we_wrote(Kind::Sqlite).await;
}

#[tokio::test]
async fn an_id_that_the_sdk_gives_again_in_a_database_is_another_record() {
    an_id_given_again(Kind::Sqlite).await;
}

/// Python has the database open all the time; we come, go and come again, and each time the
/// write-ahead log is ours.
#[tokio::test]
async fn a_database_that_python_made_is_open_on_both_sides() {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    let place = Place::new(Kind::Sqlite);
    let log = place.path().with_extension("db-wal");
    place.open_by(&mut python).await;
    let mut expected = Vec::new();
    for number in 1..=4 {
        let name = format!("p{number}");
        assert_eq!(python.save(&invented(&name)).await, id(number));
        expected.push(with_id(number, invented(&name)));
    }
    assert!(!log.exists());
    let store = place.open().await;
    assert!(log.exists());
    assert_eq!(store.get_tokens().await.unwrap(), expected);
    // In turns past nine, ten and eleven, each side as the one that gives the eleventh id.
    for number in 5..=12 {
        let name = format!("t{number}");
        let given = if number % 2 == 0 {
            store.save_token(&invented(&name)).await.unwrap()
        } else {
            python.save(&invented(&name)).await
        };
        assert_eq!(given, id(number));
        expected.push(with_id(number, invented(&name)));
        assert_eq!(store.get_tokens().await.unwrap(), expected);
        assert_eq!(python.tokens().await, expected);
    }
    // What Python deletes is not given again by us.
    python.delete(id(12)).await;
    expected.pop();
    let given = store.save_token(&invented("after 12")).await.unwrap();
    assert_eq!(given, id(13));
    expected.push(with_id(13, invented("after 12")));

    // We go; the database stays in its mode, and Python alone goes on with it.
    drop(store);
    assert_eq!(python.tokens().await, expected);
    assert_eq!(python.save(&invented("alone")).await, id(14));
    expected.push(with_id(14, invented("alone")));
    python.close_sqlite().await;
    assert!(!log.exists());
    place.open_by(&mut python).await;
    assert_eq!(python.tokens().await, expected);
    let store = place.open().await;
    assert_eq!(store.get_tokens().await.unwrap(), expected);
}

/// The eleventh id from Python in a table of ours; and what the sample's way to find the next id,
/// after the highest *text*, comes to.
#[tokio::test]
async fn ids_of_the_sample_are_taken_as_they_come() {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    let place = Place::new(Kind::Sqlite);
    let store = place.open().await;
    for number in 1..=10 {
        let given = store.save_token(&invented(&format!("o{number}"))).await;
        assert_eq!(given.unwrap(), id(number));
    }
    place.open_by(&mut python).await;
    assert_eq!(python.save(&invented("p11")).await, id(11));
    python.close_sqlite().await;

    python.open_sqlite(&place.path(), NextId::Text).await;
    let mut before = store.get_tokens().await.unwrap();
    assert_eq!(before, python.tokens().await);
    // The highest text is "9", and 10 is taken: the sample's defect, which changes nothing here.
    let refused = python.try_save(&invented("text")).await.unwrap_err();
    assert!(refused.contains("IntegrityError"), "{refused}");
    assert_eq!(store.get_tokens().await.unwrap(), before);
    assert_eq!(store.save_token(&invented("o12")).await.unwrap(), id(12));
    // Without 9 the highest text is "8": the id of a record that we deleted comes again.
    assert!(store.delete_token(id(9)).await.unwrap());
    assert_eq!(python.save(&invented("text")).await, id(9));
    before[8] = with_id(9, invented("text"));
    before.push(with_id(12, invented("o12")));
    assert_eq!(store.get_tokens().await.unwrap(), before);
    // We change it where it is, and go on after our own highest.
    let mut changed = invented("text");
    changed.access_token = AccessToken::new("1000.changed").ok();
    assert_eq!(store.save_token(&changed).await.unwrap(), id(9));
    assert_eq!(store.save_token(&invented("o13")).await.unwrap(), id(13));
    before[8] = with_id(9, changed);
    before.push(with_id(13, invented("o13")));
    assert_eq!(store.get_tokens().await.unwrap(), before);
    assert_eq!(python.tokens().await, before);
}
