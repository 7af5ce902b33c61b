//! How long everything takes. `--fast` is nothing but other values of the same settings: each wait is still
//! waited, and the sandbox's speed shortens only what AWS gives a length to (alarm periods, health checks,
//! draining).

use crate::config::{Config, EmergencyRollback};
use crate::lease::{LeaseTiming, ShardCount};
use crate::logging::LogFormat;
use crate::records::names::Label;
use crate::records::{Percent, Span};
use crate::store::Tables;

/// Every length that the demo sets.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How many times faster alarm periods, health checks and draining go in the sandbox.
    pub speed: u32,
    /// `ManagedService`: on the test route before production weight.
    pub test_hold: Span,
    /// `ManagedService`: the canary's share.
    pub canary: Percent,
    /// `ManagedService`: how long the canary bakes.
    pub canary_bake: Span,
    /// `ManagedService`: how long the whole bakes.
    pub bake: Span,
    /// `ManagedService`: how long the version before is kept warm.
    pub retention: Span,
    /// `ManagedService`: until a write is in force everywhere.
    pub propagation: Span,
    /// `ManagedService`: quiet time before a deletion.
    pub quiet: Span,
    /// `ManagedService`: the same after a write with unknown outcome.
    pub quiet_after_unknown: Span,
    /// `ManagedService`: every deadline, that for evidence too.
    pub deadline: Span,
    /// Daemon: how often a service in flight is looked at.
    pub poll: Span,
    /// Daemon: how often a settled service is looked at.
    pub idle_poll: Span,
    /// Daemon: how often all services are listed.
    pub resync: Span,
    /// Daemon: how long runs under way may take at the end.
    pub drain: Span,
    /// Daemon: its lease.
    pub lease: LeaseTiming,
    /// Time between two lines about traffic.
    pub traffic_line: Span,
    /// How long a release and its clean-up may take before the demo gives up on it.
    pub patience: Span,
}

/// Alarm period in the sandbox's seconds; one period makes an alarm.
pub const ALARM_PERIOD_SECS: u32 = 60;
/// So many bad answers in one period make an alarm.
pub const ALARM_THRESHOLD: u32 = 5;
/// Health check interval in the sandbox's seconds.
pub const HEALTH_CHECK_SECS: u32 = 5;
/// Deregistration delay in the sandbox's seconds.
pub const DEREGISTRATION_SECS: u32 = 10;

impl Pace {
    /// Seconds instead of minutes.
    pub fn fast() -> Self {
        Self {
            speed: 20,
            test_hold: Span::from_millis(500),
            canary: canary(),
            canary_bake: Span::from_secs(6),
            bake: Span::from_secs(3),
            retention: Span::from_secs(2),
            propagation: Span::from_millis(500),
            quiet: Span::from_secs(1),
            quiet_after_unknown: Span::from_secs(10),
            deadline: Span::from_secs(30),
            poll: Span::from_millis(250),
            idle_poll: Span::from_secs(1),
            resync: Span::from_secs(10),
            drain: Span::from_secs(3),
            lease: LeaseTiming {
                ttl: Span::from_secs(6),
                renew: Span::from_secs(1),
                operation: Span::from_secs(2),
                margin: Span::from_millis(600),
            },
            traffic_line: Span::from_secs(3),
            patience: Span::from_secs(60),
        }
    }

    /// Small enough to watch, and the daemon as it is shipped.
    pub fn watchable() -> Self {
        Self {
            speed: 4,
            test_hold: Span::from_secs(5),
            canary: canary(),
            canary_bake: Span::from_secs(45),
            bake: Span::from_secs(20),
            retention: Span::from_secs(20),
            propagation: Span::from_secs(5),
            quiet: Span::from_secs(5),
            quiet_after_unknown: Span::from_secs(60),
            deadline: Span::from_mins(2),
            poll: Span::from_secs(2),
            idle_poll: Span::from_secs(5),
            resync: Span::from_mins(1),
            drain: Span::from_secs(20),
            lease: LeaseTiming::default(),
            traffic_line: Span::from_secs(10),
            patience: Span::from_mins(4),
        }
    }

    /// The daemon's configuration.
    pub fn config(&self, installation: Label, tables: &Tables) -> Config {
        Config {
            installation,
            records_table: tables.records.clone(),
            state_table: tables.state.clone(),
            listen: ([127, 0, 0, 1], 0).into(),
            poll: self.poll,
            idle_poll: self.idle_poll,
            resync: self.resync,
            concurrency: std::num::NonZeroUsize::MIN.saturating_add(63),
            longest_run: Span::from_mins(5),
            drain: self.drain,
            shards: ShardCount::default(),
            lease: self.lease,
            emergency_rollback: EmergencyRollback::default(),
            log: LogFormat::Pretty,
        }
    }

    /// A length of the sandbox in real time.
    pub fn real(&self, sandbox_secs: u32) -> Span {
        Span::from_millis(u64::from(sandbox_secs) * 1_000 / u64::from(self.speed))
    }

    /// Every value, by the name of the setting.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        let scaled = |secs: u32| format!("{secs}s / {} = {}", self.speed, self.real(secs));
        vec![
            ("canary bake", self.canary_bake.to_string()),
            ("bake at 100 %", self.bake.to_string()),
            ("test hold", self.test_hold.to_string()),
            ("propagation", self.propagation.to_string()),
            ("quiet", self.quiet.to_string()),
            ("quiet after unknown", self.quiet_after_unknown.to_string()),
            ("retention", self.retention.to_string()),
            ("deadlines", self.deadline.to_string()),
            ("poll", self.poll.to_string()),
            ("idle poll", self.idle_poll.to_string()),
            ("resync", self.resync.to_string()),
            ("lease ttl", self.lease.ttl.to_string()),
            ("lease renew", self.lease.renew.to_string()),
            ("lease operation", self.lease.operation.to_string()),
            ("lease margin", self.lease.margin.to_string()),
            ("sandbox speed", self.speed.to_string()),
            ("alarm period", scaled(ALARM_PERIOD_SECS)),
            ("health check interval", scaled(HEALTH_CHECK_SECS)),
            ("deregistration delay", scaled(DEREGISTRATION_SECS)),
        ]
    }
}

const fn canary() -> Percent {
    match Percent::from_tenths(100) {
        Some(ten) => ten,
        None => Percent::FULL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_paces_keep_a_lease_that_holds_together() {
        for pace in [Pace::fast(), Pace::watchable()] {
            assert_eq!(pace.lease.checked(), Ok(pace.lease));
        }
    }

    #[test]
    fn a_fast_demo_names_the_same_waits_as_a_slow_one_and_skips_none() {
        let names = |pace: Pace| pace.values().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(Pace::fast()), names(Pace::watchable()));
        assert!(Pace::fast().values().iter().all(|(_, value)| value != "0s"));
    }
}
