//! The name of a user whom the store does not know yet, asked from the CRM.
//!
//! The official SDKs name a token `<email>:<zgid>`: the address of the current user and the number
//! of the organisation. So do we, so that they recognise each other's records. They ask while
//! saving the token; here the token is saved long before, and the name is added.

use zoho_oauth::{Session, UserName};

use crate::client::ZohoCrm;
use crate::error::{Error, ErrorCode, Result};

/// Asks for the user and the organisation, and saves the name; returns the session that has it.
///
/// That may be another record's: the one under which the same person logged in before.
pub(crate) async fn find_user(crm: &ZohoCrm) -> Result<Session> {
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
    let name = UserName::new(format!("{email}:{zgid}"))?;
    Ok(crm.session().set_user_name(name).await?)
}
