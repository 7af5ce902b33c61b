//! What happens rarely: evidence policies that few choose, sets and routes that show what nobody expects, clocks that
//! run out at the worst moment.

use pointsman_core::decide::response::{Class, Limit, Phase, Work};
use pointsman_core::decide::{Asked, Next, settle};
use pointsman_core::model::facts::{HaltReason, Trouble};
use pointsman_core::model::observed::{AlarmState, Preflight, Targets, TaskSet, Weights};
use pointsman_core::model::{
    Acknowledgement, Answer, Effect, Facts, Observed, Plan, RefusalClass, Resource, Seen, Shares,
};
use pointsman_core::records::command::Verb;
use pointsman_core::records::managed_service::{
    IdleDrift, ManagedServiceSpec, NoData, Stickiness, StickinessPolicy, Unreadable,
};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Span};

use crate::sim::trouble::{Injection, What};
use crate::sim::{Fault, Sim};

const LONG: u32 = 800;

fn at(phase: Phase, spec: impl FnOnce(&mut ManagedServiceSpec)) -> Sim {
    let mut sim = Sim::serving(spec);
    sim.ask(2);
    sim.run_until(|sim| Phase::of(sim.facts()) == phase, 400);
    sim
}

/// How the next one ends.
fn ends(sim: &mut Sim) -> (Outcome, String) {
    sim.run_until(|sim| !sim.ended.is_empty(), LONG);
    assert_eq!(sim.violations, Vec::<String>::new());
    let ended = sim.ended.remove(0);
    (ended.outcome, ended.message)
}

/// What is waited for, in full.
fn waits_for(sim: &Sim) -> String {
    match &sim.last_next {
        Some(Next::Wait(wait)) => format!("{:?}", wait.on),
        other => format!("{other:?}"),
    }
}

fn until_it_waits_for(sim: &mut Sim, words: &str) {
    sim.run_until(|sim| waits_for(sim).contains(words), 60);
}

fn same(live: &Weights, other: &Weights) -> bool {
    matches!((live, other), (Weights::Pair(live), Weights::Pair(other)) if live.same_ratio(*other))
}

fn preflight(seen: &mut Observed) -> &mut Preflight {
    match &mut seen.extra.preflight {
        Some(Seen::Known(preflight)) => preflight,
        other => panic!("the small world answers what preflight asks: {other:?}"),
    }
}

fn sets(seen: &mut Observed) -> &mut Vec<TaskSet> {
    match &mut seen.service {
        Seen::Known(service) => &mut service.task_sets,
        Seen::Unknown(why) => panic!("the small world always answers: {why}"),
    }
}

// --- evidence

#[test]
fn an_alarm_that_cannot_be_read_is_one_that_burns_where_the_record_says_so() {
    let mut sim = at(Phase::Baking, |spec| spec.alarm_policy.unreadable = Unreadable::Fail);
    sim.region.remove_alarm("b-5xx");
    assert_eq!(ends(&mut sim), (Outcome::RolledBack, "b-5xx is MISSING".to_owned()));
}

#[test]
fn silence_under_traffic_is_an_alarm_that_burns_where_the_record_says_so() {
    let mut sim = at(Phase::Baking, |spec| spec.alarms[1].no_data = Some(NoData::Fail));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::InsufficientData);
    assert_eq!(ends(&mut sim), (Outcome::RolledBack, "b-5xx has no data".to_owned()));
}

#[test]
fn a_route_that_nobody_read_holds_a_release() {
    let mut sim = at(Phase::Baking, |_| {});
    sim.hand = Some(|seen| drop(seen.routes.remove("public")));
    sim.pass(Fault::None);
    assert!(waits_for(&sim).contains("route public: not read yet"), "{}", waits_for(&sim));
    sim.hand = None;
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
}

// --- before the start

/// What preflight meets for a while, and what is waited for meanwhile.
type Row = (fn(&mut Observed), &'static str);

#[test]
fn what_may_pass_by_itself_is_waited_for_before_the_start() {
    let rows: [Row; 4] = [
        (
            |seen| {
                seen.routes
                    .insert("public".to_owned(), Seen::Known(Weights::NotOurPair("a redirect".to_owned())));
            },
            "route public: a redirect",
        ),
        (|seen| drop(seen.routes.remove("public")), "route public: not read yet"),
        (|seen| drop(seen.alarms.remove("latency")), "alarm latency: not read yet"),
        (
            |seen| {
                let draining = Targets { draining: 1, ..Targets::default() };
                preflight(seen).targets.insert(Group::B, draining);
            },
            "GroupBusy",
        ),
    ];
    for (twist, words) in rows {
        let mut sim = Sim::serving(|_| {});
        sim.twist = Some(twist);
        sim.ask(2);
        until_it_waits_for(&mut sim, words);
        assert!(sim.effects.is_empty(), "{words}: {:?}", sim.effects);
        sim.twist = None;
        assert_eq!(ends(&mut sim).0, Outcome::Succeeded, "{words}");
    }
}

#[test]
fn a_revision_of_network_mode_awsvpc_needs_subnets() {
    let mut sim = Sim::serving(|_| {});
    if let Asked::Valid { spec, .. } = &mut sim.service {
        spec.task_set.network = None;
    }
    sim.ask(2);
    let (outcome, message) = ends(&mut sim);
    assert_eq!(outcome, Outcome::Refused);
    assert!(message.contains("add spec.taskSet.network.subnets"), "{message}");
}

#[test]
fn groups_that_changed_their_names_are_refused() {
    let mut sim = Sim::serving(|_| {});
    sim.twist = Some(|seen| sets(seen)[0].group = Some(Group::B));
    sim.ask(2);
    let (outcome, message) = ends(&mut sim);
    assert_eq!(outcome, Outcome::Refused);
    assert!(message.contains("is not in group a"), "{message}");
}

#[test]
fn stickiness_is_accepted_up_to_the_duration_that_the_record_names() {
    let sticky = |longest: u64| {
        let mut sim = Sim::serving(|spec| {
            let max_duration = Some(Span::from_secs(longest));
            spec.routes.stickiness = Stickiness { policy: StickinessPolicy::Accept, max_duration };
        });
        sim.twist = Some(|seen| {
            for action in &mut preflight(seen).load_balancer.actions {
                action.sticky = Some(Span::from_secs(5));
            }
        });
        sim.ask(2);
        ends(&mut sim).0
    };
    assert_eq!(sticky(5), Outcome::Succeeded);
    assert_eq!(sticky(4), Outcome::Refused);
}

// --- forward

/// A call that the client repeated may be refused the second time and have worked the first.
#[test]
fn a_task_set_that_goes_by_the_candidates_name_is_taken_though_its_creation_was_refused() {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.pass(Fault::Throttled);
    assert!(waits_for(&sim).contains("Throttled"), "{}", waits_for(&sim));
    sim.hand = Some(|seen| {
        let mut found = sets(seen)[0].clone();
        found.arn = found.arn.replace("/ecs-svc/", "/ecs-svc/9");
        found.external_id = found.external_id.map(|id| id.replace("/1.1", "/2.1"));
        found.group = Some(Group::B);
        sets(seen).push(found);
    });
    let taken = |sim: &Sim| sim.facts().release.as_ref().and_then(|it| it.candidate.task_set.clone());
    sim.run_until(|sim| taken(sim).is_some(), 60);
    assert!(taken(&sim).is_some_and(|arn| arn.contains("/ecs-svc/9")));
    assert!(!sim.effects.iter().any(|effect| effect.name() == "CreateTaskSet"), "{:?}", sim.effects);
}

#[test]
fn a_step_waits_while_the_serving_set_replaces_tasks() {
    let mut sim = at(Phase::Preparing, |_| {});
    sim.run_until(|sim| sim.facts().release.as_ref().is_some_and(|it| it.progress.gate_passed), 100);
    sim.hand = Some(|seen| {
        let stable = sets(seen).first_mut().expect("it serves");
        (stable.pending, stable.steady) = (1, false);
    });
    until_it_waits_for(&mut sim, "StableSteady");
    sim.hand = None;
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_step_waits_while_its_route_cannot_be_read() {
    let mut sim = at(Phase::Preparing, |_| {});
    sim.run_until(|sim| sim.facts().release.as_ref().is_some_and(|it| it.progress.gate_passed), 100);
    sim.hand = Some(|seen| drop(seen.routes.remove("public")));
    until_it_waits_for(&mut sim, "route public");
    sim.hand = None;
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
}

// --- back

#[test]
fn a_scale_that_was_refused_before_a_crash_does_not_hold_the_way_back_up() {
    let mut sim = at(Phase::Baking, |_| {});
    let resource = Resource::TaskSet("candidate".to_owned());
    let (class, message) = (Some(RefusalClass::Denied), "no".to_owned());
    sim.durable.trouble = Some(Trouble { resource, class, message, fresh: true });
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.be_away(Span::from_secs(1));
    sim.effects.clear();
    sim.pass(Fault::None);
    assert_eq!(sim.effects.first().map(Effect::name), Some("SetWeights"), "{:?}", sim.last_next);
    assert_eq!(ends(&mut sim).0, Outcome::RolledBack);
}

#[test]
fn a_creation_that_lands_after_its_release_was_aborted_is_found_and_removed() {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.pass(Fault::Late);
    assert!(sim.facts().release.as_ref().is_some_and(|it| it.candidate.task_set.is_none()));
    let release = sim.release_id();
    sim.command(Verb::Abort, &release, None);
    assert_eq!(ends(&mut sim).0, Outcome::Failed);
    assert!(sim.facts().cleanups.iter().any(|job| job.task_set.is_none()), "{:?}", sim.facts().cleanups);
    sim.run_until(|sim| sim.region.task_sets().len() == 2, 60);
    sim.run_until(Sim::is_settled, LONG);
    assert_eq!(sim.region.task_sets().len(), 1);
    assert_eq!(sim.violations, Vec::<String>::new());
}

// --- afterwards

#[test]
fn a_set_that_somebody_made_primary_stays_while_nothing_else_is_there_to_be_it() {
    let mut sim = Sim::new(|_| {});
    sim.ask(1);
    let made = |sim: &Sim| sim.facts().release.as_ref().is_some_and(|it| it.candidate.task_set.is_some());
    sim.run_until(made, 40);
    let arn = sim.region.task_sets()[0].task_set_arn.clone();
    sim.make_primary_by_hand(&arn);
    let release = sim.release_id();
    sim.command(Verb::Abort, &release, None);
    assert_eq!(ends(&mut sim).0, Outcome::Failed);
    until_it_waits_for(&mut sim, "PRIMARY, and no other version is there");
    assert_eq!(sim.region.task_sets().len(), 1);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_set_that_goes_by_another_name_than_ours_is_never_deleted() {
    let mut sim = at(Phase::Leaving, |spec| spec.retention = Span::from_secs(4));
    sim.hand = Some(|seen| {
        for set in sets(seen).iter_mut().filter(|set| set.group == Some(Group::A)) {
            set.external_id = Some("somebody's".to_owned());
        }
    });
    until_it_waits_for(&mut sim, "a task set that is not ours");
    assert_eq!(sim.region.task_sets().len(), 2);
}

#[test]
fn repairs_an_hour_apart_are_no_fight() {
    let mut sim = Sim::serving(|spec| spec.drift.idle = IdleDrift::Revert);
    let put_right = |sim: &Sim| sim.region.weights_of("public").is_some_and(|live| live.of(Group::B) == 0);
    for _ in 0..8 {
        sim.move_by_hand(50, 50);
        sim.run_until(put_right, 20);
        sim.run_until(|sim| sim.facts().drift.repairs > 0, 20);
        sim.run_until(|sim| sim.facts().drift.repairs == 0, 1000);
    }
    assert_eq!(sim.facts().halted, None);
}

#[test]
fn a_fight_over_weights_is_given_up_when_it_is_seen_that_they_are_right_and_not_before() {
    let mut sim = Sim::serving(|_| {});
    for fight in 1..=6 {
        if fight == 6 {
            // What the last repair wrote is never seen.
            sim.hand = Some(|seen| {
                let right = Weights::Pair(Shares { a: 1000, b: 0 });
                seen.routes.retain(|_, live| !matches!(live, Seen::Known(live) if same(live, &right)));
            });
        }
        sim.move_by_hand(0, 1);
        sim.run_until(|sim| sim.region.production_weights()[0].1 > 0, 10);
    }
    sim.pass(Fault::None);
    assert_eq!(sim.facts().halted, None, "what is not seen may have to be put right yet");
    sim.hand = None;
    sim.last_next = None;
    sim.pass(Fault::None);
    let Some(Next::Halted(halt)) = &sim.last_next else { panic!("{:?}", sim.last_next) };
    assert_eq!(halt.reason, HaltReason::DriftFight);
    assert!(halt.detail.ends_with("now public a 100 % / b 0 %"), "{}", halt.detail);
}

// --- tables

#[test]
fn an_acknowledgement_without_an_echo_is_of_what_was_asked_for() {
    let shares = Shares { a: 9, b: 1 };
    let effect = Effect::SetWeights { route: "public".to_owned(), shares, expect: None };
    let answer = |acknowledgement| Answer::Acknowledged(acknowledgement);
    let written = |facts: &Facts| facts.acknowledged["public"].shares;
    let plain = settle(&Facts::default(), &effect, &answer(Acknowledgement::Done), 3);
    assert_eq!(written(&plain), shares);
    let echo = Shares { a: 1, b: 0 };
    let echoed = settle(&Facts::default(), &effect, &answer(Acknowledgement::Echo(echo)), 3);
    assert_eq!(written(&echoed), echo);
}

#[test]
fn a_route_that_is_put_right_a_second_time_is_another_incident() {
    let shares = Shares { a: 1, b: 0 };
    let mut facts = Facts::default();
    for (route, repairs) in [("public", 1), ("internal", 1), ("public", 2), ("internal", 2), ("public", 3)] {
        facts.drift.repairing = Some(route.to_owned());
        let effect = Effect::SetWeights { route: route.to_owned(), shares, expect: None };
        facts = settle(&facts, &effect, &Answer::Acknowledged(Acknowledgement::Done), 3);
        assert_eq!(facts.drift.repairs, repairs, "{route}");
    }
}

#[test]
fn every_limit_goes_by_its_name_in_the_record() {
    let sim = Sim::serving(|_| {});
    let plan: &Plan = sim.facts().plan.as_ref().expect("a release has ended");
    let record = serde_json::to_value(&plan.spec).expect("a record");
    let places = [
        (Limit::Start, "deadlines"),
        (Limit::Prepare, "deadlines"),
        (Limit::Capacity, "deadlines"),
        (Limit::WeightWrite, "deadlines"),
        (Limit::Primary, "deadlines"),
        (Limit::Evidence, "alarmPolicy"),
    ];
    for (limit, place) in places {
        let written = &record[place][limit.name()];
        let span = limit.span(plan).map(|span| span.to_string());
        assert_eq!(written.as_str(), span.as_deref(), "{limit:?}");
    }
    assert_eq!((Limit::Pause.name(), Limit::Pause.span(plan)), ("pause", None));
}

/// The only task set is made PRIMARY, nobody hears whether it worked, and then somebody deletes it.
#[test]
fn a_set_deleted_before_primary_was_acknowledged_does_not_stop_the_next_release() {
    let mut sim = Sim::new(|_| {});
    sim.ask(1);
    let what = What::Work(Work::SetPrimary, Class::Unknown, false);
    sim.injections = [Phase::Completing, Phase::Idle].map(|at| Injection::new(at, what, u32::MAX)).into();
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    let arn = sim.region.task_sets()[0].task_set_arn.clone();
    sim.delete_by_hand(&arn);
    sim.run_until(|sim| sim.region.task_sets().is_empty(), 40);
    sim.injections.clear();
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), LONG);
    assert_eq!(sim.ended[0].outcome, Outcome::Succeeded);
}

fn unwell(seen: &mut Observed) {
    for targets in seen.extra.targets.values_mut() {
        *targets = Seen::Known(Targets { unhealthy: 4, ..Targets::default() });
    }
}

fn still_initial(seen: &mut Observed) {
    for targets in seen.extra.targets.values_mut() {
        if let Seen::Known(targets) = targets {
            targets.initial = 1;
        }
    }
}

#[test]
fn no_traffic_comes_before_every_target_is_healthy_and_none_is_still_being_checked() {
    for hand in [unwell, still_initial] {
        let mut sim = at(Phase::Preparing, |_| {});
        sim.hand = Some(hand);
        until_it_waits_for(&mut sim, "TargetsHealthy");
        for _ in 0..5 {
            sim.pass(Fault::None);
        }
        assert!(!sim.facts().release.as_ref().expect("in flight").progress.gate_passed);
        assert_eq!(sim.region.production_weights()[1].1, 0);
        sim.hand = None;
        assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    }
}
