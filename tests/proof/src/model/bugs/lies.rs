//! Bugs in what is known: the shipped decision, told something else than what is remembered or seen.

use pointsman_core::decide::{Decision, Input, decide};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::Acknowledged;
use pointsman_core::model::observed::{AlarmState, Observed, Targets, Weights};
use pointsman_core::model::{Facts, Resource, Seen};
use pointsman_core::records::{Percent, Span};

use super::super::world::DESIRED;
use super::decisions::GROUPS;

/// Decides on other facts.
fn remembering(input: &Input<'_>, lie: impl FnOnce(&mut Facts)) -> Decision {
    let mut facts = input.facts.clone();
    lie(&mut facts);
    decide(&Input { facts: &facts, ..*input })
}

/// Decides on another world.
fn seeing(input: &Input<'_>, lie: impl FnOnce(&mut Observed)) -> Decision {
    let mut observed = input.observed.clone();
    lie(&mut observed);
    decide(&Input { observed: &observed, ..*input })
}

fn show(observed: &mut Observed, route: &str, shares: Shares) {
    observed.routes.insert(route.to_owned(), Seen::Known(Weights::Pair(shares)));
}

fn live(input: &Input<'_>, route: &str) -> Option<Shares> {
    match input.observed.routes.get(route)?.known()? {
        Weights::Pair(shares) => Some(*shares),
        Weights::NotOurPair(_) | Weights::Gone => None,
    }
}

pub(super) fn read_equals_done(input: &Input<'_>) -> Decision {
    use pointsman_core::model::Effect::SetWeights;
    remembering(input, |facts| {
        facts.outstanding.retain(|_, entry| match &entry.effect {
            SetWeights { route, shares, .. } => {
                live(input, route).is_none_or(|live| !live.same_ratio(*shares))
            }
            _ => true,
        });
    })
}

pub(super) fn slow_clock(input: &Input<'_>) -> Decision {
    decide(&Input { watched: Span::from_millis(input.watched.millis() / 4), ..*input })
}

pub(super) fn crash_forgets(input: &Input<'_>) -> Decision {
    remembering(input, |facts| facts.outstanding.retain(|_, entry| entry.unknown))
}

pub(super) fn late_is_a_hand(input: &Input<'_>) -> Decision {
    remembering(input, |facts| facts.late.clear())
}

pub(super) fn no_quiet_wait(input: &Input<'_>) -> Decision {
    let longest = Span::from_mins(60 * 24);
    remembering(input, |facts| {
        for job in facts.cleanups.iter_mut().filter(|job| job.task_set.is_some()) {
            job.quiet = longest;
        }
    })
}

pub(super) fn quiet_as_ever(input: &Input<'_>) -> Decision {
    let mut decision = remembering(input, |facts| {
        facts.epoch = input.epoch;
        for job in &mut facts.cleanups {
            job.uncertain = false;
        }
        if let Some(release) = &mut facts.release {
            release.uncertain = false;
        }
    });
    for job in &mut decision.facts.cleanups {
        job.uncertain = false;
    }
    decision
}

pub(super) fn no_barrier(input: &Input<'_>) -> Decision {
    if input.facts.release.is_some() || input.facts.cleanups.is_empty() {
        return decide(input);
    }
    remembering(input, |facts| {
        facts.outstanding.retain(|resource, _| !matches!(resource, Resource::Route(_)));
        for write in facts.acknowledged.values_mut() {
            write.epoch = input.epoch;
        }
    })
}

pub(super) fn acknowledged_is_true(input: &Input<'_>) -> Decision {
    let Some(job) = input.facts.cleanups.first().filter(|_| input.facts.release.is_none()) else {
        return decide(input);
    };
    let back = Shares::giving(job.group.other(), Percent::FULL);
    seeing(input, |observed| {
        show(observed, "public", back);
        if let Some(Seen::Known(read)) = &mut observed.extra.load_balancer {
            read.actions.clear();
        }
    })
}

pub(super) fn alarm_late(input: &Input<'_>) -> Decision {
    let late = input.facts.release.as_ref().is_some_and(|release| release.progress.step > 0);
    seeing(input, |observed| {
        for seen in observed.alarms.values_mut().filter(|_| late) {
            if let Seen::Known(alarm) = seen {
                (alarm.state, alarm.transitioned_at) = (AlarmState::Ok, None);
            }
        }
    })
}

pub(super) fn back_unverified(input: &Input<'_>) -> Decision {
    let release = input.facts.release.as_ref();
    let tried = release
        .and_then(|release| release.latch.as_ref())
        .is_some_and(|latch| latch.tried.values().any(|tried| *tried > 0));
    let Some(stable) = release.and_then(|release| release.stable.as_ref()).filter(|_| tried) else {
        return decide(input);
    };
    let back = Shares::giving(stable.group, Percent::FULL);
    let mut observed = input.observed.clone();
    show(&mut observed, "public", back);
    let mut facts = input.facts.clone();
    let route = Resource::Route("public".to_owned());
    let open = facts.outstanding.remove(&route);
    facts.acknowledged.insert("public".to_owned(), Acknowledged { shares: back, epoch: input.epoch });
    let mut decision = decide(&Input { facts: &facts, observed: &observed, ..*input });
    if let Some(open) = open {
        decision.facts.outstanding.entry(route).or_insert(open);
    }
    decision
}

pub(super) fn gate_skipped(input: &Input<'_>) -> Decision {
    remembering(input, |facts| {
        if let Some(release) = &mut facts.release {
            release.progress.gate_passed = true;
        }
    })
}

pub(super) fn running_is_healthy(input: &Input<'_>) -> Decision {
    seeing(input, |observed| {
        if let Seen::Known(service) = &mut observed.service {
            for set in &mut service.task_sets {
                (set.running, set.pending, set.steady) = (set.computed, 0, true);
            }
        }
        for seen in observed.extra.targets.values_mut() {
            if let Seen::Known(targets) = seen {
                (targets.healthy, targets.initial) = (targets.total().max(DESIRED), 0);
            }
        }
    })
}

/// A candidate's group counts as free while the last candidate is still leaving it.
pub(super) fn group_shared(input: &Input<'_>) -> Decision {
    if input.facts.pending.is_none() || input.facts.release.is_some() {
        return decide(input);
    }
    let leaving = input.facts.cleanups.clone();
    let mut observed = input.observed.clone();
    if let Seen::Known(service) = &mut observed.service {
        service.task_sets.retain(|set| leaving.iter().all(|job| job.task_set.as_ref() != Some(&set.arn)));
    }
    if let Some(Seen::Known(read)) = &mut observed.extra.preflight {
        for group in GROUPS {
            read.targets.insert(group, Targets::default());
        }
    }
    let mut facts = input.facts.clone();
    facts.cleanups.clear();
    let mut decision = decide(&Input { facts: &facts, observed: &observed, ..*input });
    decision.facts.cleanups = leaving;
    decision
}

pub(super) fn no_deadline(input: &Input<'_>) -> Decision {
    remembering(input, |facts| {
        if let Some(release) = &mut facts.release {
            release.progress.in_stage = Span::ZERO;
        }
    })
}
