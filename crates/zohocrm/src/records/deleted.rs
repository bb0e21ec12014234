//! What was deleted from a module.

use time::OffsetDateTime;

use super::{Records, quiet_debug};
use crate::call::Call;
use crate::error::Result;
use crate::page::{Page, Pages};
use crate::record::date_time_text;
use crate::resource::{Named, resource};
use crate::value::RecordId;

resource! {
    /// A record that was deleted: what is left of it.
    DeletedRecord {
        /// Returns the id it had.
        id = "id": RecordId;
        /// Returns the name it was shown under.
        display_name = "display_name": String;
        /// Returns `recycle` or `permanent`.
        kind = "type": String;
        /// Returns who deleted it.
        deleted_by = "deleted_by": Named;
        /// Returns who had created it.
        created_by = "created_by": Named;
    }
}

impl DeletedRecord {
    /// Returns when it was deleted, if that can be read.
    pub fn deleted_time(&self) -> Option<OffsetDateTime> {
        self.record().date_time("deleted_time").ok().flatten()
    }
}

/// Which deleted records a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeletedType {
    /// All of them.
    All,
    /// Those in the recycle bin.
    Recycle,
    /// Those that are gone for good.
    Permanent,
}

/// A list of deleted records in the making. Made by [`Records::deleted`].
#[derive(Clone)]
#[must_use = "nothing is sent until `send` is called"]
pub struct ListDeleted {
    records: Records,
    query: Vec<(&'static str, String)>,
    if_modified_since: Option<OffsetDateTime>,
}

quiet_debug!(ListDeleted);

impl ListDeleted {
    pub(super) fn new(records: &Records) -> Self {
        Self {
            records: records.clone(),
            query: Vec::new(),
            if_modified_since: None,
        }
    }

    /// Asks for deleted records of one kind only.
    pub fn of_type(mut self, kind: DeletedType) -> Self {
        let kind = match kind {
            DeletedType::All => "all",
            DeletedType::Recycle => "recycle",
            DeletedType::Permanent => "permanent",
        };
        self.query.push(("type", kind.into()));
        self
    }

    /// Asks for at most this many records a page: 200 by default, which is the maximum.
    pub fn per_page(mut self, count: u32) -> Self {
        self.query.push(("per_page", count.to_string()));
        self
    }

    /// Begins with this page, counted from 1.
    pub fn page(mut self, page: u32) -> Self {
        self.query.push(("page", page.to_string()));
        self
    }

    /// Asks for what was deleted after this moment.
    pub fn if_modified_since(mut self, moment: OffsetDateTime) -> Self {
        self.if_modified_since = Some(moment);
        self
    }

    /// Fetches the page.
    ///
    /// # Errors
    /// `invalid_input` before anything is sent; those of every read.
    pub async fn send(self) -> Result<Page<DeletedRecord>> {
        Page::fetch(&self.records.crm, self.call()?).await
    }

    /// Returns all of them from here on, page after page, as they are asked for.
    pub fn stream(self) -> Pages<DeletedRecord> {
        Pages::starting(&self.records.crm, self.call())
    }

    fn call(&self) -> Result<Call> {
        let mut call = Call::get(&self.records.path("/deleted")?);
        for (name, value) in &self.query {
            call.set_query(name, value);
        }
        if let Some(moment) = self.if_modified_since {
            call.set_header("If-Modified-Since", date_time_text(moment)?);
        }
        Ok(call)
    }
}
