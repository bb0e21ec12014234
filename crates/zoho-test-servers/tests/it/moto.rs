//! `Moto`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use zoho_test_servers::Moto;

use crate::support::listens;

/// It keeps secrets as AWS does, forgets them in a restart, and is gone when dropped.
#[test]
fn moto_answers_for_aws_until_a_kill_and_is_gone_when_dropped() {
    let mut server = Moto::start().unwrap();
    let port = server.port();
    assert_eq!(server.url(), format!("http://127.0.0.1:{port}"));
    let made = ask(
        port,
        "CreateSecret",
        r#"{"Name": "n", "SecretString": "s"}"#,
    );
    assert!(made.contains(r#""Name": "n""#), "{made}");
    let read = || ask(port, "GetSecretValue", r#"{"SecretId": "n"}"#);
    assert!(read().contains(r#""SecretString": "s""#), "{}", read());

    server.kill();
    assert!(!listens(port));
    server.restart().unwrap();

    assert!(read().contains("ResourceNotFoundException"), "{}", read());
    drop(server);
    assert!(!listens(port));
}

/// A call to Secrets Manager by hand: moto reads the service from the signature and checks nothing.
fn ask(port: u16, operation: &str, body: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    write!(
        stream,
        "POST / HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\
         X-Amz-Target: secretsmanager.{operation}\r\n\
         Content-Type: application/x-amz-json-1.1\r\n\
         Authorization: AWS4-HMAC-SHA256 \
         Credential=any/20260101/eu-west-1/secretsmanager/aws4_request, \
         SignedHeaders=host, Signature=any\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
