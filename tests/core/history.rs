//! The history of an alarm may be behind its state: what it does not show yet is not known to be fine.

use pointsman_core::model::Seen;
use pointsman_core::model::observed::{AlarmState, Observed};
use pointsman_core::records::status::Outcome;

use crate::sim::{Fault, Sim};

fn baking_canary() -> Sim {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(|sim| sim.region.production_weights()[1].1 == 100 && sim.facts().release.is_some(), 100);
    sim
}

/// The alarm burnt and is OK again before the daemon looks.
fn flap(sim: &mut Sim) {
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.let_time_pass(pointsman_core::records::Span::from_secs(1));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
}

fn empty(seen: &mut Observed) {
    seen.extra.alarm_history.values_mut().for_each(|seen| *seen = Seen::Known(Vec::new()));
}

#[test]
fn an_empty_history_of_an_alarm_that_changed_holds_until_it_shows_the_change() {
    let mut sim = baking_canary();
    flap(&mut sim);
    sim.hand = Some(empty);
    for _ in 0..20 {
        sim.pass(Fault::None);
    }
    assert_eq!(sim.region.production_weights()[1].1, 100, "nothing goes forward");
    assert!(sim.ended.is_empty(), "{:?}", sim.ended);
    sim.hand = None;
    sim.run_until(|sim| !sim.ended.is_empty(), 5);
    assert_eq!((sim.ended[0].outcome, sim.ended[0].reason.as_str()), (Outcome::RolledBack, "Alarm"));
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_history_that_ends_before_the_change_that_the_alarm_announces_is_not_its_whole_history() {
    let mut sim = baking_canary();
    // Silence and OK again, which is harmless, and later the flap; the history shows the first two alone.
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::InsufficientData);
    sim.let_time_pass(pointsman_core::records::Span::from_secs(2));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    sim.let_time_pass(pointsman_core::records::Span::from_secs(2));
    flap(&mut sim);
    sim.hand = Some(|seen| {
        for seen in seen.extra.alarm_history.values_mut() {
            let Seen::Known(states) = seen else { continue };
            states.truncate(2);
        }
    });
    for _ in 0..20 {
        sim.pass(Fault::None);
    }
    assert_eq!(sim.region.production_weights()[1].1, 100, "nothing goes forward");
    sim.hand = None;
    sim.run_until(|sim| !sim.ended.is_empty(), 5);
    assert_eq!((sim.ended[0].outcome, sim.ended[0].reason.as_str()), (Outcome::RolledBack, "Alarm"));
}

#[test]
fn a_history_that_never_shows_the_change_is_missing_evidence() {
    let mut sim = baking_canary();
    flap(&mut sim);
    sim.hand = Some(empty);
    sim.run_until(|sim| !sim.ended.is_empty(), 100);
    assert_eq!((sim.ended[0].outcome, sim.ended[0].reason.as_str()), (Outcome::RolledBack, "NoEvidence"));
}

#[test]
fn a_change_without_an_alarm_in_it_holds_nothing_up_once_it_is_read() {
    let mut sim = baking_canary();
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::InsufficientData);
    sim.let_time_pass(pointsman_core::records::Span::from_secs(2));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    sim.run_until(|sim| !sim.ended.is_empty(), 100);
    assert_eq!(sim.ended[0].outcome, Outcome::Succeeded);
}
