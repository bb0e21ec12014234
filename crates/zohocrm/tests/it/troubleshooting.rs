//! Everything that can go wrong with a call is done once, and what people then read is compared
//! with `docs/troubleshooting.md`.

#[path = "../../../zoho-oauth/tests/it/troubleshooting/handbook.rs"]
mod handbook;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use wiremock::matchers::{any, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};
use zoho_sandbox::{Endpoint, Fault};
use zohocrm::oauth::{AccessToken, Credential, DataCenter, HttpOptions, ListStore, UserName};
use zohocrm::{Error, ErrorCode, Record, RetryPolicy, ZohoCrm};

use crate::support::{MIRA, SCOPES, builder, grant, lead, logged_in, sandbox};

#[derive(Default)]
struct Said(BTreeSet<(String, String)>);

impl Said {
    /// Notes what an error says, after a check that it is this one.
    #[track_caller]
    fn note<T: Debug>(&mut self, code: ErrorCode, outcome: Result<T, Error>) {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        let text = error.to_string();
        assert!(!text.contains("127.0.0.1"), "{text}");
        self.0.insert((code.as_str().to_owned(), text));
    }
}

#[tokio::test]
async fn the_document_says_what_people_read() {
    let mut said = Said::default();
    arguments(&mut said).await;
    tokens(&mut said).await;
    refusals(&mut said).await;
    answers(&mut said).await;
    networks(&mut said).await;
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    handbook::check("CRM calls", &codes, &said.0);
}

async fn arguments(said: &mut Said) {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    said.note(ErrorCode::InvalidInput, leads.get("1/../2").send().await);
    let nameless = leads.update([Record::new().with("Company", "B")]);
    said.note(ErrorCode::InvalidInput, nameless.send().await);
    let many = leads.create((0..101).map(|_| Record::new()));
    said.note(ErrorCode::TooManyRecords, many.send().await);
    let fields = (0..51).map(|number| format!("F{number}"));
    said.note(
        ErrorCode::TooManyFields,
        leads.list().fields(fields).send().await,
    );
}

async fn tokens(said: &mut Said) {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    sandbox.inject(Fault::invalid_token().always());
    said.note(ErrorCode::TokenRefused, crm.org().get().await);
    sandbox.clear_faults();
    crm.session().revoke().await.unwrap();
    said.note(ErrorCode::NoToken, crm.org().get().await);
    let nobody = Credential::User(UserName::new("nobody").unwrap());
    let outcome = builder(&sandbox, nobody).build().await;
    said.note(ErrorCode::NoToken, outcome);

    let narrow = grant(&sandbox, MIRA, "ZohoCRM.modules.Leads.READ");
    let crm = builder(&sandbox, narrow).find_user(false).build().await;
    let leads = crm.unwrap().records("Leads");
    let lead = lead("Zed");
    said.note(ErrorCode::ScopeMismatch, leads.create([lead]).send().await);
}

async fn refusals(said: &mut Said) {
    let sandbox = sandbox().await;
    let crm = logged_in(&sandbox, MIRA).await;
    let leads = crm.records("Leads");
    said.note(ErrorCode::InvalidInput, leads.list().send().await);
    let empty = leads
        .create([Record::new()])
        .send()
        .await
        .unwrap()
        .remove(0);
    said.note(ErrorCode::Refused, empty.map_err(Error::from));
    let nowhere = crm.records("Nowhere").list().fields(["id"]);
    said.note(ErrorCode::Refused, nowhere.send().await);

    let created = leads.create([lead("Late")]).send().await.unwrap();
    let id = created[0].as_ref().unwrap().id();
    let change = Record::with_id(id).with("Company", "Late");
    let long_ago = time::OffsetDateTime::UNIX_EPOCH;
    let late = leads.update([change]).if_unmodified_since(long_ago);
    let refusal = late.send().await.unwrap().remove(0).unwrap_err();
    said.note::<()>(ErrorCode::ModifiedMeanwhile, Err(refusal.into()));
}

/// Answers that the sandbox does not give.
async fn answers(said: &mut Said) {
    let server = MockServer::start().await;
    let center = DataCenter::builder("stub", server.uri()).api_domain(server.uri());
    let token = AccessToken::new("1000.aaaa.bbbb").unwrap();
    let credential = Credential::access(token).api_domain(server.uri());
    let crm = ZohoCrm::builder(center.build().unwrap(), credential, ListStore::new())
        .find_user(false)
        .build()
        .await
        .unwrap();
    let refusal =
        json!({ "code": "NO_PERMISSION", "message": "permission denied", "status": "error" });
    let list = |token: Value| {
        let info = json!({ "more_records": true, "next_page_token": token });
        ResponseTemplate::new(200).set_body_json(json!({ "data": [{ "id": "1" }], "info": info }))
    };
    for mock in [
        Mock::given(path("/crm/v8/org"))
            .respond_with(ResponseTemplate::new(403).set_body_json(refusal)),
        Mock::given(query_param("page_token", "last")).respond_with(list(Value::Null)),
        Mock::given(path("/crm/v8/Leads")).respond_with(list("last".into())),
        Mock::given(any()).respond_with(ResponseTemplate::new(404)),
    ] {
        // Of several that fit, the first one answers.
        mock.mount(&server).await;
    }
    said.note(ErrorCode::PermissionDenied, crm.org().get().await);
    said.note(ErrorCode::NotFound, crm.users().current().await);
    let first = crm.records("Leads").list().fields(["id"]).send().await;
    let last = first.unwrap().next().await.unwrap().unwrap();
    said.note(ErrorCode::PagesEnded, last.next().await);
}

async fn networks(said: &mut Said) {
    let sandbox = sandbox().await;
    let crm = builder(&sandbox, grant(&sandbox, MIRA, SCOPES))
        .retry(RetryPolicy::never())
        .max_answer_bytes(5_000)
        .build()
        .await
        .unwrap();
    let leads = crm.records("Leads");
    let long = leads.list().fields(["Last_Name", "Email", "Company"]);
    said.note(ErrorCode::AnswerTooLarge, long.send().await);
    for (fault, code) in [
        (Fault::throttle(), ErrorCode::TooManyRequests),
        (Fault::status(503), ErrorCode::ServerError),
        (Fault::html(), ErrorCode::ServerError),
        (Fault::malformed_json(), ErrorCode::UnexpectedAnswer),
        (Fault::cut(), ErrorCode::Network),
    ] {
        sandbox.inject(fault.on(Endpoint::Api));
        said.note(code, crm.org().get().await);
    }
    for fault in [Fault::status(500), Fault::cut()] {
        sandbox.inject(fault.on(Endpoint::Api));
        let lead = lead("Doubtful");
        said.note(ErrorCode::OutcomeUnknown, leads.create([lead]).send().await);
    }
    // Nothing is asked for before the call that must take too long.
    let (_, access) = sandbox.login(MIRA, SCOPES);
    let credential = Credential::access(AccessToken::new(access).unwrap());
    let hasty = builder(&sandbox, credential.api_domain(sandbox.api_url()))
        .http(HttpOptions::new().read_timeout(Duration::from_millis(100)))
        .retry(RetryPolicy::never())
        .find_user(false)
        .build()
        .await
        .unwrap();
    let silence = Fault::delay(Duration::from_mins(10));
    sandbox.inject(silence.on(Endpoint::Api));
    said.note(ErrorCode::Timeout, hasty.org().get().await);
    sandbox.stop().await;
    said.note(ErrorCode::Network, crm.org().get().await);

    let (server, connections) = strange_server();
    let center = DataCenter::builder("stub", &server).api_domain(&server);
    let token = AccessToken::new("1000.aaaa.bbbb").unwrap();
    let login = Credential::access(token).api_domain(&server);
    let crm = ZohoCrm::builder(center.build().unwrap(), login, ListStore::new()).find_user(false);
    let crm = crm.build().await.unwrap();
    said.note(ErrorCode::CertificateRefused, crm.org().get().await);
    // A read is repeated where that may help.
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let lead = crm.records("Leads").create([lead("Unsent")]).send().await;
    let error = lead.unwrap_err();
    assert_eq!(
        error.code(),
        ErrorCode::CertificateRefused,
        "it was not sent"
    );
    assert!(!error.is_transient());
}

/// A server with a certificate that nobody trusts: its address, and how many connections it had.
fn strange_server() -> (String, Arc<AtomicUsize>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
            let mut socket = socket.unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut socket).is_ok() {}
        }
    });
    (format!("https://localhost:{port}"), connections)
}
