//! Seeded design bugs: what the checker must catch, to be believed when it finds nothing.
//!
//! Each is a small wrapper around the shipped functions, or a flaw in the loop around them. A wrapper lies about what
//! is remembered or seen, or changes what was decided; everything else stays the shipped code. `decisions` has those
//! that change what was decided, `lies` those that change what is known.

use pointsman_core::decide::{Decision, Input};
use pointsman_core::model::{Answer, Effect, Facts};

use super::emergency::Flaw;

mod decisions;
mod lies;

/// How the loop around the pure functions is broken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocol {
    /// An effect is sent before it is recorded.
    pub acts_first: bool,
    /// The state is written whatever its revision and epoch are.
    pub ignores_fences: bool,
}

/// The type of `decide`.
pub type Decide = fn(&Input<'_>) -> Decision;
/// The type of `settle`.
pub type Settle = fn(&Facts, &Effect, &Answer, u64) -> Facts;

/// A seeded bug.
#[derive(Debug)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// The thought behind it.
    pub thought: &'static str,
    /// The configuration in which it shows.
    pub config: &'static str,
    /// Instead of `decide`.
    pub decide: Option<Decide>,
    /// Instead of `settle`.
    pub settle: Option<Settle>,
    /// Instead of the loop.
    pub protocol: Protocol,
    /// Instead of what may be done without a lease.
    pub emergency: Option<Flaw>,
}

const SOUND: Protocol = Protocol { acts_first: false, ignores_fences: false };

const fn decides(name: &'static str, config: &'static str, thought: &'static str, decide: Decide) -> Bug {
    Bug { name, thought, config, decide: Some(decide), settle: None, protocol: SOUND, emergency: None }
}

const fn settles(name: &'static str, config: &'static str, thought: &'static str, settle: Settle) -> Bug {
    Bug { name, thought, config, decide: None, settle: Some(settle), protocol: SOUND, emergency: None }
}

const fn loops(name: &'static str, config: &'static str, thought: &'static str, protocol: Protocol) -> Bug {
    Bug { name, thought, config, decide: None, settle: None, protocol, emergency: None }
}

const fn in_emergency(name: &'static str, flaw: Flaw, thought: &'static str) -> Bug {
    Bug { name, thought, config: "MC5", decide: None, settle: None, protocol: SOUND, emergency: Some(flaw) }
}

/// All of them.
pub const BUGS: &[Bug] = &[
    loops(
        "act-before-record",
        "MC1",
        "send first, write down what happened after it",
        Protocol { acts_first: true, ..SOUND },
    ),
    loops(
        "no-fences",
        "MC1",
        "the owner of the lease may write the state without conditions",
        Protocol { ignores_fences: true, ..SOUND },
    ),
    settles("lost-is-done", "MC1", "an answer that was lost was surely a yes", decisions::lost_is_done),
    settles(
        "refused-is-settled",
        "MC1",
        "a refusal says that nothing is on its way, the attempt before included",
        decisions::refused_is_settled,
    ),
    decides(
        "read-equals-done",
        "MC1",
        "if the weights read right, the write has landed",
        lies::read_equals_done,
    ),
    decides("crash-forgets", "MC1", "what was announced and not answered was not sent", lies::crash_forgets),
    decides("no-tombstone", "plain", "a clean-up needs no mark of its own", decisions::no_tombstone),
    decides("no-quiet-wait", "MC1-alarm", "delete as soon as the weights are back", lies::no_quiet_wait),
    decides(
        "quiet-as-ever",
        "MC1-alarm",
        "the same quiet time after a lost answer as otherwise",
        lies::quiet_as_ever,
    ),
    decides("no-barrier", "MC1-alarm", "an outstanding write does not hold up a deletion", lies::no_barrier),
    decides(
        "acknowledged-is-true",
        "MC1-alarm",
        "before a deletion, what was acknowledged needs no reading",
        lies::acknowledged_is_true,
    ),
    decides(
        "late-is-a-hand",
        "MC1",
        "weights that are not what was written last are a person's",
        lies::late_is_a_hand,
    ),
    decides(
        "slow-clock",
        "plain",
        "time that was watched counts a quarter, to be on the safe side",
        lies::slow_clock,
    ),
    decides("unlatch", "MC1-alarm", "the alarm is OK again, so the release may go on", decisions::unlatch),
    decides("alarm-late", "MC1-alarm", "an alarm in the last bake is too late to matter", lies::alarm_late),
    decides(
        "delete-by-role",
        "MC1-alarm",
        "the one to delete is whichever is not PRIMARY",
        decisions::delete_by_role,
    ),
    decides("back-by-role", "MC1-alarm", "the way back is to whichever is PRIMARY", decisions::back_by_role),
    decides(
        "back-to-majority",
        "MC1-alarm",
        "the way back is to whoever has most of the traffic",
        decisions::back_to_majority,
    ),
    decides("back-unverified", "MC1-alarm", "one attempt at writing back is enough", lies::back_unverified),
    decides("primary-kept", "MC1-alarm", "PRIMARY is only a label", decisions::primary_kept),
    decides("gate-skipped", "plain", "the first step is so small that it needs no gate", lies::gate_skipped),
    decides(
        "running-is-healthy",
        "plain",
        "a task set that exists can take traffic",
        lies::running_is_healthy,
    ),
    decides(
        "stable-scaled-down",
        "plain",
        "at 100 % the old tasks only cost money",
        decisions::stable_scaled_down,
    ),
    decides("stable-deleted-early", "plain", "at 100 % the old set may go", decisions::stable_deleted_early),
    decides(
        "superseded-goes-on",
        "MC2",
        "the release under way may as well finish",
        decisions::superseded_goes_on,
    ),
    decides("abort-too-late", "MC2-order", "an abort after the shift is too late", decisions::abort_too_late),
    decides(
        "group-shared",
        "MC2",
        "the next candidate need not wait for the last one to go",
        lies::group_shared,
    ),
    decides("new-token", "MC1", "ask again for the set, under a fresh name", decisions::new_token),
    decides(
        "creation-forgotten",
        "MC2",
        "a set that was never acknowledged was never made",
        decisions::creation_forgotten,
    ),
    in_emergency("emergency-any-role", Flaw::AnyRole, "a set that runs can take the traffic back"),
    in_emergency("emergency-unsound", Flaw::Unsound, "the stable version surely still runs"),
    in_emergency("emergency-wrong-way", Flaw::WrongWay, "whichever group has less traffic is the way back"),
    in_emergency(
        "emergency-forgets",
        Flaw::Forgets,
        "the log line says enough about what was done without a lease",
    ),
    decides("no-deadline", "sick", "it will be healthy sooner or later", lies::no_deadline),
];
