//! A published message, and the shapes in which SNS hands it on.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::input::{map, text};
use super::invalid;
use crate::sandbox::front::request_id as uuid;
use crate::world::ApiError;

/// "Messages must be UTF-8 encoded strings at most 256 KB in size (262,144 bytes)" (`API_Publish`).
pub(super) const MESSAGE_BYTES_MAX: usize = 262_144;
/// "Subjects must … be less than 100 characters long."
const SUBJECT_CHARS_MAX: usize = 100;

/// One published message, checked.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sandbox::messages) struct Publication {
    pub(in crate::sandbox::messages) id: String,
    pub(super) text: String,
    /// `MessageStructure` json: the text of each protocol.
    by_protocol: Map<String, Value>,
    subject: Option<String>,
    /// As given: `DataType` with `StringValue` or `BinaryValue`.
    pub(super) attributes: Map<String, Value>,
}

impl Publication {
    /// A message of the region itself, of an alarm or a rule.
    pub(in crate::sandbox::messages) fn plain(text: String, subject: Option<String>) -> Self {
        Self { id: uuid(), text, by_protocol: Map::new(), subject, attributes: Map::new() }
    }

    pub(super) fn read(input: &Value) -> Result<Self, ApiError> {
        let message = text(input, "Message")?.filter(|text| !text.is_empty());
        let message = message.ok_or_else(|| invalid("Empty message"))?;
        let attributes = map(input, "MessageAttributes")?;
        let size = message.len() + Value::Object(attributes.clone()).to_string().len() - 2;
        if size > MESSAGE_BYTES_MAX {
            return Err(invalid("Message too long"));
        }
        let subject = text(input, "Subject")?.map(str::to_owned);
        let fits = |subject: &String| {
            !subject.is_empty()
                && subject.chars().count() <= SUBJECT_CHARS_MAX
                && !subject.chars().any(char::is_control)
        };
        if subject.as_ref().is_some_and(|subject| !fits(subject)) {
            return Err(invalid("Subject"));
        }
        let by_protocol = match text(input, "MessageStructure")? {
            None => Map::new(),
            Some("json") => match serde_json::from_str(message) {
                Ok(Value::Object(texts)) if texts.get("default").is_some_and(Value::is_string) => texts,
                _ => {
                    return Err(invalid("Message Structure - No default entry in JSON message body"));
                }
            },
            Some(other) => return Err(invalid(format_args!("MessageStructure {other}"))),
        };
        let own = by_protocol.get("default").and_then(Value::as_str).unwrap_or(message);
        Ok(Self { id: uuid(), text: own.to_owned(), by_protocol, subject, attributes })
    }

    /// What a subscriber of this protocol reads.
    pub(super) fn text_for(&self, protocol: &str) -> &str {
        self.by_protocol.get(protocol).and_then(Value::as_str).unwrap_or(&self.text)
    }

    /// The attributes as a filter policy sees them: texts, numbers, and the members of a `String.Array`.
    pub(super) fn filterable(&self) -> Value {
        let value = |attribute: &Value| {
            let text = attribute["StringValue"].as_str()?;
            match attribute["DataType"].as_str()? {
                "Number" | "String.Array" => serde_json::from_str(text).ok(),
                "String" => Some(text.into()),
                _ => None,
            }
        };
        let plain = self.attributes.iter().filter_map(|(name, given)| Some((name.clone(), value(given)?)));
        Value::Object(plain.collect())
    }

    /// The attributes as an envelope shows them.
    fn shown(&self) -> Map<String, Value> {
        let show = |attribute: &Value| {
            let value = attribute["StringValue"].as_str().or(attribute["BinaryValue"].as_str());
            json!({"Type": attribute["DataType"], "Value": value})
        };
        self.attributes.iter().map(|(name, attribute)| (name.clone(), show(attribute))).collect()
    }

    /// What a queue gets without `RawMessageDelivery` (SNS developer guide, "Amazon SNS message and JSON
    /// formats"). Nothing is signed here.
    pub(super) fn envelope(
        &self,
        now: Timestamp,
        region: &str,
        topic: &str,
        subscription: &str,
        protocol: &str,
    ) -> Value {
        let host = format!("https://sns.{region}.amazonaws.com");
        let mut envelope = json!({
            "Type": "Notification",
            "MessageId": self.id,
            "TopicArn": topic,
            "Message": self.text_for(protocol),
            "Timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            "SignatureVersion": "1",
            "Signature": "EXAMPLE",
            "SigningCertURL": format!("{host}/SimpleNotificationService-0000000000000000000000.pem"),
            "UnsubscribeURL": format!("{host}/?Action=Unsubscribe&SubscriptionArn={subscription}"),
        });
        if let Some(subject) = &self.subject {
            envelope["Subject"] = subject.as_str().into();
        }
        if !self.attributes.is_empty() {
            envelope["MessageAttributes"] = Value::Object(self.shown());
        }
        envelope
    }

    /// What a function gets (Lambda developer guide, "Using Lambda with Amazon SNS").
    pub(super) fn records(&self, now: Timestamp, region: &str, topic: &str, subscription: &str) -> Value {
        let mut sns = self.envelope(now, region, topic, subscription, "lambda");
        sns["Subject"] = self.subject.as_deref().into();
        sns["MessageAttributes"] = Value::Object(self.shown());
        for (queue, function) in [("SigningCertURL", "SigningCertUrl"), ("UnsubscribeURL", "UnsubscribeUrl")]
        {
            sns[function] = sns[queue].take();
        }
        if let Value::Object(members) = &mut sns {
            members.retain(|name, _| !name.ends_with("URL"));
        }
        json!({"Records": [{
            "EventSource": "aws:sns",
            "EventVersion": "1.0",
            "EventSubscriptionArn": subscription,
            "Sns": sns,
        }]})
    }
}
