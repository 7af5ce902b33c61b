//! From JSON values to typed documents, with errors that name the field, its value and the way out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{Refusal, RefusalCode, said};
use crate::records::names::{Label, ServiceKey};

/// Fields that a newer daemon knows, as (path without indices, the version that knows it). A release of the
/// program that adds a field adds it to the patch releases of the one before, so that a fleet in the middle
/// of an upgrade can say what is missing.
const KNOWN_LATER: &[(&str, &str)] = &[];

/// The document of an item: without the table's own attributes.
pub(super) fn without_keys(item: &Value) -> Value {
    strip(item, &["pk", "sk", "expireAt"])
}

/// The same for commands, of which `expireAt` is a field.
pub(super) fn without_table_keys(item: &Value) -> Value {
    strip(item, &["pk", "sk"])
}

fn strip(item: &Value, names: &[&str]) -> Value {
    let mut document = item.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
    document
}

/// Whether `pk` and `sk`, where present, are those of `key`.
pub(super) fn keys_fit(item: &Value, prefix: &str, key: &ServiceKey) -> Result<(), Refusal> {
    let expected = format!("{prefix}{key}");
    for (field, wanted) in [("pk", expected.as_str()), ("sk", "spec")] {
        match item.get(field) {
            None => {}
            Some(Value::String(text)) if text == wanted => {}
            Some(other) => {
                return Err(Refusal::new(
                    RefusalCode::KeyMismatch,
                    field,
                    said::slip(other),
                    format!("\"{wanted}\""),
                    "put the item under that key",
                ));
            }
        }
    }
    Ok(())
}

/// Whether the names in the document are those of `key`.
pub(super) fn names_fit(namespace: &Label, name: &Label, key: &ServiceKey) -> Result<(), Refusal> {
    for (field, said, wanted) in [
        ("metadata.namespace", namespace.as_str(), key.namespace()),
        ("metadata.name", name.as_str(), key.name()),
    ] {
        if said != wanted {
            return Err(Refusal::new(
                RefusalCode::KeyMismatch,
                field,
                format_args!("\"{said}\""),
                format!("\"{wanted}\", as in the item's key"),
                "make key and metadata name the same service",
            ));
        }
    }
    Ok(())
}

/// The service that a command item's `pk` names, when there is one; its `sk` is a ULID.
pub(super) fn command_key(item: &Value) -> Result<Option<ServiceKey>, Refusal> {
    if let Some(sort) = item.get("sk") {
        let is_ulid = sort.as_str().is_some_and(|text| ulid::Ulid::from_string(text).is_ok());
        if !is_ulid {
            return Err(Refusal::new(
                RefusalCode::KeyMismatch,
                "sk",
                said::slip(sort),
                "a ULID, 26 characters that begin with the time",
                "make a new ULID for every command",
            ));
        }
    }
    let Some(pk) = item.get("pk") else { return Ok(None) };
    let key = pk.as_str().and_then(|text| text.strip_prefix("command#")).and_then(|key| key.parse().ok());
    key.map(Some).ok_or_else(|| {
        Refusal::new(
            RefusalCode::KeyMismatch,
            "pk",
            said::slip(pk),
            "command#<namespace>/<name>",
            "put the item under the key of its service",
        )
    })
}

/// Reads `document`; the error names the field.
pub(super) fn parse<T: DeserializeOwned + Serialize>(document: &Value) -> Result<T, Refusal> {
    let mut document = document.clone();
    whole_numbers(&mut document);
    let read: T = serde_path_to_error::deserialize(&document)
        .map_err(|error| refusal_of(error.path(), &error.inner().to_string(), &document, KNOWN_LATER))?;
    // What has been read can be written; if it ever could not, there would be no shape to hold it against.
    let again = serde_json::to_value(&read).map_err(|error| {
        Refusal::new(RefusalCode::Malformed, "document", error, "a document that can be written", "report it")
    })?;
    same_shape(&document, &again, &mut String::new()).map(|()| read)
}

/// Refuses what `serde` takes for more than people mean: a list of values in place of a map of fields, and
/// `{"hold": null}` for `hold`.
fn same_shape(written: &Value, read: &Value, path: &mut String) -> Result<(), Refusal> {
    let length = path.len();
    match (written, read) {
        (Value::Array(written), Value::Array(read)) => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                path.push_str(&["[", &index.to_string(), "]"].concat());
                same_shape(written, read, path)?;
                path.truncate(length);
            }
            Ok(())
        }
        (Value::Object(written), Value::Object(read)) => {
            for (name, written) in written {
                let Some(read) = read.get(name) else { continue };
                path.push_str(if length == 0 { "" } else { "." });
                path.push_str(name);
                same_shape(written, read, path)?;
                path.truncate(length);
            }
            Ok(())
        }
        (Value::Array(_) | Value::Object(_), _) => {
            let allowed = match read {
                Value::Object(_) => "a map of fields",
                Value::String(_) => "a text",
                _ => "a plain value",
            };
            let field = if path.is_empty() { "document" } else { path.as_str() };
            Err(Refusal::new(RefusalCode::Malformed, field, said::kind(written), allowed, "correct it"))
        }
        _ => Ok(()),
    }
}

/// `8080.0` is the whole number 8080, for JSON Schema and for a table alike.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            let whole = text.strip_suffix(".0").and_then(|whole| whole.parse::<i64>().ok());
            if let Some(whole) = whole {
                *value = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn refusal_of(path: &Path, message: &str, document: &Value, later: &[(&str, &str)]) -> Refusal {
    let field = if is_root(path) { "document".to_owned() } else { path.to_string() };
    let found = lookup(document, path);
    let value = |say: fn(&Value) -> String| found.map_or_else(|| "missing".to_owned(), say);
    let refuse = |field: String, value: String, allowed: String, fix: String| {
        Refusal::new(RefusalCode::Malformed, field, value, allowed, fix)
    };
    if let Some(name) = quoted(message, "missing field `") {
        let field = if is_root(path) { name.to_owned() } else { format!("{field}.{name}") };
        return refuse(field, "missing".to_owned(), "a value; the field is required".into(), "add it".into());
    }
    if let Some(name) = quoted(message, "unknown field `") {
        let allowed = after(message, "expected ").unwrap_or("no field at all").replace('`', "");
        let fix = match later.iter().find(|(path, _)| *path == without_indices(&field)) {
            Some((_, version)) => {
                format!("this field needs pointsman {version} or later: upgrade the daemon")
            }
            None => nearest(name, &allowed)
                .map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?")),
        };
        // Its value is not repeated: nobody knows what it is, and it may be a password.
        return refuse(field, "an unknown field".to_owned(), allowed, fix);
    }
    if let Some(name) = quoted(message, "unknown variant `") {
        let allowed = after(message, "expected ").unwrap_or("nothing").replace('`', "");
        let fix = nearest(name, &allowed)
            .map_or_else(|| "write one of these".to_owned(), |near| format!("did you mean {near}?"));
        return refuse(field, value(said::slip), allowed, fix);
    }
    if message.starts_with("invalid ")
        && let Some(expected) = after(message, "expected ")
    {
        let (allowed, say) = plain_type(expected);
        return refuse(field, value(say), allowed.to_owned(), type_fix(found, expected));
    }
    // Our own types say `"value" is not what is allowed`.
    let allowed = after(message, " is not ").unwrap_or("another value");
    let say = if allowed.contains("ARN") { said::kind } else { said::slip };
    refuse(field, value(say), allowed.to_owned(), type_fix(found, allowed))
}

fn is_root(path: &Path) -> bool {
    path.iter().next().is_none()
}

fn lookup<'a>(document: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => Some(value),
    })
}

fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

/// What follows the last `mark`: the words before it may hold a foreign text, with the same mark in it.
fn after<'a>(message: &'a str, mark: &str) -> Option<&'a str> {
    message.rsplit_once(mark).map(|(_, rest)| rest)
}

/// `spec.steps[3].weight` as `spec.steps.weight`.
fn without_indices(field: &str) -> String {
    field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// What `serde` calls a type, in words, and how a value of another type is said: a slip of the pen is repeated only
/// where a word, a number or a time belongs.
fn plain_type(expected: &str) -> (&str, fn(&Value) -> String) {
    match expected {
        "u16" => ("a whole number from 0 to 65535", said::slip),
        "a nonzero u16" => ("a whole number from 1 to 65535", said::slip),
        "u32" => ("a whole number from 0 to 4294967295", said::slip),
        "u64" => ("a whole number, 0 or more", said::slip),
        "a boolean" => ("true or false", said::slip),
        // One word of several.
        "string or map" => ("a text", said::slip),
        own if own.contains("number") || own.contains("duration") => (own, said::slip),
        "a string" => ("a text", said::kind),
        "a sequence" => ("a list", said::kind),
        other if other.starts_with("struct ") => ("a map of fields", said::kind),
        other => (other, said::kind),
    }
}

/// What to do about a value of the wrong type.
fn type_fix(value: Option<&Value>, expected: &str) -> String {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    match value {
        Some(Value::String(text)) if is_number(text) => {
            "write the number without quotes (in DynamoDB: type N, not S)"
        }
        Some(Value::String(text)) if text == "true" || text == "false" => {
            "write it without quotes (in DynamoDB: type BOOL, not S)"
        }
        Some(Value::Number(_) | Value::Bool(_)) if expected.contains("string") => {
            "put it in quotes (in DynamoDB: type S)"
        }
        Some(Value::Null) => "give it a value, or remove the field",
        Some(Value::Number(_)) if expected.contains("duration") => "write it with its unit, such as 90s",
        _ => "correct it",
    }
    .to_owned()
}

/// The allowed word that is at most two edits away.
fn nearest<'a>(word: &str, allowed: &'a str) -> Option<&'a str> {
    allowed
        .trim_start_matches("one of ")
        .split([',', ' '])
        .filter(|candidate| !candidate.is_empty() && *candidate != "or")
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 2 && *edits < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, without case.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    // A word of a person is at most a record long; only its beginning can be near a field's name.
    let from: Vec<char> = from.to_lowercase().chars().take(64).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "list")]
        _list: Vec<Inner>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {}

    #[test]
    fn a_field_of_a_newer_daemon_is_refused_with_its_version() {
        let document = json!({"list": [{}, {"hooks": 1}]});
        let error = serde_path_to_error::deserialize::<_, Outer>(&document).unwrap_err();
        let message = error.inner().to_string();
        let refusal = refusal_of(error.path(), &message, &document, &[("list.hooks", "0.2")]);
        assert_eq!(refusal.field, "list[1].hooks");
        assert_eq!(refusal.fix, "this field needs pointsman 0.2 or later: upgrade the daemon");
        assert_eq!(refusal_of(error.path(), &message, &document, &[]).fix, "remove it");
    }
}
