//! `CloudWatch` of the sandbox: the metric store, the calls, and the evaluator that lets metrics drive
//! alarms. Pure: time comes in as an argument, the caller wakes it when [`CloudWatch::next_due`] says.
//!
//! The alarms themselves belong to the world (`crate::world::alarm`) and are passed in. It executes no
//! alarm actions; it only writes what they say (`notice`).

mod alarms;
mod data;
mod describe;
mod evaluator;
mod input;
mod math;
pub mod notice;
mod queries;
mod store;
mod tempo;
mod verdict;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use self::store::{KeptMetrics, METRICS_MAX};
pub use self::tempo::{SPEED_MAX, Tempo};
use self::{
    evaluator::Schedule,
    input::Input,
    store::{MetricRef, Resolution, Sample, Store},
};
use crate::world::{ApiError, alarm::Alarms};

/// Metrics and the evaluation of alarms of one region.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    store: Store,
    schedule: Schedule,
    refused: u64,
}

impl CloudWatch {
    /// A region without metrics, its clock running at this tempo.
    pub fn new(tempo: Tempo) -> Self {
        Self { store: Store::new(tempo), schedule: Schedule::default(), refused: 0 }
    }

    /// A region with the metrics that another one kept. Its clock goes on from the other's.
    pub fn with(now: Timestamp, speed: u32, kept: KeptMetrics) -> Self {
        let mut store = Store::restored(kept);
        store.turn(now, speed);
        Self { store, schedule: Schedule::default(), refused: 0 }
    }

    /// From now on, lengths that the API gives in seconds go this many times faster than real ones. Alarms go on
    /// with the data they have; evaluations that became due at the old speed are for the caller to have made.
    pub fn set_speed(&mut self, now: Timestamp, speed: u32) {
        self.store.turn(now, speed);
    }

    /// API seconds per real second.
    pub fn speed(&self) -> u32 {
        self.store.tempo().speed()
    }

    /// What outlives the program: the newest data of the metrics that these alarms watch.
    pub fn keep(&self, alarms: &Alarms) -> KeptMetrics {
        self.store.keep(alarms)
    }

    /// One API call. Input and output have the shapes of the API model; timestamps go out as epoch
    /// seconds and may come in as ISO 8601 text, numbers may come in as text. Members that the model
    /// calls doubles (`Threshold`, `Values`, `Sum`, …) are always JSON floats, integers never.
    pub fn call(
        &mut self,
        alarms: &mut Alarms,
        now: Timestamp,
        operation: &str,
        input: Value,
    ) -> Result<Value, ApiError> {
        let input = if input.is_null() { json!({}) } else { input };
        let input = Input::new(&input)?;
        let answer = match operation {
            "PutMetricData" => data::put(&mut self.store, now, input),
            "GetMetricData" => data::get(&self.store, input),
            "GetMetricStatistics" => data::statistics(&self.store, input),
            "ListMetrics" => data::list(&self.store, now, input),
            "PutMetricAlarm" => alarms::put_metric(alarms, now, input),
            "PutCompositeAlarm" => alarms::put_composite(alarms, now, input),
            "SetAlarmState" => alarms::set_state(alarms, now, input),
            "DeleteAlarms" => alarms::delete(alarms, now, input),
            "EnableAlarmActions" => alarms::set_actions(alarms, now, input, true),
            "DisableAlarmActions" => alarms::set_actions(alarms, now, input, false),
            "TagResource" => alarms::tag(alarms, input),
            "UntagResource" => alarms::untag(alarms, input),
            "ListTagsForResource" => alarms::list_tags(alarms, input),
            "DescribeAlarms" => describe::alarms(alarms, input),
            "DescribeAlarmsForMetric" => describe::for_metric(alarms, input),
            "DescribeAlarmHistory" => describe::history(alarms, input),
            other => Err(ApiError::client("InvalidAction", format!("the sandbox does not answer {other}"))),
        };
        self.schedule.watch(alarms, self.store.tempo(), now);
        answer
    }

    /// Counts one value: the load balancer's way in, cheap enough for every request. The value joins
    /// the minute slot of `now`. Beyond [`METRICS_MAX`] metrics it is counted in
    /// [`CloudWatch::refused_records`] instead.
    pub fn record(
        &mut self,
        now: Timestamp,
        namespace: &str,
        metric: &str,
        dimensions: &[(&str, &str)],
        value: f64,
        unit: &str,
    ) {
        self.record_counted(now, namespace, metric, dimensions, &[(value, 1.0)], unit);
    }

    /// As [`CloudWatch::record`], for values that were each observed a number of times.
    pub fn record_counted(
        &mut self,
        now: Timestamp,
        namespace: &str,
        metric: &str,
        dimensions: &[(&str, &str)],
        values: &[(f64, f64)],
        unit: &str,
    ) {
        for &(value, count) in values {
            let metric = MetricRef { namespace, metric, dimensions };
            let sample = Sample::Value { value, count };
            if !value.is_finite() || self.store.add(metric, now, unit, Resolution::Standard, sample).is_err()
            {
                self.refused += 1;
            }
        }
    }

    /// How many values [`CloudWatch::record`] could not take.
    pub fn refused_records(&self) -> u64 {
        self.refused
    }

    /// Evaluates every metric alarm that is due. Evaluations missed in between are not made up for.
    pub fn evaluate(&mut self, alarms: &mut Alarms, now: Timestamp) {
        self.schedule.watch(alarms, self.store.tempo(), now);
        self.schedule.run(&self.store, alarms, now);
    }

    /// When [`CloudWatch::evaluate`] has something to do next; `None` while there are no alarms.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.schedule.next_due(self.store.tempo())
    }
}

#[cfg(test)]
mod tests;
