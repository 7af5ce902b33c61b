//! The metric store: what was put, aggregated into slots, and the statistics taken of it.
//!
//! A request costs one map look-up and a few additions: samples go straight into the slot of their
//! minute (and of their second, for `StorageResolution` 1) and are never kept one by one. Everything
//! is bounded: metrics by count, slots by age, distributions by their number of bins.

mod kept;

use std::{collections::BTreeMap, ops::Range};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::kept::KeptMetrics;
use super::Tempo;
use crate::world::alarm::MetricStat;

/// Most metrics (namespace, name and dimensions) of one sandbox.
pub const METRICS_MAX: usize = 20_000;
/// Minute slots kept per metric: 24 hours of API time. AWS keeps 15 days.
const MINUTE_SLOTS_MAX: usize = 24 * 60;
/// Second slots kept per metric: 3 hours of API time, as AWS does.
const SECOND_SLOTS_MAX: usize = 3 * 60 * 60;
/// Most bins of one slot's distribution: 32 doublings (1 µs to over an hour) of 128 bins each. Further
/// values join the nearest bin.
const BINS_MAX: usize = 32 * 128;
/// Mantissa bits dropped when a value picks its bin. The 7 that stay keep whole numbers up to 256
/// exact and every other value within 0.4 %.
const MANTISSA_BITS_DROPPED: u32 = 52 - 7;
/// API seconds per minute: the resolution of ordinary metrics.
const MINUTE: i64 = 60;

/// The identity of a metric, borrowed from the caller.
#[derive(Clone, Copy, Debug)]
pub struct MetricRef<'a> {
    /// For example `AWS/ApplicationELB`.
    pub namespace: &'a str,
    /// For example `RequestCount`.
    pub metric: &'a str,
    /// Names and values in any order.
    pub dimensions: &'a [(&'a str, &'a str)],
}

/// What is put into a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// One value that occurred `count` times.
    Value {
        /// The value.
        value: f64,
        /// How often; may be fractional, as in the API.
        count: f64,
    },
    /// A `StatisticSet`: only its summary is known.
    Summary {
        /// Number of values.
        count: f64,
        /// Their sum.
        sum: f64,
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
}

/// How finely a sample is stored (`StorageResolution`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// 1-minute slots (60).
    Standard,
    /// 1-second slots (1); also counted in minute slots, so that longer periods read fewer.
    High,
}

/// A statistic of the values in one period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// Number of values.
    SampleCount,
    /// Sum divided by number.
    Average,
    /// Sum.
    Sum,
    /// Smallest.
    Minimum,
    /// Largest.
    Maximum,
    /// The value below which this share (in percent) of the values lies.
    Percentile(f64),
}

impl Statistic {
    /// From `Sum`, `p99`, `p99.9` and so on. The trimmed statistics (`tm`, `tc`, `ts`, `wm`, `PR`,
    /// `IQM`) are not known here.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "SampleCount" => Some(Self::SampleCount),
            "Average" => Some(Self::Average),
            "Sum" => Some(Self::Sum),
            "Minimum" => Some(Self::Minimum),
            "Maximum" => Some(Self::Maximum),
            _ => {
                let digits = word.strip_prefix('p')?;
                let plain = digits.chars().all(|next| next.is_ascii_digit() || next == '.');
                let percent = digits.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
                plain.then_some(Self::Percentile(percent))
            }
        }
    }
}

/// Summary of all samples of one stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    /// Value (as an ordered, rounded key) to its count.
    bins: BTreeMap<u64, f64>,
    /// Holds summaries of unlike values, so that no percentile can be told.
    opaque: bool,
}

impl Slot {
    fn add(&mut self, sample: Sample) {
        let (count, sum, min, max) = match sample {
            Sample::Value { value, count } => (count, value * count, value, value),
            Sample::Summary { count, sum, min, max } => (count, sum, min, max),
        };
        self.add_summary(count, sum, min, max);
        // A summary tells its distribution only if all its values are alike (`PutMetricData` API page).
        let equal = min.total_cmp(&max).is_eq();
        if equal {
            self.add_to_bin(bin_of(min), count);
        } else if (count - 1.0).abs() < f64::EPSILON {
            self.add_to_bin(bin_of(sum), count);
        } else {
            self.opaque = true;
        }
    }

    fn add_summary(&mut self, count: f64, sum: f64, min: f64, max: f64) {
        let empty = self.count <= 0.0;
        self.min = if empty { min } else { self.min.min(min) };
        self.max = if empty { max } else { self.max.max(max) };
        self.count += count;
        self.sum += sum;
    }

    fn add_to_bin(&mut self, bin: u64, count: f64) {
        let full = self.bins.len() >= BINS_MAX && !self.bins.contains_key(&bin);
        let nearest = full.then(|| {
            let below = self.bins.range(..bin).next_back().map(|(key, _)| *key);
            let above = self.bins.range(bin..).next().map(|(key, _)| *key);
            [below, above].into_iter().flatten().min_by_key(|key| key.abs_diff(bin))
        });
        *self.bins.entry(nearest.flatten().unwrap_or(bin)).or_default() += count;
    }

    fn merge(&mut self, other: &Self, with_distribution: bool) {
        self.add_summary(other.count, other.sum, other.min, other.max);
        self.opaque |= other.opaque;
        if with_distribution {
            other.bins.iter().for_each(|(bin, count)| self.add_to_bin(*bin, *count));
        }
    }

    /// One statistic; a percentile is unknown for summaries of unlike values and for negative ones
    /// ("not available … when any of the metric values are negative", `PutMetricData` API page).
    pub fn statistic(&self, statistic: Statistic) -> Option<f64> {
        match statistic {
            Statistic::SampleCount => Some(self.count),
            Statistic::Average => Some(self.sum / self.count),
            Statistic::Sum => Some(self.sum),
            Statistic::Minimum => Some(self.min),
            Statistic::Maximum => Some(self.max),
            Statistic::Percentile(_) if self.opaque || self.min < 0.0 => None,
            Statistic::Percentile(percent) => Some(self.percentile(percent)),
        }
    }

    fn percentile(&self, percent: f64) -> f64 {
        let rank = self.count * percent / 100.0;
        if rank >= self.count {
            return self.max;
        }
        let mut seen = 0.0;
        for (bin, count) in &self.bins {
            seen += count;
            if seen >= rank {
                return value_of(*bin).clamp(self.min, self.max);
            }
        }
        self.max
    }
}

/// Rounds to the bin's precision and maps to a number that sorts like the value.
fn bin_of(value: f64) -> u64 {
    let bits = (value.to_bits().saturating_add(1 << (MANTISSA_BITS_DROPPED - 1))) >> MANTISSA_BITS_DROPPED;
    let sign = 1 << (63 - MANTISSA_BITS_DROPPED);
    if bits & sign == 0 { bits | sign } else { !bits & (sign * 2 - 1) }
}

fn value_of(bin: u64) -> f64 {
    let sign = 1 << (63 - MANTISSA_BITS_DROPPED);
    let bits = if bin & sign == 0 { !bin & (sign * 2 - 1) } else { bin & !sign };
    f64::from_bits(bits << MANTISSA_BITS_DROPPED)
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    minutes: BTreeMap<i64, Slot>,
    seconds: BTreeMap<i64, Slot>,
}

impl Series {
    fn add(&mut self, api_secs: i64, resolution: Resolution, sample: Sample) {
        let minute = api_secs - api_secs.rem_euclid(MINUTE);
        self.minutes.entry(minute).or_default().add(sample);
        while self.minutes.len() > MINUTE_SLOTS_MAX {
            self.minutes.pop_first();
        }
        if resolution == Resolution::High {
            self.seconds.entry(api_secs).or_default().add(sample);
            while self.seconds.len() > SECOND_SLOTS_MAX {
                self.seconds.pop_first();
            }
        }
    }
}

/// One metric as `ListMetrics` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Dimension name to value.
    pub dimensions: BTreeMap<String, String>,
    /// API second of the newest sample.
    pub newest: i64,
    units: BTreeMap<String, Series>,
}

impl Metric {
    /// Units with data in this stretch of API time.
    fn series<'a>(&'a self, unit: Option<&'a str>) -> impl Iterator<Item = &'a Series> {
        self.units
            .iter()
            .filter(move |(name, _)| unit.is_none_or(|unit| unit == *name))
            .map(|(_, series)| series)
    }
}

/// More metrics than the sandbox holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox holds at most {METRICS_MAX} metrics")]
pub struct TooManyMetrics;

type ByDimensions = BTreeMap<String, Metric>;

/// All metrics of the region.
#[derive(Clone, Debug, Default)]
pub struct Store {
    tempo: Tempo,
    namespaces: BTreeMap<String, BTreeMap<String, ByDimensions>>,
    metrics: usize,
    /// Reused for keys, so that recording a request allocates nothing.
    key: String,
}

impl Store {
    /// An empty store.
    pub fn new(tempo: Tempo) -> Self {
        Self { tempo, ..Self::default() }
    }

    /// The clock that its slots are counted by.
    pub fn tempo(&self) -> &Tempo {
        &self.tempo
    }

    /// Goes on at another speed from `now` on.
    pub fn turn(&mut self, now: Timestamp, speed: u32) {
        self.tempo.turn(now, speed);
    }

    /// Adds a sample; the metric comes into being with its first one.
    pub fn add(
        &mut self,
        metric: MetricRef<'_>,
        at: Timestamp,
        unit: &str,
        resolution: Resolution,
        sample: Sample,
    ) -> Result<(), TooManyMetrics> {
        let api_secs = self.tempo.api_secs(at);
        write_key(&mut self.key, metric.dimensions);
        if self.find(metric.namespace, metric.metric, &self.key).is_none() {
            self.create(metric)?;
        }
        let found = self
            .namespaces
            .get_mut(metric.namespace)
            .and_then(|metrics| metrics.get_mut(metric.metric))
            .and_then(|metrics| metrics.get_mut(self.key.as_str()))
            .expect("just found or created");
        found.newest = found.newest.max(api_secs);
        if !found.units.contains_key(unit) {
            found.units.insert(unit.to_owned(), Series::default());
        }
        if let Some(series) = found.units.get_mut(unit) {
            series.add(api_secs, resolution, sample);
        }
        Ok(())
    }

    /// The slots of a metric, merged into periods: API second of each period's start to its summary.
    /// The first period starts at `span.start`; periods without data are absent. Periods below a
    /// minute see only data that was put with `StorageResolution` 1 (`aws-facts.md` §3).
    pub fn periods(
        &self,
        stat: &MetricStat,
        span: Range<i64>,
        with_distribution: bool,
    ) -> BTreeMap<i64, Slot> {
        let mut periods: BTreeMap<i64, Slot> = BTreeMap::new();
        let dimensions: Vec<_> =
            stat.dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut key = String::new();
        write_key(&mut key, &dimensions);
        let Some(metric) = self.find(&stat.namespace, &stat.metric, &key) else { return periods };
        let period = i64::from(stat.period_secs.max(1));
        for series in metric.series(stat.unit.as_deref()) {
            let slots = if period % MINUTE == 0 { &series.minutes } else { &series.seconds };
            if span.is_empty() {
                continue;
            }
            for (at, slot) in slots.range(span.clone()) {
                let offset = (at - span.start).rem_euclid(period);
                periods.entry(at - offset).or_default().merge(slot, with_distribution);
            }
        }
        periods
    }

    /// The unit of a metric's data, if it has only one.
    pub fn unit(&self, stat: &MetricStat) -> Option<&str> {
        let dimensions: Vec<_> =
            stat.dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut key = String::new();
        write_key(&mut key, &dimensions);
        let metric = self.find(&stat.namespace, &stat.metric, &key)?;
        let mut units = metric.units.keys();
        units.next().filter(|_| units.next().is_none()).map(String::as_str)
    }

    /// Every metric as (namespace, name, metric), in a stable order.
    pub fn list(&self) -> impl Iterator<Item = (&str, &str, &Metric)> {
        self.namespaces.iter().flat_map(|(namespace, metrics)| {
            metrics.iter().flat_map(move |(name, by_dimensions)| {
                by_dimensions.values().map(move |metric| (namespace.as_str(), name.as_str(), metric))
            })
        })
    }

    fn find(&self, namespace: &str, metric: &str, key: &str) -> Option<&Metric> {
        self.namespaces.get(namespace)?.get(metric)?.get(key)
    }

    fn create(&mut self, metric: MetricRef<'_>) -> Result<(), TooManyMetrics> {
        if self.metrics >= METRICS_MAX {
            return Err(TooManyMetrics);
        }
        self.metrics += 1;
        let dimensions =
            metric.dimensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.namespaces
            .entry(metric.namespace.to_owned())
            .or_default()
            .entry(metric.metric.to_owned())
            .or_default()
            .insert(self.key.clone(), Metric { dimensions, ..Metric::default() });
        Ok(())
    }
}

/// A metric is the same whatever the order of its dimensions. The separators cannot occur in names
/// that were validated (control characters are refused).
fn write_key(key: &mut String, dimensions: &[(&str, &str)]) {
    key.clear();
    let mut push = |(name, value): &(&str, &str)| {
        key.push_str(name);
        key.push('\u{1}');
        key.push_str(value);
        key.push('\u{2}');
    };
    if dimensions.is_sorted() {
        dimensions.iter().for_each(&mut push);
    } else {
        let mut sorted = dimensions.to_vec();
        sorted.sort_unstable();
        sorted.iter().for_each(&mut push);
    }
}

#[cfg(test)]
mod tests;
