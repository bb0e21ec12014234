//! Searching by criteria, email, phone or word.

use serde::de::DeserializeOwned;

use super::{Records, names, quiet_debug, set_fields};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::page::{Page, Pages};
use crate::record::Record;

/// A search in the making. Made by [`Records::search`].
#[derive(Clone)]
#[must_use = "nothing is sent until `send` is called"]
pub struct SearchRecords {
    records: Records,
    by: Vec<(&'static str, String)>,
    fields: Option<Vec<String>>,
    query: Vec<(&'static str, String)>,
}

quiet_debug!(SearchRecords);

impl SearchRecords {
    pub(super) fn new(records: &Records) -> Self {
        Self {
            records: records.clone(),
            by: Vec::new(),
            fields: None,
            query: Vec::new(),
        }
    }

    /// Searches by criteria: `((Last_Name:equals:Zed)and(Email:starts_with:a))`.
    ///
    /// The text is sent as it is. Do not build it from what strangers typed.
    pub fn criteria(mut self, criteria: impl Into<String>) -> Self {
        self.by.push(("criteria", criteria.into()));
        self
    }

    /// Searches all email fields.
    pub fn email(mut self, email: impl Into<String>) -> Self {
        self.by.push(("email", email.into()));
        self
    }

    /// Searches all phone fields.
    pub fn phone(mut self, phone: impl Into<String>) -> Self {
        self.by.push(("phone", phone.into()));
        self
    }

    /// Searches for a word anywhere.
    pub fn word(mut self, word: impl Into<String>) -> Self {
        self.by.push(("word", word.into()));
        self
    }

    /// Asks for these fields only, at most 50.
    pub fn fields(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fields = Some(names(fields));
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

    /// Sets any other parameter of the call, such as `converted` or `approved`.
    pub fn param(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Fetches the page; an empty one when nothing is found.
    ///
    /// # Errors
    /// `invalid_input` before anything is sent, unless there is exactly one thing to search by;
    /// `too_many_fields`; those of every read.
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

    /// Returns everything that is found, page after page, as it is asked for.
    pub fn stream(self) -> Pages<Record> {
        Pages::starting(&self.records.crm, self.call())
    }

    fn call(&self) -> Result<Call> {
        let [(name, value)] = self.by.as_slice() else {
            return Err(Error::invalid_input(format!(
                "a search in `{}` is by one of criteria, email, phone and word, not by {}",
                self.records.module,
                self.by.len()
            )));
        };
        let mut call = Call::get(&self.records.path("/search")?);
        call.set_query(name, value);
        if let Some(fields) = &self.fields {
            set_fields(&mut call, fields)?;
        }
        for (name, value) in &self.query {
            call.set_query(name, value);
        }
        Ok(call)
    }
}
