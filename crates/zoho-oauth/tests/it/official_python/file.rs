//! The token file.

use std::fs;

use super::*;

#[tokio::test]
async fn one_login_in_turns_in_a_file() {
    one_login_in_turns(Language::Python, Kind::File).await;
}

#[tokio::test]
async fn the_sdk_uses_a_file_that_we_wrote() {
    a_store_that_we_wrote(Kind::File).await;
}

#[tokio::test]
async fn an_id_that_the_sdk_gives_again_in_a_file_is_another_record() {
    an_id_given_again(Kind::File).await;
}

const COLUMNS: &str = "client_id,client_secret,refresh_token,access_token,grant_token,expiry_time";
const ROW: &str = "1,ann,1000.CLIENT,secret,1000.r.ann,1000.a.ann,1000.g.ann,1795372876984";
const DOMAIN: &str = "https://www.zohoapis.eu";

/// The record of [`ROW`] with the rest of its line.
fn ann(redirect: &str, domain: Option<&str>) -> OAuthToken {
    let mut token = with_id(1, invented("ann"));
    token.redirect_url = Some(redirect.into());
    token.api_domain = domain.map(str::to_owned);
    token
}

fn first_line(place: &Place) -> String {
    let text = fs::read_to_string(place.path()).unwrap();
    text.lines().next().unwrap().to_owned()
}

/// Files of old versions have nine columns, and files of the other SDKs other headers and line
/// ends. The real SDK and we take turns on each, whoever comes first.
#[tokio::test]
async fn old_files_and_those_of_other_sdks_serve_both() {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    // The names of the second and the ninth column, the line end, and whether there are ten.
    for (user_name, redirect, end, ten) in [
        ("user_name", "redirect_uri", "\r\n", true),
        ("user_name", "redirect_url", "\n", true),
        ("user_mail", "redirect_url", "\n", true),
        ("user_name", "redirect_uri", "\r\n", false),
        ("user_name", "redirect_url", "\n", false),
    ] {
        let header = format!("id,{user_name},{COLUMNS},{redirect}");
        let row = format!("{ROW},https://x.example/cb");
        let text = if ten {
            format!("{header},api_domain{end}{row},{DOMAIN}{end}")
        } else {
            format!("{header}{end}{row}{end}")
        };
        let first = ann("https://x.example/cb", ten.then_some(DOMAIN));
        for python_is_first in [true, false] {
            let place = Place::new(Kind::File);
            fs::write(place.path(), &text).unwrap();
            let mut expected = vec![first.clone()];
            // The SDK migrates a file of nine columns when it opens it, we when we write to it.
            if python_is_first {
                place.open_by(&mut python).await;
                assert_eq!(first_line(&place).split(',').count(), 10);
                assert_eq!(python.tokens().await, expected);
            }
            let store = place.open().await;
            assert_eq!(store.get_tokens().await.unwrap(), expected, "{text}");
            let second = invented("b, c");
            assert_eq!(store.save_token(&second).await.unwrap(), id(2));
            expected.push(with_id(2, second));
            assert_eq!(first_line(&place).split(',').count(), 10);

            place.open_by(&mut python).await;
            assert_eq!(python.tokens().await, expected);
            // It keeps the header that it finds, and ends all lines as it is used to.
            assert_eq!(python.save(&invented("third")).await, id(3));
            expected.push(with_id(3, invented("third")));
            assert_eq!(store.get_tokens().await.unwrap(), expected);
            assert_eq!(python.tokens().await, expected);
        }
    }
}

/// An empty store of one side is an empty store of the other, whoever makes it.
#[tokio::test]
async fn an_empty_file_of_either_side_serves_both() {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    for python_is_first in [true, false] {
        let place = Place::new(Kind::File);
        if python_is_first {
            place.open_by(&mut python).await;
        }
        let store = place.open().await;
        assert_eq!(store.get_tokens().await.unwrap(), []);
        place.open_by(&mut python).await;
        assert_eq!(python.tokens().await, []);
        assert_eq!(python.save(&invented("ann")).await, id(1));
        assert_eq!(store.delete_tokens().await.unwrap(), 1);
        assert_eq!(python.tokens().await, []);
    }
}
