//! What takes too long for every change: two faults in one run, effects that land at every later second, and bad
//! weather.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::fault::{Fault, Op};
use super::judge::Reference;
use super::world::Planned;

/// Faults of a mutation that are paired with one another.
const PAIRED: [Fault; 6] = [
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::LoseAnswer,
    Fault::NotApplied,
    Fault::Late(7),
    Fault::TakeOver(4),
];

/// An effect lands this much later at most: less than the quiet time after an unknown outcome, which is 60 s and stands
/// for the life of a signed request.
const LATEST: u64 = 50;

/// Every pair of mutations with every pair of faults; of those one in `one_in`, chosen by a hash of the pair.
pub fn doubles(scenario: &str, reference: &Reference, one_in: u64) -> Vec<Vec<Planned>> {
    let mutations: Vec<u32> = calls(reference, Op::is_mutation);
    let mut plans = Vec::new();
    for (index, first) in mutations.iter().enumerate() {
        for second in mutations.iter().skip(index + 1) {
            for one in PAIRED {
                for other in PAIRED {
                    let mut hasher = DefaultHasher::new();
                    (scenario, first, second, one, other).hash(&mut hasher);
                    if hasher.finish().is_multiple_of(one_in.max(1)) {
                        let (first, second) = (*first, *second);
                        plans.push(vec![
                            Planned { call: first, fault: one },
                            Planned { call: second, fault: other },
                        ]);
                    }
                }
            }
        }
    }
    plans
}

/// Each effect, without its answer or without its process, at each later second.
pub fn delays(reference: &Reference) -> Vec<Vec<Planned>> {
    let effects = calls(reference, |op| op == Op::Effect);
    let at_each_second = |call: u32| {
        (1..=LATEST).flat_map(move |secs| {
            [Fault::Late(secs), Fault::CrashLate(secs), Fault::TakeOver(secs)]
                .map(|fault| vec![Planned { call, fault }])
        })
    };
    effects.into_iter().flat_map(at_each_second).collect()
}

/// Bad weather from the first call on, so many times another one.
pub fn weathers(count: u64) -> Vec<Vec<Planned>> {
    (1..=count).map(|seed| vec![Planned { call: 1, fault: Fault::Weather(seed) }]).collect()
}

fn calls(reference: &Reference, is: impl Fn(Op) -> bool) -> Vec<u32> {
    let numbered = reference.ops.iter().zip(1_u32..);
    numbered.filter(|(op, _)| is(**op)).map(|(_, call)| call).collect()
}
