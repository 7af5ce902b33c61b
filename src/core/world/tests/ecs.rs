//! Task sets, services and tasks (`aws-facts.md` §1).

use jiff::SignedDuration;
use serde_json::json;

use super::{Scene, text};
use crate::world::Tuning;
use crate::world::ecs::{Scale, StabilityStatus, TaskFilter, TaskSetStatus, Tenths};

#[test]
fn the_computed_desired_count_is_always_rounded_up() {
    let mut scene = Scene::new();
    let set = scene.task_set("web", &scene.a.clone(), 0);
    for (desired, tenths, computed) in [
        (12, 100, 2),
        (2, 1000, 2),
        (2, 500, 1),
        (2, 501, 2),
        (3, 1, 1),
        (1000, 1, 1),
        (2, 0, 0),
        (0, 1000, 0),
    ] {
        scene.ecs("UpdateService", json!({ "cluster": "main", "service": "web", "desiredCount": desired }));
        let scale = Scale::tenths(tenths);
        let updated = scene.region.update_task_set(scene.now, "main", "web", &set.id, scale).unwrap();
        assert_eq!(updated.computed_desired_count, computed, "{desired} at {tenths} tenths of a percent");
    }
}

#[test]
fn a_task_set_without_a_scale_has_zero_percent() {
    let mut scene = Scene::new();
    let mut request = Scene::request("web", &scene.a, 0);
    request.scale = None;
    let set = scene.region.create_task_set(scene.now, request).unwrap();
    assert_eq!((set.scale.value, set.computed_desired_count), (Tenths(0), 0));
}

#[test]
fn a_task_set_stabilizes_until_its_targets_are_healthy_and_then_is_steady() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    let set = scene.task_set("web", &group, 100);
    assert_eq!(
        (set.stability_status, set.running_count, set.pending_count),
        (StabilityStatus::Stabilizing, 0, 0)
    );
    scene.settle(10);
    assert_eq!(scene.set(&set.id).unwrap().pending_count, 2);
    scene.settle(20);
    let running = scene.set(&set.id).unwrap();
    assert_eq!((running.running_count, running.pending_count), (2, 0));
    assert_eq!(running.stability_status, StabilityStatus::Stabilizing, "its targets are not healthy yet");
    assert_eq!(scene.states(&group), ["initial", "initial"]);
    scene.settle(60);
    assert_eq!(scene.states(&group), ["healthy", "healthy"]);
    assert_eq!(scene.set(&set.id).unwrap().stability_status, StabilityStatus::SteadyState);
    assert_eq!(scene.region.next_due(), None, "a settled region has nothing due");
}

#[test]
fn a_changed_scale_ends_the_steady_state_at_once() {
    let mut scene = Scene::new();
    let set = scene.task_set("web", &scene.a.clone(), 100);
    scene.settle(120);
    assert_eq!(scene.set(&set.id).unwrap().stability_status, StabilityStatus::SteadyState);
    let changed =
        scene.region.update_task_set(scene.now, "main", "web", &set.id, Scale::percent(50)).unwrap();
    assert_eq!(changed.stability_status, StabilityStatus::Stabilizing);
}

#[test]
fn a_failing_target_ends_the_steady_state_and_its_task_is_replaced() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    let set = scene.task_set("web", &group, 100);
    scene.settle(120);
    let tasks = scene.region.list_tasks(scene.now, "main", &TaskFilter::default()).unwrap();
    assert!(scene.region.break_task(scene.now, &tasks[0], true));
    scene.settle(61);
    assert_eq!(scene.set(&set.id).unwrap().stability_status, StabilityStatus::Stabilizing);
    let mut states = scene.states(&group);
    states.sort();
    assert_eq!(states, ["draining", "healthy"]);
    scene.settle(600);
    assert_eq!(scene.set(&set.id).unwrap().stability_status, StabilityStatus::SteadyState);
    let (old, _) = scene.region.describe_tasks(scene.now, "main", &tasks[..1]).unwrap();
    assert_eq!(old[0].last_status, "STOPPED");
    assert_eq!(
        old[0].stopped_reason.as_deref(),
        Some(format!("Task failed ELB health checks in (target-group {group})").as_str())
    );
}

#[test]
fn the_grace_period_delays_the_replacement_of_an_unhealthy_task() {
    let mut scene = Scene::new();
    let bad = scene.revision(&[("POINTSMAN_SIM", "unhealthy")]);
    scene.ecs(
        "UpdateService",
        json!({ "cluster": "main", "service": "web", "healthCheckGracePeriodSeconds": 600 }),
    );
    let group = scene.a.clone();
    scene.task_set(&bad, &group, 100);
    scene.settle(590);
    assert_eq!(scene.states(&group), ["unhealthy", "unhealthy"]);
    scene.settle(60);
    assert!(scene.states(&group).contains(&"draining".to_owned()));
}

#[test]
fn a_crash_loop_never_becomes_steady_and_backs_off() {
    let mut scene = Scene::new();
    let bad = scene.revision(&[("POINTSMAN_SIM", "crash")]);
    let group = scene.a.clone();
    let set = scene.task_set(&bad, &group, 100);
    scene.delay(&group, 0);
    scene.settle(600);
    let stopped = TaskFilter { desired_status: Some("STOPPED".to_owned()), ..TaskFilter::default() };
    let early = scene.region.list_tasks(scene.now, "main", &stopped).unwrap();
    scene.settle(600);
    let late = scene.region.list_tasks(scene.now, "main", &stopped).unwrap();
    assert!(early.len() > 4, "{}", early.len());
    assert!(late.len() - early.len() < early.len(), "restarts become rarer");
    let (tasks, _) = scene.region.describe_tasks(scene.now, "main", &early[..1]).unwrap();
    assert_eq!(tasks[0].containers[0]["exitCode"], 1);
    assert_eq!(tasks[0].stopped_reason.as_deref(), Some("Essential container in task exited"));
    assert_eq!(tasks[0].started_by, set.id);
    assert_eq!(scene.set(&set.id).unwrap().stability_status, StabilityStatus::Stabilizing);
}

#[test]
fn an_image_that_cannot_be_pulled_leaves_stopped_tasks_without_exit_code() {
    let mut scene = Scene::new();
    let bad = scene.revision(&[("POINTSMAN_SIM", "pull-error")]);
    scene.task_set(&bad, &scene.a.clone(), 100);
    scene.settle(30);
    let stopped = TaskFilter { desired_status: Some("STOPPED".to_owned()), ..TaskFilter::default() };
    let tasks = scene.region.list_tasks(scene.now, "main", &stopped).unwrap();
    let (tasks, _) = scene.region.describe_tasks(scene.now, "main", &tasks).unwrap();
    assert!(tasks[0].stopped_reason.as_deref().unwrap().starts_with("CannotPullContainerError"));
    assert!(tasks[0].containers[0].get("exitCode").is_none());
}

#[test]
fn stopped_tasks_can_be_described_for_an_hour() {
    let mut scene = Scene::new();
    scene.task_set("web", &scene.a.clone(), 100);
    scene.settle(120);
    let tasks = scene.region.list_tasks(scene.now, "main", &TaskFilter::default()).unwrap();
    assert!(scene.region.kill_task(scene.now, &tasks[0], 137));
    scene.settle(3599);
    assert_eq!(scene.region.describe_tasks(scene.now, "main", &tasks[..1]).unwrap().0.len(), 1);
    scene.settle(1);
    let (found, missing) = scene.region.describe_tasks(scene.now, "main", &tasks[..1]).unwrap();
    assert_eq!((found.len(), missing[0].reason.as_str()), (0, "MISSING"));
}

#[test]
fn a_sixth_task_set_is_refused_in_aws_words() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.task_set("web", &scene.a.clone(), 0);
    }
    let request = Scene::request("web", &scene.a, 0);
    let refused = scene.region.create_task_set(scene.now, request).unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    assert_eq!(
        refused.message,
        "5 deployments exist on the service. Unable to create new TaskSet since this exceeds the maximum limit."
    );
}

#[test]
fn draining_task_sets_count_to_the_limit_unless_tuned() {
    for count in [true, false] {
        let mut scene = Scene::with(Tuning { draining_sets_count: count, ..Tuning::default() });
        for _ in 0..5 {
            scene.task_set("web", &scene.a.clone(), 100);
        }
        scene.settle(60);
        let (sets, _) = scene.region.describe_task_sets(scene.now, "main", "web", &[]).unwrap();
        scene.region.delete_task_set(scene.now, "main", "web", &sets[0].id, true).unwrap();
        let request = Scene::request("web", &scene.a, 0);
        assert_eq!(scene.region.create_task_set(scene.now, request).is_err(), count);
    }
}

#[test]
fn a_client_token_dedupes_for_its_life_and_refuses_other_parameters() {
    let mut scene = Scene::new();
    let mut request = Scene::request("web", &scene.a, 100);
    request.client_token = Some("token-1".to_owned());
    let first = scene.region.create_task_set(scene.now, request.clone()).unwrap();
    let again = scene.region.create_task_set(scene.now, request.clone()).unwrap();
    assert_eq!(first.id, again.id);
    let mut other = request.clone();
    other.scale = Some(Scale::percent(50));
    assert_eq!(scene.region.create_task_set(scene.now, other).unwrap_err().code, "InvalidParameterException");
    scene.settle(601);
    assert_ne!(scene.region.create_task_set(scene.now, request).unwrap().id, first.id);
}

#[test]
fn a_target_group_without_load_balancer_is_refused_in_aws_words() {
    let mut scene = Scene::new();
    let lonely = scene.group("lonely");
    let request = Scene::request("web", &lonely, 100);
    let refused = scene.region.create_task_set(scene.now, request).unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    assert_eq!(
        refused.message,
        format!("The target group with targetGroupArn {lonely} does not have an associated load balancer.")
    );
}

#[test]
fn a_task_set_needs_a_known_definition_container_port_and_scale() {
    let mut scene = Scene::new();
    let good = Scene::request("web", &scene.a, 100);
    let mut cases = Vec::new();
    let mut bad = good.clone();
    bad.task_definition = "nope:9".to_owned();
    cases.push((bad, "ClientException"));
    let mut bad = good.clone();
    bad.launch.load_balancers[0].container_name = Some("other".to_owned());
    cases.push((bad, "InvalidParameterException"));
    let mut bad = good.clone();
    bad.launch.load_balancers[0].container_port = Some(81);
    cases.push((bad, "InvalidParameterException"));
    let mut bad = good.clone();
    bad.scale = Some(Scale::percent(101));
    cases.push((bad, "InvalidParameterException"));
    let mut bad = good.clone();
    bad.launch.network_configuration = None;
    cases.push((bad, "InvalidParameterException"));
    let mut bad = good.clone();
    bad.launch.load_balancers.push(bad.launch.load_balancers[0].clone());
    cases.push((bad, "InvalidParameterException"));
    let mut bad = good.clone();
    bad.service = "nope".to_owned();
    cases.push((bad, "ServiceNotFoundException"));
    let mut bad = good;
    bad.cluster = Some("nope".to_owned());
    cases.push((bad, "ClusterNotFoundException"));
    for (bad, code) in cases {
        let before = scene.region.clone();
        let refused = scene.region.create_task_set(scene.now, bad).unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
        assert_eq!(scene.region, before, "a refused call changes nothing");
    }
}

#[test]
fn a_primary_task_set_cannot_be_deleted_not_even_by_force() {
    let mut scene = Scene::new();
    let set = scene.task_set("web", &scene.a.clone(), 0);
    scene.region.update_service_primary_task_set(scene.now, "main", "web", &set.task_set_arn).unwrap();
    let refused = scene.region.delete_task_set(scene.now, "main", "web", &set.id, true).unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("InvalidParameterException", "Primary TaskSet cannot be deleted")
    );
}

#[test]
fn a_scaled_task_set_is_deleted_only_by_force_and_drains_until_its_targets_are_gone() {
    let mut scene = Scene::new();
    let group = scene.b.clone();
    let set = scene.task_set("web", &group, 100);
    scene.settle(120);
    let refused = scene.region.delete_task_set(scene.now, "main", "web", &set.id, false).unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    let deleted = scene.region.delete_task_set(scene.now, "main", "web", &set.id, true).unwrap();
    assert_eq!(deleted.status, TaskSetStatus::Draining);
    scene.settle(299);
    assert_eq!(scene.states(&group), ["draining", "draining"]);
    let draining = scene.set(&set.id).unwrap();
    assert_eq!((draining.status, draining.computed_desired_count), (TaskSetStatus::Draining, 0));
    scene.settle(2);
    assert!(scene.states(&group).is_empty());
    assert!(scene.set(&set.id).is_some(), "its tasks still have their stop time-out");
    scene.settle(30);
    assert!(scene.set(&set.id).is_none());
    let gone = scene.region.delete_task_set(scene.now, "main", "web", &set.id, true).unwrap_err();
    assert_eq!(gone.code, "TaskSetNotFoundException");
}

#[test]
fn a_new_primary_demotes_the_old_one_and_moves_no_task() {
    let mut scene = Scene::new();
    let blue = scene.task_set("web", &scene.a.clone(), 100);
    let second = scene.revision(&[]);
    let green = scene.task_set(&second, &scene.b.clone(), 100);
    scene.settle(120);
    scene.region.update_service_primary_task_set(scene.now, "main", "web", &blue.id).unwrap();
    scene.region.update_service_primary_task_set(scene.now, "main", "web", &green.task_set_arn).unwrap();
    let (blue, green) = (scene.set(&blue.id).unwrap(), scene.set(&green.id).unwrap());
    assert_eq!((blue.status, green.status), (TaskSetStatus::Active, TaskSetStatus::Primary));
    assert_eq!((blue.running_count, green.running_count), (2, 2));
    let described = scene.ecs("DescribeServices", json!({ "cluster": "main", "services": ["web"] }));
    let service = &described["services"][0];
    assert_eq!(service["taskDefinition"], second.as_str(), "the service shows its primary's fields");
    assert_eq!(service["loadBalancers"][0]["targetGroupArn"], scene.b.as_str());
    assert_eq!(service["runningCount"], 4);
    assert_eq!(service["taskSets"].as_array().unwrap().len(), 2);
    assert_eq!(service["deployments"], json!([]));
}

#[test]
fn a_service_without_primary_has_no_task_definition() {
    let mut scene = Scene::new();
    scene.task_set("web", &scene.a.clone(), 100);
    let described = scene.ecs("DescribeServices", json!({ "cluster": "main", "services": ["web"] }));
    assert!(described["services"][0].get("taskDefinition").is_none());
}

#[test]
fn an_external_service_takes_nothing_that_belongs_to_task_sets() {
    let mut scene = Scene::new();
    let base =
        json!({ "cluster": "main", "serviceName": "other", "deploymentController": { "type": "EXTERNAL" } });
    for (member, value) in [
        ("taskDefinition", json!("web")),
        ("launchType", json!("FARGATE")),
        ("schedulingStrategy", json!("DAEMON")),
        (
            "deploymentConfiguration",
            json!({ "deploymentCircuitBreaker": { "enable": true, "rollback": true } }),
        ),
    ] {
        let mut input = base.clone();
        input[member] = value;
        assert_eq!(
            scene.try_ecs("CreateService", input).unwrap_err().code,
            "InvalidParameterException",
            "{member}"
        );
    }
    let made = scene.ecs("CreateService", base);
    assert_eq!(
        (made["service"]["status"].clone(), made["service"]["desiredCount"].clone()),
        (json!("ACTIVE"), json!(0))
    );
    for member in ["taskDefinition", "networkConfiguration", "platformVersion", "deploymentConfiguration"] {
        let mut input = json!({ "cluster": "main", "service": "other" });
        input[member] = json!("x");
        assert_eq!(
            scene.try_ecs("UpdateService", input).unwrap_err().code,
            "InvalidParameterException",
            "{member}"
        );
    }
}

#[test]
fn an_ecs_controlled_service_runs_tasks_rolls_over_and_refuses_task_sets() {
    let mut scene = Scene::new();
    let input = json!({ "cluster": "main", "serviceName": "plain", "desiredCount": 2, "taskDefinition": "web:1",
        "launchType": "FARGATE", "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-1"] } },
        "loadBalancers": [{ "targetGroupArn": scene.a, "containerName": "app", "containerPort": 80 }] });
    scene.ecs("CreateService", input);
    let mut request = Scene::request("web", &scene.b, 100);
    request.service = "plain".to_owned();
    let refused = scene.region.create_task_set(scene.now, request).unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    scene.settle(120);
    scene.revision(&[]);
    scene.ecs("UpdateService", json!({ "cluster": "main", "service": "plain", "taskDefinition": "web:2" }));
    scene.settle(900);
    let described = scene.ecs("DescribeServices", json!({ "cluster": "main", "services": ["plain"] }));
    let service = &described["services"][0];
    assert_eq!((service["runningCount"].clone(), service["pendingCount"].clone()), (json!(2), json!(0)));
    assert_eq!(service["deployments"].as_array().unwrap().len(), 1);
    assert!(text(&service["taskDefinition"]).ends_with("web:2"));
    assert!(service.get("taskSets").is_none());
}

#[test]
fn a_deleted_service_drains_becomes_inactive_and_its_name_can_be_used_again() {
    let mut scene = Scene::new();
    scene.task_set("web", &scene.a.clone(), 100);
    scene.settle(120);
    let name = json!({ "cluster": "main", "service": "web" });
    assert_eq!(scene.try_ecs("DeleteService", name.clone()).unwrap_err().code, "InvalidParameterException");
    let mut forced = name;
    forced["force"] = json!(true);
    assert_eq!(scene.ecs("DeleteService", forced)["service"]["status"], "DRAINING");
    scene.settle(400);
    let described = scene.ecs("DescribeServices", json!({ "cluster": "main", "services": ["web"] }));
    assert_eq!(described["services"][0]["status"], "INACTIVE");
    assert_eq!(scene.ecs("ListServices", json!({ "cluster": "main" }))["serviceArns"], json!([]));
    let request = Scene::request("web", &scene.a, 100);
    let refused = scene.region.create_task_set(scene.now, request).unwrap_err();
    assert_eq!(refused.code, "ServiceNotActiveException");
    let again =
        json!({ "cluster": "main", "serviceName": "web", "deploymentController": { "type": "EXTERNAL" } });
    assert_eq!(scene.ecs("CreateService", again)["service"]["status"], "ACTIVE");
}

#[test]
fn started_by_cannot_be_combined_with_another_filter() {
    let mut scene = Scene::new();
    let set = scene.task_set("web", &scene.a.clone(), 100);
    let both = json!({ "cluster": "main", "serviceName": "web", "startedBy": set.id });
    assert_eq!(scene.try_ecs("ListTasks", both).unwrap_err().code, "InvalidParameterException");
    let listed = scene.ecs("ListTasks", json!({ "cluster": "main", "startedBy": set.id }));
    assert_eq!(listed["taskArns"].as_array().unwrap().len(), 2);
}

#[test]
fn lists_of_arns_come_in_pages() {
    let mut scene = Scene::new();
    scene.task_set("web", &scene.a.clone(), 100);
    let first = scene.ecs("ListTasks", json!({ "cluster": "main", "maxResults": 1 }));
    let rest = json!({ "cluster": "main", "maxResults": 1, "nextToken": first["nextToken"] });
    let second = scene.ecs("ListTasks", rest);
    assert_ne!(first["taskArns"], second["taskArns"]);
    assert!(second.get("nextToken").is_none());
}

#[test]
fn describe_services_takes_ten_and_reports_unknown_ones_as_missing() {
    let mut scene = Scene::new();
    let found = scene.ecs("DescribeServices", json!({ "cluster": "main", "services": ["web", "nope"] }));
    assert_eq!(found["services"].as_array().unwrap().len(), 1);
    assert_eq!(found["failures"][0]["reason"], "MISSING");
    let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let refused =
        scene.try_ecs("DescribeServices", json!({ "cluster": "main", "services": many })).unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
}

#[test]
fn a_family_without_revision_means_its_latest_active_one() {
    let mut scene = Scene::new();
    let second = scene.revision(&[]);
    let described = |scene: &mut Scene, name: &str| {
        scene.try_ecs("DescribeTaskDefinition", json!({ "taskDefinition": name, "include": ["TAGS"] }))
    };
    assert_eq!(described(&mut scene, "web").unwrap()["taskDefinition"]["revision"], 2);
    scene.ecs("DeregisterTaskDefinition", json!({ "taskDefinition": second }));
    assert_eq!(described(&mut scene, "web").unwrap()["taskDefinition"]["revision"], 1);
    assert_eq!(described(&mut scene, &second).unwrap()["taskDefinition"]["status"], "INACTIVE");
    let request = Scene::request(&second, &scene.a, 100);
    assert_eq!(scene.region.create_task_set(scene.now, request).unwrap_err().code, "ClientException");
    assert_eq!(described(&mut scene, "nope:1").unwrap_err().code, "ClientException");
    let foreign = second.replace("eu-west-1", "us-east-1");
    assert_eq!(described(&mut scene, &foreign).unwrap_err().code, "ClientException");
}

#[test]
fn tags_of_services_and_task_sets_can_be_set_listed_and_removed() {
    let mut scene = Scene::new();
    let set = scene.task_set("web", &scene.a.clone(), 0);
    let arn = set.task_set_arn;
    scene.ecs("TagResource", json!({ "resourceArn": arn, "tags": [{ "key": "k", "value": "v" }] }));
    let listed = scene.ecs("ListTagsForResource", json!({ "resourceArn": arn }));
    assert_eq!(listed["tags"], json!([{ "key": "k", "value": "v" }]));
    assert_eq!(scene.set(&set.id).unwrap().tags.len(), 1);
    scene.ecs("UntagResource", json!({ "resourceArn": arn, "tagKeys": ["k"] }));
    assert!(scene.set(&set.id).unwrap().tags.is_empty());
}

#[test]
fn identifiers_have_their_real_shapes_and_repeat_from_run_to_run() {
    let made = |_| {
        let mut scene = Scene::new();
        let set = scene.task_set("web", &scene.a.clone(), 100);
        (set, scene.region)
    };
    let ((set, first), (_, second)) = (made(0), made(1));
    assert_eq!(first, second);
    let digits = set.id.strip_prefix("ecs-svc/").unwrap();
    assert!(digits.len() == 19 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
    assert!(set.task_set_arn.ends_with(&format!(":task-set/main/web/{}", set.id)));
}

#[test]
fn all_that_is_due_happens_in_one_step_as_in_many() {
    let run = |step: i64| {
        let mut scene = Scene::new();
        let bad = scene.revision(&[("POINTSMAN_SIM", "unhealthy")]);
        scene.task_set("web:1", &scene.a.clone(), 100);
        scene.task_set(&bad, &scene.b.clone(), 50);
        let end = scene.now + SignedDuration::from_secs(3000);
        while scene.now < end {
            scene.settle(step);
        }
        scene.region
    };
    assert_eq!(run(3000), run(1));
}
