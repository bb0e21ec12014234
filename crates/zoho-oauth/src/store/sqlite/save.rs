//! Saving by the rules of [`TokenTable::save`](crate::TokenTable::save), with the rows in SQLite.

use super::db::Db;
use crate::error::Result;
use crate::store::table::{
    check_same_login, deleted, identities, is_same_login_unnamed, merge, next_id,
    nothing_to_identify, nothing_to_store,
};
use crate::token::{OAuthToken, TokenId};

/// Inserts or updates inside a transaction. `token` was checked.
///
/// The decisions are the pure functions of the rule book; random sequences of operations compare
/// the whole with it.
pub(super) fn save(db: &Db, token: &OAuthToken) -> Result<TokenId> {
    let by_id = match token.id {
        Some(id) => {
            let row = db.by_id(id)?;
            if row.is_none() && id.get() <= db.highest_id()? {
                return Err(deleted(id));
            }
            row
        }
        None => None,
    };
    let stored = match by_id {
        Some(row) => Some(row),
        None => same_login(db, token)?,
    };
    match stored {
        Some(stored) => update(db, stored, token),
        None => insert(db, token),
    }
}

/// The row that a save without a (stored) id updates.
fn same_login(db: &Db, token: &OAuthToken) -> Result<Option<OAuthToken>> {
    let identities = identities(token);
    if identities.is_empty() {
        return Err(match token.id {
            Some(_) => nothing_to_store(),
            None => nothing_to_identify(),
        });
    }
    for identity in &identities {
        if let Some(row) = db.first(identity)? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

fn insert(db: &Db, token: &OAuthToken) -> Result<TokenId> {
    if !token.holds_a_token() {
        return Err(nothing_to_store());
    }
    let id = match token.id {
        Some(id) => id,
        None => next_id(db.highest_id()?)?,
    };
    let mut row = token.clone();
    row.id = Some(id);
    db.insert(&row, id)?;
    Ok(id)
}

fn update(db: &Db, stored: OAuthToken, token: &OAuthToken) -> Result<TokenId> {
    check_same_login(&stored, token)?;
    let mut merged = merge(&stored, token);
    // Taking on the identity of another row can fill in a client or a name, and so lead on to a
    // third.
    let mut path = vec![id_of(&stored)];
    let mut kept = stored;
    while let Some(other) = other_identity(db, &kept, &merged)? {
        merged = merge(&other, &merged);
        path.push(id_of(&other));
        kept = other;
    }
    let id = id_of(&kept);
    let mut absorbed = db.twins(id, &merged)?;
    absorbed.retain(|row| !path.contains(&id_of(row)) && is_same_login_unnamed(row, &merged));
    let filled = absorbed.iter().fold(merged, |filled, row| OAuthToken {
        id: filled.id,
        ..merge(row, &filled)
    });
    path.extend(absorbed.iter().map(id_of));
    for gone in path.into_iter().filter(|gone| *gone != id) {
        db.delete(gone)?;
    }
    if filled != kept {
        db.update(&filled, id)?;
    }
    Ok(id)
}

/// Another row that has the identity which `merged` takes on by being saved over `kept`.
fn other_identity(db: &Db, kept: &OAuthToken, merged: &OAuthToken) -> Result<Option<OAuthToken>> {
    match identities(merged).first() {
        // A row that had this identity all along keeps its id, whatever else has it too.
        Some(identity) if !identity.matches(kept) => db.first(identity),
        _ => Ok(None),
    }
}

/// The id of a stored row, which always has one.
fn id_of(row: &OAuthToken) -> TokenId {
    row.id.expect("every stored row has an id")
}
