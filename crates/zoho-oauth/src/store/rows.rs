//! The rule book over rows on a server: what to read, what to decide, what to write.
//!
//! A store on a server cannot keep all its rows in memory, and must not hold a lock while it thinks.
//! So a save reads the few rows that can matter, lets [`TokenTable`] decide over them, and writes
//! the difference if nothing changed meanwhile; otherwise it begins again. Most saves change one row
//! and neither its login nor its refresh token: one conditional write of that row. The others
//! (inserts, rows that become one) are held apart by a mark that each of them moves.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};

use super::table::{Identity, TokenTable, check_same_login, identities, next_id};
use super::{Fact, Kept, Ruling};
use crate::error::{Error, ErrorCode, Result};
use crate::secret::{AccessToken, GrantToken, RefreshToken};
use crate::token::{OAuthToken, TokenId, UserName};

/// How long a save begins again and again because others keep changing the same rows, and how long
/// it waits for its turn among the saves of this process.
const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What a save wants to read: rows with this id, or with this value in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Id(TokenId),
    UserName(UserName),
    RefreshToken(RefreshToken),
    GrantToken(GrantToken),
    AccessToken(AccessToken),
}

/// Reads a time in milliseconds. `None` for what we would write in another way, like `+7`: a write
/// compares texts, and would never find such a row to be what it was.
#[cfg(any(test, feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) fn time(text: &str) -> Option<crate::clock::Timestamp> {
    let millis: i64 = text.parse().ok()?;
    (millis.to_string() == text).then(|| crate::clock::Timestamp::from_millis(millis))
}

/// Says of a text that it is no id, and which one, so that a row can be found. A token may have got
/// into the wrong place, and is not quoted.
#[cfg(any(test, feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) fn no_id(text: &str) -> String {
    let may_be_quoted = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=20).contains(&text.len()) && text.bytes().all(may_be_quoted) {
        return format!("is no id: `{text}`");
    }
    let length = text.chars().count();
    format!("is no id: a text of {length} characters")
}

/// What is there of the rows that are wanted.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Vec<OAuthToken>,
    /// The rows that cannot be read.
    pub(crate) bad: Vec<Bad>,
}

/// A row that cannot be read.
#[derive(Debug)]
pub(crate) struct Bad {
    /// What of it says which record it is.
    pub(crate) rest: OAuthToken,
    /// `store_damaged`, naming the row.
    pub(crate) error: Error,
}

#[cfg(any(test, feature = "mysql", feature = "postgres", feature = "redis"))]
impl Bad {
    /// Takes the texts that could be read.
    pub(crate) fn new(mut fields: [Option<&str>; 10], error: Error) -> Self {
        fields[0] = fields[0].filter(|id| id.parse::<TokenId>().is_ok());
        fields[7] = None;
        let rest = OAuthToken::from_fields(&fields).unwrap_or_default();
        Self { rest, error }
    }
}

#[cfg(any(test, feature = "mysql", feature = "postgres", feature = "redis"))]
impl Found {
    /// Returns the rows, all of which must be readable.
    pub(crate) fn all(self) -> Result<Vec<OAuthToken>> {
        let mut bad = self.bad.into_iter();
        bad.next().map_or(Ok(self.rows), |bad| Err(bad.error))
    }
}

/// What holds apart the writes that insert, delete or join rows: each of them moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The highest id that was ever given; 0 before the first. At least that of every stored row,
    /// except for rows that another program has just inserted.
    pub(crate) highest_id: u64,
    /// A number that is never the same again.
    pub(crate) writes: u64,
}

/// What a save comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The id that the saved record has.
    pub(crate) id: TokenId,
    /// The highest id that has been given after the plan.
    pub(crate) highest_id: u64,
    pub(crate) insert: Option<OAuthToken>,
    /// A row as it is, and as it is to be.
    pub(crate) update: Option<(OAuthToken, OAuthToken)>,
    /// Rows as they are, which are to go.
    pub(crate) delete: Vec<OAuthToken>,
}

impl Plan {
    /// Whether nobody else's save can depend on it: no row comes, goes, or changes its login or
    /// what it is recognised by beside the access token.
    fn is_quick(&self) -> bool {
        let same_login = |old: &OAuthToken, new: &OAuthToken| {
            old.user_name == new.user_name
                && old.client_id == new.client_id
                && old.refresh_token == new.refresh_token
                && old.grant_token == new.grant_token
        };
        let update = self.update.as_ref();
        self.insert.is_none()
            && self.delete.is_empty()
            && update.is_none_or(|(old, new)| same_login(old, new))
    }
}

/// The rows of a token table on a server. Rows are compared in all ten fields; a missing value and
/// an empty one are the same.
#[async_trait]
pub(crate) trait RowServer: Sync {
    /// Returns the rows that are wanted, each once, in any order, all read at one moment.
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>>;

    /// As [`rows`](Self::rows), for a save: a row that cannot be read may be of another login, and is
    /// then in nobody's way.
    async fn look(&self, wanted: &[Wanted]) -> Result<Found> {
        let rows = self.rows(wanted).await?;
        Ok(Found {
            rows,
            ..Found::default()
        })
    }

    /// Returns the present mark. What is read afterwards is no older than the mark.
    async fn mark(&self) -> Result<Mark>;

    /// Returns the number after which the next new record is numbered, at least `highest_id`: more
    /// where numbers are left out. Asked after [`mark`](Self::mark).
    fn number_after(&self, highest_id: u64) -> u64 {
        highest_id
    }

    /// Puts `new` in the place of `old`, durably, if the row is still `old`; `false` if not.
    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool>;

    /// Does all of `plan` or nothing, durably, and moves the mark, if the mark is still `mark`, all
    /// rows of the plan are what the plan says, and the id of an insert is free; `false` if not.
    async fn apply(&self, mark: &Mark, plan: &Plan) -> Result<bool>;

    /// Returns whether nobody who knows nothing of the mark can take `id`, which a new record just
    /// got, for one of theirs, and write over it.
    async fn is_out_of_reach(&self, _id: TokenId) -> Result<bool> {
        Ok(true)
    }

    /// Returns when everything that was read before is as durable as a write. Asked before it is
    /// acknowledged that what was to be written is there already: somebody may have written it who
    /// was told that it is not durable yet. Most servers show only what is.
    async fn confirm(&self) -> Result<()> {
        Ok(())
    }
}

/// Inserts or updates, by the rules of [`TokenTable::save`].
///
/// `alone` is one lock for all saves of this process, so that they do not undo each other's work.
pub(crate) async fn save(
    server: &impl RowServer,
    alone: &Mutex<()>,
    token: &OAuthToken,
) -> Result<TokenId> {
    let token = token.checked()?;
    let mut again = Again::new();
    // The ids that the record was to get here. What was told to fail may come about late.
    let mut numbered = Vec::new();
    loop {
        let saved = save_once(server, alone, &mut again, &token, &mut numbered).await?;
        if let Some(id) = saved {
            if !numbered.contains(&id) {
                return Ok(id);
            }
            if let Some(id) = settle(server, &mut again, &token, &mut numbered, id).await? {
                return Ok(id);
            }
        }
        again.pause().await?;
    }
}

/// `None` if something changed meanwhile.
async fn save_once(
    server: &impl RowServer,
    alone: &Mutex<()>,
    again: &mut Again,
    token: &OAuthToken,
    numbered: &mut Vec<TokenId>,
) -> Result<Option<TokenId>> {
    if let Some(plan) = plan(server, token, None).await?
        && plan.is_quick()
    {
        let is_saved = match &plan.update {
            None => {
                server.confirm().await?;
                true
            }
            Some((old, new)) => server.replace(old, new).await?,
        };
        return Ok(is_saved.then_some(plan.id));
    }
    let _alone = again.turn(alone).await?;
    let mark = server.mark().await?;
    // A record that brings its id along may have any that is above the highest.
    let highest = match token.id {
        Some(_) => mark.highest_id,
        None => server.number_after(mark.highest_id),
    };
    let Some(plan) = plan(server, token, Some(highest)).await? else {
        return Ok(None);
    };
    if plan.insert.is_some() && token.id.is_none() {
        numbered.push(plan.id);
    }
    let is_saved = server.apply(&mark, &plan).await?;
    Ok(is_saved.then_some(plan.id))
}

/// Gives a new record other ids, until it has one that is out of everybody's reach, and returns that.
/// `None` if it was written over before: then the save begins again.
///
/// It is done before the save is acknowledged. Whoever found the record meanwhile may have an id
/// that is gone.
async fn settle(
    server: &impl RowServer,
    again: &mut Again,
    token: &OAuthToken,
    numbered: &mut Vec<TokenId>,
    mut id: TokenId,
) -> Result<Option<TokenId>> {
    while !server.is_out_of_reach(id).await? {
        let mark = server.mark().await?;
        // A move that failed may have come about all the same, late.
        let places: Vec<_> = numbered.iter().copied().map(Wanted::Id).collect();
        let rows = server.rows(&places).await?;
        let Some(row) = rows.iter().find(|row| is_known_as(row, token)) else {
            // If nothing is in its place, it was saved, and deleted by somebody.
            let is_overwritten = rows.iter().any(|row| row.id == Some(id));
            return Ok((!is_overwritten).then_some(id));
        };
        if let Some(place) = row.id.filter(|&place| place != id) {
            id = place;
            continue;
        }
        let next = next_id(server.number_after(mark.highest_id))?;
        numbered.push(next);
        // As it is by now: others of us may have added to it.
        let mut moved = row.clone();
        moved.id = Some(next);
        let plan = Plan {
            id: next,
            highest_id: next.get(),
            insert: Some(moved),
            update: None,
            delete: vec![row.clone()],
        };
        if server.apply(&mark, &plan).await? {
            id = next;
        }
        again.pause().await?;
    }
    Ok(Some(id))
}

/// Whether a row is the record that was saved as `token`, whatever was added to it.
fn is_known_as(row: &OAuthToken, token: &OAuthToken) -> bool {
    let known = wanted_by(token);
    let mut names = wanted_by(row).into_iter();
    check_same_login(row, token).is_ok()
        && names.any(|name| !matches!(name, Wanted::Id(_)) && known.contains(&name))
}

/// Saves what Zoho issued: see [`TokenStore::save_fact`](super::TokenStore::save_fact).
pub(crate) async fn save_fact(server: &impl RowServer, fact: &Fact) -> Result<Kept> {
    let mut again = Again::new();
    // Most often the record is still what it was when Zoho was asked: nothing need be read.
    let mut stored = Some(fact.before().clone());
    let mut is_read = false;
    loop {
        match (fact.ruling(stored.as_ref()), stored) {
            (Ruling::Save(new), Some(old)) if old == new => {
                // That it was so when Zoho was asked does not say that it is still there.
                if is_read {
                    server.confirm().await?;
                    return Ok(Kept::Saved);
                }
            }
            (Ruling::Save(new), Some(old)) => {
                if server.replace(&old, &new).await? {
                    return Ok(Kept::Saved);
                }
            }
            (Ruling::Superseded, Some(newer)) => return Ok(Kept::Superseded(Box::new(newer))),
            _ => return Ok(Kept::Gone),
        }
        let rows = server.rows(&[Wanted::Id(fact.id())]).await?;
        stored = rows.into_iter().find(|row| row.id == Some(fact.id()));
        is_read = true;
        again.pause().await?;
    }
}

/// Whether the rows are now what `plan` makes of them: what a server asks that was told to carry it
/// out and whose answer was lost. Begun anew, the plan would find its own work in its way.
#[cfg(any(test, feature = "mysql", feature = "postgres"))]
pub(crate) async fn is_done(server: &impl RowServer, plan: &Plan) -> Result<bool> {
    let written = plan.update.iter().map(|(_, new)| new).chain(&plan.insert);
    let written: Vec<_> = written.collect();
    let ids = plan.delete.iter().chain(written.iter().copied());
    let ids: Vec<_> = ids.filter_map(|row| row.id.map(Wanted::Id)).collect();
    let rows = server.rows(&ids).await?;
    Ok(rows.len() == written.len() && written.iter().all(|row| rows.contains(row)))
}

/// When to give up beginning again.
struct Again {
    /// Later than it began, by the time it waited for its turn.
    began: Instant,
    pause: Duration,
}

impl Again {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            pause: Duration::from_millis(1),
        }
    }

    /// Waits for the turn of a save, which is no time that it spent on races. Those who hold it
    /// before may each take as long as a server that does not answer.
    async fn turn<'a>(&mut self, alone: &'a Mutex<()>) -> Result<MutexGuard<'a, ()>> {
        let came = Instant::now();
        let turn = timeout(PATIENCE, alone.lock()).await.map_err(|_| {
            let message = "the saves before this one are not done in time";
            Error::new(ErrorCode::StoreUnavailable, message)
        })?;
        self.began += came.elapsed();
        Ok(turn)
    }

    async fn pause(&mut self) -> Result<()> {
        if self.began.elapsed() > PATIENCE {
            let message = "other processes keep changing the same records";
            return Err(Error::new(ErrorCode::StoreLocked, message));
        }
        tokio::time::sleep(self.pause.mul_f64(fastrand::f64())).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Reads what matters and decides. `None` when that needs the highest id and it is not known.
async fn plan(
    server: &impl RowServer,
    token: &OAuthToken,
    highest_id: Option<u64>,
) -> Result<Option<Plan>> {
    let mut known = BTreeMap::new();
    let mut bad = Vec::new();
    let mut asked = wanted_by(token);
    let mut wanted = asked.clone();
    loop {
        if !wanted.is_empty() {
            let found = server.look(&wanted).await?;
            known.extend(found.rows.into_iter().map(|row| (row.id, row)));
            bad.extend(found.bad);
        }
        if token.id.is_some() && !known.contains_key(&token.id) {
            readable(&mut bad, |rest| rest.id == token.id)?;
        }
        let step = decide(&known, &asked, token, highest_id).map_err(|error| {
            let may_be = |rest: &OAuthToken| may_be_meant(rest, &known, token, token);
            readable(&mut bad, may_be).err().unwrap_or(error)
        })?;
        match step {
            Step::Read(more) => {
                asked.extend(more.iter().cloned());
                wanted = more;
            }
            Step::Highest => return Ok(None),
            Step::Done(plan) => {
                let saved = plan.update.as_ref().map(|(_, new)| new);
                let saved = saved.or(plan.insert.as_ref()).unwrap_or(token);
                readable(&mut bad, |rest| may_be_meant(rest, &known, token, saved))?;
                return Ok(Some(*plan));
            }
        }
    }
}

/// Refuses to go on where a row that cannot be read is in the way.
fn readable(bad: &mut Vec<Bad>, is_in_the_way: impl Fn(&OAuthToken) -> bool) -> Result<()> {
    let place = bad.iter().position(|bad| is_in_the_way(&bad.rest));
    place.map_or(Ok(()), |place| Err(bad.swap_remove(place).error))
}

/// Whether the row of which this can be read may be the one that the token, or what it came to,
/// speaks of: no other row is. Its client may be what is missing.
fn may_be_meant(rest: &OAuthToken, known: &Known, token: &OAuthToken, saved: &OAuthToken) -> bool {
    let mut rest = rest.clone();
    rest.client_id = rest.client_id.or_else(|| saved.client_id.clone());
    let is_open = |identity: &Identity<'_>| !known.values().any(|row| identity.matches(row));
    let is_by_id = token.id.is_some() && known.contains_key(&token.id);
    let named = identities(token).into_iter().filter(|_| !is_by_id);
    let became = identities(saved).into_iter().take(1).filter(is_open);
    let mut identities = named.take_while(is_open).chain(became);
    identities.any(|identity| identity.matches(&rest))
}

enum Step {
    /// Other rows may matter too.
    Read(Vec<Wanted>),
    /// It depends on the highest id.
    Highest,
    Done(Box<Plan>),
}

type Known = BTreeMap<Option<TokenId>, OAuthToken>;

fn decide(
    known: &Known,
    asked: &[Wanted],
    token: &OAuthToken,
    highest_id: Option<u64>,
) -> Result<Step> {
    // Whether a record without its row was deleted or is new, the highest id tells.
    if highest_id.is_none() && token.id.is_some() && !known.contains_key(&token.id) {
        return Ok(Step::Highest);
    }
    let rows: Vec<_> = known.values().cloned().collect();
    let highest = highest_id.and_then(|id| TokenId::new(id).ok());
    let mut table = TokenTable::from_rows(rows, highest)?;
    let id = table.save(token)?;
    let saved = table.find_by_id(id).cloned().unwrap_or_default();
    let before = known.get(&Some(id));
    if before.is_none() && highest_id.is_none() {
        return Ok(Step::Highest);
    }

    // What a row was recognised by before, under the same user and client, has taken in every
    // other row that it could: only what is new can lead to others.
    let leads_nowhere = |wanted: &Wanted| {
        let same_login = before.is_some_and(|before| {
            before.user_name == saved.user_name && before.client_id == saved.client_id
        });
        same_login && before.is_some_and(|before| wanted_by(before).contains(wanted))
    };
    let mut more = wanted_by(&saved);
    more.retain(|wanted| !asked.contains(wanted) && !leads_nowhere(wanted));
    if !more.is_empty() && before.is_some() {
        return Ok(Step::Read(more));
    }

    let gone = |row: &&OAuthToken| row.id.is_some_and(|id| table.find_by_id(id).is_none());
    Ok(Step::Done(Box::new(Plan {
        id,
        highest_id: table.highest_id().map_or(0, TokenId::get),
        delete: known.values().filter(gone).cloned().collect(),
        update: before
            .filter(|before| **before != saved)
            .map(|before| (before.clone(), saved.clone())),
        insert: before.is_none().then_some(saved),
    })))
}

fn wanted_by(token: &OAuthToken) -> Vec<Wanted> {
    [
        token.id.map(Wanted::Id),
        token.user_name.clone().map(Wanted::UserName),
        token.refresh_token.clone().map(Wanted::RefreshToken),
        token.grant_token.clone().map(Wanted::GrantToken),
        token.access_token.clone().map(Wanted::AccessToken),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(all(test, feature = "sqlite"))]
mod fleet;
#[cfg(test)]
mod tests;
