//! The operations of the SNS API.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::input::{entries, list, map, text};
use super::super::pattern::Pattern;
use super::envelope::MESSAGE_BYTES_MAX;
use super::{
    Delivery, PAGE, Protocol, Publication, SUBSCRIPTIONS_MAX, Subscription, TOPICS_MAX, Topics, invalid,
    not_found,
};
use crate::sandbox::front::request_id as uuid;
use crate::world::ApiError;

type Answer = Result<Value, ApiError>;

fn needed<'a>(input: &'a Value, member: &str) -> Result<&'a str, ApiError> {
    text(input, member)?.filter(|text| !text.is_empty()).ok_or_else(|| invalid(member))
}

impl Topics {
    /// Carries out one operation; what is to be delivered comes beside the answer.
    pub(in crate::sandbox::messages) fn call(
        &mut self,
        now: Timestamp,
        operation: &str,
        input: &Value,
    ) -> Result<(Value, Vec<Delivery>), ApiError> {
        let answer = match operation {
            "Publish" => return self.publish(now, input),
            "PublishBatch" => return self.publish_batch(now, input),
            "CreateTopic" => self.create(input),
            "DeleteTopic" => self.delete(input),
            "ListTopics" => self.list(input),
            "GetTopicAttributes" => self.topic_attributes(input),
            "SetTopicAttributes" => self.set_topic_attribute(input),
            "Subscribe" => self.subscribe(input),
            "Unsubscribe" => self.unsubscribe(input),
            "ListSubscriptions" => self.subscriptions(input, None),
            "ListSubscriptionsByTopic" => {
                let topic = self.known(input, "TopicArn")?.to_owned();
                self.subscriptions(input, Some(&topic))
            }
            "GetSubscriptionAttributes" => {
                let found = self.subscription(needed(input, "SubscriptionArn")?)?;
                Ok(json!({"Attributes": found.attributes(&self.account)}))
            }
            "SetSubscriptionAttributes" => self.set_subscription_attribute(input),
            other => Err(ApiError::client("InvalidAction", format!("the sandbox does not know {other}"))),
        };
        Ok((answer?, Vec::new()))
    }

    fn known<'a>(&self, input: &'a Value, member: &str) -> Result<&'a str, ApiError> {
        let arn = needed(input, member)?;
        if !arn.starts_with("arn:") {
            return Err(invalid(format_args!(
                "{member} Reason: An ARN must have at least 6 elements, not 1"
            )));
        }
        self.topics.contains_key(arn).then_some(arn).ok_or_else(|| not_found("Topic"))
    }

    fn create(&mut self, input: &Value) -> Answer {
        let name = needed(input, "Name")?;
        // "must be made up of only uppercase and lowercase ASCII letters, numbers, underscores, and hyphens,
        // and must be between 1 and 256 characters long" (`API_CreateTopic`).
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.len() > 256 || !name.chars().all(fits) {
            return Err(invalid("Topic Name (FIFO topics are not there in the sandbox)"));
        }
        let arn = format!("{}{name}", self.arn_prefix);
        if !self.topics.contains_key(&arn) && self.topics.len() >= TOPICS_MAX {
            let message = format!("the sandbox has at most {TOPICS_MAX} topics");
            return Err(ApiError { code: "TopicLimitExceeded".to_owned(), message, status: 403 });
        }
        let attributes = map(input, "Attributes")?;
        self.topics.entry(arn.clone()).or_insert(attributes);
        Ok(json!({"TopicArn": arn}))
    }

    /// "If you delete a topic that doesn't exist, it doesn't result in an error" (`API_DeleteTopic`).
    fn delete(&mut self, input: &Value) -> Answer {
        let arn = needed(input, "TopicArn")?;
        self.topics.remove(arn);
        self.subscriptions.retain(|subscription| subscription.topic != arn);
        Ok(json!({}))
    }

    fn list(&self, input: &Value) -> Answer {
        let after = text(input, "NextToken")?.unwrap_or_default();
        let mut rest = self.topics.keys().filter(|arn| arn.as_str() > after).peekable();
        let page: Vec<&String> = rest.by_ref().take(PAGE).collect();
        let topics: Vec<Value> = page.iter().map(|arn| json!({"TopicArn": arn})).collect();
        let next = rest.peek().and(page.last());
        Ok(json!({"Topics": topics, "NextToken": next}))
    }

    fn topic_attributes(&self, input: &Value) -> Answer {
        let arn = self.known(input, "TopicArn")?;
        let of_topic = self.subscriptions.iter().filter(|subscription| subscription.topic == arn).count();
        let mut shown = self.topics[arn].clone();
        let own = [
            ("TopicArn", arn.to_owned()),
            ("Owner", self.account.clone()),
            ("SubscriptionsConfirmed", of_topic.to_string()),
            ("SubscriptionsPending", "0".to_owned()),
            ("SubscriptionsDeleted", "0".to_owned()),
        ];
        shown.extend(own.map(|(name, value)| (name.to_owned(), value.into())));
        Ok(json!({"Attributes": shown}))
    }

    fn set_topic_attribute(&mut self, input: &Value) -> Answer {
        // `API_SetTopicAttributes`; only shown here.
        const KNOWN: [&str; 4] = ["DisplayName", "Policy", "DeliveryPolicy", "SignatureVersion"];
        let (arn, name) = (self.known(input, "TopicArn")?, needed(input, "AttributeName")?);
        if !KNOWN.contains(&name) {
            return Err(invalid(format_args!("AttributeName {name}")));
        }
        let value = text(input, "AttributeValue")?.unwrap_or_default();
        if let Some(attributes) = self.topics.get_mut(arn) {
            attributes.insert(name.to_owned(), value.into());
        }
        Ok(json!({}))
    }

    fn subscription(&self, arn: &str) -> Result<&Subscription, ApiError> {
        self.subscriptions.iter().find(|known| known.arn == arn).ok_or_else(|| not_found("Subscription"))
    }

    fn subscribe(&mut self, input: &Value) -> Answer {
        let topic = self.known(input, "TopicArn")?;
        let (protocol, service) = match needed(input, "Protocol")? {
            "sqs" => (Protocol::Sqs, "sqs"),
            "lambda" => (Protocol::Lambda, "lambda"),
            other => {
                return Err(invalid(format_args!(
                    "the sandbox delivers to the protocols sqs and lambda, not to {other}"
                )));
            }
        };
        let endpoint = needed(input, "Endpoint")?;
        if !endpoint.starts_with(&format!("arn:aws:{service}:")) {
            return Err(invalid(format_args!("{service} endpoint ARN")));
        }
        let mut made = Subscription {
            arn: format!("{topic}:{}", uuid()),
            topic: topic.to_owned(),
            protocol,
            endpoint: endpoint.to_owned(),
            raw: false,
            filter: None,
            filters_body: false,
        };
        for (name, value) in map(input, "Attributes")? {
            set(&mut made, &name, value.as_str().unwrap_or_default())?;
        }
        let same = |known: &&Subscription| {
            known.topic == made.topic && known.protocol == protocol && known.endpoint == made.endpoint
        };
        if let Some(known) = self.subscriptions.iter().find(same) {
            if (known.raw, &known.filter, known.filters_body) != (made.raw, &made.filter, made.filters_body) {
                return Err(invalid(
                    "Attributes Reason: Subscription already exists with different attributes",
                ));
            }
            return Ok(json!({"SubscriptionArn": known.arn}));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("the sandbox has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(ApiError { code: "SubscriptionLimitExceeded".to_owned(), message, status: 403 });
        }
        let arn = made.arn.clone();
        self.subscriptions.push_back(made);
        Ok(json!({"SubscriptionArn": arn}))
    }

    fn unsubscribe(&mut self, input: &Value) -> Answer {
        let arn = needed(input, "SubscriptionArn")?;
        self.subscription(arn)?;
        self.subscriptions.retain(|known| known.arn != arn);
        Ok(json!({}))
    }

    fn subscriptions(&self, input: &Value, topic: Option<&str>) -> Answer {
        let skip = match text(input, "NextToken")? {
            None => 0,
            Some(token) => token.parse().map_err(|_| invalid("NextToken"))?,
        };
        let fits = |known: &&Subscription| topic.is_none_or(|topic| topic == known.topic);
        let mut rest = self.subscriptions.iter().filter(fits).skip(skip).peekable();
        let page: Vec<Value> = rest
            .by_ref()
            .take(PAGE)
            .map(|known| {
                json!({
                    "SubscriptionArn": known.arn, "Owner": self.account, "TopicArn": known.topic,
                    "Protocol": known.protocol.as_str(), "Endpoint": known.endpoint,
                })
            })
            .collect();
        let next = rest.peek().map(|_| (skip + PAGE).to_string());
        Ok(json!({"Subscriptions": page, "NextToken": next}))
    }

    fn set_subscription_attribute(&mut self, input: &Value) -> Answer {
        let arn = needed(input, "SubscriptionArn")?;
        let name = needed(input, "AttributeName")?;
        let value = text(input, "AttributeValue")?.unwrap_or_default();
        let found = self.subscriptions.iter_mut().find(|known| known.arn == arn);
        set(found.ok_or_else(|| not_found("Subscription"))?, name, value)?;
        Ok(json!({}))
    }

    fn publish(&self, now: Timestamp, input: &Value) -> Result<(Value, Vec<Delivery>), ApiError> {
        let member = if input.get("TopicArn").is_some() { "TopicArn" } else { "TargetArn" };
        let topic = self.known(input, member)?;
        let message = Publication::read(input)?;
        Ok((json!({"MessageId": message.id}), self.deliveries(now, topic, &message)))
    }

    fn publish_batch(&self, now: Timestamp, input: &Value) -> Result<(Value, Vec<Delivery>), ApiError> {
        const ENTRIES: &str = "PublishBatchRequestEntries";
        let topic = self.known(input, "TopicArn")?;
        let size = |entry: &Value| entry["Message"].as_str().map_or(0, str::len);
        if list(input, ENTRIES)?.iter().map(size).sum::<usize>() > MESSAGE_BYTES_MAX {
            let message = "The length of all the batch messages put together is more than the limit.";
            return Err(ApiError::client("BatchRequestTooLong", message));
        }
        let (mut successful, mut failed, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
        for (id, entry) in entries(input, ENTRIES)? {
            match Publication::read(entry) {
                Ok(message) => {
                    successful.push(json!({"Id": id, "MessageId": message.id}));
                    deliveries.extend(self.deliveries(now, topic, &message));
                }
                Err(error) => failed.push(json!({
                    "Id": id, "Code": error.code, "Message": error.message, "SenderFault": true,
                })),
            }
        }
        Ok((json!({"Successful": successful, "Failed": failed}), deliveries))
    }
}

/// Sets one attribute of a subscription (`API_SetSubscriptionAttributes`).
fn set(subscription: &mut Subscription, name: &str, value: &str) -> Result<(), ApiError> {
    match name {
        "RawMessageDelivery" => match value {
            "true" if subscription.protocol == Protocol::Lambda => {
                return Err(invalid("Delivery protocol [lambda] does not support raw message delivery."));
            }
            "true" => subscription.raw = true,
            "false" => subscription.raw = false,
            _ => return Err(invalid("RawMessageDelivery")),
        },
        "FilterPolicy" if value.is_empty() || value == "{}" => subscription.filter = None,
        "FilterPolicy" => {
            let pattern =
                Pattern::parse(value).map_err(|error| invalid(format_args!("FilterPolicy: {error}")))?;
            subscription.filter = Some(pattern);
        }
        "FilterPolicyScope" => match value {
            "MessageAttributes" => subscription.filters_body = false,
            "MessageBody" => subscription.filters_body = true,
            _ => return Err(invalid("FilterPolicyScope")),
        },
        _ => return Err(invalid(format_args!("AttributeName {name}: not there in the sandbox"))),
    }
    Ok(())
}
