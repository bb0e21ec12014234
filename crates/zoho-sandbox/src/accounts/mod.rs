//! The accounts server: the authorization page, tokens, revocation, and who the user is.

mod authorize;
mod identity;
mod pages;
mod revoke;
mod token;

use axum::Router;
use axum::routing::{any, get, post};

use crate::server::Context;

pub(crate) use authorize::{AuthorizeRequest, PENDING_LIFE_S, Pending, decide};
pub(crate) use token::throttled;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/", get(pages::home))
        .route("/oauth/v2/auth", get(authorize::open).post(token::answer))
        .route("/oauth/v2/auth/signin", post(authorize::sign_in))
        .route("/oauth/v2/auth/consent", post(authorize::consent))
        .route("/oauth/v2/token", any(token::answer))
        .route("/oauth/v2/token/revoke", any(revoke::by_token))
        .route("/oauth/v2/revoke/token", any(revoke::by_client))
        .route("/oauth/user/info", get(identity::user_info))
        .route("/oauth/serverinfo", get(identity::server_info))
}
