//! [`Page`] and [`Pages`]: lists that are longer than one answer.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{BoxStream, Stream, StreamExt, TryStreamExt, iter, try_unfold};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::client::ZohoCrm;
use crate::error::{Error, ErrorCode, Result};
use crate::http;

/// What the CRM tells about a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PageInfo {
    /// How many items a full page has.
    pub per_page: Option<u32>,
    /// How many items this page has.
    pub count: Option<u32>,
    /// The number of the page, counted from 1.
    pub page: Option<u32>,
    /// Whether there are more after this page.
    pub more_records: bool,
    /// What the next page is asked for with; good for 24 hours, for this user and these
    /// parameters only.
    pub next_page_token: Option<String>,
}

/// A list as the CRM sends it, under the key of its resource.
#[derive(Deserialize)]
pub(crate) struct Listing<T> {
    #[serde(
        alias = "users",
        alias = "org",
        alias = "modules",
        alias = "fields",
        bound(deserialize = "T: Deserialize<'de>")
    )]
    pub(crate) data: Vec<T>,
    #[serde(default)]
    pub(crate) info: PageInfo,
}

/// One answer's worth of a list, and the way to the next one.
pub struct Page<T> {
    items: Vec<T>,
    info: PageInfo,
    next: Option<Call>,
    crm: ZohoCrm,
}

impl<T> Page<T> {
    /// Returns the items of this page.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Takes the items of this page.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }

    /// Returns what the CRM tells about this page.
    pub fn info(&self) -> &PageInfo {
        &self.info
    }

    /// Returns whether there are more items after this page.
    pub fn has_next(&self) -> bool {
        self.info.more_records
    }
}

impl<T: DeserializeOwned + Send> Page<T> {
    /// Fetches the page after this one; `None` after the last.
    ///
    /// All parameters stay as they were. With the token of the CRM a list goes on up to 100,000
    /// records; without one, by the number of the page, up to 2,000.
    ///
    /// # Errors
    /// `pages_ended` when the CRM has more but leads no further; otherwise as for the first page.
    pub fn next(&self) -> impl Future<Output = Result<Option<Self>>> + Send + use<T> {
        let (crm, call) = (self.crm.clone(), self.next_call());
        async move {
            match call? {
                Some(call) => Self::fetch(&crm, call).await.map(Some),
                None => Ok(None),
            }
        }
    }

    fn next_call(&self) -> Result<Option<Call>> {
        match &self.next {
            Some(call) => Ok(Some(call.clone())),
            None if self.info.more_records => Err(Error::new(
                ErrorCode::PagesEnded,
                "the CRM has more records than it lists",
            )),
            None => Ok(None),
        }
    }
}

impl<T: DeserializeOwned> Page<T> {
    /// Fetches the page that `call` asks for. An answer without a body is an empty page.
    pub(crate) async fn fetch(crm: &ZohoCrm, call: Call) -> Result<Self> {
        let listing: Option<Listing<T>> = http::fetch(crm, &call).await?;
        let (items, info) = listing.map_or_else(
            || (Vec::new(), PageInfo::default()),
            |listing| (listing.data, listing.info),
        );
        Ok(Self {
            next: following(call, &info)?,
            items,
            info,
            crm: crm.clone(),
        })
    }
}

/// The call for the page after the one that `call` asked for and `info` came with.
fn following(mut call: Call, info: &PageInfo) -> Result<Option<Call>> {
    if !info.more_records {
        return Ok(None);
    }
    let used = call.query_value("page_token").map(str::to_owned);
    match (&info.next_page_token, used) {
        (Some(token), Some(used)) if *token == used => {
            let text = format!("`{call}` leads to the same page again");
            Err(Error::new(ErrorCode::UnexpectedAnswer, text))
        }
        (Some(token), _) => {
            // Page number and token exclude each other.
            call.query.retain(|(name, _)| name != "page");
            call.set_query("page_token", token);
            Ok(Some(call))
        }
        // Beyond the last token there is nothing to go on with.
        (None, Some(_)) => Ok(None),
        (None, None) => {
            let asked = call.query_value("page").and_then(|page| page.parse().ok());
            let page: u32 = asked.or(info.page).unwrap_or(1);
            call.set_query("page", page.saturating_add(1).to_string());
            Ok(Some(call))
        }
    }
}

impl<T> IntoIterator for Page<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<T> fmt::Debug for Page<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("items", &self.items.len())
            .field("has_next", &self.has_next())
            .finish_non_exhaustive()
    }
}

/// Everything in a list, item by item; pages are fetched as they are needed.
///
/// A [`Stream`]; [`next`](Self::next) works without its extension trait. After an error it ends.
#[must_use = "nothing is fetched until items are asked for"]
pub struct Pages<T> {
    stream: BoxStream<'static, Result<T>>,
}

impl<T: DeserializeOwned + Send + 'static> Pages<T> {
    /// Everything that `call` begins with. If the call could not be made, the error is the first
    /// and only item.
    pub(crate) fn starting(crm: &ZohoCrm, call: Result<Call>) -> Self {
        // What the next step has to fetch, or the error it has to report.
        let first = call.map(Some);
        let crm = crm.clone();
        let pages = try_unfold(first, move |call| {
            let crm = crm.clone();
            async move {
                let Some(call) = call? else {
                    return Ok(None);
                };
                let page = Page::<T>::fetch(&crm, call).await?;
                let next = page.next_call();
                Ok::<_, Error>(Some((iter(page.items.into_iter().map(Ok)), next)))
            }
        });
        Self {
            stream: pages.try_flatten().boxed(),
        }
    }
}

impl<T> Pages<T> {
    /// Returns the next item; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<T>> {
        poll_fn(|context| self.stream.poll_next_unpin(context)).await
    }
}

impl<T> Stream for Pages<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.stream.poll_next_unpin(context)
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(query: &[(&str, &str)]) -> Call {
        let mut call = Call::get("Leads");
        for (name, value) in query {
            call.set_query(name, *value);
        }
        call
    }

    fn more(token: Option<&str>) -> PageInfo {
        PageInfo {
            more_records: true,
            next_page_token: token.map(str::to_owned),
            ..PageInfo::default()
        }
    }

    #[test]
    fn a_token_takes_the_place_of_the_page_number_and_keeps_the_rest() {
        let call = list(&[("fields", "id"), ("page", "3")]);
        let next = following(call, &more(Some("t1"))).unwrap().unwrap();
        assert_eq!(next.query_value("page_token"), Some("t1"));
        assert_eq!(next.query_value("page"), None);
        assert_eq!(next.query_value("fields"), Some("id"));
        let third = following(next, &more(Some("t2"))).unwrap().unwrap();
        assert_eq!(third.query_value("page_token"), Some("t2"));
        assert_eq!(third.query.len(), 2);
    }

    #[test]
    fn without_tokens_pages_are_counted() {
        let second = following(list(&[]), &more(None)).unwrap().unwrap();
        assert_eq!(second.query_value("page"), Some("2"));
        let third = following(second, &more(None)).unwrap().unwrap();
        assert_eq!(third.query_value("page"), Some("3"));
    }

    #[test]
    fn no_list_ends_silently_and_none_runs_in_circles() {
        let end = PageInfo::default();
        assert!(following(list(&[]), &end).unwrap().is_none());
        let call = list(&[("page_token", "t")]);
        let same = following(call.clone(), &more(Some("t"))).err().unwrap();
        assert_eq!(same.code(), ErrorCode::UnexpectedAnswer);
        // `Page::next` makes an error of this, since `more_records` still says there are more.
        assert!(following(call, &more(None)).unwrap().is_none());
    }

    #[test]
    fn lists_are_read_under_the_key_of_their_resource() {
        for key in ["data", "users", "org", "modules", "fields"] {
            let json = format!(r#"{{"{key}":[1,2]}}"#);
            let listing: Listing<u8> = serde_json::from_str(&json).unwrap();
            assert_eq!(listing.data, [1, 2]);
            assert_eq!(listing.info, PageInfo::default());
        }
        let whole = r#"{"data":[],"info":{"per_page":200,"next_page_token":null,"count":0,"sort_by":"id","page":1,"previous_page_token":null,"page_token_expiry":null,"sort_order":"desc","more_records":false}}"#;
        let listing: Listing<u8> = serde_json::from_str(whole).unwrap();
        assert_eq!(listing.info.per_page, Some(200));
    }
}
