//! What a refusal repeats of the value that it refuses: enough to see a slip of the pen, and nothing that may be a
//! secret, because a refusal goes into status, history and logs.
//!
//! A slip is a short word (`canry`), a number or a time, in a field that takes one of these. A password that lands in
//! the wrong field is a text that looks otherwise, or lies in a list or a map: of those only the kind is said, and the
//! field. `docs/decisions.md` has the weighing.

use serde_json::Value;

/// Characters of a word that is repeated. AWS's secret keys have 40, tokens hundreds.
const LONGEST_WORD: usize = 32;

/// Whether `text` is one short word, number, time or reference such as `checkout:latest`.
pub(super) fn is_word(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/%".contains(&b))
}

/// A text that is no name, time or word that is allowed: itself where it is a word, else its length.
pub(super) fn text(text: &str) -> String {
    if is_word(text) { format!("\"{text}\"") } else { kind_of_text(text) }
}

/// The value of a field for words, numbers, times or names: itself where it is one of these, else its kind.
pub(super) fn slip(value: &Value) -> String {
    match value {
        Value::String(found) => text(found),
        Value::Number(number) => number.to_string(),
        other => kind(other),
    }
}

/// What kind of value this is.
pub(super) fn kind(value: &Value) -> String {
    let counted = |what: &str, count: usize, unit: &str| match count {
        0 => format!("an empty {what}"),
        1 => format!("a {what} of 1 {unit}"),
        _ => format!("a {what} of {count} {unit}s"),
    };
    match value {
        Value::Null | Value::Bool(_) => value.to_string(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(text) => kind_of_text(text),
        Value::Array(items) => counted("list", items.len(), "item"),
        Value::Object(fields) => counted("map", fields.len(), "field"),
    }
}

fn kind_of_text(text: &str) -> String {
    match text.chars().count() {
        0 => "an empty text".to_owned(),
        1 => "a text of 1 character".to_owned(),
        long => format!("a text of {long} characters"),
    }
}
