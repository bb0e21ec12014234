//! Stores on servers: every pair of kinds in both directions, with one another and with the stores of
//! this machine; what they cannot hold; copies that are cut off.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use zoho_oauth::store::{CopyTokens, Inventory, copy};
use zoho_oauth::{
    ErrorCode, ListStore, MySqlStore, OAuthToken, Result, SecretsManagerStore, TokenId, TokenQuery,
    TokenStore,
};

use super::interrupted::{cut_off, operations_of_a_copy};
use super::probe::{Fault, ReadOnly};
use super::{KINDS, fill, id, ids, list, open, round_trip, texts};
use crate::mysql_store::TestDatabase;
use crate::postgres_store::support::Schema;
use crate::redis_store;
use crate::secrets_manager_store::Stub;

/// Where any number of stores of one kind can be, and nobody else's are.
enum Place {
    MySql(TestDatabase),
    Postgres(Schema),
    Redis(String),
    SecretsManager(Stub),
    Here(&'static str, TempDir),
}

impl Place {
    async fn new(kind: &'static str) -> Self {
        match kind {
            "mysql" => Self::MySql(TestDatabase::new().await),
            "postgres" => Self::Postgres(Schema::new().await),
            "redis" => Self::Redis(format!("copy_{:016x}", fastrand::u64(..))),
            "secrets_manager" => Self::SecretsManager(Stub::start().await),
            kind => Self::Here(kind, tempfile::tempdir().unwrap()),
        }
    }

    /// Opens the store of this name, and makes it if it is missing.
    async fn open(&self, name: &str) -> Arc<dyn TokenStore> {
        match self {
            Self::MySql(database) => {
                Arc::new(database.builder().table(name).connect().await.unwrap())
            }
            Self::Postgres(schema) => {
                Arc::new(schema.builder().table(name).connect().await.unwrap())
            }
            Self::Redis(prefix) => {
                let builder = redis_store::builder(&format!("{prefix}_{name}"));
                Arc::new(builder.connect().await.unwrap())
            }
            // With the limits that it has by default: a copy must keep within them.
            Self::SecretsManager(stub) => {
                let builder = SecretsManagerStore::builder().prefix(name);
                Arc::new(builder.with_client(stub.client()).unwrap())
            }
            Self::Here(kind, folder) => {
                let folder: PathBuf = folder.path().join(name);
                std::fs::create_dir_all(&folder).unwrap();
                open(kind, &folder).await
            }
        }
    }

    async fn leave(self) {
        if let Self::Postgres(schema) = self {
            schema.drop().await;
        }
    }
}

async fn both_ways(one: &'static str, others: &[&'static str]) {
    let here = Place::new(one).await;
    for other in others {
        let there = Place::new(other).await;
        let from = here.open(&format!("to_{other}")).await;
        round_trip(from, there.open("target").await).await;
        if one != *other {
            let to = here.open(&format!("from_{other}")).await;
            round_trip(there.open("source").await, to).await;
        }
        there.leave().await;
    }
    here.leave().await;
}

/// The names say which servers a test needs.
macro_rules! pairs {
    ($($name:ident = $one:literal, $others:expr;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                both_ways($one, &$others).await;
            }
        )*
    };
}

pairs! {
    mysql_and_this_machine = "mysql", KINDS;
    postgres_and_this_machine = "postgres", KINDS;
    redis_and_this_machine = "redis", KINDS;
    secrets_manager_and_this_machine = "secrets_manager", KINDS;
    mysql_and_mysql = "mysql", ["mysql"];
    mysql_and_postgres = "mysql", ["postgres"];
    mysql_and_redis = "mysql", ["redis"];
    mysql_and_secrets_manager = "mysql", ["secrets_manager"];
    postgres_and_postgres = "postgres", ["postgres"];
    postgres_and_redis = "postgres", ["redis"];
    postgres_and_secrets_manager = "postgres", ["secrets_manager"];
    redis_and_redis = "redis", ["redis"];
    redis_and_secrets_manager = "redis", ["secrets_manager"];
    secrets_manager_and_secrets_manager = "secrets_manager", ["secrets_manager"];
}

/// At some of the operations, among them saves: the rules of copying are the same for all stores,
/// and every operation is tried with a store in memory.
async fn interruptions(kind: &'static str) {
    let from = Arc::new(ListStore::new());
    fill(&from).await;
    let operations = operations_of_a_copy(&from).await;
    let place = Place::new(kind).await;
    let faults = [Fault::LostAnswer, Fault::HangHalfway, Fault::Error];
    for (operation, fault) in (2..=operations).step_by(11).zip(faults.into_iter().cycle()) {
        let to = place.open(&format!("cut_at_{operation}")).await;
        cut_off(Arc::clone(&from), to, (operation, fault)).await;
    }
    place.leave().await;
}

#[tokio::test]
async fn a_copy_to_mysql_goes_on_after_an_interruption() {
    interruptions("mysql").await;
}

#[tokio::test]
async fn a_copy_to_postgres_goes_on_after_an_interruption() {
    interruptions("postgres").await;
}

#[tokio::test]
async fn a_copy_to_redis_goes_on_after_an_interruption() {
    interruptions("redis").await;
}

#[tokio::test]
async fn a_copy_to_secrets_manager_goes_on_after_an_interruption() {
    interruptions("secrets_manager").await;
}

/// Another store's records, one of which holds what no store of ours would have taken.
#[derive(Debug)]
struct WithNul(Arc<ListStore>);

impl WithNul {
    fn planted(mut token: OAuthToken) -> OAuthToken {
        let is_the_one = token.id == Some(id(2));
        token.redirect_url = is_the_one.then(|| "https://x\0y".to_owned());
        token
    }
}

#[async_trait]
impl TokenStore for WithNul {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        Ok(self.0.find_token(query).await?.map(Self::planted))
    }

    async fn save_token(&self, _: &OAuthToken) -> Result<TokenId> {
        panic!("a source is only read")
    }

    async fn delete_token(&self, _: TokenId) -> Result<bool> {
        panic!("a source is only read")
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        let all = self.0.get_tokens().await?;
        Ok(all.into_iter().map(Self::planted).collect())
    }

    async fn delete_tokens(&self) -> Result<usize> {
        panic!("a source is only read")
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        Ok(self.0.find_token_by_id(id).await?.map(Self::planted))
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.0.inventory().await
    }
}

/// Three records of which `to` cannot hold the second: it is told why, and nothing else is lost.
async fn refused(from: &dyn TokenStore, to: &dyn TokenStore, code: ErrorCode, named: &str) {
    let source = texts(from).await;
    let report = CopyTokens::new(from, to).page_size(2).run().await.unwrap();
    assert!(!report.is_complete());
    assert_eq!((report.inserted, report.verified), (2, 2), "{report}");
    let refused: Vec<_> = report.refused.iter().collect();
    let [(number, error)] = refused[..] else {
        panic!("{report}");
    };
    assert_eq!((*number, error.code()), (id(2), code), "{error}");
    assert!(error.message().contains(named), "{error}");
    let printed = format!("{report} {report:?} {error:#?}");
    for hidden in ["bob", "https://x", "\u{1f511}", "x".repeat(20).as_str()] {
        assert!(!printed.contains(hidden), "{printed}");
    }
    let there = texts(to).await;
    assert_eq!(there, [source[0].clone(), source[2].clone()]);
    assert_eq!(texts(from).await, source);
}

/// What was refused comes along when there is room.
async fn brought_back(from: &dyn TokenStore, to: &dyn TokenStore) {
    let report = CopyTokens::new(from, to).bring_back_deleted().run().await;
    let report = report.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.inserted, 1);
    assert!(report.new_id(id(2)) > Some(id(3)), "{report}");
}

/// Three records with something in the middle one.
async fn three(second: &str) -> Arc<ListStore> {
    let second = format!("id=2 user=bob {second}");
    list(&[
        "id=1 user=ann access=a1",
        &second,
        "id=3 user=kim access=a3",
    ])
    .await
}

async fn refuses_nul(kind: &'static str) {
    let from = WithNul(three("access=a2").await);
    let place = Place::new(kind).await;
    let to = place.open("target").await;
    refused(&from, &to, ErrorCode::InvalidInput, "`redirect_url`").await;
    place.leave().await;
}

#[tokio::test]
async fn a_nul_is_refused_by_mysql_and_the_rest_is_copied() {
    refuses_nul("mysql").await;
}

#[tokio::test]
async fn a_nul_is_refused_by_postgres_and_the_rest_is_copied() {
    refuses_nul("postgres").await;
}

#[tokio::test]
async fn a_nul_is_refused_by_redis_and_the_rest_is_copied() {
    refuses_nul("redis").await;
}

#[tokio::test]
async fn a_nul_is_refused_by_secrets_manager_and_the_rest_is_copied() {
    refuses_nul("secrets_manager").await;
}

#[tokio::test]
async fn what_an_official_mysql_table_has_no_room_for_comes_after_it_was_widened() {
    let from = three(&format!("access={}", "x".repeat(300))).await;
    let database = TestDatabase::official().await;
    let to: MySqlStore = database.open().await;
    refused(&from, &to, ErrorCode::ColumnTooNarrow, "`access_token`").await;
    let left_out = copy(&from, &ReadOnly(to.clone())).await.unwrap().left_out;
    assert_eq!(Vec::from_iter(left_out), ids(&[2]));
    to.widen().await.unwrap();
    brought_back(&from, &to).await;
}

#[tokio::test]
async fn what_a_mysql_column_has_no_characters_for_comes_after_it_was_widened() {
    let from = three("access=a2 url=\u{1f511}").await;
    let database = TestDatabase::official().await;
    let narrow = "ALTER TABLE oauthtoken MODIFY redirect_url varchar(255) CHARACTER SET latin1";
    database.run(narrow).await;
    let to = database.open().await;
    refused(&from, &to, ErrorCode::InvalidInput, "character set").await;
    to.widen().await.unwrap();
    brought_back(&from, &to).await;
}

#[tokio::test]
async fn what_a_postgres_column_has_no_room_for_comes_when_it_has() {
    let from = three(&format!("access={}", "x".repeat(30))).await;
    let schema = Schema::new().await;
    let columns = OAuthToken::FIELDS.map(|name| format!("{name} varchar(20)"));
    let table = format!("CREATE TABLE oauthtoken ({})", columns.join(", "));
    schema.run(&table).await;
    let to = schema.open().await;
    refused(&from, &to, ErrorCode::InvalidInput, "too long for a column").await;
    let wide = "ALTER TABLE oauthtoken ALTER COLUMN access_token TYPE text";
    schema.run(wide).await;
    brought_back(&from, &to).await;
    drop(to);
    schema.drop().await;
}

#[tokio::test]
async fn what_secrets_manager_has_no_room_for_is_refused() {
    let from = three(&format!("access={}", "x".repeat(70_000))).await;
    let stub = Stub::start().await;
    let to = SecretsManagerStore::from_client(stub.client(), "p").unwrap();
    refused(&from, &to, ErrorCode::InvalidInput, "65536").await;
}
