//! Judges what an outside client saw against what the load balancer was told. Pure: plain data in, plain data
//! out.
//!
//! A *leak* is a request that was started after the acknowledgement of the write that took a revision's weight
//! away, plus the stated propagation, and that this revision answered all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::records::names::PerGroup;
use crate::records::{Group, Span};

/// A share further from its weight than so many standard deviations is not chance: 1 in 16,000 for a fair
/// load balancer.
pub const SIGMAS: f64 = 4.0;
/// Fewer requests than this say nothing about a share.
pub const SHARE_REQUESTS_MIN: u32 = 200;

/// One request as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Right before it was sent, connecting included.
    pub started: Timestamp,
    /// When the whole answer had come, or none would any more.
    pub ended: Timestamp,
    /// The answer, or what went wrong instead.
    pub answer: Result<Answer, String>,
    /// Whether it opened a connection of its own.
    pub fresh: bool,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The header `x-revision`, which the app alone sets: without it the load balancer answered itself.
    pub revision: Option<Arc<str>>,
}

impl Request {
    /// No answer, or an error that no version of the app is to blame for; with what it was.
    pub fn failure(&self) -> Option<String> {
        match &self.answer {
            Err(error) => Some(error.clone()),
            Ok(Answer { status, revision: None }) if *status >= 400 => {
                Some(format!("status {status} from the load balancer itself"))
            }
            Ok(_) => None,
        }
    }

    /// The revision that answered, if one did.
    pub fn revision(&self) -> Option<&str> {
        self.answer.as_ref().ok()?.revision.as_deref()
    }

    /// The app answered, with an error.
    pub fn is_bad_answer(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.revision.is_some() && answer.status >= 500)
    }
}

/// One weight write on the production route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// When it reached the load balancer's API: from here on the weights before may be gone.
    pub sent: Timestamp,
    /// When it was acknowledged; from here on, plus propagation, the weights before are gone.
    pub acknowledged: Timestamp,
    /// Weight by target group.
    pub weights: PerGroup<u32>,
}

impl Write {
    /// The group's share of the traffic, 0 to 1.
    pub fn share(&self, group: Group) -> f64 {
        let total = self.weights.a + self.weights.b;
        if total == 0 { 0.0 } else { f64::from(*self.weights.of(group)) / f64::from(total) }
    }
}

/// A revision's task set was in a target group for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// `family:revision`.
    pub revision: String,
    /// Where.
    pub group: Group,
    /// When its task set was asked for.
    pub from: Timestamp,
    /// When the deletion of its task set was acknowledged; none while it stands.
    pub until: Option<Timestamp>,
}

impl Placement {
    /// Whether a write can have given this placement traffic: not when it was gone before.
    fn can_gain_by(&self, write: &Write) -> bool {
        self.until.is_none_or(|until| write.sent < until)
    }
}

/// What one revision answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// Answers of any status.
    pub answers: u32,
    /// Answers with a status of 500 and above.
    pub bad: u32,
}

/// How much of the traffic the newer version got while one write's weights were in force everywhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The newer of the two revisions.
    pub revision: String,
    /// What was asked for, 0 to 1.
    pub asked: f64,
    /// Requests that no other weights can have decided.
    pub requests: u32,
    /// How many of them this revision answered.
    pub answered: u32,
    /// Distance from what was asked, in standard deviations of a fair load balancer.
    pub sigmas: f64,
    /// Whether there are enough requests to tell.
    pub enough: bool,
}

impl Share {
    fn of(revision: String, asked: f64, requests: u32, answered: u32) -> Self {
        let spread = (f64::from(requests) * asked * (1.0 - asked)).sqrt();
        let off = f64::from(answered) - f64::from(requests) * asked;
        let sigmas = if spread > 0.0 { off / spread } else { 0.0 };
        Self { revision, asked, requests, answered, sigmas, enough: requests >= SHARE_REQUESTS_MIN }
    }

    /// Whether it is what was asked, or cannot be told.
    pub fn fits(&self) -> bool {
        !self.enough || self.sigmas.abs() <= SIGMAS
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// All requests.
    pub requests: u32,
    /// Those that opened a connection of their own.
    pub fresh: u32,
    /// See [`Request::failure`].
    pub failed: u32,
    /// The first failure.
    pub first_failure: Option<(Timestamp, String)>,
    /// By revision.
    pub answered: BTreeMap<String, Answered>,
    /// Requests for which some revision was known to have no weight, so that a leak would have been seen.
    pub judged: u32,
    /// See the module.
    pub leaked: u32,
    /// The first leak: when it started, and who answered.
    pub first_leak: Option<(Timestamp, String)>,
    /// Answers of revisions that nobody released.
    pub strangers: u32,
    /// Shares while two versions had weight, write by write.
    pub shares: Vec<Share>,
}

/// Judges a whole trace. `writes` are all writes of the production route, in the order they were sent.
pub fn judge(requests: &[Request], writes: &[Write], placements: &[Placement], propagation: Span) -> Verdict {
    let bench = Bench { writes, placements, propagation };
    let mut verdict = Verdict::default();
    let mut counts = vec![(0_u32, 0_u32); writes.len()];
    for request in requests {
        verdict.requests += 1;
        verdict.fresh += u32::from(request.fresh);
        if let Some(failure) = request.failure() {
            verdict.failed += 1;
            verdict.first_failure.get_or_insert((request.started, failure));
        }
        let possible = bench.possible(request);
        verdict.judged += u32::from(possible.is_some_and(|writes| bench.somebody_is_without(writes)));
        let Some(revision) = request.revision() else { continue };
        let answered = verdict.answered.entry(revision.to_owned()).or_default();
        answered.answers += 1;
        answered.bad += u32::from(request.is_bad_answer());
        if !placements.iter().any(|placed| placed.revision == revision) {
            verdict.strangers += 1;
            continue;
        }
        let Some(possible) = possible else { continue };
        if possible.iter().all(|write| bench.is_without(revision, write)) {
            verdict.leaked += 1;
            verdict.first_leak.get_or_insert((request.started, revision.to_owned()));
        }
        if let [only] = possible
            && let Some(place) = writes.iter().position(|write| std::ptr::eq(write, only))
        {
            counts[place].0 += 1;
            counts[place].1 += u32::from(bench.newer(only).is_some_and(|(newer, _)| newer == revision));
        }
    }
    verdict.shares = writes
        .iter()
        .zip(&counts)
        .filter_map(|(write, &(requests, answered))| {
            let (newer, asked) = bench.newer(write)?;
            Some(Share::of(newer.to_owned(), asked, requests, answered))
        })
        .collect();
    verdict
}

struct Bench<'a> {
    writes: &'a [Write],
    placements: &'a [Placement],
    propagation: Span,
}

impl<'a> Bench<'a> {
    /// The writes that can have decided a request: the last one that was in force everywhere when it started,
    /// and those sent before it ended. `None` when no write was in force yet.
    fn possible(&self, request: &Request) -> Option<&'a [Write]> {
        let in_force = |write: &Write| write.acknowledged + self.propagation.signed() < request.started;
        let first = self.writes.iter().rposition(in_force)?;
        let later = self.writes[first + 1..].iter().take_while(|write| write.sent <= request.ended).count();
        Some(&self.writes[first..=first + later])
    }

    fn is_without(&self, revision: &str, write: &Write) -> bool {
        let mine = self.placements.iter().filter(|placed| placed.revision == revision);
        mine.into_iter().all(|placed| !placed.can_gain_by(write) || *write.weights.of(placed.group) == 0)
    }

    fn somebody_is_without(&self, possible: &[Write]) -> bool {
        let without = |placed: &Placement| possible.iter().all(|w| self.is_without(&placed.revision, w));
        self.placements.iter().any(without)
    }

    /// The newer of two revisions between which a write splits the traffic, with its share.
    fn newer(&self, write: &Write) -> Option<(&'a str, f64)> {
        let both = write.weights.a > 0 && write.weights.b > 0;
        let there = self.placements.iter().filter(|placed| placed.from <= write.sent);
        let newest = there.max_by_key(|placed| placed.from).filter(|_| both)?;
        Some((newest.revision.as_str(), write.share(newest.group)))
    }
}

#[cfg(test)]
mod tests;
