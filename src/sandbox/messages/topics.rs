//! Amazon SNS: topics, subscriptions of queues and functions, and what is delivered to them.

mod calls;
mod envelope;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(super) use self::envelope::Publication;
use super::pattern::Pattern;
use crate::world::ApiError;

/// Topics of one sandbox, and subscriptions of all. AWS allows 100,000 topics.
const TOPICS_MAX: usize = 1_000;
const SUBSCRIPTIONS_MAX: usize = 1_000;
/// Subscriptions and topics of one answer ("Each call returns a limited list …, up to 100").
const PAGE: usize = 100;

/// Where a message is to be delivered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Delivery {
    /// To a queue: its ARN, text and attributes.
    Queue(String, String, Map<String, Value>),
    /// To a function: its ARN and the event.
    Function(String, Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Protocol {
    Sqs,
    Lambda,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Subscription {
    arn: String,
    topic: String,
    protocol: Protocol,
    endpoint: String,
    raw: bool,
    filter: Option<Pattern>,
    /// `FilterPolicyScope` is `MessageBody` rather than `MessageAttributes`.
    filters_body: bool,
}

/// All topics of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Topics {
    arn_prefix: String,
    account: String,
    region: String,
    /// By ARN: attributes that were set.
    #[expect(clippy::struct_field_names, reason = "they are what the whole is named after")]
    topics: BTreeMap<String, Map<String, Value>>,
    /// In the order in which they were made.
    subscriptions: VecDeque<Subscription>,
}

fn not_found(what: &str) -> ApiError {
    ApiError { code: "NotFound".to_owned(), message: format!("{what} does not exist"), status: 404 }
}

fn invalid(message: impl std::fmt::Display) -> ApiError {
    ApiError::client("InvalidParameter", format!("Invalid parameter: {message}"))
}

impl Topics {
    pub(super) fn new(region: &str, account: &str) -> Self {
        Self {
            arn_prefix: format!("arn:aws:sns:{region}:{account}:"),
            account: account.to_owned(),
            region: region.to_owned(),
            topics: BTreeMap::new(),
            subscriptions: VecDeque::new(),
        }
    }

    /// Whether the topic is here.
    pub(super) fn has(&self, arn: &str) -> bool {
        self.topics.contains_key(arn)
    }

    /// What is to be delivered for one message, in the order of the subscriptions.
    pub(super) fn deliveries(&self, now: Timestamp, topic: &str, message: &Publication) -> Vec<Delivery> {
        let of_topic = self.subscriptions.iter().filter(|subscription| subscription.topic == topic);
        of_topic
            .filter(|subscription| subscription.wants(message))
            .map(|subscription| match subscription.protocol {
                Protocol::Sqs if subscription.raw => {
                    let text = message.text_for("sqs").to_owned();
                    Delivery::Queue(subscription.endpoint.clone(), text, message.attributes.clone())
                }
                Protocol::Sqs => {
                    let envelope = message.envelope(now, &self.region, topic, &subscription.arn, "sqs");
                    Delivery::Queue(subscription.endpoint.clone(), envelope.to_string(), Map::new())
                }
                Protocol::Lambda => {
                    let event = message.records(now, &self.region, topic, &subscription.arn);
                    Delivery::Function(subscription.endpoint.clone(), event)
                }
            })
            .collect()
    }
}

impl Subscription {
    /// Whether its filter policy lets the message through. "Amazon SNS accepts … when each attribute in
    /// the filter policy matches an attribute assigned to the message."
    fn wants(&self, message: &Publication) -> bool {
        let Some(pattern) = &self.filter else { return true };
        if self.filters_body {
            return serde_json::from_str(&message.text).is_ok_and(|body: Value| pattern.matches(&body));
        }
        pattern.matches(&message.filterable())
    }

    fn attributes(&self, account: &str) -> Value {
        let mut shown = json!({
            "SubscriptionArn": self.arn,
            "TopicArn": self.topic,
            "Protocol": self.protocol.as_str(),
            "Endpoint": self.endpoint,
            "Owner": account,
            "RawMessageDelivery": self.raw.to_string(),
            "PendingConfirmation": "false",
            "ConfirmationWasAuthenticated": "true",
        });
        if let Some(pattern) = &self.filter {
            shown["FilterPolicy"] = pattern.text().into();
            let scope = if self.filters_body { "MessageBody" } else { "MessageAttributes" };
            shown["FilterPolicyScope"] = scope.into();
        }
        shown
    }
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sqs => "sqs",
            Self::Lambda => "lambda",
        }
    }
}

#[cfg(test)]
mod tests;
