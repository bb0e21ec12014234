//! COQL text cut into tokens.

use super::super::reply::ApiError;
use serde_json::json;

/// A token and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Position in characters, from 1.
    pub(super) column: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A keyword, name or number.
    Word(String),
    /// Text between quotes.
    Quoted(String),
    /// Punctuation or a comparison.
    Sign(&'static str),
}

impl Token {
    pub(super) fn text(&self) -> &str {
        match &self.kind {
            Kind::Word(text) | Kind::Quoted(text) => text,
            Kind::Sign(sign) => sign,
        }
    }
}

const SIGNS: &[&str] = &["<=", ">=", "!=", "<>", "=", "<", ">", "(", ")", ","];

/// Cuts a query into tokens.
pub(super) fn cut(query: &str) -> Result<Vec<Token>, ApiError> {
    let letters: Vec<char> = query.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let column = at + 1;
        let letter = letters[at];
        if letter.is_whitespace() {
            at += 1;
        } else if letter == '\'' || letter == '"' {
            let (text, end) = quoted(&letters, at)?;
            at = end;
            let kind = Kind::Quoted(text);
            tokens.push(Token { kind, column });
        } else if let Some(sign) = SIGNS.iter().find(|sign| {
            let length = sign.len();
            letters[at..].iter().take(length).collect::<String>() == **sign
        }) {
            at += sign.len();
            let kind = Kind::Sign(sign);
            tokens.push(Token { kind, column });
        } else if is_word(letter) {
            let end = letters[at..].iter().position(|letter| !is_word(*letter));
            let end = end.map_or(letters.len(), |length| at + length);
            let kind = Kind::Word(letters[at..end].iter().collect());
            at = end;
            tokens.push(Token { kind, column });
        } else {
            return Err(syntax_error(column, &letter.to_string()));
        }
    }
    Ok(tokens)
}

/// The text after an opening quote, and where the token ends. A backslash takes the next letter
/// as it is; so does a quote written twice.
fn quoted(letters: &[char], start: usize) -> Result<(String, usize), ApiError> {
    let quote = letters[start];
    let mut text = String::new();
    let mut at = start + 1;
    while let Some(&letter) = letters.get(at) {
        let next = letters.get(at + 1).copied();
        match (letter, next) {
            ('\\', Some(next)) => {
                text.push(next);
                at += 2;
            }
            (letter, Some(next)) if letter == quote && next == quote => {
                text.push(quote);
                at += 2;
            }
            (letter, _) if letter == quote => return Ok((text, at + 1)),
            (letter, _) => {
                text.push(letter);
                at += 1;
            }
        }
    }
    Err(syntax_error(start + 1, &quote.to_string()))
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || "_.$-+:".contains(letter)
}

/// `SYNTAX_ERROR` at a place.
pub(super) fn syntax_error(column: usize, near: &str) -> ApiError {
    ApiError::new(
        400,
        "SYNTAX_ERROR",
        "error occurred while parsing the query",
    )
    .details(json!({ "line": 1, "column": column, "near": near }))
}
