//! Reads the input of a messaging call: what is missing or of the wrong kind is refused by its name.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::world::ApiError;

/// A member that must be there.
pub(super) fn missing(member: &str) -> ApiError {
    ApiError::client("MissingParameter", format!("The request must contain the parameter {member}."))
}

/// A member with a value that cannot be.
pub(super) fn invalid(member: &str, value: &Value, reason: &str) -> ApiError {
    ApiError::client(
        "InvalidParameterValue",
        format!("Value {value} for parameter {member} is invalid. Reason: {reason}."),
    )
}

/// A text, if given.
pub(super) fn text<'a>(input: &'a Value, member: &str) -> Result<Option<&'a str>, ApiError> {
    match input.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(member, other, "Must be a string")),
    }
}

/// A text that must be there and say something.
pub(super) fn needed<'a>(input: &'a Value, member: &str) -> Result<&'a str, ApiError> {
    text(input, member)?.filter(|text| !text.is_empty()).ok_or_else(|| missing(member))
}

/// A whole number within bounds, as a number or, in a form or an attribute, as text.
pub(super) fn whole(input: &Value, member: &str, min: u32, max: u32) -> Result<Option<u32>, ApiError> {
    let value = match input.get(member) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let number = number.and_then(|number| u32::try_from(number).ok()).filter(|n| (min..=max).contains(n));
    number.map(Some).ok_or_else(|| invalid(member, value, &format!("Must be an integer from {min} to {max}")))
}

/// A list; absent means empty.
pub(super) fn list<'a>(input: &'a Value, member: &str) -> Result<&'a [Value], ApiError> {
    match input.get(member) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(invalid(member, other, "Must be a list")),
    }
}

/// A list of texts; absent means empty.
pub(super) fn texts<'a>(input: &'a Value, member: &str) -> Result<Vec<&'a str>, ApiError> {
    let text = |item: &'a Value| item.as_str().ok_or_else(|| invalid(member, item, "Must be a string"));
    list(input, member)?.iter().map(text).collect()
}

/// A map; absent means empty.
pub(super) fn map(input: &Value, member: &str) -> Result<Map<String, Value>, ApiError> {
    match input.get(member) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members.clone()),
        Some(other) => Err(invalid(member, other, "Must be a map")),
    }
}

/// The entries of a batch: one to ten, each with an Id of its own (`API_SendMessageBatch` and
/// `API_PublishBatch`: "You can send up to 10 messages", "The Ids of a batch request need to be unique").
pub(super) fn entries<'a>(input: &'a Value, member: &str) -> Result<Vec<(&'a str, &'a Value)>, ApiError> {
    const ENTRIES_MAX: usize = 10;
    const ID_CHARS_MAX: usize = 80;
    let items = list(input, member)?;
    if items.is_empty() {
        return Err(ApiError::client("EmptyBatchRequest", "The batch request doesn't contain any entries."));
    }
    if items.len() > ENTRIES_MAX {
        let sent = items.len();
        return Err(ApiError::client(
            "TooManyEntriesInBatchRequest",
            format!("Maximum number of entries per request are {ENTRIES_MAX}. You have sent {sent}."),
        ));
    }
    let mut ids = BTreeSet::new();
    let mut entries = Vec::new();
    for item in items {
        let id = needed(item, "Id")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.len() > ID_CHARS_MAX || !id.chars().all(fits) {
            return Err(ApiError::client(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be \
                 at most 80 letters long.",
            ));
        }
        if !ids.insert(id) {
            return Err(ApiError::client("BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
        }
        entries.push((id, item));
    }
    Ok(entries)
}
