//! The credentials that Zoho turns into tokens.

use super::cache::Hints;
use super::credential_state::asked_by;
use super::inner::{Inner, LoginOutcome};
use crate::accounts::TokenAnswer;
use crate::credential::{GrantCredential, OAuthClient, RefreshCredential};
use crate::data_center::DataCenter;
use crate::error::Result;
use crate::query::TokenQuery;
use crate::secret::{Fingerprint, RefreshToken};
use crate::token::{OAuthToken, UserName};

/// A credential that Zoho turns into tokens.
#[derive(Clone, Debug)]
pub(super) enum Login {
    Grant(GrantCredential),
    /// With the refresh token of the user's stored login, if Zoho was seen to refuse that.
    Refresh(RefreshCredential, Option<RefreshToken>),
}

impl Login {
    pub(super) fn hints(&self) -> Hints {
        let (client, center) = match self {
            Self::Grant(grant) => (&grant.client, &grant.data_center),
            Self::Refresh(refresh, _) => (&refresh.client, &refresh.data_center),
        };
        Hints {
            user_name: None,
            client: Some(client.clone()),
            client_home: center.clone(),
            center: center.clone(),
        }
    }

    /// Names the credential for all who start from it, in every process.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Grant(grant) => Fingerprint::of(&[
                "grant",
                grant.client.id.as_str(),
                grant.code.expose_secret(),
            ]),
            Self::Refresh(refresh, _) => Fingerprint::of(&[
                "refresh",
                refresh.client.id.as_str(),
                refresh.token.expose_secret(),
            ]),
        }
    }

    /// Names the credential and whom it is shown to, for what came of that.
    pub(super) fn attempt(&self, inner: &Inner) -> Fingerprint {
        let asked = self.center(inner).accounts_url();
        Fingerprint::of(&[self.fingerprint().as_str(), asked])
    }

    pub(super) fn client(&self) -> &OAuthClient {
        match self {
            Self::Grant(grant) => &grant.client,
            Self::Refresh(refresh, _) => &refresh.client,
        }
    }

    pub(super) fn asked(&self, inner: &Inner) -> Fingerprint {
        asked_by(self.center(inner), &self.client().id)
    }

    pub(super) fn center<'a>(&'a self, inner: &'a Inner) -> &'a DataCenter {
        let named = match self {
            Self::Grant(grant) => &grant.data_center,
            Self::Refresh(refresh, _) => &refresh.data_center,
        };
        named.as_ref().unwrap_or(&inner.center)
    }

    pub(super) fn user_name(&self) -> Option<&UserName> {
        match self {
            Self::Grant(grant) => grant.user_name.as_ref(),
            Self::Refresh(refresh, _) => refresh.user_name.as_ref(),
        }
    }

    pub(super) fn query(&self) -> TokenQuery {
        match self {
            Self::Grant(grant) => {
                TokenQuery::grant_token(grant.code.clone()).with_client(grant.client.id.clone())
            }
            Self::Refresh(refresh, _) => TokenQuery::refresh_token(refresh.token.clone())
                .with_client(refresh.client.id.clone()),
        }
    }

    /// Whether another login that is stored for the user goes first: see [`RefreshCredential`].
    pub(super) fn gives_way_to(&self, stored: &OAuthToken) -> bool {
        let (Self::Refresh(refresh, dead), Some(token)) = (self, &stored.refresh_token) else {
            return false;
        };
        *token != refresh.token && Some(token) != dead.as_ref()
    }

    /// The record as the credential knows it, without what Zoho is yet to say.
    pub(super) fn record(&self, inner: &Inner) -> OAuthToken {
        let mut record = OAuthToken::new();
        match self {
            Self::Grant(grant) => record.grant_token = Some(grant.code.clone()),
            Self::Refresh(refresh, _) => record.refresh_token = Some(refresh.token.clone()),
        }
        record.user_name = self.user_name().cloned();
        let client = self.client().at(self.center(inner));
        record.client_id = Some(client.id.clone());
        record.client_secret = Some(client.secret.clone());
        record.redirect_url.clone_from(&client.redirect_uri);
        record
    }

    /// Whether what came of a login from the same credential is the answer to this one too.
    pub(super) fn is_answered_by(&self, inner: &Inner, outcome: &LoginOutcome) -> bool {
        let name = self.user_name();
        let is_the_user = name.is_none() || outcome.user_name.as_ref() == name;
        is_the_user && outcome.asked == self.asked(inner)
    }

    pub(super) async fn ask(&self, inner: &Inner) -> Result<TokenAnswer> {
        let center = self.center(inner);
        let client = self.client().at(center);
        match self {
            Self::Grant(grant) => {
                let verifier = grant.code_verifier.as_ref();
                inner
                    .accounts
                    .exchange(center, &client, &grant.code, verifier)
                    .await
            }
            Self::Refresh(refresh, _) => {
                inner
                    .accounts
                    .refresh(center, &client.id, &client.secret, &refresh.token)
                    .await
            }
        }
    }
}
