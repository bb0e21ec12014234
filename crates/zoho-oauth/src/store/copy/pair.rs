//! The two stores of a copy, and the questions that are asked of them.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::compare::{Comparison, Standing, Ties, compare, differing, is_same_login, lost};
use super::count::{Count, StoreCount, inventory, is_of_one_record};
use super::walk::{Pages, Row, Side, locate};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::store::TokenStore;
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// A source, a target, and how they are read. Holds nothing, so it is copied freely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stores<'a> {
    pub(super) from: &'a dyn TokenStore,
    pub(super) to: &'a dyn TokenStore,
    pub(super) page_size: usize,
    pub(super) in_flight: usize,
    pub(super) ties: Ties,
}

/// A record of the source, and what the target had under the same id when its page was read.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) source: Row,
    pub(super) target: Option<OAuthToken>,
}

/// All pairs in the order of the source's ids, a page at a time.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    source: Pages<'a>,
    target: Pages<'a>,
}

impl Pairs<'_> {
    /// Returns the next page, which is empty at the end.
    pub(super) async fn next_page(&mut self) -> Result<Vec<Pair>> {
        let page = self.source.next_page().await?;
        let mut pairs = Vec::with_capacity(page.len());
        for source in page {
            let target = self.target.seek(source.id).await?;
            pairs.push(Pair { source, target });
        }
        Ok(pairs)
    }
}

/// What the target holds before anything is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) is_empty: bool,
    /// The highest id under which both stores have the same login. Since records are copied in
    /// the order of their ids, an earlier copy has been past all before it.
    pub(super) passed: Option<TokenId>,
    /// The highest id that is there.
    pub(super) highest: Option<TokenId>,
}

/// What the target has of a login.
#[derive(Debug)]
pub(super) enum Look {
    Found {
        id: TokenId,
        comparison: Box<Comparison>,
    },
    Absent {
        id_is_taken: bool,
    },
    /// The target has a record that may be the login, and cannot be read.
    Unreadable(Error),
}

/// What came back of a record that was written.
#[derive(Debug)]
pub(super) enum ReadBack {
    Good,
    /// Somebody else wrote a newer one since.
    Newer,
    Different(Vec<&'static str>),
    Missing,
}

impl<'a> Stores<'a> {
    pub(super) fn pairs(self, after: Option<TokenId>) -> Pairs<'a> {
        Pairs {
            source: Pages::new(self.from, Side::Source, self.page_size, after),
            target: Pages::new(self.to, Side::Target, self.page_size, after),
        }
    }

    /// Reads the target, and the source up to the last id of the target. Tells of each page.
    pub(super) async fn survey(
        self,
        mut tell: impl FnMut(usize, TokenId) + Send,
    ) -> Result<Ground> {
        let count = Count::begin(self.to, Side::Target, self.page_size).await?;
        let mut read = 0;
        let mut ground = Ground {
            is_empty: true,
            passed: None,
            highest: None,
        };
        let mut target = Pages::new(self.to, Side::Target, self.page_size, None);
        let mut source = Pages::new(self.from, Side::Source, self.page_size, None);
        loop {
            let page = target.next_page().await?;
            let Some(last) = page.last().map(|row| row.id) else {
                let target = count.end(Some(read)).await?;
                if target.unread > 0 {
                    let message = format!(
                        "the target lists {} records and counts {} more",
                        target.read, target.unread
                    );
                    return Err(Error::new(ErrorCode::StoreDamaged, message));
                }
                return Ok(ground);
            };
            read += page.len();
            for row in &page {
                let twin = source.seek(row.id).await?;
                if twin.is_some_and(|twin| is_same_login(&twin, &row.token)) {
                    ground.passed = Some(row.id);
                }
            }
            ground.is_empty = false;
            ground.highest = Some(last);
            tell(page.len(), last);
        }
    }

    /// Counts the records of the target, in which so many were verified.
    pub(super) async fn count_target(self, verified: usize) -> Result<StoreCount> {
        let counted = inventory(self.to, Side::Target).await?;
        Ok(match counted {
            None => StoreCount {
                read: verified,
                ..StoreCount::default()
            },
            Some(counted) => StoreCount {
                read: verified,
                records: counted.is_independent.then_some(counted.records),
                unread: 0,
                contradicts: verified + counted.unreadable.len() > counted.records,
                unreadable: counted.unreadable,
            },
        })
    }

    /// Looks for the login of a record of the source in the target.
    pub(super) async fn look(self, pair: &Pair) -> Result<Look> {
        match self.look_closely(pair).await {
            Err(error) if is_of_one_record(&error) => Ok(Look::Unreadable(error)),
            look => look,
        }
    }

    async fn look_closely(self, pair: &Pair) -> Result<Look> {
        let Row { id, token } = &pair.source;
        let found = |target: &OAuthToken| Look::Found {
            // A store that answers without an id is found out by reading back.
            id: target.id.unwrap_or(*id),
            comparison: Box::new(compare(token, target, self.ties, Timestamp::now())),
        };
        let is_it = |target: &&OAuthToken| is_same_login(token, target);
        let about = |error: crate::Error| error.about(format_args!("copying record {id}"));
        if let Some(target) = pair.target.as_ref().filter(is_it) {
            let look = found(target);
            if let Look::Found { comparison, .. } = &look
                && comparison.wanted.is_none()
            {
                return Ok(look);
            }
            // What is written over has to be the latest: the page was read a while ago.
            let latest = self.to.find_token_by_id(*id).await.map_err(about)?;
            if let Some(target) = latest.as_ref().filter(is_it) {
                return Ok(found(target));
            }
        }
        let located = locate(self.to, Side::Target, token, self.page_size).await;
        Ok(match located.map_err(about)? {
            Some(target) => found(&target),
            None => Look::Absent {
                id_is_taken: pair.target.is_some(),
            },
        })
    }

    /// Says whether nobody took an id since the page was read.
    pub(super) async fn is_free(self, id: TokenId) -> Result<bool> {
        let found = self.to.find_token_by_id(id).await;
        let found = found.map_err(|error| error.about(format_args!("copying record {id}")))?;
        Ok(found.is_none())
    }

    /// Saves, and tells an error that concerns this record alone from one that ends the copy.
    pub(super) async fn save(
        self,
        source_id: TokenId,
        token: &OAuthToken,
    ) -> Result<Result<TokenId>> {
        match self.to.save_token(token).await {
            Ok(id) => Ok(Ok(id)),
            Err(error) => match error.kind() {
                ErrorKind::InvalidInput
                | ErrorKind::Conflict
                | ErrorKind::Unsupported
                // `record_deleted`
                | ErrorKind::LoginRequired => Ok(Err(error)),
                _ if is_of_one_record(&error) => Ok(Err(error)),
                _ => Err(error.about(format_args!("copying record {source_id}"))),
            },
        }
    }

    /// Reads what was written as `expected` and is now `id`. What was `inserted` has to be the
    /// same in all fields; an update may have taken in other records of the login.
    pub(super) async fn read_back(
        self,
        source_id: TokenId,
        expected: &OAuthToken,
        id: TokenId,
        inserted: bool,
    ) -> Result<ReadBack> {
        let found = self.to.find_token_by_id(id).await;
        let found =
            found.map_err(|error| error.about(format_args!("reading back record {source_id}")))?;
        let Some(found) = found else {
            return Ok(ReadBack::Missing);
        };
        let mut fields = if inserted {
            differing(expected, &found)
        } else {
            lost(expected, &found)
        };
        if found.id != Some(id) {
            fields.insert(0, "id");
        }
        if fields.is_empty() {
            return Ok(ReadBack::Good);
        }
        Ok(
            match compare(expected, &found, self.ties, Timestamp::now()).standing {
                Standing::Newer => ReadBack::Newer,
                _ => ReadBack::Different(fields),
            },
        )
    }

    /// Awaits all, some at a time, and returns the answers in the order of the questions.
    pub(super) async fn all<T, F>(self, questions: Vec<F>) -> Result<Vec<T>>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let answers = stream::iter(questions).buffered(self.in_flight);
        answers.try_collect().await
    }
}

/// Cuts a page into stretches in which no two records can be the same login, so that the records
/// of one stretch can be looked up before any of them is written.
pub(super) fn stretches(page: &[Pair]) -> Vec<&[Pair]> {
    let mut stretches = Vec::new();
    let mut start = 0;
    let mut known = HashSet::new();
    for (index, pair) in page.iter().enumerate() {
        let marks = marks(&pair.source.token);
        if marks.iter().flatten().any(|mark| known.contains(mark)) {
            stretches.push(&page[start..index]);
            start = index;
            known.clear();
        }
        known.extend(marks.into_iter().flatten());
    }
    stretches.push(&page[start..]);
    stretches
}

/// What a login can be known by: kind, value, client. Two records that have none in common are two
/// logins. An access token counts without its client, which may be missing in one of them.
fn marks(token: &OAuthToken) -> [Option<(u8, &str, Option<&str>)>; 4] {
    let client = token.client_id.as_ref().map(ClientId::as_str);
    let user = token.user_name.as_ref().map(UserName::as_str);
    let refresh = token.refresh_token.as_ref();
    let grant = token.grant_token.as_ref();
    let access = token.access_token.as_ref();
    [
        user.map(|name| (0, name, client)),
        refresh.map(|token| (1, token.expose_secret(), client)),
        grant.map(|token| (2, token.expose_secret(), client)),
        access.map(|token| (3, token.expose_secret(), None)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(id: u64, user: &str, refresh: &str) -> Pair {
        let none = None;
        let token = OAuthToken::from_fields(&[
            none,
            Some(user),
            Some("c"),
            none,
            Some(refresh),
            none,
            none,
            none,
            none,
            none,
        ]);
        Pair {
            source: Row {
                id: TokenId::new(id).unwrap(),
                token: token.unwrap(),
            },
            target: None,
        }
    }

    #[test]
    fn a_stretch_holds_each_login_once() {
        let page = [
            pair(1, "ann", "r1"),
            pair(2, "bob", "r2"),
            pair(3, "", "r1"),
            pair(4, "bob", "r4"),
            pair(5, "bob", "r5"),
        ];
        let lengths: Vec<_> = stretches(&page).iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [2, 2, 1]);
        assert_eq!(stretches(&page[..1]).len(), 1);
    }
}
