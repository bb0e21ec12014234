//! Values that a person gives: characters that nobody sees are refused where the value is made, and
//! what is stored with such characters stays readable.

use std::sync::Arc;

use zoho_oauth::{
    AccessToken, Authenticator, Callback, ClientId, ClientSecret, CodeVerifier, Credential,
    DataCenter, Error, ErrorCode, FileStore, GrantToken, HttpOptions, ListStore, LoginRequest,
    OAuthClient, OAuthToken, RefreshToken, Result, TokenQuery, TokenStore, UserName,
};

use crate::support::user;

/// Characters that come along when a value is copied, and what they are called.
const HIDDEN: [(&str, &str); 9] = [
    ("\n", "a line break"),
    ("\r\n", "a line break"),
    (" ", "a space"),
    ("\t", "a tab"),
    ("\u{a0}", "a no-break space"),
    ("\u{feff}", "a byte order mark"),
    ("\u{200b}", "a zero-width character"),
    ("\u{202e}", "a mark of the direction of text"),
    ("\u{7f}", "a control character"),
];

#[track_caller]
fn refused<T>(field: &str, kind: &str, outcome: Result<T>) {
    let Err(error) = outcome else {
        panic!("the {field} was taken with {kind}");
    };
    assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(field) && text.contains(kind),
        "{field}, {kind}: {text}"
    );
    assert!(!format!("{text} {error:?}").contains("v4lue"), "{text}");
}

#[test]
fn what_cannot_be_seen_is_refused_where_a_value_is_made() {
    for (hidden, kind) in HIDDEN {
        for value in [format!("v4lue{hidden}"), format!("{hidden}v4lue")] {
            let value = value.as_str();
            refused("client id", kind, OAuthClient::new(value, "secret"));
            refused(
                "client secret",
                kind,
                OAuthClient::new("1000.CLIENT", value),
            );
            refused("client id", kind, ClientId::new(value));
            refused("client secret", kind, ClientSecret::new(value));
            refused("refresh token", kind, RefreshToken::new(value));
            refused("access token", kind, AccessToken::new(value));
            refused("grant token", kind, GrantToken::new(value));
            refused("code verifier", kind, CodeVerifier::new(value));
            refused("user name", kind, UserName::new(value));
            refused(
                "name of the data center",
                kind,
                DataCenter::builder(value, "https://a.test").build(),
            );
        }
    }
    for (inside, kind) in HIDDEN.iter().filter(|(hidden, _)| *hidden != " ") {
        let value = format!("v4{inside}lue");
        refused("client secret", kind, ClientSecret::new(&*value));
        refused("refresh token", kind, RefreshToken::new(&*value));
        let name = UserName::new(&*value);
        assert_eq!(
            name.is_ok(),
            !inside.chars().any(char::is_control),
            "{kind}"
        );
    }
    for name in [
        "Ann Lee",
        "\u{646}\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}",
        "山田　太郎",
    ] {
        UserName::new(name).unwrap();
    }
}

#[test]
fn addresses_are_refused_when_the_data_center_is_built() {
    for (hidden, kind) in HIDDEN {
        let bad = format!("https://accounts.v4lue.test{hidden}");
        let builder = || DataCenter::builder("x", "https://accounts.test");
        refused(
            "accounts URL",
            kind,
            DataCenter::builder("x", &*bad).build(),
        );
        refused("API domain", kind, builder().api_domain(&*bad).build());
        refused(
            "sandbox API domain",
            kind,
            builder().sandbox_domain(&*bad).build(),
        );
        refused(
            "developer API domain",
            kind,
            builder().developer_domain(&*bad).build(),
        );
        refused("upload URL", kind, builder().upload_url(&*bad).build());
    }
}

#[test]
fn a_proxy_is_refused_when_the_authenticator_is_built() {
    for (hidden, kind) in HIDDEN {
        for url in [
            format!("http://v4lue.test:3128{hidden}"),
            format!("http://v4lue:v4lue{hidden}@proxy.test:3128"),
            format!("{hidden}v4lue.test:3128"),
        ] {
            if hidden == " " && url.contains('@') {
                continue;
            }
            let http = HttpOptions::new().proxy(url);
            let auth = Authenticator::builder(ListStore::new()).http(http);
            refused("proxy", kind, auth.build());
        }
    }
}

#[test]
fn what_varies_a_sign_is_refused_where_no_sign_can_be_varied() {
    for varies in ["\u{fe0f}", "\u{fe00}", "\u{180b}", "\u{e0100}"] {
        let kind = "an invisible character";
        refused(
            "client secret",
            kind,
            ClientSecret::new(format!("v4lue{varies}")),
        );
        refused(
            "client secret",
            kind,
            ClientSecret::new(format!("v4{varies}lue")),
        );
        UserName::new(format!("\u{2764}{varies}")).unwrap();
    }
}

#[tokio::test]
async fn a_redirect_uri_is_refused_before_anything_is_sent() {
    for (hidden, kind) in HIDDEN {
        let uri = format!("https://v4lue.test/callback{hidden}");
        let client = OAuthClient::new("1000.CLIENT", "secret").unwrap();
        let client = client.redirect_uri(uri);
        let request = LoginRequest::new(client.clone(), DataCenter::us(), ["ZohoCRM.modules.ALL"]);
        refused("redirect URI", kind, request.begin());
        // Nothing listens there, so a request would fail in another way.
        let nowhere = DataCenter::builder("us", "http://127.0.0.1:9")
            .build()
            .unwrap();
        let auth = Authenticator::builder(ListStore::new()).data_center(nowhere);
        let auth = auth.build().unwrap();
        let grant = Credential::grant(client.clone(), GrantToken::new("1000.code").unwrap());
        refused("redirect URI", kind, auth.session(grant).await);
        let refresh = Credential::refresh(client.clone(), RefreshToken::new("1000.r").unwrap());
        refused("redirect URI", kind, auth.session(refresh).await);
        refused(
            "redirect URI",
            kind,
            Authenticator::builder(ListStore::new())
                .client(client)
                .build(),
        );
        let access = Credential::access(AccessToken::new("1000.a").unwrap());
        let access = access.api_domain(format!("https://v4lue.test{hidden}"));
        refused("API domain", kind, auth.session(access).await);
    }
}

#[test]
fn a_pasted_callback_may_end_in_a_line_break() {
    let callback =
        Callback::from_url(" https://portal.test/callback?state=x&code=1000.c\n").unwrap();
    assert_eq!(callback.state(), Some("x"));
    let error: Error = Callback::from_query("state=x&code=1000.v4lue%0a").unwrap_err();
    assert_eq!(error.code(), ErrorCode::CallbackRefused);
    assert!(error.to_string().contains("a line break"), "{error}");
    assert!(!error.to_string().contains("v4lue"));
}

#[tokio::test]
async fn stored_rows_with_such_values_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.csv");
    let fields = [
        None,
        Some("ann \u{feff}"),
        Some("1000.CLIENT"),
        Some("secret\n"),
        Some(" 1000.refresh\u{200b}"),
        Some("1000.access\t"),
        None,
        Some("1795372876984"),
        Some("https://portal.test/callback\n"),
        Some("https://www.zohoapis.com\r"),
    ];
    let record = OAuthToken::from_fields(&fields).unwrap();
    let stores: [Arc<dyn TokenStore>; 2] = [
        Arc::new(ListStore::new()),
        Arc::new(FileStore::open(&path).await.unwrap()),
    ];
    for store in stores {
        let id = store.save_token(&record).await.unwrap();
        let mut expected = record.clone();
        expected.id = Some(id);
        assert_eq!(store.get_tokens().await.unwrap(), [expected.clone()]);
        let query = TokenQuery::user_name(expected.user_name.clone().unwrap());
        assert_eq!(store.find_token(&query).await.unwrap(), Some(expected));
        let other = store.find_token(&TokenQuery::user_name(user("ann"))).await;
        assert_eq!(other.unwrap(), None);
    }
}
