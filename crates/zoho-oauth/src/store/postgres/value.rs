//! Records to bound values, and rows back to records.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::fault::Place;
use crate::error::{ErrorCode, Result};
use crate::store::rows;
use crate::token::{OAuthToken, TokenId};

/// A bound value. `Debug` prints nothing of it: the driver logs what it binds, at its debug level.
pub(super) enum Value<'a> {
    /// `None` is NULL.
    Text(Option<Cow<'a, str>>),
    Number(i64),
    /// A number, or NULL.
    Moment(Option<i64>),
}

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(Some(text.into()))
    }

    /// The value, which then borrows from nothing.
    pub(super) fn owned(self) -> Value<'static> {
        match self {
            Self::Text(text) => Value::Text(text.map(|text| Cow::Owned(text.into_owned()))),
            Self::Number(number) => Value::Number(number),
            Self::Moment(number) => Value::Moment(number),
        }
    }

    pub(super) fn id(id: TokenId) -> Self {
        Self::text(id.to_string())
    }

    /// The type that the statement has for it.
    pub(super) const fn kind(&self) -> Type {
        match self {
            Self::Text(_) => Type::TEXT,
            Self::Number(_) | Self::Moment(_) => Type::INT8,
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Text(text) => text.as_deref().to_sql(ty, out),
            Self::Number(number) => number.to_sql(ty, out),
            Self::Moment(number) => number.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT || *ty == Type::INT8
    }

    to_sql_checked!();
}

/// The nine fields beside the id as they are stored: what is missing is NULL.
pub(super) fn stored_fields(token: &OAuthToken) -> impl Iterator<Item = Value<'_>> {
    token.expose_fields().into_iter().skip(1).map(Value::Text)
}

/// The nine fields beside the id as they are compared: what is missing is empty.
pub(super) fn compared_fields(token: &OAuthToken) -> impl Iterator<Item = Value<'_>> {
    let fields = token.expose_fields().into_iter().skip(1);
    fields.map(|field| Value::text(field.unwrap_or_default()))
}

/// Reads a row of the ten official columns. NULL and `''` mean none.
///
/// # Errors
/// `store_damaged`, naming the column and never a value.
pub(super) fn decode(row: &Row, place: &Place) -> Result<OAuthToken> {
    let mut fields = [None; 10];
    for (index, field) in fields.iter_mut().enumerate() {
        *field = row
            .try_get::<_, Option<&str>>(index)
            .map_err(|error| place.unreadable(&error))?;
    }
    let id = fields[0].and_then(|id| id.parse::<TokenId>().ok());
    let Some(id) = id else {
        let what = rows::no_id(fields[0].unwrap_or_default());
        return Err(place.damaged(&format!("a row whose column `id` {what}")));
    };
    let expiry = fields[7].filter(|text| !text.is_empty());
    if expiry.is_some_and(|text| rows::time(text).is_none()) {
        let what = format!("record {id}: the column `expiry_time` is no time in milliseconds");
        return Err(place.damaged(&what));
    }
    OAuthToken::from_fields(&fields).map_err(|error| match error.code() {
        ErrorCode::InvalidInput => place.damaged(&format!("record {id}: {}", error.message())),
        _ => error,
    })
}

/// Returns those values of an unreadable row that are text.
pub(super) fn rest(row: &Row) -> [Option<&str>; 10] {
    std::array::from_fn(|index| row.try_get::<_, Option<&str>>(index).ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_value_prints_nothing() {
        for value in [Value::text("1000.secret"), Value::Number(4711)] {
            assert_eq!(format!("{value:?}"), "[redacted]");
            let bound: &(dyn ToSql + Sync) = &value;
            assert_eq!(format!("{bound:?}"), "[redacted]");
        }
    }
}
