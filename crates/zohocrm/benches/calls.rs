//! One record read again and again: what a call costs beside the HTTP client it is made with.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use reqwest::header::{ACCEPT, AUTHORIZATION};
use serde::Deserialize;
use tokio::runtime::Builder;
use zohocrm::oauth::{AccessToken, Credential, DataCenter, ListStore};
use zohocrm::{Record, ZohoCrm};

const TOKEN: &str = "1000.aaaa.bbbb";
const ID: &str = "5725767000000524157";
const FIELDS: usize = 20;

/// The answer that the server gives to everything: one record, as the CRM sends it.
fn answer() -> Vec<u8> {
    let mut record = Record::new().with("id", ID);
    for number in 1..FIELDS {
        record = record.with(format!("Field_{number}"), format!("Value number {number}"));
    }
    let body = serde_json::json!({ "data": [record] }).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A server of one answer, with a thread for each connection: next to nothing beside the clients.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        while let Ok((connection, _)) = listener.accept() {
            thread::spawn(move || serve(connection));
        }
    });
    format!("http://{address}")
}

/// Answers each request that has no body, until the client goes away.
fn serve(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut requests = BufReader::new(connection.try_clone()?);
    let (answer, mut line) = (answer(), Vec::new());
    while requests.read_until(b'\n', &mut line)? > 0 {
        if line == b"\r\n" {
            connection.write_all(&answer)?;
        }
        line.clear();
    }
    Ok(())
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Record>,
}

/// What an application writes that has a token and asks with the bare client.
async fn bare(http: &reqwest::Client, domain: &str) -> Option<Record> {
    let request = http
        .get(format!("{domain}/crm/v8/Leads/{ID}"))
        .header(ACCEPT, "application/json")
        .header(AUTHORIZATION, format!("Zoho-oauthtoken {TOKEN}"));
    let body = request.send().await.ok()?.bytes().await.ok()?;
    let answer: Answer = serde_json::from_slice(&body).ok()?;
    answer.data.into_iter().next()
}

fn one_record(criterion: &mut Criterion) {
    // On one thread: to wake another takes longer than all that is compared here.
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let domain = server();
    let crm = runtime.block_on(async {
        let center = DataCenter::builder("local", &domain).api_domain(&domain);
        let token = AccessToken::new(TOKEN).expect("a token");
        let credential = Credential::access(token).api_domain(&domain);
        // The user is of another data center than the application: the longest way to an address.
        ZohoCrm::builder(DataCenter::us(), credential, ListStore::new())
            .data_center(center.build().expect("addresses of this machine"))
            .find_user(false)
            .build()
            .await
            .expect("a client")
    });
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The limits of `HttpOptions`: each timer that is set costs time.
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .timeout(Duration::from_mins(1))
        .user_agent(concat!("zohocrm-rust/", env!("CARGO_PKG_VERSION")));
    let http = http.build().expect("a client");
    let leads = crm.records("Leads");
    let mut group = criterion.benchmark_group(format!("call/get one record/{FIELDS}"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let record = leads.get(ID).send().await.expect("an answer");
            black_box(record.expect("the record"))
        });
    });
    group.bench_function("baseline:reqwest", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { black_box(bare(&http, &domain).await.expect("the record")) });
    });
    group.finish();
}

criterion_group!(benches, one_record);
criterion_main!(benches);
