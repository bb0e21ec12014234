//! Searching, COQL, and what the organisation tells about itself.

use futures_util::TryStreamExt;
use zohocrm::{ErrorCode, ErrorKind};

use crate::support::{MIRA, lead, logged_in, sandbox};

#[tokio::test]
async fn a_search_finds_by_criteria_email_and_word_and_nothing_is_an_empty_page() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    let zed = lead("Zed").with("Email", "zed+a&b@example.com");
    leads.create([zed]).send().await.unwrap().remove(0).unwrap();

    let found = leads
        .search()
        .criteria("(Last_Name:equals:Zed)")
        .send()
        .await
        .unwrap();
    assert_eq!(found.items().len(), 1);
    let found = leads
        .search()
        .email("zed+a&b@example.com")
        .send()
        .await
        .unwrap();
    assert_eq!(
        found.items().len(),
        1,
        "the value must survive the encoding"
    );
    let found = leads
        .search()
        .word("Zed")
        .fields(["Email"])
        .send()
        .await
        .unwrap();
    assert_eq!(found.items()[0].text("Last_Name"), None);
    let found = leads.search().word("Nobodyatall").send().await.unwrap();
    assert!(found.items().is_empty());
    assert!(found.next().await.unwrap().is_none());
    let all: Vec<_> = leads
        .search()
        .word("Zed")
        .stream()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn coql_returns_rows_and_says_where_a_query_is_wrong() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let query = "select Last_Name from Leads where Last_Name is not null limit 5";
    let rows = crm.coql(query).send().await.unwrap();
    assert_eq!(rows.rows().len(), 5);
    assert!(rows.has_more());
    assert!(rows.rows()[0].text("Last_Name").is_some());
    let none = "select Last_Name from Leads where Last_Name = 'Nobodyatall'";
    assert!(crm.coql(none).send().await.unwrap().into_rows().is_empty());

    let error = crm.coql("select from where").send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.api().unwrap().code(), "SYNTAX_ERROR");
    assert!(!error.to_string().contains("select from"), "{error}");
}

#[tokio::test]
async fn users_organisation_modules_and_fields_have_readers() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let me = crm.users().current().await.unwrap().unwrap();
    assert_eq!(me.email().as_deref(), Some(MIRA));
    assert_eq!(me.full_name().as_deref(), Some("Mira Holm"));
    assert!(me.profile().unwrap().name.is_some());
    let again = crm.users().get(me.id().unwrap()).await.unwrap().unwrap();
    assert_eq!(again.zuid(), me.zuid());
    assert!(me.zuid().is_some());

    let org = crm.org().get().await.unwrap().unwrap();
    assert_eq!(org.company_name().as_deref(), Some("Northlight Academy"));
    assert!(org.kind().is_some() && org.zgid().is_some());

    let modules = crm.modules().list().await.unwrap();
    let names: Vec<_> = modules
        .iter()
        .filter_map(zohocrm::Module::api_name)
        .collect();
    assert!(names.contains(&"Leads".to_owned()), "{names:?}");
    let leads = crm.modules().get("Leads").await.unwrap().unwrap();
    assert_eq!(leads.api_supported(), Some(true));

    let fields = crm.fields("Leads").list().await.unwrap();
    let named = |name: &str| {
        let found = fields
            .iter()
            .find(|field| field.api_name().as_deref() == Some(name));
        found.unwrap()
    };
    assert_eq!(named("Last_Name").mandatory(), Some(true));
    assert_eq!(named("Email").data_type().as_deref(), Some("email"));
    assert!(named("Owner").record().len() > 10);
    assert!(crm.fields("Leads&x=1").list().await.is_err());
}

#[tokio::test]
async fn nothing_new_since_is_an_empty_page() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    let future = time::OffsetDateTime::UNIX_EPOCH + time::Duration::weeks(52 * 200);
    let list = leads.list().fields(["id"]);
    let page = list.clone().if_modified_since(future).send().await.unwrap();
    assert!(page.items().is_empty());
    let past = time::OffsetDateTime::UNIX_EPOCH;
    let page = list.if_modified_since(past).send().await.unwrap();
    assert!(!page.items().is_empty());
}

#[tokio::test]
async fn a_record_that_does_not_fit_the_type_is_told_apart_from_a_refusal() {
    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "never read: it must not fit")]
    struct Lead {
        #[serde(rename = "Last_Name")]
        last_name: u32,
    }
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let list = crm.records("Leads").list().fields(["Last_Name"]);
    let error = list.send_as::<Lead>().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnexpectedAnswer);
    assert_eq!(error.http_status(), Some(200));
}
