//! What an organisation has made of its CRM: modules and their fields.

use crate::call::{Call, api_name};
use crate::client::ZohoCrm;
use crate::error::Result;
use crate::http;
use crate::page::Listing;
use crate::resource::resource;
use crate::users::first;
use crate::value::RecordId;

resource! {
    /// A module: a kind of record.
    Module {
        /// Returns the id.
        id = "id": RecordId;
        /// Returns the name that calls use, such as `Leads`.
        api_name = "api_name": String;
        /// Returns the name that people see, for one record.
        singular_label = "singular_label": String;
        /// Returns the name that people see, for several records.
        plural_label = "plural_label": String;
        /// Returns whether the API knows the module at all.
        api_supported = "api_supported": bool;
        /// Returns whether records can be created.
        creatable = "creatable": bool;
        /// Returns whether records can be changed.
        editable = "editable": bool;
        /// Returns whether records can be deleted.
        deletable = "deletable": bool;
        /// Returns where the module comes from: `default`, `custom`, …
        generated_type = "generated_type": String;
    }
}

resource! {
    /// A field of a module.
    Field {
        /// Returns the id.
        id = "id": RecordId;
        /// Returns the name that calls use, such as `Last_Name`.
        api_name = "api_name": String;
        /// Returns the name that people see.
        field_label = "field_label": String;
        /// Returns the CRM's type: `text`, `picklist`, `lookup`, `datetime`, …
        data_type = "data_type": String;
        /// Returns the JSON type: `string`, `integer`, `jsonobject`, …
        json_type = "json_type": String;
        /// Returns the longest value, in characters.
        length = "length": u32;
        /// Returns whether every record must have it.
        mandatory = "system_mandatory": bool;
        /// Returns whether the organisation added it.
        custom = "custom_field": bool;
        /// Returns whether it cannot be written.
        read_only = "read_only": bool;
    }
}

/// The modules of the organisation. Made by [`ZohoCrm::modules`]. Scope:
/// `ZohoCRM.settings.modules.READ`.
#[derive(Clone, Debug)]
pub struct Modules {
    crm: ZohoCrm,
}

impl Modules {
    pub(crate) fn new(crm: &ZohoCrm) -> Self {
        Self { crm: crm.clone() }
    }

    /// Fetches all modules.
    ///
    /// # Errors
    /// Those of every read.
    pub async fn list(&self) -> Result<Vec<Module>> {
        all(&self.crm, &Call::get("settings/modules")).await
    }

    /// Fetches one module by its API name; `None` when the CRM answers with nothing.
    ///
    /// # Errors
    /// Those of every read; `refused` or `not_found` for a module that does not exist.
    pub async fn get(&self, name: &str) -> Result<Option<Module>> {
        let path = format!("settings/modules/{}", api_name("module", name)?);
        first(&self.crm, &Call::get(&path)).await
    }
}

/// The fields of a module. Made by [`ZohoCrm::fields`]. Scope: `ZohoCRM.settings.fields.READ`.
#[derive(Clone, Debug)]
pub struct Fields {
    crm: ZohoCrm,
    module: String,
}

impl Fields {
    pub(crate) fn new(crm: &ZohoCrm, module: String) -> Self {
        Self {
            crm: crm.clone(),
            module,
        }
    }

    /// Fetches all fields of the module.
    ///
    /// # Errors
    /// Those of every read; `refused` for a module that does not exist.
    pub async fn list(&self) -> Result<Vec<Field>> {
        let mut call = Call::get("settings/fields");
        call.set_query("module", api_name("module", &self.module)?);
        all(&self.crm, &call).await
    }
}

async fn all<T: serde::de::DeserializeOwned>(crm: &ZohoCrm, call: &Call) -> Result<Vec<T>> {
    let listing: Option<Listing<T>> = http::fetch(crm, call).await?;
    Ok(listing.map_or_else(Vec::new, |listing| listing.data))
}
