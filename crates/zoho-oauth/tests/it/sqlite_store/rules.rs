//! Random operations, compared with the rule book.

use proptest::prelude::*;
use zoho_oauth::{
    AccessToken, ClientId, ClientSecret, GrantToken, OAuthToken, RefreshToken, SqliteStore,
    Timestamp, TokenId, TokenQuery, TokenStore, TokenTable, UserName,
};

use super::{block_on, id, place};

#[derive(Clone, Debug)]
enum Step {
    Save(OAuthToken),
    Find(TokenQuery),
    FindById(u64),
    Delete(u64),
    Clear,
}

fn few(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => Just(""), 5 => proptest::sample::select(values)]
}

fn record() -> impl Strategy<Value = OAuthToken> {
    let id = prop_oneof![3 => Just(0_u64), 3 => 1..12_u64, 1 => 9..120_u64];
    let names = (few(&["u", "v", "U"]), few(&["c", "d"]));
    let tokens = (
        few(&["r", "s", "R"]),
        few(&["a", "b", "A"]),
        few(&["g", "h"]),
    );
    let rest = (few(&["x", "y"]), few(&["x", "y"]), few(&["1", "2"]));
    (id, names, tokens, rest).prop_map(|(id, (user, client), (refresh, access, grant), rest)| {
        let mut token = OAuthToken::new();
        token.id = TokenId::new(id).ok();
        token.user_name = UserName::new(user).ok();
        token.client_id = ClientId::new(client).ok();
        token.refresh_token = RefreshToken::new(refresh).ok();
        token.access_token = AccessToken::new(access).ok();
        token.grant_token = GrantToken::new(grant).ok();
        token.client_secret = ClientSecret::new(rest.0).ok();
        // Empty text in these two is legal, and means none.
        token.api_domain = Some(rest.1.to_owned());
        token.expiry_time = rest.2.parse().ok().map(Timestamp::from_millis);
        token
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => record().prop_map(Step::Save),
        3 => record().prop_filter_map("a criterion", |token| {
            TokenQuery::from_parts(&token).map(Step::Find)
        }),
        1 => (1..20_u64).prop_map(Step::FindById),
        2 => (1..20_u64).prop_map(Step::Delete),
        1 => Just(Step::Clear),
    ]
}

/// Does the same to both, and compares all that can be seen.
async fn compare(store: &SqliteStore, steps: Vec<Step>) {
    let mut table = TokenTable::new();
    for step in steps {
        match &step {
            Step::Save(token) => {
                let ours = store.save_token(token).await;
                let expected = table.save(token);
                let of = |error: &zoho_oauth::Error| (error.code(), error.message().to_owned());
                assert_eq!(
                    ours.as_ref().map_err(of),
                    expected.as_ref().map_err(of),
                    "{step:?}"
                );
            }
            Step::Find(query) => {
                let found = store.find_token(query).await.unwrap();
                assert_eq!(found.as_ref(), table.find(query), "{step:?}");
            }
            Step::FindById(number) => {
                let found = store.find_token_by_id(id(*number)).await.unwrap();
                assert_eq!(found.as_ref(), table.find_by_id(id(*number)), "{step:?}");
            }
            Step::Delete(number) => {
                let deleted = store.delete_token(id(*number)).await.unwrap();
                assert_eq!(deleted, table.delete(id(*number)), "{step:?}");
            }
            Step::Clear => {
                let count = store.delete_tokens().await.unwrap();
                assert_eq!(count, table.clear(), "{step:?}");
            }
        }
        assert_eq!(store.get_tokens().await.unwrap(), table.rows(), "{step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_are_those_of_the_table(steps in proptest::collection::vec(step(), 1..80)) {
        block_on(compare(&SqliteStore::in_memory().unwrap(), steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_a_file_too(steps in proptest::collection::vec(step(), 100..200)) {
        let (_folder, path) = place();
        block_on(compare(&SqliteStore::open(path).unwrap(), steps));
    }
}
