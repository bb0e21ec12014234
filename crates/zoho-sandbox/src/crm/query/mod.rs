//! Conditions on records, shared by search criteria and COQL: two syntaxes, one meaning.

pub(super) mod coql;
pub(super) mod search;
mod tokens;

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::read::instant;
use super::reply::{ApiError, Result};
use super::schema::{Field, Kind, Module};
use super::store::{OrgData, Record, text};

/// How deep parentheses may be nested. The parsers call themselves for each, and the limits on
/// single conditions leave no use for more.
const DEPTH_LIMIT: usize = 50;

fn too_deep() -> ApiError {
    ApiError::new(400, "INVALID_QUERY", "invalid query formed")
        .details(json!({ "reason": "parentheses are nested too deeply", "limit": DEPTH_LIMIT }))
}

/// A condition tree.
#[derive(Clone, Debug, PartialEq)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Test(Column, Test),
}

/// What a single value is held against. Literals are text; how they are read depends on the
/// field.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equal(String),
    NotEqual(String),
    Less(String),
    LessOrEqual(String),
    Greater(String),
    GreaterOrEqual(String),
    Between(String, String),
    NotBetween(String, String),
    In(Vec<String>),
    NotIn(Vec<String>),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    NotContains(String),
    Null,
    NotNull,
}

/// A column: the record's ID, a field, or a field of the record that a lookup points to.
#[derive(Clone, Copy, Debug)]
enum Column {
    Id,
    Field(&'static Field),
    Through(&'static Field, &'static Field),
    ThroughId(&'static Field),
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Column {
    /// The column a query names, such as `Email` or `Account_Name.Industry`.
    fn parse(module: &'static Module, name: &str) -> Option<Self> {
        if name == "id" {
            return Some(Self::Id);
        }
        let Some((first, second)) = name.split_once('.') else {
            return module.field(name).map(Self::Field);
        };
        let field = module.field(first)?;
        if second == "id" && matches!(field.kind, Kind::Lookup(_) | Kind::Owner) {
            return Some(Self::ThroughId(field));
        }
        let Kind::Lookup(target) = field.kind else {
            return None;
        };
        let target = super::schema::module(target)?;
        target
            .field(second)
            .map(|second| Self::Through(field, second))
    }

    fn name(self) -> String {
        match self {
            Self::Id => "id".into(),
            Self::Field(field) => field.api_name.into(),
            Self::Through(field, second) => format!("{}.{}", field.api_name, second.api_name),
            Self::ThroughId(field) => format!("{}.id", field.api_name),
        }
    }

    fn kind(self) -> Kind {
        match self {
            // IDs compare as numbers.
            Self::Id | Self::ThroughId(_) => Kind::Integer,
            Self::Field(field) | Self::Through(_, field) => field.kind,
        }
    }

    fn value(self, data: &OrgData, record: &Record) -> Value {
        let get = |record: &Record, name: &str| record.get(name).cloned().unwrap_or_default();
        match self {
            Self::Id => get(record, "id"),
            Self::Field(field) => get(record, field.api_name),
            Self::ThroughId(field) => get(record, field.api_name)["id"].clone(),
            Self::Through(field, second) => {
                let Kind::Lookup(target) = field.kind else {
                    return Value::Null;
                };
                let id = get(record, field.api_name)["id"].as_str().map(str::parse);
                let target = super::schema::module(target);
                match (target, id) {
                    (Some(target), Some(Ok(id))) => data
                        .record(target, id)
                        .map(|record| get(record, second.api_name))
                        .unwrap_or_default(),
                    _ => Value::Null,
                }
            }
        }
    }
}

impl Condition {
    /// A single condition. A number that is too large, and what is no date-time, are refused.
    fn test(column: Column, test: Test) -> Result<Self> {
        let wrong = |literal: &String| match column.kind() {
            Kind::Integer => {
                let digits = literal.strip_prefix(['-', '+']).unwrap_or(literal);
                let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                (number && literal.parse::<i64>().is_err()).then_some("the number is too large")
            }
            Kind::DateTime => instant(literal)
                .is_none()
                .then_some("the value is no date-time"),
            _ => None,
        };
        match test.literals().into_iter().find_map(wrong) {
            Some(reason) => Err(ApiError::new(400, "INVALID_QUERY", "invalid query formed")
                .details(json!({ "column_name": column.name(), "reason": reason }))),
            None => Ok(Self::Test(column, test)),
        }
    }

    fn holds(&self, data: &OrgData, record: &Record) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(data, record)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(data, record)),
            Self::Test(column, test) => test.holds(column.kind(), &column.value(data, record)),
        }
    }

    /// How many single conditions there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::count).sum(),
            Self::Test(..) => 1,
        }
    }
}

impl Test {
    /// The values that are compared as what the column holds.
    fn literals(&self) -> Vec<&String> {
        match self {
            Self::Equal(one)
            | Self::NotEqual(one)
            | Self::Less(one)
            | Self::LessOrEqual(one)
            | Self::Greater(one)
            | Self::GreaterOrEqual(one) => vec![one],
            Self::Between(low, high) | Self::NotBetween(low, high) => vec![low, high],
            Self::In(list) | Self::NotIn(list) => list.iter().collect(),
            _ => Vec::new(),
        }
    }

    fn holds(&self, kind: Kind, value: &Value) -> bool {
        let order = |literal: &String| compare(kind, value, literal);
        let equal = |literal: &String| equals(kind, value, literal);
        let lower = || plain(value).to_lowercase();
        match self {
            Self::Null => value.is_null() || plain(value).is_empty() && !value.is_object(),
            Self::NotNull => !Self::Null.holds(kind, value),
            Self::Equal(literal) => equal(literal),
            Self::NotEqual(literal) => !equal(literal),
            Self::In(literals) => literals.iter().any(equal),
            Self::NotIn(literals) => !literals.iter().any(equal),
            Self::Less(literal) => order(literal) == Some(Ordering::Less),
            Self::Greater(literal) => order(literal) == Some(Ordering::Greater),
            Self::LessOrEqual(literal) => {
                order(literal).is_some_and(|order| order != Ordering::Greater)
            }
            Self::GreaterOrEqual(literal) => {
                order(literal).is_some_and(|order| order != Ordering::Less)
            }
            Self::Between(low, high) => {
                order(low).is_some_and(|order| order != Ordering::Less)
                    && order(high).is_some_and(|order| order != Ordering::Greater)
            }
            Self::NotBetween(low, high) => {
                !Self::Between(low.clone(), high.clone()).holds(kind, value)
            }
            Self::StartsWith(literal) => lower().starts_with(&literal.to_lowercase()),
            Self::EndsWith(literal) => lower().ends_with(&literal.to_lowercase()),
            Self::Contains(literal) => lower().contains(&literal.to_lowercase()),
            Self::NotContains(literal) => !lower().contains(&literal.to_lowercase()),
        }
    }
}

/// A value as text; pointers by their name.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Object(to) => text(to, "name").to_owned(),
        _ => String::new(),
    }
}

fn equals(kind: Kind, value: &Value, literal: &str) -> bool {
    match value {
        Value::Null => false,
        // A pointer equals the ID or the name of what it points to.
        Value::Object(to) => {
            text(to, "id") == literal || text(to, "name").eq_ignore_ascii_case(literal)
        }
        _ => compare(kind, value, literal) == Some(Ordering::Equal),
    }
}

fn compare(kind: Kind, value: &Value, literal: &str) -> Option<Ordering> {
    if value.is_null() {
        return None;
    }
    let value = plain(value);
    match kind {
        Kind::Integer => value
            .parse::<i64>()
            .ok()?
            .partial_cmp(&literal.parse().ok()?),
        Kind::Currency => value
            .parse::<f64>()
            .ok()?
            .partial_cmp(&literal.parse().ok()?),
        Kind::DateTime => instant(&value)?.partial_cmp(&instant(literal)?),
        _ => Some(value.to_lowercase().cmp(&literal.to_lowercase())),
    }
}

/// The order of two records by a column; records without a value come first.
fn order(data: &OrgData, column: Column, one: &Record, other: &Record) -> Ordering {
    let (one, other) = (column.value(data, one), column.value(data, other));
    match (one.is_null(), other.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => compare(column.kind(), &one, &plain(&other)).unwrap_or(Ordering::Equal),
    }
}

/// How deep a condition goes.
#[cfg(test)]
fn depth(condition: &Condition) -> usize {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            1 + parts.iter().map(depth).max().unwrap_or_default()
        }
        Condition::Test(..) => 1,
    }
}
