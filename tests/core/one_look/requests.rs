//! What a changed record means, by what is there when it is seen.

use pointsman_core::decide::Asked;
use pointsman_core::model::facts::{
    Identity, LatchCause, Pending, Quarantined, ReleaseId, ReleaseKind, Stage,
};
use pointsman_core::records::Group;
use pointsman_core::records::desired_release::DesiredReleaseSpec;

use super::leaving::{deleted, removing};
use super::repair::kept_beside_one_that_serves;
use super::unanswered::idle;
use super::{Look, ask};
use crate::second_opinion::scene::{Scene, all_to, identity, latch, revision};

/// Somebody asks for version 3.
fn asks(look: &mut Look) {
    let task_definition = "checkout:3".to_owned();
    let spec = DesiredReleaseSpec { task_definition, strategy: None, request_id: None };
    look.desired = Asked::Valid { spec, hash: "sha256:3".to_owned() };
    let Asked::Valid { spec, .. } = &mut look.service else { return };
    let strategies = serde_json::json!({"fast": {"allAtOnce": {}}});
    spec.strategies = serde_json::from_value(strategies).expect("a strategy");
}

#[test]
fn a_request_for_a_service_without_a_record_waits_once_nothing_of_the_service_is_left() {
    fn without_claims(look: &mut Look) {
        look.facts.claims.clear();
        asks(look);
    }
    ask(&[
        ("nothing is left", deleted, without_claims, "wait for Record"),
        ("claims are left", deleted, asks, "again"),
        (
            "a task set is left",
            removing,
            |it| {
                it.service = Asked::Absent;
                without_claims(it);
                it.facts.cleanups[0].deleted = true;
            },
            "wait for Gone",
        ),
    ]);
}

/// A first release with traffic.
fn first() -> Look {
    let mut look = Look::of(Scene::first());
    look.wrote("public", all_to(Group::A));
    look.wrote("preview", all_to(Group::A));
    look
}

#[test]
fn a_newer_request_turns_a_release_around_unless_nothing_else_could_serve() {
    ask(&[
        (
            "another version serves",
            Look::baking,
            asks,
            "latched by Superseded; GoingBack; set route public to a 100 % / b 0 %",
        ),
        ("nothing served before", first, asks, "again"),
        (
            "nothing served before, and it has no traffic yet",
            first,
            |it| {
                it.progress().exposed = false;
                asks(it);
            },
            "Superseded: by generation 3; again",
        ),
        (
            "it goes back already",
            Look::baking,
            |it| {
                it.release().latch = Some(latch());
                it.progress().stage = Stage::GoingBack;
                asks(it);
            },
            "set route public to a 100 % / b 0 %",
        ),
    ]);
    assert_eq!(first().release().kind, ReleaseKind::First);
}

/// A release that went back finds nothing there: version 1 has lost its tasks, and the candidate has everything.
fn nothing_to_go_back_to() -> Look {
    let mut look = Look::baking();
    look.release().latch = Some(latch());
    look.progress().stage = Stage::GoingBack;
    look.progress().stable_gone_reads = 3;
    look.stable().running = 0;
    look.wrote("public", all_to(Group::B));
    look.facts.follows = true;
    look
}

/// It was asked for before, and still is.
pub fn asked(look: &mut Look, identity: Identity) {
    let task_definition = identity.task_definition.clone();
    let spec = DesiredReleaseSpec { task_definition, strategy: None, request_id: None };
    look.desired = Asked::Valid { spec, hash: identity.spec_hash.clone() };
    look.facts.asked = Some(identity);
}

#[test]
fn who_asked_for_the_version_that_is_lost_gets_a_release_of_it() {
    const REPLACES: &str = "Failed: aborted by mara; checkout:1 is gone, so it is left in place; again";
    const HALTS: &str = "halted: NoRollbackTarget";
    ask(&[
        ("it was asked for", nothing_to_go_back_to, |it| asked(it, identity(1)), REPLACES),
        ("the candidate was asked for once more", nothing_to_go_back_to, |it| asked(it, identity(2)), HALTS),
        (
            "it was asked for, and that request has ended",
            nothing_to_go_back_to,
            |it| {
                asked(it, identity(1));
                it.facts.follows = false;
            },
            HALTS,
        ),
    ]);
}

#[test]
fn a_revision_that_failed_starts_again_under_another_request_id_alone() {
    fn failed(look: &mut Look, before: Option<&str>, now: Option<&str>) {
        asks(look);
        let Asked::Valid { spec, .. } = &mut look.desired else { unreachable!("it is valid") };
        spec.request_id = now.map(str::to_owned);
        look.facts.quarantined.push(Quarantined {
            revision: revision(3),
            release: ReleaseId { generation: 1, attempt: 1 },
            request_id: before.map(str::to_owned),
            cause: LatchCause::Alarm,
            at: jiff::Timestamp::UNIX_EPOCH,
        });
    }
    const REFUSED: &str = "Refused: spec.taskDefinition is checkout:3, which failed in 1.1 (Alarm); allowed: a revision \
        that has not failed, or a new requestId; write a new spec.requestId, or send the command retry; again";
    ask(&[
        ("under another", idle, |it| failed(it, Some("one"), Some("two")), "again"),
        ("under the first one", idle, |it| failed(it, None, Some("two")), "again"),
        ("under the same", idle, |it| failed(it, Some("one"), Some("one")), REFUSED),
        ("under none", idle, |it| failed(it, Some("one"), None), REFUSED),
    ]);
}

#[test]
fn an_operators_return_goes_by_what_is_kept_until_the_service_is_given_up() {
    fn returns() -> Look {
        let mut look = kept_beside_one_that_serves();
        asked(&mut look, identity(1));
        let identity =
            Some(Identity { takes_back: Some(ReleaseId { generation: 2, attempt: 1 }), ..identity(2) });
        look.facts.pending = Some(Pending { return_to_retained: true, identity, ..Pending::default() });
        look
    }
    ask(&[
        ("it is there", returns, |_| {}, "look"),
        ("what is kept is given up", returns, |it| it.service = Asked::Absent, "wait for Quiet"),
    ]);
}
