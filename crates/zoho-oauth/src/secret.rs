//! Values that open doors: redacted when printed, wiped when dropped, compared in constant time.
//!
//! Each kind of secret is a type of its own, so a refresh token cannot be passed where an access
//! token belongs. The bytes are reachable through one method with a name to search for,
//! `expose_secret`.
//!
//! Clones share one allocation, which is wiped when the last of them is dropped. Copies that the
//! HTTP client, the TLS library, a database driver or the allocator make are out of reach: what is
//! promised is redaction and a short life, not absence from memory.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A digest of a secret that can be written down: it names the secret and does not give it away.
///
/// The first 16 bytes of SHA-256 over the secret, as hexadecimal digits. Tokens carry enough
/// randomness that the digest cannot be turned back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Returns the fingerprint of `parts`, whose borders count: ("ab", "c") differs from ("a", "bc").
    pub(crate) fn of(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let mut hex = String::with_capacity(32);
        for byte in &digest.finalize()[..16] {
            for digit in [byte >> 4, byte & 15] {
                hex.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        Self(hex)
    }

    /// Takes a fingerprint that was written down.
    #[cfg(feature = "secrets-manager")]
    pub(crate) fn from_hex(digits: &str) -> Self {
        Self(digits.to_owned())
    }

    /// Returns the hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone)]
pub(crate) struct Secret(pub(crate) Arc<Zeroizing<String>>);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// `Debug` prints no part of it, there is no `Display`, and equality takes the same time
        /// wherever the values differ.
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(pub(crate) Secret);

        impl $name {
            /// Returns the value itself. Never log it, never put it into a URL.
            pub fn expose_secret(&self) -> &str {
                self.0.expose()
            }

            /// Returns a digest that names this secret without giving it away.
            pub fn fingerprint(&self) -> Fingerprint {
                Fingerprint::of(&[self.expose_secret()])
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    };
}

secret! {
    /// The short-lived key to the API (RFC 6749 section 1.4), one hour at Zoho.
    AccessToken
}
secret! {
    /// The long-lived key that new access tokens are made from (RFC 6749 section 1.5).
    ///
    /// At Zoho it lives until it is revoked, and a refresh does not replace it.
    RefreshToken
}
secret! {
    /// Zoho's *grant token*, in RFC 6749 the authorization code: single use, minutes to live.
    GrantToken
}
secret! {
    /// The password of the application (RFC 6749 section 2.3.1).
    ClientSecret
}
secret! {
    /// The secret half of PKCE (RFC 7636 section 4.1), sent with the code it protects.
    CodeVerifier
}

secret! {
    /// A login that waits for its callback, as text: see [`PendingLogin::save`](crate::PendingLogin::save).
    SavedLogin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_nothing_of_the_secret() {
        let token = AccessToken::new("1000.abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "AccessToken([redacted])");
        assert_eq!(
            format!("{:?}", Some(&token)),
            "Some(AccessToken([redacted]))"
        );
    }

    #[test]
    fn an_empty_secret_cannot_be_made() {
        assert_eq!(
            RefreshToken::new("").unwrap_err().code().as_str(),
            "invalid_input"
        );
    }

    #[test]
    fn equality_is_by_value() {
        let one = AccessToken::new("a").unwrap();
        assert_eq!(one, AccessToken::new("a").unwrap());
        assert_ne!(one, AccessToken::new("b").unwrap());
        assert_ne!(one, AccessToken::new("aa").unwrap());
    }

    #[test]
    fn fingerprints_know_where_parts_end() {
        assert_ne!(Fingerprint::of(&["ab", "c"]), Fingerprint::of(&["a", "bc"]));
        assert_eq!(Fingerprint::of(&["ab"]).as_str().len(), 32);
    }
}
