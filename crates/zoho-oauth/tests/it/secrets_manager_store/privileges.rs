//! The IAM policy of `SECURITY.md`, compared with the calls that a store makes: the emulators
//! enforce none.

use std::collections::BTreeSet;

use serde_json::Value;
use zoho_oauth::TokenStore;

use super::{Stub, renewed, store, token};
use crate::privileges::{block, everything};

#[tokio::test]
async fn the_policy_of_the_handbook_allows_what_a_store_calls_and_nothing_else() {
    let stub = Stub::start().await;
    let store = store(&stub);
    everything(&store).await.unwrap();
    everything(&store).await.unwrap();
    // After damage the handbook says to go back to the version before.
    let ann = store.save_token(&token("ann")).await.unwrap();
    for _ in 0..2 {
        let news = renewed("ann", ann, "1000.new");
        store.save_token(&news).await.unwrap();
        stub.roll_back(&format!("p/token/{ann}"));
    }
    let calls: BTreeSet<_> = stub.calls().into_iter().collect();

    let policy = format!("{{{}", block("json", "{").concat());
    let policy: Value = serde_json::from_str(&policy).unwrap();
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        let actions = statement["Action"].as_array().unwrap();
        for action in actions.iter().filter_map(Value::as_str) {
            let action = action.strip_prefix("secretsmanager:").unwrap();
            allowed.insert(action.to_owned());
            let is_narrow = statement["Resource"] != "*";
            let about_all = ["ListSecrets", "BatchGetSecretValue"].contains(&action);
            assert_eq!(is_narrow, !about_all, "{action}");
        }
    }
    assert_eq!(calls, allowed);
}
