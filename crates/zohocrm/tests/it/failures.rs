//! A CRM that fails: reads are repeated within bounds, writes never.

use std::time::Duration;

use zoho_sandbox::{Endpoint, Fault};
use zohocrm::oauth::{AccessToken, Credential, HttpOptions};
use zohocrm::{ErrorCode, ErrorKind, RetryPolicy};

use crate::support::{MIRA, SCOPES, builder, calls, grant, lead, logged_in, sandbox};

fn api(fault: Fault) -> Fault {
    fault.on(Endpoint::Api)
}

#[tokio::test]
async fn a_read_gets_over_a_passing_failure() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    for fault in [
        Fault::status(500),
        Fault::status(503),
        Fault::throttle(),
        Fault::html(),
        Fault::cut(),
    ] {
        let before = sandbox.counts().api_calls;
        sandbox.inject(api(fault.clone()).times(2));
        let org = crm.org().get().await;
        assert!(
            org.as_ref().is_ok_and(Option::is_some),
            "{fault:?}: {org:?}"
        );
        assert_eq!(sandbox.counts().api_calls, before + 3, "{fault:?}");
    }
}

#[tokio::test]
async fn a_lasting_failure_is_a_typed_error_after_three_tries() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    for (fault, code, kind, status) in [
        (
            Fault::status(500),
            ErrorCode::ServerError,
            ErrorKind::Network,
            Some(500),
        ),
        (
            Fault::status(503),
            ErrorCode::ServerError,
            ErrorKind::Network,
            Some(503),
        ),
        (
            Fault::throttle(),
            ErrorCode::TooManyRequests,
            ErrorKind::RateLimited,
            Some(429),
        ),
        (
            Fault::html(),
            ErrorCode::ServerError,
            ErrorKind::Network,
            Some(200),
        ),
        (Fault::cut(), ErrorCode::Network, ErrorKind::Network, None),
    ] {
        let before = sandbox.counts().api_calls;
        sandbox.inject(api(fault.clone()).always());
        let error = crm.org().get().await.unwrap_err();
        sandbox.clear_faults();
        assert_eq!(error.code(), code, "{fault:?}: {error:?}");
        assert_eq!(error.kind(), kind);
        assert_eq!(error.http_status(), status);
        assert!(error.is_transient());
        assert_eq!(sandbox.counts().api_calls, before + 3, "{fault:?}");
    }
}

#[tokio::test]
async fn broken_json_is_not_asked_for_again() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    sandbox.inject(api(Fault::malformed_json()));
    let error = crm.org().get().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnexpectedAnswer);
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_write_is_never_repeated_and_its_doubt_is_told() {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    for (fault, code) in [
        (Fault::cut(), ErrorCode::OutcomeUnknown),
        (Fault::html(), ErrorCode::OutcomeUnknown),
        (Fault::status(500), ErrorCode::OutcomeUnknown),
        (Fault::status(503), ErrorCode::ServerError),
        (Fault::throttle(), ErrorCode::TooManyRequests),
    ] {
        let before = calls(&sandbox, "POST", "/crm/v8/Leads");
        sandbox.inject(api(fault.clone()));
        let lead = lead("Doubtful");
        let error = leads.create([lead]).send().await.unwrap_err();
        assert_eq!(error.code(), code, "{fault:?}: {error:?}");
        assert_eq!(error.is_transient(), code != ErrorCode::OutcomeUnknown);
        assert_eq!(calls(&sandbox, "POST", "/crm/v8/Leads"), before + 1);
    }
    // The cut one had been carried out: repeating it would have made two.
    let found = leads.search().word("Doubtful").send().await.unwrap();
    assert_eq!(found.items().len(), 1);
}

#[tokio::test]
async fn repeats_can_be_switched_off() {
    let sandbox = sandbox().await;
    let crm = builder(&sandbox, grant(&sandbox, MIRA, SCOPES))
        .retry(RetryPolicy::never())
        .build()
        .await
        .unwrap();
    let before = sandbox.counts().api_calls;
    sandbox.inject(api(Fault::status(503)));
    assert!(crm.org().get().await.unwrap_err().is_transient());
    assert_eq!(sandbox.counts().api_calls, before + 1);
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_for_reads_and_a_doubt_for_writes() {
    let sandbox = sandbox().await;
    // Nothing is asked for before the calls that must take too long.
    let (_, access) = sandbox.login(MIRA, SCOPES);
    let credential = Credential::access(AccessToken::new(access).unwrap());
    let crm = builder(&sandbox, credential.api_domain(sandbox.api_url()))
        .http(HttpOptions::new().read_timeout(Duration::from_millis(300)))
        .retry(RetryPolicy::never())
        .find_user(false)
        .build()
        .await
        .unwrap();
    // Far longer than any machine needs to notice; nobody waits for its end.
    sandbox.inject(api(Fault::delay(Duration::from_mins(10)).times(2)));
    let error = crm.org().get().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
    let lead = lead("Late");
    let error = crm
        .records("Leads")
        .create([lead])
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_network_error_also_for_writes() {
    let sandbox = sandbox().await;
    let crm = builder(&sandbox, grant(&sandbox, MIRA, SCOPES))
        .retry(RetryPolicy::never())
        .build()
        .await
        .unwrap();
    sandbox.stop().await;
    let lead = lead("Nowhere");
    let error = crm
        .records("Leads")
        .create([lead])
        .send()
        .await
        .unwrap_err();
    // Nothing was sent, so nothing is in doubt.
    assert_eq!(error.code(), ErrorCode::Network, "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let sandbox = sandbox().await;
    let crm = builder(&sandbox, grant(&sandbox, MIRA, SCOPES))
        .max_answer_bytes(5_000)
        .build()
        .await
        .unwrap();
    let list = crm
        .records("Leads")
        .list()
        .fields(["Last_Name", "Email", "Company"]);
    assert!(list.clone().per_page(2).send().await.is_ok());
    let error = list.send().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AnswerTooLarge);
    // The records are there: whoever takes this for a mistake of theirs makes them twice.
    let before = sandbox.requests().len();
    let many = (0..50).map(|number| lead(&format!("Number {number}")));
    let create = crm.records("Leads").create(many).send().await;
    let error = create.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown);
    assert!(error.to_string().contains("5000 bytes"), "{error}");
    assert_eq!(sandbox.requests().len(), before + 1);
}
