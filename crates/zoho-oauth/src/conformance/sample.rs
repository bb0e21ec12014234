//! Records for the rules, written as one line of text.

use crate::clock::Timestamp;
use crate::query::TokenQuery;
use crate::secret::{AccessToken, ClientSecret, GrantToken, RefreshToken};
use crate::token::{ClientId, OAuthToken, UserName};

/// Returns a record from `"user=a client=c refresh=r expiry=7"`: any of the ten fields but the id.
pub(super) fn token(text: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    for field in text.split_whitespace() {
        let (name, value) = field.split_once('=').expect("a field has a value");
        if name == "expiry" {
            let millis = value.parse().expect("an expiry is a number");
            token.expiry_time = Some(Timestamp::from_millis(millis));
        } else {
            set(&mut token, name, value);
        }
    }
    token
}

/// The fields that hold text, by the names that [`token`] knows.
pub(super) const TEXT_FIELDS: [&str; 8] = [
    "user", "client", "secret", "refresh", "access", "grant", "url", "domain",
];

/// Sets a text field.
pub(super) fn set(token: &mut OAuthToken, field: &str, value: &str) {
    let filled = "the kit sets no empty values";
    match field {
        "user" => token.user_name = Some(UserName::received(value).expect(filled)),
        "client" => token.client_id = Some(ClientId::received(value).expect(filled)),
        "secret" => token.client_secret = Some(ClientSecret::received(value).expect(filled)),
        "refresh" => token.refresh_token = Some(RefreshToken::received(value).expect(filled)),
        "access" => token.access_token = Some(AccessToken::received(value).expect(filled)),
        "grant" => token.grant_token = Some(GrantToken::received(value).expect(filled)),
        "url" => token.redirect_url = Some(value.into()),
        "domain" => token.api_domain = Some(value.into()),
        other => unreachable!("no text field is called {other}"),
    }
}

/// Returns the query for a field that can be searched.
pub(super) fn query(field: &str, value: &str) -> TokenQuery {
    let filled = "the kit asks for no empty values";
    match field {
        "user" => TokenQuery::user_name(UserName::received(value).expect(filled)),
        "refresh" => TokenQuery::refresh_token(RefreshToken::received(value).expect(filled)),
        "access" => TokenQuery::access_token(AccessToken::received(value).expect(filled)),
        "grant" => TokenQuery::grant_token(GrantToken::received(value).expect(filled)),
        other => unreachable!("no field that can be searched is called {other}"),
    }
}

/// Returns a client id.
pub(super) fn client(value: &str) -> ClientId {
    ClientId::received(value).expect("the kit names no empty client")
}

/// Writes a record as [`token`] reads it, secrets included: they are made up. Long values are cut.
pub(super) fn describe(token: &OAuthToken) -> String {
    let mut text = token.id.map_or_else(String::new, |id| format!("id={id}"));
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let gap = if text.is_empty() { "" } else { " " };
            let start: String = value.chars().take(60).collect();
            let rest = value.len() - start.len();
            let cut = if rest > 0 {
                format!("…({rest} more bytes)")
            } else {
                String::new()
            };
            text.extend([format!("{gap}{name}={}{cut}", start.escape_debug())]);
        }
    };
    let expiry = token.expiry_time.map(|at| at.to_string());
    add("user", token.user_name.as_ref().map(UserName::as_str));
    add("client", token.client_id.as_ref().map(ClientId::as_str));
    add(
        "secret",
        token
            .client_secret
            .as_ref()
            .map(ClientSecret::expose_secret),
    );
    add(
        "refresh",
        token
            .refresh_token
            .as_ref()
            .map(RefreshToken::expose_secret),
    );
    add(
        "access",
        token.access_token.as_ref().map(AccessToken::expose_secret),
    );
    add(
        "grant",
        token.grant_token.as_ref().map(GrantToken::expose_secret),
    );
    add("expiry", expiry.as_deref());
    add("url", token.redirect_url.as_deref());
    add("domain", token.api_domain.as_deref());
    text
}

/// Writes several records.
pub(super) fn describe_all(tokens: &[OAuthToken]) -> String {
    let texts: Vec<_> = tokens
        .iter()
        .map(|token| format!("`{}`", describe(token)))
        .collect();
    match texts.as_slice() {
        [] => "nothing".into(),
        texts => texts.join(", "),
    }
}

/// Says in what two lists differ, without what they have in common.
pub(super) fn difference(expected: &[OAuthToken], found: &[OAuthToken]) -> String {
    let only = |these: &[OAuthToken], others: &[OAuthToken]| {
        let only: Vec<_> = these
            .iter()
            .filter(|row| !others.contains(row))
            .cloned()
            .collect();
        describe_all(&only)
    };
    let (missing, surplus) = (only(expected, found), only(found, expected));
    if missing == surplus {
        return format!("the order or the number differs: {}", describe_all(found));
    }
    format!("expected {missing}, found {surplus}")
}

/// Returns whether `text` holds one of the secrets of `token`.
pub(super) fn leaks(token: &OAuthToken, text: &str) -> bool {
    secrets(token)
        // A part is as bad as the whole.
        .flat_map(|secret| secret.split(['.', '\0', '\'']))
        .any(|part| part.len() >= 8 && text.contains(part))
}

/// Returns whether `text` holds eight characters in a row of one of the secrets of `token`. For
/// secrets that have no words in them, which a text may hold for other reasons.
pub(super) fn leaks_a_part(token: &OAuthToken, text: &str) -> bool {
    secrets(token).any(|secret| {
        let parts = secret.as_bytes().windows(8);
        let mut parts = parts.filter_map(|part| std::str::from_utf8(part).ok());
        parts.any(|part| text.contains(part))
    })
}

fn secrets(token: &OAuthToken) -> impl Iterator<Item = &str> {
    [
        token
            .client_secret
            .as_ref()
            .map(ClientSecret::expose_secret),
        token
            .refresh_token
            .as_ref()
            .map(RefreshToken::expose_secret),
        token.access_token.as_ref().map(AccessToken::expose_secret),
        token.grant_token.as_ref().map(GrantToken::expose_secret),
    ]
    .into_iter()
    .flatten()
}
