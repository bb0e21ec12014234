//! The calls to AWS Secrets Manager, one function each, and nothing of the rules.

use std::fmt;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::types::{
    Filter, FilterNameStringType, SecretListEntry, SecretVersionsListEntry, SortOrderType, Tag,
};

use super::fault::{self, Refusal};
use super::lag::{self, Pauses};
use super::names::{self, Names};
use super::value;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::Fingerprint;
use crate::token::{OAuthToken, TokenId};

/// How many secrets the service reads in one call.
pub(super) const BATCH: usize = 20;
/// How many secrets the service lists in one call.
const PAGE: i32 = 100;
/// How many values a filter of a listing takes.
const FILTER_VALUES: usize = 10;
/// How many spent successors of one version are passed over. Each is a roll-back by hand.
const MOST_TURNS: u32 = 20;

const CURRENT: &str = "AWSCURRENT";
const DESCRIPTION: &str = "A login with Zoho, kept by zoho-oauth";
const LEDGER_DESCRIPTION: &str = "What zoho-oauth remembers of deleted logins; do not delete it";
const LEDGER_VALUE: &str = "The tags of this secret hold the highest id that was ever given to a \
    login which is deleted by now, so that no id is given twice.";

/// What becomes of the secret of a deleted record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deletion {
    /// AWS keeps it for so many days, 7 to 30, from which `restore-secret` brings it back. Nobody
    /// can read it meanwhile.
    AfterDays(i64),
    /// It is gone at once.
    AtOnce,
}

/// A record as it is stored, and the version of the secret that it was read from.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) row: OAuthToken,
    pub(super) version: String,
}

/// An id that is not free.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: TokenId,
    /// Whether it is so old that every listing shows it.
    pub(super) is_old: bool,
    pub(super) found: Found,
}

/// What lies under an id that is not free.
#[derive(Debug)]
pub(super) enum Found {
    Record(Box<OAuthToken>),
    /// A secret that holds no record, and why.
    Damaged(Error),
    /// A secret that is scheduled for deletion: no record, but its name is taken.
    Doomed,
}

/// A record in a listing.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: TokenId,
    pub(super) digests: Vec<Fingerprint>,
    /// Whether it is so old that every listing shows it.
    pub(super) is_old: bool,
}

#[derive(Clone)]
pub(super) struct Service {
    pub(super) client: Client,
    pub(super) names: Names,
    pub(super) kms_key: Option<String>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) deletion: Deletion,
    /// For one call, all its attempts together.
    pub(super) timeout: Duration,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Waits for a call, and says what its failure means.
    async fn call<T, E>(
        &self,
        action: &str,
        secret: &str,
        sending: impl Future<Output = std::result::Result<T, SdkError<E>>> + Send,
    ) -> std::result::Result<T, Refusal>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(fault::refusal(action, secret, &error)),
            Err(_) => Err(fault::late(action, secret)),
        }
    }

    /// Reads a record.
    pub(super) async fn read(&self, id: TokenId) -> Result<Option<Held>> {
        const ACTION: &str = "secretsmanager:GetSecretValue";
        let name = self.names.token(id);
        let sending = self.client.get_secret_value().secret_id(&name).send();
        match self.call(ACTION, &name, sending).await {
            Ok(answer) => Ok(Some(Held {
                row: value::decode(&name, id, answer.secret_string())?,
                version: answer.version_id.unwrap_or_default(),
            })),
            Err(Refusal::Absent | Refusal::Doomed) => Ok(None),
            Err(refusal) => Err(refusal.into_error(ACTION, &name)),
        }
    }

    /// Reads up to [`BATCH`] records at once; those that are not there are left out.
    pub(super) async fn read_many(&self, ids: &[TokenId]) -> Result<Vec<Taken>> {
        const ACTION: &str = "secretsmanager:BatchGetSecretValue";
        let all = self.names.tokens();
        let mut taken = Vec::with_capacity(ids.len());
        let mut page = None;
        loop {
            let sending = self
                .client
                .batch_get_secret_value()
                .set_secret_id_list(Some(ids.iter().map(|id| self.names.token(*id)).collect()))
                .set_next_token(page)
                .send();
            let answer = self.call(ACTION, &all, sending).await;
            let answer = answer.map_err(|refusal| refusal.into_error(ACTION, &all))?;
            for entry in answer.secret_values() {
                let name = entry.name().unwrap_or_default();
                if let Some(id) = self.names.id_of(name) {
                    let row = value::decode(name, id, entry.secret_string());
                    taken.push(Taken {
                        id,
                        // Of the secret or of its version, which is no older.
                        is_old: lag::is_listed(entry.created_date()),
                        found: row.map_or_else(Found::Damaged, |row| Found::Record(Box::new(row))),
                    });
                }
            }
            for refused in answer.errors() {
                let name = refused.secret_id().unwrap_or_default();
                let code = refused.error_code().unwrap_or_default();
                let text = refused.message().unwrap_or_default();
                match fault::refusal_in_batch(ACTION, name, code, text) {
                    Refusal::Absent => {}
                    Refusal::Doomed => {
                        taken.extend(self.names.id_of(name).map(|id| Taken {
                            id,
                            is_old: false,
                            found: Found::Doomed,
                        }));
                    }
                    refusal => return Err(refusal.into_error(ACTION, name)),
                }
            }
            page = answer.next_token;
            if page.as_deref().is_none_or(str::is_empty) {
                return Ok(taken);
            }
        }
    }

    /// Makes the secret of a new record; `false` if its name is taken.
    pub(super) async fn create(&self, id: TokenId, row: &OAuthToken) -> Result<bool> {
        const ACTION: &str = "secretsmanager:CreateSecret";
        let name = self.names.token(id);
        let version = names::first_version()?;
        let sending = self
            .client
            .create_secret()
            .name(&name)
            .description(DESCRIPTION)
            .secret_string(value::encode(row)?)
            .client_request_token(&version)
            .set_kms_key_id(self.kms_key.clone())
            .set_tags(Some(self.with_own_tags(names::tags(row))))
            .send();
        match self.call(ACTION, &name, sending).await {
            Ok(_) => Ok(true),
            Err(Refusal::Exists | Refusal::Doomed) => Ok(false),
            // The answer is lost, and perhaps it was yes.
            Err(Refusal::Other {
                error,
                is_open: true,
            }) => match self.read(id).await {
                Ok(Some(held)) if held.version == version => Ok(true),
                _ => Err(error),
            },
            Err(refusal) => Err(refusal.into_error(ACTION, &name)),
        }
    }

    /// Puts `text` in the place of what is held, if the secret still has that version; `false` if not.
    pub(super) async fn put(&self, id: TokenId, held: &Held, text: &str) -> Result<bool> {
        const ACTION: &str = "secretsmanager:PutSecretValue";
        let name = self.names.token(id);
        for turn in 0..MOST_TURNS {
            // A version is made once. Of all who would follow the same version one succeeds, and
            // whoever asks again, since the answer was lost, makes no second one.
            let version = names::successor(&name, &held.version, turn);
            let sending = self
                .client
                .put_secret_value()
                .secret_id(&name)
                .client_request_token(&version)
                .secret_string(text)
                .send();
            match self.call(ACTION, &name, sending).await {
                Ok(answer) if answer.version_stages().iter().any(|stage| stage == CURRENT) => {
                    return Ok(true);
                }
                // The same value under the same name is ignored, also if it is not current.
                Ok(_) | Err(Refusal::Exists) => {
                    if !self.is_moved_back(id, &held.version, &version).await? {
                        return Ok(false);
                    }
                }
                Err(Refusal::Absent | Refusal::Doomed) => return Ok(false),
                Err(Refusal::Other {
                    error,
                    is_open: true,
                }) => {
                    return match self.read(id).await {
                        Ok(Some(now)) if now.version == version => Ok(true),
                        _ => Err(error),
                    };
                }
                Err(refusal) => return Err(refusal.into_error(ACTION, &name)),
            }
        }
        let message = format!("the versions of the secret `{name}` were moved by hand too often");
        Err(Error::new(ErrorCode::StoreDamaged, message))
    }

    /// Whether somebody moved the label of the current version back by hand: `held` is current
    /// although `next`, its successor, was made.
    ///
    /// A read that shows what is held proves nothing, since it may be late. A list with both
    /// versions does: it is younger than `next`, which was the current one when it was made.
    async fn is_moved_back(&self, id: TokenId, held: &str, next: &str) -> Result<bool> {
        let mut pauses = Pauses::default();
        loop {
            if self.read(id).await?.is_none_or(|now| now.version != held) {
                return Ok(false);
            }
            if self.lists_both(id, held, next).await? {
                return Ok(true);
            }
            if !pauses.pause().await {
                return Ok(false);
            }
        }
    }

    /// Whether the version `next` is listed beside `held` as the current one. Only what stands on
    /// one page was so at one moment; a page holds as many versions as the service keeps.
    async fn lists_both(&self, id: TokenId, held: &str, next: &str) -> Result<bool> {
        const ACTION: &str = "secretsmanager:ListSecretVersionIds";
        let name = self.names.token(id);
        let mut page = None;
        loop {
            let sending = self
                .client
                .list_secret_version_ids()
                .secret_id(&name)
                .include_deprecated(true)
                .max_results(PAGE)
                .set_next_token(page)
                .send();
            let answer = match self.call(ACTION, &name, sending).await {
                Ok(answer) => answer,
                Err(Refusal::Absent | Refusal::Doomed) => return Ok(false),
                Err(refusal) => return Err(refusal.into_error(ACTION, &name)),
            };
            let is_next = |entry: &SecretVersionsListEntry| entry.version_id() == Some(next);
            let is_held = |entry: &SecretVersionsListEntry| {
                let is_current = entry.version_stages().iter().any(|stage| stage == CURRENT);
                is_current && entry.version_id() == Some(held)
            };
            if answer.versions().iter().any(is_next) && answer.versions().iter().any(is_held) {
                return Ok(true);
            }
            page = answer.next_token;
            if page.as_deref().is_none_or(str::is_empty) {
                return Ok(false);
            }
        }
    }

    /// Sets tags; `false` if the secret is not there.
    pub(super) async fn tag(&self, name: &str, tags: Vec<(String, String)>) -> Result<bool> {
        const ACTION: &str = "secretsmanager:TagResource";
        let sending = self
            .client
            .tag_resource()
            .secret_id(name)
            .set_tags(Some(to_tags(tags)))
            .send();
        match self.call(ACTION, name, sending).await {
            Ok(_) => Ok(true),
            Err(Refusal::Absent) => Ok(false),
            Err(Refusal::Doomed) if name != self.names.ledger() => Ok(false),
            Err(refusal) => Err(refusal.into_error(ACTION, name)),
        }
    }

    /// Deletes the secret of a record; `false` if it was not there.
    pub(super) async fn delete(&self, id: TokenId) -> Result<bool> {
        const ACTION: &str = "secretsmanager:DeleteSecret";
        let name = self.names.token(id);
        let request = self.client.delete_secret().secret_id(&name);
        let request = match self.deletion {
            Deletion::AtOnce => request.force_delete_without_recovery(true),
            Deletion::AfterDays(days) => request.recovery_window_in_days(days),
        };
        match self.call(ACTION, &name, request.send()).await {
            Ok(_) => Ok(true),
            Err(Refusal::Absent | Refusal::Doomed) => Ok(false),
            Err(refusal) => Err(refusal.into_error(ACTION, &name)),
        }
    }

    /// Lists all records, or those with one of these digests. Listings lag behind: what was saved
    /// or deleted in the last five minutes may not show.
    pub(super) async fn list(&self, digests: Option<&[Fingerprint]>) -> Result<Vec<Listed>> {
        let Some(digests) = digests else {
            return self.pages(Vec::new(), usize::MAX).await;
        };
        let mut listed = Vec::new();
        for some in digests.chunks(FILTER_VALUES) {
            let values = some.iter().map(|digest| digest.as_str().to_owned());
            let filter = Filter::builder()
                .key(FilterNameStringType::TagValue)
                .set_values(Some(values.collect()))
                .build();
            listed.extend(self.pages(vec![filter], usize::MAX).await?);
        }
        Ok(listed)
    }

    /// Lists some of the newest records.
    pub(super) async fn newest(&self) -> Result<Vec<Listed>> {
        self.pages(Vec::new(), 1).await
    }

    /// Lists, the newest first, until there are at least `enough`.
    async fn pages(&self, mut filters: Vec<Filter>, enough: usize) -> Result<Vec<Listed>> {
        const ACTION: &str = "secretsmanager:ListSecrets";
        let all = self.names.tokens();
        let ours = Filter::builder()
            .key(FilterNameStringType::Name)
            .values(&all)
            .build();
        filters.push(ours);
        let mut listed = Vec::new();
        let mut page = None;
        loop {
            let sending = self
                .client
                .list_secrets()
                .set_filters(Some(filters.clone()))
                .sort_order(SortOrderType::Desc)
                .max_results(PAGE)
                .set_next_token(page)
                .send();
            let answer = self.call(ACTION, &all, sending).await;
            let answer = answer.map_err(|refusal| refusal.into_error(ACTION, &all))?;
            let entries = answer.secret_list().iter();
            listed.extend(entries.filter_map(|entry| self.listed(entry)));
            // A page may be empty and not the last.
            page = answer.next_token;
            if page.as_deref().is_none_or(str::is_empty) || listed.len() >= enough {
                return Ok(listed);
            }
        }
    }

    fn listed(&self, entry: &SecretListEntry) -> Option<Listed> {
        let id = self.names.id_of(entry.name()?)?;
        let tags = entry.tags().iter();
        let digests = tags
            .filter_map(|tag| names::digest_in_tag(tag.key()?, tag.value().unwrap_or_default()));
        Some(Listed {
            id,
            digests: digests.collect(),
            is_old: lag::is_listed(entry.created_date()),
        })
    }

    /// Returns the highest id of deleted records; 0 if none was ever deleted.
    pub(super) async fn ledger(&self) -> Result<u64> {
        Ok(self.ledger_ids().await?.into_iter().max().unwrap_or(0))
    }

    async fn ledger_ids(&self) -> Result<Vec<u64>> {
        const ACTION: &str = "secretsmanager:DescribeSecret";
        let name = self.names.ledger();
        let sending = self.client.describe_secret().secret_id(&name).send();
        match self.call(ACTION, &name, sending).await {
            Ok(answer) => {
                let keys = answer.tags().iter().filter_map(Tag::key);
                Ok(keys.filter_map(names::id_in_highest_tag).collect())
            }
            Err(Refusal::Absent) => Ok(Vec::new()),
            Err(refusal) => Err(refusal.into_error(ACTION, &name)),
        }
    }

    /// Remembers that `id` and all below it were given.
    ///
    /// Each id is a tag of its own, and the highest counts: two processes that write at once cannot
    /// take back what the other one wrote, and tags make no versions.
    pub(super) async fn raise_ledger(&self, id: u64) -> Result<()> {
        let lower = self.ledger_ids().await?;
        if lower.iter().any(|known| *known >= id) {
            return Ok(());
        }
        let name = self.names.ledger();
        let highest = vec![(names::highest_tag(id), "given".to_owned())];
        if !self.tag(&name, highest.clone()).await?
            && !self.create_ledger(&name, highest.clone()).await?
            && !self.tag(&name, highest).await?
        {
            return Err(Refusal::Absent.into_error("secretsmanager:TagResource", &name));
        }
        if !lower.is_empty() {
            let keys = lower.into_iter().map(names::highest_tag).collect();
            let request = self.client.untag_resource().secret_id(&name);
            let sending = request.set_tag_keys(Some(keys)).send();
            // They do no harm beside the higher one, and go when the next one comes.
            let _ = self
                .call("secretsmanager:UntagResource", &name, sending)
                .await;
        }
        Ok(())
    }

    /// Makes the ledger; `false` if it is there.
    async fn create_ledger(&self, name: &str, tags: Vec<(String, String)>) -> Result<bool> {
        const ACTION: &str = "secretsmanager:CreateSecret";
        let sending = self
            .client
            .create_secret()
            .name(name)
            .description(LEDGER_DESCRIPTION)
            .secret_string(LEDGER_VALUE)
            .client_request_token(names::first_version()?)
            .set_kms_key_id(self.kms_key.clone())
            .set_tags(Some(self.with_own_tags(tags)))
            .send();
        match self.call(ACTION, name, sending).await {
            Ok(_) => Ok(true),
            Err(Refusal::Exists) => Ok(false),
            Err(refusal) => Err(refusal.into_error(ACTION, name)),
        }
    }

    fn with_own_tags(&self, mut tags: Vec<(String, String)>) -> Vec<Tag> {
        tags.extend(self.tags.iter().cloned());
        to_tags(tags)
    }
}

fn to_tags(tags: Vec<(String, String)>) -> Vec<Tag> {
    let tags = tags.into_iter();
    tags.map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect()
}
