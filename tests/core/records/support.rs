//! A good service and release, and ways to spoil them.

use pointsman_core::records::ServiceKey;
use pointsman_core::records::check::{Refusal, read_desired, read_service};
use serde_json::{Value, json};

/// The key of everything in here.
pub fn key() -> ServiceKey {
    "payments/checkout".parse().unwrap()
}

const ELB: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
const ECS: &str = "arn:aws:ecs:eu-central-1:111122223333";

/// A `ManagedService` item that uses every field.
pub fn service() -> Value {
    json!({
        "pk": "service#payments/checkout",
        "sk": "spec",
        "apiVersion": "pointsman/v1",
        "kind": "ManagedService",
        "metadata": {"namespace": "payments", "name": "checkout", "labels": {"tier": "1"}},
        "spec": {
            "ecs": {
                "cluster": format!("{ECS}:cluster/prod"),
                "service": format!("{ECS}:service/prod/checkout"),
            },
            "taskDefinitionFamily": "checkout",
            "container": {"name": "web", "port": 8080},
            "targetGroups": {
                "a": format!("{ELB}:targetgroup/checkout-a/0123456789abcdef"),
                "b": format!("{ELB}:targetgroup/checkout-b/fedcba9876543210"),
            },
            "routes": {
                "production": [
                    {"name": "public", "rule": format!("{ELB}:listener-rule/app/edge/50dc/f2f7/9683")},
                    {"name": "internal", "listenerDefault": format!("{ELB}:listener/app/edge/50dc/0467")},
                ],
                "test": {"name": "preview", "rule": format!("{ELB}:listener-rule/app/edge/50dc/f2f7/11aa")},
                "stickiness": {"policy": "refuse"},
            },
            "taskSet": {
                "capacityProviderStrategy": [{"capacityProvider": "FARGATE", "base": 2, "weight": 1}],
                "platformVersion": "1.4.0",
                "network": {
                    "subnets": ["subnet-0a1b2c3d", "subnet-4e5f6a7b"],
                    "securityGroups": ["sg-0123abcd"],
                    "assignPublicIp": false,
                },
                "tags": {"cost-center": "4711"},
            },
            "alarms": [
                {"name": "checkout-b-5xx", "watches": "b"},
                {"name": "checkout-p99", "watches": "service", "noData": "ok"},
            ],
            "alarmPolicy": {"noData": "hold", "unreadable": "hold", "evidenceDeadline": "10m"},
            "strategies": {
                "careful": {"steps": [
                    {"weight": 1, "scale": 10, "bake": "2m"},
                    {"weight": 10, "scale": "follow", "bake": "10m"},
                    {"pause": {"timeout": "24h", "onTimeout": "rollback"}},
                    {"weight": 50, "scale": 100, "bake": "10m"},
                ]},
                "fast": {"canary": {"weight": 10, "bake": "5m"}},
                "even": {"linear": {"weight": 33.3, "bake": "1m"}},
                "now": {"allAtOnce": {}},
            },
            "defaultStrategy": "careful",
            "releaseMayChoose": ["fast", "CodeDeployDefault.ECSCanary10Percent5Minutes"],
            "testHold": "2m",
            "bake": "15m",
            "retention": "60m",
            "deadlines": {"start": "15m", "prepare": "30m", "capacity": "15m", "weightWrite": "10m",
                          "primary": "10m", "cleanup": "60m"},
            "waits": {"propagation": "30s", "quiet": "30s", "quietAfterUnknown": "15m"},
            "drift": {"idle": "report"},
            "adopt": null,
            "suspend": false,
        },
    })
}

/// A `DesiredRelease` item that uses every field.
pub fn release() -> Value {
    json!({
        "pk": "desired#payments/checkout",
        "sk": "spec",
        "apiVersion": "pointsman/v1",
        "kind": "DesiredRelease",
        "metadata": {"namespace": "payments", "name": "checkout", "annotations": {"commit": "9f1c2e7"}},
        "spec": {"taskDefinition": "checkout:43", "strategy": "fast", "requestId": "gha-1"},
    })
}

/// A `Command` item.
pub fn command() -> Value {
    json!({
        "pk": "command#payments/checkout",
        "sk": "01JD6ZC9T3M9T0T2H8S4V0Q7RB",
        "apiVersion": "pointsman/v1",
        "kind": "Command",
        "spec": {"verb": "promote", "release": "checkout-42.1", "step": 2},
        "expireAt": 1_810_830_000_u64,
    })
}

/// `document` with the value at a JSON pointer replaced or, for an object, added.
pub fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is not there")) {
        Value::Object(fields) => {
            fields.insert(name.to_owned(), value);
        }
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        other => panic!("{other} has no fields"),
    }
    document
}

/// `document` without the field at a JSON pointer.
pub fn without(mut document: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let fields = document.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
    assert!(fields.remove(name).is_some(), "{pointer} is not there");
    document
}

/// What a service is refused for.
pub fn refused_service(item: &Value) -> Refusal {
    read_service(&key(), item).expect_err("must be refused").0
}

/// What a release is refused for.
pub fn refused_release(item: &Value) -> Refusal {
    read_desired(&key(), item).expect_err("must be refused").0
}
