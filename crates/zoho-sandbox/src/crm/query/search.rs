//! `GET /{module}/search`: by criteria, address, phone number or word.

use serde_json::json;

use super::super::Call;
use super::super::read::{fields, list_answer, page, pick, read_scope, whole};
use super::super::reply::{ApiError, Result};
use super::super::schema::{Kind, Module};
use super::super::store::{OrgData, Record, text};
use super::{Column, Condition, DEPTH_LIMIT, Test, too_deep};

/// The most single conditions in criteria.
const CRITERIA_LIMIT: usize = 15;

pub(in super::super) fn answer(call: &Call<'_>, data: &OrgData, module: &'static Module) -> Result {
    read_scope(call, module)?;
    let params = call.params;
    let of_kind = |kind: Kind, wanted: &str| -> Vec<&Record> {
        let fields = module.fields.iter().filter(|field| field.kind == kind);
        let names: Vec<&str> = fields.map(|field| field.api_name).collect();
        let same = |record: &Record, name: &str| text(record, name).eq_ignore_ascii_case(wanted);
        data.records(module)
            .filter(|record| names.iter().any(|name| same(record, name)))
            .collect()
    };
    // When several are given, the first of this order is what the search goes by.
    let found: Vec<&Record> = if let Some(criteria) = params.get("criteria") {
        let condition = parse(module, criteria)?;
        data.records(module)
            .filter(|record| condition.holds(data, record))
            .collect()
    } else if let Some(email) = params.get("email") {
        of_kind(Kind::Email, email)
    } else if let Some(phone) = params.get("phone") {
        of_kind(Kind::Phone, phone)
    } else if let Some(word) = params.get("word") {
        if word.chars().count() < 2 {
            return Err(ApiError::invalid_param("word"));
        }
        let word = word.to_lowercase();
        let has = |record: &Record| {
            record
                .values()
                .any(|value| super::plain(value).to_lowercase().contains(&word))
        };
        data.records(module).filter(|record| has(record)).collect()
    } else {
        return Err(ApiError::new(
            400,
            "REQUIRED_PARAM_MISSING",
            "One of the expected parameter is missing",
        )
        .details(json!({ "param_names": ["criteria", "email", "phone", "word"] })));
    };
    let (page_number, per_page) = page(params)?;
    let names = params.get("fields").map(|_| fields(params)).transpose()?;
    Ok(list_answer(
        &found,
        page_number,
        per_page,
        |record| match &names {
            Some(names) => pick(record, module, names),
            None => whole(record, module),
        },
    ))
}

/// Reads criteria such as `((Last_Name:equals:Zed)and(Email:starts_with:a))`.
fn parse(module: &'static Module, criteria: &str) -> Result<Condition> {
    let mut parser = Parser {
        module,
        rest: criteria.trim(),
        depth: 0,
        conditions: 0,
    };
    let condition = parser.group()?;
    if !parser.rest.is_empty() {
        return Err(invalid("the criteria go on after their end"));
    }
    Ok(condition)
}

fn invalid(reason: &str) -> ApiError {
    ApiError::new(400, "INVALID_QUERY", "invalid query formed")
        .details(json!({ "reason": reason, "param_name": "criteria" }))
}

struct Parser<'a> {
    module: &'static Module,
    rest: &'a str,
    /// Groups that are open.
    depth: usize,
    /// Single conditions so far. They are counted while they are read, so that no condition
    /// tree becomes larger than the limits.
    conditions: usize,
}

impl Parser<'_> {
    /// Items joined by `and` or `or`, from left to right.
    fn group(&mut self) -> Result<Condition> {
        let mut left = self.item()?;
        loop {
            let after = self.rest.trim_start();
            let word = |word: &str| {
                let head = after.get(..word.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(word))
            };
            if word("and") {
                self.rest = after[3..].trim_start();
                let right = self.item()?;
                left = match left {
                    Condition::All(mut parts) => {
                        parts.push(right);
                        Condition::All(parts)
                    }
                    other => Condition::All(vec![other, right]),
                };
            } else if word("or") {
                self.rest = after[2..].trim_start();
                let right = self.item()?;
                left = Condition::Any(vec![left, right]);
            } else {
                self.rest = after;
                return Ok(left);
            }
        }
    }

    /// A condition or group in parentheses.
    fn item(&mut self) -> Result<Condition> {
        let inner = self.rest.strip_prefix('(');
        self.rest = inner.ok_or_else(|| invalid("a condition stands in parentheses"))?;
        if self.rest.trim_start().starts_with('(') {
            self.rest = self.rest.trim_start();
            self.depth += 1;
            if self.depth > DEPTH_LIMIT {
                return Err(too_deep());
            }
            let group = self.group()?;
            self.depth -= 1;
            let after = self.rest.trim_start().strip_prefix(')');
            self.rest = after.ok_or_else(|| invalid("a parenthesis is not closed"))?;
            return Ok(group);
        }
        let (condition, rest) =
            until_parenthesis(self.rest).ok_or_else(|| invalid("a parenthesis is not closed"))?;
        self.rest = rest;
        self.conditions += 1;
        if self.conditions > CRITERIA_LIMIT {
            return Err(ApiError::limit(CRITERIA_LIMIT, "criteria"));
        }
        self.condition(&condition)
    }

    fn condition(&self, condition: &str) -> Result<Condition> {
        let mut parts = condition.splitn(3, ':');
        let (Some(field), Some(operator), Some(value)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("a condition is field:operator:value"));
        };
        let column = Column::parse(self.module, field.trim()).ok_or_else(|| {
            ApiError::new(400, "INVALID_QUERY", "invalid query formed")
                .details(json!({ "column_name": field, "reason": "the field is not available" }))
        })?;
        let list = || {
            value
                .split(',')
                .map(|part| part.trim().to_owned())
                .collect::<Vec<_>>()
        };
        let value = || value.to_owned();
        let test = match operator.trim() {
            "equals" => Test::Equal(value()),
            "not_equal" => Test::NotEqual(value()),
            "starts_with" => Test::StartsWith(value()),
            "contains" => Test::Contains(value()),
            "not_contains" => Test::NotContains(value()),
            "in" => Test::In(list()),
            "not_in" => Test::NotIn(list()),
            "less_than" => Test::Less(value()),
            "less_equal" => Test::LessOrEqual(value()),
            "greater_than" => Test::Greater(value()),
            "greater_equal" => Test::GreaterOrEqual(value()),
            "between" => match <[String; 2]>::try_from(list()) {
                Ok([low, high]) => Test::Between(low, high),
                Err(_) => return Err(invalid("between wants two values")),
            },
            other => {
                return Err(ApiError::new(400, "INVALID_QUERY", "invalid query formed")
                    .details(json!({ "operator": other, "reason": "the operator is not known" })));
            }
        };
        Condition::test(column, test)
    }
}

/// The text up to the closing parenthesis, and what follows. Parentheses that belong to a value
/// are written with a backslash.
fn until_parenthesis(text: &str) -> Option<(String, &str)> {
    let mut before = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            ')' => return Some((before, &text[at + 1..])),
            '\\' => before.push(letters.next()?.1),
            other => before.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::depth;
    use super::*;
    use crate::crm::arbitrary::{nested, soup};
    use crate::crm::schema::module;

    const PIECES: &[&str] = &[
        "(",
        ")",
        "(",
        ")",
        "and",
        "or",
        ":",
        "City",
        "id",
        "Owner",
        "equals",
        "between",
        "in",
        "(City:equals:Porto)",
        "(id:in:1,2)",
        ",",
        "\\",
        " ",
        "x",
        "18446744073709551616",
        "2036-01-01T00:00:00+0000",
    ];

    fn criteria() -> impl Strategy<Value = String> {
        prop_oneof![
            soup(PIECES, "", 60),
            nested(soup(PIECES, "", 6)),
            any::<String>(),
            (1_usize..3_000).prop_map(|times| vec!["(id:in:1)"; times].join("or")),
        ]
    }

    proptest! {
        #[test]
        fn any_criteria_are_read_within_bounds_or_refused(text in criteria()) {
            match parsed(&text) {
                Ok(condition) => {
                    prop_assert!(condition.count() <= 15);
                    prop_assert!(depth(&condition) <= 65);
                }
                Err(error) => prop_assert_eq!(error.status, 400),
            }
        }
    }

    fn parsed(criteria: &str) -> Result<Condition> {
        parse(module("Leads").unwrap(), criteria)
    }

    fn equal(field: &str, value: &str) -> Condition {
        let column = Column::parse(module("Leads").unwrap(), field).unwrap();
        Condition::Test(column, Test::Equal(value.into()))
    }

    #[test]
    fn one_condition_and_groups_are_read() {
        let zed = equal("Last_Name", "Zed");
        assert_eq!(parsed("(Last_Name:equals:Zed)").unwrap(), zed);
        assert_eq!(parsed("((Last_Name:equals:Zed))").unwrap(), zed);
        let both = Condition::All(vec![zed.clone(), equal("City", "Oslo")]);
        assert_eq!(
            parsed("((Last_Name:equals:Zed)and(City:equals:Oslo))").unwrap(),
            both
        );
        let either = Condition::Any(vec![both, equal("City", "Bonn")]);
        let text = "(((Last_Name:equals:Zed) and (City:equals:Oslo))or(City:equals:Bonn))";
        assert_eq!(parsed(text).unwrap(), either);
    }

    #[test]
    fn values_keep_colons_and_escaped_parentheses() {
        assert_eq!(
            parsed(r"(Company:equals:A:B \(Ltd\))").unwrap(),
            equal("Company", "A:B (Ltd)")
        );
    }

    #[test]
    fn broken_criteria_are_refused() {
        for broken in [
            "Last_Name:equals:Zed",
            "(Last_Name:equals:Zed",
            "(Last_Name:equals)",
            "(Nope:equals:Zed)",
            "(Last_Name:resembles:Zed)",
            "(Last_Name:equals:Zed)and",
            "(Last_Name:equals:Zed))",
        ] {
            assert_eq!(
                parsed(broken).unwrap_err().code,
                "INVALID_QUERY",
                "{broken}"
            );
        }
    }
}
