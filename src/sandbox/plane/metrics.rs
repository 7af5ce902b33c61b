//! Counts what the load balancers did, under the names of the `AWS/ApplicationELB` namespace.
//!
//! The hot path only adds to atomics; names, dimensions and sums over the groups of a load balancer
//! are made when the caller drains. Response times are kept as a histogram whose buckets are at most
//! 1/16 wide, so a percentile is within about 3 % of the measured value at a fixed memory size.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::world::{Routing, Transport};

/// Values below this many microseconds have a bucket each; above, every power of two has this many.
const SUB_BUCKETS: usize = 16;
/// The longest time told apart: 2^28 µs = 268 s, well above any target timeout in use.
const TOP_EXPONENT: u32 = 27;
/// 16 exact buckets, then 16 for each power of two from 2^4 to 2^27.
const BUCKETS: usize = SUB_BUCKETS + (TOP_EXPONENT as usize - 3) * SUB_BUCKETS;

/// One metric of one pair of dimensions since the last drain.
#[derive(Clone, Debug, PartialEq)]
pub struct AlbDatum {
    /// The `LoadBalancer` dimension, `app/name/id`.
    pub load_balancer: String,
    /// The `TargetGroup` dimension, `targetgroup/name/id`; absent for the whole load balancer.
    pub target_group: Option<String>,
    /// Metric name in the namespace `AWS/ApplicationELB`.
    pub metric: &'static str,
    /// `CloudWatch` unit: `Count` or `Seconds`.
    pub unit: &'static str,
    /// Values with how often each was observed, as `PutMetricData` takes them. Counts are the value
    /// 1 observed n times, so that minimum, maximum and average are 1, as AWS documents.
    pub values: Vec<(f64, f64)>,
}

impl AlbDatum {
    /// Sum of all observed values.
    pub fn sum(&self) -> f64 {
        self.values.iter().map(|(value, count)| value * count).sum()
    }
}

/// How one request that reached a target group ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The target's own status code, when it answered.
    pub target_status: Option<StatusCode>,
    /// The load balancer's own status code, when the target did not answer.
    pub elb_status: Option<StatusCode>,
    /// From sending the request to the head of the target's response.
    pub response_time: Option<Duration>,
    /// Whether no connection to the target could be made.
    pub connection_failed: bool,
}

#[derive(Debug)]
struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

fn bucket_of(micros: u64) -> usize {
    let micros = micros.min((1 << (TOP_EXPONENT + 1)) - 1);
    let small = usize::try_from(micros).unwrap_or(usize::MAX);
    if small < SUB_BUCKETS {
        return small;
    }
    let exponent = micros.ilog2();
    let sub = (small >> (exponent - 4)) & (SUB_BUCKETS - 1);
    SUB_BUCKETS + (exponent as usize - 4) * SUB_BUCKETS + sub
}

/// Middle of a bucket, in seconds.
#[expect(clippy::cast_precision_loss, reason = "below 2^29, far from the 2^52 where f64 loses integers")]
fn middle_secs(bucket: usize) -> f64 {
    if bucket < SUB_BUCKETS {
        return bucket as f64 / 1e6;
    }
    let (power, sub) = ((bucket - SUB_BUCKETS) / SUB_BUCKETS, bucket % SUB_BUCKETS);
    let (low, width) = ((SUB_BUCKETS + sub) << power, 1_usize << power);
    (low as f64 + (width - 1) as f64 / 2.0) / 1e6
}

/// Counters of one target group behind one load balancer.
#[derive(Debug, Default)]
pub(super) struct GroupCounters {
    requests: AtomicU64,
    connection_errors: AtomicU64,
    /// 2xx, 3xx, 4xx, 5xx.
    target_classes: [AtomicU64; 4],
    response_times: Histogram,
}

/// Counters that belong to a load balancer alone.
#[derive(Debug, Default)]
pub(super) struct BalancerCounters {
    elb_4xx: AtomicU64,
    elb_5xx: AtomicU64,
    elb_502: AtomicU64,
    elb_503: AtomicU64,
    elb_504: AtomicU64,
    fixed: AtomicU64,
    redirects: AtomicU64,
}

impl BalancerCounters {
    /// Counts an answer that the load balancer made up itself.
    pub fn own_answer(&self, status: StatusCode) {
        let exact = match status.as_u16() {
            502 => Some(&self.elb_502),
            503 => Some(&self.elb_503),
            504 => Some(&self.elb_504),
            _ => None,
        };
        if let Some(counter) = exact {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if status.is_server_error() {
            self.elb_5xx.fetch_add(1, Ordering::Relaxed);
        } else if status.is_client_error() {
            self.elb_4xx.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a fixed response.
    pub fn fixed_response(&self) {
        self.fixed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a redirect.
    pub fn redirect(&self) {
        self.redirects.fetch_add(1, Ordering::Relaxed);
    }
}

impl GroupCounters {
    /// Counts one finished request for which a target of this group had been chosen.
    pub fn record(&self, balancer: &BalancerCounters, sample: Sample) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if sample.connection_failed {
            self.connection_errors.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(status) = sample.elb_status {
            balancer.own_answer(status);
        }
        let class = sample.target_status.map(|status| usize::from(status.as_u16() / 100));
        if let Some(counter) = class.and_then(|class| self.target_classes.get(class.checked_sub(2)?)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(time) = sample.response_time {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            self.response_times.0[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct Registry {
    balancers: BTreeMap<String, Arc<BalancerCounters>>,
    /// By load balancer, then group dimension.
    groups: BTreeMap<(String, String), Arc<GroupCounters>>,
}

/// All counters of all load balancers. The registry is locked when routing changes and when the
/// caller drains, never for a request.
#[derive(Debug, Default)]
pub struct AlbMetrics {
    registry: Mutex<Registry>,
}

/// Group metrics by name; the load balancer's value is the sum over its groups.
const GROUP_COUNTS: [&str; 6] = [
    "RequestCount",
    "TargetConnectionErrorCount",
    "HTTPCode_Target_2XX_Count",
    "HTTPCode_Target_3XX_Count",
    "HTTPCode_Target_4XX_Count",
    "HTTPCode_Target_5XX_Count",
];

#[derive(Clone)]
struct GroupTotals {
    counts: [u64; GROUP_COUNTS.len()],
    times: Vec<u64>,
}

impl Default for GroupTotals {
    fn default() -> Self {
        Self { counts: [0; GROUP_COUNTS.len()], times: vec![0; BUCKETS] }
    }
}

impl GroupTotals {
    fn take(from: &GroupCounters) -> Self {
        let [ok, redirected, refused, failed] = &from.target_classes;
        let counters = [&from.requests, &from.connection_errors, ok, redirected, refused, failed];
        Self {
            counts: counters.map(|counter| counter.swap(0, Ordering::Relaxed)),
            times: from.response_times.0.iter().map(|bucket| bucket.swap(0, Ordering::Relaxed)).collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = self.counts.iter_mut().chain(&mut self.times);
        for (sum, more) in pairs.zip(other.counts.iter().chain(&other.times)) {
            *sum += more;
        }
    }
}

impl AlbMetrics {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn balancer(&self, load_balancer: &str) -> Arc<BalancerCounters> {
        Arc::clone(self.registry().balancers.entry(load_balancer.to_owned()).or_default())
    }

    pub(super) fn group(&self, load_balancer: &str, group: &str) -> Arc<GroupCounters> {
        let key = (load_balancer.to_owned(), group.to_owned());
        Arc::clone(self.registry().groups.entry(key).or_default())
    }

    /// Takes everything counted since the last drain. Metrics that stayed at zero are left out, as
    /// AWS reports only while requests flow (`aws-facts.md` §3). Forgets what no listener uses any more.
    pub fn drain(&self) -> Vec<AlbDatum> {
        let mut registry = self.registry();
        let mut sums: BTreeMap<String, GroupTotals> = BTreeMap::new();
        let mut data = Vec::new();
        // A use of the counters ends with dropping the Arc, so "only ours" is checked before
        // taking the counts: a later addition is impossible.
        registry.groups.retain(|(load_balancer, group), counters| {
            let in_use = Arc::strong_count(counters) > 1;
            let totals = GroupTotals::take(counters);
            push_totals(&mut data, load_balancer, Some(group), &totals);
            sums.entry(load_balancer.clone()).or_default().add(&totals);
            in_use
        });
        for (load_balancer, totals) in &sums {
            push_totals(&mut data, load_balancer, None, totals);
        }
        registry.balancers.retain(|load_balancer, counters| {
            let in_use = Arc::strong_count(counters) > 1;
            for (metric, counter) in [
                ("HTTPCode_ELB_4XX_Count", &counters.elb_4xx),
                ("HTTPCode_ELB_5XX_Count", &counters.elb_5xx),
                ("HTTPCode_ELB_502_Count", &counters.elb_502),
                ("HTTPCode_ELB_503_Count", &counters.elb_503),
                ("HTTPCode_ELB_504_Count", &counters.elb_504),
                ("HTTP_Fixed_Response_Count", &counters.fixed),
                ("HTTP_Redirect_Count", &counters.redirects),
            ] {
                push_count(&mut data, load_balancer, None, metric, counter.swap(0, Ordering::Relaxed));
            }
            in_use
        });
        data
    }
}

/// `HealthyHostCount` and `UnHealthyHostCount` of every group that a listener of an Application Load Balancer
/// forwards to. Network Load Balancers have another namespace, which is not part of the sandbox.
pub fn host_counts(routing: &Routing) -> Vec<AlbDatum> {
    let mut seen = BTreeSet::new();
    for listener in routing.listeners.iter().filter(|listener| listener.transport == Transport::Http) {
        for rule in &listener.rules {
            if let crate::world::RouteTarget::Forward { groups, .. } = &rule.target {
                for (arn, _) in groups {
                    seen.insert((listener.load_balancer.as_str(), arn.as_str()));
                }
            }
        }
    }
    seen.into_iter()
        .filter_map(|(load_balancer, arn)| Some((load_balancer, routing.groups.get(arn)?)))
        .flat_map(|(load_balancer, group)| {
            [("HealthyHostCount", group.healthy), ("UnHealthyHostCount", group.unhealthy)].map(
                |(metric, hosts)| AlbDatum {
                    load_balancer: load_balancer.to_owned(),
                    target_group: Some(group.dimension.clone()),
                    metric,
                    unit: "Count",
                    values: vec![(f64::from(hosts), 1.0)],
                },
            )
        })
        .collect()
}

fn push_totals(data: &mut Vec<AlbDatum>, load_balancer: &str, group: Option<&str>, totals: &GroupTotals) {
    for (metric, count) in GROUP_COUNTS.iter().zip(totals.counts) {
        push_count(data, load_balancer, group, metric, count);
    }
    let values: Vec<_> = totals
        .times
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(bucket, count)| (middle_secs(bucket), to_f64(*count)))
        .collect();
    if !values.is_empty() {
        data.push(AlbDatum {
            load_balancer: load_balancer.to_owned(),
            target_group: group.map(str::to_owned),
            metric: "TargetResponseTime",
            unit: "Seconds",
            values,
        });
    }
}

fn push_count(
    data: &mut Vec<AlbDatum>,
    load_balancer: &str,
    group: Option<&str>,
    metric: &'static str,
    count: u64,
) {
    if count > 0 {
        data.push(AlbDatum {
            load_balancer: load_balancer.to_owned(),
            target_group: group.map(str::to_owned),
            metric,
            unit: "Count",
            values: vec![(1.0, to_f64(count))],
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "requests between two drains stay far below 2^52")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_stands_for_its_values_within_four_per_cent() {
        for micros in [0_u32, 1, 15, 16, 17, 100, 999, 50_000, 1_234_567, 59_999_999, 200_000_000] {
            let expected = f64::from(micros) / 1e6;
            let stored = middle_secs(bucket_of(u64::from(micros)));
            assert!((stored - expected).abs() <= expected * 0.04, "{micros} µs is kept as {stored} s");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn counts_appear_per_group_and_summed_per_load_balancer_and_only_once() {
        let metrics = AlbMetrics::default();
        let balancer = metrics.balancer("app/lb/1");
        let (blue, green) = (metrics.group("app/lb/1", "tg/blue"), metrics.group("app/lb/1", "tg/green"));
        let answered = |code| Sample {
            target_status: StatusCode::from_u16(code).ok(),
            elb_status: None,
            response_time: Some(Duration::from_millis(20)),
            connection_failed: false,
        };
        blue.record(&balancer, answered(200));
        green.record(&balancer, answered(500));
        green.record(
            &balancer,
            Sample {
                target_status: None,
                elb_status: Some(StatusCode::BAD_GATEWAY),
                response_time: None,
                connection_failed: true,
            },
        );
        let data = metrics.drain();
        let sum = |group: Option<&str>, metric| {
            data.iter()
                .find(|d| d.target_group.as_deref() == group && d.metric == metric)
                .map(|d| d.values[0].1)
        };
        assert_eq!(sum(Some("tg/blue"), "RequestCount"), Some(1.0));
        assert_eq!(sum(Some("tg/green"), "RequestCount"), Some(2.0));
        assert_eq!(sum(None, "RequestCount"), Some(3.0));
        assert_eq!(sum(Some("tg/green"), "HTTPCode_Target_5XX_Count"), Some(1.0));
        assert_eq!(sum(Some("tg/blue"), "HTTPCode_Target_5XX_Count"), None);
        assert_eq!(sum(None, "HTTPCode_ELB_5XX_Count"), Some(1.0));
        assert_eq!(sum(Some("tg/green"), "TargetConnectionErrorCount"), Some(1.0));
        assert_eq!(sum(None, "TargetResponseTime"), Some(2.0));
        assert_eq!(metrics.drain(), []);
        drop((balancer, blue, green));
        assert_eq!(metrics.drain(), []);
        assert!(metrics.registry().groups.is_empty(), "unused counters are forgotten");
    }
}
