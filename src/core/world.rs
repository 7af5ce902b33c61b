//! A pure model of one AWS region, as far as a deployment controller can see it: ECS with EXTERNAL
//! task sets, Elastic Load Balancing v2 with weighted forwards, and `CloudWatch` alarms.
//!
//! The same code answers the property tests, the fault harness (virtual time) and the sandbox
//! (real time, real processes, real HTTP). It never does I/O, never reads a clock and never draws
//! a random number: time comes in as an argument, identifiers come from a counter.
//!
//! Start with [`Region`]: [`Region::call`] is one AWS API call, [`Region::advance`] lets time pass,
//! and the `runtime` functions are how real processes report what became of the tasks.

pub mod alarm;
pub mod ecs;
pub mod elb;
mod ids;
mod region;
mod tuning;
mod watched;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use region::Region;
pub use tuning::{Runtime, Tuning};

/// An error as the AWS service would answer it; the wire layer puts it into each protocol's shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The modelled error code, for example `TaskSetNotFoundException`.
    pub code: String,
    /// AWS's sentence, with the offending value in it.
    pub message: String,
    /// HTTP status: 400 for the caller's mistakes, 404 where the protocol says so, 5xx for ours.
    pub status: u16,
}

impl ApiError {
    /// A mistake of the caller: HTTP 400.
    pub fn client(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), status: 400 }
    }
}

/// The API families that [`Region::call`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Api {
    /// Amazon ECS.
    Ecs,
    /// Elastic Load Balancing v2.
    Elb,
    /// Amazon `CloudWatch`.
    CloudWatch,
}

/// What the load balancers' data plane needs: a snapshot of every listener, made anew on each change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Routing {
    /// Grows with every change that could alter where a request goes.
    pub version: u64,
    /// All listeners of all load balancers.
    pub listeners: Vec<ListenerRoute>,
    /// Target group ARN to its targets.
    pub groups: BTreeMap<String, GroupRoute>,
}

/// One listener and its rules in priority order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerRoute {
    /// Listener ARN.
    pub arn: String,
    /// `app/name/id`: the `LoadBalancer` dimension of its metrics.
    pub load_balancer: String,
    /// Port as created by the user.
    pub port: u16,
    /// What it takes.
    pub transport: Transport,
    /// A client's or target's connection without data for so long is closed (`idle_timeout.timeout_seconds`).
    pub idle_millis: u64,
    /// After so long a client's connection ends with its next request (`client_keep_alive.seconds`).
    pub keep_alive_millis: u64,
    /// Rules by priority; the default action comes last, with no condition.
    pub rules: Vec<RuleRoute>,
}

/// What a listener takes from its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP requests, each routed on its own: an Application Load Balancer.
    #[default]
    Http,
    /// TCP connections, each routed as a whole by the default rule: a Network Load Balancer.
    Tcp,
}

/// One rule: conditions that must all hold, and where its requests go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleRoute {
    /// Rule ARN.
    pub arn: String,
    /// All must hold; empty for the default rule.
    pub conditions: Vec<Condition>,
    /// What becomes of a matching request.
    pub target: RouteTarget,
}

/// A rule condition; values of one condition are alternatives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Path with `*` and `?` wildcards, case-sensitive.
    Path(Vec<String>),
    /// Host with wildcards, case-insensitive.
    Host(Vec<String>),
    /// A header by name (case-insensitive) and value patterns.
    Header(String, Vec<String>),
    /// HTTP methods, exact.
    Method(Vec<String>),
    /// Query `key=value` pairs; no key means any key.
    Query(Vec<(Option<String>, String)>),
    /// Source addresses in CIDR form.
    SourceIp(Vec<String>),
    /// Regular expressions on a path, a host or the values of a header.
    Regex(RegexSubject, Vec<String>),
}

/// What a regular expression is matched against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegexSubject {
    /// The path, without the query.
    Path,
    /// The host name.
    Host,
    /// The values of this header.
    Header(String),
}

/// Where matching requests go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// Weighted target groups (weights 0–999, no fail-over between groups).
    Forward {
        /// Target group ARN and its weight, in the order of the action.
        groups: Vec<(String, u32)>,
        /// Group stickiness in seconds, when enabled.
        sticky_secs: Option<u32>,
    },
    /// A fixed answer.
    Fixed {
        /// HTTP status.
        status: u16,
        /// Content type.
        content_type: String,
        /// Body.
        body: String,
    },
    /// A redirect to this location template.
    Redirect {
        /// 301 or 302.
        status: u16,
        /// Location with `#{host}`-style place-holders already reduced to the plain ones.
        location: String,
    },
}

/// The routable targets of one target group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupRoute {
    /// Short dimension name, `targetgroup/name/id`.
    pub dimension: String,
    /// Addresses that get new requests: the healthy ones, or all registered ones when too few are
    /// healthy (the load balancer fails open, `aws-facts.md` §2). Empty means HTTP 503.
    pub targets: Vec<Address>,
    /// Healthy and unhealthy counts for the metrics.
    pub healthy: u32,
    /// See `healthy`.
    pub unhealthy: u32,
    /// Those of `targets` that entered slow start mode, some of them perhaps long ago.
    pub slow: Vec<SlowStart>,
}

/// A target in slow start mode: its share of the group's requests grows linearly from nothing to the full one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlowStart {
    /// The target.
    pub target: Address,
    /// When it entered the mode, by the region's clock.
    pub since: Timestamp,
    /// Length of the mode in seconds of the region's clock.
    pub secs: u32,
}

/// A target's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// IP address as text.
    pub ip: String,
    /// Port.
    pub port: u16,
}

/// A task that a real runtime should be running or stopping.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskOrder {
    /// Task ARN.
    pub task: String,
    /// `family:revision`.
    pub revision: String,
    /// Name of the container that takes traffic (the first with a port mapping).
    pub container: String,
    /// Its image, as registered.
    pub image: String,
    /// Its command line, as registered; a runtime may run it as a local command.
    pub command: Vec<String>,
    /// Environment of that container.
    pub environment: BTreeMap<String, String>,
    /// Port that the container listens on.
    pub container_port: u16,
    /// `true`: should be running; `false`: should be stopped (SIGTERM, then SIGKILL).
    pub run: bool,
}

/// A health check that a real runtime should carry out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeOrder {
    /// Target group ARN.
    pub group: String,
    /// Target to probe.
    pub target: Address,
    /// What is asked and what counts as healthy.
    pub check: ProbeCheck,
    /// Between two probes.
    pub interval_ms: u64,
    /// For one probe.
    pub timeout_ms: u64,
}

/// What a health check does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProbeCheck {
    /// An HTTP request.
    Http {
        /// Path with query.
        path: String,
        /// Inclusive ranges of status codes that count as healthy.
        matcher: Vec<(u16, u16)>,
    },
    /// A TCP connection is made; that it is accepted counts as healthy.
    Connect,
}
