//! What people wrote: the one service, and the requests that its developers may make.
//!
//! Time is counted in ticks of one hour, which is also `poll`: each pass moves each clock by 0, 1 or 2 ticks, as in
//! production, where all waits are multiples of `poll` too. Only the order of a clock and its limit is ever decided
//! by, so the ratios matter and the unit does not.

use pointsman_core::decide::{Asked, Limits, Wish};
use pointsman_core::records::command::{Command, CommandKind, CommandSpec, Verb};
use pointsman_core::records::desired_release::{ApiVersion, DesiredReleaseSpec};
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::{ServiceKey, Span};
use serde_json::{Value, json};

use super::config::Config;

/// One tick.
pub const TICK: Span = Span::from_mins(60);
/// The daemon's settings.
pub fn limits() -> Limits {
    Limits { installation: "proof".to_owned(), poll: TICK, idle_poll: TICK }
}

/// The service's name.
pub fn key() -> anyhow::Result<ServiceKey> {
    Ok("shop/web".parse()?)
}

const ELB: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
const ECS: &str = "arn:aws:ecs:eu-central-1:111122223333";

/// ARNs by what they are.
pub fn group_arn(in_b: bool) -> String {
    format!("{ELB}:targetgroup/web-{}/000000000000000{}", if in_b { "b" } else { "a" }, u8::from(in_b))
}

/// The rule behind a route.
pub fn rule_arn(route: &str) -> String {
    let last = if route == "public" { "1" } else { "2" };
    format!("{ELB}:listener-rule/app/edge/0000000000000001/0000000000000001/000000000000000{last}")
}

/// The load balancer.
pub fn load_balancer_arn() -> String {
    format!("{ELB}:loadbalancer/app/edge/0000000000000001")
}

/// The record of the platform team.
pub fn service(config: &Config) -> anyhow::Result<ManagedServiceSpec> {
    let test =
        if config.test_route { json!({"name": "preview", "rule": rule_arn("preview")}) } else { Value::Null };
    let first = if config.scaling {
        json!({"weight": 10, "bake": "1h", "scale": 25})
    } else {
        json!({"weight": 10, "bake": "1h", "scale": 100})
    };
    let spec = json!({
        "ecs": {"cluster": format!("{ECS}:cluster/prod"), "service": format!("{ECS}:service/prod/web")},
        "taskDefinitionFamily": "web",
        "container": {"name": "web", "port": 8080},
        "targetGroups": {"a": group_arn(false), "b": group_arn(true)},
        "routes": {"production": [{"name": "public", "rule": rule_arn("public")}], "test": test},
        "taskSet": {"launchType": "FARGATE"},
        "alarms": [{"name": "5xx", "watches": "service"}],
        "alarmPolicy": {"evidenceDeadline": "2h"},
        "strategies": {"fast": {"steps": [first]}},
        "defaultStrategy": "fast",
        "bake": "1h", "retention": "1h",
        "deadlines": {"start": "2h", "prepare": "3h", "capacity": "3h", "weightWrite": "3h", "primary": "2h",
                      "cleanup": "10h"},
        "waits": {"propagation": "1h", "quiet": "1h", "quietAfterUnknown": "3h"},
        "drift": {"idle": "revert"},
    });
    Ok(serde_json::from_value(spec)?)
}

/// A request for a revision; none: no record.
pub fn desired(revision: Option<u8>) -> Asked<DesiredReleaseSpec> {
    match revision {
        None => Asked::Absent,
        Some(revision) => Asked::Valid {
            spec: DesiredReleaseSpec {
                task_definition: format!("web:{revision}"),
                strategy: None,
                request_id: None,
            },
            hash: format!("sha256:{revision}"),
        },
    }
}

/// An operator's wish.
pub fn wish(verb: Verb, (generation, attempt): (u8, u8)) -> Wish {
    let release = format!("web-{generation}.{attempt}");
    let spec = CommandSpec { verb, release, step: None, by: None };
    let command = Command { api_version: ApiVersion::V1, kind: CommandKind::Command, spec, expire_at: None };
    Wish { id: format!("{verb:?}"), age: Span::ZERO, command: Ok(command) }
}
