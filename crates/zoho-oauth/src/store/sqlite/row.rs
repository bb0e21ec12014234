//! Records to rows and back.

use std::borrow::Cow;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Row};

use super::fault::Place;
use super::sql::COLUMNS;
use crate::error::Result;
use crate::token::OAuthToken;

/// Reads a row of the official columns, with its rowid behind them.
///
/// NULL and '' mean none, and so does the text `null` as [`OAuthToken::official_texts`] says.
/// Numbers are read as the text they would be.
pub(super) fn decode(row: &Row<'_>, place: &Place) -> Result<OAuthToken> {
    // The row was selected with its rowid, so reading that cannot fail.
    let damaged = |what: &str| place.damaged_row(row.get(COLUMNS.len()).unwrap_or_default(), what);
    let no_text =
        |index: usize, what: &str| damaged(&format!("the field `{}` {what}", COLUMNS[index]));
    let mut texts = [const { None }; COLUMNS.len()];
    for (index, text) in texts.iter_mut().enumerate() {
        let value = row.get_ref(index).map_err(|error| place.fault(&error))?;
        *text = match value {
            ValueRef::Null => None,
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(Cow::Borrowed(text)),
                Err(_) => return Err(no_text(index, "is not UTF-8")),
            },
            ValueRef::Integer(number) => Some(Cow::Owned(number.to_string())),
            ValueRef::Real(_) | ValueRef::Blob(_) => return Err(no_text(index, "is not text")),
        };
    }
    let texts = OAuthToken::official_texts(texts.each_ref().map(Option::as_deref));
    if texts[0].is_none() {
        return Err(no_text(0, "is empty"));
    }
    OAuthToken::from_fields(&texts).map_err(|error| damaged(error.message()))
}

/// Binds a record to the ten parameters of an insert or update. None becomes NULL.
pub(super) fn bind(
    statement: &mut CachedStatement<'_>,
    token: &OAuthToken,
) -> rusqlite::Result<()> {
    for (index, value) in token.expose_fields().iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value.as_deref())?;
    }
    Ok(())
}
