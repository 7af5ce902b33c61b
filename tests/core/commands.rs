//! Many commands, and commands that meet each other.

use pointsman_core::decide::Wish;
use pointsman_core::decide::response::{Class, Phase, Work};
use pointsman_core::model::facts::COMMANDS_KEPT;
use pointsman_core::model::observed::AlarmState;
use pointsman_core::model::{Observed, Seen};
use pointsman_core::records::Span;
use pointsman_core::records::command::Verb;
use pointsman_core::records::status::Outcome;

use crate::sim::trouble::{Injection, What};
use crate::sim::{Fault, Sim};

/// More commands than are remembered, each refused: they mean a release that never was.
fn flood(sim: &mut Sim) {
    for _ in 0..=COMMANDS_KEPT {
        sim.command(Verb::Promote, "checkout-99.1", None);
    }
}

fn at_canary(sim: &Sim) -> bool {
    sim.region.production_weights()[1].1 == 100 && sim.facts().release.is_some()
}

fn baking_canary() -> Sim {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(at_canary, 100);
    sim
}

#[test]
fn more_commands_than_are_remembered_are_taken_once_and_hold_no_release_up() {
    let mut sim = Sim::serving(|_| {});
    flood(&mut sim);
    sim.pass(Fault::None);
    let answered = sim.facts().clone();
    assert_eq!(answered.commands_done.len(), COMMANDS_KEPT);
    sim.pass(Fault::None);
    assert_eq!(sim.facts().without_clocks(), answered.without_clocks(), "they were taken again");
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    assert_eq!(sim.ended[0].outcome, Outcome::Succeeded);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_break_glass_that_was_refused_is_not_obeyed_after_many_others() {
    let mut sim = baking_canary();
    let release = sim.release_id();
    sim.command(Verb::BreakGlass, &release, None);
    sim.pass(Fault::None);
    flood(&mut sim);
    sim.pass(Fault::None);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.run_until(|sim| !sim.ended.is_empty(), 20);
    assert_eq!(sim.ended[0].outcome, Outcome::RolledBack);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn ids_out_of_order_are_all_taken_while_they_are_remembered() {
    let mut sim = Sim::serving(|_| {});
    for _ in 0..COMMANDS_KEPT {
        sim.command(Verb::Promote, "checkout-99.1", None);
    }
    // The clock of the host that wrote the oldest is behind: the others are taken first.
    let oldest: Wish = sim.wishes.remove(0);
    sim.pass(Fault::None);
    sim.wishes.insert(0, oldest);
    sim.pass(Fault::None);
    assert_eq!(sim.facts().commands_done.len(), COMMANDS_KEPT);
    assert_eq!(sim.facts().commands_done[0], sim.wishes[0].id);
}

/// Version 2 has succeeded, version 1 is kept, and PRIMARY cannot be moved, which is tried before anything else.
fn retaining_with_an_open_primary() -> Sim {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(60));
    for phase in Phase::ALL {
        let what = What::Work(Work::SetPrimary, Class::Unknown, false);
        sim.injections.push(Injection::new(phase, what, u32::MAX));
    }
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    sim
}

#[test]
fn a_rollback_does_not_take_the_place_of_a_newer_request_that_waits() {
    let mut sim = retaining_with_an_open_primary();
    sim.ask_as(3, Some("newer"));
    sim.run_until(|sim| sim.facts().pending.is_some(), 5);
    sim.command(Verb::Rollback, "checkout-2.1", None);
    sim.pass(Fault::None);
    assert!(sim.facts().answers.last().is_some_and(|answer| !answer.done), "{:?}", sim.facts().answers);
    assert_eq!((sim.facts().generation, sim.facts().attempt), (3, 1));
    // That one is given up; then the way is free.
    sim.command(Verb::Abort, "checkout-3.1", None);
    sim.pass(Fault::None);
    sim.command(Verb::Rollback, "checkout-3.1", None);
    sim.pass(Fault::None);
    sim.injections.clear();
    sim.run_until(|sim| sim.ended.len() == 3, 400);
    let ends: Vec<_> = sim.ended.iter().map(|end| (end.release.to_string(), end.outcome)).collect();
    let (newer, back) = (("3.1", Outcome::Failed), ("3.2", Outcome::Succeeded));
    assert_eq!(ends[1..], [newer, back].map(|(release, outcome)| (release.to_owned(), outcome)));
    assert_eq!(sim.facts().stable.as_ref().map(|stable| stable.revision.number), Some(1));
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_second_rollback_before_the_first_has_started_changes_nothing() {
    let mut sim = retaining_with_an_open_primary();
    sim.command(Verb::Rollback, "checkout-2.1", None);
    sim.run_until(|sim| sim.facts().pending.is_some(), 5);
    sim.command(Verb::Rollback, "checkout-2.1", None);
    sim.pass(Fault::None);
    assert!(sim.facts().answers.last().is_some_and(|answer| !answer.done), "{:?}", sim.facts().answers);
    assert_eq!((sim.facts().attempt, sim.ended.len()), (2, 1));
}

/// One alarm cannot be read.
fn latency_unread(observed: &mut Observed) {
    observed.alarms.insert("latency".to_owned(), Seen::Unknown("throttled".to_owned()));
}

#[test]
fn a_break_glass_waits_while_no_alarm_can_be_read_and_is_carried_out_then() {
    let mut sim = Sim::serving(|_| {});
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.ask(2);
    sim.pass(Fault::None);
    let release = sim.release_id();
    sim.command(Verb::BreakGlass, &release, None);
    for _ in 0..5 {
        sim.pass(Fault::AlarmsUnread);
        assert_eq!(sim.facts().answers, [], "nobody knows whether one burns");
    }
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    assert!(sim.facts().answers[0].done, "{:?}", sim.facts().answers);
    assert_eq!(sim.ended[0].outcome, Outcome::Succeeded);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_break_glass_that_waited_is_obeyed_in_the_pass_that_sees_the_alarm_burn() {
    let mut sim = baking_canary();
    let release = sim.release_id();
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.command(Verb::BreakGlass, &release, None);
    sim.pass(Fault::AlarmsUnread);
    assert_eq!(sim.facts().answers, []);
    sim.pass(Fault::None);
    assert!(sim.facts().answers[0].done, "{:?}", sim.facts().answers);
    assert!(sim.facts().release.as_ref().is_some_and(|release| release.latch.is_none()));
}

#[test]
fn a_break_glass_waits_no_longer_than_any_command_counts() {
    let mut sim = baking_canary();
    let release = sim.release_id();
    sim.command(Verb::BreakGlass, &release, None);
    sim.pass(Fault::AlarmsUnread);
    assert_eq!(sim.facts().answers, []);
    sim.wishes[0].age = Span::from_mins(61);
    sim.pass(Fault::AlarmsUnread);
    let answer = &sim.facts().answers[0];
    assert_eq!((answer.done, answer.reason.as_str()), (false, "it is older than 1h"));
}

#[test]
fn a_break_glass_sets_aside_what_burns_and_says_which_alarms_stay_armed_unread() {
    let mut sim = baking_canary();
    let release = sim.release_id();
    sim.hand = Some(latency_unread);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.command(Verb::BreakGlass, &release, None);
    sim.pass(Fault::None);
    let answer = &sim.facts().answers[0];
    assert!(answer.done);
    assert_eq!(answer.reason, "set aside until OK once: b-5xx; not read, so they stay armed: latency");
}

#[test]
fn a_break_glass_when_all_alarms_are_read_and_none_burns_is_refused_at_once() {
    let mut sim = baking_canary();
    let release = sim.release_id();
    sim.command(Verb::BreakGlass, &release, None);
    sim.pass(Fault::None);
    let answer = &sim.facts().answers[0];
    assert_eq!((answer.done, answer.reason.as_str()), (false, "no alarm is in ALARM"));
}

#[test]
fn a_break_glass_for_a_release_that_goes_back_is_refused_and_sets_nothing_aside() {
    let mut sim = baking_canary();
    let release = sim.release_id();
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.pass(Fault::Denied);
    sim.command(Verb::BreakGlass, &release, None);
    sim.pass(Fault::None);
    let answer = &sim.facts().answers[0];
    assert_eq!((answer.done, answer.reason.clone()), (false, format!("{release} is going back already")));
}
