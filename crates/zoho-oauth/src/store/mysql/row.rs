//! Records to rows and back.

use mysql_async::{Row, Value};

use super::column::{COLUMNS, Column};
use super::sql::text;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::{AccessToken, ClientSecret, GrantToken, RefreshToken};
use crate::store::rows;
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// Reads a row of the ten columns. NULL and '' mean none, and so does the text `null`: see
/// [`OAuthToken::official_texts`].
///
/// # Errors
/// `store_damaged`, naming the table and the column and no value but the id.
pub(super) fn decode(row: Row, table: &str) -> Result<OAuthToken> {
    let mut values = row.unwrap_raw().into_iter().flatten();
    let mut fields: [Option<String>; 10] = Default::default();
    let mut id = None;
    for (index, field) in fields.iter_mut().enumerate() {
        let value = values.next().unwrap_or(Value::NULL);
        *field = read(value).map_err(|what| damaged(table, id, index, what))?;
        if index == 0 {
            id = field.as_deref().and_then(|text| text.parse().ok());
            if id.is_none() {
                let what = rows::no_id(field.as_deref().unwrap_or_default());
                return Err(damaged(table, id, 0, &what));
            }
        }
    }
    let meant = OAuthToken::official_texts(fields.each_ref().map(Option::as_deref));
    let meant = meant.map(|text| text.is_some());
    for (field, is_meant) in fields.iter_mut().zip(meant) {
        if !is_meant {
            *field = None;
        }
    }
    let [
        _,
        user,
        client,
        secret,
        refresh,
        access,
        grant,
        expiry,
        redirect,
        domain,
    ] = fields;
    let no_time = || damaged(table, id, 7, "is no time in milliseconds");
    let expiry_time = expiry
        .map(|text| rows::time(&text).ok_or_else(no_time))
        .transpose()?;
    Ok(OAuthToken {
        id,
        user_name: user.map(UserName::received).transpose()?,
        client_id: client.map(ClientId::received).transpose()?,
        client_secret: secret.map(ClientSecret::received).transpose()?,
        refresh_token: refresh.map(RefreshToken::received).transpose()?,
        access_token: access.map(AccessToken::received).transpose()?,
        grant_token: grant.map(GrantToken::received).transpose()?,
        expiry_time,
        redirect_url: redirect,
        api_domain: domain,
    })
}

/// Returns those values of an unreadable row that are text and not absent.
pub(super) fn rest(row: &Row) -> [Option<String>; 10] {
    let texts: [Option<String>; 10] = std::array::from_fn(|index| match row.as_ref(index) {
        Some(Value::Bytes(bytes)) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    });
    let meant = OAuthToken::official_texts(texts.each_ref().map(Option::as_deref));
    meant.map(|text| text.map(str::to_owned))
}

/// The text of a value, without copying it; nothing for NULL and ''.
fn read(value: Value) -> Result<Option<String>, &'static str> {
    match value {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) if bytes.is_empty() => Ok(None),
        Value::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err("is not UTF-8"),
        },
        _ => Err("is not text"),
    }
}

pub(super) fn damaged(table: &str, id: Option<TokenId>, column: usize, what: &str) -> Error {
    let row = id.map_or_else(String::new, |id| format!(", id {id}"));
    let column = COLUMNS[column];
    let message = format!("table `{table}`{row}: the column `{column}` {what}");
    Error::new(ErrorCode::StoreDamaged, message)
}

/// The ten values of a row as they are written. None is NULL, or '' where the column has no NULL.
pub(super) fn encode(token: &OAuthToken, columns: &[Column; 10]) -> Vec<Value> {
    let blank = |column: &Column| {
        if column.is_nullable {
            Value::NULL
        } else {
            text("")
        }
    };
    let fields = token.expose_fields();
    let values = fields.iter().zip(columns);
    values
        .map(|(field, column)| field.as_deref().map_or_else(|| blank(column), text))
        .collect()
}

/// What to bind where a row must be exactly this: the id twice, then the other fields.
pub(super) fn exactly(token: &OAuthToken) -> Vec<Value> {
    let fields = token.expose_fields();
    let mut values: Vec<_> = fields
        .iter()
        .map(|field| text(field.as_deref().unwrap_or_default()))
        .collect();
    values.insert(0, values[0].clone());
    values
}

/// Refuses a record with a value that is longer than its column.
///
/// # Errors
/// `column_too_narrow`, naming the column.
pub(super) fn check_fit(token: &OAuthToken, columns: &[Column; 10], table: &str) -> Result<()> {
    for (field, column) in token.expose_fields().into_iter().zip(columns) {
        let fits = |text: &str| {
            let chars = text.chars().count() as u64;
            // In UTF-8; what a column in UTF-16 cannot hold, the server refuses.
            chars <= column.most_chars
                && (!column.is_blob || text.len() as u64 <= column.most_bytes)
        };
        if let Some(text) = field
            && !fits(&text)
        {
            let (name, most) = (column.name, column.most_chars);
            let message = format!(
                "a value is longer than the {most} characters of the column `{name}` of table \
                `{table}`"
            );
            return Err(Error::new(ErrorCode::ColumnTooNarrow, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_name_and_not_quoted() {
        let columns = Column::samples("utf8mb4", "utf8mb4_bin");
        let mut token = OAuthToken::new();
        // Characters count, not bytes.
        token.user_name = UserName::received("ü".repeat(255)).ok();
        check_fit(&token, &columns, "t").unwrap();
        token.access_token = AccessToken::received("secret".repeat(43)).ok();
        let error = check_fit(&token, &columns, "t").unwrap_err();
        assert_eq!(error.code(), ErrorCode::ColumnTooNarrow);
        assert!(error.to_string().contains("`access_token`"), "{error}");
        assert!(!error.to_string().contains("secretsecret"), "{error}");
    }

    #[test]
    fn nothing_is_written_as_the_column_can_hold_it() {
        let mut columns = Column::samples("utf8mb4", "utf8mb4_bin");
        columns[1].is_nullable = false;
        let values = encode(&OAuthToken::new(), &columns);
        assert_eq!(values[1], text(""));
        assert_eq!(values[9], Value::NULL);
    }
}
