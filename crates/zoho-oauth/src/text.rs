//! From text to typed values: the constructors of ids, names, secrets and records, and what they
//! refuse.
//!
//! A value that a person gives must hold no invisible characters: they come along when a value is
//! copied, or read from a file with the end of its line. Values that a store or Zoho sends back are
//! taken as they are.

use std::str::FromStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::secret::{
    AccessToken, ClientSecret, CodeVerifier, GrantToken, RefreshToken, SavedLogin, Secret,
};
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// Checks a value that is written in visible characters: an id, a secret, an address.
///
/// # Errors
/// `invalid_input`, naming the kind of character and not the value, when the value is empty, begins
/// or ends with white space, or holds a control character or one that cannot be seen.
pub(crate) fn check(what: &str, value: &str) -> Result<()> {
    check_ends(what, value)?;
    let found = |c| hidden(c).filter(|_| c != ' ').or_else(|| varies(c));
    match value.chars().find_map(found) {
        Some(kind) => refused(what, "holds", kind),
        None => Ok(()),
    }
}

/// Checks the name of a user, which may hold the signs of any script: zero-width joiners among them.
///
/// # Errors
/// As [`check`], but inside the name only for control characters.
pub(crate) fn check_name(what: &str, value: &str) -> Result<()> {
    check_ends(what, value)?;
    let control = value.chars().find(|c| c.is_control());
    match control.and_then(hidden) {
        Some(kind) => refused(what, "holds", kind),
        None => Ok(()),
    }
}

fn check_ends(what: &str, value: &str) -> Result<()> {
    let Some((first, last)) = value.chars().next().zip(value.chars().next_back()) else {
        return Err(Error::invalid_input(format!("the {what} is empty")));
    };
    match (hidden(first), hidden(last)) {
        (Some(kind), _) => refused(what, "begins with", kind),
        (None, Some(kind)) => refused(what, "ends with", kind),
        (None, None) => Ok(()),
    }
}

fn refused(what: &str, verb: &str, kind: &str) -> Result<()> {
    Err(Error::invalid_input(format!("the {what} {verb} {kind}")))
}

/// What a character is called that says how the one before it is drawn. Some signs of names need it.
fn varies(c: char) -> Option<&'static str> {
    let varies = matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{e0100}'..='\u{e01ef}');
    varies.then_some("an invisible character")
}

/// What a character that cannot be seen is called.
fn hidden(c: char) -> Option<&'static str> {
    Some(match c {
        ' ' => "a space",
        '\t' => "a tab",
        '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => "a line break",
        '\0' => "a NUL character",
        '\u{a0}' | '\u{2007}' | '\u{202f}' => "a no-break space",
        '\u{feff}' => "a byte order mark",
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{180e}' => "a zero-width character",
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "a mark of the direction of text"
        }
        '\u{ad}' => "a soft hyphen",
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{2061}'..='\u{2064}'
        | '\u{206a}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => "an invisible character",
        _ if c.is_control() => "a control character",
        _ if c.is_whitespace() => "white space",
        _ => return None,
    })
}

impl TokenId {
    /// Returns the id with this number.
    ///
    /// # Errors
    /// `invalid_input` when it is zero or has more than ten digits.
    pub fn new(number: u64) -> Result<Self> {
        if number == 0 || number > Self::MAX.0 {
            return Err(Error::invalid_input(format!(
                "a token id is a number from 1 to {}, not {number}",
                Self::MAX
            )));
        }
        Ok(Self(number))
    }
}

impl FromStr for TokenId {
    type Err = Error;

    /// Reads decimal digits as the official stores write them: no sign, no space, no leading zero.
    fn from_str(text: &str) -> Result<Self> {
        let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        match text.parse() {
            Ok(number) if canonical => Self::new(number),
            _ => Err(Error::invalid_input(
                "a token id is a decimal number without sign or leading zero",
            )),
        }
    }
}

macro_rules! name {
    ($name:ident, $what:literal, $check:path) => {
        impl $name {
            /// Takes the value, as a person gives it.
            ///
            /// # Errors
            /// `invalid_input` when it is empty (an empty value means "none", and none is `None`),
            /// begins or ends with white space, or holds a control character. An id also when it
            /// holds a character that cannot be seen. The text names the kind of character. What is
            /// stored already is not checked: see [`OAuthToken::from_fields`].
            pub fn new(value: impl Into<String>) -> Result<Self> {
                let value = value.into();
                $check($what, &value)?;
                Ok(Self(value))
            }

            /// Takes the value as a store or a server sent it: any text but the empty one.
            pub(crate) fn received(value: impl Into<String>) -> Result<Self> {
                let value = value.into();
                if value.is_empty() {
                    return Err(Error::invalid_input(concat!("the ", $what, " is empty")));
                }
                Ok(Self(value))
            }
        }
    };
}

name!(UserName, "user name", check_name);
name!(ClientId, "client id", check);

impl Secret {
    /// Takes a value that a person gives.
    fn new(what: &str, value: String) -> Result<Self> {
        let value = Zeroizing::new(value);
        check(what, &value)?;
        Ok(Self(Arc::new(value)))
    }

    /// Takes a value as a store or a server sent it.
    pub(crate) fn received(what: &str, value: String) -> Result<Self> {
        let value = Zeroizing::new(value);
        if value.is_empty() {
            return Err(Error::invalid_input(format!("the {what} is empty")));
        }
        Ok(Self(Arc::new(value)))
    }
}

macro_rules! secret {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Takes the value, as a person gives it.
            ///
            /// # Errors
            /// `invalid_input` when it is empty (an empty value means "none", and none is `None`),
            /// begins or ends with white space, or holds a control character or one that cannot be
            /// seen. The text names the kind of character. What is stored already is not checked:
            /// see [`OAuthToken::from_fields`](crate::OAuthToken::from_fields).
            pub fn new(value: impl Into<String>) -> Result<Self> {
                Secret::new($what, value.into()).map(Self)
            }

            /// Takes the value as a store or a server sent it: any text but the empty one.
            #[allow(dead_code, reason = "not every secret comes from a store")]
            pub(crate) fn received(value: impl Into<String>) -> Result<Self> {
                Secret::received($what, value.into()).map(Self)
            }
        }
    };
}

secret!(AccessToken, "access token");
secret!(RefreshToken, "refresh token");
secret!(GrantToken, "grant token");
secret!(ClientSecret, "client secret");
secret!(CodeVerifier, "code verifier");
secret!(SavedLogin, "saved login");

impl OAuthToken {
    /// Returns the record that [`expose_fields`](Self::expose_fields) wrote down. Empty text is
    /// none, and any other is taken as it is: what is stored stays readable.
    ///
    /// # Errors
    /// `invalid_input`, naming the field and not its value, when the id is no id or the expiry no
    /// number of milliseconds.
    pub fn from_fields<T: AsRef<str>>(fields: &[Option<T>; 10]) -> Result<Self> {
        let text = |index: usize| {
            let text = fields[index].as_ref().map(AsRef::as_ref);
            text.filter(|text| !text.is_empty())
        };
        let wrong = |index: usize| {
            let name = Self::FIELDS[index];
            Error::invalid_input(format!("the field `{name}` cannot be read"))
        };
        let id = text(0).map(str::parse).transpose().map_err(|_| wrong(0))?;
        let expiry = text(7).map(str::parse).transpose().map_err(|_| wrong(7))?;
        Ok(Self {
            id,
            user_name: text(1).map(UserName::received).transpose()?,
            client_id: text(2).map(ClientId::received).transpose()?,
            client_secret: text(3).map(ClientSecret::received).transpose()?,
            refresh_token: text(4).map(RefreshToken::received).transpose()?,
            access_token: text(5).map(AccessToken::received).transpose()?,
            grant_token: text(6).map(GrantToken::received).transpose()?,
            expiry_time: expiry.map(Timestamp::from_millis),
            redirect_url: text(8).map(str::to_owned),
            api_domain: text(9).map(str::to_owned),
        })
    }

    /// Returns a copy that treats empty text as none, after checking what no store can keep.
    ///
    /// # Errors
    /// `invalid_input`, naming the field, when a value holds a NUL character: RFC 6749 (appendix A)
    /// allows none, several databases cannot store one, and C code would see a shorter value. Also
    /// when a field other than the user name is the text `null`: official SDKs write that for an
    /// absent value, and it would be read back as absent.
    pub(crate) fn checked(&self) -> Result<Self> {
        let mut token = self.clone();
        for text in [&mut token.redirect_url, &mut token.api_domain] {
            if text.as_deref() == Some("") {
                *text = None;
            }
        }
        for (name, value) in Self::FIELDS.iter().zip(token.expose_fields()) {
            let Some(value) = value else { continue };
            if value.contains('\0') {
                let message = format!("the field `{name}` holds a NUL character");
                return Err(Error::invalid_input(message));
            }
            if value == "null" && *name != "user_name" {
                let message = format!("the field `{name}` is the text `null`");
                return Err(Error::invalid_input(message));
            }
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: [(char, &str); 15] = [
        (' ', "a space"),
        ('\n', "a line break"),
        ('\r', "a line break"),
        ('\t', "a tab"),
        ('\0', "a NUL character"),
        ('\u{1b}', "a control character"),
        ('\u{7f}', "a control character"),
        ('\u{85}', "a line break"),
        ('\u{a0}', "a no-break space"),
        ('\u{3000}', "white space"),
        ('\u{feff}', "a byte order mark"),
        ('\u{200b}', "a zero-width character"),
        ('\u{202e}', "a mark of the direction of text"),
        ('\u{2066}', "a mark of the direction of text"),
        ('\u{e0041}', "an invisible character"),
    ];

    fn said(outcome: Result<()>) -> String {
        outcome.unwrap_err().message().to_owned()
    }

    #[test]
    fn what_cannot_be_seen_is_named_with_its_place() {
        for (c, kind) in HIDDEN {
            for check in [check, check_name] {
                let value = format!("{c}value");
                assert_eq!(
                    said(check("token", &value)),
                    format!("the token begins with {kind}")
                );
                let value = format!("value{c}");
                assert_eq!(
                    said(check("token", &value)),
                    format!("the token ends with {kind}")
                );
                let alone = c.to_string();
                assert_eq!(
                    said(check("token", &alone)),
                    format!("the token begins with {kind}")
                );
            }
            let value = format!("val{c}ue");
            let holds = format!("the token holds {kind}");
            if c == ' ' {
                check("token", &value).unwrap();
            } else {
                assert_eq!(said(check("token", &value)), holds);
            }
            match check_name("token", &value) {
                Err(error) => assert!(c.is_control() && error.message() == holds),
                Ok(()) => assert!(!c.is_control()),
            }
        }
        assert_eq!(said(check("token", "")), "the token is empty");
    }

    #[test]
    fn names_of_any_script_are_names() {
        for name in [
            "ann@example.com:60001",
            "Zoë Müller",
            "\u{627}\u{644}\u{639}\u{631}\u{628}",
            "\u{646}\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "\u{1f469}\u{200d}\u{1f4bb}",
            "\u{2764}\u{fe0f}",
            "山田　太郎",
        ] {
            check_name("user name", name).unwrap();
        }
        check("client secret", "a+b/c=~!%,;'\"").unwrap();
    }
}
