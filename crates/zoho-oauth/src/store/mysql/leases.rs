//! Who refreshes what, among all machines: leases in a table beside the tokens.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mysql_async::Value;

use super::core::{Core, in_task};
use super::fault::Fault;
use super::nodes::Tries;
use super::schema::Fields;
use super::session::Session;
use super::sql::{CLOCK, FEW_IDS, LEASES, MANY_IDS, text};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::store::{Cell, Coordination, CoordinationKey, Guarantee, LeaseCells, Leases, Permit};

/// How often a store looks for leases of credentials that are of no use any more.
const SWEEP: Duration = Duration::from_mins(10);
/// How long such a lease is of use, in milliseconds.
const LIFE_OF_A_START: u64 = 3_600_000;
/// How many are deleted at a time.
const SWEPT_AT_ONCE: usize = 1000;

/// All machines that use the same table agree.
#[derive(Clone, Debug)]
pub(super) struct FleetCoordination {
    core: Arc<Core>,
    leases: Leases,
}

impl FleetCoordination {
    pub(super) fn new(core: Arc<Core>, life: Duration) -> Self {
        Self {
            leases: Leases::new(Cells::new(core.clone())).with_life(life),
            core,
        }
    }
}

#[async_trait]
impl Coordination for FleetCoordination {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Fleet
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        let permit = self.leases.try_acquire(key).await?;
        if key.record_id().is_none() && self.core.is_time_to_sweep() {
            let core = self.core.clone();
            // Nobody waits for it, and the next one tries again.
            tokio::spawn(async move {
                if let Err(error) = core.sweep().await {
                    tracing::debug!(%error, "old leases are left for the next time");
                }
            });
        }
        Ok(permit)
    }
}

/// The cells of the leases.
pub(super) struct Cells(Arc<Core>);

impl Cells {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl LeaseCells for Cells {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        let (core, key) = (self.0.clone(), key.clone());
        in_task(async move { core.read_cell(&key).await }).await
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        let swap = Swap {
            key: key.clone(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            not_after,
        };
        let core = self.0.clone();
        in_task(async move { core.swap_cell(&swap).await }).await
    }
}

struct Swap {
    key: CoordinationKey,
    before: Option<String>,
    after: Option<String>,
    not_after: Option<Timestamp>,
}

impl Core {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        let mut tries = self.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.read_cell_once(&mut session, &tries, key).await;
            if let Some(cell) = tries.settle(session, outcome).await? {
                return Ok(cell);
            }
        }
    }

    async fn read_cell_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        key: &CoordinationKey,
    ) -> Result<Cell, Fault> {
        let schema = self.current(session, tries).await?;
        let sql = format!(
            "SELECT {CLOCK}, (SELECT lease FROM {LEASES} WHERE token_table = ? AND lease_key = ?)"
        );
        let values = vec![text(schema.table()), text(key.as_str())];
        let row = session.rows(&sql, values).await?.into_iter().next();
        let mut fields = row.map(Fields::of).ok_or_else(no_clock)?;
        let now = fields.signed(0).ok_or_else(no_clock)?;
        Ok(Cell {
            text: fields.text(1),
            now: Timestamp::from_millis(now),
        })
    }

    async fn swap_cell(&self, swap: &Swap) -> Result<bool> {
        let mut tries = self.tries();
        let mut may_be_done = false;
        loop {
            let mut session = tries.session().await?;
            let outcome = self.swap_once(&mut session, &tries, swap).await;
            let unknown = None;
            match tries.settle_or(session, outcome.map(Some), unknown).await? {
                Some(Some(false)) if may_be_done => {
                    return Ok(self.read_cell(&swap.key).await?.text == swap.after);
                }
                Some(Some(swapped)) => return Ok(swapped),
                // The answer was lost. No text is ever written twice, so what is there tells; and
                // if nothing is done yet, it may be before the next try.
                Some(None) => {
                    may_be_done = true;
                    let there = self.read_cell(&swap.key).await?.text;
                    if there == swap.after {
                        return Ok(true);
                    }
                    if there != swap.before {
                        return Ok(false);
                    }
                    tries.wait_unanswered().await?;
                }
                None => {}
            }
        }
    }

    async fn swap_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        swap: &Swap,
    ) -> Result<bool, Fault> {
        let schema = self.current(session, tries).await?;
        let limit = swap.not_after.map_or(i64::MAX, Timestamp::as_millis);
        let (table, key) = (text(schema.table()), text(swap.key.as_str()));
        let here = "token_table = ? AND lease_key = ? \
            AND CAST(lease AS BINARY) = CAST(? AS BINARY)";
        let (sql, values) = match (&swap.before, &swap.after) {
            (None, None) => {
                let cell = self.read_cell_once(session, tries, &swap.key).await?;
                return Ok(cell.text.is_none() && cell.now.as_millis() <= limit);
            }
            (None, Some(after)) => (
                format!(
                    "INSERT INTO {LEASES} (token_table, lease_key, lease, changed_at) \
                    SELECT ?, ?, ?, {CLOCK} FROM DUAL WHERE {CLOCK} <= ?"
                ),
                vec![table, key, text(after), Value::Int(limit)],
            ),
            (Some(before), Some(after)) => (
                format!(
                    "UPDATE {LEASES} SET lease = ?, changed_at = {CLOCK} \
                    WHERE {here} AND {CLOCK} <= ?"
                ),
                vec![text(after), table, key, text(before), Value::Int(limit)],
            ),
            (Some(before), None) => (
                format!("DELETE FROM {LEASES} WHERE {here} AND {CLOCK} <= ?"),
                vec![table, key, text(before), Value::Int(limit)],
            ),
        };
        match session.execute(&sql, values).await {
            Ok(changed) => Ok(changed > 0),
            Err(Fault::Duplicate(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    fn is_time_to_sweep(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = swept.is_none_or(|last| last.elapsed() >= SWEEP);
        if is_time {
            *swept = Some(Instant::now());
        }
        is_time
    }

    /// Deletes what is of no use any more of credentials.
    pub(super) async fn sweep(&self) -> Result<()> {
        let mut last = String::new();
        loop {
            let mut tries = self.tries();
            let swept = loop {
                let mut session = tries.session().await?;
                let outcome = self.sweep_once(&mut session, &tries, &last).await;
                if let Some(swept) = tries.settle(session, outcome).await? {
                    break swept;
                }
            };
            match swept {
                Some(key) => last = key,
                None => return Ok(()),
            }
        }
    }

    /// Deletes what is remembered of records that are gone, a part at a time: there may be as much
    /// as there were records, and nobody is to wait long for a lock.
    pub(super) async fn forget_gone(&self) -> Result<()> {
        let mut last = String::new();
        loop {
            let mut tries = self.tries();
            let forgotten = loop {
                let mut session = tries.session().await?;
                let outcome = self.forget_part(&mut session, &tries, &last).await;
                if let Some(forgotten) = tries.settle(session, outcome).await? {
                    break forgotten;
                }
            };
            match forgotten {
                Some(key) => last = key,
                None => return Ok(()),
            }
        }
    }

    /// Answers the last key that was looked at; `None` if there is none after `last`.
    async fn forget_part(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        last: &str,
    ) -> Result<Option<String>, Fault> {
        let schema = self.current(session, tries).await?;
        let sql = format!(
            "SELECT lease_key FROM {LEASES} WHERE token_table = ? AND lease_key LIKE 'id:%' \
            AND lease_key > ? ORDER BY lease_key LIMIT {MANY_IDS}"
        );
        let values = vec![text(schema.table()), text(last)];
        let rows = session.rows(&sql, values).await?;
        let keys = rows.into_iter().filter_map(|row| Fields::of(row).text(0));
        let mut keys: Vec<_> = keys.collect();
        let Some(last) = keys.last().cloned() else {
            return Ok(None);
        };
        // Filled up with the same once more: so there are two statements, and not one per number.
        let count = if keys.len() > FEW_IDS {
            MANY_IDS
        } else {
            FEW_IDS
        };
        let filled = |texts: &[String]| -> Vec<_> {
            let texts = texts.iter().cycle().take(count);
            texts.map(|each| text(each)).collect()
        };
        let ids: Vec<_> = keys.iter().map(|key| key.replacen("id:", "", 1)).collect();
        let sql = schema.statements.taken(count);
        let taken = session.rows(&sql, filled(&ids)).await?;
        for row in taken {
            let key = Fields::of(row).text(0).map(|id| format!("id:{id}"));
            keys.retain(|other| Some(other) != key.as_ref());
        }
        if !keys.is_empty() {
            let sql = format!(
                "DELETE FROM {LEASES} WHERE token_table = ? AND lease_key IN ({})",
                vec!["?"; count].join(", ")
            );
            let mut values = vec![text(schema.table())];
            values.extend(filled(&keys));
            session.execute(&sql, values).await?;
        }
        Ok(Some(last))
    }

    /// Deletes the first old ones after `after`. Answers the last of them, if there may be more.
    async fn sweep_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        after: &str,
    ) -> Result<Option<String>, Fault> {
        let schema = self.current(session, tries).await?;
        // By the primary key, one after the other: a range that is locked would stand in the way
        // of those who begin.
        let sql = format!(
            "SELECT lease_key FROM {LEASES} WHERE token_table = ? AND lease_key LIKE 'start:%' \
            AND lease_key > ? AND changed_at < {CLOCK} - ? ORDER BY lease_key LIMIT {SWEPT_AT_ONCE}"
        );
        let age = Value::UInt(LIFE_OF_A_START);
        let values = vec![text(schema.table()), text(after), age.clone()];
        let rows = session.rows(&sql, values).await?;
        let old = rows.into_iter().filter_map(|row| Fields::of(row).text(0));
        let old: Vec<_> = old.collect();
        let sql = format!(
            "DELETE FROM {LEASES} WHERE token_table = ? AND lease_key = ? AND changed_at < {CLOCK} - ?"
        );
        for key in &old {
            let values = vec![text(schema.table()), text(key), age.clone()];
            session.execute(&sql, values).await?;
        }
        Ok(old.last().filter(|_| old.len() == SWEPT_AT_ONCE).cloned())
    }
}

fn no_clock() -> Fault {
    Fault::No(Error::new(
        ErrorCode::StoreUnavailable,
        "the database does not tell the time",
    ))
}
