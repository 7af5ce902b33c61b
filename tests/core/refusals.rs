//! What cannot work is refused: by code and message, with nothing touched, and the next valid request succeeds.
//!
//! What a record itself gets wrong is in `records/judging.rs`; here the records are right and the world is not.

use std::collections::BTreeSet;

use pointsman_core::model::observed::{ForwardAction, ServiceStatus, TaskSet, TaskSetStatus, Weights};
use pointsman_core::model::{Observed, Seen, Shares};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Percent, Span};

use crate::sim::Sim;

/// What is wrong with the world, the code it is refused by, and a word that its message must hold.
type Row = (&'static str, &'static str, &'static str, fn(&mut Observed));

const TABLE: &[Row] = &[
    ("the ECS service is gone", "ServiceUnfit", "MISSING", |seen| {
        service(seen).status = ServiceStatus::Missing;
    }),
    ("the ECS service is inactive", "ServiceUnfit", "INACTIVE", |seen| {
        service(seen).status = ServiceStatus::Inactive;
    }),
    ("the ECS service has another deployment controller", "ServiceUnfit", "EXTERNAL", |seen| {
        service(seen).external = false;
    }),
    ("somebody else made a task set", "ForeignTaskSet", "task set 7", |seen| {
        let mut foreign: TaskSet = service(seen).task_sets[0].clone();
        let arn = "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/7";
        arn.clone_into(&mut foreign.arn);
        foreign.external_id = None;
        foreign.status = TaskSetStatus::Active;
        service(seen).task_sets.push(foreign);
    }),
    ("the task definition is unknown", "TaskDefinitionUnfit", "unknown to ECS", |seen| {
        preflight(seen).task_definition = None;
    }),
    ("the task definition is inactive", "TaskDefinitionUnfit", "INACTIVE", |seen| {
        task_definition(seen).active = false;
    }),
    ("the task definition lacks the container", "TaskDefinitionUnfit", "container web", |seen| {
        let ports = task_definition(seen).containers.remove("web").unwrap_or_default();
        task_definition(seen).containers.insert("sidecar".to_owned(), ports);
    }),
    ("the container lacks the port", "TaskDefinitionUnfit", "port 8080", |seen| {
        task_definition(seen).containers.insert("web".to_owned(), BTreeSet::from([9090]));
    }),
    ("a group has no load balancer", "LoadBalancerUnfit", "0 load balancers", |seen| {
        preflight(seen).load_balancer.of_groups.remove(&Group::B);
    }),
    (
        "the groups belong to two load balancers",
        "LoadBalancerUnfit",
        "one Application Load Balancer",
        |seen| {
            let other =
                "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/other/1".to_owned();
            preflight(seen).load_balancer.of_groups.insert(Group::B, BTreeSet::from([other]));
        },
    ),
    (
        "the load balancer is a Network Load Balancer",
        "LoadBalancerUnfit",
        "Application Load Balancer",
        |seen| {
            let nlb =
                "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/edge/1".to_owned();
            for group in [Group::A, Group::B] {
                preflight(seen).load_balancer.of_groups.insert(group, BTreeSet::from([nlb.clone()]));
            }
        },
    ),
    ("the production rule is gone", "RouteUnfit", "spec.routes (public) is arn:", |seen| {
        "another rule".clone_into(&mut public(seen).owner);
    }),
    (
        "the production rule forwards to one group only",
        "RouteUnfit",
        "spec.routes (public) is checkout-a; allowed: exactly the two groups",
        |seen| {
            public(seen).groups.pop();
        },
    ),
    (
        "the production rule has an action that nobody knows",
        "RouteUnfit",
        "spec.routes (public) is action type teleport",
        |seen| {
            public(seen).unknown_action = Some("teleport".to_owned());
        },
    ),
    ("the production rule is sticky", "Sticky", "spec.routes (public) is group stickiness of 5m", |seen| {
        public(seen).sticky = Some(Span::from_mins(5));
    }),
    ("a foreign rule names a group", "GroupUsedElsewhere", "listener-rule/app/edge/foreign", |seen| {
        let mut foreign = public(seen).clone();
        let owner = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener-rule/app/edge/foreign";
        owner.clone_into(&mut foreign.owner);
        actions(seen).push(foreign);
    }),
    ("an alarm does not exist", "AlarmMissing", "latency", |seen| {
        if let Some(Seen::Known(alarm)) = seen.alarms.get_mut("latency") {
            alarm.state = pointsman_core::model::observed::AlarmState::Missing;
        }
    }),
];

fn service(seen: &mut Observed) -> &mut pointsman_core::model::observed::Service {
    match &mut seen.service {
        Seen::Known(service) => service,
        Seen::Unknown(why) => panic!("the small world always answers: {why}"),
    }
}

fn preflight(seen: &mut Observed) -> &mut pointsman_core::model::observed::Preflight {
    match &mut seen.extra.preflight {
        Some(Seen::Known(preflight)) => preflight,
        other => panic!("the small world answers what preflight asks: {other:?}"),
    }
}

fn task_definition(seen: &mut Observed) -> &mut pointsman_core::model::observed::TaskDefinition {
    preflight(seen).task_definition.as_mut().expect("version 2 is registered")
}

fn actions(seen: &mut Observed) -> &mut Vec<ForwardAction> {
    &mut preflight(seen).load_balancer.actions
}

/// Rules come in the order of their priority, and the production rule catches what the test route leaves.
fn public(seen: &mut Observed) -> &mut ForwardAction {
    actions(seen).iter_mut().rfind(|action| !action.groups.is_empty()).expect("the production rule")
}

#[test]
fn what_cannot_work_is_refused_touches_nothing_and_the_next_valid_request_succeeds() {
    for (name, code, word, twist) in TABLE {
        let mut sim = Sim::serving(|_| {});
        sim.twist = Some(*twist);
        sim.ask(2);
        sim.run_until(|sim| !sim.ended.is_empty(), 20);
        let ended = sim.ended[0].clone();
        assert_eq!(
            (ended.outcome, ended.reason.as_str()),
            (Outcome::Refused, *code),
            "{name}: {}",
            ended.message
        );
        assert!(ended.message.contains(word), "{name}: {:?} does not say {word:?}", ended.message);
        assert!(sim.effects.is_empty(), "{name}: {:?}", sim.effects);
        sim.twist = None;
        sim.ask(3);
        sim.run_until(|sim| sim.ended.len() == 2, 400);
        assert_eq!(sim.ended[1].outcome, Outcome::Succeeded, "after {name}");
        assert_eq!(sim.violations, Vec::<String>::new(), "{name}");
    }
}

/// A service or a revision that was made a moment ago may not be seen by the first reads.
#[test]
fn a_refusal_that_only_a_stale_read_speaks_for_is_not_given() {
    let mut sim = Sim::serving(|_| {});
    sim.twist = Some(|seen| preflight(seen).task_definition = None);
    sim.ask(2);
    let waits = |sim: &Sim| sim.facts().pending.as_ref().is_some_and(|pending| pending.doubt.is_some());
    sim.run_until(waits, 20);
    assert!(sim.ended.is_empty(), "{:?}", sim.ended);
    sim.twist = None;
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    assert_eq!(sim.ended[0].outcome, Outcome::Succeeded);
    assert_eq!(sim.violations, Vec::<String>::new());
}

/// Where a version serves, weight on an empty group is put right before anything is judged; where none does,
/// nobody can say which side is meant.
#[test]
fn a_first_release_over_split_weights_is_refused() {
    let mut sim = Sim::new(|_| {});
    sim.twist = Some(|seen| {
        let split = Weights::Pair(Shares { a: 50, b: 50 });
        seen.routes.insert("public".to_owned(), Seen::Known(split));
    });
    sim.ask(1);
    sim.run_until(|sim| !sim.ended.is_empty(), 20);
    assert_eq!(sim.ended[0].reason, "WeightsSplit");
    assert!(sim.ended[0].message.contains("public a 50 / b 50"), "{}", sim.ended[0].message);
    assert!(sim.effects.is_empty());
}

#[test]
fn a_resource_that_another_service_claimed_is_refused_by_name() {
    let mut sim = Sim::new(|_| {});
    sim.claim_denied = Some((
        "arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout".to_owned(),
        "other/shop".to_owned(),
    ));
    sim.ask(1);
    sim.run_until(|sim| !sim.ended.is_empty(), 20);
    assert_eq!(sim.ended[0].reason, "AlreadyClaimed");
    assert!(sim.ended[0].message.contains("other/shop"), "{}", sim.ended[0].message);
    assert!(sim.effects.is_empty());
}

#[test]
fn a_share_is_never_rounded_to_nothing_or_to_everything() {
    let trace = Shares { a: 998, b: 1 };
    assert_eq!(trace.share(Group::B), Percent::from_tenths(1).expect("in range"));
    assert_eq!(trace.share(Group::A), Percent::from_tenths(999).expect("in range"));
}
