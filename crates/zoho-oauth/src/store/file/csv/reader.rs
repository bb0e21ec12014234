//! Comma-separated text, taken apart.
//!
//! Our own rather than the `csv` crate's: that one lets pass what is damage here (a quote that never
//! ends, text behind a closing quote) and leaves copies of the secrets in buffers that nobody wipes.
//! The tests hold the two together.

use std::borrow::Cow;

use super::damage::{Damage, What};

/// So that the list of a record's values need not grow.
const USUAL_COLUMNS: usize = 10;

/// One line of the file, or several where a quoted value has line ends.
pub(super) struct Record<'a> {
    /// Where it begins, from 1.
    pub(super) line: usize,
    pub(super) fields: Vec<Cow<'a, str>>,
}

impl Record<'_> {
    pub(super) const fn damage(&self, what: What) -> Damage {
        Damage {
            line: self.line,
            what,
        }
    }
}

/// What stands behind a field.
#[derive(PartialEq, Eq)]
enum Next {
    Field,
    Record,
}

/// Takes comma-separated text apart.
pub(super) struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
        }
    }

    /// Returns the next record; empty lines are none.
    pub(super) fn record(&mut self) -> Result<Option<Record<'a>>, Damage> {
        while self.rest.starts_with(['\r', '\n']) {
            self.skip(1);
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let mut fields = Vec::with_capacity(USUAL_COLUMNS);
        loop {
            let (field, next) = if self.rest.starts_with('"') {
                self.quoted(line)?
            } else {
                self.bare()
            };
            fields.push(field);
            if next == Next::Record {
                return Ok(Some(Record { line, fields }));
            }
        }
    }

    /// Takes a field without quotes: all text up to a comma or the end of the line.
    fn bare(&mut self) -> (Cow<'a, str>, Next) {
        let bytes = self.rest.as_bytes();
        let is_end = |byte: &u8| matches!(byte, b',' | b'\r' | b'\n');
        let end = bytes.iter().position(is_end).unwrap_or(bytes.len());
        let (field, rest) = self.rest.split_at(end);
        self.rest = rest;
        // Node and TypeScript take the carriage return of a CRLF line for a part of the last
        // value, and write it back where another column follows when they add the tenth.
        if self.rest.starts_with("\r,") {
            self.skip(1);
        }
        (Cow::Borrowed(field), self.separator())
    }

    /// Takes a field in quotes, in which two quotes stand for one.
    fn quoted(&mut self, line: usize) -> Result<(Cow<'a, str>, Next), Damage> {
        self.skip(1);
        let mut field = Cow::Borrowed("");
        loop {
            let Some(quote) = self.rest.find('"') else {
                let what = What::OpenQuote;
                return Err(Damage { line, what });
            };
            field += self.skip(quote);
            self.skip(1);
            if !self.rest.starts_with('"') {
                break;
            }
            field += self.skip(1);
        }
        if !self.rest.is_empty() && !self.rest.starts_with([',', '\r', '\n']) {
            let what = What::AfterQuote;
            return Err(Damage { line, what });
        }
        Ok((field, self.separator()))
    }

    /// Takes a comma; a line end stays for the next record to skip.
    fn separator(&mut self) -> Next {
        if self.rest.starts_with(',') {
            self.skip(1);
            Next::Field
        } else {
            Next::Record
        }
    }

    /// Takes `count` bytes, counting lines.
    fn skip(&mut self, count: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(count);
        self.line += taken.bytes().filter(|&byte| byte == b'\n').count();
        self.rest = rest;
        taken
    }
}
