//! The operations of the store. Each runs in a task of its own, so that nobody who loses patience
//! leaves a connection in the middle of an answer, or a record half saved.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use mysql_async::Value;
use tokio::sync::Mutex;

use super::fault::Fault;
use super::nodes::{Nodes, Tries};
use super::row::{decode, rest};
use super::schema::{self, Fields, Schema};
use super::session::Session;
use super::sql::{LEASES, MARKS, text};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::store::Inventory;
use crate::store::inventory::warn_once;
use crate::store::rows::{Bad, Found, Wanted};
use crate::token::{OAuthToken, TokenId};

/// What the clones of a store share.
pub(super) struct Core {
    pub(super) nodes: Nodes,
    schema: ArcSwap<Schema>,
    /// The number below the one that ids begin with: left out as such, without anybody having had it.
    pub(super) reserved: u64,
    /// For all saves of this process that insert, delete or join rows.
    pub(super) alone: Mutex<()>,
    /// Whether a write was watched and left what was written. Triggers that the account may not see
    /// spoil the first.
    pub(super) is_proven: AtomicBool,
    /// When old leases were last looked for.
    pub(super) swept: StdMutex<Option<Instant>>,
}

/// What opening a store does about what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Makes it; no id up to `reserved` is given from then on. The column `api_domain` is added to
    /// the table of an older official SDK if `is_widened`.
    Made { reserved: u64, is_widened: bool },
    /// Leaves it: the first write that needs something beside the table makes it.
    Left,
}

/// What became of a transaction.
pub(super) enum Outcome<T> {
    Done(T),
    /// The answer to the commit was lost. This is what it would have been.
    Unknown(T),
}

/// Runs work to its end, whether or not anybody waits for it.
pub(super) async fn in_task<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => {
            let message = "an operation of the MySQL store panicked";
            Err(Error::new(ErrorCode::Internal, message))
        }
        Err(_) => {
            let message = "the runtime is shutting down";
            Err(Error::new(ErrorCode::StoreUnavailable, message))
        }
    }
}

impl Core {
    /// `None` if there is no table and none is to be made.
    pub(super) async fn open(nodes: Nodes, table: &str, missing: Missing) -> Result<Option<Self>> {
        let mut tries = Tries::new(&nodes);
        let schema = loop {
            let mut session = tries.session().await?;
            let outcome = prepare(&mut session, table, missing).await;
            if let Some(schema) = tries.settle(session, outcome).await? {
                break schema;
            }
        };
        let Some(schema) = schema else {
            nodes.disconnect().await;
            return Ok(None);
        };
        let names = |columns: Vec<usize>| {
            let names: Vec<_> = columns
                .into_iter()
                .map(|index| schema.columns[index].name)
                .collect();
            names.join(", ")
        };
        let (narrow, unindexed) = (names(schema.narrow()), schema.unindexed().join(", "));
        if !(narrow.is_empty() && unindexed.is_empty()) {
            tracing::warn!(
                table = schema.table(),
                narrow,
                unindexed,
                "a token table refuses long values or is read from end to end for each look-up: \
                call `MySqlStore::widen` once"
            );
        }
        let reserved = match missing {
            Missing::Made { reserved, .. } => reserved,
            Missing::Left => 0,
        };
        Ok(Some(Self {
            schema: ArcSwap::new(schema),
            nodes,
            reserved,
            alone: Mutex::new(()),
            is_proven: AtomicBool::new(false),
            swept: StdMutex::new(None),
        }))
    }

    pub(super) fn schema(&self) -> Arc<Schema> {
        self.schema.load_full()
    }

    pub(super) fn tries(&self) -> Tries<'_> {
        Tries::new(&self.nodes)
    }

    /// The table as it is, looked at again if a statement showed that it changed.
    pub(super) async fn current(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
    ) -> Result<Arc<Schema>, Fault> {
        if tries.is_stale {
            let table = self.schema().table().to_owned();
            schema::prepare_side_tables(session).await?;
            return self.look_again(session, &table).await;
        }
        Ok(self.schema())
    }

    pub(super) async fn look_again(
        &self,
        session: &mut Session,
        table: &str,
    ) -> Result<Arc<Schema>, Fault> {
        let Some(schema) = schema::inspect(session, table).await? else {
            let message = format!("table `{table}` is gone");
            return Err(Fault::No(Error::new(ErrorCode::StoreForeign, message)));
        };
        self.schema.store(schema.clone());
        Ok(schema)
    }

    pub(super) async fn find(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let mut tries = self.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.find_once(&mut session, &tries, query).await;
            if let Some(found) = tries.settle(session, outcome).await? {
                return Ok(found);
            }
        }
    }

    async fn find_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        query: &TokenQuery,
    ) -> Result<Option<OAuthToken>, Fault> {
        let schema = self.current(session, tries).await?;
        let (sql, values) = schema.statements.find(query);
        let rows = session.rows(&sql, values.clone()).await?;
        let Some(first) = rows.into_iter().next() else {
            return Ok(None);
        };
        let damage = match decode(first, schema.table()) {
            Ok(found) => return Ok(Some(found)),
            Err(error) => Fault::No(error),
        };
        // One of the others may be readable.
        let sql = sql.trim_end_matches(" LIMIT 1");
        let rows = session.rows(sql, values).await?.into_iter();
        let mut rows = rows.filter_map(|row| decode(row, schema.table()).ok());
        rows.next().map_or(Err(damage), |row| Ok(Some(row)))
    }

    pub(super) async fn by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let rows = self.rows(&[Wanted::Id(id)]).await?;
        Ok(rows.into_iter().next())
    }

    /// The rows that are wanted, each once.
    pub(super) async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        self.look(wanted).await?.all()
    }

    /// As [`rows`](Self::rows), with those that cannot be read.
    pub(super) async fn look(&self, wanted: &[Wanted]) -> Result<Found> {
        let mut tries = self.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.rows_once(&mut session, &tries, wanted).await;
            if let Some(found) = tries.settle(session, outcome).await? {
                return Ok(found);
            }
        }
    }

    async fn rows_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        wanted: &[Wanted],
    ) -> Result<Found, Fault> {
        let schema = self.current(session, tries).await?;
        let (sql, values) = schema.statements.rows(wanted);
        let found = session.rows(&sql, values).await?;
        let mut rows = Vec::with_capacity(found.len());
        let mut bad = Vec::new();
        for row in found {
            match decode(row.clone(), schema.table()) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    let texts = rest(&row);
                    bad.push(Bad::new(texts.each_ref().map(Option::as_deref), error));
                }
            }
        }
        rows.sort_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        Ok(Found { rows, bad })
    }

    /// All rows in the order of their ids, read at one moment.
    pub(super) async fn all(&self) -> Result<Vec<OAuthToken>> {
        let mut tries = self.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.all_once(&mut session, &tries).await;
            if let Some(rows) = tries.settle(session, outcome).await? {
                return Ok(rows);
            }
        }
    }

    async fn all_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
    ) -> Result<Vec<OAuthToken>, Fault> {
        let schema = self.current(session, tries).await?;
        let mut rows = Vec::new();
        let take = |row| {
            match decode(row, schema.table()) {
                Ok(row) => rows.push(row),
                Err(error) => warn_once(&error),
            }
            Ok(())
        };
        session.each_row(&schema.statements.all, take).await?;
        rows.sort_unstable_by_key(|row| row.id);
        Ok(rows)
    }

    /// How many rows there are, and which of them cannot be read.
    pub(super) async fn inventory(&self) -> Result<Inventory> {
        let mut tries = self.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.inventory_once(&mut session, &tries).await;
            if let Some(inventory) = tries.settle(session, outcome).await? {
                return Ok(inventory);
            }
        }
    }

    async fn inventory_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
    ) -> Result<Inventory, Fault> {
        let schema = self.current(session, tries).await?;
        let counted = session.rows_of_all(&schema.statements.count, Vec::new());
        let counted = counted.await?.into_iter().next().map(Fields::of);
        let counted = counted.and_then(|fields| fields.number(0)).unwrap_or(0);
        let mut inventory = Inventory::of(usize::try_from(counted).unwrap_or(usize::MAX));
        let take = |row| {
            if let Err(error) = decode(row, schema.table()) {
                inventory.unreadable.push(error.message().to_owned());
            }
            Ok(())
        };
        session.each_row(&schema.statements.all, take).await?;
        Ok(inventory)
    }

    pub(super) async fn delete(&self, id: TokenId) -> Result<bool> {
        let mut tries = self.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.delete_once(&mut session, &tries, id).await;
            match tries.settle(session, outcome).await? {
                Some(Outcome::Done(deleted)) => return Ok(deleted),
                // If it is gone, we did it: it was there in our transaction.
                Some(Outcome::Unknown(_)) if self.by_id(id).await?.is_none() => return Ok(true),
                Some(Outcome::Unknown(_)) => tries.wait_unanswered().await?,
                None => {}
            }
        }
    }

    async fn delete_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        id: TokenId,
    ) -> Result<Outcome<bool>, Fault> {
        let schema = self.current(session, tries).await?;
        let statements = [&*raising(), &schema.statements.delete, &forgetting()];
        session.begin(&statements).await?;
        let work = async {
            raise_mark(session, &schema, id.get()).await?;
            let number = text(&id.to_string());
            let values = vec![number.clone(), number];
            let deleted = session.execute(&schema.statements.delete, values).await?;
            if deleted > 0 {
                forget_lease(session, schema.table(), id).await?;
            }
            Ok(deleted > 0)
        };
        let deleted: Result<bool, Fault> = work.await;
        match deleted {
            Ok(true) => commit(session, true).await,
            // Not even the mark has moved: the id may be one that was never given.
            Ok(false) => {
                session.roll_back().await;
                Ok(Outcome::Done(false))
            }
            Err(fault) => {
                session.roll_back().await;
                Err(fault.uncommitted())
            }
        }
    }

    pub(super) async fn clear(&self) -> Result<usize> {
        let mut tries = self.tries();
        let mut most = 0;
        loop {
            let mut session = tries.session().await?;
            let outcome = self.clear_once(&mut session, &tries).await;
            match tries.settle(session, outcome).await? {
                Some(Outcome::Done(deleted)) => {
                    if let Err(error) = self.forget_gone().await {
                        // Nobody reads it: an id is not given twice.
                        tracing::debug!(%error, "leases of deleted records are left for the next time");
                    }
                    return Ok(most.max(deleted));
                }
                // Once more, which deletes nothing if that one did it.
                Some(Outcome::Unknown(deleted)) => {
                    most = most.max(deleted);
                    tries.wait_unanswered().await?;
                }
                None => {}
            }
        }
    }

    async fn clear_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
    ) -> Result<Outcome<usize>, Fault> {
        let schema = self.current(session, tries).await?;
        session.begin(&[&raising()]).await?;
        let work = async {
            // Nobody of us inserts from now on.
            raise_mark(session, &schema, 0).await?;
            let highest = schema::highest(session, &schema).await?;
            raise_mark(session, &schema, highest).await?;
            let deleted = session.execute_on_all(&schema.statements.clear).await?;
            // The commit of so much, or taking it back.
            session.take_long();
            Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
        };
        let deleted: Result<usize, Fault> = work.await;
        match deleted {
            Ok(deleted) => commit(session, deleted).await,
            Err(fault) => {
                session.roll_back().await;
                Err(fault.uncommitted())
            }
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore")
            .field("servers", &self.nodes.servers())
            .field("table", &self.schema().table())
            .finish_non_exhaustive()
    }
}

async fn prepare(
    session: &mut Session,
    table: &str,
    missing: Missing,
) -> Result<Option<Arc<Schema>>, Fault> {
    let rows = session.rows("SELECT DATABASE()", Vec::new()).await?;
    let database = rows.into_iter().next();
    if database.is_none_or(|row| row.as_ref(0).is_none_or(|name| *name == Value::NULL)) {
        let message = "the connections of the pool have no database selected";
        return Err(Fault::No(Error::invalid_input(message)));
    }
    let Missing::Made {
        reserved,
        is_widened,
    } = missing
    else {
        return schema::inspect(session, table).await;
    };
    if is_widened {
        schema::add_api_domain(session, table).await?;
    }
    let schema = schema::find_or_create(session, table).await?;
    schema::prepare_side_tables(session).await?;
    schema::prepare_mark(session, &schema, reserved).await?;
    Ok(Some(schema))
}

/// Ends a transaction; `done` is what it comes to.
pub(super) async fn commit<T>(session: &mut Session, done: T) -> Result<Outcome<T>, Fault> {
    match session.commit().await {
        Ok(()) => Ok(Outcome::Done(done)),
        Err(Fault::Lost(_)) => Ok(Outcome::Unknown(done)),
        Err(fault) => {
            session.roll_back().await;
            Err(fault)
        }
    }
}

pub(super) fn raising() -> String {
    format!(
        "UPDATE {MARKS} SET highest_id = GREATEST(highest_id, ?), writes = writes + 1 \
        WHERE token_table = ?"
    )
}

pub(super) fn forgetting() -> String {
    format!("DELETE FROM {LEASES} WHERE token_table = ? AND lease_key = ?")
}

/// Moves the mark, past `id` if it was not there yet.
pub(super) async fn raise_mark(
    session: &mut Session,
    schema: &Schema,
    id: u64,
) -> Result<(), Fault> {
    let sql = raising();
    let values = vec![Value::UInt(id), text(schema.table())];
    if session.execute(&sql, values.clone()).await? == 0 {
        // Somebody emptied the side table.
        schema::prepare_mark(session, schema, 0).await?;
        session.execute(&sql, values).await?;
    }
    Ok(())
}

/// Removes what is remembered of a record that goes.
pub(super) async fn forget_lease(
    session: &mut Session,
    table: &str,
    id: TokenId,
) -> Result<(), Fault> {
    let values = vec![text(table), text(&format!("id:{id}"))];
    session.execute(&forgetting(), values).await.map(drop)
}
