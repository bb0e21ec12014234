//! Triggers and conflict rules that swallow or change what is saved.

use rusqlite::Connection;
use zoho_oauth::{ErrorCode, RefreshToken, SqliteStore, TokenId, TokenStore};

use super::{SAMPLE_TABLE, by_user, code, id, ids, place, token};

/// All rows of the table as text.
fn rows(raw: &Connection) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', id, user_name, refresh_token, access_token) \
        FROM oauthtoken ORDER BY rowid";
    let mut statement = raw.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// What a trigger does to writes, each statement for `INSERT`, `UPDATE` and `DELETE`.
const TRIGGERS: [(&str, &str); 14] = [
    (
        "INSERT",
        "BEFORE INSERT ON oauthtoken BEGIN SELECT RAISE(IGNORE); END",
    ),
    (
        "INSERT",
        "AFTER INSERT ON oauthtoken BEGIN UPDATE oauthtoken SET access_token = 'x' WHERE id = NEW.id; END",
    ),
    (
        "INSERT",
        "AFTER INSERT ON oauthtoken BEGIN UPDATE oauthtoken SET user_name = upper(user_name) WHERE id = NEW.id; END",
    ),
    (
        "INSERT",
        "AFTER INSERT ON oauthtoken BEGIN DELETE FROM oauthtoken WHERE id = NEW.id; END",
    ),
    (
        "INSERT",
        "AFTER INSERT ON oauthtoken BEGIN DELETE FROM oauthtoken WHERE id <> NEW.id; END",
    ),
    (
        "INSERT",
        "BEFORE INSERT ON oauthtoken BEGIN UPDATE oauthtoken SET access_token = 'x'; END",
    ),
    (
        "INSERT",
        "AFTER INSERT ON oauthtoken BEGIN INSERT INTO oauthtoken (id, refresh_token) VALUES ('77', 'x'); END",
    ),
    (
        "UPDATE",
        "BEFORE UPDATE ON oauthtoken BEGIN SELECT RAISE(IGNORE); END",
    ),
    (
        "UPDATE",
        "BEFORE UPDATE ON oauthtoken BEGIN DELETE FROM oauthtoken WHERE id = OLD.id; END",
    ),
    (
        "UPDATE",
        "AFTER UPDATE ON oauthtoken BEGIN UPDATE oauthtoken SET access_token = OLD.access_token WHERE id = NEW.id; END",
    ),
    (
        "UPDATE",
        "AFTER UPDATE OF access_token ON oauthtoken BEGIN DELETE FROM oauthtoken WHERE id <> NEW.id; END",
    ),
    (
        "DELETE",
        "BEFORE DELETE ON oauthtoken BEGIN SELECT RAISE(IGNORE); END",
    ),
    (
        "DELETE",
        "AFTER DELETE ON oauthtoken BEGIN INSERT INTO oauthtoken (id, refresh_token) VALUES (OLD.id, 'x'); END",
    ),
    (
        "DELETE",
        "AFTER DELETE ON oauthtoken BEGIN UPDATE oauthtoken SET access_token = 'x'; END",
    ),
];

#[tokio::test]
async fn a_trigger_that_swallows_or_changes_a_write_is_told() {
    for (event, trigger) in TRIGGERS {
        for before_open in [false, true] {
            let (_folder, path) = place();
            let raw = Connection::open(&path).unwrap();
            let store = SqliteStore::open(&path).unwrap();
            for name in ["ann", "bob"] {
                store.save_token(&token(name)).await.unwrap();
            }
            raw.execute_batch(&format!("CREATE TRIGGER meddles {trigger}"))
                .unwrap();
            let store = if before_open {
                drop(store);
                SqliteStore::open(&path).unwrap()
            } else {
                store
            };
            let before = rows(&raw);
            let result = match event {
                "INSERT" => store.save_token(&token("cy")).await.map(drop),
                "UPDATE" => {
                    let mut changed = token("ann");
                    changed.access_token = token("other").access_token;
                    store.save_token(&changed).await.map(drop)
                }
                _ => store.delete_token(id(1)).await.map(drop),
            };
            let error = result.expect_err(trigger);
            assert_eq!(error.code(), ErrorCode::StoreForeign, "{trigger}");
            assert!(error.to_string().contains("`oauthtoken`"), "{error}");
            assert_eq!(rows(&raw), before, "{trigger}");
            if event == "DELETE" && !trigger.contains("UPDATE") {
                let cleared = store.delete_tokens().await;
                assert_eq!(code(cleared), ErrorCode::StoreForeign, "{trigger}");
                assert_eq!(rows(&raw), before, "{trigger}");
            }
            // What the trigger does not concern works.
            assert_eq!(ids(&store).await, [1, 2]);
        }
    }
}

/// Saves that go together into one transaction are taken back one by one.
#[tokio::test]
async fn a_trigger_spoils_no_other_save() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "CREATE TRIGGER meddles BEFORE INSERT ON oauthtoken WHEN NEW.user_name LIKE 'bad%' \
        BEGIN SELECT RAISE(IGNORE); END",
    )
    .unwrap();
    let saves = ["good 1", "bad 1", "good 2", "bad 2", "good 3"].map(|name| {
        let store = store.clone();
        tokio::spawn(async move { (name, store.save_token(&token(name)).await) })
    });
    for save in saves {
        let (name, saved) = save.await.unwrap();
        let there = store.find_token(&by_user(name)).await.unwrap();
        assert_eq!(saved.is_ok(), name.starts_with("good"), "{name}");
        assert_eq!(saved.ok(), there.and_then(|row| row.id), "{name}");
    }
}

#[tokio::test]
async fn a_trigger_that_only_watches_is_no_trouble() {
    let (_folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    let table = SAMPLE_TABLE.replace("api_domain", "changed_at TEXT, api_domain");
    raw.execute_batch(&table).unwrap();
    raw.execute_batch(
        "CREATE TABLE audit (what TEXT, id TEXT); \
        CREATE TRIGGER a1 AFTER INSERT ON oauthtoken BEGIN INSERT INTO audit VALUES ('new', NEW.id); END; \
        CREATE TRIGGER a2 AFTER UPDATE ON oauthtoken BEGIN INSERT INTO audit VALUES ('changed', NEW.id); \
            UPDATE oauthtoken SET changed_at = datetime('now') WHERE id = NEW.id; END; \
        CREATE TRIGGER a3 AFTER DELETE ON oauthtoken BEGIN INSERT INTO audit VALUES ('gone', OLD.id); END",
    )
    .unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(1));
    let mut changed = token("ann");
    changed.redirect_url = Some("x".into());
    assert_eq!(store.save_token(&changed).await.unwrap(), id(1));
    assert_eq!(store.save_token(&token("bob")).await.unwrap(), id(2));
    assert!(store.delete_token(id(1)).await.unwrap());
    assert!(!store.delete_token(id(1)).await.unwrap());
    assert_eq!(store.delete_tokens().await.unwrap(), 1);
    let count = raw.query_row("SELECT count(*) FROM audit", [], |row| row.get(0));
    assert_eq!(count, Ok(5));
}

#[tokio::test]
async fn no_conflict_rule_of_the_table_takes_away_a_record_or_a_save() {
    for rule in ["REPLACE", "IGNORE", "FAIL", "ROLLBACK"] {
        for (part, with) in [
            (
                "refresh_token varchar(255)",
                format!("UNIQUE ON CONFLICT {rule}"),
            ),
            (
                "client_id varchar(255)",
                format!("UNIQUE ON CONFLICT {rule}"),
            ),
            (
                "grant_token varchar(255)",
                format!("NOT NULL ON CONFLICT {rule} DEFAULT 'x'"),
            ),
        ] {
            let (_folder, path) = place();
            let raw = Connection::open(&path).unwrap();
            let table = SAMPLE_TABLE.replace(part, &format!("{part} {with}"));
            assert_ne!(table, SAMPLE_TABLE);
            raw.execute_batch(&table).unwrap();
            let fill = "INSERT INTO oauthtoken (id, user_name, client_id, refresh_token, grant_token) \
                VALUES ('1', 'ann', 'c', 'shared', 'g'), ('2', 'bob', 'd', 'r', 'h')";
            raw.execute_batch(fill).unwrap();
            let store = SqliteStore::open(&path).unwrap();
            let before = rows(&raw);

            let mut new = token("cy");
            new.refresh_token = RefreshToken::new("shared").ok();
            new.client_id = zoho_oauth::ClientId::new("d").ok();
            let saved = store.save_token(&new).await;
            assert_eq!(code(saved), ErrorCode::StoreForeign, "{with}");
            assert_eq!(rows(&raw), before, "{with}");
            if !with.contains("NULL") {
                // An update that would take the place of another record.
                let mut changed = token("bob");
                changed.id = TokenId::new(2).ok();
                changed.client_id = None;
                changed.refresh_token = RefreshToken::new("shared").ok();
                if part.starts_with("refresh") {
                    let saved = store.save_token(&changed).await;
                    assert_eq!(code(saved), ErrorCode::StoreForeign, "{with}");
                }
                assert_eq!(rows(&raw), before, "{with}");
            }
        }
    }
}

/// A column of numbers turns `007` into 7, and then into another user.
#[tokio::test]
async fn a_column_that_changes_a_value_refuses_it() {
    let (_folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    let table = SAMPLE_TABLE
        .replace("user_name varchar(255)", "user_name STRING")
        .replace("access_token varchar(255)", "access_token NUMERIC");
    raw.execute_batch(&table).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(1));
    for name in ["007", "1e3", "1.50"] {
        let saved = store.save_token(&token(name)).await;
        assert_eq!(code(saved), ErrorCode::StoreForeign, "{name}");
    }
    assert_eq!(store.save_token(&token("7")).await.unwrap(), id(2));
    assert_eq!(store.find_token(&by_user("007")).await.unwrap(), None);
    assert_eq!(ids(&store).await, [1, 2]);
}

#[tokio::test]
async fn what_takes_the_place_of_the_table_is_no_store() {
    let generated = SAMPLE_TABLE.replace(
        "access_token varchar(255)",
        "access_token varchar(255) GENERATED ALWAYS AS (upper(refresh_token)) VIRTUAL",
    );
    let (_folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(&generated).unwrap();
    assert_eq!(code(SqliteStore::open(&path)), ErrorCode::StoreForeign);

    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    store.save_token(&token("ann")).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "ALTER TABLE oauthtoken RENAME TO hidden; \
        CREATE VIEW oauthtoken AS SELECT *, rowid FROM hidden; \
        CREATE TRIGGER swallows INSTEAD OF INSERT ON oauthtoken BEGIN SELECT 1; END; \
        CREATE TRIGGER swallows2 INSTEAD OF UPDATE ON oauthtoken BEGIN SELECT 1; END; \
        CREATE TRIGGER swallows3 INSTEAD OF DELETE ON oauthtoken BEGIN SELECT 1; END;",
    )
    .unwrap();
    for name in ["ann", "bob"] {
        let mut changed = token(name);
        changed.redirect_url = Some("x".into());
        store.save_token(&changed).await.unwrap_err();
    }
    store.delete_token(id(1)).await.unwrap_err();
    store.delete_tokens().await.unwrap_err();
}
