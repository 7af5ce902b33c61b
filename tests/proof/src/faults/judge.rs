//! Whether a run ended as it must: like the run without faults, or in another way that its scenario states.

use pointsman_core::model::observed::TaskSetStatus;
use pointsman_core::records::status::Outcome as Ended;

use super::fault::{Fault, Op};
use super::region::GROUPS;
use super::run::Outcome;
use super::script::Scenario;
use super::world::Planned;
use super::{monitors, weather};

/// Passes that a run may need beyond those of the run without faults: a failover and a storm (25), the quiet time
/// after an unknown outcome twice (60), a deadline used up (60).
const MORE_TICKS: u32 = 150;

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
    /// How many calls there had been at each step of the script.
    pub steps_at: Vec<usize>,
    /// Passes.
    pub ticks: u32,
    /// Virtual time until nothing was left to do.
    pub settled_ms: u64,
    /// How releases ended.
    pub ended: Vec<(Ended, String)>,
}

impl Reference {
    /// Of this run.
    pub fn of(run: &Outcome) -> Self {
        Self {
            ops: run.ops.clone(),
            steps_at: run.steps_at.clone(),
            ticks: run.ticks,
            settled_ms: run.settled_ms.unwrap_or_default(),
            ended: run.ended.clone(),
        }
    }
}

/// Compares a run with the reference.
pub fn judge(scenario: &Scenario, reference: &Reference, run: &Outcome, faults: &[Planned]) -> Verdict {
    let mut wrong: Vec<String> = run.complaints.clone();
    wrong.extend(monitors::check(&run.log).iter().map(ToString::to_string));
    let outcomes: Vec<Ended> = run.ended.iter().map(|(outcome, _)| *outcome).collect();
    let same = run.ended == reference.ended;
    let other = scenario.or.iter().any(|allowed| **allowed == outcomes);
    let weather = faults.iter().any(|planned| matches!(planned.fault, Fault::Weather(_)));
    if run.settled_ms.is_none() {
        wrong.push("it never comes to rest".to_owned());
    } else if !same && !other {
        wrong.push(format!("ended {:?} and not {:?}", run.ended, reference.ended));
    }
    if run.settled_ms.is_some() {
        wrong.extend(unclean(scenario, run, same));
    }
    let latest_ms = weather::LASTS.plus(weather::AFTERWARDS).millis() + reference.settled_ms;
    let late = run.settled_ms.filter(|settled_ms| weather && *settled_ms > latest_ms);
    wrong.extend(late.map(|late| format!("comes to rest after {late} ms, and {latest_ms} are granted")));
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
fn unclean(scenario: &Scenario, run: &Outcome, same: bool) -> Vec<String> {
    let mut left = Vec::new();
    let Some((item, _)) = &run.base.state else { return vec!["no state".to_owned()] };
    let facts = &item.facts;
    let Some(stable) = &facts.stable else { return vec!["nothing serves".to_owned()] };
    let number = stable.revision.number;
    let right = number == scenario.serves || (!same && scenario.or_serves.contains(&number));
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
    for route in run.base.region.route_names() {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fault::HALF_SERVED;
    use super::super::log::{Entry, What};
    use super::super::{base, run, scenarios};
    use super::*;

    /// Without faults, and with every other write refused from the first one on; besides, of what the next calls are,
    /// so many further.
    fn calm_and_half_served(further: &[u32]) -> (Outcome, Outcome) {
        let scenario = scenarios::named("good").expect("a scenario");
        let base = base(&scenario).expect("a base");
        let calm = run::run(&base, &scenario, &[]).expect("runs");
        let first = calm.ops.iter().position(|op| *op == Op::Write).expect("a write") + 1;
        let first = u32::try_from(first).expect("a number");
        let plan: Vec<Planned> = [0]
            .iter()
            .chain(further)
            .map(|further| Planned { call: first + further, fault: Fault::EveryOtherFor(HALF_SERVED) })
            .collect();
        let half = run::run(&base, &scenario, &plan).expect("runs");
        (calm, half)
    }

    #[test]
    fn a_table_that_refuses_every_other_write_takes_no_answer_and_no_watched_time_back() {
        let (calm, half) = calm_and_half_served(&[]);
        assert_eq!(half.ended, calm.ended);
        let refused = half.log.iter().filter(|entry| matches!(entry.what, What::Befell(..))).count();
        assert!(refused > 20, "{refused}");
        for entry in &half.log {
            let What::Wrote(wrote) = &entry.what else { continue };
            let unknown = wrote.facts.outstanding.values().any(|outstanding| outstanding.unknown);
            assert!(!unknown, "{entry}");
        }
        // A refused write costs a pass, and what was decided in it is decided again.
        let more = usize::try_from(half.ticks - calm.ticks).expect("a number");
        assert!(more <= refused, "{more} passes more for {refused} refused writes");
    }

    #[test]
    fn a_run_that_comes_to_rest_too_late_after_the_last_storm_is_wrong() {
        let scenario = scenarios::named("good").expect("a scenario");
        let base = base(&scenario).expect("a base");
        let storms = [Planned { call: 1, fault: Fault::Weather(1) }];
        let reference = Reference::of(&run::run(&base, &scenario, &[]).expect("runs"));
        let mut run = run::run(&base, &scenario, &storms).expect("runs");
        let failed = run.log.iter().filter(|entry| matches!(entry.what, What::Befell(..))).count();
        assert!(failed > 50, "{failed}");
        assert_eq!(judge(&scenario, &reference, &run, &storms), Verdict::Same);
        let latest_ms = weather::LASTS.plus(weather::AFTERWARDS).millis() + reference.settled_ms;
        run.settled_ms = Some(latest_ms);
        assert_eq!(judge(&scenario, &reference, &run, &storms), Verdict::Same);
        run.settled_ms = Some(latest_ms + 1);
        assert!(matches!(judge(&scenario, &reference, &run, &storms), Verdict::Wrong(why) if why.len() == 1));
    }

    #[test]
    fn a_release_goes_on_while_the_table_does_half_of_what_it_is_asked() {
        // The next run fails at the records, and the one after it at the state.
        let (calm, half) = calm_and_half_served(&[1, 3]);
        assert_eq!(half.ended, calm.ended);
        let met: BTreeSet<Op> = half
            .log
            .iter()
            .filter_map(|entry| match entry.what {
                What::Befell(op, _) => Some(op),
                _ => None,
            })
            .collect();
        assert_eq!(met, BTreeSet::from([Op::Wishes, Op::Remembered, Op::Write]));
        let ended = |entry: &&Entry| matches!(&entry.what, What::Wrote(wrote) if !wrote.ended.is_empty());
        let ended_ms = half.log.iter().find(ended).expect("it ends").at_ms;
        assert!(ended_ms < HALF_SERVED * 1_000, "only once the table does everything again: {ended_ms}");
    }
}
