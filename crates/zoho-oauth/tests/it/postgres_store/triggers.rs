//! Triggers and rules of the table that change what is written, or swallow it.

use std::time::{Duration, Instant};

use zoho_oauth::{ErrorCode, OAuthToken, PostgresStore, RefreshToken, Result, TokenStore};

use super::support::{Schema, id, refreshed, token};
use crate::privileges::everything;

/// A trigger that does this for each row; `DEFERRED` is one that waits for the commit.
fn trigger(when: &str, body: &str) -> String {
    let function = format!(
        "CREATE OR REPLACE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql \
        SET search_path FROM CURRENT AS $$ BEGIN {body} END $$"
    );
    let create = match when.strip_prefix("DEFERRED ") {
        Some(event) => format!(
            "CREATE CONSTRAINT TRIGGER meddler AFTER {event} ON oauthtoken \
            DEFERRABLE INITIALLY DEFERRED"
        ),
        None => format!("CREATE TRIGGER meddler {when} ON oauthtoken"),
    };
    format!("{function}; {create} FOR EACH ROW EXECUTE FUNCTION meddle()")
}

/// What does something else than it is told, and the operations that it spoils. Those after the row
/// was written are noticed if they were there when the store was opened.
const MEDDLERS: [(&str, &str, &[&str]); 9] = [
    ("BEFORE INSERT", "RETURN NULL;", &["new"]),
    ("BEFORE UPDATE", "RETURN NULL;", &["renew", "login"]),
    ("BEFORE UPDATE", "RETURN OLD;", &["renew", "login"]),
    ("BEFORE DELETE", "RETURN NULL;", &["delete", "clear"]),
    (
        "BEFORE INSERT OR UPDATE",
        "NEW.api_domain := upper(NEW.api_domain); RETURN NEW;",
        &["new", "renew", "login"],
    ),
    ("BEFORE INSERT", "NEW.id := '77'; RETURN NEW;", &["new"]),
    (
        "AFTER INSERT",
        "DELETE FROM oauthtoken WHERE id = NEW.id; RETURN NULL;",
        &["new"],
    ),
    (
        "AFTER UPDATE",
        "IF NEW.access_token <> 'x' THEN UPDATE oauthtoken SET access_token = 'x' \
        WHERE id = NEW.id; END IF; RETURN NULL;",
        &["renew", "login"],
    ),
    (
        "DEFERRED INSERT OR UPDATE",
        "DELETE FROM oauthtoken WHERE id = NEW.id; RETURN NULL;",
        &["new", "renew", "login"],
    ),
];

fn login(turn: usize) -> OAuthToken {
    let mut token = refreshed("ann", turn);
    token.refresh_token = RefreshToken::new("1000.r.new").ok();
    token
}

async fn does(store: &PostgresStore, what: &str) -> Result<()> {
    match what {
        "new" => store.save_token(&token("bob")).await.map(drop),
        "renew" => store.save_token(&refreshed("ann", 1)).await.map(drop),
        "login" => store.save_token(&login(2)).await.map(drop),
        "delete" => store.delete_token(id(1)).await.map(drop),
        _ => store.delete_tokens().await.map(drop),
    }
}

const STORED: &str = "SELECT id || ' ' || access_token || ' ' || api_domain FROM oauthtoken";
const ANN: [&str; 1] = ["1 1000.a.ann https://www.zohoapis.eu"];

#[tokio::test]
async fn a_trigger_that_changes_or_swallows_what_is_written_is_said() {
    let schema = Schema::new().await;
    let early = schema.open().await;
    early.save_token(&token("ann")).await.unwrap();
    for (when, body, spoiled) in MEDDLERS {
        schema.run(&trigger(when, body)).await;
        let late = schema.open().await;
        let is_seen_late = when.starts_with("BEFORE");
        for (store, is_early) in [(&late, false), (&early, true)] {
            if is_early && !is_seen_late {
                continue;
            }
            for what in spoiled {
                let why = format!("{what} with {when} {body}, {is_early}");
                let began = Instant::now();
                let error = does(store, what).await.expect_err(&why);
                assert_eq!(error.code(), ErrorCode::StoreForeign, "{why}: {error}");
                assert!(error.message().contains("trigger"), "{error}");
                assert!(began.elapsed() < Duration::from_secs(10), "{why}");
                assert_eq!(schema.ask(STORED).await, ANN, "{why}");
            }
        }
        schema.run("DROP TRIGGER meddler ON oauthtoken").await;
    }
    schema.drop().await;
}

#[tokio::test]
async fn a_rule_that_does_something_else_is_said() {
    let schema = Schema::new().await;
    let early = schema.open().await;
    early.save_token(&token("ann")).await.unwrap();
    schema.run("CREATE TABLE seen (id text)").await;
    for (event, action, what) in [
        ("UPDATE", "INSTEAD NOTHING", "renew"),
        ("INSERT", "INSTEAD NOTHING", "new"),
        ("DELETE", "INSTEAD NOTHING", "delete"),
        ("UPDATE", "ALSO INSERT INTO seen VALUES (NEW.id)", "renew"),
        (
            "INSERT",
            "ALSO DELETE FROM oauthtoken WHERE id = NEW.id",
            "new",
        ),
    ] {
        let rule = format!("CREATE RULE meddler AS ON {event} TO oauthtoken DO {action}");
        schema.run(&rule).await;
        let began = Instant::now();
        let error = does(&early, what).await.expect_err(&rule);
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{rule}: {error}");
        assert!(error.message().contains("rule"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(4), "{rule}");
        let error = schema.builder().connect().await.expect_err(&rule);
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{rule}: {error}");
        // It can be read.
        let reader = schema.builder().connect_existing().await.unwrap().unwrap();
        assert_eq!(reader.get_tokens().await.unwrap().len(), 1);
        assert_eq!(schema.ask(STORED).await, ANN);
        schema.run("DROP RULE meddler ON oauthtoken").await;
    }
    does(&early, "renew").await.unwrap();
    schema.drop().await;
}

#[tokio::test]
async fn a_trigger_that_minds_its_own_business_is_in_nobodys_way() {
    let schema = Schema::new().await;
    schema.open().await;
    schema
        .run(
            "CREATE TABLE audit (what text); \
            ALTER TABLE oauthtoken ADD COLUMN changes int NOT NULL DEFAULT 0; \
            CREATE FUNCTION counting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            NEW.changes := NEW.changes + 1; RETURN NEW; END $$; \
            CREATE TRIGGER counting BEFORE UPDATE ON oauthtoken \
            FOR EACH ROW EXECUTE FUNCTION counting(); \
            CREATE FUNCTION auditing() RETURNS trigger LANGUAGE plpgsql \
            SET search_path FROM CURRENT AS $$ BEGIN \
            INSERT INTO audit VALUES (TG_OP); RETURN NULL; END $$; \
            CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON oauthtoken \
            FOR EACH ROW EXECUTE FUNCTION auditing()",
        )
        .await;
    let store = schema.open().await;
    everything(&store).await.unwrap();
    let ann = store.save_token(&token("ann")).await.unwrap();
    // Eight at once: some find that others were faster.
    let mut savers = tokio::task::JoinSet::new();
    for turn in 0..40 {
        let store = store.clone();
        savers.spawn(async move { store.save_token(&refreshed("ann", turn)).await.unwrap() });
    }
    assert!(savers.join_all().await.iter().all(|saved| *saved == ann));
    let changes = schema.ask("SELECT changes::text FROM oauthtoken").await;
    assert_eq!(changes, ["40"]);
    assert!(store.delete_token(ann).await.unwrap());
    assert!(!store.delete_token(ann).await.unwrap());
    schema.drop().await;
}

#[tokio::test]
async fn a_trigger_that_refuses_a_record_is_said() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    store.save_token(&token("ann")).await.unwrap();
    let refusing = "RAISE EXCEPTION 's3cret';";
    schema
        .run(&trigger("BEFORE INSERT OR UPDATE OR DELETE", refusing))
        .await;
    for what in ["new", "renew", "login", "delete", "clear"] {
        let error = does(&store, what).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{what}: {error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    assert_eq!(schema.ask(STORED).await, ANN);
    schema.drop().await;
}

/// A table in parts, one of which has a trigger of its own.
#[tokio::test]
async fn a_table_in_parts_is_used_and_the_triggers_of_its_parts_are_seen() {
    let schema = Schema::new().await;
    let columns = OAuthToken::FIELDS.map(|name| format!("{name} text"));
    let table = format!(
        "CREATE TABLE oauthtoken ({}) PARTITION BY LIST (api_domain); \
        CREATE TABLE one PARTITION OF oauthtoken FOR VALUES IN ('https://www.zohoapis.eu'); \
        CREATE TABLE other PARTITION OF oauthtoken DEFAULT",
        columns.join(", ")
    );
    schema.run(&table).await;
    let store = schema.open().await;
    everything(&store).await.unwrap();
    store.delete_tokens().await.unwrap();
    let ann = store.save_token(&token("ann")).await.unwrap();
    // A record that moves from one part to another.
    let mut moved = refreshed("ann", 1);
    moved.api_domain = Some("https://www.zohoapis.in".into());
    assert_eq!(store.save_token(&moved).await.unwrap(), ann);
    let body = "UPDATE oauthtoken SET access_token = 'x' WHERE id = NEW.id \
        AND access_token <> 'x'; RETURN NULL;";
    schema
        .run(&trigger("AFTER UPDATE", body).replace("ON oauthtoken FOR", "ON other FOR"))
        .await;
    let store = schema.open().await;
    moved.access_token = refreshed("ann", 2).access_token;
    let error = store.save_token(&moved).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
    schema.drop().await;
}

/// Triggers that change rows that are none of the write's own, and the operation that sets them off.
const STRANGERS: [(&str, &str, &str); 9] = [
    (
        "AFTER INSERT",
        "DELETE FROM oauthtoken WHERE id <> NEW.id; RETURN NULL;",
        "new",
    ),
    (
        "AFTER INSERT",
        "UPDATE oauthtoken SET access_token = 'x' WHERE id <> NEW.id; RETURN NULL;",
        "new",
    ),
    (
        "BEFORE INSERT",
        "UPDATE oauthtoken SET access_token = 'x'; RETURN NEW;",
        "new",
    ),
    (
        "AFTER INSERT",
        "IF NEW.id <> '77' THEN INSERT INTO oauthtoken (id, refresh_token) VALUES ('77', 'x'); \
        END IF; RETURN NULL;",
        "new",
    ),
    (
        "AFTER UPDATE",
        "DELETE FROM oauthtoken WHERE id <> NEW.id; RETURN NULL;",
        "renew",
    ),
    (
        "AFTER UPDATE",
        "IF NEW.id = '1' THEN BEGIN UPDATE oauthtoken SET access_token = 'x' WHERE id <> NEW.id; \
        EXCEPTION WHEN division_by_zero THEN NULL; END; END IF; RETURN NULL;",
        "login",
    ),
    (
        "DEFERRED UPDATE",
        "DELETE FROM oauthtoken WHERE id <> NEW.id; RETURN NULL;",
        "renew",
    ),
    (
        "AFTER DELETE",
        "INSERT INTO oauthtoken (id, refresh_token) VALUES ('77', 'x'); RETURN NULL;",
        "delete",
    ),
    (
        "AFTER DELETE",
        "UPDATE oauthtoken SET access_token = 'x'; RETURN NULL;",
        "delete",
    ),
];

#[tokio::test]
async fn a_trigger_that_changes_rows_of_others_is_said() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    store.save_token(&token("ann")).await.unwrap();
    store.save_token(&token("cy")).await.unwrap();
    let stored = format!("{STORED} ORDER BY id");
    let before = schema.ask(&stored).await;
    for (when, body, what) in STRANGERS {
        schema.run(&trigger(when, body)).await;
        let store = schema.open().await;
        let why = format!("{what} with {when} {body}");
        let error = does(&store, what).await.expect_err(&why);
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{why}: {error}");
        assert!(error.message().contains("trigger"), "{error}");
        assert_eq!(schema.ask(&stored).await, before, "{why}");
        schema.run("DROP TRIGGER meddler ON oauthtoken").await;
    }
    // One that counts in a column of the application's, before the row is written, does no harm.
    schema.run("ALTER TABLE oauthtoken ADD changed int").await;
    let body = "NEW.changed := coalesce(NEW.changed, 0) + 1; RETURN NEW;";
    schema.run(&trigger("BEFORE INSERT OR UPDATE", body)).await;
    let store = schema.open().await;
    for what in ["renew", "login", "new", "delete"] {
        does(&store, what).await.expect(what);
    }
    schema.drop().await;
}
