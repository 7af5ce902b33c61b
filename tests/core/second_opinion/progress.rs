//! How a release comes on: its gate, its bakes, its waits, its success.

use pointsman_core::decide::safety::Property::{BakeIsWatched, GateBeforeTraffic, WaitsEnd};
use pointsman_core::decide::{Next, WaitingOn};
use pointsman_core::model::facts::ReleaseKind;
use pointsman_core::model::{RefusalClass, Resource};
use pointsman_core::records::Span;
use pointsman_core::records::status::Outcome;

use super::scene::*;

#[test]
fn a_gate_is_earned() {
    let sick = Some((GateBeforeTraffic, "2.1 passed its gate and is not healthy"));
    let early = Some((GateBeforeTraffic, "on the test route"));
    ask(&[
        (
            "no target was found healthy",
            Scene::at_the_gate,
            |s| s.becomes().progress.targets_healthy = false,
            sick,
        ),
        ("a task is missing", Scene::at_the_gate, |s| s.sets()[1].running = 3, sick),
        ("a task of stable is missing", Scene::at_the_gate, |s| s.sets()[0].running = 3, FINE),
        ("nobody sees the tasks", Scene::at_the_gate, |s| s.observed.service = unread(), sick),
        (
            "the gate stays closed, and a task is missing",
            Scene::at_the_gate,
            |s| {
                s.sets()[1].running = 3;
                s.becomes().progress.gate_passed = false;
            },
            FINE,
        ),
        ("a task is missing later", Scene::baking, |s| s.sets()[1].running = 3, FINE),
        (
            "it never had the test route",
            Scene::at_the_gate,
            |s| s.becomes().progress.test_shifted = false,
            early,
        ),
        (
            "it was not held for long enough",
            Scene::at_the_gate,
            |s| s.each_release(|it| it.progress.held = HOLD.minus(MOMENT)),
            early,
        ),
        (
            "there is no test route",
            Scene::at_the_gate,
            |s| {
                s.each_plan(|plan| plan.spec.routes.test = None);
                s.each_release(|it| (it.progress.test_shifted, it.progress.held) = (false, Span::ZERO));
            },
            FINE,
        ),
        (
            "it served before",
            Scene::at_the_gate,
            |s| {
                s.each_release(|it| {
                    it.kind = ReleaseKind::Return;
                    (it.progress.test_shifted, it.progress.held) = (false, Span::ZERO);
                });
            },
            FINE,
        ),
        (
            "it was held while it was watched",
            Scene::at_the_gate,
            |s| s.was().progress.held = HOLD.minus(WATCHED),
            FINE,
        ),
        (
            "it was held while nobody watched",
            Scene::at_the_gate,
            |s| s.was().progress.held = HOLD.minus(WATCHED).minus(MOMENT),
            Some((GateBeforeTraffic, "in a pass that watched 2s")),
        ),
    ]);
}

#[test]
fn a_bake_is_watched() {
    let unwatched = Some((BakeIsWatched, "in a pass that watched 2s"));
    let left = Some((BakeIsWatched, "left step 0 after"));
    ask(&[
        ("as long as it was watched", Scene::baking, |s| s.was().progress.baked = Span::from_secs(5), FINE),
        (
            "a moment longer than it was watched",
            Scene::baking,
            |s| s.was().progress.baked = Span::from_secs(5).minus(MOMENT),
            unwatched,
        ),
        ("nothing at all", Scene::baking, |s| s.becomes().progress.baked = Span::from_secs(5), FINE),
        (
            "the next step begins as if baked",
            Scene::stepping,
            |s| s.becomes().progress.baked = BAKE,
            unwatched,
        ),
        (
            "a step is left a moment early",
            Scene::stepping,
            |s| s.was().progress.baked = BAKE.minus(MOMENT),
            left,
        ),
        ("a step is left that is not in force", Scene::stepping, |s| s.was().progress.shifted = false, left),
        (
            "a step is skipped",
            Scene::stepping,
            |s| s.becomes().progress.step = 2,
            Some((BakeIsWatched, "step 2 after 0")),
        ),
        (
            "a step is taken back",
            Scene::stepping,
            |s| s.each_release(|it| it.progress.step = 1 - it.progress.step),
            Some((BakeIsWatched, "step 0 after 1")),
        ),
        (
            "a pause is left, in which nothing bakes",
            Scene::stepping,
            |s| {
                (s.was().progress.step, s.was().progress.baked) = (1, Span::ZERO);
                s.becomes().progress.step = 2;
            },
            FINE,
        ),
        (
            "a return has the last step alone, which bakes longer",
            Scene::stepping,
            |s| s.each_release(|it| it.kind = ReleaseKind::Return),
            left,
        ),
    ]);
}

#[test]
fn a_success_has_all_its_steps_behind_it() {
    ask(&[
        (
            "the last step is not left",
            Scene::succeeding,
            |s| s.was().progress.step = 2,
            Some((BakeIsWatched, "2.1 succeeded after 2 of 3 steps")),
        ),
        (
            "a first release has one step, and has left it",
            Scene::succeeding,
            |s| (s.was().kind, s.was().progress.step) = (ReleaseKind::First, 1),
            FINE,
        ),
        (
            "it ends early, as one that failed",
            Scene::succeeding,
            |s| (s.was().progress.step, s.ended[0].outcome) = (0, Outcome::Failed),
            FINE,
        ),
        (
            "a request that waits ends well meanwhile",
            Scene::baking,
            |s| s.ended.push(ended(3, Outcome::Succeeded)),
            FINE,
        ),
    ]);
}

#[test]
fn a_wait_has_an_end() {
    let endless = Some((WaitsEnd, "has no end"));
    ask(&[
        (
            "it is never looked at again",
            Scene::baking,
            |s| {
                let Next::Wait(wait) = &mut s.next else { unreachable!("it bakes") };
                wait.poll = Span::ZERO;
            },
            Some((WaitsEnd, "Bake has no poll")),
        ),
        ("a hold without end", Scene::baking, |s| s.next = waits(WaitingOn::TestHold, None, None), endless),
        (
            "one with a deadline",
            Scene::baking,
            |s| s.next = waits(WaitingOn::TestHold, None, Some(HOLD)),
            FINE,
        ),
        (
            "one that says how long",
            Scene::baking,
            |s| s.next = waits(WaitingOn::TestHold, Some(HOLD), None),
            FINE,
        ),
        ("an operator's", Scene::baking, |s| s.next = waits(WaitingOn::Suspended, None, None), FINE),
        (
            "an author's",
            Scene::baking,
            |s| s.next = waits(WaitingOn::Record { detail: String::new() }, None, None),
            FINE,
        ),
        (
            "that of the way back",
            Scene::going_back,
            |s| s.next = waits(WaitingOn::RollbackVerify, None, None),
            FINE,
        ),
        (
            "one for weights that are astray",
            Scene::baking,
            |s| s.next = waits(WaitingOn::ForeignWeights { route: "public".to_owned() }, None, None),
            FINE,
        ),
        (
            "one after a refusal",
            Scene::baking,
            |s| {
                let (resource, class) = (Resource::Primary, Some(RefusalClass::Throttled));
                s.next = waits(WaitingOn::Effect { resource, class, message: String::new() }, None, None);
            },
            FINE,
        ),
        ("one for a candidate that is missing as it bakes", Scene::baking, missing_candidate, FINE),
        ("one for a candidate that never comes", Scene::at_the_gate, missing_candidate, endless),
    ]);
}

fn missing_candidate(s: &mut Scene) {
    s.next = waits(WaitingOn::TaskSetSteady { running: 0, desired: 0, last_stop: None }, None, None);
}
