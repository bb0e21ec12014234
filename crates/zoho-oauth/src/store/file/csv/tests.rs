//! Tests of the text format, against what the official SDKs write and against the `csv` crate.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::{AccessToken, ClientId, ClientSecret, GrantToken, RefreshToken, Timestamp, UserName};

const HEADER: &str = "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time,redirect_uri,api_domain";

/// As Zoho's Python SDK 7.0.0 wrote it.
const PYTHON_ROW: &str = "1,u@example.com:600123,1000.CID,SEC,1000.rrr.1,1000.aaa.1,1000.GRANT.x,1795372876984,\"https://x.example/cb?a=1,2\",http://127.0.0.1:36491";

fn document(bytes: &[u8]) -> Document<'_> {
    let mut document = parse(bytes).unwrap_or_else(|damage| panic!("{damage:?}"));
    document.number_after(None);
    document
}

fn tokens(text: &str) -> Vec<OAuthToken> {
    let document = document(text.as_bytes());
    assert_eq!(document.unreadable().count(), 0, "{text}");
    document.page(None, usize::MAX)
}

/// The damage of a file whose header cannot be read.
fn damage(bytes: impl AsRef<[u8]>) -> (usize, What) {
    let damage = parse(bytes.as_ref()).err().expect("this is damage");
    (damage.line, damage.what)
}

/// The lines that cannot be read.
fn bad_lines(bytes: impl AsRef<[u8]>) -> Vec<(usize, What)> {
    let document = document(bytes.as_ref());
    let lines = document.unreadable();
    lines
        .map(|line| (line.damage.line, line.damage.what))
        .collect()
}

/// What is written for these records, where there was no file.
fn write(rows: &[OAuthToken]) -> String {
    written(&Document::empty(), rows)
}

fn written(document: &Document<'_>, rows: &[OAuthToken]) -> String {
    let table = TokenTable::from_rows(rows.to_vec(), None).unwrap();
    let pieces = document.rewritten(&table, |_| true);
    let bytes: Vec<_> = pieces.iter().map(AsRef::as_ref).collect();
    String::from_utf8(bytes.concat()).unwrap()
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
    let crlf = written(
        &document(format!("{HEADER}\r\n").as_bytes()),
        &[python_token()],
    );
    assert_eq!(crlf, file);
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
    assert_eq!(read[1].api_domain, None);
    assert_eq!(read[1].redirect_url, python_token().redirect_url);
    assert_eq!(read[0], python_token());
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
fn a_new_line_ends_as_most_sdks_can_read_it() {
    let line_end = |text: String| parse(text.as_bytes()).ok().unwrap().line_end;
    assert_eq!(Document::empty().line_end, LineEnd::Lf);
    assert_eq!(line_end(format!("{HEADER}\r\n")), LineEnd::CrLf);
    assert_eq!(line_end(HEADER.to_owned()), LineEnd::Lf);
    // Node wrote a row into a file of Python.
    let mixed = format!("{HEADER}\r\n{PYTHON_ROW}\r\n{PYTHON_ROW}");
    assert_eq!(line_end(mixed.clone()), LineEnd::CrLf);
    assert_eq!(line_end(mixed + "\n"), LineEnd::Lf);
    assert_eq!(line_end(format!("{HEADER}\n{PYTHON_ROW}\r\n")), LineEnd::Lf);
}

#[test]
fn a_line_that_does_not_change_stays_as_it_is() {
    let row = |id: u32, end: &str| format!("{id},u{id},c,s,r{id},a,g,5,,null{end}");
    let text = [
        "\u{feff}",
        HEADER,
        "\r\n",
        &row(1, "\r\n"),
        "\n",
        &row(2, "\n"),
        &row(3, ""),
    ];
    let file = text.concat();
    let document = document(file.as_bytes());
    let mut rows = document.page(None, usize::MAX);
    assert_eq!(rows.len(), 3);
    // An empty line is none.
    assert_eq!(written(&document, &rows), file.replace("\n\n", "\n"));
    rows[0].api_domain = Some("x".into());
    rows.remove(1);
    let mut new = python_token();
    new.id = TokenId::new(9).ok();
    rows.push(new);
    let expected = [
        "\u{feff}",
        HEADER,
        "\r\n1,u1,c,s,r1,a,g,5,,x\r\n",
        &row(3, "\n"),
        &PYTHON_ROW.replacen('1', "9", 1),
        "\n",
    ];
    assert_eq!(written(&document, &rows), expected.concat());
}

#[test]
fn damage_of_the_header_is_damage_of_the_file() {
    assert_eq!(damage(""), (1, What::Empty));
    assert_eq!(damage("\u{feff}"), (1, What::Empty));
    assert_eq!(damage([0; 64]), (1, What::Nul));
    // Cut off while it was rewritten.
    assert_eq!(damage("id,user_na"), (1, What::HeaderColumns { found: 2 }));
    let commas = "id".to_owned() + &",".repeat(1000);
    assert_eq!(damage(commas), (1, What::HeaderColumns { found: 1001 }));
    assert_eq!(
        damage(HEADER.replace("grant_token", "access_token")),
        (1, What::HeaderNames)
    );
    assert_eq!(damage("id,\"user_name"), (1, What::OpenQuote));
    assert_eq!(damage(b"id,\xff,\n"), (1, What::NotUtf8));
}

#[test]
fn damage_of_a_line_is_found_and_spares_the_others() {
    let bad: [(&[u8], What); 13] = [
        (b"2,u\0,c,s,r,a,g,5,,", What::Nul),
        (b"2,\xff,c,s,r,a,g,5,,", What::NotUtf8),
        (b"2,u@exam", What::Columns { found: 2, due: 10 }),
        (b"2,,,,,,,,,,", What::Columns { found: 11, due: 10 }),
        (b"2,,,,,,,,,,,,", What::Columns { found: 13, due: 10 }),
        (b"2,\"u,c,s,r,a,g,5,,", What::OpenQuote),
        (b"2,\"u\"x,c,s,r,a,g,5,,", What::AfterQuote),
        (b"2,u,c,s,r,a,g,soon,,", What::ExpiryTime),
        (b"2,u,c,s,r,a,g,+5,,", What::ExpiryTime),
        (b"2,u,c,s,r,a,g,1e9,,", What::ExpiryTime),
        (b"2,u,c,s,r,a,g, 5,,", What::ExpiryTime),
        (b"2,u,c,s,r,a,g,99999999999999999999,,", What::ExpiryTime),
        // Without a token it is no login.
        (b"two,u,c,s,,,,5,,", What::Id),
    ];
    for (line, what) in bad {
        for end in ["\n", "\r\n"] {
            let third = PYTHON_ROW.replacen('1', "3", 1);
            let before = format!("{HEADER}{end}{PYTHON_ROW}{end}");
            let after = format!("{end}{third}{end}");
            let file = [before.as_bytes(), line, after.as_bytes()].concat();
            let text = String::from_utf8_lossy(&file).into_owned();
            assert_eq!(bad_lines(&file), [(3, what)], "{text}");
            let document = document(&file);
            let rows = document.page(None, usize::MAX);
            assert_eq!(rows.len(), 2, "{text}");
            // The line stays byte for byte.
            let table = TokenTable::from_rows(rows, None).unwrap();
            let pieces = document.rewritten(&table, |_| true);
            let bytes: Vec<_> = pieces.iter().map(AsRef::as_ref).collect();
            assert_eq!(bytes.concat(), file, "{text}");
            // The record itself is damaged, all others are only not there.
            let by_id = |id| document.by_id(TokenId::new(id).unwrap());
            assert!(by_id(3).unwrap().is_some() && by_id(4).unwrap().is_none());
            assert_eq!(by_id(2).is_err(), what != What::Id, "{text}");
            let named = |name| document.find(&TokenQuery::user_name(UserName::new(name).unwrap()));
            let is_named = [&b"2,u,"[..], b"2,\"u,", b"two,u,"]
                .iter()
                .any(|it| line.starts_with(it));
            assert_eq!(named("u").is_err(), is_named, "{text}");
            assert!(named("nobody").unwrap().is_none());
        }
    }
}

#[test]
fn a_bad_line_keeps_its_values_when_the_file_gets_the_official_header() {
    let old = "id,refresh_token,user_mail,client_id,client_secret,access_token,grant_token,expiry_time,redirect_url\n";
    let file = format!("{old}1,r1,ann,C,s,a,,5,\n2,r2,\"b,b\",C,s,a,,soon,\nr3,3\n");
    let document = document(file.as_bytes());
    let text = written(&document, &document.page(None, usize::MAX));
    let expected = format!("{HEADER}\n1,ann,C,s,r1,a,,5,,\n2,\"b,b\",C,s,r2,a,,soon,,\nr3,3\n");
    assert_eq!(text, expected);
    let document = super::parse(text.as_bytes()).ok().unwrap();
    let bad = document.unreadable();
    let bad: Vec<_> = bad
        .map(|line| (line.damage.line, line.damage.what))
        .collect();
    assert_eq!(
        bad,
        [
            (3, What::ExpiryTime),
            (4, What::Columns { found: 2, due: 10 })
        ]
    );
}

#[test]
fn a_bad_line_of_another_client_or_column_is_not_what_is_looked_for() {
    let file = format!("{HEADER}\n1,ann,C1,s,r,a,g,soon,,\n");
    let document = document(file.as_bytes());
    let ann = |client| {
        let query = TokenQuery::user_name(UserName::new("ann").unwrap());
        query.with_client(ClientId::new(client).unwrap())
    };
    assert!(document.find(&ann("C1")).is_err());
    assert_eq!(document.find(&ann("C2")).unwrap(), None);
    let user = |name| TokenQuery::user_name(UserName::new(name).unwrap());
    assert!(document.find(&user("ann")).is_err());
    assert_eq!(document.find(&user("C1")).unwrap(), None);
    let refresh = TokenQuery::refresh_token(RefreshToken::new("r").unwrap());
    assert!(document.find(&refresh).is_err());
    let access = TokenQuery::access_token(AccessToken::new("a").unwrap());
    assert!(document.find(&access).is_err());
    let grant = TokenQuery::grant_token(GrantToken::new("g").unwrap());
    assert!(document.find(&grant).is_err());
}

#[test]
fn a_file_of_another_kind_is_damaged_as_a_whole() {
    let file = |lines: usize| format!("{HEADER}\n{PYTHON_ROW}\n{}", "x\n".repeat(lines));
    assert_eq!(bad_lines(file(MOST_UNREADABLE)).len(), MOST_UNREADABLE);
    let what = What::Columns { found: 1, due: 10 };
    assert_eq!(
        damage(file(MOST_UNREADABLE + 1)),
        (MOST_UNREADABLE + 3, what)
    );
}

/// Node adds the tenth column to the empty line after the last one too.
#[test]
fn a_line_of_commas_is_no_record() {
    for blank in [",", ",,,,,,,,,", ",\r\n,\r\n"] {
        let file = format!("{HEADER}\n{PYTHON_ROW}\n{blank}");
        assert_eq!(tokens(&file), [python_token()], "{blank:?}");
        assert_eq!(document(file.as_bytes()).len(), 1);
    }
}

/// A quote that opens must not swallow the lines below it up to the next quote.
#[test]
fn a_quote_that_never_ends_is_damage_of_one_line() {
    let rows = "2,\"u,c,s,r,a,g,5,,\n3,v,c,s,r3,a,g,5,\"x,y\",\n4,w,c,s,r4,a,g,5,,\n";
    let file = format!("{HEADER}\n{rows}");
    assert_eq!(bad_lines(&file), [(2, What::OpenQuote)]);
    let ids: Vec<_> = document(file.as_bytes())
        .page(None, 9)
        .into_iter()
        .map(|it| it.id)
        .collect();
    assert_eq!(ids, [TokenId::new(3).ok(), TokenId::new(4).ok()]);
}

#[test]
fn an_id_that_is_no_number_or_taken_is_replaced_by_ours() {
    let row = |id: &str, name: &str| format!("{id},{name},c,s,r.{name},a,g,5,,\n");
    let file = [
        HEADER.to_owned() + "\n",
        row("python_u1_EU_9f3c", "a"),
        row("7", "b"),
        row("", "c"),
        row("7", "d"),
        row("0", "e"),
        row("007", "f"),
        row("10000000000", "g"),
        row("null", "h"),
        row("3", "i"),
    ]
    .concat();
    let ids = |document: &Document<'_>| {
        let rows = document.page(None, usize::MAX).into_iter();
        let pair = |row: OAuthToken| (row.id.unwrap().get(), row.user_name.unwrap().to_string());
        rows.map(pair).collect::<Vec<_>>()
    };
    let expected = |first: u64| {
        let names = ["a", "c", "d", "e", "f", "g", "h"];
        let ours = (first..).zip(names.map(str::to_owned));
        let mut all = vec![(3, "i".to_owned()), (7, "b".to_owned())];
        all.extend(ours);
        all
    };
    let mut document = parse(file.as_bytes()).ok().unwrap();
    assert!(document.has_unnumbered());
    document.number_after(None);
    assert_eq!(ids(&document), expected(8));
    assert_eq!(document.unreadable().count(), 0);
    // The first write puts them into the file, in the old order, and then they are numbers.
    let new = written(&document, &document.page(None, usize::MAX));
    let again = parse(new.as_bytes()).ok().unwrap();
    assert!(!again.has_unnumbered());
    assert_eq!(ids(&again), expected(8));
    let name = |line: &str| line.split(',').nth(1).unwrap().to_owned();
    let names: Vec<_> = new.lines().skip(1).map(name).collect();
    assert_eq!(names.concat(), "abcdefghi");
    // Above an id that was given before and deleted.
    let mut document = parse(file.as_bytes()).ok().unwrap();
    document.number_after(TokenId::new(40).ok());
    assert_eq!(ids(&document), expected(41));
    // There is no number left.
    let full = format!("{HEADER}\n9999999999,u,c,s,r,a,g,5,,\nx,v,c,s,r,a,g,5,,\n");
    assert_eq!(bad_lines(full), [(3, What::Id)]);
}

#[test]
fn the_text_null_is_an_absent_value() {
    let file = format!("{HEADER}\n1,null,c,s,1000.r,1000.a,null,null,null,null\n");
    let token = &tokens(&file)[0];
    let absent = (&token.user_name, &token.grant_token, token.expiry_time);
    assert_eq!(absent, (&None, &None, None));
    assert_eq!((&token.redirect_url, &token.api_domain), (&None, &None));
    let null = TokenQuery::user_name(UserName::new("null").unwrap());
    assert!(
        document(file.as_bytes())
            .find(&null)
            .ok()
            .unwrap()
            .is_none()
    );
    // A user of this name survives.
    let file = format!("{HEADER}\n1,null,c,s,1000.r,1000.a,,5,,\n");
    assert!(
        document(file.as_bytes())
            .find(&null)
            .ok()
            .unwrap()
            .is_some()
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
    let damage = document(file.as_bytes())
        .unreadable()
        .next()
        .unwrap()
        .damage;
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
        let crlf = format!("{HEADER}\r\n");
        let text = if lf { write(&rows) } else { written(&document(crlf.as_bytes()), &rows) };
        let read = document(text.as_bytes());
        prop_assert_eq!(read.unreadable().count(), 0);
        prop_assert_eq!(&read.page(None, usize::MAX), &rows);
        prop_assert_eq!(&written(&read, &rows), &text);

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
        if let Ok(mut document) = parse(&file) {
            document.number_after(None);
            // What is not changed stays.
            let table = TokenTable::from_rows(document.page(None, usize::MAX), None).unwrap();
            document.rewritten(&table, |_| true);
        }
    }
}
