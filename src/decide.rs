//! Chooses the next move for one service. Read this first.
//!
//! **Architecture Invariant:** nothing here does I/O, reads a clock, draws a random number or uses a float;
//! [`decide`] is total and deterministic.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::facts::{Ended, Halt};
use crate::model::{Action, Answer, Effect, Facts, Need, Observed};
use crate::records::check::Refusal;
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::{Command, DesiredReleaseSpec, ServiceKey, Span};

pub mod waiting;

pub use waiting::WaitingOn;

/// A record as the daemon found it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked<T> {
    /// There is none.
    Absent,
    /// It is valid. The hash is `sha256:` over its canonical JSON as written.
    Valid {
        /// The spec.
        spec: T,
        /// Its hash.
        hash: String,
    },
    /// It is there and must be refused.
    Invalid {
        /// Why, naming field and value.
        refusal: Refusal,
        /// The hash of whatever is there, so that the refusal is said once.
        hash: String,
    },
}

/// A command that was found in the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Its ULID.
    pub id: String,
    /// How old it is by its ULID.
    pub age: Span,
    /// The command, or why it cannot be read.
    pub command: Result<Command, String>,
}

/// Settings that are the same for every service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Names this installation in external ids.
    pub installation: String,
    /// How often a service in flight is looked at.
    pub poll: Span,
    /// How often a settled one is.
    pub idle_poll: Span,
}

/// Everything a decision may know.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Which service.
    pub key: &'a ServiceKey,
    /// Wall time, for people's timestamps alone: no decision compares it with a recorded instant.
    pub now: Timestamp,
    /// Time this process has watched since its last pass over this service, at most twice `poll`; zero in its
    /// first pass.
    pub watched: Span,
    /// The lease epoch of this pass.
    pub epoch: u64,
    /// See [`Limits`].
    pub limits: &'a Limits,
    /// The `ManagedService`.
    pub service: &'a Asked<ManagedServiceSpec>,
    /// The `DesiredRelease`.
    pub desired: &'a Asked<DesiredReleaseSpec>,
    /// Commands in the table, oldest first.
    pub commands: &'a [Wish],
    /// The world.
    pub observed: &'a Observed,
    /// Durable memory.
    pub facts: &'a Facts,
    /// The uid to give when the service has none yet.
    pub fresh_uid: &'a str,
    /// The claim that the last pass tried to take and could not: (ARN, its owner).
    pub claim_denied: Option<&'a (String, String)>,
}

/// What to record, then what to do.
#[must_use = "a decision that is not carried out changes nothing"]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The next facts; durable before `next` is carried out.
    pub facts: Facts,
    /// The one next move.
    pub next: Next,
    /// ARNs to claim together with the facts.
    pub claim: BTreeSet<String>,
    /// ARNs to give up together with the facts.
    pub unclaim: BTreeSet<String>,
    /// Releases that end with this decision.
    pub ended: Vec<Ended>,
}

/// The one next move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Exactly one effect; settle its answer, then observe again.
    Act(Action),
    /// Observe again at once, with these reads in addition.
    Look(BTreeSet<Need>),
    /// The facts changed; decide again at once.
    Again,
    /// Wait, and say why.
    Wait(Wait),
    /// The world is as it should be.
    Settled,
    /// A person must act.
    Halted(Halt),
}

/// A wait. It always has a reason and, but for the rollback write, an end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    /// Why.
    pub on: WaitingOn,
    /// Look again after this.
    pub poll: Span,
    /// How much longer it should take, when that is known.
    pub left: Option<Span>,
    /// When patience ends.
    pub deadline: Option<Span>,
    /// Read these in addition the next time.
    pub needs: BTreeSet<Need>,
}

/// What came of an announced effect.
pub fn settle(facts: &Facts, effect: &Effect, answer: &Answer, epoch: u64) -> Facts {
    let _ = (effect, answer, epoch);
    facts.clone()
}

/// Chooses the next move for one service: total, deterministic, free of I/O.
pub fn decide(input: &Input<'_>) -> Decision {
    let _ = input;
    Decision {
        facts: input.facts.clone(),
        next: Next::Settled,
        claim: BTreeSet::new(),
        unclaim: BTreeSet::new(),
        ended: Vec::new(),
    }
}
