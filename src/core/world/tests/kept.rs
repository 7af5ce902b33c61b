//! A region that is written down and read back.

use super::{Scene, external, text};
use crate::world::{Address, Region};
use serde_json::json;

/// As a program does it that ends and starts again.
pub(super) fn read_back(region: &Region) -> Region {
    let written = serde_json::to_string(region).unwrap();
    serde_json::from_str::<Region>(&written).unwrap().tuned(region.tuning().clone())
}

/// A region with something of everything: two releases under way, one broken, a deleted set that drains,
/// tags, tokens, a deregistered revision, attributes, every kind of action.
fn busy() -> Scene {
    let mut scene = Scene::new();
    let (a, b) = (scene.a.clone(), scene.b.clone());
    let bad = scene.revision(&[("POINTSMAN_SIM", "crash")]);
    scene.delay(&a, 120);
    let old = scene.task_set("web:1", &a, 100);
    let mut request = Scene::request(&bad, &b, 50);
    request.client_token = Some("token-1".to_owned());
    request.external_id = Some("release-7".to_owned());
    scene.region.create_task_set(scene.now, request).unwrap();
    scene.settle(400);
    scene.weigh(900, 100);
    scene.ecs(
        "DeleteTaskSet",
        json!({ "cluster": "main", "service": "web", "taskSet": old.id, "force": true }),
    );
    let listener = scene.listener.clone();
    let made = scene.elb(
        "CreateRule",
        json!({ "ListenerArn": listener, "Priority": 20,
            "Conditions": [{ "Field": "http-header",
                "HttpHeaderConfig": { "HttpHeaderName": "X-Beta", "Values": ["yes"] } }],
            "Actions": [{ "Type": "redirect", "RedirectConfig": { "StatusCode": "HTTP_302", "Path": "/beta" } }],
            "Tags": [{ "Key": "team", "Value": "shop" }] }),
    );
    assert!(text(&made["Rules"][0]["RuleArn"]).contains("listener-rule"));
    scene.ecs("DeregisterTaskDefinition", json!({ "taskDefinition": bad }));
    scene.settle(3);
    scene
}

#[test]
fn a_busy_region_is_the_same_after_it_was_written_and_read() {
    let scene = busy();
    assert_eq!(read_back(&scene.region), scene.region);
}

#[test]
fn a_region_that_was_read_back_goes_on_as_the_one_that_was_written() {
    let mut scene = busy();
    let mut other = read_back(&scene.region);
    scene.settle(7_200);
    other.advance(scene.now);
    assert_eq!(other, scene.region);
    let (token, b) = (Some("token-1".to_owned()), scene.b.clone());
    let repeated = |region: &mut Region| {
        let request = super::CreateTaskSet { client_token: token.clone(), ..Scene::request("web:1", &b, 50) };
        region.create_task_set(scene.now, request)
    };
    assert_eq!(repeated(&mut other), repeated(&mut scene.region), "ids are drawn from the same counter");
}

#[test]
fn lost_tasks_stop_with_the_reason_and_all_are_replaced_at_once() {
    let mut scene = Scene::with(external());
    let group = scene.a.clone();
    scene.ecs("UpdateService", json!({ "cluster": "main", "service": "web", "desiredCount": 5 }));
    scene.task_set("web", &group, 100);
    let lost: Vec<String> = scene.region.task_orders().into_iter().map(|order| order.task).collect();
    for (task, port) in lost.iter().zip(4001..) {
        let address = Address { ip: "127.0.0.1".to_owned(), port };
        scene.region.task_started(scene.now, task, address);
    }
    scene.settle(5);
    scene.region.tasks_lost(scene.now, "the host is gone");

    // Five failed tasks would be replaced one after another; these did not fail.
    let orders = scene.region.task_orders();
    assert_eq!(orders.len(), 5);
    assert!(orders.iter().all(|order| order.run && !lost.contains(&order.task)));
    let (stopped, _) = scene.region.describe_tasks(scene.now, "main", &lost).unwrap();
    assert!(stopped.iter().all(|task| task.last_status == "STOPPED"));
    assert!(stopped.iter().all(|task| task.stopped_reason.as_deref() == Some("the host is gone")));
    let states = scene.states(&group);
    assert!(states.iter().all(|state| state == "draining"), "{states:?}");
}
