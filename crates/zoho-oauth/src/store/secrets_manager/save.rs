//! One save: the rule book over the few secrets that matter to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::core::Core;
use super::names::{self, Field};
use super::service::Held;
use super::value;
use crate::error::Result;
use crate::secret::Fingerprint;
use crate::store::rows::{self, Mark, Plan, RowServer, Wanted};
use crate::store::{Fact, Kept};
use crate::token::{OAuthToken, TokenId};

/// Inserts or updates, by the rules of [`TokenTable`](crate::TokenTable).
pub(super) async fn save(core: &Core, token: &OAuthToken) -> Result<TokenId> {
    let _first = core.wait_in_line(token).await;
    let operation = Operation {
        core,
        token,
        state: Mutex::default(),
    };
    let saved = rows::save(&operation, &core.alone, token).await;
    operation.mend_tags().await;
    saved
}

/// Saves what Zoho issued, if it still counts.
pub(super) async fn save_fact(core: &Core, fact: &Fact) -> Result<Kept> {
    let _first = core.wait_in_line(fact.before()).await;
    let operation = Operation {
        core,
        token: fact.news(),
        state: Mutex::default(),
    };
    let kept = rows::save_fact(&operation, fact).await;
    operation.mend_tags().await;
    kept
}

/// A save that is under way.
struct Operation<'a> {
    core: &'a Core,
    token: &'a OAuthToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The versions of what was read.
    held: HashMap<TokenId, Held>,
    /// What the service was asked for. What came since then is caught up with by reading it.
    asked: HashSet<Fingerprint>,
    /// What the tags of records say, though another save was faster.
    lost: HashMap<TokenId, OAuthToken>,
}

impl Operation<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(
        &self,
        ids: impl IntoIterator<Item = TokenId>,
        found: &mut BTreeMap<TokenId, OAuthToken>,
    ) -> Result<()> {
        for id in ids {
            if let Some(held) = self.core.read_surely(id).await? {
                found.insert(id, held.row.clone());
                self.state().held.insert(id, held);
            }
        }
        Ok(())
    }

    /// What has to be asked for, since a record that nobody here knows may have it.
    fn to_ask(&self, wanted: &[Wanted], found: &BTreeMap<TokenId, OAuthToken>) -> Vec<Fingerprint> {
        let is_settled = |wanted: &&Wanted| match wanted {
            Wanted::Id(_) => true,
            // The record under another client says nothing of the one under this client.
            Wanted::UserName(name) => found.values().any(|row| {
                row.user_name.as_ref() == Some(name)
                    && (row.client_id == self.token.client_id || row.id == self.token.id)
            }),
            // A new access token comes every hour, for a record that is found by something better.
            Wanted::AccessToken(_) => !found.is_empty(),
            Wanted::RefreshToken(_) | Wanted::GrantToken(_) => {
                found.values().any(|row| is_wanted(row, wanted))
            }
        };
        let open = wanted.iter().filter(|wanted| !is_settled(wanted));
        let state = self.state();
        open.filter_map(digest)
            .filter(|digest| !state.asked.contains(digest))
            .collect()
    }

    async fn write(&self, id: TokenId, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        let held = self.state().held.get(&id).cloned();
        let held = match held.filter(|held| held.row == *old) {
            Some(held) => held,
            None => match self.core.read(id).await? {
                Some(held) if held.row == *old => held,
                _ => return Ok(false),
            },
        };
        let text = value::encode(new)?;
        let service = &self.core.service;
        let tags = names::tags_to_change(old, new);
        if !tags.is_empty() && !service.tag(&service.names.token(id), tags).await? {
            return Ok(false);
        }
        let is_put = service.put(id, &held, &text).await?;
        let mut state = self.state();
        if is_put {
            state.lost.remove(&id);
        } else {
            state.lost.insert(id, new.clone());
        }
        Ok(is_put)
    }

    /// Sets the tags of records right that another save won, after this one had set them.
    ///
    /// What is stored goes into the tags for what was there before: the others may belong to a save
    /// that is about to write. If this fails, the next save of the record sets them.
    async fn mend_tags(&self) {
        let lost = std::mem::take(&mut self.state().lost);
        for (id, lost) in lost {
            if let Ok(Some(held)) = self.core.read(id).await {
                let tags = names::tags_to_mend(&lost, &held.row);
                if tags.is_empty() {
                    continue;
                }
                let service = &self.core.service;
                let _ = service.tag(&service.names.token(id), tags).await;
            }
        }
    }

    /// Deletes a row that another one has taken in, if it is still what was taken in.
    async fn remove(&self, gone: &OAuthToken) -> Result<bool> {
        let Some(id) = gone.id else {
            return Ok(true);
        };
        match self.core.read(id).await? {
            Some(held) if held.row == *gone => {
                self.core.remove(id).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn insert(&self, mark: &Mark, row: &OAuthToken) -> Result<bool> {
        let (core, Some(id)) = (self.core, row.id) else {
            return Ok(false);
        };
        if id.get() > mark.highest_id + 1 {
            // The ids in between are passed over, and must not be given any more.
            value::encode(row)?;
            core.raise_ledger(id.get() - 1).await?;
        }
        if !core.service.create(id, row).await? {
            core.index().given(id.get());
            return Ok(false);
        }
        core.index().read(id, row);
        // The id may have been free because its record was just deleted, after this save read the
        // ledger. If the ledger cannot be read now, that is not worth losing the record for.
        if let Ok(ledger) = core.service.ledger().await
            && ledger >= id.get()
        {
            core.index().set_ledger(ledger);
            core.service.delete(id).await?;
            core.index().forget(id);
            return Ok(false);
        }
        Ok(true)
    }
}

#[async_trait]
impl RowServer for Operation<'_> {
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        let candidates = || -> BTreeSet<TokenId> {
            let index = self.core.index();
            let known = wanted.iter().flat_map(|wanted| match wanted {
                Wanted::Id(id) => vec![*id],
                _ => digest(wanted).map_or_else(Vec::new, |digest| index.candidates(&digest)),
            });
            known.collect()
        };
        let mut found = BTreeMap::new();
        let mut tried = candidates();
        self.read(tried.clone(), &mut found).await?;
        let asked = self.to_ask(wanted, &found);
        if !asked.is_empty() {
            self.core.ask(&asked).await?;
            self.state().asked.extend(asked);
            let more: BTreeSet<_> = candidates().difference(&tried).copied().collect();
            self.read(more.clone(), &mut found).await?;
            tried.extend(more);
        }
        let rows = found.into_values();
        Ok(rows
            .filter(|row| wanted.iter().any(|wanted| is_wanted(row, wanted)))
            .collect())
    }

    async fn mark(&self) -> Result<Mark> {
        Ok(Mark {
            highest_id: self.core.catch_up().await?,
            // Nothing in the service could be moved by each write without a new version.
            writes: 0,
        })
    }

    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        let Some(id) = old.id else {
            return Ok(false);
        };
        self.core.pace.take(id)?;
        let written = self.write(id, old, new).await;
        if matches!(written, Ok(true)) {
            self.core.index().read(id, new);
        } else {
            self.core.pace.give_back(id);
        }
        written
    }

    /// Not in one step: the kept row first, which then holds all that is known of the login, and
    /// after it those that go. What is interrupted in between is finished by the next save.
    async fn apply(&self, mark: &Mark, plan: &Plan) -> Result<bool> {
        if let Some((old, new)) = &plan.update
            && !self.replace(old, new).await?
        {
            return Ok(false);
        }
        for gone in &plan.delete {
            if !self.remove(gone).await? {
                return Ok(false);
            }
        }
        match &plan.insert {
            Some(row) => self.insert(mark, row).await,
            None => Ok(true),
        }
    }
}

fn digest(wanted: &Wanted) -> Option<Fingerprint> {
    match wanted {
        Wanted::Id(_) => None,
        Wanted::UserName(name) => Some(Field::User.digest(name.as_str())),
        Wanted::RefreshToken(token) => Some(Field::Refresh.digest(token.expose_secret())),
        Wanted::GrantToken(token) => Some(Field::Grant.digest(token.expose_secret())),
        Wanted::AccessToken(token) => Some(Field::Access.digest(token.expose_secret())),
    }
}

fn is_wanted(row: &OAuthToken, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Id(id) => row.id == Some(*id),
        Wanted::UserName(name) => row.user_name.as_ref() == Some(name),
        Wanted::RefreshToken(token) => row.refresh_token.as_ref() == Some(token),
        Wanted::GrantToken(token) => row.grant_token.as_ref() == Some(token),
        Wanted::AccessToken(token) => row.access_token.as_ref() == Some(token),
    }
}
