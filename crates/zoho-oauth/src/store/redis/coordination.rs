//! Leases in cells on the server, by its clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::script::{Call, READ_CELL, SWAP_CELL};
use super::server::Core;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::store::{Cell, Coordination, CoordinationKey, Guarantee, LeaseCells, Leases, Permit};

/// What is known of a credential, stored or not, is of no use after an hour.
const KEPT: Duration = Duration::from_hours(1);

/// What the store offers: one worker per key among all machines.
#[derive(Clone, Debug)]
pub(super) struct FleetCoordination {
    leases: Leases,
}

impl FleetCoordination {
    pub(super) fn new(core: Arc<Core>, life: Duration) -> Self {
        let leases = Leases::new(Cells(core)).with_life(life);
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
pub(super) struct Cells(pub(super) Arc<Core>);

#[async_trait]
impl LeaseCells for Cells {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        let call = Call::read(&READ_CELL).arg(key.as_str());
        let Value::Array(mut parts) = self.0.call(&call).await? else {
            return Err(self.0.nonsense());
        };
        let (Some(Value::Int(now)), Some(text)) = (parts.pop(), parts.pop()) else {
            return Err(self.0.nonsense());
        };
        let text = match text {
            Value::BulkString(text) => Some(String::from_utf8_lossy(&text).into_owned()),
            _ => None,
        };
        let now = Timestamp::from_millis(now);
        Ok(Cell { text, now })
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        // The script's word for no cell, so no cell holds it.
        if before == Some("") {
            return Ok(false);
        }
        let not_after = not_after.map(|at| at.to_string()).unwrap_or_default();
        let call = Call::write(&SWAP_CELL)
            .arg(key.as_str())
            .arg(before.unwrap_or_default())
            .arg(after.unwrap_or_default())
            .arg(not_after)
            .arg(KEPT.as_millis().to_string());
        match self.0.call(&call).await? {
            Value::Int(done) => Ok(done == 1),
            _ => Err(self.0.nonsense()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedisStore;
    use crate::conformance::coordinated::cells_are_compared_and_swapped;

    #[tokio::test]
    async fn the_cells_are_compared_and_swapped() {
        let url = zoho_test_servers::shared::redis_url();
        let address = url.strip_prefix("redis://").unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        let builder = RedisStore::builder()
            .host(host)
            .port(port.parse().unwrap())
            .prefix(format!("unit_cells_{:016x}", fastrand::u64(..)));
        let store = builder.connect().await.unwrap();
        let kept = cells_are_compared_and_swapped(&Cells(store.core)).await;
        kept.unwrap();
    }
}
