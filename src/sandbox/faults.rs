//! Faults on demand: what a client of AWS must live with, ordered by operation and by count.
//!
//! A [`FaultRule`] says which calls it is for and what happens to them. A test asks for "the second
//! `ModifyRule` is cut off after its effect" and gets exactly that; a rule with a probability draws from
//! its seed, so the same calls are hit in every run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::weather::draw;
use super::wire::{Call, Refusal, Service};
use crate::world::ApiError;

/// More rules than any test needs; beyond it, adding is refused.
const RULES_MAX: usize = 256;

/// Which calls are hit, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultRule {
    /// Only this service; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Operation name; a trailing `*` stands for the rest of it, so `*` is every operation.
    #[serde(default = "every_operation")]
    pub operation: String,
    /// Only calls whose input, as JSON text, contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containing: Option<String>,
    /// Only calls signed with this access key id; a trailing `*` stands for the rest of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// How many matching calls pass unharmed first.
    #[serde(default)]
    pub skip: u64,
    /// Of the calls after that, so many in a thousand are hit; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_mille: Option<u32>,
    /// What the draws of `perMille` depend on, besides the number of the call.
    #[serde(default)]
    pub seed: u64,
    /// How many are hit after that; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What happens to them.
    pub effect: Effect,
}

fn every_operation() -> String {
    "*".to_owned()
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", tag = "kind")]
pub enum Effect {
    /// Refused as over the rate limit; nothing changed.
    Throttle,
    /// HTTP 500 of the service; nothing changed.
    ServerError,
    /// HTTP 500 although the call took effect.
    ServerErrorAfter,
    /// HTTP 503; nothing changed.
    Unavailable,
    /// Refused by IAM.
    Denied,
    /// Refused with exactly this.
    Refuse {
        /// Error code.
        code: String,
        /// Error message.
        #[serde(default)]
        message: String,
        /// HTTP status.
        status: u16,
        /// Further members, for example `CancellationReasons`.
        #[serde(default)]
        members: Map<String, Value>,
    },
    /// No answer, no effect: the client waits until its own timeout.
    TimeoutBefore,
    /// No answer although the call took effect.
    TimeoutAfter,
    /// The connection is reset before the call took effect.
    ResetBefore,
    /// The connection is reset after the call took effect.
    ResetAfter,
    /// The answer comes this much later.
    Latency {
        /// Milliseconds.
        millis: u64,
    },
    /// Reads answer as the service looked this many changes ago.
    Stale {
        /// How many changes.
        versions: u32,
    },
    /// The call waits before its effect until the rule is taken away.
    Hold,
    /// The call took effect, but only the first half of its answer comes, as a whole HTTP response.
    Malformed,
    /// The client is cut off at once, and the call takes effect this much later: the write that nobody
    /// waits for any more and that lands all the same.
    LateEffect {
        /// Milliseconds until the effect.
        millis: u64,
        /// What the client sees at once.
        #[serde(default)]
        client: LateClient,
    },
    /// `DynamoDB` refuses because another transaction holds an item: `TransactionConflictException`, or for
    /// a transaction `TransactionCanceledException` with that reason for its first item.
    TransactionConflict,
}

/// What a client sees whose call takes effect later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LateClient {
    /// A reset connection.
    #[default]
    Reset,
    /// Nothing, until its own timeout.
    Timeout,
    /// HTTP 500.
    ServerError,
}

/// A rule and what it has done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmedFault {
    /// Given at arming; names the rule when it is taken away.
    pub id: u64,
    /// The rule.
    #[serde(flatten)]
    pub rule: FaultRule,
    /// Calls that matched.
    pub matched: u64,
    /// Calls that were hit.
    pub hit: u64,
}

impl ArmedFault {
    fn fits(&self, call: &Call) -> bool {
        let rule = &self.rule;
        let key = call.caller.access_key.as_deref().unwrap_or_default();
        matches(&rule.operation, &call.operation)
            && rule.access_key.as_deref().is_none_or(|wanted| matches(wanted, key))
            && rule.service.is_none_or(|service| service == call.service)
            && rule.containing.as_ref().is_none_or(|part| call.input.to_string().contains(part))
    }

    /// Counts a matching call; whether it is hit.
    fn strike(&mut self) -> bool {
        self.matched += 1;
        let drawn = || draw(self.rule.seed, self.matched, 1_000);
        let due = self.matched > self.rule.skip
            && self.rule.count.is_none_or(|count| self.hit < count)
            && self.rule.per_mille.is_none_or(|share| drawn() < share);
        self.hit += u64::from(due);
        due
    }
}

/// A trailing `*` in a pattern stands for the rest.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => text == pattern,
    }
}

/// Where a call is cut off.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cut {
    /// This error instead of the answer.
    Refuse(Refusal),
    /// Nothing at all.
    Silence,
    /// A reset connection.
    Reset,
    /// The first half of the answer.
    Half,
}

/// Everything that happens to one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) latency_millis: u64,
    /// The effect comes this much after the client was told.
    pub(super) late_millis: Option<u64>,
    pub(super) stale_versions: u32,
    /// The ids of rules that hold it back.
    pub(super) held_by: Vec<u64>,
    pub(super) before: Option<Cut>,
    pub(super) after: Option<Cut>,
    /// Names of the effects, for the call log.
    pub(super) effects: Vec<&'static str>,
}

/// The armed rules.
#[derive(Debug)]
pub(super) struct Faults {
    armed: Mutex<Vec<ArmedFault>>,
    /// Grows with every change, to wake held calls.
    changes: watch::Sender<u64>,
    account: String,
}

/// The list of rules is full.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{RULES_MAX} fault rules are armed already")]
pub(super) struct TooManyRules;

impl Faults {
    pub(super) fn new(account: &str) -> Self {
        Self { armed: Mutex::new(Vec::new()), changes: watch::Sender::new(0), account: account.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ArmedFault>> {
        // The list is whole between statements, so a panic elsewhere doesn't spoil it.
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a rule and returns its id.
    pub(super) fn arm(&self, rule: FaultRule) -> Result<u64, TooManyRules> {
        let mut armed = self.lock();
        if armed.len() >= RULES_MAX {
            return Err(TooManyRules);
        }
        let mut id = 0;
        self.changes.send_modify(|changes| {
            *changes += 1;
            id = *changes;
        });
        armed.push(ArmedFault { id, rule, matched: 0, hit: 0 });
        Ok(id)
    }

    /// Takes away one rule, or all; returns how many went.
    pub(super) fn disarm(&self, id: Option<u64>) -> usize {
        let mut armed = self.lock();
        let before = armed.len();
        armed.retain(|fault| id.is_some_and(|id| id != fault.id));
        let gone = before - armed.len();
        drop(armed);
        self.changes.send_modify(|changes| *changes += 1);
        gone
    }

    /// The rules and their counts.
    pub(super) fn list(&self) -> Vec<ArmedFault> {
        self.lock().clone()
    }

    /// How far back a stale read may have to look.
    pub(super) fn oldest_version(&self) -> u32 {
        let versions = |fault: &ArmedFault| match fault.rule.effect {
            Effect::Stale { versions } => versions,
            _ => 0,
        };
        self.lock().iter().map(versions).max().unwrap_or(0)
    }

    /// What happens to this call; counts it.
    pub(super) fn plan(&self, call: &Call) -> Plan {
        let mut plan = Plan::default();
        for fault in self.lock().iter_mut().filter(|fault| fault.fits(call)) {
            if fault.strike() {
                self.apply(fault, call, &mut plan);
            }
        }
        plan
    }

    fn apply(&self, fault: &ArmedFault, call: &Call, plan: &mut Plan) {
        let refuse = |refusal| Some(Cut::Refuse(refusal));
        let (name, before, after) = match &fault.rule.effect {
            Effect::Throttle => ("throttle", refuse(throttled(call.service)), None),
            Effect::ServerError => ("serverError", refuse(server_error(call.service)), None),
            Effect::ServerErrorAfter => ("serverErrorAfter", None, refuse(server_error(call.service))),
            Effect::Unavailable => {
                let refusal =
                    Refusal::new("ServiceUnavailable", "Service is unavailable, try again later.", 503);
                ("unavailable", refuse(refusal), None)
            }
            Effect::Denied => ("denied", refuse(denied(call, &self.account)), None),
            Effect::Refuse { code, message, status, members } => {
                let error = ApiError { code: code.clone(), message: message.clone(), status: *status };
                ("refuse", refuse(Refusal { error, members: Box::new(members.clone()) }), None)
            }
            Effect::TimeoutBefore => ("timeoutBefore", Some(Cut::Silence), None),
            Effect::TimeoutAfter => ("timeoutAfter", None, Some(Cut::Silence)),
            Effect::ResetBefore => ("resetBefore", Some(Cut::Reset), None),
            Effect::ResetAfter => ("resetAfter", None, Some(Cut::Reset)),
            Effect::Latency { millis } => {
                plan.latency_millis += millis;
                ("latency", None, None)
            }
            Effect::Stale { versions } => {
                plan.stale_versions = plan.stale_versions.max(*versions);
                ("stale", None, None)
            }
            Effect::Hold => {
                plan.held_by.push(fault.id);
                ("hold", None, None)
            }
            Effect::Malformed => ("malformed", None, Some(Cut::Half)),
            Effect::LateEffect { millis, client } => {
                plan.late_millis = plan.late_millis.max(Some(*millis));
                let cut = match client {
                    LateClient::Reset => Cut::Reset,
                    LateClient::Timeout => Cut::Silence,
                    LateClient::ServerError => Cut::Refuse(server_error(call.service)),
                };
                ("lateEffect", None, Some(cut))
            }
            Effect::TransactionConflict => ("transactionConflict", refuse(transaction_conflict(call)), None),
        };
        plan.effects.push(name);
        plan.before = plan.before.take().or(before);
        plan.after = plan.after.take().or(after);
    }

    /// Waits until none of these rules is armed any more.
    pub(super) async fn released(&self, ids: &[u64]) {
        let mut changes = self.changes.subscribe();
        while self.lock().iter().any(|fault| ids.contains(&fault.id)) {
            // The sender lives in `self`, so waiting cannot fail while we hold a reference.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The service's answer to a client over its rate (`aws-facts.md` §4; `DynamoDB`'s control plane
/// and STS say it with the common error).
pub(super) fn throttled(service: Service) -> Refusal {
    match service {
        Service::DynamoDb => Refusal::new(
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded.",
            400,
        ),
        Service::Lambda => Refusal::new("TooManyRequestsException", "Rate Exceeded.", 429),
        Service::Sqs => Refusal::new("RequestThrottled", "Rate exceeded", 403),
        _ => Refusal::new("ThrottlingException", "Rate exceeded", 400),
    }
}

/// `TransactionConflictException`: "Operation was rejected because there is an ongoing transaction for the
/// item" (`DynamoDB` API model); a transaction says it as a reason of its cancellation.
fn transaction_conflict(call: &Call) -> Refusal {
    const MESSAGE: &str = "Transaction is ongoing for the item";
    let name = |code: &str| format!("com.amazonaws.dynamodb.v20120810#{code}");
    let Some(items) = call.input.get("TransactItems").and_then(Value::as_array) else {
        return Refusal::new(&name("TransactionConflictException"), MESSAGE, 400);
    };
    let code = |place: usize| if place == 0 { "TransactionConflict" } else { "None" };
    let reasons: Vec<Value> = (0..items.len())
        .map(|place| match place {
            0 => json!({"Code": code(place), "Message": MESSAGE}),
            _ => json!({"Code": code(place)}),
        })
        .collect();
    let codes: Vec<&str> = (0..items.len()).map(code).collect();
    let message = format!(
        "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
        codes.join(", ")
    );
    let error = ApiError { code: name("TransactionCanceledException"), message, status: 400 };
    let members = Map::from_iter([("CancellationReasons".to_owned(), Value::Array(reasons))]);
    Refusal { error, members: Box::new(members) }
}

fn server_error(service: Service) -> Refusal {
    let code = match service {
        Service::Ecs => "ServerException",
        Service::Elb | Service::Sts | Service::Sqs => "InternalFailure",
        Service::Lambda => "ServiceException",
        Service::Sns => "InternalError",
        Service::Events => "InternalException",
        Service::CloudWatch => "InternalServiceFault",
        Service::DynamoDb | Service::DynamoDbStreams => {
            "com.amazonaws.dynamodb.v20120810#InternalServerError"
        }
    };
    Refusal::new(code, "Internal error, injected by the sandbox.", 500)
}

fn denied(call: &Call, account: &str) -> Refusal {
    let status = match call.service {
        Service::Elb | Service::Sts | Service::CloudWatch | Service::Lambda | Service::Sns => 403,
        Service::Ecs | Service::DynamoDb | Service::DynamoDbStreams | Service::Sqs | Service::Events => 400,
    };
    let action = format!("{}:{}", call.service.iam_prefix(), call.operation);
    let message = format!("User: arn:aws:iam::{account}:user/sandbox is not authorized to perform: {action}");
    Refusal::new("AccessDeniedException", message, status)
}
