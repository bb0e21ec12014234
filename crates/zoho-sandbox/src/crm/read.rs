//! Reading records: lists with paging, one record, related, deleted, counts.

use axum::http::{HeaderName, Method, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Call;
use super::reply::{ApiError, Reply, Result};
use super::schema::{Kind, Module};
use super::store::{OrgData, PageToken, Record, text};
use super::validate::id_from;
use crate::clock::{after, iso};
use crate::params::Params;
use crate::random;

/// The most records that pages without a token reach.
const DISCRETE_LIMIT: usize = 2_000;
/// The most records that page tokens reach.
const TOKEN_LIMIT: usize = 100_000;
/// The most names in `fields`.
const FIELDS_LIMIT: usize = 50;
/// Page tokens live for a day.
pub(super) const PAGE_TOKEN_LIFE_S: u64 = 24 * 3600;

pub(super) fn read_scope(call: &Call<'_>, module: &Module) -> Result<()> {
    let target = format!("ZohoCRM.modules.{}", module.api_name);
    call.need(&[&target], "READ")
}

/// `page` and `per_page`, with their defaults of 1 and 200.
pub(super) fn page(params: &Params) -> Result<(usize, usize)> {
    let number = |name: &str, default: usize, most: usize| match params.get(name) {
        None => Ok(default),
        Some(given) => given
            .parse()
            .ok()
            .filter(|value| (1..=most).contains(value))
            .ok_or_else(|| ApiError::invalid_param(name)),
    };
    Ok((
        number("page", 1, usize::MAX / 1000)?,
        number("per_page", 200, 200)?,
    ))
}

/// The parameter `fields`, which lists need.
pub(super) fn fields(params: &Params) -> Result<Vec<&str>> {
    let list = params.get("fields");
    let list = list.ok_or_else(|| ApiError::missing_param("fields"))?;
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    if names.len() > FIELDS_LIMIT {
        return Err(ApiError::limit(FIELDS_LIMIT, "fields"));
    }
    Ok(names)
}

/// `GET /{module}`.
pub(super) fn list(call: &Call<'_>, data: &mut OrgData, module: &Module) -> Result {
    read_scope(call, module)?;
    let names = fields(call.params)?;
    let (sort_by, sort_order) = sorting(call.params)?;
    let since = modified_since(call)?;
    let (page_number, per_page) = page(call.params)?;
    let start = start(call, data, page_number, per_page)?;

    let mut found: Vec<&Record> = match call.params.get("ids") {
        Some(ids) => {
            let ids = ids.split(',').map(|id| id_from(id.trim()));
            let ids: Option<Vec<u64>> = ids.collect();
            let ids = ids.ok_or_else(|| ApiError::invalid_param("ids"))?;
            let found = ids.into_iter().filter_map(|id| data.record(module, id));
            found.collect()
        }
        None => data.records(module).collect(),
    };
    if let Some(since) = since {
        found.retain(|record| instant(text(record, "Modified_Time")) > Some(since));
        if found.is_empty() {
            return Ok(Reply {
                status: 304,
                body: None,
            });
        }
    }
    // Records come in the order of their IDs, and the sort is stable: ties stay in that order.
    if sort_by == "id" {
        found.sort_by_key(|record| text(record, "id").parse::<u64>().unwrap_or_default());
    } else {
        found.sort_by(|one, other| text(one, sort_by).cmp(text(other, sort_by)));
    }
    if sort_order == "desc" {
        found.reverse();
    }
    let total = found.len();
    let shown: Vec<Value> = found
        .into_iter()
        .skip(start.offset)
        .take(per_page)
        .map(|record| pick(record, module, &names))
        .collect();
    if shown.is_empty() {
        return Ok(Reply::nothing());
    }
    let end = start.offset + shown.len();
    let next = (end < total).then(|| {
        let token = random::handle();
        data.page_tokens.insert(
            token.clone(),
            PageToken {
                bound_to: bound_to(call),
                offset: end,
                page: start.page + 1,
                expires_ms: after(call.now, PAGE_TOKEN_LIFE_S),
            },
            call.now,
        );
        token
    });
    let expiry = next
        .as_ref()
        .map(|_| iso(after(call.now, PAGE_TOKEN_LIFE_S)));
    Ok(Reply::ok(json!({
        "info": {
            "per_page": per_page,
            "next_page_token": next,
            "count": shown.len(),
            "sort_by": sort_by,
            "page": start.page,
            "previous_page_token": null,
            "page_token_expiry": expiry,
            "sort_order": sort_order,
            "more_records": next.is_some(),
        },
        "data": shown,
    })))
}

struct Start {
    offset: usize,
    page: usize,
}

/// Where the list starts: by page number, or by a token from an earlier answer.
fn start(call: &Call<'_>, data: &OrgData, page_number: usize, per_page: usize) -> Result<Start> {
    let now = call.now;
    let Some(given) = call.params.get("page_token") else {
        let offset = (page_number - 1) * per_page;
        if offset + per_page > DISCRETE_LIMIT {
            return Err(ApiError::new(
                400,
                "DISCRETE_PAGINATION_LIMIT_EXCEEDED",
                "You can only get the first 2000 records without using page_token param",
            )
            .details(json!({ "limit": DISCRETE_LIMIT })));
        }
        return Ok(Start {
            offset,
            page: page_number,
        });
    };
    if call.params.get("page").is_some() {
        return Err(ApiError::new(
            400,
            "AMBIGUITY_DURING_PROCESSING",
            "page and page_token cannot be given together",
        )
        .details(json!({ "ambiguity_due_to": [
            { "param_name": "page" }, { "param_name": "page_token" },
        ]})));
    }
    let token = data.page_tokens.get(given, now);
    let token = token.filter(|token| token.bound_to == bound_to(call));
    let token = token.ok_or_else(|| {
        ApiError::new(
            400,
            "TOKEN_BOUND_DATA_MISMATCH",
            "The page_token given seems to be invalid or input param is added or altered or deleted",
        )
        .details(json!({ "param_name": "page_token" }))
    })?;
    if token.expires_ms <= now {
        return Err(ApiError::new(400, "EXPIRED_VALUE", "Page token expired")
            .details(json!({ "api_name": "page_token", "json_path": "$.query.page_token" })));
    }
    if token.offset + per_page > TOKEN_LIMIT {
        return Err(ApiError::new(
            400,
            "PAGINATION_LIMIT_EXCEEDED",
            "You can only get upto 100000 records using page_token param",
        )
        .details(json!({ "param_name": "page_token" })));
    }
    Ok(Start {
        offset: token.offset,
        page: token.page,
    })
}

/// What a page token is bound to: the user, and every parameter but the page.
///
/// A digest, so that a token takes the same room whatever the parameters are.
fn bound_to(call: &Call<'_>) -> [u8; 32] {
    let mut bound = format!("{}\n", call.user.id);
    for (name, value) in call.params.sorted() {
        if name != "page" && name != "page_token" {
            bound.push_str(name);
            bound.push('=');
            bound.push_str(value);
            bound.push('\n');
        }
    }
    Sha256::digest(bound).into()
}

fn sorting(params: &Params) -> Result<(&str, &str)> {
    let sort_by = params.get("sort_by").unwrap_or("id");
    let sort_order = params.get("sort_order").unwrap_or("desc");
    if !["id", "Created_Time", "Modified_Time"].contains(&sort_by) {
        return Err(ApiError::invalid_param("sort_by"));
    }
    if !["asc", "desc"].contains(&sort_order) {
        return Err(ApiError::invalid_param("sort_order"));
    }
    Ok((sort_by, sort_order))
}

fn modified_since(call: &Call<'_>) -> Result<Option<OffsetDateTime>> {
    instant_in(call, &header::IF_MODIFIED_SINCE, "If-Modified-Since")
}

/// The date-time in a header, if the header is there.
pub(super) fn instant_in(
    call: &Call<'_>,
    header: &HeaderName,
    name: &str,
) -> Result<Option<OffsetDateTime>> {
    let Some(value) = call.headers.get(header) else {
        return Ok(None);
    };
    match value.to_str().ok().and_then(instant) {
        Some(since) => Ok(Some(since)),
        None => Err(ApiError::invalid_data(json!({ "header_name": name }))),
    }
}

/// A date-time as the API takes it: with `Z`, or an offset as `+00:00`, `+0000` or `+00`.
pub(super) fn instant(text: &str) -> Option<OffsetDateTime> {
    // RFC 3339 wants the colon, which ISO 8601 lets clients leave out.
    let digits = text.rfind(['+', '-']).map_or("", |sign| &text[sign + 1..]);
    let bare = digits.bytes().all(|byte| byte.is_ascii_digit());
    let with_colon = match digits.len() {
        4 if bare => {
            let (rest, minutes) = text.split_at(text.len() - 2);
            &format!("{rest}:{minutes}")
        }
        2 if bare => &format!("{text}:00"),
        _ => text,
    };
    OffsetDateTime::parse(with_colon, &Rfc3339).ok()
}

/// A record with the asked fields only, and its ID. Fields that do not exist are left out.
pub(super) fn pick(record: &Record, module: &Module, names: &[&str]) -> Value {
    let mut picked = Record::new();
    for name in names {
        if let Some(field) = module.field(name) {
            let value = record.get(field.api_name);
            picked.insert(field.api_name.into(), shown(field.kind, value));
        }
    }
    picked.insert("id".into(), record.get("id").cloned().unwrap_or_default());
    Value::Object(picked)
}

/// A record with every field, and the system keys that lists leave out.
pub(super) fn whole(record: &Record, module: &Module) -> Value {
    let names: Vec<&str> = module.fields.iter().map(|field| field.api_name).collect();
    let mut whole = pick(record, module, &names);
    whole["Tag"] = record.get("Tag").cloned().unwrap_or_else(|| json!([]));
    whole["$approval_state"] = "approved".into();
    whole["$editable"] = true.into();
    whole["$in_merge"] = false.into();
    whole
}

/// Pointers to records are shown without address; users with it.
fn shown(kind: Kind, value: Option<&Value>) -> Value {
    match (kind, value) {
        (Kind::Lookup(_), Some(Value::Object(to))) => {
            json!({ "name": to.get("name"), "id": to.get("id") })
        }
        (_, value) => value.cloned().unwrap_or_default(),
    }
}

/// The ID in a path.
pub(super) fn path_id(id: &str, index: usize) -> Result<u64> {
    id_from(id).ok_or_else(|| no_such_record(index))
}

pub(super) fn no_such_record(index: usize) -> ApiError {
    ApiError::new(400, "INVALID_DATA", "the id given seems to be invalid")
        .details(json!({ "resource_path_index": index }))
}

/// `GET /{module}/{id}`. An ID that nobody has is 204; text that is no ID is an error.
pub(super) fn one(call: &Call<'_>, data: &OrgData, module: &Module, id: &str) -> Result {
    read_scope(call, module)?;
    let id = path_id(id, 1)?;
    let Some(record) = data.record(module, id) else {
        return Ok(Reply::nothing());
    };
    let body = match call.params.get("fields") {
        Some(_) => pick(record, module, &fields(call.params)?),
        None => whole(record, module),
    };
    Ok(Reply::ok(json!({ "data": [body] })))
}

/// `GET /{module}/{id}/{related list}`.
pub(super) fn related(
    call: &Call<'_>,
    data: &OrgData,
    module: &Module,
    id: &str,
    list: &str,
) -> Result {
    let lists = module.related.iter();
    let list = lists
        .filter(|known| known.api_name.eq_ignore_ascii_case(list))
        .find_map(|known| Some((known, super::schema::module(known.module)?)));
    let (list, target) = list.ok_or_else(|| {
        ApiError::new(
            400,
            "INVALID_DATA",
            "the related list name given seems to be invalid",
        )
        .details(json!({ "resource_path_index": 2 }))
    })?;
    read_scope(call, module)?;
    read_scope(call, target)?;
    let names = fields(call.params)?;
    let (page_number, per_page) = page(call.params)?;
    let id = path_id(id, 1)?;
    data.record(module, id).ok_or_else(|| no_such_record(1))?;
    let id = id.to_string();
    let found: Vec<&Record> = data
        .records(target)
        .filter(|record| record.get(list.through).is_some_and(|to| to["id"] == *id))
        .collect();
    Ok(list_answer(&found, page_number, per_page, |record| {
        pick(record, target, &names)
    }))
}

/// A page of what was found, with the short `info`; 204 when the page is empty.
pub(super) fn list_answer<T>(
    found: &[T],
    page_number: usize,
    per_page: usize,
    show: impl Fn(&T) -> Value,
) -> Reply {
    let start = (page_number - 1) * per_page;
    let data: Vec<Value> = found.iter().skip(start).take(per_page).map(show).collect();
    if data.is_empty() {
        return Reply::nothing();
    }
    Reply::ok(json!({
        "info": {
            "per_page": per_page,
            "count": data.len(),
            "page": page_number,
            "more_records": found.len() > start + data.len(),
        },
        "data": data,
    }))
}

/// `GET /{module}/deleted`. Everything deleted here stays in the recycle bin.
pub(super) fn deleted(call: &Call<'_>, data: &OrgData, module: &Module) -> Result {
    call.only(&Method::GET)?;
    read_scope(call, module)?;
    let (page_number, per_page) = page(call.params)?;
    let all: Vec<_> = match call.params.get("type") {
        None | Some("all" | "recycle") => {
            let ours = data.deleted.iter().rev();
            ours.filter(|gone| gone.module == module.api_name).collect()
        }
        Some("permanent") => Vec::new(),
        Some(_) => return Err(ApiError::invalid_param("type")),
    };
    Ok(list_answer(&all, page_number, per_page, |gone| {
        json!({
            "id": gone.id.to_string(),
            "display_name": gone.display_name,
            "type": "recycle",
            "deleted_by": gone.by,
            "created_by": { "name": gone.created_by["name"], "id": gone.created_by["id"] },
            "deleted_time": iso(gone.at_ms),
        })
    }))
}

/// `GET /{module}/actions/count`.
pub(super) fn count(call: &Call<'_>, data: &OrgData, module: &Module) -> Result {
    read_scope(call, module)?;
    Ok(Reply::ok(json!({ "count": data.records(module).count() })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_date_time_or_none(
            texts in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{0,12})?([+-][0-9:]{0,6}|Z)",
                ],
                2,
            ),
        ) {
            let read: Vec<_> = texts.iter().filter_map(|text| instant(text)).collect();
            if let [one, other] = read.as_slice() {
                prop_assert_eq!(one.cmp(other), other.cmp(one).reverse());
            }
        }

        #[test]
        fn the_colon_of_an_offset_may_be_missing(
            year in 0..=9999_u32,
            hours in 0..24_u32,
            minutes in 0..60_u32,
            sign in prop::sample::select(&["+", "-"][..]),
        ) {
            let at = |offset: String| instant(&format!("{year:04}-06-15T12:00:00{sign}{offset}"));
            let with = at(format!("{hours:02}:{minutes:02}"));
            prop_assert!(with.is_some());
            prop_assert_eq!(at(format!("{hours:02}{minutes:02}")), with);
            if minutes == 0 {
                prop_assert_eq!(at(format!("{hours:02}")), with);
            }
        }
    }
}
