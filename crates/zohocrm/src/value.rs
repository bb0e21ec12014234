//! Values as the CRM writes them: ids, and moments with an offset.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime};

use crate::error::{Error, Result};

/// The id of a record, a user, a field…: decimal digits, up to 30 of them.
///
/// The CRM writes ids as JSON strings, since numbers of that size lose digits in JavaScript;
/// numbers are read as well. Written as a string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Box<str>);

impl RecordId {
    /// Takes the digits.
    ///
    /// # Errors
    /// `invalid_input` when it is empty, longer than 30 characters, or anything but ASCII digits.
    pub fn new(digits: impl Into<String>) -> Result<Self> {
        let digits = digits.into();
        let fits = (1..=30).contains(&digits.len());
        if !fits || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::invalid_input(
                "a record id consists of 1 to 30 digits",
            ));
        }
        Ok(Self(digits.into()))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({})", self.0)
    }
}

impl From<u64> for RecordId {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl From<&Self> for RecordId {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl FromStr for RecordId {
    type Err = Error;

    fn from_str(digits: &str) -> Result<Self> {
        Self::new(digits)
    }
}

impl TryFrom<&str> for RecordId {
    type Error = Error;

    fn try_from(digits: &str) -> Result<Self> {
        Self::new(digits)
    }
}

impl TryFrom<String> for RecordId {
    type Error = Error;

    fn try_from(digits: String) -> Result<Self> {
        Self::new(digits)
    }
}

impl TryFrom<&String> for RecordId {
    type Error = Error;

    fn try_from(digits: &String) -> Result<Self> {
        Self::new(digits)
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = RecordId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id: digits in a string, or a whole number")
            }

            fn visit_str<E: de::Error>(self, digits: &str) -> Result<RecordId, E> {
                RecordId::new(digits)
                    .map_err(|_| E::invalid_value(de::Unexpected::Other("other text"), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RecordId, E> {
                Ok(RecordId::from(number))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// Reads a date-time as the CRM writes it: ISO 8601 with an offset, or `Z`.
pub(crate) fn parse_date_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(text, &Iso8601::PARSING))
        .ok()
}

/// Reads `YYYY-MM-DD`.
pub(crate) fn parse_date(text: &str) -> Option<Date> {
    // The parser takes week dates and date-times too.
    let plain = text.len() == 10 && !text.contains('W');
    Date::parse(text, &Iso8601::DATE).ok().filter(|_| plain)
}

/// Writes a date-time as the CRM does: whole seconds, with its offset.
///
/// `None` for what RFC 3339 cannot say: years beyond 9999, offsets with seconds.
pub(crate) fn format_date_time(moment: OffsetDateTime) -> Option<String> {
    let whole = moment.replace_nanosecond(0).unwrap_or(moment);
    whole.format(&Rfc3339).ok()
}

/// Writes `YYYY-MM-DD`.
pub(crate) fn format_date(date: Date) -> String {
    let (year, month, day) = date.to_calendar_date();
    format!("{year:04}-{:02}-{day:02}", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_strings_and_numbers_and_written_as_strings() {
        let id: RecordId = serde_json::from_str("\"5725767000000411001\"").unwrap();
        assert_eq!(id.as_str(), "5725767000000411001");
        let id: RecordId = serde_json::from_str("5725767000000411001").unwrap();
        assert_eq!(
            serde_json::to_string(&id).unwrap(),
            "\"5725767000000411001\""
        );
        for bad in ["\"\"", "\"1/../2\"", "\"abc\"", "-1", "1.5", "null"] {
            assert!(serde_json::from_str::<RecordId>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_cannot_carry_a_path() {
        for bad in ["", "1/2", "1?x", "١٢", " 1", &"1".repeat(31)] {
            assert!(RecordId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn date_times_keep_their_offset() {
        let moment = parse_date_time("2019-07-25T15:26:49+05:30").unwrap();
        assert_eq!(moment.offset().whole_minutes(), 330);
        assert_eq!(
            format_date_time(moment).unwrap(),
            "2019-07-25T15:26:49+05:30"
        );
        assert!(parse_date_time("2019-07-25T15:26:49Z").is_some());
        assert!(parse_date_time("2019-07-25T15:26:49.123+05:30").is_some());
        assert!(parse_date_time("yesterday").is_none());
    }

    #[test]
    fn dates_go_there_and_back() {
        let date = parse_date("2024-02-29").unwrap();
        assert_eq!(format_date(date), "2024-02-29");
        for bad in [
            "2023-02-29",
            "20240229",
            "2024-W09-4",
            "2024-02-29T00:00:00Z",
        ] {
            assert!(parse_date(bad).is_none(), "{bad}");
        }
    }
}
