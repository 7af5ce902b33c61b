//! What the AWS adapters make of the region's answers. The fault harness (`tests/proof`) reads by it too.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pointsman_core::model::effect::Shares;
use pointsman_core::model::observed::{
    ForwardAction, LoadBalancer, Preflight, Service, ServiceStatus, Targets, TaskDefinition, TaskSet,
    TaskSetStatus,
};
use pointsman_core::model::{Acknowledgement, Answer, Effect, RefusalClass, Revision};
use pointsman_core::records::{Group, Percent, Span};
use pointsman_core::world::{ApiError, Region, ecs, elb};

/// Both groups.
pub const GROUPS: [Group; 2] = [Group::A, Group::B];

/// The ARNs of a pair of groups.
pub type Arns = BTreeMap<Group, String>;

/// The service of this name, which may be missing.
pub fn service(region: &mut Region, now: Timestamp, cluster: &str, name: &str, groups: &Arns) -> Service {
    let (found, _) = region.describe_services(now, cluster, &[name.to_owned()]).expect("describes");
    let Some(service) = found.into_iter().next() else {
        return Service {
            status: ServiceStatus::Missing,
            external: false,
            desired_count: 0,
            task_sets: Vec::new(),
        };
    };
    let status = match service.status {
        ecs::ServiceStatus::Active => ServiceStatus::Active,
        ecs::ServiceStatus::Draining => ServiceStatus::Draining,
        ecs::ServiceStatus::Inactive => ServiceStatus::Inactive,
    };
    Service {
        status,
        external: service.deployment_controller.kind == "EXTERNAL",
        desired_count: service.desired_count,
        task_sets: service.task_sets.unwrap_or_default().iter().map(|set| task_set(set, groups)).collect(),
    }
}

fn task_set(set: &ecs::TaskSet, groups: &Arns) -> TaskSet {
    let arn = group_arn(set);
    TaskSet {
        arn: set.task_set_arn.clone(),
        external_id: set.external_id.clone(),
        revision: set.task_definition.parse().expect("a revision"),
        status: match set.status {
            ecs::TaskSetStatus::Primary => TaskSetStatus::Primary,
            ecs::TaskSetStatus::Active => TaskSetStatus::Active,
            ecs::TaskSetStatus::Draining => TaskSetStatus::Draining,
        },
        group: GROUPS.into_iter().find(|group| arn.as_ref() == Some(&groups[group])),
        scale: u16::try_from(set.scale.value.0).ok().and_then(Percent::from_tenths).expect("a percentage"),
        computed: set.computed_desired_count,
        running: set.running_count,
        pending: set.pending_count,
        steady: set.stability_status == ecs::StabilityStatus::SteadyState,
    }
}

/// What is asked before a release starts.
pub fn preflight(
    region: &mut Region,
    now: Timestamp,
    revision: &Revision,
    groups: &Arns,
    load_balancer: LoadBalancer,
) -> Preflight {
    let found = region.describe_task_definition(now, &revision.to_string()).ok();
    let task_definition = found.map(|found| TaskDefinition {
        active: found.status == "ACTIVE",
        awsvpc: true,
        containers: BTreeMap::from([("web".to_owned(), BTreeSet::from([8080]))]),
    });
    let targets = groups.iter().map(|(group, arn)| (*group, targets(region, now, arn))).collect();
    Preflight { task_definition, load_balancer, targets }
}

/// The targets of a group, counted by their health.
pub fn targets(region: &mut Region, now: Timestamp, group: &str) -> Targets {
    let mut counted = Targets::default();
    for target in region.describe_target_health(now, group).expect("describes") {
        match target.target_health.state.as_str() {
            "healthy" => counted.healthy += 1,
            "initial" => counted.initial += 1,
            "draining" => counted.draining += 1,
            "unused" => counted.unused += 1,
            _ => counted.unhealthy += 1,
        }
    }
    counted
}

/// Every rule of the listener: each forwards somewhere.
pub fn load_balancer(region: &mut Region, now: Timestamp, listener: &str, arn: &str) -> LoadBalancer {
    let rules = region.describe_rules(now, Some(listener), &[]).expect("describes");
    let action = |rule: &elb::Rule| ForwardAction {
        owner: rule.rule_arn.clone(),
        load_balancer: arn.to_owned(),
        groups: tuples(&rule.actions),
        sticky: sticky_of(&rule.actions).map(|seconds| Span::from_secs(seconds.into())),
        unknown_action: None,
        oidc: false,
    };
    let mine = BTreeSet::from([arn.to_owned()]);
    let of_groups = GROUPS.into_iter().map(|group| (group, mine.clone())).collect();
    LoadBalancer { of_groups, actions: rules.iter().map(action).collect() }
}

/// What the adapters make of an error: the rows of `src/aws/error/table.rs` that this region can bring about.
pub fn answered(effect: &Effect, error: &ApiError) -> Answer {
    let (code, message) = (error.code.as_str(), error.message.to_lowercase());
    let class = match effect {
        Effect::DeleteTaskSet { .. } if code == "TaskSetNotFoundException" => {
            return Answer::Acknowledged(Acknowledgement::Done);
        }
        Effect::DeleteTaskSet { .. } if message.contains("primary taskset") => RefusalClass::Conflict,
        Effect::CreateTaskSet { .. } if message.contains("maximum limit") => RefusalClass::Conflict,
        _ if code == "ServiceNotActiveException" => RefusalClass::Conflict,
        _ => RefusalClass::Permanent,
    };
    Answer::Refused { class, message: error.to_string() }
}

/// The group that the tasks of a set register with.
pub fn group_arn(set: &ecs::TaskSet) -> Option<String> {
    set.launch.load_balancers.first()?.target_group_arn.clone()
}

/// The groups that actions forward to, each with its weight.
pub fn tuples(actions: &[elb::Action]) -> Vec<(String, u32)> {
    actions
        .iter()
        .filter_map(|action| action.forward_config.as_ref())
        .flat_map(|forward| &forward.target_groups)
        .map(|tuple| (tuple.target_group_arn.clone(), tuple.weight.unwrap_or(1)))
        .collect()
}

/// For how many seconds a client stays with its group.
pub fn sticky_of(actions: &[elb::Action]) -> Option<u32> {
    let forwards = actions.iter().filter_map(|action| action.forward_config.as_ref());
    let mut sticky = forwards.filter_map(|forward| forward.target_group_stickiness_config.as_ref());
    sticky.find(|sticky| sticky.enabled == Some(true)).and_then(|sticky| sticky.duration_seconds)
}

/// The shares of a pair of groups, when both are there.
pub fn shares_of(actions: &[elb::Action], groups: &Arns) -> Option<Shares> {
    let tuples = tuples(actions);
    let of = |group: Group| tuples.iter().find(|(arn, _)| *arn == groups[&group]).map(|(_, weight)| *weight);
    Some(Shares { a: of(Group::A)?, b: of(Group::B)? })
}
