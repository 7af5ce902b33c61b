//! Attributes of target groups and load balancers: which exist for which type, their defaults and what
//! they may be set to (API pages `TargetGroupAttribute` and `LoadBalancerAttribute`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Attribute, validation};
use crate::world::ApiError;

/// What a value may be.
#[derive(Clone, Copy)]
enum Allowed {
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number in this range.
    Number(u32, u32),
    /// 0, which switches the feature off, or a number in this range.
    ZeroOr(u32, u32),
    /// `off` or a number in this range.
    OffOr(u32, u32),
    /// Anything.
    Text,
    /// A cookie name that is not one of the load balancer's own.
    CookieName,
}

impl Allowed {
    fn takes(self, value: &str) -> bool {
        let within = |least, most| value.parse().is_ok_and(|number: u32| (least..=most).contains(&number));
        match self {
            Self::Flag => matches!(value, "true" | "false"),
            Self::Word(words) => words.contains(&value),
            Self::Number(least, most) => within(least, most),
            Self::ZeroOr(least, most) => value == "0" || within(least, most),
            Self::OffOr(least, most) => value == "off" || within(least, most),
            Self::Text => true,
            // AWSALBAPP and AWSALBTG begin with AWSALB.
            Self::CookieName => !value.starts_with("AWSALB"),
        }
    }

    fn described(self) -> String {
        match self {
            Self::Flag => "'true' or 'false'".to_owned(),
            Self::Word(words) => format!("one of '{}'", words.join("', '")),
            Self::Number(least, most) => format!("between {least} and {most} (inclusive)"),
            Self::ZeroOr(least, most) => format!("0 or between {least} and {most} (inclusive)"),
            Self::OffOr(least, most) => format!("'off' or between {least} and {most} (inclusive)"),
            Self::Text => "a text".to_owned(),
            Self::CookieName => "a name that does not start with AWSALB, AWSALBAPP or AWSALBTG".to_owned(),
        }
    }
}

/// Key, default and what it may be.
type Known = (&'static str, &'static str, Allowed);

/// A week in seconds: the longest target stickiness.
const WEEK_SECS: u32 = 604_800;
/// Targets of a group (`ELBv2` quota): no minimum of healthy ones can be larger.
const TARGETS_MAX: u32 = 1_000;
const SWITCH: Allowed = Allowed::Word(&["true", "false", "use_load_balancer_configuration"]);

const GROUP_ANY: [Known; 7] = [
    ("deregistration_delay.timeout_seconds", "300", Allowed::Number(0, 3600)),
    ("stickiness.enabled", "false", Allowed::Flag),
    ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration", SWITCH),
    ("target_group_health.dns_failover.minimum_healthy_targets.count", "1", Allowed::OffOr(1, TARGETS_MAX)),
    ("target_group_health.dns_failover.minimum_healthy_targets.percentage", "off", Allowed::OffOr(1, 100)),
    (MINIMUM_COUNT, "1", Allowed::Number(1, TARGETS_MAX)),
    (MINIMUM_PERCENTAGE, "off", Allowed::OffOr(1, 100)),
];
const GROUP_APPLICATION: [Known; 7] = [
    (
        "load_balancing.algorithm.type",
        "round_robin",
        Allowed::Word(&["round_robin", "least_outstanding_requests", "weighted_random"]),
    ),
    ("load_balancing.algorithm.anomaly_mitigation", "off", Allowed::Word(&["on", "off"])),
    ("slow_start.duration_seconds", "0", Allowed::ZeroOr(30, 900)),
    ("stickiness.app_cookie.cookie_name", "", Allowed::CookieName),
    ("stickiness.app_cookie.duration_seconds", "86400", Allowed::Number(1, WEEK_SECS)),
    ("stickiness.lb_cookie.duration_seconds", "86400", Allowed::Number(1, WEEK_SECS)),
    ("stickiness.type", "lb_cookie", Allowed::Word(&["lb_cookie", "app_cookie"])),
];
const GROUP_NETWORK: [Known; 6] = [
    ("deregistration_delay.connection_termination.enabled", "false", Allowed::Flag),
    ("preserve_client_ip.enabled", "true", Allowed::Flag),
    ("proxy_protocol_v2.enabled", "false", Allowed::Flag),
    ("stickiness.type", "source_ip", Allowed::Word(&["source_ip"])),
    ("target_health_state.unhealthy.connection_termination.enabled", "true", Allowed::Flag),
    ("target_health_state.unhealthy.draining_interval_seconds", "0", Allowed::Number(0, 360_000)),
];
/// Fewer healthy targets than this, and all targets get requests.
const MINIMUM_COUNT: &str = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count";
/// The same in per cent of the targets.
const MINIMUM_PERCENTAGE: &str =
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage";

const BALANCER_ANY: [Known; 6] = [
    ("access_logs.s3.enabled", "false", Allowed::Flag),
    ("access_logs.s3.bucket", "", Allowed::Text),
    ("access_logs.s3.prefix", "", Allowed::Text),
    ("deletion_protection.enabled", "false", Allowed::Flag),
    ("ipv6.deny_all_igw_traffic", "false", Allowed::Flag),
    ("zonal_shift.config.enabled", "false", Allowed::Flag),
];
const BALANCER_APPLICATION: [Known; 17] = [
    ("client_keep_alive.seconds", "3600", Allowed::Number(60, WEEK_SECS)),
    ("connection_logs.s3.bucket", "", Allowed::Text),
    ("connection_logs.s3.enabled", "false", Allowed::Flag),
    ("connection_logs.s3.prefix", "", Allowed::Text),
    ("health_check_logs.s3.bucket", "", Allowed::Text),
    ("health_check_logs.s3.enabled", "false", Allowed::Flag),
    ("health_check_logs.s3.prefix", "", Allowed::Text),
    ("idle_timeout.timeout_seconds", "60", Allowed::Number(1, 4000)),
    // "The default for Application Load Balancers is true, and can't be changed."
    ("load_balancing.cross_zone.enabled", "true", Allowed::Word(&["true"])),
    (
        "routing.http.desync_mitigation_mode",
        "defensive",
        Allowed::Word(&["monitor", "defensive", "strictest"]),
    ),
    ("routing.http.drop_invalid_header_fields.enabled", "false", Allowed::Flag),
    ("routing.http.preserve_host_header.enabled", "false", Allowed::Flag),
    ("routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "false", Allowed::Flag),
    ("routing.http.xff_client_port.enabled", "false", Allowed::Flag),
    ("routing.http.xff_header_processing.mode", "append", Allowed::Word(&["append", "preserve", "remove"])),
    ("routing.http2.enabled", "true", Allowed::Flag),
    ("waf.fail_open.enabled", "false", Allowed::Flag),
];
const BALANCER_NETWORK: [Known; 2] = [
    (
        "dns_record.client_routing_policy",
        "any_availability_zone",
        Allowed::Word(&[
            "any_availability_zone",
            "availability_zone_affinity",
            "partial_availability_zone_affinity",
        ]),
    ),
    ("load_balancing.cross_zone.enabled", "false", Allowed::Flag),
];

/// The attributes of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Attributes {
    network: bool,
    group: bool,
    values: BTreeMap<String, String>,
}

impl Attributes {
    /// The defaults of a target group of an application or a network load balancer.
    pub(super) fn of_group(network: bool, target_type: &str, protocol: &str) -> Self {
        let mut made = Self::defaults(network, true);
        // "The default is disabled if the target group type is IP address and the protocol is TCP or TLS."
        if network && target_type == "ip" && matches!(protocol, "TCP" | "TLS") {
            made.values.insert("preserve_client_ip.enabled".to_owned(), "false".to_owned());
        }
        made
    }

    /// The defaults of a load balancer.
    pub(super) fn of_load_balancer(network: bool) -> Self {
        Self::defaults(network, false)
    }

    fn defaults(network: bool, group: bool) -> Self {
        let known = known(network, group);
        let values = known.map(|(key, value, _)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { network, group, values }
    }

    pub(super) fn is(&self, key: &str, value: &str) -> bool {
        self.values.get(key).is_some_and(|held| held == value)
    }

    fn number(&self, key: &str) -> Option<u32> {
        self.values.get(key)?.parse().ok()
    }

    /// Seconds of the deregistration delay.
    pub(super) fn deregistration_delay(&self) -> u32 {
        self.number("deregistration_delay.timeout_seconds").unwrap_or(300)
    }

    /// Seconds without data after which a connection is closed.
    pub(super) fn idle_timeout(&self) -> u32 {
        self.number("idle_timeout.timeout_seconds").unwrap_or(60)
    }

    /// Seconds after which a client's connection takes one more request.
    pub(super) fn client_keep_alive(&self) -> u32 {
        self.number("client_keep_alive.seconds").unwrap_or(3600)
    }

    /// Seconds of slow start; `None` when it is off.
    pub(super) fn slow_start(&self) -> Option<u32> {
        self.number("slow_start.duration_seconds").filter(|secs| *secs > 0)
    }

    /// Whether so few of these targets are healthy that "the load balancer sends traffic to all targets,
    /// including unhealthy targets".
    pub(super) fn fails_open(&self, healthy: usize, all: usize) -> bool {
        let least = self.number(MINIMUM_COUNT).unwrap_or(1);
        let percentage = self.number(MINIMUM_PERCENTAGE).unwrap_or(0);
        let (healthy, all) = (healthy as u64, all as u64);
        healthy < u64::from(least) || healthy * 100 < all * u64::from(percentage)
    }

    /// In the list form of the API.
    pub(super) fn listed(&self) -> Vec<Attribute> {
        let one = |(key, value): (&String, &String)| Attribute { key: key.clone(), value: value.clone() };
        self.values.iter().map(one).collect()
    }

    /// Puts changes in, all or none.
    pub(super) fn change(&mut self, changes: &[Attribute]) -> Result<(), ApiError> {
        let what = if self.group { "Target group" } else { "Load balancer" };
        let mut result = self.clone();
        for Attribute { key, value } in changes {
            let Some((_, _, allowed)) = known(self.network, self.group).find(|(name, ..)| name == key) else {
                return Err(validation(format!("{what} attribute key '{key}' is not recognized")));
            };
            if !allowed.takes(value) {
                return Err(validation(format!("'{key}' must be {}, but is '{value}'", allowed.described())));
            }
            result.values.insert(key.clone(), value.clone());
        }
        result.check_together()?;
        *self = result;
        Ok(())
    }

    /// What one value forbids another to be.
    fn check_together(&self) -> Result<(), ApiError> {
        let refused = |message: &str| Err(ApiError::client("InvalidConfigurationRequest", message));
        let algorithm = "load_balancing.algorithm.type";
        if self.slow_start().is_some() && !self.is(algorithm, "round_robin") {
            // Guide, edit-target-group-attributes#slow-start-mode.
            return refused(
                "You can't enable slow start mode when using the least outstanding requests or weighted random \
                 routing algorithms",
            );
        }
        if self.is("load_balancing.algorithm.anomaly_mitigation", "on")
            && !self.is(algorithm, "weighted_random")
        {
            return refused(
                "Anomaly mitigation is only available with the weighted random routing algorithm",
            );
        }
        if self.is("stickiness.enabled", "true")
            && self.is("stickiness.type", "app_cookie")
            && self.is("stickiness.app_cookie.cookie_name", "")
        {
            return refused("Application-based stickiness needs stickiness.app_cookie.cookie_name");
        }
        if self.is("target_health_state.unhealthy.connection_termination.enabled", "true")
            && self.number("target_health_state.unhealthy.draining_interval_seconds").unwrap_or(0) > 0
        {
            return refused(
                "A draining interval for unhealthy targets can only be set when their connections are not terminated",
            );
        }
        for logs in ["access_logs", "connection_logs", "health_check_logs"] {
            if self.is(&format!("{logs}.s3.enabled"), "true") && self.is(&format!("{logs}.s3.bucket"), "") {
                return refused("A bucket is required if logs are enabled");
            }
        }
        Ok(())
    }
}

fn known(network: bool, group: bool) -> impl Iterator<Item = &'static Known> {
    let (any, own): (&[Known], &[Known]) = match (group, network) {
        (true, false) => (&GROUP_ANY, &GROUP_APPLICATION),
        (true, true) => (&GROUP_ANY, &GROUP_NETWORK),
        (false, false) => (&BALANCER_ANY, &BALANCER_APPLICATION),
        (false, true) => (&BALANCER_ANY, &BALANCER_NETWORK),
    };
    any.iter().chain(own)
}
