//! Large regions: a change costs in proportion to what it changes, and what is not looked at would not have
//! changed either.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Scene, external, forward, text};
use crate::world::ecs::TaskFilter;
use crate::world::watched::LOOKS;
use crate::world::{Address, Region};

const SERVICES: usize = 3;

fn named(index: usize) -> String {
    format!("service-{index}")
}

/// A scene with further EXTERNAL services of two tasks each; `web:2` is run by the model everywhere.
fn scene(services: usize) -> Scene {
    let mut scene = Scene::with(external());
    scene.revision(&[("POINTSMAN_SIM", "ghost")]);
    for index in 0..services {
        scene.ecs(
            "CreateService",
            json!({ "cluster": "main", "serviceName": named(index), "desiredCount": 2,
                "deploymentController": { "type": "EXTERNAL" } }),
        );
    }
    scene
}

fn set_request(service: usize, definition: &str, group: Option<&str>) -> Value {
    let mut request = json!({ "cluster": "main", "service": named(service), "taskDefinition": definition,
        "launchType": "FARGATE", "scale": { "value": 100, "unit": "PERCENT" },
        "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-1"] } } });
    if let Some(group) = group {
        request["loadBalancers"] =
            json!([{ "targetGroupArn": group, "containerName": "app", "containerPort": 80 }]);
    }
    request
}

/// A scene in which every further service has a steady task set of two ghosts.
fn fleet(services: usize) -> Scene {
    let mut scene = scene(services);
    for index in 0..services {
        scene.ecs("CreateTaskSet", set_request(index, "web:2", None));
    }
    scene.settle(600);
    scene
}

fn looks(act: impl FnOnce()) -> usize {
    LOOKS.set(0);
    act();
    LOOKS.get()
}

/// What one release costs beside a fleet of this size: a new task set becomes steady, the old one goes.
fn looks_of_a_release(services: usize) -> usize {
    let mut scene = fleet(services);
    let old = sets(&mut scene.region, scene.now, 1).remove(0);
    looks(|| {
        let group = scene.a.clone();
        scene.ecs("CreateTaskSet", set_request(1, "web:2", Some(&group)));
        scene.settle(600);
        scene.weigh(50, 50);
        let input = json!({ "cluster": "main", "service": named(1), "taskSet": old, "force": true });
        scene.ecs("DeleteTaskSet", input);
        scene.settle(600);
    })
}

fn sets(region: &mut Region, now: jiff::Timestamp, service: usize) -> Vec<String> {
    let (sets, _) = region.describe_task_sets(now, "main", &named(service), &[]).unwrap_or_default();
    sets.into_iter().map(|set| set.id).collect()
}

#[test]
fn a_release_looks_at_no_more_services_beside_a_large_fleet_than_beside_a_small_one() {
    let (small, large) = (looks_of_a_release(3), looks_of_a_release(60));
    assert!(small > 10, "the looks are counted: {small}");
    assert_eq!(small, large);
}

#[test]
fn time_that_passes_over_a_steady_fleet_looks_at_nothing() {
    let mut scene = fleet(20);
    assert_eq!(looks(|| scene.settle(86_400)), 0);
}

#[test]
fn a_ghost_becomes_healthy_without_a_process_beside_tasks_that_need_one() {
    let mut scene = scene(2);
    let (a, b) = (scene.a.clone(), scene.b.clone());
    scene.ecs("CreateTaskSet", set_request(0, "web:2", Some(&a)));
    scene.ecs("CreateTaskSet", set_request(1, "web:1", Some(&b)));
    let orders = scene.region.task_orders();
    assert_eq!(orders.iter().map(|order| order.revision.as_str()).collect::<Vec<_>>(), ["web:1", "web:1"]);
    scene.settle(600);
    assert_eq!(scene.states(&a), ["healthy", "healthy"]);
    assert!(scene.states(&b).is_empty());
    assert!(scene.region.probe_orders().is_empty(), "nobody else probes a ghost");
    let shown =
        scene.ecs("DescribeServices", json!({ "cluster": "main", "services": ["service-0", "service-1"] }));
    let status = |index: usize| text(&shown["services"][index]["taskSets"][0]["stabilityStatus"]);
    assert_eq!((status(0).as_str(), status(1).as_str()), ("STEADY_STATE", "STABILIZING"));
}

#[derive(Clone, Debug)]
enum Step {
    Create {
        service: usize,
        ghost: bool,
        group: usize,
    },
    Scale {
        service: usize,
        tenths: u32,
    },
    Delete {
        service: usize,
        set: usize,
    },
    Primary {
        service: usize,
    },
    Desired {
        service: usize,
        count: u32,
    },
    DropService {
        service: usize,
    },
    NewService {
        service: usize,
    },
    /// The groups that the rule forwards to: a, b or both.
    Wire(usize),
    Start(usize),
    Kill(usize),
    Break {
        task: usize,
        broken: bool,
    },
    Probe {
        healthy: bool,
    },
    Register {
        group: usize,
        host: u8,
    },
    Deregister {
        group: usize,
        host: u8,
    },
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let service = || 0..SERVICES;
    prop_oneof![
        3 => (service(), any::<bool>(), 0..3_usize)
            .prop_map(|(service, ghost, group)| Step::Create { service, ghost, group }),
        1 => (service(), 0..=1000_u32).prop_map(|(service, tenths)| Step::Scale { service, tenths }),
        1 => (service(), 0..3_usize).prop_map(|(service, set)| Step::Delete { service, set }),
        1 => service().prop_map(|service| Step::Primary { service }),
        1 => (service(), 0..4_u32).prop_map(|(service, count)| Step::Desired { service, count }),
        1 => service().prop_map(|service| Step::DropService { service }),
        1 => service().prop_map(|service| Step::NewService { service }),
        1 => (0..3_usize).prop_map(Step::Wire),
        3 => (0..6_usize).prop_map(Step::Start),
        1 => (0..6_usize).prop_map(Step::Kill),
        1 => (0..6_usize, any::<bool>()).prop_map(|(task, broken)| Step::Break { task, broken }),
        3 => any::<bool>().prop_map(|healthy| Step::Probe { healthy }),
        1 => (0..2_usize, 0..3_u8).prop_map(|(group, host)| Step::Register { group, host }),
        1 => (0..2_usize, 0..3_u8).prop_map(|(group, host)| Step::Deregister { group, host }),
        4 => (0..400_i64).prop_map(Step::Pass),
    ]
}

fn nth_task(scene: &mut Scene, index: usize) -> Option<String> {
    scene.region.list_tasks(scene.now, "main", &TaskFilter::default()).unwrap().into_iter().nth(index)
}

/// Takes one step. Most refusals are part of a history; the rest of it goes on.
fn take(scene: &mut Scene, step: &Step) {
    let now = scene.now;
    let groups = [scene.a.clone(), scene.b.clone()];
    let of = |service: &usize| json!({ "cluster": "main", "service": named(*service) });
    let with = |mut input: Value, member: &str, value: Value| {
        input[member] = value;
        input
    };
    let (operation, input) = match step {
        Step::Create { service, ghost, group } => {
            let definition = if *ghost { "web:2" } else { "web:1" };
            let group = groups.get(*group).map(String::as_str);
            ("CreateTaskSet", set_request(*service, definition, group))
        }
        Step::Scale { service, tenths } => {
            let Some(set) = sets(&mut scene.region, now, *service).pop() else { return };
            let scale = json!({ "value": f64::from(*tenths) / 10.0, "unit": "PERCENT" });
            ("UpdateTaskSet", with(with(of(service), "taskSet", set.into()), "scale", scale))
        }
        Step::Delete { service, set } => {
            let Some(set) = sets(&mut scene.region, now, *service).into_iter().nth(*set) else { return };
            let input = with(of(service), "taskSet", set.into());
            ("DeleteTaskSet", with(input, "force", true.into()))
        }
        Step::Primary { service } => {
            let Some(set) = sets(&mut scene.region, now, *service).pop() else { return };
            ("UpdateServicePrimaryTaskSet", with(of(service), "primaryTaskSet", set.into()))
        }
        Step::Desired { service, count } => {
            ("UpdateService", with(of(service), "desiredCount", (*count).into()))
        }
        Step::DropService { service } => ("DeleteService", with(of(service), "force", true.into())),
        Step::NewService { service } => (
            "CreateService",
            json!({ "cluster": "main", "serviceName": named(*service), "desiredCount": 1,
                "deploymentController": { "type": "EXTERNAL" } }),
        ),
        other => return happen(scene, other, &groups),
    };
    let _refused = scene.try_ecs(operation, input);
}

/// What is not a call of ECS.
fn happen(scene: &mut Scene, step: &Step, groups: &[String; 2]) {
    let now = scene.now;
    let host = |host: u8| format!("10.9.9.{host}");
    match step {
        Step::Wire(which) => {
            let forwarded: Vec<(&str, u32)> = match which {
                0 => vec![(&groups[0], 1)],
                1 => vec![(&groups[1], 1)],
                _ => vec![(&groups[0], 1), (&groups[1], 1)],
            };
            let rule = scene.rule.clone();
            scene.elb("ModifyRule", json!({ "RuleArn": rule, "Actions": [forward(&forwarded)] }));
        }
        Step::Start(index) => {
            let order = scene.region.task_orders().into_iter().filter(|order| order.run).nth(*index);
            if let Some(order) = order {
                let port = 4000 + u16::try_from(*index).unwrap();
                scene.region.task_started(now, &order.task, Address { ip: "127.0.0.1".to_owned(), port });
            }
        }
        Step::Kill(index) => {
            if let Some(task) = nth_task(scene, *index) {
                scene.region.kill_task(now, &task, 137);
            }
        }
        Step::Break { task, broken } => {
            if let Some(task) = nth_task(scene, *task) {
                scene.region.break_task(now, &task, *broken);
            }
        }
        Step::Probe { healthy } => {
            for order in scene.region.probe_orders() {
                scene.region.target_probed(now, &order.group, &order.target, *healthy, "");
            }
        }
        Step::Register { group, host: number } | Step::Deregister { group, host: number } => {
            let register = matches!(step, Step::Register { .. });
            let operation = if register { "RegisterTargets" } else { "DeregisterTargets" };
            let target = json!([{ "Id": host(*number), "Port": 80 }]);
            let _refused =
                scene.try_elb(operation, json!({ "TargetGroupArn": groups[*group], "Targets": target }));
        }
        Step::Pass(secs) => scene.settle(*secs),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_look_at_everything_finds_nothing_that_was_left_out(steps in proptest::collection::vec(step(), 1..50)) {
        let mut scene = scene(SERVICES);
        for step in steps {
            take(&mut scene, &step);
            scene.region.advance(scene.now);
            prop_assert_eq!(&scene.region.scanned(scene.now), &scene.region, "after {:?}", step);
        }
    }
}
