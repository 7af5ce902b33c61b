//! Whether the ARNs of a record are of the right kind, and of one account, region, cluster and load balancer.

use super::{Findings, RefusalCode};
use crate::records::managed_service::{ManagedServiceSpec, Route};
use crate::records::names::Arn;

/// `(load balancer as "app/name/id")` of a rule or listener ARN, when it is one of an Application Load
/// Balancer.
fn load_balancer<'a>(arn: &'a Arn, kind: &str, parts: usize) -> Option<&'a str> {
    let rest = arn.resource().strip_prefix(kind)?.strip_prefix('/')?;
    let pieces: Vec<&str> = rest.split('/').collect();
    let full = pieces.len() == parts && pieces.iter().all(|piece| !piece.is_empty()) && pieces[0] == "app";
    if !full {
        return None;
    }
    let end = pieces[..3].iter().map(|piece| piece.len() + 1).sum::<usize>() - 1;
    Some(&rest[..end])
}

/// The resource after `kind/`, when the ARN is of `service` and its resource has `parts` non-empty parts.
fn resource<'a>(arn: &'a Arn, service: &str, kind: &str, parts: usize) -> Option<&'a str> {
    let rest = arn.resource().strip_prefix(kind)?.strip_prefix('/')?;
    let fits = arn.service() == service
        && rest.split('/').count() == parts
        && rest.split('/').all(|part| !part.is_empty());
    fits.then_some(rest)
}

pub(super) fn judge(spec: &ManagedServiceSpec, findings: &mut Findings) {
    judge_ecs(spec, findings);
    judge_groups(spec, findings);
    judge_routes(spec, findings);
    judge_homes(spec, findings);
}

fn judge_ecs(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let cluster = resource(&spec.ecs.cluster, "ecs", "cluster", 1);
    if cluster.is_none() {
        findings.add(
            RefusalCode::OutOfBounds,
            "spec.ecs.cluster",
            &spec.ecs.cluster,
            "arn:aws:ecs:<region>:<account>:cluster/<name>",
            "give the cluster's ARN",
        );
    }
    let Some(service) = resource(&spec.ecs.service, "ecs", "service", 2) else {
        findings.add(
            RefusalCode::OutOfBounds,
            "spec.ecs.service",
            &spec.ecs.service,
            "arn:aws:ecs:<region>:<account>:service/<cluster>/<name>",
            "give the service's long ARN, with its cluster in it",
        );
        return;
    };
    let inside = service.split_once('/').map(|(cluster, _)| cluster);
    if cluster.is_some() && inside != cluster {
        findings.add(
            RefusalCode::Inconsistent,
            "spec.ecs.service",
            &spec.ecs.service,
            format!("a service of {}", spec.ecs.cluster),
            "name the cluster that the service is in",
        );
    }
}

fn judge_groups(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let groups = &spec.target_groups;
    for (field, arn) in [("spec.targetGroups.a", &groups.a), ("spec.targetGroups.b", &groups.b)] {
        if resource(arn, "elasticloadbalancing", "targetgroup", 2).is_none() {
            findings.add(
                RefusalCode::OutOfBounds,
                field,
                arn,
                "arn:aws:elasticloadbalancing:<region>:<account>:targetgroup/<name>/<id>",
                "give the target group's ARN",
            );
        }
    }
    if groups.a == groups.b {
        findings.add(
            RefusalCode::Inconsistent,
            "spec.targetGroups.b",
            &groups.b,
            "another target group than a",
            "create a second target group: each version of the service has one of its own",
        );
    }
    if let Some(registry) = &spec.task_set.service_registry
        && resource(registry, "servicediscovery", "service", 1).is_none()
    {
        findings.add(
            RefusalCode::OutOfBounds,
            "spec.taskSet.serviceRegistry",
            registry,
            "arn:aws:servicediscovery:<region>:<account>:service/<id>",
            "give the Cloud Map service's ARN",
        );
    }
}

/// Field path and route, production first.
pub(super) fn routes(spec: &ManagedServiceSpec) -> impl Iterator<Item = (String, &Route)> {
    let production = spec.routes.production.iter().enumerate();
    let production = production.map(|(i, route)| (format!("spec.routes.production[{i}]"), route));
    production.chain(spec.routes.test.iter().map(|route| ("spec.routes.test".to_owned(), route)))
}

fn judge_routes(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let mut first: Option<&str> = None;
    for (field, route) in routes(spec) {
        let (field, arn, balancer, allowed) = match (&route.rule, &route.listener_default) {
            (Some(arn), None) => {
                let allowed = "arn:aws:elasticloadbalancing:<region>:<account>:listener-rule/app/<name>/<id>/<listener>/<rule>";
                (format!("{field}.rule"), arn, load_balancer(arn, "listener-rule", 5), allowed)
            }
            (None, Some(arn)) => {
                let allowed =
                    "arn:aws:elasticloadbalancing:<region>:<account>:listener/app/<name>/<id>/<listener>";
                (format!("{field}.listenerDefault"), arn, load_balancer(arn, "listener", 4), allowed)
            }
            (None, None) | (Some(_), Some(_)) => {
                let both = route.rule.is_some();
                findings.add(
                    RefusalCode::Inconsistent,
                    field,
                    if both { "a route with rule and listenerDefault" } else { "a route without an ARN" },
                    "exactly one of rule and listenerDefault",
                    if both { "make two routes of it" } else { "add one of them" },
                );
                continue;
            }
        };
        let Some(balancer) = balancer.filter(|_| arn.service() == "elasticloadbalancing") else {
            judge_strange_route(field, arn, allowed, findings);
            continue;
        };
        if *first.get_or_insert(balancer) != balancer {
            findings.add(
                RefusalCode::LoadBalancerUnfit,
                field,
                arn,
                format!("a rule or listener of {}", first.unwrap_or_default()),
                "list routes of one Application Load Balancer: a target group belongs to one only",
            );
        }
    }
}

/// The ARN of a route, whichever it is.
pub(super) fn route_arn(route: &Route) -> Option<&Arn> {
    route.rule.as_ref().or(route.listener_default.as_ref())
}

/// What a service has for itself alone, with the field that names it: the ECS service, both groups, every
/// route (`semantics` 4.1, step 4).
pub(super) fn claimed(spec: &ManagedServiceSpec) -> impl Iterator<Item = (String, &Arn)> {
    let own = [
        ("spec.ecs.service".to_owned(), &spec.ecs.service),
        ("spec.targetGroups.a".to_owned(), &spec.target_groups.a),
        ("spec.targetGroups.b".to_owned(), &spec.target_groups.b),
    ];
    own.into_iter().chain(routes(spec).filter_map(|(field, route)| Some((field, route_arn(route)?))))
}

fn judge_strange_route(field: String, arn: &Arn, allowed: &str, findings: &mut Findings) {
    let kind = arn.resource().split('/').nth(1).unwrap_or_default();
    let (code, fix) = match kind {
        "net" | "gwy" => (
            RefusalCode::LoadBalancerUnfit,
            "use an Application Load Balancer: network and gateway load balancers are not supported",
        ),
        _ => (RefusalCode::OutOfBounds, "give the ARN of a rule in rule, of a listener in listenerDefault"),
    };
    findings.add(code, field, arn, allowed, fix);
}

/// Everything is of the partition, region and account of the ECS service.
fn judge_homes(spec: &ManagedServiceSpec, findings: &mut Findings) {
    let home = &spec.ecs.service;
    let digits = home.account().len() == 12 && home.account().bytes().all(|b| b.is_ascii_digit());
    if !digits {
        findings.add(
            RefusalCode::OutOfBounds,
            "spec.ecs.service",
            home,
            "an account id of 12 digits",
            "give the full ARN",
        );
    }
    let mut arns = vec![
        ("spec.ecs.cluster".to_owned(), &spec.ecs.cluster),
        ("spec.targetGroups.a".to_owned(), &spec.target_groups.a),
        ("spec.targetGroups.b".to_owned(), &spec.target_groups.b),
    ];
    for (field, route) in routes(spec) {
        arns.extend(route.rule.iter().map(|arn| (format!("{field}.rule"), arn)));
        arns.extend(route.listener_default.iter().map(|arn| (format!("{field}.listenerDefault"), arn)));
    }
    let registry = spec.task_set.service_registry.iter();
    arns.extend(registry.map(|arn| ("spec.taskSet.serviceRegistry".to_owned(), arn)));
    for (field, arn) in arns {
        let same = arn.partition() == home.partition()
            && arn.region() == home.region()
            && arn.account() == home.account();
        if !same {
            findings.add(
                RefusalCode::Inconsistent,
                field,
                arn,
                format!("account {} and region {}, as of the service", home.account(), home.region()),
                "name resources of one account and region",
            );
        }
    }
}
