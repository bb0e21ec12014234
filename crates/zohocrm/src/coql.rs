//! COQL, the CRM's query language.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::call::{Call, Method};
use crate::client::ZohoCrm;
use crate::error::Result;
use crate::http;
use crate::record::Record;

/// A query in the making. Made by [`ZohoCrm::coql`]. Scopes: `ZohoCRM.coql.READ` and the reading
/// of the modules that it names.
#[must_use = "nothing is sent until `send` is called"]
pub struct Coql {
    crm: ZohoCrm,
    query: String,
}

impl Coql {
    pub(crate) fn new(crm: &ZohoCrm, query: String) -> Self {
        Self {
            crm: crm.clone(),
            query,
        }
    }

    /// Sends the query and returns the rows; no rows are no error.
    ///
    /// The CRM returns 200 rows unless the query says `limit`, and tells whether there are more:
    /// go on with `limit` and `offset` in the query.
    ///
    /// # Errors
    /// `refused` with the CRM's `SYNTAX_ERROR` or `INVALID_QUERY`, whose details name the place;
    /// those of every read.
    pub async fn send(self) -> Result<Rows<Record>> {
        self.send_as().await
    }

    /// Like [`send`](Self::send), with rows of a type of your own.
    ///
    /// # Errors
    /// The same, and `unexpected_answer` when a row does not fit the type.
    pub async fn send_as<T: DeserializeOwned>(self) -> Result<Rows<T>> {
        let mut call = Call::new(Method::Post, "coql");
        call.only_reads = true;
        call.set_json(&serde_json::json!({ "select_query": self.query }))?;
        let answer: Option<Answer<T>> = http::fetch(&self.crm, &call).await?;
        Ok(answer.map_or_else(
            || Rows {
                rows: Vec::new(),
                more: false,
            },
            |answer| Rows {
                rows: answer.data,
                more: answer.info.more_records,
            },
        ))
    }
}

impl fmt::Debug for Coql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query holds what somebody looks for.
        f.debug_struct("Coql").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    data: Vec<T>,
    #[serde(default)]
    info: Info,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    more_records: bool,
}

/// The rows that a query found.
#[derive(Clone)]
pub struct Rows<T> {
    rows: Vec<T>,
    more: bool,
}

impl<T> Rows<T> {
    /// Returns the rows.
    pub fn rows(&self) -> &[T] {
        &self.rows
    }

    /// Takes the rows.
    pub fn into_rows(self) -> Vec<T> {
        self.rows
    }

    /// Returns whether the query has more rows than these.
    pub fn has_more(&self) -> bool {
        self.more
    }
}

impl<T> IntoIterator for Rows<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("rows", &self.rows.len())
            .field("has_more", &self.more)
            .finish()
    }
}
