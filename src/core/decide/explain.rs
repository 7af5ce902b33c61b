//! Says what a decision means: the [`ReleaseStatus`] that people, CI and dashboards read.
//!
//! Pure like `decide`, and one way: nothing here is ever read back to decide by. The texts are for somebody
//! who was just woken up: what is waited for, with figures, until when, and what comes next.

use std::collections::BTreeSet;

use crate::model::facts::{self, Facts};
use crate::model::observed::{AlarmState, TaskSet, TaskSetStatus, Weights};
use crate::model::{Plan, Resource, Revision, Seen, Shares};
use crate::records::desired_release::ApiVersion;
use crate::records::status::{self, Outcome, Phase, ReleaseStatus, ReleaseStatusKind, Role};
use crate::records::strategy::Step;
use crate::records::{Group, Span};

use super::evidence::is_armed;
use super::forward::steps_of;
use super::way_back::cause_name;
use super::{Asked, Decision, Input, Next};

mod commands;
mod conditions;
mod following;
mod sentences;
#[cfg(test)]
mod tests;
mod words;

pub use words::{brief, plain, task_set_id};

/// Entries of each list in a status.
const LISTED: usize = facts::KEPT;

/// The status after `decision`. `previous` is the status as written last: it keeps the instants at which
/// conditions changed, the weights of a route that cannot be read now, and the release that ended last.
pub fn status(input: &Input<'_>, decision: &Decision, previous: Option<&ReleaseStatus>) -> ReleaseStatus {
    let view = View::new(input, decision, previous);
    let facts = view.facts;
    ReleaseStatus {
        api_version: ApiVersion::V1,
        kind: ReleaseStatusKind::ReleaseStatus,
        metadata: status::StatusMetadata {
            namespace: input.key.namespace().to_owned(),
            name: input.key.name().to_owned(),
            uid: facts.uid.clone(),
        },
        status: status::Status {
            observed_generation: facts.generation,
            observed: view.observed_records(),
            phase: view.phase(),
            release: view.release_status(),
            traffic: view.traffic(),
            task_sets: view.task_sets(),
            alarms: view.alarms(),
            waiting_on: sentences::waiting_on(&view),
            conditions: conditions::all(&view),
            last_outcome: facts.last.as_ref().map(|last| view.last_outcome(last)),
            quarantined: facts.quarantined.iter().map(|entry| view.quarantined(entry)).collect(),
            retained: facts.retained.as_ref().map(|kept| view.retained(kept)),
            commands: commands::told(&view),
        },
    }
}

/// The decision beside everything it was made from, and the questions that every part of a status asks.
struct View<'a> {
    input: &'a Input<'a>,
    facts: &'a Facts,
    next: &'a Next,
    previous: Option<&'a ReleaseStatus>,
    plan: Option<Plan>,
    steps: Vec<Step>,
}

impl<'a> View<'a> {
    fn new(input: &'a Input<'a>, decision: &'a Decision, previous: Option<&'a ReleaseStatus>) -> Self {
        let facts = &decision.facts;
        let plan = super::plan_to_observe(facts, input.service);
        let steps = match (&facts.plan, &facts.release) {
            (Some(plan), Some(release)) => steps_of(plan, release.kind),
            _ => Vec::new(),
        };
        Self { input, facts, next: &decision.next, previous, plan, steps }
    }

    // --- what is there

    fn service(&self) -> Option<&'a crate::model::observed::Service> {
        self.input.observed.service.known()
    }

    fn release(&self) -> Option<&'a facts::Release> {
        self.facts.release.as_ref()
    }

    fn latch(&self) -> Option<&'a facts::Latch> {
        self.release()?.latch.as_ref()
    }

    fn live(&self, route: &str) -> Option<Shares> {
        self.input.observed.live(route)
    }

    fn production(&self) -> Vec<&str> {
        let routes = self.plan.iter().flat_map(|plan| &plan.spec.routes.production);
        routes.map(|route| route.name.as_str()).collect()
    }

    fn test_route(&self) -> Option<&str> {
        self.plan.as_ref()?.spec.routes.test.as_ref().map(|route| route.name.as_str())
    }

    fn outstanding(&self, route: &str) -> bool {
        self.facts.outstanding.contains_key(&Resource::Route(route.to_owned()))
    }

    /// The step under way; none before the gate and after the last one.
    fn step(&self) -> Option<&Step> {
        self.steps.get(usize::from(self.release()?.progress.step))
    }

    /// The version that serves, by the records.
    fn stable(&self) -> Option<&'a facts::Version> {
        self.facts.stable.as_ref().or_else(|| self.release()?.stable.as_ref())
    }

    /// The revision being released.
    fn candidate_name(&self) -> String {
        let revision = self.release().map(|release| release.candidate.revision.to_string());
        revision.map_or_else(|| "the candidate".to_owned(), |revision| plain(&revision))
    }

    fn stable_name(&self) -> String {
        self.stable().map_or_else(|| "no version".to_owned(), |stable| plain(&stable.revision.to_string()))
    }

    fn release_id(&self, id: facts::ReleaseId) -> String {
        format!("{}-{id}", self.input.key.name())
    }

    /// The release in flight, else the request that waits.
    fn current_id(&self) -> String {
        let id = self.release().map_or(
            facts::ReleaseId { generation: self.facts.generation, attempt: self.facts.attempt },
            |release| release.id,
        );
        self.release_id(id)
    }

    /// The newest request of the record was refused, and nothing has been asked for since.
    fn refused(&self) -> Option<&'a facts::Ended> {
        let last = self.facts.last.as_ref()?;
        let newest =
            last.release.generation == self.facts.generation && last.release.attempt == self.facts.attempt;
        let of_the_record = last.identity.takes_back.is_none() && self.facts.pending.is_none();
        (newest && of_the_record && last.outcome == Outcome::Refused).then_some(last)
    }

    fn halted(&self) -> Option<&'a facts::Halt> {
        match self.next {
            Next::Halted(halt) => Some(halt),
            _ => self.facts.halted.as_ref(),
        }
    }

    // --- the parts of a status

    fn observed_records(&self) -> status::Observed {
        let asked = self.facts.asked.as_ref();
        let hash = match self.input.service {
            Asked::Valid { hash, .. } | Asked::Invalid { hash, .. } => Some(hash.clone()),
            Asked::Absent => None,
        };
        status::Observed {
            spec_hash: asked.map(|asked| asked.spec_hash.clone()),
            attempt: self.facts.attempt,
            request_id: asked.and_then(|asked| asked.request_id.as_deref()).map(plain),
            task_definition: asked
                .map(|asked| revision_text(&asked.task_definition))
                .filter(|text| !text.is_empty()),
            managed_service_hash: hash,
        }
    }

    fn phase(&self) -> Phase {
        if self.halted().is_some() {
            return Phase::Halted;
        }
        if let Some(release) = self.release() {
            return self.phase_in_flight(release);
        }
        if self.input.suspended() {
            return Phase::Suspended;
        }
        let waits_for_record =
            matches!(self.next, Next::Wait(super::Wait { on: super::WaitingOn::Record { .. }, .. }));
        if self.facts.pending.is_some() || waits_for_record {
            return Phase::Pending;
        }
        if self.refused().is_some() {
            return Phase::Refused;
        }
        if self.facts.cleanups.is_empty() { Phase::Settled } else { Phase::CleaningUp }
    }

    fn phase_in_flight(&self, release: &facts::Release) -> Phase {
        let progress = &release.progress;
        if release.latch.is_some() {
            return Phase::RollingBack;
        }
        if self.input.suspended() {
            return Phase::Suspended;
        }
        match progress.stage {
            _ if !progress.gate_passed && !progress.targets_healthy => Phase::Preparing,
            _ if !progress.gate_passed => Phase::Gating,
            facts::Stage::Preparing | facts::Stage::Scaling | facts::Stage::Shifting => Phase::Shifting,
            facts::Stage::Baking => Phase::Baking,
            facts::Stage::Pausing => Phase::Paused,
            facts::Stage::Completing => Phase::Completing,
            facts::Stage::GoingBack => Phase::RollingBack,
        }
    }

    fn release_status(&self) -> Option<status::Release> {
        let Some(release) = self.release() else {
            // The last one, as it was seen last.
            let last = self.release_id(self.facts.last.as_ref()?.release);
            let mut before = self.previous?.status.release.clone().filter(|release| release.id == last)?;
            before.step = None;
            return Some(before);
        };
        let candidate = &release.candidate;
        Some(status::Release {
            id: self.release_id(release.id),
            strategy: self.facts.plan.as_ref().map_or_else(String::new, |plan| plain(&plan.strategy)),
            started_at: release.started_at,
            from: release.stable.as_ref().map(version),
            to: status::Version {
                revision: plain(&candidate.revision.to_string()),
                task_set: candidate.task_set.as_deref().map(task_set_id),
                target_group: candidate.group,
                scale: candidate.scale,
            },
            step: self.step_progress(release),
            desired_count: Some(status::DesiredCount {
                at_start: release.desired_at_start,
                now: self.service().map_or(release.desired_at_start, |service| service.desired_count),
            }),
            latched: release.latch.as_ref().map(|latch| status::Latched {
                cause: cause_name(latch.cause).to_owned(),
                detail: plain(&latch.detail),
                at: latch.at,
            }),
        })
    }

    fn step_progress(&self, release: &facts::Release) -> Option<status::StepProgress> {
        let progress = &release.progress;
        if !progress.gate_passed {
            return None;
        }
        let of = u16::try_from(self.steps.len()).unwrap_or(u16::MAX);
        let index = progress.step.saturating_add(1).min(of);
        let done = progress.step >= of;
        let (weight, bake) = match self.steps.get(usize::from(index.saturating_sub(1)))? {
            Step::Shift { weight, bake, .. } => (Some(*weight), *bake),
            Step::Pause(_) => (None, Span::ZERO),
        };
        let bake_done = if done { bake } else { progress.baked.min(bake) };
        Some(status::StepProgress { index, of, weight, bake_done, bake })
    }

    fn traffic(&self) -> Vec<status::Traffic> {
        let routes = self.plan.iter().flat_map(Plan::routes);
        routes.filter_map(|route| self.traffic_of(&route.name)).collect()
    }

    fn traffic_of(&self, route: &str) -> Option<status::Traffic> {
        let name = plain(route);
        match self.input.observed.routes.get(route) {
            Some(Seen::Known(Weights::Pair(live))) => {
                let written = self.facts.acknowledged.get(route).map(|write| write.shares);
                let verified =
                    written.is_some_and(|shares| shares.same_ratio(*live)) && !self.outstanding(route);
                let (a, b) = (live.share(Group::A), live.share(Group::B));
                let test = self.test_route() == Some(route);
                Some(status::Traffic { route: name, test, a, b, verified, read_at: self.input.now })
            }
            // Whatever it showed before, it no longer does: the condition InSync says what is there.
            Some(Seen::Known(Weights::NotOurPair(_) | Weights::Gone)) => None,
            Some(Seen::Unknown(_)) | None => {
                let seen_last = self.previous?.status.traffic.iter().find(|seen| seen.route == name)?;
                Some(status::Traffic { verified: false, ..seen_last.clone() })
            }
        }
    }

    fn task_sets(&self) -> Vec<status::TaskSet> {
        let sets = self.service().map_or(&[][..], |service| &service.task_sets);
        let mut listed: Vec<status::TaskSet> = sets.iter().map(|set| self.task_set_status(set)).collect();
        listed.sort_by(|one, other| (one.role, &one.id).cmp(&(other.role, &other.id)));
        listed.truncate(LISTED);
        listed
    }

    fn task_set_status(&self, set: &TaskSet) -> status::TaskSet {
        let last_stop = match self.input.observed.extra.last_stop.get(&set.arn) {
            Some(Seen::Known(why)) if !set.is_up() => Some(plain(why)),
            _ => None,
        };
        status::TaskSet {
            role: self.role(set),
            id: task_set_id(&set.arn),
            revision: plain(&set.revision.to_string()),
            target_group: set.group,
            desired: set.computed,
            running: set.running,
            pending: set.pending,
            steady: set.steady,
            last_stop,
        }
    }

    fn role(&self, set: &TaskSet) -> Role {
        let prefix = format!("pm1/{}/{}/", self.input.limits.installation, self.facts.uid);
        let ours = set.external_id.as_ref().is_some_and(|id| id.starts_with(&prefix));
        let is = |version: Option<&facts::Version>| version.is_some_and(|known| known.task_set == set.arn);
        let candidate = self.release().is_some_and(|release| {
            release.candidate.task_set.as_ref() == Some(&set.arn)
                || set.external_id.as_ref() == Some(&release.candidate.external_id)
        });
        if candidate {
            Role::Candidate
        } else if is(self.stable()) {
            Role::Stable
        } else if is(self.facts.retained.as_ref().map(|kept| &kept.version)) {
            Role::Retained
        } else if ours || self.facts.tombstones.contains(&set.arn) {
            Role::Leaving
        } else {
            Role::Foreign
        }
    }

    fn alarms(&self) -> Vec<status::Alarm> {
        let candidate = self.candidate_group();
        let refs = self.plan.iter().flat_map(|plan| &plan.spec.alarms);
        let mut alarms: Vec<status::Alarm> = refs
            .map(|alarm| {
                let seen = self.input.observed.alarms.get(&alarm.name).and_then(Seen::known);
                status::Alarm {
                    name: plain(&alarm.name),
                    watches: alarm.watches,
                    state: seen.map_or("UNREADABLE", |read| state_name(read.state)).to_owned(),
                    armed: candidate.is_some_and(|group| is_armed(alarm.watches, group)),
                    changed_at: seen.and_then(|read| read.transitioned_at),
                }
            })
            .collect();
        alarms.sort_by_key(|alarm| (alarm.state != "ALARM", !alarm.armed, alarm.state == "OK"));
        alarms.truncate(LISTED);
        alarms
    }

    /// The group that holds the candidate, or will; none when nothing is being released.
    fn candidate_group(&self) -> Option<Group> {
        match self.release() {
            Some(release) => Some(release.candidate.group),
            None if self.facts.pending.is_some() => Some(self.facts.stable.as_ref()?.group.other()),
            None => None,
        }
    }

    fn last_outcome(&self, last: &facts::Ended) -> status::LastOutcome {
        status::LastOutcome {
            release: self.release_id(last.release),
            outcome: last.outcome,
            revision: revision_text(&last.identity.task_definition),
            takes_back: last.identity.takes_back.map(|taken| self.release_id(taken)),
            request_id: last.identity.request_id.as_deref().map(plain),
            reason: last.reason.clone(),
            message: plain(&last.message),
            at: last.at,
        }
    }

    fn quarantined(&self, entry: &facts::Quarantined) -> status::Quarantined {
        status::Quarantined {
            revision: plain(&entry.revision.to_string()),
            release: self.release_id(entry.release),
            cause: cause_name(entry.cause).to_owned(),
            at: entry.at,
        }
    }

    fn retained(&self, kept: &facts::Retained) -> status::Retained {
        let retention = self.facts.plan.as_ref().map_or(Span::ZERO, |plan| plan.spec.retention);
        status::Retained {
            task_set: task_set_id(&kept.version.task_set),
            revision: plain(&kept.version.revision.to_string()),
            target_group: kept.version.group,
            remaining: retention.minus(kept.kept),
            release: kept.release.map(|release| self.release_id(release)),
        }
    }

    // --- what several sentences need

    /// Production routes that show anything but 100 % on `group`, as `public at 10 %`.
    fn routes_not_on(&self, group: Group) -> Vec<String> {
        let mut open = Vec::new();
        for route in self.production() {
            match self.live(route) {
                Some(live) if live.of(group) > 0 && live.of(group.other()) == 0 => {}
                Some(live) => open.push(format!("{} at {} %", plain(route), live.share(group.other()))),
                None => open.push(format!("{} unread", plain(route))),
            }
        }
        open
    }

    /// The set of `version` is there, does not leave, and has a running task; none when that is not known.
    fn runs(&self, version: &facts::Version) -> Option<bool> {
        let service = self.service()?;
        Some(service.task_sets.iter().any(|set| {
            set.arn == version.task_set && set.status != TaskSetStatus::Draining && set.running > 0
        }))
    }

    /// Names of alarms that an operator set aside.
    fn broken_glass(&self) -> Option<&'a BTreeSet<String>> {
        let release = self.release().map(|release| &release.break_glass);
        release.or_else(|| self.facts.pending.as_ref().map(|pending| &pending.break_glass))
    }
}

fn version(version: &facts::Version) -> status::Version {
    status::Version {
        revision: plain(&version.revision.to_string()),
        task_set: Some(task_set_id(&version.task_set)),
        target_group: version.group,
        scale: version.scale,
    }
}

/// `family:revision` of what people wrote; the text as it is when it is neither that nor an ARN.
fn revision_text(written: &str) -> String {
    plain(&written.parse::<Revision>().map_or_else(|_| written.to_owned(), |revision| revision.to_string()))
}

const fn state_name(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Ok => "OK",
        AlarmState::Alarm => "ALARM",
        AlarmState::InsufficientData => "INSUFFICIENT_DATA",
        AlarmState::Missing => "MISSING",
    }
}

/// `a 90 % / b 10 %`.
fn pair(shares: Shares) -> String {
    format!("a {} % / b {} %", shares.share(Group::A), shares.share(Group::B))
}
