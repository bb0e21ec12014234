//! A store under test, whose failures are violations.

use std::sync::Arc;

use super::factory::{Place, StoreFactory};
use super::sample::{describe, difference};
use super::{Verdict, Violation};
use crate::error::{Error, ErrorCode};
use crate::query::TokenQuery;
use crate::store::TokenStore;
use crate::token::{OAuthToken, TokenId};

/// Breaks the rule unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::conformance::Violation::new(format!($($message)+)));
        }
    };
}
pub(super) use ensure;

type Answer<T> = std::result::Result<T, Violation>;

/// A store under test at a place of its own.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) store: Arc<dyn TokenStore>,
    pub(super) place: Place,
}

impl Subject {
    pub(super) async fn open(factory: &StoreFactory) -> Answer<Self> {
        Self::open_at(factory, Place::fresh()?).await
    }

    pub(super) async fn open_at(factory: &StoreFactory, place: Place) -> Answer<Self> {
        let store = factory.open(&place).await?;
        Ok(Self { store, place })
    }

    /// Closes the store and opens its place again.
    pub(super) async fn reopen(self, factory: &StoreFactory) -> Answer<Self> {
        let Self { store, place } = self;
        drop(store);
        Self::open_at(factory, place).await
    }

    pub(super) async fn save(&self, token: &OAuthToken) -> Answer<TokenId> {
        let saved = self.store.save_token(token).await;
        saved.map_err(|error| {
            Violation::error("`save_token` failed", &error).at(format!("`{}`", describe(token)))
        })
    }

    pub(super) async fn save_fails(&self, token: &OAuthToken) -> Answer<Error> {
        match self.store.save_token(token).await {
            Err(error) => Ok(error),
            Ok(id) => Err(Violation::new(format!(
                "saving `{}` should fail and answered the id {id}",
                describe(token)
            ))),
        }
    }

    pub(super) async fn save_fails_with(&self, token: &OAuthToken, code: ErrorCode) -> Verdict {
        let error = self.save_fails(token).await?;
        ensure!(
            error.code() == code,
            "saving `{}` should fail with `{}` and failed with `{}`: {}",
            describe(token),
            code.as_str(),
            error.code().as_str(),
            error.message()
        );
        Ok(())
    }

    pub(super) async fn find(&self, query: &TokenQuery) -> Answer<Option<OAuthToken>> {
        let found = self.store.find_token(query).await;
        found.map_err(|error| Violation::error("`find_token` failed", &error))
    }

    pub(super) async fn by_id(&self, id: TokenId) -> Answer<Option<OAuthToken>> {
        let found = self.store.find_token_by_id(id).await;
        found.map_err(|error| Violation::error("`find_token_by_id` failed", &error))
    }

    pub(super) async fn delete(&self, id: TokenId) -> Answer<bool> {
        let deleted = self.store.delete_token(id).await;
        deleted.map_err(|error| Violation::error("`delete_token` failed", &error))
    }

    pub(super) async fn clear(&self) -> Answer<usize> {
        let deleted = self.store.delete_tokens().await;
        deleted.map_err(|error| Violation::error("`delete_tokens` failed", &error))
    }

    pub(super) async fn all(&self) -> Answer<Vec<OAuthToken>> {
        let all = self.store.get_tokens().await;
        all.map_err(|error| Violation::error("`get_tokens` failed", &error))
    }

    /// Breaks the rule unless the store holds exactly these records, in this order.
    pub(super) async fn holds(&self, expected: &[OAuthToken]) -> Verdict {
        let rows = self.all().await?;
        ensure!(rows == expected, "{}", difference(expected, &rows));
        Ok(())
    }

    /// Breaks the rule unless the query finds this record, or nothing.
    pub(super) async fn finds(&self, query: &TokenQuery, expected: Option<&OAuthToken>) -> Verdict {
        let found = self.find(query).await?;
        ensure!(
            found.as_ref() == expected,
            "the query for {} should find {} and found {}",
            criterion(query),
            expected.map_or_else(|| "nothing".into(), describe),
            found.as_ref().map_or_else(|| "nothing".into(), describe)
        );
        Ok(())
    }
}

/// Writes what a query asks for.
fn criterion(query: &TokenQuery) -> String {
    use crate::query::Criterion;
    let mut asked = OAuthToken::new();
    match query.criterion().clone() {
        Criterion::UserName(name) => asked.user_name = Some(name),
        Criterion::AccessToken(token) => asked.access_token = Some(token),
        Criterion::GrantToken(token) => asked.grant_token = Some(token),
        Criterion::RefreshToken(token) => asked.refresh_token = Some(token),
    }
    asked.client_id = query.client().cloned();
    format!("`{}`", describe(&asked))
}
