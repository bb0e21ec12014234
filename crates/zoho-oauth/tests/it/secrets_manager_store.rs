//! `SecretsManagerStore`: against moto, as every store, and against a stub with AWS's limits.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod ids;
mod in_turn;
mod limits;
mod lookups;
mod privileges;
mod stub;

use std::time::Duration;

use async_trait::async_trait;
use zoho_oauth::conformance::Place;
use zoho_oauth::store::secrets_manager::SecretsManagerStoreBuilder;
use zoho_oauth::store::{Fact, Inventory, Kept};
use zoho_oauth::{
    AccessToken, ClientId, GrantToken, OAuthToken, RefreshToken, Result, SecretsManagerStore,
    Timestamp, TokenId, TokenQuery, TokenStore, UserName,
};

pub(crate) use stub::Stub;

mod moto {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{Result, SecretsManagerStore, token_store_conformance};

    async fn open(place: Place) -> Result<SecretsManagerStore> {
        let client = super::stub::client(&super::moto_url(), super::region(&place));
        super::unlimited().prefix(place.name()).with_client(client)
    }

    token_store_conformance!(basic, open);
}

mod moto_in_turn {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{Result, SecretsManagerStore, token_store_conformance};

    async fn open(place: Place) -> Result<SecretsManagerStore> {
        let url = super::in_turn::in_turn(&super::moto_url(), place.path()).unwrap();
        let client = super::stub::client(&url, super::region(&place));
        super::unlimited().prefix(place.name()).with_client(client)
    }

    // Each kill takes the emulator nearly half a second.
    token_store_conformance!(durable, open, kills = 40);
}

/// The rules also hold where the service is strict, and where deleted secrets keep their names.
mod strict {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{Result, token_store_conformance};

    use super::{Standing, Stub};

    async fn open(_: Place) -> Result<Standing> {
        let stub = Stub::start().await;
        // A test saves more in a second than the service takes in a day.
        stub.lift_quota();
        Ok(Standing::at(stub))
    }

    token_store_conformance!(basic, open);
}

/// Where the emulator is that the test run started.
fn moto_url() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "how the test run names its servers"
    )]
    let url = std::env::var("ZOHO_TEST_AWS");
    url.expect("`ZOHO_TEST_AWS` is not set: run the tests with `cargo xtask test`")
}

/// One of the regions, which share nothing: the emulator goes through all secrets of a region with
/// each call.
fn region(place: &Place) -> &'static str {
    const REGIONS: [&str; 12] = [
        "us-east-1",
        "us-east-2",
        "us-west-1",
        "us-west-2",
        "eu-central-1",
        "eu-west-1",
        "eu-west-2",
        "eu-west-3",
        "ap-south-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-northeast-1",
    ];
    let sum: usize = place.name().bytes().map(usize::from).sum();
    REGIONS[sum % REGIONS.len()]
}

/// A store that may write as often as it likes.
fn unlimited() -> SecretsManagerStoreBuilder {
    SecretsManagerStore::builder().versions(1, Duration::ZERO)
}

fn store(stub: &Stub) -> SecretsManagerStore {
    unlimited().prefix("p").with_client(stub.client()).unwrap()
}

/// A store that keeps its service up.
#[derive(Debug)]
pub(crate) struct Standing {
    store: SecretsManagerStore,
    _stub: Stub,
}

impl Standing {
    pub(crate) fn at(stub: Stub) -> Self {
        let store = store(&stub);
        Self { store, _stub: stub }
    }
}

#[async_trait]
impl TokenStore for Standing {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.store.find_token(query).await
    }
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.store.save_token(token).await
    }
    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.store.delete_token(id).await
    }
    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.store.get_tokens().await
    }
    async fn delete_tokens(&self) -> Result<usize> {
        self.store.delete_tokens().await
    }
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.store.find_token_by_id(id).await
    }
    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        self.store.get_tokens_page(after, limit).await
    }
    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.store.inventory().await
    }
    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.store.save_fact(fact).await
    }
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

fn by_user(name: &str) -> TokenQuery {
    TokenQuery::user_name(user(name))
}

fn by_access(token: &str) -> TokenQuery {
    TokenQuery::access_token(AccessToken::new(token).unwrap())
}

/// A record with tokens that carry the user's name.
fn token(name: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(user(name));
    token.client_id = ClientId::new("1000.CLIENT").ok();
    token.refresh_token = RefreshToken::new(format!("1000.r.{name}")).ok();
    token.access_token = AccessToken::new(format!("1000.a.{name}")).ok();
    token.grant_token = GrantToken::new(format!("1000.g.{name}")).ok();
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token
}

/// What a refresh saves: whose it is, and what is new.
fn renewed(name: &str, id: TokenId, access: &str) -> OAuthToken {
    let mut news = OAuthToken::new();
    news.id = Some(id);
    news.user_name = Some(user(name));
    news.client_id = ClientId::new("1000.CLIENT").ok();
    news.access_token = AccessToken::new(access).ok();
    news.expiry_time = Some(Timestamp::from_millis(1_795_376_476_984));
    news
}
