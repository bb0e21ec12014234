//! The copy itself: a first pass that writes, a second that compares and makes up for what changed.

use super::compare::{Comparison, Standing};
use super::count::{Count, is_of_one_record};
use super::pair::{Ground, Look, Pair, ReadBack, Stores, stretches};
use super::report::{CopyReport, Progress, Stage};
use super::walk::{Side, locate};
use crate::error::{Error, ErrorCode, Result};
use crate::store::table::nothing_to_store;
use crate::token::{OAuthToken, TokenId};

/// What a caller may choose, beside the two stores.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) dry_run: bool,
    pub(super) stop_at_first_error: bool,
    pub(super) bring_back: bool,
    pub(super) start_after: Option<TokenId>,
}

pub(super) type Listener<'a> = Box<dyn FnMut(&Progress) + Send + 'a>;

/// A copy on its way.
pub(super) struct Run<'a> {
    stores: Stores<'a>,
    settings: Settings,
    listener: Listener<'a>,
    ground: Ground,
    /// Whether records that are inserted keep their ids.
    keeps_ids: bool,
    /// Whether the copy has come to where no earlier one has been: what the target does not have
    /// from here on was never there.
    is_ahead: bool,
    progress: Progress,
    report: CopyReport,
    seen: Seen,
    /// The records of a stretch that were written, or would be.
    touched: Vec<TokenId>,
}

/// Where a record belongs whose login the target does not have.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Under the id that it has in the source.
    ItsOwn,
    /// Under an id that the target gives.
    Another,
    /// The target had it once.
    Nowhere,
}

/// A record that was written, to be read back.
struct Written {
    source: TokenId,
    /// What was saved.
    expected: OAuthToken,
    /// Where it is now.
    id: TokenId,
    inserted: bool,
}

impl<'a> Run<'a> {
    /// Looks at the target, and writes nothing yet.
    pub(super) async fn start(
        stores: Stores<'a>,
        settings: Settings,
        mut listener: Listener<'a>,
    ) -> Result<Self> {
        let mut progress = Progress::new(Stage::Looking, None);
        let survey = stores.survey(|count, last| {
            progress.done += count;
            progress.last_id = Some(last);
            listener(&progress);
        });
        let ground = survey.await?;
        Ok(Self {
            stores,
            settings,
            listener,
            ground,
            keeps_ids: ground.is_empty || ground.passed.is_some(),
            is_ahead: false,
            progress,
            report: CopyReport {
                dry_run: settings.dry_run,
                ..CopyReport::default()
            },
            seen: Seen::default(),
            touched: Vec::new(),
        })
    }

    pub(super) async fn finish(mut self) -> Result<CopyReport> {
        self.pass(Stage::Copying).await?;
        if !self.settings.dry_run {
            self.pass(Stage::Verifying).await?;
        }
        tracing::info!(
            dry_run = self.settings.dry_run,
            read = self.report.read,
            inserted = self.report.inserted,
            updated = self.report.updated,
            complete = self.report.is_complete(),
            "copied tokens"
        );
        Ok(self.report)
    }

    fn is_second(&self) -> bool {
        self.progress.stage == Stage::Verifying
    }

    async fn pass(&mut self, stage: Stage) -> Result<()> {
        let total = (stage == Stage::Verifying).then_some(self.report.read);
        self.progress = Progress::new(stage, total);
        let Stores {
            from, page_size, ..
        } = self.stores;
        // The last pass is the one that counts.
        let is_last = stage == Stage::Verifying || self.settings.dry_run;
        let count = if is_last {
            Some(Count::begin(from, Side::Source, page_size).await?)
        } else {
            None
        };
        let mut read = 0;
        let mut pairs = self.stores.pairs(self.settings.start_after);
        loop {
            let page = pairs.next_page().await?;
            let Some(last) = page.last().map(|pair| pair.source.id) else {
                break;
            };
            read += page.len();
            for pair in &page {
                self.count(pair.source.id);
            }
            for stretch in stretches(&page) {
                self.stretch(stretch).await?;
            }
            self.progress.last_id = Some(last);
            (self.listener)(&self.progress);
        }
        if self.is_second() {
            self.are_gone(None);
        }
        if let Some(count) = count {
            let all = self.settings.start_after.is_none().then_some(read);
            self.report.source = count.end(all).await?;
            // Two records of the source may have become one.
            let verified = self.report.verified;
            let at_least = verified.saturating_sub(self.report.joined.len());
            self.report.target = self.stores.count_target(at_least).await?;
        }
        Ok(())
    }

    fn count(&mut self, id: TokenId) {
        if !self.is_second() {
            self.report.read += 1;
            self.seen.ids.push(id);
            return;
        }
        self.are_gone(Some(id));
        if !self.seen.passes(id) {
            self.report.read += 1;
        }
    }

    /// Notes the records that the first pass read and the second did not, up to an id.
    fn are_gone(&mut self, until: Option<TokenId>) {
        for id in self.seen.skip_to(until) {
            if !self.has_not_come(id) {
                self.report.gone.insert(id);
            }
        }
    }

    /// Whether it was decided in the first pass that a record is not in the target.
    fn has_not_come(&self, id: TokenId) -> bool {
        self.report.refused.contains_key(&id) || self.report.left_out.contains(&id)
    }

    /// Copies records of which no two are the same login.
    async fn stretch(&mut self, stretch: &[Pair]) -> Result<()> {
        self.touched.clear();
        let open = stretch
            .iter()
            .filter(|pair| !self.has_not_come(pair.source.id));
        let pairs: Vec<_> = open.collect();
        let stores = self.stores;
        let looks = pairs.iter().map(|pair| stores.look(pair)).collect();
        let looks = stores.all(looks).await?;

        let mut updates = Vec::new();
        let mut written = Vec::new();
        for (pair, look) in pairs.into_iter().zip(looks) {
            let source = pair.source.id;
            match look {
                Look::Found { id, comparison } => {
                    if let Some(wanted) = self.found(source, id, *comparison) {
                        updates.push((source, wanted));
                    }
                }
                // One after the other: ids are kept, and show what was copied, while they rise.
                Look::Absent { id_is_taken } => {
                    written.extend(self.absent(pair, id_is_taken).await?);
                }
                Look::Unreadable(error) => self.refused(source, error)?,
            }
        }
        written.extend(self.update(updates).await?);
        self.check(&written).await?;
        self.tally(stretch);
        Ok(())
    }

    /// Notes what was found, and returns what is to be written.
    fn found(
        &mut self,
        source: TokenId,
        target: TokenId,
        comparison: Comparison,
    ) -> Option<OAuthToken> {
        self.is_now(source, target);
        let report = &mut self.report;
        // What was found when it was read back may have been different for a moment.
        report.missing.remove(&source);
        report.different.remove(&source);
        report.kept_newer.remove(&source);
        let is_first = self.progress.stage == Stage::Copying;
        match comparison.standing {
            Standing::Agrees => {
                let has_all = comparison.wanted.is_none();
                report.unchanged += usize::from(has_all && is_first);
            }
            Standing::Newer => {
                report.kept_newer.insert(source);
            }
            // The second pass has the last word, if there is one.
            Standing::Undecided(fields) => {
                if !is_first || self.settings.dry_run {
                    report.different.insert(source, fields);
                }
            }
        }
        comparison.wanted
    }

    /// Notes the id that a login has in the target.
    fn is_now(&mut self, source: TokenId, target: TokenId) {
        if source != target && !self.report.renumbered.contains_key(&source) {
            self.report.joined.insert(source, target);
        }
    }

    /// Inserts a record whose login the target does not have, if it should.
    async fn absent(&mut self, pair: &Pair, id_is_taken: bool) -> Result<Option<Written>> {
        let id = pair.source.id;
        if self.is_second() && self.seen.had(id) {
            self.report.missing.insert(id);
            return Ok(None);
        }
        let bring_back = self.settings.bring_back;
        let keeps_id = match self.place(id, id_is_taken).await {
            Ok(Place::ItsOwn) => true,
            Ok(Place::Another) => false,
            Ok(Place::Nowhere) if bring_back => false,
            Ok(Place::Nowhere) => {
                self.report.left_out.insert(id);
                return Ok(None);
            }
            Err(error) if is_of_one_record(&error) => {
                self.refused(id, error)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if self.settings.dry_run {
            self.foretell(pair, keeps_id).await?;
            return Ok(None);
        }
        let target = match self.insert(pair, keeps_id).await? {
            Ok(Some(target)) => target,
            Ok(None) => {
                self.report.left_out.insert(id);
                return Ok(None);
            }
            Err(error) => {
                self.refused(id, error)?;
                return Ok(None);
            }
        };
        self.report.inserted += 1;
        self.touched.push(id);
        if target != id {
            self.report.renumbered.insert(id, Some(target));
        }
        self.ground.highest = self.ground.highest.max(Some(target));
        Ok(Some(Written {
            source: id,
            expected: pair.source.token.clone(),
            id: target,
            inserted: true,
        }))
    }

    /// Says where a record belongs whose login the target does not have.
    async fn place(&mut self, id: TokenId, id_is_taken: bool) -> Result<Place> {
        if !self.keeps_ids {
            return Ok(Place::Another);
        }
        let was_passed = Some(id) <= self.ground.passed;
        if was_passed && !id_is_taken {
            return Ok(Place::Nowhere);
        }
        // A save under an id that was taken meanwhile would make one login of two.
        if id_is_taken || !self.stores.is_free(id).await? {
            // Records are copied in the order of their ids: a copy that had come so far would have
            // brought this one before the id was given to another login.
            self.is_ahead |= !was_passed;
            return Ok(Place::Another);
        }
        Ok(if Some(id) > self.ground.highest {
            Place::ItsOwn
        } else if self.is_ahead {
            Place::Another
        } else {
            Place::Nowhere
        })
    }

    /// Inserts a record; `None` if the target gave its id before, and so deleted it.
    async fn insert(&mut self, pair: &Pair, keeps_id: bool) -> Result<Result<Option<TokenId>>> {
        let (id, token) = (pair.source.id, &pair.source.token);
        if keeps_id {
            match self.stores.save(id, token).await? {
                Err(error) if error.code() == ErrorCode::RecordDeleted => {
                    // Else the id was given, or passed over, after this copy began.
                    if !self.is_ahead && !self.settings.bring_back {
                        return Ok(Ok(None));
                    }
                }
                // Taken in this very moment.
                Err(error) if error.code() == ErrorCode::IdConflict => self.is_ahead = true,
                answer => {
                    self.is_ahead |= answer.is_ok();
                    return Ok(answer.map(Some));
                }
            }
        }
        let without_id = OAuthToken {
            id: None,
            ..token.clone()
        };
        let answer = self.stores.save(id, &without_id).await?;
        Ok(answer.map(Some))
    }

    /// Notes what inserting a record would do, as far as reading tells.
    async fn foretell(&mut self, pair: &Pair, keeps_id: bool) -> Result<()> {
        let (id, token) = (pair.source.id, &pair.source.token);
        let storable = token.checked().and_then(|token| {
            let fits = token.holds_a_token();
            fits.then_some(()).ok_or_else(nothing_to_store)
        });
        if let Err(error) = storable {
            return self.refused(id, error);
        }
        // The source may have the login twice: the first of them will be there by then.
        let first = locate(self.stores.from, Side::Source, token, self.stores.page_size).await;
        let first = match first {
            Err(error) if is_of_one_record(&error) => None,
            first => first.map_err(|error| error.about("reading the source"))?,
        };
        if let Some(first) = first.and_then(|first| first.id)
            && first < id
            && keeps_id
        {
            self.report.joined.insert(id, first);
            return Ok(());
        }
        self.report.inserted += 1;
        self.touched.push(id);
        if !keeps_id {
            self.report.renumbered.insert(id, None);
        }
        Ok(())
    }

    /// Writes what is wanted over what is there, some at a time: the order does not matter.
    async fn update(&mut self, updates: Vec<(TokenId, OAuthToken)>) -> Result<Vec<Written>> {
        let stores = self.stores;
        let answers = if self.settings.dry_run {
            let ids = updates.iter().map(|(source, _)| Ok(*source));
            ids.collect()
        } else {
            let saves = updates.iter().map(|(source, to)| stores.save(*source, to));
            stores.all(saves.collect()).await?
        };
        let mut written = Vec::new();
        for ((source, expected), answer) in updates.into_iter().zip(answers) {
            let id = match answer {
                Ok(id) => id,
                Err(error) => {
                    self.refused(source, error)?;
                    continue;
                }
            };
            self.touched.push(source);
            if self.is_second() {
                self.report.copied_again.insert(source);
            } else {
                self.report.updated += 1;
            }
            if self.settings.dry_run {
                continue;
            }
            self.is_now(source, id);
            written.push(Written {
                source,
                expected,
                id,
                inserted: false,
            });
        }
        Ok(written)
    }

    /// Reads back what was written.
    async fn check(&mut self, written: &[Written]) -> Result<()> {
        let stores = self.stores;
        let reads = written.iter().map(|record| {
            let Written {
                source, expected, ..
            } = record;
            stores.read_back(*source, expected, record.id, record.inserted)
        });
        let answers = stores.all(reads.collect()).await?;
        let report = &mut self.report;
        for (record, answer) in written.iter().zip(answers) {
            let source = record.source;
            match answer {
                ReadBack::Good => {}
                ReadBack::Newer => {
                    report.kept_newer.insert(source);
                }
                ReadBack::Different(fields) => {
                    report.different.insert(source, fields);
                }
                ReadBack::Missing => {
                    report.missing.insert(source);
                }
            }
        }
        Ok(())
    }

    /// Counts what became of the records of a stretch.
    fn tally(&mut self, stretch: &[Pair]) {
        for pair in stretch {
            let id = pair.source.id;
            let report = &mut self.report;
            let failed = report.refused.contains_key(&id)
                || report.missing.contains(&id)
                || report.different.contains_key(&id);
            if failed {
                self.progress.failed += 1;
            } else if self.touched.contains(&id) {
                self.progress.done += 1;
            } else {
                self.progress.skipped += 1;
            }
            let is_second = self.progress.stage == Stage::Verifying;
            if is_second && !failed && !report.left_out.contains(&id) {
                report.verified += 1;
            }
        }
    }

    fn refused(&mut self, id: TokenId, error: Error) -> Result<()> {
        tracing::debug!(%id, code = error.code().as_str(), "a record was refused");
        if self.settings.stop_at_first_error {
            return Err(error.about(format_args!("copying record {id}")));
        }
        self.report.refused.insert(id, error);
        Ok(())
    }
}

/// The ids that the first pass read, in rising order, along which the second one walks.
#[derive(Debug, Default)]
struct Seen {
    ids: Vec<TokenId>,
    next: usize,
}

impl Seen {
    fn had(&self, id: TokenId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Goes on to `id`, or to the end, and returns what lies between.
    fn skip_to(&mut self, id: Option<TokenId>) -> Vec<TokenId> {
        let rest = &self.ids[self.next..];
        let count = id.map_or(rest.len(), |id| rest.partition_point(|seen| *seen < id));
        let skipped = rest[..count].to_vec();
        self.next += count;
        skipped
    }

    /// Steps over `id`, if it is the next.
    fn passes(&mut self, id: TokenId) -> bool {
        let is_next = self.ids.get(self.next) == Some(&id);
        self.next += usize::from(is_next);
        is_next
    }
}
