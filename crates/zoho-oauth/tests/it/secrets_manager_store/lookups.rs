//! What a look-up costs, and what it finds when listings lag behind.

use zoho_oauth::{AccessToken, ClientId, GrantToken, RefreshToken, TokenQuery, TokenStore};

use super::stub::counted;
use super::{Stub, by_access, by_user, id, renewed, store, token};

fn queries(name: &str) -> [TokenQuery; 4] {
    let text = |kind: &str| format!("1000.{kind}.{name}");
    [
        by_user(name),
        TokenQuery::refresh_token(RefreshToken::new(text("r")).unwrap()),
        TokenQuery::grant_token(GrantToken::new(text("g")).unwrap()),
        TokenQuery::access_token(AccessToken::new(text("a")).unwrap()),
    ]
}

#[tokio::test]
async fn a_look_up_is_one_call_however_many_secrets_there_are() {
    let stub = Stub::start().await;
    let writer = store(&stub);
    let mut costs = Vec::new();
    let mut saved = 0;
    for count in [1, 100, 1000] {
        while saved < count {
            saved += 1;
            writer
                .save_token(&token(&format!("u{saved}")))
                .await
                .unwrap();
        }
        stub.calls();
        let mut cost = Vec::new();
        // The process that saved them, and one that has just been started.
        for reader in [writer.clone(), store(&stub)] {
            for number in [1, count / 2 + 1] {
                for query in queries(&format!("u{number}")) {
                    let found = reader.find_token(&query).await.unwrap().unwrap();
                    assert_eq!(found.id, Some(id(number)));
                    let first = stub.calls();
                    reader.find_token(&query).await.unwrap().unwrap();
                    assert_eq!(stub.calls(), ["GetSecretValue"], "{query:?}");
                    let lists = counted(&first).get("ListSecrets").copied().unwrap_or(0);
                    assert_eq!(first.len() - lists, 1, "{first:?}");
                    // The service may answer with an empty page first.
                    cost.push(lists.min(1));
                }
                let found = reader.find_token_by_id(id(number)).await.unwrap();
                assert_eq!(
                    found.unwrap().user_name,
                    token(&format!("u{number}")).user_name
                );
                assert_eq!(stub.calls(), ["GetSecretValue"]);
            }
        }
        // With one secret both numbers are the same record, and the second time it is known.
        costs.push(cost[..4].to_vec());
        assert_eq!(cost[..8], [0; 8], "the writer knows all of them");
        assert_eq!(cost[8..12], [1, 0, 0, 0], "the others ask once per record");
    }
    assert!(costs.windows(2).all(|pair| pair[0] == pair[1]), "{costs:?}");
}

#[tokio::test]
async fn nothing_is_found_at_the_same_cost_however_many_secrets_there_are() {
    let stub = Stub::start().await;
    let writer = store(&stub);
    let mut costs = Vec::new();
    for count in [10, 150] {
        for number in 0..count {
            writer
                .save_token(&token(&format!("u{number}")))
                .await
                .unwrap();
        }
        let reader = store(&stub);
        assert_eq!(reader.find_token(&by_user("nobody")).await.unwrap(), None);
        stub.calls();
        assert_eq!(reader.find_token(&by_user("nobody")).await.unwrap(), None);
        let calls = stub.calls();
        assert!(calls.len() <= 4, "{calls:?}");
        costs.push(calls);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn what_another_process_saves_is_found_although_listings_lag_behind() {
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    for number in 1..=30 {
        one.save_token(&token(&format!("u{number}"))).await.unwrap();
    }
    other.find_token(&by_user("u1")).await.unwrap().unwrap();
    stub.hold_listings();
    for number in 31..=60 {
        one.save_token(&token(&format!("u{number}"))).await.unwrap();
    }
    // Both a process that runs, and one that starts.
    for reader in [other, store(&stub)] {
        for query in queries("u45") {
            let found = reader.find_token(&query).await.unwrap();
            assert_eq!(found.unwrap().id, Some(id(45)));
        }
        assert_eq!(reader.get_tokens().await.unwrap().len(), 60);
        // And no second record of the same login is made.
        assert_eq!(reader.save_token(&token("u50")).await.unwrap(), id(50));
    }
}

#[tokio::test]
async fn hundreds_that_no_listing_shows_yet_are_found_and_deleted() {
    const NEW: usize = 200;
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    one.save_token(&token("u1")).await.unwrap();
    other.find_token(&by_user("u1")).await.unwrap().unwrap();
    stub.hold_listings();
    for number in 2..=NEW {
        one.save_token(&token(&format!("u{number}"))).await.unwrap();
    }
    for reader in [other, store(&stub)] {
        let found = reader.find_token(&by_user("u45")).await.unwrap();
        assert_eq!(found.unwrap().id, Some(id(45)));
        assert_eq!(reader.get_tokens().await.unwrap().len(), NEW);
    }
    let third = store(&stub);
    assert_eq!(third.save_token(&token("u46")).await.unwrap(), id(46));
    // Also below an id that was deleted, where an id may be nobody's.
    assert!(one.delete_token(id(190)).await.unwrap());
    let found = store(&stub).find_token(&by_user("u20")).await.unwrap();
    assert_eq!(found.unwrap().id, Some(id(20)));
    assert_eq!(store(&stub).delete_tokens().await.unwrap(), NEW - 1);
    stub.release_listings();
    assert_eq!(store(&stub).get_tokens().await.unwrap(), []);
}

#[tokio::test]
async fn what_every_listing_shows_is_not_read_to_learn_that_nothing_is_there() {
    let stub = Stub::start().await;
    let writer = store(&stub);
    for number in 1..=300 {
        writer
            .save_token(&token(&format!("u{number}")))
            .await
            .unwrap();
    }
    stub.make_old();
    // Some that are new, and the highest of them is gone again.
    for number in 301..=320 {
        writer
            .save_token(&token(&format!("u{number}")))
            .await
            .unwrap();
    }
    writer.delete_token(id(320)).await.unwrap();
    stub.calls();
    let reader = store(&stub);
    assert_eq!(reader.find_token(&by_user("nobody")).await.unwrap(), None);
    let calls = stub.calls();
    assert!(counted(&calls)["BatchGetSecretValue"] <= 2, "{calls:?}");
    // Though the listing shows none of the new ones: they, and one batch of the old.
    stub.put_back("p/token/320", None);
    let mut names = stub.names();
    names.retain(|name| name.starts_with("p/token/3"));
    stub.hold_listings_without(&names);
    let reader = store(&stub);
    let found = reader.find_token(&by_user("u305")).await.unwrap();
    assert_eq!(found.unwrap().id, Some(id(305)));
    let calls = stub.calls();
    assert!(counted(&calls)["BatchGetSecretValue"] <= 3, "{calls:?}");
}

#[tokio::test]
async fn a_new_access_token_is_found_by_others_as_soon_as_it_is_listed() {
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    let ann = one.save_token(&token("ann")).await.unwrap();
    other.find_token(&by_user("ann")).await.unwrap().unwrap();
    stub.hold_listings();
    one.save_token(&renewed("ann", ann, "1000.new"))
        .await
        .unwrap();
    // Who wrote it knows it at once, and so does who has read the record since.
    assert!(
        one.find_token(&by_access("1000.new"))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        other
            .find_token(&by_access("1000.new"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        other
            .find_token(&by_access("1000.a.ann"))
            .await
            .unwrap()
            .is_none()
    );
    other.find_token_by_id(ann).await.unwrap().unwrap();
    assert!(
        other
            .find_token(&by_access("1000.new"))
            .await
            .unwrap()
            .is_some()
    );
    // The others when the listing shows it.
    let third = store(&stub);
    assert!(
        third
            .find_token(&by_access("1000.new"))
            .await
            .unwrap()
            .is_none()
    );
    stub.release_listings();
    assert!(
        third
            .find_token(&by_access("1000.new"))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn the_lowest_id_answers_also_when_a_higher_one_is_known() {
    let stub = Stub::start().await;
    let one = store(&stub);
    one.save_token(&token("ann")).await.unwrap();
    let mut second = token("ann");
    second.client_id = ClientId::new("1000.OTHER").ok();
    second.refresh_token = RefreshToken::new("1000.r.other").ok();
    second.access_token = AccessToken::new("1000.a.other").ok();
    second.grant_token = None;
    one.save_token(&second).await.unwrap();
    let other = store(&stub);
    other.find_token_by_id(id(2)).await.unwrap().unwrap();
    let found = other.find_token(&by_user("ann")).await.unwrap();
    assert_eq!(found.unwrap().id, Some(id(1)));
}

#[tokio::test]
async fn a_record_that_others_deleted_is_forgotten() {
    let stub = Stub::start().await;
    let (one, other) = (store(&stub), store(&stub));
    let ann = one.save_token(&token("ann")).await.unwrap();
    let bob = one.save_token(&token("bob")).await.unwrap();
    assert_eq!(other.get_tokens().await.unwrap().len(), 2);
    stub.hold_listings();
    assert!(one.delete_token(ann).await.unwrap());
    assert_eq!(other.find_token(&by_user("ann")).await.unwrap(), None);
    assert_eq!(other.find_token_by_id(ann).await.unwrap(), None);
    let left = other.get_tokens().await.unwrap();
    assert_eq!(
        left.iter().map(|row| row.id).collect::<Vec<_>>(),
        [Some(bob)]
    );
    assert!(!other.delete_token(ann).await.unwrap());
}

#[tokio::test]
async fn pages_read_what_they_answer() {
    let stub = Stub::start().await;
    let writer = store(&stub);
    for number in 1..=130 {
        writer
            .save_token(&token(&format!("u{number}")))
            .await
            .unwrap();
    }
    writer.delete_token(id(50)).await.unwrap();
    let reader = store(&stub);
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = reader.get_tokens_page(after, 40).await.unwrap();
        let calls = stub.calls();
        let counts = counted(&calls);
        if after.is_some() && page.len() == 40 {
            assert_eq!(counts.get("ListSecrets"), None);
            assert_eq!(counts["BatchGetSecretValue"], 2);
        }
        ids.extend(page.iter().filter_map(|row| row.id));
        after = ids.last().copied();
        if page.len() < 40 {
            break;
        }
        // It belongs to the last page.
        if ids.len() == 120 {
            writer.save_token(&token("late")).await.unwrap();
            stub.calls();
        }
    }
    let expected = (1..=131).filter(|number| *number != 50).map(id);
    assert_eq!(ids, expected.collect::<Vec<_>>());
    assert!(reader.get_tokens_page(None, 0).await.unwrap().is_empty());
}
