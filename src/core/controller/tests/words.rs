//! What is said, and that it is said once.

use super::support::{shift, wait};
use super::*;

#[test]
fn a_change_of_what_is_done_is_said_once() {
    let waiting = wait(Facts::default()).next;
    let mut announced = None;
    let said: Vec<(String, String)> =
        [&waiting, &waiting, &Next::Again, &waiting, &Next::Settled, &Next::Settled, &Next::Act(shift())]
            .into_iter()
            .filter_map(|next| change(&mut announced, next))
            .collect();
    let said: Vec<(&str, &str)> = said.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    assert_eq!(
        said,
        [
            ("nothing", "wait for TestHold"),
            ("wait for TestHold", "settled"),
            ("settled", "set route public to a 100 % / b 0 %"),
        ]
    );
}

#[test]
fn a_rollback_that_is_stuck_is_said_once_each_time_it_gets_stuck() {
    let status = |kind: &str| {
        let key = "payments/checkout".parse().unwrap();
        let mut status = bare_status(&key, &Facts::default(), Phase::RollingBack);
        status.status.conditions.push(Condition {
            kind: kind.to_owned(),
            status: "True".to_owned(),
            reason: "Throttled".to_owned(),
            message: Some("for 1m1s".to_owned()),
            observed_generation: 42,
            last_transition_time: Timestamp::UNIX_EPOCH,
        });
        status
    };
    let (going, stuck) = (status("Progressing"), status("RollbackStuck"));
    let mut memory = false;
    let said: Vec<Option<&str>> = [&going, &stuck, &stuck, &going, &stuck]
        .into_iter()
        .map(|status| newly_stuck(&mut memory, status))
        .collect();
    assert_eq!(said, [None, Some("for 1m1s"), None, None, Some("for 1m1s")]);
}
