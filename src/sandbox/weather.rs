//! The region's weather: everything AWS does not promise, as numbers that can be changed while it runs.
//!
//! Fault rules hit chosen calls; the weather is there all the time, as it is in a real region: a weight
//! write reaches the load balancer's machines one after another, a read may answer with what was a moment
//! ago, and an account has a limited number of calls. What AWS leaves open has a stated bound here, so that
//! a test can say after which time it judges.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::wire::Caller;

/// Longest propagation and staleness, in milliseconds: ten minutes, as long as ECS itself waits for a
/// Network Load Balancer (`aws-facts.md` §2).
const MILLIS_MAX: u64 = 600_000;
/// Versions that a stale read may look back.
pub(super) const VERSIONS_MAX: u32 = 16;
/// Access keys of observers.
const OBSERVERS_MAX: usize = 16;

/// A named weather.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Every change is in effect, and seen by every read, when its call is answered; nothing is throttled.
    #[default]
    Calm,
    /// What a client of AWS must live with: three load-balancer nodes that learn of a change after 200, 400
    /// and 600 ms, reads up to two versions or 600 ms old, and AWS's published request rates.
    Real,
}

/// The knobs and their present values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Load-balancer nodes; connections are spread over them in turn. Fixed when the sandbox starts.
    pub nodes: u32,
    /// Until the slowest node routes by a changed listener or rule. Node `i` of `n` takes `i / n` of it.
    /// A changed set of targets is known to all nodes at once.
    pub propagation_millis: u64,
    /// ECS and ELB reads, and `DynamoDB` reads without `ConsistentRead`, answer with one of so many earlier
    /// versions or the present one, drawn anew for each read; 0: always the present one.
    pub stale_versions: u32,
    /// A version that was replaced longer ago than this is never answered.
    pub stale_millis: u64,
    /// AWS's published token buckets (`aws-facts.md` §4) are enforced.
    pub throttling: bool,
    /// Access keys of those who watch a test: their reads show the present and their calls cost no tokens.
    /// AWS has nothing like it.
    pub observers: Vec<String>,
    /// Thousandths of requests that go to a target group of weight 0: a mutant for tests of tests.
    pub leak_per_mille: u32,
    /// What the draws of stale versions depend on, besides how many there were before.
    pub seed: u64,
}

impl Conditions {
    /// The values of a profile.
    pub fn of(profile: Profile) -> Self {
        let calm = Self {
            nodes: 1,
            propagation_millis: 0,
            stale_versions: 0,
            stale_millis: 0,
            throttling: false,
            observers: Vec::new(),
            leak_per_mille: 0,
            seed: 1,
        };
        match profile {
            Profile::Calm => calm,
            Profile::Real => Self {
                nodes: 3,
                propagation_millis: 600,
                stale_versions: 2,
                stale_millis: 600,
                throttling: true,
                ..calm
            },
        }
    }

    /// These values with some of them replaced.
    pub fn changed(&self, change: ConditionsChange) -> Result<Self, BadConditions> {
        let changed = Self {
            nodes: change.nodes.unwrap_or(self.nodes),
            propagation_millis: change.propagation_millis.unwrap_or(self.propagation_millis),
            stale_versions: change.stale_versions.unwrap_or(self.stale_versions),
            stale_millis: change.stale_millis.unwrap_or(self.stale_millis),
            throttling: change.throttling.unwrap_or(self.throttling),
            observers: change.observers.unwrap_or_else(|| self.observers.clone()),
            leak_per_mille: change.leak_per_mille.unwrap_or(self.leak_per_mille),
            seed: change.seed.unwrap_or(self.seed),
        };
        changed.check()?;
        Ok(changed)
    }

    fn check(&self) -> Result<(), BadConditions> {
        let within = |field: &'static str, value: u64, most: u64| {
            if value <= most { Ok(()) } else { Err(BadConditions::TooMuch { field, value, most }) }
        };
        within("propagationMillis", self.propagation_millis, MILLIS_MAX)?;
        within("staleMillis", self.stale_millis, MILLIS_MAX)?;
        within("staleVersions", self.stale_versions.into(), VERSIONS_MAX.into())?;
        within("leakPerMille", self.leak_per_mille.into(), 1_000)?;
        within("observers", self.observers.len() as u64, OBSERVERS_MAX as u64)
    }

    /// Whether this caller only watches.
    pub(super) fn is_observer(&self, caller: &Caller) -> bool {
        caller.access_key.as_ref().is_some_and(|key| self.observers.contains(key))
    }
}

/// Some knobs' new values; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ConditionsChange {
    /// See [`Conditions::nodes`].
    pub nodes: Option<u32>,
    /// See [`Conditions::propagation_millis`].
    pub propagation_millis: Option<u64>,
    /// See [`Conditions::stale_versions`].
    pub stale_versions: Option<u32>,
    /// See [`Conditions::stale_millis`].
    pub stale_millis: Option<u64>,
    /// See [`Conditions::throttling`].
    pub throttling: Option<bool>,
    /// See [`Conditions::observers`].
    pub observers: Option<Vec<String>>,
    /// See [`Conditions::leak_per_mille`].
    pub leak_per_mille: Option<u32>,
    /// See [`Conditions::seed`].
    pub seed: Option<u64>,
}

/// Conditions that there cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConditions {
    /// A value above its bound.
    #[error("{field} is {value}, at most {most} is possible")]
    TooMuch {
        /// Which knob.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// Its bound.
        most: u64,
    },
    /// The nodes are machines: there are as many as at the start.
    #[error("the number of load-balancer nodes is fixed when the sandbox starts: {0}")]
    NodesFixed(u32),
}

/// The weather of one running sandbox.
#[derive(Debug)]
pub(super) struct Weather {
    now: Mutex<Conditions>,
    draws: AtomicU64,
}

impl Weather {
    pub(super) fn new(conditions: Conditions) -> Self {
        Self { now: Mutex::new(conditions), draws: AtomicU64::new(0) }
    }

    /// The present values.
    pub(super) fn now(&self) -> Conditions {
        // Replaced as a whole, so a panic elsewhere doesn't spoil it.
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces some values from now on.
    pub(super) fn change(&self, change: ConditionsChange) -> Result<Conditions, BadConditions> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if change.nodes.is_some_and(|nodes| nodes != now.nodes) {
            return Err(BadConditions::NodesFixed(now.nodes));
        }
        *now = now.changed(change)?;
        Ok(now.clone())
    }

    /// How an eventually consistent read is answered: so many versions back at most, none replaced longer
    /// ago than that. `None`: from the present one.
    pub(super) fn stale_read(&self, caller: &Caller) -> Option<(u32, SignedDuration)> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.stale_versions == 0 || now.is_observer(caller) {
            return None;
        }
        let turn = self.draws.fetch_add(1, Ordering::Relaxed);
        let back = draw(now.seed, turn, now.stale_versions + 1);
        let within = SignedDuration::from_millis(i64::try_from(now.stale_millis).unwrap_or(i64::MAX));
        (back > 0).then_some((back, within))
    }
}

/// A number below `bound` that depends on the seed and the turn alone (`SplitMix64`).
pub(super) fn draw(seed: u64, turn: u64, bound: u32) -> u32 {
    let mut z = seed.wrapping_add(turn.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((z ^ (z >> 31)) % u64::from(bound.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_weather_has_the_values_that_its_name_promises() {
        let real = Conditions::of(Profile::Real);
        assert_eq!((real.nodes, real.propagation_millis), (3, 600));
        assert_eq!((real.stale_versions, real.stale_millis, real.throttling), (2, 600, true));
    }

    #[test]
    fn a_change_keeps_what_it_leaves_out_and_refuses_what_cannot_be() {
        let weather = Weather::new(Conditions::of(Profile::Real));
        let change = ConditionsChange { leak_per_mille: Some(5), ..ConditionsChange::default() };
        let changed = weather.change(change).expect("possible");
        assert_eq!((changed.leak_per_mille, changed.stale_versions), (5, 2));
        let leak = ConditionsChange { leak_per_mille: Some(1_001), ..ConditionsChange::default() };
        assert!(weather.change(leak).expect_err("more than all").to_string().contains("leakPerMille"));
        let nodes = ConditionsChange { nodes: Some(4), ..ConditionsChange::default() };
        assert_eq!(weather.change(nodes), Err(BadConditions::NodesFixed(3)));
        assert_eq!(weather.now(), changed);
    }

    #[test]
    fn the_same_seed_draws_the_same_versions_and_every_version_is_drawn() {
        let drawn = |seed| {
            let weather = Weather::new(Conditions { seed, ..Conditions::of(Profile::Real) });
            (0..300)
                .map(|_| weather.stale_read(&Caller::default()).map_or(0, |(back, _)| back))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert!((0..=2).all(|back| drawn(7).iter().filter(|drawn| **drawn == back).count() > 50));
        assert_eq!(Weather::new(Conditions::of(Profile::Calm)).stale_read(&Caller::default()), None);
    }
}
