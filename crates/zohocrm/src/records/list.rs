//! Records page by page.

use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use super::{Records, names, quiet_debug, set_fields};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::page::{Page, Pages};
use crate::record::{Record, date_time_text};
use crate::value::RecordId;

/// What a list is sorted by. The CRM knows no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortBy {
    /// By id, which is the CRM's default.
    Id,
    /// By the moment of creation.
    CreatedTime,
    /// By the moment of the last change.
    ModifiedTime,
}

/// In which direction a list is sorted. The CRM's default is descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortOrder {
    /// The smallest, or oldest, first.
    Ascending,
    /// The largest, or newest, first.
    Descending,
}

/// A list of records in the making. Made by [`Records::list`].
#[derive(Clone)]
#[must_use = "nothing is sent until `send` is called"]
pub struct ListRecords {
    records: Records,
    fields: Option<Vec<String>>,
    query: Vec<(&'static str, String)>,
    if_modified_since: Option<OffsetDateTime>,
}

quiet_debug!(ListRecords);

impl ListRecords {
    pub(super) fn new(records: &Records) -> Self {
        Self {
            records: records.clone(),
            fields: None,
            query: Vec::new(),
            if_modified_since: None,
        }
    }

    fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Asks for these fields, at most 50. Required: the CRM refuses a list without.
    pub fn fields(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fields = Some(names(fields));
        self
    }

    /// Asks for at most this many records a page: 200 by default, which is the maximum.
    pub fn per_page(self, count: u32) -> Self {
        self.set("per_page", count.to_string())
    }

    /// Begins with this page, counted from 1. Pages by number end at 2,000 records; those that
    /// follow by themselves do not.
    pub fn page(self, page: u32) -> Self {
        self.set("page", page.to_string())
    }

    /// Goes on where an earlier list stopped, with the token from its
    /// [`PageInfo`](crate::PageInfo). All other parameters must be the same.
    pub fn page_token(self, token: impl Into<String>) -> Self {
        self.set("page_token", token)
    }

    /// Sorts the list.
    pub fn sort_by(self, key: SortBy, order: SortOrder) -> Self {
        let key = match key {
            SortBy::Id => "id",
            SortBy::CreatedTime => "Created_Time",
            SortBy::ModifiedTime => "Modified_Time",
        };
        let order = match order {
            SortOrder::Ascending => "asc",
            SortOrder::Descending => "desc",
        };
        self.set("sort_by", key).set("sort_order", order)
    }

    /// Asks for what a custom view shows, by the id of the view.
    pub fn custom_view(self, id: impl Into<RecordId>) -> Self {
        self.set("cvid", id.into().as_str())
    }

    /// Sets any other parameter of the call, such as `converted` or `territory_id`.
    pub fn param(self, name: &'static str, value: impl Into<String>) -> Self {
        self.set(name, value)
    }

    /// Asks for records that were changed after this moment.
    pub fn if_modified_since(mut self, moment: OffsetDateTime) -> Self {
        self.if_modified_since = Some(moment);
        self
    }

    /// Fetches the page.
    ///
    /// # Errors
    /// `invalid_input` and `too_many_fields` before anything is sent; those of every read.
    pub async fn send(self) -> Result<Page<Record>> {
        self.send_as().await
    }

    /// Like [`send`](Self::send), into a type of your own.
    ///
    /// # Errors
    /// The same, and `unexpected_answer` when a record does not fit the type.
    pub async fn send_as<T: DeserializeOwned>(self) -> Result<Page<T>> {
        Page::fetch(&self.records.crm, self.call()?).await
    }

    /// Returns all records from here on, page after page, as they are asked for.
    pub fn stream(self) -> Pages<Record> {
        self.stream_as()
    }

    /// Like [`stream`](Self::stream), into a type of your own.
    pub fn stream_as<T: DeserializeOwned + Send + 'static>(self) -> Pages<T> {
        Pages::starting(&self.records.crm, self.call())
    }

    fn call(&self) -> Result<Call> {
        let mut call = Call::get(&self.records.path("")?);
        let fields = self.fields.as_deref().unwrap_or_default();
        if fields.is_empty() {
            return Err(Error::invalid_input(format!(
                "a list of `{}` needs to be told its fields",
                self.records.module
            )));
        }
        set_fields(&mut call, fields)?;
        for (name, value) in &self.query {
            call.set_query(name, value);
        }
        if let Some(moment) = self.if_modified_since {
            call.set_header("If-Modified-Since", date_time_text(moment)?);
        }
        Ok(call)
    }
}
