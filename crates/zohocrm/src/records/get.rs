//! One record by its id.

use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use super::{Records, names, quiet_debug, set_fields};
use crate::call::Call;
use crate::error::Result;
use crate::record::{Record, date_time_text};
use crate::users::first;
use crate::value::RecordId;

/// The reading of one record, in the making. Made by [`Records::get`].
#[must_use = "nothing is sent until `send` is called"]
pub struct GetRecord {
    records: Records,
    id: Result<RecordId>,
    fields: Option<Vec<String>>,
    if_modified_since: Option<OffsetDateTime>,
}

quiet_debug!(GetRecord);

impl GetRecord {
    pub(super) fn new(records: &Records, id: Result<RecordId>) -> Self {
        Self {
            records: records.clone(),
            id,
            fields: None,
            if_modified_since: None,
        }
    }

    /// Asks for these fields only, at most 50.
    pub fn fields(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fields = Some(names(fields));
        self
    }

    /// Asks for the record only if it was changed after this moment; otherwise there is none.
    pub fn if_modified_since(mut self, moment: OffsetDateTime) -> Self {
        self.if_modified_since = Some(moment);
        self
    }

    /// Fetches the record; `None` when the CRM answers that there is nothing (204), or nothing
    /// new (304).
    ///
    /// # Errors
    /// `invalid_input` and `too_many_fields` before anything is sent; `refused` where the CRM
    /// calls the id invalid; those of every read.
    pub async fn send(self) -> Result<Option<Record>> {
        self.send_as().await
    }

    /// Like [`send`](Self::send), into a type of your own.
    ///
    /// # Errors
    /// The same, and `unexpected_answer` when the record does not fit the type.
    pub async fn send_as<T: DeserializeOwned>(self) -> Result<Option<T>> {
        let mut call = Call::get(&self.records.path(&format!("/{}", self.id?))?);
        if let Some(fields) = &self.fields {
            set_fields(&mut call, fields)?;
        }
        if let Some(moment) = self.if_modified_since {
            call.set_header("If-Modified-Since", date_time_text(moment)?);
        }
        first(&self.records.crm, &call).await
    }
}
