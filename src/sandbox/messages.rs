//! What carries news in the region: SQS queues, SNS topics and `EventBridge` rules, and what the region
//! itself has to tell (alarms, tasks).
//!
//! One lock holds all three, so that a message is in its queue before the call that caused it is
//! answered. Functions run elsewhere (`super::lambda`): they get what is for them through a queue.

mod input;
mod pattern;
mod queues;
mod rules;
mod topics;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::queues::{Content, Queues};
use self::rules::{Matched, Rules};
use self::topics::{Delivery, Publication, Topics};
use super::clock;
use super::wire::{Backend, Refusal, Request, Service};
use crate::world::ApiError;

/// A function to be run because of a message, without anybody waiting for its answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Invocation {
    /// Its ARN.
    pub(super) function: String,
    /// The event.
    pub(super) event: Value,
}

/// Something that happened in the region itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// For `EventBridge`: source, detail type, resources, detail.
    Event { source: &'static str, detail_type: &'static str, resources: Value, detail: Value },
    /// For a topic: its ARN, subject and message.
    Notice { topic: String, subject: String, message: String },
    /// For a function.
    Invoke(Invocation),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Post {
    queues: Queues,
    topics: Topics,
    rules: Rules,
}

/// What outlives the program: queues with their messages, topics with their subscriptions, rules.
#[derive(Clone, Debug)]
pub(super) struct KeptMessages(Arc<Post>);

impl PartialEq for KeptMessages {
    fn eq(&self, other: &Self) -> bool {
        // Most often nothing was written in between, and then it is the same one.
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Serialize for KeptMessages {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for KeptMessages {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Post::deserialize(from).map(|post| Self(Arc::new(post)))
    }
}

/// Queues, topics and rules.
pub(super) struct Messages {
    /// Shared with whoever saves it: the first change after that is made to a copy.
    post: Mutex<Arc<Post>>,
    /// Set by whatever may change something, under the lock.
    touched: AtomicBool,
    /// Rung when a message may have become receivable.
    arrived: Notify,
    invocations: mpsc::Sender<Invocation>,
}

impl Messages {
    /// What was kept, or nothing yet; functions to run go to `invocations`.
    pub(super) fn new(
        (endpoint, region, account): (&str, &str, &str),
        invocations: mpsc::Sender<Invocation>,
        kept: Option<KeptMessages>,
    ) -> Self {
        let post = match kept {
            Some(KeptMessages(kept)) => {
                let Post { queues, topics, rules } = Arc::unwrap_or_clone(kept);
                Post { queues: queues.behind(endpoint), topics, rules }
            }
            None => Post {
                queues: Queues::new(endpoint, region, account),
                topics: Topics::new(region, account),
                rules: Rules::new(region, account),
            },
        };
        let (post, touched, arrived) = (Mutex::new(Arc::new(post)), AtomicBool::new(false), Notify::new());
        Self { post, touched, arrived, invocations }
    }

    /// What outlives the program, as it is now.
    pub(super) fn kept(&self) -> KeptMessages {
        KeptMessages(Arc::clone(&self.lock()))
    }

    /// Whether anything may have changed since this was last asked.
    pub(super) fn were_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Post>> {
        // A panic ends its call; the other queues are whole.
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a change.
    fn change<T>(&self, change: impl FnOnce(&mut Post) -> T) -> T {
        let mut post = self.lock();
        self.touched.store(true, Ordering::Relaxed);
        change(Arc::make_mut(&mut post))
    }

    /// Whether a rule waits for events, so that it is worth looking for them.
    pub(super) fn listens(&self) -> bool {
        self.lock().rules.listen()
    }

    /// Passes on what happened in the region. Whether it found whom it names.
    pub(super) fn tell(&self, now: Timestamp, news: &News) -> bool {
        self.change(|post| {
            let (found, deliveries) = match news {
                News::Event { source, detail_type, resources, detail } => {
                    let event = post.rules.event(now, source, detail_type, resources, detail);
                    let matched = post.rules.matched(&event);
                    (true, post.sort(now, matched))
                }
                News::Notice { topic, subject, message } => {
                    let message = Publication::plain(message.clone(), Some(subject.clone()));
                    (post.topics.has(topic), post.topics.deliveries(now, topic, &message))
                }
                News::Invoke(Invocation { function, event }) => {
                    (true, vec![Delivery::Function(function.clone(), event.clone())])
                }
            };
            self.carry(post, now, deliveries);
            found
        })
    }

    fn carry(&self, post: &mut Post, now: Timestamp, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            match delivery {
                Delivery::Queue(arn, text, attributes) => match Content::new(&text, attributes) {
                    Ok(content) if post.queues.has(&arn) => {
                        post.queues.deliver(now, &arn, content);
                    }
                    Ok(_) => tracing::warn!(arn, "a message for a queue that is not there is dropped"),
                    Err(error) => tracing::warn!(arn, %error, "a message that no queue takes is dropped"),
                },
                Delivery::Function(function, event) => {
                    if let Err(error) = self.invocations.try_send(Invocation { function, event }) {
                        tracing::warn!(%error, "an event for a function is dropped");
                    }
                }
            }
        }
        self.arrived.notify_waiters();
    }

    /// Receives, waiting for the first message as long as asked.
    async fn receive(&self, input: &Value) -> Result<Value, ApiError> {
        let (name, wait) = {
            let post = self.lock();
            let name = post.queues.named(input)?;
            let (_, wait) = post.queues.wanted(&name, input)?;
            (name, wait)
        };
        let deadline = Instant::now() + Duration::from_secs(u64::from(wait));
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // From here on, no message goes unnoticed.
            arrived.as_mut().enable();
            let now = clock::now();
            let (messages, next) = self.change(|post| {
                let (wanted, _) = post.queues.wanted(&name, input)?;
                let messages = post.queues.receive(now, &name, &wanted)?;
                Ok::<_, ApiError>((messages, post.queues.next_visible(now, &name)))
            })?;
            if !messages.is_empty() {
                return Ok(json!({"Messages": messages}));
            }
            if Instant::now() >= deadline {
                return Ok(json!({}));
            }
            let until_next = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
            let wake = until_next.map_or(deadline, |pause| deadline.min(Instant::now() + pause));
            tokio::select! {
                () = arrived => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn call_now(&self, service: Service, operation: &str, input: &Value) -> Result<Value, ApiError> {
        let now = clock::now();
        self.change(|post| {
            let (answer, deliveries) = match service {
                Service::Sqs => (post.queues.call(now, operation, input)?, Vec::new()),
                Service::Sns => post.topics.call(now, operation, input)?,
                _ => {
                    let (answer, matched) = post.rules.call(now, operation, input)?;
                    (answer, post.sort(now, matched))
                }
            };
            self.carry(post, now, deliveries);
            Ok(answer)
        })
    }
}

impl Post {
    /// What rules send, by the kind of its target.
    fn sort(&self, now: Timestamp, matched: Vec<Matched>) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for Matched { arn, text } in matched {
            if self.topics.has(&arn) {
                deliveries.extend(self.topics.deliveries(now, &arn, &Publication::plain(text, None)));
            } else if arn.starts_with("arn:aws:lambda:") {
                let event = serde_json::from_str(&text).unwrap_or(Value::Null);
                deliveries.push(Delivery::Function(arn, event));
            } else if arn.starts_with("arn:aws:sqs:") {
                deliveries.push(Delivery::Queue(arn, text, Map::new()));
            } else {
                tracing::warn!(arn, "an event for a topic that is not there is dropped");
            }
        }
        deliveries
    }
}

#[async_trait]
impl Backend for Messages {
    async fn call(&self, request: Request) -> Result<Value, Refusal> {
        let Request { service, operation, input, .. } = request;
        let answer = match (service, operation.as_str()) {
            (Service::Sqs, "ReceiveMessage") => self.receive(&input).await,
            _ => self.call_now(service, &operation, &input),
        };
        Ok(answer?)
    }
}

#[cfg(test)]
mod tests;
