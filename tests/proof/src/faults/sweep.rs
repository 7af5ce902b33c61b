//! Which faults are put where, and what came of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fault::{Fault, Op, applicable, tells_here};
use super::judge::{Reference, Verdict, judge};
use super::run::{self, Outcome};
use super::script::Scenario;
use super::world::{Base, Planned};

/// What came of all runs of one scenario.
#[derive(Default)]
pub struct Tally {
    /// Runs.
    pub runs: usize,
    /// Runs that ended as without faults.
    pub same: usize,
    /// Runs that ended in another allowed way.
    pub other: BTreeMap<String, usize>,
    /// The most passes of any run.
    pub most_ticks: u32,
    /// How often each kind of fault was met.
    pub met: BTreeMap<String, usize>,
    /// What must not be, with its faults.
    pub wrong: Vec<(Vec<Planned>, Vec<String>)>,
}

/// Every single fault at the calls of a run without faults, between two steps of its script, and at its reads from where
/// it is no longer like `other`; `every`: at all calls, and at those of waits that look like their neighbours.
pub fn singles(
    reference: &Reference,
    other: &Reference,
    hit: &Range<usize>,
    every: bool,
) -> Vec<Vec<Planned>> {
    let places = places(&reference.ops);
    let shared = if every { 0 } else { shared(reference, other) };
    let call_at = |step: usize| reference.steps_at.get(step).copied().filter(|_| !every);
    let (first, end) = (call_at(hit.start).unwrap_or(0), call_at(hit.end).unwrap_or(reference.ops.len()));
    let mut plans = Vec::new();
    for (index, op) in reference.ops.iter().enumerate().take(end).skip(first) {
        if index < shared && !op.is_mutation() {
            continue;
        }
        let call = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let after = reference.ops.get(index + 1).copied();
        let place = places.get(&index).copied();
        let tells =
            |fault: &Fault| place.is_some_and(|place| place.tells(*fault)) && tells_here(*op, *fault, after);
        let faults = applicable(*op).into_iter().filter(|fault| every || tells(fault));
        plans.extend(faults.map(|fault| vec![Planned { call, fault }]));
    }
    plans
}

/// How many calls two scenarios have in common from the start: as long as they are of the same kinds, and until people act
/// for the second time. What is read there is the same in both, and so is what comes of a read that fails; a change that
/// is lost or late may meet what only one of them does afterwards.
fn shared(reference: &Reference, other: &Reference) -> usize {
    if reference.ops == other.ops {
        return 0;
    }
    let alike = reference.ops.iter().zip(&other.ops).take_while(|(one, other)| one == other).count();
    reference.steps_at.get(1).map_or(alike, |acts| alike.min(*acts))
}

/// Where a call is in a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing of its kind was read before it, or after it; or it is no read.
    End,
    /// The second of more than two.
    Second,
}

impl Place {
    /// A read that fails is told by what was read before it, or by what no longer comes after it. One that succeeds and
    /// says what was true before, or a process that goes on otherwise, is told by the first look too.
    fn tells(self, fault: Fault) -> bool {
        self == Self::End || !matches!(fault, Fault::Unread | Fault::UnreadFor(_))
    }
}

/// Between two mutations nothing durable changes, so that most reads of a wait are alike: of each kind of read the
/// first two and the last one of a wait are told apart. Mutations and hints all are.
fn places(ops: &[Op]) -> BTreeMap<usize, Place> {
    let mut wave = 0;
    let mut waits: BTreeMap<(usize, Op), Vec<usize>> = BTreeMap::new();
    for (index, op) in ops.iter().enumerate() {
        if op.is_mutation() || *op == Op::Hint {
            wave += 1;
        }
        waits.entry((wave, *op)).or_default().push(index);
    }
    let told = |all: Vec<usize>| match all[..] {
        [first, second, .., last] => vec![(first, Place::End), (second, Place::Second), (last, Place::End)],
        _ => all.into_iter().map(|index| (index, Place::End)).collect(),
    };
    waits.into_values().flat_map(told).collect()
}

/// Runs them all on `jobs` threads.
pub fn sweep(
    base: &Base,
    scenario: &Scenario,
    reference: &Reference,
    plans: &[Vec<Planned>],
    jobs: usize,
) -> anyhow::Result<Tally> {
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    // The region is not for several threads: each has its own.
    let bases: Vec<Base> = (0..jobs.max(1)).map(|_| base.clone()).collect();
    let (next, shared) = (&next, &tally);
    let work = move |base: Base| -> anyhow::Result<()> {
        while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = run::run(&base, scenario, plan)?;
            let verdict = judge(scenario, reference, &outcome, plan);
            let mut tally = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            note(&mut tally, plan, &outcome, verdict);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = bases.into_iter().map(|base| scope.spawn(move || work(base))).collect();
        for worker in workers {
            match worker.join() {
                Ok(ended) => ended?,
                Err(_) => anyhow::bail!("a run of {} panicked outside the loop", scenario.name),
            }
        }
        Ok(())
    })?;
    let mut tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    tally.wrong.sort_by_key(|(plan, _)| plan.first().map(|planned| planned.call));
    Ok(tally)
}

fn note(tally: &mut Tally, plan: &[Planned], outcome: &Outcome, verdict: Verdict) {
    tally.runs += 1;
    tally.most_ticks = tally.most_ticks.max(outcome.ticks);
    for planned in plan {
        let op = usize::try_from(planned.call).ok().and_then(|call| outcome.ops.get(call - 1));
        if let Some(op) = op {
            let fault = planned.fault.to_string();
            *tally.met.entry(format!("{fault:<18}{op:?}")).or_default() += 1;
        }
    }
    match verdict {
        Verdict::Same => tally.same += 1,
        Verdict::Other(outcomes) => *tally.other.entry(format!("{outcomes:?}")).or_default() += 1,
        Verdict::Wrong(problems) => tally.wrong.push((plan.to_vec(), problems)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{base, good, scenarios};
    use super::*;

    #[test]
    fn what_a_scenario_shares_with_a_good_release_is_hit_at_its_changes_alone() {
        let good = good().expect("a good release");
        let scenario = scenarios::named("supersede-in-shift").expect("a scenario");
        let run = run::run(&base(&scenario).expect("a base"), &scenario, &[]).expect("runs");
        let reference = Reference::of(&run);
        let shared = shared(&reference, &good);
        assert!(shared > 50 && shared <= reference.steps_at[1], "{shared}");
        let before = |every| {
            let plans = singles(&reference, &good, &scenario.hit, every).into_iter().flatten();
            let calls = plans.map(|planned| usize::try_from(planned.call).expect("a number") - 1);
            calls.filter(|call| *call < shared).map(|call| reference.ops[call]).collect::<BTreeSet<Op>>()
        };
        assert_eq!(before(false), BTreeSet::from([Op::Write, Op::Effect]));
        assert!(before(true).contains(&Op::Wishes), "all, with `--every`");
        assert_eq!(super::shared(&good, &good), 0, "a good release itself is hit everywhere");
    }

    #[test]
    fn of_a_wait_its_first_two_reads_and_its_last_one_are_hit_and_a_failed_one_at_its_ends() {
        let (write, look) = (Op::Write, [Op::Service, Op::Routes]);
        let ops = [vec![write], look.repeat(4), vec![write], look.repeat(2)].concat();
        let found: Vec<(usize, Place)> = places(&ops).into_iter().collect();
        let at =
            |place| found.iter().filter(|(_, is)| *is == place).map(|(index, _)| *index).collect::<Vec<_>>();
        assert_eq!(at(Place::End), [0, 1, 2, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(at(Place::Second), [3, 4]);
        assert!(Place::End.tells(Fault::Unread) && Place::Second.tells(Fault::Stale(1)));
        assert!(!Place::Second.tells(Fault::UnreadFor(25)));
    }
}
