//! Amazon SQS standard queues, without their clock: time comes in as an argument.
//!
//! A message that is received becomes invisible until its visibility timeout has passed, and is then
//! there again unless somebody deleted it by its newest receipt handle. Real SQS delivers "at least
//! once"; this one never delivers twice by itself, so that what a test sees twice it caused.

mod calls;
mod content;
mod settings;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(super) use self::content::Content;
use self::content::md5_of_attributes;
use self::settings::Settings;
use crate::sandbox::front::request_id as uuid;
use crate::world::ApiError;

/// Largest message and largest batch: "The maximum size is 1 MiB or 1,048,576 bytes" (`API_SendMessage`).
const MESSAGE_BYTES_MAX: usize = 1_048_576;
const MESSAGE_BYTES_MAX_U32: u32 = 1_048_576;
/// Queues of one sandbox. AWS has no such limit.
const QUEUES_MAX: usize = 1_000;
/// Messages of one queue, and bytes of all: what is beyond is refused (`OverLimit`) when sent, and
/// dropped when delivered. AWS stores any number of them.
const MESSAGES_MAX: usize = 20_000;
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    id: String,
    content: Content,
    sent: Timestamp,
    /// From when on it may be received (again).
    visible: Timestamp,
    first_received: Option<Timestamp>,
    received: u32,
    /// What deletes it: made anew whenever it is received.
    receipt: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Queue {
    settings: Settings,
    tags: Map<String, Value>,
    created: Timestamp,
    changed: Timestamp,
    /// In the order in which they were sent.
    messages: BTreeMap<u64, Message>,
}

/// What a receiver wants.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// 1 to 10.
    pub(super) most: u32,
    /// Seconds; by default the queue's.
    pub(super) visibility: Option<u32>,
    /// `MessageAttributeNames`.
    pub(super) attributes: Vec<&'a str>,
    /// `MessageSystemAttributeNames`.
    pub(super) system: Vec<&'a str>,
}

/// All queues of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Queues {
    /// Where the program that runs now listens, not the one that saved them.
    #[serde(skip)]
    endpoint: String,
    region: String,
    account: String,
    #[expect(clippy::struct_field_names, reason = "they are what the whole is named after")]
    queues: BTreeMap<String, Queue>,
    sent: u64,
    bytes: usize,
}

fn secs(secs: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(secs))
}

fn no_queue() -> ApiError {
    ApiError::client("QueueDoesNotExist", "The specified queue does not exist.")
}

impl Queues {
    pub(super) fn new(endpoint: &str, region: &str, account: &str) -> Self {
        let own = str::to_owned;
        Self {
            endpoint: own(endpoint),
            region: own(region),
            account: own(account),
            queues: BTreeMap::new(),
            sent: 0,
            bytes: 0,
        }
    }

    /// The same queues behind another endpoint.
    pub(super) fn behind(self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self }
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.endpoint, self.account)
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:{}:{}:{name}", self.region, self.account)
    }

    fn queue(&self, name: &str) -> Result<&Queue, ApiError> {
        self.queues.get(name).ok_or_else(no_queue)
    }

    fn queue_mut(&mut self, name: &str) -> Result<&mut Queue, ApiError> {
        self.queues.get_mut(name).ok_or_else(no_queue)
    }

    /// Whether a queue with this ARN is here.
    pub(super) fn has(&self, arn: &str) -> bool {
        self.name_of(arn).is_some()
    }

    fn name_of(&self, arn: &str) -> Option<String> {
        let name = arn.rsplit(':').next()?;
        (self.queues.contains_key(name) && self.arn(name) == arn).then(|| name.to_owned())
    }

    /// A message from within the region: from a topic or a rule. Whether it found its queue.
    pub(super) fn deliver(&mut self, now: Timestamp, arn: &str, content: Content) -> bool {
        let Some(name) = self.name_of(arn) else { return false };
        match self.add(now, &name, content, None) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(queue = name, %error, "a message is dropped");
                false
            }
        }
    }

    /// Adds one message and answers as `SendMessage` does.
    fn add(
        &mut self,
        now: Timestamp,
        name: &str,
        content: Content,
        delay: Option<u32>,
    ) -> Result<Value, ApiError> {
        let (bytes, sent) = (self.bytes, self.sent + 1);
        let queue = self.queue_mut(name)?;
        let (size, most) = (content.size(), queue.settings.number("MaximumMessageSize"));
        if u32::try_from(size).is_ok_and(|size| size > most) || size > MESSAGE_BYTES_MAX {
            return Err(ApiError::client(
                "InvalidParameterValue",
                format!(
                    "One or more parameters are invalid. Reason: Message must be shorter than {most} bytes."
                ),
            ));
        }
        if queue.messages.len() >= MESSAGES_MAX || bytes + size > BYTES_MAX {
            return Err(ApiError {
                code: "OverLimit".to_owned(),
                message: format!("the sandbox keeps {MESSAGES_MAX} messages a queue and {BYTES_MAX} bytes"),
                status: 403,
            });
        }
        let delay = delay.unwrap_or_else(|| queue.settings.number("DelaySeconds"));
        let mut answer = json!({"MessageId": uuid(), "MD5OfMessageBody": content.md5_of_body()});
        if let Some(digest) = md5_of_attributes(&content.attributes) {
            answer["MD5OfMessageAttributes"] = digest.into();
        }
        let message = Message {
            id: answer["MessageId"].as_str().unwrap_or_default().to_owned(),
            content,
            sent: now,
            visible: now + secs(delay),
            first_received: None,
            received: 0,
            receipt: String::new(),
        };
        queue.messages.insert(sent, message);
        self.sent = sent;
        self.bytes = bytes + size;
        Ok(answer)
    }

    fn remove(&mut self, name: &str, number: u64) -> Option<Message> {
        let message = self.queues.get_mut(name)?.messages.remove(&number)?;
        self.bytes -= message.content.size();
        Some(message)
    }

    /// Messages older than the queue keeps them go.
    fn expire(&mut self, now: Timestamp, name: &str) {
        let Some(queue) = self.queues.get(name) else { return };
        let kept = secs(queue.settings.number("MessageRetentionPeriod"));
        let old = queue.messages.iter().take_while(|(_, message)| message.sent + kept <= now);
        for number in old.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.remove(name, number);
        }
    }

    /// Hands out what is visible, in the order in which it was sent.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        name: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Value>, ApiError> {
        self.expire(now, name);
        let dead_letters = self.queue(name)?.settings.dead_letters();
        let visible = |message: &&Message| message.visible <= now;
        let numbers: Vec<u64> = self
            .queue(name)?
            .messages
            .iter()
            .filter(|(_, message)| visible(message))
            .map(|(number, _)| *number)
            .collect();
        let mut received = Vec::new();
        for number in numbers {
            if received.len() >= usize::try_from(wanted.most).unwrap_or(usize::MAX) {
                break;
            }
            // "After the maxReceiveCount is exceeded, SQS moves the message to the dead-letter queue."
            let times = self.queue(name)?.messages.get(&number).map_or(0, |message| message.received);
            match &dead_letters {
                Some((queue, most)) if times >= *most && self.queues.contains_key(queue) => {
                    if let Some(message) = self.remove(name, number) {
                        self.bury(now, queue, message);
                    }
                }
                _ => received.extend(self.hand_out(now, name, number, wanted)),
            }
        }
        Ok(received)
    }

    fn bury(&mut self, now: Timestamp, queue: &str, message: Message) {
        self.sent += 1;
        self.bytes += message.content.size();
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.messages.insert(self.sent, Message { visible: now, received: 0, ..message });
        }
    }

    fn hand_out(&mut self, now: Timestamp, name: &str, number: u64, wanted: &Wanted<'_>) -> Option<Value> {
        let queue = self.queues.get_mut(name)?;
        let timeout = wanted.visibility.unwrap_or_else(|| queue.settings.number("VisibilityTimeout"));
        let message = queue.messages.get_mut(&number)?;
        message.visible = now + secs(timeout);
        message.first_received.get_or_insert(now);
        message.received += 1;
        let receipt = format!("{number}:{name}:{}", uuid());
        message.receipt = data_encoding::BASE64.encode(receipt.as_bytes());
        let mut shown = json!({
            "MessageId": message.id,
            "ReceiptHandle": message.receipt,
            "Body": message.content.body,
            "MD5OfBody": message.content.md5_of_body(),
        });
        let attributes = message.content.asked_for(&wanted.attributes);
        if let Some(digest) = md5_of_attributes(&attributes) {
            shown["MD5OfMessageAttributes"] = digest.into();
            shown["MessageAttributes"] = Value::Object(attributes);
        }
        let system = [
            ("SenderId", "AIDASANDBOXSANDBOX000".to_owned()),
            ("SentTimestamp", message.sent.as_millisecond().to_string()),
            ("ApproximateReceiveCount", message.received.to_string()),
            (
                "ApproximateFirstReceiveTimestamp",
                message.first_received.unwrap_or(now).as_millisecond().to_string(),
            ),
        ];
        let asked = |name: &str| wanted.system.iter().any(|wanted| *wanted == "All" || *wanted == name);
        let system: Map<String, Value> = system
            .into_iter()
            .filter(|(name, _)| asked(name))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        if !system.is_empty() {
            shown["Attributes"] = Value::Object(system);
        }
        Some(shown)
    }

    /// When the next message that is invisible now becomes visible.
    pub(super) fn next_visible(&self, now: Timestamp, name: &str) -> Option<Timestamp> {
        let messages = self.queues.get(name)?.messages.values();
        messages.map(|message| message.visible).filter(|visible| *visible > now).min()
    }

    /// The message that a receipt handle stands for. `None`: deleted, or received again since ("if you
    /// … use an old receipt handle, the message might not be deleted", `API_DeleteMessage`).
    fn by_receipt(&self, name: &str, handle: &str) -> Result<Option<u64>, ApiError> {
        let queue = self.queue(name)?;
        let number = data_encoding::BASE64.decode(handle.as_bytes()).ok().and_then(|text| {
            let text = String::from_utf8(text).ok()?;
            let (number, rest) = text.split_once(':')?;
            rest.starts_with(&format!("{name}:")).then(|| number.parse::<u64>().ok())?
        });
        let Some(number) = number else {
            return Err(ApiError {
                code: "ReceiptHandleIsInvalid".to_owned(),
                message: format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
                status: 404,
            });
        };
        Ok(queue.messages.get(&number).filter(|message| message.receipt == handle).map(|_| number))
    }
}

#[cfg(test)]
mod tests;
