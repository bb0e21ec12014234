//! The rules, one by one, and then all of them at once on random sequences.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::secret::{AccessToken, ClientSecret, GrantToken, RefreshToken};
use crate::token::{ClientId, UserName};

/// A record written as `"user=a client=c refresh=r expiry=7 id=3"`.
fn token(text: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    for field in text.split_whitespace() {
        let (name, value) = field.split_once('=').unwrap();
        match name {
            "id" => token.id = Some(value.parse().unwrap()),
            "user" => token.user_name = Some(UserName::received(value).unwrap()),
            "client" => token.client_id = Some(ClientId::received(value).unwrap()),
            "secret" => token.client_secret = Some(ClientSecret::received(value).unwrap()),
            "refresh" => token.refresh_token = Some(RefreshToken::received(value).unwrap()),
            "access" => token.access_token = Some(AccessToken::received(value).unwrap()),
            "grant" => token.grant_token = Some(GrantToken::received(value).unwrap()),
            "expiry" => token.expiry_time = Some(Timestamp::from_millis(value.parse().unwrap())),
            "url" => token.redirect_url = Some(value.into()),
            "domain" => token.api_domain = Some(value.into()),
            other => panic!("no field {other}"),
        }
    }
    token
}

/// The opposite of [`token`].
fn text(row: &OAuthToken) -> String {
    let OAuthToken {
        id,
        user_name,
        client_id,
        client_secret,
        refresh_token,
        access_token,
        grant_token,
        expiry_time,
        redirect_url,
        api_domain,
    } = row;
    let secret = |value: &Option<ClientSecret>| value.as_ref().map(|s| s.expose_secret().into());
    let fields: [(&str, Option<String>); 10] = [
        ("id", id.map(|id| id.to_string())),
        ("user", user_name.as_ref().map(ToString::to_string)),
        ("client", client_id.as_ref().map(ToString::to_string)),
        ("secret", secret(client_secret)),
        (
            "refresh",
            refresh_token.as_ref().map(|t| t.expose_secret().into()),
        ),
        (
            "access",
            access_token.as_ref().map(|t| t.expose_secret().into()),
        ),
        (
            "grant",
            grant_token.as_ref().map(|t| t.expose_secret().into()),
        ),
        ("expiry", expiry_time.map(|at| at.to_string())),
        ("url", redirect_url.clone()),
        ("domain", api_domain.clone()),
    ];
    let set = |(name, value): (&str, Option<String>)| value.map(|value| format!("{name}={value}"));
    fields
        .into_iter()
        .filter_map(set)
        .collect::<Vec<_>>()
        .join(" ")
}

fn texts(table: &TokenTable) -> Vec<String> {
    table.rows().iter().map(text).collect()
}

fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

/// A table after these saves, each of which succeeds.
fn table(saves: &[&str]) -> TokenTable {
    let mut table = TokenTable::new();
    for save in saves {
        table
            .save(&token(save))
            .unwrap_or_else(|error| panic!("{save}: {error}"));
    }
    table
}

/// Asserts what the table holds after `saves`.
#[track_caller]
fn holds(saves: &[&str], expected: &[&str]) {
    assert_eq!(texts(&table(saves)), expected, "after {saves:?}");
}

/// Asserts that after `saves` one more save fails with `code`, and changes nothing.
#[track_caller]
fn refuses(saves: &[&str], save: &str, code: ErrorCode) {
    let mut table = table(saves);
    let (before, highest) = (texts(&table), table.highest_id());
    let error = table.save(&token(save)).unwrap_err();
    assert_eq!(error.code(), code, "{save}: {error}");
    assert_eq!((texts(&table), table.highest_id()), (before, highest));
}

#[test]
fn ids_rise_past_9_and_99_and_are_never_used_again() {
    let mut table = TokenTable::new();
    for number in 1..=101 {
        let saved = table.save(&token(&format!("user=u{number} access=a{number}")));
        assert_eq!(saved.unwrap(), id(number));
    }
    assert!(table.delete(id(101)) && !table.delete(id(101)));
    assert_eq!(
        table.save(&token("user=new access=x")).unwrap(),
        id(102),
        "the highest row was deleted"
    );
    assert_eq!(table.clear(), 101);
    assert_eq!(table.clear(), 0);
    assert_eq!(table.save(&token("user=new access=x")).unwrap(), id(103));
    let again = TokenTable::from_rows(vec![], table.highest_id());
    assert_eq!(
        again.unwrap().save(&token("access=x")).unwrap(),
        id(104),
        "put away and taken up again"
    );
}

#[test]
fn rows_are_in_the_order_of_their_ids_wherever_they_came_from() {
    let rows = vec![
        token("id=10 access=b"),
        token("id=9 access=a"),
        token("id=100 access=c"),
    ];
    let table = TokenTable::from_rows(rows, None).unwrap();
    assert_eq!(
        texts(&table),
        ["id=9 access=a", "id=10 access=b", "id=100 access=c"]
    );
    assert_eq!(table.highest_id(), Some(id(100)));
    for number in [9, 10, 100] {
        assert_eq!(table.find_by_id(id(number)).unwrap().id, Some(id(number)));
    }
    assert!(table.find_by_id(id(1)).is_none());
}

#[test]
fn damaged_rows_are_refused() {
    for rows in [
        ["id=1 access=a", "access=b"],
        ["id=7 access=a", "id=7 access=b"],
    ] {
        let error = TokenTable::from_rows(rows.map(token).to_vec(), None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreDamaged);
    }
    let low = TokenTable::from_rows(vec![token("id=7 access=a")], Some(id(3))).unwrap();
    assert_eq!(low.highest_id(), Some(id(7)), "a stale mark does not count");
}

#[test]
fn user_and_client_together_are_the_identity() {
    holds(
        &[
            "user=a client=c refresh=r1",
            "user=a client=d refresh=r2",
            "user=a refresh=r3",
            "user=b client=c refresh=r4",
            "user=a client=c refresh=r5",
            "user=a refresh=r6",
        ],
        &[
            "id=1 user=a client=c refresh=r5",
            "id=2 user=a client=d refresh=r2",
            "id=3 user=a refresh=r6",
            "id=4 user=b client=c refresh=r4",
        ],
    );
}

#[test]
fn a_nameless_record_is_known_by_its_strongest_token_and_client() {
    holds(
        &[
            "client=c refresh=r access=a1",
            "client=c refresh=r access=a2",
        ],
        &["id=1 client=c refresh=r access=a2"],
    );
    holds(
        &["client=c refresh=r", "client=d refresh=r", "refresh=r"],
        &[
            "id=1 client=c refresh=r",
            "id=2 client=d refresh=r",
            "id=3 refresh=r",
        ],
    );
    holds(
        &[
            "client=c grant=g",
            "client=c grant=g refresh=r",
            "client=d grant=g",
        ],
        &["id=1 client=c refresh=r grant=g", "id=2 client=d grant=g"],
    );
    holds(
        &["access=a", "client=c access=a", "client=d access=a"],
        &["id=1 client=c access=a", "id=2 client=d access=a"],
    );
}

#[test]
fn a_nameless_save_updates_the_named_record_that_holds_its_token() {
    holds(
        &["user=a client=c refresh=r", "client=c refresh=r access=x"],
        &["id=1 user=a client=c refresh=r access=x"],
    );
}

#[test]
fn a_save_that_omits_the_client_finds_the_record_by_name_and_access_token() {
    let named = "user=a client=c refresh=r access=x";
    let expected = ["id=1 user=a client=c refresh=r access=x expiry=5"];
    holds(&[named, "user=a access=x expiry=5"], &expected);
    // Saving the same token twice leaves one record, also when the first save named it.
    let nameless = "client=c refresh=r access=x";
    let again = "user=a access=x expiry=5";
    holds(&[nameless, again, again], &expected);
    // Another access token, and no client: nothing tells that it is the same application's.
    holds(
        &[named, "user=a access=y"],
        &[
            "id=1 user=a client=c refresh=r access=x",
            "id=2 user=a access=y",
        ],
    );
}

#[test]
fn a_token_under_another_name_is_another_login() {
    holds(
        &["user=a client=c refresh=r", "user=b client=c refresh=r"],
        &[
            "id=1 user=a client=c refresh=r",
            "id=2 user=b client=c refresh=r",
        ],
    );
}

#[test]
fn a_name_learned_later_joins_the_record() {
    let expected = ["id=1 user=a client=c refresh=r access=x"];
    let first = "client=c refresh=r access=x";
    holds(&[first, "id=1 user=a"], &expected);
    holds(&[first, "user=a client=c refresh=r"], &expected);
    holds(&[first, "user=a client=c access=x"], &expected);
    holds(
        &["client=c grant=g", "user=a client=c grant=g refresh=r"],
        &["id=1 user=a client=c refresh=r grant=g"],
    );
}

#[test]
fn a_record_that_takes_on_the_identity_of_another_becomes_that_one() {
    // The record that was saved holds the newer login, so its fields win.
    holds(
        &[
            "user=a client=c refresh=old secret=s",
            "client=c refresh=new access=x",
            "id=2 user=a",
        ],
        &["id=1 user=a client=c secret=s refresh=new access=x"],
    );
    // A client that is learned later changes the identity as well.
    holds(
        &[
            "user=a client=c refresh=r",
            "user=a access=x",
            "id=2 client=c",
        ],
        &["id=1 user=a client=c refresh=r access=x"],
    );
    holds(
        &[
            "client=c refresh=r1",
            "client=c refresh=r2",
            "id=2 refresh=r1",
        ],
        &["id=1 client=c refresh=r1"],
    );
    holds(
        &[
            "client=c refresh=r1",
            "user=a client=c refresh=r2",
            "id=1 refresh=r2",
        ],
        &["id=2 user=a client=c refresh=r2"],
    );
    // By way of a second record, whose name it learns, to a third.
    holds(
        &[
            "user=a client=c access=x",
            "client=c access=y",
            "user=a access=z",
            "id=2 access=z",
        ],
        &["id=1 user=a client=c access=z"],
    );
    let mut table = table(&["user=a client=c refresh=r", "client=c access=x"]);
    assert_eq!(table.save(&token("id=2 user=a")).unwrap(), id(1));
    assert_eq!(table.highest_id(), Some(id(2)));
    let gone = table.save(&token("id=2 access=y")).unwrap_err();
    assert_eq!(gone.code(), ErrorCode::RecordDeleted);
}

#[test]
fn nameless_records_of_a_login_are_taken_in_and_fill_its_blanks() {
    holds(
        &[
            "user=a client=c refresh=r1",
            "client=c refresh=r2 secret=s access=x expiry=5",
            "user=a client=c refresh=r2",
        ],
        &["id=1 user=a client=c secret=s refresh=r2 access=x expiry=5"],
    );
    holds(
        &[
            "user=a client=c refresh=r",
            "access=x expiry=5",
            "user=a client=c access=x",
        ],
        &["id=1 user=a client=c refresh=r access=x expiry=5"],
    );
    holds(
        &[
            "user=a client=c refresh=r",
            "client=c grant=g domain=d",
            "id=1 grant=g",
        ],
        &["id=1 user=a client=c refresh=r grant=g domain=d"],
    );
    // Known by another, stronger token: not this login.
    holds(
        &[
            "user=a client=c refresh=r",
            "client=c refresh=q grant=g",
            "id=1 grant=g",
        ],
        &[
            "id=1 user=a client=c refresh=r grant=g",
            "id=2 client=c refresh=q grant=g",
        ],
    );
    // Of another client, or of one where the record has none: not this login.
    holds(
        &[
            "user=a client=c refresh=r1",
            "client=d refresh=r2",
            "id=1 refresh=r2",
        ],
        &[
            "id=1 user=a client=c refresh=r2",
            "id=2 client=d refresh=r2",
        ],
    );
    holds(
        &["user=a access=x", "client=c access=y", "user=a access=y"],
        &["id=1 user=a access=y", "id=2 client=c access=y"],
    );
}

#[test]
fn a_record_keeps_its_id_when_others_always_had_its_identity() {
    // Two rows of one login, as an official store can leave them behind.
    let rows = [
        "id=1 user=a client=c refresh=r",
        "id=2 user=a client=c refresh=q",
    ];
    let mut table = TokenTable::from_rows(rows.map(token).to_vec(), None).unwrap();
    assert_eq!(table.save(&token("id=2 access=x")).unwrap(), id(2));
    assert_eq!(
        table.save(&token("user=a client=c access=y")).unwrap(),
        id(1)
    );
    assert_eq!(table.rows().len(), 2);
}

#[test]
fn blank_fields_keep_the_stored_value() {
    let full = "user=a client=c secret=s refresh=r access=x grant=g expiry=5 url=u domain=d";
    let expected = format!("id=1 {full}");
    for blank in [
        "id=1",
        "id=1 user=a",
        "user=a client=c",
        "client=c refresh=r",
    ] {
        holds(&[full, blank], &[&expected]);
    }
    let mut table = table(&[full]);
    let mut empty = token("id=1");
    empty.redirect_url = Some(String::new());
    empty.api_domain = Some(String::new());
    table.save(&empty).unwrap();
    assert_eq!(texts(&table), [expected]);
    assert_eq!(table.rows()[0].redirect_url.as_deref(), Some("u"));
}

#[test]
fn every_filled_field_replaces_the_stored_one() {
    holds(
        &[
            "user=a client=c secret=s refresh=r access=x grant=g expiry=5 url=u domain=d",
            "user=a client=c secret=s2 refresh=r2 access=x2 grant=g2 expiry=6 url=u2 domain=d2",
        ],
        &["id=1 user=a client=c secret=s2 refresh=r2 access=x2 grant=g2 expiry=6 url=u2 domain=d2"],
    );
}

#[test]
fn an_access_token_and_its_expiry_go_together() {
    let stored = "user=a access=x expiry=5";
    holds(&[stored, "user=a access=y"], &["id=1 user=a access=y"]);
    holds(
        &[stored, "user=a access=y expiry=9"],
        &["id=1 user=a access=y expiry=9"],
    );
    holds(
        &[stored, "user=a access=x"],
        &["id=1 user=a access=x expiry=5"],
    );
    holds(
        &[stored, "user=a access=x expiry=9"],
        &["id=1 user=a access=x expiry=9"],
    );
    holds(
        &[stored, "user=a expiry=9"],
        &["id=1 user=a access=x expiry=5"],
    );
    holds(
        &["user=a access=x", "user=a expiry=9"],
        &["id=1 user=a access=x"],
    );
    // Where no access token is stored, an expiry is kept, and goes when an access token comes.
    holds(
        &["user=a refresh=r", "user=a expiry=9"],
        &["id=1 user=a refresh=r expiry=9"],
    );
    holds(
        &["user=a refresh=r expiry=9", "user=a access=x"],
        &["id=1 user=a refresh=r access=x"],
    );
}

#[test]
fn an_id_of_another_user_or_client_is_a_conflict() {
    let stored = ["user=a client=c refresh=r", "client=d refresh=r"];
    refuses(&stored, "id=1 user=b refresh=x", ErrorCode::IdConflict);
    refuses(&stored, "id=1 user=a client=d", ErrorCode::IdConflict);
    refuses(&stored, "id=1 client=d", ErrorCode::IdConflict);
    refuses(&stored, "id=2 client=c", ErrorCode::IdConflict);
}

#[test]
fn a_deleted_id_stays_deleted() {
    let mut table = table(&["user=a refresh=r", "user=b refresh=q"]);
    table.delete(id(1));
    let error = table.save(&token("id=1 user=a refresh=r")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    // Without the id it is a new login.
    assert_eq!(table.save(&token("user=a refresh=r")).unwrap(), id(3));
    table.clear();
    for number in 1..=3 {
        let error = table
            .save(&token(&format!("id={number} refresh=r")))
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::RecordDeleted);
    }
    // Given by the store, or skipped by it: the same, since it cannot tell.
    refuses(
        &["id=50 refresh=r"],
        "id=49 refresh=q",
        ErrorCode::RecordDeleted,
    );
}

#[test]
fn a_higher_id_is_kept_when_a_record_moves_in() {
    holds(
        &[
            "id=40 user=a refresh=r",
            "user=b refresh=q",
            "id=99 user=c access=x",
        ],
        &[
            "id=40 user=a refresh=r",
            "id=41 user=b refresh=q",
            "id=99 user=c access=x",
        ],
    );
    // Its login is stored already: no second record.
    holds(
        &[
            "user=a refresh=r",
            "id=40 user=a access=x",
            "user=b access=y",
        ],
        &["id=1 user=a refresh=r access=x", "id=2 user=b access=y"],
    );
}

#[test]
fn the_last_id_is_the_last() {
    let saves = ["user=a access=x", "id=9999999999 user=b access=y"];
    refuses(&saves, "user=c access=z", ErrorCode::IdsExhausted);
    holds(
        &[saves[0], saves[1], "user=a access=z"],
        &["id=1 user=a access=z", "id=9999999999 user=b access=y"],
    );
}

#[test]
fn what_says_nothing_is_refused() {
    let stored = ["user=a client=c refresh=r"];
    for save in ["", "client=c", "client=c secret=s url=u domain=d expiry=4"] {
        refuses(&stored, save, ErrorCode::InvalidInput);
    }
    for save in [
        "user=b",
        "user=a",
        "user=b client=c expiry=5",
        "id=7",
        "id=7 user=b",
    ] {
        refuses(&stored, save, ErrorCode::InvalidInput);
    }
    let mut table = table(&stored);
    let mut nul = token("id=1");
    nul.access_token = Some(AccessToken::received("a\0b").unwrap());
    assert_eq!(
        table.save(&nul).unwrap_err().code(),
        ErrorCode::InvalidInput
    );
    assert_eq!(texts(&table), ["id=1 user=a client=c refresh=r"]);
}

#[test]
fn the_lowest_id_answers_a_query_that_several_match() {
    let table = table(&["user=a client=c refresh=r", "user=a client=d refresh=r"]);
    let query = TokenQuery::user_name(UserName::received("a").unwrap());
    assert_eq!(table.find(&query).unwrap().id, Some(id(1)));
    let query = query.with_client(ClientId::received("d").unwrap());
    assert_eq!(table.find(&query).unwrap().id, Some(id(2)));
    let query = query.with_client(ClientId::received("e").unwrap());
    assert!(table.find(&query).is_none());
}

#[test]
fn errors_name_ids_and_no_value() {
    let mut table = table(&["user=ann client=kaput refresh=geheim1"]);
    for save in [
        "id=1 user=bert refresh=geheim2",
        "id=1 client=other access=geheim3",
        "user=bert",
    ] {
        let error = table.save(&token(save)).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            for word in ["ann", "bert", "kaput", "geheim"] {
                assert!(!text.contains(word), "{text}");
            }
        }
    }
}

/// Records whose values are all different, and records that share one, as those of a load test do.
const CROWDS: [fn(u64) -> String; 8] = [
    |n| format!("user=u{n} client=c refresh=r{n} access=a{n} grant=g{n}"),
    |n| format!("user=u{n} client=c refresh=r access=a grant=g"),
    |n| format!("user=u client=c{n} refresh=r access=a grant=g"),
    |n| format!("user=u{n} access=a"),
    |n| format!("client=c refresh=r{n}"),
    |n| format!("client=c{n} grant=g access=a"),
    |n| format!("client=c{n} access=a{n}"),
    |n| format!("access=a{n} expiry=1"),
];

#[test]
fn the_work_of_an_operation_does_not_grow_with_the_table() {
    const ROWS: u64 = 1_000;
    for crowd in CROWDS {
        let mut table = TokenTable::new();
        identity::COMPARISONS.set(0);
        for number in 1..=ROWS {
            assert_eq!(table.save(&token(&crowd(number))).unwrap(), id(number));
        }
        for number in 1..=ROWS {
            let record = token(&format!("{} url=u", crowd(number)));
            assert_eq!(table.save(&record).unwrap(), id(number));
            let query = TokenQuery::from_parts(&record).unwrap();
            let found = table.find(&query).unwrap();
            assert!(found.id <= Some(id(number)));
            let record = token(&format!("id={number} domain=d"));
            assert_eq!(table.save(&record).unwrap(), id(number));
        }
        for number in 1..=ROWS {
            assert!(table.delete(id(number)));
        }
        let each = identity::COMPARISONS.get() as u64 / ROWS;
        assert!(each < 50, "{}: {each} comparisons", crowd(0));
    }
}

/// One of few values or none, so that records meet often.
fn few(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(""), 5 => proptest::sample::select(values)]
}

#[derive(Clone, Debug)]
enum Step {
    Save(String),
    Delete(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let save = (
        few(&["user=a", "user=b"]),
        few(&["client=c", "client=d"]),
        few(&["refresh=r1", "refresh=r2", "refresh=r3"]),
        few(&["access=x1", "access=x2", "access=x3"]),
        few(&["grant=g1", "grant=g2"]),
        few(&["expiry=1", "expiry=2"]),
        few(&["secret=s1", "secret=s2"]),
        prop_oneof![2 => Just(0_u64), 1 => 1_u64..12],
    );
    let save = save.prop_map(|(a, b, c, d, e, f, g, id)| {
        let id = if id == 0 {
            String::new()
        } else {
            format!("id={id}")
        };
        Step::Save([&id, a, b, c, d, e, f, g].join(" "))
    });
    prop_oneof![30 => save, 3 => (1_u64..12).prop_map(Step::Delete), 1 => Just(Step::Clear)]
}

/// What must hold whatever was done.
fn check_invariants(table: &TokenTable) -> Result<(), String> {
    let rows = table.rows();
    if !rows.is_sorted_by(|a, b| a.id < b.id) {
        return Err("ids do not rise".into());
    }
    if rows.last().and_then(|row| row.id) > table.highest_id() {
        return Err("an id is above the highest".into());
    }
    for (index, row) in rows.iter().enumerate() {
        if !row.holds_a_token() {
            return Err(format!("`{}` holds no token", text(row)));
        }
        for (other, second) in rows.iter().enumerate() {
            let same_name = row.user_name.is_some() && row.user_name == second.user_name;
            let twice = same_name && row.client_id == second.client_id;
            if other != index && (twice || is_same_login_unnamed(second, row)) {
                return Err(format!(
                    "`{}` and `{}` are one login",
                    text(row),
                    text(second)
                ));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_done_one_login_is_one_record(steps in proptest::collection::vec(step(), 1..40)) {
        let mut table = TokenTable::new();
        let mut given = TokenTable::new().highest_id();
        for step in steps {
            let before = table.clone();
            match &step {
                Step::Save(save) => {
                    let token = token(save);
                    let saved = table.save(&token);
                    // The first save of a table looks at every row.
                    let mut plain =
                        TokenTable::from_rows(before.rows().to_vec(), before.highest_id()).unwrap();
                    let code = |error: Error| error.code();
                    prop_assert_eq!(
                        plain.save(&token).map_err(code),
                        saved.as_ref().copied().map_err(Error::code)
                    );
                    prop_assert_eq!(texts(&plain), texts(&table));
                    for partial in table.rows() {
                        let query = TokenQuery::from_parts(partial).unwrap();
                        prop_assert_eq!(table.find(&query), plain.find(&query));
                    }
                    if let Ok(saved) = saved {
                            let row = table.find_by_id(saved).cloned();
                            let row = row.expect("what was saved is there under its id");
                            let lost = before.rows().len().saturating_sub(table.rows().len());
                            prop_assert!(lost < 4 && is_filled_by(&row, &token), "{}", text(&row));
                            let once = texts(&table);
                            // A record that became another one is gone by its old id, and an
                            // access token in two logins leaves open whose it is.
                            let same = table.rows().iter().filter(|row| {
                                row.access_token.is_some() && row.access_token == token.access_token
                            });
                            let clear = same.count() < 2;
                            if clear && token.id.is_none_or(|id| id == saved) {
                                prop_assert_eq!(table.save(&token).ok(), Some(saved));
                                prop_assert_eq!(texts(&table), once, "saving again changes nothing");
                            }
                    } else {
                        prop_assert_eq!(texts(&table), texts(&before));
                    }
                }
                Step::Delete(number) => {
                    let was_there = before.find_by_id(id(*number)).is_some();
                    prop_assert_eq!(table.delete(id(*number)), was_there);
                }
                Step::Clear => prop_assert_eq!(table.clear(), before.rows().len()),
            }
            prop_assert!(table.highest_id() >= given);
            given = table.highest_id();
            if let Err(why) = check_invariants(&table) {
                let before = texts(&before);
                prop_assert!(false, "{why}, after {step:?} on {before:?}");
            }
        }
    }
}

/// Whether `row` holds every value that `token` has, beside its id and an expiry of nothing.
fn is_filled_by(row: &OAuthToken, token: &OAuthToken) -> bool {
    let mut overlaid = merge(row, token);
    overlaid.id = row.id;
    overlaid == *row
}
