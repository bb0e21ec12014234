//! The official table and ours: what is in them, what fits, what is refused.

use zoho_oauth::conformance::{Place, StoreFactory, Tier};
use zoho_oauth::{ErrorCode, OAuthToken, TokenQuery, TokenStore};

use super::*;

async fn columns(database: &TestDatabase) -> Vec<String> {
    database
        .ask(
            "SELECT CONCAT_WS(' ', column_name, column_type, is_nullable, \
            IFNULL(collation_name, '-')) FROM information_schema.columns \
            WHERE table_schema = DATABASE() AND table_name = 'oauthtoken' \
            ORDER BY ordinal_position",
        )
        .await
}

#[tokio::test]
async fn a_missing_table_is_made_with_the_official_columns_and_no_others() {
    let database = TestDatabase::new().await;
    let store = database.open().await;
    let expected = [
        "id varchar(10) NO utf8mb4_bin",
        "user_name mediumtext YES utf8mb4_bin",
        "client_id mediumtext YES utf8mb4_bin",
        "client_secret mediumtext YES utf8mb4_bin",
        "refresh_token mediumtext YES utf8mb4_bin",
        "access_token mediumtext YES utf8mb4_bin",
        "grant_token mediumtext YES utf8mb4_bin",
        "expiry_time varchar(20) YES utf8mb4_bin",
        "redirect_url mediumtext YES utf8mb4_bin",
        "api_domain mediumtext YES utf8mb4_bin",
    ];
    assert_eq!(columns(&database).await, expected);
    let tables = database.ask("SHOW TABLES").await;
    assert_eq!(
        tables,
        ["oauthtoken", "zoho_oauth_lease", "zoho_oauth_mark"]
    );
    let keys = "SELECT column_name FROM information_schema.statistics \
        WHERE table_schema = DATABASE() AND table_name = 'oauthtoken' ORDER BY 1";
    let expected = [
        "access_token",
        "grant_token",
        "id",
        "refresh_token",
        "user_name",
    ];
    assert_eq!(database.ask(keys).await, expected);
    store.save_token(&user("ann")).await.unwrap();
    assert_eq!(
        database.ask("SELECT user_name FROM oauthtoken").await,
        ["ann"]
    );
    // Nothing is left to be done.
    assert!(store.widen().await.unwrap().is_empty());
    // What is none is NULL.
    let mut sparse = OAuthToken::new();
    sparse.access_token = access("x");
    store.save_token(&sparse).await.unwrap();
    let nulls = "SELECT api_domain FROM oauthtoken WHERE access_token = 'x'";
    assert_eq!(database.ask(nulls).await, ["NULL"]);
}

#[tokio::test]
async fn several_tables_share_a_database() {
    let database = TestDatabase::new().await;
    let one = database.builder().table("one").connect().await.unwrap();
    let two = database.builder().table("2two").connect().await.unwrap();
    let first = one.save_token(&user("ann")).await.unwrap();
    assert_eq!(two.get_tokens().await.unwrap(), []);
    assert_eq!(two.save_token(&user("bob")).await.unwrap(), first);
    assert_eq!(two.delete_tokens().await.unwrap(), 1);
    let found = one.find_token_by_id(first).await.unwrap();
    assert_eq!(found, Some(with_id(first, user("ann"))));
}

#[tokio::test]
async fn an_official_table_is_used_as_it_is() {
    let database = TestDatabase::official().await;
    database
        .run(
            "INSERT INTO oauthtoken VALUES \
            ('1', 'ann', 'c', 's', 'r1', 'a1', 'g1', '1795372876984', 'u', 'd'), \
            ('2', '', NULL, '', 'r2', NULL, '', '', NULL, ''), \
            ('3', 'None', 'null', 'NULL', 'r3', NULL, NULL, NULL, NULL, NULL)",
        )
        .await;
    let before = database.ask("SHOW CREATE TABLE oauthtoken").await;
    let made = columns(&database).await;
    let store = database.open().await;
    let tokens = store.get_tokens().await.unwrap();
    assert_eq!(tokens.len(), 3);
    assert_eq!(
        tokens[0].expiry_time,
        Some(Timestamp::from_millis(1_795_372_876_984))
    );
    let mut second = OAuthToken::new();
    second.id = Some(id(2));
    second.refresh_token = RefreshToken::new("r2").ok();
    assert_eq!(tokens[1], second);
    // No official SDK writes these for none: they are text. `null` is none.
    assert_eq!(tokens[2].user_name, UserName::new("None").ok());
    assert_eq!(tokens[2].client_secret, ClientSecret::new("NULL").ok());
    assert_eq!(tokens[2].client_id, None);

    // '' and NULL are one, also when a row is written on the condition that it did not change.
    let mut learned = second.clone();
    learned.access_token = access("new");
    assert_eq!(store.save_token(&learned).await.unwrap(), id(2));
    assert_eq!(store.find_token_by_id(id(2)).await.unwrap(), Some(learned));
    let id = store.save_token(&user("bob")).await.unwrap();
    assert!(id.get() > 3);
    assert!(store.delete_token(id).await.unwrap());
    assert_eq!(database.ask("SHOW CREATE TABLE oauthtoken").await, before);
    assert_eq!(columns(&database).await, made);
}

/// The README for PHP has it like that.
#[tokio::test]
async fn a_column_without_null_takes_an_empty_text() {
    let database = TestDatabase::new().await;
    let sql = OFFICIAL_TABLE.replace("user_name varchar(255)", "user_name varchar(255) NOT NULL");
    database.run(&sql).await;
    let store = database.open().await;
    let mut nameless = OAuthToken::new();
    nameless.refresh_token = RefreshToken::new("r").ok();
    nameless.access_token = access("a");
    let id = store.save_token(&nameless).await.unwrap();
    assert_eq!(database.ask("SELECT user_name FROM oauthtoken").await, [""]);
    nameless.access_token = access("b");
    assert_eq!(store.save_token(&nameless).await.unwrap(), id);
    let found = store.find_token_by_id(id).await.unwrap();
    assert_eq!(found, Some(with_id(id, nameless)));
}

#[tokio::test]
async fn look_ups_are_to_the_byte_whatever_the_collation() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    let names = [
        "ann",
        "Ann",
        "ANN",
        "\u{e4}nn",
        "ann ",
        "ann\u{a0}",
        "a\u{308}nn",
    ];
    let mut expected = Vec::new();
    for name in names {
        // All tokens differ by as little as the names do.
        let id = store.save_token(&user(name)).await.unwrap();
        expected.push(with_id(id, user(name)));
    }
    // To the collation they are one, or few.
    let alike = "SELECT COUNT(DISTINCT user_name) FROM oauthtoken";
    assert_eq!(database.ask(alike).await, ["3"]);
    assert_eq!(store.get_tokens().await.unwrap(), expected);
    for token in expected {
        let queries = [
            TokenQuery::user_name(token.user_name.clone().unwrap()),
            TokenQuery::refresh_token(token.refresh_token.clone().unwrap()),
            TokenQuery::access_token(token.access_token.clone().unwrap()),
            TokenQuery::grant_token(token.grant_token.clone().unwrap()),
        ];
        for query in queries {
            assert_eq!(
                store.find_token(&query).await.unwrap().as_ref(),
                Some(&token)
            );
            let other = query.with_client(ClientId::new("1000.client").unwrap());
            assert_eq!(store.find_token(&other).await.unwrap(), None);
        }
    }
    let nobody = TokenQuery::user_name(UserName::new("aNn").unwrap());
    assert_eq!(store.find_token(&nobody).await.unwrap(), None);
}

#[tokio::test]
async fn a_character_that_a_column_does_not_know_is_refused_and_finds_nobody() {
    let database = TestDatabase::new().await;
    let sql = OFFICIAL_TABLE.replace("utf8mb4 COLLATE utf8mb4_general_ci", "latin1");
    database.run(&sql).await;
    for store in [
        database.open().await,
        MySqlStore::from_pool(careless_pool(&database.name, 10), "oauthtoken")
            .await
            .unwrap(),
    ] {
        let id = store.save_token(&user("b?b")).await.unwrap();
        let error = store.save_token(&user("b\u{1f600}b")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
        let mut renamed = OAuthToken::new();
        renamed.id = Some(id);
        renamed.redirect_url = Some("https://\u{1f600}.example".into());
        let error = store.save_token(&renamed).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
        // In this character set the question would be that for `b?b`.
        let query = TokenQuery::user_name(UserName::new("b\u{1f600}b").unwrap());
        assert_eq!(store.find_token(&query).await.unwrap(), None);
        assert_eq!(
            store.get_tokens().await.unwrap(),
            [with_id(id, user("b?b"))]
        );
    }
    // What it knows comes back.
    let store = database.open().await;
    let id = store.save_token(&user("zo\u{eb}")).await.unwrap();
    let query = TokenQuery::user_name(UserName::new("zo\u{eb}").unwrap());
    let found = store.find_token(&query).await.unwrap();
    assert_eq!(found, Some(with_id(id, user("zo\u{eb}"))));
}

/// In strict mode and out of it, for new records and for old ones.
#[tokio::test]
async fn what_is_too_long_is_refused_before_anything_is_cut_off() {
    let database = TestDatabase::official().await;
    let pool = careless_pool(&database.name, 10);
    for store in [
        database.open().await,
        MySqlStore::from_pool(pool, "oauthtoken").await.unwrap(),
    ] {
        let id = store.save_token(&user("ann")).await.unwrap();
        let long = "geheim".repeat(50);
        let mut renewed = user("ann");
        renewed.access_token = access(&long);
        let mut new = user("bob");
        new.client_secret = ClientSecret::new(&long).ok();
        let other = TOO_NARROW.replace("access_token", "client_secret");
        for (token, message) in [(renewed, TOO_NARROW), (new, &other)] {
            let error = store.save_token(&token).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::ColumnTooNarrow);
            assert_eq!(error.message(), message);
            let text = format!("{error} {error:?}");
            assert!(text.contains("widen"), "{text}");
            assert!(!text.contains("geheim"), "{text}");
        }
        assert_eq!(
            store.get_tokens().await.unwrap(),
            [with_id(id, user("ann"))]
        );
        // As long as the column, in characters.
        let mut fits = user("ann");
        fits.access_token = access(&"\u{fc}".repeat(255));
        store.save_token(&fits).await.unwrap();
        assert_eq!(store.get_tokens().await.unwrap(), [with_id(id, fits)]);
        store.delete_tokens().await.unwrap();
    }
}

/// A narrow table is right about everything but long values.
#[tokio::test(flavor = "multi_thread")]
async fn the_official_table_keeps_all_rules_but_the_one_for_long_text() {
    async fn open(place: Place) -> zoho_oauth::Result<MySqlStore> {
        let database = TestDatabase::make(place.name()).await;
        database.run(OFFICIAL_TABLE).await;
        server().database(place.name()).connect().await
    }
    let mut rules = tokio::task::JoinSet::new();
    for rule in Tier::Basic.rules() {
        rules.spawn(async { (rule.name, rule.check(&StoreFactory::new(open)).await) });
    }
    let verdicts = rules.join_all().await;
    let broken: Vec<_> = verdicts
        .iter()
        .filter(|(_, verdict)| verdict.is_err())
        .collect();
    let [("long_text_comes_back_or_is_refused", Err(violation))] = &broken[..] else {
        panic!("{broken:?}");
    };
    assert!(
        violation.to_string().contains("column_too_narrow"),
        "{violation}"
    );
}

#[tokio::test]
async fn what_is_no_token_table_is_refused_and_left_alone() {
    for (sql, code, word) in [
        (
            OFFICIAL_TABLE.replace("grant_token varchar(255),", ""),
            ErrorCode::StoreForeign,
            "grant_token",
        ),
        (
            OFFICIAL_TABLE.replace("id varchar(10)", "id int"),
            ErrorCode::StoreForeign,
            "`id` of type int",
        ),
        (
            OFFICIAL_TABLE.replace("primary key (id)", "key (id)"),
            ErrorCode::StoreForeign,
            "primary key",
        ),
        (
            format!("{OFFICIAL_TABLE} ENGINE=MyISAM"),
            ErrorCode::Unsupported,
            "MyISAM",
        ),
        (
            "CREATE VIEW oauthtoken AS SELECT 1 AS id".to_owned(),
            ErrorCode::StoreForeign,
            "no table",
        ),
    ] {
        let database = TestDatabase::new().await;
        database.run(&sql).await;
        let error = database.builder().connect().await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(word), "{error}");
        assert_eq!(database.ask("SHOW TABLES").await, ["oauthtoken"]);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_reported_and_the_others_stay_usable() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    let good = store.save_token(&user("ann")).await.unwrap();
    database
        .run("INSERT INTO oauthtoken (id, user_name, expiry_time) VALUES ('70', 'bob', 'soon')")
        .await;
    let bob = TokenQuery::user_name(UserName::new("bob").unwrap());
    for outcome in [
        store.find_token(&bob).await.map(drop),
        store.find_token_by_id(id(70)).await.map(drop),
        store.save_token(&user("bob")).await.map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreDamaged);
        assert!(error.message().contains("id 70"), "{error}");
        assert!(!error.to_string().contains("soon"), "{error}");
    }
    let ann = [with_id(good, user("ann"))];
    assert_eq!(store.get_tokens().await.unwrap(), ann);
    assert_eq!(store.get_tokens_page(None, 100).await.unwrap(), ann);
    let mut renewed = user("ann");
    renewed.access_token = access("renewed");
    assert_eq!(store.save_token(&renewed).await.unwrap(), good);
    assert!(store.delete_token(id(70)).await.unwrap());
    assert_eq!(store.get_tokens().await.unwrap(), [with_id(good, renewed)]);
    // A time that could be read, and would not be written as it is.
    for wrong in ["01795372876984", "+1795372876984", "-0"] {
        let sql = format!(
            "INSERT INTO oauthtoken (id, user_name, expiry_time) VALUES ('70', 'bob', '{wrong}')"
        );
        database.run(&sql).await;
        let error = store.save_token(&user("bob")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreDamaged, "{wrong}: {error}");
        assert!(error.message().contains("`expiry_time`"), "{error}");
        database.run("DELETE FROM oauthtoken WHERE id = '70'").await;
    }
    for wrong in ["abc", "05", "0", "-1", ""] {
        let sql = format!("INSERT INTO oauthtoken (id, user_name) VALUES ('{wrong}', 'eve')");
        database.run(&sql).await;
        let eve = TokenQuery::user_name(UserName::new("eve").unwrap());
        let error = store.find_token(&eve).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreDamaged);
        assert!(error.message().contains("`id` "), "{error}");
        assert_eq!(store.get_tokens().await.unwrap().len(), 1);
        let inventory = store.inventory().await.unwrap().unwrap();
        assert_eq!((inventory.records, inventory.unreadable.len()), (2, 1));
        // It is in nobody's way.
        assert!(store.find_token_by_id(good).await.unwrap().is_some());
        assert_eq!(store.find_token_by_id(id(5)).await.unwrap(), None);
        database
            .run("DELETE FROM oauthtoken WHERE user_name = 'eve'")
            .await;
    }
}

/// Nobody numbers like the official SDKs at the same moment: they write over whoever was faster.
#[tokio::test]
async fn numbers_that_an_official_sdk_could_give_are_left_out() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    let mut given: Vec<u64> = Vec::new();
    for number in 0..120 {
        let last = given.iter().map(u64::to_string).max();
        let theirs = last.map_or(1, |last| last.parse::<u64>().unwrap() + 1);
        let id = store
            .save_token(&user(&format!("u{number}")))
            .await
            .unwrap();
        assert!(given.last() < Some(&id.get()));
        assert!(
            ![theirs, 10, 100].contains(&id.get()),
            "{id} after {given:?}"
        );
        given.push(id.get());
    }
    // Gaps are few once there are three digits.
    assert!(given.last() < Some(&250), "{given:?}");
}

#[tokio::test]
async fn ids_begin_where_they_are_to_begin() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    store.save_token(&user("ann")).await.unwrap();
    let builder = database.builder().ids_from(MySqlStore::SHARED_IDS);
    let shared = builder.clone().connect().await.unwrap();
    let first = shared.save_token(&user("bob")).await.unwrap();
    assert_eq!(first, MySqlStore::SHARED_IDS);
    // Once it is higher, it stays so, for others too; and the official next number is left out.
    let again = builder.connect().await.unwrap();
    let second = again.save_token(&user("cid")).await.unwrap();
    assert_eq!(second.get(), first.get() + 9);
    let third = store.save_token(&user("dan")).await.unwrap();
    assert_eq!(third.get(), second.get() + 9);
}

#[tokio::test]
async fn ids_that_others_gave_are_passed_over() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    let first = store.save_token(&user("ann")).await.unwrap().get();
    let sql = format!(
        "INSERT INTO oauthtoken (id, user_name) SELECT seq, CONCAT('x', seq) \
        FROM seq_{}_to_{}",
        first + 1,
        first + 700
    );
    database.run(&sql).await;
    let next = store.save_token(&user("bob")).await.unwrap().get();
    assert!((first + 701..first + 710).contains(&next), "{next}");
    let tokens = store.get_tokens().await.unwrap();
    assert_eq!(tokens.len(), 702);
    assert!(tokens.is_sorted_by(|one, two| one.id < two.id));
}

#[tokio::test]
async fn an_index_of_the_application_that_refuses_a_record_is_said() {
    let database = TestDatabase::official().await;
    let rules = "ALTER TABLE oauthtoken ADD UNIQUE KEY one_name (user_name), \
        ADD UNIQUE KEY one_url (redirect_url)";
    database.run(rules).await;
    let store = database.open().await;
    store.save_token(&user("ann")).await.unwrap();
    let mut bob = user("bob");
    bob.redirect_url = None;
    let bob_id = store.save_token(&bob).await.unwrap();
    let mut nameless = user("eve");
    nameless.user_name = None;
    nameless.client_id = ClientId::new("1000.OTHER").ok();
    nameless.redirect_url = None;
    let nameless_id = store.save_token(&nameless).await.unwrap();
    let mark = "SELECT CONCAT(highest_id, ' ', writes) FROM zoho_oauth_mark";
    let before = database.ask(mark).await;

    // The same user of another client, as a new record and as one that is there.
    let mut namesake = user("cid");
    namesake.user_name = user("ann").user_name;
    namesake.client_id = ClientId::new("1000.OTHER").ok();
    namesake.redirect_url = None;
    let mut named = with_id(nameless_id, nameless);
    named.user_name = user("ann").user_name;
    // What no other save depends on.
    let mut moved = bob.clone();
    moved.redirect_url = user("ann").redirect_url;
    for refused in [&namesake, &named, &moved] {
        let error = store.save_token(refused).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("ann") && !text.contains("example"), "{text}");
        }
    }
    assert_eq!(database.ask(mark).await, before);
    let found = store.find_token_by_id(bob_id).await.unwrap();
    assert_eq!(found, Some(with_id(bob_id, bob)));
}

#[tokio::test]
async fn side_tables_that_somebody_dropped_are_made_anew() {
    let database = TestDatabase::new().await;
    let store = database.open().await;
    let first = store.save_token(&user("ann")).await.unwrap();
    database
        .run("DROP TABLE zoho_oauth_mark, zoho_oauth_lease")
        .await;
    let second = store.save_token(&user("bob")).await.unwrap();
    assert!(second > first);
    database.run("DELETE FROM zoho_oauth_mark").await;
    assert!(store.delete_token(second).await.unwrap());
    let third = store.save_token(&user("cid")).await.unwrap();
    assert!(third > second);
    database.run("DROP TABLE oauthtoken").await;
    let error = store.get_tokens().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign);
}

#[tokio::test]
async fn an_account_that_may_not_make_tables_uses_those_that_are_there() {
    let database = TestDatabase::new().await;
    let admin = database.open().await;
    let account = format!("u{:016x}", fastrand::u64(..));
    let name = &database.name;
    // A server may have users without a name on this machine, who come before one from anywhere.
    let users = ["%", "localhost", "127.0.0.1"].map(|host| format!("{account}@'{host}'"));
    for user in &users {
        let sql = format!(
            "CREATE USER {user} IDENTIFIED BY 'geheim'; \
            GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {user}"
        );
        database.run(&sql).await;
    }
    let builder = database.builder().user(&account).password("geheim");
    let store = builder.clone().connect().await.unwrap();
    let id = store.save_token(&user("ann")).await.unwrap();
    assert!(store.delete_token(id).await.unwrap());
    assert!(admin.get_tokens().await.unwrap().is_empty());
    let refused = builder.clone().table("another").connect().await;
    let error = refused.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    let error = builder.password("falsch").connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(
            !text.contains("falsch") && !text.contains(&account),
            "{text}"
        );
    }
    let nowhere = server().database("nowhere_at_all").connect().await;
    assert_eq!(nowhere.unwrap_err().code(), ErrorCode::InvalidInput);
    database
        .run(&format!("DROP USER {}", users.join(", ")))
        .await;
}

#[tokio::test]
async fn a_table_that_is_there_is_opened_and_nothing_is_made() {
    let database = TestDatabase::new().await;
    let builder = || database.builder();
    assert!(builder().connect_existing().await.unwrap().is_none());
    assert!(database.ask("SHOW TABLES").await.is_empty());

    database.run(OFFICIAL_TABLE).await;
    database
        .run("INSERT INTO oauthtoken (id, user_name) VALUES ('7', 'ann')")
        .await;
    let account = format!("u{:016x}", fastrand::u64(..));
    let users = ["%", "localhost", "127.0.0.1"].map(|host| format!("{account}@'{host}'"));
    for user in &users {
        let sql = format!(
            "CREATE USER {user} IDENTIFIED BY 'geheim'; \
            GRANT SELECT ON {}.oauthtoken TO {user}",
            database.name
        );
        database.run(&sql).await;
    }
    let reader = builder().user(&account).password("geheim");
    let reader = reader.connect_existing().await.unwrap().unwrap();
    let page = reader.get_tokens_page(None, 10).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(reader.get_tokens().await.unwrap(), page);
    assert!(reader.find_token_by_id(id(7)).await.unwrap().is_some());
    let ann = TokenQuery::user_name(UserName::new("ann").unwrap());
    assert!(reader.find_token(&ann).await.unwrap().is_some());
    assert_eq!(database.ask("SHOW TABLES").await, ["oauthtoken"]);
    let error = reader.save_token(&user("bob")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    drop(reader);

    // Whoever may, makes the rest with the first write.
    let writer = builder().connect_existing().await.unwrap().unwrap();
    assert!(writer.save_token(&user("bob")).await.unwrap() > id(7));
    assert!(writer.delete_token(id(7)).await.unwrap());
    assert_eq!(
        database.ask("SHOW TABLES").await,
        ["oauthtoken", "zoho_oauth_lease", "zoho_oauth_mark"]
    );
    let shared = builder().ids_from(MySqlStore::SHARED_IDS);
    let error = shared.connect_existing().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    let nowhere = server().database("nowhere_at_all").connect_existing();
    assert_eq!(nowhere.await.unwrap_err().code(), ErrorCode::InvalidInput);
    database
        .run(&format!("DROP USER {}", users.join(", ")))
        .await;
}

#[tokio::test]
async fn a_unique_index_of_somebody_else_is_named_as_what_it_is() {
    let database = TestDatabase::new().await;
    let store = database.open().await;
    let mut cid = user("cid");
    cid.api_domain = Some("https://www.zohoapis.in".into());
    store.save_token(&user("ann")).await.unwrap();
    store.save_token(&cid).await.unwrap();
    database
        .run("ALTER TABLE oauthtoken ADD UNIQUE of_the_application (api_domain(50))")
        .await;
    // An insert, and a change of a record.
    cid.api_domain = user("ann").api_domain;
    for token in [user("bob"), cid] {
        let error = store.save_token(&token).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
        assert!(error.message().contains("rules"), "{error}");
    }
    assert_eq!(store.get_tokens().await.unwrap().len(), 2);
}
