//! What is told when something is amiss: refused changes, halts, pauses between two looks, and records that are
//! missing or cannot be read.

use super::super::*;
use super::scene::*;
use crate::decide::WaitingOn;
use crate::model::effect::RefusalClass;
use crate::model::facts::*;
use crate::model::observed::ServiceStatus;
use crate::records::check::{Refusal, RefusalCode};
use crate::records::managed_service::StickinessPolicy;
use crate::records::{Percent, Verb};

fn trouble(resource: Resource, class: Option<RefusalClass>) -> Trouble {
    Trouble { resource, class, message: "AWS says no".to_owned(), fresh: false }
}

fn cleanup(task_set: Option<&str>) -> Cleanup {
    Cleanup {
        task_set: task_set.map(str::to_owned),
        external_id: "pm1/test/u1/41.1".to_owned(),
        group: Group::A,
        uncertain: false,
        quiet: Span::ZERO,
        zero_reads: 0,
        deleted: false,
        elapsed: Span::ZERO,
    }
}

fn halt(scene: &mut Scene, reason: HaltReason, detail: &str) {
    scene.facts.halted = Some(Halt { reason, detail: detail.to_owned() });
    scene.next = Next::Halted(scene.facts.halted.clone().unwrap());
}

/// What comes next between two looks.
fn next_move(scene: &mut Scene) -> String {
    scene.next = Next::Again;
    scene.status().status.waiting_on.map_or_else(String::new, |waiting| waiting.then)
}

/// What is waited for, what follows, and what happens otherwise.
fn tell(scene: &mut Scene, on: WaitingOn) -> String {
    scene.waits(on, None, Some(Span::from_mins(9)));
    scene.told()
}

#[test]
fn each_refusal_says_what_was_refused_and_what_is_done_about_it() {
    let mut scene = Scene::baking();
    let classes = [
        None,
        Some(RefusalClass::Throttled),
        Some(RefusalClass::Conflict),
        Some(RefusalClass::Denied),
        Some(RefusalClass::Permanent),
        Some(RefusalClass::NoLease),
    ];
    let resources = [
        Resource::Route("public".to_owned()),
        Resource::TaskSet(B_SET.to_owned()),
        Resource::NewTaskSet("pm1/test/u1/42.1".to_owned()),
        Resource::Primary,
        Resource::Primary,
        Resource::Primary,
    ];
    let mut told = String::new();
    for (class, resource) in classes.into_iter().zip(resources) {
        scene.waits(WaitingOn::Effect { resource, class, message: "AWS says no".to_owned() }, None, None);
        told.push_str(&scene.status().status.waiting_on.unwrap().message);
        told.push('\n');
    }
    insta::assert_snapshot!(told, @r"
    the last change of the weights of route public got no answer and may or may not be done: AWS says no; the same absolute change is sent again
    the last change of task set ecs-svc/2 was throttled: AWS says no; it is sent again
    the last change of the new task set met another change or was overtaken: AWS says no; it is read and decided again
    the last change of the PRIMARY task set was denied: AWS says no; give the daemon's role that permission (deploy/ has the policy); it keeps trying
    the last change of the PRIMARY task set was refused by AWS: AWS says no; a person should read that message
    the last change of the PRIMARY task set was not sent because the lease was about to end: AWS says no; whoever holds the lease goes on
    ");
    scene.facts.trouble = Some(trouble(Resource::Primary, Some(RefusalClass::Denied)));
    insta::assert_snapshot!(scene.says("Progressing"), @"False Denied the last change was denied: AWS says no; give the daemon's role that permission (deploy/ has the policy); it keeps trying");
    scene.latch(Span::from_mins(2));
    scene.facts.trouble = Some(trouble(Resource::Route("public".to_owned()), None));
    insta::assert_snapshot!(scene.says("RollbackStuck"), @"True NoAnswer traffic has been on its way back to checkout:41 for 2m; routes: public at 10 %; the last write got no answer and may or may not be done: AWS says no; the same absolute change is sent again");
}

#[test]
fn a_halt_that_only_a_person_ends_says_how() {
    let mut scene = Scene::idle(false);
    halt(&mut scene, HaltReason::DriftFight, "weights were put right 6 times within 1h");
    insta::assert_snapshot!(scene.told(), @r"
    Halted: halted (DriftFight): weights were put right 6 times within 1h; the daemon changes nothing until a person acts
      then: a person writes a new DesiredRelease
    ");
    scene.ended(Outcome::RolledBack, "Alarm", "checkout-b-5xx");
    insta::assert_snapshot!(scene.told(), @r"
    Halted: halted (DriftFight): weights were put right 6 times within 1h; the daemon changes nothing until a person acts
      then: a person writes a new DesiredRelease, or `pointsman retry payments/checkout --release checkout-42.1`
    ");
    assert_eq!(scene.status().status.phase, Phase::Halted);
    assert!(scene.says("Progressing").starts_with("False DriftFight weights were put right"));
}

#[test]
fn a_way_back_that_cannot_be_verified_says_which_routes_are_open() {
    let mut scene = Scene::baking();
    scene.latch(Span::ZERO);
    scene.waits(WaitingOn::RollbackVerify, None, None);
    let verifying = |scene: &Scene| scene.status().status.waiting_on.unwrap().message;
    let redirect = Seen::Known(Weights::NotOurPair("a redirect".to_owned()));
    scene.observed.routes.insert("public".to_owned(), redirect);
    assert_eq!(
        verifying(&scene),
        "100 % was written back to checkout:41; verifying public unread on a fresh read"
    );
    scene.write("public", Shares { a: 1, b: 0 });
    assert_eq!(
        verifying(&scene),
        "100 % was written back to checkout:41; verifying every route on a fresh read"
    );
}

#[test]
fn between_two_looks_every_stage_says_what_comes_next() {
    let mut told = Vec::new();
    let mut scene = Scene::baking();
    scene.progress().shifted = false;
    scene.progress().step = 1;
    told.push(next_move(&mut scene));
    scene.progress().step = 2;
    told.push(next_move(&mut scene));
    scene.progress().shifted = true;
    told.push(next_move(&mut scene));
    scene.progress().step = 4;
    told.push(next_move(&mut scene));
    scene.progress().gate_passed = false;
    told.push(next_move(&mut scene));
    scene.latch(Span::ZERO);
    told.push(next_move(&mut scene));
    let mut pending = Scene::idle(false);
    pending.facts.pending = Some(Pending::default());
    told.push(next_move(&mut pending));
    pending.facts.cleanups.push(cleanup(Some(A_SET)));
    told.push(next_move(&mut pending));
    // A write that may still land keeps the service busy, and it follows from nothing else.
    let mut doubtful = Scene::idle(false);
    let effect = crate::model::Effect::SetPrimary { task_set: B_SET.to_owned() };
    let lost = Outstanding { effect: effect.clone(), unknown: true, looked: 0 };
    doubtful.facts.outstanding.insert(effect.resource(), lost);
    told.push(next_move(&mut doubtful));
    insta::assert_snapshot!(told.join("\n"), @r"
    pause for a promotion
    scale to 100 %, then shift to 50 %
    bake for 5m
    make checkout:43 PRIMARY; then the release has succeeded
    bring checkout:43 up and judge it
    all traffic goes back to checkout:41
    start checkout-42.1
    remove the old task set
    nothing; everything is as it should be
    ");
}

#[test]
fn waits_of_a_release_that_few_see_are_told_too() {
    let mut told = Vec::new();
    let mut scene = Scene::baking();
    told.push(tell(&mut scene, WaitingOn::Suspended));
    // Capacity for a step that runs short again, and one that is up but not steady.
    told.push(tell(&mut scene, WaitingOn::TaskSetSteady { running: 6, desired: 6, last_stop: None }));
    let unwritten = WaitingOn::ForeignWeights { route: "preview".to_owned() };
    scene.facts.acknowledged.remove("preview");
    told.push(tell(&mut scene, unwritten));
    scene.progress().step = 3;
    scene.progress().stage = Stage::Completing;
    assert_eq!(scene.status().status.phase, Phase::Completing);
    let primary = WaitingOn::Effect { resource: Resource::Primary, class: None, message: "lost".to_owned() };
    told.push(tell(&mut scene, primary));
    // It is a pause: no figure is made up.
    scene.progress().step = 1;
    scene.progress().stage = Stage::Baking;
    let bake = WaitingOn::Bake { weight: Percent::FULL };
    told.push(tell(&mut scene, bake));
    told.push(tell(&mut scene, WaitingOn::Propagation { weight: Percent::FULL }));
    scene.facts.plan.as_mut().unwrap().spec.alarms.truncate(1);
    scene.progress().step = 0;
    told.push(tell(&mut scene, WaitingOn::Bake { weight: Percent::FULL }));
    scene.progress().targets_healthy = true;
    scene.progress().gate_passed = false;
    told.push(tell(&mut scene, WaitingOn::TaskSetSteady { running: 6, desired: 6, last_stop: None }));
    scene.facts.plan.as_mut().unwrap().spec.routes.test = None;
    told.push(tell(&mut scene, WaitingOn::TargetsHealthy { healthy: 1, wanted: 6, reason: None }));
    insta::assert_snapshot!(told.join("\n"), @r"
    Suspended: suspended by the ManagedService (spec.suspend); nothing goes forward or is deleted, the way back stays armed
      then: go on when spec.suspend is false
      else: all traffic goes back to checkout:41
    TaskSetSteady: all 6 tasks of checkout:43 run; waiting until ECS calls them steady
      then: shift to 10 %
      else: all traffic goes back to checkout:41
    ForeignWeights: route preview does not show what was written last; looking again before believing it
      then: go on where it was
      else: all traffic goes back to checkout:41
    Effect: the last change of the PRIMARY task set got no answer and may or may not be done: lost; the same absolute change is sent again
      then: go on where it was
      else: the release has succeeded, with condition PrimaryCurrent=False
    Bake: baking 100 % on checkout:43; 0s left while its 2 armed alarms are OK
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    Propagation: 100 % written to every route for checkout:43; 0s until the load balancer has it everywhere
      then: bake
      else: all traffic goes back to checkout:41
    Bake: baking 100 % on checkout:43; 0s of 5m left while its one armed alarm is OK
      then: pause for a promotion
      else: all traffic goes back to checkout:41
    TaskSetSteady: all 6 tasks of checkout:43 run; waiting until ECS calls them steady
      then: put test route preview on it
      else: all traffic goes back to checkout:41
    TargetsHealthy: 1 of 6 targets of checkout:43 are healthy
      then: shift to 10 %
      else: all traffic goes back to checkout:41
    ");
}

#[test]
fn a_pause_that_goes_on_by_itself_says_with_what() {
    let mut scene = Scene::baking();
    scene.facts.plan.as_mut().unwrap().steps[1] = Step::Pause(crate::records::strategy::Pause {
        timeout: Span::from_mins(5),
        on_timeout: crate::records::strategy::OnTimeout::Continue,
    });
    scene.progress().step = 1;
    scene.progress().stage = Stage::Pausing;
    assert!(
        tell(&mut scene, WaitingOn::Pause { step: 2 }).ends_with("else: scale to 100 %, then shift to 50 %")
    );
}

#[test]
fn waits_outside_of_a_release_that_few_see_are_told_too() {
    let mut told = Vec::new();
    let mut scene = Scene::idle(false);
    told.push(tell(&mut scene, WaitingOn::Suspended));
    scene.facts.cleanups = vec![cleanup(Some(A_SET)), cleanup(None)];
    told.push(tell(&mut scene, WaitingOn::StableBeforeCleanUp));
    told.push(tell(&mut scene, WaitingOn::Gone { group: Group::A }));
    scene.facts.cleanups.remove(0);
    scene.facts.pending = Some(Pending::default());
    told.push(tell(&mut scene, WaitingOn::Gone { group: Group::A }));
    scene.facts.cleanups.clear();
    told.push(tell(
        &mut scene,
        WaitingOn::RefusalStands { refusal: "spec.taskDefinition is unknown".to_owned() },
    ));
    insta::assert_snapshot!(told.join("\n"), @r"
    Suspended: suspended by the ManagedService (spec.suspend); nothing goes forward or is deleted, the way back stays armed
      then: go on when spec.suspend is false
      else: condition CleanupStuck; it is tried on and on
    StableBeforeCleanUp: checkout:43 must be steady before another task set is removed
      then: remove the old task set
      else: condition CleanupStuck; it is tried on and on
    Gone: the task set of target group a is being deleted: tasks stop and targets drain
      then: remove the next task set
      else: condition CleanupStuck; it is tried on and on
    Gone: the task set of target group a is being deleted: tasks stop and targets drain
      then: start checkout-42.1
      else: condition CleanupStuck; it is tried on and on
    RefusalStands: it looks as if this cannot work, and is read again before it is refused: spec.taskDefinition is unknown
      then: judge the request
      else: checkout-42.1 is refused; nothing was touched
    ");
}

#[test]
fn a_suspended_service_is_in_that_phase_also_when_nothing_is_released() {
    let mut scene = Scene::idle(false);
    let mut spec = service_spec();
    spec.suspend = true;
    scene.service = Asked::Valid { spec, hash: "sha256:new".to_owned() };
    assert_eq!(scene.status().status.phase, Phase::Suspended);
    assert_eq!(scene.says("Suspended").split(' ').next(), Some("True"));
}

#[test]
fn a_service_record_that_is_refused_or_missing_is_the_first_thing_said() {
    let mut scene = Scene::baking();
    let refusal = Refusal {
        code: RefusalCode::Malformed,
        field: "spec.bake".to_owned(),
        value: "\"soon\"".to_owned(),
        allowed: "a time".to_owned(),
        fix: "write 15m".to_owned(),
    };
    scene.service = Asked::Invalid { refusal, hash: "sha256:spoilt".to_owned(), suspend: false };
    insta::assert_snapshot!(scene.says("Accepted"), @r#"False Malformed the ManagedService is refused: spec.bake is "soon"; allowed: a time; write 15m; the release in flight goes on by its pinned plan"#);
    assert_eq!(scene.status().status.observed.managed_service_hash.as_deref(), Some("sha256:spoilt"));
    scene.service = Asked::Absent;
    insta::assert_snapshot!(scene.says("Accepted"), @"False NoManagedService there is no ManagedService of this name: write one, or delete the DesiredRelease");
    assert_eq!(scene.status().status.observed.managed_service_hash, None);
    let mut idle = Scene::idle(false);
    idle.desired = Asked::Absent;
    assert_eq!(idle.says("Accepted"), "Unknown NoDesiredRelease nothing is asked for yet");
}

#[test]
fn a_service_that_never_released_has_nothing_to_say_of_versions() {
    let mut scene = Scene::idle(false);
    (scene.facts.stable, scene.facts.last) = (None, None);
    scene.facts.acknowledged.clear();
    assert_eq!(scene.says("Progressing"), "False NothingToDo");
    assert_eq!(scene.says("InSync"), "Unknown NoVersionYet");
    assert_eq!(scene.says("PrimaryCurrent"), "Unknown NoVersionYet");
    scene.observed.routes.remove("public");
    assert_eq!(scene.says("InSync"), "Unknown NotReadable cannot read route public (not read yet)");
}

#[test]
fn the_last_release_is_shown_as_it_was_seen_last() {
    let scene = Scene::baking();
    let before = scene.status();
    let mut scene = Scene::idle(false);
    scene.previous = Some(before);
    let release = scene.status().status.release.unwrap();
    assert_eq!((release.id.as_str(), release.to.revision.as_str()), ("checkout-42.1", "checkout:43"));
    assert!(release.step.is_none(), "it is in none any more");
}

#[test]
fn sets_say_whose_they_are_and_why_their_tasks_stop() {
    let mut scene = Scene::baking();
    let mut foreign = set(&version_of(7, Group::B, A_SET), 1, TaskSetStatus::Active);
    foreign.arn = A_SET.replace("ecs-svc/1", "9");
    foreign.external_id = None;
    if let Seen::Known(service) = &mut scene.observed.service {
        service.task_sets.push(foreign.clone());
        service.task_sets[0].status = TaskSetStatus::Active;
    }
    scene.observed.extra.last_stop.insert(foreign.arn, Seen::Known("exit code 1".to_owned()));
    let sets = scene.status().status.task_sets;
    let told: Vec<_> = sets.iter().map(|set| (set.role, set.id.as_str(), set.last_stop.as_deref())).collect();
    assert_eq!(
        told,
        [
            (Role::Stable, "ecs-svc/1", None),
            (Role::Candidate, "ecs-svc/2", None),
            (Role::Foreign, "9", Some("exit code 1"))
        ]
    );
    assert_eq!(
        scene.says("PrimaryCurrent"),
        "False NoPrimary no task set is PRIMARY; traffic is not affected"
    );
}

#[test]
fn a_quarantined_revision_says_in_which_release_it_failed_and_why() {
    let mut scene = Scene::idle(false);
    scene.facts.quarantined.push(Quarantined {
        revision: Revision { family: "checkout".to_owned(), number: 44 },
        release: ReleaseId { generation: 43, attempt: 2 },
        request_id: None,
        cause: LatchCause::NoEvidence,
        at: now(),
    });
    let told = scene.status().status.quarantined.remove(0);
    let words = (told.revision.as_str(), told.release.as_str(), told.cause.as_str());
    assert_eq!(words, ("checkout:44", "checkout-43.2", "NoEvidence"));
}

#[test]
fn alarms_are_listed_with_their_state_in_the_words_of_cloudwatch() {
    let mut scene = Scene::baking();
    scene.observed.alarms.insert("checkout-b-5xx".to_owned(), alarm(AlarmState::InsufficientData));
    scene.observed.alarms.insert("checkout-p99".to_owned(), alarm(AlarmState::Missing));
    let states: Vec<String> = scene.status().status.alarms.into_iter().map(|alarm| alarm.state).collect();
    assert_eq!(states, ["INSUFFICIENT_DATA", "MISSING", "OK"]);
    for alarm in scene.observed.alarms.values_mut() {
        if let Seen::Known(alarm) = alarm {
            alarm.needs_missing_data = true;
        }
    }
    assert!(scene.says("AlarmNeedsMissingData").contains("alarm checkout-b-5xx (and 2 more) gets no data"));
}

#[test]
fn what_is_true_for_a_while_is_a_condition_for_as_long() {
    let mut scene = Scene::baking();
    for kind in ["GlassBroken", "ServiceScaledToZero", "StickyClients"] {
        assert_eq!(scene.condition(kind), None);
    }
    scene.facts.release.as_mut().unwrap().break_glass.insert("checkout-p99".to_owned());
    if let Seen::Known(service) = &mut scene.observed.service {
        service.desired_count = 0;
    }
    scene.facts.plan.as_mut().unwrap().spec.routes.stickiness.policy = StickinessPolicy::Accept;
    insta::assert_snapshot!(scene.says("GlassBroken"), @"True BreakGlass set aside until OK once: checkout-p99; all other alarms stay armed");
    insta::assert_snapshot!(scene.says("ServiceScaledToZero"), @"True DesiredCountZero the ECS service has desiredCount 0: nothing runs, and no release starts");
    insta::assert_snapshot!(scene.says("StickyClients"), @r#"True StickinessAccepted group stickiness is accepted: shares, and "traffic is back", hold for clients without the cookie"#);
    if let Seen::Known(service) = &mut scene.observed.service {
        service.status = ServiceStatus::Missing;
    }
    assert_eq!(scene.condition("ServiceScaledToZero"), None, "there is none");
}

#[test]
fn a_clean_up_that_is_stuck_and_about_to_act_is_told_as_tried() {
    let mut scene = Scene::idle(false);
    scene.facts.cleanups = vec![Cleanup { elapsed: Span::from_mins(61), ..cleanup(None) }];
    scene.next = Next::Again;
    insta::assert_snapshot!(scene.says("CleanedUp"), @"False CleanupStuck a task set that may yet appear should have left target group a within 1h; it is tried on and on");
}

#[test]
fn a_command_that_was_ignored_says_so() {
    let mut scene = Scene::idle(false);
    scene.facts.answers.push(CommandAnswer {
        id: "01J".to_owned(),
        verb: Verb::Abort,
        by: None,
        done: false,
        reason: "checkout-9.1 is not in flight".to_owned(),
        at: now(),
    });
    let answer = scene.status().status.commands.remove(0);
    assert_eq!((answer.by, answer.verdict.as_str()), (None, "Ignored"));
}

#[test]
fn a_bake_whose_only_alarm_cannot_be_read_admits_it() {
    let mut scene = Scene::baking();
    scene.facts.plan.as_mut().unwrap().spec.alarms.truncate(1);
    scene.observed.alarms.clear();
    let told = scene.told();
    assert!(told.contains("left while 0 of one armed alarm is OK and none in ALARM"), "{told}");
}
