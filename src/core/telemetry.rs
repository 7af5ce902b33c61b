//! What the daemon says about itself in numbers: metrics in the Prometheus text format.
//!
//! Label values come from small closed sets (names of effects, reasons, outcomes), never from records, so that no
//! record can blow up a time-series database.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The whole chain of an error on one line: `failed to read: timed out: …`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What only a quotation of a signed request holds. AWS answers a signature that does not match with the canonical
/// request, the session token in its headers included (Signature Version 4, "Troubleshooting").
const QUOTES: &[&str] = &[
    "canonical string",
    "string-to-sign",
    "x-amz-security-token",
    "aws4-hmac-sha256",
    "authorization=",
    "authorization:",
    "authorization\":",
    "signature=",
];

/// AWS's words, for logs and for people; without them where they quote the signed request, which is no reading for
/// either.
pub fn speakable(words: &str) -> &str {
    let lower = words.to_ascii_lowercase();
    if QUOTES.iter().any(|quote| lower.contains(quote)) {
        "AWS's words are left out, for they quote the signed request"
    } else {
        words
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabels {
    effect: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OnLabel {
    on: &'static str,
}

/// Services by what they wait for. A reason that nobody has is not shown.
#[derive(Debug, Default)]
struct ByReason {
    gauges: Family<OnLabel, Gauge>,
    shown: Mutex<Vec<&'static str>>,
}

impl ByReason {
    fn set(&self, numbers: &BTreeMap<&'static str, i64>) {
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for gone in shown.iter().filter(|name| !numbers.contains_key(*name)) {
            self.gauges.remove(&OnLabel { on: gone });
        }
        for (on, number) in numbers {
            self.gauges.get_or_create(&OnLabel { on }).set(*number);
        }
        *shown = numbers.keys().copied().collect();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabel {
    why: &'static str,
}

/// All metrics of the daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<OutcomeLabel, Counter>,
    effects: Family<EffectLabels, Counter>,
    state_writes: Family<WriteLabel, Counter>,
    waiting: ByReason,
    blocked: ByReason,
    emergency_writes: Family<ResultLabel, Counter>,
    panics: Counter,
    queue_depth: Gauge,
    passes_running: Gauge,
    services: Gauge,
    observe_age: Gauge<f64, AtomicU64>,
    shards_held: Gauge,
    shards: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pointsman");
        let metrics = Self {
            reconciles: Family::default(),
            effects: Family::default(),
            state_writes: Family::default(),
            waiting: ByReason::default(),
            blocked: ByReason::default(),
            emergency_writes: Family::default(),
            panics: Counter::default(),
            queue_depth: Gauge::default(),
            passes_running: Gauge::default(),
            services: Gauge::default(),
            observe_age: Gauge::default(),
            shards_held: Gauge::default(),
            shards: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("reconciles", "Runs of a service by how they ended", metrics.reconciles.clone());
        registry.register("effects", "Mutating AWS calls by what came of them", metrics.effects.clone());
        registry.register("state_writes", "Writes of state items by cause", metrics.state_writes.clone());
        registry.register(
            "emergency_writes",
            "Routes taken back to stable without a lease, by what came of it",
            metrics.emergency_writes.clone(),
        );
        registry.register("waiting", "Services that wait, by reason", metrics.waiting.gauges.clone());
        registry.register(
            "blocked",
            "Services for which a table has not done this call for a minute",
            metrics.blocked.gauges.clone(),
        );
        registry.register("panics", "Passes that panicked", metrics.panics.clone());
        registry.register("queue_depth", "Services that are due or planned", metrics.queue_depth.clone());
        registry.register("passes_running", "Runs under way", metrics.passes_running.clone());
        registry.register("services", "Services looked after", metrics.services.clone());
        registry.register_with_unit(
            "observe_age",
            "Age of the oldest last observation of any service",
            Unit::Seconds,
            metrics.observe_age.clone(),
        );
        registry.register("shards_held", "Shards that this process owns", metrics.shards_held.clone());
        registry.register("shards", "Shards that the services are split into", metrics.shards.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The Prometheus text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// One run ended.
    pub fn reconciled(&self, outcome: &'static str) {
        self.reconciles.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// One mutating call was answered, or not.
    pub fn effect(&self, effect: &'static str, result: &'static str) {
        self.effects.get_or_create(&EffectLabels { effect, result }).inc();
    }

    /// One state item was written.
    pub fn state_written(&self, why: &'static str) {
        self.state_writes.get_or_create(&WriteLabel { why }).inc();
    }

    /// How many state items were written for this cause.
    pub fn state_writes(&self, why: &'static str) -> u64 {
        self.state_writes.get_or_create(&WriteLabel { why }).get()
    }

    /// One route was written back without a lease, or such a write was recorded or could not be.
    pub fn emergency(&self, result: &'static str) {
        self.emergency_writes.get_or_create(&ResultLabel { result }).inc();
    }

    /// A pass panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// The state of the queue.
    pub fn queue(&self, waiting: usize, running: usize) {
        self.queue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.passes_running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    /// The services: how many, why how many of them wait, and the age of the oldest observation.
    #[expect(clippy::cast_precision_loss, reason = "an age in seconds needs no 53 bits of milliseconds")]
    pub fn services(&self, count: usize, waiting: &BTreeMap<&'static str, i64>, oldest_ms: u64) {
        self.services.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.observe_age.set(oldest_ms as f64 / 1_000.0);
        self.waiting.set(waiting);
    }

    /// For how many services a table does not do which call.
    pub fn blocked(&self, calls: &BTreeMap<&'static str, i64>) {
        self.blocked.set(calls);
    }

    /// How many shards this process owns, of how many.
    pub fn shards(&self, held: usize, of: usize) {
        self.shards_held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.shards.set(i64::try_from(of).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_read_as_prometheus_text_and_a_reason_that_nobody_has_disappears() {
        let metrics = Metrics::default();
        metrics.reconciled("waiting");
        metrics.effect("SetWeights", "acknowledged");
        metrics.shards(22, 64);
        metrics.services(2, &BTreeMap::from([("Bake", 2)]), 1_500);
        metrics.blocked(&BTreeMap::from([("ReadRecords", 1)]));
        let text = metrics.encode().unwrap();
        for line in [
            "pointsman_reconciles_total{outcome=\"waiting\"} 1",
            "pointsman_effects_total{effect=\"SetWeights\",result=\"acknowledged\"} 1",
            "pointsman_waiting{on=\"Bake\"} 2",
            "pointsman_blocked{on=\"ReadRecords\"} 1",
            "pointsman_observe_age_seconds 1.5",
            "pointsman_shards_held 22",
            "pointsman_shards 64",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        metrics.services(2, &BTreeMap::new(), 0);
        metrics.blocked(&BTreeMap::new());
        let text = metrics.encode().unwrap();
        assert!(!text.contains("Bake") && !text.contains("ReadRecords"), "{text}");
    }

    #[test]
    fn an_error_is_told_with_all_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to read the table")]
        struct Outer(#[source] std::num::ParseIntError);
        let error = Outer("x".parse::<u8>().unwrap_err());
        assert_eq!(chain(&error), "failed to read the table: invalid digit found in string");
    }
}
