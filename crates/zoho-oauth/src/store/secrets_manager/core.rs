//! What a store does: look-ups, lists, deletes, and how it learns what others did.
//!
//! Ids are given like the lines of a log. Each record is a secret with its id in the name, a new one
//! gets the lowest id above all that were given, and making a secret fails if its name is taken. So
//! every id up to the highest is either there, or was deleted; and the highest id of the deleted ones
//! is in the ledger. Above it there is no gap, and who makes a record has seen all before it: those
//! that are old in listings, and the new ones by name.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::index::Index;
use super::lag::Pauses;
use super::names;
use super::pace::Pace;
use super::service::{BATCH, Found, Held, Listed, Service, Taken};
use crate::error::{ErrorCode, Result};
use crate::query::TokenQuery;
use crate::secret::Fingerprint;
use crate::store::Inventory;
use crate::store::inventory::warn_once;
use crate::token::{OAuthToken, TokenId};

/// After so many ids in a row under which there is no record it is not looked further down for one
/// that is too new to be listed.
const LONGEST_GAP: usize = 1000;
/// How many calls of one operation run at once.
const AT_ONCE: usize = 4;
/// Saves of different logins that wait for each other are about one in so many.
const LINES: usize = 64;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) service: Service,
    pub(super) pace: Pace,
    index: Mutex<Index>,
    /// Held by whoever makes, joins or deletes records in this process.
    pub(super) alone: tokio::sync::Mutex<()>,
    /// Held by the saves of one login, so that those of this process do not undo each other's work.
    lines: Vec<tokio::sync::Mutex<()>>,
}

impl Core {
    pub(super) fn new(service: Service, pace: Pace) -> Self {
        Self {
            service,
            pace,
            index: Mutex::default(),
            alone: tokio::sync::Mutex::default(),
            lines: (0..LINES).map(|_| tokio::sync::Mutex::default()).collect(),
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the other saves of the same login in this process.
    pub(super) async fn wait_in_line(&self, token: &OAuthToken) -> tokio::sync::MutexGuard<'_, ()> {
        let digest = names::digests(token).into_iter().next();
        let id = token.id.map_or_else(String::new, |id| id.to_string());
        let name = digest.as_ref().map_or(id.as_str(), Fingerprint::as_str);
        let line = name.bytes().fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        self.lines[line % LINES].lock().await
    }

    /// Reads a record, and remembers what it can be found by.
    pub(super) async fn read(&self, id: TokenId) -> Result<Option<Held>> {
        let held = self.service.read(id).await?;
        match &held {
            Some(held) => self.index().read(id, &held.row),
            None => self.index().forget(id),
        }
        Ok(held)
    }

    /// Reads a record for a save. One that was there and is not deleted is read again until it shows:
    /// who took it for absent would make a second one.
    pub(super) async fn read_surely(&self, id: TokenId) -> Result<Option<Held>> {
        let was_there = self.index().knows(id);
        let mut pauses = Pauses::default();
        loop {
            let held = self.read(id).await?;
            if held.is_some() || !was_there {
                return Ok(held);
            }
            let ledger = self.service.ledger().await?;
            self.index().set_ledger(ledger);
            if id.get() <= ledger || !pauses.pause().await {
                return Ok(None);
            }
        }
    }

    /// Finds a record: by what is known, by asking the service, and last among the newest ones.
    pub(super) async fn find(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let digest = names::digest_of(query);
        let mut tried = HashSet::new();
        // A user may have several records, and the lowest id answers: the first look-up by a name
        // asks the service, even if a record is known.
        let is_asked = self.index().was_asked(&digest) || !is_by_user(query);
        if is_asked && let Some(row) = self.try_known(query, &digest, &mut tried).await? {
            return Ok(Some(row));
        }
        self.ask(std::slice::from_ref(&digest)).await?;
        if let Some(row) = self.try_known(query, &digest, &mut tried).await? {
            return Ok(Some(row));
        }
        self.catch_up().await?;
        self.try_known(query, &digest, &mut tried).await
    }

    async fn try_known(
        &self,
        query: &TokenQuery,
        digest: &Fingerprint,
        tried: &mut HashSet<TokenId>,
    ) -> Result<Option<OAuthToken>> {
        let candidates = self.index().candidates(digest);
        for id in candidates {
            if tried.insert(id)
                && let Some(held) = self.read(id).await?
                && query.matches(&held.row)
            {
                return Ok(Some(held.row));
            }
        }
        Ok(None)
    }

    /// Asks the service which records have these digests. One call, however many records there are.
    pub(super) async fn ask(&self, digests: &[Fingerprint]) -> Result<()> {
        let listed = self.service.list(Some(digests)).await?;
        self.take_in(listed);
        self.index().set_asked(digests);
        Ok(())
    }

    fn take_in(&self, listed: Vec<Listed>) {
        let mut index = self.index();
        for entry in listed {
            if entry.is_old {
                index.set_listed_to(entry.id);
            }
            index.listed(entry.id, entry.digests);
        }
    }

    /// Takes in what other processes made so lately that listings may not show it, and returns the
    /// highest id that was ever given.
    pub(super) async fn catch_up(&self) -> Result<u64> {
        let ledger = self.service.ledger().await?;
        self.index().set_ledger(ledger);
        let is_first = self.index().read_to() == 0 && !self.index().is_complete();
        if is_first {
            let newest = self.service.newest().await?;
            self.take_in(newest);
        }
        let known = self.index().top();
        let top = self.search_above(known).await?;
        self.read_recent(top).await?;
        Ok(top)
    }

    /// Searches for the highest id that was given. Above the ledger there are no gaps, so steps can
    /// be skipped: mostly one call, and a handful for a million new records.
    async fn search_above(&self, known: u64) -> Result<u64> {
        let width = BATCH as u64;
        let (mut top, mut step) = (known, 1_u64);
        loop {
            let ids = (1..=width).map_while(|number| TokenId::new(top + number * step).ok());
            let ids: Vec<_> = ids.collect();
            let found = self.read_many(&ids).await?;
            let reached = ids.iter().take_while(|id| found.contains(*id)).count();
            if reached > 0 {
                top = ids[reached - 1].get();
            }
            if reached == BATCH {
                step *= width;
            } else if step == 1 {
                self.index().given(top);
                return Ok(top);
            } else {
                step = (step / width).max(1);
            }
        }
    }

    /// Reads the records up to `top` that listings may not show yet, from the newest down to one
    /// that is old. Mostly that is the first batch, or there is nothing to read.
    async fn read_recent(&self, top: u64) -> Result<()> {
        let (mut below, mut at_once, mut without) = (top.saturating_add(1), 1, 0);
        let mut missing = Vec::new();
        while without < LONGEST_GAP {
            let ids = self.index().unknown_below(below, at_once * BATCH);
            let Some(lowest) = ids.last() else { break };
            below = lowest.get();
            at_once = AT_ONCE;
            let batches: Vec<_> = ids.chunks(BATCH).map(<[_]>::to_vec).collect();
            let reads = stream::iter(batches).map(async |ids| self.read_many(&ids).await);
            let found: Vec<_> = reads.buffered(AT_ONCE).try_collect().await?;
            let is_missing = |id: &TokenId| !found.iter().any(|found| found.contains(id));
            missing.extend(ids.iter().copied().filter(is_missing));
            let is_gap = !ids.iter().any(|id| self.index().knows(*id));
            without = if is_gap { without + ids.len() } else { 0 };
        }
        self.wait_for(missing).await?;
        self.index().set_read_to(top);
        Ok(())
    }

    /// Reads records again that must be there, since there are no gaps above the ledger, until reads
    /// show them. Who did not wait would make a second record of a login.
    async fn wait_for(&self, mut missing: Vec<TokenId>) -> Result<()> {
        let mut pauses = Pauses::default();
        while !missing.is_empty() {
            // They may just have been deleted.
            let ledger = self.service.ledger().await?;
            self.index().set_ledger(ledger);
            missing.retain(|id| id.get() > ledger);
            // If they stay away, somebody deleted them without the store.
            if missing.is_empty() || !pauses.pause().await {
                break;
            }
            let mut found = HashSet::new();
            for ids in missing.chunks(BATCH) {
                found.extend(self.read_many(ids).await?);
            }
            missing.retain(|id| !found.contains(id));
        }
        Ok(())
    }

    /// Reads up to [`BATCH`] records, remembers what they can be found by, and returns which of the
    /// ids are taken.
    async fn read_many(&self, ids: &[TokenId]) -> Result<HashSet<TokenId>> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let taken = self.service.read_many(ids).await?;
        let mut index = self.index();
        for taken in &taken {
            index.taken(taken);
        }
        Ok(taken.into_iter().map(|taken| taken.id).collect())
    }

    /// Reads what is stored under these ids, in their order, and forgets those that are not there
    /// any more.
    async fn stored(&self, ids: Vec<TokenId>) -> Result<Vec<Taken>> {
        let batches: Vec<_> = ids.chunks(BATCH).map(<[_]>::to_vec).collect();
        let reads = stream::iter(batches).map(async |ids| {
            let mut stored = self.service.read_many(&ids).await?;
            stored.retain(|taken| !matches!(taken.found, Found::Doomed));
            stored.sort_by_key(|taken| taken.id);
            let mut index = self.index();
            for id in ids {
                match stored.iter().find(|taken| taken.id == id) {
                    Some(taken) => index.taken(taken),
                    None => index.forget(id),
                }
            }
            Ok(stored)
        });
        let stored: Vec<_> = reads.buffered(AT_ONCE).try_collect().await?;
        Ok(stored.into_iter().flatten().collect())
    }

    async fn rows(&self, ids: Vec<TokenId>) -> Result<Vec<OAuthToken>> {
        let mut rows = Vec::with_capacity(ids.len());
        for taken in self.stored(ids).await? {
            match taken.found {
                Found::Record(row) => rows.push(*row),
                Found::Damaged(error) => warn_once(&error),
                Found::Doomed => {}
            }
        }
        Ok(rows)
    }

    /// Names the secrets that cannot be read. AWS offers no other way to count them than the listing,
    /// which lags behind.
    pub(super) async fn inventory(&self) -> Result<Inventory> {
        self.list_all().await?;
        let ids = self.index().ids_after(None);
        let mut inventory = Inventory::default();
        for taken in self.stored(ids).await? {
            inventory.records += 1;
            if let Found::Damaged(error) = taken.found {
                inventory.unreadable.push(error.message().to_owned());
            }
        }
        Ok(inventory)
    }

    async fn list_all(&self) -> Result<()> {
        let listed = self.service.list(None).await?;
        self.take_in(listed);
        self.index().set_complete();
        self.catch_up().await.map(drop)
    }

    /// Returns all records in the order of their ids.
    pub(super) async fn all(&self) -> Result<Vec<OAuthToken>> {
        self.list_all().await?;
        let ids = self.index().ids_after(None);
        self.rows(ids).await
    }

    /// Returns the next records behind an id. The first page lists all records, the others only
    /// read what they answer.
    pub(super) async fn page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let mut is_fresh = after.is_none() || !self.index().is_complete();
        if is_fresh {
            self.list_all().await?;
        }
        let (mut page, mut after) = (Vec::new(), after);
        loop {
            let mut ids = self.index().ids_after(after);
            ids.truncate(limit - page.len());
            if ids.is_empty() {
                if is_fresh || page.len() == limit {
                    return Ok(page);
                }
                // The last page: what was made since the first one belongs here.
                self.catch_up().await?;
                is_fresh = true;
            } else {
                after = ids.last().copied();
                page.extend(self.rows(ids).await?);
            }
        }
    }

    pub(super) async fn delete(&self, id: TokenId) -> Result<bool> {
        let _alone = self.alone.lock().await;
        match self.read(id).await {
            Ok(None) => return Ok(false),
            // What cannot be read can be deleted.
            Err(error) if error.code() != ErrorCode::StoreDamaged => return Err(error),
            Ok(Some(_)) | Err(_) => {}
        }
        self.remove(id).await
    }

    /// Deletes a record that is there.
    pub(super) async fn remove(&self, id: TokenId) -> Result<bool> {
        // First, so that the id is not given again, whatever happens in between.
        self.raise_ledger(id.get()).await?;
        let was_there = self.service.delete(id).await?;
        self.index().forget(id);
        Ok(was_there)
    }

    pub(super) async fn raise_ledger(&self, id: u64) -> Result<()> {
        if self.index().ledger() >= id {
            return Ok(());
        }
        self.service.raise_ledger(id).await?;
        self.index().set_ledger(id);
        Ok(())
    }

    pub(super) async fn clear(&self) -> Result<usize> {
        let _alone = self.alone.lock().await;
        self.list_all().await?;
        let ids = self.index().ids_after(None);
        // What cannot be read can be deleted.
        let stored = self.stored(ids).await?.into_iter();
        let ids: Vec<_> = stored.map(|taken| taken.id).collect();
        let Some(highest) = ids.last() else {
            return Ok(0);
        };
        self.raise_ledger(highest.get()).await?;
        let deletes = stream::iter(ids).map(|id| self.remove(id));
        let deleted: Vec<bool> = deletes.buffered(AT_ONCE).try_collect().await?;
        Ok(deleted.into_iter().filter(|deleted| *deleted).count())
    }
}

const fn is_by_user(query: &TokenQuery) -> bool {
    matches!(query.criterion(), crate::query::Criterion::UserName(_))
}
