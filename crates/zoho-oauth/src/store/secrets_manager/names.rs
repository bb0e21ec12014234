//! How secrets, their versions and their tags are named. No name holds a secret.

use crate::error::{Error, Result};
use crate::query::{Criterion, TokenQuery};
use crate::secret::{AccessToken, Fingerprint, GrantToken, RefreshToken};
use crate::token::{OAuthToken, TokenId};

/// The service allows 512 characters; what is behind the prefix needs less than 20 of them.
const LONGEST_PREFIX: usize = 200;

/// All tags of this store begin so.
pub(super) const TAG_PREFIX: &str = "zoho-oauth:";
/// The tags of the ledger, each followed by an id.
const HIGHEST_ID: &str = "zoho-oauth:highest-id:";

/// The names of the secrets below one prefix.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    /// # Errors
    /// `invalid_input` when secrets cannot be named so.
    pub(super) fn new(prefix: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
        if prefix.is_empty() || prefix.len() > LONGEST_PREFIX || !prefix.chars().all(fits) {
            return Err(Error::invalid_input(format!(
                "the prefix of the secrets' names must be 1 to {LONGEST_PREFIX} ASCII letters, \
                 digits and `/_+=.@-`"
            )));
        }
        Ok(Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the names of all records begin with.
    pub(super) fn tokens(&self) -> String {
        format!("{}/token/", self.prefix)
    }

    pub(super) fn token(&self, id: TokenId) -> String {
        format!("{}/token/{id}", self.prefix)
    }

    /// The secret that remembers the highest id of deleted records.
    pub(super) fn ledger(&self) -> String {
        format!("{}/ledger", self.prefix)
    }

    /// The record whose secret has this name; `None` when it is none of ours.
    pub(super) fn id_of(&self, name: &str) -> Option<TokenId> {
        let rest = name.strip_prefix(&self.prefix)?;
        rest.strip_prefix("/token/")?.parse().ok()
    }
}

/// What a record is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    User,
    Refresh,
    Grant,
    Access,
}

impl Field {
    const ALL: [Self; 4] = [Self::User, Self::Refresh, Self::Grant, Self::Access];

    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Refresh => "refresh",
            Self::Grant => "grant",
            Self::Access => "access",
        }
    }

    fn tag(self) -> String {
        format!("{TAG_PREFIX}{}", self.name())
    }

    /// The tag with the value that was there before.
    fn tag_before(self) -> String {
        format!("{TAG_PREFIX}{}-before", self.name())
    }

    fn value(self, row: &OAuthToken) -> Option<&str> {
        match self {
            Self::User => row.user_name.as_ref().map(AsRef::as_ref),
            Self::Refresh => row.refresh_token.as_ref().map(RefreshToken::expose_secret),
            Self::Grant => row.grant_token.as_ref().map(GrantToken::expose_secret),
            Self::Access => row.access_token.as_ref().map(AccessToken::expose_secret),
        }
    }

    /// The digest by which a record with this value is found. Equal texts in two fields have
    /// different digests.
    pub(super) fn digest(self, value: &str) -> Fingerprint {
        Fingerprint::of(&["zoho-oauth secrets-manager", self.name(), value])
    }
}

/// The digest that a look-up goes by.
pub(super) fn digest_of(query: &TokenQuery) -> Fingerprint {
    match query.criterion() {
        Criterion::UserName(name) => Field::User.digest(name.as_str()),
        Criterion::AccessToken(token) => Field::Access.digest(token.expose_secret()),
        Criterion::GrantToken(token) => Field::Grant.digest(token.expose_secret()),
        Criterion::RefreshToken(token) => Field::Refresh.digest(token.expose_secret()),
    }
}

/// The digests that a record can be found by.
pub(super) fn digests(row: &OAuthToken) -> Vec<Fingerprint> {
    let fields = Field::ALL.into_iter();
    fields
        .filter_map(|field| Some(field.digest(field.value(row)?)))
        .collect()
}

/// The tags of a new record: key and value.
pub(super) fn tags(row: &OAuthToken) -> Vec<(String, String)> {
    let fields = Field::ALL.into_iter();
    fields
        .filter_map(|field| Some((field.tag(), text(&field.digest(field.value(row)?)))))
        .collect()
}

/// The tags that have to be set before `new` takes the place of `old`. The old digests stay, under
/// other keys: whatever becomes of the write, the record is found.
pub(super) fn tags_to_change(old: &OAuthToken, new: &OAuthToken) -> Vec<(String, String)> {
    let mut tags = Vec::new();
    for field in Field::ALL {
        let (before, after) = (field.value(old), field.value(new));
        if before == after {
            continue;
        }
        if let Some(before) = before {
            tags.push((field.tag_before(), text(&field.digest(before))));
        }
        if let Some(after) = after {
            tags.push((field.tag(), text(&field.digest(after))));
        }
    }
    tags
}

/// The tags by which `stored` is found although a save of `lost`, which was slower, set its own.
pub(super) fn tags_to_mend(lost: &OAuthToken, stored: &OAuthToken) -> Vec<(String, String)> {
    let fields = Field::ALL.into_iter();
    fields
        .filter(|field| field.value(lost) != field.value(stored))
        .filter_map(|field| {
            Some((
                field.tag_before(),
                text(&field.digest(field.value(stored)?)),
            ))
        })
        .collect()
}

fn text(digest: &Fingerprint) -> String {
    digest.as_str().to_owned()
}

/// The digest that a tag holds, if the tag is of this store.
pub(super) fn digest_in_tag(key: &str, value: &str) -> Option<Fingerprint> {
    let is_digest = value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    (key.starts_with(TAG_PREFIX) && is_digest).then(|| Fingerprint::from_hex(value))
}

/// The tag of the ledger that says that `id`, and all below it, were given.
pub(super) fn highest_tag(id: u64) -> String {
    format!("{HIGHEST_ID}{id}")
}

/// The id in a tag of the ledger.
pub(super) fn id_in_highest_tag(key: &str) -> Option<u64> {
    key.strip_prefix(HIGHEST_ID)?.parse().ok()
}

/// The name of the version that follows `version` of a secret: each version has one successor, so
/// of all who would replace it one succeeds. `turn` is above 0 when that name is spent although
/// `version` is the current one: somebody moved the label back by hand.
pub(super) fn successor(secret: &str, version: &str, turn: u32) -> String {
    let turn = turn.to_string();
    uuid(&Fingerprint::of(&["successor", secret, version, &turn]))
}

/// A version of its own, for a secret that is to be made.
pub(super) fn first_version() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let message = "the operating system gives no random numbers";
        Error::new(crate::ErrorCode::Internal, message).caused_by(error)
    })?;
    let number = u128::from_ne_bytes(bytes).to_string();
    Ok(uuid(&Fingerprint::of(&["first", &number])))
}

/// Puts 32 hexadecimal digits into the form that the service recommends for its version ids.
fn uuid(digest: &Fingerprint) -> String {
    let hex = digest.as_str();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::UserName;

    #[test]
    fn names_lead_to_ids_and_back() {
        let names = Names::new("team/zoho-oauth/").unwrap();
        let id = TokenId::new(42).unwrap();
        assert_eq!(names.token(id), "team/zoho-oauth/token/42");
        assert_eq!(names.id_of("team/zoho-oauth/token/42"), Some(id));
        for other in [
            "team/zoho-oauth/ledger",
            "team/zoho-oauth/token/042",
            "team/zoho-oauth/token/4/2",
            "team/zoho-oauth2/token/42",
            "zoho-oauth/token/42",
        ] {
            assert_eq!(names.id_of(other), None, "{other}");
        }
        for bad in ["", "a b", "ä", "!a", &"a".repeat(201)] {
            assert!(Names::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_version_has_one_successor() {
        let next = successor("p/token/1", "v", 0);
        assert_eq!(next, successor("p/token/1", "v", 0));
        assert_eq!(next.len(), 36);
        for other in [
            successor("p/token/2", "v", 0),
            successor("p/token/1", "w", 0),
            successor("p/token/1", "v", 1),
        ] {
            assert_ne!(next, other);
        }
        assert_ne!(first_version().unwrap(), first_version().unwrap());
    }

    #[test]
    fn tags_hold_digests_of_what_is_new_and_of_what_was() {
        let mut old = OAuthToken::new();
        old.user_name = UserName::new("ann").ok();
        old.access_token = AccessToken::new("1000.old").ok();
        let mut new = old.clone();
        new.access_token = AccessToken::new("1000.new").ok();
        let digest = |field: Field, value| field.digest(value).as_str().to_owned();
        assert_eq!(
            tags_to_change(&old, &new),
            [
                (
                    "zoho-oauth:access-before".to_owned(),
                    digest(Field::Access, "1000.old")
                ),
                (
                    "zoho-oauth:access".to_owned(),
                    digest(Field::Access, "1000.new")
                ),
            ]
        );
        assert_eq!(tags_to_change(&new, &new), []);
        assert_eq!(tags(&old)[0].0, "zoho-oauth:user");
        assert_ne!(digest(Field::User, "x"), digest(Field::Grant, "x"));
        let (key, value) = &tags(&old)[1];
        assert_eq!(
            digest_in_tag(key, value),
            Some(Field::Access.digest("1000.old"))
        );
        assert_eq!(digest_in_tag("team", value), None);
        assert_eq!(digest_in_tag(key, "zz"), None);
        assert_eq!(id_in_highest_tag(&highest_tag(7)), Some(7));
    }
}
