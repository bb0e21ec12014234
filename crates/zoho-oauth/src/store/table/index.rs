//! The look-up tables of a [`TokenTable`](super::TokenTable): which rows to compare at all.
//!
//! They decide nothing. A row that they find is compared by the rules of the table, and each row
//! that the rules look for has one of the keys that are asked for here.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use super::identity::{Identity, Naming, id_of, identities};
use crate::query::{Criterion, TokenQuery};
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// The ids of the rows by the hashes of their keys. Holds no value: a hash has a key of its own,
/// which differs in each table.
#[derive(Clone, Default)]
pub(super) struct Index {
    hasher: RandomState,
    entries: BTreeSet<(u64, TokenId)>,
}

impl Index {
    pub(super) fn of(rows: &[OAuthToken]) -> Self {
        let mut index = Self::default();
        for row in rows {
            index.insert(row);
        }
        index
    }

    /// The ids of the rows that have this key, from the lowest on. A row that has another key with
    /// the same hash may be among them.
    pub(super) fn ids(&self, key: &Key<'_>) -> impl Iterator<Item = TokenId> {
        let hash = self.hasher.hash_one(key);
        let first = TokenId::new(1).expect("an id");
        let found = self.entries.range((hash, first)..=(hash, TokenId::MAX));
        found.map(|(_, id)| *id)
    }

    pub(super) fn insert(&mut self, row: &OAuthToken) {
        for key in Key::all_of(row) {
            self.entries.insert((self.hasher.hash_one(key), id_of(row)));
        }
    }

    pub(super) fn remove(&mut self, row: &OAuthToken) {
        for key in Key::all_of(row) {
            self.entries
                .remove(&(self.hasher.hash_one(key), id_of(row)));
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

/// A value of a row, together with its client and its user name or without them.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Key<'a> {
    field: Field,
    value: &'a str,
    client: Part<'a>,
    user: Part<'a>,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Field {
    User,
    Refresh,
    Grant,
    Access,
    /// What a row without a user name is known by.
    OfUnnamed,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Part<'a> {
    Any,
    Is(Option<&'a str>),
}

impl<'a> Key<'a> {
    /// All keys of a row.
    fn all_of(row: &'a OAuthToken) -> Vec<Self> {
        let client = Part::client(row.client_id.as_ref());
        let user = Part::user(row.user_name.as_ref());
        let mut keys = Vec::with_capacity(15);
        let identities = identities(row);
        for (field, value) in identities.iter().map(field_and_value) {
            for client in [Part::Any, client] {
                keys.push(Self {
                    field,
                    value,
                    client,
                    user: Part::Any,
                });
                if !matches!(field, Field::User) {
                    keys.push(Self {
                        field,
                        value,
                        client,
                        user,
                    });
                }
            }
        }
        if row.user_name.is_none()
            && let Some((_, value)) = identities.first().map(field_and_value)
        {
            let field = Field::OfUnnamed;
            keys.push(Self {
                field,
                value,
                client,
                user: Part::Any,
            });
        }
        keys
    }

    pub(super) fn of_query(query: &'a TokenQuery) -> Self {
        let (field, value) = match query.criterion() {
            Criterion::UserName(name) => (Field::User, name.as_str()),
            Criterion::AccessToken(token) => (Field::Access, token.expose_secret()),
            Criterion::GrantToken(token) => (Field::Grant, token.expose_secret()),
            Criterion::RefreshToken(token) => (Field::Refresh, token.expose_secret()),
        };
        let client = query.client();
        Self {
            field,
            value,
            client: client.map_or(Part::Any, |client| Part::client(Some(client))),
            user: Part::Any,
        }
    }

    pub(super) fn of_identity(identity: &Identity<'a>) -> Vec<Self> {
        let (field, value) = field_and_value(identity);
        let (clients, naming) = match *identity {
            Identity::User(_, client) => (vec![Part::client(client)], Naming::Any),
            Identity::Refresh(_, client, naming) | Identity::Grant(_, client, naming) => {
                (vec![Part::client(client)], naming)
            }
            Identity::Access(_, None, naming) => (vec![Part::Any], naming),
            Identity::Access(_, client, naming) => {
                (vec![Part::client(client), Part::Is(None)], naming)
            }
        };
        let users = match naming {
            Naming::Any => vec![Part::Any],
            Naming::As(name) => vec![Part::user(Some(name)), Part::Is(None)],
        };
        let mut keys = Vec::new();
        for client in clients {
            keys.extend(users.iter().map(|&user| Self {
                field,
                value,
                client,
                user,
            }));
        }
        keys
    }

    /// The keys of nameless rows that [`is_same_login_unnamed`](super::identity::is_same_login_unnamed) finds.
    pub(super) fn of_unnamed_twins(merged: &'a OAuthToken) -> Vec<Self> {
        let clients = [Part::client(merged.client_id.as_ref()), Part::Is(None)];
        let identities = identities(merged);
        let tokens = identities.iter().map(field_and_value);
        let tokens = tokens.filter(|(field, _)| !matches!(field, Field::User));
        tokens
            .flat_map(|(_, value)| {
                clients.map(|client| Self {
                    field: Field::OfUnnamed,
                    value,
                    client,
                    user: Part::Any,
                })
            })
            .collect()
    }
}

impl<'a> Part<'a> {
    fn client(client: Option<&'a ClientId>) -> Self {
        Self::Is(client.map(ClientId::as_str))
    }

    fn user(name: Option<&'a UserName>) -> Self {
        Self::Is(name.map(UserName::as_str))
    }
}

fn field_and_value<'a>(identity: &Identity<'a>) -> (Field, &'a str) {
    match *identity {
        Identity::User(name, _) => (Field::User, name.as_str()),
        Identity::Refresh(token, ..) => (Field::Refresh, token.expose_secret()),
        Identity::Grant(token, ..) => (Field::Grant, token.expose_secret()),
        Identity::Access(token, ..) => (Field::Access, token.expose_secret()),
    }
}
