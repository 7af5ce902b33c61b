//! The JSON schemas say what the program says.

use std::path::Path;
use std::{env, fs};

use pointsman::records::check::{RefusalCode, read_command, read_desired, read_service};
use pointsman::records::schema;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::support::{command, key, release, service, with, without};

fn validator(file: &str) -> jsonschema::Validator {
    let (_, schema) = schema::all().into_iter().find(|(name, _)| *name == file).unwrap();
    jsonschema::validator_for(schema.as_value()).unwrap()
}

/// A document as in a file: without the table's attributes.
fn document(item: Value) -> Value {
    without(without(item, "/pk"), "/sk")
}

/// The generated files are fresh. `POINTSMAN_WRITE_SCHEMAS=1` writes them instead.
#[test]
fn the_files_in_crds_schemas_are_fresh() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds-schemas");
    for (name, text) in pointsman::cli::offline::all_schemas() {
        let file = directory.join(name);
        if env::var_os("POINTSMAN_WRITE_SCHEMAS").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&file, &text).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == text, "{name} is stale: run this test with POINTSMAN_WRITE_SCHEMAS=1");
        serde_json::from_str::<Value>(&text).unwrap();
    }
}

/// Good values and bad ones, at a pointer; the program and the schema must agree on each.
fn agree(
    file: &str,
    good: &Value,
    rows: Vec<(&str, Vec<Value>, Vec<Value>)>,
    reads: impl Fn(&Value) -> bool,
) {
    let validator = validator(file);
    assert!(validator.is_valid(good) && reads(good), "{file}: {:?}", validator.iter_errors(good).next());
    for (pointer, good_values, bad_values) in rows {
        for (values, wanted) in [(good_values, true), (bad_values, false)] {
            for value in values {
                let document = with(good.clone(), pointer, value.clone());
                assert_eq!(reads(&document), wanted, "the program on {pointer}: {value}");
                assert_eq!(validator.is_valid(&document), wanted, "the schema on {pointer}: {value}");
            }
        }
    }
}

const ELB: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";

fn long(length: usize) -> Value {
    json!("x".repeat(length))
}

#[test]
fn schema_and_program_refuse_the_same_services() {
    let labels = |count: usize| -> Value {
        (0..count).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
    };
    let alarms = |count: usize| -> Value {
        (0..count).map(|n| json!({"name": format!("n{n}"), "watches": "a"})).collect()
    };
    let subnets = |count: usize| -> Value { (0..count).map(|n| json!(format!("subnet-{n}"))).collect() };
    let steps = |count: usize| -> Value {
        json!({"steps": (0..count).map(|_| json!({"weight": 1, "bake": "1s"})).collect::<Vec<_>>()})
    };
    let step = |step: Value| json!({"steps": [step]});
    let rows = vec![
        ("/apiVersion", vec![], vec![json!("v1"), json!(1)]),
        ("/kind", vec![], vec![json!("DesiredRelease")]),
        (
            "/metadata/labels",
            vec![labels(0), labels(32)],
            vec![labels(33), json!({"": "x"}), json!(null), json!({"n": 1})],
        ),
        ("/metadata/labels/long", vec![long(512)], vec![long(513)]),
        ("/spec/unknown", vec![], vec![json!(1), json!(null)]),
        ("/spec/taskDefinitionFamily", vec![], vec![json!(""), json!("a b"), json!("a:1"), long(256)]),
        ("/spec/container/name", vec![json!("a_B-9")], vec![json!(""), json!("ä"), long(256)]),
        (
            "/spec/container/port",
            vec![json!(1), json!(65535), json!(8080.0)],
            vec![json!(0), json!(65536), json!(-1), json!("80"), json!(80.5)],
        ),
        (
            "/spec/ecs/cluster",
            vec![],
            vec![
                json!(""),
                json!("prod"),
                json!("arn:aws:ecs:eu-central-1:111122223333:cluster/a/b"),
                json!(format!("{ELB}:cluster/prod")),
            ],
        ),
        (
            "/spec/ecs/service",
            vec![],
            vec![
                json!("arn:aws:ecs:eu-central-1:111122223333:service/checkout"),
                json!("arn:aws:ecs:eu-central-1:1111:service/prod/checkout"),
            ],
        ),
        (
            "/spec/targetGroups/a",
            vec![json!(format!("{ELB}:targetgroup/x/1"))],
            vec![json!(format!("{ELB}:targetgroup/x")), json!(format!("{ELB}:targetgroup/x/*"))],
        ),
        ("/spec/targetGroups/c", vec![], vec![json!(format!("{ELB}:targetgroup/x/1"))]),
        ("/spec/routes/production", vec![], vec![json!([]), json!({})]),
        (
            "/spec/routes/production/0",
            vec![
                json!({"name": "x", "rule": format!("{ELB}:listener-rule/app/edge/50dc/1/2"), "listenerDefault": null}),
            ],
            vec![
                json!({"name": "x"}),
                json!({"name": "x", "rule": null}),
                json!({"name": "-x", "rule": format!("{ELB}:listener-rule/app/edge/50dc/1/2")}),
                json!({"name": "x", "rule": format!("{ELB}:listener-rule/net/edge/50dc/1/2")}),
                json!({"name": "x", "rule": format!("{ELB}:listener-rule/app/edge/50dc/1/2"), "listenerDefault": format!("{ELB}:listener/app/edge/50dc/1")}),
            ],
        ),
        ("/spec/routes/test", vec![json!(null)], vec![json!({})]),
        (
            "/spec/routes/stickiness",
            vec![json!({}), json!({"policy": "accept", "maxDuration": "1h"}), json!({"maxDuration": null})],
            vec![
                json!({"policy": "accept"}),
                json!({"policy": "accept", "maxDuration": null}),
                json!({"policy": "refuse", "maxDuration": "1h"}),
                json!({"maxDuration": "1h"}),
                json!({"policy": "maybe"}),
            ],
        ),
        (
            "/spec/taskSet",
            vec![
                json!({}),
                json!({"launchType": "EC2"}),
                json!({"launchType": "FARGATE", "capacityProviderStrategy": [], "platformVersion": "LATEST"}),
            ],
            vec![
                json!({"launchType": "EC2", "platformVersion": "LATEST"}),
                json!({"launchType": "EC2", "capacityProviderStrategy": [{"capacityProvider": "x"}]}),
                json!({"launchType": "EXTERNAL"}),
                json!(null),
            ],
        ),
        (
            "/spec/taskSet/capacityProviderStrategy",
            vec![
                json!([]),
                json!([{"capacityProvider": "x"}]),
                json!([{"capacityProvider": "x", "base": 100_000}, {"capacityProvider": "y", "base": 0, "weight": 1000}]),
            ],
            vec![
                json!([{"capacityProvider": ""}]),
                json!([{"capacityProvider": "x", "base": 100_001}]),
                json!([{"capacityProvider": "x", "weight": 1001}]),
                json!([{"capacityProvider": "x", "base": 1, "weight": 1}, {"capacityProvider": "y", "base": 1}]),
                json!([{"capacityProvider": "x"}, {"capacityProvider": "y"}]),
            ],
        ),
        (
            "/spec/taskSet/platformVersion",
            vec![json!("LATEST"), json!("1.4"), json!(null)],
            vec![json!("latest"), json!("1."), json!("1.2.3.4"), json!("")],
        ),
        (
            "/spec/taskSet/serviceRegistry",
            vec![json!("arn:aws:servicediscovery:eu-central-1:111122223333:service/srv-1")],
            vec![json!("srv-1")],
        ),
        (
            "/spec/taskSet/network/subnets",
            vec![subnets(1), subnets(16)],
            vec![
                subnets(0),
                subnets(17),
                json!(["subnet-1", "subnet-1"]),
                json!(["sg-1"]),
                json!(["subnet-"]),
            ],
        ),
        (
            "/spec/taskSet/network/securityGroups",
            vec![json!([])],
            vec![json!(["sg-1", "sg-2", "sg-3", "sg-4", "sg-5", "sg-6"]), json!(["subnet-1"])],
        ),
        (
            "/spec/taskSet/tags",
            vec![labels(40)],
            vec![
                labels(41),
                json!({"": "x"}),
                json!({"aws:x": "1"}),
                json!({"Pointsman:x": "1"}),
                json!({"x": "y".repeat(257)}),
                json!({"x".repeat(129): "y"}),
            ],
        ),
        (
            "/spec/alarms",
            vec![alarms(0), alarms(100)],
            vec![
                alarms(101),
                json!(["name"]),
                json!([{"name": "", "watches": "a"}]),
                json!([{"name": "x", "watches": "c"}]),
                json!([{"name": "a\u{7}", "watches": "a"}]),
            ],
        ),
        (
            "/spec/alarmPolicy",
            vec![json!({})],
            vec![json!({"unreadable": "ok"}), json!({"evidenceDeadline": 5})],
        ),
        (
            "/spec/strategies/own",
            vec![
                steps(1),
                steps(30),
                json!({"linear": {"weight": 3, "bake": "0s"}}),
                json!({"allAtOnce": {}, "canary": null}),
                step(json!({"pause": {}})),
                step(json!({"weight": 0.1, "bake": "1s", "pause": null})),
                step(json!({"weight": 0.3, "bake": "1s"})),
                step(json!({"weight": 99.9, "scale": 100.0, "bake": "1s"})),
            ],
            vec![
                steps(0),
                steps(31),
                json!({}),
                json!({"allAtOnce": null}),
                json!({"allAtOnce": {}, "canary": {"weight": 1, "bake": "1s"}}),
                json!({"linear": {"weight": 2.9, "bake": "0s"}}),
                json!({"linear": {"weight": 100, "bake": "0s"}}),
                json!({"canary": {"weight": 0, "bake": "0s"}}),
                json!({"canary": {"weight": 100, "bake": "0s"}}),
                step(json!({})),
                step(json!({"weight": 1})),
                step(json!({"bake": "1s"})),
                step(json!({"weight": 1, "bake": "1s", "pause": {}})),
                step(json!({"weight": 0, "bake": "1s"})),
                step(json!({"weight": 1, "scale": "all", "bake": "1s"})),
                step(json!({"weight": 100, "bake": "1s"})),
            ],
        ),
        ("/spec/strategies/CodeDeployDefault.Own", vec![], vec![json!({"allAtOnce": {}})]),
        ("/spec/strategies/-x", vec![], vec![json!({"allAtOnce": {}})]),
        (
            "/spec/strategies/fast/canary/weight",
            (1..1000_u16).step_by(7).map(|tenths| json!(f64::from(tenths) / 10.0)).collect(),
            vec![
                json!(0.05),
                json!(10.25),
                json!(0.300_000_000_000_000_04),
                json!(-1),
                json!("10"),
                json!(null),
                json!(1000),
            ],
        ),
        (
            "/spec/releaseMayChoose",
            vec![json!([])],
            vec![json!(["fast", "fast"]), json!([""]), json!("fast")],
        ),
        (
            "/spec/bake",
            vec![
                json!("0s"),
                json!("1h30m"),
                json!("1d"),
                json!("500ms"),
                json!("1m1s1ms"),
                json!("00000001s"),
            ],
            vec![
                json!(""),
                json!("15"),
                json!("m"),
                json!("1m1h"),
                json!("1s1s"),
                json!("-1s"),
                json!("1.5h"),
                json!(15),
                json!(null),
                json!("1 m"),
                json!("00000000001s"),
            ],
        ),
        ("/spec/adopt", vec![json!(null)], vec![json!({"taskSet": "ecs-svc/1"})]),
        // What serde by itself would take.
        ("/spec/deadlines", vec![json!({})], vec![json!([]), json!(["1m"]), json!(null)]),
        ("/spec/strategies/listed", vec![], vec![json!({"allAtOnce": []}), json!({"canary": [10, "5m"]})]),
        ("/spec/alarmPolicy/noData", vec![json!("ok")], vec![json!({"ok": null}), json!(["ok"])]),
        ("/spec/suspend", vec![json!(true)], vec![json!("true"), json!(null)]),
        (
            "/spec/drift",
            vec![json!({}), json!({"idle": "revert"})],
            vec![json!({"idle": "ignore"}), json!({"busy": "report"})],
        ),
    ];
    let good = document(service());
    agree("managed-service.v1.schema.json", &good, rows, |document| read_service(&key(), document).is_ok());
}

#[test]
fn schema_and_program_refuse_the_same_releases() {
    let rows = vec![
        (
            "/metadata/namespace",
            vec![],
            vec![json!(""), json!("Payments"), json!("a/b"), json!("-a"), long(64)],
        ),
        ("/metadata/annotations", vec![json!({})], vec![json!({"": "x"}), json!({"a": 1}), json!(null)]),
        ("/metadata/labels", vec![], vec![json!({})]),
        (
            "/spec/taskDefinition",
            vec![
                json!("a-b_C:999999999"),
                json!("arn:aws:ecs:eu-central-1:111122223333:task-definition/checkout:1"),
            ],
            vec![
                json!("checkout"),
                json!("checkout:0"),
                json!("checkout:01"),
                json!("checkout:latest"),
                json!(":1"),
                json!("a/b:1"),
                json!("checkout:1000000000"),
                json!("arn:aws:ecs:eu-central-1:111122223333:service/checkout:1"),
                json!("arn:aws:ecs:eu-central-1:111122223333:task-definition/checkout"),
            ],
        ),
        ("/spec/strategy", vec![json!(null), json!("x"), long(64)], vec![json!(""), json!("a b"), long(65)]),
        (
            "/spec/requestId",
            vec![json!(null), json!("a b ü"), long(64)],
            vec![json!(""), long(65), json!(1), json!("a\nb")],
        ),
    ];
    let good = document(release());
    agree("desired-release.v1.schema.json", &good, rows, |document| read_desired(&key(), document).is_ok());
}

#[test]
fn schema_and_program_refuse_the_same_commands() {
    let rows = vec![
        ("/metadata", vec![], vec![json!({})]),
        ("/expireAt", vec![json!(null), json!(0)], vec![json!(-1), json!("1")]),
        ("/spec/verb", vec![json!("promote")], vec![json!("abort"), json!("Promote")]),
        (
            "/spec/step",
            vec![json!(1), json!(65535), json!("all")],
            vec![json!(0), json!(65536), json!("every"), json!("1"), json!(null), json!(1.5)],
        ),
        (
            "/spec/release",
            vec![json!("a-b-1.1")],
            vec![json!("a"), json!("a-1"), json!("a-0.1"), json!("a-1.0"), json!("A-1.1"), json!("-1.1")],
        ),
        ("/spec/by", vec![json!("ines"), json!(null)], vec![json!(""), json!("a\tb"), long(513)]),
    ];
    let good = document(command());
    agree("command.v1.schema.json", &good, rows, |document| read_command(document).is_ok());
}

/// Every place in a document, as JSON pointers.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    let mut below = |name: String, value: &Value| {
        let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        self::places(value, &at, places);
        places.push(at);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| below(name.clone(), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| below(n.to_string(), value)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Any value at any place: what the program accepts the schema accepts, and what the program calls
    /// malformed the schema refuses.
    #[test]
    fn no_value_anywhere_divides_schema_and_program(place: Index, value in values(), add: bool) {
        thread_local!(static VALIDATOR: jsonschema::Validator = validator("managed-service.v1.schema.json"));
        let good = document(service());
        let mut all = Vec::new();
        places(&good, "", &mut all);
        let place = place.get(&all);
        let inside_map = good.pointer(place).is_some_and(Value::is_object);
        let pointer = if add && inside_map { format!("{place}/extra") } else { place.clone() };
        let changed = with(good, &pointer, value);
        let schema_accepts = VALIDATOR.with(|validator| validator.is_valid(&changed));
        match read_service(&key(), &changed) {
            Ok(_) => prop_assert!(schema_accepts, "only the schema refuses {pointer}"),
            Err((refusal, _)) if refusal.code == RefusalCode::Malformed => {
                prop_assert!(!schema_accepts, "only the program refuses {pointer}: {refusal}");
            }
            Err(_) => {}
        }
    }
}

/// Values that are nearly right somewhere.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(|bool| json!(bool)),
        (-2..200_000_i64).prop_map(|number| json!(number)),
        (-5..1_005_i32).prop_map(|tenths| json!(f64::from(tenths) / 10.0)),
        "[0-9]{0,3}[dhms]{0,2}".prop_map(|text| json!(text)),
        "[-a-zA-Z0-9_.:/ é]{0,12}".prop_map(|text| json!(text)),
        (500..520_usize).prop_map(long),
        select(vec![
            json!(null),
            json!([]),
            json!({}),
            json!([{}]),
            json!(["x"]),
            json!({"x": "y"}),
            json!("a"),
            json!("service"),
            json!("hold"),
            json!("ok"),
            json!("accept"),
            json!("EC2"),
            json!("follow"),
            json!({"allAtOnce": {}}),
            json!({"pause": {}}),
            json!({"weight": 3, "bake": "1s"}),
        ]),
    ]
}

#[test]
fn the_documentation_names_every_field() {
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/records.md");
    let documentation = fs::read_to_string(documentation).unwrap();
    for (name, schema) in schema::all() {
        if name.starts_with("release-status") {
            continue;
        }
        let definitions = schema.get("$defs").and_then(Value::as_object).unwrap().values();
        for properties in definitions.filter_map(|definition| definition.get("properties")?.as_object()) {
            for field in properties.keys() {
                let named =
                    documentation.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == field);
                assert!(named, "docs/records.md does not name {field} of {name}");
            }
        }
    }
}

/// What a schema cannot say; an editor accepts it, `pointsman check` and the daemon refuse it.
#[test]
fn what_needs_two_fields_or_a_duration_is_said_by_check_alone() {
    let validator = validator("managed-service.v1.schema.json");
    for (pointer, value) in [
        ("/spec/retention", json!("49h")),
        ("/spec/deadlines/start", json!("0s")),
        ("/spec/defaultStrategy", json!("nowhere")),
        ("/spec/targetGroups/a", service()["spec"]["targetGroups"]["b"].clone()),
        ("/spec/routes/production/1/name", json!("public")),
        (
            "/spec/strategies/own",
            json!({"steps": [{"weight": 5, "bake": "1s"}, {"weight": 4, "bake": "1s"}]}),
        ),
    ] {
        let document = with(document(service()), pointer, value);
        assert!(validator.is_valid(&document), "{pointer}");
        assert!(read_service(&key(), &document).is_err(), "{pointer}");
    }
}
