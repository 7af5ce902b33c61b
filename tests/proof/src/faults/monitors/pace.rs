//! How fast: one effect a pass, whole bakes, and rest when all is done.

use pointsman_core::model::Effect;
use pointsman_core::model::facts::{Facts, ReleaseKind};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::Step;

use super::super::log::{Reading, What};
use super::{Note, Property, Tale};

pub(super) fn check(tale: &Tale<'_>, note: Note<'_>) {
    one_effect_a_pass(tale, note);
    bakes(tale, note);
    idle(tale, note);
}

/// Between two effects a process looks again and writes down what came of the first.
fn one_effect_a_pass(tale: &Tale<'_>, note: Note<'_>) {
    for (at, entry, action) in tale.sent() {
        let before = tale
            .before(at)
            .find(|(_, other)| other.by == entry.by && matches!(other.what, What::Sent(_)))
            .map_or(0, |(index, _)| index);
        let between = tale.log.get(before..at).unwrap_or_default();
        let mine = between.iter().filter(|other| other.by == entry.by);
        let (mut looked, mut wrote) = (false, false);
        for other in mine {
            looked |= matches!(other.what, What::Read(Reading::Service(_) | Reading::Failed(_)));
            wrote |= matches!(other.what, What::Wrote(_));
        }
        if !looked || !wrote {
            let effect: &Effect = &action.effect;
            note(Property::OneEffectAPass, at, format!("{effect} without a fresh look"));
        }
    }
}

/// Each step's share is in force for its bake before the next is sent or the release succeeds.
fn bakes(tale: &Tale<'_>, note: Note<'_>) {
    for (at, entry, wrote) in tale.writes() {
        if !wrote.ended.iter().any(|ended| ended.outcome == Outcome::Succeeded && ended.reason == "Baked") {
            continue;
        }
        let Some(before) = tale.facts(at) else { continue };
        for (reached_ms, left_ms, needed_ms) in steps(tale, at, entry.at_ms, before) {
            if left_ms < reached_ms + needed_ms {
                note(
                    Property::BakeIsWhole,
                    at,
                    format!("a step baked {} of {needed_ms} ms", left_ms.saturating_sub(reached_ms)),
                );
            }
        }
    }
}

/// For each step of the release that `facts` hold: when it was reached, when it was left, and its bake.
fn steps(tale: &Tale<'_>, end: usize, end_ms: u64, facts: &Facts) -> Vec<(u64, u64, u64)> {
    let (Some(release), Some(plan)) = (&facts.release, &facts.plan) else { return Vec::new() };
    let group = release.candidate.group;
    let mine = |index: usize| {
        let then = tale.facts(index).and_then(|facts| facts.release.as_ref());
        index < end && then.is_some_and(|then| then.id == release.id)
    };
    // The number of each step that shifts, its share and its bake.
    let wanted: Vec<(usize, u16, u64)> = match release.kind {
        ReleaseKind::Ordinary => plan
            .steps
            .iter()
            .enumerate()
            .filter_map(|(number, step)| match step {
                Step::Shift { weight, bake, .. } => Some((number, weight.tenths(), bake.millis())),
                Step::Pause(_) => None,
            })
            .collect(),
        ReleaseKind::First | ReleaseKind::Return => vec![(0, 1000, plan.spec.bake.millis())],
    };
    let under_way = |index: usize| {
        let then = tale.facts(index).and_then(|facts| facts.release.as_ref());
        then.map_or(0, |then| usize::from(then.progress.step))
    };
    let reached: Vec<u64> = wanted
        .iter()
        .map(|(number, tenths, _)| {
            let landed = |name: &str, first: usize| {
                tale.landed().find(|(index, _, landed)| match &landed.effect {
                    Effect::SetWeights { route, shares, .. } => {
                        let same = route == name && shares.share(group).tenths() == *tenths;
                        mine(*index) && same && under_way(*index) >= first
                    }
                    _ => false,
                })
            };
            // What was given before, to fill in for a version without tasks, is no step, unless it still is given when
            // the step comes.
            let reached = |name: &str| {
                let landed = landed(name, *number).or_else(|| landed(name, 0));
                landed.map_or(end_ms, |(_, entry, _)| entry.at_ms)
            };
            // By the last of the routes.
            plan.spec.routes.production.iter().map(|route| reached(&route.name)).max().unwrap_or(end_ms)
        })
        .collect();
    let left = reached.iter().skip(1).copied().chain([end_ms]);
    reached
        .iter()
        .zip(left)
        .zip(&wanted)
        .map(|((reached, left), (_, _, bake))| (*reached, left, *bake))
        .collect()
}

/// Looks after the last disturbance before rest is demanded: one to notice that it is over, one to tell it.
const LOOKS_TO_REST: u32 = 3;

/// After everything was done, nothing is sent or written unless something happened.
fn idle(tale: &Tale<'_>, note: Note<'_>) {
    let (mut settled, mut calm_looks) = (false, 0);
    for (at, entry) in tale.all() {
        let at_rest = settled && calm_looks >= LOOKS_TO_REST;
        match &entry.what {
            What::Settled => (settled, calm_looks) = (true, 0),
            What::Read(Reading::Service(_)) => calm_looks += 1,
            What::Started
            | What::Happened(_)
            | What::Landed(_)
            | What::Befell(..)
            | What::Read(Reading::Failed(_)) => calm_looks = 0,
            What::Sent(action) if at_rest => {
                note(Property::IdleIsQuiet, at, format!("{} at rest", action.effect));
            }
            What::Wrote(_) if at_rest => note(Property::IdleIsQuiet, at, "a state write at rest".to_owned()),
            _ => {}
        }
    }
}
