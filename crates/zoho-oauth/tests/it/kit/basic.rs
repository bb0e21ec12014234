//! Stores in memory, each with one flaw that stores in use today have.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use zoho_oauth::conformance::basic::random_operations_follow_the_rule_book;
use zoho_oauth::conformance::{Report, StoreFactory, Tier, check};
use zoho_oauth::{
    AccessToken, Criterion, Error, ErrorCode, ListStore, OAuthToken, RefreshToken, Result, TokenId,
    TokenQuery, TokenStore, TokenTable, UserName,
};

use crate::support::with_field;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    LosesBlankFields,
    ReusesIds,
    OrdersIdsAsText,
    FirstRowWhenNothingMatches,
    IgnoresCase,
    TrimsNames,
    UnderstandsWildcards,
    IgnoresTheClient,
    BringsDeletedBack,
    KeepsTheOldExpiry,
    CutsLongText,
    AnswersTheHighestId,
    FailsOnAbsence,
    DeleteAlwaysSaysYes,
    ForgetsToCount,
    SavesWithoutALock,
    SavesInTwoSteps,
    LeaksSecretsInErrors,
    LeaksHalfOfASecret,
    LeaksSecretsInDebug,
    WritesOverAnotherLogin,
    KeepsNamelessTwins,
    PanicsOnNul,
}

struct Flawed {
    flaw: Flaw,
    table: Mutex<TokenTable>,
}

impl fmt::Debug for Flawed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flaw == Flaw::LeaksSecretsInDebug {
            for row in self.table().rows() {
                let token = row.access_token.as_ref().map(AccessToken::expose_secret);
                write!(f, "{token:?}")?;
            }
        }
        write!(f, "Flawed({:?})", self.flaw)
    }
}

impl Flawed {
    fn table(&self) -> MutexGuard<'_, TokenTable> {
        self.table.lock().unwrap()
    }

    /// Changes the rows behind the back of the rule book.
    fn tamper(&self, keep_highest: bool, change: impl FnOnce(&mut Vec<OAuthToken>)) {
        let mut table = self.table();
        let mut rows = table.rows().to_vec();
        change(&mut rows);
        let highest = table.highest_id().filter(|_| keep_highest);
        *table = TokenTable::from_rows(rows, highest).unwrap();
    }

    fn forget_highest(&self) {
        if self.flaw == Flaw::ReusesIds {
            self.tamper(false, |_| {});
        }
    }

    /// What the flaw makes of a record before it is saved.
    fn distort(&self, token: &OAuthToken) -> OAuthToken {
        let mut token = token.clone();
        match self.flaw {
            Flaw::TrimsNames => {
                let name = token.user_name.take();
                let name = name.map(|name| name.as_str().trim().to_owned());
                if let Some(name) = name.filter(|name| !name.is_empty()) {
                    token = with_field(&token, "user_name", &name);
                }
            }
            Flaw::IgnoresTheClient => token.client_id = None,
            Flaw::CutsLongText => {
                if let Some(access) = token.access_token.take() {
                    let short: String = access.expose_secret().chars().take(255).collect();
                    token = with_field(&token, "access_token", &short);
                }
            }
            Flaw::KeepsTheOldExpiry if token.expiry_time.is_none() => {
                let table = self.table();
                let stored =
                    TokenQuery::from_parts(&token).and_then(|query| table.find(&query).cloned());
                token.expiry_time = stored.and_then(|row| row.expiry_time);
            }
            _ => {}
        }
        token
    }
}

fn name_matches(flaw: Flaw, stored: &str, asked: &str) -> bool {
    match flaw {
        Flaw::IgnoresCase => stored.eq_ignore_ascii_case(asked),
        Flaw::UnderstandsWildcards => asked == "%" || stored == asked,
        _ => stored == asked,
    }
}

#[async_trait]
impl TokenStore for Flawed {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let table = self.table();
        let found = match (self.flaw, query.criterion()) {
            (Flaw::IgnoresCase | Flaw::UnderstandsWildcards, Criterion::UserName(name)) => {
                let fits = |row: &&OAuthToken| {
                    let stored = row.user_name.as_ref().map_or("", UserName::as_str);
                    name_matches(self.flaw, stored, name.as_str())
                        && query
                            .client()
                            .is_none_or(|client| row.client_id.as_ref() == Some(client))
                };
                table.rows().iter().find(fits)
            }
            (Flaw::AnswersTheHighestId, _) => table.rows().iter().rfind(|row| query.matches(row)),
            (Flaw::FirstRowWhenNothingMatches, _) => table.find(query).or(table.rows().first()),
            _ => table.find(query),
        };
        Ok(found.cloned())
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let token = &self.distort(token);
        match self.flaw {
            Flaw::LosesBlankFields => {
                let id = self.table().save(token)?;
                self.tamper(true, |rows| {
                    let row = rows.iter_mut().find(|row| row.id == Some(id)).unwrap();
                    *row = token.clone();
                    row.id = Some(id);
                });
                Ok(id)
            }
            Flaw::BringsDeletedBack => {
                let mut table = self.table();
                match table.save(token) {
                    Err(error) if error.code() == ErrorCode::RecordDeleted => {
                        let mut token = token.clone();
                        token.id = None;
                        table.save(&token)
                    }
                    saved => saved,
                }
            }
            Flaw::SavesWithoutALock => {
                let mut copy = self.table().clone();
                tokio::task::yield_now().await;
                let id = copy.save(token)?;
                *self.table() = copy;
                Ok(id)
            }
            Flaw::SavesInTwoSteps => {
                let mut first = token.clone();
                first.refresh_token = None;
                // A record without its refresh token may be nothing at all.
                let begun = self.table().save(&first);
                drop(begun);
                tokio::task::yield_now().await;
                self.table().save(token)
            }
            Flaw::LeaksSecretsInErrors => self.table().save(token).map_err(|error| {
                let token = token
                    .refresh_token
                    .as_ref()
                    .map(RefreshToken::expose_secret);
                Error::new(error.code(), format!("cannot save {token:?}"))
            }),
            Flaw::LeaksHalfOfASecret => self.table().save(token).map_err(|error| {
                let token = token.refresh_token.as_ref();
                let token = token.map_or("", RefreshToken::expose_secret);
                let half = token.get(..token.len() / 2).unwrap_or_default();
                Error::new(error.code(), format!("cannot save {half}…"))
            }),
            Flaw::WritesOverAnotherLogin => {
                let mut table = self.table();
                match table.save(token) {
                    Err(error) if error.code() == ErrorCode::IdConflict => {
                        table.delete(token.id.unwrap());
                        let mut token = token.clone();
                        token.id = None;
                        table.save(&token)
                    }
                    saved => saved,
                }
            }
            Flaw::KeepsNamelessTwins => {
                let before = self.table().rows().to_vec();
                let id = self.table().save(token)?;
                self.tamper(true, |rows| {
                    let gone = |row: &&OAuthToken| rows.iter().all(|kept| kept.id != row.id);
                    let gone: Vec<_> = before.iter().filter(gone).cloned().collect();
                    rows.extend(gone);
                });
                Ok(id)
            }
            Flaw::PanicsOnNul => {
                let name = token.user_name.as_ref().map_or("", UserName::as_str);
                assert!(!name.contains('\0'), "a NUL");
                self.table().save(token)
            }
            _ => self.table().save(token),
        }
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let deleted = self.table().delete(id);
        self.forget_highest();
        Ok(deleted || self.flaw == Flaw::DeleteAlwaysSaysYes)
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        let mut rows = self.table().rows().to_vec();
        if self.flaw == Flaw::OrdersIdsAsText {
            rows.sort_by_key(|row| row.id.unwrap().to_string());
        }
        Ok(rows)
    }

    async fn delete_tokens(&self) -> Result<usize> {
        let count = self.table().clear();
        self.forget_highest();
        Ok(if self.flaw == Flaw::ForgetsToCount {
            0
        } else {
            count
        })
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let found = self.table().find_by_id(id).cloned();
        if found.is_none() && self.flaw == Flaw::FailsOnAbsence {
            return Err(Error::new(ErrorCode::StoreUnavailable, "no such row"));
        }
        Ok(found)
    }
}

fn factory(flaw: Flaw) -> StoreFactory {
    StoreFactory::new(move |_place| async move {
        Ok(Flawed {
            flaw,
            table: Mutex::default(),
        })
    })
}

async fn report(flaw: Flaw) -> Report {
    check(Tier::Basic, factory(flaw)).await
}

/// Asserts that the rule of this name finds the flaw.
async fn finds(flaw: Flaw, rule: &str) {
    let report = report(flaw).await;
    assert!(
        report.broken().any(|broken| broken == rule),
        "{flaw:?}: {rule} should fail\n{report}"
    );
}

macro_rules! flaws {
    ($($test:ident: $flaw:ident breaks $rule:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() {
                finds(Flaw::$flaw, stringify!($rule)).await;
            }
        )*
    };
}

flaws! {
    lost_blanks: LosesBlankFields breaks blank_fields_keep_the_stored_value;
    reused_ids: ReusesIds breaks ids_are_never_used_twice;
    ids_as_text: OrdersIdsAsText breaks ids_rise_past_9_and_99;
    first_row: FirstRowWhenNothingMatches breaks absence_is_an_answer;
    first_row_for_an_attacker: FirstRowWhenNothingMatches breaks hostile_queries_find_nothing_and_change_nothing;
    ignored_case: IgnoresCase breaks a_near_miss_finds_nobody;
    trimmed_names: TrimsNames breaks a_near_miss_is_another_login;
    trimmed_text: TrimsNames breaks hostile_text_comes_back_or_is_refused;
    wildcards: UnderstandsWildcards breaks a_near_miss_finds_nobody;
    ignored_client: IgnoresTheClient breaks two_clients_of_one_user_stay_apart;
    deleted_comes_back: BringsDeletedBack breaks a_deleted_record_stays_deleted;
    old_expiry: KeepsTheOldExpiry breaks an_access_token_and_its_expiry_go_together;
    cut_text: CutsLongText breaks long_text_comes_back_or_is_refused;
    highest_answers: AnswersTheHighestId breaks the_lowest_id_answers;
    absence_fails: FailsOnAbsence breaks absence_is_an_answer;
    always_deleted: DeleteAlwaysSaysYes breaks delete_takes_one_record;
    all_delete: DeleteAlwaysSaysYes breaks one_of_many_deletes_wins;
    no_count: ForgetsToCount breaks delete_tokens_takes_all_and_counts_them;
    no_lock: SavesWithoutALock breaks logins_saved_at_once_are_all_there;
    two_steps: SavesInTwoSteps breaks readers_see_whole_records;
    leaking_errors: LeaksSecretsInErrors breaks errors_carry_no_secret;
    leaking_halves: LeaksHalfOfASecret breaks errors_carry_no_secret;
    leaking_debug: LeaksSecretsInDebug breaks the_store_prints_no_secret;
    overwritten_login: WritesOverAnotherLogin breaks an_id_of_another_login_is_a_conflict;
    kept_twins: KeepsNamelessTwins breaks nameless_records_of_a_login_are_taken_in;
    panic: PanicsOnNul breaks hostile_text_comes_back_or_is_refused;
}

/// One sequence in about twenty passes this flaw by.
#[tokio::test]
async fn kept_twins_at_random() {
    let factory = factory(Flaw::KeepsNamelessTwins);
    for _ in 0..20 {
        if random_operations_follow_the_rule_book(&factory)
            .await
            .is_err()
        {
            return;
        }
    }
    panic!("twenty random sequences did not find the flaw");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_report_has_a_line_per_rule_and_a_sum() {
    let good = check(
        Tier::Basic,
        StoreFactory::new(|_place| async { Ok(ListStore::new()) }),
    )
    .await;
    assert!(good.is_conformant(), "{good}");
    let rules = Tier::Basic.rules().len();
    let text = good.to_string();
    assert_eq!(text.lines().count(), rules + 1);
    assert!(
        text.ends_with(&format!("basic: {rules} of {rules} rules kept")),
        "{text}"
    );

    let bad = report(Flaw::ForgetsToCount).await;
    assert!(!bad.is_conformant());
    let failed = "FAILED  delete_tokens_takes_all_and_counts_them: `delete_tokens` took 1";
    assert!(bad.to_string().contains(failed), "{bad}");
}
