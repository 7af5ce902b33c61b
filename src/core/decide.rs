//! Chooses the next move for one service. Read this first.
//!
//! [`decide`] is one visible ladder of rules, worst things first; each rule is a small module below. The answer
//! of the effect that it asked for goes through [`settle`]. Everything else in the program serves these two.
//!
//! Where a release stands is derived from facts and observation; the `phase` that people see is written by
//! [`explain`] and read by nobody here.
//!
//! **Architecture Invariant:** nothing here does I/O, reads a clock, draws a random number or uses a float;
//! [`decide`] is total and deterministic.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::facts::{Ended, Halt};
use crate::model::{Action, Facts, Need, Observed, Plan};
use crate::records::check::Refusal;
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::{Command, DesiredReleaseSpec, ServiceKey, Span};

mod backoff;
mod commands;
pub mod emergency;
mod evidence;
pub mod explain;
mod foreign;
mod forward;
mod gone;
mod housekeeping;
mod latch;
mod lost;
mod outstanding;
mod pass;
mod preflight;
mod repair;
mod request;
pub mod response;
pub mod safety;
mod settle;
mod start;
pub mod waiting;
mod way_back;

use pass::Pass;
pub use settle::settle;
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
        /// `spec.suspend` of a `ManagedService` says something else than false: whoever wants everything to stand still
        /// is heeded, whatever else in the record is wrong.
        suspend: bool,
    },
}

impl<T> Asked<T> {
    /// What a valid one says.
    pub fn valid(&self) -> Option<&T> {
        match self {
            Self::Valid { spec, .. } => Some(spec),
            Self::Absent | Self::Invalid { .. } => None,
        }
    }
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
    /// Time this process has watched since its last pass over this service, or since the acknowledgement of that
    /// pass's effect; at most twice `poll`, and zero in its first pass.
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

impl Input<'_> {
    /// The one edit that counts in flight: no forward step and no deletion.
    pub(crate) fn suspended(&self) -> bool {
        match self.service {
            Asked::Valid { spec, .. } => spec.suspend,
            Asked::Invalid { suspend, .. } => *suspend,
            Asked::Absent => false,
        }
    }
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

/// Chooses the next move for one service: total, deterministic, free of I/O.
///
/// The first rule that has something to say wins (`semantics` §3). What people wrote is noted before the
/// ladder, because a note is no effect; what burns is judged before anything else moves.
pub fn decide(input: &Input<'_>) -> Decision {
    let mut pass = Pass::new(input);
    let next = ladder(&mut pass);
    pass.decision(next)
}

fn ladder(pass: &mut Pass<'_>) -> Next {
    housekeeping::begin_pass(pass);
    gone::note(pass);
    lost::note(pass);
    let commanded = commands::take(pass);
    let noticed = request::observe(pass);
    let watch = latch::watch(pass);
    // 2–3: a latched release goes back, and nothing holds that up.
    if let Some(next) = way_back::go_back(pass) {
        return next;
    }
    // 4: weight on a group that cannot answer.
    if let Some(next) = repair::outage(pass) {
        return next;
    }
    if let Some(next) = noticed {
        return next;
    }
    if commanded {
        return Next::Again;
    }
    if let Some(halt) = pass.facts.halted.clone() {
        return Next::Halted(halt);
    }
    // 5: what was announced and not acknowledged; a step forward may not have happened, so that repeating
    // it needs the same evidence as the first attempt.
    let stands = matches!(watch, latch::Watch::Hold(_)) || pass.input.suspended();
    let held = stands && outstanding::goes_forward(pass);
    if !held && let Some(next) = backoff::after_trouble(pass).or_else(|| outstanding::repeat(pass)) {
        return next;
    }
    if let latch::Watch::Hold(next) = watch {
        return next;
    }
    // 6: no forward step, no delete.
    if pass.release().is_some() && pass.input.suspended() {
        return pass.wait(WaitingOn::Suspended);
    }
    // 10–11: forward, PRIMARY, outcome.
    if let Some(next) = forward::go_forward(pass) {
        return next;
    }
    // 12: what is left over; then the next request.
    housekeeping::tend(pass)
        .or_else(|| start::start(pass))
        .or_else(|| repair::idle_drift(pass))
        .unwrap_or_else(|| housekeeping::rest(pass))
}

/// By which plan a service is observed: the pinned one while anything goes by it, else the record's.
pub fn plan_to_observe(facts: &Facts, service: &Asked<ManagedServiceSpec>) -> Option<Plan> {
    let pinned = facts.release.is_some()
        || !facts.cleanups.is_empty()
        || !facts.outstanding.is_empty()
        || (facts.retained.is_some() && facts.pending.is_none());
    match (service, &facts.plan) {
        (_, Some(plan)) if pinned => Some(plan.clone()),
        (Asked::Valid { spec, .. }, _) => Some(Plan::observing(spec)),
        (Asked::Absent | Asked::Invalid { .. }, plan) => plan.clone(),
    }
}
