//! The operations of the SQS API but `ReceiveMessage`, which may wait (`crate::sandbox::messages`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::input::{entries, invalid, list, map, missing, needed, text, texts, whole};
use super::{Content, MESSAGE_BYTES_MAX, QUEUES_MAX, Queue, Queues, Settings, Wanted, no_queue, secs};
use crate::world::ApiError;

/// The longest visibility timeout: 12 hours, in seconds (`API_ChangeMessageVisibility`).
const VISIBILITY_MAX: u32 = 43_200;
/// The longest delay of a message: 15 minutes, in seconds (`API_SendMessage`).
const DELAY_MAX: u32 = 900;

type Answer = Result<Value, ApiError>;

impl Queues {
    /// Carries out one operation.
    pub(in crate::sandbox::messages) fn call(
        &mut self,
        now: Timestamp,
        operation: &str,
        input: &Value,
    ) -> Answer {
        match operation {
            "CreateQueue" => self.create(now, input),
            "DeleteQueue" => self.delete(input),
            "GetQueueUrl" => self.get_url(input),
            "ListQueues" => self.list(input),
            "GetQueueAttributes" => self.attributes(now, input),
            "SetQueueAttributes" => self.set_attributes(now, input),
            "SendMessage" => self.send(now, input),
            "SendMessageBatch" => self.send_batch(now, input),
            "DeleteMessage" => self.delete_message(input),
            "DeleteMessageBatch" => Ok(self.batch(input, Queues::delete_message)?),
            "ChangeMessageVisibility" => self.change_visibility(now, input),
            "ChangeMessageVisibilityBatch" => {
                Ok(self.batch(input, |queues, entry| queues.change_visibility(now, entry))?)
            }
            "PurgeQueue" => self.purge(input),
            "TagQueue" => self.tag(input),
            "UntagQueue" => self.untag(input),
            "ListQueueTags" => Ok(json!({"Tags": self.queue(&self.named(input)?)?.tags})),
            other => Err(ApiError::client(
                "UnsupportedOperation",
                format!("the sandbox does not know the operation '{other}'"),
            )),
        }
    }

    /// Name of the queue that `QueueUrl` stands for; hosts are not looked at.
    pub(in crate::sandbox::messages) fn named(&self, input: &Value) -> Result<String, ApiError> {
        let url = needed(input, "QueueUrl")?;
        let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or(url);
        self.queues.contains_key(name).then(|| name.to_owned()).ok_or_else(no_queue)
    }

    /// What a `ReceiveMessage` wants, and how many seconds it waits for it.
    pub(in crate::sandbox::messages) fn wanted<'a>(
        &self,
        name: &str,
        input: &'a Value,
    ) -> Result<(Wanted<'a>, u32), ApiError> {
        // "MaxNumberOfMessages … Valid values: 1 to 10. Default: 1." "WaitTimeSeconds" is 0 to 20.
        let most = whole(input, "MaxNumberOfMessages", 1, 10)?.unwrap_or(1);
        let wait = match whole(input, "WaitTimeSeconds", 0, 20)? {
            Some(wait) => wait,
            None => self.queue(name)?.settings.number("ReceiveMessageWaitTimeSeconds"),
        };
        let mut system = texts(input, "MessageSystemAttributeNames")?;
        system.extend(texts(input, "AttributeNames")?);
        let attributes = texts(input, "MessageAttributeNames")?;
        let visibility = whole(input, "VisibilityTimeout", 0, VISIBILITY_MAX)?;
        Ok((Wanted { most, visibility, attributes, system }, wait))
    }

    fn create(&mut self, now: Timestamp, input: &Value) -> Answer {
        let name = needed(input, "QueueName")?;
        if name.strip_suffix(".fifo").is_some() {
            return Err(ApiError::client("UnsupportedOperation", "the sandbox has no FIFO queues"));
        }
        // "A queue name can have up to 80 characters … alphanumeric characters, hyphens (-), and
        // underscores (_)."
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.len() > 80 || !name.chars().all(fits) {
            return Err(invalid(
                "QueueName",
                &name.into(),
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            ));
        }
        let mut settings = Settings::default();
        settings.set(&map(input, "Attributes")?)?;
        if let Some(queue) = self.queues.get(name) {
            // "If you provide the name of an existing queue along with the exact names and values of all
            // the queue's attributes, CreateQueue returns the queue URL"; fewer attributes do as well.
            let asked = map(input, "Attributes")?;
            let all = queue.settings.all();
            let same = asked.iter().all(|(name, value)| all.get(name).map(String::as_str) == value.as_str());
            if !same {
                return Err(ApiError::client(
                    "QueueNameExists",
                    format!(
                        "A queue already exists with the same name and a different value for attribute(s) of {name}"
                    ),
                ));
            }
            return Ok(json!({"QueueUrl": self.url(name)}));
        }
        if self.queues.len() >= QUEUES_MAX {
            return Err(ApiError::client("OverLimit", format!("the sandbox has {QUEUES_MAX} queues")));
        }
        let tags = map(input, "tags")?;
        let messages = BTreeMap::new();
        self.queues.insert(name.to_owned(), Queue { settings, tags, created: now, changed: now, messages });
        Ok(json!({"QueueUrl": self.url(name)}))
    }

    fn delete(&mut self, input: &Value) -> Answer {
        self.purge(input)?;
        let name = self.named(input)?;
        self.queues.remove(&name);
        Ok(json!({}))
    }

    fn purge(&mut self, input: &Value) -> Answer {
        let name = self.named(input)?;
        let queue = self.queue_mut(&name)?;
        let freed: usize = queue.messages.values().map(|message| message.content.size()).sum();
        queue.messages.clear();
        self.bytes -= freed;
        Ok(json!({}))
    }

    fn get_url(&self, input: &Value) -> Answer {
        let name = needed(input, "QueueName")?;
        self.queue(name)?;
        Ok(json!({"QueueUrl": self.url(name)}))
    }

    fn list(&self, input: &Value) -> Answer {
        let prefix = text(input, "QueueNamePrefix")?.unwrap_or_default();
        let most = whole(input, "MaxResults", 1, 1_000)?.unwrap_or(1_000);
        let after = text(input, "NextToken")?.unwrap_or_default();
        let names = self.queues.keys().filter(|name| name.starts_with(prefix) && name.as_str() > after);
        let mut names = names.peekable();
        let mut page: Vec<&String> = Vec::new();
        for _ in 0..most {
            page.extend(names.next());
        }
        let urls: Vec<String> = page.iter().map(|name| self.url(name)).collect();
        let mut answer = json!({});
        if !urls.is_empty() {
            answer["QueueUrls"] = urls.into();
        }
        if let (Some(last), true) = (page.last(), names.peek().is_some()) {
            answer["NextToken"] = last.as_str().into();
        }
        Ok(answer)
    }

    fn attributes(&mut self, now: Timestamp, input: &Value) -> Answer {
        let name = self.named(input)?;
        self.expire(now, &name);
        let queue = self.queue(&name)?;
        let count = |fits: &dyn Fn(&super::Message) -> bool| {
            queue.messages.values().filter(|message| fits(message)).count().to_string()
        };
        let mut all = queue.settings.all();
        all.extend(
            [
                ("QueueArn", self.arn(&name)),
                ("CreatedTimestamp", queue.created.as_second().to_string()),
                ("LastModifiedTimestamp", queue.changed.as_second().to_string()),
                ("ApproximateNumberOfMessages", count(&|message| message.visible <= now)),
                (
                    "ApproximateNumberOfMessagesNotVisible",
                    count(&|message| message.visible > now && message.received > 0),
                ),
                (
                    "ApproximateNumberOfMessagesDelayed",
                    count(&|message| message.visible > now && message.received == 0),
                ),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let asked = texts(input, "AttributeNames")?;
        let known = |name: &&&str| **name == "All" || all.contains_key(**name) || POSSIBLE.contains(*name);
        if let Some(unknown) = asked.iter().find(|name| !known(name)) {
            return Err(ApiError::client("InvalidAttributeName", format!("Unknown Attribute {unknown}.")));
        }
        let shown: BTreeMap<String, String> = all
            .into_iter()
            .filter(|(name, _)| asked.iter().any(|asked| *asked == "All" || asked == name))
            .collect();
        Ok(if shown.is_empty() { json!({}) } else { json!({"Attributes": shown}) })
    }

    fn set_attributes(&mut self, now: Timestamp, input: &Value) -> Answer {
        let name = self.named(input)?;
        let attributes = map(input, "Attributes")?;
        if attributes.is_empty() {
            return Err(missing("Attributes"));
        }
        let queue = self.queue_mut(&name)?;
        queue.settings.set(&attributes)?;
        queue.changed = now;
        Ok(json!({}))
    }

    fn send(&mut self, now: Timestamp, input: &Value) -> Answer {
        let name = self.named(input)?;
        let (content, delay) = message(input)?;
        self.add(now, &name, content, delay)
    }

    fn send_batch(&mut self, now: Timestamp, input: &Value) -> Answer {
        let size = |entry: &Value| entry["MessageBody"].as_str().map_or(0, str::len);
        let sent: usize = list(input, "Entries")?.iter().map(size).sum();
        if sent > MESSAGE_BYTES_MAX {
            return Err(ApiError::client(
                "BatchRequestTooLong",
                format!(
                    "Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent {sent} bytes."
                ),
            ));
        }
        let name = self.named(input)?;
        self.batch(input, |queues, entry| {
            let (content, delay) = message(entry)?;
            queues.add(now, &name, content, delay)
        })
    }

    /// Each entry by itself: "the result of … each message is reported individually in the response".
    fn batch(&mut self, input: &Value, mut one: impl FnMut(&mut Self, &Value) -> Answer) -> Answer {
        self.named(input)?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for (id, entry) in entries(input, "Entries")? {
            let mut whole = entry.clone();
            whole["QueueUrl"] = input["QueueUrl"].clone();
            match one(self, &whole) {
                Ok(mut answer) => {
                    answer["Id"] = id.into();
                    successful.push(answer);
                }
                Err(error) => failed.push(json!({
                    "Id": id, "Code": error.code, "Message": error.message, "SenderFault": error.status < 500,
                })),
            }
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }

    fn delete_message(&mut self, input: &Value) -> Answer {
        let name = self.named(input)?;
        if let Some(number) = self.by_receipt(&name, needed(input, "ReceiptHandle")?)? {
            self.remove(&name, number);
        }
        Ok(json!({}))
    }

    fn change_visibility(&mut self, now: Timestamp, input: &Value) -> Answer {
        let name = self.named(input)?;
        let number = self.by_receipt(&name, needed(input, "ReceiptHandle")?)?;
        let timeout = whole(input, "VisibilityTimeout", 0, VISIBILITY_MAX)?
            .ok_or_else(|| missing("VisibilityTimeout"))?;
        let queue = self.queue_mut(&name)?;
        let message = number.and_then(|number| queue.messages.get_mut(&number));
        match message.filter(|message| message.visible > now) {
            Some(message) => message.visible = now + secs(timeout),
            None => {
                return Err(ApiError::client(
                    "MessageNotInflight",
                    "The specified message isn't in flight: it is deleted, or visible again.",
                ));
            }
        }
        Ok(json!({}))
    }

    fn tag(&mut self, input: &Value) -> Answer {
        // "Adding more than 50 tags to a queue isn't recommended": a limit here.
        const TAGS_MAX: usize = 50;
        let (name, tags) = (self.named(input)?, map(input, "Tags")?);
        let queue = self.queue_mut(&name)?;
        if queue.tags.len() + tags.len() > TAGS_MAX {
            return Err(ApiError::client("OverLimit", format!("a queue has at most {TAGS_MAX} tags")));
        }
        queue.tags.extend(tags);
        Ok(json!({}))
    }

    fn untag(&mut self, input: &Value) -> Answer {
        let (name, keys) = (self.named(input)?, texts(input, "TagKeys")?);
        let queue = self.queue_mut(&name)?;
        queue.tags = std::mem::take(&mut queue.tags)
            .into_iter()
            .filter(|(key, _)| !keys.contains(&key.as_str()))
            .collect::<Map<_, _>>();
        Ok(json!({}))
    }
}

/// Attributes that may be asked for while they have no value.
const POSSIBLE: [&str; 9] = [
    "ContentBasedDeduplication",
    "FifoQueue",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "Policy",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "DeduplicationScope",
];

fn message(input: &Value) -> Result<(Content, Option<u32>), ApiError> {
    let content = Content::new(needed(input, "MessageBody")?, map(input, "MessageAttributes")?)?;
    Ok((content, whole(input, "DelaySeconds", 0, DELAY_MAX)?))
}
