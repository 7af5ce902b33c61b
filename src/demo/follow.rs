//! Looks at what happens from outside (the sandbox's call log, the state table, the alarms, the traffic), tells
//! it line by line, and keeps what the judge needs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::DemoError;
use super::judge::{Placement, Write};
use super::pace::Pace;
use super::setup::{DAEMONS_KEY, NAME, Stage};
use super::teller::{Teller, Who};
use super::traffic::Traffic;
use crate::records::names::PerGroup;
use crate::records::{Group, ReleaseStatus, Span};
use crate::sandbox::CallRecord;
use crate::sandbox::wire::Service;

/// What was collected.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Weight writes of the production route, its creation included.
    pub writes: Vec<Write>,
    /// Task sets by group and time.
    pub placements: Vec<Placement>,
    /// When each alarm first went to ALARM, and its name.
    pub alarms: Vec<(Timestamp, String)>,
    /// Mutating calls of the daemon by the act they belong to: to ECS and the load balancer by operation.
    pub calls: BTreeMap<usize, BTreeMap<String, u32>>,
    /// Mutating calls of the daemon by act: to its tables, the lease's beat left out.
    pub table_writes: BTreeMap<usize, u32>,
}

/// `v2` for `checkout:2`.
pub fn version(revision: &str) -> String {
    revision.rsplit_once(':').map_or_else(|| revision.to_owned(), |(_, number)| format!("v{number}"))
}

/// `1 204` for 1204.
pub fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The one who looks and tells.
#[derive(Debug)]
pub struct Follower<'a> {
    stage: &'a Stage,
    teller: &'a mut Teller,
    traffic_line: Span,
    act: usize,
    last_call: u64,
    task_sets: BTreeMap<String, usize>,
    waits_told: BTreeSet<(String, Option<u16>)>,
    latch_told: bool,
    alarm_states: BTreeMap<String, String>,
    requests_told: usize,
    traffic_told_ms: u64,
    evidence: Evidence,
}

impl<'a> Follower<'a> {
    /// Follows from the beginning of the call log.
    pub fn new(stage: &'a Stage, pace: &Pace, teller: &'a mut Teller) -> Self {
        Self {
            stage,
            teller,
            traffic_line: pace.traffic_line,
            act: 0,
            last_call: 0,
            task_sets: BTreeMap::new(),
            waits_told: BTreeSet::new(),
            latch_told: false,
            alarm_states: BTreeMap::new(),
            requests_told: 0,
            traffic_told_ms: 0,
            evidence: Evidence::default(),
        }
    }

    /// A new act begins: what it waits for is told anew, and calls count for it.
    pub fn begin(&mut self, act: usize) {
        self.act = act;
        self.waits_told.clear();
        self.latch_told = false;
    }

    /// One line.
    pub fn say(&mut self, who: Who, text: &str) -> Result<(), DemoError> {
        self.teller.say(who, text).map_err(DemoError::Output)
    }

    /// Milliseconds since the demo's start.
    pub fn elapsed_ms(&self) -> u64 {
        self.teller.elapsed_ms()
    }

    /// What was collected.
    pub fn into_evidence(self) -> Evidence {
        self.evidence
    }

    /// Looks everywhere once, and tells what is new. Answers the status.
    pub async fn look(&mut self, traffic: Option<&Traffic>) -> Result<Option<ReleaseStatus>, DemoError> {
        for call in self.stage.sandbox.calls(self.last_call) {
            self.last_call = call.seq;
            self.heard(&call)?;
        }
        self.look_at_alarms().await?;
        if let Some(traffic) = traffic {
            self.look_at_traffic(traffic)?;
        }
        let status = self.stage.store.get_status(&self.stage.key).await.map_err(DemoError::Store)?;
        if let Some(status) = &status {
            self.look_at_status(status)?;
        }
        Ok(status)
    }

    fn heard(&mut self, call: &CallRecord) -> Result<(), DemoError> {
        let daemon = call.access_key.as_deref() == Some(DAEMONS_KEY);
        if !call.mutating {
            return Ok(());
        }
        let aws = matches!(call.service, Service::Ecs | Service::Elb | Service::CloudWatch);
        if daemon && aws {
            let counts = self.evidence.calls.entry(self.act).or_default();
            *counts.entry(call.operation.clone()).or_default() += 1;
        } else if daemon && !is_of_the_lease(call) {
            *self.evidence.table_writes.entry(self.act).or_default() += 1;
        }
        if !aws {
            return Ok(());
        }
        if call.result.as_deref() != Some("OK") {
            let why = call.result.as_deref().unwrap_or("no answer");
            return self.say(Who::Trouble, &format!("{}: {why}", call.operation));
        }
        let told = match call.operation.as_str() {
            "CreateRule" | "ModifyRule" => self.weights_written(call),
            "CreateTaskSet" => self.task_set_made(call),
            "DeleteTaskSet" => self.task_set_deleted(call),
            "UpdateTaskSet" => {
                let name = self.named(call.parameters["taskSet"].as_str());
                Some(format!(
                    "UpdateTaskSet: {name} to scale {} %",
                    percent(&call.parameters["scale"]["value"])
                ))
            }
            "UpdateServicePrimaryTaskSet" => {
                let name = self.named(call.parameters["primaryTaskSet"].as_str());
                Some(format!("UpdateServicePrimaryTaskSet: {name} is PRIMARY (acknowledged)"))
            }
            other => Some(other.to_owned()),
        };
        match told {
            Some(text) if daemon => self.say(Who::Daemon, &text),
            _ => Ok(()),
        }
    }

    fn weights_written(&mut self, call: &CallRecord) -> Option<String> {
        let site = &self.stage.site;
        let weights = weights(&call.parameters, |arn| site.groups.group_of(arn))?;
        let rule = call.resource.as_deref()?;
        let write = Write { sent: call.at, acknowledged: ended(call), weights };
        let parts = [Group::A, Group::B].map(|group| (write.share(group), self.serving(group)));
        let mut parts = parts.to_vec();
        parts.sort_by(|one, other| one.0.total_cmp(&other.0));
        let shown: Vec<String> = parts
            .iter()
            .filter(|(share, _)| *share > 0.0)
            .map(|(share, name)| format!("{} % {name}", (share * 1_000.0).round() / 10.0))
            .collect();
        let route = if rule == site.production.as_str() {
            self.evidence.writes.push(write);
            "public"
        } else if rule == site.test.as_str() {
            "preview"
        } else {
            "another one"
        };
        Some(format!("{}: route {route} → {} (acknowledged)", call.operation, shown.join(", ")))
    }

    /// The version that has its task set in a group.
    fn serving(&self, group: Group) -> String {
        let placed = self.evidence.placements.iter().rev();
        let mut there = placed.filter(|placed| placed.group == group && placed.until.is_none());
        there.next().map_or_else(|| format!("(empty group {group})"), |placed| version(&placed.revision))
    }

    fn task_set_made(&mut self, call: &CallRecord) -> Option<String> {
        let arn = call.parameters["loadBalancers"][0]["targetGroupArn"].as_str()?;
        let group = self.stage.site.groups.group_of(arn)?;
        let revision = call.parameters["taskDefinition"].as_str()?.rsplit('/').next()?.to_owned();
        let text = format!(
            "CreateTaskSet: {} ({revision}) into target group {group} at scale {} %",
            version(&revision),
            percent(&call.parameters["scale"]["value"])
        );
        self.task_sets.insert(call.resource.clone()?, self.evidence.placements.len());
        self.evidence.placements.push(Placement { revision, group, from: call.at, until: None });
        Some(text)
    }

    fn task_set_deleted(&mut self, call: &CallRecord) -> Option<String> {
        let set = call.parameters["taskSet"].as_str();
        let name = self.named(set);
        let placed = self.task_sets.get(set?).and_then(|place| self.evidence.placements.get_mut(*place))?;
        placed.until = Some(ended(call));
        Some(format!("DeleteTaskSet: {name} leaves target group {}", placed.group))
    }

    /// The version of a task set.
    fn named(&self, task_set: Option<&str>) -> String {
        let place = task_set.and_then(|arn| self.task_sets.get(arn));
        let placed = place.and_then(|place| self.evidence.placements.get(*place));
        placed.map_or_else(|| "an unknown task set".to_owned(), |placed| version(&placed.revision))
    }

    async fn look_at_alarms(&mut self) -> Result<(), DemoError> {
        let site = &self.stage.site;
        let names = [&site.group_alarms.a, &site.group_alarms.b, &site.service_alarm];
        let names = names.into_iter().cloned().collect();
        let read = self.stage.cloudwatch.describe_alarms().set_alarm_names(Some(names)).send().await;
        let read =
            read.map_err(|source| DemoError::Aws { action: "read the alarms", source: Box::new(source) })?;
        for alarm in read.metric_alarms() {
            let (Some(name), Some(state)) = (alarm.alarm_name(), alarm.state_value()) else { continue };
            let before = self.alarm_states.insert(name.to_owned(), state.as_str().to_owned());
            if before.as_deref() == Some(state.as_str()) {
                continue;
            }
            if state.as_str() == "ALARM"
                && let Some(at) = alarm.state_transitioned_timestamp()
            {
                let nanos = i32::try_from(at.subsec_nanos()).unwrap_or(0);
                let at = Timestamp::new(at.secs(), nanos).unwrap_or(Timestamp::UNIX_EPOCH);
                self.evidence.alarms.push((at, name.to_owned()));
            }
            // From INSUFFICIENT_DATA to OK is how every alarm begins.
            if before.is_some() && (state.as_str() == "ALARM" || before.as_deref() == Some("ALARM")) {
                let reason = alarm.state_reason().unwrap_or_default();
                self.say(Who::Alarm, &format!("{name} → {}: {reason}", state.as_str()))?;
            }
        }
        Ok(())
    }

    fn look_at_traffic(&mut self, traffic: &Traffic) -> Result<(), DemoError> {
        let now = self.elapsed_ms();
        if now < self.traffic_told_ms + self.traffic_line.millis() {
            return Ok(());
        }
        let requests = traffic.since(self.requests_told);
        let (mut by_version, mut bad) = (BTreeMap::<String, u32>::new(), BTreeMap::<String, u32>::new());
        let (mut all, mut failed) = (0_u32, 0_u32);
        for request in &requests {
            all += 1;
            failed += u32::from(request.failure().is_some());
            if let Some(revision) = request.revision() {
                *by_version.entry(version(revision)).or_default() += 1;
                *bad.entry(version(revision)).or_default() += u32::from(request.is_bad_answer());
            }
        }
        if all == 0 {
            return Ok(());
        }
        self.traffic_told_ms = now;
        self.requests_told += requests.len();
        let shares = by_version
            .iter()
            .map(|(name, count)| format!("{:.1} % {name}", 100.0 * f64::from(*count) / f64::from(all)));
        let mut parts = vec![
            format!("{} requests: {}", grouped(all), shares.collect::<Vec<_>>().join(", ")),
            format!("{failed} failed"),
        ];
        let bad = bad.iter().filter(|(_, count)| **count > 0);
        parts.extend(bad.map(|(name, count)| format!("{count} bad answers by {name}")));
        self.say(Who::Traffic, &parts.join("; "))
    }

    fn look_at_status(&mut self, status: &ReleaseStatus) -> Result<(), DemoError> {
        let status = &status.status;
        let release = status.release.as_ref();
        // Until the daemon has seen the request, the status is about the release before.
        if release.is_none_or(|release| release.to.revision != format!("{NAME}:{}", self.act)) {
            return Ok(());
        }
        if let Some(latched) = release.and_then(|release| release.latched.as_ref())
            && !self.latch_told
        {
            self.latch_told = true;
            let text = format!("goes back: {} ({})", latched.cause, latched.detail);
            self.say(Who::Daemon, &text)?;
        }
        let Some(waiting) = status.waiting_on.as_ref().filter(|waiting| waiting.reason != "Acting") else {
            return Ok(());
        };
        let step = release.and_then(|release| release.step.as_ref()).map(|step| step.index);
        if self.waits_told.insert((waiting.reason.clone(), step)) {
            self.say(Who::Daemon, &format!("waits ({}): {}", waiting.reason, waiting.message))?;
        }
        Ok(())
    }
}

/// The log counts whole milliseconds; rounded up, so that no request is judged too early.
fn ended(call: &CallRecord) -> Timestamp {
    call.at + Span::from_millis(u64::try_from(call.millis).unwrap_or(0) + 1).signed()
}

/// Beats come with time, not with releases.
fn is_of_the_lease(call: &CallRecord) -> bool {
    ["Key", "Item"]
        .iter()
        .any(|member| call.parameters[*member]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("lease#")))
}

/// `100` for 100.0: the API's scale is a double.
fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string())
}

/// The weights in the actions of a call.
fn weights(parameters: &Value, group_of: impl Fn(&str) -> Option<Group>) -> Option<PerGroup<u32>> {
    let actions = parameters["Actions"].as_array()?;
    let pair = actions.iter().find_map(|action| action["ForwardConfig"]["TargetGroups"].as_array())?;
    let mut weights = PerGroup { a: 0, b: 0 };
    for one in pair {
        // The query protocol knows texts only.
        let weight = match &one["Weight"] {
            Value::String(text) => text.parse().ok()?,
            number => u32::try_from(number.as_u64()?).ok()?,
        };
        match group_of(one["TargetGroupArn"].as_str()?)? {
            Group::A => weights.a = weight,
            Group::B => weights.b = weight,
        }
    }
    Some(weights)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn weights_are_read_as_numbers_and_as_the_texts_of_the_query_protocol() {
        let group_of = |arn: &str| match arn {
            "one" => Some(Group::A),
            "two" => Some(Group::B),
            _ => None,
        };
        let pair = |arn: &str, weight: Value| json!({"TargetGroupArn": arn, "Weight": weight});
        let call = |pair: Value| json!({"Actions": [{"Type": "authenticate-oidc"}, {"ForwardConfig": {"TargetGroups": pair}}]});
        let read = weights(&call(json!([pair("two", json!(100)), pair("one", json!("900"))])), group_of);
        assert_eq!(read, Some(PerGroup { a: 900, b: 100 }));
        assert_eq!(weights(&call(json!([pair("three", json!(1))])), group_of), None);
        assert_eq!(weights(&json!({"Conditions": []}), group_of), None);
    }

    #[test]
    fn versions_and_numbers_are_written_for_people() {
        assert_eq!(version("checkout:12"), "v12");
        assert_eq!([1, 204, 1_204, 1_204_000].map(grouped), ["1", "204", "1 204", "1 204 000"]);
    }
}
