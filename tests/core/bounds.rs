//! How long things take at most: throttles that last, a newer request, an alarm that fires.

use pointsman_core::decide::response::{Class, Phase, Work};
use pointsman_core::model::RefusalClass;
use pointsman_core::model::observed::AlarmState;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Span};

use crate::sim::trouble::{Injection, What};
use crate::sim::{Fault, Sim};

const POLL: Span = Span::from_secs(2);

fn at_canary(sim: &Sim) -> bool {
    sim.region.production_weights()[1].1 == 100 && sim.facts().release.is_some()
}

fn baking_canary() -> Sim {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(at_canary, 100);
    sim
}

/// Every change that AWS is asked for in these phases is throttled.
fn throttle(sim: &mut Sim, phases: &[Phase]) {
    for phase in phases {
        for work in Work::ALL {
            let what = What::Work(work, Class::Refused(RefusalClass::Throttled), false);
            sim.injections.push(Injection::new(*phase, what, u32::MAX));
        }
    }
}

/// Passes for so long: how many, and how many calls were throttled in them. Then nothing is throttled any more.
fn last(sim: &mut Sim, span: Span) -> (u32, u32) {
    let began = sim.now;
    let mut passes = 0;
    while Span::between(began, sim.now) < span {
        sim.pass(Fault::None);
        passes += 1;
    }
    let attempts = sim.injections.iter().map(|injection| injection.met).sum();
    sim.injections.clear();
    (passes, attempts)
}

fn until_settled(sim: &mut Sim) -> Span {
    let began = sim.now;
    sim.run_until(Sim::is_settled, 400);
    Span::between(began, sim.now)
}

#[test]
fn a_release_that_was_throttled_ends_as_long_afterwards_as_any_and_asks_once_a_look() {
    let mut plain = Sim::serving(|_| {});
    plain.ask(2);
    let undisturbed = until_settled(&mut plain);
    // Shorter than the deadline `prepare` (120 s), and longer than each of them.
    for (lasts, outcome) in [(90, Outcome::Succeeded), (600, Outcome::Failed)] {
        let mut sim = Sim::serving(|_| {});
        throttle(&mut sim, &Phase::ALL);
        sim.ask(2);
        let (passes, attempts) = last(&mut sim, Span::from_secs(lasts));
        assert!(attempts > 0 && attempts <= passes, "{attempts} calls in {passes} looks");
        let took = until_settled(&mut sim);
        assert_eq!(sim.ended[0].outcome, outcome, "{lasts} s");
        assert!(took <= undisturbed.plus(POLL.times(5)), "{took} after {lasts} s of throttles");
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}

#[test]
fn a_way_back_that_was_throttled_is_written_in_the_first_look_that_is_not() {
    for lasts in [30, 600] {
        let mut sim = baking_canary();
        throttle(&mut sim, &[Phase::GoingBack]);
        sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
        let (passes, attempts) = last(&mut sim, Span::from_secs(lasts));
        assert!(attempts > 0 && attempts <= passes, "{attempts} calls in {passes} looks");
        assert!(
            u64::from(attempts) >= lasts / 10,
            "it is tried at least every 10 s: {attempts} in {lasts} s"
        );
        assert_eq!(sim.region.production_weights()[1].1, 100, "it was throttled all the time");
        for _ in 0..3 {
            sim.pass(Fault::None);
        }
        assert_eq!(sim.region.production_weights()[1].1, 0);
        until_settled(&mut sim);
        assert_eq!(sim.ended[0].outcome, Outcome::RolledBack);
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}

#[test]
fn an_alarm_is_answered_in_the_look_that_sees_it_and_in_the_next_one_when_the_process_dies_over_it() {
    for (fault, looks) in
        [(Fault::None, 1), (Fault::CrashBefore, 2), (Fault::CrashAfter, 2), (Fault::TakeOver, 2)]
    {
        let mut sim = baking_canary();
        sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
        sim.pass(fault);
        let open = sim.durable.release.as_ref().is_some_and(|release| release.latch.is_none());
        assert!(!open, "{fault:?}: it is durable that the release goes back");
        for _ in 1..looks {
            sim.pass(Fault::None);
        }
        assert_eq!(sim.region.production_weights()[1].1, 0, "{fault:?}");
        until_settled(&mut sim);
        assert_eq!(sim.ended[0].outcome, Outcome::RolledBack, "{fault:?}");
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}

/// A service on which a newer request comes at a bad moment.
fn moments() -> Vec<(&'static str, Sim)> {
    let serving = || Sim::serving(|spec| spec.retention = Span::from_mins(60));
    let idle = serving();
    let mut preparing = serving();
    preparing.ask(2);
    preparing.run_until(|sim| sim.facts().release.is_some(), 20);
    let baking = baking_canary();
    let mut going_back = baking_canary();
    throttle(&mut going_back, &[Phase::GoingBack]);
    going_back.region.set_alarm(going_back.now, "b-5xx", AlarmState::Alarm);
    going_back.pass(Fault::None);
    let mut retaining = serving();
    retaining.ask(2);
    retaining.run_until(|sim| !sim.ended.is_empty(), 400);
    let mut waiting = serving();
    waiting.region.set_alarm(waiting.now, "latency", AlarmState::Alarm);
    waiting.ask(2);
    waiting.pass(Fault::None);
    let mut suspended = serving();
    suspended.suspend(true);
    suspended.pass(Fault::None);
    let mut unseen = baking_canary();
    unseen.hand = Some(|seen| seen.service = pointsman_core::model::Seen::Unknown("throttled".to_owned()));
    vec![
        ("idle", idle),
        ("preparing", preparing),
        ("baking", baking),
        ("going back", going_back),
        ("retaining", retaining),
        ("waiting to start", waiting),
        ("suspended", suspended),
        ("the service cannot be read", unseen),
    ]
}

#[test]
fn the_status_follows_a_newer_request_within_two_looks_whatever_is_under_way() {
    for (moment, mut sim) in moments() {
        let before = sim.facts().generation;
        sim.told_generation = Some(before);
        sim.ask_as(3, Some("newer"));
        for _ in 0..2 {
            sim.pass(Fault::None);
        }
        assert_eq!(sim.told_generation, Some(before + 1), "{moment}");
        let asked = sim.facts().asked.as_ref().and_then(|asked| asked.request_id.clone());
        assert_eq!(asked.as_deref(), Some("newer"), "{moment}");
    }
}

#[test]
fn a_small_scale_in_under_a_release_is_followed_by_both_versions_and_a_larger_one_holds_it() {
    for (desired, goes_on) in [(8, true), (7, false)] {
        let mut sim = Sim::serving(|_| {});
        sim.region.set_desired_count(sim.now, 10);
        for _ in 0..10 {
            sim.pass(Fault::None);
        }
        sim.ask(2);
        sim.run_until(at_canary, 100);
        sim.region.set_desired_count(sim.now, desired);
        sim.run_until(|sim| !sim.ended.is_empty(), 400);
        let outcome = sim.ended[0].outcome;
        assert_eq!(outcome == Outcome::Succeeded, goes_on, "10 became {desired}: {outcome:?}");
        let serving = if goes_on { Group::B } else { Group::A };
        let sets = sim.region.service(sim.now).task_sets;
        let set = sets.iter().find(|set| set.group == Some(serving)).unwrap();
        assert_eq!(set.running, desired, "the version that serves has as many tasks as it should");
        assert_eq!(sim.region.desired_count(sim.now), desired, "it is never written");
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}
