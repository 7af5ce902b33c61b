//! Bounds that hold for every record alike: lengths of texts, sizes of maps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Findings, LONGEST_TEXT, MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS, RefusalCode, said};

/// Every text and every key of the document is at most [`LONGEST_TEXT`] characters long.
pub(super) fn judge_texts(document: &Value, findings: &mut Findings) {
    walk(document, &mut String::new(), findings);
}

fn walk(value: &Value, path: &mut String, findings: &mut Findings) {
    let length = path.len();
    match value {
        Value::String(text) => text_fits(text, path, findings),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
                walk(item, path, findings);
                path.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                text_fits(key, path, findings);
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(key.chars().take(LONGEST_TEXT));
                walk(field, path, findings);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn text_fits(text: &str, path: &str, findings: &mut Findings) {
    let long = text.chars().count();
    if long > LONGEST_TEXT {
        findings.add(
            RefusalCode::OutOfBounds,
            path,
            format_args!("{long} characters long"),
            format!("at most {LONGEST_TEXT} characters"),
            "shorten it",
        );
    }
}

/// Free texts for people: at most [`MAX_ANNOTATIONS`] entries and [`MAX_ANNOTATION_BYTES`] in all.
pub(super) fn judge_free_texts(field: &str, texts: &BTreeMap<String, String>, findings: &mut Findings) {
    at_most(field, texts.len(), MAX_ANNOTATIONS, "entries", findings);
    let bytes: usize = texts.iter().map(|(key, value)| key.len() + value.len()).sum();
    at_most(field, bytes, MAX_ANNOTATION_BYTES, "bytes in all", findings);
    if texts.keys().any(String::is_empty) {
        findings.add(
            RefusalCode::OutOfBounds,
            field,
            "an empty key",
            "keys of at least one character",
            "name the entry",
        );
    }
}

/// `count` is at most `most`.
pub(super) fn at_most(field: &str, count: usize, most: usize, unit: &str, findings: &mut Findings) {
    if count > most {
        findings.add(
            RefusalCode::OutOfBounds,
            field,
            format_args!("{count} {unit}"),
            format!("at most {most} {unit}"),
            "remove some",
        );
    }
}

/// A text has 1 to `longest` characters, none of them a control character, and `fits`.
pub(super) fn text(
    field: &str,
    value: &str,
    longest: usize,
    allowed: &str,
    fits: impl Fn(&str) -> bool,
    findings: &mut Findings,
) {
    let length = value.chars().count();
    if length == 0 || length > longest || value.chars().any(char::is_control) || !fits(value) {
        findings.add(
            RefusalCode::OutOfBounds,
            field,
            said::text(value),
            format!("{allowed}, 1 to {longest} characters"),
            "correct it",
        );
    }
}

/// Letters, digits and `-`, `_`, `.`, starting with a letter or digit.
pub(super) fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// Letters, digits, `-` and `_`: names of ECS.
pub(super) fn is_ecs_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The first value that occurs twice, with its index.
pub(super) fn repeated<'a>(values: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let mut seen = std::collections::BTreeSet::new();
    values.enumerate().find(|(_, value)| !seen.insert(*value))
}
