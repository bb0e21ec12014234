//! Names of keys, and of what is in them.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::store::rows::Wanted;
use crate::token::OAuthToken;

/// The fields that records are found by, as places in the ten, with the names of their indexes.
const INDEXES: [(usize, &str); 4] = [(1, "user"), (4, "refresh"), (5, "access"), (6, "grant")];

/// The names of all keys of one store.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    /// What every key begins with. The braces put all keys of the store into one slot of a cluster.
    base: String,
    /// Where changes are told. Other databases of the same server have channels of their own.
    channel: String,
}

impl Names {
    pub(super) fn new(prefix: String, database: i64) -> Self {
        Self {
            base: format!("{{{prefix}}}:"),
            channel: format!("{{{prefix}}}:changes:{database}"),
            prefix,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }
}

/// Returns the name of what leads to the rows that are wanted.
pub(super) fn wanted(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Id(id) => format!("token:{id}"),
        Wanted::UserName(name) => index("user", name.as_str().as_bytes()),
        Wanted::RefreshToken(token) => index("refresh", token.expose_secret().as_bytes()),
        Wanted::AccessToken(token) => index("access", token.expose_secret().as_bytes()),
        Wanted::GrantToken(token) => index("grant", token.expose_secret().as_bytes()),
    }
}

/// Returns the names of the indexes that lead to a record with these fields: one for each field
/// that records are found by, empty for one without a value.
pub(super) fn indexes<'a>(fields: impl Fn(usize) -> Option<&'a [u8]>) -> [String; 4] {
    INDEXES.map(|(field, name)| match fields(field) {
        Some(value) if !value.is_empty() => index(name, value),
        _ => String::new(),
    })
}

/// Returns what [`indexes`] says of a record, and its ten fields as they are stored; nothing of a
/// record that is not there.
pub(super) fn stored(record: Option<&OAuthToken>) -> ([Cow<'_, str>; 10], [String; 4]) {
    let fields = record.map_or([const { None }; 10], OAuthToken::expose_fields);
    let indexes = indexes(|field| fields[field].as_ref().map(|value| value.as_bytes()));
    (fields.map(Option::unwrap_or_default), indexes)
}

/// The value itself would be in every listing of the keys. Half of the digest is enough: whoever
/// made two values meet would make records of two be looked at, and no more.
fn index(name: &str, value: &[u8]) -> String {
    let digest = Sha256::digest(value);
    format!("{name}:{}", hex(&digest[..16]))
}

/// Writes bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::RefreshToken;
    use crate::token::TokenId;

    #[test]
    fn names_are_the_same_in_every_version() {
        let names = Names::new("zoho_oauth".to_owned(), 3);
        assert_eq!(names.base(), "{zoho_oauth}:");
        assert_eq!(names.channel(), "{zoho_oauth}:changes:3");
        // The first half of SHA-256 of "abc".
        let abc = "ba7816bf8f01cfea414140de5dae2223";
        assert_eq!(index("user", b"abc"), format!("user:{abc}"));

        let mut record = OAuthToken::new();
        record.id = TokenId::new(7).ok();
        record.refresh_token = RefreshToken::new("abc").ok();
        let (fields, indexes) = stored(Some(&record));
        assert_eq!(fields, ["7", "", "", "", "abc", "", "", "", "", ""]);
        assert_eq!(indexes, ["", &format!("refresh:{abc}"), "", ""]);
        assert_eq!(stored(None).0, [""; 10]);
        let wanted = wanted(&Wanted::RefreshToken(record.refresh_token.unwrap()));
        assert_eq!(wanted, indexes[1]);
    }
}
