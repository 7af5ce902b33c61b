//! `CloudWatch` alarms: definitions, states and their history, and the rules of composite alarms.
//!
//! It never judges metrics: who changes a metric alarm's state is the sandbox's evaluator, a test, or
//! `SetAlarmState`. A composite alarm follows its children here, at once. No floating-point numbers,
//! no clock and no I/O, so that a checker can compare, hash and clone whole worlds.

mod definition;
mod rule;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::world::ApiError;

pub use self::definition::{
    AlarmKind, AlarmSpec, AlarmState, Comparison, MetricCondition, MetricQuery, MetricStat, MissingData,
    QuerySource, Watched,
};
pub use self::rule::{CHILDREN_MAX, Rule, RuleError, name_of_arn};

/// Most alarms in a region: the default quota of 5,000 (`cloudwatch_limits` page).
pub const ALARMS_MAX: usize = 5_000;
/// Most history items kept per alarm; the oldest go first. AWS keeps 30 days.
pub const HISTORY_MAX: usize = 1_000;
/// Deleted alarms whose history stays readable ("retains the history of an alarm even if you delete
/// the alarm", `DescribeAlarmHistory` API page).
const DELETED_HISTORIES_MAX: usize = 100;
/// Most evaluations of one composite after one change; more means a cycle that never settles.
const EVALUATIONS_PER_CHANGE_MAX: usize = 16;
/// Longest `StateReason` and `StateReasonData`, in characters, from the API model.
const REASON_CHARS_MAX: usize = 1_023;
const REASON_DATA_CHARS_MAX: usize = 4_000;

/// One alarm: its configuration and its present state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Alarm {
    /// The configuration as last put.
    pub spec: AlarmSpec,
    /// `AlarmArn`.
    pub arn: String,
    /// `StateValue`.
    pub state: AlarmState,
    /// `StateReason`, a sentence for people.
    pub reason: String,
    /// `StateReasonData`, JSON text for machines.
    pub reason_data: Option<String>,
    /// `StateUpdatedTimestamp`: the last time anybody set the state, be it to the same value.
    pub updated_at: Timestamp,
    /// `StateTransitionedTimestamp`: the last real change of the value (`aws-facts.md` §3).
    pub transitioned_at: Timestamp,
    /// `AlarmConfigurationUpdatedTimestamp`.
    pub configured_at: Timestamp,
    /// `EvaluationState`, for example `EVALUATION_ERROR`; absent while all is well.
    pub evaluation_state: Option<String>,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
}

impl Alarm {
    /// The condition, if this is a metric alarm.
    pub fn condition(&self) -> Option<&MetricCondition> {
        match &self.spec.kind {
            AlarmKind::Metric(condition) => Some(condition),
            AlarmKind::Composite { .. } => None,
        }
    }

    /// The rule, if this is a composite alarm.
    pub fn rule(&self) -> Option<&Rule> {
        match &self.spec.kind {
            AlarmKind::Metric(_) => None,
            AlarmKind::Composite { rule, .. } => Some(rule),
        }
    }
}

/// What was done to an alarm's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConfigurationChange {
    /// It was put for the first time.
    Created,
    /// It was put again, or its actions were switched.
    Updated,
    /// It was taken away.
    Deleted,
}

/// What a history item tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HistoryEvent {
    /// `StateUpdate`: the value changed.
    State {
        /// Value before.
        from: AlarmState,
        /// Value after.
        to: AlarmState,
        /// Why.
        reason: String,
        /// Why, for machines.
        reason_data: Option<String>,
    },
    /// `Action`: an action was taken because of a change of state.
    Action {
        /// ARN of the action.
        action: String,
        /// Whether it found whom it names.
        done: bool,
    },
    /// `ConfigurationUpdate`: created, updated or deleted.
    Configuration {
        /// Which one.
        change: ConfigurationChange,
    },
}

/// One item of an alarm's history.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HistoryItem {
    /// When it happened.
    pub at: Timestamp,
    /// Whether the alarm is a composite one.
    pub composite: bool,
    /// What happened.
    pub event: HistoryEvent,
}

/// Why an alarm call is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AlarmError {
    /// No such alarm.
    #[error("unknown alarm {name}")]
    Unknown {
        /// Name asked for.
        name: String,
    },
    /// A region holds no more.
    #[error("the maximum of {ALARMS_MAX} alarms is reached")]
    TooMany,
    /// A composite's rule names alarms that do not exist.
    #[error("could not save the composite alarm as alarms [{}] in the alarm rule do not exist", .missing.join(", "))]
    MissingChildren {
        /// Their names.
        missing: Vec<String>,
    },
    /// Metric and composite alarms share their names.
    #[error("an alarm named {name} of another type already exists")]
    OtherType {
        /// The name.
        name: String,
    },
    /// A composite's rule still names it.
    #[error("alarm {name} cannot be deleted: composite alarm {parent} depends on it")]
    InUse {
        /// The alarm to delete.
        name: String,
        /// One that needs it.
        parent: String,
    },
    /// A reason longer than the API allows.
    #[error("{field} is longer than {max} characters")]
    ReasonTooLong {
        /// `StateReason` or `StateReasonData`.
        field: &'static str,
        /// The limit.
        max: usize,
    },
}

impl From<AlarmError> for ApiError {
    /// In the code that `CloudWatch` answers with (each operation's API page, "Errors").
    fn from(error: AlarmError) -> Self {
        let message = error.to_string();
        match error {
            AlarmError::Unknown { .. } => Self { code: "ResourceNotFound".to_owned(), message, status: 404 },
            AlarmError::TooMany => Self::client("LimitExceeded", message),
            AlarmError::MissingChildren { .. }
            | AlarmError::OtherType { .. }
            | AlarmError::InUse { .. }
            | AlarmError::ReasonTooLong { .. } => Self::client("ValidationError", message),
        }
    }
}

/// All alarms of one region, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Alarms {
    arn_prefix: String,
    by_name: BTreeMap<String, Alarm>,
    histories: BTreeMap<String, VecDeque<HistoryItem>>,
    deleted: VecDeque<String>,
}

impl Default for Alarms {
    fn default() -> Self {
        Self::new("us-east-1", "123456789012")
    }
}

impl Alarms {
    /// An empty set of alarms whose ARNs carry this region and account.
    pub fn new(region: &str, account: &str) -> Self {
        Self {
            arn_prefix: format!("arn:aws:cloudwatch:{region}:{account}:alarm:"),
            by_name: BTreeMap::new(),
            histories: BTreeMap::new(),
            deleted: VecDeque::new(),
        }
    }

    /// The alarm of this exact name.
    pub fn get(&self, name: &str) -> Option<&Alarm> {
        self.by_name.get(name)
    }

    /// The alarm with this ARN.
    pub fn by_arn(&self, arn: &str) -> Option<&Alarm> {
        self.by_name.get(arn.strip_prefix(&self.arn_prefix)?)
    }

    /// Every alarm, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Alarm> {
        self.by_name.values()
    }

    /// Every alarm's name and state, by name.
    pub fn states(&self) -> impl Iterator<Item = (&str, AlarmState)> {
        self.by_name.iter().map(|(name, alarm)| (name.as_str(), alarm.state))
    }

    /// History of one alarm, oldest first; also of an alarm deleted not long ago.
    pub fn history(&self, name: &str) -> impl DoubleEndedIterator<Item = &HistoryItem> {
        self.histories.get(name).into_iter().flatten()
    }

    /// Names of all alarms with a history, deleted ones included.
    pub fn history_names(&self) -> impl Iterator<Item = &str> {
        self.histories.keys().map(String::as_str)
    }

    /// Names of the composite alarms whose rule looks at this alarm.
    pub fn parents(&self, name: &str) -> Vec<&str> {
        let looks_at_it = |alarm: &&Alarm| alarm.rule().is_some_and(|rule| rule.children().contains(name));
        self.iter().filter(looks_at_it).map(|alarm| alarm.spec.name.as_str()).collect()
    }

    /// Creates an alarm in `INSUFFICIENT_DATA`, or overwrites the configuration of an existing one
    /// and leaves its state (`PutMetricAlarm` API page). A composite is evaluated at once.
    pub fn put(&mut self, now: Timestamp, spec: AlarmSpec) -> Result<(), AlarmError> {
        let name = spec.name.clone();
        if let AlarmKind::Composite { rule, .. } = &spec.kind {
            let absent = |child: &&str| !self.by_name.contains_key(*child);
            let missing: Vec<String> =
                rule.children().into_iter().filter(absent).map(str::to_owned).collect();
            if !missing.is_empty() {
                return Err(AlarmError::MissingChildren { missing });
            }
        }
        let full = self.by_name.len() >= ALARMS_MAX;
        let change = match self.by_name.get_mut(&name) {
            Some(alarm) if alarm.rule().is_some() != matches!(spec.kind, AlarmKind::Composite { .. }) => {
                return Err(AlarmError::OtherType { name });
            }
            Some(alarm) => {
                alarm.spec = spec;
                alarm.configured_at = now;
                ConfigurationChange::Updated
            }
            None if full => return Err(AlarmError::TooMany),
            None => {
                self.deleted.retain(|deleted| *deleted != name);
                let arn = format!("{}{name}", self.arn_prefix);
                self.by_name.insert(name.clone(), new_alarm(now, spec, arn));
                ConfigurationChange::Created
            }
        };
        self.remember(now, &name, HistoryEvent::Configuration { change });
        self.follow_children(now, vec![name]);
        Ok(())
    }

    /// Sets an alarm's state. A change of the value moves `transitioned_at`, leaves a history item and
    /// is followed by every composite above it; the same value only renews reason and `updated_at`.
    /// Returns whether the value changed.
    pub fn transition(
        &mut self,
        now: Timestamp,
        name: &str,
        state: AlarmState,
        reason: &str,
        reason_data: Option<&str>,
    ) -> Result<bool, AlarmError> {
        for (field, text, max) in [
            ("StateReason", Some(reason), REASON_CHARS_MAX),
            ("StateReasonData", reason_data, REASON_DATA_CHARS_MAX),
        ] {
            if text.is_some_and(|text| text.chars().count() > max) {
                return Err(AlarmError::ReasonTooLong { field, max });
            }
        }
        if !self.by_name.contains_key(name) {
            return Err(AlarmError::Unknown { name: name.to_owned() });
        }
        let changed = self.set(now, name, state, reason, reason_data);
        if changed {
            self.follow_children(now, self.parents(name).into_iter().map(str::to_owned).collect());
        }
        Ok(changed)
    }

    /// `EvaluationState`: whether the evaluator can do its work. Moves `updated_at` when it changes
    /// (`MetricAlarm` API page: "last update to the value of either `StateValue` or `EvaluationState`").
    pub fn set_evaluation_state(&mut self, now: Timestamp, name: &str, evaluation: Option<&str>) {
        if let Some(alarm) = self.by_name.get_mut(name)
            && alarm.evaluation_state.as_deref() != evaluation
        {
            alarm.evaluation_state = evaluation.map(str::to_owned);
            alarm.updated_at = now;
        }
    }

    /// Deletes alarms. Unknown names change nothing, known ones next to them are still deleted
    /// (`DeleteAlarms` API page); a child of a remaining composite stays, and nothing is deleted.
    pub fn delete(&mut self, now: Timestamp, names: &[String]) -> Result<(), AlarmError> {
        for name in names {
            let remaining = |parent: &&str| !names.iter().any(|gone| gone == parent);
            if let Some(parent) = self.parents(name).into_iter().find(remaining)
                && self.by_name.contains_key(name)
            {
                return Err(AlarmError::InUse { name: name.clone(), parent: parent.to_owned() });
            }
        }
        for name in names {
            if self.by_name.contains_key(name) {
                self.remember(
                    now,
                    name,
                    HistoryEvent::Configuration { change: ConfigurationChange::Deleted },
                );
                self.by_name.remove(name);
                self.deleted.push_back(name.clone());
            }
        }
        while self.deleted.len() > DELETED_HISTORIES_MAX {
            if let Some(oldest) = self.deleted.pop_front() {
                self.histories.remove(&oldest);
            }
        }
        Ok(())
    }

    /// Switches the actions of these alarms on or off; unknown names are passed over, as by AWS.
    pub fn set_actions_enabled(&mut self, now: Timestamp, names: &[String], enabled: bool) {
        for name in names {
            if let Some(alarm) = self.by_name.get_mut(name)
                && alarm.spec.actions_enabled != enabled
            {
                alarm.spec.actions_enabled = enabled;
                alarm.configured_at = now;
                self.remember(
                    now,
                    name,
                    HistoryEvent::Configuration { change: ConfigurationChange::Updated },
                );
            }
        }
    }

    /// Notes in an alarm's history that one of its actions was taken, or failed.
    pub fn remember_action(&mut self, now: Timestamp, name: &str, action: &str, done: bool) {
        if self.by_name.contains_key(name) {
            self.remember(now, name, HistoryEvent::Action { action: action.to_owned(), done });
        }
    }

    /// The tags of one alarm, to be changed.
    pub fn tags_mut(&mut self, name: &str) -> Option<&mut BTreeMap<String, String>> {
        self.by_name.get_mut(name).map(|alarm| &mut alarm.tags)
    }

    /// Re-evaluates these composites and then, breadth first, the parents of each that changed. A cycle
    /// ends by count: "the evaluation of composite alarms stops if `CloudWatch` detects a cycle in the
    /// evaluation path" (`PutCompositeAlarm` API page).
    fn follow_children(&mut self, now: Timestamp, names: Vec<String>) {
        let mut waiting: VecDeque<String> = names.into();
        let mut evaluations: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(name) = waiting.pop_front() {
            let Some(rule) = self.by_name.get(&name).and_then(Alarm::rule) else { continue };
            let evaluated = evaluations.entry(name.clone()).or_default();
            *evaluated += 1;
            if *evaluated > EVALUATIONS_PER_CHANGE_MAX {
                continue;
            }
            let holds = rule.holds(&|child| self.by_name.get(child).map(|alarm| alarm.state));
            let state = if holds { AlarmState::Alarm } else { AlarmState::Ok };
            let reason =
                format!("{name} transitioned to {} because its alarm rule {rule} is {holds}", state.as_str());
            let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
            if self.by_name.get(&name).is_some_and(|alarm| alarm.state != state) {
                self.set(now, &name, state, &reason, None);
                waiting.extend(self.parents(&name).into_iter().map(str::to_owned));
            }
        }
    }

    fn set(
        &mut self,
        now: Timestamp,
        name: &str,
        to: AlarmState,
        reason: &str,
        reason_data: Option<&str>,
    ) -> bool {
        let Some(alarm) = self.by_name.get_mut(name) else { return false };
        let from = alarm.state;
        let (reason, reason_data) = (reason.to_owned(), reason_data.map(str::to_owned));
        alarm.state = to;
        alarm.reason.clone_from(&reason);
        alarm.reason_data.clone_from(&reason_data);
        alarm.updated_at = now;
        if from != to {
            alarm.transitioned_at = now;
            self.remember(now, name, HistoryEvent::State { from, to, reason, reason_data });
        }
        from != to
    }

    fn remember(&mut self, at: Timestamp, name: &str, event: HistoryEvent) {
        let composite = self.by_name.get(name).is_some_and(|alarm| alarm.rule().is_some());
        let items = self.histories.entry(name.to_owned()).or_default();
        items.push_back(HistoryItem { at, composite, event });
        while items.len() > HISTORY_MAX {
            items.pop_front();
        }
    }
}

fn new_alarm(now: Timestamp, spec: AlarmSpec, arn: String) -> Alarm {
    Alarm {
        spec,
        arn,
        state: AlarmState::InsufficientData,
        reason: "Unchecked: Initial alarm creation".to_owned(),
        reason_data: None,
        updated_at: now,
        transitioned_at: now,
        configured_at: now,
        evaluation_state: None,
        tags: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests;
