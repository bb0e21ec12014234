//! [`Record`]: any record of any module, by the API names of its fields.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use time::{Date, OffsetDateTime};

use crate::error::{Error, ErrorCode, Result};
use crate::value::{self, RecordId};

/// A record of any module: fields by their API names, in the order the CRM sent them.
///
/// Every value is kept as the JSON it arrived in, and read when it is asked for: what you do not
/// touch costs nothing and loses nothing, not even digits of a number. Where you know the fields
/// beforehand, a struct of your own with `Deserialize` and `Serialize` does as well: see
/// `send_as` of the builders.
///
/// `Debug` prints names of fields, not their values: records are other people's data.
///
/// ```
/// use zohocrm::Record;
///
/// let lead = Record::new().with("Last_Name", "Zed").with("Annual_Revenue", 12_000);
/// assert_eq!(lead.text("Last_Name").as_deref(), Some("Zed"));
/// assert_eq!(lead.get::<u32>("Annual_Revenue")?, Some(12_000));
/// assert_eq!(lead.get::<u32>("No_Such_Field")?, None);
/// # Ok::<(), zohocrm::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Record {
    fields: Vec<(Box<str>, Box<RawValue>)>,
}

impl Record {
    /// Returns a record without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a record with nothing but an id, to be filled with what an update should change.
    pub fn with_id(id: impl Into<RecordId>) -> Self {
        Self::new().with("id", id.into().as_str())
    }

    /// Returns the id, if there is one that can be read.
    pub fn id(&self) -> Option<RecordId> {
        self.get("id").ok().flatten()
    }

    /// Returns a text; `None` when the field is absent, null or not a string.
    pub fn text(&self, field: &str) -> Option<String> {
        self.get(field).ok().flatten()
    }

    /// Returns a field as any type; `None` when it is absent or null.
    ///
    /// # Errors
    /// `unexpected_answer`, naming the field, when the value does not fit the type.
    pub fn get<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        let Some(json) = self.json(field) else {
            return Ok(None);
        };
        serde_json::from_str(json).map_err(|cause| unfit(field).caused_by(cause))
    }

    /// Returns a date-time with the offset the CRM gave it; `None` when it is absent or null.
    ///
    /// # Errors
    /// `unexpected_answer` when the value is not an ISO 8601 date-time.
    pub fn date_time(&self, field: &str) -> Result<Option<OffsetDateTime>> {
        let text: Option<String> = self.get(field)?;
        let moment = text.map(|text| value::parse_date_time(&text).ok_or_else(|| unfit(field)));
        moment.transpose()
    }

    /// Returns a date; `None` when it is absent or null.
    ///
    /// # Errors
    /// `unexpected_answer` when the value is not `YYYY-MM-DD`.
    pub fn date(&self, field: &str) -> Result<Option<Date>> {
        let text: Option<String> = self.get(field)?;
        let date = text.map(|text| value::parse_date(&text).ok_or_else(|| unfit(field)));
        date.transpose()
    }

    /// Returns the JSON of a field as it arrived; `None` when it is absent.
    pub fn json(&self, field: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(name, _)| **name == *field);
        found.map(|(_, value)| value.get())
    }

    /// Returns names and JSON values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (&**name, value.get()))
    }

    /// Returns the number of fields, null ones included.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Sets a field, in the manner of a builder. `None::<String>` or `()` empties it in the CRM.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        // A JSON value always has a text.
        if let Ok(json) = serde_json::value::to_raw_value(&value.into()) {
            self.put(field.into(), json);
        }
        self
    }

    /// Sets a field to anything that can be written as JSON.
    ///
    /// # Errors
    /// `invalid_input` when it cannot, for example a map whose keys are no strings.
    pub fn set(&mut self, field: impl Into<String>, value: impl Serialize) -> Result<()> {
        let field = field.into();
        let json = serde_json::value::to_raw_value(&value).map_err(|cause| {
            Error::invalid_input(format!("the value of `{field}` cannot be written as JSON"))
                .caused_by(cause)
        })?;
        self.put(field, json);
        Ok(())
    }

    /// Sets a date-time field; fractions of a second are cut off, since the CRM knows none.
    ///
    /// # Errors
    /// `invalid_input` for years beyond 9999 and for offsets with seconds.
    pub fn set_date_time(
        &mut self,
        field: impl Into<String>,
        moment: OffsetDateTime,
    ) -> Result<()> {
        self.set(field, date_time_text(moment)?)
    }

    /// Sets a date field.
    ///
    /// # Errors
    /// None at present; the signature is that of the other setters.
    pub fn set_date(&mut self, field: impl Into<String>, date: Date) -> Result<()> {
        self.set(field, value::format_date(date))
    }

    /// Takes a field out; `true` if it was there. The CRM's value stays as it is.
    pub fn remove(&mut self, field: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(name, _)| **name != *field);
        self.fields.len() < before
    }

    /// Reads the whole record into a type of your own.
    ///
    /// # Errors
    /// `unexpected_answer` when it does not fit.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let read = serde_json::to_vec(self).and_then(|json| serde_json::from_slice(&json));
        read.map_err(|cause| {
            Error::new(
                ErrorCode::UnexpectedAnswer,
                "the record does not fit the type",
            )
            .caused_by(cause)
        })
    }

    fn put(&mut self, field: String, json: Box<RawValue>) {
        match self.fields.iter_mut().find(|(name, _)| **name == *field) {
            Some((_, value)) => *value = json,
            None => self.fields.push((field.into(), json)),
        }
    }
}

fn unfit(field: &str) -> Error {
    let text = format!("the value of the field `{field}` does not fit the type");
    Error::new(ErrorCode::UnexpectedAnswer, text)
}

/// A moment as the CRM wants it in fields and headers.
pub(crate) fn date_time_text(moment: OffsetDateTime) -> Result<String> {
    value::format_date_time(moment)
        .ok_or_else(|| Error::invalid_input("the CRM cannot represent this date-time"))
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record ")?;
        f.debug_set()
            .entries(self.fields.iter().map(|(name, _)| name))
            .finish()
    }
}

impl PartialEq for Record {
    /// Compares names and JSON text, in order.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record: an object with field names as keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Record { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: &str = r#"{"id":"5725767000000411001","Owner":{"name":"A","id":"7"},"Rate":0.10000000000000000001,"Phone":null,"Created_Time":"2019-07-25T15:26:49+05:30","Birthday":"1990-01-31"}"#;

    fn lead() -> Record {
        serde_json::from_str(LEAD).unwrap()
    }

    #[test]
    fn what_is_not_touched_comes_back_to_the_last_digit() {
        assert_eq!(serde_json::to_string(&lead()).unwrap(), LEAD);
    }

    #[test]
    fn absent_and_null_are_none_and_the_wrong_type_is_an_error() {
        let lead = lead();
        assert_eq!(lead.get::<String>("Phone").unwrap(), None);
        assert_eq!(lead.get::<String>("Fax").unwrap(), None);
        let error = lead.get::<u8>("Owner").unwrap_err();
        assert!(error.to_string().contains("`Owner`"));
        assert_eq!(lead.text("Owner"), None);
    }

    #[test]
    fn ids_and_times_have_readers() {
        let lead = lead();
        assert_eq!(lead.id().unwrap().as_str(), "5725767000000411001");
        let created = lead.date_time("Created_Time").unwrap().unwrap();
        assert_eq!(created.unix_timestamp(), 1_564_048_609);
        assert_eq!(lead.date("Birthday").unwrap().unwrap().year(), 1990);
        assert!(lead.date("Created_Time").is_err());
    }

    #[test]
    fn setting_replaces_in_place_and_removing_takes_out() {
        let mut lead = lead();
        lead.set("Rate", 2).unwrap();
        assert!(lead.remove("Owner"));
        assert!(!lead.remove("Owner"));
        let again = lead.clone().with("Phone", "1").with("Fax", Value::Null);
        let names: Vec<_> = again.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["id", "Rate", "Phone", "Created_Time", "Birthday", "Fax"]
        );
        assert_eq!(again.json("Rate"), Some("2"));
        assert_eq!(again.json("Fax"), Some("null"));
    }

    #[test]
    fn debug_shows_no_values() {
        let shown = format!("{:?}", lead());
        assert!(shown.contains("Created_Time"), "{shown}");
        assert!(!shown.contains("2019"), "{shown}");
    }

    #[test]
    fn a_whole_record_fits_a_struct() {
        #[derive(Deserialize)]
        struct Lead {
            id: RecordId,
            #[serde(rename = "Created_Time", with = "time::serde::rfc3339")]
            created: OffsetDateTime,
        }
        let lead: Lead = lead().read().unwrap();
        assert_eq!(lead.id.as_str().len(), 19);
        assert_eq!(lead.created.offset().whole_minutes(), 330);
    }
}
