//! `POST /coql`: `select columns from module where conditions order by columns limit n`.
//!
//! Served: columns of the module and, through lookups, of the modules they point to; `and`, `or`
//! and parentheses; `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`, `like`, `not like`,
//! `between`, `not between`, `is null`, `is not null`; `order by`, `limit`, `offset`.
//! The `where` clause is mandatory, as in the documented form of a query.
//! Not served: aggregates, `group by`, aliases. They are refused, never misread.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::Call;
use super::super::reply::{ApiError, Reply, Result};
use super::super::schema::{self, Module};
use super::super::store::{OrgData, Record};
use super::tokens::{Kind, Token, cut, syntax_error};
use super::{Column, Condition, Test, order};

const ROWS_LIMIT: usize = 2_000;
const ROWS_DEFAULT: usize = 200;
const COLUMNS_LIMIT: usize = 50;
const CRITERIA_LIMIT: usize = 25;
const ORDER_LIMIT: usize = 10;
const OFFSET_LIMIT: usize = 100_000;
const IN_LIMIT: usize = 50;

pub(in super::super) fn answer(call: &Call<'_>, data: &OrgData) -> Result {
    call.only(&Method::POST)?;
    call.need(&["ZohoCRM.coql"], "READ")?;
    let body = call.json()?;
    let text = body
        .get("select_query")
        .and_then(Value::as_str)
        .ok_or_else(|| {
            ApiError::new(400, "MANDATORY_NOT_FOUND", "required field not found")
                .details(json!({ "api_name": "select_query", "json_path": "$.select_query" }))
        })?;
    let query = parse(text)?;
    let target = format!("ZohoCRM.modules.{}", query.module.api_name);
    call.need(&[&target], "READ")?;

    let mut rows: Vec<&Record> = data
        .records(query.module)
        .filter(|record| query.condition.holds(data, record))
        .collect();
    // From the last column to the first, since the sort is stable.
    for (column, descending) in query.order.iter().rev() {
        rows.sort_by(|one, other| {
            let ascending = order(data, *column, one, other);
            if *descending {
                ascending.reverse()
            } else {
                ascending
            }
        });
    }
    let total = rows.len();
    let shown: Vec<Value> = rows
        .into_iter()
        .skip(query.offset)
        .take(query.limit)
        .map(|record| row(data, &query.columns, record))
        .collect();
    if shown.is_empty() {
        return Ok(Reply::nothing());
    }
    Ok(Reply::ok(json!({
        "info": { "count": shown.len(), "more_records": total > query.offset + shown.len() },
        "data": shown,
    })))
}

/// A row. Pointers are reduced to their ID, as COQL does.
fn row(data: &OrgData, columns: &[Column], record: &Record) -> Value {
    let mut row = Record::new();
    for column in columns {
        let value = match column.value(data, record) {
            Value::Object(to) => json!({ "id": to.get("id") }),
            value => value,
        };
        row.insert(column.name(), value);
    }
    row.insert("id".into(), record.get("id").cloned().unwrap_or_default());
    Value::Object(row)
}

struct Query {
    module: &'static Module,
    columns: Vec<Column>,
    condition: Condition,
    order: Vec<(Column, bool)>,
    limit: usize,
    offset: usize,
}

fn parse(text: &str) -> Result<Query> {
    let tokens = cut(text)?;
    let end = text.chars().count() + 1;
    let mut parser = Parser { tokens, at: 0, end };
    parser.keyword("select")?;
    let mut names = vec![parser.word()?];
    while parser.sign(",") {
        names.push(parser.word()?);
    }
    if names.len() > COLUMNS_LIMIT {
        return Err(limit_exceeded("select", COLUMNS_LIMIT));
    }
    parser.keyword("from")?;
    let name = parser.word()?;
    let module = schema::module(&name)
        .ok_or_else(|| ApiError::no_such_module().details(json!({ "api_name": name })))?;
    let columns = names
        .iter()
        .map(|name| column(module, name))
        .collect::<Result<Vec<_>>>()?;
    if !parser.is_keyword("where") {
        return Err(ApiError::new(400, "SYNTAX_ERROR", "missing clause")
            .details(json!({ "clause": "where" })));
    }
    parser.at += 1;
    let condition = parser.any(module)?;
    if condition.count() > CRITERIA_LIMIT {
        return Err(limit_exceeded("where", CRITERIA_LIMIT));
    }
    let order = parser.order(module)?;
    let (limit, offset) = parser.limit()?;
    if let Some(token) = parser.tokens.get(parser.at) {
        return Err(syntax_error(token.column, token.text()));
    }
    Ok(Query {
        module,
        columns,
        condition,
        order,
        limit,
        offset,
    })
}

fn limit_exceeded(clause: &str, limit: usize) -> ApiError {
    ApiError::new(400, "LIMIT_EXCEEDED", "limit exceeded")
        .details(json!({ "clause": clause, "limit": limit }))
}

fn column(module: &'static Module, name: &str) -> Result<Column> {
    Column::parse(module, name).ok_or_else(|| {
        ApiError::new(400, "INVALID_QUERY", "column given seems to be invalid")
            .details(json!({ "column_name": name }))
    })
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// The place after the last letter, for errors about what is missing.
    end: usize,
}

impl Parser {
    fn unexpected(&self) -> ApiError {
        match self.tokens.get(self.at) {
            Some(token) => syntax_error(token.column, token.text()),
            None => syntax_error(self.end, ""),
        }
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(
            self.tokens.get(self.at),
            Some(Token { kind: Kind::Word(word), .. }) if word.eq_ignore_ascii_case(keyword)
        )
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let there = self.is_keyword(keyword);
        self.at += usize::from(there);
        there
    }

    fn keyword(&mut self, keyword: &str) -> Result<()> {
        if self.takes(keyword) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn sign(&mut self, sign: &str) -> bool {
        let there = matches!(
            self.tokens.get(self.at),
            Some(Token { kind: Kind::Sign(found), .. }) if *found == sign
        );
        self.at += usize::from(there);
        there
    }

    fn word(&mut self) -> Result<String> {
        match self.tokens.get(self.at) {
            Some(Token {
                kind: Kind::Word(word),
                ..
            }) => {
                self.at += 1;
                Ok(word.clone())
            }
            _ => Err(self.unexpected()),
        }
    }

    fn literal(&mut self) -> Result<String> {
        match self.tokens.get(self.at) {
            Some(Token {
                kind: Kind::Word(text) | Kind::Quoted(text),
                ..
            }) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `or` binds less than `and`.
    fn any(&mut self, module: &'static Module) -> Result<Condition> {
        let first = self.all(module)?;
        let mut parts = vec![first];
        while self.takes("or") {
            parts.push(self.all(module)?);
        }
        Ok(joined(parts, Condition::Any))
    }

    fn all(&mut self, module: &'static Module) -> Result<Condition> {
        let mut parts = vec![self.single(module)?];
        while self.takes("and") {
            parts.push(self.single(module)?);
        }
        Ok(joined(parts, Condition::All))
    }

    fn single(&mut self, module: &'static Module) -> Result<Condition> {
        if self.sign("(") {
            let inner = self.any(module)?;
            return if self.sign(")") {
                Ok(inner)
            } else {
                Err(self.unexpected())
            };
        }
        let name = self.word()?;
        let column = column(module, &name)?;
        let test = self.test()?;
        Ok(Condition::Test(column, test))
    }

    fn test(&mut self) -> Result<Test> {
        for (sign, test) in [
            ("=", Test::Equal as fn(String) -> Test),
            ("!=", Test::NotEqual),
            ("<>", Test::NotEqual),
            ("<=", Test::LessOrEqual),
            (">=", Test::GreaterOrEqual),
            ("<", Test::Less),
            (">", Test::Greater),
        ] {
            if self.sign(sign) {
                return self.literal().map(test);
            }
        }
        if self.takes("is") {
            let not = self.takes("not");
            self.keyword("null")?;
            return Ok(if not { Test::NotNull } else { Test::Null });
        }
        let not = self.takes("not");
        if self.takes("in") {
            let list = self.list()?;
            return Ok(if not {
                Test::NotIn(list)
            } else {
                Test::In(list)
            });
        }
        if self.takes("between") {
            let low = self.literal()?;
            self.keyword("and")?;
            let high = self.literal()?;
            return Ok(if not {
                Test::NotBetween(low, high)
            } else {
                Test::Between(low, high)
            });
        }
        if self.takes("like") {
            let pattern = self.literal()?;
            return like(&pattern, not).ok_or_else(|| {
                ApiError::new(400, "INVALID_QUERY", "invalid query formed").details(
                    json!({ "operator": "like", "reason": "% stands at the start or the end" }),
                )
            });
        }
        Err(self.unexpected())
    }

    fn list(&mut self) -> Result<Vec<String>> {
        if !self.sign("(") {
            return Err(self.unexpected());
        }
        let mut list = vec![self.literal()?];
        while self.sign(",") {
            list.push(self.literal()?);
        }
        if !self.sign(")") {
            return Err(self.unexpected());
        }
        if list.len() > IN_LIMIT {
            return Err(limit_exceeded("in", IN_LIMIT));
        }
        Ok(list)
    }

    fn order(&mut self, module: &'static Module) -> Result<Vec<(Column, bool)>> {
        let mut order = Vec::new();
        if !self.takes("order") {
            return Ok(order);
        }
        self.keyword("by")?;
        loop {
            let name = self.word()?;
            let column = column(module, &name)?;
            let descending = self.takes("desc");
            if !descending {
                self.takes("asc");
            }
            order.push((column, descending));
            if !self.sign(",") {
                break;
            }
        }
        if order.len() > ORDER_LIMIT {
            return Err(limit_exceeded("order by", ORDER_LIMIT));
        }
        Ok(order)
    }

    /// `limit n`, `limit offset, n` or `limit n offset m`.
    fn limit(&mut self) -> Result<(usize, usize)> {
        let (mut limit, mut offset) = (ROWS_DEFAULT, 0);
        if self.takes("limit") {
            limit = self.number()?;
            if self.sign(",") {
                offset = limit;
                limit = self.number()?;
            }
        }
        if self.takes("offset") {
            offset = self.number()?;
        }
        if limit == 0 || limit > ROWS_LIMIT {
            return Err(limit_exceeded("limit", ROWS_LIMIT));
        }
        if offset + limit > OFFSET_LIMIT {
            return Err(limit_exceeded("offset", OFFSET_LIMIT));
        }
        Ok((limit, offset))
    }

    fn number(&mut self) -> Result<usize> {
        let error = self.unexpected();
        self.word()?.parse().map_err(|_| error)
    }
}

fn joined(mut parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}

/// `%` may stand at either end of a pattern.
fn like(pattern: &str, not: bool) -> Option<Test> {
    let open_start = pattern.strip_prefix('%');
    let core = open_start.unwrap_or(pattern);
    let open_end = core.strip_suffix('%');
    let core = open_end.unwrap_or(core);
    if core.contains('%') {
        return None;
    }
    let core = core.to_owned();
    match (open_start.is_some(), open_end.is_some(), not) {
        (true, true, false) => Some(Test::Contains(core)),
        (true, true, true) => Some(Test::NotContains(core)),
        (false, true, false) => Some(Test::StartsWith(core)),
        (true, false, false) => Some(Test::EndsWith(core)),
        (false, false, false) => Some(Test::Equal(core)),
        (false, false, true) => Some(Test::NotEqual(core)),
        _ => None,
    }
}
