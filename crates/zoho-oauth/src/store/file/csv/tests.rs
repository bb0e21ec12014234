//! Tests of the text format, against what the official SDKs write and against the `csv` crate.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::{AccessToken, ClientId, ClientSecret, GrantToken, RefreshToken, Timestamp, UserName};

const HEADER: &str = "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time,redirect_uri,api_domain";

/// As Zoho's Python SDK 7.0.0 wrote it.
const PYTHON_ROW: &str = "1,u@example.com:600123,1000.CID,SEC,1000.rrr.1,1000.aaa.1,1000.GRANT.x,1795372876984,\"https://x.example/cb?a=1,2\",http://127.0.0.1:36491";

fn tokens(text: &str) -> Vec<OAuthToken> {
    match parse(text.as_bytes()) {
        Ok(document) => document.rows.iter().map(Row::to_token).collect(),
        Err(damage) => panic!("{damage:?}"),
    }
}

fn damage(bytes: impl AsRef<[u8]>) -> (usize, What) {
    let damage = parse(bytes.as_ref()).err().expect("this is damage");
    (damage.line, damage.what)
}

fn python_token() -> OAuthToken {
    let mut token = OAuthToken::new();
    token.id = Some(TokenId::new(1).unwrap());
    token.user_name = Some(UserName::received("u@example.com:600123").unwrap());
    token.client_id = Some(ClientId::received("1000.CID").unwrap());
    token.client_secret = Some(ClientSecret::received("SEC").unwrap());
    token.refresh_token = Some(RefreshToken::received("1000.rrr.1").unwrap());
    token.access_token = Some(AccessToken::received("1000.aaa.1").unwrap());
    token.grant_token = Some(GrantToken::received("1000.GRANT.x").unwrap());
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token.redirect_url = Some("https://x.example/cb?a=1,2".into());
    token.api_domain = Some("http://127.0.0.1:36491".into());
    token
}

#[test]
fn a_python_file_is_read_and_written_byte_for_byte() {
    let file = format!("{HEADER}\r\n{PYTHON_ROW}\r\n");
    assert_eq!(tokens(&file), [python_token()]);
    assert_eq!(*write(&[python_token()], LineEnd::CrLf), file);
}

#[test]
fn every_official_header_leads_to_the_same_record() {
    for user in ["user_name", "user_mail"] {
        for redirect in ["redirect_uri", "redirect_url"] {
            let header = HEADER
                .replace("user_name", user)
                .replace("redirect_uri", redirect);
            for end in ["\n", "\r\n"] {
                for last in ["", end] {
                    for mark in ["", "\u{feff}"] {
                        let file = format!("{mark}{header}{end}{PYTHON_ROW}{last}");
                        assert_eq!(tokens(&file), [python_token()], "{file:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn columns_go_by_name_where_it_is_known_and_by_position_elsewhere() {
    let file = "id,\"user_name\", client_id ,secret,access_token,refresh_token,grant,expiry_time,redirect,api_domain\n\
                1,u,c,s,a,r,g,5,x,d\n";
    let token = &tokens(file)[0];
    assert_eq!(
        token.access_token,
        Some(AccessToken::received("a").unwrap())
    );
    assert_eq!(
        token.refresh_token,
        Some(RefreshToken::received("r").unwrap())
    );
    assert_eq!(token.grant_token, Some(GrantToken::received("g").unwrap()));
    assert_eq!(
        token.client_secret,
        Some(ClientSecret::received("s").unwrap())
    );
    assert_eq!(token.redirect_url.as_deref(), Some("x"));
}

#[test]
fn an_empty_column_is_none() {
    let file = format!("{HEADER}\n7,,,,,\"\",,,,");
    let mut blank = OAuthToken::new();
    blank.id = Some(TokenId::new(7).unwrap());
    assert_eq!(tokens(&file), [blank]);
}

#[test]
fn nine_columns_have_no_api_domain() {
    let header = HEADER.strip_suffix(",api_domain").unwrap();
    let row = PYTHON_ROW
        .strip_suffix(",http://127.0.0.1:36491")
        .unwrap()
        .replacen('1', "2", 1);
    // The second row is what an SDK without a migration adds to such a file.
    let read = tokens(&format!("{header}\n{row}\n{PYTHON_ROW}\n"));
    assert_eq!(read[0].api_domain, None);
    assert_eq!(read[0].redirect_url, python_token().redirect_url);
    assert_eq!(read[1], python_token());
}

#[test]
fn the_carriage_return_that_node_leaves_is_not_part_of_a_value() {
    let row = PYTHON_ROW;
    for file in [
        // Node took the end of the last value of a Python file for a part of it.
        format!("{HEADER}\n{row}\r\n"),
        format!("{HEADER}\r\n{row}\r"),
        format!("{HEADER}\r\n{row}\r\r\n"),
    ] {
        assert_eq!(tokens(&file), [python_token()], "{file:?}");
    }
    // TypeScript added the tenth column behind it.
    let file = format!("{HEADER}\n1,u,c,s,r,a,g,5,https://x.example\r,\n");
    let token = &tokens(&file)[0];
    assert_eq!(token.redirect_url.as_deref(), Some("https://x.example"));
    assert_eq!(token.api_domain, None);
}

#[test]
fn a_file_keeps_its_line_end() {
    let line_end = |text: String| parse(text.as_bytes()).ok().unwrap().line_end;
    assert_eq!(line_end(format!("{HEADER}\r\n")), LineEnd::CrLf);
    assert_eq!(line_end(format!("{HEADER}\n{PYTHON_ROW}\r\n")), LineEnd::Lf);
    assert_eq!(line_end(HEADER.to_owned()), LineEnd::Lf);
    let written = write(&[python_token()], LineEnd::Lf);
    assert_eq!(*written, format!("{HEADER}\n{PYTHON_ROW}\n"));
}

#[test]
fn damage_is_found_with_its_line() {
    let with = |rows: &str| damage(format!("{HEADER}\r\n{PYTHON_ROW}\r\n{rows}"));
    assert_eq!(damage(""), (1, What::Empty));
    assert_eq!(damage("\u{feff}"), (1, What::Empty));
    assert_eq!(damage([0; 64]), (1, What::Nul));
    assert_eq!(with("2,u\0,,,,,,,,\r\n"), (3, What::Nul));
    assert_eq!(
        damage([HEADER.as_bytes(), b"\n1,\xff,,,,,,,,\n"].concat()),
        (2, What::NotUtf8)
    );
    // Cut off while it was rewritten.
    assert_eq!(damage("id,user_na"), (1, What::HeaderColumns { found: 2 }));
    assert_eq!(with("2,u@exam"), (3, What::Columns { found: 2, due: 10 }));
    assert_eq!(
        with("\r\n2,,,,,,,,,,\r\n"),
        (4, What::Columns { found: 11, due: 10 })
    );
    assert_eq!(
        damage(HEADER.replace("grant_token", "access_token")),
        (1, What::HeaderNames)
    );
    assert_eq!(
        with("2,\"u,,,,,,,,\r\n3,,,,,,,,,\r\n"),
        (3, What::OpenQuote)
    );
    assert_eq!(with("2,\"u\"x,,,,,,,,\r\n"), (3, What::AfterQuote));
    for id in ["", "0", "-2", "02", " 2", "two", "10000000000"] {
        assert_eq!(with(&format!("{id},u,,,,,,,,\r\n")), (3, What::Id), "{id}");
    }
    for time in ["soon", "+5", "1.5", "1e9", " 5", "99999999999999999999"] {
        let row = format!("2,,,,,,,{time},,\r\n");
        assert_eq!(with(&row), (3, What::ExpiryTime), "{time}");
    }
    // Behind a value of two lines, and out of order.
    assert_eq!(
        with("3,\"a\r\nb\",,,,,,,,\r\n2,,,,,,,,,\r\n1,,,,,,,,,\r\n"),
        (6, What::DuplicateId)
    );
}

#[test]
fn a_file_of_something_else_is_told_from_a_damaged_one() {
    for text in [
        "\n",
        "identity,user_name\n",
        "name,id\n",
        "[default]\n",
        "{\"id\": 1}",
        "SQLite format 3\0",
    ] {
        assert_eq!(damage(text), (1, What::Foreign), "{text:?}");
    }
    assert_eq!(damage(b"\xff\xfei\0d\0"), (1, What::Foreign));
}

#[test]
fn an_error_names_path_and_line_and_quotes_nothing() {
    let file = format!("{HEADER}\n1,u,c,hunter2,r,a,g,hunter2,,\n");
    let damage = parse(file.as_bytes()).err().unwrap();
    let error = damage.into_error(Path::new("/data/sdk_tokens.txt"));
    assert_eq!(error.code(), ErrorCode::StoreDamaged);
    assert_eq!(
        error.message(),
        "line 2 of `/data/sdk_tokens.txt` has an expiry time that is not a number"
    );
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[ a-z,\"\r\n'\u{feff}\u{202e}é🦀;\t]{1,12}",
        "[^\0]{0,8}",
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(rows in prop::collection::vec(prop::array::uniform8(any_value()), 0..4), lf: bool) {
        let rows: Vec<_> = (1..).zip(rows).map(|(id, values)| {
            let [name, client, secret, refresh, access, grant, redirect, domain] = values;
            let mut token = OAuthToken::new();
            token.id = TokenId::new(id).ok();
            token.user_name = UserName::received(name).ok();
            token.client_id = ClientId::received(client).ok();
            token.client_secret = ClientSecret::received(secret).ok();
            token.refresh_token = RefreshToken::received(refresh).ok();
            token.access_token = AccessToken::received(access).ok();
            token.grant_token = GrantToken::received(grant).ok();
            token.redirect_url = Some(redirect).filter(|text| !text.is_empty());
            token.api_domain = Some(domain).filter(|text| !text.is_empty());
            token
        }).collect();
        let line_end = if lf { LineEnd::Lf } else { LineEnd::CrLf };
        let text = write(&rows, line_end);
        let Ok(document) = parse(text.as_bytes()) else {
            panic!("our own text");
        };
        prop_assert!(document.line_end == line_end);
        let read: Vec<_> = document.rows.iter().map(Row::to_token).collect();
        prop_assert_eq!(&read, &rows);

        // And as the rest of the world reads it.
        let mut reader = ::csv::Reader::from_reader(text.as_bytes());
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        let expected: Vec<_> = rows.iter().map(|row| row.expose_fields().map(|field| field.unwrap_or_default().into_owned()).to_vec()).collect();
        prop_assert_eq!(records, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0..400_usize) {
        let _ = parse(&bytes);
        let mut file = format!("{HEADER}\r\n{PYTHON_ROW}\r\n").into_bytes();
        file.truncate(cut);
        file.extend(bytes);
        let _ = parse(&file);
    }
}
