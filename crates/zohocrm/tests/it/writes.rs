//! Creating, changing, upserting and deleting: every record has its own outcome.

use serde::Serialize;
use zohocrm::records::{DeletedType, UpsertAction};
use zohocrm::{ErrorCode, Record, RecordId};

use crate::support::{MIRA, lead, logged_in, sandbox};

#[tokio::test]
async fn a_record_is_created_read_changed_and_deleted() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    let lead = lead("Zed").with("Company", "Läden & Söhne");
    let created = leads
        .create([&lead])
        .send()
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert!(
        created
            .details()
            .date_time("Created_Time")
            .unwrap()
            .is_some()
    );

    let read = leads.get(created.id()).send().await.unwrap().unwrap();
    assert_eq!(read.text("Company").unwrap(), "Läden & Söhne");
    let some = leads
        .get(created.id())
        .fields(["Company"])
        .send()
        .await
        .unwrap();
    assert_eq!(some.unwrap().text("Last_Name"), None);

    let change = Record::with_id(created.id()).with("Company", "B");
    let updated = leads
        .update([change])
        .send()
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(updated.id(), created.id());
    let read = leads.get(created.id()).send().await.unwrap().unwrap();
    assert_eq!(read.text("Company").unwrap(), "B");

    let gone = leads.delete([created.id()]).send().await.unwrap().remove(0);
    assert_eq!(gone.unwrap().id(), created.id());
    assert!(leads.get(created.id()).send().await.unwrap().is_none());
    let deleted = leads
        .deleted()
        .of_type(DeletedType::All)
        .send()
        .await
        .unwrap();
    let found = deleted
        .items()
        .iter()
        .find(|one| one.id().as_ref() == Some(created.id()));
    let found = found.unwrap();
    assert!(found.deleted_time().is_some());
    assert_eq!(found.kind().as_deref(), Some("recycle"));
    assert!(found.deleted_by().unwrap().name.is_some());
}

#[tokio::test]
async fn mixed_outcomes_come_in_the_order_of_the_records() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    let good = || lead("Good");
    let bad = Record::new().with("Company", "No name");
    let results = leads.create([good(), bad, good()]).send().await.unwrap();
    assert!(results[0].is_ok() && results[2].is_ok());
    let refusal = results[1].as_ref().unwrap_err();
    assert_eq!(refusal.code(), "MANDATORY_NOT_FOUND");
    assert_eq!(refusal.field().as_deref(), Some("Last_Name"));
    assert_eq!(
        refusal.detail::<String>("json_path").as_deref(),
        Some("$.data[1].Last_Name")
    );
    let mixed = sandbox.requests();
    assert_eq!(mixed.last().unwrap().status, 207);

    // All of them refused: HTTP 400, and still one outcome per record.
    let results = leads
        .create([Record::new(), Record::new()])
        .send()
        .await
        .unwrap();
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(Result::is_err));

    let ids = [RecordId::from(1), crm_lead_id(&leads).await];
    let results = leads.delete(&ids).send().await.unwrap();
    assert!(results[0].is_err());
    assert_eq!(results[1].as_ref().unwrap().id(), &ids[1]);
}

async fn crm_lead_id(leads: &zohocrm::Records) -> RecordId {
    let page = leads
        .list()
        .fields(["id"])
        .per_page(1)
        .send()
        .await
        .unwrap();
    page.items()[0].id().unwrap()
}

#[tokio::test]
async fn an_upsert_says_whether_it_inserted_or_updated() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    let lead = |company: &str| {
        lead("Upserted")
            .with("Email", "upserted@example.com")
            .with("Company", company)
    };
    let upsert = async |company: &str| {
        let upsert = leads
            .upsert([lead(company)])
            .duplicate_check_fields(["Email"]);
        upsert.send().await.unwrap().remove(0).unwrap()
    };
    let first = upsert("A").await;
    assert_eq!(first.action(), Some(UpsertAction::Insert));
    let second = upsert("B").await;
    assert_eq!(second.action(), Some(UpsertAction::Update));
    assert_eq!(second.duplicate_field(), Some("Email"));
    assert_eq!(second.id(), first.id());
}

#[tokio::test]
async fn structs_are_written_as_records() {
    #[derive(Serialize)]
    struct Lead<'a> {
        #[serde(rename = "Last_Name")]
        last_name: &'a str,
        #[serde(rename = "Company")]
        company: &'a str,
    }
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let company = "B";
    let leads = ["One", "Two"].map(|last_name| Lead { last_name, company });
    let results = crm.records("Leads").create(&leads).send().await.unwrap();
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_change_that_comes_too_late_is_refused() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    let id = crm_lead_id(&leads).await;
    let long_ago = time::OffsetDateTime::UNIX_EPOCH;
    let change = Record::with_id(&id).with("Company", "Late");
    let results = leads
        .update([change])
        .if_unmodified_since(long_ago)
        .send()
        .await;
    let refusal = results.unwrap().remove(0).unwrap_err();
    assert_eq!(refusal.code(), "ALREADY_MODIFIED");
    assert_eq!(
        zohocrm::Error::from(refusal).code(),
        ErrorCode::ModifiedMeanwhile
    );
}

#[tokio::test]
async fn what_the_crm_would_refuse_as_a_whole_is_not_sent() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let before = sandbox.counts().api_calls;
    let leads = crm.records("Leads");
    let many = || (1..=101_u64).map(RecordId::from);

    let error = leads
        .create(many().map(|_| Record::new()))
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooManyRecords);
    assert!(error.to_string().contains("101 records"), "{error}");
    let error = leads.delete(many()).send().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooManyRecords);
    let fields = (0..51).map(|number| format!("F{number}"));
    let error = leads.list().fields(fields).send().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooManyFields);
    let error = leads
        .update([Record::new().with("Company", "B")])
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    let error = leads.get("1/../2").send().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    let error = crm.records("Leads/1").get(1).send().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    let error = leads
        .search()
        .word("a")
        .email("b")
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    let nothing = leads.create(Vec::<Record>::new()).send().await.unwrap();
    assert!(nothing.is_empty());

    assert_eq!(sandbox.counts().api_calls, before);
    // A hundred is not too many.
    let hundred = (0..100).map(|_| lead("Many"));
    assert_eq!(leads.create(hundred).send().await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_module_that_does_not_exist_is_an_error_on_reads_and_writes() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let nowhere = crm.records("Nowhere");
    let read = nowhere.list().fields(["id"]).send().await.unwrap_err();
    assert_eq!(read.api().unwrap().code(), "INVALID_MODULE");
    let two = [Record::new(), Record::new()];
    let write = nowhere.create(two).send().await.unwrap_err();
    assert_eq!(write.api().unwrap().code(), "INVALID_MODULE");
}
