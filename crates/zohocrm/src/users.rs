//! The users of the organisation.

use crate::call::Call;
use crate::client::ZohoCrm;
use crate::error::{Error, Result};
use crate::http;
use crate::page::{Listing, Page, Pages};
use crate::resource::{Named, resource};
use crate::value::RecordId;

resource! {
    /// A user of the organisation.
    User {
        /// Returns the id.
        id = "id": RecordId;
        /// Returns the email address.
        email = "email": String;
        /// Returns first and last name.
        full_name = "full_name": String;
        /// Returns the first name.
        first_name = "first_name": String;
        /// Returns the last name.
        last_name = "last_name": String;
        /// Returns the id of the person at Zoho, across all organisations.
        zuid = "zuid": String;
        /// Returns the state: `active`, `disabled`, …
        status = "status": String;
        /// Returns whether the person has accepted the invitation.
        confirmed = "confirm": bool;
        /// Returns the role.
        role = "role": Named;
        /// Returns the profile.
        profile = "profile": Named;
        /// Returns the time zone, such as `Europe/Berlin`.
        time_zone = "time_zone": String;
        /// Returns the locale, such as `de_DE`.
        locale = "locale": String;
    }
}

/// Which users a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UserType {
    /// All of them.
    All,
    /// Those who can log in.
    Active,
    /// Those who cannot any more.
    Deactivated,
    /// Those who were deleted.
    Deleted,
    /// Those who have the profile Administrator.
    Admin,
    /// The one whose token is used.
    Current,
}

impl UserType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::All => "AllUsers",
            Self::Active => "ActiveUsers",
            Self::Deactivated => "DeactiveUsers",
            Self::Deleted => "DeletedUsers",
            Self::Admin => "AdminUsers",
            Self::Current => "CurrentUser",
        }
    }
}

/// The users of the organisation. Made by [`ZohoCrm::users`]. Scope: `ZohoCRM.users.READ`.
#[derive(Clone, Debug)]
pub struct Users {
    crm: ZohoCrm,
}

impl Users {
    pub(crate) fn new(crm: &ZohoCrm) -> Self {
        Self { crm: crm.clone() }
    }

    /// Fetches the user whose token this is; `None` when the CRM answers with nobody.
    ///
    /// # Errors
    /// Those of every read; `scope_mismatch` most of all.
    pub async fn current(&self) -> Result<Option<User>> {
        let mut call = Call::get("users");
        call.set_query("type", UserType::Current.as_str());
        first(&self.crm, &call).await
    }

    /// Fetches one user; `None` when there is none with this id.
    ///
    /// # Errors
    /// Those of every read.
    pub async fn get<I>(&self, id: I) -> Result<Option<User>>
    where
        I: TryInto<RecordId, Error: Into<Error>>,
    {
        let id = id.try_into().map_err(Into::into)?;
        first(&self.crm, &Call::get(&format!("users/{id}"))).await
    }

    /// Starts a list of users.
    pub fn list(&self) -> ListUsers {
        ListUsers {
            crm: self.crm.clone(),
            call: Call::get("users"),
        }
    }
}

/// A list of users in the making. Made by [`Users::list`].
#[derive(Clone)]
#[must_use = "nothing is sent until `send` is called"]
pub struct ListUsers {
    crm: ZohoCrm,
    call: Call,
}

impl ListUsers {
    /// Asks for users of one kind only.
    pub fn of_type(mut self, kind: UserType) -> Self {
        self.call.set_query("type", kind.as_str());
        self
    }

    /// Asks for this page, counted from 1.
    pub fn page(mut self, page: u32) -> Self {
        self.call.set_query("page", page.to_string());
        self
    }

    /// Asks for at most this many users: 200 by default, which is the maximum.
    pub fn per_page(mut self, count: u32) -> Self {
        self.call.set_query("per_page", count.to_string());
        self
    }

    /// Fetches the page.
    ///
    /// # Errors
    /// Those of every read.
    pub async fn send(self) -> Result<Page<User>> {
        Page::fetch(&self.crm, self.call).await
    }

    /// Returns all users from here on, page after page.
    pub fn stream(self) -> Pages<User> {
        Pages::starting(&self.crm, Ok(self.call))
    }
}

impl std::fmt::Debug for ListUsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ListUsers({})", self.call)
    }
}

/// Fetches a list and returns its first item.
pub(crate) async fn first<T: serde::de::DeserializeOwned>(
    crm: &ZohoCrm,
    call: &Call,
) -> Result<Option<T>> {
    let listing: Option<Listing<T>> = http::fetch(crm, call).await?;
    Ok(listing.and_then(|listing| listing.data.into_iter().next()))
}
