//! Lists longer than one answer.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use zohocrm::records::{SortBy, SortOrder};
use zohocrm::{Record, RecordId, UserType};

use crate::support::{LENA, MIRA, calls, fill, logged_in, sandbox};

#[tokio::test]
async fn next_leads_through_all_pages_by_token() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, LENA).await;
    let leads = crm.records("Leads");
    fill(&leads, 450).await;
    let mut page = leads
        .list()
        .fields(["Last_Name"])
        .sort_by(SortBy::Id, SortOrder::Ascending)
        .send()
        .await
        .unwrap();
    assert_eq!(page.info().per_page, Some(200));
    let mut ids = HashSet::new();
    let mut sizes = Vec::new();
    loop {
        sizes.push(page.items().len());
        ids.extend(page.items().iter().map(|lead| lead.id().unwrap()));
        match page.next().await.unwrap() {
            Some(next) => page = next,
            None => break,
        }
    }
    assert_eq!(sizes, [200, 200, 59], "9 demo leads were there before");
    assert_eq!(ids.len(), 459);
    let queries: Vec<_> = sandbox
        .requests()
        .into_iter()
        .filter(|request| request.path_and_query.starts_with("/crm/v8/Leads?"))
        .map(|request| request.path_and_query)
        .collect();
    assert!(!queries[0].contains("page_token="));
    for query in &queries[1..] {
        assert!(
            query.contains("page_token=") && !query.contains("page="),
            "{query}"
        );
        assert!(query.contains("sort_order=asc"), "{query}");
    }
}

#[tokio::test]
async fn a_stream_brings_every_record_and_fetches_as_it_goes() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, LENA).await;
    let leads = crm.records("Leads");
    fill(&leads, 250).await;
    let mut all = leads.list().fields(["Last_Name"]).per_page(100).stream();
    let first = all.next().await.unwrap().unwrap();
    assert!(first.id().is_some());
    assert_eq!(calls(&sandbox, "GET", "/crm/v8/Leads"), 1);
    let rest: Vec<Record> = all.try_collect().await.unwrap();
    assert_eq!(rest.len(), 258);
    assert_eq!(calls(&sandbox, "GET", "/crm/v8/Leads"), 3);
}

#[tokio::test]
async fn numbered_pages_work_and_their_end_is_an_error_not_a_silence() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, LENA).await;
    let leads = crm.records("Leads");
    let page = leads
        .list()
        .fields(["id"])
        .per_page(4)
        .page(2)
        .send()
        .await
        .unwrap();
    assert_eq!(page.info().page, Some(2));
    assert_eq!(page.items().len(), 4);
    let last = page.next().await.unwrap().unwrap();
    assert_eq!(last.items().len(), 1);
    assert!(!last.has_next());
    let error = leads
        .list()
        .fields(["id"])
        .page(11)
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        error.api().unwrap().code(),
        "DISCRETE_PAGINATION_LIMIT_EXCEEDED"
    );
}

#[tokio::test]
async fn lists_without_tokens_are_paged_by_number() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let users: Vec<_> = crm
        .users()
        .list()
        .of_type(UserType::Active)
        .per_page(3)
        .stream()
        .try_collect()
        .await
        .unwrap();
    let emails: HashSet<_> = users.iter().map(|user| user.email().unwrap()).collect();
    assert_eq!(emails.len(), 4);
    assert!(emails.contains(MIRA));
}

#[tokio::test]
async fn a_stream_ends_after_its_error() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let mut all = crm.records("Leads").list().stream();
    let error = all.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("needs to be told its fields"));
    assert!(all.next().await.is_none());
}

#[tokio::test]
async fn a_type_of_ones_own_is_read_page_by_page() {
    #[derive(serde::Deserialize)]
    struct Lead {
        id: RecordId,
        #[serde(rename = "Last_Name")]
        last_name: String,
    }
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, LENA).await;
    let list = crm.records("Leads").list().fields(["Last_Name"]);
    let page = list.clone().send_as::<Lead>().await.unwrap();
    let streamed: Vec<Lead> = list.per_page(5).stream_as().try_collect().await.unwrap();
    assert_eq!(page.items().len(), 9);
    for (one, other) in page.items().iter().zip(&streamed) {
        assert_eq!(one.id, other.id);
        assert!(!one.last_name.is_empty());
    }
}
