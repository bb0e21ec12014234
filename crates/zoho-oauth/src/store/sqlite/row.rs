//! Records to rows and back.

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Row};

use super::fault::Place;
use super::sql::COLUMNS;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::secret::{AccessToken, ClientSecret, GrantToken, RefreshToken};
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// Reads a row of the official columns, with its rowid behind them.
///
/// NULL and '' mean none. Numbers are read as the text they would be.
pub(super) fn decode(row: &Row<'_>, place: &Place) -> Result<OAuthToken> {
    let fields = Fields { row, place };
    let id = fields.with(0, |text| text.parse().ok(), "is no id")?;
    let id: TokenId = id.ok_or_else(|| fields.damaged(0, "is empty"))?;
    Ok(OAuthToken {
        id: Some(id),
        user_name: fields.text(1, UserName::received)?,
        client_id: fields.text(2, ClientId::received)?,
        client_secret: fields.text(3, ClientSecret::received)?,
        refresh_token: fields.text(4, RefreshToken::received)?,
        access_token: fields.text(5, AccessToken::received)?,
        grant_token: fields.text(6, GrantToken::received)?,
        expiry_time: fields.with(7, read_expiry, "is no time in milliseconds")?,
        redirect_url: fields.text(8, Ok)?,
        api_domain: fields.text(9, Ok)?,
    })
}

fn read_expiry(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_millis)
}

struct Fields<'a> {
    row: &'a Row<'a>,
    place: &'a Place,
}

impl Fields<'_> {
    fn damaged(&self, index: usize, what: &str) -> crate::Error {
        // The row was selected with its rowid, so reading that cannot fail.
        let rowid = self.row.get(COLUMNS.len()).unwrap_or_default();
        let what = format!("the column `{}` {what}", COLUMNS[index]);
        self.place.damaged_row(rowid, &what)
    }

    fn text<T>(&self, index: usize, make: impl FnOnce(String) -> Result<T>) -> Result<Option<T>> {
        let make = |text: &str| make(text.to_owned()).ok();
        self.with(index, make, "cannot be read")
    }

    /// Reads a column; `None` from `make` is damage, described by `otherwise`.
    fn with<T>(
        &self,
        index: usize,
        make: impl FnOnce(&str) -> Option<T>,
        otherwise: &str,
    ) -> Result<Option<T>> {
        let value = self.row.get_ref(index);
        let made = match value.map_err(|error| self.place.fault(&error))? {
            ValueRef::Null | ValueRef::Text(b"") => return Ok(None),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => make(text),
                Err(_) => return Err(self.damaged(index, "is not UTF-8")),
            },
            ValueRef::Integer(number) => make(&number.to_string()),
            ValueRef::Real(_) | ValueRef::Blob(_) => {
                return Err(self.damaged(index, "is not text"));
            }
        };
        made.map(Some).ok_or_else(|| self.damaged(index, otherwise))
    }
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
