//! The rows on the server: reading them, and the writes that the rule book asks for.

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use redis::Value;
use tokio::sync::Mutex;

use super::link::Link;
use super::names::{self, Names};
use super::script::{CLEAR, CLEARED, Call, MARK, PAGE, ROWS, SWEEP, WRITE};
use crate::error::{Error, ErrorCode, Result};
use crate::query::{Criterion, TokenQuery};
use crate::store::Inventory;
use crate::store::inventory::warn_once;
use crate::store::rows::{self, Bad, Found, Mark, Plan, RowServer, Wanted};
use crate::token::{OAuthToken, TokenId};

/// So many records are read, or unlinked, in one step, which keeps other clients of the server
/// waiting for a few milliseconds.
pub(super) const STEP: usize = 500;

/// What the clones of a store share.
pub(super) struct Core {
    pub(super) link: Link,
    pub(super) names: Names,
    pub(super) alone: Mutex<()>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.names.prefix())
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// A record as the server sent it: the id that its key has, and its fields.
struct Row {
    id: String,
    fields: Vec<Value>,
    /// Whether the id is among those of the store.
    is_listed: bool,
}

impl Row {
    /// The bytes of a field; `None` for none.
    fn bytes(&self, field: usize) -> Option<&[u8]> {
        match self.fields.get(field) {
            Some(Value::BulkString(bytes)) if !bytes.is_empty() => Some(bytes),
            _ => None,
        }
    }

    /// The key of a record may be gone: evicted by the server, or deleted by hand.
    fn is_there(&self) -> bool {
        (0..10).any(|field| self.bytes(field).is_some())
    }
}

/// A part of all records, and the generation that it was read from.
struct Page {
    generation: String,
    rows: Vec<Row>,
}

impl Core {
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Value> {
        self.link.call(self.names.base(), call).await
    }

    /// The server answered what no script of ours says.
    pub(super) fn nonsense(&self) -> Error {
        let message = format!("{} answered what was not asked", self.link.place());
        Error::new(ErrorCode::StoreUnavailable, message)
    }

    /// Refuses keys that are not of a store of ours.
    pub(super) fn check_format(&self, format: &[u8]) -> Result<()> {
        if format == b"1" {
            return Ok(());
        }
        let (place, prefix) = (self.link.place(), self.names.prefix());
        let message = format!("the keys with the prefix `{prefix}` of {place} are not ours");
        Err(Error::new(ErrorCode::StoreForeign, message))
    }

    pub(super) fn texts(&self, value: Value) -> Result<Vec<Option<String>>> {
        let Value::Array(values) = value else {
            return Err(self.nonsense());
        };
        let texts = values.into_iter().map(|value| match value {
            Value::BulkString(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| self.nonsense()),
            Value::Nil => Ok(None),
            _ => Err(self.nonsense()),
        });
        texts.collect()
    }

    fn rows_of(&self, value: Value) -> Result<Vec<Row>> {
        let Value::Array(values) = value else {
            return Err(self.nonsense());
        };
        let row = |value| {
            let Value::Array(mut parts) = value else {
                return None;
            };
            let listed = parts.pop()?;
            let (Value::Array(fields), Value::BulkString(id)) = (parts.pop()?, parts.pop()?) else {
                return None;
            };
            let id = String::from_utf8(id).ok()?;
            let is_listed = listed == Value::Int(1);
            Some(Row {
                id,
                fields,
                is_listed,
            })
        };
        let rows = values.into_iter().map(row).collect::<Option<Vec<_>>>();
        rows.ok_or_else(|| self.nonsense())
    }

    fn damaged(&self, row: &Row, what: &str) -> Error {
        let prefix = self.names.prefix();
        let place = self.link.place();
        let id: Option<TokenId> = row.id.parse().ok();
        let id = id.map_or_else(
            || format!("whose id {}", rows::no_id(&row.id)),
            |id| id.to_string(),
        );
        let message = format!("{place}, prefix `{prefix}`, record {id}: {what}");
        Error::new(ErrorCode::StoreDamaged, message)
    }

    /// The error for a record that was saved, and whose key is gone; `None` for no such record.
    fn lost(&self, row: &Row) -> Option<Error> {
        let is_lost = row.is_listed && !row.is_there();
        is_lost.then(|| self.damaged(row, "its key is gone, evicted or deleted by hand"))
    }

    /// Reads the record of a row; `None` if it is not there.
    fn decode(&self, row: &Row) -> Result<Option<OAuthToken>> {
        if !row.is_there() {
            return Ok(None);
        }
        let damaged = |what: String| self.damaged(row, &what);
        let mut texts = [const { None }; 10];
        for (field, text) in texts.iter_mut().enumerate() {
            let bytes = row.bytes(field).unwrap_or_default();
            let name = OAuthToken::FIELDS[field];
            *text = Some(
                std::str::from_utf8(bytes)
                    .map_err(|_| damaged(format!("the field `{name}` is not UTF-8")))?,
            );
        }
        let expiry = texts[7].filter(|text| !text.is_empty());
        if expiry.is_some_and(|text| rows::time(text).is_none()) {
            return Err(damaged("the field `expiry_time` cannot be read".to_owned()));
        }
        let record =
            OAuthToken::from_fields(&texts).map_err(|error| damaged(error.message().to_owned()))?;
        if texts[0] != Some(row.id.as_str()) || record.id.is_none() {
            return Err(damaged(
                "the field `id` is another than in its key".to_owned(),
            ));
        }
        Ok(Some(record))
    }

    /// The records that are there, and those that cannot be read.
    fn decode_all(&self, rows: &[Row]) -> Found {
        let mut found = Found::default();
        for row in rows {
            match self.decode(row) {
                Ok(record) => found.rows.extend(record),
                Err(error) => {
                    let text = |field| std::str::from_utf8(row.bytes(field)?).ok();
                    let mut fields = std::array::from_fn(text);
                    fields[0] = Some(row.id.as_str());
                    found.bad.push(Bad::new(fields, error));
                }
            }
        }
        found
    }

    pub(super) async fn find(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let wanted = match query.criterion().clone() {
            Criterion::UserName(name) => Wanted::UserName(name),
            Criterion::AccessToken(token) => Wanted::AccessToken(token),
            Criterion::GrantToken(token) => Wanted::GrantToken(token),
            Criterion::RefreshToken(token) => Wanted::RefreshToken(token),
        };
        let rows = self.fetch(&[wanted]).await?;
        let Found { rows: found, bad } = self.decode_all(&rows);
        let found = found.into_iter().filter(|record| query.matches(record));
        if let Some(found) = found.min_by_key(|record| record.id) {
            return Ok(Some(found));
        }
        // One of these may be the record that is asked for.
        let may_be = |bad: &Bad| {
            let client = bad.rest.client_id.as_ref();
            client.is_none() || query.client().is_none_or(|asked| Some(asked) == client)
        };
        let bad = bad.into_iter().filter(may_be).map(|bad| bad.error);
        let mut lost = bad.chain(rows.iter().filter_map(|row| self.lost(row)));
        lost.next().map_or(Ok(None), Err)
    }

    pub(super) async fn by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let rows = self.fetch(&[Wanted::Id(id)]).await?;
        match self.decode_all(&rows).all()?.pop() {
            None => rows
                .iter()
                .find_map(|row| self.lost(row))
                .map_or(Ok(None), Err),
            found => Ok(found),
        }
    }

    async fn fetch(&self, wanted: &[Wanted]) -> Result<Vec<Row>> {
        let call = Call::read(&ROWS).args(wanted.iter().map(names::wanted));
        self.rows_of(self.call(&call).await?)
    }

    /// Counts the records, and names those that cannot be read.
    pub(super) async fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory::of(0);
        let mut after = String::new();
        loop {
            // The server compares the number of ids with the number of saves and deletes.
            let page = self.page("", &after, STEP).await?;
            inventory.records += page.rows.len();
            let problems = page.rows.iter().filter_map(|row| self.problem(row));
            let texts = problems.map(|error| error.message().to_owned());
            inventory.unreadable.extend(texts);
            match page.rows.last() {
                Some(last) if page.rows.len() == STEP => after.clone_from(&last.id),
                _ => return Ok(inventory),
            }
        }
    }

    /// Why a row of a page cannot be read; `None` if it can.
    fn problem(&self, row: &Row) -> Option<Error> {
        self.decode(row).err().or_else(|| self.lost(row))
    }

    /// Reads the records of a page. One that cannot be read is left out, and warned of once.
    fn readable(&self, rows: &[Row]) -> Vec<OAuthToken> {
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            match self.decode(row) {
                Ok(Some(record)) => records.push(record),
                _ => {
                    if let Some(error) = self.problem(row) {
                        warn_once(&error);
                    }
                }
            }
        }
        records
    }

    async fn page(&self, generation: &str, after: &str, limit: usize) -> Result<Page> {
        let call = Call::read(&PAGE)
            .arg(generation)
            .arg(after)
            .arg(limit.min(STEP).to_string());
        let Value::Array(mut parts) = self.call(&call).await? else {
            return Err(self.nonsense());
        };
        let (Some(rows), Some(Value::BulkString(generation))) = (parts.pop(), parts.pop()) else {
            return Err(self.nonsense());
        };
        let generation = String::from_utf8(generation).map_err(|_| self.nonsense())?;
        let rows = self.rows_of(rows)?;
        Ok(Page { generation, rows })
    }

    /// Up to `limit` records with ids above `after`. Begins again when all records are deleted
    /// meanwhile, so that they are all of one generation.
    pub(super) async fn records(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        'again: loop {
            let mut after = after.map(|id| id.to_string()).unwrap_or_default();
            let mut generation = None;
            let mut records: Vec<OAuthToken> = Vec::new();
            while records.len() < limit {
                let wanted = (limit - records.len()).min(STEP);
                let page = self.page("", &after, wanted).await?;
                if *generation.get_or_insert_with(|| page.generation.clone()) != page.generation {
                    continue 'again;
                }
                records.extend(self.readable(&page.rows));
                match page.rows.last() {
                    Some(last) if page.rows.len() == wanted => after.clone_from(&last.id),
                    _ => break,
                }
            }
            return Ok(records);
        }
    }

    /// The head of a write. `name` is for one that moves the mark, and makes it known when it is sent
    /// again.
    fn write<'a>(
        &'a self,
        name: &'a str,
        mark: Option<&Mark>,
        highest_id: Option<u64>,
    ) -> Call<'a> {
        let text = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        Call::write(&WRITE)
            .arg(name)
            .arg(text(mark.map(|mark| mark.highest_id)))
            .arg(text(mark.map(|mark| mark.writes)))
            .arg(text(highest_id))
            .arg(self.names.channel())
            .arg(self.link.remembered().as_millis().to_string())
    }

    async fn is_done(&self, call: &Call<'_>) -> Result<bool> {
        match self.call(call).await? {
            Value::Int(done) => Ok(done == 1),
            _ => Err(self.nonsense()),
        }
    }

    pub(super) async fn delete(&self, id: TokenId) -> Result<bool> {
        let wanted = Call::read(&ROWS).arg(names::wanted(&Wanted::Id(id)));
        loop {
            // As it is there, and be it damaged.
            let rows = self.rows_of(self.call(&wanted).await?)?;
            let Some(row) = rows.first().filter(|row| row.is_listed) else {
                self.confirm().await?;
                return Ok(false);
            };
            let name = new_name()?;
            let call = self
                .write(&name, None, None)
                .arg(row.id.as_str())
                .bytes((0..10).map(|field| row.bytes(field).unwrap_or_default()))
                .args([""; 10])
                .args(names::indexes(|field| row.bytes(field)))
                .args([""; 4]);
            // If it changes in between: look again. Nobody changes one record all the time.
            if self.is_done(&call).await? {
                return Ok(true);
            }
        }
    }

    /// Deletes all records, and unlinks what held them before it answers.
    pub(super) async fn clear(&self) -> Result<usize> {
        // A clear that comes late must not take along what was saved after an earlier one.
        let generation = self.page("", "", 0).await?.generation;
        let name = new_name()?;
        let call = Call::write(&CLEAR)
            .arg(name.as_str())
            .arg(generation.as_str())
            .arg(self.names.channel());
        let Value::BulkString(count) = self.call(&call).await? else {
            return Err(self.nonsense());
        };
        let count = std::str::from_utf8(&count)
            .ok()
            .and_then(|text| text.parse().ok());
        let count = count.ok_or_else(|| self.nonsense())?;
        if let Err(error) = self.sweep().await {
            // Nobody reads them any more; whoever opens the store next goes on.
            tracing::warn!(%error, "deleted records are not all unlinked yet");
        }
        Ok(count)
    }

    /// Unlinks what is left of generations that were cleared, a little at a time. Several may do so
    /// at once.
    pub(super) async fn sweep(&self) -> Result<()> {
        let generations = self.call(&Call::read(&CLEARED)).await?;
        for generation in self.texts(generations)?.into_iter().flatten() {
            loop {
                let page = self.page(&generation, "", STEP).await?;
                let ids: Vec<_> = page.rows.iter().map(|row| row.id.as_str()).collect();
                let indexes = page.rows.iter().flat_map(|row| {
                    let names = names::indexes(|field| row.bytes(field));
                    names.into_iter().filter(|name| !name.is_empty())
                });
                let call = Call::write(&SWEEP)
                    .arg(generation.as_str())
                    .arg(ids.len().to_string())
                    .args(ids.iter().copied())
                    .args(indexes.map(Cow::Owned));
                let swept = self.call(&call).await?;
                if page.rows.len() < STEP || swept != Value::Int(1) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Adds a record to a write, as it is and as it is to be; `None` for none.
fn with_change<'a>(
    call: Call<'a>,
    old: Option<&'a OAuthToken>,
    new: Option<&'a OAuthToken>,
) -> Result<Call<'a>> {
    let id = old.or(new).and_then(|record| record.id);
    let id = id.ok_or_else(|| Error::new(ErrorCode::Internal, "a row has no id"))?;
    let (old, old_indexes) = names::stored(old);
    let (new, new_indexes) = names::stored(new);
    Ok(call
        .arg(id.to_string())
        .args(old)
        .args(new)
        .args(old_indexes)
        .args(new_indexes))
}

/// A name that no other write has.
fn new_name() -> Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorCode::Internal, "no random numbers").caused_by(error))?;
    Ok(names::hex(&bytes))
}

#[async_trait]
impl RowServer for Core {
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        self.look(wanted).await?.all()
    }

    async fn look(&self, wanted: &[Wanted]) -> Result<Found> {
        let rows = self.fetch(wanted).await?;
        let mut found = self.decode_all(&rows);
        // A record whose key is gone was not deleted. Nothing but its id is left.
        for row in &rows {
            if let Some(error) = self.lost(row) {
                let mut fields = [None; 10];
                fields[0] = Some(row.id.as_str());
                found.bad.push(Bad::new(fields, error));
            }
        }
        Ok(found)
    }

    async fn mark(&self) -> Result<Mark> {
        let values = self.texts(self.call(&Call::read(&MARK)).await?)?;
        let numbers: Vec<u64> = values
            .into_iter()
            .map(|text| text.as_deref().unwrap_or("0").parse())
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| {
                let (place, prefix) = (self.link.place(), self.names.prefix());
                let message = format!("{place}, prefix `{prefix}`: the mark is no number");
                Error::new(ErrorCode::StoreDamaged, message)
            })?;
        match numbers[..] {
            [highest_id, writes] => Ok(Mark { highest_id, writes }),
            _ => Err(self.nonsense()),
        }
    }

    /// Sent again after a lost answer it may answer `false` although it was done. Whoever reads the
    /// row then finds it as it was to be.
    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        let call = with_change(self.write("", None, None), Some(old), Some(new))?;
        self.is_done(&call).await
    }

    async fn apply(&self, mark: &Mark, plan: &Plan) -> Result<bool> {
        let deletes = plan.delete.iter().map(|row| (Some(row), None));
        let updates = plan.update.iter().map(|(old, new)| (Some(old), Some(new)));
        let inserts = plan.insert.iter().map(|row| (None, Some(row)));
        let name = new_name()?;
        let mut call = self.write(&name, Some(mark), Some(plan.highest_id));
        for (old, new) in deletes.chain(updates).chain(inserts) {
            call = with_change(call, old, new)?;
        }
        self.is_done(&call).await
    }

    async fn confirm(&self) -> Result<()> {
        if self.link.waits_for_replicas() {
            // What counts as a write is waited for, and this writes nothing of its own.
            self.call(&Call::write(&MARK)).await?;
        }
        Ok(())
    }
}
