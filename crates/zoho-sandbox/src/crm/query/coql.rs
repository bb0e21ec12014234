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
use super::{Column, Condition, DEPTH_LIMIT, Test, order, too_deep};

const ROWS_LIMIT: usize = 2_000;
const ROWS_DEFAULT: usize = 200;
const COLUMNS_LIMIT: usize = 50;
const CRITERIA_LIMIT: usize = 25;
const ORDER_LIMIT: usize = 10;
const OFFSET_LIMIT: usize = 100_000;
const IN_LIMIT: usize = 50;
/// The longest query in bytes. What the other limits allow is shorter.
const QUERY_LIMIT: usize = 64 * 1024;

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
    if text.len() > QUERY_LIMIT {
        return Err(
            ApiError::new(400, "LIMIT_EXCEEDED", "limit exceeded").details(json!({
                "api_name": "select_query",
                "json_path": "$.select_query",
                "maximum_length": QUERY_LIMIT,
            })),
        );
    }
    let mut parser = Parser {
        tokens: cut(text)?,
        at: 0,
        end: text.chars().count() + 1,
        depth: 0,
        conditions: 0,
    };
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
    /// Parentheses that are open.
    depth: usize,
    /// Single conditions so far. They are counted while they are read, so that no condition
    /// tree becomes larger than the limits.
    conditions: usize,
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
            self.depth += 1;
            if self.depth > DEPTH_LIMIT {
                return Err(too_deep());
            }
            let inner = self.any(module)?;
            self.depth -= 1;
            return if self.sign(")") {
                Ok(inner)
            } else {
                Err(self.unexpected())
            };
        }
        self.conditions += 1;
        if self.conditions > CRITERIA_LIMIT {
            return Err(limit_exceeded("where", CRITERIA_LIMIT));
        }
        let name = self.word()?;
        let column = column(module, &name)?;
        let test = self.test()?;
        Condition::test(column, test)
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
        if offset.saturating_add(limit) > OFFSET_LIMIT {
            return Err(limit_exceeded("offset", OFFSET_LIMIT));
        }
        Ok((limit, offset))
    }

    /// A count. What does not fit is larger than every limit.
    fn number(&mut self) -> Result<usize> {
        let error = self.unexpected();
        let word = self.word()?;
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(word.parse().unwrap_or(usize::MAX))
        } else {
            Err(error)
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::depth;
    use super::*;
    use crate::crm::arbitrary::{nested, soup};

    const WORDS: &[&str] = &[
        "select",
        "from",
        "where",
        "and",
        "or",
        "not",
        "in",
        "like",
        "between",
        "is",
        "null",
        "order",
        "by",
        "asc",
        "desc",
        "limit",
        "offset",
        "id",
        "City",
        "Leads",
        "Contacts",
        "Account_Name.Industry",
        "Owner.id",
        "(",
        ")",
        "(",
        ")",
        ",",
        "=",
        "<=",
        "<>",
        "'x%'",
        "'",
        "\\",
        "%",
        "1",
        "0",
        "-1",
        "18446744073709551615",
        "18446744073709551616",
        "2036-01-01T00:00:00+0000",
        "9999-12-31T23:59:59-23:59",
    ];

    fn query() -> impl Strategy<Value = String> {
        let start = prop_oneof![
            Just(""),
            Just("select id from Leads where "),
            Just("select id from Leads where id > 1 "),
        ];
        let rest = prop_oneof![
            soup(WORDS, " ", 60),
            nested(soup(WORDS, " ", 6)),
            any::<String>(),
            (0_usize..3_000).prop_map(|times| vec!["id = 1"; times].join(" or ")),
        ];
        (start, rest).prop_map(|(start, rest)| format!("{start}{rest}"))
    }

    proptest! {
        #[test]
        fn any_query_is_read_within_bounds_or_refused(text in query()) {
            match parse(&text) {
                Ok(query) => {
                    prop_assert!((1..=2_000).contains(&query.limit));
                    prop_assert!(query.offset <= 100_000 - query.limit);
                    prop_assert!(query.columns.len() <= 50 && query.order.len() <= 10);
                    prop_assert!(query.condition.count() <= 25);
                    prop_assert!(depth(&query.condition) <= 50);
                }
                Err(error) => prop_assert_eq!(error.status, 400),
            }
        }
    }
}
