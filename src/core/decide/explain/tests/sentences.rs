//! What is said of a wait: why, until when, what follows, what happens otherwise.

use super::super::*;
use super::scene::*;
use crate::decide::WaitingOn;
use crate::model::Action;
use crate::model::effect::{Effect, RefusalClass};
use crate::model::facts::*;
use crate::records::Percent;

#[test]
fn a_bake_says_how_long_it_lasts_what_watches_it_and_what_follows() {
    let scene = Scene::baking();
    insta::assert_snapshot!(scene.told(), @r"
    Bake: baking 10 % on checkout:43; 1m40s of 5m left while its 2 armed alarms are OK
      then: pause for a promotion
    ");
    let status = scene.status().status;
    assert_eq!(status.phase, Phase::Baking);
    assert_eq!(status.waiting_on.unwrap().until.to_string(), "2026-11-21T10:08:20.98Z");
    let step = status.release.unwrap().step.unwrap();
    assert_eq!((step.index, step.of, step.bake), (1, 4, Span::from_mins(5)));
}

#[test]
fn a_candidate_that_fills_in_says_why_and_until_when() {
    let mut scene = Scene::baking();
    let candidate = scene.facts.release.as_ref().unwrap().candidate.group;
    let all = Shares::giving(candidate, Percent::FULL);
    scene.facts.acknowledged.insert("public".to_owned(), Acknowledged { shares: all, epoch: 1 });
    scene.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Pair(all)));
    let mut told = String::new();
    for on in [
        WaitingOn::Propagation { weight: Percent::FULL },
        WaitingOn::Bake { weight: Percent::FULL },
        WaitingOn::Pause { step: 2 },
    ] {
        scene.waits(on, Some(Span::from_secs(45)), None);
        told.push_str(&(scene.told() + "\n"));
    }
    insta::assert_snapshot!(told, @r"
    Propagation: 100 % written to every route for checkout:43; 45s until the load balancer has it everywhere; it has all traffic, because checkout:41 had no running task, and gives it back when that one is steady again
      then: bake for 5m
    Bake: baking 100 % on checkout:43; 45s of 5m left while its 2 armed alarms are OK; it has all traffic, because checkout:41 had no running task, and gives it back when that one is steady again
      then: pause for a promotion
    Pause: paused before going on with checkout:43; to go on, within 45s: `pointsman promote payments/checkout --release checkout-42.1 --step 2`; it has all traffic, because checkout:41 had no running task, and gives it back when that one is steady again
      then: pause for a promotion
    ");
    assert_eq!(scene.says("InSync"), "True WeightsVerified", "it is what was written");
    scene.facts.drift.repairs = 3;
    assert!(scene.told().contains("gives it back when that one is steady again"), "{}", scene.told());
    scene.facts.drift.repairs = 4;
    let keeps = "and keeps it for now, because traffic had to be moved 4 times within the hour";
    assert!(scene.told().contains(keeps), "{}", scene.told());
}

#[test]
fn every_wait_before_the_gate_says_what_follows_and_what_happens_otherwise() {
    let (fifteen, hold) = (Span::from_mins(15), Span::from_secs(45));
    let mut told = String::new();
    let mut tell = |scene: &Scene| told.push_str(&(scene.told() + "\n"));

    let mut preparing = Scene::baking();
    *preparing.progress() = Progress::default();
    for on in [
        WaitingOn::TaskSetSteady { running: 0, desired: 0, last_stop: None },
        WaitingOn::TaskSetSteady { running: 2, desired: 6, last_stop: Some("exit code 1".to_owned()) },
        WaitingOn::TargetsHealthy {
            healthy: 4,
            wanted: 6,
            reason: Some("Target.ResponseCodeMismatch".to_owned()),
        },
    ] {
        preparing.waits(on, None, Some(fifteen));
        tell(&preparing);
    }
    preparing.progress().targets_healthy = true;
    preparing.waits(WaitingOn::TestHold, Some(hold), Some(fifteen));
    tell(&preparing);
    insta::assert_snapshot!(told, @r"
    TaskSetSteady: the task set of checkout:43 is made; waiting for its first tasks
      then: check that every target is healthy
      else: the release fails; production traffic was never touched
    TaskSetSteady: 2 of 6 tasks of checkout:43 run; the last one stopped: exit code 1
      then: check that every target is healthy
      else: the release fails; production traffic was never touched
    TargetsHealthy: 4 of 6 targets of checkout:43 are healthy; the first other one: Target.ResponseCodeMismatch
      then: put test route preview on it
      else: the release fails; production traffic was never touched
    TestHold: checkout:43 is held on test route preview; 45s left while its 2 armed alarms are OK
      then: shift to 10 %
      else: the release fails; production traffic was never touched
    ");
}

#[test]
fn every_wait_in_a_step_says_what_with_figures_what_follows_and_what_happens_otherwise() {
    let half = Percent::from_tenths(500).unwrap();
    let (fifteen, left) = (Span::from_mins(15), Span::from_secs(45));
    let mut told = String::new();
    let mut tell = |scene: &Scene| told.push_str(&(scene.told() + "\n"));

    let mut shifting = Scene::baking();
    shifting.progress().step = 2;
    shifting.progress().stage = Stage::Shifting;
    let moved = Seen::Known(Weights::Pair(Shares { a: 50, b: 50 }));
    shifting.observed.routes.insert("public".to_owned(), moved);
    for on in [
        WaitingOn::Capacity { weight: half, running: 1, wanted: 3 },
        WaitingOn::StableSteady,
        WaitingOn::DesiredCountFell { now: 4, at_start: 6 },
        WaitingOn::Evidence { alarm: "checkout-p99".to_owned(), state: "INSUFFICIENT_DATA".to_owned() },
        WaitingOn::ForeignWeights { route: "public".to_owned() },
        WaitingOn::Propagation { weight: half },
        WaitingOn::Effect {
            resource: Resource::Route("public".to_owned()),
            class: Some(RefusalClass::Denied),
            message: "not authorized to perform ModifyRule".to_owned(),
        },
        WaitingOn::Observation { what: "route public: throttled".to_owned() },
    ] {
        shifting.waits(on, Some(left), Some(fifteen));
        tell(&shifting);
    }
    insta::assert_snapshot!(told, @r"
    Capacity: 1 of the 3 tasks run that checkout:43 needs to take 50 %
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    StableSteady: checkout:41 is starting or replacing tasks and needs its full strength first
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    DesiredCountFell: desiredCount fell from 6 to 4 during the release, below 80 % of its start, so no step goes forward; raise it again, and suspend scale-in during releases
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    Evidence: alarm checkout-p99 is INSUFFICIENT_DATA: no step of checkout:43 goes forward without evidence
      then: go on where it was, once the alarm has an answer
      else: all traffic goes back to checkout:41
    ForeignWeights: route public shows a 50 % / b 50 %, but a 90 % / b 10 % was written last; looking again before believing it
      then: go on where it was
      else: all traffic goes back to checkout:41
    Propagation: 50 % written to every route for checkout:43; 45s until the load balancer has it everywhere
      then: bake for 5m
      else: all traffic goes back to checkout:41
    Effect: the last change of the weights of route public was denied: not authorized to perform ModifyRule; give the daemon's role that permission (deploy/ has the policy); it keeps trying
      then: go on where it was
      else: all traffic goes back to checkout:41
    Observation: cannot see route public: throttled; nothing moves on a guess, so it is read again
      then: go on where it was
      else: all traffic goes back to checkout:41
    ");
}

#[test]
fn what_waits_outside_of_a_release_says_the_command_or_the_place_to_look() {
    let mut told = String::new();
    let mut tell = |scene: &Scene| told.push_str(&(scene.told() + "\n"));

    let mut pending = Scene::idle(false);
    pending.facts.pending = Some(Pending::default());
    for on in [
        WaitingOn::AlarmBeforeStart { alarm: "checkout-p99".to_owned() },
        WaitingOn::GroupBusy { group: Group::A },
        WaitingOn::ServiceScaledToZero,
    ] {
        pending.waits(on, None, Some(Span::from_mins(15)));
        tell(&pending);
    }

    let mut idle = Scene::idle(true);
    idle.waits(WaitingOn::Retention, Some(Span::from_mins(12)), Some(Span::from_mins(12)));
    tell(&idle);
    for on in [
        WaitingOn::Quiet { group: Group::A },
        WaitingOn::GroupAtZero { owner: "listener-rule/app/x/1/2/9".to_owned() },
        WaitingOn::Gone { group: Group::A },
    ] {
        idle.waits(on, None, Some(Span::from_mins(50)));
        tell(&idle);
    }
    idle.waits(WaitingOn::LateCalls, Some(Span::from_mins(9)), Some(Span::from_mins(9)));
    tell(&idle);
    idle.waits(
        WaitingOn::Record { detail: "there is no ManagedService of this name".to_owned() },
        None,
        None,
    );
    tell(&idle);
    insta::assert_snapshot!(told, @r"
    AlarmBeforeStart: alarm checkout-p99 is in ALARM, so checkout-42.1 does not start; mend it, or set it aside with `pointsman break-glass payments/checkout --release checkout-42.1`
      then: start checkout-42.1
      else: checkout-42.1 is refused; nothing was touched
    GroupBusy: target group a must be empty first: it still has targets or a task set that leaves
      then: start checkout-42.1
      else: checkout-42.1 is refused; nothing was touched
    ServiceScaledToZero: the ECS service has desiredCount 0, and a release would have no tasks to judge
      then: start checkout-42.1
      else: checkout-42.1 is refused; nothing was touched
    Retention: checkout:41 is kept running; 12m left; to return to it: `pointsman rollback payments/checkout --release checkout-42.1`
      then: remove checkout:41; from then on a return needs a release of its own
    Quiet: target group a stays at weight 0 until nothing can still be on its way to it
      then: check every rule of the load balancer twice, then delete the task set
      else: condition CleanupStuck; it is tried on and on
    GroupAtZero: a task set cannot be removed: its target group is still in use by listener-rule/app/x/1/2/9; take its weight away there
      then: delete the task set once nothing sends traffic there
      else: condition CleanupStuck; it is tried on and on
    Gone: the task set of target group a is being deleted: tasks stop and targets drain
      then: nothing; everything is as it should be
      else: condition CleanupStuck; it is tried on and on
    LateCalls: its ManagedService is deleted; its resources stay claimed while an earlier change of them can still take effect, because its answer was lost; 9m left
      then: give up the claims, so that another ManagedService may name them
    Record: waiting for a record: there is no ManagedService of this name
      then: judge the request
    ");
}

#[test]
fn a_pause_shows_the_command_that_ends_it_and_what_its_time_out_does() {
    let mut scene = Scene::baking();
    scene.progress().step = 1;
    scene.progress().stage = Stage::Pausing;
    scene.waits(WaitingOn::Pause { step: 2 }, Some(Span::from_mins(90)), Some(Span::from_mins(90)));
    insta::assert_snapshot!(scene.told(), @r"
    Pause: paused before going on with checkout:43; to go on, within 1h30m: `pointsman promote payments/checkout --release checkout-42.1 --step 2`
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    ");
    assert_eq!(scene.status().status.phase, Phase::Paused);
}

#[test]
fn the_last_bake_is_followed_by_primary_and_success() {
    let mut scene = Scene::baking();
    scene.progress().step = 3;
    scene.waits(WaitingOn::Bake { weight: Percent::FULL }, Some(Span::from_mins(14)), None);
    insta::assert_snapshot!(scene.told(), @r"
    Bake: baking 100 % on checkout:43; 14m of 15m left while its 2 armed alarms are OK
      then: make checkout:43 PRIMARY; then the release has succeeded
    ");
}

#[test]
fn an_effect_under_way_is_named() {
    let mut scene = Scene::baking();
    let effect = Effect::SetWeights { route: "public".to_owned(), shares: ten_percent(), expect: None };
    scene.next = Next::Act(Action { effect, rollback: false });
    insta::assert_snapshot!(scene.told(), @r"
    Acting: asking AWS to set route public to a 90 % / b 10 %
      then: look again and verify it
    ");
}

#[test]
fn a_look_in_between_keeps_the_last_wait_of_the_same_step_only() {
    let mut scene = Scene::baking();
    scene.previous = Some(scene.status());
    scene.next = Next::Again;
    assert_eq!(scene.status().status.waiting_on.unwrap().reason, "Bake");
    scene.progress().step = 2;
    scene.progress().shifted = false;
    insta::assert_snapshot!(scene.told(), @r"
    Deciding: the last wait is over; looking again before the next move
      then: scale to 100 %, then shift to 50 %
    ");
}

#[test]
fn a_bake_without_an_armed_alarm_admits_it() {
    let mut scene = Scene::baking();
    scene.facts.plan.as_mut().unwrap().spec.alarms.retain(|alarm| alarm.name == "checkout-a-5xx");
    assert!(scene.told().contains("left while no alarm is armed"), "{}", scene.told());
}
