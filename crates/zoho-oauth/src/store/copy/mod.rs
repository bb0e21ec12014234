//! Moving tokens from one store to another, whatever they are.
//!
//! [`copy`](fn@copy) for the plain case, [`CopyTokens`] for everything else, [`verify`] to compare
//! without writing. `docs/moving.md` walks through moving an application while it runs.
//!
//! ```
//! use zoho_oauth::store::{CopyTokens, copy};
//! use zoho_oauth::{FileStore, OAuthToken, RefreshToken, SqliteStore, TokenStore, UserName};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> zoho_oauth::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let (old, new) = (folder.path().join("sdk_tokens.txt"), folder.path().join("zohooauth.db"));
//! let file = FileStore::open(old).await?;
//! # let mut token = OAuthToken::new();
//! # token.user_name = Some(UserName::new("ann@example.com:60001")?);
//! # token.refresh_token = Some(RefreshToken::new("1000.refresh")?);
//! # let id = file.save_token(&token).await?;
//! let database = SqliteStore::open(new)?;
//!
//! let plan = CopyTokens::new(&file, &database).dry_run().run().await?;
//! print!("{plan}");
//!
//! let report = copy(&file, &database).await?;
//! assert!(report.is_complete(), "{report}");
//! assert_eq!(report.verified, report.read);
//! # assert!(database.find_token_by_id(id).await?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! # What happens to a record
//! Records are read in the order of their ids, a page at a time. Each is looked up in the target:
//! under its id, if the record there is the same login beyond doubt, else by its identity, as
//! [`save_token`](TokenStore::save_token) would find it.
//!
//! - **The login is not there**: it is inserted. It keeps its id if the target was empty when the
//!   copy began, or holds records of this very source, and no other login took the id. Otherwise
//!   the target gives a new one, and the report tells which.
//! - **It is there**: the record whose access token ends later is the newer one, since every login
//!   and every refresh brings an access token. A newer record of the source goes over the
//!   target's; a newer record of the target stays, and is reported as
//!   [`kept_newer`](CopyReport::kept_newer). Where neither is newer, and values differ, the
//!   target's stay and the report lists the [fields](CopyReport::different), unless
//!   [`source_wins_ties`](CopyTokens::source_wins_ties). In all cases values that the target lacks
//!   are filled in, and none is ever blanked.
//! - **It was there once**: if the target has a later record of this source under its id, an
//!   earlier copy has been past this one. It was deleted in the target since, or could not be
//!   copied then. If the target gave its id before, and nobody has it now, it was deleted there as
//!   well, as far as anybody can tell. It is [left out](CopyReport::left_out), for what was deleted
//!   stays deleted, unless [`bring_back_deleted`](CopyTokens::bring_back_deleted).
//!
//! That much the ids tell, and no more. A record that got a new id when it was copied, and was
//! deleted in the target since, comes back with the next copy; so do all, when the target holds
//! other logins and not one record of an earlier copy under its id. And a login that the source got
//! after the first copy is left out if the target gave its id to somebody who is gone by now, or
//! passed it over, as a table does that is shared with an official SDK.
//!
//! Nothing is deleted in either store, and the source is only read. What is written is read back
//! by id and compared in all fields. Then both stores are read once more: what changed in the
//! source meanwhile is copied again, what was added to it is copied, and what is missing or
//! different is reported.
//!
//! # What was not read
//! A store can list less than it holds: a limit in the settings of a server, rights that hide rows,
//! a damaged index, a record that cannot be read. So each store that can counts its records in
//! another way ([`TokenStore::inventory`]), before and after it is read. Where the two disagree, the
//! report [says how many](CopyReport::source) records were not read, names those that are damaged,
//! and is not [complete](CopyReport::is_complete). A record that came to the source meanwhile is no
//! disagreement. A target that lists less than it counts is an error before anything is written:
//! logins that it does not show would be inserted a second time. Where a store cannot count,
//! nothing confirms that it listed everything, and the report says so.
//!
//! # Again, and after an interruption
//! A copy keeps no state of its own: the same call goes on where an earlier one was cut off, by an
//! error, a dropped future or a killed process, and ids are kept all the same. A second copy
//! writes nothing that the first did. A copy onto the same store, or one with the same records,
//! writes nothing at all.
//!
//! # While others use the stores
//! The source may be in use. The target should not be before the first copy is done: a login that
//! is saved there meanwhile takes an id, and those behind it get new ones. When the application
//! has moved to the target, copy once more: what it did there since is newer, and stays.
//!
//! Between the look at a record of the target and the write over it lies a moment in which a login
//! or refresh of the application could be overwritten. It takes a record that changed in *both*
//! stores.
//!
//! # Errors
//! A record that the target cannot hold, or holds damaged, is [`refused`](CopyReport::refused), with
//! the error, and the others go on. Where the records behind it keep their ids, its own is lost with that: it gets
//! a new one when it can be copied. Any other error of a store ends the copy, since it would meet
//! all records.
//!
//! # Speed and memory
//! Reads, and writes over records that are there, run several at a time. Inserts run one after the
//! other, in the order of the ids: that is what keeps ids, and what tells an interrupted copy how
//! far it came. A page of each store is in memory, and the number of each record. A store without a
//! [`get_tokens_page`](TokenStore::get_tokens_page) of its own reads everything for each page: for
//! thousands of records in a file take [larger pages](CopyTokens::page_size).

mod compare;
mod count;
mod pair;
mod report;
mod run;
mod walk;

use std::fmt;

pub use count::StoreCount;
pub use report::{CopyReport, Progress, Stage, VerifyReport};

use self::compare::{Comparison, Standing, Ties};
use self::count::{Count, inventory};
use self::pair::{Look, Stores};
use self::run::{Listener, Run, Settings};
use self::walk::Side;
use super::TokenStore;
use crate::error::Result;
use crate::token::TokenId;

/// Copies all tokens from one store to another. See the [module documentation](self).
///
/// # Errors
/// As [`CopyTokens::run`].
///
/// # Cancellation
/// As [`CopyTokens::run`].
pub async fn copy(from: &dyn TokenStore, to: &dyn TokenStore) -> Result<CopyReport> {
    CopyTokens::new(from, to).run().await
}

/// Compares two stores and writes nothing: is every login of `from` in `to`, with all its values?
///
/// Records that only `to` has are of no interest. Takes its time: both stores are read as a whole.
///
/// # Errors
/// What keeps a store from being read.
pub async fn verify(from: &dyn TokenStore, to: &dyn TokenStore) -> Result<VerifyReport> {
    CopyTokens::new(from, to).verify().await
}

/// A copy from one store to another, and how it is to be done. See the [module
/// documentation](self).
#[must_use = "nothing is copied before `run`"]
pub struct CopyTokens<'a> {
    stores: Stores<'a>,
    settings: Settings,
    listener: Option<Listener<'a>>,
}

impl<'a> CopyTokens<'a> {
    /// Prepares a copy of all tokens of `from` into `to`.
    pub fn new(from: &'a dyn TokenStore, to: &'a dyn TokenStore) -> Self {
        Self {
            stores: Stores {
                from,
                to,
                page_size: 500,
                in_flight: 8,
                ties: Ties::Target,
            },
            settings: Settings::default(),
            listener: None,
        }
    }

    /// Writes nothing, and reports what would be done, as far as reading tells: whether the target
    /// can hold a value, it says when it gets it.
    pub const fn dry_run(mut self) -> Self {
        self.settings.dry_run = true;
        self
    }

    /// Sets how many records are read at once: 500 if not set, at least one.
    pub const fn page_size(mut self, records: usize) -> Self {
        self.stores.page_size = if records == 0 { 1 } else { records };
        self
    }

    /// Sets how many reads and updates of the target run at once: 8 if not set, at least one.
    pub const fn in_flight(mut self, operations: usize) -> Self {
        self.stores.in_flight = if operations == 0 { 1 } else { operations };
        self
    }

    /// Leaves out the records of the source up to this id.
    pub const fn start_after(mut self, id: TokenId) -> Self {
        self.settings.start_after = Some(id);
        self
    }

    /// Ends the copy with the error of the first record that the target refuses, instead of
    /// [reporting](CopyReport::refused) it and going on.
    pub const fn stop_at_first_error(mut self) -> Self {
        self.settings.stop_at_first_error = true;
        self
    }

    /// Copies also what would be [left out](CopyReport::left_out), under new ids. With
    /// [`start_after`](Self::start_after) the last id of an earlier copy, only what came behind it.
    pub const fn bring_back_deleted(mut self) -> Self {
        self.settings.bring_back = true;
        self
    }

    /// Takes the source's values where they differ and nothing tells which are newer.
    pub const fn source_wins_ties(mut self) -> Self {
        self.stores.ties = Ties::Source;
        self
    }

    /// Calls `listener` after each page. It should be quick: the copy waits for it.
    pub fn on_progress(mut self, listener: impl FnMut(&Progress) + Send + 'a) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Copies, verifies, and reports.
    ///
    /// # Errors
    /// What keeps one of the stores from working, with the id of the record that was being copied,
    /// if it was one; with [`stop_at_first_error`](Self::stop_at_first_error) also what a single
    /// record is refused for. What was copied until then is there; the same call goes on.
    ///
    /// # Cancellation
    /// When the future is dropped, each record of the target is as it was or as it was to be. The
    /// same call goes on.
    pub async fn run(self) -> Result<CopyReport> {
        let listener = self.listener.unwrap_or_else(|| Box::new(|_| {}));
        let run = Run::start(self.stores, self.settings, listener).await?;
        run.finish().await
    }

    /// Compares, as [`verify`] does, in pages of this size and with as many reads at once.
    ///
    /// # Errors
    /// What keeps a store from being read.
    pub async fn verify(self) -> Result<VerifyReport> {
        let stores = self.stores;
        let mut report = VerifyReport::default();
        let start_after = self.settings.start_after;
        let count = Count::begin(stores.from, Side::Source, stores.page_size).await?;
        let mut pairs = stores.pairs(start_after);
        loop {
            let page = pairs.next_page().await?;
            if page.is_empty() {
                let all = start_after.is_none().then_some(report.read);
                report.source = count.end(all).await?;
                let target = inventory(stores.to, Side::Target).await?;
                report.target_unreadable = target.unwrap_or_default().unreadable;
                return Ok(report);
            }
            let looks = page.iter().map(|pair| stores.look(pair)).collect();
            for (pair, look) in page.iter().zip(stores.all(looks).await?) {
                note(&mut report, pair.source.id, look);
            }
        }
    }
}

fn note(report: &mut VerifyReport, id: TokenId, look: Look) {
    report.read += 1;
    let (target, comparison) = match look {
        Look::Found { id, comparison } => (id, comparison),
        Look::Absent { .. } => {
            report.missing.insert(id);
            return;
        }
        Look::Unreadable(error) => {
            report.unreadable.insert(id, error);
            return;
        }
    };
    if target != id {
        report.other_ids.insert(id, target);
    }
    let Comparison {
        standing,
        stale: mut fields,
        is_equal,
        ..
    } = *comparison;
    match standing {
        Standing::Undecided(undecided) => fields.extend(undecided),
        Standing::Newer if fields.is_empty() => {
            report.newer.insert(id);
        }
        Standing::Agrees if is_equal => report.equal += 1,
        Standing::Agrees if fields.is_empty() => {
            report.fuller.insert(id);
        }
        Standing::Agrees | Standing::Newer => {}
    }
    if !fields.is_empty() {
        report.different.insert(id, fields);
    }
}

impl fmt::Debug for CopyTokens<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the stores: one in memory shows its records, names and all.
        f.debug_struct("CopyTokens")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The code of the handbook, compiled.
#[cfg(all(doctest, feature = "file", feature = "sqlite"))]
#[doc = include_str!("../../../../../docs/moving.md")]
mod handbook {}
