//! What all handles of one authenticator share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinHandle;

use super::access::Access;
use super::cache::{CacheEntry, Hints, Sweep, TokenCache};
use super::credential_state::{Attempts, Mints};
use super::event::Event;
use super::lock::Locks;
use super::policy::RefreshPolicy;
use super::single_flight::SingleFlight;
use super::store_health::Health;
use crate::accounts::{AccountsClient, TokenAnswer};
use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::{DataCenter, DataCenters, Environment, same_origin, server_of};
use crate::error::{Error, ErrorCode, Result};
use crate::secret::Fingerprint;
use crate::store::TokenStore;
use crate::token::{OAuthToken, TokenId, UserName};

#[derive(Debug)]
pub(crate) struct Inner {
    /// The store, watched while it is used.
    pub(crate) store: Arc<dyn TokenStore>,
    /// The same as the application gave it.
    pub(super) own_store: Arc<dyn TokenStore>,
    pub(super) health: Arc<Health>,
    pub(super) listener: Listener,
    pub(crate) accounts: AccountsClient,
    pub(crate) client: Option<OAuthClient>,
    pub(crate) centers: DataCenters,
    pub(crate) center: DataCenter,
    pub(crate) policy: RefreshPolicy,
    pub(crate) events: broadcast::Sender<Event>,
    /// One entry per stored record, however it was reached.
    pub(super) entries: TokenCache<TokenId>,
    /// The entries of users, under the client of this authenticator.
    pub(super) users: TokenCache<UserName>,
    pub(super) sweep: Sweep,
    /// Renewals under way, by the serial number of their entry.
    pub(super) renewals: SingleFlight<u64, Result<Access>>,
    /// Logins under way that no record exists for yet, by their credential.
    pub(super) logins: SingleFlight<Fingerprint, Arc<LoginOutcome>>,
    /// What became of logins that no record exists for.
    pub(super) attempts: Attempts,
    /// What was made from each refresh token, where no fleet shares the store.
    pub(super) mints: Mints,
    pub(super) locks: Locks,
    /// Held by refreshes while they do their work.
    pub(super) at_work: Semaphore,
}

/// What came of a login.
#[derive(Debug)]
pub(super) struct LoginOutcome {
    /// Whose login it was to be.
    pub(super) user_name: Option<UserName>,
    /// Whom the credential was shown to.
    pub(super) asked: Fingerprint,
    pub(super) result: Result<Arc<CacheEntry>>,
    /// A caller received it.
    pub(super) is_heard: AtomicBool,
}

/// The task that listens to the store. It ends with the authenticator.
#[derive(Debug, Default)]
pub(super) struct Listener(Mutex<Option<JoinHandle<()>>>);

impl Listener {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = &mut *self.lock() {
            task.abort();
        }
    }
}

impl Inner {
    /// Returns the entry of a stored record, with the record's access token in hand if it has one.
    /// The store was asked for the record at `asked`.
    pub(crate) fn entry_of(
        &self,
        record: &OAuthToken,
        hints: Hints,
        asked: Timestamp,
    ) -> Result<Arc<CacheEntry>> {
        let id = record.id.ok_or_else(|| {
            Error::new(
                ErrorCode::StoreDamaged,
                "the store returned a record without an id",
            )
        })?;
        if let Some(entry) = self.entries.get(&id)
            && entry.is_of_another(record)
        {
            self.forget(&entry);
        }
        let now = Timestamp::now();
        self.drop_unused(now);
        let entry = self.entries.get_or_insert(id, || CacheEntry::new(id));
        entry.used(now);
        entry.learn(hints, record);
        entry.learn_owner(record);
        entry.adopt(record, &self.policy, asked);
        // Without a client of its own the authenticator can reach several records of one name,
        // and only the store knows which of them answers.
        if let (Some(name), Some(own)) = (&record.user_name, &self.client)
            && record.client_id.as_ref() == Some(&own.id)
        {
            self.users.insert(name.clone(), Arc::clone(&entry));
        }
        Ok(entry)
    }

    /// Drops users who have not asked for a while, if it is time for that or there are too many.
    pub(super) fn drop_unused(&self, now: Timestamp) {
        let policy = &self.policy;
        // What the hot path answers is noticed at the next revalidation only.
        let max_idle = policy.max_idle.max(policy.recheck);
        let most = policy.max_cached.max(1);
        let look = || {
            let unused = self.entries.unused(now.before(max_idle), most);
            for id in unused {
                (self.entries).drop_unused(id, &self.users, now, policy.counted_for());
            }
            self.entries.len()
        };
        let size = (self.entries.len(), most);
        self.sweep.if_due(now, max_idle, size, look);
    }

    /// Forgets a record that is not in the store any more, and says so.
    pub(crate) fn gone(&self, entry: &CacheEntry) -> Error {
        if self.forget(entry) {
            self.tell(Event::Deleted { id: entry.id });
        }
        entry.deleted()
    }

    /// Hands out nothing of this record any more; `true` the first time.
    pub(crate) fn forget(&self, entry: &CacheEntry) -> bool {
        let is_first = entry.end();
        self.entries
            .remove_if(&entry.id, |there| std::ptr::eq(there, entry));
        if let Some(name) = entry.hints().user_name {
            self.forget_name(&name, entry.id);
        }
        is_first
    }

    fn forget_name(&self, name: &UserName, id: TokenId) {
        self.users.remove_if(name, |entry| entry.id == id);
    }

    /// Reads the record of `entry` again.
    ///
    /// # Errors
    /// `record_deleted` when it is gone, also when another login has its id now; what keeps the
    /// store from working.
    pub(crate) async fn record_of(&self, entry: &CacheEntry) -> Result<OAuthToken> {
        match self.store.find_token_by_id(entry.id).await? {
            Some(record) if !entry.is_of_another(&record) => Ok(record),
            _ => Err(self.gone(entry)),
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        // An error means that there is no listener.
        let _ = self.events.send(event);
    }

    /// Returns the data center of a record: by its API domain, else as the login said, else the
    /// authenticator's own.
    ///
    /// # Errors
    /// `unknown_data_center` when the API domain of the record belongs to no known data center. Its
    /// secrets are then sent to no server. A data center that does not say what its API is called
    /// is taken at its word: see [`DataCenters::of_api_domain`].
    pub(crate) fn center_of(
        &self,
        record: &OAuthToken,
        hint: Option<&DataCenter>,
    ) -> Result<DataCenter> {
        let domain = record.api_domain.as_deref();
        let by_domain = domain.and_then(|domain| self.centers.by_api_domain(domain));
        match (by_domain.or(hint), domain) {
            (Some(center), _) => Ok(center.clone()),
            (None, Some(domain)) => self.known_center(domain).cloned(),
            (None, None) => Ok(self.center.clone()),
        }
    }

    /// Returns the data center that a token with this API domain belongs to, in every process that
    /// has these settings.
    ///
    /// # Errors
    /// `unknown_data_center`, as [`DataCenters::of_api_domain`].
    pub(super) fn known_center(&self, domain: &str) -> Result<&DataCenter> {
        self.centers.of_api_domain(domain, &self.center)
    }

    /// Checks before a login that this data center is one that the settings describe: another process,
    /// which starts from the user's name, would not find it.
    ///
    /// # Errors
    /// `unknown_data_center`.
    pub(super) fn check_center(&self, center: &DataCenter) -> Result<()> {
        let url = center.accounts_url();
        if self.center.has_accounts_url(url) || self.centers.by_accounts_url(url).is_some() {
            return Ok(());
        }
        let message = format!(
            "the data center `{}` of the credential is not one that this authenticator knows; nothing \
             was asked of Zoho",
            center.name()
        );
        Err(Error::new(ErrorCode::UnknownDataCenter, message))
    }

    /// Checks the API domain of a login that `center` issued: from it, every process that has these
    /// settings finds this center again.
    ///
    /// # Errors
    /// `unknown_data_center`.
    pub(super) fn check_domain(&self, center: &DataCenter, domain: &str) -> Result<()> {
        let known = match self.known_center(domain) {
            Ok(known) if known.has_accounts_url(center.accounts_url()) => return Ok(()),
            Ok(known) => known,
            Err(error) => return Err(error),
        };
        let message = format!(
            "the API domain `{}` is taken for one of the data center `{}`, but `{}` issued the login",
            server_of(domain),
            known.name(),
            center.name()
        );
        Err(Error::new(ErrorCode::UnknownDataCenter, message))
    }

    /// Returns the API domain that an answer of `asked` without one needs, so that `record`, to which
    /// it is added, leads to that center. That of production is taken, since nothing names another.
    /// `None` for `record` is a new one, which leads to the authenticator's own center.
    ///
    /// # Errors
    /// `unknown_data_center` when one is needed and none is known.
    pub(super) fn missing_domain(
        &self,
        asked: &DataCenter,
        record: Option<&OAuthToken>,
    ) -> Result<Option<String>> {
        let leads_to = match record.and_then(|record| record.api_domain.as_deref()) {
            Some(domain) => self.known_center(domain),
            None => Ok(&self.center),
        };
        if leads_to.is_ok_and(|at| at.has_accounts_url(asked.accounts_url())) {
            return Ok(None);
        }
        let own = asked.api_domain(Environment::Production).map(str::to_owned);
        own.map(Some).ok_or_else(|| {
            let name = asked.name();
            let message = format!(
                "the data center `{name}` named no API domain, and none is known for it, so that the \
                 login could not be told from those of other centers"
            );
            Error::new(ErrorCode::UnknownDataCenter, message)
        })
    }

    /// Takes an API domain out of an answer about `record` that is of another data center than the
    /// one that was asked, or of another environment: a login keeps both. The stored value stays.
    pub(super) fn stay_at(
        &self,
        asked: &DataCenter,
        record: &OAuthToken,
        answer: &mut TokenAnswer,
    ) {
        if let Some(domain) = &answer.api_domain
            && !self.may_answer(asked, record, domain)
        {
            self.refuse_domain(asked, record, domain);
            answer.api_domain = None;
        }
        if answer.api_domain.is_none() && record.api_domain.is_none() {
            // Without one the record goes on as it was.
            answer.api_domain = self.missing_domain(asked, None).ok().flatten();
        }
    }

    /// Whether an answer about `record` may name this API domain.
    fn may_answer(&self, asked: &DataCenter, record: &OAuthToken, domain: &str) -> bool {
        let Some(stored) = &record.api_domain else {
            return self.check_domain(asked, domain).is_ok();
        };
        if stored == domain || same_origin(domain, stored) {
            return true;
        }
        // A sandbox may be described as a center of its own, at the same accounts server.
        let known = self.centers.by_api_domain(domain);
        known.is_none_or(|known| known.name() == asked.name())
            && match (asked.environment_of(stored), asked.environment_of(domain)) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(stored), Some(answered)) => stored == answered,
            }
    }

    fn refuse_domain(&self, asked: &DataCenter, record: &OAuthToken, domain: &str) {
        let domain = server_of(domain);
        let center = asked.name();
        tracing::warn!(
            center,
            domain,
            "an answer names the API domain of another data center or environment, which is not used"
        );
        if let Some(id) = record.id {
            self.tell(Event::ForeignApiDomain { id, domain });
        }
    }

    /// Whether the data center of a record is known, and not just taken for the authenticator's own.
    pub(super) fn is_named(&self, record: &OAuthToken, hint: Option<&DataCenter>) -> bool {
        let domain = record.api_domain.as_deref();
        hint.is_some() || domain.is_some_and(|domain| self.centers.by_api_domain(domain).is_some())
    }
}
