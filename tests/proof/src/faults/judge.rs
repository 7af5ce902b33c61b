//! Whether a run ended as it must: like the run without faults, or in one of the few other ways that are stated.

use pointsman_core::model::observed::TaskSetStatus;
use pointsman_core::records::status::Outcome as Ended;

use super::fault::{Fault, Op};
use super::monitors;
use super::region::GROUPS;
use super::run::Outcome;
use super::script::Scenario;
use super::world::Planned;

/// Passes that a run may need beyond those of the run without faults: a failover and a storm (25), the quiet time
/// after an unknown outcome twice (60), a deadline used up (60).
const MORE_TICKS: u32 = 150;

/// Which fault, which end, for which reason.
type Excuse = (fn(Fault) -> bool, Ended, &'static str);

/// Ends that a fault makes legal whatever the scenario: which fault, the outcome, its reason, and why.
const EXCUSED: [Excuse; 1] = [
    // A weight write that lands after a later one shows a smaller share than was written last. Nobody can tell it from
    // a person's hand, and a person's hand toward stable wins.
    (lands_much_later, Ended::RolledBack, "MovedByHand"),
];

/// After the next step's write, that is.
fn lands_much_later(fault: Fault) -> bool {
    matches!(fault, Fault::Late(secs) | Fault::CrashLate(secs) | Fault::TakeOver(secs) if secs > 20)
}

/// One of the ends is excused, and the others are as without faults; those that were to be asked for later in that release
/// were not.
fn excused(reference: &Reference, run: &Outcome, faults: &[Planned]) -> bool {
    let differ: Vec<_> = run.ended.iter().zip(&reference.ended).filter(|(now, then)| now != then).collect();
    let [(end @ (outcome, reason), _)] = differ[..] else { return false };
    let cut_short = run.ended.len() < reference.ended.len() && run.ended.last() == Some(end);
    (cut_short || run.ended.len() == reference.ended.len())
        && EXCUSED.iter().any(|(befell, legal, why)| {
            legal == outcome && why == reason && faults.iter().any(|planned| befell(planned.fault))
        })
}

/// How a run compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same end as without faults.
    Same,
    /// Another end that the scenario allows.
    Other(Vec<Ended>),
    /// Not allowed.
    Wrong(Vec<String>),
}

/// What the run without faults says of all others.
#[derive(Clone, Debug)]
pub struct Reference {
    /// What each call was.
    pub ops: Vec<Op>,
    /// Passes.
    pub ticks: u32,
    /// How releases ended.
    pub ended: Vec<(Ended, String)>,
}

impl Reference {
    /// Of this run.
    pub fn of(run: &Outcome) -> Self {
        Self { ops: run.ops.clone(), ticks: run.ticks, ended: run.ended.clone() }
    }
}

/// Compares a run with the reference.
pub fn judge(scenario: &Scenario, reference: &Reference, run: &Outcome, faults: &[Planned]) -> Verdict {
    let mut wrong: Vec<String> = run.complaints.clone();
    wrong.extend(monitors::check(&run.log).iter().map(ToString::to_string));
    let outcomes: Vec<Ended> = run.ended.iter().map(|(outcome, _)| *outcome).collect();
    let same = run.ended == reference.ended;
    let excused = !same && excused(reference, run, faults);
    let other = excused || scenario.or.iter().any(|allowed| **allowed == outcomes);
    // In bad weather any end is right that is safe and clean.
    let weather = faults.len() > 2;
    if run.settled_ms.is_none() {
        wrong.push("it never comes to rest".to_owned());
    } else if !same && !other && !weather {
        wrong.push(format!("ended {:?} and not {:?}", run.ended, reference.ended));
    }
    if run.settled_ms.is_some() {
        wrong.extend(unclean(scenario, run, same, excused || weather));
    }
    let faults = u32::try_from(faults.len()).unwrap_or(u32::MAX);
    if run.ticks > reference.ticks + MORE_TICKS.saturating_mul(faults) {
        wrong.push(format!("{} passes; {} without faults", run.ticks, reference.ticks));
    }
    match (wrong.is_empty(), same) {
        (false, _) => Verdict::Wrong(wrong),
        (true, true) => Verdict::Same,
        (true, false) => Verdict::Other(outcomes),
    }
}

/// What is left over that must not be.
fn unclean(scenario: &Scenario, run: &Outcome, same: bool, excused: bool) -> Vec<String> {
    let mut left = Vec::new();
    let Some((item, _)) = &run.base.state else { return vec!["no state".to_owned()] };
    let facts = &item.facts;
    let Some(stable) = &facts.stable else { return vec!["nothing serves".to_owned()] };
    let number = stable.revision.number;
    let right = number == scenario.serves || excused || (!same && scenario.or_serves.contains(&number));
    if !right {
        left.push(format!("revision {number} serves"));
    }
    let sets = run.base.region.task_sets();
    let [set] = &sets[..] else {
        left.push(format!("{} task sets are left", sets.len()));
        return left;
    };
    if set.task_set_arn != stable.task_set {
        left.push(format!("{} is left, and {} serves", set.task_set_arn, stable.task_set));
    }
    let primary = format!("{:?}", set.status) == format!("{:?}", TaskSetStatus::Primary);
    if !primary {
        left.push("the version that serves is not PRIMARY".to_owned());
    }
    for route in ["public", "preview"] {
        let stray = run.base.region.weights_of(route).is_none_or(|live| {
            GROUPS.into_iter().any(|group| (live.of(group) > 0) != (group == stable.group))
        });
        if stray {
            left.push(format!("{route} is not on the version that serves"));
        }
    }
    if let Some(halt) = &facts.halted {
        left.push(format!("halted: {:?}", halt.reason));
    }
    let generation = item.status.as_ref().map(|status| status.status.observed_generation);
    if generation != Some(facts.generation) {
        left.push(format!("status tells generation {generation:?} of {}", facts.generation));
    }
    left
}
