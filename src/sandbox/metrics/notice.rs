//! What the region tells of an alarm whose state changed: the event of `EventBridge`, the message of
//! SNS and the event of a function, in the shapes that AWS documents.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{data, evaluator::threshold};
use crate::world::alarm::{
    Alarm, AlarmKind, AlarmState, MetricCondition, MetricQuery, MetricStat, QuerySource, Watched,
};

/// State of an alarm before the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// `StateValue`.
    pub state: AlarmState,
    reason: String,
    reason_data: Option<String>,
    /// When that state was entered.
    pub since: Timestamp,
}

impl Before {
    /// The present state, to be the one before a change.
    pub fn of(alarm: &Alarm) -> Self {
        Self {
            state: alarm.state,
            reason: alarm.reason.clone(),
            reason_data: alarm.reason_data.clone(),
            since: alarm.transitioned_at,
        }
    }

    /// The state of a new alarm.
    pub fn first(alarm: &Alarm) -> Self {
        Self {
            state: AlarmState::InsufficientData,
            reason: "Unchecked: Initial alarm creation".to_owned(),
            reason_data: None,
            since: alarm.configured_at,
        }
    }
}

fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

fn state(value: AlarmState, reason: &str, reason_data: Option<&str>, at: Timestamp) -> Value {
    let mut shown = json!({"value": value.as_str(), "reason": reason, "timestamp": instant(at)});
    if let Some(data) = reason_data {
        shown["reasonData"] = data.into();
    }
    shown
}

/// `detail` of "CloudWatch Alarm State Change" (`CloudWatch` user guide, "Alarm events and
/// `EventBridge`"; `aws-facts.md` §3).
pub fn detail(alarm: &Alarm, before: &Before) -> Value {
    json!({
        "alarmName": alarm.spec.name,
        "state": state(alarm.state, &alarm.reason, alarm.reason_data.as_deref(), alarm.transitioned_at),
        "previousState": state(before.state, &before.reason, before.reason_data.as_deref(), before.since),
        "configuration": configuration(alarm),
    })
}

fn configuration(alarm: &Alarm) -> Value {
    let mut shown = match &alarm.spec.kind {
        AlarmKind::Composite { rule, suppressor } => {
            let mut shown = json!({"alarmRule": rule.text()});
            if let Some((name, wait, extension)) = suppressor {
                shown["actionsSuppressor"] = name.as_str().into();
                shown["actionsSuppressorWaitPeriod"] = (*wait).into();
                shown["actionsSuppressorExtensionPeriod"] = (*extension).into();
            }
            shown
        }
        AlarmKind::Metric(condition) => json!({"metrics": match &condition.watched {
            Watched::Metric(stat) => vec![json!({"id": "m1", "metricStat": metric_stat(stat), "returnData": true})],
            Watched::Math(queries) => queries.iter().map(query).collect(),
        }}),
    };
    if let Some(description) = &alarm.spec.description {
        shown["description"] = description.as_str().into();
    }
    shown
}

fn metric_stat(stat: &MetricStat) -> Value {
    json!({
        "metric": {"namespace": stat.namespace, "name": stat.metric, "dimensions": stat.dimensions},
        "period": stat.period_secs,
        "stat": stat.stat,
    })
}

fn query(query: &MetricQuery) -> Value {
    let mut shown = json!({"id": query.id, "returnData": query.returns_data});
    if let Some(label) = &query.label {
        shown["label"] = label.as_str().into();
    }
    match &query.source {
        QuerySource::Stat(stat) => shown["metricStat"] = metric_stat(stat),
        QuerySource::Expression { text, .. } => shown["expression"] = text.as_str().into(),
    }
    shown
}

/// Subject and text of the message to a topic (`CloudWatch` user guide, "Notifying users on alarm
/// changes", and the JSON that such a message carries). The region is its code, not its long name.
pub fn message(alarm: &Alarm, before: &Before, region: &str, account: &str) -> (String, String) {
    let spec = &alarm.spec;
    let subject = format!("{}: \"{}\" in {region}", alarm.state.as_str(), spec.name);
    let mut message = json!({
        "AlarmName": spec.name,
        "AlarmDescription": spec.description,
        "AWSAccountId": account,
        "AlarmConfigurationUpdatedTimestamp": instant(alarm.configured_at),
        "NewStateValue": alarm.state.as_str(),
        "NewStateReason": alarm.reason,
        "StateChangeTime": instant(alarm.transitioned_at),
        "Region": region,
        "AlarmArn": alarm.arn,
        "OldStateValue": before.state.as_str(),
        "OKActions": spec.ok_actions,
        "AlarmActions": spec.alarm_actions,
        "InsufficientDataActions": spec.insufficient_data_actions,
    });
    match &spec.kind {
        AlarmKind::Metric(condition) => message["Trigger"] = trigger(condition),
        AlarmKind::Composite { rule, .. } => message["AlarmRule"] = rule.text().into(),
    }
    // "Subjects must … be less than 100 characters long" (`API_Publish`).
    (subject.chars().take(100).collect(), message.to_string())
}

fn trigger(condition: &MetricCondition) -> Value {
    let mut shown = Map::new();
    let mut set = |member: &str, value: Value| {
        shown.insert(member.to_owned(), value);
    };
    match &condition.watched {
        Watched::Metric(stat) => {
            set("MetricName", stat.metric.as_str().into());
            set("Namespace", stat.namespace.as_str().into());
            if stat.stat.starts_with('p') {
                set("StatisticType", "ExtendedStatistic".into());
                set("ExtendedStatistic", stat.stat.as_str().into());
            } else {
                set("StatisticType", "Statistic".into());
                set("Statistic", stat.stat.to_uppercase().into());
            }
            set("Unit", stat.unit.as_deref().into());
            let dimensions =
                stat.dimensions.iter().map(|(name, value)| json!({"value": value, "name": name}));
            set("Dimensions", dimensions.collect());
            set("Period", stat.period_secs.into());
        }
        Watched::Math(queries) => {
            let shown = queries.iter().map(|query| match &query.source {
                QuerySource::Expression { text, .. } => {
                    json!({"Id": query.id, "Expression": text, "ReturnData": query.returns_data})
                }
                QuerySource::Stat(stat) => json!({
                    "Id": query.id,
                    "MetricStat": {
                        "Metric": {
                            "Namespace": stat.namespace, "MetricName": stat.metric,
                            "Dimensions": data::pairs(&stat.dimensions, "name"),
                        },
                        "Period": stat.period_secs, "Stat": stat.stat,
                    },
                    "ReturnData": query.returns_data,
                }),
            });
            set("Metrics", shown.collect());
        }
    }
    set("EvaluationPeriods", condition.evaluation_periods.into());
    if let Some(datapoints) = condition.datapoints_to_alarm {
        set("DatapointsToAlarm", datapoints.into());
    }
    set("ComparisonOperator", condition.comparison.as_str().into());
    set("Threshold", threshold(condition).into());
    let missing = condition.treat_missing.map(pointsman_core::world::alarm::MissingData::as_str);
    set("TreatMissingData", missing.into());
    Value::Object(shown)
}

/// The event of a function that is an alarm's action (`CloudWatch` user guide, "Invoke a Lambda
/// function from an alarm").
pub fn function_event(alarm: &Alarm, before: &Before, region: &str, account: &str) -> Value {
    json!({
        "source": "aws.cloudwatch",
        "alarmArn": alarm.arn,
        "accountId": account,
        "time": instant(alarm.transitioned_at),
        "region": region,
        "alarmData": detail(alarm, before),
    })
}
