//! The rows of the table as the engine of saves sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use mysql_async::Value;

use super::core::{Core, Outcome, commit, forget_lease, forgetting, raise_mark};
use super::fault::Fault;
use super::nodes::Tries;
use super::row::{check_fit, decode, encode, exactly};
use super::schema::{self, Fields, Schema};
use super::session::Session;
use super::sql::{FEW_IDS, MANY_IDS, MARKS, text};
use crate::error::{Error, ErrorCode, Result};
use crate::store::rows::{Found, Mark, Plan, RowServer, Wanted, is_done};
use crate::token::{OAuthToken, TokenId};

/// The table, for one save.
pub(super) struct Rows {
    core: Arc<Core>,
    /// The highest id as text at the time of the mark, after which the official SDKs number; 0 if
    /// there is none.
    official_last: AtomicU64,
    /// The number that a new record is to get.
    next: AtomicU64,
    /// Whether a write of this save did not leave what was written. From then on each write is
    /// watched, which tells a trigger from others' changes.
    is_watched: AtomicBool,
}

impl Rows {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            official_last: AtomicU64::new(0),
            next: AtomicU64::new(0),
            is_watched: AtomicBool::new(false),
        }
    }

    /// The table, after a check that a record fits into it. Before it is refused, the table is
    /// looked at again: somebody may have widened it.
    async fn fitting(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        record: &OAuthToken,
    ) -> Result<Arc<Schema>, Fault> {
        let schema = self.core.current(session, tries).await?;
        match check_fit(record, &schema.columns, schema.table()) {
            Err(error) if error.code() == ErrorCode::ColumnTooNarrow => {
                let table = schema.table().to_owned();
                let schema = self.core.look_again(session, &table).await?;
                check_fit(record, &schema.columns, schema.table())?;
                Ok(schema)
            }
            _ => Ok(schema),
        }
    }

    async fn mark_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
    ) -> Result<Option<Mark>, Fault> {
        let schema = self.core.current(session, tries).await?;
        let values = vec![text(schema.table())];
        let rows = session.rows(&schema.statements.mark, values).await?;
        let Some(row) = rows.into_iter().next() else {
            schema::prepare_mark(session, &schema, 0).await?;
            return Ok(None);
        };
        let mut fields = Fields::of(row);
        let last = fields.text(2).and_then(|id| id.parse().ok());
        let last = last.map_or(0, TokenId::get);
        self.official_last.store(last, Ordering::Relaxed);
        Ok(Some(Mark {
            highest_id: fields.number(0).unwrap_or(0).max(last),
            writes: fields.number(1).unwrap_or(0),
        }))
    }

    /// An official SDK gives an id if the one before it was the highest text when it looked, which
    /// it is not any more since our commit. So if the one before is not there, nobody saw it,
    /// unless it was deleted in the meantime.
    async fn is_out_of_reach_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        id: TokenId,
    ) -> Result<bool, Fault> {
        let schema = self.core.current(session, tries).await?;
        let before = text(&(id.get() - 1).to_string());
        let sql = schema.statements.taken(1);
        if session.rows(&sql, vec![before]).await?.is_empty() {
            return Ok(true);
        }
        // A smaller number that is the higher text was there first, and they number after that. The
        // highest text may be a later one.
        let id = id.to_string();
        let values = vec![text(&id), Value::UInt(id.len() as u64)];
        let sql = &schema.statements.shorter_above;
        let above = session.rows(sql, values).await?;
        Ok(!above.is_empty())
    }

    async fn replace_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        (old, new): (&OAuthToken, &OAuthToken),
    ) -> Result<bool, Fault> {
        let schema = self.fitting(session, tries, new).await?;
        let is_proven = self.core.is_proven.load(Ordering::Relaxed);
        if is_proven && !schema.is_watched && !self.is_watched.load(Ordering::Relaxed) {
            let is_done = replace(session, &schema, old, new).await?
                && is_as_written(session, &schema, &[new]).await?;
            self.is_watched.store(!is_done, Ordering::Relaxed);
            return Ok(is_done);
        }
        session.begin(&watched(&schema, new)).await?;
        match replace_watched(session, &schema, old, new).await {
            // What became of it when the answer is lost, the engine finds out by reading again.
            Ok(true) => match commit(session, true).await? {
                Outcome::Done(is_done) => {
                    self.core.is_proven.store(true, Ordering::Relaxed);
                    Ok(is_done)
                }
                Outcome::Unknown(_) => Ok(false),
            },
            Ok(false) => {
                session.roll_back().await;
                Ok(false)
            }
            Err(fault) => {
                session.roll_back().await;
                Err(fault.uncommitted())
            }
        }
    }

    async fn apply_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        (mark, plan): (&Mark, &Plan),
    ) -> Result<Outcome<bool>, Fault> {
        let mut schema = self.core.current(session, tries).await?;
        for record in plan
            .insert
            .iter()
            .chain(plan.update.iter().map(|(_, new)| new))
        {
            schema = self.fitting(session, tries, record).await?;
        }
        session.begin(&statements_of(&schema, plan)).await?;
        let is_ours = plan.id.get() == self.next.load(Ordering::Relaxed);
        match carry_out(session, &schema, mark, plan, is_ours).await {
            Ok(true) => commit(session, true).await,
            Ok(false) => {
                session.roll_back().await;
                Ok(Outcome::Done(false))
            }
            Err(Fault::Duplicate(error)) => {
                session.roll_back().await;
                // Another program was faster with the id, or an index of the application's own
                // refuses what the record holds.
                let inserted = plan.insert.as_ref().and_then(|record| record.id);
                match inserted {
                    Some(id) if pass_taken_ids(session, &schema, id).await? => {
                        Ok(Outcome::Done(false))
                    }
                    _ => Err(Fault::No(error)),
                }
            }
            Err(fault) => {
                session.roll_back().await;
                Err(fault.uncommitted())
            }
        }
    }
}

#[async_trait]
impl RowServer for Rows {
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        self.core.rows(wanted).await
    }

    async fn look(&self, wanted: &[Wanted]) -> Result<Found> {
        self.core.look(wanted).await
    }

    async fn mark(&self) -> Result<Mark> {
        let mut tries = self.core.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.mark_once(&mut session, &tries).await;
            if let Some(Some(mark)) = tries.settle(session, outcome).await? {
                return Ok(mark);
            }
        }
    }

    /// Leaves out what the official SDKs could give at the same time. They may have looked when the
    /// highest id of all was still there.
    fn number_after(&self, highest_id: u64) -> u64 {
        let official_last = self.official_last.load(Ordering::Relaxed);
        let was_given = highest_id != self.core.reserved;
        let was_last = was_given && highest_id.to_string() > official_last.to_string();
        let was_last = if was_last { highest_id } else { official_last };
        let is_theirs =
            |id| is_official(id, official_last, LEFT_OUT) || is_official(id, was_last, LEFT_OUT);
        let mut last = highest_id;
        while last + 1 < TokenId::MAX.get() && is_theirs(last + 1) {
            last += 1;
        }
        self.next.store(last + 1, Ordering::Relaxed);
        last
    }

    async fn is_out_of_reach(&self, id: TokenId) -> Result<bool> {
        let mut tries = self.core.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.is_out_of_reach_once(&mut session, &tries, id).await;
            if let Some(is_safe) = tries.settle(session, outcome).await? {
                return Ok(is_safe);
            }
        }
    }

    /// What became of it when the answer is lost, the engine finds out by reading again.
    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        let mut tries = self.core.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.replace_once(&mut session, &tries, (old, new)).await;
            if let Some(done) = tries.settle_or(session, outcome, false).await? {
                return Ok(done);
            }
        }
    }

    async fn apply(&self, mark: &Mark, plan: &Plan) -> Result<bool> {
        let mut tries = self.core.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.apply_once(&mut session, &tries, (mark, plan)).await;
            match tries.settle(session, outcome).await? {
                Some(Outcome::Done(done)) => return Ok(done),
                Some(Outcome::Unknown(_)) => return is_done(self, plan).await,
                None => {}
            }
        }
    }
}

/// How many numbers are left to the official SDKs after the highest text. Each of their inserts
/// takes one, and ours takes a few milliseconds.
const LEFT_OUT: u64 = 8;

/// Whether an official SDK can give the number as one of its next `steps`, or needs it to go on.
///
/// They number after the highest *text*, so after 9 comes 10, and 10 again for ever: a power of ten
/// is always theirs. Some of them do not mind if a number is taken, and write over the record that has
/// it. The nine numbers before a power of ten are theirs too: with one of them taken, they could add
/// fewer than the ten records that they can add to a table of their own.
pub(super) fn is_official(id: u64, official_last: u64, steps: u64) -> bool {
    let digits = |number: u64| number.checked_ilog10().unwrap_or(0);
    let next_power = 10_u64.pow(digits(id) + 1);
    let is_power_of_ten = id >= 10 && next_power == 10 * id;
    let is_close = next_power - id < 10;
    let is_next = id > official_last && id - official_last <= steps;
    is_power_of_ten || is_close || (is_next && digits(id) == digits(official_last))
}

/// Puts `new` in the place of `old`, if that is what is there.
async fn replace(
    session: &mut Session,
    schema: &Schema,
    old: &OAuthToken,
    new: &OAuthToken,
) -> Result<bool, Fault> {
    let mut values = encode(new, &schema.columns).split_off(1);
    values.extend(exactly(old));
    Ok(session.execute(&schema.statements.update, values).await? == 1)
}

/// As [`replace`], inside a transaction.
///
/// # Errors
/// `store_foreign` when the row is not `new` afterwards.
async fn replace_watched(
    session: &mut Session,
    schema: &Schema,
    old: &OAuthToken,
    new: &OAuthToken,
) -> Result<bool, Fault> {
    if !replace(session, schema, old, new).await? {
        let sql = &schema.statements.lock_exactly;
        if session.rows(sql, exactly(old)).await?.is_empty() {
            return Ok(false);
        }
        // It is still what it was, and locked.
        return Err(changed_on_the_way(schema));
    }
    check_written(session, schema, &[new]).await.map(|()| true)
}

/// Whether these rows are in the table exactly as they were written.
async fn is_as_written(
    session: &mut Session,
    schema: &Schema,
    written: &[&OAuthToken],
) -> Result<bool, Fault> {
    let ids = written.iter().filter_map(|row| row.id.map(Wanted::Id));
    let (sql, values) = schema.statements.rows(&ids.collect::<Vec<_>>());
    let found = session.rows(&sql, values).await?.into_iter();
    let found: Vec<_> = found.map(|row| decode(row, schema.table()).ok()).collect();
    let is_there = |row: &&OAuthToken| found.iter().any(|found| found.as_ref() == Some(*row));
    Ok(found.len() == written.len() && written.iter().all(is_there))
}

/// Refuses what does not come out as it was written: a trigger, or the type of a column, changed it.
async fn check_written(
    session: &mut Session,
    schema: &Schema,
    written: &[&OAuthToken],
) -> Result<(), Fault> {
    if written.is_empty() || is_as_written(session, schema, written).await? {
        return Ok(());
    }
    Err(changed_on_the_way(schema))
}

pub(super) fn changed_on_the_way(schema: &Schema) -> Fault {
    let message = format!(
        "a trigger of table `{}`, or the type of one of its columns, changes what is written",
        schema.table()
    );
    Fault::No(Error::new(ErrorCode::StoreForeign, message))
}

fn marking() -> String {
    format!(
        "UPDATE {MARKS} SET highest_id = ?, writes = writes + 1 \
        WHERE token_table = ? AND writes = ?"
    )
}

/// The statements of [`replace_watched`].
fn watched(schema: &Schema, new: &OAuthToken) -> Vec<String> {
    let id = new.id.map(Wanted::Id);
    let statements = &schema.statements;
    let (rows, _) = statements.rows(id.as_slice());
    vec![
        statements.update.clone(),
        statements.lock_exactly.clone(),
        rows,
    ]
}

/// The statements of [`carry_out`].
fn statements_of(schema: &Schema, plan: &Plan) -> Vec<String> {
    let mut all = vec![marking()];
    if !plan.delete.is_empty() {
        all.extend([schema.statements.delete_exactly.clone(), forgetting()]);
    }
    if let Some((_, new)) = &plan.update {
        all.extend(watched(schema, new));
    }
    if let Some(record) = &plan.insert {
        let id = record.id.map(Wanted::Id);
        let (rows, _) = schema.statements.rows(id.as_slice());
        let statements = &schema.statements;
        all.extend([
            statements.insert.clone(),
            rows,
            statements.last_texts.clone(),
        ]);
    }
    all
}

/// Does what the plan says inside a transaction; `false` if something is not as it says.
async fn carry_out(
    session: &mut Session,
    schema: &Schema,
    mark: &Mark,
    plan: &Plan,
    is_numbered: bool,
) -> Result<bool, Fault> {
    // The mark first, always: its lock keeps the others out, and nobody waits in a circle.
    let sql = marking();
    let highest = plan
        .insert
        .as_ref()
        .map_or(mark.highest_id, |_| plan.id.get());
    let values = vec![
        Value::UInt(highest.max(mark.highest_id)),
        text(schema.table()),
        Value::UInt(mark.writes),
    ];
    if session.execute(&sql, values).await? != 1 {
        return Ok(false);
    }
    for row in &plan.delete {
        let sql = &schema.statements.delete_exactly;
        if session.execute(sql, exactly(row)).await? != 1 {
            return Ok(false);
        }
        if let Some(id) = row.id {
            forget_lease(session, schema.table(), id).await?;
        }
    }
    if let Some((old, new)) = &plan.update
        && !replace_watched(session, schema, old, new).await?
    {
        return Ok(false);
    }
    if let Some(record) = &plan.insert {
        let values = encode(record, &schema.columns);
        session.execute(&schema.statements.insert, values).await?;
        check_written(session, schema, &[record]).await?;
        // Meanwhile an official SDK may have come close.
        if is_numbered {
            let last = highest_other_text(session, schema, plan.id).await?;
            return Ok(!is_official(plan.id.get(), last, LEFT_OUT / 2));
        }
    }
    Ok(true)
}

/// The highest id as text but for this one; 0 if there is none.
async fn highest_other_text(
    session: &mut Session,
    schema: &Schema,
    id: TokenId,
) -> Result<u64, Fault> {
    let rows = session
        .rows(&schema.statements.last_texts, Vec::new())
        .await?;
    let texts = rows.into_iter().map(|row| Fields::of(row).text(0));
    let other = texts.flatten().find(|text| *text != id.to_string());
    let other = other.and_then(|text| text.parse().ok());
    Ok(other.map_or(0, TokenId::get))
}

/// Somebody else gave out ids from `first` on: moves the mark past all of them. If `first` is not
/// taken, `false`.
async fn pass_taken_ids(
    session: &mut Session,
    schema: &Schema,
    first: TokenId,
) -> Result<bool, Fault> {
    let mut last = first.get() - 1;
    let mut count = FEW_IDS;
    loop {
        let ids: Vec<_> = (last + 1..).take(count).collect();
        let values = ids.iter().map(|id| text(&id.to_string())).collect();
        let taken = session
            .rows(&schema.statements.taken(count), values)
            .await?;
        let is_full = taken.len() == count;
        for row in taken {
            let id = Fields::of(row).text(0).and_then(|id| id.parse().ok());
            last = last.max(id.map_or(0, TokenId::get));
        }
        if !is_full {
            break;
        }
        count = MANY_IDS;
    }
    if last < first.get() {
        return Ok(false);
    }
    raise_mark(session, schema, last).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids that a table gets which no official SDK uses.
    #[test]
    fn numbers_of_the_official_sdks_are_left_to_them() {
        let mut given: Vec<u64> = Vec::new();
        let next = |given: &[u64]| {
            let texts = given.iter().map(u64::to_string);
            let last = texts.max().map_or(0, |text| text.parse().unwrap());
            let highest = given.last().copied().unwrap_or(0);
            (highest + 1..highest + 100)
                .find(|&id| !is_official(id, last, LEFT_OUT))
                .unwrap()
        };
        while given.len() < 2000 {
            given.push(next(&given));
            // They can go on, by ten records at least.
            let texts = given.iter().map(u64::to_string);
            let last: u64 = texts.max().unwrap().parse().unwrap();
            let end = 10_u64.pow(last.ilog10() + 1);
            assert!(end - last >= 10 && !given.contains(&end), "{last}");
        }
        assert_eq!(given[..3], [11, 20, 29]);
        let all: Vec<_> = (11..=83).step_by(9).chain(101..=830).collect();
        assert_eq!(given[..all.len()], all);
        // Theirs go on where they are, far from ours.
        assert_eq!(next(&[1, 2, 3]), 11);
        assert_eq!(next(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 11);
        assert_eq!(next(&[900_000_000]), 900_000_009);
        assert_eq!(next(&[95]), 101);
    }
}
