//! No secret in logs, in texts of errors, in `Debug`, or in a URL.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use zoho_sandbox::{Endpoint, Fault};
use zohocrm::{Method, ZohoCrm};

use crate::support::{MIRA, SCOPES, builder, client, grant, lead, sandbox};

/// Everything that was logged, from all crates, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The secrets that the store holds now.
async fn secrets(crm: &ZohoCrm) -> Vec<String> {
    let mut secrets = Vec::new();
    for token in crm.authenticator().store().get_tokens().await.unwrap() {
        let all = [
            token
                .access_token
                .map(|secret| secret.expose_secret().to_owned()),
            token
                .refresh_token
                .map(|secret| secret.expose_secret().to_owned()),
            token
                .grant_token
                .map(|secret| secret.expose_secret().to_owned()),
            token
                .client_secret
                .map(|secret| secret.expose_secret().to_owned()),
        ];
        secrets.extend(all.into_iter().flatten());
    }
    secrets
}

// One thread, so that the subscriber of this thread sees every task.
#[tokio::test(flavor = "current_thread")]
async fn nothing_secret_is_logged_printed_or_put_into_a_url() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // While there is one subscriber only, `tracing` lets whichever thread meets a log line first
    // decide whether anybody wants it, and the other tests' threads want nothing.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);

    let sandbox = sandbox().await;
    let credential = grant(&sandbox, MIRA, SCOPES);
    let mut shown = format!("{credential:?} {:?}", client(&sandbox));
    let building = builder(&sandbox, credential);
    write!(shown, "{building:?}").unwrap();
    let crm = building.build().await.unwrap();
    let mut hidden = secrets(&crm).await;

    let leads = crm.records("Leads");
    let lead = lead("Geheimrat").with("Email", "geheim@example.com");
    let create = leads.create([&lead]);
    let search = leads.search().email("geheim@example.com");
    let raw = crm.request(Method::Get, "org").query("word", "geheim");
    let coql = crm.coql("select id from Leads where Email = 'geheim@example.com'");
    write!(
        shown,
        "{crm:?} {leads:?} {lead:?} {create:?} {search:?} {raw:?} {coql:?}"
    )
    .unwrap();
    write!(shown, "{:?}", create.send().await.unwrap()).unwrap();
    write!(shown, "{:?}", search.send().await.unwrap()).unwrap();
    write!(shown, "{:?}", raw.send().await.unwrap()).unwrap();
    write!(shown, "{:?}", coql.send().await.unwrap()).unwrap();

    for fault in [
        Fault::status(500).times(3),
        Fault::html().times(3),
        Fault::cut().times(3),
        Fault::invalid_token().times(2),
        Fault::malformed_json(),
    ] {
        sandbox.inject(fault.on(Endpoint::Api));
        let error = leads
            .search()
            .email("geheim@example.com")
            .send()
            .await
            .unwrap_err();
        write!(shown, "{error} {error:?}").unwrap();
        hidden.extend(secrets(&crm).await);
    }
    sandbox.clear_faults();
    sandbox.expire_access_tokens();
    crm.org().get().await.unwrap();
    hidden.extend(secrets(&crm).await);
    crm.session().revoke().await.unwrap();
    let error = crm.org().get().await.unwrap_err();
    write!(shown, "{error} {error:?} {:?}", error.oauth()).unwrap();

    let log = log.text();
    assert!(
        log.contains("the CRM answered"),
        "the log was not caught: {log}"
    );
    assert!(log.contains("hyper"), "other crates log here too");
    assert!(hidden.len() >= 4 + 2, "{} secrets", hidden.len());
    let urls = format!("{:?}", sandbox.requests());
    for secret in &hidden {
        for (what, text) in [("log", &log), ("text", &shown), ("URL", &urls)] {
            assert!(!text.contains(secret), "a secret is in the {what}");
        }
    }
    // What people look for and who they are is not for our log either.
    let ours: String = log
        .lines()
        .filter(|line| line.contains(" zohocrm"))
        .collect();
    assert!(ours.contains("/crm/v8/Leads/search"));
    for private in ["geheim", "Geheimrat", MIRA] {
        assert!(!ours.contains(private), "{private} is in the log");
        assert!(!shown.contains(private), "{private} is in a text");
    }
}
