//! What a message carries: its text, its attributes, their size and their MD5 as clients check them.

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::world::ApiError;

/// "A message can contain up to 10 metadata attributes" (SQS message quotas).
const ATTRIBUTES_MAX: usize = 10;

/// Text and attributes of one message, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::sandbox::messages) struct Content {
    /// `MessageBody`.
    pub(in crate::sandbox::messages) body: String,
    /// `MessageAttributes` as given: `DataType` with `StringValue` or `BinaryValue`.
    pub(in crate::sandbox::messages) attributes: Map<String, Value>,
}

impl Content {
    /// "A message can include only XML, JSON, and unformatted text … #x9 | #xA | #xD | #x20 to #xD7FF |
    /// #xE000 to #xFFFD | #x10000 to #x10FFFF" (`API_SendMessage`).
    pub(in crate::sandbox::messages) fn new(
        body: &str,
        attributes: Map<String, Value>,
    ) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Err(super::super::input::missing("MessageBody"));
        }
        let speakable = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
        if !body.chars().all(speakable) {
            return Err(ApiError::client(
                "InvalidMessageContents",
                "Invalid characters found: control characters.",
            ));
        }
        if attributes.len() > ATTRIBUTES_MAX {
            return Err(parameter(format!(
                "Number of message attributes [{}] exceeds the allowed maximum [{ATTRIBUTES_MAX}].",
                attributes.len()
            )));
        }
        for (name, attribute) in &attributes {
            check(name, attribute)?;
        }
        Ok(Self { body: body.to_owned(), attributes })
    }

    /// Bytes that count against the message size limit: text, and names, types and values of attributes.
    pub(in crate::sandbox::messages) fn size(&self) -> usize {
        let attribute = |(name, attribute): (&String, &Value)| {
            name.len() + data_type(attribute).len() + value_bytes(attribute).1.len()
        };
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }

    /// `MD5OfMessageBody`.
    pub(super) fn md5_of_body(&self) -> String {
        hex(Md5::digest(self.body.as_bytes()).as_slice())
    }

    /// The attributes that a receiver asked for: `All` or `.*`, a name, or a prefix `foo.*`.
    pub(super) fn asked_for(&self, names: &[&str]) -> Map<String, Value> {
        let asked = |name: &str| {
            names.iter().any(|wanted| {
                matches!(*wanted, "All" | ".*")
                    || *wanted == name
                    || wanted.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
            })
        };
        let attributes = self.attributes.iter().filter(|(name, _)| asked(name));
        attributes.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// `MD5OfMessageAttributes` (SQS developer guide, "Calculating the MD5 message digest for message
/// attributes"): sorted by name, each as length and bytes of name and type, a byte 1 for text and 2 for
/// binary, length and bytes of the value; lengths are four bytes, the highest first.
pub(super) fn md5_of_attributes(attributes: &Map<String, Value>) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut names: Vec<&String> = attributes.keys().collect();
    names.sort();
    let mut digest = Md5::new();
    let add = |digest: &mut Md5, piece: &[u8]| {
        digest.update(u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
        digest.update(piece);
    };
    for name in names {
        let attribute = &attributes[name];
        let (transport, value) = value_bytes(attribute);
        add(&mut digest, name.as_bytes());
        add(&mut digest, data_type(attribute).as_bytes());
        digest.update([transport]);
        add(&mut digest, &value);
    }
    Some(hex(digest.finalize().as_slice()))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn data_type(attribute: &Value) -> &str {
    attribute["DataType"].as_str().unwrap_or_default()
}

/// How the value travels (1 text, 2 binary), and its bytes.
fn value_bytes(attribute: &Value) -> (u8, Vec<u8>) {
    if let Some(text) = attribute["StringValue"].as_str() {
        return (1, text.as_bytes().to_vec());
    }
    let binary = attribute["BinaryValue"].as_str().unwrap_or_default();
    (2, data_encoding::BASE64.decode(binary.as_bytes()).unwrap_or_default())
}

fn parameter(message: String) -> ApiError {
    ApiError::client("InvalidParameterValue", message)
}

fn check(name: &str, attribute: &Value) -> Result<(), ApiError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let named = !name.is_empty() && name.len() <= 256 && name.chars().all(fits);
    let reserved = ["aws.", "amazon."].iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
    if !named || reserved || name.starts_with('.') || name.ends_with('.') {
        return Err(parameter(format!("The message attribute name '{name}' is not valid.")));
    }
    let kind = data_type(attribute);
    let carries = |member: &str| attribute[member].as_str().is_some_and(|value| !value.is_empty());
    let fits = match kind.split('.').next() {
        Some("String") => carries("StringValue"),
        Some("Number") => attribute["StringValue"].as_str().is_some_and(|text| text.parse::<f64>().is_ok()),
        Some("Binary") => carries("BinaryValue"),
        _ => {
            return Err(parameter(format!(
                "The message attribute '{name}' has an invalid message attribute type, the set of supported type \
                 prefixes is Binary, Number, and String."
            )));
        }
    };
    if fits {
        Ok(())
    } else {
        Err(parameter(format!(
            "The message attribute '{name}' must contain a non-empty value of its type {kind}."
        )))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn digests_are_those_that_clients_compute() {
        let given = json!({"weight": {"DataType": "Number", "StringValue": "10"},
            "step": {"DataType": "String", "StringValue": "bake"},
            "raw": {"DataType": "Binary", "BinaryValue": "AAE="}});
        let content = Content::new("hello world", attributes(given)).unwrap();
        // Both from a second implementation: Python's hashlib over the documented layout.
        assert_eq!(content.md5_of_body(), "5eb63bbbe01eeed093cb22bb8f5acdc3");
        assert_eq!(md5_of_attributes(&content.attributes).unwrap(), "bc7d2eccdae1c0d99d459a583a667552");
        assert_eq!(
            content.size(),
            11 + ("weight".len() + 6 + 2) + ("step".len() + 6 + 4) + ("raw".len() + 6 + 2)
        );
    }

    #[test]
    fn a_receiver_gets_the_attributes_it_names_by_name_or_prefix() {
        let text = json!({"DataType": "String", "StringValue": "x"});
        let given = json!({"app.name": text, "app.step": text, "other": text});
        let content = Content::new("x", attributes(given)).unwrap();
        let named = |names: &[&str]| content.asked_for(names).keys().cloned().collect::<Vec<_>>();
        assert_eq!(named(&["app.*"]), ["app.name", "app.step"]);
        assert_eq!(named(&["other"]), ["other"]);
        assert_eq!(named(&["All"]).len(), 3);
        assert!(named(&[]).is_empty());
    }

    #[test]
    fn what_no_message_may_carry_is_refused() {
        let code = |body: &str, given: Value| Content::new(body, attributes(given)).unwrap_err().code;
        assert_eq!(code("bell \u{7}", json!({})), "InvalidMessageContents");
        assert_eq!(code("", json!({})), "MissingParameter");
        let unknown = json!({"a": {"DataType": "Date", "StringValue": "x"}});
        assert_eq!(code("x", unknown), "InvalidParameterValue");
        let empty = json!({"a": {"DataType": "String", "StringValue": ""}});
        assert_eq!(code("x", empty), "InvalidParameterValue");
        let many: Map<_, _> = (0..=ATTRIBUTES_MAX)
            .map(|n| (format!("a{n}"), json!({"DataType": "String", "StringValue": "x"})))
            .collect();
        assert_eq!(code("x", Value::Object(many)), "InvalidParameterValue");
    }
}
