//! Our token file and Zoho's official Node SDK, in turns.
//!
//! The SDK writes no quotes and splits lines at each comma and at LF alone, so what it shares with us
//! holds neither comma nor quote.

use std::fs;

use zoho_oauth::{AccessToken, OAuthToken};

use crate::official_python::{Kind, Place, by_user, id, invented, one_login_in_turns, with_id};
use crate::official_sdk::{Language, OfficialSdk};
use crate::support::sandbox;

#[tokio::test]
async fn one_login_in_turns_in_a_file() {
    one_login_in_turns(Language::Node, Kind::File).await;
}

fn plain(name: &str) -> OAuthToken {
    let mut token = invented(name);
    token.redirect_url = Some("https://app.example.com/callback".into());
    token
}

/// The SDK reads every field of a file that we made as we wrote it, the last one of a line too, and
/// we read what it adds and changes.
#[tokio::test]
async fn each_side_reads_adds_and_changes_records_of_the_other() {
    let sandbox = sandbox().await;
    let Some(mut node) = OfficialSdk::start(Language::Node, &sandbox) else {
        return;
    };
    let place = Place::new(Kind::File);
    let store = place.open().await;
    let mut expected = Vec::new();
    for number in 1..=11 {
        let token = plain(&format!("u{number}@example.com:{number}"));
        assert_eq!(store.save_token(&token).await.unwrap(), id(number));
        expected.push(with_id(number, token));
    }
    node.open_file(&place.path()).await;
    assert_eq!(node.tokens().await, expected);
    let tenth = node.find(&by_user("u10@example.com:10")).await;
    assert_eq!(tenth.as_ref(), Some(&expected[9]));

    assert_eq!(node.save(&plain("node")).await, id(12));
    expected.push(with_id(12, plain("node")));
    let mut changed = plain("u9@example.com:9");
    changed.access_token = AccessToken::new("1000.by.node").ok();
    assert_eq!(node.save(&changed).await, id(9));
    expected[8] = with_id(9, changed);
    assert_eq!(store.get_tokens().await.unwrap(), expected);

    assert_eq!(store.save_token(&plain("ours")).await.unwrap(), id(13));
    expected.push(with_id(13, plain("ours")));
    assert_eq!(node.tokens().await, expected);
    let text = fs::read_to_string(place.path()).unwrap();
    assert!(!text.contains('\r'), "a carriage return in a file of ours");
}
