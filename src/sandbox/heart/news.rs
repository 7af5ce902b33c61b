//! Notices what changed in the region and tells it: alarm states to their actions and to
//! `EventBridge`, tasks and services to `EventBridge`.
//!
//! It compares what there is with what was last seen, so that the model knows nothing of messages. Of
//! ECS it looks only while a rule waits for events: the look costs a listing of all services and tasks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Core, view};
use crate::sandbox::messages::{Invocation, Messages, News};
use crate::sandbox::metrics::notice::{self, Before};
use crate::world::Api;
use crate::world::alarm::{Alarm, AlarmKind, AlarmState, name_of_arn};

/// What was last seen.
#[derive(Default)]
pub(super) struct Seen {
    alarms: BTreeMap<String, Before>,
    /// `None`: nobody listens, so that the next look only takes note.
    ecs: Option<SeenEcs>,
}

#[derive(Default)]
struct SeenEcs {
    /// Descriptions of the running tasks by ARN.
    tasks: BTreeMap<String, Value>,
    /// Ids of the services' events.
    events: BTreeSet<String>,
}

/// What of a task makes an event when it changes ("ECS task state change events": "when the status …
/// of any of its containers changes").
const TASK_STATES: [&str; 5] = ["lastStatus", "desiredStatus", "healthStatus", "stoppedReason", "containers"];

/// An alarm that changed its state and the one it had.
struct Change {
    alarm: Alarm,
    before: Before,
}

impl Core {
    /// Tells what changed since the last time. ECS counts only when `ecs` says so.
    pub(super) fn tell(&mut self, now: Timestamp, messages: &Messages, ecs: bool) {
        for change in self.changed_alarms() {
            self.tell_of_alarm(now, messages, &change);
        }
        if !messages.listens() {
            self.seen.ecs = None;
        } else if ecs || self.seen.ecs.is_none() {
            for news in self.ecs_news(now) {
                messages.tell(now, &news);
            }
        }
    }

    /// Takes note of ECS as it is, when somebody began to listen since the last look.
    pub(super) fn take_note(&mut self, now: Timestamp, messages: &Messages) {
        if self.seen.ecs.is_none() && messages.listens() {
            self.ecs_news(now);
        }
    }

    /// Takes the alarms' states as known: they were told before the program started.
    pub(super) fn take_note_of_alarms(&mut self) {
        self.changed_alarms();
    }

    fn changed_alarms(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for alarm in self.alarms.iter() {
            let name = &alarm.spec.name;
            let seen = self.seen.alarms.get(name);
            // A new alarm has INSUFFICIENT_DATA before all else; a composite may have left it at once.
            let before = seen.cloned().unwrap_or_else(|| Before::first(alarm));
            if before.state != alarm.state {
                changes.push(Change { alarm: alarm.clone(), before });
            }
            if seen.is_none_or(|seen| *seen != Before::of(alarm)) {
                self.seen.alarms.insert(name.clone(), Before::of(alarm));
            }
        }
        if self.seen.alarms.len() > self.alarms.iter().count() {
            let alarms = &self.alarms;
            self.seen.alarms.retain(|name, _| alarms.get(name).is_some());
        }
        changes
    }

    fn tell_of_alarm(&mut self, now: Timestamp, messages: &Messages, Change { alarm, before }: &Change) {
        let event = News::Event {
            source: "aws.cloudwatch",
            detail_type: "CloudWatch Alarm State Change",
            resources: json!([alarm.arn]),
            detail: notice::detail(alarm, before),
        };
        messages.tell(now, &event);
        if !alarm.spec.actions_enabled || self.suppressed(alarm) {
            return;
        }
        let actions = match alarm.state {
            AlarmState::Ok => &alarm.spec.ok_actions,
            AlarmState::Alarm => &alarm.spec.alarm_actions,
            AlarmState::InsufficientData => &alarm.spec.insufficient_data_actions,
        };
        for action in actions {
            // arn:aws:cloudwatch:region:account:alarm:name
            let mut parts = alarm.arn.split(':').skip(3);
            let (region, account) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let done = if action.starts_with("arn:aws:sns:") {
                let (subject, message) = notice::message(alarm, before, region, account);
                messages.tell(now, &News::Notice { topic: action.clone(), subject, message })
            } else if action.starts_with("arn:aws:lambda:") {
                let event = notice::function_event(alarm, before, region, account);
                messages.tell(now, &News::Invoke(Invocation { function: action.clone(), event }))
            } else {
                false
            };
            self.alarms.remember_action(now, &alarm.spec.name, action, done);
        }
    }

    /// "While the suppressor alarm is in ALARM state, the composite alarm doesn't perform actions";
    /// the wait and extension periods are not simulated.
    fn suppressed(&self, alarm: &Alarm) -> bool {
        let AlarmKind::Composite { suppressor: Some((name, ..)), .. } = &alarm.spec.kind else {
            return false;
        };
        self.alarms.get(name_of_arn(name)).is_some_and(|suppressor| suppressor.state == AlarmState::Alarm)
    }

    /// What happened to tasks and services since the last look; nothing at the first.
    fn ecs_news(&mut self, now: Timestamp) -> Vec<News> {
        let clusters = view::clusters(self, now);
        let first = self.seen.ecs.is_none();
        let seen = self.seen.ecs.take().unwrap_or_default();
        let mut next = SeenEcs::default();
        let mut news = Vec::new();
        for cluster in &clusters {
            for service in members(cluster, "services") {
                for event in members(service, "events").rev() {
                    let id = event["id"].as_str().unwrap_or_default();
                    if !first && !seen.events.contains(id) {
                        news.extend(service_action(cluster, service, event));
                    }
                    next.events.insert(id.to_owned());
                }
            }
            for task in members(cluster, "tasks") {
                let arn = task["taskArn"].as_str().unwrap_or_default();
                let known = seen.tasks.get(arn);
                let same = |known: &Value| TASK_STATES.iter().all(|member| known[*member] == task[*member]);
                if !known.is_some_and(same) {
                    news.push(task_change(task));
                }
                next.tasks.insert(arn.to_owned(), task.clone());
            }
        }
        // Those that run no longer: their last words.
        for (arn, task) in seen.tasks.iter().filter(|(arn, _)| !next.tasks.contains_key(*arn)) {
            let input = json!({"cluster": task["clusterArn"], "tasks": [arn]});
            if let Ok(last) = self.call(now, Api::Ecs, "DescribeTasks", input) {
                news.extend(members(&last, "tasks").map(task_change));
            }
        }
        self.seen.ecs = Some(next);
        if first { Vec::new() } else { news }
    }
}

fn members<'a>(of: &'a Value, member: &str) -> std::slice::Iter<'a, Value> {
    of[member].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn task_change(task: &Value) -> News {
    News::Event {
        source: "aws.ecs",
        detail_type: "ECS Task State Change",
        resources: json!([task["taskArn"]]),
        detail: with_instants(task),
    }
}

/// The service events of AWS that the model knows: a steady state, of a task set or of the service
/// (`aws-facts.md` §1.12). Which member names the task set is not documented, so none does.
fn service_action(cluster: &Value, service: &Value, event: &Value) -> Option<News> {
    let message = event["message"].as_str().unwrap_or_default();
    if !message.ends_with("has reached a steady state.") {
        return None;
    }
    let of_set = message.contains(", taskSet ");
    let detail = json!({
        "eventType": "INFO",
        "eventName": if of_set { "TASKSET_STEADY_STATE" } else { "SERVICE_STEADY_STATE" },
        "clusterArn": cluster["clusterArn"],
        "createdAt": event["createdAt"],
    });
    Some(News::Event {
        source: "aws.ecs",
        detail_type: "ECS Service Action",
        resources: json!([service["serviceArn"]]),
        detail: with_instants(&detail),
    })
}

/// Events write instants as ISO 8601, the API as epoch seconds.
fn with_instants(detail: &Value) -> Value {
    let mut shown = detail.clone();
    if let Value::Object(members) = &mut shown {
        for (_, value) in members.iter_mut().filter(|(name, _)| name.ends_with("At")) {
            let at = value.as_f64().and_then(|secs| jiff::SignedDuration::try_from_secs_f64(secs).ok());
            if let Some(at) = at.and_then(|at| Timestamp::from_duration(at).ok()) {
                *value = at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string().into();
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests;
