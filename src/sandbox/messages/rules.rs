//! Amazon `EventBridge`: rules of the default bus, their targets, and the events that meet them.

mod calls;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pattern::Pattern;
use crate::sandbox::front::request_id as uuid;

/// "Rules: 300 per event bus", "Targets per rule: 5" (`EventBridge` quotas; `aws-facts.md` §4.5).
const RULES_MAX: usize = 300;
const TARGETS_MAX: usize = 5;
/// "Event pattern: 2,048 characters" (`EventBridge` quotas).
const PATTERN_CHARS_MAX: usize = 2_048;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Target {
    id: String,
    arn: String,
    /// `Input`: sent in place of the event.
    input: Option<String>,
    /// `InputPath`: the part of the event that is sent, as member names.
    path: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rule {
    pattern: Pattern,
    enabled: bool,
    description: Option<String>,
    targets: Vec<Target>,
}

/// The rules of the default event bus, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rules {
    region: String,
    account: String,
    #[expect(clippy::struct_field_names, reason = "they are what the whole is named after")]
    rules: BTreeMap<String, Rule>,
}

/// What a target gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matched {
    /// ARN of the queue, topic or function.
    pub(super) arn: String,
    /// JSON text.
    pub(super) text: String,
}

impl Rules {
    pub(super) fn new(region: &str, account: &str) -> Self {
        Self { region: region.to_owned(), account: account.to_owned(), rules: BTreeMap::new() }
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:events:{}:{}:rule/{name}", self.region, self.account)
    }

    /// Whether any rule is switched on and leads somewhere.
    pub(super) fn listen(&self) -> bool {
        self.rules.values().any(|rule| rule.enabled && !rule.targets.is_empty())
    }

    /// An event in its envelope (`EventBridge` user guide, "AWS service events").
    pub(super) fn event(
        &self,
        now: Timestamp,
        source: &str,
        detail_type: &str,
        resources: &Value,
        detail: &Value,
    ) -> Value {
        json!({
            "version": "0",
            "id": uuid(),
            "detail-type": detail_type,
            "source": source,
            "account": self.account,
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "region": self.region,
            "resources": resources,
            "detail": detail,
        })
    }

    /// What the targets of all rules that an event meets get, rule by rule.
    pub(super) fn matched(&self, event: &Value) -> Vec<Matched> {
        let met = self.rules.values().filter(|rule| rule.enabled && rule.pattern.matches(event));
        met.flat_map(|rule| &rule.targets)
            .map(|target| Matched { arn: target.arn.clone(), text: target.text(event) })
            .collect()
    }
}

impl Target {
    fn text(&self, event: &Value) -> String {
        match (&self.input, &self.path) {
            (Some(input), _) => input.clone(),
            (None, Some(path)) => {
                let part = path.iter().try_fold(event, |value, member| value.get(member));
                part.map_or_else(|| "null".to_owned(), ToString::to_string)
            }
            (None, None) => event.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
