//! Random walks: whatever is called and whatever breaks, the region keeps its own rules and comes to rest.

use proptest::prelude::*;

use super::Scene;
use super::kept::read_back;
use crate::world::ecs::{Scale, StabilityStatus, TaskFilter, TaskSet, TaskSetStatus, UpdateService};

#[derive(Clone, Copy, Debug)]
enum Step {
    Create { bad: bool, in_b: bool, percent: u32 },
    Scale { set: usize, tenths: u32 },
    Delete { set: usize, force: bool },
    Primary { set: usize },
    Desired(u32),
    Weigh(u32),
    Kill(usize),
    Break(usize),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), any::<bool>(), 0..=110_u32).prop_map(|(bad, in_b, percent)| Step::Create {
            bad,
            in_b,
            percent
        }),
        (0..5_usize, 0..=1000_u32).prop_map(|(set, tenths)| Step::Scale { set, tenths }),
        (0..5_usize, any::<bool>()).prop_map(|(set, force)| Step::Delete { set, force }),
        (0..5_usize).prop_map(|set| Step::Primary { set }),
        (0..6_u32).prop_map(Step::Desired),
        (0..=100_u32).prop_map(Step::Weigh),
        (0..8_usize).prop_map(Step::Kill),
        (0..8_usize).prop_map(Step::Break),
        (0..400_i64).prop_map(Step::Pass),
    ]
}

fn sets(scene: &mut Scene) -> Vec<TaskSet> {
    scene.region.describe_task_sets(scene.now, "main", "web", &[]).unwrap().0
}

fn nth_set(scene: &mut Scene, index: usize) -> Option<String> {
    sets(scene).into_iter().nth(index).map(|set| set.id)
}

fn nth_task(scene: &mut Scene, index: usize) -> Option<String> {
    scene.region.list_tasks(scene.now, "main", &TaskFilter::default()).unwrap().into_iter().nth(index)
}

/// Takes one step; whether a call was refused.
fn take(scene: &mut Scene, step: Step, bad_definition: &str) -> bool {
    let now = scene.now;
    let (a, b) = (scene.a.clone(), scene.b.clone());
    match step {
        Step::Create { bad, in_b, percent } => {
            let definition = if bad { bad_definition } else { "web:1" };
            let request = Scene::request(definition, if in_b { &b } else { &a }, percent);
            scene.region.create_task_set(now, request).is_err()
        }
        Step::Scale { set, tenths } => nth_set(scene, set).is_some_and(|id| {
            scene.region.update_task_set(now, "main", "web", &id, Scale::tenths(tenths)).is_err()
        }),
        Step::Delete { set, force } => nth_set(scene, set)
            .is_some_and(|id| scene.region.delete_task_set(now, "main", "web", &id, force).is_err()),
        Step::Primary { set } => nth_set(scene, set)
            .is_some_and(|id| scene.region.update_service_primary_task_set(now, "main", "web", &id).is_err()),
        Step::Desired(count) => {
            let update = UpdateService {
                cluster: Some("main".to_owned()),
                service: "web".to_owned(),
                desired_count: Some(count),
                ..UpdateService::default()
            };
            scene.region.update_service(now, update).is_err()
        }
        Step::Weigh(percent) => {
            scene.weigh(100 - percent, percent);
            false
        }
        Step::Kill(task) => {
            nth_task(scene, task).is_some_and(|task| !scene.region.kill_task(now, &task, 137))
        }
        Step::Break(task) => {
            if let Some(task) = nth_task(scene, task) {
                scene.region.break_task(now, &task, true);
            }
            false
        }
        Step::Pass(secs) => {
            scene.settle(secs);
            false
        }
    }
}

fn check(scene: &mut Scene) {
    let all = sets(scene);
    assert!(all.len() <= 5);
    assert!(all.iter().filter(|set| set.status == TaskSetStatus::Primary).count() <= 1);
    let (services, _) = scene.region.describe_services(scene.now, "main", &["web".to_owned()]).unwrap();
    let service = &services[0];
    for set in &all {
        let tenths = u32::try_from(set.scale.value.0).unwrap();
        let wanted = (service.desired_count * tenths).div_ceil(1000);
        let computed = if set.status == TaskSetStatus::Draining { 0 } else { wanted };
        assert_eq!(set.computed_desired_count, computed);
        if set.stability_status == StabilityStatus::SteadyState {
            assert_eq!((set.running_count, set.pending_count), (computed, 0));
            let own = TaskFilter { started_by: Some(set.id.clone()), ..TaskFilter::default() };
            assert_eq!(scene.region.list_tasks(scene.now, "main", &own).unwrap().len(), computed as usize);
        }
    }
    assert_eq!(service.running_count, running(scene), "DescribeServices and DescribeTasks agree");
    scene.region.advance(scene.now);
    assert!(scene.region.next_due().is_none_or(|due| due > scene.now));
}

fn running(scene: &mut Scene) -> u32 {
    let mut count = 0;
    for status in ["RUNNING", "STOPPED"] {
        let filter = TaskFilter { desired_status: Some(status.to_owned()), ..TaskFilter::default() };
        let tasks = scene.region.list_tasks(scene.now, "main", &filter).unwrap();
        for hundred in tasks.chunks(100) {
            let (tasks, _) = scene.region.describe_tasks(scene.now, "main", hundred).unwrap();
            let runs = |status: &str| status == "RUNNING" || status == "DEACTIVATING";
            count += tasks.iter().filter(|task| runs(&task.last_status)).count();
        }
    }
    u32::try_from(count).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_region_keeps_its_rules_and_comes_to_rest(steps in proptest::collection::vec(step(), 1..40)) {
        let mut scene = Scene::new();
        let bad = scene.revision(&[("POINTSMAN_SIM", "crash")]);
        for step in steps {
            scene.region.advance(scene.now);
            let before = scene.region.clone();
            if take(&mut scene, step, &bad) {
                prop_assert_eq!(&scene.region, &before, "a refused call changes nothing: {:?}", step);
            }
            check(&mut scene);
        }
        prop_assert_eq!(&read_back(&scene.region), &scene.region, "it can be written and read back");
        scene.settle(7200);
        check(&mut scene);
        for set in sets(&mut scene) {
            prop_assert_ne!(set.status, TaskSetStatus::Draining);
            let steady = set.stability_status == StabilityStatus::SteadyState;
            let crashes = set.task_definition == bad && set.computed_desired_count > 0;
            prop_assert!(steady != crashes, "{:?}", set);
        }
    }
}
