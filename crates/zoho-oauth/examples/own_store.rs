//! How to write a token store of your own: a JSON file here, whatever you have elsewhere.
//!
//! `TokenTable` knows every rule. What is left: load it, let it work, and replace the file so that
//! neither a crash nor another process comes between. The conformance kit tells if it is right.
use std::{fs, fs::File, io::Write as _, path::Path, path::PathBuf};

use zoho_oauth::conformance::{Place, StoreFactory, Tier, check, child_main};
use zoho_oauth::store::{Fact, Kept, Ruling};
use zoho_oauth::{Error, ErrorCode, OAuthToken, Result, TokenId, TokenQuery};
use zoho_oauth::{TokenStore, TokenTable};

#[derive(Debug)]
pub(crate) struct JsonStore(pub(crate) PathBuf);

impl JsonStore {
    /// Lets `work` see and change the table, alone among all tasks and processes.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut TokenTable) -> Result<T>) -> Result<T> {
        // The lock has a file of its own, since a write replaces the other one. The system frees
        // it when this process dies.
        let lock = File::create(self.0.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let (mut table, before) = load(&self.0)?;
        let answer = work(&mut table)?;
        let rows = table.rows().iter().map(OAuthToken::expose_fields);
        let json = (
            table.highest_id().map(TokenId::get),
            rows.collect::<Vec<_>>(),
        );
        let after = serde_json::to_vec(&json).map_err(failed)?;
        if after != before {
            replace(&self.0, &after).map_err(failed)?;
        }
        Ok(answer)
    }
}

// Each call blocks its thread for as long as the disk takes. With many users, clone the path and
// move the work into `tokio::task::spawn_blocking`.
#[zoho_oauth::async_trait]
impl TokenStore for JsonStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.with(|table| Ok(table.find(query).cloned()))
    }
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.with(|table| Ok(table.find_by_id(id).cloned()))
    }
    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.with(|table| Ok(table.rows().to_vec()))
    }
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.with(|table| table.save(token))
    }
    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.with(|table| Ok(table.delete(id)))
    }
    async fn delete_tokens(&self) -> Result<usize> {
        self.with(|table| Ok(table.clear()))
    }
    // The six are enough. This one, in one step, keeps two processes from mixing up what Zoho told
    // them.
    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.with(|table| {
            let stored = table.find_by_id(fact.id());
            match fact.ruling(stored) {
                Ruling::Save(record) => table.save(&record).map(|_| Kept::Saved),
                ruling => Ok(ruling.kept(stored)),
            }
        })
    }
}

pub(crate) fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorCode::StoreUnavailable, "the token file failed").caused_by(cause)
}

fn load(path: &Path) -> Result<(TokenTable, Vec<u8>)> {
    if !path.try_exists().map_err(failed)? {
        return Ok((TokenTable::new(), Vec::new()));
    }
    // A file that cannot be understood is an error, never an empty store.
    let damaged = |_| Error::new(ErrorCode::StoreDamaged, "the token file is damaged");
    let text = fs::read(path).map_err(failed)?;
    // The highest id that was ever given, and the ten fields of every record.
    let (highest, rows): (Option<u64>, Vec<[Option<String>; 10]>) =
        serde_json::from_slice(&text).map_err(damaged)?;
    let rows = rows
        .iter()
        .map(OAuthToken::from_fields)
        .collect::<Result<_>>()?;
    let highest = highest.map(TokenId::new).transpose()?;
    Ok((TokenTable::from_rows(rows, highest)?, text))
}

/// Writes beside the file, flushes, renames: there is always a whole file, old or new.
pub(crate) fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("a file is in a folder");
    let mut new = tempfile::NamedTempFile::new_in(folder)?; // readable by its owner alone
    new.write_all(text)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    File::open(folder)?.sync_all()
}

pub(crate) async fn open(place: Place) -> Result<JsonStore> {
    Ok(JsonStore(place.path().join("tokens.json")))
}

/// Prints a line per rule. In a test module, `token_store_conformance!` makes a test of each.
#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() {
    if child_main(StoreFactory::new(open)).await {
        return; // the kit started this process, and will kill it
    }
    for tier in [Tier::Basic, Tier::Durable] {
        println!("{}", check(tier, StoreFactory::new(open)).await);
    }
}
