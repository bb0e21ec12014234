//! Files as Zoho's SDKs leave them, and what they find after us.

use super::*;

const NAMES: &str =
    "user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time";
const PLAIN: &str = "u@example.com:600123,1000.CID,SEC,1000.rrr.1,1000.aaa.1,1000.GRANT.x,1795372876984,https://x.example/cb";
const DOMAIN: &str = "https://www.zohoapis.eu";
/// As Zoho's Python SDK 7.0.0 wrote it.
const PYTHON_ROW: &str = "1,u@example.com:600123,1000.CID,SEC,1000.rrr.1,1000.aaa.1,1000.GRANT.x,1795372876984,\"https://x.example/cb?a=1,2\",http://127.0.0.1:36491";

/// What each SDK writes: name, header, line end, and whether the last line has one.
fn sdks() -> [(&'static str, String, &'static str, bool); 7] {
    let header =
        |user: &str, redirect: &str| format!("id,{user}{},{redirect},api_domain", &NAMES[9..]);
    [
        ("Python", header("user_name", "redirect_uri"), "\r\n", true),
        ("Java", header("user_name", "redirect_url"), "\n", true),
        ("Node", header("user_name", "redirect_url"), "\n", false),
        (
            "TypeScript",
            header("user_mail", "redirect_url"),
            "\n",
            false,
        ),
        ("PHP", header("user_name", "redirect_url"), "\n", false),
        ("C#", header("user_name", "redirect_url"), "\r\n", true),
        ("Ruby", header("user_name", "redirect_url"), "\n", true),
    ]
}

fn expected() -> OAuthToken {
    let mut token = OAuthToken::new();
    token.id = Some(id(1));
    token.user_name = Some(user("u@example.com:600123"));
    token.client_id = Some(ClientId::new("1000.CID").unwrap());
    token.client_secret = Some(ClientSecret::new("SEC").unwrap());
    token.refresh_token = Some(RefreshToken::new("1000.rrr.1").unwrap());
    token.access_token = Some(AccessToken::new("1000.aaa.1").unwrap());
    token.grant_token = Some(GrantToken::new("1000.GRANT.x").unwrap());
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token.redirect_url = Some("https://x.example/cb".into());
    token.api_domain = Some(DOMAIN.into());
    token
}

/// The rows as the SDKs that know no quotes take them: split at line feed and comma, by position.
fn as_node_reads(text: &str) -> Vec<Vec<String>> {
    let lines = text.split('\n').filter(|line| !line.is_empty()).skip(1);
    lines
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

/// The rows as the SDKs with a CSV library take them.
fn as_python_reads(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let records = reader.records().map(Result::unwrap);
    records
        .map(|record| record.iter().map(str::to_owned).collect())
        .collect()
}

#[tokio::test]
async fn the_files_of_all_official_sdks_are_read() {
    for (sdk, header, end, at_the_end) in sdks() {
        let last = if at_the_end { end } else { "" };
        let place = Place::with(format!("{header}{end}1,{PLAIN},{DOMAIN}{last}"));
        let before = place.text();
        let stored = place.open().await.get_tokens().await.unwrap();
        assert_eq!(stored, [expected()], "{sdk}");
        assert_eq!(place.text(), before, "reading changed the file of {sdk}");
    }
}

#[tokio::test]
async fn the_official_sdks_find_in_our_file_what_we_saved() {
    for (sdk, header, end, at_the_end) in sdks() {
        let last = if at_the_end { end } else { "" };
        let place = Place::with(format!("{header}{end}1,{PLAIN},{DOMAIN}{last}"));
        let mut token = expected();
        (token.id, token.user_name) = (None, Some(user("second")));
        assert_eq!(place.open().await.save_token(&token).await.unwrap(), id(2));
        let text = place.text();
        let rows = if end == "\n" {
            as_node_reads(&text)
        } else {
            as_python_reads(&text)
        };
        assert_eq!(rows[0].join(","), format!("1,{PLAIN},{DOMAIN}"), "{sdk}");
        assert_eq!(rows[1][1], "second", "{sdk}");
        assert_eq!(rows[1][9], DOMAIN, "{sdk}");
        assert_eq!(rows.len(), 2, "{sdk}");
    }
}

#[tokio::test]
async fn a_python_file_keeps_every_byte_that_was_not_meant() {
    let header = format!("id,{NAMES},redirect_uri,api_domain\r\n");
    let place = Place::with(format!("{header}{PYTHON_ROW}\r\n"));
    let store = place.open().await;
    let mut token = OAuthToken::new();
    token.user_name = Some(user("b,c"));
    token.refresh_token = Some(RefreshToken::new("r").unwrap());
    store.save_token(&token).await.unwrap();
    assert_eq!(
        place.text(),
        format!("{header}{PYTHON_ROW}\r\n2,\"b,c\",,,r,,,,,\r\n")
    );
    store.delete_token(id(2)).await.unwrap();
    assert_eq!(place.text(), format!("{header}{PYTHON_ROW}\r\n"));
}

#[tokio::test]
async fn an_old_file_of_nine_columns_is_migrated_by_the_first_write() {
    let old = format!("id,{NAMES},redirect_url\n1,{PLAIN}\n2,v{}\n", &PLAIN[20..]);
    let place = Place::with(&old);
    let store = place.open().await;
    let found = store.find_token_by_id(id(1)).await.unwrap().unwrap();
    assert_eq!(found.api_domain, None);
    assert_eq!(found.redirect_url, expected().redirect_url);
    assert_eq!(place.text(), old);

    store.delete_token(id(2)).await.unwrap();
    let new = format!("id,{NAMES},redirect_uri,api_domain\n1,{PLAIN},\n");
    assert_eq!(place.text(), new);
}

#[tokio::test]
async fn a_python_file_that_node_wrote_back_has_clean_domains() {
    let header = format!("id,{NAMES},redirect_url,api_domain");
    // Node kept the carriage return as part of the first row's domain and added a row of its own.
    let place = Place::with(format!(
        "{header}\r\n1,{PLAIN},{DOMAIN}\r\n2,v{},{DOMAIN}",
        &PLAIN[20..]
    ));
    for token in place.open().await.get_tokens().await.unwrap() {
        assert_eq!(token.api_domain.as_deref(), Some(DOMAIN));
    }
}

/// Older official SDKs made ids such as `python_u1_EU_9f3c`, under nine columns.
#[tokio::test]
async fn a_record_with_an_id_of_an_older_sdk_gets_a_number_with_the_first_write() {
    let row = |id: &str, name: &str| {
        let rest = "1000.CLIENT,s,1000.r,1000.a,,1795372876984,";
        format!("{id},{name},{rest}\r\n").replace("1000.r", &format!("1000.r.{name}"))
    };
    for (user_column, redirect) in [
        ("user_mail", "redirect_url"),
        ("user_name", "redirect_uri"),
        ("user_name", "redirect_url"),
    ] {
        let header = format!("id,{user_column}{},{redirect}\r\n", &NAMES[9..]);
        let old = [
            header,
            row("python_u2_EU_0a1b", "second"),
            row("4", "first"),
            row("python_u1_EU_9f3c", "third"),
        ]
        .concat();
        let place = Place::with(&old);
        let store = place.open().await;
        let names = |tokens: Vec<OAuthToken>| {
            let tokens = tokens.into_iter();
            let pair = |token: OAuthToken| (token.id.unwrap().get(), token.user_name.unwrap());
            tokens.map(pair).collect::<Vec<_>>()
        };
        let expected = [(4, user("first")), (5, user("second")), (6, user("third"))];
        assert_eq!(names(store.get_tokens().await.unwrap()), expected);
        let found = store
            .find_token(&TokenQuery::user_name(user("third")))
            .await;
        assert_eq!(found.unwrap().unwrap().id, Some(id(6)));
        assert!(store.find_token_by_id(id(5)).await.unwrap().is_some());
        assert_eq!(store.inventory().await.unwrap().unwrap().records, 3);
        // Another process gives the same ids, and reading changes nothing.
        assert_eq!(
            names(place.open().await.get_tokens().await.unwrap()),
            expected
        );
        assert_eq!(place.text(), old);

        let mut news = OAuthToken::new();
        news.id = Some(id(6));
        news.access_token = Some(AccessToken::new("1000.new").unwrap());
        assert_eq!(store.save_token(&news).await.unwrap(), id(6));
        let text = place.text();
        let rows = as_python_reads(&text);
        let heads: Vec<_> = rows.iter().map(|row| row[..2].join(",")).collect();
        assert_eq!(
            heads,
            ["5,second", "4,first", "6,third"],
            "the order of the file"
        );
        assert!(rows.iter().all(|row| row.len() == 10), "{text}");
        assert_eq!(rows[2][5], "1000.new");
        assert_eq!(
            names(place.open().await.get_tokens().await.unwrap()),
            expected
        );
        assert_eq!(store.save_token(&token_of("new")).await.unwrap(), id(7));
    }
}

/// Two processes of official SDKs that save at once give the same id to two people.
#[tokio::test]
async fn two_records_under_one_id_are_both_of_use() {
    let place = Place::with(format!(
        "id,{NAMES},redirect_url,api_domain\n1,{PLAIN},\n1,v{},\n",
        &PLAIN[1..]
    ));
    let store = place.open().await;
    assert_eq!(ids(&store.get_tokens().await.unwrap()), [1, 2]);
    let second = store.find_token_by_id(id(2)).await.unwrap().unwrap();
    assert_eq!(second.user_name, Some(user("v@example.com:600123")));
    assert!(store.delete_token(id(1)).await.unwrap());
    assert_eq!(ids(&store.get_tokens().await.unwrap()), [2]);
    assert!(place.text().contains("\n2,v@example.com"));
}

#[tokio::test]
async fn the_text_null_is_an_absent_value() {
    let row = "null,1000.CLIENT,s,1000.r,1000.a,null,1795372876984,null,null";
    let header = format!("id,{NAMES},redirect_url,api_domain\n");
    let before = format!("{header}1,{row}\n2,null,1000.CLIENT,s,1000.r2,,,,,\n");
    let place = Place::with(&before);
    let store = place.open().await;
    let first = store.find_token_by_id(id(1)).await.unwrap().unwrap();
    assert_eq!((first.user_name, first.grant_token), (None, None));
    assert_eq!((first.redirect_url, first.api_domain), (None, None));
    let found = store.find_token(&TokenQuery::user_name(user("null"))).await;
    assert_eq!(
        found.unwrap().unwrap().id,
        Some(id(2)),
        "a user of this name"
    );
    // A row that is not changed keeps the words of the SDK that wrote it.
    store.save_token(&token_of("new")).await.unwrap();
    assert!(place.text().starts_with(&before));
    let mut news = OAuthToken::new();
    news.id = Some(id(1));
    news.access_token = Some(AccessToken::new("1000.new").unwrap());
    store.save_token(&news).await.unwrap();
    let line = "\n1,,1000.CLIENT,s,1000.r,1000.new,,,,\n";
    assert!(place.text().contains(line), "{}", place.text());
}

/// Node keeps a carriage return as part of the API domain, which then matches no data center.
#[tokio::test]
async fn node_reads_the_domain_in_a_file_that_we_made() {
    let place = Place::new();
    let store = place.open().await;
    assert!(!place.text().contains('\r'));
    for name in ["a", "b"] {
        let mut token = token_of(name);
        token.api_domain = Some(DOMAIN.into());
        store.save_token(&token).await.unwrap();
    }
    let text = place.text();
    let rows = as_node_reads(&text);
    assert_eq!((&*rows[0][9], &*rows[1][9]), (DOMAIN, DOMAIN));
    assert_eq!(as_python_reads(&text), rows);
    assert!(!text.contains('\r'));
}

#[tokio::test]
async fn each_line_keeps_its_end_and_a_new_one_ends_as_node_reads_it() {
    let header = format!("id,{NAMES},redirect_url,api_domain");
    let row = |id: u32| format!("{id},u{id},c,s,r{id},a,g,5,,{DOMAIN}");
    let parts = [&header, "\r\n", &row(1), "\r\n", &row(2), "\n", &row(3)];
    let before = parts.concat();
    let place = Place::with(&before);
    let store = place.open().await;
    let mut token = token_of("new");
    token.api_domain = Some(DOMAIN.into());
    store.save_token(&token).await.unwrap();
    let expected = format!("{before}\n4,new,1000.CLIENT,,1000.refresh.new,,,,,{DOMAIN}\n");
    assert_eq!(place.text(), expected);
    for number in [1, 2] {
        let mut news = OAuthToken::new();
        news.id = Some(id(number));
        news.access_token = Some(AccessToken::new("x").unwrap());
        store.save_token(&news).await.unwrap();
    }
    let expected = expected
        .replace("r1,a,g,5,", "r1,x,g,,")
        .replace("r2,a,g,5,", "r2,x,g,,");
    assert_eq!(place.text(), expected);
    store.delete_token(id(2)).await.unwrap();
    assert_eq!(place.text().matches("\r\n").count(), 2);
    // All lines of a Python file still end as Python ends them.
    let python = Place::with(format!("{header}\r\n{}\r\n", row(1)));
    python.open().await.save_token(&token).await.unwrap();
    assert_eq!(python.text().matches('\n').count(), 3);
    assert_eq!(python.text().matches("\r\n").count(), 3);
}
