//! What Zoho issued, and whether it still belongs into the store.

use std::fmt;

use crate::store::table::merge;
use crate::token::{OAuthToken, TokenId};

/// That Zoho issued an access token for a stored record.
///
/// It is true whoever says it and however late. It counts as long as the record still holds the
/// credential that Zoho was shown: see [`ruling`](Self::ruling).
#[derive(Clone)]
pub struct Fact {
    id: TokenId,
    before: OAuthToken,
    news: OAuthToken,
}

/// What a [`Fact`] means for the record as it is now. See [`Fact::ruling`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Ruling {
    /// Put this in the place of the record, if it is still what the ruling was made on.
    Save(OAuthToken),
    /// The record has another refresh token, or an access token that ends later: leave it.
    Superseded,
    /// The record is gone, or its id is another login's.
    Gone,
}

/// What became of a [`Fact`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kept {
    /// It is stored.
    Saved,
    /// The store has something newer, which is this.
    Superseded(Box<OAuthToken>),
    /// The record is not there any more.
    Gone,
}

impl Fact {
    /// Returns the fact about the record `id` that was `before` when Zoho was asked, and whose
    /// fields `news` Zoho's answer fills.
    ///
    /// For stores in front of other stores that keep values in another form there, such as
    /// encrypted: they pass on [`before`](Self::before) and [`news`](Self::news) as the inner store
    /// holds them.
    pub fn new(id: TokenId, before: OAuthToken, news: OAuthToken) -> Self {
        Self { id, before, news }
    }

    /// Returns the id of the record.
    pub const fn id(&self) -> TokenId {
        self.id
    }

    /// Returns the record as it was when Zoho was asked. A store can save in one step if it is
    /// still the same.
    pub const fn before(&self) -> &OAuthToken {
        &self.before
    }

    /// Returns the fields that Zoho's answer fills, with the id, the user and the client of the
    /// record.
    pub const fn news(&self) -> &OAuthToken {
        &self.news
    }

    /// Decides, for the record as it is now; `None` when there is none under this id.
    pub fn ruling(&self, stored: Option<&OAuthToken>) -> Ruling {
        let Some(stored) = stored else {
            return Ruling::Gone;
        };
        let before = &self.before;
        let other_user = before.user_name.is_some() && before.user_name != stored.user_name;
        let other_client = before.client_id.is_some()
            && stored.client_id.is_some()
            && before.client_id != stored.client_id;
        if other_user || other_client {
            return Ruling::Gone;
        }
        // Somebody else was faster. If the record still has the access token that was to be
        // replaced, it does not matter when that ends: the API may have refused it.
        let is_newer = stored.access_token != before.access_token
            && stored.access_token.is_some()
            && stored.expiry_time > self.news.expiry_time
            // A new refresh token is in nobody's hands but ours, and the access token that lies
            // beside it is to be the one that came with it.
            && self.news.refresh_token.is_none();
        if stored.refresh_token != before.refresh_token || is_newer {
            return Ruling::Superseded;
        }
        Ruling::Save(merge(stored, &self.news))
    }
}

impl Ruling {
    /// Returns what became of a fact that was not to be saved, over the record as it is.
    pub fn kept(self, stored: Option<&OAuthToken>) -> Kept {
        match (self, stored) {
            (Self::Superseded, Some(newer)) => Kept::Superseded(Box::new(newer.clone())),
            (Self::Save(_), _) => Kept::Saved,
            _ => Kept::Gone,
        }
    }
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fact")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::secret::{AccessToken, RefreshToken};
    use crate::token::{ClientId, UserName};

    fn record(access: &str, seconds: i64) -> OAuthToken {
        let mut record = OAuthToken::new();
        record.id = TokenId::new(7).ok();
        record.user_name = UserName::new("u").ok();
        record.client_id = ClientId::new("c").ok();
        record.refresh_token = RefreshToken::new("r").ok();
        record.access_token = AccessToken::new(access).ok();
        record.expiry_time = Some(Timestamp::from_millis(seconds * 1000));
        record
    }

    fn fact() -> Fact {
        let mut news = OAuthToken::new();
        news.access_token = AccessToken::new("new").ok();
        news.expiry_time = Some(Timestamp::from_millis(3_600_000));
        Fact::new(TokenId::new(7).unwrap(), record("old", 10), news)
    }

    #[test]
    fn it_counts_while_the_record_holds_the_credential_that_zoho_was_shown() {
        let saved = Ruling::Save(record("new", 3600));
        assert_eq!(fact().ruling(Some(&record("old", 10))), saved);
        let mut other = record("old", 10);
        other.refresh_token = RefreshToken::new("newer").ok();
        assert_eq!(fact().ruling(Some(&other)), Ruling::Superseded);
        assert_eq!(fact().ruling(None), Ruling::Gone);
    }

    #[test]
    fn the_later_of_two_access_tokens_stays() {
        assert_eq!(
            fact().ruling(Some(&record("faster", 3599))),
            Ruling::Save(record("new", 3600))
        );
        assert_eq!(
            fact().ruling(Some(&record("later", 3601))),
            Ruling::Superseded
        );
    }

    #[test]
    fn a_refresh_token_that_only_the_fact_holds_is_saved() {
        let mut fact = fact();
        fact.before.refresh_token = None;
        fact.news.refresh_token = RefreshToken::new("issued").ok();
        let mut stored = record("later", 3601);
        stored.refresh_token = None;
        let Ruling::Save(saved) = fact.ruling(Some(&stored)) else {
            panic!("it is dropped");
        };
        assert_eq!(saved.refresh_token, fact.news.refresh_token);
        assert_eq!(saved.access_token, fact.news.access_token);
    }

    #[test]
    fn a_token_that_was_refused_is_replaced_whatever_its_end() {
        let mut fact = fact();
        fact.before.expiry_time = Some(Timestamp::from_millis(9_000_000));
        let stored = fact.before.clone();
        assert!(matches!(fact.ruling(Some(&stored)), Ruling::Save(_)));
    }

    #[test]
    fn another_login_under_the_same_id_is_left_alone() {
        let mut other = record("old", 10);
        other.user_name = UserName::new("v").ok();
        assert_eq!(fact().ruling(Some(&other)), Ruling::Gone);
        other.user_name = None;
        assert_eq!(fact().ruling(Some(&other)), Ruling::Gone);
        let mut other = record("old", 10);
        other.client_id = ClientId::new("d").ok();
        assert_eq!(fact().ruling(Some(&other)), Ruling::Gone);
    }
}
