//! The attributes of a queue that its owner sets, their bounds and defaults (`API_CreateQueue`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::world::ApiError;

/// Name, lowest, highest and default value of the attributes that are numbers, all but the size in
/// seconds. "`MaximumMessageSize` … from 1,024 bytes (1 KiB) to 1,048,576 bytes (1 MiB). Default:
/// 1,048,576 bytes (1 MiB)."
const NUMBERS: [(&str, u32, u32, u32); 5] = [
    ("DelaySeconds", 0, 900, 0),
    ("MaximumMessageSize", 1_024, super::MESSAGE_BYTES_MAX_U32, super::MESSAGE_BYTES_MAX_U32),
    ("MessageRetentionPeriod", 60, 1_209_600, 345_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 20, 0),
    ("VisibilityTimeout", 0, 43_200, 30),
];
/// Attributes that are kept and shown; of these only `RedrivePolicy` has an effect here.
const TEXTS: [&str; 4] = ["Policy", "RedriveAllowPolicy", "RedrivePolicy", "SqsManagedSseEnabled"];

/// What a queue's owner set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    given: BTreeMap<String, String>,
}

impl Settings {
    /// Takes over attributes; none of them when one is wrong.
    pub(super) fn set(&mut self, attributes: &Map<String, Value>) -> Result<(), ApiError> {
        let mut given = self.given.clone();
        for (name, value) in attributes {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            check(name, &text)?;
            // "To remove … set the parameter to an empty string."
            if text.is_empty() {
                given.remove(name);
            } else {
                given.insert(name.clone(), text);
            }
        }
        self.given = given;
        Ok(())
    }

    /// One of the numbers, as set or by default.
    pub(super) fn number(&self, name: &str) -> u32 {
        let set = self.given.get(name).and_then(|text| text.parse().ok());
        let default = NUMBERS.iter().find(|(known, ..)| *known == name).map(|(.., default)| *default);
        set.or(default).unwrap_or_default()
    }

    /// Where messages go that were received too often: name of the queue, and how often is too often.
    pub(super) fn dead_letters(&self) -> Option<(String, u32)> {
        redrive(self.given.get("RedrivePolicy")?)
    }

    /// Everything set, and the numbers by default.
    pub(super) fn all(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            NUMBERS.iter().map(|(name, .., default)| ((*name).to_owned(), default.to_string())).collect();
        all.extend(self.given.clone());
        all
    }
}

fn redrive(policy: &str) -> Option<(String, u32)> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let queue = policy["deadLetterTargetArn"].as_str()?.rsplit(':').next()?.to_owned();
    let most = match &policy["maxReceiveCount"] {
        Value::String(text) => text.parse().ok()?,
        other => u32::try_from(other.as_u64()?).ok()?,
    };
    // "maxReceiveCount … from 1 to 1,000."
    (1..=1_000).contains(&most).then_some((queue, most))
}

fn check(name: &str, text: &str) -> Result<(), ApiError> {
    let wrong = || {
        ApiError::client(
            "InvalidAttributeValue",
            format!("Invalid value for the parameter {name}: {text:?}."),
        )
    };
    if let Some((_, min, max, _)) = NUMBERS.iter().find(|(known, ..)| *known == name) {
        return match text.parse::<u32>() {
            Ok(number) if (*min..=*max).contains(&number) => Ok(()),
            _ => Err(wrong()),
        };
    }
    if name == "RedrivePolicy" && !text.is_empty() && redrive(text).is_none() {
        return Err(wrong());
    }
    if TEXTS.contains(&name) {
        return Ok(());
    }
    if name.starts_with("Fifo") || name == "ContentBasedDeduplication" || name == "DeduplicationScope" {
        return Err(ApiError::client("UnsupportedOperation", "the sandbox has no FIFO queues"));
    }
    Err(ApiError::client("InvalidAttributeName", format!("Unknown Attribute {name}.")))
}
