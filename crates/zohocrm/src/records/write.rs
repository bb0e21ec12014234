//! Creating, changing and deleting: one answer per record, in the order of the records.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{Records, names, quiet_debug};
use crate::api_error::{ApiError, Item};
use crate::call::{Call, Method};
use crate::error::{Error, ErrorCode, Result};
use crate::http;
use crate::record::{Record, date_time_text};
use crate::request::Response;
use crate::value::RecordId;

/// The most records in one write.
const MAX_RECORDS: usize = 100;

/// What became of one record of a write.
pub type WriteResult = Result<Written, ApiError>;

/// What an upsert did with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpsertAction {
    /// The record is new.
    Insert,
    /// A record that was there was changed.
    Update,
}

/// A record that was written, or deleted.
#[derive(Clone, PartialEq)]
pub struct Written {
    id: RecordId,
    action: Option<UpsertAction>,
    duplicate_field: Option<String>,
    details: Record,
}

impl Written {
    /// Returns the id of the record.
    pub fn id(&self) -> &RecordId {
        &self.id
    }

    /// Returns what an upsert did; `None` for other writes.
    pub fn action(&self) -> Option<UpsertAction> {
        self.action
    }

    /// Returns the field by which an upsert recognised the record.
    pub fn duplicate_field(&self) -> Option<&str> {
        self.duplicate_field.as_deref()
    }

    /// Returns what the CRM tells about the write: `Created_Time`, `Modified_By` and so on.
    pub fn details(&self) -> &Record {
        &self.details
    }

    fn from_item(item: Item) -> Option<Self> {
        let details: Record = serde_json::from_str(item.details?.get()).ok()?;
        Some(Self {
            id: details.id()?,
            action: match item.action.as_deref() {
                Some("insert") => Some(UpsertAction::Insert),
                Some("update") => Some(UpsertAction::Update),
                _ => None,
            },
            duplicate_field: item.duplicate_field,
            details,
        })
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written")
            .field("id", &self.id)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// The body of a write: the records and what is said about all of them.
#[derive(Serialize)]
struct Body<'a> {
    data: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_check_fields: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lar_id: Option<&'a RecordId>,
}

/// What create, update and upsert have in common.
struct Write {
    records: Records,
    data: Result<Vec<Box<RawValue>>>,
    trigger: Option<Vec<String>>,
    lar_id: Option<RecordId>,
    duplicate_check_fields: Option<Vec<String>>,
    if_unmodified_since: Option<OffsetDateTime>,
}

impl Write {
    fn new<T: Serialize>(records: &Records, data: impl IntoIterator<Item = T>) -> Self {
        let json = |(position, record): (usize, T)| {
            serde_json::value::to_raw_value(&record).map_err(|cause| {
                Error::invalid_input(format!(
                    "record {position} (counted from 0) cannot be written as JSON"
                ))
                .caused_by(cause)
            })
        };
        Self {
            records: records.clone(),
            data: data.into_iter().enumerate().map(json).collect(),
            trigger: None,
            lar_id: None,
            duplicate_check_fields: None,
            if_unmodified_since: None,
        }
    }

    async fn send(self, method: Method, rest: &str, needs_id: bool) -> Result<Vec<WriteResult>> {
        let mut call = Call::new(method, &self.records.path(rest)?);
        let data = self.data?;
        check_count(&self.records, data.len())?;
        if needs_id {
            check_ids(&data)?;
        }
        call.set_json(&Body {
            data: &data,
            duplicate_check_fields: self.duplicate_check_fields.as_deref(),
            trigger: self.trigger.as_deref(),
            lar_id: self.lar_id.as_ref(),
        })?;
        if let Some(moment) = self.if_unmodified_since {
            call.set_header("If-Unmodified-Since", date_time_text(moment)?);
        }
        send(&self.records, &call, data.len()).await
    }
}

/// Sends a write of `count` records. Without a record there is nothing to send.
async fn send(records: &Records, call: &Call, count: usize) -> Result<Vec<WriteResult>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    outcome(&http::send(&records.crm, call).await?, count)
}

/// Reads the answer to a write of `count` records.
///
/// The items decide, not the status: Zoho's descriptions disagree about 200, 201, 202, 207 and
/// 400. An answer whose items are not those of the records is about the request as a whole.
fn outcome(answer: &Response, count: usize) -> Result<Vec<WriteResult>> {
    #[derive(Deserialize)]
    struct Items {
        data: Vec<Item>,
    }

    let unclear = || {
        let text = format!(
            "`{}` was answered with HTTP {}, but not record by record",
            answer.call, answer.status
        );
        Error::new(ErrorCode::OutcomeUnknown, text).with_status(answer.status)
    };
    let items = match serde_json::from_slice::<Items>(&answer.body) {
        Ok(items) if items.data.len() == count => items.data,
        _ if answer.status >= 400 || ApiError::find(&answer.body).is_some() => {
            return Err(answer.error());
        }
        _ => return Err(unclear()),
    };
    // A refused token or scope is nobody's record.
    if matches!(answer.status, 401 | 403 | 429 | 500..=599) {
        return Err(answer.error());
    }
    let result = |item: Item| {
        if item.is_success() {
            Written::from_item(item).ok_or_else(unclear).map(Ok)
        } else {
            Ok(Err(item.into_error()))
        }
    };
    items.into_iter().map(result).collect()
}

fn check_count(records: &Records, count: usize) -> Result<()> {
    if count <= MAX_RECORDS {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::TooManyRecords,
        format!(
            "a write to `{}` has {count} records, {} too many",
            records.module,
            count - MAX_RECORDS
        ),
    ))
}

fn check_ids(data: &[Box<RawValue>]) -> Result<()> {
    #[derive(Deserialize)]
    struct Id {
        #[serde(rename = "id")]
        _id: RecordId,
    }

    let has_id = |json: &str| serde_json::from_str::<Id>(json).is_ok();
    match data.iter().position(|record| !has_id(record.get())) {
        None => Ok(()),
        Some(position) => Err(Error::invalid_input(format!(
            "record {position} (counted from 0) of an update has no `id`"
        ))),
    }
}

macro_rules! common_options {
    () => {
        /// Names what the CRM sets off afterwards: `workflow`, `approval`, `blueprint`, …
        ///
        /// Without this, everything; with an empty list, nothing.
        pub fn trigger(mut self, trigger: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.write.trigger = Some(names(trigger));
            self
        }
    };
}

/// The creation of records, in the making. Made by [`Records::create`].
#[must_use = "nothing is sent until `send` is called"]
pub struct CreateRecords {
    write: Write,
}

impl CreateRecords {
    pub(super) fn new<T: Serialize>(records: &Records, data: impl IntoIterator<Item = T>) -> Self {
        let write = Write::new(records, data);
        Self { write }
    }

    common_options!();

    /// Names the assignment rule that finds owners for the records.
    pub fn assignment_rule(mut self, id: impl Into<RecordId>) -> Self {
        self.write.lar_id = Some(id.into());
        self
    }

    /// Sends the records, and returns what became of each, in their order.
    ///
    /// Some may be created while others are refused: look at every item, or turn the first
    /// refusal into an error with `?`. Without records nothing is sent.
    ///
    /// # Errors
    /// `too_many_records` (more than 100) and `invalid_input` before anything is sent; when the
    /// request was refused as a whole, the reason; `outcome_unknown` when it was sent and the
    /// answer was lost. Never repeated by itself, except after HTTP 401.
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether the records were created.
    pub async fn send(self) -> Result<Vec<WriteResult>> {
        self.write.send(Method::Post, "", false).await
    }
}

/// The change of records, in the making. Made by [`Records::update`].
#[must_use = "nothing is sent until `send` is called"]
pub struct UpdateRecords {
    write: Write,
}

impl UpdateRecords {
    pub(super) fn new<T: Serialize>(records: &Records, data: impl IntoIterator<Item = T>) -> Self {
        let write = Write::new(records, data);
        Self { write }
    }

    common_options!();

    /// Changes only records that were not changed by others after this moment; for others the
    /// CRM answers `ALREADY_MODIFIED`.
    pub fn if_unmodified_since(mut self, moment: OffsetDateTime) -> Self {
        self.write.if_unmodified_since = Some(moment);
        self
    }

    /// Sends the changes, and returns what became of each, in their order.
    ///
    /// # Errors
    /// As for [`CreateRecords::send`]; also `invalid_input` when a record has no id.
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether the records were changed.
    pub async fn send(self) -> Result<Vec<WriteResult>> {
        self.write.send(Method::Put, "", true).await
    }
}

/// The insertion or change of records, in the making. Made by [`Records::upsert`].
#[must_use = "nothing is sent until `send` is called"]
pub struct UpsertRecords {
    write: Write,
}

impl UpsertRecords {
    pub(super) fn new<T: Serialize>(records: &Records, data: impl IntoIterator<Item = T>) -> Self {
        let write = Write::new(records, data);
        Self { write }
    }

    common_options!();

    /// Names the fields by which a record counts as being there, in the order of their weight.
    /// Without this, the module's own unique fields.
    pub fn duplicate_check_fields(
        mut self,
        fields: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.write.duplicate_check_fields = Some(names(fields));
        self
    }

    /// Sends the records, and returns what became of each, in their order; see
    /// [`Written::action`].
    ///
    /// # Errors
    /// As for [`CreateRecords::send`].
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether the records were written.
    pub async fn send(self) -> Result<Vec<WriteResult>> {
        self.write.send(Method::Post, "/upsert", false).await
    }
}

/// The deletion of records, in the making. Made by [`Records::delete`].
#[must_use = "nothing is sent until `send` is called"]
pub struct DeleteRecords {
    records: Records,
    ids: Result<Vec<RecordId>>,
    run_workflows: Option<bool>,
}

quiet_debug!(DeleteRecords);

impl DeleteRecords {
    pub(super) fn new<I>(records: &Records, ids: impl IntoIterator<Item = I>) -> Self
    where
        I: TryInto<RecordId, Error: Into<Error>>,
    {
        let read = |id: I| id.try_into().map_err(Into::into);
        Self {
            records: records.clone(),
            ids: ids.into_iter().map(read).collect(),
            run_workflows: None,
        }
    }

    /// Sets whether workflows run for the deletion.
    pub fn run_workflows(mut self, run: bool) -> Self {
        self.run_workflows = Some(run);
        self
    }

    /// Deletes the records, and returns what became of each, in the order of the ids.
    ///
    /// # Errors
    /// As for [`CreateRecords::send`]. An id that does not exist is the refusal of its item.
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether the records were deleted.
    pub async fn send(self) -> Result<Vec<WriteResult>> {
        let ids = self.ids?;
        check_count(&self.records, ids.len())?;
        let mut call = Call::new(Method::Delete, &self.records.path("")?);
        let texts: Vec<_> = ids.iter().map(RecordId::as_str).collect();
        call.set_query("ids", texts.join(","));
        if let Some(run) = self.run_workflows {
            call.set_query("wf_trigger", run.to_string());
        }
        send(&self.records, &call, ids.len()).await
    }
}

/// The builders of writes print their module, not the records.
macro_rules! write_debug {
    ($($name:ident)*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("module", &self.write.records.module)
                    .finish_non_exhaustive()
            }
        }
    )*};
}

write_debug!(CreateRecords UpdateRecords UpsertRecords);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        Response {
            status,
            headers: reqwest::header::HeaderMap::new(),
            body: body.into(),
            call: Call::new(Method::Post, "Leads"),
        }
    }

    const DONE: &str = r#"{"code":"SUCCESS","status":"success","message":"record added","details":{"id":"7","Created_Time":"2019-07-25T15:26:49+05:30"}}"#;
    const REFUSED: &str = r#"{"code":"MANDATORY_NOT_FOUND","status":"error","message":"required field not found","details":{"api_name":"Last_Name","json_path":"$.data[1].Last_Name"}}"#;

    #[test]
    fn items_decide_whatever_the_status() {
        for status in [200, 201, 202, 207, 400] {
            let body = format!(r#"{{"data":[{DONE},{REFUSED}]}}"#);
            let results = outcome(&answer(status, &body), 2).unwrap();
            assert_eq!(results[0].as_ref().unwrap().id().as_str(), "7");
            let refusal = results[1].as_ref().unwrap_err();
            assert_eq!(refusal.field().as_deref(), Some("Last_Name"));
        }
    }

    #[test]
    fn a_refusal_of_the_whole_is_an_error_in_both_forms() {
        let alone = r#"{"code":"INVALID_MODULE","status":"error","message":"m","details":{}}"#;
        let wrapped = format!(r#"{{"data":[{alone}]}}"#);
        for body in [alone, &wrapped] {
            let error = outcome(&answer(400, body), 2).unwrap_err();
            assert_eq!(error.api().unwrap().code(), "INVALID_MODULE");
            assert_eq!(error.code(), ErrorCode::Refused);
        }
    }

    #[test]
    fn a_lost_scope_is_no_refusal_of_a_record() {
        let body = r#"{"data":[{"code":"OAUTH_SCOPE_MISMATCH","status":"error","message":"m","details":{}}]}"#;
        let error = outcome(&answer(401, body), 1).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ScopeMismatch);
    }

    #[test]
    fn an_answer_that_hides_what_happened_is_said_to_be_unknown() {
        let one = format!(r#"{{"data":[{DONE}]}}"#);
        for (status, body) in [(200, one.as_str()), (200, ""), (200, "{}"), (502, "<html>")] {
            let error = outcome(&answer(status, body), 2).unwrap_err();
            assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{status} {body}");
            assert!(!error.is_transient());
        }
        let unavailable = outcome(&answer(503, ""), 1).unwrap_err();
        assert_eq!(unavailable.code(), ErrorCode::ServerError);
    }

    #[test]
    fn an_upsert_tells_what_it_did() {
        let item = r#"{"code":"SUCCESS","duplicate_field":"Email","action":"update","details":{"id":"9"},"message":"record updated","status":"success"}"#;
        let body = format!(r#"{{"data":[{item}]}}"#);
        let written = outcome(&answer(200, &body), 1).unwrap().remove(0).unwrap();
        assert_eq!(written.action(), Some(UpsertAction::Update));
        assert_eq!(written.duplicate_field(), Some("Email"));
    }

    #[test]
    fn an_update_without_id_is_seen_before_it_is_sent() {
        let data = |json: &str| vec![RawValue::from_string(json.into()).unwrap()];
        assert!(check_ids(&data(r#"{"id":77,"Company":"B"}"#)).is_ok());
        assert!(check_ids(&data(r#"{"Company":"B","id":"77"}"#)).is_ok());
        for bad in [r#"{"Company":"B"}"#, r#"{"id":null}"#, "[]"] {
            let error = check_ids(&data(bad)).unwrap_err();
            assert!(error.to_string().contains("record 0"), "{error}");
        }
    }
}
