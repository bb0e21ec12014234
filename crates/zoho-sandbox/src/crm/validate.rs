//! Checking a record that a client wants to write, field by field.

use serde_json::{Value, json};
use time::Date;
use time::format_description::well_known::Iso8601;

use super::read::instant;
use super::reply::{ApiError, Result};
use super::schema::{self, Field, Kind, Module};
use super::store::{OrgData, Record, text};

/// What a record is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Mandatory fields must be there.
    Create,
    /// Mandatory fields must not be emptied.
    Update,
}

/// Keys of a record that are not fields, and are taken without a look.
const PASSED_OVER: &[&str] = &["id", "Layout", "Record_Image"];

/// The most tags of a record, and the most characters in the name of one.
const TAGS_LIMIT: usize = 100;
const TAG_LENGTH: usize = 120;

pub(super) struct Checker<'a> {
    pub(super) data: &'a OrgData,
    pub(super) module: &'static Module,
    pub(super) purpose: Purpose,
    /// Position in `data`, for `json_path`.
    pub(super) index: usize,
    /// The record that is being changed, for unique fields.
    pub(super) own_id: Option<u64>,
    pub(super) refuse_unknown: bool,
    /// Whether a record that names no layout needs the fields of one too.
    pub(super) require_layout_fields: bool,
}

impl Checker<'_> {
    /// The record as it is to be stored.
    pub(super) fn check(&self, given: &Record) -> Result<Record> {
        let mut checked = Record::new();
        for (key, value) in given {
            if key.starts_with('$') || PASSED_OVER.contains(&key.as_str()) {
                continue;
            }
            if key == "Tag" {
                checked.insert(key.clone(), self.tags(value)?);
                continue;
            }
            let Some(field) = self.module.field(key) else {
                if self.refuse_unknown {
                    return Err(ApiError::invalid_data(self.place(key, json!({}))));
                }
                continue;
            };
            // System fields in a request are passed over, as the real service does.
            if field.read_only {
                continue;
            }
            checked.insert(key.clone(), self.value(field, value)?);
        }
        let layout = given.get("Layout").and_then(id_of).is_some();
        self.mandatory(&checked, layout || self.require_layout_fields)?;
        self.unique(&checked)?;
        Ok(checked)
    }

    fn mandatory(&self, checked: &Record, layout: bool) -> Result<()> {
        let empty = |value: Option<&Value>| match value {
            None => self.purpose == Purpose::Create,
            Some(Value::Null) => true,
            Some(Value::String(text)) => text.trim().is_empty() || text == "-None-",
            Some(_) => false,
        };
        let fields = self.module.fields.iter();
        match fields
            .filter(|field| field.mandatory || layout && field.layout_mandatory)
            .find(|field| empty(checked.get(field.api_name)))
        {
            Some(field) => {
                Err(
                    ApiError::new(400, "MANDATORY_NOT_FOUND", "required field not found")
                        .details(self.place(field.api_name, json!({}))),
                )
            }
            None => Ok(()),
        }
    }

    fn unique(&self, checked: &Record) -> Result<()> {
        for field in self.module.fields.iter().filter(|field| field.unique) {
            let Some(value) = checked.get(field.api_name) else {
                continue;
            };
            let mut twins = holders(self.data, self.module, field, value);
            let twin = twins.find(|twin| text(twin, "id").parse().ok() != self.own_id);
            if let Some(twin) = twin {
                let owner = twin.get("Owner").cloned().unwrap_or_default();
                let more = json!({
                    "id": twin["id"],
                    "more_records": false,
                    "duplicate_record": {
                        "id": twin["id"],
                        "Owner": { "name": owner["name"], "id": owner["id"] },
                        "module": {
                            "api_name": self.module.api_name,
                            "id": self.data.fixed_id(101 + schema::position(self.module)),
                        },
                    },
                });
                return Err(ApiError::new(400, "DUPLICATE_DATA", "duplicate data")
                    .details(self.place(field.api_name, more)));
            }
        }
        Ok(())
    }

    fn value(&self, field: &Field, value: &Value) -> Result<Value> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let wrong_type =
            || self.wrong(field, json!({ "expected_data_type": expected(field.kind) }));
        match field.kind {
            Kind::Integer => self.integer(field, value),
            Kind::Currency => {
                let number = match value {
                    Value::Number(number) => number.as_f64(),
                    _ => None,
                };
                number
                    .filter(|number| number.abs() < 1e16)
                    .ok_or_else(wrong_type)?;
                Ok(value.clone())
            }
            Kind::Boolean => value.as_bool().map(Value::Bool).ok_or_else(wrong_type),
            Kind::Lookup(target) => self.lookup(field, target, value),
            Kind::Owner => self.owner(field, value),
            Kind::Picklist(choices) => {
                let given = value.as_str().ok_or_else(wrong_type)?;
                if choices.contains(&given) {
                    // "-None-" is how the API is told to empty a picklist.
                    let none = given == "-None-";
                    Ok(if none { Value::Null } else { value.clone() })
                } else {
                    Err(self.wrong(field, json!({ "supported_values": choices })))
                }
            }
            _ => {
                let given = value.as_str().ok_or_else(wrong_type)?;
                if given.chars().count() > field.length {
                    return Err(self.wrong(field, json!({ "maximum_length": field.length })));
                }
                if !well_formed(field.kind, given) {
                    return Err(wrong_type());
                }
                Ok(value.clone())
            }
        }
    }

    fn integer(&self, field: &Field, value: &Value) -> Result<Value> {
        let number = value.as_i64().ok_or_else(|| {
            self.wrong(field, json!({ "expected_data_type": expected(field.kind) }))
        })?;
        let digits = number.unsigned_abs().to_string().len();
        if digits > field.length {
            return Err(self.wrong(field, json!({ "maximum_length": field.length })));
        }
        Ok(value.clone())
    }

    fn lookup(&self, field: &Field, target: &str, value: &Value) -> Result<Value> {
        let id = id_of(value)
            .ok_or_else(|| self.wrong(field, json!({ "expected_data_type": "jsonobject" })))?;
        let target = schema::module(target);
        let found = target.and_then(|target| Some((target, self.data.record(target, id)?)));
        let (target, record) = found.ok_or_else(|| self.wrong(field, json!({})))?;
        let name = text(record, target.name_field);
        Ok(json!({ "name": name, "id": id.to_string() }))
    }

    fn owner(&self, field: &Field, value: &Value) -> Result<Value> {
        let user = id_of(value).and_then(|id| self.data.user_by_id(id));
        let user = user.ok_or_else(|| self.wrong(field, json!({})))?;
        Ok(user.reference())
    }

    /// Tags, as `[{name, id, color_code}]`. Nothing else of them is stored: what is stored is
    /// shown again, inside an answer that must not be deeper than readers of JSON allow.
    fn tags(&self, value: &Value) -> Result<Value> {
        let wrong = |more| ApiError::invalid_data(self.place("Tag", more));
        let wrong_type = || wrong(json!({ "expected_data_type": "jsonarray" }));
        let given = match value {
            Value::Null => return Ok(json!([])),
            Value::Array(given) => given,
            _ => return Err(wrong_type()),
        };
        if given.len() > TAGS_LIMIT {
            return Err(wrong(json!({ "maximum_length": TAGS_LIMIT })));
        }
        let mut tags = Vec::new();
        for tag in given {
            let name = tag["name"].as_str().ok_or_else(wrong_type)?;
            if name.chars().count() > TAG_LENGTH {
                return Err(wrong(json!({ "maximum_length": TAG_LENGTH })));
            }
            let color = tag["color_code"].as_str().filter(|color| color.len() <= 7);
            let id = id_of(&tag["id"]).map(|id| id.to_string());
            tags.push(json!({ "name": name, "id": id, "color_code": color }));
        }
        Ok(Value::Array(tags))
    }

    fn wrong(&self, field: &Field, more: Value) -> ApiError {
        ApiError::invalid_data(self.place(field.api_name, more))
    }

    /// Details that say which field of which record.
    fn place(&self, api_name: &str, mut more: Value) -> Value {
        more["api_name"] = api_name.into();
        more["json_path"] = format!("$.data[{}].{api_name}", self.index).into();
        more
    }
}

/// The records that have this value in a field. What is empty, nothing has.
pub(super) fn holders<'a>(
    data: &'a OrgData,
    module: &Module,
    field: &'a Field,
    value: &Value,
) -> impl Iterator<Item = &'a Record> {
    let wanted = comparable(field.kind, value);
    data.records(module).filter(move |record| {
        let has = record.get(field.api_name);
        wanted.is_some() && has.and_then(|has| comparable(field.kind, has)) == wanted
    })
}

/// A value for the question whether two are the same: without case, numbers by what they mean,
/// pointers by the ID.
fn comparable(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (Kind::Lookup(_) | Kind::Owner, to) => id_of(to).map(|id| id.to_string()),
        (Kind::Picklist(_), Value::String(text)) if text == "-None-" => None,
        (_, Value::String(text)) => {
            let text = text.trim().to_lowercase();
            (!text.is_empty()).then_some(text)
        }
        (_, Value::Number(number)) => number.as_f64().map(|number| number.to_string()),
        (_, Value::Bool(flag)) => Some(flag.to_string()),
        _ => None,
    }
}

/// An ID as text: digits, and no more than fit in 64 bits.
pub(super) fn id_from(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// An ID as clients send it: digits in a string, a number, or an object with either.
pub(super) fn id_of(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => id_from(text),
        Value::Number(number) => number.as_u64(),
        Value::Object(object) => object.get("id").and_then(id_of),
        _ => None,
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Email | Kind::Phone | Kind::Website | Kind::Date | Kind::DateTime => kind.data_type(),
        _ => kind.json_type(),
    }
}

fn well_formed(kind: Kind, given: &str) -> bool {
    if given.is_empty() {
        return true;
    }
    match kind {
        Kind::Email => given.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && domain.contains('.')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
                && !domain.contains("..")
                && !domain.contains('@')
                && !given
                    .chars()
                    .any(|letter| letter.is_whitespace() || letter == ',')
        }),
        Kind::Phone => given
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || " +-.()#;:/&".contains(letter)),
        Kind::Website => !given.contains(char::is_whitespace) && given.contains('.'),
        Kind::Date => given.len() == 10 && Date::parse(given, &Iso8601::DATE).is_ok(),
        Kind::DateTime => instant(given).is_some(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_dates_have_their_form() {
        assert!(well_formed(Kind::Email, "a.b+c@mail.example.com"));
        for bad in [
            "a",
            "@example.com",
            "a@example",
            "a@b@example.com",
            "a b@example.com",
        ] {
            assert!(!well_formed(Kind::Email, bad), "{bad}");
        }
        assert!(well_formed(Kind::Date, "2026-02-28"));
        assert!(!well_formed(Kind::Date, "2026-02-30"));
        assert!(!well_formed(Kind::Date, "28/02/2026"));
        for good in ["+05:30", "+0530", "Z"] {
            let given = format!("2026-02-28T10:00:00{good}");
            assert!(well_formed(Kind::DateTime, &given), "{given}");
        }
        assert!(!well_formed(Kind::DateTime, "2026-02-28T10:00:00"));
    }
}
