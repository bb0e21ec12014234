//! `GET /users` and `GET /org`.

use axum::http::Method;
use serde_json::{Value, json};

use super::reply::{ApiError, Reply, Result};
use super::store::{EPOCH_MS, OrgData, User};
use super::{Call, read};
use crate::clock::iso;

/// `GET /users?type=…`. The types that ask for disabled, deleted or unconfirmed users find
/// nobody: everybody in the sandbox is active.
pub(super) fn users(call: &Call<'_>, data: &OrgData) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.users"], "READ")?;
    let kind = call.params.get("type").unwrap_or("AllUsers");
    let users: Vec<&User> = match kind {
        "CurrentUser" => vec![&call.user],
        "AllUsers" | "ActiveUsers" | "ActiveConfirmedUsers" => data.users.iter().collect(),
        "AdminUsers" | "ActiveConfirmedAdmins" => data
            .users
            .iter()
            .filter(|user| user.administrator)
            .collect(),
        "DeactiveUsers" | "ConfirmedUsers" | "NotConfirmedUsers" | "DeletedUsers" => {
            if kind == "ConfirmedUsers" {
                data.users.iter().collect()
            } else {
                Vec::new()
            }
        }
        _ => return Err(ApiError::invalid_param("type")),
    };
    let (page, per_page) = read::page(call.params)?;
    let start = (page - 1) * per_page;
    let shown: Vec<Value> = users
        .iter()
        .skip(start)
        .take(per_page)
        .map(|user| body(data, user))
        .collect();
    if shown.is_empty() {
        return Ok(Reply::nothing());
    }
    Ok(Reply::ok(json!({
        "info": {
            "per_page": per_page,
            "count": shown.len(),
            "page": page,
            "more_records": users.len() > start + shown.len(),
        },
        "users": shown,
    })))
}

/// `GET /users/{id}`.
pub(super) fn user(call: &Call<'_>, data: &OrgData, id: &str) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.users"], "READ")?;
    Ok(match data.user_by_id(read::path_id(id, 1)?) {
        Some(user) => Reply::ok(json!({ "users": [body(data, user)] })),
        None => Reply::nothing(),
    })
}

/// `GET /users/actions/count`.
pub(super) fn users_count(call: &Call<'_>, data: &OrgData) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.users"], "READ")?;
    Ok(Reply::ok(json!({ "count": data.users.len() })))
}

fn body(data: &OrgData, user: &User) -> Value {
    let admin = user.administrator;
    let role = json!({
        "name": if admin { "CEO" } else { "Manager" },
        "id": data.fixed_id(if admin { 21 } else { 22 }),
    });
    let profile = json!({
        "name": if admin { "Administrator" } else { "Standard" },
        "id": data.fixed_id(if admin { 31 } else { 32 }),
    });
    let creator = data.users.first().unwrap_or(user).short_reference();
    json!({
        "id": user.id.to_string(),
        "email": user.email,
        "full_name": user.full_name,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "zuid": user.zuid.to_string(),
        "status": "active",
        "confirm": true,
        "role": role,
        "profile": profile,
        "locale": "en_GB",
        "language": "en_GB",
        "country_locale": "en_GB",
        "date_format": "dd/MM/yyyy",
        "time_format": "HH:mm",
        "time_zone": "Etc/UTC",
        "decimal_separator": "Period",
        "number_separator": "Comma",
        "created_time": iso(EPOCH_MS),
        "Modified_Time": iso(EPOCH_MS),
        "created_by": creator,
        "Modified_By": creator,
        "Reporting_To": null,
        "type__s": "Regular User",
        "$current_shift": null,
        "$next_shift": null,
        "$shift_effective_from": null,
        "microsoft": false,
        "sandboxDeveloper": false,
        "alias": null,
        "phone": null,
        "image_link": null,
        "personal_account": false,
    })
}

/// `GET /org`.
pub(super) fn organisation(call: &Call<'_>, data: &OrgData) -> Result {
    call.only(&Method::GET)?;
    call.need(&["ZohoCRM.org"], "READ")?;
    let first = data.users.first();
    let (currency, symbol, iso_code) = if data.center == "us" {
        ("US Dollar", "$", "USD")
    } else {
        ("Euro", "€", "EUR")
    };
    Ok(Reply::ok(json!({ "org": [{
        "id": data.fixed_id(1),
        "zgid": data.zgid.to_string(),
        "ezgid": format!("ez{}", data.zgid),
        "company_name": data.name,
        "alias": null,
        "primary_email": first.map(|user| user.email.as_str()),
        "primary_zuid": first.map(|user| user.zuid.to_string()),
        "type": "production",
        "domain_name": format!("org{}", data.zgid),
        "currency": currency,
        "currency_symbol": symbol,
        "currency_locale": "en_GB",
        "iso_code": iso_code,
        "time_zone": "Etc/UTC",
        "country_code": "GB",
        "country": "United Kingdom",
        "city": "Northlight Quay",
        "street": "1 Harbour Walk",
        "state": null,
        "zip": null,
        "phone": null,
        "mobile": null,
        "fax": null,
        "website": "https://academy.example.com",
        "employee_count": data.users.len().to_string(),
        "description": null,
        "photo_id": null,
        "logo_id": null,
        "max_per_page": 200,
        "license_details": {
            "paid": true,
            "paid_type": "enterprise",
            "paid_expiry": null,
            "trial_type": null,
            "trial_expiry": null,
            "trial_action": null,
            "users_license_purchased": 10,
            "portal_users_license_purchased": 0,
        },
        "hierarchy_preferences": { "type": "Role_Hierarchy", "strictly_reporting": false },
        "privacy_settings": false,
        "oauth_presence": true,
        "mc_status": false,
        "gapps_enabled": false,
        "translation_enabled": false,
        "zia_portal_id": null,
        "created_time": iso(EPOCH_MS),
    }]})))
}
