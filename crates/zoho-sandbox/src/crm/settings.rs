//! Metadata: modules, fields and related lists, with what the official SDKs read of them.

use axum::http::Method;
use serde_json::{Value, json};

use super::Call;
use super::reply::{ApiError, Reply, Result};
use super::schema::{self, Field, Kind, MODULES, Module};
use super::store::{EPOCH_MS, OrgData};
use crate::clock::iso;

/// `GET /settings/modules`.
pub(super) fn modules(call: &Call<'_>, data: &OrgData) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.settings.modules"], "READ")?;
    let modules: Vec<Value> = MODULES
        .iter()
        .map(|module| module_body(data, module))
        .collect();
    Ok(Reply::ok(json!({ "modules": modules })))
}

/// `GET /settings/modules/{api name or ID}`.
pub(super) fn module(call: &Call<'_>, data: &OrgData, name: &str) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.settings.modules"], "READ")?;
    let found = MODULES.iter().find(|module| {
        module.api_name.eq_ignore_ascii_case(name) || module_id(data, module) == name
    });
    let module = found
        .ok_or_else(|| ApiError::no_such_module().details(json!({ "resource_path_index": 2 })))?;
    Ok(Reply::ok(json!({ "modules": [module_body(data, module)] })))
}

fn module_id(data: &OrgData, module: &Module) -> String {
    data.fixed_id(101 + schema::position(module))
}

fn field_id(data: &OrgData, module: &Module, at: usize) -> String {
    data.fixed_id(2001 + schema::position(module) * 200 + at as u64)
}

fn profiles(data: &OrgData) -> Value {
    json!([
        { "name": "Administrator", "id": data.fixed_id(31) },
        { "name": "Standard", "id": data.fixed_id(32) },
    ])
}

fn module_body(data: &OrgData, module: &Module) -> Value {
    json!({
        "id": module_id(data, module),
        "api_name": module.api_name,
        "module_name": module.api_name,
        "singular_label": module.singular,
        "plural_label": module.api_name,
        "actual_singular_label": module.singular,
        "actual_plural_label": module.api_name,
        "api_supported": true,
        "creatable": true,
        "editable": true,
        "deletable": true,
        "viewable": true,
        "visible": true,
        "convertable": module.api_name == "Leads",
        "generated_type": "default",
        "access_type": "org_based",
        "status": "visible",
        "visibility": 1,
        "profiles": profiles(data),
        "parent_module": {},
        "modified_time": null,
        "modified_by": null,
        "sequence_number": schema::position(module) + 1,
        "business_card_field_limit": 5,
        "profile_count": 2,
        "quick_create": true,
        "global_search_supported": true,
        "presence_sub_menu": true,
        "show_as_tab": true,
        "triggers_supported": true,
        "feeds_required": false,
        "scoring_supported": true,
        "webform_supported": true,
        "email_template_support": true,
        "isBlueprintSupported": true,
        "inventory_template_supported": false,
        "has_more_profiles": false,
        "lookupable": true,
        "chart_view_supported": true,
        "private_profile": null,
        "arguments": [],
        "properties": [],
    })
}

/// The parameter `module`, which metadata of a module needs.
fn module_of(call: &Call<'_>) -> Result<&'static Module> {
    let name = call.params.get("module");
    let name = name.ok_or_else(|| ApiError::missing_param("module"))?;
    schema::module(name)
        .ok_or_else(|| ApiError::no_such_module().details(json!({ "param_name": "module" })))
}

/// `GET /settings/fields?module=…`.
pub(super) fn fields(call: &Call<'_>, data: &OrgData) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.settings.fields"], "READ")?;
    let module = module_of(call)?;
    let fields: Vec<Value> = module
        .fields
        .iter()
        .enumerate()
        .map(|(at, field)| field_body(data, module, at, field))
        .collect();
    Ok(Reply::ok(json!({ "fields": fields })))
}

/// `GET /settings/fields/{id}?module=…`.
pub(super) fn field(call: &Call<'_>, data: &OrgData, id: &str) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.settings.fields"], "READ")?;
    let module = module_of(call)?;
    let mut fields = module.fields.iter().enumerate();
    Ok(
        match fields.find(|(at, _)| field_id(data, module, *at) == id) {
            Some((at, field)) => {
                Reply::ok(json!({ "fields": [field_body(data, module, at, field)] }))
            }
            None => Reply::nothing(),
        },
    )
}

fn field_body(data: &OrgData, module: &Module, at: usize, field: &Field) -> Value {
    let id = field_id(data, module, at);
    let writable = !field.read_only;
    let lookup = match field.kind {
        Kind::Lookup(target) => {
            let target_id = schema::module(target).map(|module| module_id(data, module));
            json!({
                "display_label": module.api_name,
                "api_name": field.api_name,
                "id": id,
                "module": { "api_name": target, "id": target_id },
                "query_details": {},
                "revalidate_filter_during_edit": false,
            })
        }
        _ => json!({}),
    };
    json!({
        "id": id,
        "api_name": field.api_name,
        "field_label": field.label,
        "display_label": field.label,
        "data_type": field.kind.data_type(),
        "json_type": field.kind.json_type(),
        "length": field.length,
        "decimal_place": if field.kind == Kind::Currency { Some(2) } else { None },
        "system_mandatory": field.mandatory,
        "custom_field": field.custom,
        "read_only": field.read_only,
        "field_read_only": field.read_only,
        "visible": true,
        "searchable": true,
        "sortable": true,
        "filterable": true,
        "mass_update": writable,
        "pick_list_values": pick_list(data, module, at, field),
        "pick_list_values_sorted_lexically": false,
        "lookup": lookup,
        "multiselectlookup": {},
        "multiuserlookup": {},
        "multi_module_lookup": {},
        "associated_module": null,
        "subform": null,
        "unique": if field.unique { json!({ "casesensitive": "false" }) } else { json!({}) },
        "currency": if field.kind == Kind::Currency {
            json!({ "rounding_option": "normal", "precision": 2 })
        } else {
            json!({})
        },
        "formula": {},
        "auto_number": {},
        "rollup_summary": {},
        "external": null,
        "operation_type": {
            "web_create": writable,
            "web_update": writable,
            "api_create": writable,
            "api_update": writable,
        },
        "view_type": { "view": true, "edit": writable, "create": writable, "quick_create": field.mandatory || field.layout_mandatory },
        "profiles": [
            { "name": "Administrator", "id": data.fixed_id(31), "permission_type": "read_write" },
            { "name": "Standard", "id": data.fixed_id(32), "permission_type": "read_write" },
        ],
        "convert_mapping": null,
        "created_time": if field.custom { Some(iso(EPOCH_MS)) } else { None },
        "modified_time": null,
        "ui_type": 1,
        "display_type": -1,
        "column_name": field.api_name.to_uppercase(),
        "type": "used",
        "created_source": "default",
        "history_tracking": null,
        "businesscard_supported": true,
        "webhook": true,
        "virtual_field": false,
        "tooltip": null,
        "private": null,
        "default_value": null,
        "layout_associations": [],
    })
}

fn pick_list(data: &OrgData, module: &Module, at: usize, field: &Field) -> Value {
    let Kind::Picklist(choices) = field.kind else {
        return json!([]);
    };
    let base = 20_000 + (schema::position(module) * 200 + at as u64) * 20;
    let values = choices.iter().enumerate().map(|(position, choice)| {
        json!({
            "id": data.fixed_id(base + position as u64),
            "display_value": choice,
            "actual_value": choice,
            "reference_value": choice,
            "sequence_number": position + 1,
            "colour_code": null,
            "type": "used",
        })
    });
    Value::Array(values.collect())
}

/// `GET /settings/related_lists?module=…`.
pub(super) fn related_lists(call: &Call<'_>, data: &OrgData) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.settings.related_lists"], "READ")?;
    let module = module_of(call)?;
    let lists: Vec<Value> = module
        .related
        .iter()
        .enumerate()
        .map(|(at, list)| {
            let target_id = schema::module(list.module).map(|module| module_id(data, module));
            json!({
                "id": data.fixed_id(4001 + schema::position(module) * 20 + at as u64),
                "api_name": list.api_name,
                "name": list.api_name,
                "display_label": list.api_name,
                "module": { "api_name": list.module, "id": target_id },
                "sequence_number": (at + 1).to_string(),
                "type": "default",
                "action": null,
                "href": format!("{}/{{ENTITYID}}/{}", module.api_name, list.api_name),
                "connectedmodule": null,
                "linkingmodule": null,
                "visible": true,
                "customize_sort": true,
                "customize_fields": true,
                "customize_display_label": true,
            })
        })
        .collect();
    if lists.is_empty() {
        return Ok(Reply::nothing());
    }
    Ok(Reply::ok(json!({ "related_lists": lists })))
}
