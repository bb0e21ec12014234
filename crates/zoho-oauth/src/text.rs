//! What a value that a person gives must not hold: characters that nobody sees, and that come along
//! when a value is copied, or read from a file with the end of its line.
//!
//! Constructors that applications call check this. Values that a store or Zoho sends back are taken
//! as they are.

use crate::error::{Error, Result};

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
