//! The organisation.

use crate::call::Call;
use crate::client::ZohoCrm;
use crate::error::Result;
use crate::resource::resource;
use crate::users::first;
use crate::value::RecordId;

resource! {
    /// The organisation that a user belongs to.
    Organization {
        /// Returns the id.
        id = "id": RecordId;
        /// Returns the number by which Zoho knows the organisation, across its products.
        zgid = "zgid": String;
        /// Returns the company's name.
        company_name = "company_name": String;
        /// Returns the email address of its first administrator.
        primary_email = "primary_email": String;
        /// Returns `production`, `sandbox`, `developer` or `bigin`.
        kind = "type": String;
        /// Returns the name in the address bar.
        domain_name = "domain_name": String;
        /// Returns the home currency as ISO 4217 code.
        iso_code = "iso_code": String;
        /// Returns the time zone.
        time_zone = "time_zone": String;
    }
}

/// The organisation. Made by [`ZohoCrm::org`]. Scope: `ZohoCRM.org.READ`.
#[derive(Clone, Debug)]
pub struct Org {
    crm: ZohoCrm,
}

impl Org {
    pub(crate) fn new(crm: &ZohoCrm) -> Self {
        Self { crm: crm.clone() }
    }

    /// Fetches the organisation; `None` when the CRM answers with nothing.
    ///
    /// # Errors
    /// Those of every read; `scope_mismatch` most of all.
    pub async fn get(&self) -> Result<Option<Organization>> {
        first(&self.crm, &Call::get("org")).await
    }
}
