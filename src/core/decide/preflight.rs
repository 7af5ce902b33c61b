//! Judges whether a release may start, from reads alone. What can never work is refused with the field and the
//! fix; what may pass by itself is waited for.

use std::collections::{BTreeMap, BTreeSet};

use super::WaitingOn;
use super::evidence::is_armed;
use super::start::Before;
use crate::model::effect::{Shares, short};
use crate::model::facts::{ReleaseKind, Version};
use crate::model::observed::{Alarm, AlarmState, Preflight, Service, ServiceStatus, TaskSetStatus, Weights};
use crate::model::{Plan, Revision, Seen};
use crate::records::check::{Refusal, RefusalCode};
use crate::records::managed_service::{Route, StickinessPolicy};
use crate::records::{Group, Span};

/// What preflight found.
pub(super) enum Finding {
    /// It can start, from here.
    Fit(Ground),
    /// It may pass.
    Passing(WaitingOn),
    /// It can never work as written.
    Impossible(Refusal),
}

/// Where a release starts from.
pub(super) struct Ground {
    pub(super) kind: ReleaseKind,
    pub(super) candidate_group: Group,
    pub(super) weights: Before,
    pub(super) desired_count: u32,
}

/// Everything preflight looks at.
pub(super) struct Question<'a> {
    pub(super) plan: &'a Plan,
    pub(super) revision: &'a Revision,
    pub(super) service: &'a Service,
    pub(super) read: &'a Preflight,
    pub(super) routes: &'a BTreeMap<String, Seen<Weights>>,
    pub(super) alarms: &'a BTreeMap<String, Seen<Alarm>>,
    pub(super) break_glass: &'a BTreeSet<String>,
    pub(super) stable: Option<&'a Version>,
    pub(super) returning: Option<&'a Version>,
    pub(super) external_prefix: &'a str,
}

type Verdict<T> = Result<T, Finding>;

/// Judges everything, the impossible before the passing.
pub(super) fn examine(question: &Question<'_>) -> Finding {
    match try_examine(question) {
        Ok(ground) => Finding::Fit(ground),
        Err(finding) => finding,
    }
}

fn try_examine(q: &Question<'_>) -> Verdict<Ground> {
    service_is_fit(q)?;
    task_definition_is_fit(q)?;
    load_balancer_is_fit(q)?;
    let stable = serving_version(q)?;
    let weights = live_weights(q)?;
    let (kind, candidate_group) = side(q, stable, &weights)?;
    alarms_exist(q)?;
    candidate_group_is_free(q, candidate_group)?;
    alarms_are_quiet(q, candidate_group)?;
    if q.service.desired_count == 0 {
        return Err(Finding::Passing(WaitingOn::ServiceScaledToZero));
    }
    Ok(Ground { kind, candidate_group, weights, desired_count: q.service.desired_count })
}

fn refuse<T>(
    code: RefusalCode,
    field: &str,
    value: impl Into<String>,
    allowed: &str,
    fix: &str,
) -> Verdict<T> {
    Err(Finding::Impossible(Refusal {
        code,
        field: field.to_owned(),
        value: value.into(),
        allowed: allowed.to_owned(),
        fix: fix.to_owned(),
    }))
}

fn service_is_fit(q: &Question<'_>) -> Verdict<()> {
    let field = "spec.ecs.service";
    let fix = "create it with deploymentController {type: EXTERNAL}, or correct the ARN";
    match q.service.status {
        ServiceStatus::Active => {}
        other => {
            let value = format!("{other:?}").to_uppercase();
            return refuse(RefusalCode::ServiceUnfit, field, value, "an ACTIVE service", fix);
        }
    }
    if !q.service.external {
        let allowed = "deployment controller EXTERNAL";
        return refuse(RefusalCode::ServiceUnfit, field, "another deployment controller", allowed, fix);
    }
    Ok(())
}

fn task_definition_is_fit(q: &Question<'_>) -> Verdict<()> {
    if q.returning.is_some() {
        // It runs already; whether its definition is still ACTIVE does not matter (`semantics` 4.3).
        return Ok(());
    }
    let code = RefusalCode::TaskDefinitionUnfit;
    let field = "spec.taskDefinition";
    let Some(found) = &q.read.task_definition else {
        return refuse(
            code,
            field,
            format!("{} (unknown to ECS)", q.revision),
            "a registered revision",
            "register it first",
        );
    };
    if !found.active {
        return refuse(
            code,
            field,
            format!("{} (INACTIVE)", q.revision),
            "an ACTIVE revision",
            "register a new revision",
        );
    }
    let container = &q.plan.spec.container;
    let Some(ports) = found.containers.get(&container.name) else {
        let names: Vec<&str> = found.containers.keys().map(String::as_str).collect();
        let value = format!("{} with containers {}", q.revision, names.join(", "));
        return refuse(
            code,
            field,
            value,
            &format!("a container {}", container.name),
            "name the container as the ManagedService does",
        );
    };
    if !ports.contains(&container.port.get()) {
        let value = format!("{} whose container {} maps {ports:?}", q.revision, container.name);
        return refuse(
            code,
            field,
            value,
            &format!("port {}", container.port),
            "map the port, or correct spec.container.port",
        );
    }
    if found.awsvpc && q.plan.spec.task_set.network.is_none() {
        return refuse(
            RefusalCode::Inconsistent,
            "spec.taskSet.network",
            "absent",
            "subnets, because the task definition has network mode awsvpc",
            "add spec.taskSet.network.subnets",
        );
    }
    Ok(())
}

fn load_balancer_is_fit(q: &Question<'_>) -> Verdict<()> {
    let lb = &q.read.load_balancer;
    let mut all = BTreeSet::new();
    for group in [Group::A, Group::B] {
        let of_group = lb.of_groups.get(&group).cloned().unwrap_or_default();
        if of_group.len() != 1 {
            let value =
                format!("{} with {} load balancers", q.plan.spec.target_groups.of(group), of_group.len());
            return refuse(
                RefusalCode::LoadBalancerUnfit,
                &format!("spec.targetGroups.{group}"),
                value,
                "a target group that a rule or listener of exactly one load balancer names",
                "name both groups in the production rule with weights 1 and 0",
            );
        }
        all.extend(of_group);
    }
    if all.len() != 1 || !all.iter().all(|arn| arn.contains(":loadbalancer/app/")) {
        let value = all.into_iter().collect::<Vec<_>>().join(", ");
        return refuse(
            RefusalCode::LoadBalancerUnfit,
            "spec.targetGroups",
            value,
            "one Application Load Balancer for both groups",
            "put both groups behind the same Application Load Balancer",
        );
    }
    for route in q.plan.routes() {
        route_is_fit(q, route)?;
    }
    no_foreign_rule(q)
}

fn route_is_fit(q: &Question<'_>, route: &Route) -> Verdict<()> {
    let field = format!("spec.routes ({})", route.name);
    let owner = route.rule.as_ref().or(route.listener_default.as_ref()).map_or("", |arn| arn.as_str());
    let Some(action) = q.read.load_balancer.actions.iter().find(|action| action.owner == owner) else {
        let allowed = "a rule or listener of the groups' load balancer that forwards to both groups";
        return refuse(
            RefusalCode::RouteUnfit,
            &field,
            owner,
            allowed,
            "correct the ARN, or name both groups in it",
        );
    };
    let groups = &q.plan.spec.target_groups;
    let named: BTreeSet<&str> = action.groups.iter().map(|(arn, _)| arn.as_str()).collect();
    if named != BTreeSet::from([groups.a.as_str(), groups.b.as_str()]) {
        let value = named.iter().map(|arn| short_group(arn)).collect::<Vec<_>>().join(", ");
        let allowed = "exactly the two groups a and b";
        return refuse(
            RefusalCode::RouteUnfit,
            &field,
            value,
            allowed,
            "make the forward action name both groups, one at weight 0",
        );
    }
    if let Some(kind) = &action.unknown_action {
        let fix = "take the action out of the rule, or use a daemon that knows it";
        return refuse(
            RefusalCode::RouteUnfit,
            &field,
            format!("action type {kind}"),
            "action types that this daemon knows",
            fix,
        );
    }
    if let Some(duration) = action.sticky {
        sticky_is_accepted(q, &field, duration)?;
    }
    Ok(())
}

fn sticky_is_accepted(q: &Question<'_>, field: &str, duration: Span) -> Verdict<()> {
    let stickiness = &q.plan.spec.routes.stickiness;
    let accepted = stickiness.policy == StickinessPolicy::Accept
        && stickiness.max_duration.is_some_and(|longest| duration <= longest);
    if accepted {
        return Ok(());
    }
    refuse(
        RefusalCode::Sticky,
        field,
        format!("group stickiness of {duration}"),
        "no group stickiness, or routes.stickiness: {policy: accept, maxDuration} of at least that",
        "turn it off: a cookie keeps clients on their old version whatever the weights",
    )
}

fn no_foreign_rule(q: &Question<'_>) -> Verdict<()> {
    let ours: BTreeSet<&str> = q
        .plan
        .routes()
        .filter_map(|route| route.rule.as_ref().or(route.listener_default.as_ref()))
        .map(crate::records::names::Arn::as_str)
        .collect();
    let groups = &q.plan.spec.target_groups;
    let foreign = q.read.load_balancer.actions.iter().find(|action| {
        !ours.contains(action.owner.as_str())
            && action.groups.iter().any(|(arn, _)| groups.group_of(arn).is_some())
    });
    match foreign {
        None => Ok(()),
        Some(action) => refuse(
            RefusalCode::GroupUsedElsewhere,
            "spec.targetGroups",
            action.owner.clone(),
            "groups that only the routes of this record forward to",
            "add that rule to spec.routes, or point it elsewhere",
        ),
    }
}

/// The version that serves by our records, if its task set is there and is what we think.
fn serving_version<'a>(q: &Question<'a>) -> Verdict<Option<&'a Version>> {
    let ours = |external_id: &Option<String>| {
        external_id.as_ref().is_some_and(|id| id.starts_with(q.external_prefix))
    };
    if let Some(foreign) = q.service.task_sets.iter().find(|set| !ours(&set.external_id)) {
        return refuse(
            RefusalCode::ForeignTaskSet,
            "spec.ecs.service",
            format!("task set {} of {}", short(&foreign.arn), foreign.revision),
            "a service whose task sets this daemon made",
            "delete it, or give the daemon a new service: taking over (spec.adopt) is not possible yet",
        );
    }
    let Some(stable) = q.stable else { return Ok(None) };
    match q.service.task_sets.iter().find(|set| set.arn == stable.task_set) {
        Some(set) if set.status != TaskSetStatus::Draining => {
            if set.group == Some(stable.group) {
                return Ok(Some(stable));
            }
            refuse(
                RefusalCode::Inconsistent,
                "spec.targetGroups",
                format!("the serving task set {} is not in group {}", short(&stable.task_set), stable.group),
                "the groups as they were when it was made",
                "put the group ARNs back; names a and b never move",
            )
        }
        // Nothing serves any more; what comes now is a first release.
        Some(_) | None => Ok(None),
    }
}

fn live_weights(q: &Question<'_>) -> Verdict<Before> {
    let mut weights = Before::new();
    for route in q.plan.routes() {
        match q.routes.get(&route.name) {
            Some(Seen::Known(Weights::Pair(shares))) => {
                weights.insert(route.name.clone(), *shares);
            }
            // The whole load balancer was judged above; this read will follow.
            seen => {
                let what = match seen {
                    Some(Seen::Unknown(why)) => why.clone(),
                    Some(Seen::Known(Weights::NotOurPair(what))) => what.clone(),
                    Some(Seen::Known(Weights::Gone)) => "it does not exist".to_owned(),
                    Some(Seen::Known(Weights::Pair(_))) | None => "not read yet".to_owned(),
                };
                let what = format!("route {}: {what}", route.name);
                return Err(Finding::Passing(WaitingOn::Observation { what }));
            }
        }
    }
    Ok(weights)
}

/// All production routes must stand at one side: stable's, or any one side when nothing serves yet.
fn side(q: &Question<'_>, stable: Option<&Version>, weights: &Before) -> Verdict<(ReleaseKind, Group)> {
    let production: Vec<(&str, Shares)> = q
        .plan
        .spec
        .routes
        .production
        .iter()
        .filter_map(|route| Some((route.name.as_str(), *weights.get(&route.name)?)))
        .collect();
    let stands_at = |group: Group| {
        production.iter().all(|(_, shares)| shares.of(group) > 0 && shares.of(group.other()) == 0)
    };
    let kind = match (q.returning.is_some(), stable.is_some()) {
        (true, true) => ReleaseKind::Return,
        (_, true) => ReleaseKind::Ordinary,
        (_, false) => ReleaseKind::First,
    };
    let serving = match stable {
        Some(stable) => Some(stable.group).filter(|group| stands_at(*group)),
        None => [Group::A, Group::B].into_iter().find(|group| stands_at(*group)),
    };
    if let Some(serving) = serving {
        return Ok((kind, serving.other()));
    }
    let split: Vec<String> =
        production.iter().map(|(name, shares)| format!("{name} a {} / b {}", shares.a, shares.b)).collect();
    refuse(
        RefusalCode::WeightsSplit,
        "spec.routes.production",
        split.join("; "),
        "all traffic of every production route on the group that serves",
        "set the weights to (1, 0) for the serving group, or spec.drift.idle to revert",
    )
}

fn alarms_exist(q: &Question<'_>) -> Verdict<()> {
    for alarm in &q.plan.spec.alarms {
        match q.alarms.get(&alarm.name) {
            Some(Seen::Known(read)) if read.state == AlarmState::Missing => {
                return refuse(
                    RefusalCode::AlarmMissing,
                    "spec.alarms",
                    alarm.name.clone(),
                    "names of alarms that exist",
                    "create the alarm, or correct its name (names are exact)",
                );
            }
            Some(Seen::Known(_)) => {}
            seen => {
                let why = match seen {
                    Some(Seen::Unknown(why)) => why.clone(),
                    Some(Seen::Known(_)) | None => "not read yet".to_owned(),
                };
                let what = format!("alarm {}: {why}", alarm.name);
                return Err(Finding::Passing(WaitingOn::Observation { what }));
            }
        }
    }
    Ok(())
}

fn candidate_group_is_free(q: &Question<'_>, group: Group) -> Verdict<()> {
    if q.returning.is_some_and(|version| version.group == group) {
        return Ok(());
    }
    let listed = q.service.task_sets.iter().any(|set| set.group == Some(group));
    let targets = q.read.targets.get(&group).map_or(0, crate::model::observed::Targets::total);
    if listed || targets > 0 {
        return Err(Finding::Passing(WaitingOn::GroupBusy { group }));
    }
    Ok(())
}

/// A service whose armed alarm burns does not start a release.
fn alarms_are_quiet(q: &Question<'_>, candidate: Group) -> Verdict<()> {
    let burning = q.plan.spec.alarms.iter().find(|alarm| {
        is_armed(alarm.watches, candidate)
            && !q.break_glass.contains(&alarm.name)
            && matches!(q.alarms.get(&alarm.name), Some(Seen::Known(read)) if read.state == AlarmState::Alarm)
    });
    match burning {
        None => Ok(()),
        Some(alarm) => Err(Finding::Passing(WaitingOn::AlarmBeforeStart { alarm: alarm.name.clone() })),
    }
}

/// `name` of `arn:…:targetgroup/name/id`.
fn short_group(arn: &str) -> &str {
    arn.rsplit('/').nth(1).unwrap_or(arn)
}
