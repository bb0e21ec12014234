//! A sandbox, and clients that are logged in to it.

use std::time::Duration;

use zoho_sandbox::Sandbox;
use zohocrm::oauth::{Credential, DataCenter, GrantCredential, GrantToken, ListStore, OAuthClient};
use zohocrm::{Record, Records, RetryPolicy, ZohoCrm, ZohoCrmBuilder};

pub(crate) const MIRA: &str = "mira.holm@example.com";
pub(crate) const LENA: &str = "lena.frost@example.net";
pub(crate) const ELISE: &str = "elise.brandt@example.org";

pub(crate) const SCOPES: &str = "ZohoCRM.modules.ALL,ZohoCRM.users.READ,ZohoCRM.org.READ,\
     ZohoCRM.settings.ALL,ZohoCRM.coql.READ";

/// A sandbox without limits on what is issued, so that a test counts what the client does.
pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::builder().no_limits().start().await.unwrap()
}

pub(crate) fn center(sandbox: &Sandbox, name: &str) -> DataCenter {
    let view = sandbox.center(name);
    DataCenter::builder(name, view.accounts_url())
        .api_domain(view.api_url())
        .build()
        .unwrap()
}

pub(crate) fn client(sandbox: &Sandbox) -> OAuthClient {
    OAuthClient::new(sandbox.client_id(), sandbox.client_secret()).unwrap()
}

/// What a person brings who has just consented to `scopes`.
pub(crate) fn grant(sandbox: &Sandbox, email: &str, scopes: &str) -> GrantCredential {
    let code = GrantToken::new(sandbox.grant_code(email, scopes)).unwrap();
    Credential::grant(client(sandbox), code)
}

/// A builder for a login; repeats come at once, so that no test waits.
pub(crate) fn builder(sandbox: &Sandbox, credential: impl Into<Credential>) -> ZohoCrmBuilder {
    ZohoCrm::builder(center(sandbox, "us"), credential, ListStore::new())
        .data_center(center(sandbox, "eu"))
        .client(client(sandbox))
        .retry(RetryPolicy::default().first_wait(Duration::from_micros(1)))
}

/// A client of `email`, logged in with all scopes.
pub(crate) async fn logged_in(sandbox: &Sandbox, email: &str) -> ZohoCrm {
    let credential = grant(sandbox, email, SCOPES);
    builder(sandbox, credential).build().await.unwrap()
}

/// A lead with all that the sandbox wants to know of one.
pub(crate) fn lead(last_name: &str) -> Record {
    Record::new()
        .with("Last_Name", last_name)
        .with("Company", "Test Company")
}

/// How often the CRM was called at a path, query aside.
pub(crate) fn calls(sandbox: &Sandbox, method: &str, path: &str) -> usize {
    let requests = sandbox.requests();
    let there = requests.iter().filter(|request| {
        request.method == method && request.path_and_query.split('?').next() == Some(path)
    });
    there.count()
}

/// Creates `count` leads in batches, and says how many that were.
pub(crate) async fn fill(leads: &Records, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(100) {
        let records = batch
            .iter()
            .map(|number| lead(&format!("Number {number:04}")));
        for result in leads.create(records).send().await.unwrap() {
            result.unwrap();
        }
    }
}
