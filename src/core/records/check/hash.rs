//! The spec hash: `sha256:` over canonical JSON of the spec as written.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// `sha256:` and 64 hexadecimal digits over the canonical JSON of `spec` as written: keys sorted, no white
/// space, whole numbers without a fraction. Defaults are not filled in, so that a new default never
/// re-releases a fleet (`semantics` 1.5).
///
/// The same spec has the same hash whether it comes from YAML, from JSON or from a table, where `10.0` is
/// stored as `10`.
pub fn spec_hash(spec: &Value) -> String {
    let mut canonical = String::new();
    write(spec, &mut canonical);
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(canonical)))
}

/// The hash of an item's spec, or of all of it when it has none.
pub(super) fn of_item(item: &Value) -> String {
    spec_hash(item.get("spec").unwrap_or(item))
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(&fields[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        // `serde_json` prints a double as `10.0`; a table and most programs print it as `10`.
        Value::Number(number) => {
            let text = number.to_string();
            out.push_str(text.strip_suffix(".0").unwrap_or(&text));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}
