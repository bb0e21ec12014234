//! A client for the Zoho CRM API, version 8, that logs in once and never asks for a token again.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api_error;
mod builder;
mod call;
mod client;
mod coql;
mod error;
mod find_user;
mod http;
mod org;
mod page;
mod record;
pub mod records;
mod request;
mod resource;
mod settings;
mod users;
mod value;

pub use zoho_oauth as oauth;

pub use api_error::ApiError;
pub use builder::ZohoCrmBuilder;
pub use call::Method;
pub use client::{ApiDomain, Target, ZohoCrm};
pub use coql::{Coql, Rows};
pub use error::{Error, ErrorCode, ErrorKind, Result};
pub use http::RetryPolicy;
pub use org::{Org, Organization};
pub use page::{Page, PageInfo, Pages};
pub use record::Record;
pub use records::{Records, WriteResult, Written};
pub use request::{Request, Response};
pub use resource::Named;
pub use settings::{Field, Fields, Module, Modules};
pub use users::{ListUsers, User, UserType, Users};
pub use value::RecordId;
