//! Between documents (JSON) and items.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value;
use serde_json::{Map, Value};

/// An item as the SDK has it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Every document the store writes is made of maps, lists, texts, numbers and booleans; only a number that
/// is not finite could fail, and no type of ours holds one.
pub(super) fn to_value(document: &impl Serialize) -> Result<AttributeValue, serde_dynamo::Error> {
    to_attribute_value(document)
}

/// The fields of a document, for an item's top level.
pub(super) fn to_fields(document: &impl Serialize) -> Result<Item, serde_dynamo::Error> {
    match to_value(document)? {
        AttributeValue::M(fields) => Ok(fields),
        _ => Ok(Item::new()),
    }
}

/// An item as JSON, its key attributes left out. Sets become lists. Bytes, which no document of ours has,
/// become an object that names what they are, so that reading refuses them with that name.
pub(super) fn to_document(item: &Item) -> Value {
    let fields = sorted(item).into_iter().filter(|(name, _)| !matches!(name.as_str(), "pk" | "sk"));
    Value::Object(fields.map(|(name, value)| (name.clone(), to_json(value))).collect())
}

/// One attribute as JSON.
pub(super) fn to_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::S(text) => Value::String(text.clone()),
        AttributeValue::N(number) => number_json(number),
        AttributeValue::L(items) => items.iter().map(to_json).collect(),
        AttributeValue::M(map) => Value::Object(
            sorted(map).into_iter().map(|(name, value)| (name.clone(), to_json(value))).collect(),
        ),
        AttributeValue::Ss(texts) => texts.iter().cloned().map(Value::String).collect(),
        AttributeValue::Ns(numbers) => numbers.iter().map(|number| number_json(number)).collect(),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::B(bytes) => opaque("binary", bytes.as_ref().len()),
        AttributeValue::Bs(all) => opaque("binary set", all.len()),
        _ => opaque("attribute type unknown to this program", 1),
    }
}

fn opaque(what: &str, size: usize) -> Value {
    Value::Object(Map::from_iter([(what.to_owned(), Value::from(size))]))
}

fn number_json(number: &str) -> Value {
    number
        .parse::<u64>()
        .map(Value::from)
        .or_else(|_| number.parse::<i64>().map(Value::from))
        .or_else(|_| number.parse::<f64>().map(Value::from))
        .unwrap_or_else(|_| Value::String(number.to_owned()))
}

/// By name: hash order differs between runs.
fn sorted(item: &Item) -> Vec<(&String, &AttributeValue)> {
    let mut names: Vec<&String> = item.keys().collect();
    names.sort_unstable();
    names.into_iter().filter_map(|name| item.get_key_value(name)).collect()
}

/// Bytes of an item as `DynamoDB` counts them (developer guide, "`DynamoDB` item sizes and formats"):
/// names and texts in UTF-8, numbers one byte for two digits and one more, 3 bytes for each list and map
/// and 1 for each of their members.
pub(super) fn size(item: &Item) -> usize {
    item.keys().map(|name| name.len() + item.get(name).map_or(0, value_size)).sum()
}

fn value_size(value: &AttributeValue) -> usize {
    let number = |digits: &String| digits.len().div_ceil(2) + 1;
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => number(digits),
        AttributeValue::L(items) => 3 + items.iter().map(|item| 1 + value_size(item)).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.len() + size(map),
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(number).sum(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Bs(all) => all.iter().map(|bytes| bytes.as_ref().len()).sum(),
        _ => 1,
    }
}

/// A text attribute.
pub(super) fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// A whole, non-negative number attribute.
pub(super) fn count(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// As a text attribute.
pub(super) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// As a number attribute.
pub(super) fn n(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_survives_the_way_to_an_item_and_back() {
        let document = json!({"a": [1, -2, 0.5, true, null, "x", ""], "b": {"c": {}}, "d": u64::MAX});
        let item = to_fields(&document).unwrap();
        assert_eq!(to_document(&item), document);
    }

    #[test]
    fn keys_are_not_part_of_the_document_and_odd_types_name_themselves() {
        let item = Item::from([
            ("pk".into(), s("service#a/b")),
            ("sk".into(), s("spec")),
            ("weight".into(), s("10")),
            ("subnets".into(), AttributeValue::Ss(vec!["x".into()])),
            ("raw".into(), AttributeValue::B(Blob::new(vec![1, 2]))),
        ]);
        assert_eq!(to_document(&item), json!({"weight": "10", "subnets": ["x"], "raw": {"binary": 2}}));
    }

    #[test]
    fn sizes_are_counted_as_the_developer_guide_says() {
        let item = Item::from([
            ("ab".into(), s("xyz")),
            ("n".into(), n(1234)),
            ("l".into(), AttributeValue::L(vec![AttributeValue::Bool(true)])),
        ]);
        assert_eq!(size(&item), (2 + 3) + (1 + 3) + (1 + 3 + 1 + 1));
    }
}
