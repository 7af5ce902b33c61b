//! What of the metrics outlives the program: the newest data of those that alarms watch.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{METRICS_MAX, Metric, Series, Slot, Store, Tempo, write_key};
use crate::world::alarm::{Alarms, MetricStat, QuerySource, Watched};

/// Minute slots kept per metric: an hour of API time, what an alarm of sixty one-minute periods looks at.
const MINUTES_KEPT: usize = 60;
/// Second slots kept per metric: thirty ten-second periods.
const SECONDS_KEPT: usize = 300;

/// Metrics to be written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptMetrics {
    /// Slots are counted in API time, which goes on from here.
    tempo: Tempo,
    metrics: Vec<KeptMetric>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeptMetric {
    namespace: String,
    name: String,
    metric: Metric,
}

fn newest(slots: &BTreeMap<i64, Slot>, most: usize) -> BTreeMap<i64, Slot> {
    slots.iter().rev().take(most).map(|(at, slot)| (*at, slot.clone())).collect()
}

impl Metric {
    fn newest(&self) -> Self {
        let series = |series: &Series| Series {
            minutes: newest(&series.minutes, MINUTES_KEPT),
            seconds: newest(&series.seconds, SECONDS_KEPT),
        };
        let units = self.units.iter().map(|(unit, all)| (unit.clone(), series(all))).collect();
        Self { dimensions: self.dimensions.clone(), newest: self.newest, units }
    }
}

/// Every stored metric that an alarm reads.
fn watched(alarms: &Alarms) -> impl Iterator<Item = &MetricStat> {
    alarms.iter().filter_map(|alarm| alarm.condition()).flat_map(|condition| {
        let (one, queries) = match &condition.watched {
            Watched::Metric(stat) => (Some(stat), [].as_slice()),
            Watched::Math(queries) => (None, queries.as_slice()),
        };
        let of_queries = queries.iter().filter_map(|query| match &query.source {
            QuerySource::Stat(stat) => Some(stat),
            QuerySource::Expression { .. } => None,
        });
        one.into_iter().chain(of_queries)
    })
}

fn key_of(dimensions: &BTreeMap<String, String>) -> String {
    let dimensions: Vec<_> = dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut key = String::new();
    write_key(&mut key, &dimensions);
    key
}

impl Store {
    /// The newest data of the metrics that these alarms watch.
    pub fn keep(&self, alarms: &Alarms) -> KeptMetrics {
        let mut seen = BTreeSet::new();
        let mut metrics = Vec::new();
        for stat in watched(alarms) {
            let key = key_of(&stat.dimensions);
            let found = self.find(&stat.namespace, &stat.metric, &key);
            if let Some(metric) = found.filter(|_| seen.insert((&stat.namespace, &stat.metric, key))) {
                let (namespace, name) = (stat.namespace.clone(), stat.metric.clone());
                metrics.push(KeptMetric { namespace, name, metric: metric.newest() });
            }
        }
        KeptMetrics { tempo: self.tempo.clone(), metrics }
    }

    /// A store that goes on with them.
    pub fn restored(kept: KeptMetrics) -> Self {
        let mut store = Self::new(kept.tempo);
        for KeptMetric { namespace, name, metric } in kept.metrics.into_iter().take(METRICS_MAX) {
            let by_dimensions = store.namespaces.entry(namespace).or_default().entry(name).or_default();
            if by_dimensions.insert(key_of(&metric.dimensions), metric).is_none() {
                store.metrics += 1;
            }
        }
        store
    }
}
