//! A routing snapshot prepared for the hot path: patterns compiled, weights summed up, counters and
//! connection pools looked up. Made once per routing version and shared by all connections.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use rand::Rng;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::StickyAtZero;
use super::metrics::{AlbMetrics, BalancerCounters, GroupCounters};
use super::pick::WeightedPicker;
use super::rules::{Matcher, RequestView};
use super::slow::{self, Growth};
use super::upstream::Target;
use crate::world::{Address, ListenerRoute, RouteTarget, Routing, RuleRoute};

/// All listeners of one routing version.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub version: u64,
    /// By listener ARN.
    pub listeners: BTreeMap<String, Arc<ListenerTable>>,
    /// Carried from version to version, so that connections and turns survive a change.
    targets: BTreeMap<Address, Arc<Target>>,
    turns: BTreeMap<String, Arc<AtomicUsize>>,
    /// Slow starts by target group, target and their beginning in the region's time.
    growths: BTreeMap<(String, Address, Timestamp), Growth>,
}

/// One listener.
#[derive(Debug)]
pub(super) struct ListenerTable {
    /// As created by the user; the local port may differ.
    pub port: u16,
    pub port_text: HeaderValue,
    pub counters: Arc<BalancerCounters>,
    /// A connection without data for so long is closed; a target that is silent for so long gives 504.
    pub idle: Duration,
    /// After so long a client's connection ends with its next request.
    pub keep_alive: Duration,
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub arn: Arc<str>,
    conditions: Vec<Matcher>,
    pub action: Action,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Action {
    Forward(Forward),
    Fixed { status: StatusCode, content_type: HeaderValue, body: Bytes },
    Redirect { status: StatusCode, template: String },
}

/// A weighted forward.
#[derive(Debug)]
pub(super) struct Forward {
    picker: WeightedPicker,
    choices: Vec<Choice>,
    /// Seconds of group stickiness; `None` when it is off.
    pub sticky_secs: Option<u32>,
}

/// One target group of a forward.
#[derive(Debug)]
pub(super) struct Choice {
    /// Value of the stickiness cookie that names this group.
    pub cookie: String,
    pub counters: Arc<GroupCounters>,
    targets: Vec<Arc<Target>>,
    /// For each target its slow start; empty when the group has none.
    growing: Vec<Option<Growth>>,
    turn: Arc<AtomicUsize>,
}

impl Choice {
    /// The next target in turn, or by share while one of them starts slowly; `None` for an empty group.
    pub fn next_target(&self, rng: &mut impl Rng) -> Option<&Arc<Target>> {
        if self.targets.is_empty() {
            return None;
        }
        if !self.growing.is_empty()
            && let Some(place) = slow::draw(&self.growing, Instant::now(), rng)
        {
            return self.targets.get(place);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.targets.get(turn % self.targets.len())
    }
}

/// The group chosen for one request.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub choice: &'a Choice,
    /// Whether the response should carry the stickiness cookie.
    pub set_cookie: bool,
}

impl Forward {
    /// Chooses the group for one request. `remembered` is the value of its stickiness cookie.
    /// `None` when every weight is 0.
    pub fn choose(
        &self,
        remembered: Option<&str>,
        at_zero: StickyAtZero,
        leak_per_mille: u32,
        rng: &mut impl Rng,
    ) -> Option<Chosen<'_>> {
        if let Some(place) = self.picker.leak(rng, leak_per_mille) {
            return Some(Chosen { choice: &self.choices[place], set_cookie: false });
        }
        let sticky = self.sticky_secs.is_some();
        let remembered = remembered
            .filter(|_| sticky)
            .and_then(|cookie| self.choices.iter().position(|choice| choice.cookie == cookie));
        match remembered {
            Some(place) if !self.picker.is_zero(place) => {
                Some(Chosen { choice: &self.choices[place], set_cookie: true })
            }
            // Not renewed, so that the client's stickiness ends with the cookie it has.
            Some(place) if at_zero == StickyAtZero::Honour => {
                Some(Chosen { choice: &self.choices[place], set_cookie: false })
            }
            _ => {
                let place = self.picker.pick(rng)?;
                Some(Chosen { choice: &self.choices[place], set_cookie: sticky })
            }
        }
    }
}

impl ListenerTable {
    /// The first rule, in priority order, whose conditions all hold.
    pub fn rule_for(&self, request: RequestView<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.conditions.iter().all(|condition| condition.holds(request)))
    }

    /// What becomes of whatever no other rule takes.
    pub fn default_action(&self) -> Option<&Action> {
        self.rules.last().map(|rule| &rule.action)
    }

    /// The forward of a rule in this version, for deciding a request anew.
    pub fn forward_of(&self, rule: &str) -> Option<&Forward> {
        self.rules.iter().find(|candidate| &*candidate.arn == rule).and_then(|rule| match &rule.action {
            Action::Forward(forward) => Some(forward),
            Action::Fixed { .. } | Action::Redirect { .. } => None,
        })
    }
}

impl Table {
    /// Prepares a routing version with the target groups of the newest one; pools and turns of `previous` are
    /// carried over where still in use. `speed` is that of the region's clock.
    pub fn compile(
        routing: &Routing,
        newest: &Routing,
        previous: &Self,
        metrics: &AlbMetrics,
        speed: f64,
    ) -> Self {
        let mut table = Self { version: routing.version, ..Self::default() };
        for address in newest.groups.values().flat_map(|group| &group.targets) {
            let target =
                previous.targets.get(address).map_or_else(|| Arc::new(Target::new(address)), Arc::clone);
            table.targets.insert(address.clone(), target);
        }
        for arn in newest.groups.keys() {
            table.turns.insert(arn.clone(), previous.turns.get(arn).map(Arc::clone).unwrap_or_default());
        }
        for (arn, slow) in newest.groups.iter().flat_map(|(arn, g)| g.slow.iter().map(move |s| (arn, s))) {
            let key = (arn.clone(), slow.target.clone(), slow.since);
            let new = || Growth {
                began: Instant::now(),
                length: Duration::from_secs(slow.secs.into()).div_f64(speed),
            };
            // One that has begun keeps its length, whatever the speed is now.
            let growth = previous.growths.get(&key).copied().unwrap_or_else(new);
            table.growths.insert(key, growth);
        }
        for listener in &routing.listeners {
            let compiled = table.compile_listener(listener, newest, metrics);
            table.listeners.insert(listener.arn.clone(), Arc::new(compiled));
        }
        table
    }

    #[cfg(test)]
    pub fn target_ports(&self) -> Vec<u16> {
        self.targets.keys().map(|address| address.port).collect()
    }

    fn compile_listener(
        &self,
        listener: &ListenerRoute,
        routing: &Routing,
        metrics: &AlbMetrics,
    ) -> ListenerTable {
        let rules = listener.rules.iter().map(|rule| Rule {
            arn: rule.arn.as_str().into(),
            conditions: rule.conditions.iter().map(Matcher::compile).collect(),
            action: self.compile_action(rule, &listener.load_balancer, routing, metrics),
        });
        ListenerTable {
            port: listener.port,
            port_text: HeaderValue::from(listener.port),
            counters: metrics.balancer(&listener.load_balancer),
            idle: Duration::from_millis(listener.idle_millis),
            keep_alive: Duration::from_millis(listener.keep_alive_millis),
            rules: rules.collect(),
        }
    }

    fn compile_action(
        &self,
        rule: &RuleRoute,
        load_balancer: &str,
        routing: &Routing,
        metrics: &AlbMetrics,
    ) -> Action {
        match &rule.target {
            RouteTarget::Forward { groups, sticky_secs } => {
                let weights: Vec<u32> = groups.iter().map(|(_, weight)| *weight).collect();
                let choices =
                    groups.iter().map(|(arn, _)| self.compile_choice(arn, load_balancer, routing, metrics));
                Action::Forward(Forward {
                    picker: WeightedPicker::new(&weights),
                    choices: choices.collect(),
                    sticky_secs: *sticky_secs,
                })
            }
            RouteTarget::Fixed { status, content_type, body } => Action::Fixed {
                status: StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                content_type: HeaderValue::from_str(content_type)
                    .unwrap_or_else(|_| HeaderValue::from_static("text/plain")),
                body: Bytes::from(body.clone()),
            },
            RouteTarget::Redirect { status, location } => Action::Redirect {
                status: StatusCode::from_u16(*status).unwrap_or(StatusCode::FOUND),
                template: location.clone(),
            },
        }
    }

    /// A group that the snapshot does not list is treated as empty: its requests get 503.
    fn compile_choice(
        &self,
        arn: &str,
        load_balancer: &str,
        routing: &Routing,
        metrics: &AlbMetrics,
    ) -> Choice {
        let group = routing.groups.get(arn);
        let dimension = group.map_or(arn, |group| group.dimension.as_str());
        let addresses = group.map_or(&[][..], |group| &group.targets);
        let slow = group.map_or(&[][..], |group| &group.slow);
        let growth = |address: &Address| {
            let slow = slow.iter().find(|slow| slow.target == *address)?;
            self.growths.get(&(arn.to_owned(), address.clone(), slow.since)).copied()
        };
        let growing: Vec<_> = addresses.iter().map(growth).collect();
        Choice {
            cookie: cookie_value(arn),
            counters: metrics.group(load_balancer, dimension),
            targets: addresses
                .iter()
                .filter_map(|address| self.targets.get(address))
                .map(Arc::clone)
                .collect(),
            growing: if growing.iter().any(Option::is_some) { growing } else { Vec::new() },
            turn: self.turns.get(arn).map(Arc::clone).unwrap_or_default(),
        }
    }
}

/// An opaque name of a group that tells the client nothing: half of the ARN's SHA-256.
fn cookie_value(arn: &str) -> String {
    Sha256::digest(arn.as_bytes()).iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
