//! The gate, the steps, the bake and the end of a release that goes forward.

use pointsman_core::model::Seen;
use pointsman_core::model::facts::{ReleaseKind, Stage};
use pointsman_core::model::observed::{Targets, TaskSetStatus};
use pointsman_core::records::{Group, Percent, Span};

use super::{Look, ask};
use crate::second_opinion::scene::{BAKE, MOMENT, all_to};

const SHIFTS: &str = "Shifting; set route public to a 0 % / b 100 %";

fn targets(look: &mut Look, healthy: u32) {
    look.progress().targets_healthy = false;
    let targets = Targets { healthy, ..Targets::default() };
    look.observed.extra.targets.insert(Group::B, Seen::Known(targets));
}

#[test]
fn the_gate_is_passed_only_when_nothing_of_it_is_left() {
    ask(&[
        ("all of it is done", Look::at_the_gate, |_| {}, "again"),
        ("as many targets are healthy as there are tasks", Look::at_the_gate, |it| targets(it, 4), "again"),
        ("one fewer is", Look::at_the_gate, |it| targets(it, 3), "wait for TargetsHealthy"),
        (
            "the hold lacks a moment",
            Look::at_the_gate,
            |it| it.progress().held = it.spec().test_hold.minus(MOMENT),
            "wait for TestHold",
        ),
        (
            "the hold lacks everything, of a version that was judged before",
            Look::at_the_gate,
            |it| {
                it.progress().held = Span::ZERO;
                it.release().kind = ReleaseKind::Return;
            },
            "again",
        ),
        (
            "there is no route to hold it on",
            Look::at_the_gate,
            |it| {
                it.progress().held = Span::ZERO;
                it.facts.plan.as_mut().expect("a plan").spec.routes.test = None;
            },
            "again",
        ),
        (
            "the test route shows the candidate, and nobody wrote that",
            Look::at_the_gate,
            |it| {
                it.progress().test_shifted = false;
                it.facts.acknowledged.remove("preview");
            },
            "set route preview to a 0 % / b 100 %",
        ),
        (
            "that was written, and the test route does not show it",
            Look::at_the_gate,
            |it| {
                it.progress().test_shifted = false;
                it.shows("preview", all_to(Group::A));
            },
            "set route preview to a 0 % / b 100 %",
        ),
    ]);
}

/// The way back has no task, as often as it takes to believe that.
fn stable_is_gone(look: &mut Look) {
    look.progress().stable_gone_reads = 3;
    look.stable().running = 0;
}

#[test]
fn a_step_is_taken_on_full_strength_alone() {
    ask(&[
        ("all is well", Look::shifting, |_| {}, SHIFTS),
        (
            "a task of the candidate is missing",
            Look::shifting,
            |it| it.candidate().running = 3,
            "Scaling; wait for TaskSetSteady",
        ),
        (
            "desiredCount is at 80 % of the start",
            Look::shifting,
            |it| it.release().desired_at_start = 5,
            SHIFTS,
        ),
        (
            "it is below",
            Look::shifting,
            |it| it.release().desired_at_start = 6,
            "Scaling; wait for DesiredCountFell",
        ),
        (
            "stable replaces tasks",
            Look::shifting,
            |it| (it.stable().pending, it.stable().steady) = (1, false),
            "Scaling; wait for StableSteady",
        ),
        ("stable starts a task and is steady", Look::shifting, |it| it.stable().pending = 1, SHIFTS),
        ("stable is unhealthy and stays so", Look::shifting, |it| it.stable().steady = false, SHIFTS),
        (
            "stable is seen without a task for the first time",
            Look::shifting,
            |it| it.stable().running = 0,
            "Scaling; wait for StableSteady",
        ),
        (
            "stable is gone, and a person gave the candidate everything",
            Look::shifting,
            |it| {
                stable_is_gone(it);
                it.shows("public", all_to(Group::B));
                (it.progress().foreign_reads, it.progress().foreign_for) = (3, Span::from_mins(1));
            },
            SHIFTS,
        ),
    ]);
}

#[test]
fn a_step_whose_writing_has_begun_does_not_start_its_clock_anew() {
    ask(&[(
        "its write was refused, so that nothing of it is in force, and a task is missing by now",
        Look::shifting,
        |it| {
            it.progress().stage = Stage::Shifting;
            it.candidate().running = 3;
        },
        "wait for TaskSetSteady",
    )]);
}

/// All traffic is on the candidate, because there is nothing else.
fn carrying_everything() -> Look {
    let mut look = Look::baking();
    stable_is_gone(&mut look);
    look.wrote("public", all_to(Group::B));
    look
}

#[test]
fn what_carries_everything_because_stable_is_gone_is_brought_to_its_full_scale() {
    ask(&[
        ("it is there already", carrying_everything, |_| {}, "wait for Bake"),
        (
            "it is at half of it",
            carrying_everything,
            |it| {
                let half = Percent::from_tenths(500).expect("a share");
                (it.candidate().scale, it.release().candidate.scale) = (half, half);
            },
            "Shifting; scale task set b to 100 %",
        ),
    ]);
}

#[test]
fn a_bake_takes_its_whole_time_after_the_weights_are_in_force() {
    ask(&[
        (
            "the weights lack a moment",
            Look::baking,
            |it| it.progress().settled = it.spec().waits.propagation.minus(MOMENT),
            "wait for Propagation",
        ),
        ("they are in force, and the bake begins", Look::baking, |_| {}, "wait for Bake"),
        ("it lacks a moment", Look::baking, |it| it.progress().baked = BAKE.minus(MOMENT), "wait for Bake"),
        ("it is over", Look::baking, |it| it.progress().baked = BAKE, "Scaling; again"),
    ]);
}

/// All is baked.
fn completing() -> Look {
    let mut look = Look::baking();
    (look.progress().step, look.progress().stage) = (3, Stage::Completing);
    look.wrote("public", all_to(Group::B));
    look
}

#[test]
fn a_release_says_whether_it_made_its_candidate_primary() {
    ask(&[
        ("it is not yet", completing, |_| {}, "make task set b PRIMARY"),
        (
            "it is",
            completing,
            |it| {
                it.stable().status = TaskSetStatus::Active;
                it.candidate().status = TaskSetStatus::Primary;
            },
            "Succeeded: 100 %, baked, PRIMARY; again",
        ),
        (
            "there is a moment left",
            completing,
            |it| it.progress().in_stage = it.spec().deadlines.primary.minus(MOMENT),
            "make task set b PRIMARY",
        ),
        (
            "its time is over",
            completing,
            |it| it.progress().in_stage = it.spec().deadlines.primary,
            "Succeeded: 100 % and baked, but PRIMARY could not be moved in time; again",
        ),
    ]);
}
