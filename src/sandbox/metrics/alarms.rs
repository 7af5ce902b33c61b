//! The calls that change alarms.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    data,
    input::{Input, invalid_combination, invalid_value, needed, validation},
    queries::{self, Window},
    store::{Statistic, Store},
};
use crate::world::{
    ApiError,
    alarm::{
        Alarm, AlarmKind, AlarmSpec, AlarmState, Alarms, Comparison, MetricCondition, MetricQuery,
        MetricStat, MissingData, QuerySource, Rule, Watched,
    },
};

/// Limits of the API (`cloudwatch_limits` page and the API model).
const NAME_CHARS_MAX: usize = 255;
const DESCRIPTION_CHARS_MAX: usize = 1_024;
const ACTIONS_MAX: usize = 5;
const NAMES_PER_CALL_MAX: usize = 100;
const QUERIES_PER_ALARM_MAX: usize = 20;
const TAGS_MAX: usize = 50;
/// An alarm looks back at most a week, and a day if its period is below an hour
/// (`PutMetricAlarm` API page: "`EvaluationPeriods` and `Period` multiplied").
const LOOK_BACK_SECS_MAX: u64 = 7 * 86_400;
const LOOK_BACK_SHORT_SECS_MAX: u64 = 86_400;
/// The flat fields that `Metrics` excludes.
const FLAT_FIELDS: [&str; 7] =
    ["MetricName", "Namespace", "Dimensions", "Period", "Unit", "Statistic", "ExtendedStatistic"];
/// What the sandbox cannot judge, and therefore refuses rather than ignores.
const NOT_SIMULATED: [&str; 3] = ["ThresholdMetricId", "EvaluationCriteria", "EvaluationInterval"];

/// `PutMetricAlarm`.
pub fn put_metric(alarms: &mut Alarms, now: Timestamp, input: Input<'_>) -> Result<Value, ApiError> {
    if let Some(field) = NOT_SIMULATED.into_iter().find(|field| input.has(field)) {
        return Err(validation(format!("the sandbox does not simulate {field}")));
    }
    if input.text("EvaluateLowSampleCountPercentile")?.is_some_and(|word| word != "evaluate") {
        return Err(validation("the sandbox simulates EvaluateLowSampleCountPercentile only as evaluate"));
    }
    let condition = condition(input)?;
    let kind = AlarmKind::Metric(condition);
    put(alarms, now, input, kind)
}

/// `PutCompositeAlarm`.
pub fn put_composite(alarms: &mut Alarms, now: Timestamp, input: Input<'_>) -> Result<Value, ApiError> {
    let rule = Rule::parse(input.needed_text("AlarmRule", 10_240)?)
        .map_err(|error| validation(error.to_string()))?;
    let periods = ["ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod"];
    let suppressor = match input.text("ActionsSuppressor")? {
        Some(arn) => {
            let period = |field| needed(field, input.whole(field, 0)?);
            Some((arn.to_owned(), period(periods[0])?, period(periods[1])?))
        }
        None if periods.into_iter().any(|field| input.has(field)) => {
            return Err(validation("ActionsSuppressor is required with its periods"));
        }
        None => None,
    };
    put(alarms, now, input, AlarmKind::Composite { rule, suppressor })
}

fn put(alarms: &mut Alarms, now: Timestamp, input: Input<'_>, kind: AlarmKind) -> Result<Value, ApiError> {
    let name = input.needed_text("AlarmName", NAME_CHARS_MAX)?.to_owned();
    let description = input.text("AlarmDescription")?.map(str::to_owned);
    if description.as_deref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
        return Err(validation(format!(
            "AlarmDescription may have at most {DESCRIPTION_CHARS_MAX} characters"
        )));
    }
    let tags = input.pairs("Tags", "Key", TAGS_MAX)?;
    let created = alarms.get(&name).is_none();
    let spec = AlarmSpec {
        name: name.clone(),
        description,
        actions_enabled: input.flag("ActionsEnabled")?.unwrap_or(true),
        ok_actions: input.texts("OKActions", ACTIONS_MAX)?,
        alarm_actions: input.texts("AlarmActions", ACTIONS_MAX)?,
        insufficient_data_actions: input.texts("InsufficientDataActions", ACTIONS_MAX)?,
        kind,
    };
    alarms.put(now, spec)?;
    // "If you are using this operation to update an existing alarm, any tags you specify are ignored."
    if let Some(found) = alarms.tags_mut(&name).filter(|_| created) {
        *found = tags;
    }
    Ok(json!({}))
}

fn condition(input: Input<'_>) -> Result<MetricCondition, ApiError> {
    let watched = if input.has("Metrics") { math(input)? } else { Watched::Metric(metric(input)?) };
    let (_, threshold) = needed("Threshold", input.number("Threshold")?)?;
    let known = Comparison::ALL.map(Comparison::as_str);
    let comparison = input.word("ComparisonOperator", Comparison::parse, &known)?;
    let known = MissingData::ALL.map(MissingData::as_str);
    let condition = MetricCondition {
        watched,
        evaluation_periods: needed("EvaluationPeriods", input.whole("EvaluationPeriods", 1)?)?,
        datapoints_to_alarm: input.whole("DatapointsToAlarm", 1)?,
        threshold,
        comparison: needed("ComparisonOperator", comparison)?,
        treat_missing: input.word("TreatMissingData", MissingData::parse, &known)?,
    };
    let (periods, datapoints) = (condition.evaluation_periods, condition.datapoints_needed());
    if datapoints > periods {
        return Err(validation(format!(
            "DatapointsToAlarm ({datapoints}) must not be greater than EvaluationPeriods ({periods})"
        )));
    }
    let period = condition.period_secs();
    if matches!(period, 1 | 5) {
        return Err(invalid_value(format!("Period must be 10, 20, 30 or a multiple of 60, found {period}")));
    }
    let look_back = u64::from(period) * u64::from(periods);
    let allowed = if period < 3_600 { LOOK_BACK_SHORT_SECS_MAX } else { LOOK_BACK_SECS_MAX };
    if look_back > allowed {
        return Err(validation(format!(
            "Metrics cannot be checked across more than {allowed} seconds: EvaluationPeriods ({periods}) * Period \
             ({period}) is {look_back}"
        )));
    }
    Ok(condition)
}

fn metric(input: Input<'_>) -> Result<MetricStat, ApiError> {
    let stat = match (input.text("Statistic")?, input.text("ExtendedStatistic")?) {
        (Some(plain), None) if !plain.starts_with('p') => plain,
        (None, Some(extended)) if extended.starts_with('p') => extended,
        (Some(_), Some(_)) => {
            return Err(invalid_combination("Statistic and ExtendedStatistic must not be used together"));
        }
        (None, None) => return Err(validation("exactly one of Statistic and ExtendedStatistic is required")),
        (Some(word), None) | (None, Some(word)) => {
            return Err(invalid_value(format!("the statistic {word} is not supported in this parameter")));
        }
    };
    if Statistic::parse(stat).is_none() {
        return Err(invalid_value(format!("the statistic {stat} is not supported")));
    }
    Ok(MetricStat {
        namespace: input.needed_text("Namespace", 255)?.to_owned(),
        metric: input.needed_text("MetricName", 255)?.to_owned(),
        dimensions: data::dimensions(input)?,
        period_secs: needed("Period", data::period(input)?)?,
        stat: stat.to_owned(),
        unit: data::unit(input)?,
    })
}

fn math(input: Input<'_>) -> Result<Watched, ApiError> {
    if let Some(field) = FLAT_FIELDS.into_iter().find(|field| input.has(field)) {
        return Err(invalid_combination(format!("Metrics must not be used together with {field}")));
    }
    let structures = input.structures("Metrics", QUERIES_PER_ALARM_MAX)?;
    let queries: Vec<MetricQuery> = structures.into_iter().map(data::query).collect::<Result<_, _>>()?;
    let returned: Vec<&MetricQuery> = queries.iter().filter(|query| query.returns_data).collect();
    let [watched] = returned[..] else {
        return Err(validation(format!(
            "exactly one member of Metrics must have ReturnData true, found {}",
            returned.len()
        )));
    };
    if !queries.iter().any(|query| matches!(query.source, QuerySource::Stat(_))) {
        return Err(validation("Metrics must hold at least one MetricStat"));
    }
    let periods: BTreeSet<u32> = queries.iter().filter_map(MetricQuery::period_secs).collect();
    if periods.len() > 1 {
        return Err(validation(format!("all members of Metrics must have one Period, found {periods:?}")));
    }
    // Computed over no data, it shows every mistake that does not depend on the data.
    let mut values = queries::run(&Store::default(), &queries, Window::Last { end: 0, count: 1 })
        .map_err(|error| validation(data::with_causes(&error)))?;
    if let Some(value) = values.remove(&watched.id) {
        value.into_series().map_err(|error| validation(format!("query {}: {error}", watched.id)))?;
    }
    Ok(Watched::Math(queries))
}

/// `SetAlarmState`: a metric alarm returns to its actual state with its next evaluation.
pub fn set_state(alarms: &mut Alarms, now: Timestamp, input: Input<'_>) -> Result<Value, ApiError> {
    let name = input.needed_text("AlarmName", NAME_CHARS_MAX)?;
    let state = needed("StateValue", state_value(input)?)?;
    let reason = needed("StateReason", input.text("StateReason")?)?;
    let data = input.text("StateReasonData")?;
    if data.is_some_and(|data| serde_json::from_str::<Value>(data).is_err()) {
        return Err(ApiError::client("InvalidFormat", "StateReasonData must be JSON"));
    }
    alarms.transition(now, name, state, reason, data)?;
    Ok(json!({}))
}

/// `StateValue`, if given.
pub fn state_value(input: Input<'_>) -> Result<Option<AlarmState>, ApiError> {
    input.word("StateValue", AlarmState::parse, &["OK", "ALARM", "INSUFFICIENT_DATA"])
}

/// `DeleteAlarms`.
pub fn delete(alarms: &mut Alarms, now: Timestamp, input: Input<'_>) -> Result<Value, ApiError> {
    let names = names(input)?;
    let composite = |name: &&String| alarms.get(name).is_some_and(|alarm| alarm.rule().is_some());
    if names.iter().filter(composite).count() > 1 {
        return Err(validation("one call deletes at most one composite alarm"));
    }
    alarms.delete(now, &names)?;
    Ok(json!({}))
}

/// `EnableAlarmActions` and `DisableAlarmActions`.
pub fn set_actions(
    alarms: &mut Alarms,
    now: Timestamp,
    input: Input<'_>,
    enabled: bool,
) -> Result<Value, ApiError> {
    alarms.set_actions_enabled(now, &names(input)?, enabled);
    Ok(json!({}))
}

fn names(input: Input<'_>) -> Result<Vec<String>, ApiError> {
    if !input.has("AlarmNames") {
        return Err(ApiError::client("MissingParameter", "The parameter AlarmNames is required."));
    }
    input.texts("AlarmNames", NAMES_PER_CALL_MAX)
}

/// `TagResource`.
pub fn tag(alarms: &mut Alarms, input: Input<'_>) -> Result<Value, ApiError> {
    let tags = input.pairs("Tags", "Key", TAGS_MAX)?;
    let name = tagged(alarms, input)?.spec.name.clone();
    if let Some(found) = alarms.tags_mut(&name) {
        let added = tags.keys().filter(|key| !found.contains_key(*key)).count();
        if found.len() + added > TAGS_MAX {
            return Err(validation(format!("an alarm has at most {TAGS_MAX} tags")));
        }
        found.extend(tags);
    }
    Ok(json!({}))
}

/// `UntagResource`.
pub fn untag(alarms: &mut Alarms, input: Input<'_>) -> Result<Value, ApiError> {
    let keys = input.texts("TagKeys", TAGS_MAX)?;
    let name = tagged(alarms, input)?.spec.name.clone();
    if let Some(found) = alarms.tags_mut(&name) {
        found.retain(|key, _| !keys.contains(key));
    }
    Ok(json!({}))
}

/// `ListTagsForResource`.
pub fn list_tags(alarms: &Alarms, input: Input<'_>) -> Result<Value, ApiError> {
    Ok(json!({ "Tags": data::pairs(&tagged(alarms, input)?.tags, "Key") }))
}

fn tagged<'a>(alarms: &'a Alarms, input: Input<'_>) -> Result<&'a Alarm, ApiError> {
    let arn = input.needed_text("ResourceARN", 1_024)?;
    alarms.by_arn(arn).ok_or_else(|| ApiError {
        code: "ResourceNotFoundException".to_owned(),
        message: format!("there is no alarm with the ARN {arn}"),
        status: 404,
    })
}
