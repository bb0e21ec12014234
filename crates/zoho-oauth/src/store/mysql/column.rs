//! The columns of a token table: what the official SDKs call them, and what each can hold.

use crate::token::OAuthToken;

/// The official columns, in the official order. All statements name them in this order.
pub(super) const COLUMNS: [&str; 10] = OAuthToken::FIELDS;

/// What older official SDKs call the column `user_name`.
pub(super) const USER_MAIL: &str = "user_mail";

/// The columns that records are looked up by: the user, refresh, grant and access token.
pub(super) const KEYS: [usize; 4] = [1, 4, 6, 5];

/// A column as it is at present.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The official name, or [`USER_MAIL`].
    pub(super) name: &'static str,
    /// Character set and collation; none if the column holds bytes.
    pub(super) collation: Option<(String, String)>,
    pub(super) most_chars: u64,
    pub(super) most_bytes: u64,
    /// Whether its length is limited in bytes.
    pub(super) is_blob: bool,
    pub(super) is_nullable: bool,
    /// Whether a value may come back as another one: CHAR leaves out spaces at the end.
    pub(super) is_lossy: bool,
}

#[cfg(test)]
impl Column {
    /// The official columns.
    pub(super) fn samples(charset: &str, collation: &str) -> [Self; 10] {
        COLUMNS.map(|name| Self {
            name,
            collation: Some((charset.into(), collation.into())),
            most_chars: 255,
            most_bytes: 1020,
            is_blob: false,
            is_nullable: true,
            is_lossy: false,
        })
    }
}
