//! The calls about metric data.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    Store, Tempo,
    input::{Input, epoch_secs, invalid_combination, invalid_value, needed, validation},
    queries::{self, Window},
    store::{MetricRef, Resolution, Sample, Statistic},
};
use crate::world::{
    ApiError,
    alarm::{MetricQuery, MetricStat, QuerySource},
};

/// Limits of the API (`cloudwatch_limits` page and the API model).
const METRICS_PER_PUT_MAX: usize = 1_000;
const VALUES_PER_METRIC_MAX: usize = 150;
const DIMENSIONS_MAX: usize = 30;
const QUERIES_MAX: usize = 500;
const DATAPOINTS_MAX: u32 = 100_800;
const STATISTICS_DATAPOINTS_MAX: i64 = 1_440;
const METRICS_PER_LIST: usize = 500;
/// "Values must be in the range of -2^360 to 2^360" (`PutMetricData` API page).
const VALUE_EXPONENT_MAX: i32 = 360;
/// "between two weeks before and two hours after" (`PutMetricData` API page).
const OLDEST: SignedDuration = SignedDuration::from_hours(14 * 24);
const NEWEST: SignedDuration = SignedDuration::from_hours(2);
/// API seconds in which a metric counts as recently active (`PT3H`).
const RECENT_SECS: i64 = 3 * 60 * 60;
/// Units of the API model.
pub const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// One datum, validated; nothing is stored before all of a call's data are.
struct Datum {
    metric: String,
    dimensions: BTreeMap<String, String>,
    at: Timestamp,
    unit: String,
    resolution: Resolution,
    samples: Vec<Sample>,
}

/// `PutMetricData`.
pub fn put(store: &mut Store, now: Timestamp, input: Input<'_>) -> Result<Value, ApiError> {
    let namespace = input.needed_text("Namespace", 255)?;
    if namespace.starts_with("AWS/") || namespace.starts_with(':') {
        return Err(invalid_value(format!(
            "Namespace must not start with AWS/ or a colon, found {namespace}"
        )));
    }
    let mut structures = input.structures("MetricData", METRICS_PER_PUT_MAX)?;
    for entity in input.structures("EntityMetricData", METRICS_PER_PUT_MAX)? {
        structures.extend(entity.structures("MetricData", METRICS_PER_PUT_MAX)?);
    }
    if structures.is_empty() {
        return Err(ApiError::client("MissingParameter", "The parameter MetricData is required."));
    }
    if structures.len() > METRICS_PER_PUT_MAX {
        return Err(invalid_value(format!("MetricData may hold at most {METRICS_PER_PUT_MAX} members")));
    }
    let data: Vec<Datum> = structures.into_iter().map(|one| datum(one, now)).collect::<Result<_, _>>()?;
    for datum in &data {
        let dimensions: Vec<_> =
            datum.dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let metric = MetricRef { namespace, metric: &datum.metric, dimensions: &dimensions };
        for sample in &datum.samples {
            store
                .add(metric, datum.at, &datum.unit, datum.resolution, *sample)
                .map_err(|full| ApiError::client("LimitExceeded", full.to_string()))?;
        }
    }
    Ok(json!({}))
}

fn datum(input: Input<'_>, now: Timestamp) -> Result<Datum, ApiError> {
    let at = input.time("Timestamp")?.unwrap_or(now);
    if at.duration_since(now) > NEWEST || now.duration_since(at) > OLDEST {
        return Err(invalid_value(format!(
            "Timestamp {at} must lie between two weeks before and two hours after now ({now})"
        )));
    }
    let resolution = match input.whole("StorageResolution", 1)?.unwrap_or(60) {
        1 => Resolution::High,
        60 => Resolution::Standard,
        other => return Err(invalid_value(format!("StorageResolution must be 1 or 60, found {other}"))),
    };
    Ok(Datum {
        metric: input.needed_text("MetricName", 255)?.to_owned(),
        dimensions: dimensions(input)?,
        at,
        unit: unit(input)?.unwrap_or_else(|| "None".to_owned()),
        resolution,
        samples: samples(input)?,
    })
}

fn samples(input: Input<'_>) -> Result<Vec<Sample>, ApiError> {
    let given = ["Value", "Values", "StatisticValues"].into_iter().filter(|field| input.has(field)).count();
    if given > 1 {
        return Err(invalid_combination("Value, Values and StatisticValues must not be used together"));
    }
    if let Some((value, _)) = input.number("Value")? {
        return Ok(vec![Sample::Value { value: in_range("Value", value)?, count: 1.0 }]);
    }
    if let Some(set) = input.structure("StatisticValues")? {
        let number = |field: &str| in_range(field, needed(field, set.number(field)?)?.0);
        let (count, sum) = (number("SampleCount")?, number("Sum")?);
        let (min, max) = (number("Minimum")?, number("Maximum")?);
        if count <= 0.0 || min > max {
            return Err(invalid_value(
                "StatisticValues needs SampleCount above 0 and Minimum not above Maximum",
            ));
        }
        return Ok(vec![Sample::Summary { count, sum, min, max }]);
    }
    let values = input.numbers("Values", VALUES_PER_METRIC_MAX)?;
    let counts = input.numbers("Counts", VALUES_PER_METRIC_MAX)?;
    if values.is_empty() {
        return Err(ApiError::client(
            "MissingParameter",
            "one of Value, Values and StatisticValues is required",
        ));
    }
    if !counts.is_empty() && counts.len() != values.len() {
        return Err(invalid_value(format!(
            "Counts must have as many members as Values ({}), found {}",
            values.len(),
            counts.len()
        )));
    }
    let sample = |(index, value): (usize, &f64)| {
        let count = counts.get(index).copied().unwrap_or(1.0);
        if count <= 0.0 {
            return Err(invalid_value(format!("Counts must be above 0, found {count}")));
        }
        Ok(Sample::Value { value: in_range("Values", *value)?, count: in_range("Counts", count)? })
    };
    values.iter().enumerate().map(sample).collect()
}

fn in_range(field: &str, value: f64) -> Result<f64, ApiError> {
    if value.abs() <= 2_f64.powi(VALUE_EXPONENT_MAX) {
        Ok(value)
    } else {
        Err(invalid_value(format!("{field} must lie between -2^360 and 2^360, found {value:e}")))
    }
}

/// The `Dimensions` of a metric.
pub fn dimensions(input: Input<'_>) -> Result<BTreeMap<String, String>, ApiError> {
    let dimensions = input.pairs("Dimensions", "Name", DIMENSIONS_MAX)?;
    if let Some((name, value)) =
        dimensions.iter().find(|(_, value)| value.is_empty() || value.chars().count() > 1_024)
    {
        let length = value.chars().count();
        return Err(invalid_value(format!(
            "the value of dimension {name} must have 1 to 1024 characters, found {length}"
        )));
    }
    Ok(dimensions)
}

/// `Unit`, one of the model's.
pub fn unit(input: Input<'_>) -> Result<Option<String>, ApiError> {
    input.word("Unit", |word| UNITS.contains(&word).then(|| word.to_owned()), &UNITS)
}

/// `Period`: 1, 5, 10, 20, 30 or a multiple of 60 seconds.
pub fn period(input: Input<'_>) -> Result<Option<u32>, ApiError> {
    let period = input.whole("Period", 1)?;
    if let Some(found) = period.filter(|found| !matches!(found, 1 | 5 | 10 | 20 | 30) && found % 60 != 0) {
        return Err(invalid_value(format!(
            "Period must be 1, 5, 10, 20, 30 or a multiple of 60, found {found}"
        )));
    }
    Ok(period)
}

/// One member of `MetricDataQueries` or of an alarm's `Metrics`.
pub fn query(input: Input<'_>) -> Result<MetricQuery, ApiError> {
    let id = input.needed_text("Id", 255)?.to_owned();
    let source = match (input.structure("MetricStat")?, input.text("Expression")?) {
        (Some(stat), None) => QuerySource::Stat(metric_stat(stat)?),
        (None, Some(text)) => QuerySource::Expression { text: text.to_owned(), period_secs: period(input)? },
        _ => return Err(validation(format!("query {id} must have either MetricStat or Expression"))),
    };
    let label = input.text("Label")?.map(str::to_owned);
    Ok(MetricQuery { id, source, label, returns_data: input.flag("ReturnData")?.unwrap_or(true) })
}

fn metric_stat(input: Input<'_>) -> Result<MetricStat, ApiError> {
    let metric = needed("Metric", input.structure("Metric")?)?;
    Ok(MetricStat {
        namespace: metric.needed_text("Namespace", 255)?.to_owned(),
        metric: metric.needed_text("MetricName", 255)?.to_owned(),
        dimensions: dimensions(metric)?,
        period_secs: needed("Period", period(input)?)?,
        stat: input.needed_text("Stat", 255)?.to_owned(),
        unit: unit(input)?,
    })
}

/// `StartTime` to `EndTime` in API seconds.
fn window(input: Input<'_>, tempo: &Tempo) -> Result<Window, ApiError> {
    let start = needed("StartTime", input.time("StartTime")?)?;
    let end = needed("EndTime", input.time("EndTime")?)?;
    if start >= end {
        return Err(validation(format!("StartTime {start} must be before EndTime {end}")));
    }
    let (start, end) = (tempo.api_secs(start), tempo.api_secs(end));
    Ok(Window::Aligned { start, end: end.max(start + 1) })
}

/// `GetMetricData`.
pub fn get(store: &Store, input: Input<'_>) -> Result<Value, ApiError> {
    let tempo = store.tempo();
    let structures = input.structures("MetricDataQueries", QUERIES_MAX)?;
    if structures.is_empty() {
        return Err(ApiError::client("MissingParameter", "The parameter MetricDataQueries is required."));
    }
    let queries: Vec<MetricQuery> = structures.into_iter().map(query).collect::<Result<_, _>>()?;
    let orders = ["TimestampDescending", "TimestampAscending"];
    let ascending =
        input.word("ScanBy", |word| orders.contains(&word).then(|| word == orders[1]), &orders)?;
    let page = input.whole("MaxDatapoints", 1)?.unwrap_or(DATAPOINTS_MAX);
    if page > DATAPOINTS_MAX {
        return Err(invalid_value(format!("MaxDatapoints must be at most {DATAPOINTS_MAX}, found {page}")));
    }
    let mut skip = offset(input)?;
    let mut room = usize::try_from(page).unwrap_or(usize::MAX);
    let next = skip + room;
    let mut values = queries::run(store, &queries, window(input, tempo)?)
        .map_err(|error| validation(with_causes(&error)))?;
    let mut results = Vec::new();
    let mut complete = true;
    for query in queries.iter().filter(|query| query.returns_data) {
        let Some(value) = values.remove(&query.id) else { continue };
        let all = match value {
            super::math::Value::Array(all) => all,
            other => vec![
                other.into_series().map_err(|error| validation(format!("query {}: {error}", query.id)))?,
            ],
        };
        for series in all {
            let mut points: Vec<(i64, f64)> = series.points.into_iter().collect();
            if ascending != Some(true) {
                points.reverse();
            }
            let total = points.len();
            let taken: Vec<_> = points.into_iter().skip(skip).take(room).collect();
            let cut = taken.len() + skip.min(total) < total;
            skip = skip.saturating_sub(total);
            room -= taken.len();
            complete &= !cut;
            results.push(json!({
                "Id": query.id,
                "Label": label(query),
                "Timestamps": taken.iter().map(|(at, _)| epoch_secs(tempo.real(*at))).collect::<Vec<_>>(),
                "Values": taken.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
                "StatusCode": if cut { "PartialData" } else { "Complete" },
            }));
        }
    }
    let mut answer = json!({ "MetricDataResults": results, "Messages": [] });
    if !complete {
        answer["NextToken"] = Value::from(next.to_string());
    }
    Ok(answer)
}

fn label(query: &MetricQuery) -> &str {
    match (&query.label, &query.source) {
        (Some(label), _) => label,
        (None, QuerySource::Stat(stat)) => &stat.metric,
        (None, QuerySource::Expression { .. }) => &query.id,
    }
}

/// Paging tokens of this store are plain offsets.
fn offset(input: Input<'_>) -> Result<usize, ApiError> {
    let parse = |token: &str| {
        token.parse().map_err(|_| {
            ApiError::client("InvalidNextToken", format!("NextToken {token:?} is not one of ours"))
        })
    };
    Ok(input.text("NextToken")?.map(parse).transpose()?.unwrap_or(0))
}

/// An error with its causes, for one line of an answer.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// `GetMetricStatistics`.
pub fn statistics(store: &Store, input: Input<'_>) -> Result<Value, ApiError> {
    let tempo = store.tempo();
    let plain = input.texts("Statistics", 5)?;
    let extended = input.texts("ExtendedStatistics", 10)?;
    if plain.is_empty() && extended.is_empty() {
        return Err(ApiError::client("MissingParameter", "Statistics or ExtendedStatistics is required"));
    }
    let parse = |word: &String| {
        let found = Statistic::parse(word).map(|statistic| (word.clone(), statistic));
        found.ok_or_else(|| invalid_value(format!("the statistic {word} is not supported")))
    };
    let plain: Vec<_> = plain.iter().map(parse).collect::<Result<_, _>>()?;
    let extended: Vec<_> = extended.iter().map(parse).collect::<Result<_, _>>()?;
    let stat = MetricStat {
        namespace: input.needed_text("Namespace", 255)?.to_owned(),
        metric: input.needed_text("MetricName", 255)?.to_owned(),
        dimensions: dimensions(input)?,
        period_secs: needed("Period", period(input)?)?,
        stat: String::new(),
        unit: unit(input)?,
    };
    let span = window(input, tempo)?.span(stat.period_secs);
    let datapoints = (span.end - span.start) / i64::from(stat.period_secs);
    if datapoints > STATISTICS_DATAPOINTS_MAX {
        return Err(invalid_combination(format!(
            "You have requested up to {datapoints} datapoints, which exceeds the limit of {STATISTICS_DATAPOINTS_MAX}. \
             You may reduce the datapoints requested by increasing Period, or decreasing the time range."
        )));
    }
    let unit = stat.unit.as_deref().or_else(|| store.unit(&stat)).map(str::to_owned);
    let mut points = Vec::new();
    for (at, slot) in store.periods(&stat, span, !extended.is_empty()) {
        let mut point = Map::from_iter([("Timestamp".to_owned(), epoch_secs(tempo.real(at)))]);
        for (word, statistic) in &plain {
            point.extend(slot.statistic(*statistic).map(|value| (word.clone(), Value::from(value))));
        }
        let values: Map<String, Value> = extended
            .iter()
            .filter_map(|(word, statistic)| Some((word.clone(), Value::from(slot.statistic(*statistic)?))))
            .collect();
        if !extended.is_empty() {
            point.insert("ExtendedStatistics".to_owned(), Value::Object(values));
        }
        point.extend(unit.clone().map(|unit| ("Unit".to_owned(), Value::from(unit))));
        points.push(Value::Object(point));
    }
    Ok(json!({ "Label": stat.metric, "Datapoints": points }))
}

/// `ListMetrics`, 500 per page.
pub fn list(store: &Store, now: Timestamp, input: Input<'_>) -> Result<Value, ApiError> {
    let (namespace, name) = (input.text("Namespace")?, input.text("MetricName")?);
    let recent = input.word("RecentlyActive", |word| (word == "PT3H").then_some(()), &["PT3H"])?;
    let newest = store.tempo().api_secs(now) - RECENT_SECS;
    let mut filters: Vec<(&str, Option<&str>)> = Vec::new();
    for filter in input.structures("Dimensions", 10)? {
        filters.push((filter.needed_text("Name", 255)?, filter.text("Value")?));
    }
    let skip = offset(input)?;
    let fits = |(in_namespace, named, metric): &(&str, &str, &super::store::Metric)| {
        namespace.is_none_or(|wanted| wanted == *in_namespace)
            && name.is_none_or(|wanted| wanted == *named)
            && (recent.is_none() || metric.newest >= newest)
            && filters.iter().all(|(name, value)| {
                metric.dimensions.get(*name).is_some_and(|found| value.is_none_or(|value| value == found))
            })
    };
    let mut found = store.list().filter(fits).skip(skip);
    let page: Vec<Value> = found
        .by_ref()
        .take(METRICS_PER_LIST)
        .map(|(namespace, name, metric)| {
            json!({ "Namespace": namespace, "MetricName": name, "Dimensions": pairs(&metric.dimensions, "Name") })
        })
        .collect();
    let mut answer = json!({ "Metrics": page });
    if found.next().is_some() {
        answer["NextToken"] = Value::from((skip + METRICS_PER_LIST).to_string());
    }
    Ok(answer)
}

/// A map as the API's list of `Name`/`Value` or `Key`/`Value` pairs.
pub fn pairs(map: &BTreeMap<String, String>, key: &str) -> Vec<Value> {
    map.iter().map(|(name, value)| json!({ key: name, "Value": value })).collect()
}
