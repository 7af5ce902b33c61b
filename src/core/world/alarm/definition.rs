//! What an alarm is made of: the words of the API, typed.
//!
//! No floating-point numbers here: the pure world compares and hashes alarms. A threshold stays the
//! text the caller sent; whoever judges metrics parses it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An alarm's state, `StateValue` in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlarmState {
    /// The metric is within the threshold, or the composite's rule is false.
    Ok,
    /// The metric breaches the threshold, or the composite's rule is true.
    Alarm,
    /// The alarm is new, or there is nothing to judge by.
    InsufficientData,
}

impl AlarmState {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }

    /// From the API's word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Ok, Self::Alarm, Self::InsufficientData].into_iter().find(|state| state.as_str() == word)
    }
}

/// How a datapoint is compared with the threshold. The anomaly-detection operators are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    /// `GreaterThanOrEqualToThreshold`
    GreaterOrEqual,
    /// `GreaterThanThreshold`
    Greater,
    /// `LessThanThreshold`
    Less,
    /// `LessThanOrEqualToThreshold`
    LessOrEqual,
}

impl Comparison {
    /// Every operator, for parsing and for messages that list them.
    pub const ALL: [Self; 4] = [Self::GreaterOrEqual, Self::Greater, Self::Less, Self::LessOrEqual];

    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GreaterOrEqual => "GreaterThanOrEqualToThreshold",
            Self::Greater => "GreaterThanThreshold",
            Self::Less => "LessThanThreshold",
            Self::LessOrEqual => "LessThanOrEqualToThreshold",
        }
    }

    /// From the API's word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str() == word)
    }
}

/// What a missing datapoint counts as (`aws-facts.md` §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MissingData {
    /// As nothing: `INSUFFICIENT_DATA` once all are missing. The default.
    Missing,
    /// The alarm keeps its state.
    Ignore,
    /// As a datapoint beyond the threshold.
    Breaching,
    /// As a datapoint within the threshold.
    NotBreaching,
}

impl MissingData {
    /// Every treatment, for parsing and for messages that list them.
    pub const ALL: [Self; 4] = [Self::Breaching, Self::NotBreaching, Self::Ignore, Self::Missing];

    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ignore => "ignore",
            Self::Breaching => "breaching",
            Self::NotBreaching => "notBreaching",
        }
    }

    /// From the API's word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|treatment| treatment.as_str() == word)
    }
}

/// One metric and the statistic taken of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetricStat {
    /// For example `AWS/ApplicationELB`.
    pub namespace: String,
    /// For example `HTTPCode_Target_5XX_Count`.
    pub metric: String,
    /// Dimension name to value; all of them identify the metric.
    pub dimensions: BTreeMap<String, String>,
    /// Length of one datapoint, in seconds of the API (the sandbox may run them faster).
    pub period_secs: u32,
    /// `Sum`, `Average`, `Minimum`, `Maximum`, `SampleCount` or a percentile like `p99.9`.
    pub stat: String,
    /// Only data of this unit; without one, data of any unit.
    pub unit: Option<String>,
}

/// One entry of `Metrics` or `MetricDataQueries`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetricQuery {
    /// Name under which expressions refer to it.
    pub id: String,
    /// Where its numbers come from.
    pub source: QuerySource,
    /// Shown instead of the metric's name.
    pub label: Option<String>,
    /// Whether it is a result or only an ingredient.
    pub returns_data: bool,
}

impl MetricQuery {
    /// Its period in API seconds, where it names one.
    pub fn period_secs(&self) -> Option<u32> {
        match &self.source {
            QuerySource::Stat(stat) => Some(stat.period_secs),
            QuerySource::Expression { period_secs, .. } => *period_secs,
        }
    }
}

/// Where the numbers of a query come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QuerySource {
    /// A stored metric.
    Stat(MetricStat),
    /// Metric math over other queries.
    Expression {
        /// The expression's text.
        text: String,
        /// `Period` as given with the expression, in API seconds.
        period_secs: Option<u32>,
    },
}

/// What a metric alarm looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Watched {
    /// One metric, given by the flat fields of `PutMetricAlarm`.
    Metric(MetricStat),
    /// `Metrics`: exactly one query returns data, and that one is watched.
    Math(Vec<MetricQuery>),
}

/// When a metric alarm fires.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetricCondition {
    /// The metric or the expression.
    pub watched: Watched,
    /// N of "M out of N": how many datapoints are judged.
    pub evaluation_periods: u32,
    /// M of "M out of N"; absent means N.
    pub datapoints_to_alarm: Option<u32>,
    /// The threshold exactly as sent, for example `5` or `0.05`.
    pub threshold: String,
    /// How a datapoint is compared with the threshold.
    pub comparison: Comparison,
    /// What a missing datapoint counts as; absent means the service's default.
    pub treat_missing: Option<MissingData>,
}

impl MetricCondition {
    /// Length of one datapoint in API seconds: the longest of the stored metrics involved.
    pub fn period_secs(&self) -> u32 {
        match &self.watched {
            Watched::Metric(stat) => stat.period_secs,
            Watched::Math(queries) => {
                queries.iter().filter_map(MetricQuery::period_secs).max().unwrap_or(DEFAULT_PERIOD_SECS)
            }
        }
    }

    /// M of "M out of N".
    pub fn datapoints_needed(&self) -> u32 {
        self.datapoints_to_alarm.unwrap_or(self.evaluation_periods)
    }
}

/// Period of an expression that names none.
const DEFAULT_PERIOD_SECS: u32 = 60;

/// What makes an alarm change its state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AlarmKind {
    /// A metric against a threshold.
    Metric(MetricCondition),
    /// A rule over other alarms.
    Composite {
        /// The rule, parsed; it keeps its text.
        rule: super::Rule,
        /// `ActionsSuppressor` and its two periods in seconds, kept and shown. Suppression mutes
        /// actions, never the state, and nothing here executes actions.
        suppressor: Option<(String, u32, u32)>,
    },
}

/// What a caller puts: everything of an alarm that is configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AlarmSpec {
    /// Exact, case-sensitive name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Whether actions would run on a change of state.
    pub actions_enabled: bool,
    /// ARNs for the change to OK.
    pub ok_actions: Vec<String>,
    /// ARNs for the change to ALARM.
    pub alarm_actions: Vec<String>,
    /// ARNs for the change to `INSUFFICIENT_DATA`.
    pub insufficient_data_actions: Vec<String>,
    /// What makes it change its state.
    pub kind: AlarmKind,
}
