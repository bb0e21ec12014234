//! What all handles of one authenticator share.

use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

use super::slot::{Hints, Issued, Slot};
use super::start::Starting;
use super::{Event, RefreshPolicy};
use crate::accounts::AccountsClient;
use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::{DataCenter, DataCenters};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::secret::Fingerprint;
use crate::store::TokenStore;
use crate::token::{OAuthToken, TokenId, UserName};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) accounts: AccountsClient,
    pub(crate) client: Option<OAuthClient>,
    pub(crate) centers: DataCenters,
    pub(crate) center: DataCenter,
    pub(crate) policy: RefreshPolicy,
    pub(crate) events: broadcast::Sender<Event>,
    /// One slot per stored record, however it was reached.
    pub(crate) slots: papaya::HashMap<TokenId, Arc<Slot>>,
    /// The slots of users, under the client of this authenticator.
    pub(crate) users: papaya::HashMap<UserName, Arc<Slot>>,
    /// Logins under way that no record exists for yet.
    pub(crate) starts: Mutex<HashMap<Fingerprint, Starting>>,
}

impl Shared {
    /// Returns the slot of a stored record, with the record's access token in hand if it has one.
    pub(crate) fn slot_of(&self, record: &OAuthToken, hints: Hints) -> Result<Arc<Slot>> {
        let id = record.id.ok_or_else(|| {
            Error::new(
                ErrorCode::StoreDamaged,
                "the store returned a record without an id",
            )
        })?;
        let slots = self.slots.pin();
        if let Some(slot) = slots.get(&id)
            && slot.is_of_another(record)
        {
            self.forget(slot);
        }
        let slot = slots.get_or_insert_with(id, || Arc::new(Slot::new(id)));
        slot.learn(Hints {
            user_name: record.user_name.clone(),
            ..hints
        });
        let now = Timestamp::now();
        let in_hand = slot.in_hand();
        if in_hand.as_ref().is_none_or(|issued| !issued.is_usable(now))
            && let Some(issued) = Issued::of(record, None, &self.policy, now)
        {
            slot.replace(in_hand.as_ref(), issued);
        }
        if let Some(name) = &record.user_name
            && (self.client.as_ref()).is_none_or(|own| Some(&own.id) == record.client_id.as_ref())
        {
            self.users.pin().insert(name.clone(), Arc::clone(slot));
        }
        Ok(Arc::clone(slot))
    }

    /// Forgets a record that is not in the store any more, and says so.
    pub(crate) fn gone(&self, slot: &Slot) -> Error {
        self.forget(slot);
        self.tell(Event::Deleted { id: slot.id });
        Error::new(
            ErrorCode::RecordDeleted,
            format!("the stored record {} was deleted", slot.id),
        )
    }

    /// Hands out nothing of this record any more.
    pub(crate) fn forget(&self, slot: &Slot) {
        slot.clear();
        let slots = self.slots.pin();
        let _ = slots.remove_if(&slot.id, |_, there| ptr::eq(Arc::as_ptr(there), slot));
        if let Some(name) = slot.hints().user_name {
            self.forget_name(&name, slot.id);
        }
    }

    fn forget_name(&self, name: &UserName, id: TokenId) {
        let users = self.users.pin();
        let _ = users.remove_if(name, |_, slot| slot.id == id);
    }

    /// Reads the record of `slot` again.
    ///
    /// # Errors
    /// `record_deleted` when it is gone, also when another login has its id now; what keeps the
    /// store from working.
    pub(crate) async fn record_of(&self, slot: &Slot) -> Result<OAuthToken> {
        match self.store.find_token_by_id(slot.id).await? {
            Some(record) if !slot.is_of_another(&record) => Ok(record),
            _ => Err(self.gone(slot)),
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Returns the query for what is stored of a user: of the authenticator's own client, if it was
    /// given one.
    pub(crate) fn query_of(&self, name: &UserName) -> TokenQuery {
        let query = TokenQuery::user_name(name.clone());
        match &self.client {
            Some(client) => query.with_client(client.id.clone()),
            None => query,
        }
    }

    /// Returns the data center of a record: by its API domain, else as the login said, else the
    /// authenticator's own.
    pub(crate) fn center_of(&self, record: &OAuthToken, hint: Option<&DataCenter>) -> DataCenter {
        (record.api_domain.as_deref())
            .and_then(|domain| self.centers.by_api_domain(domain))
            .or(hint)
            .unwrap_or(&self.center)
            .clone()
    }
}
