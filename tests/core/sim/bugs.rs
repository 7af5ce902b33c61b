//! Design bugs that are put in on purpose: the second opinion and the properties must notice each.

use pointsman_core::decide::{Decision, Input, Next};
use pointsman_core::model::Effect;
use pointsman_core::model::facts::Outstanding;
use pointsman_core::model::observed::{AlarmState, TaskSetStatus};

use super::Sim;

/// How the protocol around the core is broken on purpose, to see that somebody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The shipped code.
    None,
    /// The latch goes when the alarm is OK again.
    Unlatch,
    /// The old set is deleted by role: whichever is not PRIMARY.
    DeleteByRole,
    /// The effect is sent before it is announced.
    ActBeforeRecord,
    /// Time the daemon was away counts as baked.
    BakeByWallClock,
    /// A read that equals what was wanted settles an unknown outcome.
    ReadEqualsDone,
}

impl Sim {
    pub(super) fn break_it(&self, decision: &mut Decision, input: &Input<'_>) {
        match self.bug {
            Bug::None | Bug::ActBeforeRecord | Bug::BakeByWallClock => {}
            Bug::Unlatch => {
                let quiet = input
                    .observed
                    .alarms
                    .values()
                    .all(|seen| seen.known().is_some_and(|a| a.state == AlarmState::Ok));
                if quiet && let Some(release) = &mut decision.facts.release {
                    release.latch = None;
                }
            }
            Bug::DeleteByRole => {
                let active = input.observed.service.known().and_then(|service| {
                    service.task_sets.iter().find(|set| set.status != TaskSetStatus::Primary)
                });
                if let (Next::Act(action), Some(set)) = (&mut decision.next, active)
                    && let Effect::DeleteTaskSet { task_set, .. } = &mut action.effect
                {
                    task_set.clone_from(&set.arn);
                    let effect = action.effect.clone();
                    let entry = Outstanding { effect: effect.clone(), unknown: false, looked: 0 };
                    decision.facts.outstanding.insert(effect.resource(), entry);
                }
            }
            Bug::ReadEqualsDone => {
                decision.facts.outstanding.retain(|_, entry| match &entry.effect {
                    Effect::SetWeights { route, shares, .. } if entry.unknown => {
                        self.region.weights_of(route).is_none_or(|live| !live.same_ratio(*shares))
                    }
                    _ => true,
                });
            }
        }
    }
}
