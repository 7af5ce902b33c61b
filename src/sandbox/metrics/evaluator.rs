//! Evaluates metric alarms on their beat and tells why in the words of `CloudWatch`.
//!
//! Alarms with periods of a minute and more are evaluated every minute, those with shorter periods
//! every 10 seconds, those that look back more than a day every hour (`aws-facts.md` §3), each a
//! little after the beat. The periods end at the beat, so a 5-minute period slides by the minute, as
//! the page's example of a 300-second period that ends at 17:04:00 shows.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Store, Tempo,
    data::with_causes,
    queries::{self, QueryError, Window},
    verdict::{Datapoint, EXTRA_DATAPOINTS, Rule, Verdict, judge},
};
use crate::world::alarm::{Alarm, AlarmState, Alarms, Comparison, MetricCondition, MissingData, Watched};

/// From the beat to the evaluation, in API seconds: §3's example has 16:00:00 to 16:00:04.65.
const LAG_SECS: i64 = 5;
/// API seconds per day.
const DAY_SECS: u64 = 86_400;
/// Most datapoints listed in a reason; keeps it within the API's 1,023 characters.
const REASON_DATAPOINTS_MAX: usize = 10;

/// `EvaluationState` of an alarm whose definition cannot be computed.
const EVALUATION_ERROR: &str = "EVALUATION_ERROR";

/// How often an alarm is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Beat {
    TenSeconds,
    Minute,
    Hour,
}

impl Beat {
    fn of(condition: &MetricCondition) -> Self {
        let period = condition.period_secs();
        if u64::from(period) * u64::from(condition.evaluation_periods) > DAY_SECS {
            Self::Hour
        } else if period < 60 {
            Self::TenSeconds
        } else {
            Self::Minute
        }
    }

    fn secs(self) -> i64 {
        match self {
            Self::TenSeconds => 10,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// Number of the last beat whose lag has passed.
    fn last(self, tempo: &Tempo, now: Timestamp) -> i64 {
        (tempo.api_secs(now) - LAG_SECS).div_euclid(self.secs())
    }
}

/// The last beat evaluated of each kind that some alarm follows.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    done: BTreeMap<Beat, i64>,
}

impl Schedule {
    /// Takes up beats that alarms need and drops the others. A new beat starts with the next one, so a
    /// new alarm is judged within one interval.
    pub fn watch(&mut self, alarms: &Alarms, tempo: &Tempo, now: Timestamp) {
        let needed: BTreeSet<Beat> = alarms.iter().filter_map(Alarm::condition).map(Beat::of).collect();
        self.done.retain(|beat, _| needed.contains(beat));
        for beat in needed {
            self.done.entry(beat).or_insert_with(|| beat.last(tempo, now));
        }
    }

    /// When the next beat with its lag has passed.
    pub fn next_due(&self, tempo: &Tempo) -> Option<Timestamp> {
        self.done.iter().map(|(beat, done)| tempo.real((done + 1) * beat.secs() + LAG_SECS)).min()
    }

    /// Evaluates the alarms whose beat has come.
    pub fn run(&mut self, store: &Store, alarms: &mut Alarms, now: Timestamp) {
        let due: BTreeMap<Beat, i64> = self
            .done
            .iter()
            .map(|(beat, done)| (*beat, *done, beat.last(store.tempo(), now)))
            .filter(|(_, done, last)| last > done)
            .map(|(beat, _, last)| (beat, last))
            .collect();
        self.done.extend(&due);
        let judge_one = |alarm: &Alarm| {
            let condition = alarm.condition()?;
            let beat = Beat::of(condition);
            let evaluation = Evaluation { store, now, end: due.get(&beat)? * beat.secs() };
            Some((alarm.spec.name.clone(), evaluation.outcome(alarm.state, condition)))
        };
        let outcomes: Vec<_> = alarms.iter().filter_map(judge_one).collect();
        for (name, outcome) in outcomes {
            match outcome {
                Ok(change) => {
                    alarms.set_evaluation_state(now, &name, None);
                    if let Some(Change { state, reason, data }) = change {
                        alarms
                            .transition(now, &name, state, &reason, Some(&data))
                            .expect("the alarm exists and its reason was made to fit");
                    }
                }
                Err(error) => {
                    // `put` checks definitions, so only an alarm from another door can come here.
                    let error = with_causes(&error);
                    tracing::warn!(alarm = name, error, "the alarm cannot be evaluated");
                    alarms.set_evaluation_state(now, &name, Some(EVALUATION_ERROR));
                }
            }
        }
    }
}

/// A change of state that the evaluation found.
struct Change {
    state: AlarmState,
    reason: String,
    data: String,
}

/// One evaluation: the periods end at API second `end`.
struct Evaluation<'a> {
    store: &'a Store,
    now: Timestamp,
    end: i64,
}

impl Evaluation<'_> {
    /// The change to make, if any.
    fn outcome(
        &self,
        present: AlarmState,
        condition: &MetricCondition,
    ) -> Result<Option<Change>, QueryError> {
        let count = condition.evaluation_periods.saturating_add(EXTRA_DATAPOINTS);
        let window = Window::Last { end: self.end, count: i64::from(count) };
        let points = self.points(condition, window)?;
        let threshold = threshold(condition);
        let marks: Vec<Datapoint> = points
            .iter()
            .map(|(_, value)| match value {
                None => Datapoint::Missing,
                Some(value) if breaches(*value, condition.comparison, threshold) => Datapoint::Breaching,
                Some(_) => Datapoint::Within,
            })
            .collect();
        let rule = Rule {
            periods: as_usize(condition.evaluation_periods),
            needed: as_usize(condition.datapoints_needed()),
            missing: treatment(condition),
        };
        let verdict = judge(&marks, rule);
        Ok(verdict.state.filter(|state| *state != present).map(|state| {
            let real: Vec<(i64, f64)> = points
                .iter()
                .rev()
                .filter_map(|(at, value)| Some((*at, (*value)?)))
                .take(rule.periods)
                .collect();
            Change {
                state,
                reason: self.reason(condition, &real, verdict, state, present),
                data: self.reason_data(condition, &real, threshold),
            }
        }))
    }

    /// Start and value of every period in the window, oldest first.
    fn points(
        &self,
        condition: &MetricCondition,
        window: Window,
    ) -> Result<Vec<(i64, Option<f64>)>, QueryError> {
        let series = match &condition.watched {
            Watched::Metric(stat) => queries::series(self.store, stat, window)?,
            Watched::Math(all) => {
                let mut values = queries::run(self.store, all, window)?;
                let watched = all.iter().find(|query| query.returns_data).map(|query| query.id.clone());
                let id = watched.unwrap_or_default();
                let value = values.remove(&id).unwrap_or(super::math::Value::Array(Vec::new()));
                value.into_series().map_err(|source| QueryError::Math { id, source })?
            }
        };
        let period = i64::from(condition.period_secs());
        let span = window.span(condition.period_secs());
        let starts = std::iter::successors(Some(span.start), |at| Some(at + period));
        let starts = starts.take_while(|at| *at < span.end);
        Ok(starts.map(|at| (at, series.points.get(&at).copied())).collect())
    }

    /// The sentence of `StateReason`, shaped as `CloudWatch` shapes it.
    fn reason(
        &self,
        condition: &MetricCondition,
        real: &[(i64, f64)],
        verdict: Verdict,
        to: AlarmState,
        from: AlarmState,
    ) -> String {
        let periods = condition.evaluation_periods;
        if to == AlarmState::InsufficientData {
            return format!(
                "Insufficient Data: {} unknown.",
                counted(as_usize(periods), "datapoint", "was", "were")
            );
        }
        let filled = verdict.filled;
        if real.is_empty() {
            let treated = if to == AlarmState::Alarm { "Breaching" } else { "NonBreaching" };
            let periods = if periods == 1 { "1 period".to_owned() } else { format!("{periods} periods") };
            return format!(
                "Threshold Crossed: no datapoints were received for {periods} and {} treated as [{treated}].",
                counted(filled, "missing datapoint", "was", "were"),
            );
        }
        let threshold = threshold(condition);
        let listed = |alarm: bool| -> Vec<&(i64, f64)> {
            real.iter()
                .filter(|(_, value)| !alarm || breaches(*value, condition.comparison, threshold))
                .collect()
        };
        let shown = listed(to == AlarmState::Alarm);
        let mut values: Vec<String> =
            shown.iter().take(REASON_DATAPOINTS_MAX).map(|(at, value)| self.datapoint(*at, *value)).collect();
        if shown.len() > REASON_DATAPOINTS_MAX {
            values.push("...".to_owned());
        }
        let values = values.join(", ");
        let words = words(condition.comparison);
        let gaps = if filled == 0 {
            String::new()
        } else {
            format!(" {}.", counted(filled, "missing datapoint", "was filled in", "were filled in"))
        };
        let needed = condition.datapoints_needed();
        let minimum = format!(
            "(minimum {needed} datapoint{} for {} -> ALARM transition)",
            if needed == 1 { "" } else { "s" },
            if to == AlarmState::Alarm { from.as_str() } else { "OK" }
        );
        if to == AlarmState::Alarm {
            format!(
                "Threshold Crossed: {} out of the last {} datapoints [{values}] {} {words} the threshold ({threshold:?}) {minimum}.{gaps}",
                shown.len(),
                periods,
                if shown.len() == 1 { "was" } else { "were" },
            )
        } else {
            format!(
                "Threshold Crossed: {} datapoint{} [{values}] {} not {words} the threshold ({threshold:?}) {minimum}.{gaps}",
                shown.len(),
                if shown.len() == 1 { "" } else { "s" },
                if shown.len() == 1 { "was" } else { "were" },
            )
        }
    }

    fn datapoint(&self, at: i64, value: f64) -> String {
        format!("{value:?} ({})", self.store.tempo().real(at).strftime("%d/%m/%y %H:%M:%S"))
    }

    /// `StateReasonData` version 1.0: the newest datapoints of the evaluation.
    fn reason_data(&self, condition: &MetricCondition, real: &[(i64, f64)], threshold: f64) -> String {
        let shown = &real[..real.len().min(REASON_DATAPOINTS_MAX)];
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string();
        let start = shown.last().map(|(at, _)| time(self.store.tempo().real(*at)));
        let evaluated: Vec<Value> = shown
            .iter()
            .map(|(at, value)| json!({"timestamp": time(self.store.tempo().real(*at)), "value": value}))
            .collect();
        let mut data = json!({
            "version": "1.0",
            "queryDate": time(self.now),
            "period": condition.period_secs(),
            "recentDatapoints": shown.iter().rev().map(|(_, value)| *value).collect::<Vec<_>>(),
            "threshold": threshold,
            "evaluatedDatapoints": evaluated,
        });
        if let Some(start) = start {
            data["startDate"] = Value::from(start);
        }
        if let Watched::Metric(stat) = &condition.watched {
            data["statistic"] = Value::from(stat.stat.as_str());
        }
        data.to_string()
    }
}

/// "1 datapoint was", "3 datapoints were".
fn counted(count: usize, noun: &str, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {noun} {one}") } else { format!("{count} {noun}s {many}") }
}

fn words(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::GreaterOrEqual => "greater than or equal to",
        Comparison::Greater => "greater than",
        Comparison::Less => "less than",
        Comparison::LessOrEqual => "less than or equal to",
    }
}

fn breaches(value: f64, comparison: Comparison, threshold: f64) -> bool {
    match comparison {
        Comparison::GreaterOrEqual => value >= threshold,
        Comparison::Greater => value > threshold,
        Comparison::Less => value < threshold,
        Comparison::LessOrEqual => value <= threshold,
    }
}

/// The threshold's number; an alarm that came in by another door with no number never breaches.
pub fn threshold(condition: &MetricCondition) -> f64 {
    condition.threshold.parse().unwrap_or(f64::NAN)
}

/// Alarms on `AWS/DynamoDB` ignore missing data unless told otherwise (the page on missing data; the
/// API model says "always", a contradiction noted in `aws-facts.md` §3).
fn treatment(condition: &MetricCondition) -> MissingData {
    let on_dynamodb = matches!(&condition.watched, Watched::Metric(stat) if stat.namespace == "AWS/DynamoDB");
    let default = if on_dynamodb { MissingData::Ignore } else { MissingData::Missing };
    condition.treat_missing.unwrap_or(default)
}

fn as_usize(number: u32) -> usize {
    usize::try_from(number).expect("usize has at least 32 bits on every platform served")
}
