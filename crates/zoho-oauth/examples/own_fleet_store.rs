//! How a store of your own lets a whole fleet refresh each token once.
//!
//! What it has to bring: small texts, one per key, that are compared and swapped in one step, and
//! one clock. `Leases` does the rest. The tokens are those of `own_store.rs`, and the texts lie in a
//! file beside them; yours are rows with a conditional `UPDATE`, or keys with a script, on a server
//! that all machines reach.
use std::{collections::BTreeMap, fs, fs::File, path::PathBuf, time::Duration};

use own_store::{JsonStore, failed, replace};
use zoho_oauth::conformance::{Place, StoreFactory, Tier, check, child_main};
use zoho_oauth::store::{Cell, Coordination, CoordinationKey, LeaseCells, Leases, Permit};
use zoho_oauth::store::{Fact, Inventory, Kept};
use zoho_oauth::{Guarantee, OAuthToken, Result, Timestamp, TokenId, TokenQuery, TokenStore};

#[path = "own_store.rs"]
#[expect(dead_code, reason = "its `main` and its `open` are not used here")]
pub(crate) mod own_store;

#[derive(Debug)]
pub(crate) struct FleetStore {
    pub(crate) tokens: JsonStore,
    pub(crate) cells: Cells,
    pub(crate) leases: Leases,
}

/// What leases are written into.
#[derive(Clone, Debug)]
pub(crate) struct Cells(pub(crate) PathBuf);

impl Cells {
    /// Lets `work` see and change the texts, alone among all tasks and processes.
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> Result<T> {
        let lock = File::create(self.0.with_extension("cells.lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let path = self.0.with_extension("cells");
        let before = if path.try_exists().map_err(failed)? {
            fs::read(&path).map_err(failed)?
        } else {
            b"{}".to_vec()
        };
        let mut cells = serde_json::from_slice(&before).map_err(failed)?;
        let answer = work(&mut cells);
        let after = serde_json::to_vec(&cells).map_err(failed)?;
        if after != before {
            replace(&path, &after).map_err(failed)?;
        }
        Ok(answer)
    }
}

#[zoho_oauth::async_trait]
impl LeaseCells for Cells {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        self.with(|cells| Cell {
            text: cells.get(key.as_str()).cloned(),
            // Everybody must be told the time of one clock: the server's. Here all are on one
            // machine.
            now: Timestamp::now(),
        })
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        self.with(|cells| {
            let is_late = not_after.is_some_and(|end| Timestamp::now() > end);
            if is_late || cells.get(key.as_str()).map(String::as_str) != before {
                return false;
            }
            match after {
                Some(text) => cells.insert(key.as_str().into(), text.into()),
                None => cells.remove(key.as_str()),
            };
            true
        })
    }
}

#[zoho_oauth::async_trait]
impl Coordination for FleetStore {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Fleet
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        self.leases.try_acquire(key).await
    }
}

#[zoho_oauth::async_trait]
impl TokenStore for FleetStore {
    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(self)
    }
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.tokens.find_token(query).await
    }
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.tokens.find_token_by_id(id).await
    }
    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.tokens.get_tokens().await
    }
    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.tokens.inventory().await
    }
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.tokens.save_token(token).await
    }
    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.tokens.save_fact(fact).await
    }
    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let was_there = self.tokens.delete_token(id).await?;
        // Nobody needs it any more: the id is not given again.
        let key = CoordinationKey::record(id);
        self.cells.with(|cells| cells.remove(key.as_str()))?;
        Ok(was_there)
    }
    async fn delete_tokens(&self) -> Result<usize> {
        let count = self.tokens.delete_tokens().await?;
        // What was made from a refresh token counts at Zoho, whether it is stored or not. A server
        // forgets that after an hour; this file does not.
        self.cells
            .with(|cells| cells.retain(|key, _| !key.starts_with("id:")))?;
        Ok(count)
    }
}

/// Short, since the kit waits for the end of a lease now and then. Leave it at its default, which
/// outlasts a server that restarts.
pub(crate) const LIFE: Duration = Duration::from_secs(3);

pub(crate) async fn open(place: Place) -> Result<FleetStore> {
    let path = place.path().join("tokens.json");
    let cells = Cells(path.clone());
    Ok(FleetStore {
        tokens: JsonStore(path),
        leases: Leases::new(cells.clone()).with_life(LIFE),
        cells,
    })
}

/// Prints a line per rule. In a test module, `token_store_conformance!` makes a test of each.
#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() {
    let factory = StoreFactory::new(open).with_lease(LIFE);
    if child_main(factory.clone()).await {
        return; // the kit started this process, and stops, continues and kills it
    }
    for tier in [Tier::Basic, Tier::Coordinated] {
        println!("{}", check(tier, factory.clone()).await);
    }
}
