//! Comma-separated text, taken apart.
//!
//! Not the `csv` crate: that one accepts what is damage here (a quote that never ends, text behind
//! a closing quote) and leaves copies of the secrets in buffers that are not wiped. The tests
//! compare the two.

use std::borrow::Cow;
use std::ops::Range;

use super::damage::What;

/// How many values of a record are kept, one more than a token file can have. More are counted: a
/// file of nothing but commas must not cost many times its size.
const MOST_FIELDS: usize = 11;

/// One line of the file, or several where a quoted value has line ends.
pub(super) struct Record<'a> {
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    /// Where it is in the file, with its line end.
    pub(super) range: Range<usize>,
    /// The first values.
    pub(super) fields: Result<Vec<Cow<'a, [u8]>>, What>,
    /// How many values there are.
    pub(super) found: u32,
}

/// What stands behind a field.
#[derive(PartialEq, Eq)]
enum Next {
    Field,
    Record,
}

/// Takes comma-separated text apart.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, line: 1 }
    }

    /// Returns the next record; empty lines are none.
    ///
    /// A record whose quotes are wrong is one line of the file, and the next line is read again
    /// from its beginning: a quote that never ends must not swallow the records below it.
    pub(super) fn record(&mut self) -> Option<Record<'a>> {
        while matches!(self.peek(), Some(b'\r' | b'\n')) {
            self.skip(1);
        }
        self.peek()?;
        let (line, start) = (self.line, self.at);
        let mut found = 0;
        let fields = self.fields(&mut found);
        if fields.is_err() {
            (self.line, self.at) = (line, start);
            let rest = self.rest();
            let end = rest.iter().position(|&byte| byte == b'\n');
            self.skip(end.unwrap_or(rest.len()));
        }
        while self.peek() == Some(b'\r') {
            self.skip(1);
        }
        if self.peek() == Some(b'\n') {
            self.skip(1);
        }
        Some(Record {
            line,
            range: start..self.at,
            fields,
            found,
        })
    }

    fn fields(&mut self, found: &mut u32) -> Result<Vec<Cow<'a, [u8]>>, What> {
        let mut fields = Vec::with_capacity(MOST_FIELDS);
        loop {
            let (field, next) = if self.peek() == Some(b'"') {
                self.quoted()?
            } else {
                self.bare()
            };
            *found += 1;
            if fields.len() < MOST_FIELDS {
                fields.push(field);
            }
            if next == Next::Record {
                return Ok(fields);
            }
        }
    }

    /// Takes a field without quotes: all text up to a comma or the end of the line.
    fn bare(&mut self) -> (Cow<'a, [u8]>, Next) {
        let rest = self.rest();
        let is_end = |byte: &u8| matches!(byte, b',' | b'\r' | b'\n');
        let field = self.skip(rest.iter().position(is_end).unwrap_or(rest.len()));
        // Node and TypeScript take the carriage return of a CRLF line for a part of the last
        // value, and write it back where another column follows when they add the tenth.
        if self.rest().starts_with(b"\r,") {
            self.skip(1);
        }
        (Cow::Borrowed(field), self.separator())
    }

    /// Takes a field in quotes, in which two quotes stand for one.
    fn quoted(&mut self) -> Result<(Cow<'a, [u8]>, Next), What> {
        self.skip(1);
        let mut field = Cow::Borrowed(&[][..]);
        loop {
            let Some(quote) = self.rest().iter().position(|&byte| byte == b'"') else {
                return Err(What::OpenQuote);
            };
            append(&mut field, self.skip(quote));
            self.skip(1);
            if self.peek() != Some(b'"') {
                break;
            }
            append(&mut field, self.skip(1));
        }
        match self.peek() {
            None | Some(b',' | b'\r' | b'\n') => Ok((field, self.separator())),
            // The quote that opens on a line below.
            Some(_) if field.contains(&b'\n') => Err(What::OpenQuote),
            Some(_) => Err(What::AfterQuote),
        }
    }

    /// Takes a comma; a line end stays for the record.
    fn separator(&mut self) -> Next {
        if self.peek() == Some(b',') {
            self.skip(1);
            Next::Field
        } else {
            Next::Record
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Takes `count` bytes, counting lines.
    fn skip(&mut self, count: usize) -> &'a [u8] {
        let taken = &self.rest()[..count];
        self.line += line_ends(taken);
        self.at += count;
        taken
    }
}

/// Counts the line feeds.
pub(super) fn line_ends(bytes: &[u8]) -> usize {
    bytes.split(|&byte| byte == b'\n').count() - 1
}

fn append<'a>(field: &mut Cow<'a, [u8]>, part: &'a [u8]) {
    if field.is_empty() {
        *field = Cow::Borrowed(part);
    } else if !part.is_empty() {
        field.to_mut().extend_from_slice(part);
    }
}
