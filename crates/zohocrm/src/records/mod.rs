//! The records of a module: reading, searching, writing.
//!
//! [`Records`] is the handle; each of its methods starts a builder, whose options are methods and
//! whose `send` makes one call. `send_as` reads into a type of your own; `stream` goes on through
//! all pages.

mod deleted;
mod get;
mod list;
mod search;
mod write;

use serde::Serialize;

use crate::call::{Call, api_name};
use crate::client::ZohoCrm;
use crate::error::{Error, ErrorCode, Result};
use crate::value::RecordId;

pub use deleted::{DeletedRecord, DeletedType, ListDeleted};
pub use get::GetRecord;
pub use list::{ListRecords, SortBy, SortOrder};
pub use search::SearchRecords;
pub use write::{
    CreateRecords, DeleteRecords, UpdateRecords, UpsertAction, UpsertRecords, WriteResult, Written,
};

/// The most field names in one call.
const MAX_FIELDS: usize = 50;

/// The records of one module. Made by [`ZohoCrm::records`].
///
/// Scopes: `ZohoCRM.modules.ALL`, or finer ones such as `ZohoCRM.modules.leads.READ`.
#[derive(Clone, Debug)]
pub struct Records {
    crm: ZohoCrm,
    module: String,
}

impl Records {
    pub(crate) fn new(crm: &ZohoCrm, module: String) -> Self {
        Self {
            crm: crm.clone(),
            module,
        }
    }

    /// Starts to read one record. `id` is a [`RecordId`], a text of digits or a number.
    pub fn get<I>(&self, id: I) -> GetRecord
    where
        I: TryInto<RecordId, Error: Into<Error>>,
    {
        GetRecord::new(self, id.try_into().map_err(Into::into))
    }

    /// Starts to read records page by page. The CRM wants to be told the
    /// [`fields`](ListRecords::fields).
    pub fn list(&self) -> ListRecords {
        ListRecords::new(self)
    }

    /// Starts a search; it needs one of criteria, email, phone or word.
    pub fn search(&self) -> SearchRecords {
        SearchRecords::new(self)
    }

    /// Starts to list what was deleted.
    pub fn deleted(&self) -> ListDeleted {
        ListDeleted::new(self)
    }

    /// Starts to create records: [`Record`](crate::Record)s or anything that serialises like one.
    pub fn create<T: Serialize>(&self, records: impl IntoIterator<Item = T>) -> CreateRecords {
        CreateRecords::new(self, records)
    }

    /// Starts to change records; each must have its `id`, and beside it what is to change.
    pub fn update<T: Serialize>(&self, records: impl IntoIterator<Item = T>) -> UpdateRecords {
        UpdateRecords::new(self, records)
    }

    /// Starts to insert records, or to update those that are there already by id or by the
    /// [`duplicate_check_fields`](UpsertRecords::duplicate_check_fields).
    pub fn upsert<T: Serialize>(&self, records: impl IntoIterator<Item = T>) -> UpsertRecords {
        UpsertRecords::new(self, records)
    }

    /// Starts to delete records by their ids.
    pub fn delete<I>(&self, ids: impl IntoIterator<Item = I>) -> DeleteRecords
    where
        I: TryInto<RecordId, Error: Into<Error>>,
    {
        DeleteRecords::new(self, ids)
    }

    /// The path of the module, with what follows it.
    fn path(&self, rest: &str) -> Result<String> {
        Ok(format!("{}{rest}", api_name("module", &self.module)?))
    }
}

/// Sets `fields`, after the checks that spare a call.
fn set_fields(call: &mut Call, fields: &[String]) -> Result<()> {
    if fields.len() > MAX_FIELDS {
        let count = fields.len();
        return Err(Error::new(
            ErrorCode::TooManyFields,
            format!(
                "{count} fields are asked for, {} too many",
                count - MAX_FIELDS
            ),
        ));
    }
    if let Some(bad) = fields
        .iter()
        .find(|name| name.is_empty() || name.contains([',', ' ']))
    {
        return Err(Error::invalid_input(format!(
            "`{}` is not the API name of a field",
            bad.escape_debug()
        )));
    }
    call.set_query("fields", fields.join(","));
    Ok(())
}

fn names(names: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    names.into_iter().map(Into::into).collect()
}

/// What every builder of this module prints: which module, not what is looked for or written.
macro_rules! quiet_debug {
    ($($name:ident)*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("module", &self.records.module)
                    .finish_non_exhaustive()
            }
        }
    )*};
}

use quiet_debug;
