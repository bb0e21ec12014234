//! The statement that carries out a plan.

use super::sql::{COLUMNS, DURABLY, Statements, id_is, or_nothing, row_is, settings, signed};
use super::value::{Value, compared_fields, stored_fields};
use crate::store::rows::{Mark, Plan};
use crate::token::OAuthToken;

impl Statements {
    /// Carries out a plan, all of it or nothing, if the mark and its rows are what it says. Answers
    /// with how often it was ready to, which is once or not at all.
    ///
    /// The mark is moved, and so locked, before anything else is looked at, and the rows are locked
    /// one after the other before any is changed. If one of them is not what it was, the mark was
    /// moved for nothing, which makes others look again and does no harm.
    pub(super) fn apply<'a>(
        &self,
        token_table: &'a str,
        mark: &Mark,
        plan: &'a Plan,
        channel: &'a str,
    ) -> (String, Vec<Value<'a>>) {
        let (table, marks, leases) = (&self.table, &self.marks, &self.leases);
        let mut bound = Bound(Vec::new());
        let name = bound.one(Value::text(token_table));
        let highest = bound.one(Value::Number(signed(plan.highest_id)));
        let writes = bound.one(Value::Number(signed(mark.writes)));
        let mut parts = vec![format!(
            "moved AS (UPDATE {marks} SET highest_id = greatest(highest_id, {highest}), \
            writes = writes + 1 WHERE token_table = {name} AND writes = {writes} RETURNING 1)"
        )];
        let mut conditions = vec!["EXISTS (SELECT FROM moved)".to_owned()];
        let updated = plan.update.iter().map(|(old, _)| old);
        for (index, row) in plan.delete.iter().chain(updated).enumerate() {
            let is_same = row_is(&bound.id(row), bound.all(compared_fields(row)));
            parts.push(format!(
                "same{index} AS (SELECT 1 FROM {table} WHERE EXISTS (SELECT FROM moved) \
                AND {is_same} FOR UPDATE)"
            ));
            conditions.push(format!("EXISTS (SELECT FROM same{index})"));
        }
        if let Some(new) = &plan.insert {
            let taken = id_is(&bound.id(new));
            conditions.push(format!("NOT EXISTS (SELECT FROM {table} WHERE {taken})"));
        }
        let conditions = conditions.join(" AND ");
        parts.push(format!("ready AS (SELECT 1 WHERE {conditions})"));

        let ready = "EXISTS (SELECT FROM ready)";
        let mut told = Vec::new();
        // What comes out as it should.
        let mut done = vec!["0".to_owned()];
        for (index, row) in plan.delete.iter().enumerate() {
            let id = bound.id(row);
            let is_it = id_is(&id);
            parts.push(format!(
                "gone{index} AS (DELETE FROM {table} WHERE {ready} AND {is_it} RETURNING 1)"
            ));
            done.push(format!("(SELECT count(*) FROM gone{index})"));
            parts.push(format!(
                "forgotten{index} AS (DELETE FROM {leases} WHERE {ready} \
                AND token_table = {name} AND key = 'id:' || {id})"
            ));
            told.push(id);
        }
        if let Some((old, new)) = &plan.update {
            let id = bound.id(old);
            let first = bound.all(stored_fields(new));
            let (is_it, settings, is_kept) = (id_is(&id), settings(first), row_is(&id, first));
            parts.push(format!(
                "changed AS (UPDATE {table} SET {settings} WHERE {ready} AND {is_it} \
                RETURNING {is_kept} AS is_kept)"
            ));
            done.push("(SELECT count(*) FROM changed WHERE is_kept)".to_owned());
            if old.refresh_token != new.refresh_token {
                told.push(id);
            }
        }
        if let Some(new) = &plan.insert {
            let columns = COLUMNS.join(", ");
            let id = bound.id(new);
            let first = bound.all(stored_fields(new));
            let is_kept = row_is(&id, first);
            let fields: Vec<_> = (first..first + COLUMNS.len() - 1)
                .map(|number| format!("${number}::text"))
                .collect();
            let fields = fields.join(", ");
            parts.push(format!(
                "added AS (INSERT INTO {table} ({columns}) SELECT {id}, {fields} FROM ready \
                RETURNING {is_kept} AS is_kept)"
            ));
            done.push("(SELECT count(*) FROM added WHERE is_kept)".to_owned());
        }
        let mut outcome = vec!["(SELECT count(*) FROM ready)".to_owned()];
        if !told.is_empty() {
            let channel = bound.one(Value::text(channel));
            let tell = |id| format!("(SELECT count(pg_notify({channel}, {id})) FROM ready)");
            outcome.extend(told.into_iter().map(tell));
        }
        let (parts, outcome) = (parts.join(", "), outcome.join(", "));
        let all = or_nothing(&format!(
            "(SELECT count(*) FROM ready) * {} = {}",
            done.len() - 1,
            done.join(" + ")
        ));
        let sql = format!("WITH {parts} SELECT {outcome}, {DURABLY}, {all}");
        (sql, bound.0)
    }
}

/// The values of a statement that is being put together.
struct Bound<'a>(Vec<Value<'a>>);

impl<'a> Bound<'a> {
    /// Binds a value and returns how the statement names it.
    fn one(&mut self, value: Value<'a>) -> String {
        // Where the statement does not give the type away, the name does.
        let kind = match value {
            Value::Text(_) => "text",
            Value::Number(_) | Value::Moment(_) => "bigint",
        };
        self.0.push(value);
        format!("${}::{kind}", self.0.len())
    }

    fn id(&mut self, row: &OAuthToken) -> String {
        let id = row.id.map(|id| id.to_string());
        self.one(Value::text(id.unwrap_or_default()))
    }

    /// Binds values in a row and returns the number of the first.
    fn all(&mut self, values: impl Iterator<Item = Value<'a>>) -> usize {
        let first = self.0.len() + 1;
        self.0.extend(values);
        first
    }
}
