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
