//! The official token file as text: ten columns under one header line, comma separated.
//!
//! Pure: bytes in, records out, and back. `reader` takes the text apart; `damage` says what is wrong.
//!
//! A [`Document`] is an index of the lines of a file, so that it costs little more memory than the
//! file. A record is read when it is needed. What is written back keeps each line that was not
//! changed byte for byte: a line that cannot be read, and the line end of every other.

mod damage;
mod reader;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use zeroize::Zeroizing;

use self::damage::What;
use self::reader::{Reader, Record, line_ends};
use crate::query::{Criterion, TokenQuery};
use crate::store::TokenTable;
use crate::token::{ClientId, OAuthToken, TokenId};

pub(super) use self::damage::Damage;

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
const USER_NAME: usize = 1;
const CLIENT_ID: usize = 2;
const REFRESH_TOKEN: usize = 4;
const ACCESS_TOKEN: usize = 5;
const GRANT_TOKEN: usize = 6;
const EXPIRY_TIME: usize = 7;
const API_DOMAIN: usize = 9;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How much of a file shows whether it is one: a byte order mark and the first column's name.
pub(super) const START: usize = 16;

/// A file with more lines that cannot be read is damaged as a whole: it is another kind of file.
const MOST_UNREADABLE: usize = 1000;

/// An id, eight commas, and a line end.
const SHORTEST_LINE: usize = 10;

/// How an added line ends. Every other line keeps the end that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// As Python writes it.
    CrLf,
    /// As most other SDKs write it, and we in a new file. Node and TypeScript split at the line feed
    /// and keep a carriage return as part of the last column, so it must not be introduced.
    #[default]
    Lf,
}

impl LineEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CrLf => "\r\n",
            Self::Lf => "\n",
        }
    }

    fn of(line: &[u8]) -> Option<Self> {
        if line.ends_with(b"\r\n") {
            Some(Self::CrLf)
        } else {
            line.ends_with(b"\n").then_some(Self::Lf)
        }
    }
}

/// A whole file, understood line by line.
pub(super) struct Document<'a> {
    bytes: &'a [u8],
    /// The header line.
    header: Range<usize>,
    /// For each position of a record, the official column that stands there.
    columns: Vec<usize>,
    line_end: LineEnd,
    /// In the order of the file.
    lines: Vec<Line>,
}

/// A line of a [`Document`], or several if a quoted value has line ends. Small, since there are many.
struct Line {
    /// From 1.
    number: u32,
    start: u32,
    end: u32,
    content: Content,
}

impl Line {
    fn new(record: &Record<'_>, content: Content) -> Self {
        let small = |number: usize| u32::try_from(number).expect("a file has less than 4 GiB");
        Self {
            number: small(record.line),
            start: small(record.range.start),
            end: small(record.range.end),
            content,
        }
    }

    const fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    const fn damage(&self, what: What) -> Damage {
        Damage {
            line: self.number as usize,
            what,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// A record under its own id.
    Record(TokenId),
    /// A record whose id is not a number or belongs to an earlier line; see
    /// [`Document::number_after`].
    Unnumbered,
    /// The same with the id that it got.
    Numbered(TokenId),
    Unreadable(What),
}

impl Content {
    const fn id(self) -> Option<TokenId> {
        match self {
            Self::Record(id) | Self::Numbered(id) => Some(id),
            Self::Unnumbered | Self::Unreadable(_) => None,
        }
    }
}

/// A line that cannot be read.
pub(super) struct Unreadable {
    pub(super) damage: Damage,
    /// The id that the line seems to have.
    pub(super) id: Option<TokenId>,
}

/// A part of a file's new content.
pub(super) enum Piece<'a> {
    Old(&'a [u8]),
    New(Zeroizing<String>),
}

impl AsRef<[u8]> for Piece<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Old(bytes) => bytes,
            Self::New(text) => text.as_bytes(),
        }
    }
}

/// Checks that `start`, the first [`START`] bytes of a file, can begin a token file.
pub(super) fn check_start(start: &[u8]) -> Result<(), Damage> {
    let damage = |what| Err(Damage { line: 1, what });
    let bytes = without_mark(start);
    if bytes.is_empty() {
        return damage(What::Empty);
    }
    // Some file systems leave a file of zeros after a power cut.
    if bytes.starts_with(b"\0") {
        return damage(What::Nul);
    }
    let first = bytes.split(|b| matches!(b, b',' | b'\r' | b'\n')).next();
    if !matches!(first.map(<[u8]>::trim_ascii), Some(b"id" | b"\"id\"")) {
        return damage(What::Foreign);
    }
    Ok(())
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Reads a file of any of the official SDKs.
///
/// # Errors
/// When the header cannot be read. A record that cannot be read is
/// [`unreadable`](Document::unreadable).
pub(super) fn parse(bytes: &[u8]) -> Result<Document<'_>, Damage> {
    check_start(&bytes[..bytes.len().min(START)])?;
    let mut reader = Reader::new(bytes, bytes.len() - without_mark(bytes).len());
    let header = reader.record().expect("the file is not empty");
    let columns = columns(&header).map_err(|what| Damage {
        line: header.line,
        what,
    })?;
    let mut document = Document {
        bytes,
        header: 0..header.range.end,
        columns,
        line_end: LineEnd::of(&bytes[header.range]).unwrap_or_default(),
        lines: Vec::new(),
    };
    // A guess that is right for every file with one line for a record, so that the list need not
    // grow, which would cost its size once more.
    let count = line_ends(bytes);
    document
        .lines
        .reserve_exact(count.min(bytes.len() / SHORTEST_LINE));
    let mut unreadable = 0;
    let mut has_order = true;
    let mut highest = None;
    while let Some(record) = reader.record() {
        let line = &bytes[record.range.clone()];
        if LineEnd::of(line) == Some(LineEnd::Lf) {
            document.line_end = LineEnd::Lf;
        }
        if is_blank(&record) {
            continue;
        }
        let content = document.content(&record);
        if content.id().is_some() {
            has_order &= content.id() > highest;
            highest = content.id();
        }
        let line = Line::new(&record, content);
        if let Content::Unreadable(what) = content {
            unreadable += 1;
            if unreadable > MOST_UNREADABLE {
                return Err(line.damage(what));
            }
        }
        document.lines.push(line);
    }
    if !has_order {
        document.unnumber_repeated();
    }
    Ok(document)
}

/// Whether a line holds nothing but commas. Node makes one of the empty line at the end of a file
/// when it adds the tenth column.
fn is_blank(record: &Record<'_>) -> bool {
    let is_empty = |fields: &Vec<Cow<'_, [u8]>>| fields.iter().all(|field| field.is_empty());
    let fields = record.fields.as_ref();
    fields.is_ok_and(|fields| fields.len() == record.found as usize && is_empty(fields))
}

/// For each position of a record, the official column that stands there: by name where the header
/// has a known one, else by position.
fn columns(header: &Record<'_>) -> Result<Vec<usize>, What> {
    let names = texts(header)?;
    let found = header.found;
    if found != 10 && found != 9 {
        return Err(What::HeaderColumns { found });
    }
    let known = |name: &str| {
        let official = COLUMNS.iter().position(|&column| column == name);
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
        official.or(other.map(|(_, column)| *column))
    };
    let columns: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(position, name)| known(name.trim()).unwrap_or(position))
        .collect();
    let is_repeated = |(index, column): (usize, &usize)| columns[..index].contains(column);
    if columns.iter().enumerate().any(is_repeated) {
        return Err(What::HeaderNames);
    }
    Ok(columns)
}

fn texts<'a>(record: &Record<'a>) -> Result<Vec<Cow<'a, str>>, What> {
    let text = |field: &Cow<'a, [u8]>| {
        if field.contains(&0) {
            return Err(What::Nul);
        }
        match field {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed),
            Cow::Owned(bytes) => std::str::from_utf8(bytes).map(|text| Cow::Owned(text.to_owned())),
        }
        .map_err(|_| What::NotUtf8)
    };
    match &record.fields {
        Ok(fields) => fields.iter().map(text).collect(),
        Err(what) => Err(*what),
    }
}

impl<'a> Document<'a> {
    /// Returns a file without a header and without a record.
    pub(super) fn empty() -> Self {
        Self {
            bytes: b"",
            header: 0..0,
            columns: Vec::new(),
            line_end: LineEnd::default(),
            lines: Vec::new(),
        }
    }

    /// The texts of a record in the order of [`COLUMNS`].
    fn fields(&self, record: &Record<'a>) -> Result<[Cow<'a, str>; 10], What> {
        let texts = texts(record)?;
        let (found, due) = (record.found, if self.columns.len() == 9 { 9 } else { 10 });
        // SDKs without a migration put full rows under an old header of nine columns.
        let has_extra_domain = found == 10 && !self.columns.contains(&API_DOMAIN);
        if found != due && !has_extra_domain {
            return Err(What::Columns { found, due });
        }
        let mut fields: [Cow<'_, str>; 10] = Default::default();
        for (position, text) in texts.into_iter().enumerate() {
            fields[self.columns.get(position).copied().unwrap_or(API_DOMAIN)] = text;
        }
        Ok(fields)
    }

    fn content(&self, record: &Record<'a>) -> Content {
        let fields = match self.fields(record) {
            Ok(fields) => fields,
            Err(what) => return Content::Unreadable(what),
        };
        let texts = official(&fields);
        let is_wrong = |time: &str| time.starts_with('+') || time.parse::<i64>().is_err();
        if texts[EXPIRY_TIME].is_some_and(is_wrong) {
            return Content::Unreadable(What::ExpiryTime);
        }
        match texts[ID].map(str::parse) {
            Some(Ok(id)) => Content::Record(id),
            // Older SDKs made ids such as `python_u1_EU_9f3c`. Without any token it is no login.
            _ if texts[REFRESH_TOKEN..=GRANT_TOKEN]
                .iter()
                .any(Option::is_some) =>
            {
                Content::Unnumbered
            }
            _ => Content::Unreadable(What::Id),
        }
    }

    /// Two processes of official SDKs that save at once give one id to two logins. The first of
    /// them in the file has it, as for those SDKs.
    fn unnumber_repeated(&mut self) {
        let ids = self.lines.iter().enumerate();
        let mut ids: Vec<_> = ids
            .filter_map(|(index, line)| Some((line.content.id()?, index)))
            .collect();
        ids.sort_unstable();
        for pair in ids.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            self.lines[pair[1].1].content = Content::Unnumbered;
        }
    }

    /// Returns whether records have no id of their own, so that they need
    /// [`number_after`](Self::number_after).
    pub(super) fn has_unnumbered(&self) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.content == Content::Unnumbered)
    }

    /// Gives ids to the records without one, in the order of the file, above all ids in it and above
    /// `highest`. Every process that reads the same file gives the same ids; the first write puts
    /// them into the file.
    pub(super) fn number_after(&mut self, highest: Option<TokenId>) {
        let mut last = self.highest_id().max(highest);
        for line in &mut self.lines {
            if line.content != Content::Unnumbered {
                continue;
            }
            let next = last.map_or_else(|| TokenId::new(1).ok(), TokenId::next);
            line.content = match next {
                Some(id) => Content::Numbered(id),
                None => Content::Unreadable(What::Id),
            };
            last = next.or(last);
        }
    }

    /// The highest id in the file, also of a line that cannot be read.
    pub(super) fn highest_id(&self) -> Option<TokenId> {
        let known = self.lines.iter().filter_map(|line| line.content.id()).max();
        known.max(self.unreadable().filter_map(|line| line.id).max())
    }

    /// How many records there are, readable or not.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns the lines that cannot be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = Unreadable> {
        self.lines.iter().filter_map(|line| match line.content {
            Content::Unreadable(what) => Some(Unreadable {
                damage: line.damage(what),
                id: self.seeming_id(line),
            }),
            _ => None,
        })
    }

    /// Returns the damage of the last line if that looks as if another program were still writing it.
    pub(super) fn cut(&self) -> Option<Damage> {
        let line = self.lines.last()?;
        let Content::Unreadable(what) = line.content else {
            return None;
        };
        let is_short = match what {
            What::Columns { found, due } => found < due,
            What::OpenQuote | What::NotUtf8 => true,
            _ => false,
        };
        let has_end = LineEnd::of(&self.bytes[line.range()]).is_some();
        (is_short && !has_end).then(|| line.damage(what))
    }

    /// Returns the bytes of the lines that cannot be read.
    pub(super) fn unreadable_bytes(&self) -> impl Iterator<Item = &'a [u8]> {
        let is_bad = |line: &&Line| matches!(line.content, Content::Unreadable(_));
        let lines = self.lines.iter().filter(is_bad);
        lines.map(|line| &self.bytes[line.range()])
    }

    fn seeming_id(&self, line: &Line) -> Option<TokenId> {
        let position = self.columns.iter().position(|&column| column == ID)?;
        let value = self.seeming_values(line).nth(position)?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }

    /// The values of a line that cannot be read, taken apart at the commas.
    fn seeming_values(&self, line: &Line) -> impl Iterator<Item = &'a [u8]> {
        let values = self.bytes[line.range()].split(|&byte| byte == b',');
        values.map(|value| {
            let value = value.trim_ascii_end();
            let inner = value.strip_prefix(b"\"").unwrap_or(value);
            inner.strip_suffix(b"\"").unwrap_or(inner)
        })
    }

    /// Returns the record with this id.
    ///
    /// # Errors
    /// When a line that seems to be this record cannot be read.
    pub(super) fn by_id(&self, id: TokenId) -> Result<Option<OAuthToken>, Damage> {
        let found = self.lines.iter().find(|line| line.content.id() == Some(id));
        match found {
            Some(line) => Ok(self.token(line)),
            None => match self.unreadable().find(|line| line.id == Some(id)) {
                Some(line) => Err(line.damage),
                None => Ok(None),
            },
        }
    }

    /// Returns the matching record with the lowest id.
    ///
    /// # Errors
    /// When there is none, and a line that seems to match cannot be read.
    pub(super) fn find(&self, query: &TokenQuery) -> Result<Option<OAuthToken>, Damage> {
        let value = match query.criterion() {
            Criterion::UserName(name) => name.as_str(),
            Criterion::AccessToken(token) => token.expose_secret(),
            Criterion::GrantToken(token) => token.expose_secret(),
            Criterion::RefreshToken(token) => token.expose_secret(),
        };
        // A quote in a value is written as two. All other values stand in the line as they are, so
        // the lines without the value need not be turned into records.
        let may_match = |line: &Line| {
            let text = std::str::from_utf8(&self.bytes[line.range()]);
            value.contains('"') || text.is_ok_and(|text| text.contains(value))
        };
        let readable = self.lines.iter().filter(|line| line.content.id().is_some());
        let found = readable
            .filter(|line| may_match(line))
            .filter_map(|line| self.token(line))
            .filter(|token| query.matches(token))
            .min_by_key(|token| token.id);
        if found.is_some() {
            return Ok(found);
        }
        for line in &self.lines {
            if let Content::Unreadable(what) = line.content
                && self.seems_to_match(line, what, query, value)
            {
                return Err(line.damage(what));
            }
        }
        Ok(None)
    }

    /// Whether a line that cannot be read may be what `query` looks for: by its columns where they
    /// can be told apart, else if any of its values is `value`.
    fn seems_to_match(&self, line: &Line, what: What, query: &TokenQuery, value: &str) -> bool {
        if matches!(what, What::ExpiryTime | What::Id)
            && let Some(fields) = self.raw_fields(line)
        {
            let column = match query.criterion() {
                Criterion::UserName(_) => USER_NAME,
                Criterion::RefreshToken(_) => REFRESH_TOKEN,
                Criterion::AccessToken(_) => ACCESS_TOKEN,
                Criterion::GrantToken(_) => GRANT_TOKEN,
            };
            let is_client = |client: &ClientId| fields[CLIENT_ID] == client.as_str();
            return fields[column] == value && query.client().is_none_or(is_client);
        }
        let mut values = self.seeming_values(line);
        values.any(|it| it == value.as_bytes())
    }

    /// Returns up to `limit` records with ids above `after`, in the order of their ids.
    pub(super) fn page(&self, after: Option<TokenId>, limit: usize) -> Vec<OAuthToken> {
        let is_meant = |line: &&Line| line.content.id() > after;
        let mut lines: Vec<_> = self.lines.iter().filter(is_meant).collect();
        lines.sort_by_key(|line| line.content.id());
        let first = lines.into_iter().take(limit);
        first.filter_map(|line| self.token(line)).collect()
    }

    /// The record of a line, which was found readable.
    fn token(&self, line: &Line) -> Option<OAuthToken> {
        let id = line.content.id()?;
        let fields = self.raw_fields(line)?;
        let mut texts = official(&fields);
        let number = id.to_string();
        texts[ID] = Some(&number);
        OAuthToken::from_fields(&texts).ok()
    }

    /// The texts of a line in the order of [`COLUMNS`], if it has as many as it should.
    fn raw_fields(&self, line: &Line) -> Option<[Cow<'a, str>; 10]> {
        let record = Reader::new(&self.bytes[line.range()], 0).record()?;
        self.fields(&record).ok()
    }

    /// Returns the content of the file with the records of `table`.
    ///
    /// A line stays as it is, byte for byte, if its record has not changed. `keeps` says which of
    /// the lines that cannot be read stay. What is new comes last.
    pub(super) fn rewritten(
        &self,
        table: &TokenTable,
        keeps: impl Fn(Damage) -> bool,
    ) -> Vec<Piece<'a>> {
        // Nine columns become ten.
        let is_official = self.columns.iter().copied().eq(0..COLUMNS.len());
        let mut pieces = Vec::new();
        if is_official {
            pieces.push(Piece::Old(&self.bytes[self.header.clone()]));
        } else {
            let header = COLUMNS.join(",") + self.line_end.as_str();
            pieces.push(Piece::New(Zeroizing::new(header)));
        }
        let mut in_file: Vec<_> = self.lines.iter().map(|line| line.content.id()).collect();
        in_file.sort_unstable();
        for line in &self.lines {
            let old = &self.bytes[line.range()];
            let stored = line.content.id().and_then(|id| table.find_by_id(id));
            let stays = match (line.content, stored) {
                (Content::Unreadable(what), _) => {
                    if !keeps(line.damage(what)) {
                        continue;
                    }
                    // Under the new header its values would stand in the wrong columns.
                    if let Some(fields) = self.raw_fields(line).filter(|_| !is_official) {
                        self.end_line(&mut pieces);
                        let line_end = LineEnd::of(old).unwrap_or(self.line_end);
                        let fields = fields.each_ref().map(|field| Some(&**field));
                        pieces.push(Piece::New(row_of(&fields, line_end)));
                        continue;
                    }
                    true
                }
                (_, None) => continue,
                (Content::Record(_), Some(stored)) => {
                    is_official && self.token(line).as_ref() == Some(stored)
                }
                (_, Some(_)) => false,
            };
            self.end_line(&mut pieces);
            match stored.filter(|_| !stays) {
                None => pieces.push(Piece::Old(old)),
                Some(stored) => {
                    let line_end = LineEnd::of(old).unwrap_or(self.line_end);
                    pieces.push(Piece::New(row(stored, line_end)));
                }
            }
        }
        let is_new = |row: &&OAuthToken| in_file.binary_search(&row.id).is_err();
        for new in table.rows().iter().filter(is_new) {
            self.end_line(&mut pieces);
            pieces.push(Piece::New(row(new, self.line_end)));
        }
        // An ended line does not look as if another program were still writing it.
        let last = self.lines.last().map(|line| line.content);
        if matches!(last, Some(Content::Unreadable(_))) {
            self.end_line(&mut pieces);
        }
        pieces
    }

    /// Ends the last line, which many SDKs leave without an end.
    fn end_line(&self, pieces: &mut Vec<Piece<'a>>) {
        let last = pieces.last().map_or(&b"\n"[..], |piece| piece.as_ref());
        if !last.ends_with(b"\n") && !last.ends_with(b"\r") {
            pieces.push(Piece::Old(self.line_end.as_str().as_bytes()));
        }
    }
}

fn official<'f>(fields: &'f [Cow<'_, str>; 10]) -> [Option<&'f str>; 10] {
    OAuthToken::official_texts(fields.each_ref().map(|field| Some(&**field)))
}

/// Returns the content of a new file without a record.
pub(super) fn new_file() -> &'static str {
    static HEADER: LazyLock<String> =
        LazyLock::new(|| COLUMNS.join(",") + LineEnd::default().as_str());
    &HEADER
}

fn row(token: &OAuthToken, line_end: LineEnd) -> Zeroizing<String> {
    let fields = token.expose_fields();
    row_of(&fields.each_ref().map(Option::as_deref), line_end)
}

/// Returns the line of a record as Zoho's Python SDK writes it: quotes only where they are needed.
fn row_of(fields: &[Option<&str>; 10], line_end: LineEnd) -> Zeroizing<String> {
    let size = |field: &&str| field.len() + field.matches('"').count() + 2;
    let size: usize = fields.iter().flatten().map(size).sum();
    // Large enough from the start: growing would leave copies behind.
    let mut out = Zeroizing::new(String::with_capacity(size + COLUMNS.len() + 1));
    for (column, field) in fields.iter().enumerate() {
        if column > 0 {
            out.push(',');
        }
        push_field(&mut out, field.unwrap_or_default());
    }
    out.push_str(line_end.as_str());
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
