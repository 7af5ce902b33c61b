//! What is said of a service whatever it does: conditions, alarms, traffic, drift.

use super::super::*;
use super::scene::*;
use crate::decide::{WaitingOn, Wish};
use crate::model::effect::{Effect, RefusalClass};
use crate::model::facts::*;
use crate::records::check::{Refusal, RefusalCode};
use crate::records::command::{Command, CommandKind, CommandSpec, Verb};
use crate::records::managed_service::ManagedServiceSpec;

#[test]
fn the_ordinary_conditions_of_a_bake() {
    let scene = Scene::baking();
    let told: Vec<String> = scene
        .status()
        .status
        .conditions
        .iter()
        .map(|condition| format!("{}={} {}", condition.kind, condition.status, condition.reason))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    Accepted=True Valid
    Progressing=True Baking
    RollbackArmed=True StableRunning
    InSync=True WeightsVerified
    CleanedUp=True NothingLeft
    PrimaryCurrent=True StableIsPrimary
    ");
}

#[test]
fn a_condition_keeps_its_instant_until_its_status_changes() {
    let mut scene = Scene::baking();
    let mut before = scene.status();
    for condition in &mut before.status.conditions {
        condition.last_transition_time = "2026-11-21T09:00:00Z".parse().unwrap();
    }
    scene.previous = Some(before);
    scene.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Pair(Shares { a: 1, b: 0 })));
    let after = scene.status().status.conditions;
    let at = |kind: &str| {
        let found = after.iter().find(|condition| condition.kind == kind).unwrap();
        (found.status.as_str(), found.last_transition_time.to_string())
    };
    assert_eq!(at("Accepted"), ("True", "2026-11-21T09:00:00Z".to_owned()));
    assert_eq!(at("InSync"), ("False", now().to_string()));
}

#[test]
fn a_refused_record_says_so_while_the_release_goes_on() {
    let mut scene = Scene::baking();
    let refusal = Refusal {
        code: RefusalCode::Malformed,
        field: "spec.taskDefinition".to_owned(),
        value: "\"checkout\u{1b}[31m\"".to_owned(),
        allowed: "family:revision".to_owned(),
        fix: "name a revision".to_owned(),
    };
    scene.desired = Asked::Invalid { refusal, hash: "sha256:0".to_owned(), suspend: false };
    insta::assert_snapshot!(scene.says("Accepted"), @r#"False Malformed spec.taskDefinition is "checkout\u{1b}[31m"; allowed: family:revision; name a revision; the release in flight goes on by its pinned plan"#);
    assert_eq!(scene.status().status.phase, Phase::Baking);
    if let Asked::Valid { spec, .. } = &mut scene.service {
        spec.suspend = true;
    }
    let told = scene.says("Accepted");
    assert!(told.ends_with("; the release in flight stands still, as spec.suspend says"), "{told}");
}

#[test]
fn a_refused_request_is_the_phase_until_something_else_is_asked_for() {
    let mut scene = Scene::idle(false);
    scene.ended(Outcome::Refused, "Sticky", "spec.routes (public) is group stickiness of 1h");
    assert_eq!(scene.status().status.phase, Phase::Refused);
    assert_eq!(scene.says("Accepted"), "False Sticky spec.routes (public) is group stickiness of 1h");
    scene.facts.pending = Some(Pending::default());
    scene.facts.attempt = 2;
    assert_eq!(scene.status().status.phase, Phase::Pending);
    assert_eq!(scene.says("Accepted"), "True Valid");
}

#[test]
fn a_rollback_that_takes_longer_than_a_minute_is_stuck_and_says_where_and_why() {
    let mut scene = Scene::baking();
    scene.latch(Span::from_secs(59));
    scene.waits(WaitingOn::RollbackVerify, None, None);
    assert_eq!(scene.condition("RollbackStuck"), None);
    insta::assert_snapshot!(scene.told(), @r"
    RollbackVerify: 100 % was written back to checkout:41; verifying public at 10 % on a fresh read
      then: tell the outcome, then remove the task set that went back
    ");
    scene.latch(Span::from_millis(60_400));
    scene.facts.trouble = Some(Trouble {
        resource: Resource::Route("public".to_owned()),
        class: Some(RefusalClass::Throttled),
        message: "Rate exceeded".to_owned(),
        fresh: false,
    });
    insta::assert_snapshot!(scene.says("RollbackStuck"), @"True Throttled traffic has been on its way back to checkout:41 for 1m1s; routes: public at 10 %; the last write was throttled: Rate exceeded; it is sent again");
    assert_eq!(scene.status().status.phase, Phase::RollingBack);
    assert_eq!(scene.status().status.release.unwrap().latched.unwrap().cause, "Alarm");
}

#[test]
fn a_dead_stable_version_disarms_the_way_back_and_halts_it() {
    let mut scene = Scene::baking();
    if let Seen::Known(service) = &mut scene.observed.service {
        service.task_sets[0].running = 0;
    }
    insta::assert_snapshot!(scene.says("RollbackArmed"), @"False StableGone checkout:41 has no running task, so no traffic can go back to it");
    scene.latch(Span::ZERO);
    scene.next = Next::Halted(Halt {
        reason: HaltReason::NoRollbackTarget,
        detail: "stable checkout:41 has no running task; weights stay where they are".to_owned(),
    });
    insta::assert_snapshot!(scene.told(), @r"
    Halted: halted (NoRollbackTarget): stable checkout:41 has no running task; weights stay where they are; the daemon goes on as soon as that changes
      then: write 100 % back to checkout:41 as soon as it has a running task
    ");
    assert_eq!(scene.status().status.phase, Phase::Halted);
}

#[test]
fn what_cannot_be_read_is_unknown_and_shows_what_was_read_last() {
    let mut scene = Scene::baking();
    scene.previous = Some(scene.status());
    scene.observed.service = Seen::Unknown("throttled".to_owned());
    scene.observed.routes.insert("public".to_owned(), Seen::Unknown("throttled".to_owned()));
    assert_eq!(scene.says("RollbackArmed"), "Unknown NotReadable the ECS service cannot be read: throttled");
    assert_eq!(scene.says("InSync"), "Unknown NotReadable cannot read route public (throttled)");
    let public = scene.status().status.traffic.remove(0);
    assert_eq!((public.b.tenths(), public.verified), (100, false));
}

#[test]
fn drift_names_what_is_there_and_what_should_be() {
    let mut scene = Scene::idle(false);
    let moved = Seen::Known(Weights::Pair(Shares { a: 20, b: 80 }));
    scene.observed.routes.insert("public".to_owned(), moved);
    insta::assert_snapshot!(scene.says("InSync"), @"False WeightsDiffer route public shows a 20 % / b 80 % instead of a 0 % / b 100 %");
    let gone = Seen::Known(Weights::NotOurPair("a redirect".to_owned()));
    scene.observed.routes.insert("public".to_owned(), gone);
    assert_eq!(scene.says("InSync"), "False WeightsDiffer route public: a redirect");
    assert!(scene.status().status.traffic.iter().all(|route| route.route != "public"));
}

#[test]
fn a_write_without_an_answer_is_not_verified() {
    let mut scene = Scene::baking();
    let effect = Effect::SetWeights { route: "public".to_owned(), shares: ten_percent(), expect: None };
    let lost = Outstanding { effect, unknown: true, looked: 0 };
    scene.facts.outstanding.insert(Resource::Route("public".to_owned()), lost);
    assert_eq!(scene.says("InSync"), "False WriteOutstanding a weight write is not acknowledged yet: public");
    assert!(!scene.status().status.traffic[0].verified);
}

#[test]
fn alarms_that_burn_are_listed_first_and_at_most_ten() {
    let mut scene = Scene::baking();
    let template = scene.facts.plan.as_ref().unwrap().spec.alarms[2].clone();
    let alarms = &mut scene.facts.plan.as_mut().unwrap().spec.alarms;
    for number in 0..20 {
        let name = format!("more-{number}");
        alarms.push(crate::records::managed_service::AlarmRef { name: name.clone(), ..template.clone() });
        let state = if number == 17 { AlarmState::Alarm } else { AlarmState::Ok };
        scene.observed.alarms.insert(name, alarm(state));
    }
    scene.observed.alarms.remove("checkout-p99");
    let listed = scene.status().status.alarms;
    assert_eq!(listed.len(), 10);
    assert_eq!((listed[0].name.as_str(), listed[0].state.as_str()), ("more-17", "ALARM"));
    assert_eq!((listed[1].name.as_str(), listed[1].state.as_str()), ("checkout-p99", "UNREADABLE"));
    assert!(listed.iter().all(|alarm| alarm.armed), "the one on stable's group comes last");
}

#[test]
fn edits_in_flight_are_named_as_counting_later() {
    let mut scene = Scene::baking();
    assert_eq!(scene.condition("PlanPinned"), None);
    let edit = |scene: &mut Scene, change: fn(&mut ManagedServiceSpec)| {
        let mut spec = service_spec();
        change(&mut spec);
        scene.service = Asked::Valid { spec, hash: "sha256:new".to_owned() };
    };
    edit(&mut scene, |spec| spec.suspend = true);
    assert_eq!(scene.condition("PlanPinned"), None, "suspend acts at once");
    assert_eq!(scene.status().status.phase, Phase::Suspended);
    edit(&mut scene, |spec| spec.bake = Span::from_mins(1));
    insta::assert_snapshot!(scene.says("PlanPinned"), @"True EditedInFlight the ManagedService was edited during checkout-42.1; the edit counts from the next release, only suspend acts at once");
    edit(&mut scene, |spec| {
        spec.strategies.remove("fast");
    });
    assert!(scene.condition("PlanPinned").is_some(), "the steps of its strategy are others now");
}

#[test]
fn an_edited_template_without_a_new_revision_is_outdated() {
    let mut scene = Scene::idle(false);
    assert_eq!(scene.condition("TemplateOutdated"), None);
    let mut spec = service_spec();
    spec.task_set.platform_version = Some("1.4.0".to_owned());
    scene.service = Asked::Valid { spec, hash: "sha256:new".to_owned() };
    insta::assert_snapshot!(scene.says("TemplateOutdated"), @"True TemplateEdited spec.taskSet was edited after checkout:43 was released; it runs by the old template until the next release (a new requestId on the same revision does not change it: release a new revision)");
}

#[test]
fn an_alarm_that_goes_silent_when_all_is_well_comes_with_the_command_that_mends_it() {
    let mut scene = Scene::baking();
    if let Some(Seen::Known(alarm)) = scene.observed.alarms.get_mut("checkout-b-5xx") {
        alarm.needs_missing_data = true;
    }
    insta::assert_snapshot!(scene.says("AlarmNeedsMissingData"), @r#"True SilentWhenWell alarm checkout-b-5xx gets no data while nothing fails and then says INSUFFICIENT_DATA, which holds releases up; make missing data count as fine: aws cloudwatch describe-alarms --alarm-names 'checkout-b-5xx' --query 'MetricAlarms[0]' | jq 'del(.AlarmArn,.AlarmConfigurationUpdatedTimestamp,.StateValue,.StateReason,.StateReasonData,.StateUpdatedTimestamp,.StateTransitionedTimestamp,.EvaluationState) | .TreatMissingData="notBreaching"' > alarm.json && aws cloudwatch put-metric-alarm --cli-input-json file://alarm.json"#);
}

#[test]
fn a_stuck_clean_up_says_what_blocks_it() {
    let mut scene = Scene::idle(false);
    scene.facts.cleanups.push(Cleanup {
        task_set: Some(A_SET.to_owned()),
        external_id: "pm1/test/u1/41.1".to_owned(),
        group: Group::A,
        uncertain: false,
        quiet: Span::ZERO,
        zero_reads: 0,
        deleted: false,
        elapsed: Span::from_mins(59),
    });
    scene.waits(
        WaitingOn::GroupAtZero { owner: "listener-rule/9".to_owned() },
        None,
        Some(Span::from_mins(1)),
    );
    assert_eq!(scene.says("CleanedUp"), "False Removing ecs-svc/1 leaves target group a");
    assert_eq!(scene.status().status.phase, Phase::CleaningUp);
    scene.facts.cleanups[0].elapsed = Span::from_mins(60);
    insta::assert_snapshot!(scene.says("CleanedUp"), @"False CleanupStuck ecs-svc/1 should have left target group a within 1h; a task set cannot be removed: its target group is still in use by listener-rule/9; take its weight away there");
}

#[test]
fn a_first_release_says_that_there_is_no_way_back() {
    let mut scene = Scene::baking();
    scene.facts.stable = None;
    let release = scene.facts.release.as_mut().unwrap();
    (release.kind, release.stable) = (ReleaseKind::First, None);
    assert!(scene.says("RollbackArmed").starts_with("False FirstRelease"));
    let on = WaitingOn::Evidence { alarm: "checkout-p99".to_owned(), state: "MISSING".to_owned() };
    scene.waits(on, None, Some(Span::from_mins(9)));
    insta::assert_snapshot!(scene.told(), @r"
    Evidence: alarm checkout-p99 is MISSING: no step of checkout:43 goes forward without evidence
      then: go on where it was, once the alarm has an answer
      else: the release fails and stays in place: there is no earlier version
    ");
}

#[test]
fn texts_of_others_cannot_touch_a_terminal() {
    assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
    assert_eq!(plain(&"x".repeat(600)).chars().count(), 513);
    let mut scene = Scene::baking();
    scene.facts.answers.push(CommandAnswer {
        id: "01J".to_owned(),
        verb: Verb::Abort,
        by: Some("\u{7}eve".to_owned()),
        done: true,
        reason: "going back".to_owned(),
        at: now(),
    });
    let answer = scene.status().status.commands.remove(0);
    assert_eq!((answer.by.as_deref(), answer.verdict.as_str()), (Some("\\u{7}eve"), "Done"));
}

#[test]
fn a_command_that_waits_says_why_and_since_when_until_it_is_answered() {
    let mut scene = Scene::baking();
    let spec = CommandSpec {
        verb: Verb::BreakGlass,
        release: "checkout-42.1".to_owned(),
        step: None,
        by: Some("\u{7}eve".to_owned()),
    };
    let command = Command { api_version: ApiVersion::V1, kind: CommandKind::Command, spec, expire_at: None };
    scene.commands.push(Wish { id: "01J".to_owned(), age: Span::ZERO, command: Ok(command) });
    let unread = || Seen::Unknown("throttled".to_owned());
    scene.observed.alarms.values_mut().for_each(|seen| *seen = unread());
    let mut before = scene.status();
    let told = before.status.commands[0].clone();
    assert_eq!((told.verdict.as_str(), told.by.as_deref()), ("Waiting", Some("\\u{7}eve")));
    insta::assert_snapshot!(told.reason, @"cannot be read: checkout-b-5xx, checkout-a-5xx, checkout-p99; it is carried out once it shows what burns, for at most 1h");
    // The time it began to wait stays, so that a status that says nothing new is not written again.
    before.status.commands[0].at = "2026-11-21T10:00:00Z".parse().unwrap();
    scene.previous = Some(before.clone());
    assert_eq!(scene.status().status.commands, before.status.commands);
    // No more than ten in all, the waiting one among them.
    for number in 0..10 {
        scene.facts.answers.push(CommandAnswer {
            id: format!("00J{number}"),
            verb: Verb::Promote,
            by: None,
            done: false,
            reason: "not in flight".to_owned(),
            at: now(),
        });
    }
    let listed: Vec<_> = scene.status().status.commands.into_iter().map(|answer| answer.id).collect();
    assert_eq!((listed.len(), listed[0].as_str(), listed[9].as_str()), (10, "00J1", "01J"));
}

#[test]
fn a_return_to_the_kept_version_is_told_under_a_name_of_its_own() {
    let mut scene = Scene::idle(false);
    scene.facts.stable = Some(version_of(41, Group::A, A_SET));
    let mut last = scene.facts.last.clone().unwrap();
    last.identity.task_definition = "checkout:41".to_owned();
    last.identity.request_id = None;
    last.identity.takes_back = Some(last.release);
    (last.release.attempt, scene.facts.attempt) = (2, 2);
    scene.facts.last = Some(last.clone());
    let told = scene.status().status.last_outcome.unwrap();
    assert_eq!((told.release.as_str(), told.revision.as_str()), ("checkout-42.2", "checkout:41"));
    assert_eq!((told.request_id, told.takes_back.as_deref()), (None, Some("checkout-42.1")));
    // What became of it is no refusal of the record.
    scene.facts.last = Some(Ended { outcome: Outcome::Refused, ..last });
    assert_eq!(scene.status().status.phase, Phase::Settled);
    assert_eq!(scene.says("Accepted"), "True Valid");
}
