//! The name of a user whom the store does not know yet, asked from the CRM.
//!
//! The official SDKs name a token `<email>:<zgid>`: the address of the current user and the number
//! of the organisation. So do we, so that they recognise each other's records. They ask while
//! saving the token; here the token is saved long before, and the name is added.

use std::sync::Arc;

use zoho_oauth::{Authenticator, Credential, ListStore, OAuthToken, Session, UserName};

use crate::client::{Shared, ZohoCrm};
use crate::error::{Error, ErrorCode, Result};
use crate::http::CheckedDomains;

/// Asks for the user and the organisation, and saves the name; returns the session that has it.
///
/// That may be another record's: the one under which the same person logged in before.
pub(crate) async fn find_user(crm: &ZohoCrm) -> Result<Session> {
    let name = name_of_user(crm).await?;
    Ok(crm.session().set_user_name(name).await?)
}

/// Starts the session of a user.
///
/// Zoho sends a refresh token at a person's first consent only. One who comes back without it is
/// asked for by name, with the access token that Zoho did send: the login then joins the stored one.
pub(crate) async fn log_in(shared: &Arc<Shared>, credential: Credential) -> Result<Session> {
    let error = match shared.authenticator.session(credential).await {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    let is_nameless = |token: &&OAuthToken| token.user_name.is_none();
    let returned = error.unsaved_token().filter(is_nameless).filter(|_| {
        error.code() == zoho_oauth::ErrorCode::RefreshTokenMissing && shared.options.find_user
    });
    let Some(mut login) = returned.cloned() else {
        return Err(error.into());
    };
    match name_of_login(shared, &login).await {
        Ok(name) => login.user_name = Some(name),
        Err(cause) => {
            let code = cause.code().as_str();
            tracing::warn!(
                code,
                "the name of a user who logged in again could not be found out"
            );
            return Err(error.into());
        }
    }
    Ok(shared.authenticator.save_login(login).await?)
}

/// Asks for the user and the organisation of a login that is not stored.
async fn name_of_login(shared: &Shared, login: &OAuthToken) -> Result<UserName> {
    let missing = || Error::invalid_input("the login holds no access token");
    let token = login.access_token.clone().ok_or_else(missing)?;
    let mut credential = Credential::access(token);
    if let Some(domain) = &login.api_domain {
        credential = credential.api_domain(domain);
    }
    let guest = Authenticator::builder(ListStore::new())
        .data_centers(shared.options.data_centers.clone())
        .data_center(shared.options.target.data_center().clone())
        .build()?;
    let session = guest.session(credential).await?;
    let shared = Shared {
        authenticator: guest,
        http: shared.http.clone(),
        options: shared.options.clone(),
        domains: CheckedDomains::default(),
        permits: shared.permits.clone(),
    };
    name_of_user(&ZohoCrm::handle(Arc::new(shared), session, None)).await
}

async fn name_of_user(crm: &ZohoCrm) -> Result<UserName> {
    let missing = |what: &str| {
        let text = format!("the CRM did not tell {what} of the current user");
        Error::new(ErrorCode::UnexpectedAnswer, text)
    };
    let user = crm.users().current().await?;
    let email = user.and_then(|user| user.email());
    let email = email.ok_or_else(|| missing("the email address"))?;
    let org = crm.org().get().await?;
    let zgid = org.and_then(|org| org.zgid());
    let zgid = zgid.ok_or_else(|| missing("the organisation"))?;
    Ok(UserName::new(format!("{email}:{zgid}"))?)
}
