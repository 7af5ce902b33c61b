//! Facts that lead to the same decisions for ever are made equal.
//!
//! **Why this is sound.** `decide` compares a clock with its limit and with nothing else, and only ever adds to it or
//! sets it to zero. So once a clock has reached its limit, how far it went beyond makes no difference. Clocks that no
//! decision reads (they are for people's sentences) are set to zero. The test
//! `a_decision_on_normal_facts_is_the_normal_form_of_the_decision` walks both forms side by side.

use pointsman_core::model::Plan;
use pointsman_core::model::facts::{Facts, Stage};
use pointsman_core::records::Span;

use super::plan::TICK;

/// How often a write back was tried counts as none, once, or more: with one production route no order among routes
/// depends on it.
const TRIED: u32 = 2;

/// What can happen, and so which clocks are decided by.
#[derive(Clone, Copy, Debug)]
pub struct Possible {
    /// A stable version can be broken: a clean-up's patience with it ends.
    pub broken_stable: bool,
    /// The record of the service can be deleted: its claims are given up when nothing can land any more.
    pub deleted_service: bool,
}

/// Brings facts into their normal form.
pub fn normalise(facts: &mut Facts, plan: &Plan, possible: Possible) {
    let spec = &plan.spec;
    let (deadlines, waits) = (&spec.deadlines, &spec.waits);
    if let Some(pending) = &mut facts.pending {
        pending.waited = pending.waited.min(deadlines.start);
    }
    if let Some(release) = &mut facts.release {
        let progress = &mut release.progress;
        let patience = match progress.stage {
            Stage::Preparing => deadlines.prepare,
            Stage::Scaling => deadlines.capacity,
            Stage::Shifting => deadlines.weight_write,
            Stage::Completing => deadlines.primary,
            Stage::Baking | Stage::Pausing | Stage::GoingBack => Span::ZERO,
        };
        progress.in_stage = progress.in_stage.min(patience);
        progress.held = progress.held.min(spec.test_hold);
        progress.settled = progress.settled.min(waits.propagation);
        progress.baked = progress.baked.min(spec.bake);
        // Read only for INSUFFICIENT_DATA, which the one alarm never says.
        progress.exposed_for = Span::ZERO;
        progress.without_evidence = progress.without_evidence.min(spec.alarm_policy.evidence_deadline);
        progress.foreign_for = progress.foreign_for.min(waits.propagation);
        if let Some(latch) = &mut release.latch {
            latch.elapsed = Span::ZERO;
            for tried in latch.tried.values_mut() {
                *tried = (*tried).min(TRIED);
            }
        }
    }
    let lands = plan.quiet(true).plus(TICK.times(2));
    // One that has landed or never will is as none.
    facts.overtaken = facts.overtaken.filter(|age| possible.deleted_service && *age < lands);
    if let Some(retained) = &mut facts.retained {
        retained.kept = retained.kept.min(spec.retention);
    }
    facts.lost.restarting = facts.lost.restarting.map(|since| since.min(deadlines.capacity));
    for cleanup in &mut facts.cleanups {
        cleanup.quiet = cleanup.quiet.min(plan.quiet(true));
        cleanup.elapsed =
            if possible.broken_stable { cleanup.elapsed.min(deadlines.capacity) } else { Span::ZERO };
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::decide::{Next, WaitingOn};
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use super::super::config::CI;
    use super::super::state::{Action, Hand};
    use super::super::steps::question;
    use super::super::{model_of, start};
    use crate::search::System as _;

    /// A move without the figures that only people read.
    fn essence(next: &Next) -> String {
        match next {
            Next::Act(action) => format!("{:?}", action.effect),
            Next::Wait(wait) => {
                let on = WaitingOn::name(&wait.on);
                format!("wait {on} {:?}", wait.needs)
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_decision_on_normal_facts_is_the_normal_form_of_the_decision() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut compared = 0;
        for walk in 0..400 {
            let config = &CI[walk % CI.len()];
            let mut model = model_of(config).expect("a model");
            let mut state = start(&mut model).expect("a start");
            // The memory of the owner, with nothing made equal.
            let mut raw = model.mind.facts(state.durable);
            let mut steps = Vec::new();
            for _ in 0..200 {
                let fair = model.fair(&state);
                model.steps(&state, &mut steps);
                let wild = rng.random_bool(0.1);
                let step =
                    *if wild { steps.choose(&mut rng) } else { steps.iter().find(|it| it.action == fair) }
                        .expect("a step");
                let owner = state.owner();
                match step.action {
                    Action::Turn(0, sight) => {
                        let asked = question(&state, &owner, sight);
                        if owner.memory.is_none() {
                            raw = model.mind.facts(state.durable);
                        }
                        let long = model.mind.decide_on(&raw, &asked);
                        let short = model.mind.decide_on(&model.mind.facts(asked.facts), &asked);
                        assert_eq!(essence(&long.next), essence(&short.next));
                        assert_eq!(model.mind.normal(long.facts.clone()), model.mind.normal(short.facts));
                        raw = long.facts;
                        compared += 1;
                    }
                    Action::Settle(0) => {
                        if let Hand::Answered { effect, reply } = owner.hand {
                            raw = model.mind.settle_on(&raw, effect, reply, owner.epoch);
                        }
                    }
                    _ => {}
                }
                state = step.state;
            }
        }
        assert!(compared > 20_000, "compared {compared} decisions only");
    }
}
