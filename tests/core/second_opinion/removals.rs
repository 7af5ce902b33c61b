//! What may not be deleted, and what a clean-up may count.

use pointsman_core::decide::Next;
use pointsman_core::decide::safety::Property::{QuiesceBeforeDestroy, RollbackAssetStays};
use pointsman_core::model::facts::Retained;
use pointsman_core::model::observed::{ForwardAction, LoadBalancer, TaskSetStatus};
use pointsman_core::model::{Effect, Seen};
use pointsman_core::records::{Group, Span};

use super::scene::*;

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn only_a_set_of_ours_that_nobody_needs_is_deleted() {
    let needed = Some((RollbackAssetStays, "task-set/b is still needed"));
    let not_ours = Some((QuiesceBeforeDestroy, "task-set/b is not known to be pm1/test/u/2.1"));
    ask(&[
        (
            "it has no tombstone",
            Scene::removing,
            |s| s.after.tombstones = vec!["task-set/c".to_owned()],
            Some((QuiesceBeforeDestroy, "task-set/b has no tombstone")),
        ),
        (
            "it is not up for removal",
            Scene::removing,
            |s| s.after.cleanups.clear(),
            Some((QuiesceBeforeDestroy, "task-set/b is not up for removal")),
        ),
        (
            "it is deleted by another name",
            Scene::removing,
            |s| {
                let (task_set, external_id) = (SET_B.to_owned(), ID_A.to_owned());
                s.announce(Effect::DeleteTaskSet { task_set, external_id });
            },
            Some((QuiesceBeforeDestroy, "task-set/b does not go by pm1/test/u/1.1")),
        ),
        (
            "it serves",
            Scene::removing,
            |s| s.both(|facts| facts.stable = Some(version(SET_B, ID_B, Group::B, 2))),
            needed,
        ),
        (
            "it is kept warm",
            Scene::removing,
            |s| {
                let version = version(SET_B, ID_B, Group::B, 2);
                s.after.retained =
                    Some(Retained { version, kept: Span::ZERO, uncertain: false, release: None });
            },
            needed,
        ),
        (
            "a release would go back to it",
            Scene::removing,
            |s| {
                let mut release = Scene::baking().after.release;
                release.as_mut().unwrap().candidate.task_set = None;
                release.as_mut().unwrap().stable = Some(version(SET_B, ID_B, Group::B, 2));
                (s.before.release, s.after.release) = (release.clone(), release);
            },
            needed,
        ),
        (
            "it is being released",
            Scene::removing,
            |s| {
                let release = Scene::baking().after.release;
                (s.before.release, s.after.release) = (release.clone(), release);
            },
            needed,
        ),
        (
            "another one is being released",
            Scene::removing,
            |s| {
                let mut release = Scene::baking().after.release;
                release.as_mut().unwrap().candidate.task_set = Some("task-set/c".to_owned());
                (s.before.release, s.after.release) = (release.clone(), release);
            },
            FINE,
        ),
        (
            "it is not listed",
            Scene::removing,
            |s| {
                s.sets().pop();
            },
            not_ours,
        ),
        (
            "it has another name",
            Scene::removing,
            |s| s.sets()[1].external_id = Some(ID_A.to_owned()),
            not_ours,
        ),
        ("it has no name", Scene::removing, |s| s.sets()[1].external_id = None, not_ours),
        ("nobody sees it", Scene::removing, |s| s.observed.service = unread(), not_ours),
        (
            "it is PRIMARY",
            Scene::removing,
            |s| s.sets()[1].status = TaskSetStatus::Primary,
            Some((QuiesceBeforeDestroy, "task-set/b is PRIMARY")),
        ),
    ]);
}

/// The load balancer as somebody else has changed it.
fn shows(s: &mut Scene, bend: fn(&mut LoadBalancer)) {
    let mut read = load_balancer(100, 0);
    bend(&mut read);
    s.observed.extra.load_balancer = Some(Seen::Known(read));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_set_is_deleted_when_nothing_can_bring_it_traffic_any_more() {
    let not_zero = Some((QuiesceBeforeDestroy, "group b is not known to be at 0 everywhere"));
    let early = |words| Some((QuiesceBeforeDestroy, words));
    ask(&[
        (
            "a moment early",
            Scene::removing,
            |s| s.each_cleanup(|it| it.quiet = QUIET.minus(MOMENT)),
            early("quiet for 7s999ms only"),
        ),
        (
            "early, for an uncertain one",
            Scene::removing,
            |s| s.each_cleanup(|it| it.uncertain = true),
            early("quiet for 8s only"),
        ),
        (
            "in time, for an uncertain one",
            Scene::removing,
            |s| s.each_cleanup(|it| (it.uncertain, it.quiet) = (true, QUIET_AFTER_UNKNOWN)),
            FINE,
        ),
        ("late", Scene::removing, |s| s.each_cleanup(|it| it.quiet = QUIET_AFTER_UNKNOWN), FINE),
        (
            "after one read",
            Scene::removing,
            |s| s.each_cleanup(|it| it.zero_reads = 1),
            early("1 zero reads"),
        ),
        ("after three reads", Scene::removing, |s| s.each_cleanup(|it| it.zero_reads = 3), FINE),
        (
            "a write is open",
            Scene::removing,
            |s| s.lose(&weights("public", all_to(Group::A))),
            early("a write of public is outstanding"),
        ),
        (
            "a write of the test route is open",
            Scene::removing,
            |s| s.lose(&weights("preview", all_to(Group::A))),
            early("a write of preview is outstanding"),
        ),
        (
            "the barrier is of an earlier epoch",
            Scene::removing,
            |s| s.after.acknowledged.get_mut("public").unwrap().epoch = EPOCH - 1,
            early("no barrier on public"),
        ),
        (
            "the last write gave it weight",
            Scene::removing,
            |s| s.after.acknowledged.get_mut("preview").unwrap().shares = tenths(1),
            early("no barrier on preview"),
        ),
        ("nothing was ever written", Scene::removing, |s| s.after.acknowledged.clear(), FINE),
        (
            "nobody read the load balancer",
            Scene::removing,
            |s| s.observed.extra.load_balancer = None,
            not_zero,
        ),
        ("it cannot be read", Scene::removing, |s| s.observed.extra.load_balancer = Some(unread()), not_zero),
        (
            "a rule gives it weight",
            Scene::removing,
            |s| shows(s, |it| it.actions[0].groups[1].1 = 1),
            not_zero,
        ),
        (
            "a rule of somebody else gives it weight",
            Scene::removing,
            |s| {
                shows(s, |it| {
                    let other: &mut ForwardAction = &mut it.actions[1];
                    other.groups.push((GROUP_B.to_owned(), 1));
                });
            },
            not_zero,
        ),
        (
            "no rule names it",
            Scene::removing,
            |s| {
                shows(s, |it| {
                    it.actions[0].groups.pop();
                });
            },
            FINE,
        ),
    ]);
}

/// A clean-up that has counted a part of its time, and one read.
fn counting() -> Scene {
    let mut scene = Scene::removing();
    scene.after.outstanding.clear();
    scene.next = Next::Again;
    scene.each_cleanup(|it| (it.quiet, it.zero_reads) = (Span::from_secs(6), 1));
    scene
}

#[test]
fn a_clean_up_counts_what_was_watched_and_read() {
    let unwatched = Some((QuiesceBeforeDestroy, "in a pass that watched 2s"));
    let unread = |words| Some((QuiesceBeforeDestroy, words));
    ask(&[
        ("as long as it was watched", counting, |s| s.after.cleanups[0].quiet = QUIET, FINE),
        ("a moment longer", counting, |s| s.after.cleanups[0].quiet = QUIET.plus(MOMENT), unwatched),
        (
            "anew",
            counting,
            |s| (s.after.cleanups[0].quiet, s.after.cleanups[0].zero_reads) = (Span::ZERO, 0),
            FINE,
        ),
        ("one more read", counting, |s| s.after.cleanups[0].zero_reads = 2, FINE),
        ("two more reads", counting, |s| s.after.cleanups[0].zero_reads = 3, unread("3 zero reads after 1")),
        (
            "one more read that there was not",
            counting,
            |s| {
                s.observed.extra.load_balancer = None;
                s.after.cleanups[0].zero_reads = 2;
            },
            unread("2 zero reads after 1"),
        ),
        ("no more reads, as there was none", counting, |s| s.observed.extra.load_balancer = None, FINE),
        (
            "one that begins as if it had been quiet",
            counting,
            |s| {
                s.before.cleanups.clear();
                s.after.cleanups[0].zero_reads = 0;
            },
            unwatched,
        ),
        (
            "a second one has waited for longer",
            counting,
            |s| {
                s.both(|facts| {
                    let mut other = cleanup(Some(SET_A), ID_A);
                    other.quiet = QUIET_AFTER_UNKNOWN;
                    facts.cleanups.push(other);
                });
            },
            FINE,
        ),
        (
            "the doubt is forgotten",
            counting,
            |s| s.before.cleanups[0].uncertain = true,
            unread("the removal of pm1/test/u/2.1 is certain all at once"),
        ),
        ("a doubt comes up", counting, |s| s.after.cleanups[0].uncertain = true, FINE),
        ("a doubt stays", counting, |s| s.each_cleanup(|it| it.uncertain = true), FINE),
    ]);
}
