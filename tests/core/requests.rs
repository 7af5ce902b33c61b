//! What records and operators' commands are answered when they cannot be followed as written.

use pointsman_core::decide::response::Phase;
use pointsman_core::decide::{Asked, Next, Wish};
use pointsman_core::model::facts::CommandAnswer;
use pointsman_core::model::observed::AlarmState;
use pointsman_core::records::Span;
use pointsman_core::records::check::{Refusal, RefusalCode};
use pointsman_core::records::command::{PromoteStep, Verb};
use pointsman_core::records::desired_release::DesiredReleaseSpec;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::{OnTimeout, Pause, StepSpec, Strategy};

use crate::sim::{Fault, Sim};

fn ask_for(sim: &mut Sim, task_definition: &str, strategy: Option<&str>, hash: &str) {
    let spec = DesiredReleaseSpec {
        task_definition: task_definition.to_owned(),
        strategy: strategy.map(str::to_owned),
        request_id: None,
    };
    sim.last_next = None;
    sim.desired = Asked::Valid { spec, hash: hash.to_owned() };
}

fn malformed(field: &str) -> Refusal {
    Refusal {
        code: RefusalCode::Malformed,
        field: field.to_owned(),
        value: "7".to_owned(),
        allowed: "a text".to_owned(),
        fix: "write a text".to_owned(),
    }
}

fn spoil_record(sim: &mut Sim, hash: &str) {
    sim.last_next = None;
    sim.desired =
        Asked::Invalid { refusal: malformed("spec.taskDefinition"), hash: hash.to_owned(), suspend: false };
}

fn spoil_service(sim: &mut Sim) {
    sim.withdraw_service_for_a_while();
    sim.service =
        Asked::Invalid { refusal: malformed("spec.bake"), hash: "sha256:spoilt".to_owned(), suspend: false };
}

/// How the next one ends.
fn ends(sim: &mut Sim) -> (Outcome, String) {
    sim.run_until(|sim| !sim.ended.is_empty(), 800);
    assert_eq!(sim.violations, Vec::<String>::new());
    let ended = sim.ended.remove(0);
    (ended.outcome, ended.message)
}

fn answered(sim: &mut Sim) -> CommandAnswer {
    let before = sim.facts().answers.len();
    sim.pass(Fault::None);
    assert_eq!(sim.facts().answers.len(), before + 1);
    sim.facts().answers[before].clone()
}

fn refused(sim: &mut Sim) -> String {
    let answer = answered(sim);
    assert!(!answer.done, "{answer:?}");
    answer.reason
}

/// Version 1 serves, and version 2 pauses in its first step, before any traffic.
fn pausing() -> Sim {
    let pause = StepSpec {
        pause: Some(Pause { timeout: Span::from_mins(5), on_timeout: OnTimeout::Rollback }),
        ..StepSpec::default()
    };
    let strategy = Strategy { steps: Some(vec![pause]), ..Strategy::default() };
    let mut sim = Sim::serving(|spec| {
        spec.strategies.insert("fast".to_owned(), strategy);
    });
    sim.ask(2);
    sim.run_until(|sim| Phase::of(sim.facts()) == Phase::Pausing, 200);
    sim
}

fn baking() -> Sim {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(|sim| Phase::of(sim.facts()) == Phase::Baking, 200);
    sim
}

fn failed() -> Sim {
    let mut sim = baking();
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    assert_eq!(ends(&mut sim).0, Outcome::RolledBack);
    sim.region.restore_alarms(sim.now);
    sim.run_until(Sim::is_settled, 400);
    sim
}

#[test]
fn a_command_that_cannot_be_read_or_is_older_than_an_hour_is_ignored_with_the_reason() {
    let mut sim = baking();
    let (id, command) = ("01UNREADABLE".to_owned(), Err("spec.verb is missing".to_owned()));
    sim.wishes.push(Wish { id, age: Span::ZERO, command });
    assert_eq!(refused(&mut sim), "it cannot be read: spec.verb is missing");

    let release = sim.release_id();
    sim.command(Verb::Abort, &release, None);
    sim.wishes.last_mut().expect("just written").age = Span::from_millis(60 * 60 * 1000 + 1);
    assert_eq!(refused(&mut sim), "it is older than 1h");
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded, "nobody went back");
}

#[test]
fn a_promotion_names_a_pause_of_the_release_in_flight() {
    let mut sim = pausing();
    let release = sim.release_id();
    sim.command(Verb::Promote, &release, None);
    assert_eq!(refused(&mut sim), "spec.step is missing: a step number or \"all\"");
    for step in [0, 2, 9] {
        sim.command(Verb::Promote, &release, Some(PromoteStep::Step(step)));
        assert_eq!(refused(&mut sim), format!("step {step} is not a pause of {release}"));
    }
    sim.command(Verb::Promote, "checkout-99.1", Some(PromoteStep::Step(1)));
    assert_eq!(refused(&mut sim), "checkout-99.1 is not in flight");
    sim.command(Verb::Promote, &release, Some(PromoteStep::Step(1)));
    assert!(answered(&mut sim).done);
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_rollback_of_the_release_in_flight_is_an_abort() {
    let mut sim = baking();
    let release = sim.release_id();
    sim.command(Verb::Rollback, &release, None);
    assert_eq!(answered(&mut sim).reason, "going back");
    assert_eq!(ends(&mut sim), (Outcome::RolledBack, "aborted by mara".to_owned()));
}

#[test]
fn a_retry_is_of_the_request_however_it_is_written_by_now() {
    let mut sim = failed();
    let arn = "arn:aws:ecs:eu-central-1:111122223333:task-definition/checkout:2";
    ask_for(&mut sim, arn, None, "sha256:by-arn");
    sim.run_until(Sim::is_settled, 20);
    assert!(sim.ended.is_empty(), "the same request is not made again: {:?}", sim.ended);
    let release = sim.last_release_id();
    sim.command(Verb::Retry, &release, None);
    assert_eq!(answered(&mut sim).reason, "attempt 2");
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_command_of_an_hour_ago_is_still_followed() {
    let mut sim = baking();
    let release = sim.release_id();
    sim.command(Verb::Abort, &release, None);
    sim.wishes.last_mut().expect("just written").age = Span::from_mins(60);
    assert!(answered(&mut sim).done);
}

/// Version 2 failed, and version 3 waits for an alarm before it starts.
fn waiting_after_a_failure() -> (Sim, String) {
    let mut sim = failed();
    let release = sim.last_release_id();
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.ask(3);
    sim.run_until(|sim| sim.facts().pending.is_some(), 20);
    sim.pass(Fault::None);
    (sim, release)
}

#[test]
fn a_retry_is_of_the_last_release_when_that_failed_and_nothing_else_is_under_way() {
    let not_it = |release: &str| format!("{release} is not the last release, or did not fail");

    let mut sim = failed();
    sim.command(Verb::Retry, "checkout-99.1", None);
    assert_eq!(refused(&mut sim), not_it("checkout-99.1"));

    let mut sim = Sim::serving(|_| {});
    let succeeded = sim.last_release_id();
    sim.command(Verb::Retry, &succeeded, None);
    assert_eq!(refused(&mut sim), not_it(&succeeded));

    let mut sim = failed();
    let release = sim.last_release_id();
    sim.ask(3);
    sim.run_until(|sim| sim.facts().release.is_some(), 40);
    sim.command(Verb::Retry, &release, None);
    assert_eq!(refused(&mut sim), not_it(&release));

    let (mut sim, release) = waiting_after_a_failure();
    sim.command(Verb::Retry, &release, None);
    assert_eq!(refused(&mut sim), not_it(&release));
}

#[test]
fn an_abort_drops_the_request_that_waits_to_start_and_no_other() {
    let (mut sim, release) = waiting_after_a_failure();
    sim.command(Verb::Abort, &release, None);
    assert_eq!(refused(&mut sim), format!("{release} is not in flight"));
    assert!(sim.facts().pending.is_some());
    let waiting = sim.release_id();
    sim.command(Verb::Abort, &waiting, None);
    assert_eq!(answered(&mut sim).reason, "dropped before it started");
}

#[test]
fn a_rollback_is_of_the_last_release_while_no_other_is_in_flight() {
    let not_it = |release: &str| format!("{release} is not the last release");

    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(60));
    sim.ask(2);
    sim.run_until(|sim| sim.facts().retained.is_some(), 400);
    let release = sim.last_release_id();
    sim.command(Verb::Rollback, "checkout-1.1", None);
    assert_eq!(refused(&mut sim), not_it("checkout-1.1"));
    sim.ask(3);
    sim.run_until(|sim| sim.facts().release.is_some(), 400);
    sim.command(Verb::Rollback, &release, None);
    assert_eq!(refused(&mut sim), not_it(&release));
}

/// Version 2 serves, and version 1 is kept.
fn retaining() -> Sim {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(60));
    sim.ask_as(2, Some("build-2"));
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    sim
}

fn serves(sim: &Sim) -> Option<u32> {
    sim.facts().stable.as_ref().map(|stable| stable.revision.number)
}

#[test]
fn a_rollback_needs_no_record_that_can_be_read() {
    let spoilt: [fn(&mut Sim); 4] = [
        |sim| spoil_record(sim, "sha256:spoilt"),
        spoil_service,
        |sim| {
            spoil_record(sim, "sha256:spoilt");
            sim.pass(Fault::None);
            spoil_service(sim);
        },
        // The strategy that it names does not exist: by itself it could not start any more.
        |sim| ask_for(sim, "checkout:2", Some("slowly"), "sha256:slowly"),
    ];
    for (case, spoil) in spoilt.into_iter().enumerate() {
        let mut sim = retaining();
        spoil(&mut sim);
        sim.pass(Fault::None);
        sim.ended.clear();
        let release = sim.last_release_id();
        sim.command(Verb::Rollback, &release, None);
        assert_eq!(answered(&mut sim).reason, "returning to the retained version", "{case}");
        assert_eq!(ends(&mut sim).0, Outcome::Succeeded, "{case}");
        assert_eq!(serves(&sim), Some(1), "{case}");
        assert_eq!(sim.effects.iter().filter(|effect| effect.name() == "CreateTaskSet").count(), 1, "{case}");
    }
}

/// Asks for a rollback of what ended last; how that ends.
fn roll_back(sim: &mut Sim) -> (Outcome, String) {
    sim.ended.clear();
    let release = sim.last_release_id();
    sim.command(Verb::Rollback, &release, None);
    assert!(answered(sim).done);
    ends(sim)
}

#[test]
fn a_revision_that_failed_and_then_succeeded_can_be_returned_to() {
    let mut sim = failed();
    assert_eq!(sim.facts().quarantined.len(), 1);
    for (revision, id) in [(2, Some("again")), (3, None)] {
        sim.ask_as(revision, id);
        assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
        assert!(sim.facts().quarantined.is_empty(), "{:?}", sim.facts().quarantined);
    }
    assert_eq!(roll_back(&mut sim).0, Outcome::Succeeded);
    assert_eq!(serves(&sim), Some(2));
}

#[test]
fn an_operator_may_return_to_a_revision_that_is_quarantined() {
    let mut sim = Sim::new(|spec| spec.retention = Span::from_mins(60));
    sim.ask(1);
    sim.run_until(|sim| Phase::of(sim.facts()) == Phase::Baking, 200);
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    assert_eq!(ends(&mut sim).0, Outcome::Failed, "nothing better exists, so that it stays");
    sim.region.restore_alarms(sim.now);
    sim.ask(2);
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    assert_eq!(sim.facts().quarantined.len(), 1);
    assert_eq!(roll_back(&mut sim).0, Outcome::Succeeded);
    assert_eq!(serves(&sim), Some(1));
}

#[test]
fn the_way_back_stays_while_the_service_is_suspended_in_retention() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(2));
    sim.ask(2);
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    sim.pass(Fault::None);
    sim.suspend(true);
    let waits = |sim: &Sim| matches!(&sim.last_next, Some(Next::Wait(wait)) if wait.on.name() == "Suspended");
    for _ in 0..200 {
        sim.pass(Fault::None);
        assert!(sim.facts().retained.is_some() && waits(&sim), "{:?}", sim.last_next);
    }
    // Also when a newer request waits, which is given up again.
    sim.ask(3);
    sim.pass(Fault::None);
    sim.command(Verb::Abort, "checkout-3.1", None);
    assert!(answered(&mut sim).done);
    assert_eq!(ends(&mut sim).0, Outcome::Failed);
    let release = sim.last_release_id();
    sim.command(Verb::Rollback, &release, None);
    let soon = "returning to the retained version as soon as spec.suspend is false";
    assert_eq!(answered(&mut sim).reason, soon);
    sim.suspend(false);
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    assert_eq!(serves(&sim), Some(1));
}

#[test]
fn retention_goes_on_when_the_suspension_ends() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(2));
    sim.ask(2);
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    sim.suspend(true);
    (0..20).for_each(|_| sim.pass(Fault::None));
    sim.suspend(false);
    sim.run_until(Sim::is_settled, 400);
    assert!(sim.facts().retained.is_none());
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn the_release_that_serves_is_rolled_back_by_its_name_whatever_ended_since() {
    let since: [fn(&mut Sim); 3] = [
        |sim| spoil_record(sim, "sha256:spoilt"),
        |sim| ask_for(sim, "checkout:3", Some("slowly"), "sha256:slowly"),
        // It serves already.
        |sim| sim.ask_as(2, Some("build-2-again")),
    ];
    for end_another in since {
        let mut sim = retaining();
        end_another(&mut sim);
        ends(&mut sim);
        assert_eq!(sim.last_release_id(), "checkout-3.1");
        sim.command(Verb::Rollback, "checkout-2.1", None);
        assert!(answered(&mut sim).done);
        assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
        assert_eq!(serves(&sim), Some(1));
        // What was returned to is taken back under the name of the return.
        sim.command(Verb::Rollback, "checkout-2.1", None);
        assert_eq!(refused(&mut sim), "checkout-2.1 is not the last release");
        sim.command(Verb::Rollback, "checkout-3.2", None);
        assert!(answered(&mut sim).done);
        assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
        assert_eq!(serves(&sim), Some(2));
    }
}

#[test]
fn a_return_has_a_name_of_its_own_and_its_failure_is_no_failure_of_the_request() {
    let mut sim = retaining();
    sim.command(Verb::Rollback, "checkout-2.1", None);
    sim.run_until(|sim| Phase::of(sim.facts()) == Phase::Baking, 200);
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.run_until(|sim| !sim.ended.is_empty(), 200);
    let ended = sim.ended.remove(0);
    assert_eq!((ended.release.to_string().as_str(), ended.outcome), ("2.2", Outcome::RolledBack));
    let identity = &ended.identity;
    assert_eq!((identity.task_definition.as_str(), identity.request_id.as_deref()), ("checkout:1", None));
    assert_eq!(identity.takes_back.map(|taken| taken.to_string()).as_deref(), Some("2.1"));
    assert_eq!(sim.facts().quarantined[0].request_id, None);

    sim.region.restore_alarms(sim.now);
    sim.effects.clear();
    sim.command(Verb::Retry, "checkout-2.2", None);
    assert!(refused(&mut sim).contains("checkout-2.2 was a return"));
    sim.run_until(Sim::is_settled, 400);
    assert!(sim.effects.iter().all(|effect| effect.name() != "CreateTaskSet"), "{:?}", sim.effects);
    assert_eq!(serves(&sim), Some(2));
}

#[test]
fn a_return_that_is_given_up_or_overtaken_before_its_start_ends_under_its_own_name() {
    let give_up: [fn(&mut Sim); 3] = [
        |sim| sim.command(Verb::Abort, "checkout-2.2", None),
        |sim| sim.ask(3),
        |sim| sim.desired = Asked::Absent,
    ];
    for end in give_up {
        let mut sim = retaining();
        sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
        sim.command(Verb::Rollback, "checkout-2.1", None);
        sim.run_until(|sim| sim.facts().pending.is_some(), 5);
        end(&mut sim);
        sim.run_until(|sim| !sim.ended.is_empty(), 20);
        let ended = &sim.ended[0];
        assert_eq!(
            (ended.identity.task_definition.as_str(), &ended.identity.request_id),
            ("checkout:1", &None)
        );
        assert_ne!(ended.outcome, Outcome::Succeeded);
    }
}

#[test]
fn a_return_whose_version_went_before_the_start_ends() {
    let mut sim = retaining();
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    let release = sim.last_release_id();
    sim.command(Verb::Rollback, &release, None);
    sim.pass(Fault::None);
    assert!(sim.facts().pending.is_some());
    sim.withdraw_service_for_a_while();
    let (outcome, message) = ends(&mut sim);
    assert_eq!((outcome, message.as_str()), (Outcome::Failed, "no earlier version is kept any more"));
    sim.restore_service();
    sim.run_until(Sim::is_settled, 400);
    assert_eq!(serves(&sim), Some(2));
}

#[test]
fn a_retry_of_a_record_that_names_no_revision_is_ignored() {
    let mut sim = Sim::serving(|_| {});
    spoil_record(&mut sim, "sha256:spoilt");
    assert_eq!(ends(&mut sim).0, Outcome::Refused);
    let release = sim.last_release_id();
    sim.command(Verb::Retry, &release, None);
    assert_eq!(refused(&mut sim), "the record names no revision");
}

#[test]
fn a_record_that_cannot_be_read_is_refused_once_and_the_mended_one_is_new() {
    let mut sim = Sim::serving(|_| {});
    spoil_record(&mut sim, "sha256:2-");
    let (outcome, message) = ends(&mut sim);
    assert_eq!(outcome, Outcome::Refused);
    assert!(message.contains("spec.taskDefinition is 7"), "{message}");
    let generation = sim.facts().generation;
    sim.run_until(Sim::is_settled, 20);
    assert_eq!((sim.ended.len(), sim.facts().generation), (0, generation));
    assert!(sim.effects.is_empty(), "{:?}", sim.effects);
    // What was malformed may not count into the hash.
    sim.ask(2);
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_release_in_flight_goes_on_when_its_record_can_no_longer_be_read() {
    let mut sim = baking();
    spoil_record(&mut sim, "sha256:spoilt");
    assert_eq!(ends(&mut sim).0, Outcome::Refused, "the new record");
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded, "the release");
}

#[test]
fn a_request_waits_for_a_managed_service_that_can_be_read() {
    let mut sim = Sim::serving(|_| {});
    spoil_service(&mut sim);
    sim.ask(2);
    sim.pass(Fault::None);
    let Some(Next::Wait(wait)) = &sim.last_next else { panic!("{:?}", sim.last_next) };
    assert!(format!("{:?}", wait.on).contains("the ManagedService is refused: spec.bake is 7"), "{wait:?}");
    sim.restore_service();
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_release_in_flight_goes_on_by_its_plan_when_its_service_can_no_longer_be_read() {
    let mut sim = baking();
    spoil_service(&mut sim);
    sim.ask(3);
    assert_eq!(ends(&mut sim).0, Outcome::Succeeded);
    sim.run_until(Sim::waits_for_a_record, 400);
    assert_eq!(sim.facts().stable.as_ref().map(|stable| stable.revision.number), Some(2));
}

#[test]
fn a_strategy_that_the_service_lacks_is_refused_when_asked_for_and_when_it_went_before_the_start() {
    let mut sim = Sim::serving(|spec| {
        let slow = spec.strategies["fast"].clone();
        spec.strategies.insert("slow".to_owned(), slow);
        spec.release_may_choose = vec!["slow".to_owned()];
    });
    ask_for(&mut sim, "checkout:2", Some("slowly"), "sha256:a");
    let (outcome, message) = ends(&mut sim);
    assert_eq!(outcome, Outcome::Refused);
    assert!(message.contains("slowly"), "{message}");

    // It waits for an alarm, and meanwhile somebody takes its strategy away.
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    ask_for(&mut sim, "checkout:2", Some("slow"), "sha256:b");
    sim.pass(Fault::None);
    assert!(sim.facts().pending.is_some());
    if let Asked::Valid { spec, .. } = &mut sim.service {
        spec.strategies.remove("slow");
        spec.release_may_choose.clear();
    }
    let (outcome, message) = ends(&mut sim);
    assert_eq!(outcome, Outcome::Refused);
    assert!(message.contains("slow"), "{message}");
    assert!(sim.effects.is_empty(), "{:?}", sim.effects);
}

#[test]
fn a_suspension_counts_whatever_else_is_wrong_in_the_record() {
    for suspend in [true, false] {
        let mut sim = Sim::serving(|spec| spec.bake = Span::from_secs(20));
        sim.ask(2);
        sim.run_until(|sim| sim.region.weights_of("public").is_some_and(|live| live.b > 0), 100);
        let (refusal, hash) = (malformed("spec.bake"), "sha256:spoilt".to_owned());
        sim.service = Asked::Invalid { refusal, hash, suspend };
        let before = sim.region.weights_of("public");
        for _ in 0..40 {
            sim.pass(Fault::None);
        }
        assert_eq!(sim.region.weights_of("public") == before, suspend, "suspend: {suspend}");
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}
