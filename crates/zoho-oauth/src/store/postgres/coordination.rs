//! Who refreshes, agreed on by all machines that use the database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::server::{Server, apart};
use super::value::Value;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::store::{Cell, Coordination, CoordinationKey, Guarantee, LeaseCells, Leases, Permit};

/// One in so many new cells has old ones swept away.
const SWEEP: u32 = 64;

/// Leases beside the token table, by the server's clock.
#[derive(Debug)]
pub(super) struct FleetCoordination {
    leases: Leases,
}

impl FleetCoordination {
    pub(super) fn new(server: Arc<Server>, life: Duration) -> Self {
        let leases = Leases::new(Cells(server)).with_life(life);
        Self { leases }
    }
}

#[async_trait]
impl Coordination for FleetCoordination {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Fleet
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        self.leases.try_acquire(key).await
    }
}

#[derive(Debug)]
pub(super) struct Cells(pub(super) Arc<Server>);

#[async_trait]
impl LeaseCells for Cells {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        let (server, key) = (Arc::clone(&self.0), key.clone());
        apart(async move { server.read_cell(&key).await }).await
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        let (server, key) = (Arc::clone(&self.0), key.clone());
        let is_new = before.is_none() && key.record_id().is_none();
        let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
        let swapped = apart(async move {
            let (before, after) = (before.as_deref(), after.as_deref());
            server.swap_cell(&key, before, after, not_after).await
        });
        let swapped = swapped.await;
        if is_new && matches!(swapped, Ok(true)) && fastrand::u32(0..SWEEP) == 0 {
            let server = Arc::clone(&self.0);
            // Nobody waits for it.
            tokio::spawn(async move { server.sweep_cells().await });
        }
        swapped
    }
}

impl Server {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        let values = [
            Value::text(&*self.line.place.table),
            Value::text(key.as_str()),
        ];
        let told = self.ask(&self.statements.read_cell, &values).await?;
        let now = self.optional::<i64>(&told, 1)?.unwrap_or_default();
        Ok(Cell {
            text: self.optional(&told, 0)?,
            now: Timestamp::from_millis(now),
        })
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        let statements = &self.statements;
        let mut values = vec![
            Value::text(&*self.line.place.table),
            Value::text(key.as_str()),
            Value::text(before.or(after).unwrap_or_default()),
            Value::Moment(not_after.map(Timestamp::as_millis)),
        ];
        let sql = match (before, after) {
            (None, None) => return Ok(self.read_cell(key).await?.text.is_none()),
            (None, Some(_)) => &statements.insert_cell,
            (Some(_), None) => &statements.delete_cell,
            (Some(_), Some(after)) => {
                values.push(Value::text(after));
                &statements.update_cell
            }
        };
        let told = self.ask(sql, &values).await?;
        let mut swapped = self.count(&told, 0)? > 0;
        if !swapped && told.may_be_done {
            // A cell never holds the same text twice, and only its holder takes it away.
            swapped = self.read_cell(key).await?.text.as_deref() == after;
        }
        Ok(swapped)
    }

    /// Removes what is of no use any more. If that fails, the next one does it.
    pub(super) async fn sweep_cells(&self) {
        let table = Value::text(&*self.line.place.table);
        if let Err(error) = self.ask(&self.statements.sweep_cells, &[table]).await {
            tracing::debug!(%error, "old leases were not swept away");
        }
    }
}
