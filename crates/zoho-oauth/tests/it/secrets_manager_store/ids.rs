//! Numbers and logins, when several processes are at it: each store here is one.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use zoho_oauth::store::secrets_manager::Deletion;
use zoho_oauth::{ClientId, ErrorCode, OAuthToken, RefreshToken, TokenStore};

use super::stub::counted;
use super::{Stub, by_access, by_user, id, renewed, store, token, unlimited, user};

#[tokio::test]
async fn one_login_saved_by_many_at_once_is_one_record() {
    let stub = Stub::start().await;
    let mut saves = JoinSet::new();
    for process in 0..8 {
        let store = store(&stub);
        saves.spawn(async move {
            let mut ids = Vec::new();
            for number in 0..6 {
                let shared = format!("shared{number}");
                let own = format!("own{process}-{number}");
                ids.push((
                    shared.clone(),
                    store.save_token(&token(&shared)).await.unwrap(),
                ));
                ids.push((own.clone(), store.save_token(&token(&own)).await.unwrap()));
            }
            ids
        });
    }
    let ids: BTreeSet<_> = saves.join_all().await.into_iter().flatten().collect();
    assert_eq!(ids.len(), 6 + 8 * 6, "{ids:?}");
    let numbers: BTreeSet<_> = ids.iter().map(|(_, id)| id.get()).collect();
    assert_eq!(
        numbers,
        (1..=54).collect(),
        "an id was given twice, or left out"
    );
    assert_eq!(store(&stub).get_tokens().await.unwrap().len(), 54);
}

#[tokio::test]
async fn ids_of_deleted_records_are_not_given_again() {
    for deletion in [Deletion::AtOnce, Deletion::AfterDays(7)] {
        let stub = Stub::start().await;
        let open = || {
            let builder = unlimited().prefix("p").deletion(deletion);
            builder.with_client(stub.client()).unwrap()
        };
        for round in 1..=5 {
            // A process of its own each time.
            let store = open();
            let saved = store.save_token(&token("ann")).await.unwrap();
            assert_eq!(saved, id(round));
            assert!(store.delete_token(saved).await.unwrap());
            let again = open().save_token(&renewed("ann", saved, "late")).await;
            assert_eq!(again.unwrap_err().code(), ErrorCode::RecordDeleted);
        }
        let store = open();
        for number in 6..=8 {
            let saved = store
                .save_token(&token(&format!("u{number}")))
                .await
                .unwrap();
            assert_eq!(saved, id(number));
        }
        assert_eq!(store.delete_tokens().await.unwrap(), 3);
        assert_eq!(open().save_token(&token("ann")).await.unwrap(), id(9));
        // The ledger does not grow.
        assert_eq!(stub.secret("p/ledger").unwrap().tags.len(), 1);
        assert_eq!(stub.secret("p/ledger").unwrap().versions.len(), 1);
    }
}

#[tokio::test]
async fn a_record_that_moves_in_far_above_leaves_no_gap_to_be_filled() {
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    one.save_token(&token("ann")).await.unwrap();
    other.save_token(&token("bob")).await.unwrap();
    let mut moved = token("carla");
    moved.id = Some(id(5000));
    assert_eq!(one.save_token(&moved).await.unwrap(), id(5000));
    assert_eq!(other.save_token(&token("dora")).await.unwrap(), id(5001));
    let mut between = token("eve");
    between.id = Some(id(4000));
    let error = other.save_token(&between).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
}

#[tokio::test]
async fn a_new_process_numbers_on_after_hundreds_in_a_few_calls() {
    let stub = Stub::start().await;
    let writer = store(&stub);
    stub.hold_listings();
    for number in 1..=450 {
        writer
            .save_token(&token(&format!("u{number}")))
            .await
            .unwrap();
    }
    // The listing shows nothing at all: they are read, since they are new.
    let calls_of_a_new_process = async |name: &str, expected: u64| {
        stub.calls();
        let saved = store(&stub).save_token(&token(name)).await.unwrap();
        assert_eq!(saved, id(expected));
        stub.calls()
    };
    let calls = calls_of_a_new_process("new", 451).await;
    assert!(calls.len() < 40, "{:?}", counted(&calls));
    // Once they are old, listings would show them, and nobody reads them to find one.
    stub.make_old();
    let calls = calls_of_a_new_process("newer", 452).await;
    assert!(calls.len() < 20, "{:?}", counted(&calls));
    // Once it knows them, a new record takes six calls, and a renewed one three.
    writer.save_token(&token("next")).await.unwrap();
    stub.calls();
    writer.save_token(&token("last")).await.unwrap();
    let calls = stub.calls();
    assert!(calls.len() <= 6, "{calls:?}");
    writer
        .save_token(&renewed("u7", id(7), "1000.new"))
        .await
        .unwrap();
    assert_eq!(
        stub.calls(),
        ["GetSecretValue", "TagResource", "PutSecretValue"]
    );
}

#[tokio::test]
async fn a_refresh_and_a_new_login_of_another_process_both_count() {
    const SECRET: &str = "p/token/1";
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    let ann = one.save_token(&token("ann")).await.unwrap();
    let before = stub.secret(SECRET);
    let mut login = OAuthToken::new();
    login.user_name = Some(user("ann"));
    login.client_id = token("ann").client_id;
    login.refresh_token = RefreshToken::new("1000.refresh.new").ok();
    other.save_token(&login).await.unwrap();
    let after = stub.secret(SECRET).unwrap();
    stub.put_back(SECRET, before);

    // The login comes between the last look of the refresh and its write.
    stub.interject("PutSecretValue", after);
    let news = renewed("ann", ann, "1000.access.new");
    assert_eq!(one.save_token(&news).await.unwrap(), ann);
    let row = other.find_token_by_id(ann).await.unwrap().unwrap();
    assert_eq!(row.access_token, news.access_token, "the refresh is lost");
    assert_eq!(row.refresh_token, login.refresh_token, "the login is lost");
    assert_eq!(stub.secret(SECRET).unwrap().versions.len(), 3);
}

#[tokio::test]
async fn a_new_login_that_reads_do_not_show_yet_is_not_undone() {
    const SECRET: &str = "p/token/1";
    // The versions may be late too.
    for late_versions in [0, 1] {
        let stub = Stub::start().await;
        let (one, other) = (store(&stub), store(&stub));
        let ann = one.save_token(&token("ann")).await.unwrap();
        let before = stub.secret(SECRET).unwrap();
        let mut login = token("ann");
        login.refresh_token = RefreshToken::new("1000.refresh.new").ok();
        other.save_token(&login).await.unwrap();
        let after = stub.secret(SECRET).unwrap();
        stub.put_back(SECRET, Some(before.clone()));

        // The refresh reads, the login comes, and two reads of the secret do not show it yet.
        stub.interject("PutSecretValue", after);
        stub.lag("GetSecretValue", SECRET, Some(before.clone()), 3);
        stub.lag("ListSecretVersionIds", SECRET, Some(before), late_versions);
        let news = renewed("ann", ann, "1000.access.new");
        assert_eq!(one.save_token(&news).await.unwrap(), ann);
        let row = other.find_token_by_id(ann).await.unwrap().unwrap();
        assert_eq!(row.refresh_token, login.refresh_token, "the login is lost");
        assert_eq!(row.access_token, news.access_token, "the refresh is lost");
    }
}

#[tokio::test]
async fn a_new_record_that_reads_do_not_show_yet_is_not_made_twice() {
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    for store in [&one, &other] {
        store.save_token(&token("bob")).await.unwrap();
    }
    stub.hold_listings();
    let ann = one.save_token(&token("ann")).await.unwrap();
    let name = format!("p/token/{ann}");
    for reads in ["GetSecretValue", "BatchGetSecretValue"] {
        stub.lag(reads, &name, None, 4);
    }
    assert_eq!(other.save_token(&token("ann")).await.unwrap(), ann);
    // And none that was just deleted is waited for.
    one.delete_token(ann).await.unwrap();
    assert_eq!(other.save_token(&token("ann")).await.unwrap(), id(3));
}

#[tokio::test]
async fn a_save_that_loses_leaves_the_record_to_be_found_as_the_winner_stored_it() {
    const SECRET: &str = "p/token/1";
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    let mut nameless = token("x");
    nameless.user_name = None;
    let saved = one.save_token(&nameless).await.unwrap();
    let mut before = stub.secret(SECRET).unwrap();
    let winner = renewed("bob", saved, "1000.bob");
    other.save_token(&winner).await.unwrap();
    let after = stub.secret(SECRET).unwrap();

    // Both set the tags, and then both write.
    before.tags.clone_from(&after.tags);
    stub.put_back(SECRET, Some(before));
    stub.interject("PutSecretValue", after);
    let loser = renewed("ann", saved, "1000.ann");
    let error = one.save_token(&loser).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::IdConflict);
    stub.make_old();
    for query in [by_user("bob"), by_access("1000.bob")] {
        let found = store(&stub).find_token(&query).await.unwrap();
        assert_eq!(found.and_then(|row| row.id), Some(saved), "{query:?}");
    }
}

#[tokio::test]
async fn a_login_that_another_process_stores_just_before_is_not_stored_twice() {
    for users in [["ann", "ann"], ["ann", "bob"]] {
        let stub = Stub::start().await;
        let (one, other) = (store(&stub), store(&stub));
        other.save_token(&token(users[0])).await.unwrap();
        let made = stub.secret("p/token/1").unwrap();
        stub.put_back("p/token/1", None);
        stub.hold_listings();
        stub.interject("CreateSecret", made);
        let expected = if users[0] == users[1] { 1 } else { 2 };
        let saved = one.save_token(&token(users[1])).await.unwrap();
        assert_eq!(saved, id(expected));
        assert_eq!(stub.names().len() as u64, expected);
    }
}

#[tokio::test]
async fn who_knows_a_user_under_another_client_alone_asks_before_it_inserts() {
    let stub = Stub::start().await;
    let one = store(&stub);
    one.save_token(&token("ann")).await.unwrap();
    let mut login = OAuthToken::new();
    login.user_name = Some(user("ann"));
    login.client_id = ClientId::new("1000.OTHER").ok();
    login.refresh_token = RefreshToken::new("1000.r.other").ok();
    one.save_token(&login).await.unwrap();
    // So many that the two are not among those that are read anyway.
    for number in 0..105 {
        one.save_token(&token(&format!("u{number}"))).await.unwrap();
    }
    let other = store(&stub);
    other.find_token_by_id(id(2)).await.unwrap().unwrap();
    login.client_id = token("ann").client_id;
    login.refresh_token = RefreshToken::new("1000.r.new").ok();
    assert_eq!(other.save_token(&login).await.unwrap(), id(1));
}

#[tokio::test]
async fn a_delete_wins_over_a_refresh_of_another_process() {
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    let ann = one.save_token(&token("ann")).await.unwrap();
    let news = renewed("ann", ann, "1000.new");
    let (deleted, saved) = tokio::join!(one.delete_token(ann), other.save_token(&news));
    assert!(deleted.unwrap());
    if let Err(error) = saved {
        assert_eq!(error.code(), ErrorCode::RecordDeleted);
    }
    assert_eq!(other.find_token(&by_user("ann")).await.unwrap(), None);
}

#[tokio::test]
async fn a_version_that_was_rolled_back_by_hand_can_be_followed_again() {
    let stub = Stub::start().await;
    let store = store(&stub);
    let ann = store.save_token(&token("ann")).await.unwrap();
    for access in ["1000.one", "1000.two"] {
        store
            .save_token(&renewed("ann", ann, access))
            .await
            .unwrap();
        stub.roll_back("p/token/1");
        // The same once more, and another one.
        for access in [access, "1000.other"] {
            store
                .save_token(&renewed("ann", ann, access))
                .await
                .unwrap();
            let row = store.find_token_by_id(ann).await.unwrap().unwrap();
            assert_eq!(row.access_token.unwrap().expose_secret(), access);
        }
        stub.roll_back("p/token/1");
    }
    // And one that was written by hand is followed too.
    stub.write(
        "p/token/1",
        "by-hand",
        r#"{"access_token": "x", "user_name": "ann"}"#,
    );
    let saved = store.save_token(&renewed("ann", ann, "1000.three")).await;
    assert_eq!(saved.unwrap(), ann);
    let row = store.find_token_by_id(ann).await.unwrap().unwrap();
    assert_eq!(row.refresh_token, None, "what was deleted by hand stays so");
}
