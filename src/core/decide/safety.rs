//! A second opinion on every decision: what may never be decided, whatever the ladder says.
//!
//! This is written from the properties (`docs/architecture.md`), not from the rules, and shares no code with
//! them beyond the data. Property tests, the fault harness and the model checker all ask it; the daemon asks
//! it too, and refuses to carry out an effect that violates one.

use std::fmt;

use super::{Decision, Input, Next, Wait, WaitingOn};
use crate::model::facts::{Cleanup, Facts, Release, ReleaseId, ReleaseKind, Stage};
use crate::model::observed::{AlarmState, Weights};
use crate::model::{Effect, Plan, Resource, Revision, Seen};
use crate::records::managed_service::{AlarmRef, Watches};
use crate::records::status::Outcome;
use crate::records::strategy::Step;
use crate::records::{Group, Span};

mod effects;

/// What a decision would break.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which property.
    pub property: Property,
    /// The evidence.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.detail)
    }
}

/// The properties that a single decision can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// Production weight goes only to a version that passed its gate or serves already.
    GateBeforeTraffic,
    /// The recorded way back is never scaled, deleted or forgotten while a release is in flight.
    RollbackAssetStays,
    /// A task set is made only in a group that no other set is in.
    OneRevisionPerGroup,
    /// An armed ALARM latches in the very decision that sees it.
    AlarmMeansStable,
    /// The latch stays until the release has ended, and then it has not succeeded.
    LatchStays,
    /// An effect is announced, and the way back recorded, before it is asked for.
    WriteAhead,
    /// Nothing is deleted but a tombstoned set behind the barrier, the quiet time and two zero reads.
    QuiesceBeforeDestroy,
    /// A tombstone never gets weight.
    TombstonesStay,
    /// Traffic is not taken from tasks that answer to be given to a group without any.
    TrafficIsAnswered,
    /// An unknown outcome is forgotten only when its resource cannot change any more.
    UnknownIsUnknown,
    /// A forward weight needs every armed alarm's answer.
    NoEvidenceNoSuccess,
    /// A bake counts only watched time.
    BakeIsWatched,
    /// Generations never fall; no forward effect of an older request.
    GenerationsGrow,
    /// A wait has a reason and, but for the rollback write and people, an end.
    WaitsEnd,
}

/// Everything that `decision` would break. Empty for every decision of the shipped core.
pub fn violations(input: &Input<'_>, decision: &Decision) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut note = |property, broken: bool, detail: &dyn Fn() -> String| {
        if broken {
            found.push(Violation { property, detail: detail() });
        }
    };
    alarm_means_stable(input, decision, &mut note);
    latch_stays(input, decision, &mut note);
    asset_is_recorded(input, decision, &mut note);
    unknown_is_unknown(input, decision, &mut note);
    generations_grow(input, decision, &mut note);
    gate_is_earned(input, decision, &mut note);
    bake_is_watched(input, decision, &mut note);
    success_is_baked(input, decision, &mut note);
    quiet_is_watched(input, decision, &mut note);
    match &decision.next {
        Next::Act(action) => effects::judge(input, decision, &action.effect, &mut note),
        Next::Wait(wait) => waits_end(decision, wait, &mut note),
        Next::Look(_) | Next::Again | Next::Settled | Next::Halted(_) => {}
    }
    found
}

type Note<'a> = &'a mut dyn FnMut(Property, bool, &dyn Fn() -> String);

fn in_flight(facts: &Facts) -> Option<&Release> {
    facts.release.as_ref()
}

/// The release in flight before the decision, and what it is afterwards, when it still is in flight.
fn before_and_after<'a>(
    input: &Input<'a>,
    decision: &'a Decision,
) -> Option<(&'a Release, Option<&'a Release>)> {
    let before = in_flight(input.facts)?;
    Some((before, in_flight(&decision.facts).filter(|after| after.id == before.id)))
}

/// As [`before_and_after`], of a release that stays in flight.
fn still_in_flight<'a>(input: &Input<'a>, decision: &'a Decision) -> Option<(&'a Release, &'a Release)> {
    let (before, after) = before_and_after(input, decision)?;
    Some((before, after?))
}

fn ended(decision: &Decision, release: ReleaseId, well: bool) -> bool {
    decision.ended.iter().any(|it| it.release == release && (it.outcome == Outcome::Succeeded) == well)
}

/// Whether this alarm judges a candidate in this group.
fn is_armed(alarm: &AlarmRef, group: Group) -> bool {
    matches!((alarm.watches, group), (Watches::Service, _) | (Watches::A, Group::A) | (Watches::B, Group::B))
}

fn steps_of(plan: &Plan, kind: ReleaseKind) -> Vec<Step> {
    match kind {
        ReleaseKind::Ordinary => plan.steps.clone(),
        ReleaseKind::First | ReleaseKind::Return => vec![plan.last_step()],
    }
}

fn alarm_means_stable(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let (Some((before, after)), Some(plan)) = (before_and_after(input, decision), &input.facts.plan) else {
        return;
    };
    // One that has no way back ends at once.
    let turned = match after {
        Some(after) => after.latch.is_some(),
        None => ended(decision, before.id, false),
    };
    // `latch_stays` asks about one that was latched before.
    if turned || before.latch.is_some() {
        return;
    }
    // A command of this very pass may have set alarms aside.
    let set_aside = &after.unwrap_or(before).break_glass;
    for AlarmRef { name, .. } in plan.spec.alarms.iter().filter(|it| is_armed(it, before.candidate.group)) {
        let burns = matches!(input.observed.alarms.get(name), Some(Seen::Known(read)) if read.state == AlarmState::Alarm);
        note(Property::AlarmMeansStable, burns && !set_aside.contains(name), &|| {
            format!("{name} is in ALARM")
        });
    }
}

fn latch_stays(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let Some((before, after)) = before_and_after(input, decision) else { return };
    let Some(latch) = &before.latch else { return };
    if let Some(after) = after {
        let same =
            after.latch.as_ref().is_some_and(|it| (it.cause, &it.detail) == (latch.cause, &latch.detail));
        note(Property::LatchStays, !same, &|| format!("the latch of {} changed", before.id));
    } else {
        note(Property::LatchStays, !ended(decision, before.id, false), &|| {
            format!("latched {} did not end as one that went back", before.id)
        });
    }
}

fn asset_is_recorded(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let Some(after) = in_flight(&decision.facts) else { return };
    note(Property::WriteAhead, after.stable.is_none() && after.kind != ReleaseKind::First, &|| {
        format!("{} has no recorded way back", after.id)
    });
    if let Some((before, after)) = still_in_flight(input, decision) {
        note(Property::RollbackAssetStays, before.stable != after.stable, &|| {
            format!("the way back of {} changed", after.id)
        });
    } else {
        note(Property::WriteAhead, after.stable != decision.facts.stable, &|| {
            format!("the way back of {} is not what serves", after.id)
        });
    }
}

fn unknown_is_unknown(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    for (resource, entry) in &input.facts.outstanding {
        match decision.facts.outstanding.get(resource) {
            Some(after) => note(Property::UnknownIsUnknown, !after.unknown, &|| {
                format!("{} was never answered, and counts as if it had not been sent", entry.effect)
            }),
            None => note(Property::UnknownIsUnknown, !cannot_change(input, resource), &|| {
                format!("{} was forgotten", entry.effect)
            }),
        }
    }
}

/// Whether no request that was sent earlier can change the resource any more.
fn cannot_change(input: &Input<'_>, resource: &Resource) -> bool {
    let sets = input.observed.service.known().map(|service| service.task_sets.as_slice());
    let gone = |arn: &String| sets.is_some_and(|sets| sets.iter().all(|set| set.arn != *arn));
    match resource {
        // Found by its external id, or every request signed for it has expired.
        Resource::NewTaskSet(external_id) => {
            let listed =
                sets.is_some_and(|sets| sets.iter().any(|it| it.external_id.as_ref() == Some(external_id)));
            let quiet =
                input.facts.cleanups.iter().find(|job| job.external_id == *external_id).map(|job| job.quiet);
            let life = input.facts.plan.as_ref().map(|plan| plan.spec.waits.quiet_after_unknown);
            listed || quiet.zip(life).is_some_and(|(quiet, life)| quiet >= life)
        }
        // The task set is gone, and so is whatever could happen to it.
        Resource::TaskSet(arn) => gone(arn),
        Resource::Primary => match input.facts.outstanding.get(resource).map(|entry| &entry.effect) {
            Some(Effect::SetPrimary { task_set }) => gone(task_set),
            Some(_) | None => false,
        },
        // AWS does not know it any more.
        Resource::Route(route) => {
            matches!(input.observed.routes.get(route), Some(Seen::Known(Weights::Gone)))
        }
    }
}

fn generations_grow(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let facts = &decision.facts;
    note(Property::GenerationsGrow, facts.generation < input.facts.generation, &|| {
        format!("{} after {}", facts.generation, input.facts.generation)
    });
    let Some(release) = in_flight(facts).filter(|it| it.latch.is_none()) else { return };
    let newer = facts.generation > release.id.generation;
    let asked = facts.asked.as_ref().and_then(|asked| asked.task_definition.parse::<Revision>().ok());
    let another = asked.is_some_and(|revision| revision != release.candidate.revision);
    let refused = facts
        .last
        .as_ref()
        .is_some_and(|last| last.release.generation == facts.generation && last.outcome == Outcome::Refused);
    // There is nothing else that could serve.
    let only_one = release.kind == ReleaseKind::First && release.progress.exposed;
    note(Property::GenerationsGrow, newer && another && !refused && !only_one, &|| {
        format!("{} goes on, and generation {} asks for another revision", release.id, facts.generation)
    });
}

fn gate_is_earned(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let (Some((before, after)), Some(plan)) = (still_in_flight(input, decision), &input.facts.plan) else {
        return;
    };
    let (old, new) = (&before.progress, &after.progress);
    note(Property::GateBeforeTraffic, new.held.minus(old.held) > input.watched, &|| {
        format!("held {} after {} in a pass that watched {}", new.held, old.held, input.watched)
    });
    if old.gate_passed || !new.gate_passed {
        return;
    }
    let sets = input.observed.service.known().map(|service| service.task_sets.as_slice()).unwrap_or_default();
    let up = sets.iter().any(|set| Some(&set.arn) == after.candidate.task_set.as_ref() && set.is_up());
    // A version that serves again was judged before.
    let judged = plan.spec.routes.test.is_none() || after.kind == ReleaseKind::Return;
    let held = new.test_shifted && new.held >= plan.spec.test_hold;
    note(Property::GateBeforeTraffic, !up || !new.targets_healthy, &|| {
        format!("{} passed its gate and is not healthy", after.id)
    });
    note(Property::GateBeforeTraffic, !judged && !held, &|| {
        format!("{} passed its gate after {} on the test route", after.id, new.held)
    });
}

fn bake_is_watched(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let Some((before, after)) = still_in_flight(input, decision) else { return };
    let (old, new) = (&before.progress, &after.progress);
    let begun = if new.step == old.step { old.baked } else { Span::ZERO };
    note(Property::BakeIsWatched, new.baked.minus(begun) > input.watched, &|| {
        format!("baked {} after {begun} in a pass that watched {}", new.baked, input.watched)
    });
    if new.step == old.step {
        return;
    }
    note(Property::BakeIsWatched, old.step.checked_add(1) != Some(new.step), &|| {
        format!("step {} after {}", new.step, old.step)
    });
    let steps = input.facts.plan.as_ref().map(|plan| steps_of(plan, before.kind)).unwrap_or_default();
    if let Some(Step::Shift { bake, .. }) = steps.get(usize::from(old.step)) {
        note(Property::BakeIsWatched, !old.shifted || old.baked < *bake, &|| {
            format!("left step {} after {} of {bake}", old.step, old.baked)
        });
    }
}

fn success_is_baked(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let (Some(before), Some(plan)) = (in_flight(input.facts), &input.facts.plan) else { return };
    let steps = steps_of(plan, before.kind).len();
    let step = usize::from(before.progress.step);
    note(Property::BakeIsWatched, step < steps && ended(decision, before.id, true), &|| {
        format!("{} succeeded after {step} of {steps} steps", before.id)
    });
}

/// What a clean-up counts before it may delete.
fn quiet_is_watched(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let property = Property::QuiesceBeforeDestroy;
    for job in &decision.facts.cleanups {
        let same = |before: &&Cleanup| before.external_id == job.external_id;
        let before = input.facts.cleanups.iter().find(same);
        let (quiet, reads) = before.map_or((Span::ZERO, 0), |it| (it.quiet, it.zero_reads));
        note(property, job.quiet.minus(quiet) > input.watched, &|| {
            format!("quiet for {} after {quiet} in a pass that watched {}", job.quiet, input.watched)
        });
        let one_more = job.zero_reads == reads + 1 && effects::at_zero(input, &decision.facts, job.group);
        note(property, job.zero_reads > reads && !one_more, &|| {
            format!("{} zero reads after {reads}", job.zero_reads)
        });
        note(property, !job.uncertain && before.is_some_and(|it| it.uncertain), &|| {
            format!("the removal of {} is certain all at once", job.external_id)
        });
    }
}

fn waits_end(decision: &Decision, wait: &Wait, note: Note<'_>) {
    let name = wait.on.name();
    note(Property::WaitsEnd, wait.poll == Span::ZERO, &|| format!("{name} has no poll"));
    let baking = in_flight(&decision.facts).is_some_and(|it| it.progress.stage == Stage::Baking);
    let may_last = match wait.on {
        // People, and the write that nothing may end. Weights that stay astray end the release by a clock of their own; so
        // does a write that stays open.
        WaitingOn::Record { .. }
        | WaitingOn::Suspended
        | WaitingOn::RollbackVerify
        | WaitingOn::ForeignWeights { .. }
        | WaitingOn::Effect { .. } => true,
        // A candidate that is missing is counted in reads while it bakes.
        WaitingOn::TaskSetSteady { .. } => baking,
        _ => false,
    };
    note(Property::WaitsEnd, wait.left.or(wait.deadline).is_none() && !may_last, &|| {
        format!("{name} has no end")
    });
}
