//! The scenarios: each a sentence that a team would say.

use std::ops::Range;

use pointsman_core::model::observed::AlarmState::{Alarm, Ok};
use pointsman_core::records::Group;
use pointsman_core::records::Span;
use pointsman_core::records::command::Verb;
use pointsman_core::records::managed_service::{IdleDrift, ManagedServiceSpec};
use pointsman_core::records::status::Outcome::{self, Failed, RolledBack, Succeeded, Superseded};
use pointsman_core::records::strategy::{OnTimeout, Pause, StepSpec, Strategy};

use super::fault::Op;
use super::region::SmallRegion;
use super::script::{Act, Scenario, Step, When};

fn step(when: When, act: Act) -> Step {
    Step { when, act }
}

fn story(name: &'static str, script: Vec<Step>, outcomes: &'static [Outcome], serves: u32) -> Scenario {
    Scenario {
        name,
        serving: true,
        edit: |_, _| {},
        script,
        hit: WHOLE,
        outcomes,
        or: &[],
        serves,
        or_serves: &[],
    }
}

/// No step: the end of a scenario.
const END: usize = usize::MAX;
/// Every call of it is hit.
const WHOLE: Range<usize> = 0..END;

fn asks(revision: u32) -> Step {
    step(When::Now, Act::Ask(revision))
}

/// A point in time: the alarm is as it was.
const NOTHING: Act = Act::Alarm("latency", Ok);

/// An alarm that burns for a while and goes out by itself.
fn burns(when: When, name: &'static str, secs: u64) -> [Step; 2] {
    [step(when, Act::Alarm(name, Alarm)), step(When::After(secs), Act::Alarm(name, Ok))]
}

/// The production write of the last step is 4 s of propagation and 20 s of bake old when the bake ends.
const ALMOST_BAKED: u64 = 23;

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = releases();
    all.extend(alarms());
    all.extend(without_the_table());
    all.extend(while_the_item_refuses());
    all.extend(edits());
    all.extend(hands());
    all.extend(more_hands());
    all.extend(hands_on_weights());
    all.extend(two_routes());
    all.extend(lost_tasks());
    all
}

/// The one by this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn releases() -> Vec<Scenario> {
    vec![
        story("good", vec![asks(2)], &[Succeeded], 2),
        Scenario { serving: false, ..story("first", vec![asks(1)], &[Succeeded], 1) },
        story("never-healthy", vec![asks(5)], &[Failed], 1),
        story(
            "over-broken-stable",
            vec![step(When::Now, Act::Sicken(Group::A)), step(When::After(30), Act::Ask(2))],
            &[Succeeded],
            2,
        ),
    ]
}

fn alarms() -> Vec<Scenario> {
    let burning = |name, when, outcomes| {
        let mut script = vec![asks(2)];
        script.extend(burns(when, "b-5xx", 6));
        story(name, script, outcomes, 1)
    };
    vec![
        burning("alarm-in-test", When::Tested, &[Failed]),
        burning("alarm-in-shift", When::At(100, 0), &[RolledBack]),
        Scenario { hit: 1..END, ..burning("alarm-in-bake", When::At(1000, 10), &[RolledBack]) },
        Scenario {
            // The bake may end a poll before or after the alarm; both are right, and nothing else is.
            or: &[&[Succeeded]],
            or_serves: &[2],
            hit: 1..END,
            ..burning("alarm-at-the-last-moment", When::At(1000, ALMOST_BAKED), &[RolledBack])
        },
    ]
}

/// The table cannot be reached for 40 s, in which the lease runs out.
fn without_the_table() -> Vec<Scenario> {
    let cut_off = |name, when, burns: bool, outcomes, serves| {
        let mut script = vec![asks(2), step(when, Act::CutOff)];
        if burns {
            script.push(step(When::After(3), Act::Alarm("b-5xx", Alarm)));
        }
        script.push(step(When::After(if burns { 37 } else { 40 }), Act::Reconnect));
        if burns {
            script.push(step(When::After(20), Act::Alarm("b-5xx", Ok)));
        }
        story(name, script, outcomes, serves)
    };
    // One that takes over sees the weights as they are, or the alarm.
    let or: &[&[Outcome]] = &[&[RolledBack]];
    vec![
        Scenario {
            or,
            hit: 1..END,
            ..cut_off("emergency-in-shift", When::At(100, 2), true, &[RolledBack], 1)
        },
        Scenario {
            or,
            hit: 1..END,
            edit: with_two_routes,
            ..cut_off("emergency-in-bake", When::At(1000, 4), true, &[RolledBack], 1)
        },
        Scenario { hit: 1..END, ..cut_off("cut-off-in-bake", When::At(1000, 4), false, &[Succeeded], 2) },
    ]
}

/// The state item alone refuses for 40 s, in which the lease goes on, and an alarm burns for longer.
fn while_the_item_refuses() -> Vec<Scenario> {
    let refused = |name, when, calls| {
        let script = vec![
            asks(2),
            step(when, Act::RefuseState(calls)),
            step(When::After(3), Act::Alarm("b-5xx", Alarm)),
            step(When::After(37), Act::RefuseState(&[])),
            step(When::After(20), Act::Alarm("b-5xx", Ok)),
        ];
        // As without the table.
        Scenario { or: &[&[RolledBack]], hit: 1..END, ..story(name, script, &[RolledBack], 1) }
    };
    vec![
        Scenario {
            edit: with_two_routes,
            ..refused("item-refuses-in-bake", When::At(1000, 4), &[Op::Remembered, Op::Write])
        },
        refused("item-is-read-only-in-shift", When::At(100, 2), &[Op::Write]),
    ]
}

/// Two production routes, at 100 % and 10 % when the alarm burns.
fn two_routes() -> Vec<Scenario> {
    let mut script = vec![asks(2)];
    script.extend(burns(When::At(1000, 0), "b-5xx", 6));
    vec![Scenario { edit: with_two_routes, ..story("two-routes-back", script, &[RolledBack], 1) }]
}

fn with_two_routes(region: &mut SmallRegion, spec: &mut ManagedServiceSpec) {
    region.add_production_route(spec);
}

/// Stable's tasks die, and ECS replaces them: in a bake, and in a pause before the first share.
fn lost_tasks() -> Vec<Scenario> {
    let in_bake = vec![asks(2), step(When::At(100, 2), Act::Kill(Group::A))];
    let in_pause = vec![
        asks(2),
        step(When::Paused, NOTHING),
        step(When::After(4), Act::Kill(Group::A)),
        step(When::After(40), Act::Command(Verb::Promote)),
    ];
    vec![
        Scenario { hit: 1..END, ..story("stable-dies-in-bake", in_bake, &[Succeeded], 2) },
        Scenario { edit: pausing, hit: 2..END, ..story("stable-dies-in-pause", in_pause, &[Succeeded], 2) },
    ]
}

/// Weights by hand, at other points than in a shift and toward stable.
fn hands_on_weights() -> Vec<Scenario> {
    let after = |when, act| vec![asks(2), step(when, act)];
    let in_retention = vec![asks(2), step(When::Ended(1), NOTHING), step(When::After(6), Act::Move(50, 50))];
    // Longer than a run may hang.
    let while_idle = vec![step(When::Now, Act::Move(50, 50)), step(When::After(330), NOTHING)];
    vec![
        Scenario {
            // As in the shift.
            or: &[&[Succeeded]],
            or_serves: &[2],
            hit: 1..END,
            ..story("moved-back-in-bake", after(When::At(1000, 6), Act::Move(100, 0)), &[RolledBack], 1)
        },
        Scenario {
            hit: 1..END,
            ..story("moved-forward-by-hand", after(When::At(100, 6), Act::Move(50, 50)), &[Succeeded], 2)
        },
        Scenario {
            edit: |_, spec| spec.drift.idle = IdleDrift::Revert,
            hit: 2..END,
            ..story("moved-while-idle", in_retention, &[Succeeded], 2)
        },
        story("moved-to-an-empty-group", while_idle, &[], 1),
    ]
}

/// Until the next one is made; then it is as in a bake.
fn supersede_in_completing() -> Scenario {
    let script = vec![
        asks(2),
        step(When::Completing, Act::Ask(3)),
        step(When::Ended(1), NOTHING),
        step(When::Made, NOTHING),
    ];
    Scenario {
        // Once PRIMARY has moved the older one has succeeded.
        or: &[&[Succeeded, Succeeded]],
        or_serves: &[3],
        hit: 1..3,
        ..story("supersede-in-completing", script, &[Superseded, Succeeded], 3)
    }
}

/// The one that takes its place pauses as well.
fn supersede_in_pause() -> Scenario {
    let script = vec![
        asks(2),
        step(When::Paused, Act::Ask(3)),
        step(When::Ended(1), NOTHING),
        step(When::Paused, Act::Command(Verb::Promote)),
    ];
    Scenario { edit: pausing, hit: 1..3, ..story("supersede-in-pause", script, &[Superseded, Succeeded], 3) }
}

fn edits() -> Vec<Scenario> {
    let other = |name, when| story(name, vec![asks(2), step(when, Act::Ask(3))], &[Superseded, Succeeded], 3);
    vec![
        other("supersede-in-preparation", When::Made),
        other("supersede-in-hold", When::Tested),
        other("supersede-in-shift", When::At(100, 2)),
        Scenario { hit: 1..END, ..other("supersede-in-bake", When::At(1000, 10)) },
        supersede_in_completing(),
        supersede_in_pause(),
        story("same-revision", vec![asks(2), step(When::At(100, 2), Act::Reword(2))], &[Succeeded], 2),
        Scenario {
            hit: 1..END,
            ..story(
                "edit-back-in-bake",
                vec![asks(2), step(When::At(1000, 10), Act::Ask(1))],
                &[Superseded, Succeeded],
                1,
            )
        },
        // The request for what serves already has an outcome, too.
        story("edit-back", vec![asks(2), step(When::At(100, 6), Act::Ask(1))], &[Superseded, Succeeded], 1),
    ]
}

fn hands() -> Vec<Scenario> {
    let after = |when, act| vec![asks(2), step(when, act)];
    vec![
        story("abort", after(When::At(100, 6), Act::Command(Verb::Abort)), &[RolledBack], 1),
        story("record-deleted", after(When::At(100, 6), Act::Withdraw), &[RolledBack], 1),
        Scenario {
            edit: pausing,
            ..story("promote", after(When::Paused, Act::Command(Verb::Promote)), &[Succeeded], 2)
        },
        story(
            "suspend",
            vec![
                asks(2),
                step(When::At(100, 6), Act::Suspend(true)),
                step(When::After(40), Act::Suspend(false)),
            ],
            &[Succeeded],
            2,
        ),
        Scenario {
            hit: 1..END,
            ..story(
                "rollback-after-success",
                vec![asks(2), step(When::Ended(1), Act::Command(Verb::Rollback))],
                &[Succeeded, Succeeded],
                1,
            )
        },
    ]
}

fn more_hands() -> Vec<Scenario> {
    let after = |when, act| vec![asks(2), step(when, act)];
    let mut retried = vec![asks(2)];
    retried.extend(burns(When::At(100, 6), "b-5xx", 6));
    retried.push(step(When::Ended(1), Act::Command(Verb::Retry)));
    let mut broken = vec![step(When::Now, Act::Alarm("latency", Alarm)), asks(2)];
    broken.push(step(When::Pending, Act::Command(Verb::BreakGlass)));
    broken.push(step(When::Ended(1), Act::Alarm("latency", Ok)));
    vec![
        Scenario { edit: pausing_briefly, ..story("pause-runs-out", vec![asks(2)], &[Failed], 1) },
        story("retry", retried, &[RolledBack, Succeeded], 2),
        story("break-glass", broken, &[Succeeded], 2),
        Scenario {
            // A hand before the step's answer was recorded can't be told from a step that AWS never took: it is repeated.
            or: &[&[Succeeded]],
            or_serves: &[2],
            ..story("moved-back-by-hand", after(When::At(100, 10), Act::Move(100, 0)), &[RolledBack], 1)
        },
        story("service-deleted", after(When::At(100, 6), Act::Abandon), &[RolledBack], 1),
    ]
}

/// A pause before the first step, which a person ends.
fn pausing(_: &mut SmallRegion, spec: &mut ManagedServiceSpec) {
    pausing_for(spec, Span::from_mins(10));
}

/// A pause before the first step, which nobody ends.
fn pausing_briefly(_: &mut SmallRegion, spec: &mut ManagedServiceSpec) {
    pausing_for(spec, Span::from_secs(40));
}

fn pausing_for(spec: &mut ManagedServiceSpec, timeout: Span) {
    let pause = Pause { timeout, on_timeout: OnTimeout::Rollback };
    let steps = vec![StepSpec { pause: Some(pause), ..StepSpec::default() }];
    spec.strategies.insert("fast".to_owned(), Strategy { steps: Some(steps), ..Strategy::default() });
}
