//! A store for a fleet without a server: rows and lease cells in a SQLite file that processes share,
//! reached by the code that the stores on servers use.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use tokio::sync::Mutex;

use super::{Mark, Plan, RowServer, Wanted, save, save_fact, wanted_by};
use crate::clock::Timestamp;
use crate::conformance::Place;
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::store::{
    Cell, Coordination, CoordinationKey, Fact, Guarantee, Kept, LeaseCells, Leases, Permit,
    TokenStore,
};
use crate::token::{OAuthToken, TokenId};

/// Short, since some rules wait for its end.
const LIFE: Duration = Duration::from_secs(3);

/// By how many milliseconds the clock of this store is ahead.
const AHEAD: i64 = 3 * 3_600_000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, fields TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, text TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS mark (one INTEGER PRIMARY KEY, highest INTEGER, writes INTEGER);
    INSERT OR IGNORE INTO mark VALUES (1, 0, 0);";

#[derive(Clone, Debug)]
struct Server(Arc<StdMutex<Connection>>);

#[derive(Debug)]
struct FleetStore {
    server: Server,
    leases: Leases,
    alone: Mutex<()>,
}

impl FleetStore {
    fn open(place: &Place) -> Result<Self> {
        let db = Connection::open(place.path().join("server.db")).map_err(failed)?;
        db.busy_timeout(Duration::from_mins(1)).map_err(failed)?;
        db.pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
        db.execute_batch(SCHEMA).map_err(failed)?;
        let server = Server(Arc::new(StdMutex::new(db)));
        Ok(Self {
            leases: Leases::new(server.clone()).with_life(LIFE),
            server,
            alone: Mutex::default(),
        })
    }

    fn rows(&self, wanted: impl Fn(&OAuthToken) -> bool) -> Result<Vec<OAuthToken>> {
        let mut rows = self.server.transact(rows)?;
        rows.retain(wanted);
        Ok(rows)
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorCode::StoreUnavailable, "the fake server failed").caused_by(error)
}

impl Server {
    fn transact<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(failed)?;
        let answer = work(&transaction)?;
        transaction.commit().map_err(failed)?;
        Ok(answer)
    }
}

fn read(fields: &str) -> Result<OAuthToken> {
    let fields: [Option<String>; 10] = serde_json::from_str(fields).map_err(failed)?;
    OAuthToken::from_fields(&fields)
}

fn rows(db: &Transaction<'_>) -> Result<Vec<OAuthToken>> {
    let mut statement = db
        .prepare_cached("SELECT fields FROM rows ORDER BY id")
        .map_err(failed)?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0));
    let texts = texts.map_err(failed)?.collect::<Result<Vec<_>, _>>();
    texts
        .map_err(failed)?
        .iter()
        .map(|text| read(text))
        .collect()
}

fn row(db: &Transaction<'_>, id: Option<TokenId>) -> Result<Option<OAuthToken>> {
    let id = id.map_or(0, TokenId::get).cast_signed();
    let text = db.query_row("SELECT fields FROM rows WHERE id = ?", [id], |row| {
        row.get::<_, String>(0)
    });
    let text = text.optional().map_err(failed)?;
    text.map(|text| read(&text)).transpose()
}

fn put(db: &Transaction<'_>, row: &OAuthToken) -> Result<()> {
    let fields = serde_json::to_string(&row.expose_fields()).map_err(failed)?;
    let id = row.id.map_or(0, TokenId::get).cast_signed();
    db.execute("REPLACE INTO rows VALUES (?, ?)", (id, fields))
        .map(drop)
        .map_err(failed)
}

fn remove(db: &Transaction<'_>, row: &OAuthToken) -> Result<()> {
    let Some(id) = row.id else { return Ok(()) };
    let key = CoordinationKey::record(id);
    db.execute("DELETE FROM rows WHERE id = ?", [id.get().cast_signed()])
        .and_then(|_| db.execute("DELETE FROM cells WHERE key = ?", [key.as_str()]))
        .map(drop)
        .map_err(failed)
}

fn mark(db: &Transaction<'_>) -> Result<Mark> {
    db.query_row("SELECT highest, writes FROM mark", [], |row| {
        Ok(Mark {
            highest_id: row.get::<_, i64>(0)?.cast_unsigned(),
            writes: row.get::<_, i64>(1)?.cast_unsigned(),
        })
    })
    .map_err(failed)
}

fn move_mark(db: &Transaction<'_>, highest_id: u64) -> Result<()> {
    let sql = "UPDATE mark SET highest = max(highest, ?), writes = writes + 1";
    db.execute(sql, [highest_id.cast_signed()])
        .map(drop)
        .map_err(failed)
}

#[async_trait]
impl RowServer for FleetStore {
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        self.rows(|row| wanted_by(row).iter().any(|has| wanted.contains(has)))
    }

    async fn mark(&self) -> Result<Mark> {
        self.server.transact(mark)
    }

    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        self.server.transact(|db| {
            let is_same = row(db, old.id)?.as_ref() == Some(old);
            if is_same {
                put(db, new)?;
            }
            Ok(is_same)
        })
    }

    async fn apply(&self, known: &Mark, plan: &Plan) -> Result<bool> {
        self.server.transact(|db| {
            let touched = plan.delete.iter().chain(plan.update.iter().map(|it| &it.0));
            for old in touched {
                if row(db, old.id)?.as_ref() != Some(old) {
                    return Ok(false);
                }
            }
            if mark(db)? != *known {
                return Ok(false);
            }
            plan.delete.iter().try_for_each(|old| remove(db, old))?;
            let written = plan.update.iter().map(|it| &it.1).chain(&plan.insert);
            written.into_iter().try_for_each(|new| put(db, new))?;
            move_mark(db, plan.highest_id)?;
            Ok(true)
        })
    }
}

#[async_trait]
impl LeaseCells for Server {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        self.transact(|db| {
            Ok(Cell {
                text: cell(db, key)?,
                now: now(),
            })
        })
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        self.transact(|db| {
            let is_late = not_after.is_some_and(|end| now() > end);
            if cell(db, key)?.as_deref() != before || is_late {
                return Ok(false);
            }
            let key = key.as_str();
            let written = match after {
                Some(text) => db.execute("REPLACE INTO cells VALUES (?, ?)", (key, text)),
                None => db.execute("DELETE FROM cells WHERE key = ?", [key]),
            };
            written.map(|_| true).map_err(failed)
        })
    }
}

fn cell(db: &Transaction<'_>, key: &CoordinationKey) -> Result<Option<String>> {
    let sql = "SELECT text FROM cells WHERE key = ?";
    let text = db.query_row(sql, [key.as_str()], |row| row.get(0));
    text.optional().map_err(failed)
}

/// The clock of the server.
fn now() -> Timestamp {
    Timestamp::now().shifted(AHEAD)
}

#[async_trait]
impl TokenStore for FleetStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        Ok(self.rows(|row| query.matches(row))?.into_iter().next())
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        save(self, &self.alone, token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.server.transact(|db| {
            let Some(row) = row(db, Some(id))? else {
                return Ok(false);
            };
            remove(db, &row)?;
            move_mark(db, 0)?;
            Ok(true)
        })
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.rows(|_| true)
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.server.transact(|db| {
            let rows = rows(db)?;
            rows.iter().try_for_each(|row| remove(db, row))?;
            move_mark(db, 0)?;
            Ok(rows.len())
        })
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.server.transact(|db| row(db, Some(id)))
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        save_fact(self, fact).await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(self)
    }
}

#[async_trait]
impl Coordination for FleetStore {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Fleet
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        self.leases.try_acquire(key).await
    }
}

async fn open(place: Place) -> Result<FleetStore> {
    FleetStore::open(&place)
}

crate::token_store_conformance!(durable, open, kills = 50);
crate::token_store_conformance!(coordinated, open, lease = LIFE);

#[tokio::test]
async fn the_cells_are_compared_and_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::existing(folder.path().to_owned(), "cells".into());
    let store = FleetStore::open(&place).unwrap();
    let cells = crate::conformance::coordinated::cells_are_compared_and_swapped(&store.server);
    cells.await.unwrap();
}
