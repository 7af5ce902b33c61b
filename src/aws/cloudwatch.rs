//! Amazon `CloudWatch`: alarms by name, and what they went through.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types;
use jiff::Timestamp;

use super::batch::{Source, Suspects};
use super::budget::{Family, Limiter, Urgency};
use super::error::CallError;
use crate::model::Seen;
use crate::model::observed::{Alarm, AlarmState};
use crate::records::Span;

/// `DescribeAlarms` takes a hundred names (`aws-facts.md` §3).
const ALARMS_PER_CALL: usize = 100;
/// The operation of [`Alarms`].
const DESCRIBE_ALARMS: &str = "DescribeAlarms";
/// Pages of one answer; a hundred alarms each, so that one should do.
const MOST_ALARM_PAGES: usize = 10;
/// Pages of one alarm's history; a hundred changes each. An alarm that flaps more than that in one release is
/// not judged by what was read of it.
const MOST_HISTORY_PAGES: usize = 20;

/// What publishing and evaluation take on top of the evaluation periods (`semantics` 5.5).
const EVALUATION_LAG: Span = Span::from_mins(2);
/// Evaluation periods taken for alarms that state none: composite ones (they are evaluated when a child
/// changes), log alarms, and queries. Three one-minute periods are what their children usually have. Too short
/// a range holds a release back until data come or its deadline; too long a one would let silence pass.
const UNSTATED_PERIODS: Span = Span::from_mins(3);

/// `DescribeAlarms` by name. An alarm that AWS does not know is simply absent from its answer.
#[derive(Debug)]
pub struct Alarms {
    /// Client.
    pub client: Client,
    /// Budget.
    pub limiter: Limiter,
}

/// Without these, AWS answers metric alarms alone (`aws-facts.md` §3).
fn all_types() -> Vec<types::AlarmType> {
    vec![types::AlarmType::MetricAlarm, types::AlarmType::CompositeAlarm, types::AlarmType::LogAlarm]
}

#[async_trait]
impl Source for Alarms {
    type Key = String;
    type Item = Alarm;

    fn divide(&self, keys: BTreeSet<String>, suspects: &Suspects<String>) -> Vec<Vec<String>> {
        suspects.divide(keys, ALARMS_PER_CALL)
    }

    async fn turn(&self) -> Result<(), CallError> {
        self.limiter.turn(DESCRIBE_ALARMS, Family::Alarms, Urgency::Look).await
    }

    async fn describe(&self, names: &[String]) -> Result<BTreeMap<String, Seen<Alarm>>, CallError> {
        let mut seen = BTreeMap::new();
        let mut token = None;
        for page in 0..MOST_ALARM_PAGES {
            if page > 0 {
                self.turn().await?;
            }
            let page = self
                .client
                .describe_alarms()
                .set_alarm_names(Some(names.to_vec()))
                .set_alarm_types(Some(all_types()))
                .max_records(100)
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::of_read(DESCRIBE_ALARMS, &error))?;
            let metric = page.metric_alarms.unwrap_or_default();
            let composite = page.composite_alarms.unwrap_or_default();
            let log = page.log_alarms.unwrap_or_default();
            seen.extend(
                metric.iter().filter_map(|alarm| Some((alarm.alarm_name.clone()?, metric_alarm(alarm)))),
            );
            seen.extend(
                composite
                    .iter()
                    .filter_map(|alarm| Some((alarm.alarm_name.clone()?, composite_alarm(alarm)))),
            );
            seen.extend(log.iter().filter_map(|alarm| Some((alarm.alarm_name.clone()?, log_alarm(alarm)))));
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                // Only a whole answer says what is absent.
                for name in names {
                    seen.entry(name.clone()).or_insert_with(|| Seen::Known(missing()));
                }
                return Ok(seen);
            }
        }
        Ok(seen)
    }

    fn absence(&self, _error: &CallError) -> Option<Alarm> {
        None
    }
}

const fn missing() -> Alarm {
    Alarm {
        state: AlarmState::Missing,
        transitioned_at: None,
        range: EVALUATION_LAG,
        needs_missing_data: false,
    }
}

fn metric_alarm(alarm: &types::MetricAlarm) -> Seen<Alarm> {
    judged(alarm.state_value(), alarm.evaluation_state(), |state| Alarm {
        state,
        transitioned_at: timestamp(alarm.state_transitioned_timestamp()),
        range: metric_range(alarm),
        needs_missing_data: counts_http_codes(alarm)
            && alarm.treat_missing_data() != Some("notBreaching")
            && !fills_gaps(alarm),
    })
}

fn composite_alarm(alarm: &types::CompositeAlarm) -> Seen<Alarm> {
    judged(alarm.state_value(), None, |state| Alarm {
        state,
        transitioned_at: timestamp(alarm.state_transitioned_timestamp()),
        range: UNSTATED_PERIODS.plus(EVALUATION_LAG),
        needs_missing_data: false,
    })
}

fn log_alarm(alarm: &types::LogAlarm) -> Seen<Alarm> {
    judged(alarm.state_value(), alarm.evaluation_state(), |state| Alarm {
        state,
        transitioned_at: timestamp(alarm.state_transitioned_timestamp()),
        range: UNSTATED_PERIODS.plus(EVALUATION_LAG),
        needs_missing_data: false,
    })
}

/// ALARM counts always. Anything else counts only when `CloudWatch` could evaluate it: an OK that was kept
/// because the evaluation failed is no evidence (`aws-facts.md` §3).
fn judged(
    state: Option<&types::StateValue>,
    evaluation: Option<&types::EvaluationState>,
    alarm: impl FnOnce(AlarmState) -> Alarm,
) -> Seen<Alarm> {
    let cannot = |evaluation: &types::EvaluationState| {
        Seen::Unknown(format!("DescribeAlarms: the alarm cannot be evaluated: {}", evaluation.as_str()))
    };
    match (state, evaluation) {
        (Some(types::StateValue::Alarm), _) => Seen::Known(alarm(AlarmState::Alarm)),
        (
            _,
            Some(
                evaluation @ (types::EvaluationState::EvaluationError
                | types::EvaluationState::EvaluationFailure
                | types::EvaluationState::PartialData),
            ),
        ) => cannot(evaluation),
        (Some(types::StateValue::Ok), _) => Seen::Known(alarm(AlarmState::Ok)),
        (Some(types::StateValue::InsufficientData), _) => Seen::Known(alarm(AlarmState::InsufficientData)),
        (other, _) => Seen::Unknown(format!("DescribeAlarms: state {other:?}")),
    }
}

/// Period × evaluation periods + lag. With metric math the longest period of its parts counts: the result
/// cannot come more often than its slowest input.
fn metric_range(alarm: &types::MetricAlarm) -> Span {
    let of_parts = alarm.metrics().iter().flat_map(|query| {
        let stat = query.metric_stat().and_then(types::MetricStat::period);
        stat.into_iter().chain(query.period())
    });
    let period = alarm.period().into_iter().chain(of_parts).max().and_then(|it| u64::try_from(it).ok());
    let periods = alarm.evaluation_periods().and_then(|periods| u64::try_from(periods).ok());
    match (period, periods) {
        (Some(period), Some(periods)) => Span::from_secs(period).times(periods).plus(EVALUATION_LAG),
        _ => UNSTATED_PERIODS.plus(EVALUATION_LAG),
    }
}

fn counts_http_codes(alarm: &types::MetricAlarm) -> bool {
    let of_parts = alarm.metrics().iter().filter_map(|query| query.metric_stat()?.metric()?.metric_name());
    alarm.metric_name().into_iter().chain(of_parts).any(|name| name.starts_with("HTTPCode_"))
}

/// Metric math that fills missing points itself needs no setting for them.
fn fills_gaps(alarm: &types::MetricAlarm) -> bool {
    alarm.metrics().iter().filter_map(types::MetricDataQuery::expression).any(|it| it.contains("FILL("))
}

fn timestamp(at: Option<&DateTime>) -> Option<Timestamp> {
    let at = at?;
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok()
}

/// The states that `name` entered after `since` and when, oldest first.
pub async fn history(
    client: &Client,
    limiter: &Limiter,
    name: &str,
    since: Timestamp,
) -> Result<Vec<(Timestamp, AlarmState)>, CallError> {
    const OPERATION: &str = "DescribeAlarmHistory";
    let mut states: Vec<(Timestamp, AlarmState)> = Vec::new();
    let mut token = None;
    for _ in 0..MOST_HISTORY_PAGES {
        limiter.turn(OPERATION, Family::AlarmHistory, Urgency::Look).await?;
        let page = client
            .describe_alarm_history()
            .alarm_name(name)
            .set_alarm_types(Some(all_types()))
            .history_item_type(types::HistoryItemType::StateUpdate)
            // Whole seconds, rounded down: the exact comparison is made here.
            .start_date(DateTime::from_secs(since.as_second()))
            .scan_by(types::ScanBy::TimestampAscending)
            .max_records(100)
            .set_next_token(token)
            .send()
            .await
            .map_err(|error| CallError::of_read(OPERATION, &error))?;
        for item in page.alarm_history_items() {
            let incomplete = |what| CallError::incomplete(OPERATION, what);
            let at = timestamp(item.timestamp()).ok_or_else(|| incomplete("a timestamp"))?;
            if at > since {
                states.push((at, entered(item).ok_or_else(|| incomplete("the new state"))?));
            }
        }
        token = page.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            states.sort_by_key(|(at, _)| *at);
            return Ok(states);
        }
    }
    Err(CallError::incomplete(OPERATION, "an end: the alarm changed more often than is read"))
}

/// The state that a `StateUpdate` item tells of.
fn entered(item: &types::AlarmHistoryItem) -> Option<AlarmState> {
    let data: serde_json::Value = serde_json::from_str(item.history_data()?).ok()?;
    match data.pointer("/newState/stateValue")?.as_str()? {
        "OK" => Some(AlarmState::Ok),
        "ALARM" => Some(AlarmState::Alarm),
        "INSUFFICIENT_DATA" => Some(AlarmState::InsufficientData),
        _ => None,
    }
}
