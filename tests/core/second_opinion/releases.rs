//! What may not become of a release, whatever is asked for.

use pointsman_core::decide::Next;
use pointsman_core::decide::safety::Property::{
    AlarmMeansStable, GenerationsGrow, LatchStays, RollbackAssetStays, UnknownIsUnknown, WriteAhead,
};
use pointsman_core::model::Effect;
use pointsman_core::model::facts::{LatchCause, ReleaseId, ReleaseKind};
use pointsman_core::model::observed::AlarmState;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Percent, Span};

use super::scene::*;

#[test]
fn an_honest_decision_is_not_objected_to() {
    let fine: fn(&mut Scene) = |_| {};
    ask(&[
        ("a step bakes", Scene::baking, fine, FINE),
        ("the next one begins", Scene::stepping, fine, FINE),
        ("it is written", Scene::shifting, fine, FINE),
        ("the gate is passed", Scene::at_the_gate, fine, FINE),
        ("the release succeeds", Scene::succeeding, fine, FINE),
        ("it goes back", Scene::going_back, fine, FINE),
        ("a first one bakes", Scene::first, fine, FINE),
        ("a task set is made", Scene::creating, fine, FINE),
        ("a task set is removed", Scene::removing, fine, FINE),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn an_alarm_means_stable() {
    let burns = Some((AlarmMeansStable, "b-5xx is in ALARM"));
    let set_aside = |s: &mut Scene| {
        s.sees("b-5xx", AlarmState::Alarm);
        s.sets_aside("b-5xx");
    };
    ask(&[
        (
            "an alarm of the candidate's group burns",
            Scene::baking,
            |s| s.sees("b-5xx", AlarmState::Alarm),
            burns,
        ),
        (
            "an alarm of the service burns",
            Scene::baking,
            |s| s.sees("latency", AlarmState::Alarm),
            Some((AlarmMeansStable, "latency is in ALARM")),
        ),
        ("one of stable's group burns", Scene::baking, |s| s.sees("a-5xx", AlarmState::Alarm), FINE),
        (
            "one of group a burns, and the candidate is there",
            Scene::first,
            |s| s.sees("a-5xx", AlarmState::Alarm),
            Some((AlarmMeansStable, "a-5xx is in ALARM")),
        ),
        (
            "one of group b burns, and the candidate is in a",
            Scene::first,
            |s| s.sees("b-5xx", AlarmState::Alarm),
            FINE,
        ),
        ("it has no data", Scene::baking, |s| s.sees("b-5xx", AlarmState::InsufficientData), FINE),
        (
            "it latches in this very decision",
            Scene::baking,
            |s| {
                s.sees("b-5xx", AlarmState::Alarm);
                s.becomes().latch = Some(latch());
            },
            FINE,
        ),
        ("it was set aside", Scene::baking, set_aside, FINE),
        (
            "it is set aside in this very decision",
            Scene::baking,
            |s| {
                s.sees("b-5xx", AlarmState::Alarm);
                s.becomes().break_glass.insert("b-5xx".to_owned());
            },
            FINE,
        ),
        (
            "another one was set aside",
            Scene::baking,
            |s| {
                s.sees("b-5xx", AlarmState::Alarm);
                s.sees("latency", AlarmState::Alarm);
                s.sets_aside("latency");
            },
            burns,
        ),
        ("the release succeeds under it", Scene::succeeding, |s| s.sees("b-5xx", AlarmState::Alarm), burns),
        (
            "it succeeds, and the alarm was set aside",
            Scene::succeeding,
            |s| {
                s.sees("b-5xx", AlarmState::Alarm);
                s.was().break_glass.insert("b-5xx".to_owned());
            },
            FINE,
        ),
        (
            "it ends as one that failed",
            Scene::succeeding,
            |s| {
                s.sees("b-5xx", AlarmState::Alarm);
                s.ended[0].outcome = Outcome::Failed;
            },
            FINE,
        ),
        (
            "another release ends as one that failed",
            Scene::succeeding,
            |s| {
                s.sees("b-5xx", AlarmState::Alarm);
                s.ended = vec![ended(1, Outcome::Failed)];
            },
            burns,
        ),
        (
            "another release takes its place",
            Scene::baking,
            |s| {
                s.sees("b-5xx", AlarmState::Alarm);
                s.becomes().id = ReleaseId { generation: 2, attempt: 2 };
                s.becomes().latch = Some(latch());
            },
            burns,
        ),
        (
            "it burns while the release goes back",
            Scene::going_back,
            |s| s.sees("b-5xx", AlarmState::Alarm),
            FINE,
        ),
    ]);
}

#[test]
fn the_latch_stays() {
    let changed = Some((LatchStays, "the latch of 2.1 changed"));
    let not_back = Some((LatchStays, "latched 2.1 did not end as one that went back"));
    let looks_again: fn() -> Scene = || Scene { next: Next::Again, ..Scene::going_back() };
    let ends: fn() -> Scene = || {
        let mut scene = Scene::succeeding();
        scene.was().latch = Some(latch());
        scene.ended[0].outcome = Outcome::RolledBack;
        scene
    };
    ask(&[
        ("it is gone", looks_again, |s| s.becomes().latch = None, changed),
        (
            "it has another cause",
            looks_again,
            |s| s.becomes().latch.as_mut().unwrap().cause = LatchCause::Deadline,
            changed,
        ),
        (
            "it says something else",
            looks_again,
            |s| s.becomes().latch.as_mut().unwrap().detail.clear(),
            changed,
        ),
        ("its clock goes on", looks_again, |s| s.becomes().latch.as_mut().unwrap().elapsed = WATCHED, FINE),
        ("it ends as rolled back", ends, |_| {}, FINE),
        ("it ends as a success", ends, |s| s.ended[0].outcome = Outcome::Succeeded, not_back),
        ("it is gone without an end", ends, |s| s.ended.clear(), not_back),
        ("another release went back", ends, |s| s.ended[0].release.attempt = 2, not_back),
    ]);
}

#[test]
fn the_way_back_is_recorded_and_stays() {
    let missing = Some((WriteAhead, "has no recorded way back"));
    let other = Some((WriteAhead, "is not what serves"));
    let begins: fn() -> Scene = || {
        let mut scene = Scene::baking();
        (scene.before.release, scene.next) = (None, Next::Again);
        scene
    };
    ask(&[
        ("there is none", Scene::baking, |s| s.each_release(|it| it.stable = None), missing),
        (
            "there is none for a return",
            Scene::baking,
            |s| s.each_release(|it| (it.stable, it.kind) = (None, ReleaseKind::Return)),
            missing,
        ),
        ("a first release has none", Scene::first, |_| {}, FINE),
        (
            "it changes in flight",
            Scene::baking,
            |s| s.becomes().stable = Some(version("task-set/c", ID_A, Group::A, 1)),
            Some((RollbackAssetStays, "the way back of 2.1 changed")),
        ),
        ("a release begins, and goes back to what serves", begins, |_| {}, FINE),
        (
            "a release begins, and would go back to something else",
            begins,
            |s| s.becomes().stable = Some(version("task-set/c", ID_A, Group::A, 1)),
            other,
        ),
        (
            "another release takes its place, and would go back to something else",
            Scene::baking,
            |s| {
                s.becomes().id.attempt = 2;
                s.becomes().stable = Some(version("task-set/c", ID_A, Group::A, 1));
            },
            other,
        ),
    ]);
}

fn write() -> Effect {
    weights("public", tenths(100))
}

fn creation() -> Effect {
    Scene::creating().after.outstanding.into_values().next().unwrap().effect
}

fn scaling() -> Effect {
    Effect::ScaleTaskSet { task_set: SET_B.to_owned(), scale: Percent::FULL }
}

/// A creation that was given up and forgotten after its clean-up had been quiet for so long.
fn given_up(s: &mut Scene, quiet: Span) {
    s.lose_and_forget(&creation());
    s.sets().pop();
    let mut job = cleanup(None, ID_B);
    (job.quiet, job.zero_reads) = (quiet, 0);
    s.before.cleanups.push(job);
}

#[test]
fn the_unknown_stays_unknown() {
    let forgotten = Some((UnknownIsUnknown, "was forgotten"));
    ask(&[
        ("a write of unknown outcome is kept", Scene::baking, |s| s.lose(&write()), FINE),
        ("it is forgotten", Scene::baking, |s| s.lose_and_forget(&write()), forgotten),
        (
            "it counts as not sent",
            Scene::baking,
            |s| {
                s.lose(&write());
                s.after.outstanding.values_mut().for_each(|it| it.unknown = false);
            },
            Some((UnknownIsUnknown, "was never answered")),
        ),
        (
            "PRIMARY is forgotten",
            Scene::baking,
            |s| s.lose_and_forget(&Effect::SetPrimary { task_set: SET_B.to_owned() }),
            forgotten,
        ),
        (
            "a task set is there, and a change of it forgotten",
            Scene::baking,
            |s| s.lose_and_forget(&scaling()),
            forgotten,
        ),
        (
            "a task set is gone, and a change of it forgotten",
            Scene::baking,
            |s| {
                s.lose_and_forget(&scaling());
                s.sets().pop();
            },
            FINE,
        ),
        (
            "nobody can say whether it is gone",
            Scene::baking,
            |s| {
                s.lose_and_forget(&scaling());
                s.observed.service = unread();
            },
            forgotten,
        ),
        ("a creation is found", Scene::baking, |s| s.lose_and_forget(&creation()), FINE),
        (
            "a creation is not found, and forgotten",
            Scene::baking,
            |s| {
                s.lose_and_forget(&creation());
                s.sets().pop();
            },
            forgotten,
        ),
        ("its requests have expired", Scene::baking, |s| given_up(s, QUIET_AFTER_UNKNOWN), FINE),
        (
            "they expire in a moment",
            Scene::baking,
            |s| given_up(s, QUIET_AFTER_UNKNOWN.minus(MOMENT)),
            forgotten,
        ),
        (
            "those of another one have expired",
            Scene::baking,
            |s| {
                given_up(s, QUIET_AFTER_UNKNOWN);
                s.before.cleanups[0].external_id = ID_A.to_owned();
            },
            forgotten,
        ),
    ]);
}

/// A newer request asks for revision 3, and the release of revision 2 goes on.
fn newer() -> Scene {
    let mut scene = Scene::baking();
    (scene.after.generation, scene.after.asked) = (3, Some(identity(3)));
    scene
}

#[test]
fn generations_grow_and_the_newest_one_is_heard() {
    let goes_on = Some((GenerationsGrow, "2.1 goes on, and generation 3 asks for another revision"));
    let latches: fn(&mut Scene) = |s| s.becomes().latch = Some(latch());
    ask(&[
        (
            "a generation is taken back",
            Scene::baking,
            |s| s.after.generation = 1,
            Some((GenerationsGrow, "1 after 2")),
        ),
        ("a newer request asks for something else", newer, |_| {}, goes_on),
        ("it asks for the very revision", newer, |s| s.after.asked = Some(identity(2)), FINE),
        ("the release turns around", newer, latches, FINE),
        ("the newer request is refused", newer, |s| s.after.last = Some(ended(3, Outcome::Refused)), FINE),
        ("one before it was refused", newer, |s| s.after.last = Some(ended(2, Outcome::Refused)), goes_on),
        (
            "it ended, but was not refused",
            newer,
            |s| s.after.last = Some(ended(3, Outcome::Superseded)),
            goes_on,
        ),
        (
            "the release goes by another record of its own generation: a return",
            Scene::baking,
            |s| s.both(|facts| facts.asked = Some(identity(3))),
            FINE,
        ),
        (
            "nothing else could serve",
            Scene::first,
            |s| (s.after.generation, s.after.asked) = (3, Some(identity(3))),
            FINE,
        ),
        (
            "nothing else could serve, and this one does not yet",
            Scene::first,
            |s| {
                (s.after.generation, s.after.asked) = (3, Some(identity(3)));
                s.each_release(|it| it.progress.exposed = false);
            },
            goes_on,
        ),
    ]);
}
