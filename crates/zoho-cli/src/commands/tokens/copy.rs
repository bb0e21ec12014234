//! `zoho tokens copy`: move tokens from one store to another.

use std::collections::BTreeMap;

use serde::Serialize;
use zohocrm::oauth::TokenId;
use zohocrm::oauth::store::CopyTokens;
use zohocrm::oauth::store::copy::CopyReport;

use crate::error::{Failure, Result};
use crate::printer::{self, Printer};
use crate::store_url::{self, Purpose};

/// Copy all tokens of one store into another, and compare
///
/// The source is only read, and may be in use. Ids are kept where the target is empty. A copy that
/// was cut off goes on when it is called again; one that is done writes nothing a second time.
/// Tokens that are newer in the target stay. What was not copied is listed by id, and the exit
/// status is 1; so it is where the source counts more records than it lists.
#[derive(Debug, clap::Args)]
#[command(after_long_help = store_url::HELP)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags that a person sets one by one"
)]
pub(crate) struct Args {
    /// Where the tokens are
    #[arg(long, value_name = "STORE")]
    from: String,
    /// Where they are to be; made if it is missing
    #[arg(long, value_name = "STORE")]
    to: String,
    /// Write no token, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Leave out the records of the source up to this id
    #[arg(long, value_name = "ID")]
    start_after: Option<TokenId>,
    /// Copy also records that the target seems to have deleted, under new ids
    #[arg(long)]
    bring_back_deleted: bool,
    /// Take the source's values where nothing tells which are newer
    #[arg(long)]
    source_wins_ties: bool,
    /// Print the report as one JSON object, with all ids
    #[arg(long)]
    json: bool,
}

/// The object that `--json` prints: ids as numbers, those of the source unless they are values of
/// `joined` and `renumbered`.
#[derive(Debug, Serialize)]
struct Json<'a> {
    complete: bool,
    /// Whether the source counts its records in another way than by listing them.
    confirmed: bool,
    dry_run: bool,
    read: usize,
    inserted: usize,
    updated: usize,
    unchanged: usize,
    verified: usize,
    joined: BTreeMap<u64, u64>,
    renumbered: BTreeMap<u64, Option<u64>>,
    kept_newer: Vec<u64>,
    copied_again: Vec<u64>,
    gone: Vec<u64>,
    left_out: Vec<u64>,
    missing: Vec<u64>,
    different: BTreeMap<u64, &'a [&'static str]>,
    /// The codes of the errors.
    refused: BTreeMap<u64, &'static str>,
    /// Records of the source that it counts and did not list.
    unread: usize,
    /// Where the records are that cannot be read, and why.
    unreadable: &'a [String],
    target_unreadable: &'a [String],
}

impl<'a> Json<'a> {
    fn of(report: &'a CopyReport) -> Self {
        fn numbers<'i>(ids: impl IntoIterator<Item = &'i TokenId>) -> Vec<u64> {
            ids.into_iter().map(|id| id.get()).collect()
        }
        fn by_number<'i, T: 'i, V>(
            ids: impl IntoIterator<Item = (&'i TokenId, &'i T)>,
            value: impl Fn(&'i T) -> V,
        ) -> BTreeMap<u64, V> {
            let entries = ids.into_iter();
            entries.map(|(id, it)| (id.get(), value(it))).collect()
        }
        Self {
            complete: report.is_complete(),
            confirmed: report.is_confirmed(),
            dry_run: report.dry_run,
            read: report.read,
            inserted: report.inserted,
            updated: report.updated,
            unchanged: report.unchanged,
            verified: report.verified,
            joined: by_number(&report.joined, |id| id.get()),
            renumbered: by_number(&report.renumbered, |id| id.map(TokenId::get)),
            kept_newer: numbers(&report.kept_newer),
            copied_again: numbers(&report.copied_again),
            gone: numbers(&report.gone),
            left_out: numbers(&report.left_out),
            missing: numbers(&report.missing),
            different: by_number(&report.different, Vec::as_slice),
            refused: by_number(&report.refused, |error| error.code().as_str()),
            unread: report.source.unread,
            unreadable: &report.source.unreadable,
            target_unreadable: &report.target.unreadable,
        }
    }
}

pub(super) async fn run(args: Args) -> Result<()> {
    let purpose = if args.dry_run {
        Purpose::Rehearse
    } else {
        Purpose::Write
    };
    let from = store_url::open(&args.from, Purpose::Read).await?;
    let to = store_url::open(&args.to, purpose).await?;
    let mut copy = CopyTokens::new(from.store(), to.store());
    if args.dry_run {
        copy = copy.dry_run();
    }
    if let Some(id) = args.start_after {
        copy = copy.start_after(id);
    }
    if args.bring_back_deleted {
        copy = copy.bring_back_deleted();
    }
    if args.source_wins_ties {
        copy = copy.source_wins_ties();
    }
    let report = copy.run().await;
    from.close().await;
    to.close().await;
    let report = report?;
    if args.json {
        printer::json(&Json::of(&report))?;
    } else {
        Printer::on_stdout().line(report.to_string().trim_end())?;
    }
    if report.is_complete() {
        return Ok(());
    }
    let problem = if report.source.unread > 0 {
        "the source was not read as a whole"
    } else {
        "not everything of the source is in the target, or that cannot be said"
    };
    Err(Failure::new(problem).hinted(
        "Look at the records and numbers that are listed; `docs/moving.md` says what to do with each.",
    ))
}
