//! The official token file as text: ten columns under one header line, comma separated.
//!
//! Pure: bytes in, rows out, and back. `reader` takes the text apart; `damage` says what is wrong.

mod damage;
mod reader;

use std::borrow::Cow;

use zeroize::Zeroizing;

use self::damage::{Damage, What};
use self::reader::{Reader, Record};
use crate::token::{OAuthToken, TokenId};

/// The columns in their official order, named as Zoho's Python SDK names them.
const COLUMNS: [&str; 10] = [
    "id",
    "user_name",
    "client_id",
    "client_secret",
    "refresh_token",
    "access_token",
    "grant_token",
    "expiry_time",
    "redirect_uri",
    "api_domain",
];

/// What other official SDKs call a column.
const OTHER_NAMES: [(&str, usize); 2] = [("user_mail", 1), ("redirect_url", 8)];

const ID: usize = 0;
const EXPIRY_TIME: usize = 7;
const API_DOMAIN: usize = 9;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How the lines of a file end. A file keeps the ending that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// As Python writes it, and we in a new file.
    #[default]
    CrLf,
    /// As most other SDKs write it. Node and TypeScript split at the line feed and would keep a
    /// carriage return as part of the last column, so it must not be introduced there.
    Lf,
}

impl LineEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CrLf => "\r\n",
            Self::Lf => "\n",
        }
    }
}

/// A whole file, understood.
pub(super) struct Document<'a> {
    pub(super) line_end: LineEnd,
    /// In the order of the file.
    pub(super) rows: Vec<Row<'a>>,
}

/// One record. No `Debug`: it holds secrets.
pub(super) struct Row<'a> {
    pub(super) id: TokenId,
    line: usize,
    /// In the order of [`COLUMNS`].
    fields: [Cow<'a, str>; 10],
}

impl Row<'_> {
    /// Returns whether some column has exactly this value: what a row must have to match a query,
    /// so that the others need not be turned into tokens.
    pub(super) fn holds(&self, value: &str) -> bool {
        self.fields.iter().any(|field| field == value)
    }

    /// Returns the record; empty columns are none.
    pub(super) fn to_token(&self) -> OAuthToken {
        OAuthToken::from_fields(&self.fields.each_ref().map(Some))
            .expect("the id and the expiry were read when the row was")
    }
}

/// Reads a file of any of the official SDKs.
pub(super) fn parse(bytes: &[u8]) -> Result<Document<'_>, Damage> {
    let text = checked_text(bytes)?;
    let mut reader = Reader::new(text);
    let Some(header) = reader.record()? else {
        return Err(Damage {
            line: 1,
            what: What::Empty,
        });
    };
    let columns = columns(&header)?;
    let line_end = match text.find('\n') {
        Some(end) if text[..end].ends_with('\r') => LineEnd::CrLf,
        _ => LineEnd::Lf,
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    while let Some(record) = reader.record()? {
        rows.push(row(record, &columns)?);
    }
    refuse_duplicates(&rows)?;
    Ok(Document { line_end, rows })
}

/// The text after a byte order mark, once it is sure that this is a token file in UTF-8.
fn checked_text(bytes: &[u8]) -> Result<&str, Damage> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let damage = |offset: usize, what| {
        let line = bytes[..offset].split(|&byte| byte == b'\n').count();
        Err(Damage { line, what })
    };
    if bytes.is_empty() {
        return damage(0, What::Empty);
    }
    // Before the header: some file systems leave a file of zeros after a power cut.
    if bytes.starts_with(b"\0") {
        return damage(0, What::Nul);
    }
    let first = bytes.split(|b| matches!(b, b',' | b'\r' | b'\n')).next();
    if !matches!(first.map(<[u8]>::trim_ascii), Some(b"id" | b"\"id\"")) {
        return damage(0, What::Foreign);
    }
    if bytes.contains(&0) {
        let offset = bytes.iter().position(|&b| b == 0).unwrap_or(0);
        return damage(offset, What::Nul);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => damage(error.valid_up_to(), What::NotUtf8),
    }
}

/// For each position of a record, the official column that stands there: by name where the header
/// has a known one, else by position.
fn columns(header: &Record<'_>) -> Result<Vec<usize>, Damage> {
    let found = header.fields.len();
    if found != COLUMNS.len() && found != COLUMNS.len() - 1 {
        return Err(header.damage(What::HeaderColumns { found }));
    }
    let known = |name: &str| {
        let official = COLUMNS.iter().position(|&column| column == name);
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
        official.or(other.map(|(_, column)| *column))
    };
    let columns: Vec<usize> = header
        .fields
        .iter()
        .enumerate()
        .map(|(position, name)| known(name.trim()).unwrap_or(position))
        .collect();
    let is_repeated = |(index, column): (usize, &usize)| columns[..index].contains(column);
    if columns.iter().enumerate().any(is_repeated) {
        return Err(header.damage(What::HeaderNames));
    }
    Ok(columns)
}

fn row<'a>(record: Record<'a>, columns: &[usize]) -> Result<Row<'a>, Damage> {
    let damage = |what| record.damage(what);
    let (found, due) = (record.fields.len(), columns.len());
    // SDKs without a migration put full rows under an old header of nine columns.
    let has_extra_domain = found == COLUMNS.len() && !columns.contains(&API_DOMAIN);
    if found != due && !has_extra_domain {
        return Err(damage(What::Columns { found, due }));
    }
    let Ok(id) = record.fields[ID].parse() else {
        return Err(damage(What::Id));
    };
    let line = record.line;
    let mut fields: [Cow<'a, str>; 10] = Default::default();
    for (position, field) in record.fields.into_iter().enumerate() {
        fields[columns.get(position).copied().unwrap_or(API_DOMAIN)] = field;
    }
    let expiry = &fields[EXPIRY_TIME];
    if !expiry.is_empty() && (expiry.starts_with('+') || expiry.parse::<i64>().is_err()) {
        return Err(Damage {
            line,
            what: What::ExpiryTime,
        });
    }
    Ok(Row { id, line, fields })
}

fn refuse_duplicates(rows: &[Row<'_>]) -> Result<(), Damage> {
    if rows.is_sorted_by(|one, next| one.id < next.id) {
        return Ok(());
    }
    let mut ids: Vec<_> = rows.iter().map(|row| (row.id, row.line)).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(Damage {
            line: pair[1].1,
            what: What::DuplicateId,
        }),
    }
}

/// Writes the rows as Zoho's Python SDK would: ten columns, quotes only where they are needed, a
/// line end after the last line too.
pub(super) fn write(rows: &[OAuthToken], line_end: LineEnd) -> Zeroizing<String> {
    let size: usize = rows
        .iter()
        .flat_map(OAuthToken::expose_fields)
        .flatten()
        .map(|field| field.len() + field.matches('"').count() + 2)
        .sum();
    let size = size + rows.len() * (COLUMNS.len() + 1);
    // Large enough from the start: growing would leave copies behind.
    let mut out = Zeroizing::new(String::with_capacity(size + 128));
    out.push_str(&COLUMNS.join(","));
    out.push_str(line_end.as_str());
    for row in rows {
        for (column, field) in row.expose_fields().iter().enumerate() {
            if column > 0 {
                out.push(',');
            }
            push_field(&mut out, field.as_deref().unwrap_or_default());
        }
        out.push_str(line_end.as_str());
    }
    out
}

fn push_field(out: &mut String, field: &str) {
    let is_special = |byte| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    if !field.bytes().any(is_special) {
        out.push_str(field);
        return;
    }
    out.push('"');
    for (index, part) in field.split('"').enumerate() {
        if index > 0 {
            out.push_str("\"\"");
        }
        out.push_str(part);
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
