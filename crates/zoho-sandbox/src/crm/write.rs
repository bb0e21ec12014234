//! Writing records: create, update, upsert, delete, with one answer per record.

use axum::http::header;
use serde_json::{Value, json};

use super::Call;
use super::read::{self, no_such_record, path_id};
use super::reply::{ApiError, Reply, Result};
use super::schema::{Field, Module};
use super::store::{OrgData, Record, text};
use super::validate::{Checker, Purpose, holders, id_from, id_of};

/// The most records in one write.
const RECORDS_LIMIT: usize = 100;

fn write_scope(call: &Call<'_>, module: &Module, operation: &str) -> Result<()> {
    let target = format!("ZohoCRM.modules.{}", module.api_name);
    call.need(&[&target], operation)
}

/// The records of a request.
fn records(call: &Call<'_>) -> Result<(Vec<Value>, Record)> {
    let mut body = call.json()?;
    let records = match body.remove("data") {
        Some(Value::Array(records)) => records,
        Some(_) => {
            return Err(ApiError::invalid_data(
                json!({ "api_name": "data", "json_path": "$.data", "expected_data_type": "jsonarray" }),
            ));
        }
        None => {
            return Err(
                ApiError::new(400, "MANDATORY_NOT_FOUND", "required field not found")
                    .details(json!({ "api_name": "data", "json_path": "$.data" })),
            );
        }
    };
    if records.is_empty() {
        return Err(ApiError::invalid_data(
            json!({ "api_name": "data", "json_path": "$.data" }),
        ));
    }
    if records.len() > RECORDS_LIMIT {
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", "limit exceeded").details(
            json!({ "maximum_length": RECORDS_LIMIT, "api_name": "data", "json_path": "$.data" }),
        ));
    }
    Ok((records, body))
}

fn object(value: &Value, index: usize) -> Result<&Record> {
    value.as_object().ok_or_else(|| {
        ApiError::invalid_data(
            json!({ "json_path": format!("$.data[{index}]"), "expected_data_type": "jsonobject" }),
        )
    })
}

/// One answer per record, in their order. The status: `all_good` when every write succeeded,
/// 207 when some did, the refusals' own when none did.
fn answer(items: Vec<Result<Value>>, all_good: u16) -> Reply {
    let refused = items.iter().filter_map(|item| item.as_ref().err());
    let refusals: Vec<u16> = refused.map(|error| error.status).collect();
    let status = match refusals.as_slice() {
        [] => all_good,
        [first, ..] if refusals.len() == items.len() => *first,
        _ => 207,
    };
    let items: Vec<Value> = items
        .into_iter()
        .map(|item| item.unwrap_or_else(|error| error.envelope()))
        .collect();
    Reply::with(status, json!({ "data": items }))
}

fn success(data: &OrgData, module: &Module, id: u64, message: &str) -> Value {
    let record = data.record(module, id);
    let get = |key: &str| {
        record
            .and_then(|record| record.get(key))
            .cloned()
            .unwrap_or_default()
    };
    let user = |key: &str| {
        let user = get(key);
        json!({ "name": user["name"], "id": user["id"] })
    };
    json!({
        "code": "SUCCESS",
        "details": {
            "Modified_Time": get("Modified_Time"),
            "Modified_By": user("Modified_By"),
            "Created_Time": get("Created_Time"),
            "id": id.to_string(),
            "Created_By": user("Created_By"),
            "$approval_state": "approved",
        },
        "message": message,
        "status": "success",
    })
}

/// `POST /{module}`.
pub(super) fn create(call: &Call<'_>, data: &mut OrgData, module: &'static Module) -> Result {
    write_scope(call, module, "CREATE")?;
    let (records, _) = records(call)?;
    let mut items = Vec::new();
    for (index, given) in records.iter().enumerate() {
        items.push(create_one(call, data, module, index, given));
    }
    Ok(answer(items, 201))
}

fn create_one(
    call: &Call<'_>,
    data: &mut OrgData,
    module: &'static Module,
    index: usize,
    given: &Value,
) -> Result<Value> {
    let fields = Checker {
        data,
        module,
        purpose: Purpose::Create,
        index,
        own_id: None,
        refuse_unknown: call.refuse_unknown_fields,
        require_layout_fields: call.require_layout_fields,
    }
    .check(object(given, index)?)?;
    let id = data.insert(module, fields, &call.user, call.now);
    Ok(success(data, module, id, "record added"))
}

/// `PUT /{module}`: each record brings its ID.
pub(super) fn update_many(call: &Call<'_>, data: &mut OrgData, module: &'static Module) -> Result {
    write_scope(call, module, "UPDATE")?;
    let (records, _) = records(call)?;
    let mut items = Vec::new();
    for (index, given) in records.iter().enumerate() {
        let id = given.get("id").ok_or_else(|| {
            ApiError::new(400, "MANDATORY_NOT_FOUND", "required field not found")
                .details(json!({ "api_name": "id", "json_path": format!("$.data[{index}].id") }))
        });
        let item = id.and_then(|id| {
            let id = existing(data, module, index, id)?;
            change(call, data, module, index, id, given)
        });
        items.push(item);
    }
    Ok(answer(items, 200))
}

/// The ID of a record that is there.
fn existing(data: &OrgData, module: &Module, index: usize, id: &Value) -> Result<u64> {
    let id = id_of(id).filter(|id| data.record(module, *id).is_some());
    id.ok_or_else(|| {
        ApiError::new(400, "INVALID_DATA", "the id given seems to be invalid")
            .details(json!({ "api_name": "id", "json_path": format!("$.data[{index}].id") }))
    })
}

/// `PUT /{module}/{id}`.
pub(super) fn update_one(
    call: &Call<'_>,
    data: &mut OrgData,
    module: &'static Module,
    id: &str,
) -> Result {
    write_scope(call, module, "UPDATE")?;
    let id = path_id(id, 1)?;
    data.record(module, id).ok_or_else(|| no_such_record(1))?;
    let (records, _) = records(call)?;
    let [given] = records.as_slice() else {
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", "limit exceeded")
            .details(json!({ "maximum_length": 1, "api_name": "data", "json_path": "$.data" })));
    };
    let item = change(call, data, module, 0, id, given);
    Ok(answer(vec![item], 200))
}

fn change(
    call: &Call<'_>,
    data: &mut OrgData,
    module: &'static Module,
    index: usize,
    id: u64,
    given: &Value,
) -> Result<Value> {
    unmodified_since(call, data, module, id)?;
    let fields = Checker {
        data,
        module,
        purpose: Purpose::Update,
        index,
        own_id: Some(id),
        refuse_unknown: call.refuse_unknown_fields,
        require_layout_fields: call.require_layout_fields,
    }
    .check(object(given, index)?)?;
    data.update(module, id, fields, &call.user, call.now);
    Ok(success(data, module, id, "record updated"))
}

/// `If-Unmodified-Since`: 412 when somebody was faster.
fn unmodified_since(call: &Call<'_>, data: &OrgData, module: &Module, id: u64) -> Result<()> {
    let since = read::instant_in(call, &header::IF_UNMODIFIED_SINCE, "If-Unmodified-Since")?;
    let (Some(since), Some(record)) = (since, data.record(module, id)) else {
        return Ok(());
    };
    if read::instant(text(record, "Modified_Time")).is_some_and(|modified| modified > since) {
        return Err(ApiError::new(
            412,
            "ALREADY_MODIFIED",
            "record updated time has already passed if-unmodified-since time",
        )
        .details(json!({
            "id": record["id"],
            "Modified_Time": record["Modified_Time"],
            "Modified_By": record["Modified_By"],
            "Created_Time": record["Created_Time"],
            "Created_By": record["Created_By"],
        })));
    }
    Ok(())
}

/// `POST /{module}/upsert`. Needs the scopes of both writes, since it may do either.
pub(super) fn upsert(call: &Call<'_>, data: &mut OrgData, module: &'static Module) -> Result {
    write_scope(call, module, "CREATE")?;
    write_scope(call, module, "UPDATE")?;
    let (records, rest) = records(call)?;
    let checks = duplicate_checks(module, &rest)?;
    let mut items = Vec::new();
    for (index, given) in records.iter().enumerate() {
        let (action, field, item) = match twin(data, module, &checks, index, given) {
            Ok(Some((id, field))) => {
                let item = change(call, data, module, index, id, given);
                ("update", field, item)
            }
            Ok(None) => {
                let item = create_one(call, data, module, index, given);
                ("insert", None, item)
            }
            Err(error) => ("update", None, Err(error)),
        };
        items.push(item.map(|mut item| {
            item["action"] = action.into();
            item["duplicate_field"] = field.into();
            item
        }));
    }
    Ok(answer(items, 200))
}

/// The record that an upsert means, and the field that tells: the record with its `id`, or else
/// the first one that has the same value in one of `checks`.
fn twin(
    data: &OrgData,
    module: &Module,
    checks: &[&'static Field],
    index: usize,
    given: &Value,
) -> Result<Option<(u64, Option<&'static str>)>> {
    match given.get("id") {
        None | Some(Value::Null) => {}
        Some(id) => return Ok(Some((existing(data, module, index, id)?, None))),
    }
    let mut twins = checks.iter().filter_map(|field| {
        let value = given.get(field.api_name)?;
        let twin = holders(data, module, field, value).next()?;
        Some((id_from(text(twin, "id"))?, Some(field.api_name)))
    });
    Ok(twins.next())
}

/// The fields that an upsert finds records by, in their order: the named ones, or else the
/// module's own; then every unique field, always (CRM documentation: upsert).
fn duplicate_checks(module: &'static Module, rest: &Record) -> Result<Vec<&'static Field>> {
    let place = json!({
        "api_name": "duplicate_check_fields",
        "json_path": "$.duplicate_check_fields",
    });
    let wrong = || ApiError::invalid_data(place.clone());
    let mut checks = match rest.get("duplicate_check_fields") {
        None | Some(Value::Null) => {
            let own = module.duplicate_check.iter();
            own.filter_map(|name| module.field(name)).collect()
        }
        // Each name costs a look at every record.
        Some(Value::Array(names)) if names.len() > module.fields.len() => {
            let mut place = place;
            place["maximum_length"] = module.fields.len().into();
            return Err(ApiError::new(400, "LIMIT_EXCEEDED", "limit exceeded").details(place));
        }
        Some(Value::Array(names)) => names
            .iter()
            .map(|name| {
                let field = name.as_str().and_then(|name| module.field(name));
                field.ok_or_else(wrong)
            })
            .collect::<Result<Vec<_>>>()?,
        Some(_) => return Err(wrong()),
    };
    checks.extend(module.fields.iter().filter(|field| field.unique));
    Ok(checks)
}

/// `DELETE /{module}?ids=…`.
pub(super) fn delete_many(call: &Call<'_>, data: &mut OrgData, module: &Module) -> Result {
    write_scope(call, module, "DELETE")?;
    let ids = call.params.get("ids");
    let ids = ids.ok_or_else(|| ApiError::missing_param("ids"))?;
    let ids: Vec<&str> = ids.split(',').map(str::trim).collect();
    if ids.len() > RECORDS_LIMIT {
        return Err(ApiError::limit(RECORDS_LIMIT, "ids"));
    }
    let mut items = Vec::new();
    for id in ids {
        items.push(remove(call, data, module, id));
    }
    Ok(answer(items, 200))
}

/// `DELETE /{module}/{id}`.
pub(super) fn delete_one(call: &Call<'_>, data: &mut OrgData, module: &Module, id: &str) -> Result {
    write_scope(call, module, "DELETE")?;
    path_id(id, 1)?;
    let item = remove(call, data, module, id);
    Ok(answer(vec![item], 200))
}

fn remove(call: &Call<'_>, data: &mut OrgData, module: &Module, id: &str) -> Result<Value> {
    let gone = id_from(id).is_some_and(|id| data.delete(module, id, &call.user, call.now));
    if gone {
        Ok(json!({
            "code": "SUCCESS",
            "details": { "id": id },
            "message": "record deleted",
            "status": "success",
        }))
    } else {
        Err(ApiError::new(400, "INVALID_DATA", "record not deleted").details(json!({ "id": id })))
    }
}
