//! The rights that a store needs, as `SECURITY.md` gives them: its lines are read from there and
//! carried out. With them everything works, and without any one of them something does not. The
//! tests themselves are with those of each store.

use std::path::Path;

use zoho_oauth::store::{CoordinationKey, Memo};
use zoho_oauth::{
    Credential, Error, ErrorCode, GrantToken, OAuthToken, Result, TokenQuery, TokenStore,
};

use crate::support::{SCOPES, authenticator, client, expire, good, in_seconds, sandbox, user};

/// The lines of the block in `SECURITY.md` that begins with a line like this, without that one.
pub(crate) fn block(kind: &str, first: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let begin = format!("```{kind}\n{first}");
    let (_, rest) = text.split_once(&begin).expect("the block is there");
    let (_, rest) = rest.split_once('\n').unwrap();
    let (block, _) = rest.split_once("\n```").unwrap();
    block.lines().map(str::to_owned).collect()
}

/// A right, as a statement gives it: `GRANT {right} ON {object} TO …`. One statement gives several.
pub(crate) fn rights(statements: &[String]) -> Vec<(String, String)> {
    let mut rights = Vec::new();
    for statement in statements {
        let (given, rest) = statement.split_once(" ON ").unwrap();
        let (objects, _) = rest.split_once(" TO ").unwrap();
        for right in given.strip_prefix("GRANT ").unwrap().split(", ") {
            for object in objects.split(", ") {
                rights.push((right.to_owned(), object.to_owned()));
            }
        }
    }
    assert!(rights.len() > 5, "{rights:?}");
    rights
}

/// Everything that a store is asked for, by the six methods, the authenticator and the leases.
pub(crate) async fn everything<S: TokenStore + Clone>(store: &S) -> Result<()> {
    store.delete_tokens().await?;
    let mut ann = good("ann", "client");
    ann.grant_token = GrantToken::new("1000.grant.ann").ok();
    let id = store.save_token(&ann).await?;
    for query in [
        Some(TokenQuery::user_name(user("ann"))),
        ann.access_token.clone().map(TokenQuery::access_token),
        ann.refresh_token.clone().map(TokenQuery::refresh_token),
        ann.grant_token.clone().map(TokenQuery::grant_token),
    ] {
        assert!(store.find_token(&query.unwrap()).await?.is_some());
    }
    assert_eq!(store.get_tokens().await?.len(), 1);
    assert_eq!(store.get_tokens_page(None, 9).await?.len(), 1);
    assert!(store.find_token_by_id(id).await?.is_some());
    // Two records that turn out to be of one login.
    let mut nameless = good("bob", "client");
    nameless.user_name = None;
    store.save_token(&nameless).await?;
    let mut both = ann.clone();
    both.refresh_token.clone_from(&nameless.refresh_token);
    assert_eq!(store.save_token(&both).await?, id);
    assert_eq!(store.get_tokens().await?.len(), 1);
    leases(store, &CoordinationKey::record(id), &ann).await?;
    assert!(store.delete_token(id).await?);

    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, store.clone());
    let code = GrantToken::new(sandbox.grant_code(&sandbox.people()[0], SCOPES)).unwrap();
    let session = auth
        .session(Credential::grant(client(&sandbox), code))
        .await?;
    expire(store, session.id()).await;
    drop(session);
    let again = authenticator(&sandbox, store.clone());
    let session = again
        .session(store.get_tokens().await?[0].id.unwrap())
        .await?;
    session.access_token().await?;
    session.revoke().await?;
    store.save_token(&ann).await?;
    assert_eq!(store.delete_tokens().await?, 1);
    Ok(())
}

/// One that leaves something, and one that leaves nothing.
async fn leases<S: TokenStore>(store: &S, key: &CoordinationKey, of: &OAuthToken) -> Result<()> {
    let Some(coordination) = store.coordination() else {
        return Ok(());
    };
    let credential = of.refresh_token.as_ref().unwrap().fingerprint();
    let mut memo = Memo::default();
    memo.credential = Some(credential.clone());
    memo.wait_until = Some(in_seconds(60));
    for last in [Some(memo), Some(Memo::default())] {
        let permit = coordination.try_acquire(key).await?;
        let held = || Error::new(ErrorCode::StoreLocked, "nobody else is there");
        let permit = permit.ok_or_else(held)?;
        permit.set_memo(&Memo::default()).await?;
        permit.release(last.as_ref()).await?;
    }
    Ok(())
}
