//! The record that stores keep: the ten fields of the official SDKs, with types.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::secret::{AccessToken, ClientSecret, GrantToken, RefreshToken};

/// The number that a store gave to a record: at least 1, at most ten decimal digits.
///
/// Stores allocate ids and never use one twice. Ten digits is what the official `varchar(10)`
/// column holds. Ids compare as numbers, so 10 comes after 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub(crate) u64);

impl TokenId {
    /// The largest id that fits the official column.
    pub const MAX: Self = Self(9_999_999_999);

    /// The id with a number that is one, for constants.
    #[cfg(feature = "mysql")]
    pub(crate) const fn from_checked(number: u64) -> Self {
        assert!(
            number > 0 && number <= Self::MAX.0,
            "not the number of an id"
        );
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the id after this one, if there is one.
    pub fn next(self) -> Option<Self> {
        (self < Self::MAX).then(|| Self(self.0 + 1))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) String);

        impl $name {
            /// Returns the value.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// Who a token belongs to: the official `UserSignature`, by convention `<email>:<zgid>`.
    ///
    /// Compared exactly: `Ann@example.com` and `ann@example.com` are two users.
    UserName
}
name! {
    /// The public name of the application at Zoho (RFC 6749 section 2.2), `1000.…`.
    ClientId
}

/// A stored login: the ten fields of Zoho's official token file and table.
///
/// Any combination is legal in a record, so the fields are public; start from [`OAuthToken::new`].
/// What an application *starts from* is a [`Credential`](crate::Credential), and what it *looks
/// for* is a [`TokenQuery`](crate::TokenQuery).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthToken {
    /// The store's number of the record; `None` until it is saved.
    pub id: Option<TokenId>,
    /// Who the token belongs to.
    pub user_name: Option<UserName>,
    /// The application that the token was issued to.
    pub client_id: Option<ClientId>,
    /// The application's password.
    pub client_secret: Option<ClientSecret>,
    /// The key to new access tokens.
    pub refresh_token: Option<RefreshToken>,
    /// The key to the API.
    pub access_token: Option<AccessToken>,
    /// The grant token that the login began with; spent, but good to find the record by.
    pub grant_token: Option<GrantToken>,
    /// The moment at which the access token ends. Belongs to `access_token`: they change together.
    pub expiry_time: Option<Timestamp>,
    /// The redirect URI of the login.
    pub redirect_url: Option<String>,
    /// Where the API of this user's data center is; opaque, as the accounts server sent it.
    pub api_domain: Option<String>,
}

impl OAuthToken {
    /// Returns a record without a single field.
    pub fn new() -> Self {
        Self::default()
    }

    /// How far ahead the end of an access token can lie: Zoho's hour, and some minutes by which the
    /// clocks of two machines may differ.
    pub(crate) const LONGEST_AHEAD: Duration = Duration::from_mins(65);

    /// The names of the ten fields in the official order.
    pub const FIELDS: [&str; 10] = [
        "id",
        "user_name",
        "client_id",
        "client_secret",
        "refresh_token",
        "access_token",
        "grant_token",
        "expiry_time",
        "redirect_url",
        "api_domain",
    ];

    /// Returns the ten fields as text in the order of [`FIELDS`](Self::FIELDS), secrets included:
    /// what a store of your own writes down.
    pub fn expose_fields(&self) -> [Option<Cow<'_, str>>; 10] {
        fn text<'a, T>(value: Option<&'a T>, expose: fn(&'a T) -> &'a str) -> Option<Cow<'a, str>> {
            value.map(|value| Cow::Borrowed(expose(value)))
        }
        [
            self.id.map(|id| Cow::Owned(id.to_string())),
            text(self.user_name.as_ref(), UserName::as_str),
            text(self.client_id.as_ref(), ClientId::as_str),
            text(self.client_secret.as_ref(), ClientSecret::expose_secret),
            text(self.refresh_token.as_ref(), RefreshToken::expose_secret),
            text(self.access_token.as_ref(), AccessToken::expose_secret),
            text(self.grant_token.as_ref(), GrantToken::expose_secret),
            self.expiry_time.map(|at| Cow::Owned(at.to_string())),
            text(self.redirect_url.as_ref(), String::as_str),
            text(self.api_domain.as_ref(), String::as_str),
        ]
    }

    /// Returns what the ten texts of a row in an official file or table mean: `None` is absent.
    ///
    /// Empty text is absent, and so is the text `null`, which some official SDKs write. A user may
    /// be called `null`: that user name is absent only if another field of the row says `null` too,
    /// since our own rows never use the text for absence (see [`checked`](Self::checked)).
    #[cfg(any(test, feature = "file", feature = "mysql", feature = "sqlite"))]
    pub(crate) fn official_texts(fields: [Option<&str>; 10]) -> [Option<&str>; 10] {
        const USER_NAME: usize = 1;
        let is_null = |text: Option<&str>| text == Some("null");
        let has_null = (0..10).any(|index| index != USER_NAME && is_null(fields[index]));
        std::array::from_fn(|index| {
            let may_be_null = index == USER_NAME && !has_null;
            fields[index].filter(|text| !text.is_empty() && (may_be_null || *text != "null"))
        })
    }

    /// Returns whether the record holds any token at all.
    pub(crate) fn holds_a_token(&self) -> bool {
        self.refresh_token.is_some() || self.access_token.is_some() || self.grant_token.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_compare_as_numbers_and_read_as_text() {
        let ten: TokenId = "10".parse().unwrap();
        let nine: TokenId = "9".parse().unwrap();
        assert!(nine < ten);
        assert_eq!(ten.to_string(), "10");
        for bad in ["", "0", "-1", "+1", "007", "1 ", "ten", "10000000000"] {
            assert!(bad.parse::<TokenId>().is_err(), "{bad}");
        }
        assert_eq!(TokenId::MAX.next(), None);
        assert_eq!(nine.next(), Some(ten));
    }

    #[test]
    fn fields_are_written_down_and_read_back() {
        let texts = [
            "7", "u", "c", "s", "r", "a", "g", "12", "http://x", "http://y",
        ];
        let token = OAuthToken::from_fields(&texts.map(Some)).unwrap();
        assert_eq!(token.expose_fields().map(Option::unwrap), texts);
        assert_eq!(
            OAuthToken::from_fields(&[Some(""); 10]).unwrap(),
            OAuthToken::new()
        );
        assert_eq!(OAuthToken::new().expose_fields(), [const { None }; 10]);
        for wrong in [0, 7] {
            let mut texts = texts;
            texts[wrong] = "s3cret";
            let error = OAuthToken::from_fields(&texts.map(Some)).unwrap_err();
            assert!(error.to_string().contains(OAuthToken::FIELDS[wrong]));
            assert!(!error.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn the_text_null_means_absent_as_official_sdks_write_it() {
        let texts = ["1", "null", "c", "s", "r", "a", "null", "", "null", "x"];
        let mut row = texts.map(Some);
        let meant = OAuthToken::official_texts(row);
        let absent = [1, 6, 7, 8];
        for (index, text) in meant.into_iter().enumerate() {
            assert_eq!(text, row[index].filter(|_| !absent.contains(&index)));
        }
        for index in absent.into_iter().skip(1) {
            row[index] = None;
        }
        assert_eq!(OAuthToken::official_texts(row)[1], Some("null"), "a user");
    }

    #[test]
    fn the_text_null_is_saved_as_a_user_name_alone() {
        let mut token = OAuthToken::new();
        token.user_name = UserName::new("null").ok();
        token.checked().unwrap();
        token.api_domain = Some("null".to_owned());
        let error = token.checked().unwrap_err();
        assert!(error.to_string().contains("`api_domain`"), "{error}");
    }

    #[test]
    fn a_nul_is_refused_and_the_field_named() {
        let mut token = OAuthToken::new();
        token.refresh_token = Some(RefreshToken::received("se\0cret").unwrap());
        let error = token.checked().unwrap_err();
        assert!(error.to_string().contains("`refresh_token`"));
        assert!(!error.to_string().contains("cret\""));
    }
}
