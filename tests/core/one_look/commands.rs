//! What a command is answered.

use pointsman_core::decide::Wish;
use pointsman_core::model::facts::{Ended, LatchCause, Pending, Quarantined, ReleaseId};
use pointsman_core::records::Span;
use pointsman_core::records::command::{Command, CommandKind, CommandSpec, Verb};
use pointsman_core::records::desired_release::ApiVersion;
use pointsman_core::records::status::Outcome;

use super::Look;
use super::unanswered::idle;
use crate::second_opinion::scene::{ended, identity, revision, unread};

/// The release that is in flight, or was the last one.
const THIS: ReleaseId = ReleaseId { generation: 2, attempt: 1 };
const OTHER: ReleaseId = ReleaseId { generation: 1, attempt: 1 };

fn tell(look: &mut Look, verb: Verb, release: ReleaseId) {
    let spec = CommandSpec { verb, release: format!("checkout-{release}"), step: None, by: None };
    let command = Command { api_version: ApiVersion::V1, kind: CommandKind::Command, spec, expire_at: None };
    look.commands.push(Wish { id: "01".to_owned(), age: Span::ZERO, command: Ok(command) });
}

/// Whether it was done and what was said; nothing while it waits.
fn answer(look: &Look) -> Option<(bool, String)> {
    look.decide().facts.answers.pop().map(|answer| (answer.done, answer.reason))
}

/// No alarm can be read.
fn in_the_dark(mut look: Look) -> Look {
    look.observed.alarms.values_mut().for_each(|alarm| *alarm = unread());
    look.facts.answers.clear();
    (look.facts.generation, look.facts.attempt) = (THIS.generation, THIS.attempt);
    if look.facts.release.is_some() {
        look.release().id = THIS;
    }
    look
}

fn pending(mut look: Look) -> Look {
    look.facts.pending = Some(Pending::default());
    look
}

#[test]
fn only_a_break_glass_for_what_is_under_way_waits_for_the_alarms() {
    type Row = (fn() -> Look, Verb, ReleaseId, bool);
    let rows: [Row; 6] = [
        (|| in_the_dark(Look::baking()), Verb::BreakGlass, THIS, true),
        (|| in_the_dark(Look::baking()), Verb::BreakGlass, OTHER, false),
        (|| in_the_dark(Look::baking()), Verb::Abort, THIS, false),
        (|| pending(in_the_dark(idle())), Verb::BreakGlass, THIS, true),
        (|| pending(in_the_dark(idle())), Verb::BreakGlass, OTHER, false),
        (|| in_the_dark(idle()), Verb::BreakGlass, THIS, false),
    ];
    for (look, verb, release, waits) in rows {
        let mut look = look();
        tell(&mut look, verb, release);
        assert_eq!(answer(&look).is_none(), waits, "{verb:?} {release}: {:?}", answer(&look));
    }
}

#[test]
fn a_rollback_is_told_that_another_version_took_over_only_when_the_last_one_was_lost() {
    let told = |quarantined: ReleaseId, number: u32| {
        let mut look = idle();
        look.facts.answers.clear();
        look.facts.asked = Some(identity(2));
        look.facts.last = Some(Ended { identity: identity(2), ..ended(THIS.generation, Outcome::Succeeded) });
        look.facts.quarantined = vec![Quarantined {
            revision: revision(number),
            release: quarantined,
            request_id: None,
            cause: LatchCause::CandidateLost,
            at: jiff::Timestamp::UNIX_EPOCH,
        }];
        tell(&mut look, Verb::Rollback, THIS);
        answer(&look).expect("it is answered")
    };
    let lost = "checkout:1 serves since the last release lost its tasks";
    assert_eq!(told(THIS, 2), (true, lost.to_owned()));
    for (release, number) in [(OTHER, 2), (THIS, 1)] {
        let (done, reason) = told(release, number);
        assert!(!done && reason.starts_with("no earlier version is kept any more"), "{reason}");
    }
}
