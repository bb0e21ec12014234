//! The text of a secret: a JSON object with the ten official fields.

use std::collections::BTreeMap;

use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use crate::error::{Error, ErrorCode, Result};
use crate::token::{OAuthToken, TokenId};

/// What the service takes as the text of a secret.
pub(super) const LONGEST_VALUE: usize = 65_536;

/// Writes a record: all ten fields in the official order, as text, `null` where there is nothing.
///
/// # Errors
/// `invalid_input` when the service would refuse the text as too long.
pub(super) fn encode(row: &OAuthToken) -> Result<String> {
    let fields = row.expose_fields();
    let mut text = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::new(&mut text);
    let written = serializer.serialize_map(None).and_then(|mut map| {
        for (name, value) in OAuthToken::FIELDS.iter().zip(&fields) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    });
    let text = written.ok().and_then(|()| String::from_utf8(text).ok());
    let text = text
        .ok_or_else(|| Error::new(ErrorCode::Internal, "a record could not be written as JSON"))?;
    if text.len() > LONGEST_VALUE {
        return Err(Error::invalid_input(format!(
            "the record takes {} bytes as JSON, and a secret can hold {LONGEST_VALUE}",
            text.len()
        )));
    }
    Ok(text)
}

/// Reads the record `id` from the text of the secret `name`. A field that is missing, `null` or
/// empty is none; other fields are ignored.
///
/// # Errors
/// `store_damaged`, with the name of the secret and the field.
pub(super) fn decode(name: &str, id: TokenId, text: Option<&str>) -> Result<OAuthToken> {
    let damaged = |what: &str| {
        let message = format!("the secret `{name}` {what}");
        Error::new(ErrorCode::StoreDamaged, message)
    };
    let text = text.ok_or_else(|| damaged("holds no text"))?;
    let mut object: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|_| damaged("is no JSON object"))?;
    let mut fields = [const { None }; 10];
    for (field, name) in fields.iter_mut().zip(OAuthToken::FIELDS) {
        *field = match object.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(_) => return Err(damaged(&format!("holds no text in the field `{name}`"))),
        };
    }
    let row = OAuthToken::from_fields(&fields).map_err(|error| damaged(error.message()))?;
    if row.id.is_some_and(|written| written != id) {
        return Err(damaged("says that it is another record"));
    }
    Ok(OAuthToken {
        id: Some(id),
        ..row
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::RefreshToken;
    use crate::token::UserName;

    fn id() -> TokenId {
        TokenId::new(7).unwrap()
    }

    #[test]
    fn a_record_is_ten_fields_in_the_official_order() {
        let mut row = OAuthToken::new();
        row.id = Some(id());
        row.user_name = UserName::received("o\"brien\n").ok();
        row.refresh_token = RefreshToken::new("1000.r").ok();
        let text = encode(&row).unwrap();
        assert_eq!(
            text,
            "{\"id\":\"7\",\"user_name\":\"o\\\"brien\\n\",\"client_id\":null,\
             \"client_secret\":null,\"refresh_token\":\"1000.r\",\"access_token\":null,\
             \"grant_token\":null,\"expiry_time\":null,\"redirect_url\":null,\"api_domain\":null}"
        );
        assert_eq!(decode("n", id(), Some(&text)).unwrap(), row);
    }

    #[test]
    fn what_other_tools_write_is_read() {
        let text = r#"{"refresh_token": "r", "expiry_time": 12, "note": [], "client_id": ""}"#;
        let row = decode("n", id(), Some(text)).unwrap();
        assert_eq!(row.id, Some(id()));
        assert_eq!(row.expiry_time.map(crate::Timestamp::as_millis), Some(12));
        assert_eq!(row.client_id, None);
    }

    #[test]
    fn damage_is_named_and_not_quoted() {
        for (text, says) in [
            (None, "holds no text"),
            (Some("s3cret"), "no JSON object"),
            (Some("[\"s3cret\"]"), "no JSON object"),
            (Some("{\"expiry_time\":\"s3cret\"}"), "`expiry_time`"),
            (Some("{\"access_token\":[\"s3cret\"]}"), "`access_token`"),
            (
                Some("{\"id\":\"8\",\"client_secret\":\"s3cret\"}"),
                "another record",
            ),
        ] {
            let error = decode("p/token/7", id(), text).unwrap_err();
            assert_eq!(error.code(), ErrorCode::StoreDamaged);
            let all = format!("{error} {error:?}");
            assert!(all.contains(says) && all.contains("p/token/7"), "{all}");
            assert!(!all.contains("s3cret"), "{all}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut row = OAuthToken::new();
        row.id = Some(id());
        let room = LONGEST_VALUE - encode(&row).unwrap().len() + "null".len() - 2;
        row.redirect_url = Some("u".repeat(room));
        assert_eq!(encode(&row).unwrap().len(), LONGEST_VALUE);
        row.redirect_url = Some("u".repeat(room + 1));
        let error = encode(&row).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput);
        assert!(error.to_string().contains("65537 bytes"), "{error}");
    }
}
