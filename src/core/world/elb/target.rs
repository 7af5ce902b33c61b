//! One registered target and its health, driven by probes (`aws-facts.md` §2).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::TargetHealth;
use crate::world::tuning::Tuning;

/// What the load balancer knows about a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::world) enum Health {
    /// Registered, and not probed before this instant.
    Registering(Timestamp),
    /// Probed, and not yet judged.
    Checking,
    /// In service.
    Healthy,
    /// Failed, with AWS's reason code and sentence.
    Unhealthy { reason: String, description: String },
    /// Its group is used by no rule, so nobody probes it.
    Unused,
    /// Deregistered; gone at this instant.
    Draining(Timestamp),
}

impl Health {
    pub(super) fn shape(&self) -> TargetHealth {
        let (state, reason, description) = match self {
            Self::Registering(_) => {
                ("initial", Some("Elb.RegistrationInProgress"), Some("Target registration is in progress"))
            }
            Self::Checking => {
                ("initial", Some("Elb.InitialHealthChecking"), Some("Initial health checks in progress"))
            }
            Self::Healthy => ("healthy", None, None),
            Self::Unhealthy { reason, description } => {
                ("unhealthy", Some(reason.as_str()), Some(description.as_str()))
            }
            Self::Unused => (
                "unused",
                Some("Target.NotInUse"),
                Some("Target group is not configured to receive traffic from the load balancer"),
            ),
            Self::Draining(_) => (
                "draining",
                Some("Target.DeregistrationInProgress"),
                Some("Target deregistration is in progress"),
            ),
        };
        TargetHealth {
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            description: description.map(str::to_owned),
        }
    }
}

/// Who probes a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::world) enum Prober {
    /// The model: the application passes its probes, or fails them when it is sick.
    Model {
        /// Whether the application fails its probes.
        sick: bool,
    },
    /// A real runtime, told through [`crate::world::Region::probe_orders`].
    Runtime,
}

/// Thresholds and pace of a group's health checks.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) interval: SignedDuration,
    pub(super) healthy_after: u32,
    pub(super) unhealthy_after: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) health: Health,
    /// Probes in a row that speak against the present state.
    streak: u32,
    prober: Prober,
    /// When the next probe of the model that can change something is due.
    next_probe: Option<Timestamp>,
    /// It came into an empty group, so its first health does not begin with slow start.
    spared: bool,
    /// When it entered slow start mode last; that the mode has ended since is not noted.
    slow_since: Option<Timestamp>,
}

impl Target {
    pub(super) fn registered(now: Timestamp, in_use: bool, prober: Prober, tuning: &Tuning) -> Self {
        let health =
            if in_use { Health::Registering(now + tuning.target_registration) } else { Health::Unused };
        Self { health, streak: 0, prober, next_probe: None, spared: false, slow_since: None }
    }

    /// Keeps it out of slow start mode when it becomes healthy for the first time.
    pub(super) fn spare_slow_start(&mut self) {
        self.spared = true;
    }

    /// Ends slow start mode, as switching it off does.
    pub(super) fn end_slow_start(&mut self) {
        self.slow_since = None;
    }

    /// After a change of health in a group with slow start: "If a target in slow start mode becomes unhealthy,
    /// the target exits slow start mode. When the target becomes healthy, it enters slow start mode again."
    /// `warm` tells whether another healthy target is not in that mode.
    pub(super) fn start_slowly(&mut self, warm: bool, now: Timestamp) {
        if self.health == Health::Healthy {
            self.slow_since = (warm && !self.spared).then_some(now);
            self.spared = false;
        } else {
            self.slow_since = None;
        }
    }

    /// When it entered slow start mode, if it is healthy and ever did.
    pub(super) fn slow_since(&self) -> Option<Timestamp> {
        self.slow_since.filter(|_| self.health == Health::Healthy)
    }

    /// Whether it is healthy and not in slow start mode.
    pub(super) fn has_full_share(&self, slow_start: SignedDuration, now: Timestamp) -> bool {
        self.health == Health::Healthy && self.slow_since.is_none_or(|since| since + slow_start <= now)
    }

    /// Whether probes are made at all.
    fn is_probed(&self) -> bool {
        matches!(self.health, Health::Checking | Health::Healthy | Health::Unhealthy { .. })
    }

    /// Whether a real runtime should probe it.
    pub(super) fn is_for_probers(&self) -> bool {
        self.prober == Prober::Runtime && self.is_probed()
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.health, Health::Draining(_))
    }

    pub(super) fn drain(&mut self, until: Timestamp) {
        if !self.is_draining() {
            self.health = Health::Draining(until);
            self.next_probe = None;
            self.slow_since = None;
        }
    }

    pub(super) fn set_in_use(&mut self, in_use: bool, now: Timestamp, pace: Pace) {
        match (&self.health, in_use) {
            (Health::Unused, true) => self.begin_checks(now, pace),
            (Health::Draining(_), _) | (_, true) => {}
            (_, false) => {
                self.health = Health::Unused;
                self.next_probe = None;
                self.slow_since = None;
            }
        }
    }

    fn begin_checks(&mut self, now: Timestamp, pace: Pace) {
        self.health = Health::Checking;
        self.streak = 0;
        self.schedule(now, pace);
    }

    /// Takes one probe result; whether the state changed. The first passed probe after registration
    /// is enough; later changes need the thresholds.
    pub(super) fn probed(&mut self, healthy: bool, detail: &str, pace: Pace) -> bool {
        let needed = match (&self.health, healthy) {
            (Health::Checking, true) => 1,
            (Health::Checking | Health::Healthy, false) => pace.unhealthy_after,
            (Health::Unhealthy { .. }, true) => pace.healthy_after,
            (Health::Healthy, true) | (Health::Unhealthy { .. }, false) => {
                self.streak = 0;
                return false;
            }
            (Health::Registering(_) | Health::Unused | Health::Draining(_), _) => return false,
        };
        self.streak += 1;
        if self.streak < needed {
            return false;
        }
        self.streak = 0;
        self.health = if healthy { Health::Healthy } else { unhealthy(detail) };
        true
    }

    /// Makes the modelled application fail or pass its probes from now on; a real one does as it does.
    pub(super) fn set_sick(&mut self, sick: bool, now: Timestamp, pace: Pace) {
        if self.prober == Prober::Runtime {
            return;
        }
        self.prober = Prober::Model { sick };
        self.schedule(now, pace);
    }

    /// The model plans a probe only while one can change something, so a settled region has nothing due.
    fn schedule(&mut self, now: Timestamp, pace: Pace) {
        let settled = match (self.prober, &self.health) {
            (Prober::Runtime, _) => true,
            (Prober::Model { sick }, Health::Healthy) => !sick,
            (Prober::Model { sick }, Health::Unhealthy { .. }) => sick,
            (Prober::Model { .. }, _) => !self.is_probed(),
        };
        self.next_probe = (!settled).then(|| now + pace.interval);
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        match self.health {
            Health::Registering(at) | Health::Draining(at) => Some(at),
            _ => self.next_probe,
        }
    }

    /// What is due up to `now`; whether the state changed. The caller removes a drained target.
    pub(super) fn advance(&mut self, now: Timestamp, pace: Pace) -> bool {
        match self.health {
            Health::Registering(at) if at <= now => {
                self.begin_checks(now, pace);
                true
            }
            _ if self.next_probe.is_some_and(|at| at <= now) => {
                let changed =
                    self.probed(self.prober == Prober::Model { sick: false }, "Health checks failed", pace);
                self.schedule(now, pace);
                changed
            }
            _ => false,
        }
    }
}

fn unhealthy(detail: &str) -> Health {
    let reason = if detail.starts_with("Health checks failed with these codes") {
        "Target.ResponseCodeMismatch"
    } else if detail.to_ascii_lowercase().contains("timed out") {
        "Target.Timeout"
    } else {
        "Target.FailedHealthChecks"
    };
    let description = if detail.is_empty() { "Health checks failed" } else { detail };
    Health::Unhealthy { reason: reason.to_owned(), description: description.to_owned() }
}
