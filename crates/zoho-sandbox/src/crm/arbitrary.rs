//! Arbitrary input for property tests of the parsers.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Up to `most` of these words in any order.
pub(crate) fn soup(
    words: &'static [&'static str],
    separator: &'static str,
    most: usize,
) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..most)
        .prop_map(move |words| words.join(separator))
}

/// Something inside up to thousands of parentheses, which need not be closed.
pub(crate) fn nested(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (0_usize..4_000, inner, 0_usize..4_000)
        .prop_map(|(open, inner, close)| "(".repeat(open) + &inner + &")".repeat(close))
}

/// A word that means something to the API, or any other text.
pub(crate) fn word() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "id",
        "City",
        "Email",
        "Last_Name",
        "Company",
        "Owner",
        "Account_Name",
        "Layout",
        "Tag",
        "Student_Number",
        "No_of_Employees",
        "Annual_Revenue",
        "Preferred_Start",
        "Modified_Time",
        "Leads",
        "Contacts",
        "Accounts",
        "Deals",
        "asc",
        "CurrentUser",
        "NL-10001",
        "0",
        "-1",
        "201",
        "5540230000100009",
        "18446744073709551615",
        "18446744073709551616",
        "2036-01-01T00:00:00+0000",
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00+23:59",
    ];
    prop_oneof![
        4 => prop::sample::select(WORDS).prop_map(str::to_owned),
        1 => ".{0,40}",
    ]
}

/// Any JSON, with the API's own words in it.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}
