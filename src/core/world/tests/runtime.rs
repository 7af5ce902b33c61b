//! A region whose tasks are run by someone outside.

use super::{Scene, external};
use crate::world::ecs::StabilityStatus;
use crate::world::{Address, ProbeCheck};

fn local(port: u16) -> Address {
    Address { ip: "127.0.0.1".to_owned(), port }
}

/// A scene with two started, healthy tasks in group a; the task set's id and the tasks.
fn running() -> (Scene, String, Vec<String>) {
    let mut scene = Scene::with(external());
    let group = scene.a.clone();
    let set = scene.task_set("web", &group, 100);
    let orders = scene.region.task_orders();
    let tasks: Vec<String> = orders.iter().map(|order| order.task.clone()).collect();
    for (task, port) in tasks.iter().zip(4001..) {
        scene.region.task_started(scene.now, task, local(port));
    }
    scene.settle(5);
    for order in scene.region.probe_orders() {
        scene.region.target_probed(scene.now, &order.group, &order.target, true, "");
    }
    scene.settle(10);
    (scene, set.id, tasks)
}

#[test]
fn tasks_are_ordered_started_probed_and_become_steady() {
    let mut scene = Scene::with(external());
    let group = scene.a.clone();
    scene.task_set("web", &group, 100);
    let orders = scene.region.task_orders();
    assert_eq!(orders.len(), 2);
    assert!(orders.iter().all(|order| order.run && order.container == "app" && order.container_port == 80));
    assert_eq!(orders[0].revision, "web:1");
    let (mut scene, set, tasks) = running();
    let orders = scene.region.task_orders();
    let ordered: Vec<_> = orders.iter().filter(|order| order.run).map(|order| order.task.clone()).collect();
    assert_eq!(ordered, tasks, "what runs stays ordered");
    assert_eq!(scene.states(&group), ["healthy", "healthy"]);
    assert_eq!(scene.set(&set).unwrap().stability_status, StabilityStatus::SteadyState);
}

#[test]
fn nothing_is_probed_while_registration_is_in_progress() {
    let mut scene = Scene::with(external());
    scene.task_set("web", &scene.a.clone(), 100);
    let order = scene.region.task_orders().remove(0);
    scene.region.task_started(scene.now, &order.task, local(4001));
    assert!(scene.region.probe_orders().is_empty());
    scene.settle(5);
    let probe = scene.region.probe_orders().remove(0);
    assert_eq!(probe.target, local(4001));
    assert_eq!((probe.interval_ms, probe.timeout_ms), (30_000, 5_000));
    let check = ProbeCheck::Http { path: "/".to_owned(), matcher: vec![(200, 200)] };
    assert_eq!(probe.check, check);
}

#[test]
fn a_crashed_process_is_replaced_and_remembered_with_reason_and_exit_code() {
    let (mut scene, set, tasks) = running();
    scene.region.task_stopped(scene.now, &tasks[0], Some(137), "Essential container in task exited");
    assert_eq!(scene.set(&set).unwrap().stability_status, StabilityStatus::Stabilizing);
    let orders = scene.region.task_orders();
    assert!(orders.iter().all(|order| order.run && order.task != tasks[0]));
    assert_eq!(orders.len(), 2, "the one left and the replacement");
    let (old, _) = scene.region.describe_tasks(scene.now, "main", &tasks[..1]).unwrap();
    assert_eq!(old[0].containers[0]["exitCode"], 137);
}

#[test]
fn a_failed_probe_gives_the_reason_and_enough_of_them_replace_the_task() {
    let (mut scene, _, tasks) = running();
    let group = scene.a.clone();
    let codes = "Health checks failed with these codes: [500]";
    for _ in 0..2 {
        scene.region.target_probed(scene.now, &group, &local(4001), false, codes);
    }
    let described = scene.region.describe_target_health(scene.now, &group).unwrap();
    assert_eq!(described[0].target_health.state, "draining", "unhealthy, and so replaced at once");
    let (old, _) = scene.region.describe_tasks(scene.now, "main", &tasks).unwrap();
    assert_eq!(old.iter().filter(|task| task.last_status == "DEACTIVATING").count(), 1);
}

#[test]
fn a_deleted_set_is_told_to_stop_only_after_its_targets_have_drained() {
    let (mut scene, set, tasks) = running();
    scene.region.delete_task_set(scene.now, "main", "web", &set, true).unwrap();
    scene.settle(299);
    assert!(scene.region.task_orders().iter().all(|order| order.run));
    scene.settle(1);
    let orders = scene.region.task_orders();
    assert!(orders.len() == 2 && orders.iter().all(|order| !order.run));
    for task in &tasks {
        scene.region.task_stopped(scene.now, task, Some(143), "");
    }
    assert!(scene.set(&set).is_none());
}

#[test]
fn a_task_that_starts_after_it_was_told_to_stop_takes_no_traffic() {
    let mut scene = Scene::with(external());
    let group = scene.a.clone();
    let set = scene.task_set("web", &group, 100);
    let task = scene.region.task_orders().remove(0).task;
    scene.region.delete_task_set(scene.now, "main", "web", &set.id, true).unwrap();
    scene.region.task_started(scene.now, &task, local(4001));
    assert!(scene.states(&group).is_empty());
    assert!(scene.region.task_orders().iter().all(|order| !order.run));
}

#[test]
fn a_deleted_set_stays_until_the_targets_of_its_crashed_tasks_are_gone_too() {
    let (mut scene, set, tasks) = running();
    for task in &tasks {
        scene.region.task_stopped(scene.now, task, Some(1), "Essential container in task exited");
    }
    scene.region.delete_task_set(scene.now, "main", "web", &set, true).unwrap();
    for order in scene.region.task_orders() {
        scene.region.task_stopped(scene.now, &order.task, None, "");
    }
    scene.settle(299);
    assert!(scene.set(&set).is_some(), "no task is left, but its targets still drain");
    scene.settle(1);
    assert!(scene.set(&set).is_none());
}
