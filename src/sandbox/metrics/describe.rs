//! The calls that show alarms and their history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    alarms::state_value,
    data,
    evaluator::threshold,
    input::{Input, epoch_secs, invalid_combination},
};
use crate::world::{
    ApiError,
    alarm::{
        Alarm, AlarmKind, AlarmState, Alarms, ConfigurationChange, HistoryEvent, HistoryItem,
        MetricCondition, MetricQuery, MetricStat, QuerySource, Watched,
    },
};

/// Most records of one answer, and the default.
const RECORDS_MAX: u32 = 100;
/// Most `AlarmNames` of one call (`aws-facts.md` §3).
const NAMES_MAX: usize = 100;

/// `DescribeAlarms`: metric alarms unless `AlarmTypes` asks for others; unknown names are absent.
pub fn alarms(alarms: &Alarms, input: Input<'_>) -> Result<Value, ApiError> {
    let names = input.texts("AlarmNames", NAMES_MAX)?;
    let prefix = input.text("AlarmNamePrefix")?;
    if prefix.is_some() && !names.is_empty() {
        return Err(invalid_combination("AlarmNamePrefix must not be used together with AlarmNames"));
    }
    let (metric, composite) = types(input)?;
    let (children_of, parents_of) = (input.text("ChildrenOfAlarmName")?, input.text("ParentsOfAlarmName")?);
    let relatives = relatives(alarms, children_of, parents_of);
    let state = state_value(input)?;
    let action = input.text("ActionPrefix")?;
    let fits = |alarm: &&Alarm| {
        let name = &alarm.spec.name;
        let of_type = if alarm.rule().is_some() { composite } else { metric };
        (of_type || relatives.is_some())
            && (names.is_empty() || names.contains(name))
            && prefix.is_none_or(|prefix| name.starts_with(prefix))
            && relatives.as_ref().is_none_or(|relatives| relatives.contains(&name.as_str()))
            && state.is_none_or(|state| alarm.state == state)
            && action.is_none_or(|prefix| actions(alarm).any(|action| action.starts_with(prefix)))
    };
    let (page, next) = page(alarms.iter().filter(fits), input, |alarm| alarm.spec.name.clone())?;
    let (composites, metrics): (Vec<&Alarm>, Vec<&Alarm>) =
        page.into_iter().partition(|alarm| alarm.rule().is_some());
    let mut answer = json!({
        "MetricAlarms": metrics.into_iter().map(show).collect::<Vec<_>>(),
        "CompositeAlarms": composites.into_iter().map(show).collect::<Vec<_>>(),
    });
    if let Some(next) = next {
        answer["NextToken"] = Value::from(next);
    }
    Ok(answer)
}

/// `AlarmTypes` as (metric, composite). Log alarms exist in no sandbox: asking for them finds none.
fn types(input: Input<'_>) -> Result<(bool, bool), ApiError> {
    let known = ["MetricAlarm", "CompositeAlarm", "LogAlarm"];
    let types = input.texts("AlarmTypes", known.len())?;
    if let Some(unknown) = types.iter().find(|found| !known.contains(&found.as_str())) {
        let known = known.join(", ");
        return Err(super::input::validation(format!("AlarmTypes must be of [{known}], found {unknown:?}")));
    }
    let has = |wanted: &str| types.iter().any(|found| found == wanted);
    Ok((types.is_empty() || has(known[0]), has(known[1])))
}

fn relatives<'a>(
    alarms: &'a Alarms,
    children_of: Option<&str>,
    parents_of: Option<&str>,
) -> Option<Vec<&'a str>> {
    match (children_of, parents_of) {
        (Some(parent), _) => {
            let rule = alarms.get(parent).and_then(Alarm::rule);
            Some(rule.map(|rule| rule.children().into_iter().collect()).unwrap_or_default())
        }
        (None, Some(child)) => Some(alarms.parents(child)),
        (None, None) => None,
    }
}

fn actions(alarm: &Alarm) -> impl Iterator<Item = &String> {
    let spec = &alarm.spec;
    spec.ok_actions.iter().chain(&spec.alarm_actions).chain(&spec.insufficient_data_actions)
}

/// One page, at most `MaxRecords`; the token is the key of the last record shown.
fn page<'a, T>(
    all: impl Iterator<Item = &'a T>,
    input: Input<'_>,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<&'a T>, Option<String>), ApiError> {
    let records = input.whole("MaxRecords", 1)?.unwrap_or(RECORDS_MAX);
    if records > RECORDS_MAX {
        return Err(super::input::invalid_value(format!(
            "MaxRecords must be at most {RECORDS_MAX}, found {records}"
        )));
    }
    let after = input.text("NextToken")?.map(read_token).transpose()?;
    let mut rest = all.filter(|one| after.as_ref().is_none_or(|after| key(one) > *after)).peekable();
    let mut page = Vec::new();
    for _ in 0..records {
        page.extend(rest.next());
    }
    let next = rest
        .peek()
        .and_then(|_| page.last())
        .map(|last| data_encoding::BASE64URL.encode(key(last).as_bytes()));
    Ok((page, next))
}

fn read_token(token: &str) -> Result<String, ApiError> {
    let bytes = data_encoding::BASE64URL.decode(token.as_bytes()).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| ApiError::client("InvalidNextToken", format!("NextToken {token:?} is not one of ours")))
}

/// `DescribeAlarmsForMetric`: exact matches of the flat fields, composites never.
pub fn for_metric(alarms: &Alarms, input: Input<'_>) -> Result<Value, ApiError> {
    let (namespace, name) = (input.needed_text("Namespace", 255)?, input.needed_text("MetricName", 255)?);
    let dimensions = data::dimensions(input)?;
    let statistic = input.text("Statistic")?.or(input.text("ExtendedStatistic")?);
    let (period, unit) = (input.whole("Period", 1)?, data::unit(input)?);
    let watches = |stat: &MetricStat| {
        stat.namespace == namespace
            && stat.metric == name
            && stat.dimensions == dimensions
            && statistic.is_none_or(|wanted| wanted == stat.stat)
            && period.is_none_or(|wanted| wanted == stat.period_secs)
            && (unit.is_none() || unit == stat.unit)
    };
    let fits = |alarm: &&Alarm| {
        alarm.condition().is_some_and(|condition| match &condition.watched {
            Watched::Metric(stat) => watches(stat),
            Watched::Math(queries) => {
                queries.iter().any(|query| matches!(&query.source, QuerySource::Stat(stat) if watches(stat)))
            }
        })
    };
    Ok(json!({ "MetricAlarms": alarms.iter().filter(fits).map(show).collect::<Vec<_>>() }))
}

/// One alarm in the shape of `MetricAlarm` or `CompositeAlarm`.
fn show(alarm: &Alarm) -> Value {
    let spec = &alarm.spec;
    let mut shown = json!({
        "AlarmName": spec.name,
        "AlarmArn": alarm.arn,
        "AlarmConfigurationUpdatedTimestamp": epoch_secs(alarm.configured_at),
        "ActionsEnabled": spec.actions_enabled,
        "OKActions": spec.ok_actions,
        "AlarmActions": spec.alarm_actions,
        "InsufficientDataActions": spec.insufficient_data_actions,
        "StateValue": alarm.state.as_str(),
        "StateReason": alarm.reason,
        "StateUpdatedTimestamp": epoch_secs(alarm.updated_at),
        "StateTransitionedTimestamp": epoch_secs(alarm.transitioned_at),
    });
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            shown[field] = value;
        }
    };
    set("AlarmDescription", spec.description.as_deref().map(Value::from));
    set("StateReasonData", alarm.reason_data.as_deref().map(Value::from));
    set("EvaluationState", alarm.evaluation_state.as_deref().map(Value::from));
    let own = match &spec.kind {
        AlarmKind::Metric(condition) => show_condition(condition),
        AlarmKind::Composite { rule, suppressor } => {
            set("AlarmRule", Some(Value::from(rule.text())));
            let mut own = Map::new();
            if let Some((name, wait, extension)) = suppressor {
                own.insert("ActionsSuppressor".to_owned(), Value::from(name.as_str()));
                own.insert("ActionsSuppressorWaitPeriod".to_owned(), Value::from(*wait));
                own.insert("ActionsSuppressorExtensionPeriod".to_owned(), Value::from(*extension));
            }
            own
        }
    };
    own.into_iter().for_each(|(field, value)| set(&field, Some(value)));
    shown
}

fn show_condition(condition: &MetricCondition) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut set = |field: &str, value: Value| {
        shown.insert(field.to_owned(), value);
    };
    set("EvaluationPeriods", Value::from(condition.evaluation_periods));
    set("Threshold", Value::from(threshold(condition)));
    set("ComparisonOperator", Value::from(condition.comparison.as_str()));
    if let Some(needed) = condition.datapoints_to_alarm {
        set("DatapointsToAlarm", Value::from(needed));
    }
    if let Some(treatment) = condition.treat_missing {
        set("TreatMissingData", Value::from(treatment.as_str()));
    }
    match &condition.watched {
        Watched::Metric(stat) => {
            set("Namespace", Value::from(stat.namespace.as_str()));
            set("MetricName", Value::from(stat.metric.as_str()));
            set("Dimensions", Value::from(data::pairs(&stat.dimensions, "Name")));
            set("Period", Value::from(stat.period_secs));
            let field = if stat.stat.starts_with('p') { "ExtendedStatistic" } else { "Statistic" };
            set(field, Value::from(stat.stat.as_str()));
            if let Some(unit) = &stat.unit {
                set("Unit", Value::from(unit.as_str()));
            }
        }
        Watched::Math(queries) => set("Metrics", queries.iter().map(show_query).collect()),
    }
    shown
}

fn show_query(query: &MetricQuery) -> Value {
    let mut shown = json!({ "Id": query.id, "ReturnData": query.returns_data });
    if let Some(label) = &query.label {
        shown["Label"] = Value::from(label.as_str());
    }
    match &query.source {
        QuerySource::Stat(stat) => {
            shown["MetricStat"] = json!({
                "Metric": {
                    "Namespace": stat.namespace,
                    "MetricName": stat.metric,
                    "Dimensions": data::pairs(&stat.dimensions, "Name"),
                },
                "Period": stat.period_secs,
                "Stat": stat.stat,
            });
            if let Some(unit) = &stat.unit {
                shown["MetricStat"]["Unit"] = Value::from(unit.as_str());
            }
        }
        QuerySource::Expression { text, period_secs } => {
            shown["Expression"] = Value::from(text.as_str());
            if let Some(period) = period_secs {
                shown["Period"] = Value::from(*period);
            }
        }
    }
    shown
}

/// A history item with the alarm it belongs to and its place in the answer.
struct Entry<'a> {
    order: usize,
    name: &'a str,
    item: &'a HistoryItem,
}

/// `DescribeAlarmHistory`, newest first unless `ScanBy` says otherwise.
pub fn history(alarms: &Alarms, input: Input<'_>) -> Result<Value, ApiError> {
    let name = input.text("AlarmName")?;
    let (metric, composite) = types(input)?;
    // A name says which alarm is meant; the default type only narrows the question for all alarms.
    let any_type = name.is_some() && !input.has("AlarmTypes");
    let kinds = [
        "StateUpdate",
        "ConfigurationUpdate",
        "Action",
        "AlarmContributorStateUpdate",
        "AlarmContributorAction",
    ];
    let kind =
        input.word("HistoryItemType", |word| kinds.contains(&word).then(|| word.to_owned()), &kinds)?;
    let (start, end) = (input.time("StartDate")?, input.time("EndDate")?);
    let orders = ["TimestampDescending", "TimestampAscending"];
    let ascending =
        input.word("ScanBy", |word| orders.contains(&word).then(|| word == orders[1]), &orders)?;
    let fits = |item: &HistoryItem| {
        (any_type || if item.composite { composite } else { metric })
            && kind.as_deref().is_none_or(|kind| kind == kind_of(item))
            && start.is_none_or(|start| item.at >= start)
            && end.is_none_or(|end| item.at <= end)
    };
    let mut by_time: BTreeMap<(Timestamp, usize), (&str, &HistoryItem)> = BTreeMap::new();
    for named in alarms.history_names().filter(|named| name.is_none_or(|name| name == *named)) {
        for item in alarms.history(named).filter(|item| fits(item)) {
            by_time.insert((item.at, by_time.len()), (named, item));
        }
    }
    let mut entries: Vec<(&str, &HistoryItem)> = by_time.into_values().collect();
    if ascending != Some(true) {
        entries.reverse();
    }
    let entries: Vec<Entry<'_>> =
        entries.into_iter().enumerate().map(|(order, (name, item))| Entry { order, name, item }).collect();
    let (page, next) = page(entries.iter(), input, |entry| format!("{:010}", entry.order))?;
    let mut answer = json!({ "AlarmHistoryItems": page.into_iter().map(show_item).collect::<Vec<_>>() });
    if let Some(next) = next {
        answer["NextToken"] = Value::from(next);
    }
    Ok(answer)
}

fn kind_of(item: &HistoryItem) -> &'static str {
    match item.event {
        HistoryEvent::State { .. } => "StateUpdate",
        HistoryEvent::Action { .. } => "Action",
        HistoryEvent::Configuration { .. } => "ConfigurationUpdate",
    }
}

fn show_item(entry: &Entry<'_>) -> Value {
    let (summary, data) = match &entry.item.event {
        HistoryEvent::State { from, to, reason, reason_data } => (
            format!("Alarm updated from {} to {}", from.as_str(), to.as_str()),
            json!({
                "version": "1.0",
                "oldState": show_state(*from, None, None),
                "newState": show_state(*to, Some(reason), reason_data.as_deref()),
            }),
        ),
        HistoryEvent::Action { action, done } => {
            let (said, state) =
                if *done { ("Successfully executed", "Succeeded") } else { ("Failed to execute", "Failed") };
            (
                format!("{said} action {action}"),
                json!({"actionState": state, "notificationResource": action, "version": "1.0"}),
            )
        }
        HistoryEvent::Configuration { change } => {
            let (kind, done) = match change {
                ConfigurationChange::Created => ("Create", "created"),
                ConfigurationChange::Updated => ("Update", "updated"),
                ConfigurationChange::Deleted => ("Delete", "deleted"),
            };
            (format!("Alarm \"{}\" {done}", entry.name), json!({ "version": "1.0", "type": kind }))
        }
    };
    json!({
        "AlarmName": entry.name,
        "AlarmType": if entry.item.composite { "CompositeAlarm" } else { "MetricAlarm" },
        "Timestamp": epoch_secs(entry.item.at),
        "HistoryItemType": kind_of(entry.item),
        "HistorySummary": summary.chars().take(255).collect::<String>(),
        "HistoryData": data.to_string(),
    })
}

fn show_state(state: AlarmState, reason: Option<&str>, data: Option<&str>) -> Value {
    let mut shown = json!({ "stateValue": state.as_str() });
    if let Some(reason) = reason {
        shown["stateReason"] = Value::from(reason);
    }
    if let Some(data) = data {
        shown["stateReasonData"] = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    }
    shown
}
