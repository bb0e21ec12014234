//! Secrets of the shapes Zoho uses, from the operating system's generator.

use std::fmt::Write as _;

/// An access token, refresh token or grant code: `1000.<32 hex>.<32 hex>`.
pub(crate) fn token() -> String {
    let mut text = String::with_capacity(70);
    text.push_str("1000.");
    push_hex(&mut text);
    text.push('.');
    push_hex(&mut text);
    text
}

/// An unguessable name for a pending authorization request or a page of records.
pub(crate) fn handle() -> String {
    let mut text = String::with_capacity(32);
    push_hex(&mut text);
    text
}

fn push_hex(text: &mut String) {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_documented_shape_and_differ() {
        let (one, two) = (token(), token());
        assert_ne!(one, two);
        let parts: Vec<&str> = one.split('.').collect();
        assert_eq!(parts[0], "1000");
        for part in &parts[1..] {
            assert_eq!(part.len(), 32);
            assert!(part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        assert_eq!(parts.len(), 3);
    }
}
